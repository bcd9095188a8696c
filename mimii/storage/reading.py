"""Open recordings anywhere; those on S3 are fetched ahead, a window of them at a time."""

import io
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any, BinaryIO, NamedTuple

from mimii.storage import s3, zips
from mimii.storage.access import DEFAULT_ACCESS, Access
from mimii.storage.places import MOST_WHOLE, Place, is_remote
from mimii.storage.seekable import SeekableFile

MOST_AHEAD = 64 << 20
"""How many bytes of recordings are fetched ahead for one task, the one that is read included."""

_SMALL_BLOCK, _MEDIUM_BLOCK, _LARGE_BLOCK = 1 << 16, 1 << 20, 8 << 20
_BLOCKS_KEPT = 4

Opener = Callable[[], BinaryIO]


@dataclass(frozen=True, slots=True)
class ReadOptions:
    """How recordings are read.

    Attributes
    ----------
    access : Access
        How to connect to S3.
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


class Wanted(NamedTuple):
    """Which bytes of a recording are to be read: those from `begin` to before `stop`, or all where `stop` is 0."""

    place: Place
    begin: int = 0
    stop: int = 0

    @property
    def fetched(self) -> range:
        """Which bytes of the file or object are fetched for them."""
        place, member = self.place, self.place.member
        if not self.stop:
            begin = member.offset if member else 0
            return range(begin, begin + place.fetched)
        if not member:
            return range(self.begin, self.stop)
        # Where the member's data begins, only its own header says: behind this, and as far before the next member.
        latest = member.length - member.stored
        return range(member.offset + self.begin, member.offset + min(latest + self.stop, member.length))


def open_all(wanted: Iterable[Place | Wanted], read_options: ReadOptions) -> Iterator[Opener]:
    """Yield what opens each recording; while one is in use, the next ones are fetched from S3.

    Of one of which only some bytes are wanted, others can be read, too: they are fetched when they are.
    """
    left = deque(one if isinstance(one, Wanted) else Wanted(one) for one in wanted)
    waiting, n_bytes = deque[tuple[Wanted, Future[bytes] | None]](), 0
    try:
        while left or waiting:
            most = 2 * read_options.window
            while left and (not waiting or (len(waiting) < most and n_bytes + len(left[0].fetched) <= MOST_AHEAD)):
                one = left.popleft()
                waiting.append((one, _begin(one, read_options)))
                n_bytes += len(one.fetched)
            one, fetched = waiting.popleft()
            n_bytes -= len(one.fetched)
            yield partial(_open_some if one.stop else _open, one, fetched, read_options.access)
            del fetched  # and with it the bytes, before the next are waited for
    finally:
        for _, fetched in waiting:
            if fetched:
                fetched.cancel()


def _begin(one: Wanted, read_options: ReadOptions) -> "Future[bytes] | None":
    """Begin to fetch bytes from S3, unless they are too many."""
    where = one.fetched
    if len(where) > MOST_WHOLE or not is_remote(one.place.url):
        return None
    return _pool(read_options.window).submit(s3.read, one.place.url, where.start, where.stop, read_options.access)


@lru_cache(maxsize=1)
def _pool(window: int) -> ThreadPoolExecutor:
    """Return the threads that fetch: one window for a process, however many tasks it has."""
    return ThreadPoolExecutor(window, thread_name_prefix="fetch")


def _open(one: Wanted, fetched: "Future[bytes] | None", access: Access) -> BinaryIO:
    place = one.place
    if fetched:
        data = fetched.result()
    elif place.member is None or place.size > MOST_WHOLE:
        return open_part(place, access)
    else:
        with open(place.url, "rb") as archive:  # buffered: a raw read may return fewer bytes, such as on a network
            archive.seek(place.member.offset)
            data = archive.read(place.member.length)
    return _Fetched(zips.extract(data, place) if place.member else data, str(place))


def _open_some(one: Wanted, fetched: "Future[bytes] | None", access: Access) -> BinaryIO:
    """Open a recording that is not compressed, of which some bytes are there already."""
    place = one.place
    size = place.member.offset + place.member.length if place.member else place.size
    file: BinaryIO
    if fetched:
        version = place.member.archive_version if place.member else place.version
        rest = _RangedFile(place.url, size, _SMALL_BLOCK, _shared_blocks(place.url, size, version, access))
        file = io.BufferedReader(_PartlyFetched(rest, size, one.fetched.start, fetched.result()))
    else:
        file = _open_file(place.url, size, _MEDIUM_BLOCK, access)
    return zips.open_stored(file, place) if place.member else file


def _open_file(url: str, size: int, block: int, access: Access) -> BinaryIO:
    if not is_remote(url):
        return open(url, "rb")
    return io.BufferedReader(_RangedFile(url, size, block, _blocks(url, size, block, access)))


def _blocks(url: str, size: int, block: int, access: Access) -> Callable[[int], bytes]:
    """Return what reads a block of an object, and keeps the last few."""
    return lru_cache(maxsize=_BLOCKS_KEPT)(
        lambda index: s3.read(url, index * block, min((index + 1) * block, size), access)
    )


@lru_cache(maxsize=_BLOCKS_KEPT)
def _shared_blocks(url: str, size: int, _version: str, access: Access) -> Callable[[int], bytes]:
    """Return the same for all segments of a recording, each of which begins with reading its header."""
    return _blocks(url, size, _SMALL_BLOCK, access)


class _Fetched(io.BytesIO):
    """A recording that was read whole, with its name."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(data)
        self.name = name


class _RangedFile(SeekableFile):
    """An object as a file: read in blocks, of which the last few are kept."""

    def __init__(self, url: str, size: int, block: int, read_block: Callable[[int], bytes]) -> None:
        super().__init__(size, url)
        self._block, self._read_block = block, read_block

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


class _PartlyFetched(SeekableFile):
    """An object of which some bytes are in memory; what else is read comes from another file."""

    def __init__(self, rest: _RangedFile, size: int, begin: int, data: bytes) -> None:
        super().__init__(size, rest.name)
        self._rest, self._begin, self._data = rest, begin, memoryview(data)

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        behind = self._position - self._begin
        if 0 <= behind < len(self._data):
            data = self._data[behind : behind + len(buffer)]
            buffer[: len(data)] = data
            count = len(data)
        else:
            self._rest.seek(self._position)
            count = self._rest.readinto(buffer[: -behind if behind < 0 else None])
        self._position += count
        return count
