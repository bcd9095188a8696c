"""Zip archives read in place: what is in them, and one member's bytes.

The directory at an archive's end is read once, with Python's zipfile. From then on each member is a block of the
archive, fetched with one read and inflated here; nothing is unpacked to a disk, and what the archive claims about
itself is checked.

References
----------
PKWARE, .ZIP File Format Specification, version 6.3.10.

"""

import importlib
import io
import re
import stat
import struct
import zipfile
import zlib
from functools import cache
from typing import Any, BinaryIO

from mimii.storage.places import STORED, Member, Place
from mimii.storage.problems import AudioError
from mimii.storage.seekable import SeekableFile

_IN_ARCHIVE = re.compile(r"(.*?\.zip)/.", re.IGNORECASE | re.DOTALL)
_LOCAL = struct.Struct("<4s22x2H")
_LOCAL_MAGIC = b"PK\3\4"
_LOCAL_BYTES = _LOCAL.size
_MOST_EXTRA_BYTES = 0xFFFF
_ENCRYPTED = 1
_MOST_INFLATION = 1032
_SLACK = 1024
_INPUT_BYTES = 1 << 16
_MOST_DIRECTORY_BYTES = 1 << 28
_READ_METHODS = (STORED, 8)
_NAMES = {1: "Shrink", 6: "Implode", 9: "Deflate64", 12: "BZIP2", 14: "LZMA", 93: "Zstandard", 95: "XZ", 98: "PPMd"}


@cache
def _zlib() -> Any:  # noqa: ANN401  a module
    """Return isal's zlib, some 1.8 times as fast, or else Python's."""
    try:
        return importlib.import_module("isal.isal_zlib")
    except ImportError:
        return zlib


class ArchiveError(ValueError):
    """A zip archive whose directory cannot be read; the message says why, without its name."""


def archive_of(path: str) -> str:
    """Return the part of a path that names an archive with the recording in it; empty where there is none."""
    match = _IN_ARCHIVE.match(path)
    return match[1] if match else ""


def list_members(file: BinaryIO, archive: Place) -> list[tuple[Place, str]]:
    """List the files in an archive and what is wrong with them; nothing is read but the directory at its end."""
    try:
        with zipfile.ZipFile(_Directory(file)) as opened:
            entries, end = opened.infolist(), opened.start_dir
    except (zipfile.BadZipFile, struct.error, NotImplementedError, UnicodeDecodeError, OverflowError) as error:
        msg = f"not a whole zip archive ({error}): still being downloaded, or cut off"
        raise ArchiveError(msg) from error
    ordered = sorted(entries, key=lambda entry: entry.header_offset)
    stops = [*(entry.header_offset for entry in ordered[1:]), end]
    found: dict[str, tuple[Place, str]] = {}
    for entry, stop in zip(ordered, stops, strict=False):
        if not entry.is_dir():
            place = _place(entry, archive, stop)
            found[_name(entry)] = place, _problem(entry, stop) or _clash(place, found.get(_name(entry)))
    return list(found.values())


def extract(data: bytes, place: Place) -> bytes:
    """Return a member's bytes, checked, from its block of the archive."""
    member = _member(place)
    begin = _data_begin(data[:_LOCAL_BYTES])
    body = memoryview(data)[begin : begin + member.stored]
    if len(body) < member.stored:
        msg = "the archive ends within this recording"
        raise AudioError(msg)
    content = _decompress(_inflater(member), body, place.size + 1)  # one more shows that there are more
    _check(len(content), _zlib().crc32(content), place)
    return content


def open_member(file: BinaryIO, place: Place) -> BinaryIO:
    """Open a member too large for memory: it is inflated as it is read."""
    member = _member(place)
    file.seek(member.offset)
    begin = member.offset + _data_begin(file.read(_LOCAL_BYTES))
    return io.BufferedReader(_InflatedFile(file, begin, place), _INPUT_BYTES)


def open_stored(file: BinaryIO, place: Place) -> BinaryIO:
    """Open a member that is not compressed, to read some of it: its checksum is not compared."""
    member = _member(place)
    file.seek(member.offset)
    begin = member.offset + _data_begin(file.read(_LOCAL_BYTES))
    return io.BufferedReader(_StoredFile(file, begin, place), _INPUT_BYTES)


def _clash(place: Place, earlier: tuple[Place, str] | None) -> str:
    """Return what is wrong with a file because of an earlier one of its name."""
    if earlier is None:
        return ""
    other, problem = earlier
    if problem or (other.size, other.version) == (place.size, place.version):
        return problem
    return "there are several recordings of this name in the archive"


def _problem(entry: zipfile.ZipInfo, stop: int) -> str:
    """Return the first problem of a member that the directory shows."""
    stored, size = entry.compress_size, entry.file_size
    method = entry.compress_type
    problems = {
        "an unsafe name in its archive (absolute, or with ..)": _is_unsafe(entry.orig_filename)
        or _is_unsafe(entry.filename),
        "a link, in an archive": stat.S_ISLNK(entry.external_attr >> 16),
        "encrypted in its archive": bool(entry.flag_bits & _ENCRYPTED),
        f"compressed in a way that is not read here ({_NAMES.get(method, method)}); stored and deflate are": (
            method not in _READ_METHODS
        ),
        f"the archive claims that {stored} bytes inflate to {size}": not _may_inflate(entry),
        "the archive is damaged: this recording should begin before it does": entry.header_offset < 0,
        "the archive is damaged or malicious: this recording overlaps with the next": (
            entry.header_offset + _LOCAL_BYTES + stored > stop
        ),
    }
    return next((problem for problem, is_so in problems.items() if is_so), "")


def _may_inflate(entry: zipfile.ZipInfo) -> bool:
    if entry.compress_type == STORED:
        return entry.file_size == entry.compress_size
    stored, size = entry.compress_size, entry.file_size
    return stored <= size + size // 8 + _SLACK and size <= stored * _MOST_INFLATION + _SLACK


def _is_unsafe(name: str) -> bool:
    parts = name.replace("\\", "/").split("/")
    return ".." in parts or "\0" in name or parts[0] == "" or parts[0].endswith(":")


def _name(entry: zipfile.ZipInfo) -> str:
    """Return the path within the archive; programs of Windows write backslashes between folders."""
    return entry.filename.replace("\\", "/")


def _place(entry: zipfile.ZipInfo, archive: Place, stop: int) -> Place:
    most = _LOCAL_BYTES + 2 * _MOST_EXTRA_BYTES + entry.compress_size
    length = max(0, min(stop - entry.header_offset, most))
    where = (entry.header_offset, length, entry.compress_size)
    member = Member(_name(entry), *where, entry.CRC, entry.compress_type, archive.version)
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


def _inflater(member: Member) -> Any:  # noqa: ANN401  zlib names no type
    return _Stored() if member.method == STORED else _zlib().decompressobj(-zlib.MAX_WBITS)


def _decompress(inflater: Any, data: bytes | memoryview, most: int) -> bytes:  # noqa: ANN401  zlib names no type
    try:
        content: bytes = inflater.decompress(data, most)
    except (zlib.error, _zlib().error) as error:
        msg = f"the archive is damaged: {error}"
        raise AudioError(msg) from error
    return content


def _check(size: int, crc32: int, place: Place) -> None:
    if size != place.size:
        difference = "to more than" if size > place.size else f"to {size} and not to"
        msg = f"the archive is wrong: this recording inflates {difference} the {place.size} bytes that it claims"
        raise AudioError(msg)
    if crc32 != _member(place).crc32:
        msg = "damaged in its archive: the checksum (CRC-32) differs"
        raise AudioError(msg)


class _Directory:
    """An archive for zipfile, which would read a directory of any size that the archive claims to have."""

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.seek, self.tell = file, file.seek, file.tell

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_DIRECTORY_BYTES:
            msg = f"its directory claims to be {size:,} bytes long"
            raise zipfile.BadZipFile(msg)
        return self._file.read(size)


class _Stored:
    """Returns what was not compressed, with the methods of a decompressor."""

    unconsumed_tail: bytes | memoryview = b""
    eof = False

    def decompress(self, data: bytes | memoryview, most: int) -> bytes:
        self.unconsumed_tail = data[most:]
        return bytes(data[:most])


class _StoredFile(SeekableFile):
    """A member that is not compressed, as a file."""

    def __init__(self, archive: BinaryIO, begin: int, place: Place) -> None:
        super().__init__(place.size, str(place))
        self._archive, self._begin = archive, begin

    def close(self) -> None:
        self._archive.close()
        super().close()

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        self._archive.seek(self._begin + self._position)
        data = self._archive.read(max(0, min(len(buffer), self._size - self._position)))
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


class _InflatedFile(SeekableFile):
    """A member as a file; only a little of it is in memory."""

    def __init__(self, archive: BinaryIO, begin: int, place: Place) -> None:
        super().__init__(place.size, str(place))
        self._archive, self._begin, self._place, self._member = archive, begin, place, _member(place)
        self._rewind()

    def close(self) -> None:
        self._archive.close()
        super().close()

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        if 0 < (back := self._done - self._position) <= len(self._recent):  # decoders often seek back a little
            return self._copy(buffer, self._recent[-back:][: len(buffer)])
        if back > 0:
            self._rewind()
        while self._done < self._position:
            if not self._next(min(self._position - self._done, _INPUT_BYTES)):
                return 0
        return self._copy(buffer, self._next(len(buffer)))

    def _copy(self, buffer: Any, data: bytes) -> int:  # noqa: ANN401  any writable buffer
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _rewind(self) -> None:
        self._inflater = _inflater(self._member)
        self._done = self._n_input = self._crc32 = 0
        self._recent = b""

    def _next(self, most: int) -> bytes:
        """Inflate at most so many more bytes; return none at the end."""
        while self._done < self._size:
            data_in = self._input()
            data = _decompress(self._inflater, data_in, min(most, self._size - self._done))
            if data:
                self._done += len(data)
                self._crc32 = _zlib().crc32(data, self._crc32)
                self._recent = self._recent[-_INPUT_BYTES:] + data
            if self._done == self._size or not (data or data_in):
                _check(self._done + self._has_more(), self._crc32, self._place)
            if data:
                return data
        return b""

    def _has_more(self) -> bool:
        """Return whether the data inflate to more than the size of the member."""
        while not self._inflater.eof:
            data = self._input()
            if _decompress(self._inflater, data, 1):  # also of no data: some output may be left in the inflater
                return True
            if not data:
                return False
        return False

    def _input(self) -> bytes:
        """Return compressed bytes that are not inflated yet; none at the end."""
        if tail := self._inflater.unconsumed_tail:
            return bytes(tail)
        self._archive.seek(self._begin + self._n_input)
        data = self._archive.read(min(_INPUT_BYTES, self._member.stored - self._n_input))
        self._n_input += len(data)
        return data
