"""Learn a detector, and score normal clips by detectors that have not learned from them, for the thresholds."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mimii.detection.detectors import Detector, fit, score, score_windows
from mimii.detection.examples import Examples
from mimii.detection.kinds import KINDS
from mimii.detection.pooling import ClipFeatures
from mimii.detection.thresholds import choose_peak_threshold, choose_threshold
from mimii.detection.training import Training

ENOUGH_CLIPS = 20
"""Below, each training clip is left out once: a tenth of them, held back, would be one clip, or none."""

_PARTS = 10
_PARTS_OF_NETWORK = 5


class ReadClip(Protocol):
    """What returns a training clip by its place."""

    def __call__(self, place: int, *, with_frames: bool) -> ClipFeatures:
        """Return it, with its frames if asked."""
        ...


@dataclass(frozen=True, slots=True)
class Calibration:
    """A detector, and how it scores normal clips that it has not learned from.

    Attributes
    ----------
    detector : Detector
        With its thresholds.
    places : tuple of int
        Which training clips have such a score.
    scores : tuple of float
        The scores.

    """

    detector: Detector
    places: tuple[int, ...]
    scores: tuple[float, ...]


def calibrate(
    kind: str, examples: Examples, recordings: Sequence[int], training: Training, read: ReadClip
) -> Calibration:
    """Learn a detector and choose its thresholds.

    Below 20 clips, each is scored by a detector of all others; from 20 on, each tenth of them by one of the other nine.
    A network takes too long for that: below 20 clips, there are five parts at most, from 20 on, one clip in ten is held
    back. Clips of one recording are in the same part.
    """
    parts, is_held_back = choose_parts(kind, recordings)
    arrays, scores, moments = {}, dict[int, float](), list[np.ndarray]()
    for part in parts:
        rest = examples.select(sorted({*range(len(examples.places))} - {*part}))
        arrays = fit(kind, rest, training)
        detector = Detector(kind, arrays)
        for place in part:
            is_sampled = examples.windows[place] is not None
            clip = read(place, with_frames=KINDS[kind].reads_rows or is_sampled)
            scores[place] = score(clip, detector, examples.pooling)
            if is_sampled:
                moments.append(score_windows(clip, detector, examples.pooling))
    if not is_held_back:
        arrays = fit(kind, examples, training)
    normal = dict(sorted(scores.items()))
    values = tuple(normal.values())
    peak_threshold = choose_peak_threshold(np.concatenate(moments) if moments else ())
    thresholds = choose_threshold(training.rule, values), peak_threshold
    return Calibration(Detector(kind, arrays, *thresholds, tuple(sorted(values))), tuple(normal), values)


def choose_parts(kind: str, recordings: Sequence[int]) -> tuple[list[list[int]], bool]:
    """Return the parts of the training clips that are left out in turn, and whether there is but one, held back.

    Of clips that are all of one recording, neighbours are in the same part.
    """
    n_clips, groups = len(recordings), np.unique(recordings, return_inverse=True)[1]
    if groups.max() == 0:
        groups = np.arange(n_clips)
    n_groups, is_network = int(groups.max()) + 1, KINDS[kind].is_network
    if n_groups == 1:
        return [], False
    most = n_groups if n_clips < ENOUGH_CLIPS else _PARTS
    n_parts = min(n_groups, _PARTS_OF_NETWORK if is_network and n_clips < ENOUGH_CLIPS else most)
    is_held_back = is_network and n_clips >= ENOUGH_CLIPS
    part_of_group = np.arange(n_groups) * n_parts // n_groups
    if is_held_back:  # spread evenly, and not all of the beginning
        part_of_group = np.where(np.arange(n_groups) % n_parts == n_parts // 2, 0, 1)
    found = part_of_group[groups]
    parts = [np.flatnonzero(found == part).tolist() for part in range(1 if is_held_back else n_parts)]
    return [part for part in parts if part], is_held_back
