"""What a task leaves behind when its shard is safely written. A shard is done when a record says so.

A record also carries the shard's share of the table's statistics, so that the mean and the standard deviation of a
feature need no second pass over the data, and come out the same in whatever order the shards were computed.
"""

import json
import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray


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


@dataclass(frozen=True, slots=True)
class Record:
    """One shard that is done.

    Attributes
    ----------
    fingerprint : str
        Of the table to which it belongs.
    shard : int
        Which shard.
    inputs : str
        A digest of the sizes and versions of the recordings that were read.
    archives : str
        A digest of the versions of the archives that they were read from.
    size : int
        Bytes of the shard.
    bad : dict of int to str
        Which clips could not be used, and why.
    sums : Sums
        Over the rows that count for the statistics.
    unread : tuple of int
        Those bad clips that the next run tries again, since the fault may lie with the disk.

    """

    fingerprint: str
    shard: int
    inputs: str
    archives: str
    size: int
    bad: dict[int, str] = field(default_factory=dict)
    sums: Sums = field(default_factory=lambda: no_sums(0))
    unread: tuple[int, ...] = ()


def no_sums(n_features: int) -> Sums:
    """Return the sums over no rows.

    Parameters
    ----------
    n_features : int
        Values in a row.

    Returns
    -------
    Sums
        All zero.

    """
    return Sums(0, np.zeros(n_features), np.zeros(n_features))


def sum_stacked(decibel: NDArray[np.float32], frames: int) -> Sums:
    """Sum the rows of stacked frames without stacking them.

    Position f of a row takes in the frames f, f+1, ..., f+n_rows-1: all of them but f at the beginning and
    frames-1-f at the end.

    Parameters
    ----------
    decibel : ndarray of float32, shape (n_rows + frames - 1, n_mels)
        Frames, not yet stacked.
    frames : int
        Frames in a row.

    Returns
    -------
    Sums
        As over ``stack_frames(decibel, frames)``.

    """
    n_rows = len(decibel) - frames + 1
    values = decibel.astype(np.float64)
    return Sums(n_rows, _windowed_sums(values, frames), _windowed_sums(values * values, frames))


def add_sums(parts: Iterable[Sums], n_features: int) -> Sums:
    """Add up sums, in the order given.

    Parameters
    ----------
    parts : iterable of Sums
        Over different rows.
    n_features : int
        Values in a row.

    Returns
    -------
    Sums
        Over all of these rows.

    """
    count, total, squares = 0, np.zeros(n_features), np.zeros(n_features)
    for part in parts:
        count += part.count
        total += part.total
        squares += part.squares
    return Sums(count, total, squares)


def mean_and_std(sums: Sums) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Turn sums into the mean and the standard deviation ``sqrt(mean(x**2) - mean(x)**2)`` of each feature.

    Parameters
    ----------
    sums : Sums
        Over all rows that count.

    Returns
    -------
    mean, std : ndarray of float64, shape (n_features,)
        NaN where no row counts.

    """
    if not sums.count:
        return np.full(sums.total.shape, math.nan), np.full(sums.total.shape, math.nan)
    mean = sums.total / sums.count
    return mean, np.sqrt(np.maximum(sums.squares / sums.count - mean * mean, 0))


def to_json(record: Record) -> bytes:
    """Write a record as JSON; floats keep every bit.

    Parameters
    ----------
    record : Record
        Any.

    Returns
    -------
    bytes
        The same for the same record, always.

    """
    values = asdict(record)
    values["sums"] = {
        "count": record.sums.count,
        "total": record.sums.total.tolist(),
        "squares": record.sums.squares.tolist(),
    }
    return json.dumps(values, separators=(",", ":")).encode()


def from_json(data: bytes) -> Record | None:
    """Read a record.

    Parameters
    ----------
    data : bytes
        What `to_json` wrote, or anything else.

    Returns
    -------
    Record or None
        None where it is not a whole record: then the shard is not done.

    """
    try:
        values = json.loads(data)
        sums = values["sums"]
        return Record(
            fingerprint=values["fingerprint"],
            shard=values["shard"],
            inputs=values["inputs"],
            archives=values["archives"],
            size=values["size"],
            bad={int(clip): reason for clip, reason in values["bad"].items()},
            sums=Sums(sums["count"], np.array(sums["total"]), np.array(sums["squares"])),
            unread=tuple(values["unread"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _windowed_sums(values: NDArray[np.float64], frames: int) -> NDArray[np.float64]:
    none = np.zeros((1, values.shape[1]))
    before = np.concatenate([none, np.cumsum(values[: frames - 1], axis=0)])
    after = np.concatenate([none, np.cumsum(values[::-1][: frames - 1], axis=0)])[::-1]
    sums: NDArray[np.float64] = values.sum(axis=0) - before - after
    return sums.ravel()
