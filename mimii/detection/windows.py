"""When a clip is unlike normal sound, for detectors that compare clips: its windows beside those of training clips."""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from mimii.features import FloatArray

_FLOOR_DB = 0.3


def fit(windows: Sequence[FloatArray | None]) -> dict[str, FloatArray]:
    """Return mean and deviation over the windows of training clips of their band means and band maxima.

    Both have the shape (2, n_mels), in dB; without windows, they are empty.
    """
    known = [one for one in windows if one is not None]
    if not known:
        return {"window_mean": np.empty((0, 0), np.float32), "window_scale": np.empty((0, 0), np.float32)}
    values = np.concatenate(known).astype(np.float64)
    mean, scale = values.mean(axis=0), values.std(axis=0) + _FLOOR_DB
    return {"window_mean": mean.astype(np.float32), "window_scale": scale.astype(np.float32)}


def score_windows(statistics: FloatArray, arrays: Mapping[str, FloatArray]) -> NDArray[np.float64]:
    """Score each window by its band that is farthest from normal, in deviations of normal windows.

    ``max(max_m |z_mean[m]|, max_m z_max[m])`` with ``z = (x - mean) / (std + 0.3 dB)``, x being the mean or the maximum
    of a band over the window: a tone that comes, a click, and a machine that stops all count.
    """
    if not arrays["window_mean"].size:
        return np.full(len(statistics), np.nan)
    z = (statistics - arrays["window_mean"]) / arrays["window_scale"]
    scores: NDArray[np.float64] = np.maximum(np.abs(z[:, 0]).max(axis=1), z[:, 1].max(axis=1)).astype(np.float64)
    return scores
