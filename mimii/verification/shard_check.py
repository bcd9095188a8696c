"""Whether one shard of a store is complete and correct: its record, its bytes, its checksums and its rows.

The rows are read through zarr, which did not write them, one chunk after the other, so that memory stays small.
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Record, Written, describe, from_json, record_key
from mimii.features import FeatureSpec, FloatArray, feature_frequencies, mel_statistics, unstack_rows
from mimii.storage import be, numbered
from mimii.table import (
    FEATURES,
    MEL,
    MEL_STATISTICS,
    OTHER,
    RECORDS,
    ROW_CLIP,
    TRAIN,
    RowSpan,
    Spans,
    Sums,
    add_sums,
    decode_chunk,
    decode_shard,
    digest_left,
    digest_spans,
    from_values,
    intent_key,
    mel_key,
    no_sums,
    spans_from_values,
)
from mimii.verification.contents import Contents, Store
from mimii.verification.metadata import ALL_COLUMNS, MOST_STATISTICS_DB, Checked, Finding, merge, shard_keys
from mimii.verification.rounding import rounding_of

_MISSING = "is missing"
Found = Iterator[Finding]


@dataclass(frozen=True, slots=True)
class ShardCheck:
    """All that a worker needs to check one shard.

    Attributes
    ----------
    n_rows : int
        Rows of the shard.
    spans : tuple of RowSpan or None
        Together they are all of its rows. None where that is not known: then only what does not depend on it is
        checked.
    bad, is_train : tuple of bool
        Whether the clips of the spans could not be used, so that their rows are NaN; whether they are for training.
    is_whole : tuple of bool
        Whether all rows of a good clip are in the shard.
    n_clips : int
        Clips in the table: those that come behind are of an update that is not finished.

    """

    store: Store
    shard: int
    n_rows: int
    spans: tuple[RowSpan, ...] | None
    bad: tuple[bool, ...]
    is_train: tuple[bool, ...]
    is_whole: tuple[bool, ...]
    n_clips: int

    def __str__(self) -> str:
        """Name the shard, for messages."""
        return f"{self.store.objects.root}, shard {self.shard}"

    @property
    def first_row(self) -> int:
        """The row of the table with which it begins."""
        return self.shard * self.store.layout.shard_rows

    def of_rows(self) -> NDArray[Any] | None:
        """Return for each row its clip, whether that is bad, and for training; None where that is not known."""
        if self.spans is None:
            return None
        of_span = np.array(
            list(zip((span.clip for span in self.spans), self.bad, self.is_train, strict=True)),
            [("clip", np.int32), ("bad", np.bool_), ("is_train", np.bool_)],
        )
        return np.repeat(of_span, [span.n_rows for span in self.spans])

    def finding(self, check: str, where: str, problem: str, clip: int | None = None) -> Finding:
        """Return a finding that is fixed by computing the shard again."""
        return Finding(check, where, problem, self.shard, clip, delete=record_key(RECORDS, self.shard))

    def beside(self, check: str, key: str, problem: str, clip: int | None = None) -> Finding:
        """Return a finding of an object that is made again from the rows of the shard: no recording is needed."""
        where = key if clip is None else f"clip {clip}"
        if check in ("mel", "bytes") and key.startswith(f"{MEL}/") and not self.store.spec.keeps_frames:
            return self.finding(check, where, problem, clip)  # only from the recordings
        return Finding(check, where, problem, self.shard, clip, delete="" if problem == _MISSING else key)


@dataclass(frozen=True, slots=True)
class ShardReport:
    """What the checks of one shard found.

    Attributes
    ----------
    sums : mapping of str to Sums
        Over the rows of the clips for training, and of the others, computed from the rows.
    versions : mapping of int to int
        Digests of the recordings that each clip was read from; empty where there is no valid record.
    fingerprint, left : str
        Of what the shard is made of, and of the mel statistics; empty where there is no valid record.
    n_bytes : int
        Bytes of the shard.

    """

    shard: int
    checked: tuple[Checked, ...]
    sums: Mapping[str, Sums]
    versions: Mapping[int, int]
    fingerprint: str
    left: str
    n_bytes: int


def shard_check(contents: Contents, shard: int) -> ShardCheck:
    """Gather what a worker needs to check one shard."""
    spans = contents.rows.spans(shard) if contents.rows else None
    clips = [span.clip for span in spans or ()]
    shard_rows = contents.store.layout.shard_rows
    n_rows = min(shard_rows, contents.n_rows - shard * shard_rows)
    bad, is_train = (tuple(of_clips[clips].tolist()) for of_clips in (contents.bad, contents.is_train))
    whole = tuple(
        not is_bad and span.n_rows == contents.rows.n_rows[span.clip]
        for span, is_bad in zip(spans or (), bad, strict=True)
        if contents.rows
    )
    return ShardCheck(contents.store, shard, n_rows, spans, bad, is_train, whole, contents.n_clips)


def check_shard(task: ShardCheck) -> ShardReport:
    """Check one shard."""
    record_at, next_at = record_key(RECORDS, task.shard), intent_key(task.shard)
    found = task.store.objects.get_all([*shard_keys(task.shard), record_at, next_at])
    features, row_clip = map(found.get, shard_keys(task.shard))
    records, record = _check_record(task, _choose_record(found.get(record_at), found.get(next_at), features))
    spans = spans_from_values(record.result) if record else None
    checked = [_check_status(task, record)] if task.spans is not None and record else []
    task = _as_recorded(task, record, spans) if record and spans is not None else task
    of_rows = task.of_rows()
    if record and spans is not None:
        found |= task.store.objects.get_all([key := mel_key(task.shard, record.stamp.fingerprint)])
    checked += [records, _check_unfinished(task, spans, has_intent=next_at in found), _check_bytes(task, found, record)]
    sums = dict.fromkeys((TRAIN, OTHER), no_sums(task.store.layout.n_features))
    if features is not None:
        by_chunk, sums = _check_rows(task, features, of_rows)
        checked += by_chunk
        if of_rows is not None and record and not any(part.findings for part in by_chunk):
            checked.append(Checked("statistics", 1, tuple(_sum_findings(task, record, sums))))
            if spans is not None and key in found:
                checked.append(_check_mel(task, features, spans, key, found[key]))
    if row_clip is not None and of_rows is not None:
        checked.append(Checked("row_clip", task.n_rows, tuple(_row_clip_findings(task, row_clip, of_rows["clip"]))))
    versions = {} if spans is None else dict(zip(spans["clip"].tolist(), spans["version"].tolist(), strict=True))
    known = (record.stamp.fingerprint, digest_left(record)) if record else ("", "")
    return ShardReport(task.shard, tuple(merge(checked).values()), sums, versions, *known, len(features or b""))


def _choose_record(record: bytes | None, intent: bytes | None, shard: bytes | None) -> bytes | None:
    """Return which of two records is of the shard that is there; the intent is there while it is replaced."""
    written = describe({"": shard or b""})[""]
    read = from_json(intent) if intent else None
    return intent if read and written in read.written.values() else record


def _as_recorded(task: ShardCheck, record: Record, spans: Spans) -> ShardCheck:
    """Return the check with what the record says of its clips: what columns say may be of another time."""
    ours = spans[spans["clip"] < task.n_clips]
    if task.spans is None:
        return task
    bad = tuple(clip in record.bad for clip in ours["clip"].tolist())
    whole = tuple(is_whole and not is_bad for is_whole, is_bad in zip(task.is_whole, bad, strict=True))
    return replace(task, bad=bad, is_train=tuple(ours["is_train"].astype(bool).tolist()), is_whole=whole)


def _check_record(task: ShardCheck, data: bytes | None) -> tuple[Checked, Record | None]:
    """Check the record; return it where it is valid."""
    key = record_key(RECORDS, task.shard)
    if data is None:
        return Checked("records", 1, (Finding("records", key, "is missing", task.shard),)), None
    record = from_json(data)
    if record is None or (problem := _record_problem(task, record)):
        text = problem if record else "cannot be read as a record"
        return Checked("records", 1, (task.finding("records", key, text),)), None
    return Checked("records", 1), record


def _record_problem(task: ShardCheck, record: Record) -> str:
    spans, groups = (
        spans_from_values(record.result),
        [record.result[name] for name in (TRAIN, OTHER) if name in record.result],
    )
    if spans is None or not groups or not all(map(from_values, groups)):
        return "cannot be read as a record"
    if record.stamp.task != task.shard:
        return f"is the record of shard {record.stamp.task}"
    if record.result.get("made") != task.store.made or record.stamp.fingerprint != digest_spans(task.store.made, spans):
        return "is of another table: of other features, or of other spans than it names"
    if task.spans is not None and (problem := _span_problem(task, spans)):
        return problem
    keys = {*shard_keys(task.shard), mel_key(task.shard, record.stamp.fingerprint)}
    return "" if record.written.keys() == keys else "is of other objects than this shard's"


def _span_problem(task: ShardCheck, spans: Spans) -> str:
    """Compare the spans of a record with what the columns say, but for those of an update that is not finished."""
    spans = spans[spans["clip"] < task.n_clips]
    there = list(zip(*(spans[name].tolist() for name in ("clip", "start", "stop", "row")), strict=True))
    wanted = [(span.clip, span.start, span.stop, span.row) for span in task.spans or ()]
    return "" if there == wanted else "is of other rows or clips than the columns say"


def _check_unfinished(task: ShardCheck, spans: Spans | None, *, has_intent: bool) -> Checked:
    """Find clips of an update that is not finished, and shards that it was about to replace."""
    n_more = 0 if spans is None or task.spans is None else int(np.count_nonzero(spans["clip"] >= task.n_clips))
    if not n_more and not has_intent:
        return Checked("finished", 0)
    what = f"has {numbered(n_more, 'clip')} more than the table" if n_more else "was about to be replaced"
    problem = f"{what}: an update is not finished; run the same command again"
    return Checked("finished", 0, (Finding("finished", record_key(RECORDS, task.shard), problem, task.shard),))


def _check_mel(task: ShardCheck, features: bytes, spans: Spans, key: str, data: bytes) -> Checked:
    """Compare the mel statistics of the clips that are whole in this shard with those of their rows."""
    rows, spec = decode_shard(features, task.store.layout), task.store.spec
    whole, found = [index for index, is_whole in enumerate(task.is_whole) if is_whole], list[Finding]()
    try:
        there = decode_chunk(data, (len(spans), len(MEL_STATISTICS), spec.n_mels))
    except ValueError as error:
        return Checked("mel", len(whole), (task.beside("mel", key, f"cannot be read: {error}"),))
    for index in whole:
        span = (task.spans or ())[index]
        of_clip = rows[span.row - task.first_row :][: span.n_rows]
        differ = _mel_difference(there[index], of_clip, spec)
        if not differ <= MOST_STATISTICS_DB:
            problem = f"its mel statistics differ from those of its rows by up to {differ:.3g} dB"
            found.append(task.beside("mel", key, problem, span.clip))
    return Checked("mel", len(whole), tuple(found))


def _mel_difference(statistics: FloatArray, rows: FloatArray, spec: FeatureSpec) -> float:
    """Return by how many dB statistics differ from those of the rows of a clip, beyond what rounding explains.

    Where rows leave frames out, only that none of them is above the maximum can be said.
    """
    frames = unstack_rows(rows, spec.frames, spec.stride)
    rounding = float(np.nanmax(np.abs(frames))) * rounding_of(spec)
    if spec.stride > 1:
        return float((np.nanmax(frames, axis=0) - statistics[-1]).max()) - rounding
    return float(np.abs(statistics - mel_statistics(frames)).max()) - rounding


def _check_bytes(task: ShardCheck, found: Mapping[str, bytes], record: Record | None) -> Checked:
    keys = shard_keys(task.shard) if record is None else tuple(record.written)
    problems = {key: _bytes_problem(found.get(key), record.written[key] if record else None) for key in keys}
    shard = shard_keys(task.shard)[0]
    findings = tuple(
        task.finding("bytes", key, problem) if key == shard else task.beside("bytes", key, problem)
        for key, problem in problems.items()
        if problem
    )
    return Checked("bytes", len(keys), findings)


def _bytes_problem(data: bytes | None, written: Written | None) -> str:
    if data is None:
        return _MISSING
    if written and len(data) != written.size:
        return f"has {len(data)} bytes, and had {written.size} when it was written"
    if written and hashlib.sha256(data).hexdigest() != written.sha256:
        return "has other bytes than when it was written: its SHA-256 differs"
    return ""


def _check_status(task: ShardCheck, record: Record) -> Checked:
    """Compare the column with the record: the record is that of the shard, the column is made of all records."""
    n_clips = sum(span.start == 0 for span in task.spans or ())  # one in several shards counts where it begins
    return Checked("status", n_clips, tuple(_status_findings(task, record)))


def _status_findings(task: ShardCheck, record: Record) -> Found:
    for span, is_bad in zip(task.spans or (), task.bad, strict=True):
        if is_bad != (span.clip in record.bad):
            accuser, other = ("status", "record") if is_bad else ("record", "status")
            problem = f"is bad by its {accuser}, and not by its {other}"
            yield Finding("status", f"clip {span.clip}", problem, task.shard, span.clip, delete=ALL_COLUMNS)


def _check_rows(task: ShardCheck, shard: bytes, of_rows: NDArray[Any] | None) -> tuple[list[Checked], dict[str, Sums]]:
    """Read all chunks and check their rows; sum them up, those of the clips for training and those of the others."""
    checked, sums = list[Checked](), {TRAIN: list[Sums](), OTHER: list[Sums]()}
    array = task.store.open_array(FEATURES, {shard_keys(task.shard)[0]: shard})
    for begin in range(0, task.n_rows, task.store.layout.chunk_rows):
        rows = slice(begin, min(begin + task.store.layout.chunk_rows, task.n_rows))
        # Whether an empty shard is fill values or an error depends on the version of zarr.
        values = _read(array, task.first_row, rows) if shard else "the shard is empty"
        if isinstance(values, str):
            problem = f"chunk {begin // task.store.layout.chunk_rows}, counted from 0, cannot be read: {values}"
            checked.append(Checked("chunks", 1, (task.finding("chunks", shard_keys(task.shard)[0], problem),)))
            continue
        checked.append(Checked("chunks", 1))
        if of_rows is not None:
            checked += _check_values(task, task.first_row + begin, values, of_rows[rows])
            is_train, good = of_rows["is_train"][rows], ~of_rows["bad"][rows]
            sums[TRAIN].append(_sum(values[is_train & good]))
            sums[OTHER].append(_sum(values[~is_train & good]))
    return checked, {name: add_sums(parts, task.store.layout.n_features) for name, parts in sums.items()}


def _read(array: Any, first: int, rows: slice) -> NDArray[Any] | str:  # noqa: ANN401  a zarr.Array
    """Read rows of a shard that begins with row `first`; return why where they cannot be read."""
    try:
        values = np.asarray(array[first + rows.start : first + rows.stop])
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  zarr and its codecs raise many types over damaged bytes
        return str(error).strip() or type(error).__name__
    return values.astype(np.float32) if values.dtype == np.float16 else values


def _check_values(task: ShardCheck, first: int, values: FloatArray, of_rows: NDArray[Any]) -> list[Checked]:
    """Check rows of one chunk, of which `first` is the first."""
    found = {
        "nan": _nan_findings(task, first, values, of_rows),
        "frames": _frame_findings(task, first, values, of_rows["clip"]),
    }
    if bounds := task.store.spec.bounds:
        found["range"] = _range_findings(task, first, values, bounds)
    return [Checked(check, len(values), tuple(findings)) for check, findings in found.items()]


def _nan_findings(task: ShardCheck, first: int, values: FloatArray, of_rows: NDArray[Any]) -> Found:
    """Find NaN and infinity in good clips, and anything else in bad ones."""
    is_bad = of_rows["bad"]
    wrong = np.asarray(~np.isfinite(values).all(axis=1))
    wrong[is_bad] = ~np.isnan(values[is_bad]).all(axis=1)
    for clip in np.unique(of_rows["clip"][wrong]).tolist():
        at = np.flatnonzero(wrong & (of_rows["clip"] == clip))
        what = "other values than NaN in a bad clip" if is_bad[at[0]] else "NaN or infinity in a good clip"
        rows = f"{numbered(len(at), 'row')} with {what}, the first is row {first + at[0]}"
        yield task.finding("nan", f"clip {clip}", rows, clip)


def _range_findings(task: ShardCheck, first: int, values: FloatArray, bounds: tuple[float, float]) -> Found:
    """Find dB beyond what the scale can give."""
    least, most = bounds
    if not (np.fmax.reduce(values, axis=None) > most or np.fmin.reduce(values, axis=None) < least):
        return
    outside = np.argwhere((values > most) | (values < least))
    row, feature = outside[0]
    hz = feature_frequencies(task.store.spec)[feature]
    where = f"the first in row {first + int(row)} at {hz:.0f} Hz: {values[row, feature]:g}"
    problem = f"{numbered(len(outside), 'value')} above {most:g} or below {least:g} dB, {where}"
    yield task.finding("range", shard_keys(task.shard)[0], problem)


def _frame_findings(task: ShardCheck, first: int, values: FloatArray, clip: NDArray[Any]) -> Found:
    """Compare each row with the next of the chunk: of the same clip, that is `stride` frames later."""
    step = task.store.spec.n_mels * task.store.spec.stride
    if step >= values.shape[1]:
        return
    differ = (values[:-1, step:] != values[1:, :-step]).any(axis=1) & (clip[:-1] == clip[1:])
    at = [row for row in np.flatnonzero(differ) if np.isfinite(values[row : row + 2]).all()]
    if at:
        later = "one frame" if task.store.spec.stride == 1 else f"{task.store.spec.stride} frames"
        rows = f"{numbered(len(at), 'row')} {be(len(at))} not the row before, {later} later"
        problem = f"{rows}; the first is row {first + int(at[0]) + 1}"
        yield task.finding("frames", shard_keys(task.shard)[0], problem)


def _sum(values: FloatArray) -> Sums:
    exact = values.astype(np.float64)
    return Sums(len(exact), exact.sum(axis=0), np.einsum("tf,tf->f", exact, exact))


def _sum_findings(task: ShardCheck, record: Record, sums: Mapping[str, Sums]) -> Found:
    spans = spans_from_values(record.result)
    if spans is None or (spans["clip"] >= task.n_clips).any():
        return  # its sums are also of clips of an update that is not finished
    noted = {name: from_values(record.result.get(name, {})) for name in sums}
    if not all(_are_same(noted[name], sums[name]) for name in sums):
        yield task.finding("statistics", record_key(RECORDS, task.shard), "its sums are not those of the shard's rows")


def _are_same(noted: Sums | None, sums: Sums) -> bool:
    if noted is None or noted.count != sums.count:
        return noted is None and not sums.count
    most = max(sums.count, 1) * MOST_STATISTICS_DB
    pairs = ((noted.total, sums.total), (noted.squares, sums.squares))
    return all(one.shape == other.shape and np.abs(one - other).max() <= most for one, other in pairs)


def _row_clip_findings(task: ShardCheck, chunk: bytes, expected: NDArray[Any]) -> Found:
    key = shard_keys(task.shard)[1]
    array = task.store.open_array(ROW_CLIP, {key: chunk})
    there = _read(array, task.first_row, slice(0, task.n_rows))
    if isinstance(there, str):
        yield task.beside("row_clip", key, f"cannot be read: {there}")
    elif (at := np.flatnonzero(there != expected)).size:
        row = int(at[0])
        problem = f"row {task.first_row + row} has clip {there[row]}, expected is clip {expected[row]}"
        yield task.beside("row_clip", key, problem)
