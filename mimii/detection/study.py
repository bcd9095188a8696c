"""One task: a machine's clips -> learn what is normal -> score the others -> write the model and what came out.

Detectors of clips need the statistics of mel bands, which the table has, and the rows of some training clips, for
their windows. Detectors of rows read these a shard at a time, shuffled; as many shards as fit are kept in memory, so a
machine of any size can be learned.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
from numpy.typing import NDArray

from mimii.detection.calibration import Calibration, calibrate
from mimii.detection.detectors import Detector, Model, score, to_bytes
from mimii.detection.documents import model_key, outcome_key
from mimii.detection.evaluation import Evaluation, Interval, bootstrap, evaluate
from mimii.detection.examples import Examples
from mimii.detection.kinds import KINDS
from mimii.detection.machines import Machine
from mimii.detection.pooling import ClipFeatures, Pooling, fill_frames, pool_pieces, window_statistics
from mimii.detection.training import Training
from mimii.engine import Record, Stamp, describe, to_json
from mimii.features import FeatureSpec, FloatArray, mel_statistics, unstack_rows
from mimii.recordings import PLAIN, Meaning
from mimii.storage import Objects
from mimii.table import CLIPS_A_CHUNK, RowSpan, read_mel_statistics, read_shard

T = TypeVar("T")
_BYTES_KEPT = 512 << 20
_LEAST_ROWS = 8192
_MOST_SAMPLED, _SHARDS_SAMPLED = 32, 4
_MOST_WINDOWS = 20_000


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
    training : Training
        How to learn.
    meaning : Meaning
        How the paths of the recordings of the table were understood.
    fingerprint : str
        Of the training and of all machines.

    """

    table: Objects
    output: Objects
    spec: FeatureSpec
    shard_rows: int
    training: Training
    meaning: Meaning = PLAIN
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
class Scores:
    """What one detector says of the clips of a machine.

    Attributes
    ----------
    normal_clips : tuple of int
        Normal clips that were scored by a model that had not learned from them.
    normal : tuple of float
        Their scores; the threshold is made of them.
    threshold : float
        A clip with a higher score counts as abnormal; infinite where there are too few clips for one.
    peak_threshold : float
        A moment with a higher score counts as an event.
    clips : tuple of float
        The scores of the clips of the outcome.
    auc_interval, partial_auc_interval : tuple of float
        95 % of the AUCs of clips drawn anew lie in it (bootstrap); NaN where there is no AUC.

    """

    normal_clips: tuple[int, ...]
    normal: tuple[float, ...]
    threshold: float
    peak_threshold: float
    clips: tuple[float, ...]
    auc_interval: Interval
    partial_auc_interval: Interval


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of a machine.

    Attributes
    ----------
    name : str
        Of the machine.
    n_learned : int
        Normal clips that it was learned from, those for the threshold included.
    clips : tuple of int
        The other clips.
    labels : tuple of int
        What they are: 0 normal, 1 abnormal, -1 unknown.
    detectors : dict of str to Scores
        By kind; the verdicts are those of the first one.

    """

    name: str
    n_learned: int
    clips: tuple[int, ...]
    labels: tuple[int, ...]
    detectors: dict[str, Scores]

    @property
    def scores(self) -> Scores:
        """Those of the detector that decides."""
        return next(iter(self.detectors.values()))

    def evaluation(self, kind: str = "") -> Evaluation:
        """Return how well a detector separates the clips with a label; that of the first one where none is named."""
        scores = self.detectors[kind] if kind else self.scores
        return evaluate(self.labels, scores.clips, scores.threshold)


def learn_machine(task: MachineTask) -> Record:
    """Learn a machine from normal clips, score the others, and write the model, then the record of both."""
    machine, study = task.machine, task.study
    reader = MachineReader(machine, study)
    found = {kind: _learn(kind, reader) for kind in study.training.kinds}
    detectors = tuple(detector for detector, _ in found.values())
    model = {model_key(machine.name): to_bytes(Model(machine.name, reader.pooling, detectors, study.meaning))}
    clips = tuple(span.clip for span in machine.test)
    scores = {kind: one for kind, (_, one) in found.items()}
    outcome = Outcome(machine.name, len(machine.train), clips, machine.labels, scores)
    record = Record(task.stamp, describe(model), result=asdict(outcome))
    study.output.put_all(model)
    study.output.put(outcome_key(machine.name), to_json(record))
    return record


def _learn(kind: str, reader: "MachineReader") -> tuple[Detector, Scores]:
    """Learn a machine by one kind of detector; return it with what it says of the machine's clips."""
    machine, training = reader.machine, reader.study.training
    found: Calibration = calibrate(kind, reader.examples, machine, training, reader.training_clip)
    detector = found.detector
    scores = tuple(score(reader.test_clip(place, kind), detector, reader.pooling) for place in range(len(machine.test)))
    intervals = bootstrap(machine.labels, scores)
    normal_clips = tuple(machine.train[place].clip for place in found.places)
    thresholds = (detector.threshold, detector.peak_threshold)
    return detector, Scores(normal_clips, found.scores, *thresholds, scores, *intervals)


class MachineReader:
    """Reads what is learned of a machine: statistics of all clips, windows of some, rows shard by shard.

    Without `samples_windows`, no row is read before it is asked for: detectors learned from it know no moments.
    """

    def __init__(self, machine: Machine, study: Study, *, samples_windows: bool = True) -> None:
        self.machine, self.study = machine, study
        shard_bytes = 4 * study.shard_rows * study.spec.n_features
        self._read_shard = lru_cache(maxsize=max(2, _BYTES_KEPT // shard_bytes))(self._read)
        statistics = np.stack([self._statistics(span) for span in machine.train])
        level = float(statistics[:, 0].mean(dtype=np.float64))
        lengths = [self._n_frames(span) for span in machine.train]
        self.pooling = Pooling(study.spec, max(lengths), level, min(lengths))
        places, no_windows = tuple(range(len(machine.train))), (None,) * len(machine.train)
        windows = self._sample_windows(statistics) if samples_windows else no_windows
        self.examples = Examples(
            self.pooling, statistics, machine.domains, machine.recordings, windows, places, self._blocks
        )

    def _read(self, shard: int) -> FloatArray:
        return read_shard(self.study.table, shard)

    def training_clip(self, place: int, *, with_frames: bool) -> ClipFeatures:
        """Return a training clip."""
        pieces = (self.frames(self.machine.train[place]),) if with_frames else ()
        return ClipFeatures(self.examples.statistics[place], pieces)

    def test_clip(self, place: int, kind: str) -> ClipFeatures:
        """Return one of the other clips, as a kind of detector takes it."""
        return self.clip(self.machine.test[place], with_frames=KINDS[kind].reads_rows)

    def clip(self, span: RowSpan, *, with_frames: bool) -> ClipFeatures:
        """Return a clip; one that is much longer than the training clips is cut into pieces."""
        n_frames = self._n_frames(span)
        if self.pooling.is_long(n_frames):
            return pool_pieces(self.frames(span), self.pooling)
        pieces = (self.frames(span),) if with_frames else ()
        return ClipFeatures(self._statistics(span), pieces, self.pooling.is_short(n_frames))

    def _n_frames(self, span: RowSpan) -> int:
        return (span.n_rows - 1) * self.study.spec.stride + self.study.spec.frames

    def frames(self, span: RowSpan) -> FloatArray:
        """Read the spectrogram of a clip, in dB; frames that are in no row are as the one before."""
        spec = self.study.spec
        frames = unstack_rows(self._rows(span), spec.frames, spec.stride)
        return fill_frames(frames, ~np.isnan(frames[:, 0])) if spec.stride > spec.frames else frames

    def _statistics(self, span: RowSpan) -> FloatArray:
        study = self.study
        chunk = _read_statistics(cast("Hashable", study.table), span.clip // CLIPS_A_CHUNK, study.fingerprint)
        of_clip = None if chunk is None else chunk[span.clip % CLIPS_A_CHUNK]
        return of_clip if of_clip is not None and np.isfinite(of_clip).all() else mel_statistics(self.frames(span))

    def _sample_windows(self, statistics: FloatArray) -> tuple[FloatArray | None, ...]:
        """Return the windows of some training clips that lie in few shards."""
        windows: list[FloatArray | None] = [None] * len(statistics)
        for place in sorted(self._sample()):
            clip = ClipFeatures(statistics[place], (self.frames(self.machine.train[place]),))
            windows[place] = window_statistics(clip, self.pooling)[:_MOST_WINDOWS]
        return tuple(windows)

    def _sample(self) -> set[int]:
        """Choose training clips: some of those in each of a few shards, all spread evenly."""
        by_shard: dict[int, list[int]] = {}
        for place, span in enumerate(self.machine.train):
            by_shard.setdefault(span.row // self.study.shard_rows, []).append(place)
        chosen = _spread(list(by_shard.values()), _SHARDS_SAMPLED)
        return {place for places in chosen for place in _spread(places, _MOST_SAMPLED // len(chosen))}

    def _rows(self, span: RowSpan) -> NDArray[np.float32]:
        return np.concatenate([self._part(span, shard) for shard in self._shards(span)])

    def _part(self, span: RowSpan, shard: int) -> FloatArray:
        begin = shard * self.study.shard_rows
        return self._read_shard(shard)[max(0, span.row - begin) : span.row + span.n_rows - begin]

    def _shards(self, span: RowSpan) -> range:
        shard_rows = self.study.shard_rows
        return range(span.row // shard_rows, (span.row + span.n_rows - 1) // shard_rows + 1)

    def _blocks(self, places: Sequence[int], epoch: int) -> Iterator[FloatArray]:
        """Yield all rows of some training clips, some shards' at a time, the shards in random order."""
        by_shard: dict[int, list[RowSpan]] = {}
        for span in (self.machine.train[place] for place in places):
            for shard in self._shards(span):
                by_shard.setdefault(shard, []).append(span)
        rng = np.random.default_rng((self.study.training.seed, epoch))
        order = rng.permutation(np.array(list(by_shard), int)).tolist()
        return _gather(self._part(span, shard) for shard in order for span in by_shard[shard])


@lru_cache(maxsize=2)
def _read_statistics(table: Hashable, chunk: int, _fingerprint: str) -> FloatArray | None:
    """Read the statistics of a chunk of clips, once for all machines; None for tables of earlier versions.

    A table that has changed has another fingerprint.
    """
    try:
        return read_mel_statistics(cast("Objects", table), chunk)
    except KeyError:
        return None


def read_outcome(record: Record) -> Outcome | None:
    """Return what a record says of a machine; None where that is damaged."""
    try:
        values = record.result
        detectors = {kind: Scores(**_plain(one)) for kind, one in values["detectors"].items()}
        outcome = Outcome(**_plain({**values, "detectors": detectors}))
        lengths = {len(outcome.clips), len(outcome.labels), *(len(one.clips) for one in detectors.values())}
        are_alike = all(len(one.normal) == len(one.normal_clips) for one in detectors.values())
    except (ValueError, KeyError, TypeError, AttributeError):
        return None
    return outcome if detectors and are_alike and len(lengths) == 1 else None


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return values with tuples in place of arrays and lists."""
    lists = (np.ndarray, list, tuple)
    return {name: tuple(np.asarray(one).tolist()) if isinstance(one, lists) else one for name, one in values.items()}


def _spread(values: Sequence[T], most: int) -> list[T]:
    """Return at most so many of some values, spread evenly."""
    places = np.linspace(0, len(values) - 1, min(most, len(values))).round().astype(int)
    return [values[place] for place in places.tolist()]


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
