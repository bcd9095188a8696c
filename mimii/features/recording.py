"""One recording of a task, open: its clips are read one after the other, each segment once for all of its channels."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import BinaryIO

import numpy as np

from mimii.features.decode import Header, Segment, check_finite, read_blocks, read_header, read_segment
from mimii.features.mel import FloatArray, SampleBlocks
from mimii.features.sndfile import UNKNOWN_LENGTH
from mimii.storage import AudioError, Opener, Place, Wanted, is_remote, numbered

_BLOCK_BYTES = 1 << 20
_MOST_TOGETHER = 16 << 20


@dataclass(frozen=True, slots=True)
class Input:
    """What a task reads of one clip.

    Attributes
    ----------
    clip : int
        Index of the clip.
    place : Place
        Where the bytes of its recording are.
    header : Header
        What the recording's header said when this was planned.
    channel : int
        Counted from 0; `MIXED` for the mean of all.
    segment : Segment
        Which samples of the recording.
    is_kept : bool
        Whether its results are at the output already and stay: it is not read.

    """

    clip: int
    place: Place
    header: Header
    channel: int
    segment: Segment
    is_kept: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether the clip has all samples of the recording."""
        return self.segment == Segment(0, self.header.n_samples)


def group_by_recording(inputs: Sequence[Input]) -> Iterator[list[Input]]:
    """Yield the inputs of each recording, as they come one after the other."""
    return (list(group) for _, group in groupby(inputs, lambda one: one.place))


def what_to_fetch(inputs: Sequence[Input]) -> list[Wanted]:
    """Return which bytes of one recording are read for its clips: those of each segment, or all of them once.

    All are read where samples are compressed, and in files of this machine, where bytes that are not read cost nothing.
    """
    place, header = inputs[0].place, inputs[0].header
    is_elsewhere = is_remote(place.url) or place.member is not None
    if inputs[0].is_whole or not (is_elsewhere and place.is_stored and header.frame_bytes):
        return [Wanted(place)]
    begin, step = header.samples_at, header.frame_bytes
    segments = dict.fromkeys(one.segment for one in inputs)
    return [Wanted(place, begin + start * step, begin + (start + count) * step) for start, count in segments]


class NotAsPlannedError(AudioError):
    """A recording that is another one than when the work was planned: the next plan may know it better."""


class OpenRecording:
    """Decodes the clips of one recording, which are read in their order.

    Channels of a segment are decoded together, unless they would fill the memory. A recording that can only be decoded
    from its beginning on is so once, not once for each segment.

    Parameters
    ----------
    inputs : sequence of Input
        All clips of the recording that are read.

    """

    def __init__(self, inputs: Sequence[Input]) -> None:
        self._inputs = inputs
        self._channels = sorted({one.channel for one in inputs})
        self._opener: Opener | None = None
        self._file: BinaryIO | None = None
        self._header: Header | None = None
        self._forward: _ForwardDecoder | None = None
        self._segment: Segment | None = None
        self._decoded: dict[int, FloatArray] = {}

    def read(self, one: Input, opener: Opener) -> SampleBlocks:
        """Return the samples of a clip at the rate of the recording, block by block.

        Parameters
        ----------
        one : Input
            One of the inputs.
        opener : callable
            Opens the recording: one of `mimii.storage.open_all`.

        Returns
        -------
        SampleBlocks
            float32, full scale is 1.

        Raises
        ------
        AudioError
            If it is not audio, or is not as planned. Reading a block may raise it, too.
        OSError
            If it cannot be read.

        """
        is_alone = len(self._inputs) == 1 and one.is_whole
        if is_alone or one.segment.n_samples * len(self._channels) > _MOST_TOGETHER:
            return _stream(one, opener)
        if one.segment != self._segment or one.channel not in self._decoded:
            self._decoded = {}  # before the next segment is in memory
            self._decoded = self._decode(one, opener)
            self._segment = one.segment
        samples = self._decoded.pop(one.channel)
        return SampleBlocks(one.segment.n_samples, [samples if one.header.pcm16_offset >= 0 else check_finite(samples)])

    def close(self) -> None:
        """Close the file; nothing is read any more."""
        if self._forward:
            self._forward.close()
        if self._file:
            self._file.close()
        self._opener, self._file, self._header, self._forward, self._decoded = None, None, None, None, {}

    def _decode(self, one: Input, opener: Opener) -> dict[int, FloatArray]:
        if self._file is None or self._header is None or opener is not self._opener:
            self.close()
            self._file, self._opener = opener(), opener
            self._header = _read_planned(self._file, one)
        header = self._header
        if header.can_seek and one.place.is_sought_at_once:
            samples = read_segment(self._file, header, self._channels, one.segment)
        else:
            if self._forward is None or self._forward.start > one.segment.start:
                self._forward = _ForwardDecoder(self._file, header, self._channels)
            samples = self._forward.read(one.segment)
        return dict(zip(self._channels, samples, strict=True))


class _ForwardDecoder:
    """Decodes a recording from its beginning on; of what was decoded it keeps what the next segment may begin with."""

    def __init__(self, file: BinaryIO, header: Header, channels: Sequence[int]) -> None:
        self._blocks = read_blocks(file, header, channels)
        self._kept = np.empty((len(channels), 0), np.float32)
        self._error: AudioError | None = None
        self.start = 0

    def read(self, segment: Segment) -> FloatArray:
        """Return a segment that begins where the one before did, or behind; shape (n_channels, n_samples)."""
        blocks, n_kept = [self._kept], self._kept.shape[1]
        while self.start + n_kept < segment.start + segment.n_samples:
            block = self._next(self.start + n_kept)
            if self.start + n_kept <= segment.start:  # all that came before is behind
                self.start, n_kept, blocks = self.start + n_kept, 0, []
            blocks.append(block)
            n_kept += block.shape[1]
        self._kept = np.concatenate(blocks, axis=1)[:, segment.start - self.start :]
        self.start = segment.start
        return self._kept[:, : segment.n_samples]

    def _next(self, n_decoded: int) -> FloatArray:
        """Return the next block; where there is none, the reason, for all segments that are behind it."""
        try:
            if self._error is None and (block := next(self._blocks, None)) is not None:
                return block
        except AudioError as error:
            self._error = error
        self._error = self._error or AudioError(f"truncated or damaged: only {n_decoded} samples could be decoded")
        raise self._error

    def close(self) -> None:
        self._blocks.close()


def _stream(one: Input, opener: Opener) -> SampleBlocks:
    """Read one clip in blocks, from a file of its own, which is closed after the last one."""
    file = opener()
    try:
        header = _read_planned(file, one)
    except BaseException:
        file.close()
        raise
    return SampleBlocks(one.segment.n_samples, _read_all(file, header, one))


def _read_all(file: BinaryIO, header: Header, one: Input) -> Iterator[FloatArray]:
    with file:
        for block in read_blocks(file, header, [one.channel], one.segment):
            yield block[0] if header.pcm16_offset >= 0 else check_finite(block[0])
        while one.is_whole and file.read(_BLOCK_BYTES):  # to the end, where an archive's checksum is compared
            pass


def _read_planned(file: BinaryIO, one: Input) -> Header:
    """Read the header; AudioError where the recording is another one than planned."""
    header, planned = read_header(file), one.header
    if header.n_samples == UNKNOWN_LENGTH:  # counted for the plan; after the last block it is compared
        header = replace(header, n_samples=planned.n_samples)
    if _shape(header) != _shape(planned):
        (there, n_channels, rate), (wanted, n_wanted, wanted_rate) = _shape(header), _shape(planned)
        msg = (
            f"it has {there} samples of {numbered(n_channels, 'channel')} at {rate} Hz, and {wanted} samples of "
            f"{numbered(n_wanted, 'channel')} at {wanted_rate} Hz were expected: it changed during the run, or differs "
            "from others of the same size, for which --probe all helps"
        )
        raise NotAsPlannedError(msg)
    return header


def _shape(header: Header) -> tuple[int, int, int]:
    return header.n_samples, header.n_channels, header.sample_rate
