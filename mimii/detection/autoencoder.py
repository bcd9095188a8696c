"""A network that reconstructs rows of normal sound, as in the baseline published with MIMII."""

import warnings
from collections.abc import Mapping

import numpy as np
from sklearn.neural_network import MLPRegressor

from mimii.detection.learning import Blocks, Training
from mimii.features import FloatArray

_LAYERS = (64, 64, 8, 64, 64)
_ROWS_A_STEP = 512
_LEARNING_RATE = 1e-3


def train(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Train layers n-64-64-8-64-64-n: ReLU, the last one linear, mean squared error, Adam, 512 rows a step."""
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
            for rows in blocks(epoch):
                network.partial_fit(rows, rows)
    arrays = {}
    for index, (weights, biases) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        arrays[f"weights_{index}"] = np.asarray(weights, np.float32)
        arrays[f"biases_{index}"] = np.asarray(biases, np.float32)
    return arrays


def reconstruct(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> FloatArray:
    """Return each row as the network reconstructs it, from ``weights_0``, ``biases_0``, and so on."""
    n_layers = len(arrays) // 2
    values = rows
    for index in range(n_layers):
        values = values @ arrays[f"weights_{index}"] + arrays[f"biases_{index}"]
        if index < n_layers - 1:
            np.maximum(values, 0, out=values)
    return values
