"""How well scores separate abnormal from normal clips: AUC and its interval, precision and recall at a threshold."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimii.recordings import ABNORMAL, NORMAL

MOST_FALSE_ALARMS = 0.1
"""False positive rate up to which the partial AUC counts, as in task 2 of the DCASE challenges."""

Interval = tuple[float, float]
_NO_INTERVAL: Interval = (math.nan, math.nan)
_DRAWS, _DRAWS_AT_ONCE, _QUANTILES = 1000, 50, (0.025, 0.975)


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well the scores of one machine's test clips separate abnormal from normal.

    Attributes
    ----------
    auc : float
        Area under the ROC curve: 0.5 for chance; NaN where one label is missing.
    partial_auc : float
        The same up to a false positive rate of 0.1, scaled so that chance has 0.5 (McClish).
    true_alarms, false_alarms : int
        Abnormal and normal clips with a score above the threshold.
    precision, recall, f1 : float
        At the threshold; NaN where they are not defined. Precision and F1 are not where one label is missing: without
        normal clips, every alarm would be right.

    """

    n_normal: int
    n_abnormal: int
    auc: float
    partial_auc: float
    threshold: float
    true_alarms: int
    false_alarms: int
    precision: float
    recall: float
    f1: float


def evaluate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Evaluation:
    """Compare scores with labels, 0 normal and 1 abnormal; clips with another label do not count."""
    truth, values = _labelled(labels, scores)
    auc, partial_auc = _areas(truth, values)
    is_abnormal, is_alarm = truth == ABNORMAL, values > threshold
    n_abnormal, n_alarms, true_alarms = (int(np.sum(one)) for one in (is_abnormal, is_alarm, is_alarm & is_abnormal))
    has_both = 0 < n_abnormal < len(truth)
    return Evaluation(
        n_normal=int((truth == NORMAL).sum()),
        n_abnormal=n_abnormal,
        auc=auc,
        partial_auc=partial_auc,
        threshold=threshold,
        true_alarms=true_alarms,
        false_alarms=n_alarms - true_alarms,
        precision=_share(true_alarms, n_alarms) if has_both else math.nan,
        recall=_share(true_alarms, n_abnormal),
        f1=_share(2 * true_alarms, n_alarms + n_abnormal) if has_both else math.nan,
    )


def bootstrap(labels: ArrayLike, scores: ArrayLike) -> tuple[Interval, Interval]:
    """Return the intervals of 95 % of the AUCs and of the partial AUCs of clips drawn anew, each label by itself.

    The clips are drawn 1,000 times: ``AUC = sum_j v[j] h[j]``, v being how often the normal clip j was drawn, as a
    share, and h the share of the abnormal clips drawn that score higher, those with the same score counting half. The
    partial AUC takes the normal clips with the highest scores alone, up to a share of 0.1, scaled as by McClish.
    """
    truth, values = _labelled(labels, scores)
    normal, abnormal = -np.sort(-values[truth == NORMAL]), values[truth == ABNORMAL]
    if not len(normal) or not len(abnormal):
        return _NO_INTERVAL, _NO_INTERVAL
    rng, higher = np.random.default_rng(0), np.subtract.outer(abnormal, normal)
    wins = (0.5 * (np.sign(higher) + 1)).astype(np.float32)
    drawn = [_draw(rng, wins) for _ in range(_DRAWS // _DRAWS_AT_ONCE)]
    aucs, areas = (np.concatenate(values) for values in zip(*drawn, strict=True))
    return _interval(aucs), _interval(_scale(areas))


def _draw(rng: np.random.Generator, wins: NDArray[np.float32]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Draw some times; return the AUCs, and the areas up to the highest false positive rate that counts."""
    others, shares = (rng.multinomial(n, [1 / n] * n, _DRAWS_AT_ONCE) / n for n in wins.shape)
    heights = others.astype(np.float32) @ wins
    most = np.minimum(np.cumsum(shares, axis=1), MOST_FALSE_ALARMS)
    return (shares * heights).sum(axis=1), (np.diff(most, axis=1, prepend=0) * heights).sum(axis=1)


def _interval(values: NDArray[np.float64]) -> Interval:
    low, high = np.quantile(values, _QUANTILES)
    return float(low), float(high)


def _labelled(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    truth, values = np.asarray(labels, int), np.asarray(scores, float)
    known = ((truth == NORMAL) | (truth == ABNORMAL)) & ~np.isnan(values)
    return truth[known], values[known]


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the false and the true positive rate at 0, at the highest score, and where the curve bends after it.

    Both labels must be there; clips without one do not count.
    """
    truth, values = _labelled(labels, scores)
    alarms, hits = _count_above(truth == ABNORMAL, values)
    bends = np.ones(len(alarms), bool)
    bends[2:-1] = (np.diff(alarms[1:], 2) != 0) | (np.diff(hits[1:], 2) != 0)
    return alarms[bends] / alarms[-1], hits[bends] / hits[-1]


def average(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _areas(labels: NDArray[np.integer], scores: NDArray[np.float64]) -> tuple[float, float]:
    """Return the AUC and the partial AUC; NaN where one label is missing.

    Not by scikit-learn, which takes a second to be imported and milliseconds to look at its arguments: a study has
    thousands of evaluations.
    """
    is_abnormal = labels == ABNORMAL
    if is_abnormal.all() or not is_abnormal.any():
        return math.nan, math.nan
    alarms, hits = _count_above(is_abnormal, scores)
    false, true = alarms / alarms[-1], hits / hits[-1]
    n_below = int(np.searchsorted(false, MOST_FALSE_ALARMS, side="right"))
    last = np.interp(MOST_FALSE_ALARMS, false[n_below - 1 : n_below + 1], true[n_below - 1 : n_below + 1])
    area = np.trapezoid(np.append(true[:n_below], last), np.append(false[:n_below], MOST_FALSE_ALARMS))
    return float(np.trapezoid(true, false)), float(_scale(area))


def _count_above(is_abnormal: NDArray[np.bool_], scores: NDArray[np.float64]) -> tuple[NDArray[np.int64], ...]:
    """Return how many normal and how many abnormal clips score at least as high as each score, from 0 to all."""
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(scores[order][1:] != scores[order][:-1], True)
    hits = np.cumsum(is_abnormal[order])[is_last]
    return np.append(0, np.flatnonzero(is_last) + 1 - hits), np.append(0, hits)


def _scale(areas: NDArray[np.float64]) -> NDArray[np.float64]:
    """Scale areas up to the highest false positive rate that counts, so that chance has 0.5 (McClish)."""
    chance = MOST_FALSE_ALARMS**2 / 2
    return 0.5 * (1 + (areas - chance) / (MOST_FALSE_ALARMS - chance))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
