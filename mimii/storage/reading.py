"""Open recordings anywhere; those on S3 are fetched ahead, a window of them at a time."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, BinaryIO

from mimii.storage import s3, zips
from mimii.storage.access import DEFAULT_ACCESS, Access
from mimii.storage.places import Place, is_remote
from mimii.storage.seekable import SeekableFile

MOST_WHOLE = 64 << 20
"""Recordings up to so many bytes are read whole; larger ones in blocks."""

_MOST_AHEAD = 64 << 20
_SMALL_BLOCK, _MEDIUM_BLOCK, _LARGE_BLOCK = 1 << 16, 1 << 20, 8 << 20
_BLOCKS_KEPT = 4

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How recordings are read.

    Attributes
    ----------
    window : int
        How many recordings a process fetches from S3 at a time.

    """

    access: Access = DEFAULT_ACCESS
    window: int = 16


DEFAULT_READS = ReadOptions()
"""As the environment says; 16 at a time."""


def open_archive(url: str, size: int, access: Access) -> BinaryIO:
    """Open a file or an object to read a few blocks of it."""
    return _open_file(url, size, _MEDIUM_BLOCK, access)


def open_part(place: Place, access: Access) -> BinaryIO:
    """Open a recording to read its first bytes, or a long one in blocks."""
    block = _SMALL_BLOCK if place.fetched <= MOST_WHOLE else _LARGE_BLOCK
    if place.member is None:
        return _open_file(place.url, place.size, block, access)
    archive = _open_file(place.url, place.member.offset + place.member.length, block, access)
    try:
        return zips.open_member(archive, place)
    except BaseException:
        archive.close()
        raise


def open_all(places: Iterable[Place], read_options: ReadOptions) -> Iterator[Opener]:
    """Yield what opens each recording; while one is in use, the next ones are fetched from S3."""
    left, waiting, n_bytes = deque(places), deque[tuple[Place, Future[bytes] | None]](), 0
    try:
        while left or waiting:
            while left and (
                not waiting or (len(waiting) < 2 * read_options.window and n_bytes + left[0].fetched <= _MOST_AHEAD)
            ):
                place = left.popleft()
                waiting.append((place, _begin(place, read_options)))
                n_bytes += place.fetched
            place, fetched = waiting.popleft()
            n_bytes -= place.fetched
            yield partial(_open, place, fetched, read_options.access)
            del fetched  # and with it the bytes, before the next are waited for
    finally:
        for _, fetched in waiting:
            if fetched:
                fetched.cancel()


def _begin(place: Place, read_options: ReadOptions) -> "Future[bytes] | None":
    """Begin to fetch a recording from S3, unless it is too large."""
    if place.size > MOST_WHOLE or not is_remote(place.url):
        return None
    start = place.member.offset if place.member else 0
    return _pool(read_options.window).submit(s3.read, place.url, start, start + place.fetched, read_options.access)


@lru_cache(maxsize=1)
def _pool(window: int) -> ThreadPoolExecutor:
    """Return the threads that fetch: one window for a process, however many tasks it has."""
    return ThreadPoolExecutor(window, thread_name_prefix="fetch")


def _open(place: Place, fetched: "Future[bytes] | None", access: Access) -> BinaryIO:
    if fetched:
        data = fetched.result()
    elif place.member is None or place.size > MOST_WHOLE:
        return open_part(place, access)
    else:
        with open(place.url, "rb", buffering=0) as archive:
            archive.seek(place.member.offset)
            data = archive.read(place.member.length)
    return _Fetched(zips.extract(data, place) if place.member else data, str(place))


def _open_file(url: str, size: int, block: int, access: Access) -> BinaryIO:
    return io.BufferedReader(_RangedFile(url, size, block, access)) if is_remote(url) else open(url, "rb")


class _Fetched(io.BytesIO):
    """A recording that was read whole, with its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class _RangedFile(SeekableFile):
    """An object as a file: read in blocks, of which the last few are kept."""

    def __init__(self, url: str, size: int, block: int, access: Access) -> None:
        super().__init__(size, url)
        self._block = block
        self._read_block = lru_cache(maxsize=_BLOCKS_KEPT)(
            lambda index: s3.read(url, index * block, min((index + 1) * block, size), access)
        )

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
