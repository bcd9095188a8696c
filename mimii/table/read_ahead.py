"""Shards are fetched and chunks decoded ahead, in threads: zarr's format is read here without zarr, which is faster.

Fetched shards stay compressed until their last chunk is taken. Decoded chunks have their place in a ring of blocks,
which is the memory of a whole run: a block that has been given away is filled anew.
"""

import threading
from collections import Counter
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import chain, islice

import numpy as np
from numpy.typing import NDArray

from mimii.storage import is_remote
from mimii.table.row_order import Mixing, Numbers
from mimii.table.row_source import FloatArray, RowSource, Shard

_AHEAD_ON_DISK, _AHEAD_FAR_AWAY = 4, 8
_NAME = "mimii-read"


class Threads:
    """The threads that fetch and decode."""

    def __init__(self, n_decoding: int, *, is_far_away: bool) -> None:
        self.is_far_away = is_far_away
        self.n_ahead = n_ahead = _AHEAD_FAR_AWAY if is_far_away else _AHEAD_ON_DISK
        self.fetching = ThreadPoolExecutor(n_ahead, thread_name_prefix=_NAME)
        self.decoding = ThreadPoolExecutor(n_decoding, thread_name_prefix=_NAME)

    def close(self) -> None:
        """Stop: what has not begun never does. What waits for a server is not waited for: it ends by itself."""
        waits = not self.is_far_away and not threading.current_thread().name.startswith(_NAME)
        self.fetching.shutdown(wait=waits, cancel_futures=True)
        self.decoding.shutdown(wait=waits, cancel_futures=True)


def start_threads(source: RowSource, n_decoding: int) -> Threads:
    """Return threads that read a table: more of them where each fetch waits for a server."""
    return Threads(n_decoding, is_far_away=is_remote(source.objects.root))


class Pool:
    """Memory for the decoded items of some blocks, and the clip of each item; items have numbers over all of it."""

    def __init__(self, mixing: Mixing, n_chunks: int, capacity: int, width: int) -> None:
        self.block_chunks, self.capacity = mixing.block_chunks, capacity
        self.n_slots = min(mixing.n_slots, -(-n_chunks // mixing.block_chunks))
        n_items = self.n_slots * self.block_chunks * capacity
        self.values = np.empty((n_items, width), np.float32)
        self.clip = np.empty(n_items, np.int32)

    def begin(self, position: int) -> int:
        """Return the number of the first item of the chunk that is number `position` in order."""
        return position % (self.n_slots * self.block_chunks) * self.capacity

    def place(self, position: int) -> FloatArray:
        """Return where the items of this chunk are."""
        begin = self.begin(position)
        return self.values[begin : begin + self.capacity]


class Shards:
    """Fetches shards in the order in which they are first needed, some ahead, and drops them after their last chunk."""

    def __init__(self, fetch: Callable[[int], Shard], shard_of: Numbers, threads: Threads) -> None:
        self._fetch, self._threads = fetch, threads
        self._left = Counter(shard_of.tolist())
        self._order = iter(dict.fromkeys(shard_of.tolist()))
        self._fetched: dict[int, Future[Shard]] = {}
        self._unused: set[int] = set()
        self._fetch_ahead()

    def take(self, shard: int) -> "Future[Shard]":
        """Return a shard for one of its chunks."""
        self._unused.discard(shard)
        self._fetch_ahead()
        while shard not in self._fetched:
            self._start(next(self._order))
            self._unused.discard(shard)
        self._left[shard] -= 1
        return self._fetched[shard] if self._left[shard] else self._fetched.pop(shard)

    def _fetch_ahead(self) -> None:
        for shard in islice(self._order, max(0, self._threads.n_ahead - len(self._unused))):
            self._start(shard)

    def _start(self, shard: int) -> None:
        self._fetched[shard] = self._threads.fetching.submit(self._fetch, shard)
        self._unused.add(shard)


class Reader:
    """Decodes the chunks of an epoch in order, block by block, into a pool."""

    def __init__(self, source: RowSource, chunks: Numbers, pool: Pool, threads: Threads, depth: int) -> None:
        self._source, self._chunks, self._pool, self._threads, self._depth = source, chunks, pool, threads, depth
        self._next = -1
        self._blocks: dict[int, list[Future[None]]] = {}

    @property
    def n_blocks(self) -> int:
        """Blocks in all."""
        return -(-len(self._chunks) // self._pool.block_chunks)

    def open(self, block: int) -> Numbers:
        """Return the numbers of the wanted items of a block, and note their clips: nothing is read."""
        found = []
        for position in self._positions(block):
            items, clip = self._source.items(int(self._chunks[position]))
            numbers = items + self._pool.begin(position)
            self._pool.clip[numbers] = clip
            found.append(numbers)
        return np.concatenate(found)

    def wait(self, step: int) -> None:
        """Wait until all blocks that leave in a step are decoded; while it is in use, others are."""
        if self._next < 0:
            self._next = max(0, step - self._depth + 1)
            begin = self._next * self._pool.block_chunks
            self._shards = Shards(
                self._source.fetch, self._chunks[begin:] // self._source.chunks_a_shard, self._threads
            )
        oldest = max(0, step - self._depth + 1)
        while self._next < min(oldest + self._pool.n_slots, self.n_blocks):
            self._blocks[self._next] = [self._decode(position) for position in self._positions(self._next)]
            self._next += 1
        for block in [block for block in self._blocks if block <= step]:
            for decoded in self._blocks.pop(block):
                decoded.result()

    def cancel(self) -> None:
        """Begin nothing more."""
        for decoded in chain.from_iterable(self._blocks.values()):
            decoded.cancel()

    def finish(self) -> None:
        """Wait until nothing is decoded any more: the memory may then be used anew. Errors are of no interest."""
        self.cancel()
        futures.wait(chain.from_iterable(self._blocks.values()))
        self._blocks.clear()

    def _positions(self, block: int) -> range:
        size = self._pool.block_chunks
        return range(block * size, min((block + 1) * size, len(self._chunks)))

    def _decode(self, position: int) -> "Future[None]":
        chunk = int(self._chunks[position])
        fetched = self._shards.take(chunk // self._source.chunks_a_shard)
        return self._threads.decoding.submit(_decode, self._source, fetched, chunk, self._pool.place(position))


def _decode(source: RowSource, fetched: "Future[Shard]", chunk: int, place: NDArray[np.float32]) -> None:
    source.decode(fetched.result(), chunk, place)
