"""All checks of a store, in order, and what they found: the front door to this room."""

import importlib.util
import math
import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial

from mimii.engine import SILENT, Pipeline, Progress, Scheduler, StoreError, Work, do_tasks, tasks_to_results
from mimii.features import kernels_here
from mimii.recordings import Clip, SourceError, find_clips, select
from mimii.storage import (
    DEFAULT_ACCESS,
    DEFAULT_READS,
    SHORT_TIMEOUT,
    Access,
    Location,
    ReadOptions,
    as_path,
    as_paths,
    is_remote,
    numbered,
)
from mimii.table import DIGESTS, OTHER, SCHEMA, TRAIN, RowPlan, Sums, add_sums, choose_sums, no_sums, open_store
from mimii.verification.comparison import ClipCheck, Difference, check_recordings, clip_check, compare_clip, draw_sample
from mimii.verification.contents import Contents, read_contents
from mimii.verification.matching import Matches, match_clips
from mimii.verification.mel_check import check_mel_columns
from mimii.verification.metadata import CHECKS, Checked, Finding, check_statistics, find_foreign, merge
from mimii.verification.published import check_published, count_clips, note_published
from mimii.verification.shard_check import ShardCheck, ShardReport, check_shard, shard_check


@dataclass(frozen=True, slots=True, repr=False)
class Verdict:
    """What all checks of a store found.

    Attributes
    ----------
    store : str
        Which store.
    checks : mapping of str to Checked
        Those that were made, by name.
    skipped : mapping of str to str
        Why the others were not.
    size : mapping of str to int
        Clips, rows, shards and bytes; empty where the metadata is not correct.
    notes : sequence of str
        What is no finding, but may matter.
    largest : Difference or None
        The clip that is farthest from librosa.

    """

    store: str
    checks: Mapping[str, Checked]
    skipped: Mapping[str, str]
    size: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()
    largest: Difference | None = None

    def __repr__(self) -> str:
        wrong = [f"{name} {len(checked.findings):,}" for name, checked in self.checks.items() if checked.findings]
        what = f"not correct, findings: {', '.join(wrong)}" if wrong else "complete and correct"
        return f"<Verdict: {self.store} is {what}; {len(self.checks)} of {len(CHECKS)} checks were made>"

    @property
    def findings(self) -> list[Finding]:
        """All that is wrong, in the order of the checks."""
        return [finding for checked in self.checks.values() for finding in checked.findings]

    @property
    def is_right(self) -> bool:
        """Whether the store is complete and correct, as far as it was checked."""
        return not self.findings


@dataclass(slots=True)
class _Tally:
    """What the tasks found, added up."""

    sums: dict[str, Sums]
    fingerprints: dict[int, str] = field(default_factory=dict)
    left: dict[int, str] = field(default_factory=dict)
    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    differences: list[Difference] = field(default_factory=list)
    n_bytes: int = 0
    n_unknown: int = 0

    def add(self, parts: Iterable[Checked]) -> None:
        """Add parts of checks."""
        for part in parts:
            self.counts[part.check] += part.n
            self.findings += part.findings

    def add_shard(self, report: ShardReport) -> None:
        """Add what is known of a shard."""
        self.sums = {name: add_sums((total, report.sums[name]), total.total.size) for name, total in self.sums.items()}
        self.fingerprints[report.shard], self.left[report.shard] = report.fingerprint, report.left
        self.n_bytes += report.n_bytes

    def checked(self) -> Iterator[Checked]:
        """Yield the checks; their findings are sorted, since tasks are finished in any order."""
        ordered = sorted(self.findings, key=lambda one: (one.shard or 0, one.clip or 0))
        for check, n in self.counts.items():
            yield Checked(check, n, tuple(one for one in ordered if one.check == check))


def _largest(differences: Iterable[Difference]) -> Difference | None:
    """Return the largest difference; NaN, where a clip could not be compared, hides no other."""
    return max(differences, key=lambda one: (not math.isnan(one.decibel), one.decibel, one.where), default=None)


def verify(  # noqa: PLR0913  each is a choice that users have
    store: Location,
    against: Sequence[Clip] | Location | Sequence[Location] | None = None,
    *,
    sample: int = 20,
    seed: int = 0,
    complete: str | Sequence[str] = (),
    client: Scheduler = None,
    access: Access = DEFAULT_ACCESS,
    read_options: ReadOptions = DEFAULT_READS,
    progress: Progress = SILENT,
) -> Verdict:
    """Check whether a finished table is complete and correct; nothing is changed.

    Metadata, columns, records, checksums, rows and statistics are compared with each other. With `against`, clips
    drawn at random are computed again from their recordings, with librosa, and values must be within 0.001 dB.
    docs/verify.md lists all checks.

    Parameters
    ----------
    store : str or path
        A folder, or ``s3://bucket/prefix``.
    against : sequence of Clip, str or path, sequence of these, or None
        The recordings: from `find_recordings`, or folders, zip archives, single files and ``s3://bucket/prefix``. They
        may have moved; those of some clips are enough, and those of none are refused.
    sample : int
        How many clips are computed again.
    seed : int
        Another one draws other clips.
    complete : str or sequence of str
        Archives of MIMII, such as ``"6_dB_fan"``, ``"fan"``, ``"6_dB"`` or ``"all"``: each of their machines must have
        as many clips as are published.
    client : distributed.Client, Where, or None
        Where shards and clips are checked; None is this process, one after the other.
    access : Access
        How to connect to S3 for the store.
    read_options : ReadOptions
        How to find the recordings on S3, and how workers fetch them.
    progress : Progress
        What is shown meanwhile; nothing where it is left out.

    Returns
    -------
    Verdict
        Its `findings` are all that is wrong; `is_right` says whether there are none.

    Raises
    ------
    StoreError
        If there is no table, or librosa is needed and not installed.
    SourceError
        If a source in `against` does not exist, an archive is damaged, or no recording is a clip of the table.
    NameOfArchiveError
        If `complete` names an archive that MIMII does not have.
    WorkError
        If the work cannot continue, such as when no worker comes.
    OSError
        If the store cannot be read, or S3 cannot be used.

    """
    if against is not None and importlib.util.find_spec("librosa") is None:
        msg = "--against: librosa is not installed: pip install librosa"
        raise StoreError(msg)
    store, archives = as_path(store), select([complete] if isinstance(complete, str) else complete)
    contents, checked = read_contents(open_store(store, access))
    if contents is None:
        checks, reason = merge(checked), f"{checked[-1].check} must be correct first"
        return Verdict(store, checks, {name: reason for name in CHECKS if name not in checks})
    matches = None if against is None else _match(contents, _find(against, read_options.access))
    chosen = draw_sample(contents.columns, list(matches.recordings), sample, seed) if matches else []
    clips = [clip_check(contents, matches, clip, read_options) for clip in chosen] if matches else []
    tally = _do_checks(contents, matches, clips, client, progress)
    counts = count_clips(contents.columns) if contents.rows else {}
    checked += tally.checked()
    if contents.rows:
        checked += _check_statistics(contents, contents.rows, tally)
    if contents.rows and archives:
        checked.append(check_published(counts, archives))
    checks = merge(checked)
    return Verdict(
        store,
        checks,
        {name: _why_skipped(name, contents, matches) for name in CHECKS if name not in checks},
        {"clips": contents.n_clips, "rows": contents.n_rows, "shards": contents.n_shards, "bytes": tally.n_bytes},
        [*_notes(contents, matches, tally.n_unknown), *filter(None, [note_published(counts)])],
        _largest(tally.differences),
    )


def _check_statistics(contents: Contents, rows: RowPlan, tally: _Tally) -> list[Checked]:
    """Check the statistics of clips and of features, where shards and records are right."""
    wrong = {finding.check for finding in tally.findings} - {"librosa"}
    if wrong & {"records", "finished"}:
        return []
    checked = check_mel_columns(contents, rows, tally.fingerprints, tally.left)
    if wrong or any(part.findings for part in checked):
        return checked
    sums = choose_sums(tally.sums, contents.store.layout.n_features)
    return [*checked, check_statistics(contents.columns, sums)]


def check_task(task: ShardCheck | ClipCheck) -> ShardReport | Difference:
    """Check a shard, or compare a clip: what workers do."""
    return check_shard(task) if isinstance(task, ShardCheck) else compare_clip(task)


_PIPELINE = Pipeline("check", partial(tasks_to_results, function=check_task), reads_recordings=False)


def _find(against: Sequence[Clip | Location] | Location, access: Access) -> list[Clip]:
    """Return the clips, and those in sources."""
    named = [against] if isinstance(against, str | os.PathLike) else against
    clips = [one for one in named if isinstance(one, Clip)]
    sources = as_paths(one for one in named if not isinstance(one, Clip))
    return [*clips, *find_clips(sources, replace(access, timeout=SHORT_TIMEOUT))]


def _match(contents: Contents, found: Sequence[Clip]) -> Matches | None:
    """Return which recordings are clips of the table; SourceError where none is, None where it has no plan."""
    if not contents.rows:
        return None
    matches = match_clips(contents.columns, found)
    if not matches.recordings:
        root = contents.store.objects.root
        msg = (
            f"--against: {numbered(len(found), 'recording')} found, and none is a clip of {root}; name those it was "
            "made from"
        )
        raise SourceError(msg)
    return matches


def _do_checks(
    contents: Contents, matches: Matches | None, sample: Sequence[ClipCheck], client: Scheduler, progress: Progress
) -> _Tally:
    """Check all shards and the clips of the sample: both in one run, so that workers start once."""
    none = no_sums(contents.store.layout.n_features)
    n_shards, rows, tally = contents.n_shards, contents.rows, _Tally(dict.fromkeys((TRAIN, OTHER), none))

    def make_task(number: int) -> ShardCheck | ClipCheck:
        return shard_check(contents, number) if number < n_shards else sample[number - n_shards]

    def count_clips_of(number: int) -> int:
        return 1 if number >= n_shards else rows.n_finished(number) if rows else 0

    is_far = is_remote(contents.store.objects.root) or any(is_remote(task.place.url) for task in sample)
    work = Work(make_task, _PIPELINE, is_far, count_clips_of, _findings)
    for _, result in do_tasks(work, range(n_shards + len(sample)), client, progress if rows else SILENT):
        tally.add(result.checked)
        if isinstance(result, Difference):
            tally.differences.append(result)
            continue
        tally.add_shard(result)
        if matches and rows:
            clips = [clip for clip in rows.clips_of(result.shard).tolist() if not contents.is_out(clip)]
            recordings = check_recordings(result, clips, matches)
            tally.add([recordings] if recordings else [])
            tally.n_unknown += recordings is None
    return tally


def _findings(result: ShardReport | Difference) -> Iterable[int]:
    """Return a number for each finding, for progress."""
    return {hash((one.check, one.where, one.problem)) for part in result.checked for one in part.findings}


def _why_skipped(name: str, contents: Contents, matches: Matches | None) -> str:
    if name in ("librosa", "recordings"):
        return "the recordings that were found do not allow it" if matches else "--against names no recordings"
    if name == "published":
        return "--complete names no archives"
    if contents.rows is None:
        return "columns and plan must be correct first"
    if name == "range" and contents.store.spec.bounds is None:
        return "dB are absolute, and have no bounds"
    return "no shard could be read" if contents.n_shards else "there are no rows"


def _notes(contents: Contents, matches: Matches | None, n_unknown: int) -> Iterator[str]:
    if foreign := find_foreign(contents.store.objects.names(), [*SCHEMA, *contents.columns]):
        yield f"not part of the table, and left alone: {', '.join(foreign)}"
    if DIGESTS not in contents.attributes:
        yield "made by an earlier version, without digests of the columns: changes of columns may not be found"
    if others := [kind for kind in contents.attributes.get("kernels") or () if kind != kernels_here()]:
        yield (
            f"computed with other kernels of BLAS or NumPy ({'; '.join(others)}) than this process uses "
            f"({kernels_here()}): values are within 2e-5 dB. docs/clusters.md says how to choose the same ones"
        )
    if matches is not None:
        yield matches.describe()
    if n_unknown:
        yield (
            f"shards for which it is unknown whether recordings have changed: {n_unknown:,}. Not all of their "
            "recordings were found, or they are at another place with another time"
        )
