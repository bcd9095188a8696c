"""The version of this project, for the front door, records of provenance, and what downloads say of themselves."""

__version__ = "0.1.0"
