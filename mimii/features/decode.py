"""Bytes of a recording to one channel of samples. The only file that knows soundfile.

Most recordings are 16-bit WAV; those are read by NumPy, one channel picked out of the interleaved bytes block by
block, in a tenth of the time that decoding all channels to float takes. Everything else goes through libsndfile.
No memory is set aside on the word of a header alone.
"""

import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

from mimii.storage import AudioError, missing_channel

PCM, EXTENSIBLE = 0x0001, 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_CONTAINERS = {
    b"RIFF": ("<", b"data"),
    b"RF64": ("<", b"data"),
    b"BW64": ("<", b"data"),
    b"RIFX": (">", b"data"),
    b"FORM": (">", b"SSND"),
}
_FMT_BYTES = 16
_LENGTH_UNKNOWN = 0xFFFFFFFF
_MOST_CHUNKS = 1000
BLOCK_SAMPLES = 1 << 20
"""The most samples of a channel that are in memory at a time."""

_BLOCK_BYTES = 1 << 17
_FULL_SCALE = np.float32(1 / 32768)
_MOST_SAMPLES_PER_BYTE = 65536
_LOUDEST = 0.9

Samples = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Header:
    """What a recording's header says, checked against its size.

    Attributes
    ----------
    sample_rate : int
        Hz.
    n_channels : int
        Channels (microphones).
    n_samples : int
        Samples of each channel.
    pcm16_offset : int
        Where the samples begin if they are 16-bit little-endian integers; else -1.

    """

    sample_rate: int
    n_channels: int
    n_samples: int
    pcm16_offset: int = -1


@dataclass(frozen=True, slots=True)
class _Wav:
    """The chunks of a RIFF file that matter."""

    format_tag: int
    n_channels: int
    sample_rate: int
    block_align: int
    bits: int
    data_offset: int
    data_size: int


def read_header(file: BinaryIO) -> Header:
    """Read what a recording's header says.

    Parameters
    ----------
    file : binary file
        Seekable, at any position.

    Returns
    -------
    Header
        Rate in Hz, number of channels, samples of each channel.

    Raises
    ------
    AudioError
        If the file is empty, truncated (of AU, W64 and OGG files, libsndfile silently takes what is there), not
        audio, or claims more samples than it can hold.
    OSError
        If it cannot be read.

    """
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        msg = "empty file"
        raise AudioError(msg)
    wav = _read_wav(file, size)
    if wav is not None and _is_pcm16(wav):
        return Header(wav.sample_rate, wav.n_channels, wav.data_size // wav.block_align, wav.data_offset)
    return _read_sndfile_header(file, size)


def read_channel(file: BinaryIO, channel: int) -> tuple[Header, Samples]:
    """Read one channel of a recording.

    Parameters
    ----------
    file : binary file
        Seekable, at any position.
    channel : int
        Counted from 0.

    Returns
    -------
    header : Header
        As `read_header` returns it.
    samples : ndarray of float32, shape (header.n_samples,)
        Full scale is 1; the same values as ``soundfile.read(dtype="float32")``.

    Raises
    ------
    AudioError
        If the recording cannot be used: see `read_header`; also where it has no such channel, ends early, or has
        samples that are not finite.
    OSError
        If it cannot be read.

    """
    header = read_header(file)
    blocks = list(read_blocks(file, header, channel))
    return header, blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])


def encode_flac(samples: Samples, sample_rate: int) -> bytes:
    """Write samples as a FLAC file of 16 bits, as loud as it can be, for people to listen to.

    Parameters
    ----------
    samples : ndarray of float32, shape (n_samples,)
        Any scale.
    sample_rate : int
        Hz.

    Returns
    -------
    bytes
        The file.

    Raises
    ------
    AudioError
        If FLAC does not have this sample rate.

    """
    file = io.BytesIO()
    peak = np.abs(samples).max(initial=0) or 1
    try:
        soundfile.write(file, samples / peak * _LOUDEST, sample_rate, format="FLAC", subtype="PCM_16")
    except soundfile.LibsndfileError as error:
        msg = f"FLAC does not take {sample_rate} Hz"
        raise AudioError(msg) from error
    return file.getvalue()


def read_blocks(file: BinaryIO, header: Header, channel: int) -> Iterator[Samples]:
    """Read one channel of a recording block by block, so that a long one need not fit in memory.

    Parameters
    ----------
    file : binary file
        Seekable; open until the last block is read.
    header : Header
        From `read_header`.
    channel : int
        Counted from 0.

    Yields
    ------
    ndarray of float32, shape (at most 2**20,)
        In order; together ``header.n_samples`` samples. Full scale is 1.

    Raises
    ------
    AudioError
        If there is no such channel, the recording ends early, or samples are not finite.
    OSError
        If it cannot be read.

    """
    if channel >= header.n_channels:
        raise AudioError(missing_channel(channel, header.n_channels))
    return (_read_pcm16 if header.pcm16_offset >= 0 else _read_sndfile)(file, header, channel)


def _read_wav(file: BinaryIO, size: int) -> _Wav | None:
    """Find the format and the samples of a WAV file; None if it is something else, also a whole AIFF file."""
    file.seek(0)
    magic = file.read(12)[:4]
    if magic not in _CONTAINERS:
        return None
    order, samples = _CONTAINERS[magic]
    fmt, long_length, offset = b"", 0, 12
    for _ in range(_MOST_CHUNKS):
        if offset + 8 > size:
            break
        file.seek(offset)
        name, length = struct.unpack(order + "4sI", file.read(8))
        offset += 8
        if name == samples:
            length = _promised(length, long_length, size - offset)
            return _wav(fmt, offset, length) if order == "<" and len(fmt) >= _FMT_BYTES else None
        if name == b"fmt ":
            fmt = file.read(min(length, 40))
        if name == b"ds64":  # the lengths of an RF64 file that do not fit elsewhere
            (long_length,) = struct.unpack("<8xQ", file.read(16).ljust(16, b"\0"))
        offset += length + (length & 1)
    return None


def _promised(length: int, long_length: int, there: int) -> int:
    """Return how many bytes of samples there are, if all that the header promises are there."""
    if length == _LENGTH_UNKNOWN:  # RF64, or written to a pipe
        length = long_length or there
    if length > there:
        msg = f"truncated: the header promises {length} bytes of samples, the file holds {there}"
        raise AudioError(msg)
    return length


def _wav(fmt: bytes, offset: int, length: int) -> _Wav:
    tag, n_channels, sample_rate, _, block_align, bits = struct.unpack("<HHIIHH", fmt[:_FMT_BYTES])
    if tag == EXTENSIBLE and fmt[24:40] == _PCM_GUID:
        tag = PCM
    return _Wav(tag, n_channels, sample_rate, block_align, bits, offset, length)


def _is_pcm16(wav: _Wav) -> bool:
    return (
        wav.format_tag == PCM
        and wav.bits == 16
        and wav.n_channels > 0
        and wav.sample_rate > 0
        and wav.block_align == 2 * wav.n_channels
    )


class _Quiet:
    """A file that raises nothing while libsndfile, written in C, calls it back: exceptions would only be printed.

    Sent somewhere impossible, as damaged headers do, it stays where it is; an error of disk or archive is kept.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file, self.tell = file, file.tell
        self.error: OSError | AudioError | None = None

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._file.seek(offset, whence)
        except (OSError, ValueError):
            return self._file.tell()

    def read(self, size: int) -> bytes:
        try:
            return self._file.read(size)
        except (OSError, AudioError) as error:
            self.error = error
            return b""


@contextmanager
def _open_sound(file: BinaryIO) -> Iterator[soundfile.SoundFile]:
    file.seek(0)
    quiet = _Quiet(file)
    try:
        with soundfile.SoundFile(quiet) as sound:
            yield sound
    except (soundfile.LibsndfileError, TypeError) as error:
        raise quiet.error or AudioError(_not_audio(error)) from error
    if quiet.error:
        raise quiet.error


def _read_sndfile_header(file: BinaryIO, size: int) -> Header:
    with _open_sound(file) as sound:
        header = Header(sound.samplerate, sound.channels, sound.frames)
    if header.n_samples > size * _MOST_SAMPLES_PER_BYTE:
        msg = f"the header claims {header.n_samples} samples, more than a file of {size} bytes can hold"
        raise AudioError(msg)
    return header


def _not_audio(error: Exception) -> str:
    reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
    return f"not audio that libsndfile reads: {reason}"


def _read_pcm16(file: BinaryIO, header: Header, channel: int) -> Iterator[Samples]:
    file.seek(header.pcm16_offset)
    stride = 2 * header.n_channels
    block = bytearray(max(_BLOCK_BYTES // stride, 1) * stride)
    for start in range(0, header.n_samples, BLOCK_SAMPLES):
        samples = np.empty(min(BLOCK_SAMPLES, header.n_samples - start), np.float32)
        for done in range(0, len(samples), len(block) // stride):
            count = min(len(block) // stride, len(samples) - done)
            # Every binary file has readinto; only its type does not say so.
            if file.readinto(memoryview(block)[: count * stride]) < count * stride:  # type: ignore[attr-defined]
                msg = f"truncated: the header promises {header.n_samples} samples, the file ends sooner"
                raise AudioError(msg)
            interleaved = np.frombuffer(block, "<i2", count * header.n_channels)
            samples[done : done + count] = interleaved[channel :: header.n_channels]
        yield np.multiply(samples, _FULL_SCALE, out=samples)


def _read_sndfile(file: BinaryIO, header: Header, channel: int) -> Iterator[Samples]:
    done = 0
    with _open_sound(file) as sound:
        while len(samples := _read_sound(sound, channel)):
            if not np.isfinite(samples).all():
                msg = "NaN or infinite samples"
                raise AudioError(msg)
            done += len(samples)
            yield samples
    if done != header.n_samples:
        msg = f"truncated: the header promises {header.n_samples} samples, {done} could be decoded"
        raise AudioError(msg)


def _read_sound(sound: soundfile.SoundFile, channel: int) -> Samples:
    """Read a block of one channel; of all channels only a block at a time is in memory."""
    count = max(_BLOCK_BYTES // (4 * sound.channels), 1)
    blocks = [np.empty(0, np.float32)]
    while sum(map(len, blocks)) < BLOCK_SAMPLES and len(block := sound.read(count, dtype="float32", always_2d=True)):
        blocks.append(block[:, channel].copy())
    return np.concatenate(blocks)
