"""The clips of a table by machine: which are learned from, and which are scored."""

import hashlib
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimii.features import ALL, FeatureSpec
from mimii.recordings import ABNORMAL, GOOD, NORMAL, TEST, TRAIN, UNKNOWN, Identity, machine_name
from mimii.table import Columns, RowSpan

NAMELESS = "all"
"""The machine of clips of which no machine is known."""


@dataclass(frozen=True, slots=True)
class Machine:
    """One machine at one SNR, where each channel is a clip also one channel of it, and its clips that can be used.

    Attributes
    ----------
    name : str
        Such as ``fan-id_00-6dB``; unique, and fit for the name of a file.
    machine_type, machine_id : str
        Such as ``fan`` and ``id_00``; empty where unknown.
    snr_db : float
        dB; NaN where unknown.
    channel : int
        Of its clips, counted from 0; -1 for the mean of all.
    train : tuple of RowSpan
        The clips that are learned from, in the order of the table.
    recordings : tuple of int
        Which recording each of these is of: equal numbers are of the same one.
    domains : tuple of str
        Of these: ``source``, ``target``, or empty.
    test : tuple of RowSpan
        All other clips: these are scored.
    labels : tuple of int
        Of the clips that are scored: 0 normal, 1 abnormal, -1 unknown.
    is_assumed : bool
        Whether the clips that are learned from have no label, and are taken for normal.

    """

    name: str
    machine_type: str
    machine_id: str
    snr_db: float
    channel: int
    train: tuple[RowSpan, ...]
    recordings: tuple[int, ...]
    domains: tuple[str, ...]
    test: tuple[RowSpan, ...]
    labels: tuple[int, ...]
    is_assumed: bool = False

    @property
    def n_clips(self) -> int:
        """How many clips are learned from or scored."""
        return len(self.train) + len(self.test)


def find_machines(columns: Columns) -> list[Machine]:
    """Group the clips of a table by machine type, machine id, SNR and channel."""
    by_machine: dict[tuple[str, str, str, int], list[int]] = {}
    for clip in np.flatnonzero(columns.status == GOOD).tolist():
        who = (str(columns.machine_type[clip]), str(columns.machine_id[clip]), str(columns.snr_db[clip]))
        key = (*who, int(columns.channel[clip]))
        by_machine.setdefault(key, []).append(clip)
    return _with_own_names([_machine(columns, clips) for clips in by_machine.values()])


def has_bad_normal_tests(machine: Machine, columns: Columns) -> bool:
    """Say whether a machine has abnormal clips for testing, and all of its normal ones for testing are bad."""
    if NORMAL in machine.labels or ABNORMAL not in machine.labels:
        return False
    has_its_snr = np.nan_to_num(columns.snr_db, nan=math.inf) == np.nan_to_num(machine.snr_db, nan=math.inf)
    is_its = (columns.machine_type == machine.machine_type) & (columns.machine_id == machine.machine_id) & has_its_snr
    return bool((is_its & (columns.label == NORMAL) & (columns.split == TEST)).any())


def _with_own_names(machines: list[Machine]) -> list[Machine]:
    """Return machines with a hash behind names that several have, as type fan without id and id fan without type."""
    counts = Counter(machine.name for machine in machines)
    return [replace(one, name=f"{one.name}-{_hash(one)}") if counts[one.name] > 1 else one for one in machines]


def _hash(machine: Machine) -> str:
    who = (machine.machine_type, machine.machine_id, str(machine.snr_db), machine.channel)
    return hashlib.sha256(repr(who).encode("utf-8", "surrogateescape")).hexdigest()[:8]


def channel_suffix(channel: int, spec: FeatureSpec) -> str:
    """Return what the name of a machine ends with where each of its channels has a model: such as ``-ch3``."""
    return f"-ch{channel}" if spec.channel == ALL else ""


def _machine(columns: Columns, clips: Sequence[int]) -> Machine:
    first = clips[0]
    machine_type, machine_id = str(columns.machine_type[first]), str(columns.machine_id[first])
    snr_db, channel = float(columns.snr_db[first]), int(columns.channel[first])
    name = machine_name(Identity(machine_type, machine_id, snr_db=snr_db)) or NAMELESS
    train = _choose_training(columns, np.array(clips))
    test = sorted({*clips} - {*train})
    paths = {path: index for index, path in enumerate(dict.fromkeys(columns.path[train].tolist()))}
    return Machine(
        name=name + channel_suffix(channel, columns.spec),
        machine_type=machine_type,
        machine_id=machine_id,
        snr_db=snr_db,
        channel=channel,
        train=tuple(_span(columns, clip) for clip in train),
        recordings=tuple(paths[path] for path in columns.path[train].tolist()),
        domains=tuple(map(str, columns.domain[train].tolist())),
        test=tuple(_span(columns, clip) for clip in test),
        labels=tuple(int(columns.label[clip]) for clip in test),
        is_assumed=bool(train) and int(columns.label[train[0]]) == UNKNOWN,
    )


def _choose_training(columns: Columns, clips: NDArray[np.int_]) -> list[int]:
    """Return the clips to learn from: normal ones for training; where none is, all normal ones that are in no split.

    Where no clip is known to be normal, those without a label that are for training; where none has a label, all that
    are not for testing.
    """
    label, split = columns.label[clips], columns.split[clips]
    is_normal = label == NORMAL
    choices = [is_normal & (split == TRAIN), is_normal & (split == "")]
    if not (is_normal & (split != TEST)).any():
        choices.append((label == UNKNOWN) & (split == TRAIN))
    if (label == UNKNOWN).all():
        choices.append(split != TEST)
    chosen: list[int] = next((clips[choice].tolist() for choice in choices if choice.any()), [])
    return chosen


def _span(columns: Columns, clip: int) -> RowSpan:
    return RowSpan(clip, 0, int(columns.n_rows[clip]), int(columns.first_row[clip]))
