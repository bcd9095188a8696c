"""The distance of a clip to the nearest training clip, by the statistics of its mel bands."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mimii.detection.examples import Examples
from mimii.features import FloatArray

LEAST_FOR_DENSITY = 128
"""From so many recordings on, distances are relative to those between training clips, see docs/benchmarks.md.

Segments of one recording are near each other, so that their number says nothing.
"""

_FLOOR_DB = 0.3
_MOST_KNOWN = 8192
_NEAREST = 4
_LEAST_DENSITY = 0.1
_AT_ONCE = 256
_ROUNDING = 1e-9


def fit(examples: Examples) -> dict[str, FloatArray]:
    """Return the scaled statistics of the training clips, their domains, and how far apart they are.

    ``known[k] = x[k] / scale`` with ``scale = std(x over clips) + 0.3 dB`` for each of the 3 * n_mels statistics x;
    ``density[k]`` is the mean distance of clip k to its 4 nearest ones of the same domain, divided by the median of all
    clips; for clips of fewer than 128 recordings, 1. Scores with and without density have one unit, so
    that a threshold may be made of both. Of more than 8,192 clips, so many are taken, spread evenly.
    """
    if len(examples.places) > _MOST_KNOWN:  # scoring takes as long as there are many
        examples = examples.select(np.linspace(0, len(examples.places) - 1, _MOST_KNOWN).round().astype(int).tolist())
    scaled = scale_clips(examples.statistics)
    known, domains = scaled["known"], np.unique(np.array(examples.domains), return_inverse=True)[1]
    density = np.ones(len(known), np.float32)
    if len({*examples.recordings}) >= LEAST_FOR_DENSITY:
        distances = np.empty_like(density)
        for domain in range(domains.max() + 1):
            distances[domains == domain] = _mean_distances(known[domains == domain])
        middle = np.nanmedian(distances)
        if middle > 0:  # else most clips are there twice
            density = np.maximum(np.nan_to_num(distances / middle, nan=1.0), _LEAST_DENSITY)
    return {**scaled, "domain": domains.astype(np.float32), "density": density}


def scale_clips(statistics: FloatArray) -> dict[str, FloatArray]:
    """Return the scaled statistics of clips, shape (n_clips, 3, n_mels): all that `nearest_clip` needs."""
    flat = statistics.reshape(len(statistics), -1)
    scale = (flat.std(axis=0, dtype=np.float64) + _FLOOR_DB).astype(np.float32)
    return {"known": flat / scale, "scale": scale}


def score(statistics: FloatArray, arrays: Mapping[str, FloatArray]) -> float:
    """Score a clip by ``d[k] / density[k]``, k being the nearest training clip; with domains, by the least of these.

    ``d[k] = sqrt(mean((x / scale - known[k])**2))``: in deviations of the training clips, about.
    """
    distances = _distances(statistics.ravel() / arrays["scale"], arrays["known"])
    nearest = (_nearest(distances, arrays["domain"] == domain) for domain in np.unique(arrays["domain"]))
    return min(float(distances[k] / arrays["density"][k]) for k in nearest)


def nearest_clip(statistics: FloatArray, arrays: Mapping[str, FloatArray]) -> int:
    """Return which training clip is the nearest one."""
    return int(np.argmin(_distances(statistics.ravel() / arrays["scale"], arrays["known"])))


def _distances(x: FloatArray, known: FloatArray) -> NDArray[np.float64]:
    differences = known - x
    differences *= differences
    distances: NDArray[np.float64] = np.sqrt(differences.mean(axis=1, dtype=np.float64))
    return distances


def _nearest(distances: NDArray[np.float64], among: NDArray[np.bool_]) -> int:
    places = np.flatnonzero(among)
    return int(places[np.argmin(distances[places])])


def _mean_distances(known: FloatArray) -> FloatArray:
    """Return the mean distance of each clip to its nearest others; of a single one, NaN."""
    means = np.full(len(known), np.nan, np.float32)
    if not (n_nearest := min(_NEAREST, len(known) - 1)):
        return means
    x = known - known.mean(axis=0, dtype=np.float64)
    norms = np.square(x).sum(axis=1)
    for start in range(0, len(x), _AT_ONCE):
        rows = np.arange(start, min(start + _AT_ONCE, len(x)))
        squares = np.add.outer(norms[rows], norms)
        rounding = _ROUNDING * squares
        squares -= 2 * (x[rows] @ x.T)
        squares[squares < rounding] = 0  # the same clip twice
        squares[rows - start, rows] = np.inf
        nearest = np.partition(squares, n_nearest - 1, axis=1)[:, :n_nearest]
        means[rows] = np.sqrt(nearest / x.shape[1]).mean(axis=1)
    return means
