"""From the options to the recordings that they name."""

import argparse
import os

import mimii
from jobs.options import DEFAULT_SOURCE, source_access
from mimii.storage import SHORT_TIMEOUT

_NO_CLIPS = """{where}: no recordings there. Either
  make some:      python -m jobs.synthesize {source}
  or get MIMII:   python -m jobs.fetch 6_dB_fan --dest {source}
  or use yours:   name a FOLDER, or --list FILE.csv"""


def find_sources(options: argparse.Namespace) -> mimii.Recordings:
    """Find the recordings that the options name; SourceError with how to get some where there are none."""
    if clips := find_any(options):
        return clips
    where = ", ".join(clips.sources)
    source = options.sources[0] if options.sources else DEFAULT_SOURCE
    raise mimii.SourceError(_NO_CLIPS.format(where=where, source=source))


def find_any(options: argparse.Namespace) -> mimii.Recordings:
    """Find the recordings that the options name; there may be none, such as of a quiet night."""
    sources = options.sources or ([] if options.list else [DEFAULT_SOURCE])
    if sources == [DEFAULT_SOURCE] and not os.path.exists(DEFAULT_SOURCE):
        raise mimii.SourceError(_NO_CLIPS.format(where=DEFAULT_SOURCE, source=DEFAULT_SOURCE))
    access = source_access(options, SHORT_TIMEOUT)
    return mimii.find_recordings(
        *sources,
        lists=options.list,
        headers=options.probe,
        layout=options.layout or "",
        assume=options.assume or "",
        access=access,
    )
