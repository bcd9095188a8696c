"""The autoencoder, with errors weighted by how they are spread in normal sound of each domain.

The selective Mahalanobis distance of the baseline of DCASE 2023 task 2 (nttcslab/dcase2023_task2_baseline_ae). There
the covariance is that of the errors, here Ledoit-Wolf's estimate of it, for which few rows suffice.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.detection import autoencoder
from mimii.detection.examples import Rows
from mimii.detection.precision import precision_factor
from mimii.detection.training import Training
from mimii.features import FloatArray

_MOST_ROWS = 65_536


def train(rows: Rows, training: Training) -> dict[str, FloatArray]:
    """Train the network, then estimate the precision ``F @ F.T`` of its errors in each domain; F has the factors."""
    arrays = autoencoder.train(rows, training)
    factors = [_factor(of_domain, arrays) for of_domain in rows.by_domain()]
    return arrays | {"factors": np.stack(factors).astype(np.float32)}


def score_rows(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    """Score each row by ``mean((e @ F)**2)``, e being its error, in each domain; shape (n_domains, n_rows)."""
    errors = rows - autoencoder.reconstruct(rows, arrays)
    return np.stack([np.mean((errors @ factor) ** 2, axis=1, dtype=np.float64) for factor in arrays["factors"]])


def _factor(rows: Rows, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    errors: list[FloatArray] = []
    for block in rows(0):
        errors.append(block - autoencoder.reconstruct(block, arrays))
        if sum(map(len, errors)) >= _MOST_ROWS:
            break
    return precision_factor(np.concatenate(errors).astype(np.float64), assume_centered=True)
