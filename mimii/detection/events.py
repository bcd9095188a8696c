"""When: the moments of a clip, their peak, and the intervals in which they are above a threshold."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimii.detection.detectors import Detector, score_windows
from mimii.detection.pooling import ClipFeatures, Pooling, window_times

GAP_S = 1.0
"""Seconds: events that are less apart are one."""


@dataclass(frozen=True, slots=True)
class Moments:
    """Scores over the time of a clip.

    Attributes
    ----------
    start_s, stop_s : ndarray of float64, shape (n_windows,)
        Seconds from the start of the clip.
    scores : ndarray of float64, shape (n_windows,)
        Higher is less normal; NaN where the detector has learned no windows.
    threshold : float
        A higher score counts as an event.

    """

    start_s: NDArray[np.float64]
    stop_s: NDArray[np.float64]
    scores: NDArray[np.float64]
    threshold: float

    @property
    def peak(self) -> float:
        """The highest score; NaN where there is none."""
        return float(np.nanmax(self.scores)) if np.isfinite(self.scores).any() else math.nan

    @property
    def peak_s(self) -> float:
        """The middle of the window with the highest score, in seconds; NaN where there is none."""
        return self._middle(slice(None)) if np.isfinite(self.scores).any() else math.nan

    def events(self) -> Iterator["Event"]:
        """Yield the intervals above the threshold; those less than a second apart are one."""
        above = np.flatnonzero(self.scores > self.threshold)
        if not len(above):
            return
        breaks = np.flatnonzero(self.start_s[above[1:]] - self.stop_s[above[:-1]] >= GAP_S) + 1
        for group in np.split(above, breaks):
            interval = slice(int(group[0]), int(group[-1]) + 1)
            peak = float(np.nanmax(self.scores[interval]))
            yield Event(float(self.start_s[group[0]]), float(self.stop_s[group[-1]]), peak, self._middle(interval))

    def _middle(self, interval: slice) -> float:
        window = (interval.start or 0) + int(np.nanargmax(self.scores[interval]))
        return float(self.start_s[window] + self.stop_s[window]) / 2


@dataclass(frozen=True, slots=True)
class Event:
    """An interval in which a recording is unlike normal sound: its peak and when that is, in seconds."""

    start_s: float
    stop_s: float
    peak: float
    peak_s: float


def find_moments(clip: ClipFeatures, detector: Detector, pooling: Pooling) -> Moments:
    """Score the time of a clip."""
    start_s, stop_s = window_times(clip, pooling.spec)
    return Moments(start_s, stop_s, score_windows(clip, detector, pooling), detector.peak_threshold)
