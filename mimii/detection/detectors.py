"""Measure how far a row of features is from what a machine normally sounds like.

Each detector reconstructs a row from what it has learned; the score of a row is the mean squared error of that. A
detector is plain arrays: scikit-learn, which trains it (`mimii.detection.learning`), is not needed to score.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec, FloatArray

Kind = Literal["autoencoder", "pca", "knn"]
"""How rows are reconstructed; see `reconstruct`."""

Floats = NDArray[np.floating]

KINDS: tuple[Kind, ...] = get_args(Kind)
_ROWS_AT_ONCE = 4096
_FORMAT = 1
_ENDING = ".npz"
_ABOUT, _SHIFT, _SCALE, _PREFIX = "about", "shift", "scale", "array."


class DetectorError(ValueError):
    """Something that is no detector; the message says why."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What was learned of one machine.

    Attributes
    ----------
    kind : {"autoencoder", "pca", "knn"}
        How rows are reconstructed.
    arrays : mapping of str to ndarray of float32
        What was learned, see `reconstruct`.
    shift, scale : ndarray of float32, shape (n_features,)
        A row x is reconstructed, and its error measured, as ``(x - shift) / scale``.
    spec : FeatureSpec
        What a row is.
    machine : str
        Which machine, such as ``fan-id_00-6dB``.
    threshold : float
        A clip with a higher score counts as abnormal.

    """

    kind: Kind
    arrays: Mapping[str, FloatArray]
    shift: FloatArray
    scale: FloatArray
    spec: FeatureSpec
    machine: str = ""
    threshold: float = np.inf


def reconstruct(rows: Floats, kind: Kind, arrays: Mapping[str, FloatArray]) -> Floats:
    """Reconstruct rows from what was learned."""
    if kind == "autoencoder":
        return _run_network(rows, arrays)
    if kind == "pca":
        mean, components = arrays["mean"], arrays["components"]
        projected: Floats = mean + (rows - mean) @ components.T @ components
        return projected
    return _nearest(rows, arrays["rows"])


def score_rows(rows: FloatArray, detector: Detector) -> NDArray[np.float64]:
    """Score each row: ``mean((z - reconstruct(z))**2)`` with ``z = (x - shift) / scale``."""
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        part = slice(start, start + _ROWS_AT_ONCE)
        z = (rows[part] - detector.shift) / detector.scale
        scores[part] = np.mean((z - reconstruct(z, detector.kind, detector.arrays)) ** 2, axis=1, dtype=np.float64)
    return scores


def score_clip(rows: FloatArray, detector: Detector) -> float:
    """Measure how far a clip is from what is normal: the mean of its rows' scores."""
    return float(score_rows(rows, detector).mean())


def to_bytes(detector: Detector) -> bytes:
    """Write a detector as an archive of plain arrays, ``.npz``: no pickle, nothing in it can run."""
    about = {
        "format": _FORMAT,
        "kind": detector.kind,
        "spec": detector.spec.as_dict(),
        "machine": detector.machine,
        "threshold": detector.threshold,
    }
    arrays = {_PREFIX + name: array for name, array in detector.arrays.items()}
    file = io.BytesIO()
    what = {_ABOUT: np.array(json.dumps(about)), _SHIFT: detector.shift, _SCALE: detector.scale, **arrays}
    np.savez(file, allow_pickle=False, **what)
    return file.getvalue()


def from_bytes(data: bytes) -> Detector:
    """Read a detector."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
        about = json.loads(str(found[_ABOUT]))
        arrays = {name.removeprefix(_PREFIX): found[name] for name in found if name.startswith(_PREFIX)}
        detector = Detector(arrays=arrays, shift=found[_SHIFT], scale=found[_SCALE], **_about(about))
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        msg = f"not a model of jobs.detect ({_ENDING}, format {_FORMAT}), or damaged; train again"
        raise DetectorError(msg) from error
    return detector


def _about(values: Mapping[str, Any]) -> dict[str, Any]:
    if values["format"] != _FORMAT or values["kind"] not in KINDS:
        raise ValueError(values)
    known = {name: values[name] for name in ("kind", "machine", "threshold")}
    return known | {"spec": FeatureSpec(**values["spec"])}


def _run_network(rows: Floats, arrays: Mapping[str, FloatArray]) -> Floats:
    n_layers = len(arrays) // 2
    values = rows
    for index in range(n_layers):
        values = values @ arrays[f"weights_{index}"] + arrays[f"biases_{index}"]
        if index < n_layers - 1:
            np.maximum(values, 0, out=values)
    return values


def _nearest(rows: Floats, known: FloatArray) -> Floats:
    """Find the nearest known row of each row: the one with the smallest ``|k|**2 - 2 x.k``."""
    nearest = np.argmin((known * known).sum(axis=1) - 2 * (rows @ known.T), axis=1)
    found: FloatArray = known[nearest]
    return found
