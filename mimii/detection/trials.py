"""How well detectors do that learn from few clips: some normal clips are drawn at random, all others are scored."""

import logging
import math
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimii.detection.detectors import Detector, fit, score
from mimii.detection.evaluation import evaluate
from mimii.detection.kinds import KINDS
from mimii.detection.machines import Machine, find_machines
from mimii.detection.study import MachineReader, Study
from mimii.detection.training import LearningError, Training
from mimii.engine import digest_written
from mimii.recordings import ABNORMAL, NORMAL, TRAIN
from mimii.storage import DEFAULT_ACCESS, Access, Location
from mimii.table import RECORDS, Columns, open_store, read_columns

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Trial:
    """What came of one draw of clips of a machine.

    Attributes
    ----------
    machine : Machine
        All of its normal clips are in `train`, all others in `test`.
    kind : str
        Of the detector.
    draw : int
        Which draw: the same number has the same clips for all kinds.
    n_learned : int
        How many clips were learned from.
    auc : float
        Of all clips that were not.
    learn_seconds, score_seconds : float
        What learning took, and scoring all of the other clips.

    """

    machine: Machine
    kind: str
    draw: int
    n_learned: int
    auc: float
    learn_seconds: float
    score_seconds: float


def try_detectors(
    table: Location, draws: Mapping[str, int], *, n_learn: int = 5, epochs: int = 50, access: Access = DEFAULT_ACCESS
) -> Iterator[Trial]:
    """Yield what comes of some draws of clips of each machine of a table, for each kind of detector.

    The split of the table does not matter: `n_learn` normal recordings are drawn from all, and all other clips of the
    machine are scored. `draws` says how many draws there are for each kind. Machines with fewer normal clips, or
    without an abnormal one, are left out with a warning.

    Raises
    ------
    LearningError
        If there is no such kind of detector, or no machine can be tried.
    StoreError
        If the table is not finished.

    """
    training = Training(tuple(draws), epochs=epochs)
    objects = open_store(f"{table}", access)
    columns = read_columns(objects)
    machines = _choose_machines(columns, n_learn, f"{table}")
    content = digest_written(objects, RECORDS)
    study = Study(objects, objects, columns.spec, columns.shard_rows, training, fingerprint=content)  # writes nothing
    for machine in machines:
        reader = MachineReader(machine, study, samples_windows=False)
        for kind, n_draws in draws.items():
            for draw in range(n_draws):
                yield _try(kind, reader, draw, n_learn)


def _choose_machines(columns: Columns, n_learn: int, table: str) -> list[Machine]:
    """Return the machines that have clips enough, with all normal clips to be learned from."""
    machines = find_machines(replace(columns, split=np.full(len(columns.split), TRAIN)))
    usable = [one for one in machines if len({*one.recordings}) > n_learn and ABNORMAL in one.labels]
    if not usable:
        msg = (
            f"{table}: no machine has an abnormal clip and more than {n_learn} normal ones; learn from fewer with "
            "--learn"
        )
        raise LearningError(msg)
    if without := [one.name for one in machines if one not in usable]:
        _log.warning(
            "left out, as they lack an abnormal clip or have at most %d normal ones: %s", n_learn, ", ".join(without)
        )
    return usable


def _try(kind: str, reader: MachineReader, draw: int, n_learn: int) -> Trial:
    machine, pooling = reader.machine, reader.pooling
    is_learned = _draw(machine, draw, n_learn)
    started = time.perf_counter()
    arrays = fit(kind, reader.examples.select(np.flatnonzero(is_learned).tolist()), reader.study.training)
    learned = time.perf_counter()
    detector, with_frames = Detector(kind, arrays), KINDS[kind].reads_rows
    places = np.flatnonzero(~is_learned).tolist()
    normal = [score(reader.training_clip(one, with_frames=with_frames), detector, pooling) for one in places]
    others = [score(reader.test_clip(place, kind), detector, pooling) for place in range(len(machine.test))]
    scored = time.perf_counter()
    labels = [NORMAL] * len(normal) + list(machine.labels)
    auc = evaluate(labels, normal + others, math.inf).auc
    return Trial(machine, kind, draw, int(is_learned.sum()), auc, learned - started, scored - learned)


def _draw(machine: Machine, draw: int, n_learn: int) -> NDArray[np.bool_]:
    """Say of each normal clip whether it is learned from: all clips of the recordings that are drawn."""
    recordings = np.array(machine.recordings)
    drawn = np.random.default_rng(draw).permutation(np.unique(recordings))[:n_learn]
    return np.isin(recordings, drawn)
