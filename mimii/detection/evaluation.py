"""How well scores tell abnormal clips from normal ones: AUC, threshold, precision and recall."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from mimii.recordings import ABNORMAL, NORMAL

MOST_FALSE_ALARMS = 0.1
"""Up to which rate of false alarms the partial AUC looks, as in the tasks of DCASE."""

PUBLISHED_AUC = {
    ("fan", "id_00"): {6: 0.745, 0: 0.634, -6: 0.576},
    ("fan", "id_02"): {6: 0.993, 0: 0.856, -6: 0.640},
    ("fan", "id_04"): {6: 0.869, 0: 0.730, -6: 0.572},
    ("fan", "id_06"): {0: 0.982},
}
"""Of the baseline published with MIMII, as far as its readme tells: by machine and SNR in dB."""

_DEVIATIONS = 3.0


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How well one machine's clips are told apart.

    Attributes
    ----------
    n_normal, n_abnormal : int
        Clips for testing.
    auc : float
        The chance that an abnormal clip scores higher than a normal one; 0.5 for guesses, NaN where one kind is
        missing.
    partial_auc : float
        The same where at most one in ten normal clips raises an alarm, scaled so that guesses have 0.5 (McClish).
    threshold : float
        A clip with a higher score counts as abnormal.
    true_alarms, false_alarms : int
        Abnormal and normal clips above it.
    precision, recall, f1 : float
        At the threshold, of finding abnormal clips; NaN where they are not defined.

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


def choose_threshold(normal_scores: ArrayLike) -> float:
    """Choose a threshold from scores of normal clips: ``mean + 3 std``."""
    scores = np.asarray(normal_scores, float)
    if not len(scores):
        return math.inf
    return float(scores.mean() + _DEVIATIONS * (scores.std(ddof=1) if len(scores) > 1 else 0.0))


def evaluate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Evaluation:
    """Hold scores against labels."""
    truth, values = np.asarray(labels), np.asarray(scores, float)
    is_abnormal, is_alarm = truth == ABNORMAL, values > threshold
    true_alarms, false_alarms = int((is_alarm & is_abnormal).sum()), int((is_alarm & ~is_abnormal).sum())
    precision, recall = _share(true_alarms, true_alarms + false_alarms), _share(true_alarms, int(is_abnormal.sum()))
    return Evaluation(
        n_normal=int((truth == NORMAL).sum()),
        n_abnormal=int(is_abnormal.sum()),
        auc=_auc(truth, values),
        partial_auc=_auc(truth, values, MOST_FALSE_ALARMS),
        threshold=threshold,
        true_alarms=true_alarms,
        false_alarms=false_alarms,
        precision=precision,
        recall=recall,
        f1=_share(2 * true_alarms, true_alarms + false_alarms + int(is_abnormal.sum())),
    )


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the rates of false and of true alarms for all thresholds."""
    false_alarms, true_alarms, _ = metrics.roc_curve(
        np.asarray(labels), np.asarray(scores, float), drop_intermediate=True
    )
    return false_alarms, true_alarms


def average(values: Iterable[float]) -> float:
    """Return the mean of those that are defined; NaN where none is."""
    defined: Sequence[float] = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def published_auc(machine_type: str, machine_id: str, snr_db: float) -> float:
    """Look up the AUC of the baseline published with MIMII; NaN where it is not known."""
    known = PUBLISHED_AUC.get((machine_type, machine_id), {})
    return math.nan if math.isnan(snr_db) else known.get(round(snr_db), math.nan)


def _auc(labels: NDArray[np.integer], scores: NDArray[np.float64], most: float | None = None) -> float:
    if len(np.unique(labels)) < 2:
        return math.nan
    return float(metrics.roc_auc_score(labels, scores, max_fpr=most))


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
