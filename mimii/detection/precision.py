"""The precision of values that may be few: what a Mahalanobis distance is weighted by."""

import numpy as np
from numpy.typing import NDArray

_LEAST_VALUES = 3
_LEAST_VARIANCE = 1e-12
_LEAST_SHARE = 1e-6


def precision_factor(values: NDArray[np.float64], *, assume_centered: bool = False) -> NDArray[np.float64]:
    """Return the factor F of the precision ``F @ F.T``, of Ledoit-Wolf's estimate of the covariance.

    Fewer than three distinct samples say nothing of how others are spread, and the estimate is singular: then all
    directions count alike. Every direction gets at least a millionth of the mean variance.
    """
    from sklearn.covariance import LedoitWolf

    n = values.shape[1]
    variance = float(np.mean((values if assume_centered else values - values.mean(axis=0)) ** 2))
    if len(np.unique(values, axis=0)) < _LEAST_VALUES or variance < _LEAST_VARIANCE:
        return np.diag(np.full(n, (variance if variance >= _LEAST_VARIANCE else 1.0) ** -0.5))
    covariance = LedoitWolf(store_precision=False, assume_centered=assume_centered).fit(values).covariance_
    root = np.linalg.cholesky(covariance + _LEAST_SHARE * variance * np.eye(n))
    factor: NDArray[np.float64] = np.linalg.inv(root).T
    return factor
