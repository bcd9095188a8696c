"""The last step of a shard's partition: clips in dB -> rows -> the bytes of a shard -> its record."""

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Record, describe, make_record, record_key, to_json, withdraw
from mimii.features import ClipResult, FeatureSpec, FloatArray, stack_frames
from mimii.table.encoding import encode_chunk, encode_shard
from mimii.table.keys import RECORDS, row_clip_key, shard_key
from mimii.table.plan import RowSpan
from mimii.table.statistics import Sums, add_sums, as_values, sum_stacked
from mimii.table.table import ShardTask


def write_shard(partition: Iterable[ClipResult]) -> list[Record]:
    """Write the shard that the clips of a partition fill, then its record; return the record."""
    clips = [_keep(clip, clip.task.spans[index], clip.task.spec) for index, clip in enumerate(partition)]
    task: ShardTask = clips[0].task
    shard = encode_shard((_rows(*pair, task.spec) for pair in zip(clips, task.spans, strict=True)), task.layout)
    number, key = task.stamp.task, record_key(RECORDS, task.stamp.task)
    objects = {shard_key(number): shard, row_clip_key(number): encode_chunk(_row_clips(task))}
    withdraw(task.output, key, task.stamp)
    task.output.put_all(objects)
    record = make_record(task.stamp, describe(objects), clips, as_values(_sums(task, clips)))
    task.output.put(key, to_json(record))
    return [record]


def _keep(clip: ClipResult, span: RowSpan, spec: FeatureSpec) -> ClipResult:
    """Keep only the frames that the rows of a span are made of."""
    return replace(clip, value=None if clip.fault else clip.value[span.start : span.stop + spec.frames - 1])


def _rows(clip: ClipResult, span: RowSpan, spec: FeatureSpec) -> FloatArray:
    if clip.fault:
        return np.broadcast_to(np.float32(np.nan), (span.n_rows, spec.n_features))
    return stack_frames(clip.value, spec.frames)


def _row_clips(task: ShardTask) -> NDArray[np.int32]:
    row_clip = np.full(task.layout.shard_rows, -1, np.int32)
    lengths = [span.n_rows for span in task.spans]
    row_clip[: sum(lengths)] = np.repeat([span.clip for span in task.spans], lengths)
    return row_clip


def _sums(task: ShardTask, clips: Sequence[ClipResult]) -> Sums:
    counted = (clip.value for clip, counts in zip(clips, task.counted, strict=True) if counts and not clip.fault)
    return add_sums((sum_stacked(decibel, task.spec.frames) for decibel in counted), task.spec.n_features)
