"""Which clips of a table belong to which machine, for training or for testing."""

import math
import re

import numpy as np
import pytest

from mimii.detection.machines import Machine, find_machines
from mimii.features import FeatureSpec
from mimii.table import Columns, RowSpan


def columns(clips):
    """Make the columns of a table of clips: machine type, id, SNR, label, split, status; clip k has k + 1 rows."""
    types, ids, snrs, labels, splits, statuses = zip(*clips, strict=True)
    n_rows = np.arange(1, len(clips) + 1, dtype=np.int32)
    strings = {
        name: np.array(values, np.dtypes.StringDType())
        for name, values in (("machine_type", types), ("machine_id", ids), ("split", splits), ("status", statuses))
    }
    return Columns(
        attributes={"spec": FeatureSpec().as_dict()},
        channel=np.zeros(len(clips), np.int16),
        start_s=np.zeros(len(clips)),
        duration_s=np.ones(len(clips)),
        path=np.array([f"{index}.wav" for index in range(len(clips))], np.dtypes.StringDType()),
        number=np.arange(len(clips), dtype=np.int32),
        snr_db=np.array(snrs, np.float32),
        label=np.array(labels, np.int8),
        first_row=np.cumsum(n_rows, dtype=np.int64) - n_rows,
        n_rows=n_rows,
        feature_mean=np.zeros(1),
        feature_std=np.ones(1),
        **strings,
    )


def span_of(clip):
    """Return all rows of a clip: those before it have 1, 2, 3, ... rows."""
    return RowSpan(clip, 0, clip + 1, clip * (clip + 1) // 2)


def test_clips_are_grouped_by_type_id_and_snr():
    found = find_machines(
        columns(
            [
                ("fan", "id_00", 6, 0, "train", "ok"),
                ("fan", "id_00", -6, 0, "train", "ok"),
                ("fan", "id_02", 6, 0, "train", "ok"),
                ("fan", "id_00", 6, 1, "test", "ok"),
                ("pump", "id_00", 6, 0, "train", "ok"),
            ]
        )
    )
    assert [machine.name for machine in found] == [
        "fan-id_00-6dB",
        "fan-id_00-min6dB",
        "fan-id_02-6dB",
        "pump-id_00-6dB",
    ]
    assert found[0] == Machine("fan-id_00-6dB", "fan", "id_00", 6.0, 0, (span_of(0),), (span_of(3),), (1,))


@pytest.mark.parametrize(
    ("label", "split", "status", "role"),
    [
        *((0, "train", "ok", "train"), (0, "test", "ok", "test"), (1, "test", "ok", "test")),
        *((1, "train", "ok", ""), (-1, "train", "ok", ""), (-1, "test", "ok", "")),
        *((0, "", "ok", ""), (1, "", "ok", ""), (0, "train", "truncated", ""), (1, "test", "empty file", "")),
    ],
)
def test_only_normal_clips_are_for_training_and_only_labelled_ones_for_testing(label, split, status, role):
    found = find_machines(columns([("fan", "id_00", 6, 0, "train", "ok"), ("fan", "id_00", 6, label, split, status)]))
    [machine] = found
    assert (span_of(1) in machine.train) == (role == "train")
    assert (span_of(1) in machine.test) == (role == "test")
    assert machine.labels == ((label,) if role == "test" else ())
    assert machine.n_clips == (2 if role else 1)


def test_clips_of_unknown_machines_are_one_machine():
    clip = ("", "", math.nan, 0, "train", "ok")
    [machine] = find_machines(columns([clip, clip, clip]))
    assert machine.name == "all"
    assert len(machine.train) == 3


@pytest.mark.parametrize(
    "ids",
    [
        *(("../x y", "../x+y"), ("Halle 1", "Halle+1"), ("a" * 200, "a" * 201)),
        ("\u673a\u5668\u4e00", "\u673a\u5668\u4e8c"),
    ],
)
def test_names_are_fit_for_files_and_differ(ids):
    found = find_machines(columns([("fan", one, 0, 0, "train", "ok") for one in ids]))
    names = {machine.name for machine in found}
    assert len(names) == 2
    assert all(re.fullmatch(r"fan-[A-Za-z0-9._-]+", name) and len(name) < 100 for name in names)


def test_hyphens_do_not_make_two_machines_one():
    found = find_machines(columns([("a-b", "c", 0, 0, "train", "ok"), ("a", "b-c", 0, 0, "train", "ok")]))
    assert len({machine.name for machine in found}) == 2


def test_no_clip_no_machine():
    assert find_machines(columns([("fan", "id_00", 6, 1, "train", "ok")])) == []
