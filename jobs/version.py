"""The option ``--version``, the same for all commands."""

import argparse

from mimii import __version__

VERSION = f"sound-features {__version__}"


def add_version(parser: argparse.ArgumentParser) -> None:
    """Add ``--version``, which prints the version of this package and exits."""
    parser.add_argument("--version", action="version", version=VERSION, help="print the version and exit")
