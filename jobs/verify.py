"""Say whether a finished store of features is whole and right.

From the store alone: metadata, records, bytes, checksums, rows and statistics are held against each other. With
--against, clips drawn at random are computed again from their recordings, with librosa itself. Nothing is changed.
"""

import argparse
import importlib.util
import math
import shlex
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from jobs.options import (
    SHORT_TIMEOUT,
    add_cluster_options,
    add_storage_options,
    count,
    location,
    open_output,
    read_options_of,
    source_access,
    where_to_run,
)
from jobs.progress import show_bar, show_lines
from jobs.report import numbered
from jobs.run import FAILED, INTERRUPTED, OK, fail, run_command
from jobs.verify_report import Verdict, describe_verdict, verdict_as_json
from mimii.engine import (
    TASKS_FAR_AWAY,
    Cluster,
    Done,
    StoreError,
    WorkError,
    connect,
    deferred_interrupts,
    run_tasks,
    until_interrupted,
)
from mimii.images import album_store
from mimii.recordings import Archive, NameOfArchiveError, find_clips, select
from mimii.storage import Objects, is_remote
from mimii.table import RECORDS, Sums, add_sums, make_plan, no_sums, store
from mimii.verification import (
    CHECKS,
    Checked,
    ClipCheck,
    Difference,
    Finding,
    Matches,
    ShardReport,
    Stored,
    check_columns,
    check_metadata,
    check_objects,
    check_plan,
    check_published,
    check_recordings,
    check_shard,
    check_statistics,
    compare_clip,
    count_clips,
    count_rows,
    describe_store,
    draw_sample,
    find_strangers,
    match_clips,
    merge,
    metadata_key,
    note_published,
    plan_checks,
    plan_comparison,
    read_layout,
    read_spec,
)

_NAME = "verify"
_DEFAULT_SAMPLE = 20
_GROUP = "zarr.json"
_HERE = Cluster(None, 1)
_EPILOG = """
exit status: 0 the store is whole and right; 1 it is not, or it could not be read; 2 wrong usage; 130 interrupted.

examples:
  python -m jobs.verify data/processed/features.zarr
  python -m jobs.verify data/processed/features.zarr --against data/raw --sample 100
  python -m jobs.verify s3://bucket/features.zarr --json --quiet
  python -m jobs.verify data/processed/features.zarr --complete 6_dB_fan
"""


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the shards told."""

    checked: tuple[Checked, ...]
    sums: Sums
    n_untold: int
    n_bytes: int


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.verify",
        usage="%(prog)s STORE [--against SOURCE ...] [--sample N] [--complete NAME ...] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("output", metavar="STORE", type=location, help="a folder, or s3://bucket/prefix")
    parser.add_argument("--json", action="store_true", help="print one JSON document with all findings, for machines")
    parser.add_argument("--quiet", action="store_true", help="no progress, and nothing at all where all is right")
    _add_recording_options(parser)
    add_cluster_options(parser)
    add_storage_options(parser)
    return parser


def _add_recording_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("recordings")
    group.add_argument(
        "--against",
        nargs="+",
        type=location,
        metavar="SOURCE",
        help="the recordings, as for jobs.featurize: folders, zip archives, s3://bucket/prefix. They may have moved",
    )
    group.add_argument(
        "--sample", type=count, metavar="N", help=f"how many clips to compute again; default: {_DEFAULT_SAMPLE}"
    )
    group.add_argument("--seed", type=int, metavar="N", default=0, help="another one draws other clips; default: 0")
    group.add_argument(
        "--fetch-window",
        type=count,
        metavar="N",
        default=16,
        help="how many recordings on S3 a worker fetches at a time; default: %(default)s",
    )
    group.add_argument(
        "--complete",
        nargs="+",
        type=_archives,
        metavar="NAME",
        help="archives of MIMII, each machine of which must have as many clips as are published; named as for "
        "jobs.fetch: 6_dB_fan, fan, 6_dB, all",
    )


def _archives(text: str) -> tuple[Archive, ...]:
    try:
        return select([text])
    except NameOfArchiveError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.sample and not options.against:
        parser.error("argument --sample: needs --against SOURCE")
    return run_command(_NAME, options, lambda: _run(options))


def _run(options: argparse.Namespace) -> int:
    try:
        verdict = _verify(options)
    except (WorkError, OSError) as error:
        return fail(
            _NAME, FAILED, f"{error}\nIt is not known whether the store is right. Mend that, and run this again."
        )
    except KeyboardInterrupt:
        return fail(_NAME, INTERRUPTED, "interrupted. Nothing was changed.")
    if options.json:
        print(verdict_as_json(verdict))
    elif verdict.findings or not options.quiet:
        print(describe_verdict(verdict))
    return FAILED if verdict.findings else OK


def _verify(options: argparse.Namespace) -> Verdict:
    where_to_run(options, 1, 1)  # refuses options that contradict each other
    if options.against and importlib.util.find_spec("librosa") is None:
        msg = "--against: librosa is not installed: pip install librosa"
        raise StoreError(msg)
    objects = open_output(options, SHORT_TIMEOUT)
    if problem := _look(objects):
        return _stop(options, [problem])
    documents = objects.get_all([_GROUP, *map(metadata_key, store.SCHEMA)])
    described = describe_store(documents)
    checked = [Checked("finished", 1), check_metadata(described)]
    layout, spec = read_layout(described), read_spec(described)
    if checked[-1].findings or layout is None or spec is None:
        return _stop(options, checked)
    columns = {name: _read_column(objects, name) for name in store.COLUMNS}
    readable = {name: values for name, values in columns.items() if not isinstance(values, str)}
    total_rows, fingerprint = count_rows(described), described.attributes["fingerprint"]
    checked += [check_objects(described, layout, objects.sizes()), check_columns(columns, described)]
    plan = None
    if len(readable) == len(columns):
        checked.append(check_plan(readable, layout, total_rows))
        plan = None if checked[-1].findings else make_plan(readable["n_rows"], layout)
    stored = Stored(open_output(options), documents, fingerprint, layout, spec, total_rows, readable, plan)
    return _conclude(options, stored, checked)


def _stop(options: argparse.Namespace, checked: Sequence[Checked]) -> Verdict:
    """End where nothing more can be looked at."""
    checks = merge(checked)
    why = f"{checked[-1].check} has to be right first"
    return Verdict(options.output, checks, {name: why for name in CHECKS if name not in checks})


def _look(objects: Objects) -> Checked | None:
    """Return what is wrong where nothing else can be looked at; refuse what is no table."""
    try:
        existing = store.look(objects)
    except StoreError:
        return _look_at_others(objects)
    if existing is None:
        msg = f"{objects.root}: there is nothing there. Make a table first: python -m jobs.featurize --output URL"
        raise StoreError(msg)
    if existing.finished:
        return None
    n_records = len(objects.sizes(RECORDS))
    problem = f"is not finished: {numbered(n_records, 'shard')} so far. jobs.featurize goes on where it was"
    return Checked("finished", 1, (Finding("finished", objects.root, problem),))


def _look_at_others(objects: Objects) -> Checked:
    if objects.sizes(RECORDS):
        problem = (
            "is missing, or is not that of a table, though there are records of one: it cannot be mended. Delete the "
            f"whole store first: {'aws s3 rm --recursive' if is_remote(objects.root) else 'rm -r'} "
            f"{shlex.quote(objects.root)}"
        )
        return Checked("metadata", 1, (Finding("metadata", _GROUP, problem),))
    try:
        is_album = album_store.look(objects) is not None
    except StoreError:
        is_album = False
    if is_album:
        msg = f"{objects.root}: this is a set of images; run python -m jobs.render with the same options and --check"
    else:
        msg = f"{objects.root}: there is something that is not a table of features; name the --output of jobs.featurize"
    raise StoreError(msg)


def _read_column(objects: Objects, name: str) -> NDArray[Any] | str:
    try:
        return store.read_column(objects, name)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  whatever zarr and its codecs raise over damaged bytes
        return f"cannot be read: {str(error).strip() or type(error).__name__}"


def _conclude(options: argparse.Namespace, stored: Stored, checked: Sequence[Checked]) -> Verdict:
    """Check what takes time, and sum up."""
    matches = _match(options, stored)
    known = list(matches.recordings) if matches else []
    chosen = draw_sample(stored.columns, known, options.sample or _DEFAULT_SAMPLE, options.seed) if matches else []
    sample = plan_comparison(stored, matches, chosen, read_options_of(options)) if matches else []
    seen, differences = _work(options, stored, matches, sample)
    parts = [*checked, *seen.checked, *(difference.checked for difference in differences)]
    if stored.plan and not any(part.findings for part in seen.checked):
        parts.append(check_statistics(stored.columns, seen.sums))
    counts = count_clips(stored.columns) if stored.plan else {}
    if options.complete and stored.plan:
        parts.append(check_published(counts, dict.fromkeys(sum(options.complete, ()))))
    checks, largest = merge(parts), _largest(differences)
    skipped = {name: _why_not(name, stored, matches) for name in CHECKS if name not in checks}
    notes = [*_notes(stored, matches, seen.n_untold), *filter(None, [note_published(counts)])]
    return Verdict(options.output, checks, skipped, _size(stored, seen), notes, largest)


def _largest(differences: Sequence[Difference]) -> Difference | None:
    """Return the largest difference; one that could not be made, NaN, hides no other."""
    return max(differences, key=lambda one: (not math.isnan(one.decibel), one.decibel), default=None)


def _match(options: argparse.Namespace, stored: Stored) -> Matches | None:
    """Find the recordings, and say which clips of the store they are."""
    if not options.against:
        return None
    found = find_clips(options.against, source_access(options, SHORT_TIMEOUT))
    return match_clips(stored.columns, found) if stored.plan else None


def _why_not(name: str, stored: Stored, matches: Matches | None) -> str:
    """Say why a check was not made."""
    if name in ("librosa", "recordings"):
        return "not told by the recordings that are found" if matches else "--against names no recordings"
    if name == "published":
        return "--complete names no archives"
    if stored.plan is None:
        return "columns and plan have to be right first"
    if name == "range" and stored.spec.scale != "ref_max":
        return "dB are absolute, and have no bounds"
    return "no shard could be read" if stored.n_shards else "there are no rows"


def _size(stored: Stored, seen: _Seen) -> dict[str, int]:
    n_clips = max(map(len, (stored.columns[name] for name in ("path", "n_rows") if name in stored.columns)), default=0)
    return {"clips": n_clips, "rows": stored.total_rows, "shards": stored.n_shards, "bytes": seen.n_bytes}


def _notes(stored: Stored, matches: Matches | None, n_untold: int) -> Iterator[str]:
    attributes = describe_store(stored.documents).attributes
    if strangers := find_strangers(stored.objects.names()):
        yield f"not part of the table, and left alone: {', '.join(strangers)}"
    if store.DIGESTS not in attributes:
        yield "made by an earlier version, without digests of the columns: what was changed there may not show"
    if matches is not None:
        yield f"recordings: {matches.describe()}"
    if n_untold:
        yield (
            f"whether recordings are still those that were read cannot be told for {numbered(n_untold, 'shard')}: not "
            "all are found, or they are elsewhere and of another time"
        )


def _work(
    options: argparse.Namespace, stored: Stored, matches: Matches | None, sample: Sequence[ClipCheck]
) -> tuple[_Seen, list[Difference]]:
    """Check shards and clips where the options say."""
    is_far = is_remote(options.output) or any(is_remote(task.place.url) for task in sample)
    where = where_to_run(options, max(stored.n_shards, len(sample), 1), TASKS_FAR_AWAY if is_far else 1)
    with deferred_interrupts() as interrupts, connect(where) if stored.n_shards else nullcontext(_HERE) as cluster:
        if not options.quiet:
            workers = numbered(cluster.n_workers, "worker")
            print(f"{numbered(stored.n_shards, 'shard')} on {workers}", file=sys.stderr)
        reports = until_interrupted(run_tasks(cluster, check_shard, plan_checks(stored)), interrupts)
        seen = _take_in(reports, stored, matches, quiet=options.quiet)
        return seen, list(until_interrupted(run_tasks(cluster, compare_clip, sample), interrupts))


def _take_in(reports: Iterable[ShardReport], stored: Stored, matches: Matches | None, *, quiet: bool) -> _Seen:
    """Add up what shards tell, as they come."""
    merged, sums, n_untold, n_bytes = dict[str, Checked](), no_sums(stored.layout.n_features), 0, 0

    def take_in() -> Iterator[Done]:
        nonlocal merged, sums, n_untold, n_bytes
        for report in reports:
            told = _check_recordings(report, stored, matches)
            merged = merge([*merged.values(), *report.checked, *filter(None, [told])])
            sums, n_bytes = add_sums([sums, report.sums], stored.layout.n_features), n_bytes + report.n_bytes
            n_untold += matches is not None and told is None
            yield Done(report.shard, report.n_ended, report.n_bytes, _name_bad(report))

    show = _show_nothing if quiet or not stored.plan else show_bar if sys.stderr.isatty() else show_lines
    n_clips = int((stored.columns["n_rows"] > 0).sum()) if stored.plan else 0
    for _ in show(take_in(), n_clips, 0):
        pass
    ordered = (Checked(part.check, part.n, tuple(sorted(part.findings, key=_shard))) for part in merged.values())
    return _Seen(tuple(ordered), sums, n_untold, n_bytes)


def _name_bad(report: ShardReport) -> dict[int, str]:
    """Name what is bad, for progress: clips by number, shards by a number below 0."""
    found = (finding for part in report.checked for finding in part.findings)
    return {-1 - report.shard if one.clip is None else one.clip: one.problem for one in found}


def _shard(finding: Finding) -> int:
    return finding.shard or 0


def _check_recordings(report: ShardReport, stored: Stored, matches: Matches | None) -> Checked | None:
    if matches is None or stored.plan is None:
        return None
    return check_recordings(report, [piece.clip for piece in stored.plan.shard(report.shard).pieces], matches)


def _show_nothing(done: Iterable[Done], _n_clips: int, _n_bad: int) -> Iterable[Done]:
    return done


if __name__ == "__main__":
    sys.exit(main())
