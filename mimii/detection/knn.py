"""Rows reconstructed by the nearest training row."""

from collections.abc import Mapping

import numpy as np

from mimii.detection.learning import Blocks, Training
from mimii.features import FloatArray

_MOST_NEIGHBOURS = 4096


def train(blocks: Blocks, training: Training) -> dict[str, FloatArray]:
    """Draw 4,096 rows from a stream, each with the same probability: the smallest of random numbers win."""
    rng = np.random.default_rng(training.seed)
    drawn: list[FloatArray] = []
    numbers = np.empty(0)
    for rows in blocks(0):
        numbers = np.concatenate([numbers, rng.random(len(rows))])
        chosen = np.sort(np.argsort(numbers, kind="stable")[:_MOST_NEIGHBOURS])
        drawn, numbers = [np.concatenate([*drawn, rows])[chosen]], numbers[chosen]
    return {"rows": drawn[0]}


def reconstruct(rows: FloatArray, arrays: Mapping[str, FloatArray]) -> FloatArray:
    """Return the nearest known row k of each row x: the one with the smallest ``|k|**2 - 2 x.k``."""
    known = arrays["rows"]
    nearest: FloatArray = known[np.argmin((known * known).sum(axis=1) - 2 * (rows @ known.T), axis=1)]
    return nearest
