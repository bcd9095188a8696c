"""What people read before and after the work: the plan, the summary, the list of bad clips."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jobs.survey import Survey
from mimii.catalogue import Catalogue
from mimii.clips import LABEL_NAMES, Identity
from mimii.problems import printable
from mimii.records import Record
from mimii.splits import TEST, TRAIN
from mimii.table import Table

_MOST_BAD_A_REASON = 10
_COMPRESSION = 6


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did.

    Attributes
    ----------
    output : str
        Where the store is.
    n_computed, n_kept : int
        Shards computed now, and those that were there already.
    bytes_read, bytes_written : int
        Of recordings, and of shards.
    clips_computed : int
        Clips computed now.
    seconds : float
        From the start of the command.
    bad : mapping of int to str
        All clips of the table that cannot be used, and why.

    """

    output: str
    n_computed: int
    n_kept: int
    bytes_read: int
    bytes_written: int
    clips_computed: int
    seconds: float
    bad: Mapping[int, str]


def summarize(table: Table, output: str, records: Mapping[int, Record], computed: Sequence[int], seconds: float) -> Run:
    """Sum up what a run did, from the records that are in the store."""
    shards = [table.plan.shard(index) for index in computed]
    clips = {piece.clip for shard in shards for piece in shard.pieces}
    bad = {clip: problem for clip, problem in enumerate(table.catalogue.problems) if problem}
    for record in records.values():
        bad |= record.bad
    return Run(
        output=output,
        n_computed=len(computed),
        n_kept=table.plan.n_shards - len(computed),
        bytes_read=sum(table.catalogue.clips[clip].place.fetched for clip in clips),
        bytes_written=sum(record.size for record in records.values()),
        clips_computed=len(clips),
        seconds=seconds,
        bad=bad,
    )


def describe_plan(table: Table, survey: Survey) -> str:
    """Describe what would be done: clips by machine, label and SNR, rows, shards, bytes in and out."""
    catalogue, plan = table.catalogue, table.plan
    size_in = sum(clip.place.fetched for clip in catalogue.clips)
    size_out = plan.total_rows * plan.layout.row_bytes
    bad = {clip: problem for clip, problem in enumerate(catalogue.problems) if problem}
    lines = [
        *_count_clips(catalogue),
        "",
        *_pairs(
            {
                "features": ", ".join(f"{name} {value}" for name, value in catalogue.spec.as_dict().items()),
                "split": _split(catalogue),
                "rows": f"{plan.total_rows:,} of {plan.layout.n_features} values",
                "shards": f"{plan.n_shards:,} of {plan.layout.shard_rows:,} rows, a task each",
                "headers": _planning(survey),
                "reads": format_bytes(size_in),
                "writes": f"{format_bytes(size_out)}, compressed about {format_bytes(size_out // _COMPRESSION)}",
            }
        ),
        *describe_bad(catalogue, bad),
    ]
    return "\n".join(lines)


def describe_run(table: Table, survey: Survey, run: Run) -> str:
    """Describe what was done, and how to open it."""
    raw = table.plan.total_rows * table.plan.layout.row_bytes
    ratio = f", {raw / run.bytes_written:.1f} times smaller than the raw rows" if run.bytes_written else ""
    n_clips = len(table.catalogue.clips)
    lines = [
        *_pairs(
            {
                "clips": f"{n_clips:,}: {n_clips - len(run.bad):,} good, {len(run.bad):,} bad",
                "split": _split(table.catalogue),
                "rows": f"{table.plan.total_rows:,} of {table.plan.layout.n_features} values",
                "shards": f"{run.n_computed:,} computed, {run.n_kept:,} there already",
                "headers": _planning(survey),
                "read": format_bytes(run.bytes_read),
                "store": f"{run.output}, {format_bytes(run.bytes_written)}{ratio}",
                "time": f"{run.seconds:.1f} s, {_speed(run)}",
            }
        ),
        *describe_bad(table.catalogue, run.bad),
        "",
        "open it with",
        f"  import xarray; table = xarray.open_zarr({run.output!r})",
    ]
    return "\n".join(lines)


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
            lines.append(f"      and {len(paths) - _MOST_BAD_A_REASON:,} more; all are in the table's 'status'")
    return lines


def format_bytes(size: float) -> str:
    """Write a number of bytes for people, in powers of 1000."""
    units = ("B", "kB", "MB", "GB", "TB", "PB")
    power = min(max(0, int(math.log10(max(size, 1)) // 3)), len(units) - 1)
    return f"{size / 1000**power:.{min(power, 1)}f} {units[power]}"


def numbered(number: int, noun: str) -> str:
    """Write a number of things: ``1 shard``, ``2 shards``."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns: the first one left, the others right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]


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
