"""The sound around moments of clips, for a page, read from the recordings where these are still available."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from mimii.features import FloatArray, Segment, encode_flac, read_header, read_segment
from mimii.recordings import Clip, Part, SourceError, find_listed
from mimii.storage import Access, AudioError, StorageError, archive_of, open_part, unreadable

SECONDS = 4.0
"""Seconds of sound around a moment, at most."""

_BITS = 12  # noise 74 dB below the loudest sample is masked by the machine, and files are a third smaller


@dataclass(frozen=True, slots=True)
class Sound:
    """Some seconds of a clip as a FLAC file, or empty and why.

    Attributes
    ----------
    flac : bytes
        The file; empty where there is none.
    problem : str
        Why there is none.
    start_s, stop_s : float
        Which seconds of the clip; NaN where there is no sound.

    """

    flac: bytes
    problem: str = ""
    start_s: float = math.nan
    stop_s: float = math.nan


class Excerpt(NamedTuple):
    """What to play: which part of which recording a clip is, and around which second of the clip."""

    path: str
    part: Part
    middle_s: float


class _Samples(NamedTuple):
    samples: FloatArray
    sample_rate: int
    start_s: float


@dataclass(slots=True)
class Listener:
    """Reads sounds; each archive is looked through once, for all recordings of it that are to be played.

    Attributes
    ----------
    paths : tuple of str
        All recordings that may be asked for.
    access : Access
        How to access those on S3.

    """

    paths: tuple[str, ...]
    access: Access
    _found: dict[str, Clip] = field(default_factory=dict)

    def read(self, excerpts: Iterable[Excerpt]) -> list[Sound]:
        """Read some seconds of clips, all with one gain: the louder one stays louder."""
        read = [self._read(excerpt) for excerpt in excerpts]
        peak = max((float(abs(one.samples).max(initial=0)) for one in read if not isinstance(one, str)), default=0.0)
        return [Sound(b"", one) if isinstance(one, str) else _encode(one, peak) for one in read]

    def _read(self, excerpt: Excerpt) -> _Samples | str:
        """Return samples, or why there are none."""
        try:
            clip = self._find(excerpt.path)
            return clip.problem or self._samples(clip, excerpt)
        except (AudioError, SourceError, StorageError) as error:
            return str(error)
        except OSError as error:
            return unreadable(error)

    def _find(self, path: str) -> Clip:
        if path not in self._found:
            archive = archive_of(path)
            alike = [other for other in self.paths if archive_of(other) == archive] if archive else [path]
            self._found |= dict(zip(alike, find_listed(alike, self.access), strict=True))
        return self._found[path]

    def _samples(self, clip: Clip, excerpt: Excerpt) -> _Samples:
        with open_part(clip.place, self.access) as file:
            header = read_header(file)
            begin, segment = _cut(excerpt, header.n_samples, header.sample_rate)
            [samples] = read_segment(file, header, [excerpt.part.channel], segment)
        return _Samples(samples, header.sample_rate, (segment.start - begin) / header.sample_rate)


def read_sounds(excerpts: Sequence[Excerpt], access: Access) -> list[Sound]:
    """Read some seconds of clips, to be compared by ear."""
    return Listener(tuple(excerpt.path for excerpt in excerpts), access).read(excerpts)


def _cut(excerpt: Excerpt, n_samples: int, sample_rate: int) -> tuple[int, Segment]:
    """Return the first sample of a clip in its recording, and the samples to be played."""
    part = excerpt.part
    begin = 0 if math.isnan(part.start_s) else int(part.start_s * sample_rate)
    count = max(0, n_samples - begin) if math.isnan(part.duration_s) else int(part.duration_s * sample_rate)
    wanted = min(count, int(SECONDS * sample_rate))
    start = int(excerpt.middle_s * sample_rate) - wanted // 2
    return begin, Segment(begin + min(max(start, 0), count - wanted), wanted)


def _encode(read: _Samples, peak: float) -> Sound:
    try:
        flac = encode_flac(read.samples, read.sample_rate, peak, _BITS)
    except AudioError as error:
        return Sound(b"", str(error))
    return Sound(flac, "", read.start_s, read.start_s + len(read.samples) / read.sample_rate)
