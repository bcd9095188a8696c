"""Turn machine-sound recordings into a Zarr table of stacked log-mel features.

Each recording becomes rows of 5 successive frames of a log-mel spectrogram. The table is a Zarr group that xarray,
dask, PyTorch and TensorStore read as it is. Stop this command whenever you like, in whatever way; run it again and it
does what is missing.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Iterator, Sequence
from io import TextIOWrapper

from jobs.cluster import WorkError, connect, run_tasks
from jobs.interrupts import deferred_interrupts, until_interrupted
from jobs.options import (
    add_run_options,
    add_source_options,
    add_spec_options,
    count,
    location,
    read_catalogue,
    source_names,
)
from jobs.progress import show_bar, show_lines
from jobs.report import describe_plan, describe_run, numbered, summarize
from mimii import store
from mimii.extract import ShardDone, count_ended, extract_shard
from mimii.sources import SourceError
from mimii.spec import SpecError
from mimii.store import StoreError, UnfinishedError
from mimii.table import ShardTask, Table, make_table, shard_task

OK, FAILED, USAGE, BAD_CLIPS, INTERRUPTED = 0, 1, 2, 3, 130
DEFAULT_OUTPUT = "data/processed/features.zarr"
_EPILOG = """
exit status: 0 all good, or no more bad clips than --max-bad; 1 failed; 2 wrong usage; 3 finished, with more bad clips
than --max-bad; 130 interrupted.

examples:
  python -m jobs.synthesize data/raw                     make recordings to try it on
  python -m jobs.featurize                               data/raw to data/processed/features.zarr
  python -m jobs.featurize data/raw/6_dB_fan --dry-run   what would be done?
  python -m jobs.featurize --list my.csv --preset dcase2020 --output my.zarr
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
    add_source_options(parser)
    add_spec_options(parser)
    output = parser.add_argument_group("table")
    output.add_argument(
        "--output",
        type=location,
        metavar="URL",
        default=DEFAULT_OUTPUT,
        help="where the table goes; default: %(default)s",
    )
    output.add_argument(
        "--shard-mib",
        type=count,
        metavar="N",
        default=32,
        help="uncompressed size of what one task writes; default: 32",
    )
    add_run_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    started = time.monotonic()
    options = make_parser().parse_args(arguments)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.basicConfig(level=logging.ERROR if options.quiet else logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _run(options, started)
    except (SourceError, SpecError, StoreError) as error:
        return _fail(USAGE, str(error))
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (WorkError, UnfinishedError, OSError) as error:
        return _fail(FAILED, f"{error}\nWhen that is mended, run the same command again: what is finished is kept.")
    except KeyboardInterrupt:
        return _fail(INTERRUPTED, "interrupted. What is finished is kept: run the same command again to go on.")


def _run(options: argparse.Namespace, started: float) -> int:
    table = make_table(read_catalogue(options), options.shard_mib << 20)
    if options.dry_run:
        print(describe_plan(table), _describe_output(options, table), sep="\n")
        return OK
    _make_way(options, table)
    kept = {index for index, record in store.read_records(options.output, table).items() if not record.unread}
    todo = [index for index in range(table.plan.n_shards) if index not in kept]
    if todo or not store.is_finished(options.output, table):
        store.begin(options.output, table, source_names(options))
        _fill(options, table, todo)
        store.finish(options.output, table, source_names(options))
    run = summarize(table, options.output, todo, time.monotonic() - started)
    if not options.quiet:
        print(describe_run(table, run))
    if len(run.bad) <= options.max_bad(len(table.catalogue.clips)):
        return OK
    clips = numbered(len(table.catalogue.clips), "clip")
    return _fail(BAD_CLIPS, f"{len(run.bad):,} of {clips} cannot be used, which is more than --max-bad admits")


def _describe_output(options: argparse.Namespace, table: Table) -> str:
    existing = store.look(options.output)
    if existing is None:
        return f"output    {options.output}, where nothing is yet"
    if store.differences(existing, table, options.output):
        fate = "would be deleted" if options.overwrite else "would be refused without --overwrite"
        return f"output    {options.output}, which holds another table: {fate}"
    n_done = len(store.read_records(options.output, table))
    return f"output    {options.output}, where {n_done:,} of {numbered(table.plan.n_shards, 'shard')} are there already"


def _make_way(options: argparse.Namespace, table: Table) -> None:
    """Delete the table at the output where that is wanted; refuse another one."""
    existing = store.look(options.output)
    changes = store.differences(existing, table, options.output) if existing else []
    if changes and options.overwrite:
        store.erase(options.output)
    elif changes:
        listed = "\n  ".join(changes)
        msg = (
            f"{options.output} holds another table; choose another --output, or delete it with --overwrite:\n  {listed}"
        )
        raise StoreError(msg)


def _fill(options: argparse.Namespace, table: Table, todo: Sequence[int]) -> None:
    """Compute the shards that are missing."""
    if not todo:
        return

    def tasks() -> Iterator[ShardTask]:
        return (shard_task(table, index, options.output) for index in todo)

    n_bad = sum(map(bool, table.catalogue.problems))
    n_clips = sum(count_ended(task) for task in tasks())
    with deferred_interrupts() as interrupts, connect(options.scheduler, min(options.workers, len(todo))) as cluster:
        if not options.quiet:
            where = f", dashboard {cluster.dashboard}" if cluster.dashboard else ""
            print(f"{numbered(len(todo), 'shard')} on {numbered(cluster.n_workers, 'worker')}{where}", file=sys.stderr)
        results = until_interrupted(run_tasks(cluster, extract_shard, tasks()), interrupts)
        for _ in _watch(results, n_clips, n_bad, quiet=options.quiet):
            pass


def _watch(done: Iterator[ShardDone], n_clips: int, n_bad: int, *, quiet: bool) -> Iterator[ShardDone]:
    if quiet:
        return done
    return (show_bar if sys.stderr.isatty() else show_lines)(done, n_clips, n_bad)


def _interrupt(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt


def _fail(status: int, message: str) -> int:
    print(f"featurize: {message}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
