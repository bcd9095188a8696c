"""Check whether a finished table of features is complete and correct.

Metadata, records, bytes, checksums, rows and statistics are compared with each other. With --against, clips drawn at
random are computed again from their recordings, with librosa. Nothing is changed.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from jobs.command import FAILED, OK, fail, interrupted, run_command
from jobs.given import NoEffect, add_old_name, read_options
from jobs.options import (
    CLUSTER_RULES,
    STORAGE_RULES,
    add_cluster_options,
    add_fetch_option,
    add_storage_options,
    count,
    location,
    output_access,
    read_options_of,
    scheduler_of,
)
from jobs.process import INTERRUPTED
from jobs.version import add_version
from mimii import engine, recordings, verification

_DEFAULT_SAMPLE = 20
_RULES = (
    *(*CLUSTER_RULES, *STORAGE_RULES),
    *(
        NoEffect(name, lambda options: not options.against, "needs --against SOURCE")
        for name in ("sample", "sample_seed", "fetch_window")
    ),
)
_EPILOG = f"""
exit status: 0 complete and correct; 1 not, or the table could not be read; 2 wrong usage;
{INTERRUPTED}.

examples:
  python -m jobs.verify data/processed/features.zarr
  python -m jobs.verify data/processed/features.zarr --against data/raw --sample 100
  python -m jobs.verify s3://bucket/features.zarr --json --quiet
  python -m jobs.verify data/processed/features.zarr --complete 6_dB_fan
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.verify",
        usage="%(prog)s STORE [--against SOURCE ...] [--sample N] [--complete NAME ...] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    parser.add_argument("output", metavar="STORE", type=location, help="the table: a folder, or s3://bucket/prefix")
    parser.add_argument("--json", action="store_true", help="print one JSON document with all findings")
    parser.add_argument("--quiet", action="store_true", help="no progress, and no output where nothing is wrong")
    _add_recording_options(parser)
    add_cluster_options(parser)
    add_storage_options(parser, "STORE", "--against")
    return parser


def _add_recording_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recordings")
    group.add_argument(
        "--against",
        nargs="+",
        type=location,
        metavar="SOURCE",
        help="the recordings, as for jobs.featurize: folders, zip archives, s3://bucket/prefix. They may have "
        "moved. If none of them is a clip of the table, the exit status is 2",
    )
    group.add_argument(
        "--sample", type=count, metavar="N", help=f"how many clips to compute again; default: {_DEFAULT_SAMPLE}"
    )
    seed = group.add_argument(
        "--sample-seed",
        type=int,
        metavar="N",
        default=0,
        help="random seed of --sample: another number, other clips; default: 0",
    )
    add_old_name(group, seed, "--seed")
    add_fetch_option(group)
    group.add_argument(
        "--complete",
        nargs="+",
        type=_archive,
        metavar="NAME",
        default=[],
        help="archives of MIMII: each of their machines must have as many recordings as are published; named as for "
        "jobs.fetch: 6_dB_fan, fan, 6_dB, all",
    )


def _archive(text: str) -> str:
    try:
        recordings.select([text])
    except recordings.NameOfArchiveError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, _RULES)
    return run_command("verify", options, _verify)


def _verify(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress
    from jobs.verify_report import describe_verdict, verdict_as_json

    try:
        verdict = verification.verify(
            options.output,
            options.against,
            sample=options.sample or _DEFAULT_SAMPLE,
            seed=options.sample_seed,
            complete=options.complete,
            client=scheduler_of(options),
            access=output_access(options),
            read_options=read_options_of(options),
            progress=show_progress("task", quiet=options.quiet, unit="checks", bad="findings"),
        )
    except (engine.WorkError, OSError) as error:
        unknown = "It is not known whether the table is correct. When that is fixed, run the same command again."
        return fail("verify", FAILED, f"{error}\n{unknown}")
    except KeyboardInterrupt as interrupt:
        return interrupted("verify", interrupt, "Nothing was changed.")
    if options.json:
        print(verdict_as_json(verdict))
    elif not (verdict.is_right and options.quiet):
        print(describe_verdict(verdict))
    return OK if verdict.is_right else FAILED


if __name__ == "__main__":
    sys.exit(main())
