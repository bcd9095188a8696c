"""The mel statistics of all clips: collected from what the tasks have left, a chunk of clips at a time.

With ten million clips they are some gigabytes: never all of them are in memory.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.engine import record_key
from mimii.features import FeatureSpec
from mimii.storage import Objects
from mimii.table.columns import CLIPS_A_CHUNK, MEL_STATISTICS
from mimii.table.encoding import decode_chunk
from mimii.table.keys import RECORDS, mel_key
from mimii.table.plan import RowPlan

_OBJECTS_AT_ONCE = 64


class StatisticsError(OSError):
    """Mel statistics that a task has left, and that cannot be used; the message says which and what to do."""


def mel_chunk_key(name: str, chunk: int) -> str:
    """Return the key of a chunk of the mel statistics."""
    return f"{name}/c.{chunk}.0"


def describe_chunks(rows: RowPlan, n_mels: int, left: Mapping[int, str]) -> Iterator[str]:
    """Yield for each chunk of clips a digest of what it is collected from: what these shards' tasks have left."""
    n_clips = len(rows.n_rows)
    for first in range(0, n_clips, CLIPS_A_CHUNK):
        last = min(first + CLIPS_A_CHUNK, n_clips)
        content = [last, n_mels, *(left[shard] for shard in _shards_of(rows, first, last))]
        yield hashlib.sha256(str(content).encode()).hexdigest()[:16]


def collect_chunk(
    objects: Objects, rows: RowPlan, spec: FeatureSpec, chunk: int, fingerprints: Mapping[int, str]
) -> NDArray[np.float32]:
    """Collect one chunk of all statistics; shape (3, clips in a chunk, n_mels). NaN for clips that have none.

    Raises StatisticsError where a task's statistics are missing or damaged.
    """
    first = chunk * CLIPS_A_CHUNK
    values = np.full((len(MEL_STATISTICS), CLIPS_A_CHUNK, spec.n_mels), np.nan, np.float32)
    shards = _shards_of(rows, first, min(first + CLIPS_A_CHUNK, len(rows.n_rows)))
    for some in _batches(shards):
        keys = {shard: mel_key(shard, fingerprints[shard]) for shard in some}
        found = objects.get_all(keys.values())
        for shard, key in keys.items():
            clips = rows.clips_of(shard) - first
            try:
                of_shard = _read_statistics(found.get(key), len(clips), spec.n_mels)
            except ValueError as error:
                raise _error(objects.root, shard, key, error, spec) from error
            here = (clips >= 0) & (clips < CLIPS_A_CHUNK)
            values[:, clips[here]] = of_shard[here].transpose(1, 0, 2)
    return values


def _read_statistics(data: bytes | None, n_clips: int, n_mels: int) -> NDArray[np.float32]:
    """Return what a task has left of its clips; shape (n_clips, 3, n_mels)."""
    if data is None:
        msg = "they are missing"
        raise ValueError(msg)
    return decode_chunk(data, (n_clips, len(MEL_STATISTICS), n_mels))


def _error(root: str, shard: int, key: str, problem: ValueError, spec: FeatureSpec) -> StatisticsError:
    """Return what is wrong, and what to delete so that the statistics are made again: from rows where these do."""
    what = "this object" if spec.keeps_frames else f"{root}/{record_key(RECORDS, shard)}"
    return StatisticsError(
        f"{root}/{key}: the mel statistics of shard {shard} cannot be used: {problem}; delete {what} and run the same "
        "command again"
    )


def _shards_of(rows: RowPlan, first: int, last: int) -> range:
    """Return the shards that have rows of clips from `first` to before `last`."""
    begin, end = int(rows.first_row[first]), int(rows.first_row[last - 1] + rows.n_rows[last - 1])
    shard_rows = rows.layout.shard_rows
    return range(begin // shard_rows, math.ceil(end / shard_rows)) if end > begin else range(0)


def _batches(shards: range) -> Iterator[range]:
    for start in range(0, len(shards), _OBJECTS_AT_ONCE):
        yield shards[start : start + _OBJECTS_AT_ONCE]
