"""From machine-sound recordings to log-mel features: pure functions and frozen data.

Data flows one way: source -> clip -> plan -> kernel -> store. Nothing here knows how the work is spread over
processes or machines; that is what the ``jobs`` package is for.
"""

from mimii._version import __version__

__all__ = ["__version__"]
