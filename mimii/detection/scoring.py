"""Score recordings straight from audio: the last step of a partition of clips."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from mimii.detection.detectors import Detector, from_bytes, score_clip
from mimii.features import ClipResult, Fault, FeatureSpec, Input, stack_frames
from mimii.storage import Objects, ReadOptions


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
    inputs : tuple of Input
        The recordings.
    keys : tuple of str
        The key of the model for each of them.
    faults : mapping of int to Fault
        Clips that are known not to be readable.

    """

    models: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    inputs: tuple[Input, ...]
    keys: tuple[str, ...]
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the recordings, for messages."""
        return f"recordings {self.inputs[0].place} to {self.inputs[-1].place}"


@dataclass(frozen=True, slots=True)
class Score:
    """The score of a recording, NaN where it could not be read, and the threshold of its model."""

    clip: int
    score: float
    threshold: float
    problem: str = ""


def score_clips(partition: Iterable[ClipResult]) -> list[list[Score]]:
    """Return the scores of the clips of a partition."""
    models, scores = dict[str, Detector](), list[Score]()
    for index, clip in enumerate(partition):
        task: ScoreTask = clip.task
        key = task.keys[index]
        models[key] = models.get(key) or read_model(task.models, key)
        scores.append(_score(clip, models[key]))
    return [scores]


def read_model(models: Objects, key: str) -> Detector:
    """Read a model."""
    data = models.get(key)
    if data is None:
        msg = f"{models.root}/{key}: there is no such model"
        raise FileNotFoundError(msg)
    return from_bytes(data)


def _score(clip: ClipResult, detector: Detector) -> Score:
    if clip.fault:
        return Score(clip.input.clip, math.nan, detector.threshold, clip.fault.problem)
    rows = stack_frames(clip.value, detector.spec.frames, detector.spec.stride)
    return Score(clip.input.clip, score_clip(rows, detector), detector.threshold)
