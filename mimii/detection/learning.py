"""Train models of a machine's normal sound on blocks of rows. Only this module trains."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import IncrementalPCA
from sklearn.neural_network import MLPRegressor

from mimii.detection.kinds import Kind
from mimii.features import FloatArray

Blocks = Callable[[int], Iterable[FloatArray]]
"""From the number of an epoch to the training rows, shuffled, some thousands at a time."""

_LAYERS = (64, 64, 8, 64, 64)
_ROWS_A_STEP = 512
_LEARNING_RATE = 1e-3
_COMPONENTS = 8
_MOST_NEIGHBOURS = 4096


class LearningError(ValueError):
    """There are no training rows."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a detector is trained.

    Attributes
    ----------
    epochs : int
        How often an autoencoder sees all rows; the other kinds see them once.
    seed : int
        Of initial weights, order of rows, and random choice of rows.
    normalize : bool
        Whether features are scaled to mean 0 and standard deviation 1 first.

    """

    kind: Kind = "autoencoder"
    epochs: int = 50
    seed: int = 0
    normalize: bool = False


def train(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Return the arrays of a detector, trained on rows of normal sound.

    autoencoder: a network of layers n-64-64-8-64-64-n as in the baseline published with MIMII, ReLU, the last layer
    linear, mean squared error, Adam, 512 rows a step. pca: the mean and the first 8 principal components. knn: 4,096
    rows, drawn at random.
    """
    learn = {"autoencoder": _train_autoencoder, "pca": _train_pca, "knn": _draw_neighbours}[training.kind]
    return learn(blocks, training)


def training_as_dict(training: Training) -> dict[str, Any]:
    """Return all that decides what is learned, ready for JSON; epochs matter to an autoencoder alone."""
    values = asdict(training)
    return values if training.kind == "autoencoder" else values | {"epochs": 1}


def _train_autoencoder(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
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
            for rows in _not_empty(blocks(epoch)):
                network.partial_fit(rows, rows)
    arrays = {}
    for index, (weights, biases) in enumerate(zip(network.coefs_, network.intercepts_, strict=True)):
        arrays[f"weights_{index}"] = np.asarray(weights, np.float32)
        arrays[f"biases_{index}"] = np.asarray(biases, np.float32)
    return arrays


def _train_pca(blocks: Blocks, _training: Training) -> dict[str, FloatArray]:
    rest = _not_empty(blocks(0))
    first = next(rest)
    analysis = IncrementalPCA(min(_COMPONENTS, *first.shape)).partial_fit(first)
    for rows in rest:
        if len(rows) >= analysis.n_components:  # partial_fit accepts no fewer
            analysis.partial_fit(rows)
    return {"mean": analysis.mean_.astype(np.float32), "components": analysis.components_.astype(np.float32)}


def _draw_neighbours(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Draw rows from a stream, each with the same probability: each gets a random number, the smallest numbers win."""
    rng = np.random.default_rng(training.seed)
    drawn: list[FloatArray] = []
    numbers = np.empty(0)
    for rows in _not_empty(blocks(0)):
        numbers = np.concatenate([numbers, rng.random(len(rows))])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:_MOST_NEIGHBOURS])
        drawn, numbers = [np.concatenate([*drawn, rows])[chosen]], numbers[chosen]
    return {"rows": drawn[0]}


def _not_empty(blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Yield the blocks; raise where there is none."""
    rows = None
    for rows in blocks:
        yield rows
    if rows is None:
        msg = "there is no row to train on"
        raise LearningError(msg)
