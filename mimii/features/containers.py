"""Where the samples are in a file: tags in front of it, the chunks of a RIFF file, lengths that were never written.

libsndfile reads a file by its name beyond a tag in front of it, but drops as many bytes at its end when it is given an
open file. It is given what is behind the tag here, and lengths that are true.
"""

import io
import os
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO, cast

from mimii.storage import AudioError, SeekableFile

PCM, FLOAT, EXTENSIBLE = 0x0001, 0x0003, 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_CONTAINERS = {
    b"RIFF": ("<", b"data", (b"WAVE",)),
    b"RF64": ("<", b"data", (b"WAVE",)),
    b"BW64": ("<", b"data", (b"WAVE",)),
    b"RIFX": (">", b"data", (b"WAVE",)),
    b"FORM": (">", b"SSND", (b"AIFF", b"AIFC")),
}
"""By their first four bytes: order of bytes, the name of the chunk with the samples, and the next four bytes."""

_PLAIN_FORMATS = [[(PCM, 16)], [(PCM, 18)], [(FLOAT, 16)], [(FLOAT, 18)], [(EXTENSIBLE, 40)]]
"""The tag, and how long the one chunk is that has it: of others, libsndfile reads some."""

_PLAIN_CHUNKS = frozenset((b"JUNK", b"junk", b"PAD ", b"bext", b"iXML"))
"""Other chunks that files have, in which libsndfile finds nothing to stumble upon as long as they are whole."""

_PLAIN_BEHIND = frozenset((b"cue ", b"smpl", b"id3 ", b"ID3 ", b"afsp", b"_PMX"))
"""The same, behind the samples."""

_MOST_CHANNELS = 1024
_MOST_LIST_BYTES = 1 << 16
_MOST_RATE = 2**31 - 1
_MAGICS = (*_CONTAINERS, b"fLaC", b"OggS", b"caff", b".snd", b"dns.", b"riff", b"NIST", b"PVF1", b"Crea", b"MATL")
_FMT_BYTES, _FACT_BYTES, _DS64_BYTES = 16, 4, 28
_CONTENT_BYTES = 40
_NEVER_WRITTEN = 2**62
_MOST_BYTES_OF_WAV = 2**32
_MOST_CHUNKS = 1000
_MOST_TAGS = 100
_ID3V1_BYTES = 128
_MOST_MISSING_FRAMES = 4
_BEHIND_SAMPLES = tuple(
    b"LIST list ID3 id3 TAG bext APET afsp cue fact smpl iXML PEAK PAD JUNK junk inst plst _PMX axml chna".split()
) + tuple(_CONTAINERS)
"""What stands behind the samples of an empty recording: other chunks, tags, or another recording."""

# What programs write that do not know the length yet: sox 0x7FFFF000, arecord 0x80000000, ffmpeg and others 0xFFFFFFFF,
# each also less their header.
_UNKNOWN_LENGTHS = (range(2**31 - 0x1100, 2**31 + 0x100), range(2**32 - 0x1100, 2**32))

_MPEG_SEARCHED = 1 << 16
_MPEG_FRAMES_IN_A_ROW = 3
_MPEG_KBIT = {
    (1, 1): (32, 64, 96, 128, 160, 192, 224, 256, 288, 320, 352, 384, 416, 448),
    (1, 2): (32, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320, 384),
    (1, 3): (32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320),
    (2, 1): (32, 48, 56, 64, 80, 96, 112, 128, 144, 160, 176, 192, 224, 256),
    (2, 2): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
    (2, 3): (8, 16, 24, 32, 40, 48, 56, 64, 80, 96, 112, 128, 144, 160),
}

_Chunk = tuple[bytes, int, int]
"""Name, length as it is claimed, and where the content begins."""


@dataclass(frozen=True, slots=True)
class Wav:
    """The chunks of a RIFF file that matter.

    Attributes
    ----------
    magic : bytes
        The first four bytes.
    data_offset : int
        Where the samples begin.
    data_size : int
        Bytes of samples that are there.
    claimed_size : int
        What the header says of them.
    riff_end : int
        Where the file ends, as its header says.
    is_plain : bool
        Whether there is nothing in its chunks that programs do not write: libsndfile is sure to read the same.

    """

    magic: bytes
    format_tag: int
    n_channels: int
    sample_rate: int
    block_align: int
    bits: int
    data_offset: int
    data_size: int
    claimed_size: int
    riff_end: int
    is_plain: bool

    @property
    def is_pcm16(self) -> bool:
        """Whether samples are 16-bit little-endian integers, beyond doubt: in doubt, libsndfile has to say."""
        return (
            self.is_plain
            and self.format_tag == PCM
            and self.bits == 16
            and 0 < self.n_channels <= _MOST_CHANNELS
            and 0 < self.sample_rate <= _MOST_RATE
            and self.block_align == 2 * self.n_channels
        )


class FileView(SeekableFile):
    """A file from some byte on, with some of its bytes replaced.

    Parameters
    ----------
    start, stop : int
        Which byte is the first, and which is the first that is left out.
    replaced : dict of int to bytes
        By their place in the view.

    """

    def __init__(
        self, file: BinaryIO, start: int = 0, replaced: dict[int, bytes] | None = None, stop: int | None = None
    ) -> None:
        super().__init__((file.seek(0, os.SEEK_END) if stop is None else stop) - start, name_of(file))
        self._file, self._start, self._replaced = file, start, replaced or {}

    def readinto(self, buffer: Any) -> int:  # noqa: ANN401  any writable buffer
        """Read from the position on."""
        self._file.seek(self._start + self._position)
        data = bytearray(self._file.read(min(len(buffer), max(0, self._size - self._position))))
        for place, other in self._replaced.items():
            begin = place - self._position
            for index in range(max(begin, 0), min(begin + len(other), len(data))):
                data[index] = other[index - begin]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)


def name_of(file: BinaryIO) -> str:
    """Return the name of a file, for messages."""
    return str(getattr(file, "name", "") or "a recording")


def skip_tags(file: BinaryIO) -> int:
    """Return where a file begins behind the ID3v2 tags in front of it: 0 where there is none.

    Source: the ID3v2.4 structure, section 3.1; the length has seven bits a byte, and does not count header and footer.
    """
    start, size = 0, file.seek(0, os.SEEK_END)
    for _ in range(_MOST_TAGS):
        file.seek(start)
        tag = file.read(10)
        if len(tag) < 10 or tag[:3] != b"ID3" or max(tag[6:10]) > 0x7F:
            break
        length = (tag[6] << 21) + (tag[7] << 14) + (tag[8] << 7) + tag[9]
        behind = start + 10 + length + (10 if tag[5] & 0x10 else 0)
        if behind >= size:
            break
        start = behind
    return start


def without_last_tag(file: BinaryIO) -> BinaryIO:
    """Return a FLAC file without an ID3v1 tag at its end, on which its decoder stumbles; another file as it is."""
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if file.read(4) != b"fLaC" or size < _ID3V1_BYTES:
        return file
    file.seek(size - _ID3V1_BYTES)
    if file.read(3) != b"TAG":
        return file
    return cast(BinaryIO, io.BufferedReader(FileView(file, stop=size - _ID3V1_BYTES)))


def find_mpeg(file: BinaryIO) -> int:
    """Return where MPEG audio begins behind padding or other bytes: 0 where there are not several frames in a row."""
    file.seek(0)
    data = file.read(_MPEG_SEARCHED)
    start = -1 if data.startswith(_MAGICS) else data.find(b"\xff")
    while start > 0 and _count_mpeg_frames(data, start) < _MPEG_FRAMES_IN_A_ROW:
        start = data.find(b"\xff", start + 1)
    return max(start, 0)


def _count_mpeg_frames(data: bytes, start: int) -> int:
    count = 0
    while count < _MPEG_FRAMES_IN_A_ROW and (length := _mpeg_frame_bytes(data[start : start + 4])):
        count, start = count + 1, start + length
    return count


def _mpeg_frame_bytes(head: bytes) -> int:
    """Return the bytes of an MPEG audio frame, from the first four of them; 0 where it is none. ISO 11172-3, 2.4.1."""
    if len(head) < 4 or head[0] != 0xFF or head[1] & 0xE0 != 0xE0:
        return 0
    version, layer = (head[1] >> 3) & 3, 4 - ((head[1] >> 1) & 3)
    rate, kbit, padding = (head[2] >> 2) & 3, head[2] >> 4, (head[2] >> 1) & 1
    if version == 1 or layer == 4 or rate == 3 or kbit in (0, 15):
        return 0
    hz = (44_100, 48_000, 32_000)[rate] // {3: 1, 2: 2, 0: 4}[version]
    bits = 1000 * _MPEG_KBIT[1 if version == 3 else 2, layer][kbit - 1]
    if layer == 1:
        return (12 * bits // hz + padding) * 4
    return (72 if layer == 3 and version != 3 else 144) * bits // hz + padding


def read_wav(file: BinaryIO, size: int) -> Wav | None:
    """Find the format and the samples of a WAV file, and where those of an AIFF file are; None of something else.

    Raises
    ------
    AudioError
        If the header promises more samples than there are.

    """
    file.seek(0)
    magic, riff_size, form = file.read(4), file.read(4), file.read(4)
    if magic not in _CONTAINERS or form not in _CONTAINERS[magic][2]:
        return None
    order, samples, _ = _CONTAINERS[magic]
    front: list[_Chunk] = []
    for chunk in _chunks(file, size, order):
        if chunk[0] == samples:
            (riff_end,) = struct.unpack(order + "I", riff_size)
            return _read_front(file, size, (magic, riff_end + 8), front, chunk)
        front.append(chunk)
    return None


def _read_front(
    file: BinaryIO, size: int, riff: tuple[bytes, int], front: Sequence[_Chunk], samples: _Chunk
) -> Wav | None:
    """Read what the chunks in front of the samples say, and how many samples there are."""
    magic, riff_end = riff
    _, claimed, offset = samples
    next_bytes = file.read(4)
    is_unfinished = claimed == 0 and _is_unfinished(riff_end, offset, next_bytes)
    is_unfinished |= _is_placeholder(claimed) and riff_end != size
    fmt, lengths = _content(file, front, b"fmt "), _content(file, front, b"ds64")
    (long_length,) = struct.unpack("<8xQ", lengths[:16].ljust(16, b"\0"))  # one that does not fit elsewhere
    length = _known_length(size - offset if is_unfinished else claimed, long_length)
    is_plain = _is_plain_front(file, magic, fmt, front) and _is_plain_behind(file, size, offset + length, riff_end)
    return _wav(riff, fmt, (offset, _known_length(claimed, long_length), length), size, is_plain=is_plain)


def _content(file: BinaryIO, chunks: Sequence[_Chunk], name: bytes) -> bytes:
    """Return the first bytes of the last chunk of a name; none where there is no such chunk."""
    for _, length, offset in (chunk for chunk in reversed(chunks) if chunk[0] == name):
        file.seek(offset)
        return file.read(min(length, _CONTENT_BYTES))
    return b""


def with_true_length(file: BinaryIO, wav: Wav | None) -> BinaryIO:
    """Return a file with the lengths that are true, and without another one behind it, on which libsndfile stumbles.

    A length is not true that was never written, or is beyond the end.
    """
    if wav is None:
        return file
    size, replaced = file.seek(0, os.SEEK_END), dict[int, bytes]()
    if wav.magic == b"BW64" and wav.is_plain:  # the same by another name, which libsndfile does not know
        replaced = {0: b"RF64"}
    data_end = wav.data_offset + wav.data_size
    if wav.claimed_size != wav.data_size and wav.magic != b"FORM":
        if data_end > _MOST_BYTES_OF_WAV:
            msg = f"its header does not say how long it is, and {wav.data_size} bytes are too many for a WAV file"
            raise AudioError(msg)
        order = _CONTAINERS[wav.magic][0]
        lengths = {4: data_end - 8, wav.data_offset - 4: wav.data_size}
        replaced = {place: struct.pack(order + "I", length) for place, length in lengths.items()}
        if wav.magic in (b"RF64", b"BW64"):  # with lengths of 32 bits, it is a WAV file
            replaced[0] = b"RIFF"
    stop = size
    if data_end <= wav.riff_end:
        file.seek(wav.riff_end)
        stop = wav.riff_end if file.read(4) in _CONTAINERS else size
    return cast(BinaryIO, io.BufferedReader(FileView(file, 0, replaced, stop))) if replaced or stop < size else file


def _chunks(file: BinaryIO, size: int, order: str, offset: int = 12) -> Iterator[_Chunk]:
    """Yield name, length and place of each chunk of a RIFF file; the file stands there."""
    for _ in range(_MOST_CHUNKS):
        if offset + 8 > size:
            return
        file.seek(offset)
        name, length = struct.unpack(order + "4sI", file.read(8))
        yield name, length, offset + 8
        offset += 8 + length + (length & 1)


def _is_plain_front(file: BinaryIO, magic: bytes, fmt: bytes, front: Sequence[_Chunk]) -> bool:
    """Return whether one format, lengths where RF64 has them, and what programs write is all there is."""
    left = list(front)
    if magic in (b"RIFX", b"FORM") or (magic != b"RIFF" and not (left and _is_plain_ds64(file, left.pop(0)))):
        return False
    if magic != b"RIFF" and any(length % 2 for _, length, _ in left):  # libsndfile does not skip the byte behind it
        return False
    formats = [length for name, length, _ in left if name == b"fmt "]
    if [(int.from_bytes(fmt[:2], "little"), length) for length in formats] not in _PLAIN_FORMATS:
        return False
    return all(chunk[0] == b"fmt " or _is_plain(file, chunk) for chunk in left)


def _is_plain_ds64(file: BinaryIO, chunk: _Chunk) -> bool:
    """Return whether a chunk has the lengths of an RF64 file, and no table of more of them."""
    return chunk[:2] == (b"ds64", _DS64_BYTES) and not any(_content(file, [chunk], b"ds64")[24:])


def _is_plain(file: BinaryIO, chunk: _Chunk) -> bool:
    """Return whether a chunk is one that programs write, with what belongs into it."""
    name, length, offset = chunk
    if name == b"LIST":
        file.seek(offset)
        return length <= _MOST_LIST_BYTES and _is_plain_list(file.read(length), length)
    return name in _PLAIN_CHUNKS or (name == b"fact" and length == _FACT_BYTES)


def _is_plain_list(content: bytes, length: int) -> bool:
    """Return whether a list is one of texts or of marks, each of them whole."""
    at = 4
    while at + 8 <= len(content):
        text = int.from_bytes(content[at + 4 : at + 8], "little")
        at += 8 + text + text % 2
    return content[:4] in (b"INFO", b"adtl") and len(content) == length and at == length


def _is_plain_behind(file: BinaryIO, size: int, at: int, riff_end: int) -> bool:
    """Return whether there is nothing behind the samples but chunks that programs write, or another file."""
    if at >= size:
        return True
    file.seek(at)
    if file.read(4) in _CONTAINERS:
        return at == riff_end
    for name, length, offset in _chunks(file, size, "<", at + at % 2):
        if name in _CONTAINERS:
            return offset - 8 == riff_end
        if offset + length > size or not (name in _PLAIN_BEHIND or _is_plain(file, (name, length, offset))):
            return False
        at = offset + length
    return size - at <= 1


def _is_unfinished(riff_end: int, data_offset: int, next_bytes: bytes) -> bool:
    """Return whether a recorder died before it wrote the lengths: those of the file end before the samples begin."""
    is_known = data_offset < riff_end and not _is_placeholder(riff_end - 8)
    return not is_known and len(next_bytes) > 0 and not next_bytes.startswith(_BEHIND_SAMPLES)


def _is_placeholder(length: int) -> bool:
    return any(length in lengths for lengths in _UNKNOWN_LENGTHS)


def _known_length(length: int, long_length: int) -> int:
    """Return how many bytes of samples there must be: those of RF64's long length, if it was written."""
    if 0 < long_length < _NEVER_WRITTEN:  # also where the chunk has another one: libsndfile believes it, too
        return long_length
    return length


def _wav(
    riff: tuple[bytes, int], fmt: bytes, samples: tuple[int, int, int], size: int, *, is_plain: bool
) -> Wav | None:
    """Gather what was found; ``samples`` are their place, and their bytes: what the header says, what must be there."""
    (magic, riff_end), (offset, claimed, length) = riff, samples
    there = size - offset
    order = _CONTAINERS[magic][0]
    is_wav = magic != b"FORM" and len(fmt) >= _FMT_BYTES
    values = struct.unpack(order + "HHIIHH", fmt[:_FMT_BYTES]) if is_wav else (0,) * 6
    tag, n_channels, sample_rate, _, block_align, bits = values
    if length > there + _MOST_MISSING_FRAMES * block_align:
        msg = f"truncated: the header promises {length} bytes of samples, the file holds {there}"
        raise AudioError(msg)
    if tag == EXTENSIBLE and fmt[24:40] == _PCM_GUID:
        tag = PCM
    if not is_wav and magic != b"FORM":
        return None
    shape = (n_channels, sample_rate, block_align, bits)
    return Wav(magic, tag, *shape, offset, min(length, there), claimed, riff_end, is_plain)
