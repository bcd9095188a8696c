"""The distance of a row to the nearest training row."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.detection.examples import Rows
from mimii.detection.training import Training
from mimii.features import FloatArray

_MOST_NEIGHBOURS = 4096


def train(rows: Rows, training: Training) -> dict[str, FloatArray]:
    """Draw 4,096 rows from a stream, each with the same probability: the smallest of random numbers win."""
    rng = np.random.default_rng(training.seed)
    drawn: list[FloatArray] = []
    numbers = np.empty(0)
    for block in rows(0):
        numbers = np.concatenate([numbers, rng.random(len(block))])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:_MOST_NEIGHBOURS])
        drawn, numbers = [np.concatenate([*drawn, block])[chosen]], numbers[chosen]
    return {"known": drawn[0]}


def score_rows(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    """Score each row x by ``mean((x - k)**2)``, k being the known row with the smallest ``|k|**2 - 2 x.k``."""
    known = arrays["known"]
    nearest = known[np.argmin((known * known).sum(axis=1) - 2 * (rows @ known.T), axis=1)]
    scores: NDArray[np.float64] = np.mean((rows - nearest) ** 2, axis=1, dtype=np.float64)
    return scores
