"""Open recordings wherever they are; those that are far away are fetched ahead, a window of them at a time."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, BinaryIO, NamedTuple

from mimii.storage import s3, zips
from mimii.storage.access import DEFAULT_ACCESS, Access
from mimii.storage.places import Place, is_remote

MOST_WHOLE = 64 << 20
"""Recordings up to so many bytes are read whole; larger ones bit by bit."""

_MOST_AHEAD = 64 << 20
_SMALL_BLOCK, _MIDDLING_BLOCK, _LARGE_BLOCK = 1 << 16, 1 << 20, 8 << 20
_BLOCKS_KEPT = 4

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How to fetch recordings.

    Attributes
    ----------
    access : Access
        How to reach S3.
    window : int
        How many recordings a process fetches from far away at a time.

    """

    access: Access = DEFAULT_ACCESS
    window: int = 16


DEFAULT_READS = ReadOptions()
"""As `DEFAULT_ACCESS` says."""


class _Ahead(NamedTuple):
    """A recording whose fetch has begun, where it is far away."""

    opener: Opener
    n_bytes: int
    cancel: Callable[[], object]


def open_archive(url: str, size: int, access: Access) -> BinaryIO:
    """Open a file or an object to read a little of it here and there."""
    return _open_ranges(url, size, _MIDDLING_BLOCK, access) if is_remote(url) else open(url, "rb")


def open_part(place: Place, access: Access) -> BinaryIO:
    """Open a recording to read its first bytes, or a long one bit by bit."""
    if place.member is None and not is_remote(place.url):
        return open(place.url, "rb")
    block = _SMALL_BLOCK if place.fetched <= MOST_WHOLE else _LARGE_BLOCK
    if place.member is None:
        return _open_ranges(place.url, place.size, block, access)
    if not is_remote(place.url):
        return _open_member(open(place.url, "rb"), place)
    end = place.member.offset + place.member.length
    return _open_member(_open_ranges(place.url, end, block, access), place)


def open_all(places: Iterable[Place], read_options: ReadOptions) -> Iterator[Opener]:
    """Open recordings one after the other; while one is worked on, the next ones are fetched from far away."""
    left, waiting, held = deque(places), deque[_Ahead](), 0
    try:
        while left or waiting:
            while left and (
                not waiting or (len(waiting) < 2 * read_options.window and held + left[0].fetched <= _MOST_AHEAD)
            ):
                place = left.popleft()
                waiting.append(_begin(place, read_options))
                held += place.fetched
            ahead = waiting.popleft()
            held -= ahead.n_bytes
            yield ahead.opener
            del ahead  # and with it the bytes, before the next are waited for
    finally:
        for ahead in waiting:
            ahead.cancel()


def _begin(place: Place, read_options: ReadOptions) -> _Ahead:
    if place.size > MOST_WHOLE:
        return _Ahead(partial(open_part, place, read_options.access), place.fetched, _nothing)
    if not is_remote(place.url):
        return _Ahead(partial(_open_local, place), place.fetched, _nothing)
    fetched = _pool(read_options.window).submit(_fetch, place, read_options.access)
    return _Ahead(partial(_open_fetched, place, fetched), place.fetched, fetched.cancel)


def _nothing() -> None:
    """Cancel what has not begun."""


@lru_cache(maxsize=1)
def _pool(window: int) -> ThreadPoolExecutor:
    """Return the threads that fetch: one window for a process, whatever number of tasks it has."""
    return ThreadPoolExecutor(window, thread_name_prefix="fetch")


def _fetch(place: Place, access: Access) -> bytes:
    start = place.member.offset if place.member else 0
    return s3.read(place.url, start, start + place.fetched, access)


def _open_fetched(place: Place, fetched: "Future[bytes]") -> BinaryIO:
    data = fetched.result()
    return io.BytesIO(zips.extract(data, place) if place.member else data)


def _open_local(place: Place) -> BinaryIO:
    if place.member is None:
        return open(place.url, "rb")
    with open(place.url, "rb", buffering=0) as archive:
        archive.seek(place.member.offset)
        data = archive.read(place.member.length)
    return io.BytesIO(zips.extract(data, place))


def _open_member(archive: BinaryIO, place: Place) -> BinaryIO:
    try:
        return zips.open_member(archive, place)
    except BaseException:
        archive.close()
        raise


def _open_ranges(url: str, size: int, block: int, access: Access) -> BinaryIO:
    return io.BufferedReader(_RangedFile(url, size, block, access))


class _RangedFile(io.RawIOBase):
    """An object as a file: read in blocks, a few of which are kept."""

    def __init__(self, url: str, size: int, block: int, access: Access) -> None:
        self._size, self._block, self._position = size, block, 0
        self._read_block = lru_cache(maxsize=_BLOCKS_KEPT)(partial(_fetch_block, url, size, block, access))

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._size}[whence]
        if start + offset < 0:
            msg = f"cannot seek to {start + offset}"
            raise OSError(msg)
        self._position = start + offset
        return self._position

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        done = 0
        while done < len(buffer) and self._position < self._size:
            index, begin = divmod(self._position, self._block)
            data = self._read_block(index)[begin : begin + len(buffer) - done]
            if not data:
                break
            buffer[done : done + len(data)] = data
            done, self._position = done + len(data), self._position + len(data)
        return done


def _fetch_block(url: str, size: int, block: int, access: Access, index: int) -> bytes:
    return s3.read(url, index * block, min((index + 1) * block, size), access)
