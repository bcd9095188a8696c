"""Zip archives as tests need them: ordinary, unusual and hostile, written byte by byte where zipfile would refuse."""

import struct
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path

from mimii.recordings.synthesis import wav_bytes
from tests.helpers.recordings import noise

STORED, DEFLATED = 0, 8


def wav(seed, n_samples=16_000, **how):
    return wav_bytes(noise(seed, n_samples, **how), 16_000)


def pack(path, members, method=zipfile.ZIP_DEFLATED):
    """Write an ordinary archive of names and contents."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return path


def pack_folder(path, folder, method=zipfile.ZIP_DEFLATED):
    """Write an archive of all files of a folder."""
    files = sorted(file for file in Path(folder).rglob("*") if file.is_file())
    return pack(path, {str(file.relative_to(folder)): file.read_bytes() for file in files}, method)


@dataclass
class Entry:
    """A member, and what the archive says of it, true or not; None is the truth."""

    name: str
    content: bytes = b""
    method: int = DEFLATED
    size: int | None = None
    stored: int | None = None
    crc32: int | None = None
    flags: int = 0
    mode: int = 0o100644
    offset: int | None = None
    local_extra: bytes = b""
    local_name: str | None = None
    data: bytes | None = None

    def body(self):
        if self.data is not None:
            return self.data
        if self.method != DEFLATED:
            return self.content
        compressor = zlib.compressobj(6, zlib.DEFLATED, -15)
        return compressor.compress(self.content) + compressor.flush()

    def numbers(self):
        """Return what the archive says: checksum, bytes compressed, bytes inflated."""
        stored = len(self.body()) if self.stored is None else self.stored
        size = len(self.content) if self.size is None else self.size
        return zlib.crc32(self.content) if self.crc32 is None else self.crc32, stored, size


def write(path, entries, *, before=b"", comment=b"", n_entries=None, directory_size=None):
    """Write an archive that says what it is told to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    archive, directory = bytearray(before), bytearray()
    for entry in entries:
        begin = len(archive) if entry.offset is None else entry.offset
        if entry.offset is None:
            archive += _local(entry) + entry.body()
        directory += _central(entry, begin)
    start = len(archive)
    count = len(entries) if n_entries is None else n_entries
    length = len(directory) if directory_size is None else directory_size
    archive += directory
    archive += struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, count, count, length, start, len(comment)) + comment
    path.write_bytes(archive)
    return path


def _local(entry):
    crc32, stored, size = entry.numbers()
    name = (entry.name if entry.local_name is None else entry.local_name).encode("utf-8", "surrogateescape")
    numbers = (crc32, min(stored, 0xFFFFFFFF), min(size, 0xFFFFFFFF), len(name), len(entry.local_extra))
    return (
        struct.pack("<4s5H3L2H", b"PK\3\4", 20, entry.flags, entry.method, 0, 0x21, *numbers) + name + entry.local_extra
    )


def _central(entry, begin):
    crc32, stored, size = entry.numbers()
    name, extra = entry.name.encode("utf-8", "surrogateescape"), b""
    if size > 0xFFFFFFFF:  # Zip64
        extra = struct.pack("<2HQ", 1, 8, size)
    numbers = (crc32, stored, min(size, 0xFFFFFFFF), len(name), len(extra), 0, 0, 0, entry.mode << 16, begin)
    fixed = struct.pack("<4s6H3L5H2L", b"PK\1\2", 3 << 8 | 20, 20, entry.flags, entry.method, 0, 0x21, *numbers)
    return fixed + name + extra
