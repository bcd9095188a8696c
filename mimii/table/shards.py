"""The last step of a shard's partition: clips in dB -> rows -> the bytes of a shard -> its record.

Rows of clips that stay as they are come from the shard that is there, not from recordings, which may be gone.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Record, describe, from_json, make_record, record_key, to_json, withdraw
from mimii.features import ClipResult, FeatureSpec, FloatArray, mel_statistics, stack_frames, unstack_rows
from mimii.storage import Objects
from mimii.table.columns import MEL_STATISTICS
from mimii.table.encoding import decode_chunk, decode_shard, encode_chunk, encode_shard
from mimii.table.keys import MEL, RECORDS, intent_key, mel_key, row_clip_key, shard_key
from mimii.table.lost_statistics import make_again
from mimii.table.plan import Layout
from mimii.table.spans import find_same, spans_as_values, spans_from_values
from mimii.table.statistics import OTHER, TRAIN, Sums, add_sums, as_values, sum_rows
from mimii.table.table import ShardTask


class ShardError(OSError):
    """A shard whose rows are to stay, and cannot be read back; the message says which."""


@dataclass(frozen=True, slots=True)
class _Block:
    """What a shard needs of one of its clips: the frames of its rows in dB, None where they are NaN; statistics."""

    decibel: FloatArray | None
    statistics: FloatArray


def write_shard(partition: Iterable[ClipResult]) -> list[Record]:
    """Write the shard that the clips of a partition fill, then its record; return the record.

    Where one with a record is there, what the shard is about to become is recorded before it is replaced: whenever this
    is stopped, one of two records is of the shard that is there.
    """
    clips, blocks, there = list[ClipResult](), list[_Block](), None
    for clip in partition:  # enumerate would hold each one until the next is computed
        task: ShardTask = clip.task
        index = len(blocks)
        if clip.input.is_kept and there is None:
            there = _read_there(task)
        blocks.append(there.block(index) if there and clip.input.is_kept else _make_block(clip, index))
        clips.append(replace(clip, value=None))
        del clip  # and with it its frames
    objects = _encode(task, blocks)
    record = make_record(task.stamp, describe(objects), clips, _result(task, blocks))
    put = _replace if task.has_former else _put
    put(task, objects, record)
    return [record]


def _put(task: ShardTask, objects: dict[str, bytes], record: Record) -> None:
    key = record_key(RECORDS, task.stamp.task)
    withdraw(task.output, key, task.stamp)
    task.output.put_all(objects)
    task.output.put(key, to_json(record))


def _replace(task: ShardTask, objects: dict[str, bytes], record: Record) -> None:
    """Write in an order in which there is always a record of the shard, and the statistics that it names."""
    number, shard = task.stamp.task, shard_key(task.stamp.task)
    task.output.put_all({key: data for key, data in objects.items() if key.startswith(f"{MEL}/")})
    task.output.put(intent_key(number), to_json(record))
    task.output.put(shard, objects[shard])
    task.output.put_all({key: data for key, data in objects.items() if key != shard})
    task.output.put(record_key(RECORDS, number), to_json(record))
    task.output.delete(intent_key(number))


def _make_block(clip: ClipResult, index: int) -> _Block:
    """Keep only the frames that the rows of a span are made of, and the statistics of all frames of the clip."""
    task: ShardTask = clip.task
    if clip.fault:
        return _Block(None, np.full((len(MEL_STATISTICS), task.spec.n_mels), np.nan, np.float32))
    span, spec = task.spans[index], task.spec
    frames = clip.value[span["start"] * spec.stride : (span["stop"] - 1) * spec.stride + spec.frames]
    if 2 * len(frames) < len(clip.value):  # a view would keep all of them
        frames = frames.copy()
    return _Block(_rounded(frames, spec), mel_statistics(clip.value))


def _rounded(decibel: FloatArray, spec: FeatureSpec) -> FloatArray:
    """Return what the rows will hold: sums of rows that are read back are then the same."""
    return decibel if spec.dtype == "float32" else decibel.astype(spec.dtype).astype(np.float32)


@dataclass(frozen=True, slots=True)
class _There:
    """The shard that is there, and which of its spans is which of the new one."""

    rows: FloatArray
    statistics: FloatArray
    same: NDArray[np.intp]
    task: ShardTask

    def block(self, index: int) -> _Block:
        """Return what is there of a span that stays."""
        span, at = self.task.spans[index], self.same[index]
        if at < 0:
            raise _error(self.task, f"the rows of clip {span['clip']} are not there any more; run it again")
        begin = span["row"] - self.task.stamp.task * self.task.layout.shard_rows
        rows = self.rows[begin : begin + span["stop"] - span["start"]]
        return _Block(unstack_rows(rows, self.task.spec.frames, self.task.spec.stride), self.statistics[at])


def _read_there(task: ShardTask) -> _There:
    """Read the shard that is there, by the record that is of it."""
    number = task.stamp.task
    data = task.output.get(shard_key(number)) or b""
    record = read_record_of(task.output, number, data)
    spans = None if record is None else spans_from_values(record.result)
    if record is None or spans is None or record.result.get("made") != task.made:
        raise _error(task, "no record is of these bytes")
    stored = task.output.get(mel_key(number, record.stamp.fingerprint))
    shape = (len(spans), len(MEL_STATISTICS), task.spec.n_mels)
    try:
        rows = decode_shard(data, task.layout)
        statistics = make_again(task, record, spans, rows) if stored is None else decode_chunk(stored, shape)
    except ValueError as error:
        raise _error(task, f"damaged: {error}") from error
    if statistics is None:
        raise _error(task, "its mel statistics are missing")
    return _There(rows, statistics, find_same(task.spans, spans), task)


def _error(task: ShardTask, problem: str) -> ShardError:
    where = f"{task.output.root}/{shard_key(task.stamp.task)}"
    return ShardError(f"{where}: rows of it are to stay, but {problem}; python -m jobs.verify says more")


def read_record_of(objects: Objects, number: int, shard: bytes) -> Record | None:
    """Return the record, or the intent, that is of these bytes of a shard; None where neither is."""
    key = shard_key(number)
    there = describe({key: shard})[key]
    for data in objects.get_all([intent_key(number), record_key(RECORDS, number)]).values():
        record = from_json(data)
        if record and record.written.get(key) == there:
            return record
    return None


def _encode(task: ShardTask, blocks: Sequence[_Block]) -> dict[str, bytes]:
    number, spec = task.stamp.task, task.spec
    lengths = (task.spans["stop"] - task.spans["start"]).tolist()
    rows = (
        np.broadcast_to(np.float32(np.nan), (n_rows, spec.n_features))
        if block.decibel is None
        else stack_frames(block.decibel, spec.frames, spec.stride)
        for block, n_rows in zip(blocks, lengths, strict=True)
    )
    return {
        shard_key(number): encode_shard(rows, task.layout),
        row_clip_key(number): encode_chunk(_row_clips(task.spans["clip"], lengths, task.layout)),
        mel_key(number, task.stamp.fingerprint): encode_chunk(np.stack([block.statistics for block in blocks])),
    }


def _row_clips(clips: NDArray[np.int64], lengths: Sequence[int], layout: Layout) -> NDArray[np.int32]:
    row_clip = np.full(layout.shard_rows, -1, np.int32)
    row_clip[: sum(lengths)] = np.repeat(clips, lengths)
    return row_clip


def _result(task: ShardTask, blocks: Sequence[_Block]) -> dict[str, object]:
    """Return what a record keeps: how the shard was made, of what, and the sums of its rows."""
    is_train = task.spans["is_train"].astype(bool)
    groups = ((TRAIN, is_train), (OTHER, ~is_train))
    sums = {name: as_values(_sums(task, blocks, chosen)) for name, chosen in groups if chosen.any()}
    return {"made": task.made, "spans": spans_as_values(task.spans), **sums}


def _sums(task: ShardTask, blocks: Sequence[_Block], chosen: NDArray[np.bool_]) -> Sums:
    spec = task.spec
    good = (one.decibel for one, is_chosen in zip(blocks, chosen, strict=True) if is_chosen)
    return add_sums((sum_rows(one, spec.frames, spec.stride) for one in good if one is not None), spec.n_features)
