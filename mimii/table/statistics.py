"""The mean and the standard deviation of each feature, from sums that each shard leaves behind.

So they need no second pass over the data, and are the same whichever order the shards were computed in.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import stack_frames

TRAIN, OTHER = "train", "other"
"""The groups of clips of which a record keeps sums: those for training, and the others."""


@dataclass(frozen=True, slots=True)
class Sums:
    """Sums over some rows of the table.

    Attributes
    ----------
    count : int
        Rows.
    total : ndarray of float64, shape (n_features,)
        The sum of each feature.
    squares : ndarray of float64, shape (n_features,)
        The sum of the squares of each feature.

    """

    count: int
    total: NDArray[np.float64]
    squares: NDArray[np.float64]


def no_sums(n_features: int) -> Sums:
    """Return the sums over no rows."""
    return Sums(0, np.zeros(n_features), np.zeros(n_features))


def sum_rows(decibel: NDArray[np.float32], frames: int, stride: int) -> Sums:
    """Sum the rows that frames are stacked into."""
    if stride == 1:
        return sum_stacked(decibel, frames)
    rows = stack_frames(decibel, frames, stride).astype(np.float64)
    return Sums(len(rows), rows.sum(axis=0), np.einsum("tf,tf->f", rows, rows))


def sum_stacked(decibel: NDArray[np.float32], frames: int) -> Sums:
    """Sum the rows of stacked frames without stacking them.

    Position f of a row takes in the frames f, f+1, ..., f+n_rows-1: all of them but f at the beginning and
    frames-1-f at the end.
    """
    n_rows = len(decibel) - frames + 1
    values = decibel.astype(np.float64)
    return Sums(n_rows, _windowed_sums(values, frames), _windowed_sums(values * values, frames))


def add_sums(parts: Iterable[Sums], n_features: int) -> Sums:
    """Add up sums, in the order given."""
    count, total, squares = 0, np.zeros(n_features), np.zeros(n_features)
    for part in parts:
        count += part.count
        total += part.total
        squares += part.squares
    return Sums(count, total, squares)


def mean_and_std(sums: Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn sums into the mean and the standard deviation ``sqrt(mean(x**2) - mean(x)**2)`` of each feature."""
    if not sums.count:
        return np.full(sums.total.shape, math.nan), np.full(sums.total.shape, math.nan)
    mean = sums.total / sums.count
    return mean, np.sqrt(np.maximum(sums.squares / sums.count - mean * mean, 0))


def choose_sums(by_group: Mapping[str, Sums], n_features: int) -> Sums:
    """Return the sums that statistics are of: those of clips for training, or of all where none of these is good."""
    train = by_group.get(TRAIN, no_sums(n_features))
    return train if train.count else by_group.get(OTHER, train)


def as_values(sums: Sums) -> dict[str, Any]:
    """Return sums by name, as a record keeps them."""
    return {"count": sums.count, "total": sums.total, "squares": sums.squares}


def from_values(values: Mapping[str, Any]) -> Sums | None:
    """Return the sums that a record keeps; None where they are damaged."""
    try:
        return Sums(int(values["count"]), np.array(values["total"], float), np.array(values["squares"], float))
    except (ValueError, KeyError, TypeError):
        return None


def _windowed_sums(values: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    none = np.zeros((1, values.shape[1]))
    before = np.concatenate([none, np.cumsum(values[: frames - 1], axis=0)])
    after = np.concatenate([none, np.cumsum(values[::-1][: frames - 1], axis=0)])[::-1]
    sums: NDArray[np.float64] = values.sum(axis=0) - before - after
    return sums.ravel()
