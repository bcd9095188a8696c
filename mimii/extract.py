"""One task: the clips of a shard -> load -> mel -> dB -> stack -> write -> record."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np

from mimii import records
from mimii.audio import read_header, read_stretches
from mimii.features import FloatArray, mel_of_stretches, power_to_db, stack_frames
from mimii.keys import record_key, row_clip_key, shard_key
from mimii.problems import AudioError, unreadable
from mimii.reading import Opener, open_all
from mimii.records import Record, Sums
from mimii.s3 import StorageError
from mimii.shards import encode_chunk, encode_shard
from mimii.spec import FeatureSpec, n_rows
from mimii.table import Part, ShardTask

_BLOCK_BYTES = 1 << 20


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


@dataclass(frozen=True, slots=True)
class ShardDone:
    """What a task says of a shard that is now safely written.

    Attributes
    ----------
    shard : int
        Which.
    n_clips : int
        Clips whose last row it holds: over all shards each clip counts once.
    n_rows : int
        Its rows.
    bytes_written : int
        Bytes of the shard.
    bad : dict of int to str
        Which clips could not be read, and why.

    """

    shard: int
    n_clips: int
    n_rows: int
    bytes_written: int
    bad: dict[int, str]


def extract_shard(task: ShardTask) -> ShardDone:
    """Compute one shard of the table and write it, then its record.

    The same task writes the same bytes, always, so it may be done twice, or by two workers at once.

    Parameters
    ----------
    task : ShardTask
        What to compute and where to write it.

    Returns
    -------
    ShardDone
        A summary.

    Raises
    ------
    OSError
        If the store cannot be written. A recording that cannot be read raises nothing: its rows are NaN and the
        reason is in the record.

    """
    openers = open_all([part.place for part in task.parts], task.reach)
    clips = [load_frames(part, opener, task.spec) for part, opener in zip(task.parts, openers, strict=True)]
    shard = encode_shard((_rows(clip, task.spec) for clip in clips), task.layout)
    bad = {clip.part.clip: clip.problem for clip in clips if clip.problem}
    unread = tuple(clip.part.clip for clip in clips if clip.unread)
    task.output.delete(record_key(task.shard))  # one of other recordings must not vouch for these bytes
    task.output.put_all({shard_key(task.shard): shard, row_clip_key(task.shard): encode_chunk(_row_clips(task))})
    record = Record(
        task.fingerprint, task.shard, task.inputs, task.archives, len(shard), bad, _sums(clips, task.spec), unread
    )
    task.output.put(record_key(task.shard), records.to_json(record))
    rows = sum(part.stop - part.start for part in task.parts)
    return ShardDone(task.shard, count_ended(task), rows, len(shard), bad)


def load_frames(part: Part, opener: Opener, spec: FeatureSpec) -> ClipFrames:
    """Load one clip's channel and compute the frames that its rows are made of, in dB.

    Parameters
    ----------
    part : Part
        Which clip and which of its rows.
    opener : callable
        Opens the recording; of `open_all`.
    spec : FeatureSpec
        What to compute.

    Returns
    -------
    ClipFrames
        Frames ``part.start`` to ``part.stop + spec.frames - 1``, or the reason why there are none.

    Raises
    ------
    StorageError
        If S3 cannot be used: that is no fault of the recording.

    """
    try:
        with opener() as file:
            header = read_header(file)
            _check_planned(header.sample_rate, header.n_samples, part, spec)
            mel = mel_of_stretches(read_stretches(file, header, spec.channel), header.n_samples, spec)
            _read_rest(file)
        decibel = power_to_db(mel, spec)
    except AudioError as error:
        return ClipFrames(part, None, str(error))
    except StorageError:
        raise
    except OSError as error:
        return ClipFrames(part, None, unreadable(error), unread=True)
    except MemoryError:
        return ClipFrames(part, None, "not enough memory for it", unread=True)
    return ClipFrames(part, decibel[part.start : part.stop + spec.frames - 1])


def count_ended(task: ShardTask) -> int:
    """Count the clips whose last row is in a shard.

    Parameters
    ----------
    task : ShardTask
        Any.

    Returns
    -------
    int
        Over all shards of a table each clip counts once, also those that straddle two.

    """
    return sum(part.stop == n_rows(part.n_samples, task.spec) for part in task.parts)


def _check_planned(sample_rate: int, n_samples: int, part: Part, spec: FeatureSpec) -> None:
    if (sample_rate, n_samples) != (spec.sample_rate, part.n_samples):
        planned = f"{part.n_samples} samples at {spec.sample_rate} Hz"
        msg = (
            f"planned were {planned}, found were {n_samples} at {sample_rate} Hz: it changed while the job ran, or is "
            "unlike others of its size, and then --probe all helps"
        )
        raise AudioError(msg)


def _read_rest(file: BinaryIO) -> None:
    """Read to the end, where the checksum of an archive's member is compared."""
    while file.read(_BLOCK_BYTES):
        pass


def _rows(clip: ClipFrames, spec: FeatureSpec) -> FloatArray:
    if clip.decibel is None:
        return np.broadcast_to(np.float32(np.nan), (clip.part.stop - clip.part.start, spec.n_features))
    return stack_frames(clip.decibel, spec.frames)


def _row_clips(task: ShardTask) -> np.ndarray[tuple[int], np.dtype[np.int32]]:
    row_clip = np.full(task.layout.shard_rows, -1, np.int32)
    lengths = [part.stop - part.start for part in task.parts]
    row_clip[: sum(lengths)] = np.repeat([part.clip for part in task.parts], lengths)
    return row_clip


def _sums(clips: Sequence[ClipFrames], spec: FeatureSpec) -> Sums:
    counted = (clip.decibel for clip in clips if clip.decibel is not None and clip.part.counts)
    return records.add_sums((records.sum_stacked(decibel, spec.frames) for decibel in counted), spec.n_features)
