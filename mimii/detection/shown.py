"""What a page shows of machines, the most alarming ones first, within a number of bytes: moments, pictures, sounds.

Rows are read of the machines that have pictures, and of no others.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from mimii.detection import neighbours
from mimii.detection.charts import Interval, bands_chart, moments_chart, spectrogram
from mimii.detection.detectors import Detector, Model
from mimii.detection.documents import model_key
from mimii.detection.events import find_moments
from mimii.detection.kinds import KINDS
from mimii.detection.listening import Excerpt, Listener, Sound
from mimii.detection.machines import Machine
from mimii.detection.pooling import ClipFeatures, window_statistics, window_times
from mimii.detection.ranking import Standing
from mimii.detection.scoring import read_model
from mimii.detection.study import MachineReader, Study
from mimii.features import ALL, FeatureSpec, FloatArray, band_centres
from mimii.images import Style, colour_table, render_entries
from mimii.recordings import Part
from mimii.storage import Access
from mimii.table import Columns

SOUND_BYTES, PICTURE_BYTES = 4_800_000, 3_500_000
"""Bytes of a page, for sound and for pictures: more is left out, that of the least alarming machines."""

MOST_DETAILED, MOST_MOMENTS = 10, 3
"""So many machines, the most alarming ones, are shown with up to so many moments; all others with one."""

_SHOWN_S, _MOST_COLUMNS = 12.0, 320
_N_BANDS, _APART = 3, 16
_MOST_FAILURES = 5
_WORDS_BYTES = 3000
_NO_ROOM = "left out to keep this page small"
_NOT_TRIED = "not tried, since {} others in a row could not be read"
_COLOURS = "magma"
_QUIETEST = 2  # percent: silence would take up the scale


@dataclass(frozen=True, slots=True)
class Band:
    """A mel band that differs from normal: its middle in Hz, by how many dB, and in what: its mean or its maximum."""

    hz: float
    db: float
    is_maximum: bool


@dataclass(frozen=True, slots=True)
class View:
    """A clip as it is shown.

    Attributes
    ----------
    clip : int
        Its index in the table.
    moment : (float, float) or None
        The interval that is marked, in seconds from the start of the clip; None where it is not known.
    db_range : (float, float)
        What the darkest and the brightest colour of the picture stand for.
    picture : str
        Its spectrogram, as SVG.
    sound : Sound
        The sound around the moment.

    """

    clip: int
    moment: Interval | None
    db_range: Interval
    picture: str
    sound: Sound = field(default=Sound(b"", _NO_ROOM), repr=False)


@dataclass(frozen=True, slots=True)
class Case:
    """One of the most alarming moments of a machine.

    Attributes
    ----------
    machine : str
        The name of the machine.
    score : float
        Of the clip.
    alarming, normal : View
        The clip, and the nearest normal clip; None where there is no other normal clip.
    events : tuple of (float, float)
        When the clip is above the threshold for moments, in seconds.
    bands : tuple of Band
        Those that differ most.
    is_of_moment : bool
        Whether these are of the moment beside moments of normal clips, and not of the clip beside the nearest one.
    time_chart, bands_chart : str
        Score over time and differences of all bands, as SVG; empty where they are not known.

    """

    machine: str
    score: float
    alarming: View
    normal: View | None
    events: tuple[Interval, ...]
    bands: tuple[Band, ...]
    is_of_moment: bool
    time_chart: str
    bands_chart: str

    @property
    def views(self) -> tuple[View, ...]:
        """The clip, and the nearest normal one where there is one."""
        return (self.alarming, self.normal) if self.normal else (self.alarming,)

    @property
    def n_bytes(self) -> int:
        """Of the pictures, charts and words on the page."""
        drawn = (*(view.picture for view in self.views), self.time_chart, self.bands_chart)
        return sum(map(len, drawn)) + _WORDS_BYTES


def choose_cases(standings: Sequence[Standing], columns: Columns, study: Study, access: Access) -> list[list[Case]]:
    """Return the most alarming moments of each machine: of none where there is no room for pictures any more."""
    left, found = PICTURE_BYTES, list[list[Case]]()
    for place, standing in enumerate(standings):
        cases = look_closer(standing, study, MOST_MOMENTS if place < MOST_DETAILED else 1)
        left -= sum(case.n_bytes for case in cases)
        if left < 0:
            break
        found.append(cases)
    return _add_sounds(found, columns, access) + [[] for _ in standings[len(found) :]]


def look_closer(standing: Standing, study: Study, most: int) -> list[Case]:
    """Read the latest clips of a machine with the highest scores, and find their most alarming moments."""
    history = standing.history
    places = standing.latest[:most].tolist()
    if not places:
        return []
    model = read_model(study.output, model_key(standing.machine.name))
    closer = _Closer(standing.machine, MachineReader(standing.machine, study, samples_windows=False), model)
    return [closer.case(int(history.clips[place]), float(history.scores[place])) for place in places]


@dataclass(frozen=True, slots=True)
class _Closer:
    machine: Machine
    reader: MachineReader
    model: Model

    @property
    def detector(self) -> Detector:
        return self.model.detectors[0]

    def case(self, clip: int, score: float) -> Case:
        pooling, spec = self.model.pooling, self.model.spec
        features = self._read(clip)
        moments = find_moments(features, self.detector, pooling)
        window = None if math.isnan(moments.peak) else int(np.nanargmax(moments.scores))
        nearest = self._nearest(clip, features)
        beside = None if nearest is None else self._read(nearest)
        differences, strengths = self._differences(features, beside, window)
        db_range = _db_range(*(one for one in (features, beside) if one))
        mark = None if window is None else (float(moments.start_s[window]), float(moments.stop_s[window]))
        return Case(
            machine=self.machine.name,
            score=score,
            alarming=_view(clip, features, mark, db_range, spec),
            normal=None
            if nearest is None or beside is None
            else self._beside(nearest, beside, features, window, db_range),
            events=tuple((event.start_s, event.stop_s) for event in moments.events()),
            bands=differing_bands(differences, strengths, spec) if len(differences) else (),
            is_of_moment=self._knows_windows(window),
            time_chart="" if mark is None else moments_chart(moments, mark),
            bands_chart=bands_chart(differences[0], spec) if len(differences) else "",
        )

    def _read(self, clip: int) -> ClipFeatures:
        spans = {span.clip: span for span in (*self.machine.train, *self.machine.test)}
        return self.reader.clip(spans[clip], with_frames=True)

    def _nearest(self, clip: int, features: ClipFeatures) -> int | None:
        """Return the nearest training clip that is not the clip itself, nor of its recording if there are others."""
        train = self.machine.train
        own = [number for number, span in zip(self.machine.recordings, train, strict=True) if span.clip == clip]
        others = [place for place, number in enumerate(self.machine.recordings) if number not in own]
        others = others or [place for place, span in enumerate(train) if span.clip != clip]
        if not others:
            return None
        scaled = neighbours.scale_clips(self.reader.examples.statistics)
        scaled["known"] = scaled["known"][others]
        return train[others[neighbours.nearest_clip(features.statistics, scaled)]].clip

    def _beside(
        self, clip: int, features: ClipFeatures, alarming: ClipFeatures, window: int | None, db_range: Interval
    ) -> View:
        """Show a normal clip: marked is what is most like the moment."""
        mark = None
        if window is not None:
            pooling = self.model.pooling
            moment, windows = (window_statistics(one, pooling) for one in (alarming, features))
            place = int(np.abs(windows - moment[window]).mean(axis=(1, 2)).argmin())
            start_s, stop_s = window_times(features, pooling.spec)
            mark = float(start_s[place]), float(stop_s[place])
        return _view(clip, features, mark, db_range, self.model.spec)

    def _knows_windows(self, window: int | None) -> bool:
        return window is not None and not KINDS[self.detector.kind].reads_rows

    def _differences(
        self, features: ClipFeatures, beside: ClipFeatures | None, window: int | None
    ) -> tuple[FloatArray, FloatArray]:
        """Return by how many dB mean and maximum of each band differ, and how much that matters; shapes (2, n_mels).

        At the moment, beside what is usual for moments of normal clips, in deviations of these; a maximum matters where
        it is louder. For detectors that know no moments by their bands: of the clip, beside the nearest normal one.
        """
        if window is not None and self._knows_windows(window):
            arrays = self.detector.arrays
            differences = window_statistics(features, self.model.pooling)[window] - arrays["window_mean"]
            z = differences / arrays["window_scale"]
            return differences, np.stack([np.abs(z[0]), z[1]])
        if beside is None:
            return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
        differences = (features.statistics - beside.statistics)[[0, 2]]
        return differences, np.abs(differences)


def differing_bands(differences: FloatArray, strengths: FloatArray, spec: FeatureSpec) -> tuple[Band, ...]:
    """Return the bands that differ most, the first one most of all; none is near another."""
    strongest, centres, chosen = strengths.max(axis=0), band_centres(spec), list[int]()
    for band in np.argsort(-strongest, kind="stable").tolist():
        if all(abs(band - other) >= max(2, spec.n_mels // _APART) for other in chosen):
            chosen.append(band)
    return tuple(
        Band(float(centres[band]), float(differences[which, band]), bool(which))
        for band in chosen[:_N_BANDS]
        for which in [int(strengths[:, band].argmax())]
    )


def name_clip(columns: Columns, clip: int) -> str:
    """Return the path of a clip, and which part of the recording it is, where others are clips, too."""
    spec, words = columns.spec, [str(columns.path[clip])]
    words += [f"channel {int(columns.channel[clip])}"] if spec.channel == ALL else []
    words += [f"from {float(columns.start_s[clip]):g} s"] if spec.segment is not None else []
    return ", ".join(words)


def _view(clip: int, features: ClipFeatures, mark: Interval | None, db_range: Interval, spec: FeatureSpec) -> View:
    """Draw a clip; of a long one, some seconds around what is marked."""
    frames, frame_s = np.concatenate(features.pieces), spec.hop_length / spec.sample_rate
    most = max(1, round(_SHOWN_S / frame_s))
    middle = round(sum(mark) / 2 / frame_s) if mark else 0
    begin = min(max(0, middle - most // 2), max(0, len(frames) - most))
    shown = frames[begin : begin + most]
    png = render_entries(_narrow(shown), Style(_COLOURS, _colours(), db_range))
    shown_s = begin * frame_s, (begin + len(shown)) * frame_s
    return View(clip, mark, db_range, spectrogram(png, shown_s, spec, mark))


def _narrow(frames: FloatArray) -> FloatArray:
    """Return at most some hundred frames: of neighbours, the maximum of each band, so that a click is seen."""
    step = math.ceil(len(frames) / _MOST_COLUMNS)
    narrow: FloatArray = np.maximum.reduceat(frames, np.arange(0, len(frames), step), axis=0)
    return narrow


def _db_range(*clips: ClipFeatures) -> Interval:
    values: NDArray[np.float32] = np.concatenate([piece.ravel() for clip in clips for piece in clip.pieces])
    low, high = float(np.percentile(values, _QUIETEST)), float(values.max())
    return low, max(high, low + 1)


@lru_cache(maxsize=1)
def _colours() -> bytes:
    """Return 64 colours: a picture of them is half as large as one of 256, and looks the same."""
    return np.frombuffer(colour_table(_COLOURS), np.uint8).reshape(-1, 3)[::4].tobytes()


def _add_sounds(found: Sequence[list[Case]], columns: Columns, access: Access) -> list[list[Case]]:
    """Add sounds while there is room: first to the most alarming moment of each machine, then to the others."""
    cases = [list(of_machine) for of_machine in found]
    order = [
        (place, number)
        for number in range(MOST_MOMENTS)
        for place, of_machine in enumerate(cases)
        if number < len(of_machine)
    ]
    pairs = [[_excerpt(view, columns) for view in cases[place][number].views] for place, number in order]
    sounds = _listen(pairs, access)
    for (place, number), pair in zip(order, sounds, strict=False):
        case = cases[place][number]
        views = [replace(view, sound=sound) for view, sound in zip(case.views, pair, strict=True)]
        cases[place][number] = replace(case, alarming=views[0], normal=views[1] if case.normal else None)
    return cases


def _listen(pairs: Sequence[Sequence[Excerpt]], access: Access) -> Iterator[list[Sound]]:
    """Yield the sounds of pairs of clips until there is no room; after some failures in a row, no more is tried."""
    listener = Listener(tuple(dict.fromkeys(excerpt.path for pair in pairs for excerpt in pair)), access)
    left, failures = SOUND_BYTES, 0
    for pair in pairs:
        if failures >= _MOST_FAILURES:
            yield [Sound(b"", _NOT_TRIED.format(failures))] * len(pair)
            continue
        sounds = listener.read(pair)
        left -= sum(4 * math.ceil(len(sound.flac) / 3) for sound in sounds)
        if left < 0:
            return
        failures = 0 if any(sound.flac for sound in sounds) else failures + 1
        yield sounds


def _excerpt(view: View, columns: Columns) -> Excerpt:
    clip = view.clip
    part = Part(int(columns.channel[clip]), float(columns.start_s[clip]), float(columns.duration_s[clip]))
    return Excerpt(str(columns.path[clip]), part, sum(view.moment) / 2 if view.moment else 0.0)
