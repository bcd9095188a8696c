"""Score rows of features by how badly a model of normal sound reconstructs them.

A detector is plain arrays: scikit-learn, which trains it (`mimii.detection.learning`), is not needed to score.
"""

import io
import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.detection.kinds import KINDS, load_kind
from mimii.features import FeatureSpec, FloatArray

Floats = NDArray[np.floating]
_ROWS_AT_ONCE = 4096
_FORMAT = 1
_ABOUT, _SHIFT, _SCALE, _PREFIX = "about", "shift", "scale", "array."


class DetectorError(ValueError):
    """Bytes that are not a detector."""


@dataclass(frozen=True, slots=True)
class Detector:
    """A model of one machine's normal sound.

    Attributes
    ----------
    arrays : mapping of str to ndarray of float32
        What was learned: ``weights_0``, ``biases_0``, ... of a network; ``mean`` and ``components``; or known ``rows``.
    shift, scale : ndarray of float32, shape (n_features,)
        A row x is reconstructed, and its error measured, as ``(x - shift) / scale``.
    machine : str
        Such as ``fan-id_00-6dB``.
    threshold : float
        A clip with a higher score counts as abnormal.

    """

    kind: str
    arrays: Mapping[str, FloatArray]
    shift: FloatArray
    scale: FloatArray
    spec: FeatureSpec
    machine: str = ""
    threshold: float = np.inf


def reconstruct(rows: Floats, kind: str, arrays: Mapping[str, FloatArray]) -> Floats:
    """Return each row, shape (n_rows, n_features), as the model reconstructs it."""
    reconstructed: Floats = load_kind(kind).reconstruct(rows, arrays)
    return reconstructed


def score_rows(rows: FloatArray, detector: Detector) -> NDArray[np.float64]:
    """Score each row: ``mean((z - reconstruct(z))**2)`` with ``z = (x - shift) / scale``."""
    scores = np.empty(len(rows))
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        block = slice(start, start + _ROWS_AT_ONCE)
        z = (rows[block] - detector.shift) / detector.scale
        scores[block] = np.mean((z - reconstruct(z, detector.kind, detector.arrays)) ** 2, axis=1, dtype=np.float64)
    return scores


def score_clip(rows: FloatArray, detector: Detector) -> float:
    """Return the mean score of a clip's rows."""
    return float(score_rows(rows, detector).mean())


def to_bytes(detector: Detector) -> bytes:
    """Return a detector as an ``.npz`` file of plain arrays, without pickle."""
    about = {
        "format": _FORMAT,
        "kind": detector.kind,
        "spec": detector.spec.as_dict(),
        "machine": detector.machine,
        "threshold": detector.threshold,
    }
    arrays = {_PREFIX + name: array for name, array in detector.arrays.items()}
    file = io.BytesIO()
    arrays = {_ABOUT: np.array(json.dumps(about)), _SHIFT: detector.shift, _SCALE: detector.scale, **arrays}
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(data: bytes) -> Detector:
    """Read what `to_bytes` wrote."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = dict(file)
        about = _parse(json.loads(str(found[_ABOUT])))
        arrays = {name.removeprefix(_PREFIX): found[name] for name in found if name.startswith(_PREFIX)}
        return Detector(arrays=arrays, shift=found[_SHIFT], scale=found[_SCALE], **about)
    except (ValueError, KeyError, TypeError, OSError, EOFError, zipfile.BadZipFile) as error:
        msg = f"not a model of jobs.detect (.npz, format {_FORMAT}), or damaged; train again"
        raise DetectorError(msg) from error


def _parse(values: Mapping[str, Any]) -> dict[str, Any]:
    if values["format"] != _FORMAT or values["kind"] not in KINDS:
        raise ValueError(values)
    known = {name: values[name] for name in ("kind", "machine", "threshold")}
    return known | {"spec": FeatureSpec(**values["spec"])}
