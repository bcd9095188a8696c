"""One task: the clips of a shard -> load -> mel -> dB -> stack -> write -> record."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimii.engine import Done, Record, Written, describe, record_key, to_json, withdraw
from mimii.features import FeatureSpec, FloatArray, Loaded, load_all, power_to_db, stack_frames
from mimii.table.encoding import encode_chunk, encode_shard
from mimii.table.keys import RECORDS, row_clip_key, shard_key
from mimii.table.statistics import Sums, add_sums, as_json, sum_stacked
from mimii.table.table import Part, ShardTask


@dataclass(frozen=True, slots=True)
class ClipFrames:
    """The frames of one clip that its rows in a shard are made of.

    Attributes
    ----------
    part : Part
        Which clip and which of its rows.
    decibel : ndarray of float32, shape (n_rows + frames - 1, n_mels), or None
        None where the clip could not be read.
    problem : str
        Why it could not; else empty.
    unread : bool
        Whether the fault may lie with the disk and not with the clip: then it is worth another try.

    """

    part: Part
    decibel: FloatArray | None
    problem: str = ""
    unread: bool = False


def extract_shard(task: ShardTask) -> Done:
    """Compute one shard of the table and write it, then its record.

    The same task writes the same bytes, always, so it may be done twice, or by two workers at once.
    """
    clips = [take_frames(part, loaded, task.spec) for part, loaded in zip(task.parts, load_all(task), strict=True)]
    shard = encode_shard((_rows(clip, task.spec) for clip in clips), task.layout)
    objects = {shard_key(task.shard): shard, row_clip_key(task.shard): encode_chunk(_row_clips(task))}
    key = record_key(RECORDS, task.shard)
    withdraw(task.output, key, task.stamp)
    task.output.put_all(objects)
    record = _record(task, clips, describe(objects))
    task.output.put(key, to_json(record))
    return Done(task.shard, task.n_ended, len(shard), record.bad)


def take_frames(part: Part, loaded: Loaded, spec: FeatureSpec) -> ClipFrames:
    """Turn the mel spectrogram of a clip into the frames that its rows are made of, in dB."""
    if loaded.mel is None:
        return ClipFrames(part, None, loaded.problem, loaded.unread)
    decibel = power_to_db(loaded.mel, spec)
    return ClipFrames(part, decibel[part.start : part.stop + spec.frames - 1])


def _rows(clip: ClipFrames, spec: FeatureSpec) -> FloatArray:
    if clip.decibel is None:
        return np.broadcast_to(np.float32(np.nan), (clip.part.stop - clip.part.start, spec.n_features))
    return stack_frames(clip.decibel, spec.frames)


def _row_clips(task: ShardTask) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    row_clip = np.full(task.layout.shard_rows, -1, np.int32)
    lengths = [part.stop - part.start for part in task.parts]
    row_clip[: sum(lengths)] = np.repeat([part.clip for part in task.parts], lengths)
    return row_clip


def _record(task: ShardTask, clips: Sequence[ClipFrames], written: dict[str, Written]) -> Record:
    bad = {clip.part.clip: clip.problem for clip in clips if clip.problem}
    unread = tuple(clip.part.clip for clip in clips if clip.unread)
    return Record(task.stamp, written, bad, unread, as_json(_sums(clips, task.spec)))


def _sums(clips: Sequence[ClipFrames], spec: FeatureSpec) -> Sums:
    counted = (clip.decibel for clip in clips if clip.decibel is not None and clip.part.counts)
    return add_sums((sum_stacked(decibel, spec.frames) for decibel in counted), spec.n_features)
