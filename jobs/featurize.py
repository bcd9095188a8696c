"""Turn machine-sound recordings into a Zarr table of stacked log-mel features.

Each recording becomes rows of 5 successive frames of a log-mel spectrogram. The table is a Zarr group that xarray,
dask, PyTorch and TensorStore read as it is. Stop this command whenever you like, in whatever way; run it again and it
does what is missing.
"""

import argparse
import logging
import sys
from collections.abc import Sequence

from jobs.options import (
    add_run_options,
    add_source_options,
    add_spec_options,
    add_split_options,
    add_storage_options,
    count,
    location,
)
from jobs.report import Run, format_bytes
from jobs.run import EXIT_STATUS, Job, run_command, run_job
from jobs.survey import source_names
from mimii.engine import Record
from mimii.recordings import TRAIN, Catalogue
from mimii.storage import Objects
from mimii.table import Table, extract_shard, make_table, shard_task, store

DEFAULT_OUTPUT = "data/processed/features.zarr"
_COMPRESSION = 6
_log = logging.getLogger(__name__)
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
    options = make_parser().parse_args(arguments)
    return run_command(_JOB.name, options, lambda: run_job(_JOB, options))


def _plan(options: argparse.Namespace, catalogue: Catalogue) -> Table:
    if options.split != "none" and TRAIN not in catalogue.splits:
        _log.warning(
            "no clip is for training: --split %s leaves none over. The statistics are of all rows", options.split
        )
    return make_table(catalogue, options.shard_mib << 20)


def _finish(options: argparse.Namespace, output: Objects, table: Table) -> dict[int, Record]:
    return store.finish(output, table, source_names(options))


def _plan_lines(table: Table) -> dict[str, str]:
    plan = table.plan
    size = plan.total_rows * plan.layout.row_bytes
    return {
        "features": ", ".join(f"{name} {value}" for name, value in table.catalogue.spec.as_dict().items()),
        "rows": f"{plan.total_rows:,} of {plan.layout.n_features} values",
        "shards": f"{plan.n_shards:,} of {plan.layout.shard_rows:,} rows, a task each",
        "writes": f"{format_bytes(size)}, compressed about {format_bytes(size // _COMPRESSION)}",
    }


def _run_lines(table: Table, run: Run) -> dict[str, str]:
    raw = table.plan.total_rows * table.plan.layout.row_bytes
    ratio = f", {raw / run.bytes_written:.1f} times smaller than raw" if run.bytes_written else ""
    return {
        "rows": f"{table.plan.total_rows:,} of {table.plan.layout.n_features} values{ratio}",
        "shards": f"{run.n_computed:,} computed, {run.n_kept:,} there already",
    }


def _opening(_table: Table, output: str) -> str:
    return f"open it with\n  import xarray; table = xarray.open_zarr({output!r})"


_JOB = Job(
    name="featurize",
    things="shard",
    kernel=extract_shard,
    plan=_plan,
    task=shard_task,
    storage=store,
    finish=_finish,
    plan_lines=_plan_lines,
    run_lines=_run_lines,
    opening=_opening,
)


if __name__ == "__main__":
    sys.exit(main())
