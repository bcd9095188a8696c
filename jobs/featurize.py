"""Turn machine-sound recordings into a Zarr table of stacked log-mel features.

Each recording becomes rows of 5 successive frames of a log-mel spectrogram. The table is a Zarr group that xarray,
dask, PyTorch and TensorStore read as it is. The job can be stopped at any moment, even by kill -9;
the same command resumes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import mimii
from jobs.command import EXIT_STATUS, OK, run_command
from jobs.given import add_old_name, read_options
from jobs.options import (
    CLUSTER_RULES,
    GROWING_RULES,
    SPLIT_RULES,
    STORAGE_RULES,
    add_growing_options,
    add_run_options,
    add_source_options,
    add_spec_options,
    add_split_options,
    add_storage_options,
    count,
    describe_changes,
    location,
    open_output,
    output_access,
    read_options_of,
    scheduler_of,
    spec_changes,
    spec_of,
)
from jobs.process import began
from jobs.version import add_version
from jobs.words import format_bytes
from mimii import engine, features, recordings, storage, table

if TYPE_CHECKING:
    from jobs.report import Planned

DEFAULT_OUTPUT = "data/processed/features.zarr"
DEFAULT_SPLIT = "baseline"
_COMPRESSION = 6
_RULES = (*SPLIT_RULES, *GROWING_RULES, *CLUSTER_RULES, *STORAGE_RULES)
_SPLIT_OPTIONS = {"policy": "split", "train_fraction": "train_fraction", "seed": "split_seed"}
_EPILOG = f"""
{EXIT_STATUS}

examples:
  python -m jobs.synthesize data/raw                     make recordings to try it on
  python -m jobs.featurize                               data/raw to data/processed/features.zarr
  python -m jobs.featurize data/raw/6_dB_fan --dry-run   what would be done?
  python -m jobs.featurize --list my.csv --preset dcase --output my.zarr
  python -m jobs.featurize data/raw/6_dB_fan.zip --output s3://bucket/features.zarr
  python -m jobs.featurize tonight --update              add the recordings of tonight
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
    add_split_options(add_source_options(parser), DEFAULT_SPLIT)
    _add_row_options(add_spec_options(parser))
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
        help="MiB of a shard before compression: what one task writes; default: 32",
    )
    add_old_name(parser, add_run_options(parser), "--window")
    _add_growing_options(parser)
    add_storage_options(parser)
    parser.set_defaults(split=None)
    return parser


def _add_row_options(group: argparse._ArgumentGroup) -> None:
    group.add_argument("--frames", type=int, metavar="N", help="frames stacked into one row")
    group.add_argument("--stride", type=count, metavar="N", help="frames from one row to the next; default: 1")
    group.add_argument(
        "--dtype",
        choices=features.DTYPES,
        help="number type of the rows. float16: half the size, rounded to 11 bits: by at most 0.031 dB below 128. "
        "Default: float32",
    )


def _add_growing_options(parser: argparse.ArgumentParser) -> None:
    add_growing_options(
        parser,
        "a table that grows",
        "add the recordings that are named to the table that is there: rows that it has stay, recordings that changed "
        "are computed again, labels that differ are corrected; without other options, features and split are those "
        "of the table",
        "clips of the table that lie below a SOURCE and are not there any more get the status 'removed', and their "
        "rows become NaN",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, _RULES)
    return run_command("featurize", options, _featurize)


def _featurize(options: argparse.Namespace) -> int:
    where = scheduler_of(options)
    return table.until_unchanged(lambda: _plan_and_make(options, where))


def _plan_and_make(options: argparse.Namespace, where: engine.Where) -> int:
    """Do it all, once; ChangedError where another update ends between the plan and the work."""
    from jobs.progress import show_progress
    from jobs.report import conclude, print_run, print_use

    started = began()
    existing = engine.look(open_output(options, storage.SHORT_TIMEOUT), table.HEAD)  # a refusal comes before the plan
    if where.scheduler == "local" and not (options.dry_run or (existing and options.update)):
        engine.start_early()
    growth, clips = _plan(options, existing)
    planned = _planned(options, growth, clips)
    special = {"update": _count_changes(growth)} if growth.plan.has_grown else {}
    if options.dry_run:
        return _show_plan(planned, growth, existing, special)
    run = mimii.featurize(
        growth.plan,
        options.output,
        client=where,
        overwrite=options.overwrite,
        access=output_access(options),
        read_options=read_options_of(options),
        progress=show_progress("shard", len(planned.bad()), quiet=options.quiet),
    )
    if not options.quiet:
        print_run(planned, run, time.monotonic() - started, special | _describe_run(growth.plan, run))
        print_use(planned, run, f"open it with\n  import xarray; table = xarray.open_zarr({options.output!r})")
    return conclude(planned, run)


def _plan(options: argparse.Namespace, existing: engine.Existing | None) -> tuple[table.Growth, recordings.Recordings]:
    """Plan the table that the options ask for, or how the one that is there grows; return also what was found."""
    from jobs.sources import find_any, find_sources

    there = existing if options.update else None
    clips = find_any(options) if there else find_sources(options)
    make_plan = table.plan_recordings if there else _plan_table
    by = _split(options, there)
    resample = options.sample_rate is not None or bool(there and there.attributes.get("resamples"))
    plan = make_plan(clips, _spec(options, clips, there), by, options.shard_mib << 20, resample=resample)
    if not there:
        return table.Growth(replace(plan, grown_from=table.NOTHING) if options.update else plan), clips
    return table.plan_update(plan, options.output, prune=options.prune, access=output_access(options)), clips


def _split(options: argparse.Namespace, there: engine.Existing | None) -> recordings.Split:
    """Return which clips are for training: of a table that grows as before, but for what an option says."""
    asked = recordings.Split(options.split or DEFAULT_SPLIT, options.train_fraction, options.split_seed)
    policy = there.attributes.get("split") if there else None
    if policy is None:
        return asked
    given = {field: getattr(asked, field) for field, name in _SPLIT_OPTIONS.items() if name in options.given}
    return recordings.Split(*policy)._replace(**given)


def _plan_table(
    clips: recordings.Recordings,
    spec: features.FeatureSpec,
    by: recordings.Split,
    shard_bytes: int,
    *,
    resample: bool,
) -> table.TablePlan:
    policy, train_fraction, seed = by
    return mimii.plan_table(
        clips,
        spec,
        split=policy,
        train_fraction=train_fraction,
        seed=seed,
        sample_rate=spec.sample_rate if resample else None,
        shard_bytes=shard_bytes,
    )


def _spec(
    options: argparse.Namespace, clips: recordings.Recordings, there: engine.Existing | None
) -> features.FeatureSpec:
    """Return what to compute: of a table that grows, what it has, but for what an option says."""
    if there and not options.preset:
        return features.FeatureSpec(**there.attributes["spec"]).changed(**spec_changes(options))
    return spec_of(options, recordings.commonest_sample_rate(clips))


def _planned(options: argparse.Namespace, growth: table.Growth, clips: recordings.Recordings) -> Planned:
    from jobs.report import Planned

    plan = growth.plan
    output = table.TableOutput(plan, open_output(options))
    if not plan.has_grown:
        return Planned("featurize", options, clips, plan.catalogue, output)
    every = recordings.Recordings(plan.catalogue.clips, plan.sources, clips.n_headers, clips.n_requests, clips.remarks)
    is_named, is_read = growth.named.__contains__, growth.to_read.__contains__
    return Planned("featurize", options, every, plan.catalogue, output, is_named, is_read)


def _count_changes(growth: table.Growth) -> str:
    counts = {
        "new": growth.added,
        "replaced": growth.replaced,
        "relabelled": growth.relabelled,
        "gone": growth.gone,
        "not named and left as they are": growth.unnamed,
    }
    kept = {"gone but kept (--prune takes them out)": growth.missing} if growth.missing else {}
    return describe_changes({**counts, **kept})


def _show_plan(
    planned: Planned, growth: table.Growth, existing: engine.Existing | None, special: dict[str, str]
) -> int:
    from jobs.report import print_plan

    if not growth.plan.has_grown:
        print_plan(planned, _describe_plan(growth.plan))
        return OK
    output = planned.output.at(existing)
    found, _ = engine.compare(output, existing)
    todo = engine.find_tasks(output, found.records)
    tasks = [output.task(task, found.former.get(task)) for task in todo]
    n_kept = sum(any(one.is_kept for one in task.inputs) for task in tasks)
    places = [{one.place for one in task.inputs if not one.is_kept} for task in tasks]
    n_read = sum(place.fetched for of_task in places for place in of_task)
    work = {
        "shards": f"{len(todo) - n_kept:,} to compute, {n_kept:,} to read back and rewrite, "
        f"{growth.plan.rows.n_shards - len(todo):,} stay as they are",
        "reads": f"{format_bytes(n_read)} of recordings",
    }
    print_plan(planned, special | _describe_plan(growth.plan) | work)
    if changes := growth.describe():
        print("\n" + "\n".join(changes))
    return OK


def _describe_plan(plan: table.TablePlan) -> dict[str, str]:
    from jobs.described import describe_clips, describe_spec

    rows = plan.rows
    size = rows.total_rows * rows.layout.row_bytes
    return {
        **describe_clips(plan.catalogue),
        "features": describe_spec(plan.catalogue.spec),
        "rows": f"{rows.total_rows:,} of {rows.layout.n_features} values",
        "shards": f"{rows.n_shards:,} of {rows.layout.shard_rows:,} rows, a task each",
        "writes": f"{format_bytes(size)}, compressed about {format_bytes(size // _COMPRESSION)}",
    }


def _describe_run(plan: table.TablePlan, run: mimii.Run) -> dict[str, str]:
    from jobs.described import describe_clips

    raw = plan.rows.total_rows * plan.rows.layout.row_bytes
    ratio = f", {raw / run.n_bytes:.1f} times smaller than uncompressed" if run.n_bytes else ""
    n_computed = len(run.computed)
    return {
        **describe_clips(plan.catalogue),
        "rows": f"{plan.rows.total_rows:,} of {plan.rows.layout.n_features} values{ratio}",
        "shards": f"{n_computed:,} computed, {plan.rows.n_shards - n_computed:,} there already",
    }


if __name__ == "__main__":
    sys.exit(main())
