"""What is read of a table for training: which rows, of which chunks, and how a chunk becomes rows or single frames."""

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.storage import Objects
from mimii.table.encoding import decode_chunk_of, read_index
from mimii.table.keys import shard_key
from mimii.table.plan import Layout, RowPlan
from mimii.table.reading import read_finished
from mimii.table.row_order import Numbers

FloatArray = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Shard:
    """A shard as it is stored, with offset and length of each of its chunks."""

    number: int
    data: bytes
    index: list[tuple[int, int]]


@dataclass(frozen=True, slots=True)
class Scale:
    """What is subtracted from each value of an item, and what it is divided by."""

    mean: FloatArray
    std: FloatArray

    def apply(self, values: FloatArray) -> None:
        """Normalize values in their place."""
        np.subtract(values, self.mean, out=values)
        np.divide(values, self.std, out=values)


@dataclass(frozen=True, slots=True)
class RowSource:
    """The rows of some clips of a table, or their single frames; it can be sent to other processes.

    An item is a row or a frame. Those of a chunk have numbers: rows the number that they have in it, frames are
    counted over the clips that are wanted.

    Attributes
    ----------
    objects : Objects
        Of the table.
    fingerprint : str
        Of the table when it was opened.
    layout : Layout
        Of its features.
    spec : FeatureSpec
        What its rows are.
    first_row, n_rows : ndarray, shape (n_clips,)
        The rows of each clip.
    wanted : ndarray of bool, shape (n_clips,)
        Which clips are read.
    label : ndarray of int8, shape (n_clips,)
        0 normal, 1 abnormal, -1 unknown.
    columns : mapping
        Other columns of the clips that are asked for.
    scale : Scale or None
        How values are normalized.
    single_frames : bool
        Whether frames are read, each once, and not rows.

    """

    objects: Objects
    fingerprint: str
    layout: Layout
    spec: FeatureSpec
    first_row: NDArray[np.int64]
    n_rows: NDArray[np.int32]
    wanted: NDArray[np.bool_]
    label: NDArray[np.int8]
    columns: Mapping[str, NDArray[Any]]
    scale: Scale | None
    single_frames: bool

    @property
    def width(self) -> int:
        """Values of an item."""
        return self.spec.n_mels if self.single_frames else self.layout.n_features

    @property
    def chunks_a_shard(self) -> int:
        """Chunks in a shard."""
        return self.layout.shard_rows // self.layout.chunk_rows

    @property
    def frames_a_row(self) -> int:
        """Frames that a row has and the row before has not."""
        return min(self.spec.stride, self.spec.frames)

    def count_items(self) -> Numbers:
        """Count the items that are wanted of each chunk of the table, shape (n_chunks,)."""
        size, total = self.layout.chunk_rows, int(self.first_row[-1] + self.n_rows[-1])
        edges = np.minimum(np.arange(-(-total // size) + 1) * size, total)
        done = np.cumsum(np.where(self.wanted, self.n_rows, 0))
        clip = np.searchsorted(self.first_row, edges, side="right") - 1
        here = np.minimum(edges - self.first_row[clip], self.n_rows[clip])
        before = done[clip] - np.where(self.wanted[clip], self.n_rows[clip] - here, 0)
        n_rows: Numbers = np.diff(before)
        if not self.single_frames:
            return n_rows
        ended = self.wanted & (self.n_rows > 0)
        last = (self.first_row + self.n_rows - 1)[ended] // size
        more = self.spec.frames - self.frames_a_row
        return n_rows * self.frames_a_row + more * np.bincount(last, minlength=len(n_rows))

    def items(self, chunk: int) -> tuple[Numbers, NDArray[np.int32]]:
        """Return the numbers of the items of a chunk that are wanted, and the clip of each."""
        clips, starts, stops = self._spans(chunk)
        if self.single_frames:
            clip = np.repeat(clips, self._frame_counts(clips, starts, stops))
            return np.arange(len(clip)), clip
        clip = np.repeat(clips, stops - starts)
        begins = starts - chunk * self.layout.chunk_rows
        return np.repeat(begins - np.cumsum(stops - starts) + stops - starts, stops - starts) + np.arange(
            len(clip)
        ), clip

    def fetch(self, shard: int) -> Shard:
        """Read a shard as it is stored; OSError where it is missing or its index is damaged."""
        data = self.objects.get(shard_key(shard))
        if data is None:
            is_other = read_finished(self.objects).attributes.get("fingerprint") != self.fingerprint
            why = "the table has changed since it was opened: open it again" if is_other else "this shard is missing"
            msg = f"{self._name(shard)}: {why}"
            raise FileNotFoundError(msg)
        return Shard(shard, data, self._checked(shard, lambda: read_index(data, self.layout)))

    def decode(self, shard: Shard, chunk: int, out: FloatArray) -> None:
        """Put the items of a chunk where they are wanted, shape (at least the items of the chunk, width)."""
        place = shard.index[chunk % self.chunks_a_shard]
        shape = (self.layout.chunk_rows, self.layout.n_features)
        rows = np.empty(shape, np.float32) if self.single_frames else out[: shape[0]]
        self._checked(shard.number, lambda: decode_chunk_of(shard.data, place, rows, self.layout.dtype))
        values = self._put_frames(rows, chunk, out) if self.single_frames else rows
        if self.scale:
            self.scale.apply(values)

    def digest(self) -> str:
        """Digest what is read: the same for the same items in the same chunks."""
        content = (
            self.fingerprint,
            self.layout,
            self.spec,
            self.single_frames,
            self.scale is not None,
            self.count_items().tolist(),
        )
        return hashlib.sha256(repr(content).encode() + np.packbits(self.wanted).tobytes()).hexdigest()[:16]

    def _spans(self, chunk: int) -> tuple[NDArray[np.int32], Numbers, Numbers]:
        """Return the wanted clips that have rows in a chunk, and which rows of the table these are."""
        layout = Layout(self.layout.n_features, 1, self.layout.chunk_rows)
        clips = RowPlan(layout, self.first_row, self.n_rows).clips_of(chunk)
        clips = clips[self.wanted[clips]]
        begin, first = chunk * layout.shard_rows, self.first_row[clips]
        starts, stops = np.maximum(first, begin), np.minimum(first + self.n_rows[clips], begin + layout.shard_rows)
        return clips.astype(np.int32), starts, stops

    def _frame_counts(self, clips: NDArray[np.int32], starts: Numbers, stops: Numbers) -> Numbers:
        """Count the frames of spans of clips: that of a clip's last row has all frames of this row."""
        is_last = stops == self.first_row[clips] + self.n_rows[clips]
        counts: Numbers = (stops - starts) * self.frames_a_row + is_last * (self.spec.frames - self.frames_a_row)
        return counts

    def _put_frames(self, rows: FloatArray, chunk: int, out: FloatArray) -> FloatArray:
        clips, starts, stops = self._spans(chunk)
        counts, begin = self._frame_counts(clips, starts, stops), chunk * self.layout.chunk_rows
        done, new, n_mels = 0, self.frames_a_row, self.spec.n_mels
        for start, stop, count in zip(
            (starts - begin).tolist(), (stops - begin).tolist(), counts.tolist(), strict=True
        ):
            middle = done + (stop - start) * new
            out[done:middle].reshape(stop - start, new, n_mels)[:] = rows[start:stop, : new * n_mels].reshape(
                stop - start, new, n_mels
            )
            out[middle : done + count] = rows[stop - 1].reshape(-1, n_mels)[new : new + done + count - middle]
            done += count
        return out[:done]

    def _checked(self, shard: int, act: Callable[[], Any]) -> Any:  # noqa: ANN401  what it returns
        try:
            return act()
        except (ValueError, TypeError, RuntimeError) as error:
            msg = f"{self._name(shard)}: damaged: {error}; python -m jobs.verify says more"
            raise OSError(msg) from error

    def _name(self, shard: int) -> str:
        return f"{self.objects.root}/{shard_key(shard)}"
