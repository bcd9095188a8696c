"""Make synthetic recordings like those of MIMII for trials: WAV files of 10 s with 8 channels at 16 kHz and 16 bit.

Four types of machine, normal and with an audible fault, laid out as the archives of MIMII are. The same seed gives the
same files; files that exist are skipped.
"""

import argparse
import math
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from jobs.options import count, location
from jobs.version import add_version
from jobs.words import format_bytes, numbered
from mimii import recordings
from mimii.storage import is_remote

OK, FAILED = 0, 1
_LEAST_SECONDS, _MOST_SECONDS = 0.1, 3600


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    types = recordings.MACHINE_TYPES
    parser = argparse.ArgumentParser(
        prog="python -m jobs.synthesize", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "dest", metavar="DEST", type=_folder, help="folder for the recordings, such as data/raw; made where missing"
    )
    parser.add_argument(
        "--clips", type=count, default=160, metavar="N", help="how many clips in all; default: %(default)s"
    )
    parser.add_argument(
        "--seconds", type=_seconds, default=10.0, metavar="S", help="length of a clip; default: %(default)s"
    )
    parser.add_argument(
        "--snr",
        type=int,
        default=6,
        metavar="DB",
        help="signal-to-noise ratio in dB, of machine to factory noise; default: 6",
    )
    parser.add_argument(
        "--seed", type=int, default=0, metavar="N", help="random seed: another number, other machines; default: 0"
    )
    parser.add_argument(
        "--machines", nargs="+", choices=types, default=types, help="which types of machine; default: all four"
    )
    add_version(parser)
    return parser


def _folder(text: str) -> str:
    folder = location(text)
    if is_remote(folder):
        msg = f"{text} is on S3: name a folder of this machine, and copy its recordings there"
        raise argparse.ArgumentTypeError(msg)
    return folder


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _LEAST_SECONDS <= seconds <= _MOST_SECONDS:
        msg = f"must be a number from {_LEAST_SECONDS} to {_MOST_SECONDS}, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return seconds


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = make_parser().parse_args(arguments)
    started = time.monotonic()
    clips = recordings.list_recordings(options.clips, tuple(options.machines), snr_db=options.snr)
    try:
        written = [_write(clip, options.dest, options.seconds, options.seed) for clip in clips]
    except OSError as error:
        print(f"synthesize: {error}\nFinished clips are kept: run the same command again to resume.", file=sys.stderr)
        return FAILED
    were = "was" if written.count(0) == 1 else "were"
    print(
        f"{numbered(len(written), 'clip')} in {options.dest}: {format_bytes(sum(written))} written in "
        f"{time.monotonic() - started:.1f} s, {written.count(0):,} {were} there already\n"
        f"next: python -m jobs.featurize {options.dest}"
    )
    return OK


def _write(clip: "recordings.SyntheticClip", dest: str, seconds: float, seed: int) -> int:
    """Write one recording unless it exists; return the bytes written."""
    target = Path(dest, clip.path)
    if target.exists():
        return 0
    data = recordings.wav_bytes(recordings.synthesize(clip.identity, seconds, seed))
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = target.with_name(f".{target.name}.partial")
    partial.write_bytes(data)
    partial.replace(target)
    return len(data)


if __name__ == "__main__":
    sys.exit(main())
