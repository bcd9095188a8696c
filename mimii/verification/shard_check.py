"""Whether one shard of a store is whole and right: its record, its bytes, its checksums and its rows.

The rows are read through zarr, which did not write them: chunk after chunk, so that memory stays small.
"""

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Record, Written, from_json, record_key
from mimii.features import TOP_DB, FeatureSpec, FloatArray
from mimii.storage import Objects
from mimii.table import (
    FEATURES,
    RECORDS,
    ROW_CLIP,
    Layout,
    Plan,
    Sums,
    add_sums,
    count_for_statistics,
    no_sums,
    open_array,
    row_clip_key,
    shard_key,
)
from mimii.table import from_json as sums_from_json
from mimii.verification.metadata import GOOD, MOST_STATISTICS_DB, Checked, Finding, merge, metadata_key


@dataclass(frozen=True, slots=True)
class Stored:
    """A finished store whose metadata is right, but for its shards.

    Attributes
    ----------
    objects : Objects
        Where it is.
    documents : mapping of str to bytes
        Its metadata, by key.
    fingerprint : str
        What its records have to bear.
    layout : Layout
        How its rows are cut up.
    spec : FeatureSpec
        What was computed.
    total_rows : int
        Rows of the features.
    columns : mapping of str to ndarray
        Those that can be read, by name.
    plan : Plan or None
        Where each clip's rows are; None where the columns do not tell.

    """

    objects: Objects
    documents: Mapping[str, bytes]
    fingerprint: str
    layout: Layout
    spec: FeatureSpec
    total_rows: int
    columns: Mapping[str, NDArray[Any]]
    plan: Plan | None

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return -(-self.total_rows // self.layout.shard_rows)


@dataclass(frozen=True, slots=True)
class Held:
    """The rows of one clip that a shard holds.

    Attributes
    ----------
    clip : int
        Which clip.
    n_rows : int
        How many rows.
    is_bad : bool
        Whether the clip could not be used: then all of them are NaN.
    counts : bool
        Whether they count for the table's statistics.

    """

    clip: int
    n_rows: int
    is_bad: bool
    counts: bool


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """All that a worker needs to know to check one shard.

    Attributes
    ----------
    objects : Objects
        The store.
    documents : mapping of str to bytes
        The metadata of features and row_clip, by key.
    fingerprint : str
        Of the store.
    layout : Layout
        Rows of chunk and shard.
    is_relative : bool
        Whether values are dB below the clip's maximum: then none is above 0 or below -80.
    shard : int
        Which shard.
    n_rows : int
        Rows in it.
    n_mels : int
        Mel bands of a frame: what a row shares with the next one is all but these.
    held : tuple of Held or None
        In order; together they are all of its rows. None where that is not known: then only what does not depend on
        it is checked.
    n_ended : int
        Clips whose last row it holds.

    """

    objects: Objects
    documents: Mapping[str, bytes]
    fingerprint: str
    layout: Layout
    is_relative: bool
    shard: int
    n_rows: int
    n_mels: int
    held: tuple[Held, ...] | None
    n_ended: int

    def __str__(self) -> str:
        """Name the shard, for messages."""
        return f"{self.objects.root}, shard {self.shard}"


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What came of the checks of one shard.

    Attributes
    ----------
    shard : int
        Which shard.
    checked : tuple of Checked
        One for each check.
    sums : Sums
        Over the rows that count, as they are.
    inputs : str
        The record's digest of the recordings; empty where there is no valid record.
    n_bytes : int
        Bytes of the shard.
    n_ended : int
        Clips whose last row it holds.

    """

    shard: int
    checked: tuple[Checked, ...]
    sums: Sums
    inputs: str
    n_bytes: int
    n_ended: int


def plan_checks(stored: Stored) -> Iterator[ShardCheck]:
    """Gather what workers need to know to check all shards."""
    documents = {key: stored.documents[key] for key in map(metadata_key, (FEATURES, ROW_CLIP))}
    held_by = _make_held(stored.columns, stored.plan) if stored.plan else None
    for shard in range(stored.n_shards):
        held, n_ended = held_by(shard) if held_by else (None, 0)
        yield ShardCheck(
            objects=stored.objects,
            documents=documents,
            fingerprint=stored.fingerprint,
            layout=stored.layout,
            is_relative=stored.spec.scale == "ref_max",
            shard=shard,
            n_rows=min(stored.layout.shard_rows, stored.total_rows - shard * stored.layout.shard_rows),
            n_mels=stored.spec.n_mels,
            held=held,
            n_ended=n_ended,
        )


def _make_held(columns: Mapping[str, NDArray[Any]], plan: Plan) -> Callable[[int], tuple[tuple[Held, ...], int]]:
    """Make what says of a shard which rows it holds, and how many clips end in it."""
    is_bad = columns["status"] != GOOD
    counts = count_for_statistics(columns["n_rows"], columns["split"].tolist())

    def held_by(shard: int) -> tuple[tuple[Held, ...], int]:
        pieces = plan.shard(shard).pieces
        n_ended = sum(piece.stop == int(plan.n_rows[piece.clip]) for piece in pieces)
        return tuple(
            Held(piece.clip, piece.stop - piece.start, bool(is_bad[piece.clip]), bool(counts[piece.clip]))
            for piece in pieces
        ), n_ended

    return held_by


def check_shard(task: ShardCheck) -> ShardReport:
    """Check one shard."""
    keys = [shard_key(task.shard), row_clip_key(task.shard)]
    found = task.objects.get_all([*keys, record_key(RECORDS, task.shard)])
    records, record = _check_record(task, found.get(record_key(RECORDS, task.shard)))
    checked, sums = [records, _check_bytes(task, found, record)], no_sums(task.layout.n_features)
    if task.held is not None and record:
        checked.append(_check_status(task, task.held, record))
    if keys[0] in found:
        by_chunk, sums = _check_rows(task, found[keys[0]])
        checked += by_chunk
        if task.held is not None and record and not any(part.findings for part in by_chunk):
            checked.append(_check_sums(task, record, sums))
    if keys[1] in found and task.held is not None:
        checked.append(_check_row_clip(task, task.held, found[keys[1]]))
    n_bytes = len(found.get(keys[0], b""))
    inputs = record.stamp.inputs if record else ""
    return ShardReport(task.shard, tuple(merge(checked).values()), sums, inputs, n_bytes, task.n_ended)


def _finding(task: ShardCheck, check: str, where: str, problem: str, clip: int | None = None) -> Finding:
    """Make a finding that is mended by computing the shard again."""
    return Finding(check, where, problem, task.shard, clip, delete=record_key(RECORDS, task.shard))


def _check_record(task: ShardCheck, data: bytes | None) -> tuple[Checked, Record | None]:
    """Check the record; return it where it can be relied on."""
    key, wanted = record_key(RECORDS, task.shard), {shard_key(task.shard), row_clip_key(task.shard)}
    record = from_json(data) if data is not None else None
    problem = ""
    if data is None:
        return Checked("records", 1, (Finding("records", key, "is not there", task.shard),)), None
    if record is None or sums_from_json(record.result) is None:
        problem = "is no whole record"
    elif record.stamp.fingerprint != task.fingerprint:
        problem = f"is of another table: its fingerprint is {record.stamp.fingerprint}, not {task.fingerprint}"
    elif record.stamp.task != task.shard:
        problem = f"is that of shard {record.stamp.task}"
    elif record.written.keys() != wanted:
        problem = "is of other objects than this shard's"
    if problem:
        return Checked("records", 1, (_finding(task, "records", key, problem),)), None
    return Checked("records", 1), record


def _check_bytes(task: ShardCheck, found: Mapping[str, bytes], record: Record | None) -> Checked:
    problems = {
        key: _bytes_problem(found.get(key), record.written.get(key) if record else None)
        for key in (shard_key(task.shard), row_clip_key(task.shard))
    }
    findings = tuple(_finding(task, "bytes", key, problem) for key, problem in problems.items() if problem)
    return Checked("bytes", len(problems), findings)


def _bytes_problem(data: bytes | None, written: Written | None) -> str:
    if data is None:
        return "is not there"
    if written and len(data) != written.size:
        return f"has {len(data)} bytes, and had {written.size} when it was written"
    if written and hashlib.sha256(data).hexdigest() != written.sha256:
        return "has other bytes than when it was written: its SHA-256 is another"
    return ""


def _check_status(task: ShardCheck, held: tuple[Held, ...], record: Record) -> Checked:
    problems = {
        part.clip: "the record of its shard calls it bad, its status does not"
        for part in held
        if part.clip in record.bad and not part.is_bad
    } | {
        part.clip: "its status calls it bad, the record of its shard does not"
        for part in held
        if part.is_bad and part.clip not in record.bad
    }
    found = tuple(_finding(task, "status", f"clip {clip}", problem, clip) for clip, problem in problems.items())
    return Checked("status", len(held), found)


def _check_rows(task: ShardCheck, shard: bytes) -> tuple[list[Checked], Sums]:
    """Read all chunks and check their rows; sum up those that count."""
    of_row = None if task.held is None else _spread(task.held)
    checked, sums = list[Checked](), list[Sums]()
    for begin, values in _read_chunks(task, shard):
        if isinstance(values, str):
            problem = f"chunk {begin // task.layout.chunk_rows}, counted from 0, cannot be read: {values}"
            checked.append(Checked("chunks", 1, (_finding(task, "chunks", shard_key(task.shard), problem),)))
            continue
        checked.append(Checked("chunks", 1))
        if of_row is not None:
            rows = of_row[begin : begin + len(values)]
            checked += _check_values(task, begin, values, rows)
            sums.append(_sum(values[rows["counts"] & ~rows["is_bad"]]))
    return checked, add_sums(sums, task.layout.n_features)


def _read_chunks(task: ShardCheck, shard: bytes) -> Iterator[tuple[int, FloatArray | str]]:
    """Yield the first row of each chunk, and its rows, or why they cannot be read."""
    first, n_rows = task.shard * task.layout.shard_rows, task.n_rows
    array = open_array({**task.documents, shard_key(task.shard): shard}, FEATURES)
    for begin in range(0, n_rows, task.layout.chunk_rows):
        end = min(begin + task.layout.chunk_rows, n_rows)
        # Whether nothing at all is fill values or an error depends on the version of zarr.
        yield begin, _read(array, slice(first + begin, first + end)) if shard else "the shard is empty"


def _read(array: Any, rows: slice) -> Any:  # noqa: ANN401  zarr's arrays and what is in them
    try:
        return np.asarray(array[rows])
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  whatever zarr and its codecs raise over damaged bytes
        return str(error).strip() or type(error).__name__


def _spread(held: tuple[Held, ...]) -> NDArray[Any]:
    """Say of each row of a shard which clip it is from, whether that is bad, and whether it counts."""
    of_clip = np.array(
        [(part.clip, part.is_bad, part.counts) for part in held],
        [("clip", np.int32), ("is_bad", np.bool_), ("counts", np.bool_)],
    )
    return np.repeat(of_clip, [part.n_rows for part in held])


def _check_values(task: ShardCheck, begin: int, values: FloatArray, rows: NDArray[Any]) -> list[Checked]:
    """Check that NaN is in bad clips and nowhere else, and that dB are within their range."""
    first = task.shard * task.layout.shard_rows + begin
    finite = np.isfinite(values)
    wrong = np.where(rows["is_bad"], ~np.isnan(values).all(axis=1) if rows["is_bad"].any() else False, ~finite.all(1))
    found = [_nan_finding(task, first, rows, wrong, int(clip)) for clip in np.unique(rows["clip"][wrong])]
    checked = [Checked("nan", len(values), tuple(found))]
    if task.is_relative:
        checked.append(Checked("range", len(values), tuple(_range_findings(task, first, values))))
    checked.append(Checked("frames", len(values), tuple(_frame_findings(task, first, values, rows["clip"]))))
    return checked


def _nan_finding(task: ShardCheck, first: int, rows: NDArray[Any], wrong: NDArray[np.bool_], clip: int) -> Finding:
    at = np.flatnonzero(wrong & (rows["clip"] == clip))
    is_bad = bool(rows["is_bad"][at[0]])
    what = "of a bad clip are not NaN" if is_bad else "of a good clip hold NaN or infinity"
    return _finding(task, "nan", f"clip {clip}", f"{len(at)} rows {what}, the first is row {first + at[0]}", clip)


def _range_findings(task: ShardCheck, first: int, values: FloatArray) -> Iterator[Finding]:
    if not (np.fmax.reduce(values, axis=None) > 0 or np.fmin.reduce(values, axis=None) < -TOP_DB):
        return
    outside = (values > 0) | (values < -TOP_DB)
    at = np.argwhere(outside)[0]
    problem = f"{int(outside.sum())} values above 0 or below {-TOP_DB:g} dB, the first in row {first + int(at[0])}"
    yield _finding(task, "range", shard_key(task.shard), f"{problem}: {values[tuple(at)]:g}")


def _frame_findings(task: ShardCheck, first: int, values: FloatArray, clip: NDArray[Any]) -> Iterator[Finding]:
    """Hold each row against the next of the chunk: of the same clip, it is one frame further on."""
    differ = (values[:-1, task.n_mels :] != values[1:, : -task.n_mels]).any(axis=1) & (clip[:-1] == clip[1:])
    if not differ.any():
        return
    at = [row for row in np.flatnonzero(differ) if np.isfinite(values[row : row + 2]).all()]
    if at:
        problem = f"{len(at)} rows are not the row before one frame on, the first is row {first + int(at[0]) + 1}"
        yield _finding(task, "frames", shard_key(task.shard), problem)


def _sum(values: FloatArray) -> Sums:
    exact = values.astype(np.float64)
    return Sums(len(exact), exact.sum(axis=0), np.einsum("tf,tf->f", exact, exact))


def _check_sums(task: ShardCheck, record: Record, sums: Sums) -> Checked:
    noted = sums_from_json(record.result)
    scale = max(sums.count, 1)
    same = noted is not None and noted.count == sums.count and noted.total.shape == sums.total.shape
    if noted is not None and same:
        same = np.abs(noted.total - sums.total).max() <= scale * MOST_STATISTICS_DB
        same = bool(same and np.abs(noted.squares - sums.squares).max() <= scale * MOST_STATISTICS_DB)
    problem = "its sums are not those of the rows of its shard"
    key = record_key(RECORDS, task.shard)
    return Checked("statistics", 1, () if same else (_finding(task, "statistics", key, problem),))


def _check_row_clip(task: ShardCheck, held: tuple[Held, ...], chunk: bytes) -> Checked:
    key, first = row_clip_key(task.shard), task.shard * task.layout.shard_rows
    array = open_array({**task.documents, key: chunk}, ROW_CLIP)
    there, expected = _read(array, slice(first, first + task.n_rows)), _spread(held)["clip"]
    report = partial(_finding, task, "row_clip", key)
    if isinstance(there, str):
        return Checked("row_clip", task.n_rows, (report(f"cannot be read: {there}"),))
    if (there == expected).all():
        return Checked("row_clip", task.n_rows)
    at = int(np.flatnonzero(there != expected)[0])
    problem = f"row {first + at} is said to be of clip {there[at]}, and is of clip {expected[at]}"
    return Checked("row_clip", task.n_rows, (report(problem),))
