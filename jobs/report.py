"""What people read before and after the work: the plan, the summary, the list of bad clips."""

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from jobs.survey import Survey
from jobs.words import format_bytes as format_bytes
from jobs.words import format_table as format_table
from jobs.words import numbered as numbered
from mimii.engine import Record, Work
from mimii.recordings import LABEL_NAMES, TEST, TRAIN, Catalogue, Identity
from mimii.storage import printable

_MOST_BAD_A_REASON = 10


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did.

    Attributes
    ----------
    output : str
        Where the results are.
    n_computed, n_kept : int
        Tasks done now, and those that were done already.
    bytes_read, bytes_written : int
        Of recordings, and of results.
    clips_computed : int
        Clips computed now.
    seconds : float
        From the start of the command.
    bad : mapping of int to str
        All clips that cannot be used, and why.

    """

    output: str
    n_computed: int
    n_kept: int
    bytes_read: int
    bytes_written: int
    clips_computed: int
    seconds: float
    bad: Mapping[int, str]


def summarize(work: Work, output: str, done: Mapping[int, Record], todo: Sequence[int], seconds: float) -> Run:
    """Sum up what a run did, from the records that are at the output and the tasks that were done now."""
    clips = np.unique(np.fromiter((clip for task in todo for clip in work.clips_of(task)), np.int64))
    bad = {clip: problem for clip, problem in enumerate(work.catalogue.problems) if problem}
    for record in done.values():
        bad |= record.bad
    return Run(
        output=output,
        n_computed=len(todo),
        n_kept=work.n_tasks - len(todo),
        bytes_read=sum(work.catalogue.clips[clip].place.fetched for clip in clips),
        bytes_written=sum(record.size for record in done.values()),
        clips_computed=len(clips),
        seconds=seconds,
        bad=bad,
    )


def describe_plan(work: Work, survey: Survey, special: Mapping[str, str]) -> str:
    """Describe what would be done: clips by machine, label and SNR, what is special about the job, bytes in."""
    catalogue = work.catalogue
    bad = {clip: problem for clip, problem in enumerate(catalogue.problems) if problem}
    common = {
        "split": _split(catalogue),
        "headers": _planning(survey),
        "reads": format_bytes(sum(clip.place.fetched for clip in catalogue.clips)),
    }
    return "\n".join([*_count_clips(catalogue), "", *_pairs({**common, **special}), *describe_bad(catalogue, bad)])


def describe_run(work: Work, survey: Survey, run: Run, special: Mapping[str, str]) -> str:
    """Describe what was done."""
    n_clips = len(work.catalogue.clips)
    before = {
        "clips": f"{n_clips:,}: {n_clips - len(run.bad):,} good, {len(run.bad):,} bad",
        "split": _split(work.catalogue),
    }
    after = {
        "headers": _planning(survey),
        "read": format_bytes(run.bytes_read),
        "output": f"{run.output}, {format_bytes(run.bytes_written)}",
        "time": f"{run.seconds:.1f} s, {_speed(run)}",
    }
    return "\n".join([*_pairs({**before, **special, **after}), *describe_bad(work.catalogue, run.bad)])


def describe_bad(catalogue: Catalogue, bad: Mapping[int, str]) -> list[str]:
    """List bad clips by reason, the commonest first."""
    by_reason = defaultdict(list)
    for clip, reason in sorted(bad.items()):
        by_reason[reason].append(catalogue.clips[clip].path)
    lines = ["", "bad clips"] if bad else []
    for reason, paths in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"  {len(paths):,}: {printable(reason)}")
        lines += [f"      {printable(path)}" for path in paths[:_MOST_BAD_A_REASON]]
        if len(paths) > _MOST_BAD_A_REASON:
            lines.append(f"      and {len(paths) - _MOST_BAD_A_REASON:,} more; all are in the output's column 'status'")
    return lines


def _count_clips(catalogue: Catalogue) -> list[str]:
    machines = Counter((_machine(clip.identity), clip.identity.label) for clip in catalogue.clips)
    names = sorted({machine for machine, _ in machines})
    labels = sorted({label for _, label in machines}, key=(0, 1, -1).index)
    rows = [(name, *(f"{machines[name, label]:,}" for label in labels)) for name in names]
    totals = [f"{sum(machines[name, label] for name in names):,}" for label in labels]
    return format_table(("clips", *(LABEL_NAMES[label] for label in labels)), [*rows, ("all", *totals)])


def _machine(who: Identity) -> str:
    snr = "" if math.isnan(who.snr_db) else f"{who.snr_db:g} dB"
    return " ".join(filter(None, (who.machine_type, who.machine_id, snr))) or "unknown machine"


def _speed(run: Run) -> str:
    if run.n_computed:
        return f"{run.clips_computed / run.seconds:,.0f} clips/s, start-up included"
    return "there was nothing to do" if run.n_kept else "no clip could be used"


def _planning(survey: Survey) -> str:
    requests = f", {numbered(survey.n_requests, 'request')} to S3" if survey.n_requests else ""
    return f"{survey.n_headers:,} of {len(survey.catalogue.clips):,} read{requests}"


def _split(catalogue: Catalogue) -> str:
    n_train, n_test = catalogue.splits.count(TRAIN), catalogue.splits.count(TEST)
    return f"{n_train:,} train, {n_test:,} test, {len(catalogue.splits) - n_train - n_test:,} neither"


def _pairs(values: Mapping[str, str]) -> list[str]:
    width = max(map(len, values))
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]
