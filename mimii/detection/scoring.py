"""One task: some new recordings -> load -> mel -> dB -> stack -> score, by models that were learned before."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from mimii.detection.detectors import Detector, from_bytes, score_clip
from mimii.features import FeatureSpec, Loaded, load_all, power_to_db, stack_frames
from mimii.storage import Objects, Place, ReadOptions


@dataclass(frozen=True, slots=True)
class Part:
    """One recording to score.

    Attributes
    ----------
    clip : int
        Which clip.
    place : Place
        Where its bytes are.
    n_samples : int
        Samples of one channel, as planned.
    model : str
        Key of the model that scores it.

    """

    clip: int
    place: Place
    n_samples: int
    model: str


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
        Of the models.
    parts : tuple of Part
        A recording each.
    faults : mapping of int to Loaded
        Clips that are known not to be readable.

    """

    models: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    parts: tuple[Part, ...]
    faults: Mapping[int, Loaded] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the recordings, for messages."""
        return f"recordings {self.parts[0].place} to {self.parts[-1].place}"


@dataclass(frozen=True, slots=True)
class Scored:
    """What a recording scores.

    Attributes
    ----------
    clip : int
        Which clip.
    score : float
        Its score; NaN where it could not be read.
    threshold : float
        Of the model.
    problem : str
        Why it could not be read; else empty.

    """

    clip: int
    score: float
    threshold: float
    problem: str = ""


def score_batch(task: ScoreTask) -> list[Scored]:
    """Score recordings straight from audio."""
    models = {key: read_model(task.models, key) for key in {part.model for part in task.parts}}
    clips = zip(task.parts, load_all(task), strict=True)
    return [_score(part, loaded, models[part.model]) for part, loaded in clips]


def read_model(models: Objects, key: str) -> Detector:
    """Read a model."""
    data = models.get(key)
    if data is None:
        msg = f"{models.root}/{key}: there is no such model"
        raise FileNotFoundError(msg)
    return from_bytes(data)


def _score(part: Part, loaded: Loaded, detector: Detector) -> Scored:
    if loaded.mel is None:
        return Scored(part.clip, math.nan, detector.threshold, loaded.problem)
    rows = stack_frames(power_to_db(loaded.mel, detector.spec), detector.spec.frames)
    return Scored(part.clip, score_clip(rows, detector), detector.threshold)
