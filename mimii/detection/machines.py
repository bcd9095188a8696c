"""The clips of a table by machine: which are for training, which for testing."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mimii.features import ALL, FeatureSpec
from mimii.recordings import ABNORMAL, GOOD, NORMAL, TEST, TRAIN, Identity, machine_name
from mimii.table import Columns, RowSpan


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
        Normal clips for training, in the order of the table.
    test : tuple of RowSpan
        Clips for testing, with a label.
    labels : tuple of int
        Of the clips for testing: 0 normal, 1 abnormal.

    """

    name: str
    machine_type: str
    machine_id: str
    snr_db: float
    channel: int
    train: tuple[RowSpan, ...]
    test: tuple[RowSpan, ...]
    labels: tuple[int, ...]

    @property
    def n_clips(self) -> int:
        """How many clips are learned from or scored."""
        return len(self.train) + len(self.test)


def find_machines(columns: Columns) -> list[Machine]:
    """Group the clips of a table by machine type, machine id, SNR and channel."""
    by_machine: dict[tuple[str, str, str, int], list[int]] = {}
    for clip in np.flatnonzero(_usable(columns)).tolist():
        who = (str(columns.machine_type[clip]), str(columns.machine_id[clip]), str(columns.snr_db[clip]))
        key = (*who, int(columns.channel[clip]))
        by_machine.setdefault(key, []).append(clip)
    return [_machine(columns, clips) for clips in by_machine.values()]


def channel_suffix(channel: int, spec: FeatureSpec) -> str:
    """Return what the name of a machine ends with where each of its channels has a model: such as ``-ch3``."""
    return f"-ch{channel}" if spec.channel == ALL else ""


def _usable(columns: Columns) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    is_train = (columns.split == TRAIN) & (columns.label == NORMAL)
    is_test = (columns.split == TEST) & ((columns.label == NORMAL) | (columns.label == ABNORMAL))
    usable: np.ndarray[tuple[int], np.dtype[np.bool_]] = (is_train | is_test) & (columns.status == GOOD)
    return usable


def _machine(columns: Columns, clips: Sequence[int]) -> Machine:
    first = clips[0]
    machine_type, machine_id = str(columns.machine_type[first]), str(columns.machine_id[first])
    snr_db, channel = float(columns.snr_db[first]), int(columns.channel[first])
    name = machine_name(Identity(machine_type, machine_id, snr_db=snr_db)) or "all"
    test = [clip for clip in clips if columns.split[clip] == TEST]
    return Machine(
        name=name + channel_suffix(channel, columns.spec),
        machine_type=machine_type,
        machine_id=machine_id,
        snr_db=snr_db,
        channel=channel,
        train=tuple(_span(columns, clip) for clip in clips if columns.split[clip] == TRAIN),
        test=tuple(_span(columns, clip) for clip in test),
        labels=tuple(int(columns.label[clip]) for clip in test),
    )


def _span(columns: Columns, clip: int) -> RowSpan:
    return RowSpan(clip, 0, int(columns.n_rows[clip]), int(columns.first_row[clip]))
