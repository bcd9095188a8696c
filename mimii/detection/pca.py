"""Rows of normal sound reconstructed from their first principal components."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from sklearn.decomposition import IncrementalPCA

from mimii.detection.learning import Blocks, Training
from mimii.features import FloatArray

_COMPONENTS = 8


def train(blocks: Blocks, _training: Training) -> dict[str, FloatArray]:
    """Return the mean and the first 8 principal components."""
    rest = iter(blocks(0))
    first = next(rest)
    analysis = IncrementalPCA(min(_COMPONENTS, *first.shape)).partial_fit(first)
    for rows in rest:
        if len(rows) >= analysis.n_components:  # partial_fit accepts no fewer
            analysis.partial_fit(rows)
    return {"mean": analysis.mean_.astype(np.float32), "components": analysis.components_.astype(np.float32)}


def reconstruct(rows: NDArray[np.floating], arrays: Mapping[str, FloatArray]) -> NDArray[np.floating]:
    """Return each row projected on the components."""
    mean, components = arrays["mean"], arrays["components"]
    projected: NDArray[np.floating] = mean + (rows - mean) @ components.T @ components
    return projected
