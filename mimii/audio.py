"""Bytes of a recording to one channel of samples. The only file that knows soundfile.

Most recordings are 16-bit WAV; those are read by NumPy, one channel picked out of the interleaved bytes block by
block, in a tenth of the time that decoding all channels to float takes. Everything else goes through libsndfile.
No memory is set aside on the word of a header alone.
"""

import os
import struct
from dataclasses import dataclass
from typing import BinaryIO

import numpy as np
import soundfile
from numpy.typing import NDArray

PCM, EXTENSIBLE = 0x0001, 0xFFFE
_PCM_GUID = bytes.fromhex("0100000000001000800000aa00389b71")
_LENGTH_UNKNOWN = 0xFFFFFFFF
_MOST_CHUNKS = 1000
_BLOCK_BYTES = 1 << 17
_FULL_SCALE = np.float32(1 / 32768)
_MOST_SAMPLES_PER_BYTE = 65536


class AudioError(ValueError):
    """A recording that cannot be used; the message is the reason, without the path."""


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
        If the file is empty, truncated, not audio, or claims more samples than it can hold.
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


def read_channel(file: BinaryIO, channel: int) -> tuple[Header, NDArray[np.float32]]:
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
    if channel >= header.n_channels:
        msg = missing_channel(channel, header.n_channels)
        raise AudioError(msg)
    if header.pcm16_offset >= 0:
        return header, _read_pcm16(file, header, channel)
    return header, _read_sndfile(file, header, channel)


def missing_channel(channel: int, n_channels: int) -> str:
    """Say that a recording lacks a channel.

    Parameters
    ----------
    channel : int
        The one asked for, counted from 0.
    n_channels : int
        How many there are.

    Returns
    -------
    str
        The reason, for people.

    """
    return f"no channel {channel}: the recording has {n_channels}, counted from 0"


def _read_wav(file: BinaryIO, size: int) -> _Wav | None:
    """Find the format and the samples of a little-endian RIFF file; None if it is something else or odd."""
    file.seek(0)
    riff = file.read(12)
    if len(riff) < 12 or riff[:4] != b"RIFF" or riff[8:] != b"WAVE":
        return None
    fmt, offset = b"", 12
    for _ in range(_MOST_CHUNKS):
        if offset + 8 > size:
            break
        file.seek(offset)
        name, length = struct.unpack("<4sI", file.read(8))
        offset += 8
        if name == b"data":
            return _wav(fmt, offset, length, size)
        if name == b"fmt ":
            fmt = file.read(min(length, 40))
        offset += length + (length & 1)
    return None


def _wav(fmt: bytes, offset: int, length: int, size: int) -> _Wav | None:
    if len(fmt) < 16:
        return None
    tag, n_channels, sample_rate, _, block_align, bits = struct.unpack("<HHIIHH", fmt[:16])
    if tag == EXTENSIBLE and fmt[24:40] == _PCM_GUID:
        tag = PCM
    if length == _LENGTH_UNKNOWN:  # written to a pipe
        length = size - offset
    if offset + length > size:
        msg = f"truncated: the header promises {length} bytes of samples, the file holds {size - offset}"
        raise AudioError(msg)
    return _Wav(tag, n_channels, sample_rate, block_align, bits, offset, length)


def _is_pcm16(wav: _Wav) -> bool:
    return (
        wav.format_tag == PCM
        and wav.bits == 16
        and wav.n_channels > 0
        and wav.sample_rate > 0
        and wav.block_align == 2 * wav.n_channels
    )


class _Seekable:
    """A file that stays where it is when it is sent somewhere impossible, as damaged headers do.

    libsndfile calls back from C, where an exception cannot be raised but only printed.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.read, self.tell, self._seek = file.read, file.tell, file.seek

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        try:
            return self._seek(offset, whence)
        except (OSError, ValueError):
            return self.tell()


def _read_sndfile_header(file: BinaryIO, size: int) -> Header:
    file.seek(0)
    try:
        with soundfile.SoundFile(_Seekable(file)) as sound:
            header = Header(sound.samplerate, sound.channels, sound.frames)
    except (soundfile.LibsndfileError, TypeError) as error:
        raise AudioError(_not_audio(error)) from error
    if header.n_samples > size * _MOST_SAMPLES_PER_BYTE:
        msg = f"the header claims {header.n_samples} samples, more than a file of {size} bytes can hold"
        raise AudioError(msg)
    return header


def _not_audio(error: Exception) -> str:
    reason = getattr(error, "error_string", str(error)).strip().rstrip(".")
    return f"not audio that libsndfile reads: {reason}"


def _read_pcm16(file: BinaryIO, header: Header, channel: int) -> NDArray[np.float32]:
    stride = 2 * header.n_channels
    block = bytearray(max(_BLOCK_BYTES // stride, 1) * stride)
    samples = np.empty(header.n_samples, np.float32)
    file.seek(header.pcm16_offset)
    done = 0
    while done < header.n_samples:
        count = min(len(block) // stride, header.n_samples - done)
        if file.readinto(memoryview(block)[: count * stride]) < count * stride:  # type: ignore[attr-defined]
            msg = f"truncated: the header promises {header.n_samples} samples, the file ends sooner"
            raise AudioError(msg)
        interleaved = np.frombuffer(block, "<i2", count * header.n_channels)
        samples[done : done + count] = interleaved[channel :: header.n_channels]
        done += count
    return np.multiply(samples, _FULL_SCALE, out=samples)


def _read_sndfile(file: BinaryIO, header: Header, channel: int) -> NDArray[np.float32]:
    file.seek(0)
    blocks, done = [], 0
    frames = max(_BLOCK_BYTES // (4 * header.n_channels), 1)
    try:
        with soundfile.SoundFile(_Seekable(file)) as sound:
            while len(block := sound.read(frames, dtype="float32", always_2d=True)):
                blocks.append(block[:, channel].copy())
                done += len(block)
    except soundfile.LibsndfileError as error:
        raise AudioError(_not_audio(error)) from error
    if done != header.n_samples:
        msg = f"truncated: the header promises {header.n_samples} samples, {done} could be decoded"
        raise AudioError(msg)
    samples = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
    if not np.isfinite(samples).all():
        msg = "NaN or infinite samples"
        raise AudioError(msg)
    return samples
