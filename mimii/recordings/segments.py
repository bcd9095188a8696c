"""Recordings to clips: each of their channels that is wanted, and each of their segments."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from mimii.features import ALL, MEAN, MIXED, FeatureSpec, Header, Segment, channels_of, n_resampled, n_rows
from mimii.recordings.clips import Clip


@dataclass(frozen=True, slots=True)
class Rests:
    """What is left at the ends of recordings that were cut: shorter segments, and what is too short for a row.

    Attributes
    ----------
    n_shorter : int
        How many shorter clips the ends are.
    n_left_out : int
        How many ends are no clips.
    left_out_s : float
        Seconds of these in all.

    """

    n_shorter: int = 0
    n_left_out: int = 0
    left_out_s: float = 0.0


class Part(NamedTuple):
    """Which part of a recording a clip is: its channel, and its segment in seconds; NaN where all of it."""

    channel: int
    start_s: float
    duration_s: float


NO_RESTS = Rests()


def cut_recordings(recordings: Iterable[Clip], spec: FeatureSpec) -> tuple[list[Clip], Rests]:
    """Return the clips of recordings, in the order of these, by time and then by channel; and what is left over.

    Segment i begins at ``int(i * (segment - overlap) * rate)`` samples and has ``int(segment * rate)``: what
    ``librosa.load(sr=None, offset=start_s, duration=segment)`` returns. The rest at the end is a shorter segment if it
    has a row, and is left out else. One whose header is not known is one clip.
    """
    clips, rests = list[Clip](), list[_Cut]()
    for recording in recordings:
        if recording.problem or recording.header is None:
            clips.append(replace(recording, channel=_first_channel(spec)))
            continue
        cut = _cut(recording.header, spec)
        rests.append(cut)
        path, place, who = recording.path, recording.place, recording.identity
        clips += [Clip(path, place, who, "", cut.header, *part) for part in cut.parts]
    left_out = [cut.left_out_s for cut in rests if cut.left_out_s]
    return clips, Rests(sum(cut.n_shorter for cut in rests), len(left_out), math.fsum(left_out))


def clip_name(clip: Clip, spec: FeatureSpec) -> str:
    """Return the path of a clip, and which part of the recording it is, where others may be clips, too."""
    return ", ".join(filter(None, (clip.path, part_words(clip, spec))))


def part_words(clip: Clip, spec: FeatureSpec) -> str:
    """Say which part of its recording a clip is, where others may be clips, too; empty where not."""
    parts = [f"channel {clip.channel}"] if spec.channel == ALL else []
    parts += [f"from {clip.start_s:g} s"] if spec.segment is not None else []
    return ", ".join(parts)


def part_name(clip: Clip, spec: FeatureSpec) -> str:
    """Return what distinguishes the clips of a recording in names of files, such as ``ch3-at20s``; empty where one."""
    parts = [f"ch{clip.channel}"] if spec.channel == ALL else []
    parts += [f"at{clip.start_s:.6f}".rstrip("0").rstrip(".") + "s"] if spec.segment is not None else []
    return "-".join(parts)


def seconds(n_samples: int, rate: int) -> float:
    """Return a time from which ``int(time * rate)`` gives the samples, as librosa computes them."""
    time = n_samples / rate
    return time if int(time * rate) == n_samples else math.nextafter(time, math.inf)


def _first_channel(spec: FeatureSpec) -> int:
    if isinstance(spec.channel, int):
        return spec.channel
    return MIXED if spec.channel == MEAN else 0


def _segments(header: Header, spec: FeatureSpec) -> Iterator[Segment]:
    """Yield the segments of a recording: at least one, and none that lies within the one before."""
    total, rate = header.n_samples, header.sample_rate
    if spec.segment is None:
        yield Segment(0, total)
        return
    length, step, index, end = max(int(spec.segment * rate), 1), spec.segment - spec.overlap, 0, 0
    while index == 0 or end < total:
        start = int(index * step * rate)
        if index and start >= total:  # between two segments whose length is no whole number of samples, one may be left
            return
        yield Segment(start, min(length, total - start))
        index, end = index + 1, start + length


def _has_row(segment: Segment, header: Header, spec: FeatureSpec) -> bool:
    return n_rows(n_resampled(segment.n_samples, header.sample_rate, spec.sample_rate), spec) > 0


class _Cut(NamedTuple):
    """How recordings with this header are cut: channel, start and duration in s, and samples of each clip."""

    header: Header
    parts: tuple[tuple[int, float, float, Segment], ...]
    n_shorter: int = 0
    left_out_s: float = 0.0


@lru_cache(maxsize=1024)
def _cut(header: Header, spec: FeatureSpec) -> _Cut:
    """Cut recordings with this header; equal headers share one result, which makes tasks smaller, too."""
    segments, rate = list(_segments(header, spec)), header.sample_rate
    rest, left_out_s = segments[-1], 0.0
    has_shorter = spec.segment is not None and rest.n_samples < int(spec.segment * rate)
    if has_shorter and len(segments) > 1 and not _has_row(rest, header, spec):
        segments, has_shorter, left_out_s = segments[:-1], False, rest.n_samples / rate
    channels = channels_of(spec.channel, header.n_channels)
    parts = tuple(
        (channel, seconds(segment.start, rate), seconds(segment.n_samples, rate), segment)
        for segment in segments
        for channel in channels
    )
    return _Cut(header, parts, len(channels) if has_shorter else 0, left_out_s)
