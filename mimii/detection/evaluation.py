"""How well scores separate abnormal from normal clips: AUC, threshold, precision and recall."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn import metrics

from mimii.recordings import ABNORMAL, NORMAL

MOST_FALSE_ALARMS = 0.1
"""False positive rate up to which the partial AUC counts, as in task 2 of the DCASE challenges."""

PUBLISHED_AUC = {
    ("fan", "id_00"): {6: 0.745, 0: 0.634, -6: 0.576},
    ("fan", "id_02"): {6: 0.993, 0: 0.856, -6: 0.640},
    ("fan", "id_04"): {6: 0.869, 0: 0.730, -6: 0.572},
    ("fan", "id_06"): {0: 0.982},
}
"""AUCs of the baseline published with MIMII, as far as its readme lists them: by machine and SNR in dB."""

_DEVIATIONS = 3.0


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


def choose_threshold(normal_scores: ArrayLike) -> float:
    """Return the threshold ``mean + 3 std`` of the scores of normal clips; infinite where there is none."""
    scores = np.asarray(normal_scores, float)
    if not len(scores):
        return math.inf
    return float(scores.mean() + _DEVIATIONS * (scores.std(ddof=1) if len(scores) > 1 else 0.0))


def evaluate(labels: ArrayLike, scores: ArrayLike, threshold: float) -> Evaluation:
    """Compare scores with labels, 0 normal and 1 abnormal."""
    truth, values = np.asarray(labels), np.asarray(scores, float)
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


def roc_curve(labels: ArrayLike, scores: ArrayLike) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the false and the true positive rate for all thresholds."""
    false_positives, true_positives, _ = metrics.roc_curve(labels, scores)
    return false_positives, true_positives


def average(values: Iterable[float]) -> float:
    """Return the mean of the values that are not NaN; NaN where all are."""
    defined = [value for value in values if not math.isnan(value)]
    return sum(defined) / len(defined) if defined else math.nan


def published_auc(machine_type: str, machine_id: str, snr_db: float) -> float:
    """Return the AUC of the baseline published with MIMII; NaN where its readme does not list one."""
    known = PUBLISHED_AUC.get((machine_type, machine_id), {})
    return math.nan if math.isnan(snr_db) else known.get(round(snr_db), math.nan)


def _auc(labels: NDArray[np.integer], scores: NDArray[np.float64], max_fpr: float | None = None) -> float:
    return float(metrics.roc_auc_score(labels, scores, max_fpr=max_fpr)) if len(np.unique(labels)) > 1 else math.nan


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
