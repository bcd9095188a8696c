"""In which order the rows of a table are given to a learner: pure integers, nothing is read.

Shards are taken in random order, and some of them are open at a time: the next chunk is one of theirs. Chunks are
decoded in blocks, and each item of a block (a row or a frame) waits for a random number of steps, less than
`Mixing.depth`, before it leaves. So an item may meet those of `depth` blocks. Seed and epoch decide the order.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

SHARDS_MIXED = 16
"""Shards of which chunks are taken at a time."""

_BLOCKS = 16
_LEAST_BYTES = 1 << 20  # of a chunk: frames have fewer, but all of the chunk is decoded for them
_BLOCKS_AHEAD = 2

_SHARDS, _CHUNKS, _DELAYS = 1, 2, 3  # first word of the seed, so that no two purposes have the same random numbers

Numbers = NDArray[np.intp]


class Share(NamedTuple):
    """Which part of the shards is read: this one of `total` parts, which have no shard in common."""

    number: int = 0
    total: int = 1


ALL_SHARDS = Share()


def share_of(rank: int, n_ranks: int, worker: int, n_workers: int) -> Share:
    """Return the share of a worker of a rank. A rank has the same shards with any number of workers."""
    return Share(worker * n_ranks + rank, n_ranks * n_workers)


def rounds(counts: Sequence[int], n: int) -> list[int]:
    """Return how many of the first `n` batches come from each worker.

    Workers take turns in the order of their numbers; one that has given all of its `counts` is left out.
    """
    given = [0] * len(counts)
    left = n
    while left and (active := [one for one, most in enumerate(counts) if given[one] < most]):
        turns = max(1, min(left // len(active), *(counts[one] - given[one] for one in active)))
        for one in active[:left]:
            given[one] += turns
            left -= turns
    return given


def next_worker(counts: Sequence[int], n: int) -> int:
    """Return which worker gives the batch behind the first `n`."""
    given = rounds(counts, n)
    active = [one for one, most in enumerate(counts) if given[one] < most]
    return min(active, key=given.__getitem__, default=0)  # the first one that has had a turn less than others


def equal_counts(counts_of_ranks: Sequence[Sequence[int]]) -> list[list[int]]:
    """Return how many batches each worker of each rank gives, so that all ranks give as many as the one with least."""
    least = min(map(sum, counts_of_ranks))
    return [rounds(counts, least) for counts in counts_of_ranks]


@dataclass(frozen=True, slots=True)
class Mixing:
    """How much is mixed, which is also how much is in memory.

    Attributes
    ----------
    block_chunks : int
        Chunks that are decoded and released together.
    depth : int
        Blocks whose items may leave in the same step.
    shards : int
        Shards that are open at a time.

    """

    block_chunks: int
    depth: int
    shards: int = SHARDS_MIXED

    @property
    def n_slots(self) -> int:
        """Blocks for which there is memory: those that are mixed, and those that are decoded meanwhile."""
        return self.depth + _BLOCKS_AHEAD


def choose_mixing(chunk_bytes: int, pool_bytes: int, *, shuffle: bool) -> Mixing:
    """Return what fits into the memory of a pool, where a decoded chunk has so many bytes; at least one chunk does."""
    block_chunks = max(1, pool_bytes // (_BLOCKS * max(chunk_bytes, _LEAST_BYTES)))
    if not shuffle:
        return Mixing(block_chunks, depth=1, shards=1)
    n_blocks = min(pool_bytes // (block_chunks * chunk_bytes), _BLOCKS)
    return Mixing(block_chunks, max(1, n_blocks - _BLOCKS_AHEAD))


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over a table: the same numbers are the same order, on any machine.

    Attributes
    ----------
    seed, number : int
        Another one of either is another order.
    share : Share
        Which shards are read; those of a share differ from epoch to epoch.
    shuffle : bool
        Whether the order is random; else it is that of the table.

    """

    seed: int
    number: int
    share: Share
    shuffle: bool

    def order_chunks(self, shard_of_chunk: Numbers, n_mixed: int) -> Numbers:
        """Return which chunks are read, in order; `shard_of_chunk` is the shard of each, ascending.

        Chunks of the shard that is number k in order come anywhere among those of the `n_mixed` shards behind it.
        """
        shards, index = np.unique(shard_of_chunk, return_inverse=True)
        place = np.full(len(shards), -1)
        mine = self._order(len(shards))[self.share.number :: self.share.total]
        place[mine] = np.arange(len(mine))
        chosen = np.flatnonzero(place[index] >= 0)
        if not self.shuffle:
            return chosen
        delay = n_mixed * self._random(_CHUNKS, self.share.number).random(len(chosen))
        return chosen[np.argsort(place[index[chosen]] + delay, kind="stable")]

    def deal(self, n_shards: int) -> Numbers:
        """Return the number of the share that each shard belongs to: `order_chunks` reads those of its own."""
        share = np.empty(n_shards, np.intp)
        share[self._order(n_shards)] = np.arange(n_shards) % self.share.total
        return share

    def steps(self, n_blocks: int, depth: int, items_of: Callable[[int], Numbers]) -> Iterator[tuple[int, Numbers]]:
        """Yield steps, and the items that leave in each: those of this block and of the `depth` - 1 before it.

        The first step waits until the pool is half full, or has all that there is, and the last one empties it: both
        have more items than others.
        """
        if not n_blocks:
            return
        last = n_blocks - 1
        first = last if n_blocks <= depth else depth // 2
        waiting: dict[int, list[Numbers]] = defaultdict(list)
        for block in range(n_blocks):
            items, rng = items_of(block), self._random(_DELAYS, self.share.number, block)
            delay = np.clip(rng.integers(0, depth, len(items)), first - block, last - block)
            for steps, some in _parted(items, delay):
                waiting[block + steps].append(some)
            if block >= first:
                leaving = np.concatenate(waiting.pop(block, [items[:0]]))
                if self.shuffle:
                    rng.shuffle(leaving)
                yield block, leaving

    def _order(self, n_shards: int) -> Numbers:
        return self._random(_SHARDS).permutation(n_shards) if self.shuffle else np.arange(n_shards)

    def _random(self, purpose: int, *which: int) -> np.random.Generator:
        return np.random.default_rng([purpose, self.seed, self.number, *which])


def _parted(items: Numbers, part_of: Numbers) -> Iterator[tuple[int, Numbers]]:
    """Yield the number of each part that there is, and the items in it."""
    order = np.argsort(part_of.astype(np.uint8), kind="stable")
    parts, starts = np.unique(part_of[order], return_index=True)
    stops = [*starts[1:].tolist(), len(items)]
    yield from zip(parts.tolist(), map(items[order].__getitem__, map(slice, starts.tolist(), stops)), strict=False)
