"""Zip archives read in place: what is in them, and one member's bytes.

The directory at an archive's end is read once, with Python's zipfile. From then on each member is a stretch of the
archive, fetched with one read and inflated here; nothing is ever unpacked to a disk, and what the archive claims about
itself is believed only as far as it can be checked.

References
----------
PKWARE, .ZIP File Format Specification, version 6.3.10.

"""

import importlib
import io
import stat
import struct
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from typing import Any, BinaryIO

from mimii.storage.places import Member, Place
from mimii.storage.problems import AudioError

_STORED = 0
_LOCAL = struct.Struct("<4s22x2H")
_LOCAL_MAGIC = b"PK\3\4"
_LOCAL_BYTES = _LOCAL.size
_MOST_EXTRA_BYTES = 0xFFFF
_ENCRYPTED = 1
_MOST_INFLATION = 1032
_SLACK = 1024
_INPUT_BYTES = 1 << 16
_MOST_DIRECTORY_BYTES = 1 << 28
_METHODS = {
    0: "",
    8: "",
    1: "Shrink",
    6: "Implode",
    9: "Deflate64",
    12: "BZIP2",
    14: "LZMA",
    93: "Zstandard",
    95: "XZ",
    98: "PPMd",
}

_inflating: Any = zlib
with suppress(ImportError):
    _inflating = importlib.import_module("isal.isal_zlib")  # some 1.8 times as fast


class ArchiveError(ValueError):
    """A zip archive whose directory cannot be read; the message says why, without its name."""


def list_members(file: BinaryIO, archive: Place) -> list[tuple[Place, str]]:
    """List what is in an archive, without reading any of it but the directory at its end."""
    try:
        with zipfile.ZipFile(_Directory(file)) as opened:
            entries, end = opened.infolist(), opened.start_dir
    except (zipfile.BadZipFile, struct.error, NotImplementedError, UnicodeDecodeError, OverflowError) as error:
        msg = f"not a whole zip archive ({error}): still being downloaded, or cut off"
        raise ArchiveError(msg) from error
    return [(_place(entry, archive, stop), problem) for entry, stop, problem in _judged(entries, end)]


def extract(data: bytes, place: Place) -> bytes:
    """Take a member's bytes out of its stretch of the archive, and check them."""
    member = _member(place)
    begin = _data_begin(data[:_LOCAL_BYTES])
    body = memoryview(data)[begin : begin + member.stored]
    if len(body) < member.stored:
        msg = "the archive ends within this recording"
        raise AudioError(msg)
    content = _inflate(body, member.method, place.size)
    _check(len(content), _inflating.crc32(content), place)
    return content


def open_member(file: BinaryIO, place: Place) -> BinaryIO:
    """Open a member that is too large for the memory: it is inflated as it is read."""
    member = _member(place)
    file.seek(member.offset)
    begin = member.offset + _data_begin(file.read(_LOCAL_BYTES))
    return io.BufferedReader(_InflatedFile(file, begin, place), _INPUT_BYTES)


def _judged(entries: Iterable[zipfile.ZipInfo], end: int) -> Iterator[tuple[zipfile.ZipInfo, int, str]]:
    """Yield the files, where their stretches end, and what is wrong with them, each name once."""
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    stops = [*(entry.header_offset for entry in ordered[1:]), end][: len(ordered)]
    last: dict[str, tuple[zipfile.ZipInfo, int, str]] = {}
    for entry, stop in zip(ordered, stops, strict=True):
        if not entry.is_dir():
            last[entry.filename] = (entry, stop, _problem(entry, stop) or _clash(entry, last))
    yield from last.values()


def _clash(entry: zipfile.ZipInfo, earlier: Mapping[str, tuple[zipfile.ZipInfo, int, str]]) -> str:
    if entry.filename not in earlier:
        return ""
    other, _, problem = earlier[entry.filename]
    if problem or (other.file_size, other.CRC) == (entry.file_size, entry.CRC):
        return problem
    return "there are several recordings of this name in the archive"


def _problem(entry: zipfile.ZipInfo, stop: int) -> str:
    """Return the first thing that is wrong with a member, as far as the directory shows it."""
    stored, size = entry.compress_size, entry.file_size
    method = _METHODS.get(entry.compress_type, str(entry.compress_type))
    wrongs = {
        "an unsafe name in its archive (absolute, with .. or with backslashes)": _is_unsafe(entry.orig_filename)
        or _is_unsafe(entry.filename),
        "a link, in an archive": stat.S_ISLNK(entry.external_attr >> 16),
        "encrypted in its archive": bool(entry.flag_bits & _ENCRYPTED),
        f"compressed in a way that is not read here ({method}); stored and deflate are": method != "",
        f"the archive claims that {stored} bytes inflate to {size}": not _may_inflate(entry),
        "the archive is damaged: this recording should begin before it does": entry.header_offset < 0,
        "the archive is damaged or a trap: this recording overlaps with the next": (
            entry.header_offset + _LOCAL_BYTES + stored > stop
        ),
    }
    return next((wrong for wrong, is_so in wrongs.items() if is_so), "")


def _may_inflate(entry: zipfile.ZipInfo) -> bool:
    if entry.compress_type == _STORED:
        return entry.file_size == entry.compress_size
    stored, size = entry.compress_size, entry.file_size
    return stored <= size + size // 8 + _SLACK and size <= stored * _MOST_INFLATION + _SLACK


def _is_unsafe(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or "\\" in name or "\0" in name or parts[0] == "" or parts[0].endswith(":")


def _place(entry: zipfile.ZipInfo, archive: Place, stop: int) -> Place:
    most = _LOCAL_BYTES + 2 * _MOST_EXTRA_BYTES + entry.compress_size
    length = max(0, min(stop - entry.header_offset, most))
    where = (entry.header_offset, length, entry.compress_size)
    member = Member(entry.filename, *where, entry.CRC, entry.compress_type, archive.version)
    return Place(archive.url, entry.file_size, f"{entry.CRC:08x}", member, archive.modified)


def _member(place: Place) -> Member:
    if place.member is None:
        msg = f"{place}: not a member of an archive"
        raise ValueError(msg)
    return place.member


def _data_begin(header: bytes) -> int:
    """Return where the data begins, from the beginning of the local header."""
    magic, name_bytes, extra_bytes = _LOCAL.unpack(header.ljust(_LOCAL_BYTES, b"\0"))
    if magic != _LOCAL_MAGIC:
        msg = "the archive is damaged where this recording should begin"
        raise AudioError(msg)
    return int(_LOCAL_BYTES + name_bytes + extra_bytes)


def _inflate(body: memoryview, method: int, size: int) -> bytes:
    """Inflate to `size` bytes, or one more to show that there are more."""
    if method == _STORED:
        return bytes(body)
    try:
        content: bytes = _inflating.decompressobj(-zlib.MAX_WBITS).decompress(body, size + 1)
    except (zlib.error, _inflating.error) as error:
        raise AudioError(_damaged(error)) from error
    return content


def _damaged(error: Exception) -> str:
    return f"the archive is damaged: {error}"


def _check(size: int, crc32: int, place: Place) -> None:
    if size != place.size:
        difference = "to more than" if size > place.size else f"to {size} and not to"
        msg = f"the archive is wrong: this recording inflates {difference} the {place.size} bytes that it claims"
        raise AudioError(msg)
    if crc32 != _member(place).crc32:
        msg = "damaged in its archive: the checksum (CRC-32) differs"
        raise AudioError(msg)


class _Directory(io.RawIOBase):
    """An archive for zipfile, which would read a directory of any size that the archive claims to have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_DIRECTORY_BYTES:
            msg = f"its directory claims to be {size:,} bytes long"
            raise zipfile.BadZipFile(msg)
        return self._file.read(size)


class _Stored:
    """Takes in what was not compressed, in the way of a decompressor."""

    unconsumed_tail = b""
    eof = False

    def decompress(self, data: bytes, _most: int) -> bytes:
        return data


class _InflatedFile(io.RawIOBase):
    """A member as a file; only a little of it is in memory."""

    def __init__(self, archive: BinaryIO, begin: int, place: Place) -> None:
        self._archive, self._begin, self._place = archive, begin, place
        self._wanted = 0
        self._rewind()

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def close(self) -> None:
        self._archive.close()
        super().close()

    def tell(self) -> int:
        return self._wanted

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        start = {io.SEEK_SET: 0, io.SEEK_CUR: self._wanted, io.SEEK_END: self._place.size}[whence]
        self._wanted = max(0, start + offset)
        return self._wanted

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        if 0 < (back := self._done - self._wanted) <= len(self._recent):  # as decoders like to go
            return self._give(buffer, self._recent[-back:][: len(buffer)])
        if back > 0:
            self._rewind()
        while self._done < self._wanted:
            if not self._next(min(self._wanted - self._done, _INPUT_BYTES)):
                return 0
        return self._give(buffer, self._next(len(buffer)))

    def _give(self, buffer: Any, data: bytes) -> int:  # noqa: ANN401  any writable buffer
        buffer[: len(data)] = data
        self._wanted += len(data)
        return len(data)

    def _rewind(self) -> None:
        member = _member(self._place)
        self._inflater: Any = _Stored() if member.method == _STORED else _inflating.decompressobj(-zlib.MAX_WBITS)
        self._done = self._taken = self._crc32 = 0
        self._held = self._recent = b""

    def _next(self, most: int) -> bytes:
        """Inflate some more bytes, at most so many; none at the end."""
        while self._done < self._place.size:
            if data := self._inflate_some(min(most, self._place.size - self._done)):
                self._done += len(data)
                self._crc32 = _inflating.crc32(data, self._crc32)
                self._recent = self._recent[-_INPUT_BYTES:] + data
                if self._done == self._place.size:
                    _check(self._done + self._has_more(), self._crc32, self._place)
                return data
        return b""

    def _has_more(self) -> bool:
        """Say whether there is more than there should be."""
        while not self._inflater.eof:
            held = self._held or self._input(_INPUT_BYTES)
            if self._decompress(held, 1):  # also of nothing: a decompressor may have taken in all, and given less
                return True
            if not held:
                return False
        return False

    def _inflate_some(self, most: int) -> bytes:
        held = self._held or self._input(most if isinstance(self._inflater, _Stored) else _INPUT_BYTES)
        data = self._decompress(held, most)
        if not data and not held:
            _check(self._done, 0, self._place)
        return data

    def _decompress(self, held: bytes, most: int) -> bytes:
        try:
            data: bytes = self._inflater.decompress(held, most)
        except (zlib.error, _inflating.error) as error:
            raise AudioError(_damaged(error)) from error
        self._held = self._inflater.unconsumed_tail
        return data

    def _input(self, most: int) -> bytes:
        member = _member(self._place)
        self._archive.seek(self._begin + self._taken)
        data = self._archive.read(min(most, member.stored - self._taken))
        self._taken += len(data)
        return data
