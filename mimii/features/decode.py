"""Bytes of a recording to samples of one channel or several.

Most recordings are 16-bit WAV; those are read by NumPy, one channel picked out of the interleaved bytes block by
block, in a tenth of the time that decoding all channels to float takes. Everything else goes through libsndfile.
No memory is set aside on the word of a header alone.
"""

import io
import os
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from typing import Any, BinaryIO, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mimii.features.containers import FileView, find_mpeg, read_wav, skip_tags, with_true_length, without_last_tag
from mimii.features.sndfile import UNKNOWN_LENGTH, Samples, can_seek, n_frames, open_at, open_sound, read_frames
from mimii.storage import AudioError, missing_channel

BLOCK_SAMPLES = 1 << 20
"""The most samples of a channel that are in memory at a time."""

_BLOCK_BYTES = 1 << 17
_FULL_SCALE = np.float32(1 / 32768)
_MOST_SAMPLES_PER_BYTE = 65536
_SAMPLE_BYTES = {"PCM_U8": 1, "PCM_16": 2, "PCM_24": 3, "PCM_32": 4, "FLOAT": 4, "DOUBLE": 8, "ULAW": 1, "ALAW": 1}

MIXED = -1
"""The channel of a clip that is the mean of all channels of its recording."""


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
    samples_at, frame_bytes : int
        Where the samples begin, and how many bytes one of all channels takes; 0 where they are compressed, or the file
        is no WAV.
    can_seek : bool
        Whether it can be decoded from any sample on.

    """

    sample_rate: int
    n_channels: int
    n_samples: int
    pcm16_offset: int = -1
    samples_at: int = 0
    frame_bytes: int = 0
    can_seek: bool = True


class Segment(NamedTuple):
    """Which samples of a recording: the first, and how many; at its own sample rate."""

    start: int
    n_samples: int


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
    start = skip_tags(file)
    wav = read_wav(_behind(file, start), size - start)
    with open_sound(repaired(file)) as sound:
        is_pcm = wav is not None and wav.block_align == sound.channels * _SAMPLE_BYTES.get(sound.subtype, 0) > 0
        where = (start + wav.data_offset, wav.block_align) if wav and is_pcm else (0, 0)
        header = Header(sound.samplerate, sound.channels, n_frames(sound), -1, *where, can_seek(sound))
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
    begin, count = start + wav.data_offset, wav.data_size // wav.block_align
    return Header(wav.sample_rate, wav.n_channels, count, begin, begin, wav.block_align)


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


def read_channels(file: BinaryIO, channels: Sequence[int]) -> tuple[Header, Samples]:
    """Read several channels of a recording: samples of shape (n_channels, n_samples), which may have NaN."""
    header = read_header(file)
    samples = _joined(list(read_blocks(file, header, channels)), len(channels))
    return replace(header, n_samples=samples.shape[1]), samples


def read_blocks(
    file: BinaryIO, header: Header, channels: Sequence[int], segment: Segment | None = None
) -> Generator[Samples]:
    """Read some channels of a recording block by block, so that a long one need not fit in memory.

    Parameters
    ----------
    file : binary file
        Seekable; open until the last block is read.
    header : Header
        From `read_header`.
    channels : sequence of int
        Counted from 0; `MIXED` for the mean of all.
    segment : Segment
        Which samples; all where it is left out. What is before it is skipped where that is possible, or else decoded.

    Yields
    ------
    ndarray of float32, shape (len(channels), at most 2**20)
        In order; together ``segment.n_samples`` or ``header.n_samples`` samples, or all where that is `UNKNOWN_LENGTH`.
        Full scale is 1.

    Raises
    ------
    AudioError
        If there is no such channel, or the recording ends early.
    OSError
        If it cannot be read.

    """
    if (last := max(channels)) >= header.n_channels:
        raise AudioError(missing_channel(last, header.n_channels))
    segment = segment or Segment(0, header.n_samples)
    return (_read_pcm16 if header.pcm16_offset >= 0 else _read_sound)(file, header, channels, segment)


def read_segment(file: BinaryIO, header: Header, channels: Sequence[int], segment: Segment) -> Samples:
    """Read some channels of a segment at once; shape (len(channels), segment.n_samples)."""
    return _joined(list(read_blocks(file, header, channels, segment)), len(channels))


def _behind(file: BinaryIO, start: int) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(FileView(file, start))) if start else file


def repaired(file: BinaryIO) -> BinaryIO:
    """Return a file as libsndfile can read it: without tags in front, with true lengths, from MPEG's first frame on."""
    view = without_last_tag(_behind(file, skip_tags(file)))
    size = view.seek(0, os.SEEK_END)
    view = with_true_length(view, read_wav(view, size))
    return _behind(view, find_mpeg(view))


def _joined(blocks: Sequence[Samples], n_channels: int) -> Samples:
    if len(blocks) == 1:
        return blocks[0]
    return np.concatenate([np.empty((n_channels, 0), np.float32), *blocks], axis=1)


def _read_pcm16(file: BinaryIO, header: Header, channels: Sequence[int], segment: Segment) -> Generator[Samples]:
    stride = 2 * header.n_channels
    file.seek(header.pcm16_offset + segment.start * stride)
    pick = _picker(channels, header.n_channels)
    block = bytearray(max(_BLOCK_BYTES // stride, 1) * stride)
    most = max(BLOCK_SAMPLES // len(channels), 1)
    for start in range(0, segment.n_samples, most):
        samples = np.empty((len(channels), min(most, segment.n_samples - start)), np.float32)
        for done in range(0, samples.shape[1], len(block) // stride):
            count = min(len(block) // stride, samples.shape[1] - done)
            # Every binary file has readinto; only its type does not say so.
            if file.readinto(memoryview(block)[: count * stride]) < count * stride:  # type: ignore[attr-defined]
                msg = f"truncated: the header promises {header.n_samples} samples, the file ends sooner"
                raise AudioError(msg)
            interleaved = np.frombuffer(block, "<i2", count * header.n_channels).reshape(count, header.n_channels)
            pick(interleaved, samples[:, done : done + count])
        yield np.multiply(samples, _FULL_SCALE, out=samples)


def _picker(channels: Sequence[int], n_channels: int) -> Callable[[NDArray[Any], Samples], object]:
    """Return what copies channels of interleaved samples, shape (any, n_channels), to rows of another array."""
    share = np.full(n_channels, 1 / n_channels, np.float32)

    def mix(frames: NDArray[Any], out: Samples) -> None:
        np.dot(frames.astype(np.float32, copy=False), share, out=out[0])  # 20 times faster than the mean of each

    def pick(frames: NDArray[Any], out: Samples) -> None:
        for row, channel in enumerate(channels):
            out[row] = frames[:, channel]

    return mix if tuple(channels) == (MIXED,) else pick


def _read_sound(file: BinaryIO, header: Header, channels: Sequence[int], segment: Segment) -> Generator[Samples]:
    """Decode by libsndfile; of all channels only a block at a time is in memory."""
    pick, is_whole = _picker(channels, header.n_channels), segment == Segment(0, header.n_samples)
    done, n_waiting, waiting, left = 0, 0, list[Samples](), segment.n_samples
    try:
        with open_at(repaired(file), segment.start) as (sound, start):
            to_skip = segment.start - start
            for decoded in read_frames(sound, start):
                frames = decoded[to_skip:]
                to_skip -= len(decoded) - len(frames)
                frames = frames if is_whole else frames[: left - done]
                if n_waiting + len(frames) > BLOCK_SAMPLES // len(channels):
                    yield np.concatenate(waiting, axis=1)
                    n_waiting, waiting = 0, []
                waiting.append(np.empty((len(channels), len(frames)), np.float32))
                pick(frames, waiting[-1])
                n_waiting, done = n_waiting + len(frames), done + len(frames)
                if done == left and not is_whole:
                    break
    except AudioError:
        if waiting:  # what is in front of the damage is good
            yield np.concatenate(waiting, axis=1)
        raise
    if waiting:
        yield np.concatenate(waiting, axis=1)
    if left not in (done, UNKNOWN_LENGTH):
        msg = f"truncated or damaged: {left} samples were expected, {done} could be decoded"
        raise AudioError(msg)


def check_finite(samples: Samples) -> Samples:
    """Return samples; AudioError where some are NaN or infinite."""
    if not np.isfinite(samples).all():
        msg = "NaN or infinite samples"
        raise AudioError(msg)
    return samples
