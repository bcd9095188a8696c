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

from jobs.cluster import TASKS_FAR_AWAY, WorkError, connect, run_tasks
from jobs.interrupts import deferred_interrupts, until_interrupted
from jobs.options import (
    SHORT_PATIENCE,
    add_run_options,
    add_source_options,
    add_spec_options,
    add_storage_options,
    count,
    location,
    open_output,
    source_reach,
)
from jobs.progress import show_bar, show_lines
from jobs.report import describe_plan, describe_run, numbered, summarize
from jobs.survey import read_survey, source_names
from mimii import store
from mimii.extract import ShardDone, count_ended, extract_shard
from mimii.places import is_remote
from mimii.sources import SourceError
from mimii.spec import SpecError
from mimii.store import Existing, StoreError, UnfinishedError
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
    add_source_options(parser)
    add_spec_options(parser)
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
    add_run_options(parser)
    add_storage_options(parser)
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
    output = open_output(options)
    existing = store.look(open_output(options, SHORT_PATIENCE))  # before the work, so that nobody waits for a refusal
    survey = read_survey(options)
    table = make_table(survey.catalogue, options.shard_mib << 20)
    if options.dry_run:
        print(describe_plan(table, survey), _describe_output(options, existing, table), sep="\n")
        return OK
    if _is_in_the_way(options, existing, table):
        store.erase(output)
        existing = None
    done = store.read_records(output, table)
    todo = [index for index in range(table.plan.n_shards) if index not in done or done[index].unread]
    if todo or not store.is_finished(output, existing, table, done):
        open_output(options, SHORT_PATIENCE).check()
        store.begin(output, table, source_names(options))
        _fill(options, table, todo)
        done = store.finish(output, table, source_names(options))
    run = summarize(table, output.root, done, todo, time.monotonic() - started)
    if not options.quiet:
        print(describe_run(table, survey, run))
    if len(run.bad) <= options.max_bad(len(table.catalogue.clips)):
        return OK
    clips = numbered(len(table.catalogue.clips), "clip")
    return _fail(BAD_CLIPS, f"{len(run.bad):,} of {clips} cannot be used, which is more than --max-bad admits")


def _describe_output(options: argparse.Namespace, existing: Existing | None, table: Table) -> str:
    if existing is None:
        return f"output    {options.output}, where nothing is yet"
    output = open_output(options)
    if store.differences(existing, table, output):
        fate = "would be deleted" if options.overwrite else "would be refused without --overwrite"
        return f"output    {options.output}, which holds another table: {fate}"
    n_done = len(store.read_records(output, table))
    return f"output    {options.output}, where {n_done:,} of {numbered(table.plan.n_shards, 'shard')} are there already"


def _is_in_the_way(options: argparse.Namespace, existing: Existing | None, table: Table) -> bool:
    """Say whether the table at the output is to be deleted; refuse another one that is not."""
    changes = store.differences(existing, table, open_output(options)) if existing else []
    if changes and not options.overwrite:
        listed = "\n  ".join(changes)
        msg = (
            f"{options.output} holds another table; choose another --output, or delete it with --overwrite:\n  {listed}"
        )
        raise StoreError(msg)
    return bool(changes)


def _fill(options: argparse.Namespace, table: Table, todo: Sequence[int]) -> None:
    """Compute the shards that are missing."""
    if not todo:
        return

    def tasks() -> Iterator[ShardTask]:
        return (shard_task(table, index, open_output(options), source_reach(options)) for index in todo)

    n_bad = sum(map(bool, table.catalogue.problems))
    n_clips = sum(count_ended(task) for task in tasks())
    n_workers, tasks_a_worker = min(options.workers, len(todo)), _tasks_a_worker(options, table)
    with deferred_interrupts() as interrupts, connect(options.scheduler, n_workers, tasks_a_worker) as cluster:
        if not options.quiet:
            where = f", dashboard {cluster.dashboard}" if cluster.dashboard else ""
            print(f"{numbered(len(todo), 'shard')} on {numbered(cluster.n_workers, 'worker')}{where}", file=sys.stderr)
        results = until_interrupted(run_tasks(cluster, extract_shard, tasks()), interrupts)
        for _ in _watch(results, n_clips, n_bad, quiet=options.quiet):
            pass


def _tasks_a_worker(options: argparse.Namespace, table: Table) -> int:
    far = is_remote(options.output) or any(is_remote(clip.place.url) for clip in table.catalogue.clips)
    return TASKS_FAR_AWAY if far else 1


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
