"""Rows of normal sound reconstructed from their first principal components."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.detection.examples import Rows
from mimii.detection.training import Training
from mimii.features import FloatArray

_COMPONENTS = 8


def train(rows: Rows, _training: Training) -> dict[str, FloatArray]:
    """Return the mean and the first 8 principal components."""
    from sklearn.decomposition import IncrementalPCA

    rest = iter(rows(0))
    first = next(rest)
    analysis = IncrementalPCA(min(_COMPONENTS, *first.shape)).partial_fit(first)
    for block in rest:
        if len(block) >= analysis.n_components:  # partial_fit accepts no fewer
            analysis.partial_fit(block)
    return {"mean": analysis.mean_.astype(np.float32), "components": analysis.components_.astype(np.float32)}


def score_rows(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    """Score each row by its mean squared distance to its projection on the components."""
    mean, components = arrays["mean"], arrays["components"]
    projected = mean + (rows - mean) @ components.T @ components
    scores: NDArray[np.float64] = np.mean((rows - projected) ** 2, axis=1, dtype=np.float64)
    return scores
