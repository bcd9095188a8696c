"""Which rows of the table each clip fills, and which shard holds them. Pure integers; nothing is read or written."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_LEAST_CHUNK_BYTES = 1 << 20
_MOST_CHUNK_BYTES = 4 * _LEAST_CHUNK_BYTES


@dataclass(frozen=True, slots=True)
class Layout:
    """How the rows of a table are cut up.

    Attributes
    ----------
    n_features : int
        Values in a row.
    chunk_rows : int
        Rows in an inner chunk, the least that a reader decompresses.
    shard_rows : int
        Rows in a shard, the least that a task writes; a multiple of `chunk_rows`.
    dtype : str
        Of the values: float32 or float16.

    """

    n_features: int
    chunk_rows: int
    shard_rows: int
    dtype: str = "float32"

    @property
    def row_bytes(self) -> int:
        """Bytes of one row."""
        return np.dtype(self.dtype).itemsize * self.n_features


@dataclass(frozen=True, slots=True)
class RowSpan:
    """Rows of one clip that lie side by side in the table.

    Attributes
    ----------
    clip : int
        Index of the clip.
    start, stop : int
        Which of the clip's rows.
    row : int
        The row of the table that `start` is.

    """

    clip: int
    start: int
    stop: int
    row: int

    @property
    def n_rows(self) -> int:
        """How many rows it has."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class RowPlan:
    """Where each clip's rows are.

    Attributes
    ----------
    layout : Layout
        Chunks and shards.
    first_row : ndarray of int64, shape (n_clips,)
        Each clip's first row in the table.
    n_rows : ndarray of int32, shape (n_clips,)
        How many rows each clip has.

    """

    layout: Layout
    first_row: NDArray[np.int64]
    n_rows: NDArray[np.int32]

    @property
    def total_rows(self) -> int:
        """Rows in the table."""
        return int(self.first_row[-1] + self.n_rows[-1]) if len(self.n_rows) else 0

    @property
    def n_shards(self) -> int:
        """Shards in the table."""
        return math.ceil(self.total_rows / self.layout.shard_rows)

    def spans(self, shard: int) -> tuple[RowSpan, ...]:
        """Return the spans that fill a shard, in order; IndexError if there is no such shard."""
        self.check_shard(shard)
        begin = shard * self.layout.shard_rows
        return tuple(self._spans(begin, min(begin + self.layout.shard_rows, self.total_rows)))

    def check_shard(self, shard: int) -> None:
        """Raise IndexError if there is no such shard."""
        if not 0 <= shard < self.n_shards:
            msg = f"no shard {shard}: there are {self.n_shards}"
            raise IndexError(msg)

    def clips_of(self, shard: int) -> NDArray[np.int64]:
        """Return the clips that have rows in a shard: as `spans`, but faster."""
        begin = shard * self.layout.shard_rows
        clips = self._between(begin, begin + self.layout.shard_rows)
        return clips.start + np.flatnonzero(self.n_rows[clips.start : clips.stop])

    def n_finished(self, shard: int) -> int:
        """Count the clips whose last row is in a shard: over all shards, each clip that has rows counts once."""
        clips = self.clips_of(shard)
        end = (shard + 1) * self.layout.shard_rows
        return int(np.count_nonzero(self.first_row[clips] + self.n_rows[clips] <= end))

    def _between(self, begin: int, end: int) -> range:
        """Return the clips that may have some of these rows: those that do, and ones that have none at all."""
        first = int(np.searchsorted(self.first_row, begin, side="right")) - 1
        return range(first, int(np.searchsorted(self.first_row, end, side="left")))

    def _spans(self, begin: int, end: int) -> Iterator[RowSpan]:
        for clip in self._between(begin, end):
            first, count = int(self.first_row[clip]), int(self.n_rows[clip])
            start, stop = max(begin - first, 0), min(end - first, count)
            if start < stop:
                yield RowSpan(clip, start, stop, first + start)


def choose_layout(
    n_rows: Sequence[int] | NDArray[np.integer], n_features: int, shard_bytes: int, dtype: str = "float32"
) -> Layout:
    """Choose the lengths of chunks and shards.

    A chunk is at least 1 MiB and a shard at most `shard_bytes`, but at least one chunk. Where clips are short, both
    are multiples of the commonest clip's rows, so that clips of that length never straddle two shards.
    """
    row_bytes = np.dtype(dtype).itemsize * n_features
    common = _commonest(np.asarray(n_rows))
    chunk_rows = _chunk_rows(common, math.ceil(_LEAST_CHUNK_BYTES / row_bytes), _MOST_CHUNK_BYTES // row_bytes)
    step = math.lcm(chunk_rows, common)
    if step * row_bytes > shard_bytes:
        step = chunk_rows
    return Layout(n_features, chunk_rows, step * max(1, shard_bytes // (step * row_bytes)), dtype)


def plan_rows(n_rows: Sequence[int] | NDArray[np.integer], layout: Layout) -> RowPlan:
    """Give each clip its rows, one clip after the other."""
    counts = np.asarray(n_rows, np.int32)
    return RowPlan(layout, np.cumsum(counts, dtype=np.int64) - counts, counts)


def _commonest(n_rows: NDArray[np.integer]) -> int:
    used = n_rows[n_rows > 0]
    values, counts = np.unique(used, return_counts=True)
    return int(values[counts.argmax()]) if len(values) else 1


def _chunk_rows(common: int, least: int, most: int) -> int:
    """Return a multiple of `common` or, where that is long, a divisor of it: the smallest of at least `least` rows."""
    if common <= least:
        return common * math.ceil(least / common)
    return next((rows for rows in range(least, min(most, common) + 1) if common % rows == 0), least)
