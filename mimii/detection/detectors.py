"""Detectors and models: what was learned of a machine's normal sound, and how it scores clips and their moments.

A detector is plain arrays: scikit-learn, which trains most kinds, is not needed to score.
"""

import io
import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.detection import windows
from mimii.detection.examples import Examples, Rows, scale_of_rows
from mimii.detection.kinds import KINDS, load_kind
from mimii.detection.pooling import ClipFeatures, Pooling, levelled, window_frames, window_starts, window_statistics
from mimii.detection.training import Training
from mimii.features import FeatureSpec, FloatArray, mel_statistics, stack_frames
from mimii.recordings import PLAIN, Meaning

_ROWS_AT_ONCE = 4096
_FORMAT = 2
_ABOUT = "about"


class DetectorError(ValueError):
    """Bytes that are not a model."""


@dataclass(frozen=True, slots=True)
class Detector:
    """What one kind of detector learned of a machine.

    Attributes
    ----------
    kind : str
        One of `mimii.detection.KINDS`.
    arrays : mapping of str to ndarray of float32
        What was learned.
    threshold : float
        A clip with a higher score counts as abnormal; infinite where there are too few clips for one.
    peak_threshold : float
        A moment with a higher score counts as an event.
    normal_scores : tuple of float
        Scores of normal clips that were not learned from, the lowest first.

    """

    kind: str
    arrays: Mapping[str, FloatArray] = field(repr=False)
    threshold: float = math.inf
    peak_threshold: float = math.inf
    normal_scores: tuple[float, ...] = field(default=(), repr=False)


@dataclass(frozen=True, slots=True)
class Model:
    """All that is needed to score recordings of a machine.

    Attributes
    ----------
    machine : str
        Such as ``fan-id_00-6dB``.
    pooling : Pooling
        What its clips are: spec, length, level.
    detectors : tuple of Detector
        The verdict is that of the first one.
    meaning : Meaning
        How the paths of recordings are understood.

    """

    machine: str
    pooling: Pooling
    detectors: tuple[Detector, ...]
    meaning: Meaning = PLAIN

    @property
    def spec(self) -> FeatureSpec:
        """Of the features."""
        return self.pooling.spec


def fit(kind: str, examples: Examples, training: Training) -> dict[str, FloatArray]:
    """Return what a kind of detector learns of normal clips; LearningError where these have no row."""
    module = load_kind(kind)
    if not KINDS[kind].reads_rows:
        learned: dict[str, FloatArray] = module.fit(examples)
        return learned | windows.fit(examples.windows)
    n_features = examples.pooling.spec.n_features
    shift, scale = np.zeros(n_features, np.float32), np.ones(n_features, np.float32)
    if training.normalize:
        shift, scale = scale_of_rows(examples)
    arrays: dict[str, FloatArray] = module.train(Rows(examples, shift, scale), training)
    return arrays | {"shift": shift, "scale": scale}


def score(clip: ClipFeatures, detector: Detector, pooling: Pooling) -> float:
    """Score a clip: higher is less normal. Of a detector of rows, the mean over the rows; with domains, the least.

    Of a long clip, the median of its pieces' scores; NaN for a clip that is too short to be compared.
    """
    if clip.is_short:
        return math.nan
    if len(clip.pieces) > 1:
        pieces = (ClipFeatures(mel_statistics(piece), (piece,)) for piece in clip.pieces)
        return float(np.median([score(piece, detector, pooling) for piece in pieces]))
    if not KINDS[detector.kind].reads_rows:
        return float(load_kind(detector.kind).score(clip.statistics, detector.arrays))
    [frames] = clip.pieces
    return float(_score_rows(frames, detector, pooling.spec).mean(axis=1).min())


def score_windows(clip: ClipFeatures, detector: Detector, pooling: Pooling) -> NDArray[np.float64]:
    """Score each window of a clip, see `mimii.detection.pooling.window_times`."""
    if not KINDS[detector.kind].reads_rows:
        return windows.score_windows(window_statistics(clip, pooling), detector.arrays)
    pieces = levelled(clip, pooling)
    return np.concatenate([_mean_in_windows(piece, detector, pooling.spec) for piece in pieces])


def _score_rows(frames: FloatArray, detector: Detector, spec: FeatureSpec) -> NDArray[np.float64]:
    """Score the rows of a piece, shape (n_domains, n_rows)."""
    rows, module, scores = stack_frames(frames, spec.frames, spec.stride), load_kind(detector.kind), []
    for start in range(0, len(rows), _ROWS_AT_ONCE):
        z = (rows[start : start + _ROWS_AT_ONCE] - detector.arrays["shift"]) / detector.arrays["scale"]
        scores.append(np.atleast_2d(module.score_rows(z, detector.arrays)))
    return np.concatenate(scores, axis=1)


def _mean_in_windows(frames: FloatArray, detector: Detector, spec: FeatureSpec) -> NDArray[np.float64]:
    """Return the mean over the rows with their middle in each window; of a window without one, over the nearest's."""
    scores = _score_rows(frames, detector, spec)
    n_windows = len(window_starts(len(frames), spec))
    middles = np.arange(scores.shape[1]) * spec.stride + spec.frames // 2
    window = np.minimum(middles // window_frames(spec), n_windows - 1)
    known, first = np.unique(window, return_index=True)
    counts = np.diff(np.append(first, len(window)))
    means = (np.add.reduceat(scores, first, axis=1) / counts).min(axis=0)
    nearest = np.abs(known - np.arange(n_windows)[:, np.newaxis]).argmin(axis=1)
    filled: NDArray[np.float64] = means[nearest]
    return filled


def to_bytes(model: Model) -> bytes:
    """Return a model as an ``.npz`` file of plain arrays, without pickle."""
    about = {
        "format": _FORMAT,
        "machine": model.machine,
        "spec": model.spec.as_dict(),
        "most_frames": model.pooling.most_frames,
        "least_frames": model.pooling.least_frames,
        "level": model.pooling.level,
        **model.meaning._asdict(),
        "detectors": [
            {"kind": one.kind, "threshold": one.threshold, "peak_threshold": one.peak_threshold}
            for one in model.detectors
        ],
    }
    arrays = {
        f"{one.kind}.{name}": array
        for one in model.detectors
        for name, array in {**one.arrays, "normal_scores": np.array(one.normal_scores, float)}.items()
    }
    file = io.BytesIO()
    members: dict[str, Any] = {_ABOUT: np.array(json.dumps(about)), **arrays}
    np.savez(file, **members)
    return file.getvalue()


def from_bytes(data: bytes) -> Model:
    """Read what `to_bytes` wrote."""
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as file:
            found = dict(file)
        return _read(json.loads(str(found.pop(_ABOUT))), found)
    except (ValueError, KeyError, TypeError, AttributeError, OSError, EOFError, zipfile.BadZipFile) as error:
        msg = (
            f"not a model of jobs.detect (.npz, format {_FORMAT}), damaged, or of an earlier version; learn it again "
            "by jobs.detect"
        )
        raise DetectorError(msg) from error


def _read(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Model:
    if about["format"] != _FORMAT or not about["detectors"]:
        raise ValueError(about["format"])
    return Model(
        machine=str(about["machine"]),
        pooling=Pooling(
            FeatureSpec(**about["spec"]), int(about["most_frames"]), float(about["level"]), int(about["least_frames"])
        ),
        detectors=tuple(_read_detector(one, arrays) for one in about["detectors"]),
        meaning=Meaning(str(about["layout"]), str(about["assume"])),
    )


def _read_detector(about: Mapping[str, Any], arrays: Mapping[str, NDArray[Any]]) -> Detector:
    kind = str(about["kind"])
    if kind not in KINDS:
        raise ValueError(kind)
    of_kind = {name.removeprefix(f"{kind}."): array for name, array in arrays.items() if name.startswith(f"{kind}.")}
    normal = of_kind.pop("normal_scores")
    return Detector(
        kind, of_kind, float(about["threshold"]), float(about["peak_threshold"]), tuple(map(float, normal.tolist()))
    )
