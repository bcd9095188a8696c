"""One task: a machine's rows -> learn what is normal -> score its clips -> write the model and what came out.

Rows come from the table a shard at a time, shuffled; as many shards as fit are kept in memory, so a machine of any size
can be learned.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial

import numpy as np
from numpy.typing import NDArray

from mimii.detection.detectors import Detector, score_clip, to_bytes
from mimii.detection.evaluation import Evaluation, choose_threshold, evaluate
from mimii.detection.learning import Training, train
from mimii.detection.machines import Machine
from mimii.engine import Record, Stamp, describe, to_json
from mimii.features import FeatureSpec, FloatArray
from mimii.storage import Objects
from mimii.table import RowSpan, read_shard

MODELS, OUTCOMES = "models", "outcomes"
"""Folders of an output: what was learned, and what came of it; the second is written last."""

_BYTES_KEPT = 512 << 20
_LEAST_ROWS = 8192
_HELD_OUT, _LEAST_HELD_OUT = 10, 3

_LISTS = ("held_out", "clips", "labels", "scores")
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
        Of the training and of all machines.

    """

    table: Objects
    output: Objects
    spec: FeatureSpec
    shard_rows: int
    shift: FloatArray
    scale: FloatArray
    training: Training
    fingerprint: str = ""


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
    stamp : Stamp
        For the outcome.

    """

    index: int
    machine: Machine
    study: Study
    stamp: Stamp

    def __str__(self) -> str:
        """Name the machine, for messages."""
        return f"the machine {self.machine.name}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a machine.

    Attributes
    ----------
    name : str
        Of the machine.
    n_learned : int
        Clips that it was learned from.
    held_out : tuple of float
        Scores of normal training clips that were not learned from; the threshold is made of them.
    threshold : float
        A clip with a higher score counts as abnormal.
    clips : tuple of int
        The clips for testing.
    labels : tuple of int
        What they are: 0 normal, 1 abnormal.
    scores : tuple of float
        What they score.

    """

    name: str
    n_learned: int
    held_out: tuple[float, ...]
    threshold: float
    clips: tuple[int, ...]
    labels: tuple[int, ...]
    scores: tuple[float, ...]

    @property
    def evaluation(self) -> Evaluation:
        """How well the test clips are separated."""
        return evaluate(self.labels, self.scores, self.threshold)


def learn_machine(task: MachineTask) -> Record:
    """Learn a machine from normal clips, score its test clips, and write the model, then the record of both."""
    machine, study = task.machine, task.study
    learned, held_out = hold_out(machine.train)
    read = _keep_some(study)
    arrays = train(partial(_blocks, study, learned, read), study.training)
    detector = Detector(study.training.kind, arrays, study.shift, study.scale, study.spec, machine.name)
    unknown = _score(held_out, detector, read, study.shard_rows)
    detector = replace(detector, threshold=choose_threshold(unknown))
    scores = _score(machine.test, detector, read, study.shard_rows)
    model = {model_key(machine.name): to_bytes(detector)}
    clips = tuple(span.clip for span in machine.test)
    outcome = Outcome(machine.name, len(learned), unknown, detector.threshold, clips, machine.labels, scores)
    record = Record(task.stamp, describe(model), result=asdict(outcome))
    study.output.put_all(model)
    study.output.put(outcome_key(machine.name), to_json(record))
    return record


def read_rows(table: Objects, span: RowSpan, shard_rows: int) -> FloatArray:
    """Read the rows of one clip."""
    return _rows(span, partial(read_shard, table), shard_rows)


def hold_out(spans: Sequence[RowSpan]) -> tuple[list[RowSpan], list[RowSpan]]:
    """Choose clips for training that are not learned from, so that a threshold can be made of what they score."""
    count = max(_LEAST_HELD_OUT, len(spans) // _HELD_OUT)
    if len(spans) < 2 * _LEAST_HELD_OUT:
        return list(spans), list(spans)
    chosen = set(np.linspace(0, len(spans) - 1, count).round().astype(int).tolist())
    return (
        [span for index, span in enumerate(spans) if index not in chosen],
        [span for index, span in enumerate(spans) if index in chosen],
    )


def model_key(machine: str) -> str:
    """Return the key of the model of a machine."""
    return f"{MODELS}/{machine}.npz"


def outcome_key(machine: str) -> str:
    """Return the key of the outcome of a machine."""
    return f"{OUTCOMES}/{machine}.json"


def read_outcome(record: Record) -> Outcome | None:
    """Return what a record says of a machine; None where that is damaged."""
    try:
        lists = {name: tuple(np.asarray(record.result[name]).tolist()) for name in _LISTS}
        return Outcome(**{**record.result, **lists})
    except (ValueError, KeyError, TypeError):
        return None


def _keep_some(study: Study) -> ReadShard:
    """Keep the shards that were read last in memory, as many as fit."""
    shard_bytes = 4 * study.shard_rows * study.spec.n_features
    return lru_cache(maxsize=max(2, _BYTES_KEPT // shard_bytes))(partial(read_shard, study.table))


def _blocks(study: Study, learned: Sequence[RowSpan], read: ReadShard, epoch: int) -> Iterator[FloatArray]:
    """Yield all rows to learn from, shifted and scaled, some shards' at a time, the shards in random order."""
    by_shard: dict[int, list[RowSpan]] = {}
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


def _score(spans: Sequence[RowSpan], detector: Detector, read: ReadShard, shard_rows: int) -> tuple[float, ...]:
    return tuple(score_clip(_rows(span, read, shard_rows), detector) for span in spans)


def _rows(span: RowSpan, read: ReadShard, shard_rows: int) -> NDArray[np.float32]:
    return np.concatenate([_part(span, shard, read, shard_rows) for shard in _shards(span, shard_rows)])


def _part(span: RowSpan, shard: int, read: ReadShard, shard_rows: int) -> FloatArray:
    begin = shard * shard_rows
    return read(shard)[max(0, span.row - begin) : span.row + span.n_rows - begin]


def _shards(span: RowSpan, shard_rows: int) -> range:
    return range(span.row // shard_rows, (span.row + span.n_rows - 1) // shard_rows + 1)
