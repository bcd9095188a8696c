"""One task: a machine's rows -> learn what is normal -> score its clips -> write the model and what came out.

Rows come from the table a shard at a time, shuffled; as many shards as fit are kept in memory, so a machine of any size
can be learned.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.detection.detectors import Detector, score_clip, to_bytes
from mimii.detection.evaluation import Evaluation, choose_threshold, evaluate
from mimii.detection.learning import Training, train
from mimii.detection.machines import Machine, Span
from mimii.engine import Done
from mimii.features import FeatureSpec, FloatArray
from mimii.storage import Objects
from mimii.table import read_shard

MODELS, OUTCOMES = "models", "outcomes"
"""Folders of an output: what was learned, and what came of it; the second is written last."""

_BYTES_KEPT = 512 << 20
_LEAST_ROWS = 8192
_HELD_BACK, _LEAST_HELD_BACK = 10, 3

ReadShard = Callable[[int], FloatArray]


@dataclass(frozen=True, slots=True)
class Study:
    """What all machines of a run have in common.

    Attributes
    ----------
    table : Objects
        The table of features.
    output : Objects
        Where the results go.
    spec : FeatureSpec
        Of the table.
    shard_rows : int
        Of the table.
    shift, scale : ndarray of float32, shape (n_features,)
        Rows are learned and scored as ``(x - shift) / scale``.
    training : Training
        How to learn.
    fingerprint : str
        For the outcomes: of the table and the training.

    """

    table: Objects
    output: Objects
    spec: FeatureSpec
    shard_rows: int
    shift: FloatArray
    scale: FloatArray
    training: Training
    fingerprint: str


@dataclass(frozen=True, slots=True)
class MachineTask:
    """All that a worker needs to learn a machine.

    Attributes
    ----------
    index : int
        Which task.
    machine : Machine
        Which machine.
    study : Study
        How, and where the results go.

    """

    index: int
    machine: Machine
    study: Study

    def __str__(self) -> str:
        """Name the machine, for messages."""
        return f"the machine {self.machine.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a machine.

    Attributes
    ----------
    fingerprint : str
        Of the table and the training.
    name : str
        Of the machine.
    model_bytes : int
        Of its model.
    n_learned : int
        Clips that it was learned from.
    held_back : tuple of float
        Scores of normal clips for training that were not learned from; the threshold is made of them.
    threshold : float
        A clip with a higher score counts as abnormal.
    clips : tuple of int
        The clips for testing.
    labels : tuple of int
        What they are: 0 normal, 1 abnormal.
    scores : tuple of float
        What they score.

    """

    fingerprint: str
    name: str
    model_bytes: int
    n_learned: int
    held_back: tuple[float, ...]
    threshold: float
    clips: tuple[int, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def evaluation(self) -> Evaluation:
        """How well the clips for testing are told apart."""
        return evaluate(self.labels, self.scores, self.threshold)


def detect_machine(task: MachineTask) -> Done:
    """Learn a machine from its normal clips for training, score its clips for testing, write the model and the outcome.

    One in ten of the clips for training, at least three, is held back for the threshold, where there are six or more.
    """
    machine, study = task.machine, task.study
    learned, held_back = hold_back(machine.train)
    read = _keep_some(study)
    arrays = train(partial(_blocks, study, learned, read), study.training)
    detector = Detector(study.training.kind, arrays, study.shift, study.scale, study.spec, machine.name)
    unknown = _score(held_back, detector, read, study.shard_rows)
    detector = replace(detector, threshold=choose_threshold(unknown))
    scores = _score(machine.test, detector, read, study.shard_rows)
    model = to_bytes(detector)
    clips = tuple(span.clip for span in machine.test)
    outcome = Outcome(
        *(study.fingerprint, machine.name, len(model), len(learned), unknown, detector.threshold),
        *(clips, machine.labels, scores),
    )
    study.output.put(model_key(machine.name), model)
    study.output.put(outcome_key(machine.name), to_json(outcome))
    return Done(task.index, count_clips(machine), len(model), {})


def read_rows(table: Objects, span: Span, shard_rows: int) -> FloatArray:
    """Read the rows of one clip."""
    return _rows(span, partial(read_shard, table), shard_rows)


def hold_back(spans: Sequence[Span]) -> tuple[list[Span], list[Span]]:
    """Choose clips for training that are not learned from, so that a threshold can be made of what they score."""
    count = max(_LEAST_HELD_BACK, len(spans) // _HELD_BACK)
    if len(spans) < 2 * _LEAST_HELD_BACK:
        return list(spans), list(spans)
    chosen = set(np.linspace(0, len(spans) - 1, count).round().astype(int).tolist())
    return (
        [span for index, span in enumerate(spans) if index not in chosen],
        [span for index, span in enumerate(spans) if index in chosen],
    )


def count_clips(machine: Machine) -> int:
    """Count the clips of a machine that are learned from or scored."""
    return len(machine.train) + len(machine.test)


def model_key(machine: str) -> str:
    """Return the key of the model of a machine."""
    return f"{MODELS}/{machine}.npz"


def outcome_key(machine: str) -> str:
    """Return the key of the outcome of a machine."""
    return f"{OUTCOMES}/{machine}.json"


def to_json(outcome: Outcome) -> bytes:
    """Write an outcome as JSON; floats keep every bit."""
    return json.dumps(asdict(outcome), separators=(",", ":")).encode()


def from_json(data: bytes) -> Outcome | None:
    """Read an outcome."""
    try:
        values: dict[str, Any] = json.loads(data)
        lists = {name: tuple(values[name]) for name in ("held_back", "clips", "labels", "scores")}
        return Outcome(**(values | lists))
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def _keep_some(study: Study) -> ReadShard:
    """Keep the shards that were read last in memory, as many as fit."""
    shard_bytes = 4 * study.shard_rows * study.spec.n_features
    return lru_cache(maxsize=max(2, _BYTES_KEPT // shard_bytes))(partial(read_shard, study.table))


def _blocks(study: Study, learned: Sequence[Span], read: ReadShard, epoch: int) -> Iterator[FloatArray]:
    """Yield all rows to learn from, shifted and scaled, some shards' at a time, the shards in random order."""
    by_shard: dict[int, list[Span]] = {}
    for span in learned:
        for shard in _shards(span, study.shard_rows):
            by_shard.setdefault(shard, []).append(span)
    order = np.random.default_rng((study.training.seed, epoch)).permutation(np.array(list(by_shard), int)).tolist()
    parts = (_part(span, shard, read, study.shard_rows) for shard in order for span in by_shard[shard])
    for rows in _gather(parts):
        yield (rows - study.shift) / study.scale


def _gather(parts: Iterable[FloatArray]) -> Iterator[FloatArray]:
    """Put parts together until there are some thousand rows."""
    gathered: list[FloatArray] = []
    for part in parts:
        gathered.append(part)
        if sum(map(len, gathered)) >= _LEAST_ROWS:
            yield np.concatenate(gathered)
            gathered = []
    if gathered:
        yield np.concatenate(gathered)


def _score(spans: Sequence[Span], detector: Detector, read: ReadShard, shard_rows: int) -> tuple[float, ...]:
    return tuple(score_clip(_rows(span, read, shard_rows), detector) for span in spans)


def _rows(span: Span, read: ReadShard, shard_rows: int) -> NDArray[np.float32]:
    return np.concatenate([_part(span, shard, read, shard_rows) for shard in _shards(span, shard_rows)])


def _part(span: Span, shard: int, read: ReadShard, shard_rows: int) -> FloatArray:
    begin = shard * shard_rows
    return read(shard)[max(0, span.first - begin) : span.stop - begin]


def _shards(span: Span, shard_rows: int) -> range:
    return range(span.first // shard_rows, (span.stop - 1) // shard_rows + 1)
