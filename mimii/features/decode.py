"""Bytes of a recording to one channel of samples.

Most recordings are 16-bit WAV; those are read by NumPy, one channel picked out of the interleaved bytes block by
block, in a tenth of the time that decoding all channels to float takes. Everything else goes through libsndfile.
No memory is set aside on the word of a header alone.
"""

import io
import os
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import BinaryIO, cast

import numpy as np

from mimii.features.containers import FileView, find_mpeg, read_wav, skip_tags, with_true_length, without_last_tag
from mimii.features.sndfile import UNKNOWN_LENGTH, Samples, n_frames, open_sound, read_frames
from mimii.storage import AudioError, missing_channel

BLOCK_SAMPLES = 1 << 20
"""The most samples of a channel that are in memory at a time."""

_BLOCK_BYTES = 1 << 17
_FULL_SCALE = np.float32(1 / 32768)
_MOST_SAMPLES_PER_BYTE = 65536


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
        Samples of each channel; `UNKNOWN_LENGTH` where only decoding can tell.
    pcm16_offset : int
        Where the samples begin if they are 16-bit little-endian integers; else -1.

    """

    sample_rate: int
    n_channels: int
    n_samples: int
    pcm16_offset: int = -1


def read_header(file: BinaryIO) -> Header:
    """Read what a recording's header says.

    Parameters
    ----------
    file : binary file
        Seekable, at any position.

    Returns
    -------
    Header
        Rate in Hz, number of channels, samples of each channel: `UNKNOWN_LENGTH` where `count_samples` is needed.

    Raises
    ------
    AudioError
        If the file is empty, truncated (of AU, W64 and OGG files, libsndfile silently takes what is there), not
        audio, or claims more samples than it can hold.
    OSError
        If it cannot be read.

    """
    if plain := read_plain_header(file):
        return plain
    size = file.seek(0, os.SEEK_END)
    with open_sound(repaired(file)) as sound:
        header = Header(sound.samplerate, sound.channels, n_frames(sound))
    if header.n_samples > size * _MOST_SAMPLES_PER_BYTE:
        msg = f"the header claims {header.n_samples} samples, more than a file of {size} bytes can hold"
        raise AudioError(msg)
    return header


def read_plain_header(file: BinaryIO) -> Header | None:
    """Read the header of a 16-bit WAV file that needs no decoder; None of any other. Errors as `read_header`."""
    size = file.seek(0, os.SEEK_END)
    if size == 0:
        msg = "empty file"
        raise AudioError(msg)
    start = skip_tags(file)
    wav = read_wav(_behind(file, start), size - start)
    if wav is None or not wav.is_pcm16:
        return None
    return Header(wav.sample_rate, wav.n_channels, wav.data_size // wav.block_align, start + wav.data_offset)


def count_samples(file: BinaryIO) -> int:
    """Count the samples of each channel of a recording whose header does not say how many there are, by decoding it.

    Parameters
    ----------
    file : binary file
        Seekable, at any position: FLAC from a pipe, MP3 without a Xing or Info frame.

    Returns
    -------
    int
        Samples of each channel.

    Raises
    ------
    AudioError
        If it cannot be decoded to its end.
    OSError
        If it cannot be read.

    """
    with open_sound(repaired(file)) as sound:
        return sum(map(len, read_frames(sound)))


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
        As `read_header` returns it, with the true number of samples.
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
    samples = blocks[0] if len(blocks) == 1 else np.concatenate([np.empty(0, np.float32), *blocks])
    return replace(header, n_samples=len(samples)), samples


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
        In order; together ``header.n_samples`` samples, or all where that is `UNKNOWN_LENGTH`. Full scale is 1.

    Raises
    ------
    AudioError
        If there is no such channel, the recording ends early, or samples are not finite.
    OSError
        If it cannot be read.

    """
    if channel >= header.n_channels:
        raise AudioError(missing_channel(channel, header.n_channels))
    return (_read_pcm16 if header.pcm16_offset >= 0 else _read_sound)(file, header, channel)


def _behind(file: BinaryIO, start: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(FileView(file, start))) if start else file


def repaired(file: BinaryIO) -> BinaryIO:
    """Return a file as libsndfile can read it: without tags in front, with true lengths, from MPEG's first frame on."""
    view = without_last_tag(_behind(file, skip_tags(file)))
    size = view.seek(0, os.SEEK_END)
    view = with_true_length(view, read_wav(view, size))
    return _behind(view, find_mpeg(view))


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


def _read_sound(file: BinaryIO, header: Header, channel: int) -> Iterator[Samples]:
    """Decode by libsndfile; of all channels only a block at a time is in memory."""
    done, n_waiting, waiting = 0, 0, list[Samples]()
    with open_sound(repaired(file)) as sound:
        for frames in read_frames(sound):
            if n_waiting + len(frames) > BLOCK_SAMPLES:
                yield np.concatenate(waiting)
                n_waiting, waiting = 0, []
            waiting.append(_finite(frames[:, channel].copy()))
            n_waiting, done = n_waiting + len(frames), done + len(frames)
    if waiting:
        yield np.concatenate(waiting)
    if header.n_samples not in (done, UNKNOWN_LENGTH):
        msg = f"truncated or damaged: {header.n_samples} samples were expected, {done} could be decoded"
        raise AudioError(msg)


def _finite(samples: Samples) -> Samples:
    if not np.isfinite(samples).all():
        msg = "NaN or infinite samples"
        raise AudioError(msg)
    return samples
