"""Learn a detector, and score normal clips by detectors that have not learned from them, for the thresholds."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mimii.detection.detectors import Detector, fit, score, score_windows
from mimii.detection.examples import Examples
from mimii.detection.kinds import KINDS
from mimii.detection.machines import Machine
from mimii.detection.pooling import ClipFeatures
from mimii.detection.thresholds import LEAST_CLIPS, choose_peak_threshold, choose_threshold
from mimii.detection.training import Training

ENOUGH_CLIPS = 20
"""Below, each training clip is left out once: with a tenth left out at a time, that would be one clip, or two."""

ENOUGH_FOR_NETWORK = 40
"""From so many clips on, a network is trained once: a tenth of the clips, at least 10, are for the threshold."""

_PARTS, _PARTS_OF_NETWORK = 10, 5
_HELD_BACK = 0.1


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


def calibrate(kind: str, examples: Examples, machine: Machine, training: Training, read: ReadClip) -> Calibration:
    """Learn a detector and choose its thresholds.

    Below 20 clips, each is scored by a detector of all others; from 20 on, each tenth of them by one of the other nine.
    Training a network takes too long for that: it is done for five parts at most, and from 40 clips on only once, with
    one clip in ten, and at least ten, set aside. Clips of one recording are in the same part.
    """
    parts, is_held_back = choose_parts(kind, machine.recordings, every_clip=machine.is_assumed)
    arrays, scores, moments = {}, dict[int, float](), list[np.ndarray]()
    for part in parts:
        rest = examples.select(_rest(examples, part))
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


def _rest(examples: Examples, part: Sequence[int]) -> list[int]:
    """Return the clips that a detector learns from for a part: not its clips, nor segments that overlap with them."""
    spec, others = examples.pooling.spec, {*range(len(examples.places))} - {*part}
    beside = math.ceil(spec.segment / (spec.segment - spec.overlap)) - 1 if spec.segment else 0
    if beside and len({*examples.recordings}) == 1:
        near = {clip + step for clip in part for step in range(-beside, beside + 1)}
        others = others - near or others
    return sorted(others)


def choose_parts(kind: str, recordings: Sequence[int], *, every_clip: bool = False) -> tuple[list[list[int]], bool]:
    """Return the parts of the training clips that are left out in turn, and whether there is but one, set aside.

    Clips of one recording are in the same part, unless all are. With `every_clip`, none is only set aside:
    each has to be scored.
    """
    groups = np.unique(recordings, return_inverse=True)[1]
    if groups.max() == 0:
        groups = np.arange(len(recordings))
    n_groups, is_network = int(groups.max()) + 1, KINDS[kind].is_network
    if n_groups == 1:
        return [], False
    if is_network and n_groups >= ENOUGH_FOR_NETWORK and not every_clip:
        count = max(LEAST_CLIPS, round(_HELD_BACK * n_groups))
        held_back = np.linspace(0, n_groups - 1, count).round()
        return [np.flatnonzero(np.isin(groups, held_back)).tolist()], True
    most = _PARTS_OF_NETWORK if is_network else n_groups if len(recordings) < ENOUGH_CLIPS else _PARTS
    part_of = (np.arange(n_groups) * min(n_groups, most) // n_groups)[groups]
    return [np.flatnonzero(part_of == part).tolist() for part in range(part_of.max() + 1)], False
