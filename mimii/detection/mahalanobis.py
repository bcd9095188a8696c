"""The Mahalanobis distance of a clip to the training clips, by the statistics of its mel bands."""

from collections.abc import Mapping

import numpy as np

from mimii.detection.examples import Examples
from mimii.detection.precision import precision_factor
from mimii.features import FloatArray

_FLOOR_DB = 0.3


def fit(examples: Examples) -> dict[str, FloatArray]:
    """Return mean, scale and the factor F of the precision ``F @ F.T`` of the scaled statistics (Ledoit-Wolf)."""
    statistics = examples.statistics.reshape(len(examples.statistics), -1).astype(np.float64)
    scale = statistics.std(axis=0) + _FLOOR_DB
    scaled = statistics / scale
    values = {"mean": scaled.mean(axis=0), "scale": scale, "factor": precision_factor(scaled)}
    return {name: value.astype(np.float32) for name, value in values.items()}


def score(statistics: FloatArray, arrays: Mapping[str, FloatArray]) -> float:
    """Score a clip by ``mean(((x / scale - mean) @ factor)**2)``: the squared distance over its 3 * n_mels values."""
    z = statistics.ravel() / arrays["scale"] - arrays["mean"]
    return float(np.mean((z @ arrays["factor"]) ** 2, dtype=np.float64))
