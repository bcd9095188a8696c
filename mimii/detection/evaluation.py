"""How well scores separate abnormal from normal clips: AUC and its interval, precision and recall at a threshold."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from mimii.recordings import ABNORMAL, NORMAL

MOST_FALSE_ALARMS = 0.1
"""False positive rate up to which the partial AUC counts, as in task 2 of the DCASE challenges."""

Interval = tuple[float, float]
_DRAWS, _INTERVAL = 200, (0.025, 0.975)


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
        At the threshold; NaN where they are not defined.

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
    is_abnormal, is_alarm = truth == ABNORMAL, values > threshold
    n_abnormal, n_alarms, true_alarms = (int(np.sum(one)) for one in (is_abnormal, is_alarm, is_alarm & is_abnormal))
    return Evaluation(
        n_normal=int((truth == NORMAL).sum()),
        n_abnormal=n_abnormal,
        auc=_auc(truth, values),
        partial_auc=_auc(truth, values, MOST_FALSE_ALARMS),
        threshold=threshold,
        true_alarms=true_alarms,
        false_alarms=n_alarms - true_alarms,
        precision=_share(true_alarms, n_alarms),
        recall=_share(true_alarms, n_abnormal),
        f1=_share(2 * true_alarms, n_alarms + n_abnormal),
    )


def interval_of_auc(labels: ArrayLike, scores: ArrayLike, *, is_partial: bool = False) -> Interval:
    """Return the interval of 95 % of the AUCs of clips drawn anew, normal and abnormal ones apart (bootstrap)."""
    truth, values = _labelled(labels, scores)
    normal, abnormal = np.sort(values[truth == NORMAL]), np.sort(values[truth == ABNORMAL])
    if not len(normal) or not len(abnormal):
        return math.nan, math.nan
    rng = np.random.default_rng(0)
    drawn = [_draw_auc(normal, abnormal, rng, MOST_FALSE_ALARMS if is_partial else None) for _ in range(_DRAWS)]
    low, high = np.quantile(drawn, _INTERVAL)
    return float(low), float(high)


def _draw_auc(
    normal: NDArray[np.float64], abnormal: NDArray[np.float64], rng: np.random.Generator, max_fpr: float | None
) -> float:
    some, others = (values[rng.integers(len(values), size=len(values))] for values in (normal, abnormal))
    return _auc(np.repeat((NORMAL, ABNORMAL), (len(some), len(others))), np.concatenate([some, others]), max_fpr)


def _labelled(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.integer], NDArray[np.float64]]:
    truth, values = np.asarray(labels, int), np.asarray(scores, float)
    known = (truth == NORMAL) | (truth == ABNORMAL)
    return truth[known], values[known]


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the false and the true positive rate for all thresholds; clips without a label do not count."""
    false_positives, true_positives, _ = metrics.roc_curve(*_labelled(labels, scores))
    return false_positives, true_positives


def average(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def _auc(labels: NDArray[np.integer], scores: NDArray[np.float64], max_fpr: float | None = None) -> float:
    return float(metrics.roc_auc_score(labels, scores, max_fpr=max_fpr)) if len(np.unique(labels)) > 1 else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
