"""Turn machine-sound recordings into a Zarr table of stacked log-mel features.

Each recording becomes rows of 5 successive frames of a log-mel spectrogram. The table is a Zarr group that xarray,
dask, PyTorch and TensorStore read as it is. It can be stopped at any moment, even by kill -9;
the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

import mimii
from jobs.command import EXIT_STATUS, OK, run_command
from jobs.options import (
    add_run_options,
    add_source_options,
    add_spec_options,
    add_split_options,
    add_storage_options,
    count,
    location,
    open_output,
    output_access,
    read_options_of,
    scheduler_of,
    spec_of,
)
from jobs.process import began
from jobs.version import add_version
from mimii import engine, recordings, storage, table

DEFAULT_OUTPUT = "data/processed/features.zarr"
_COMPRESSION = 6
_EPILOG = f"""
{EXIT_STATUS}

examples:
  python -m jobs.synthesize data/raw                     make recordings to try it on
  python -m jobs.featurize                               data/raw to data/processed/features.zarr
  python -m jobs.featurize data/raw/6_dB_fan --dry-run   what would be done?
  python -m jobs.featurize --list my.csv --preset dcase2020 --output my.zarr
  python -m jobs.featurize data/raw/6_dB_fan.zip --output s3://bucket/features.zarr
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.featurize",
        usage="%(prog)s [SOURCE ...] [--output URL] [--preset NAME] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    add_split_options(add_source_options(parser), "baseline")
    add_spec_options(parser).add_argument("--frames", type=int, metavar="N", help="frames stacked into one row")
    output = parser.add_argument_group("table")
    output.add_argument(
        "--output",
        type=location,
        metavar="URL",
        default=DEFAULT_OUTPUT,
        help="where the table goes: a folder, or s3://bucket/prefix; default: %(default)s",
    )
    output.add_argument(
        "--shard-mib",
        type=count,
        metavar="N",
        default=32,
        help="uncompressed size of what one task writes; default: 32",
    )
    add_run_options(parser, "--window")
    add_storage_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    return run_command("featurize", make_parser().parse_args(arguments), _featurize)


def _featurize(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress
    from jobs.report import Planned, conclude, print_plan, print_run, print_use
    from jobs.sources import find_sources

    started, where = began(), scheduler_of(options)
    engine.look(open_output(options, storage.SHORT_TIMEOUT), table.HEAD)  # a refusal comes before the plan
    if where.scheduler == "local" and not options.dry_run:
        engine.start_early()
    clips = find_sources(options)
    plan = mimii.plan_table(
        clips,
        spec_of(options, recordings.commonest_sample_rate(clips)),
        split=options.split,
        train_fraction=options.train_fraction,
        seed=options.seed,
        shard_bytes=options.shard_mib << 20,
    )
    planned = Planned("featurize", options, clips, plan.catalogue, table.TableOutput(plan, open_output(options)))
    if options.dry_run:
        print_plan(planned, _describe_plan(plan))
        return OK
    run = mimii.featurize(
        plan,
        options.output,
        client=where,
        overwrite=options.overwrite,
        access=output_access(options),
        read_options=read_options_of(options),
        progress=show_progress("shard", len(planned.bad()), quiet=options.quiet),
    )
    if not options.quiet:
        print_run(planned, run, time.monotonic() - started, _describe_run(plan, run))
        print_use(planned, run, f"open it with\n  import xarray; table = xarray.open_zarr({options.output!r})")
    return conclude(planned, run)


def _describe_plan(plan: table.TablePlan) -> dict[str, str]:
    from jobs.words import format_bytes

    rows = plan.rows
    size = rows.total_rows * rows.layout.row_bytes
    return {
        "features": ", ".join(f"{name} {value}" for name, value in plan.catalogue.spec.as_dict().items()),
        "rows": f"{rows.total_rows:,} of {rows.layout.n_features} values",
        "shards": f"{rows.n_shards:,} of {rows.layout.shard_rows:,} rows, a task each",
        "writes": f"{format_bytes(size)}, compressed about {format_bytes(size // _COMPRESSION)}",
    }


def _describe_run(plan: table.TablePlan, run: mimii.Run) -> dict[str, str]:
    raw = plan.rows.total_rows * plan.rows.layout.row_bytes
    ratio = f", {raw / run.n_bytes:.1f} times smaller than raw" if run.n_bytes else ""
    n_computed = len(run.computed)
    return {
        "rows": f"{plan.rows.total_rows:,} of {plan.rows.layout.n_features} values{ratio}",
        "shards": f"{n_computed:,} computed, {plan.rows.n_shards - n_computed:,} there already",
    }


if __name__ == "__main__":
    sys.exit(main())
