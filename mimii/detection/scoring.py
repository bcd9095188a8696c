"""Score recordings straight from audio: the last step of a partition of clips."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import numpy as np

from mimii.detection.detectors import Detector, DetectorError, Model, from_bytes, score
from mimii.detection.events import Event, Moments, find_moments
from mimii.detection.kinds import KINDS
from mimii.detection.pooling import ClipFeatures, Pooling, pool, window_statistics
from mimii.features import ClipResult, Fault, FeatureSpec, FloatArray, Input, band_centres
from mimii.storage import Objects, ReadOptions

_OTHER_FEATURES = "its model was learned from other features than the first model here; name it alone"
_OTHER_DETECTORS = "its model has other detectors than the first model here; name it alone"


@dataclass(frozen=True, slots=True)
class ScoreTask:
    """All that a worker needs to score some recordings.

    Attributes
    ----------
    models : Objects
        Where the models are.
    read_options : ReadOptions
        How to fetch the recordings.
    spec : FeatureSpec
        Of the models, with the segments that recordings are cut into.
    inputs : tuple of Input
        The recordings.
    keys : tuple of str
        The key of the model for each of them.
    kinds : tuple of str
        The detectors of the models.
    faults : mapping of int to Fault
        Clips that are known not to be readable.

    """

    models: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    inputs: tuple[Input, ...]
    keys: tuple[str, ...]
    kinds: tuple[str, ...]
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the recordings, for messages."""
        return f"recordings {self.inputs[0].place} to {self.inputs[-1].place}"


@dataclass(frozen=True, slots=True)
class DetectorScore:
    """What one detector says of a clip.

    Attributes
    ----------
    score, threshold : float
        Above the threshold the clip is abnormal; an infinite one says that there were too few normal clips.
    normal_scores : tuple of float
        Of the machine's normal clips.
    peak, peak_s : float
        The highest score over time, and when it was, in seconds from the start of the clip; NaN where there is none.
    peak_threshold : float
        Above it, a moment is an event.

    """

    score: float
    threshold: float
    normal_scores: tuple[float, ...]
    peak: float
    peak_s: float
    peak_threshold: float


@dataclass(frozen=True, slots=True)
class ClipScore:
    """What was found of a clip.

    Attributes
    ----------
    clip : int
        Its index.
    detectors : dict of str to DetectorScore
        By kind.
    events : tuple of Event
        When the first detector is above its threshold for moments.
    peak_hz, peak_db : float
        The band that is farthest from normal at the peak, and by how much it is louder; NaN where that is not known.
    problem : str
        Why there are no scores; empty where there are.
    unread : bool
        Whether the disk or the network may be to blame: trying again may help.

    """

    clip: int
    detectors: Mapping[str, DetectorScore] = field(default_factory=dict)
    events: tuple[Event, ...] = ()
    peak_hz: float = math.nan
    peak_db: float = math.nan
    problem: str = ""
    unread: bool = False


def score_clips(partition: Iterable[ClipResult]) -> list[list[ClipScore]]:
    """Return what was found of the clips of a partition."""
    models, scores = dict[str, Model | str](), list[ClipScore]()
    for index, clip in enumerate(partition):
        task: ScoreTask = clip.task
        key = task.keys[index]
        models[key] = models.get(key) or _model_or_problem(task.models, key)
        scores.append(_score(clip, models[key], task))
    return [scores]


def _model_or_problem(models: Objects, key: str) -> Model | str:
    """Read a model; one that is damaged stops no other machine."""
    try:
        return read_model(models, key)
    except (DetectorError, FileNotFoundError) as error:
        return str(error)


def read_model(models: Objects, key: str) -> Model:
    """Read a model."""
    data = models.get(key)
    if data is None:
        msg = f"{models.root}/{key}: there is no such model"
        raise FileNotFoundError(msg)
    try:
        return from_bytes(data)
    except DetectorError as error:
        msg = f"{models.root}/{key}: {error}"
        raise DetectorError(msg) from error


def _score(clip: ClipResult, model: Model | str, task: ScoreTask) -> ClipScore:
    number = clip.input.clip
    if isinstance(model, str):
        return ClipScore(number, problem=model, unread=True)
    if clip.fault:
        return ClipScore(number, problem=clip.fault.problem, unread=clip.fault.unread)
    if model.spec != task.spec.changed(segment=model.spec.segment, overlap=model.spec.overlap):
        return ClipScore(number, problem=_OTHER_FEATURES)
    if tuple(one.kind for one in model.detectors) != task.kinds:
        return ClipScore(number, problem=_OTHER_DETECTORS)
    return score_spectrogram(clip.value, model, number)


def score_spectrogram(decibel: FloatArray, model: Model, clip: int = 0) -> ClipScore:
    """Score a clip by its log-mel spectrogram, shape (n_frames, n_mels), in dB."""
    features = pool(decibel, model.pooling)
    moments = {one.kind: find_moments(features, one, model.pooling) for one in model.detectors}
    scores = {
        one.kind: DetectorScore(
            score(features, one, model.pooling),
            one.threshold,
            one.normal_scores,
            moments[one.kind].peak,
            moments[one.kind].peak_s,
            one.peak_threshold,
        )
        for one in model.detectors
    }
    first = model.detectors[0]
    where = find_band(features, first, moments[first.kind], model.pooling)
    return ClipScore(clip, scores, tuple(moments[first.kind].events()), *where)


def find_band(features: ClipFeatures, detector: Detector, moments: Moments, pooling: Pooling) -> tuple[float, float]:
    """Return the band that is farthest from normal at the peak, in Hz, and by how much it is louder, in dB.

    NaN for detectors of rows, which do not look at bands one by one.
    """
    if KINDS[detector.kind].reads_rows or math.isnan(moments.peak):
        return math.nan, math.nan
    at_peak = window_statistics(features, pooling)[int(np.nanargmax(moments.scores))]
    differences = at_peak - detector.arrays["window_mean"]
    z = differences / detector.arrays["window_scale"]
    distances = np.stack([np.abs(z[0]), z[1]])
    what, band = np.unravel_index(int(distances.argmax()), distances.shape)
    return float(band_centres(pooling.spec)[band]), float(differences[what, band])
