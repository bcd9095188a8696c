"""A network that reconstructs rows of normal sound, as in the baseline published with MIMII."""

import warnings
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.detection.examples import Rows
from mimii.detection.training import Training
from mimii.features import FloatArray

_LAYERS = (64, 64, 8, 64, 64)
_ROWS_A_STEP = 512
_LEARNING_RATE = 1e-3


def train(rows: Rows, training: Training) -> dict[str, FloatArray]:
    """Train layers n-64-64-8-64-64-n: ReLU, the last one linear, mean squared error, Adam, 512 rows a step."""
    from sklearn.neural_network import MLPRegressor

    network = MLPRegressor(
        hidden_layer_sizes=_LAYERS,
        alpha=0.0,
        batch_size=_ROWS_A_STEP,
        learning_rate_init=_LEARNING_RATE,
        random_state=np.random.RandomState(training.seed),
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Got `batch_size`", category=UserWarning)  # fewer rows than that
        for epoch in range(training.epochs):
            for block in rows(epoch):
                network.partial_fit(block, block)
    arrays = {}
    for index, (weights, biases) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        arrays[f"weights_{index}"] = np.asarray(weights, np.float32)
        arrays[f"biases_{index}"] = np.asarray(biases, np.float32)
    return arrays


def score_rows(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    """Score each row x by ``mean((x - reconstruct(x))**2)``."""
    scores: NDArray[np.float64] = np.mean((rows - reconstruct(rows, arrays)) ** 2, axis=1, dtype=np.float64)
    return scores


def reconstruct(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> FloatArray:
    """Return each row as the network reconstructs it, from ``weights_0``, ``biases_0``, and so on."""
    n_layers = sum(name.startswith("weights_") for name in arrays)
    values = rows
    for index in range(n_layers):
        values = values @ arrays[f"weights_{index}"] + arrays[f"biases_{index}"]
        if index < n_layers - 1:
            np.maximum(values, 0, out=values)
    return values
