"""Learn what a machine normally sounds like, from rows that come in blocks. The only file that trains anything."""

import warnings
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from sklearn.decomposition import IncrementalPCA
from sklearn.neural_network import MLPRegressor

from mimii.detection.detectors import Kind
from mimii.features import FloatArray

Blocks = Callable[[int], Iterable[FloatArray]]
"""From the number of an epoch to the rows for training, shuffled, some thousands at a time."""

_LAYERS = (64, 64, 8, 64, 64)
_ROWS_A_STEP = 512
_LEARNING_RATE = 1e-3
_COMPONENTS = 8
_MOST_NEIGHBOURS = 4096


class LearningError(ValueError):
    """Nothing to learn from."""


@dataclass(frozen=True, slots=True)
class Training:
    """How a detector is trained.

    Attributes
    ----------
    kind : {"autoencoder", "pca", "knn"}
        How rows are reconstructed.
    epochs : int
        How often an autoencoder sees all rows.
    seed : int
        Another one gives other initial weights, and another order of rows.
    normalize : bool
        Whether features are brought to mean 0 and standard deviation 1 first.

    """

    kind: Kind = "autoencoder"
    epochs: int = 50
    seed: int = 0
    normalize: bool = False


def train(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Learn from rows of normal sound.

    ===========  ====================================================================================================
    kind         what is learned
    ===========  ====================================================================================================
    autoencoder  a network of layers n-64-64-8-64-64-n, ReLU, the last one linear: mean squared error, Adam, 512 rows
                 a step; the layout of the baseline published with MIMII
    pca          the mean and the 8 principal components
    knn          4,096 rows, drawn at random from all
    ===========  ====================================================================================================
    """
    learn = {"autoencoder": _train_autoencoder, "pca": _train_pca, "knn": _draw_neighbours}[training.kind]
    return learn(blocks, training)


def digest_training(training: Training) -> dict[str, Any]:
    """Return how a detector is trained, by name, as JSON takes it; epochs count for an autoencoder alone."""
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
            for rows in _some(blocks(epoch)):
                network.partial_fit(rows, rows)
    layers = enumerate(zip(network.coefs_, network.intercepts_, strict=True))
    named = ((index, weights, biases) for index, (weights, biases) in layers)
    return {
        name: np.asarray(array, np.float32)
        for index, weights, biases in named
        for name, array in ((f"weights_{index}", weights), (f"biases_{index}", biases))
    }


def _train_pca(blocks: Blocks, _training: Training) -> dict[str, FloatArray]:
    parts = _some(blocks(0))
    rows = next(parts)
    analysis = IncrementalPCA(min(_COMPONENTS, *rows.shape)).partial_fit(rows)
    for rows in parts:
        if len(rows) >= analysis.n_components:  # it takes no fewer
            analysis.partial_fit(rows)
    return {"mean": analysis.mean_.astype(np.float32), "components": analysis.components_.astype(np.float32)}


def _draw_neighbours(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Draw rows at random from a stream, all with the same chance: those with the smallest of random numbers."""
    rng = np.random.default_rng(training.seed)
    kept: list[FloatArray] = []
    numbers = np.empty(0)
    for rows in _some(blocks(0)):
        numbers = np.concatenate([numbers, rng.random(len(rows))])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:_MOST_NEIGHBOURS])
        kept, numbers = [np.concatenate([*kept, rows])[chosen]], numbers[chosen]
    return {"rows": kept[0]}


def _some(blocks: Iterable[FloatArray]) -> Iterator[FloatArray]:
    is_empty = True
    for rows in blocks:
        is_empty = False
        yield rows
    if is_empty:
        msg = "there is no row to learn from"
        raise LearningError(msg)
