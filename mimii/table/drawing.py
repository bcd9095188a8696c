"""Batches of a table, drawn in an order that a seed decides, and resumed in the middle of it."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import count, islice
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from mimii.table.read_ahead import Pool, Reader, Threads, start_threads
from mimii.table.row_order import ALL_SHARDS, Epoch, Mixing, Numbers, Share, choose_mixing
from mimii.table.row_source import RowSource

POOL_MIB = 160
"""Decoded rows of which batches are drawn, MiB."""

N_THREADS = 2


class Batch(NamedTuple):
    """Some rows of a table, or some of its single frames.

    Attributes
    ----------
    features : ndarray of float32, shape (n, n_features), or (n, n_mels) of frames
        dB, or without unit where they are normalized.
    label : ndarray of int8, shape (n,)
        0 normal, 1 abnormal, -1 unknown.
    clip : ndarray of int32, shape (n,)
        Index of the clip that each row is from.
    columns : dict of ndarray, each of shape (n, ...)
        The columns asked for, by name: the value of each row's clip.

    """

    features: NDArray[np.float32]
    label: NDArray[np.int8]
    clip: NDArray[np.int32]
    columns: dict[str, NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Drawing:
    """How batches are drawn.

    Attributes
    ----------
    batch_size : int
        Items in a batch; the last one of an epoch may have fewer.
    shuffle, seed, epochs
        As in `batches`.
    share : Share
        Which shards are read.
    most : int or None
        Batches of an epoch, at most.
    pool_bytes, n_threads : int
        Memory for decoded items, and threads that decode.

    """

    batch_size: int
    shuffle: bool = True
    seed: int = 0
    epochs: int | None = 1
    share: Share = ALL_SHARDS
    most: int | None = None
    pool_bytes: int = POOL_MIB << 20
    n_threads: int = N_THREADS


class Place(NamedTuple):
    """Where in its order an iterator is: which epoch, and how many of its batches have been given out."""

    epoch: int
    batch: int


BEGINNING = Place(0, 0)

NewRows = Callable[[int, int], NDArray[np.float32]]
"""Returns memory for so many rows of so many values."""


def new_rows(n_rows: int, width: int) -> NDArray[np.float32]:
    """Return memory for the rows of a batch."""
    return np.empty((n_rows, width), np.float32)


class Batches(Iterator[Batch]):
    """Batches of a table, one after the other; what `batches` and `frames` return.

    Iterating again after the last batch begins the next epochs, as many as before.

    Iterating reads ahead in threads, which end with the last batch, with `close`, or when the iterator is no longer
    used.

    Attributes
    ----------
    n_items : int
        Rows, or frames, of an epoch: those of all shares.

    """

    def __init__(
        self, source: RowSource, drawing: Drawing, place: Place = BEGINNING, new_rows: NewRows = new_rows
    ) -> None:
        self._source, self._drawing, self._place, self._new_rows = source, drawing, place, new_rows
        self._counts = source.count_items()
        self.n_items = int(self._counts.sum())
        self._found: Iterator[tuple[Place, Batch]] | None = None
        self._more = (drawing.epochs or 0) - place.epoch
        self._is_done = False

    def __iter__(self) -> Self:
        if self._is_done:
            done = self._drawing.epochs or 0
            self.close()
            self._drawing, self._place = replace(self._drawing, epochs=done + self._more), Place(done, 0)
        return self

    def __next__(self) -> Batch:
        if self._found is None:
            self._found = _draw(self._source, self._counts, self._drawing, self._place, self._new_rows)
        try:
            self._place, batch = next(self._found)
        except StopIteration:
            self._is_done = True
            raise
        except BaseException:  # iterating again resumes behind the last batch
            self._found = None
            raise
        return batch

    def __len__(self) -> int:
        """Return the batches of one epoch, where it is read by one process."""
        return math.ceil(self.n_items / self._drawing.batch_size)

    def close(self) -> None:
        """End the threads; iterating again resumes behind the last batch."""
        self._found, self._is_done = None, False

    @cached_property
    def _content(self) -> str:
        return self._source.digest()

    def state_dict(self) -> dict[str, Any]:
        """Return where the iterator is: small values, which JSON and pickle can keep."""
        drawing = self._drawing
        settings = {"batch_size": drawing.batch_size, "shuffle": drawing.shuffle, "seed": drawing.seed}
        more = {"share": list(drawing.share), "pool_bytes": drawing.pool_bytes, "content": self._content}
        return {**self._place._asdict(), **settings, **more}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume where another iterator was, bit for bit; ValueError where it had other rows or another order."""
        now = self.state_dict()
        if missing := sorted(now.keys() - state.keys()):
            msg = f"not a state of batches: it lacks {', '.join(missing)}"
            raise ValueError(msg)
        for name in now.keys() - set(Place._fields):
            there = list(state[name]) if name == "share" else state[name]
            if there != now[name]:
                what = "other rows are read, or the table has changed" if name == "content" else f"{name} differs"
                msg = f"the state is of other batches: {what} ({there} there, {now[name]} here)"
                raise ValueError(msg)
        self.close()
        self._place = Place(int(state["epoch"]), int(state["batch"]))
        if self._drawing.epochs is not None:  # those that were begun when the state was taken
            epochs = self._more * (self._place.epoch // self._more + 1)
            self._drawing = replace(self._drawing, epochs=epochs)


def _draw(
    source: RowSource, counts: Numbers, drawing: Drawing, place: Place, new_rows: NewRows
) -> Iterator[tuple[Place, Batch]]:
    """Yield batches behind a place, with where each of them ends. It knows no iterator, and so ends with it."""
    capacity = int(counts.max()) if source.single_frames else source.layout.chunk_rows
    mixing = choose_mixing(4 * capacity * source.width, drawing.pool_bytes, shuffle=drawing.shuffle)
    pool = Pool(mixing, int(np.count_nonzero(counts)), capacity, source.width)
    epochs = count(place.epoch) if drawing.epochs is None else range(place.epoch, drawing.epochs)
    threads = start_threads(source, drawing.n_threads)
    try:
        run = _Run(source, counts, drawing, mixing, pool, threads, new_rows)
        for epoch in epochs:
            done = place.batch if epoch == place.epoch else 0
            yield from ((Place(epoch, number), batch) for number, batch in enumerate(run.draw(epoch, done), done + 1))
    finally:
        threads.close()


class _Run(NamedTuple):
    """What all epochs of an iterator have in common."""

    source: RowSource
    counts: Numbers
    drawing: Drawing
    mixing: Mixing
    pool: Pool
    threads: Threads
    new_rows: NewRows

    def draw(self, number: int, n_done: int) -> Iterator[Batch]:
        """Yield the batches of an epoch but the first ones."""
        source, drawing = self.source, self.drawing
        epoch = Epoch(drawing.seed, number, drawing.share, drawing.shuffle)
        chunks = choose_chunks(self.counts, source.chunks_a_shard, epoch, self.mixing.shards)
        reader = Reader(source, chunks, self.pool, self.threads, self.mixing.depth)
        try:
            found = self._gather(self._steps(epoch, reader, n_done * drawing.batch_size))
            yield from islice(found, None if drawing.most is None else max(0, drawing.most - n_done))
        except BaseException:  # one that is closed, too: what waits for a server is not waited for
            reader.cancel()
            raise
        reader.finish()

    def _steps(self, epoch: Epoch, reader: Reader, n_skipped: int) -> Iterator[Numbers]:
        """Yield the items of each step when they are decoded; of those that are skipped, nothing is read."""
        for step, items in epoch.steps(reader.n_blocks, self.mixing.depth, reader.open):
            if n_skipped >= len(items):
                n_skipped -= len(items)
            else:
                reader.wait(step)
                yield items[n_skipped:]
                n_skipped = 0

    def _gather(self, steps: Iterator[Numbers]) -> Iterator[Batch]:
        """Copy items out of the pool before the next step, which may overwrite them."""
        size, filled = self.drawing.batch_size, 0
        features, clip = self._new()
        for items in steps:
            for some in _pieces(items, size - filled, size):
                stop = filled + len(some)
                self.pool.values.take(some, axis=0, out=features[filled:stop], mode="clip")
                self.pool.clip.take(some, out=clip[filled:stop], mode="clip")
                filled = stop
                if filled == size:
                    yield self._finished(features, clip)
                    (features, clip), filled = self._new(), 0
        if filled:
            yield self._finished(features[:filled].copy(), clip[:filled].copy())

    def _new(self) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
        size = min(self.drawing.batch_size, int(self.counts.sum()))
        return self.new_rows(size, self.source.width), np.empty(size, np.int32)

    def _finished(self, features: NDArray[np.float32], clip: NDArray[np.int32]) -> Batch:
        columns = {name: column[clip] for name, column in self.source.columns.items()}
        return Batch(features, self.source.label[clip], clip, columns)


def count_items_of_shards(source: RowSource) -> Numbers:
    """Count the items of each shard that has any, in the order of the table."""
    counts = source.count_items()
    items = np.add.reduceat(counts, np.arange(0, len(counts), source.chunks_a_shard))
    return items[items > 0]


def count_batches(items_of_shards: Numbers, drawing: Drawing, epoch: int, n_shares: int) -> list[int]:
    """Return how many batches each share has in an epoch."""
    order = Epoch(drawing.seed, epoch, Share(0, n_shares), drawing.shuffle)
    share_of_shard = order.deal(len(items_of_shards))
    items = np.bincount(share_of_shard, items_of_shards, n_shares)
    return [math.ceil(n / drawing.batch_size) for n in items.tolist()]


def choose_chunks(counts: Numbers, chunks_a_shard: int, epoch: Epoch, n_mixed: int) -> Numbers:
    """Return the chunks of which any item is wanted, in the order of an epoch."""
    wanted = np.flatnonzero(counts)
    return wanted[epoch.order_chunks(wanted // chunks_a_shard, n_mixed)]


def _pieces(items: Numbers, first: int, size: int) -> Iterator[Numbers]:
    """Cut items into a piece that has at most `first`, and others that have at most `size`."""
    begin, stop = 0, first
    while begin < len(items):
        yield items[begin:stop]
        begin, stop = stop, stop + size
