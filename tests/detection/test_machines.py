"""Which clips of a table belong to which machine, which of them are learned from, and which are scored."""

import math
import re

import numpy as np
import pytest

from mimii.detection.machines import Machine, find_machines
from mimii.features import FeatureSpec
from mimii.table import Columns, RowSpan

GROUPS = ("machine_type", "machine_id", "snr_db", "label", "split", "status")


def columns(clips, spec=None, **more):
    """Make the columns of a table of clips: machine type, id, SNR, label, split, status; clip k has k + 1 rows."""
    of_group = dict(zip(GROUPS, zip(*clips, strict=True), strict=True))
    n_rows = np.arange(1, len(clips) + 1, dtype=np.int32)
    texts = {
        "path": [f"{index}.wav" for index in range(len(clips))],
        "domain": [""] * len(clips),
        **{name: of_group[name] for name in GROUPS if name not in ("snr_db", "label")},
        **{name: values for name, values in more.items() if name != "channel"},
    }
    return Columns(
        attributes={"spec": (spec or FeatureSpec()).as_dict()},
        channel=np.array(more.get("channel", [0] * len(clips)), np.int16),
        start_s=np.zeros(len(clips)),
        duration_s=np.ones(len(clips)),
        number=np.arange(len(clips), dtype=np.int32),
        snr_db=np.array(of_group["snr_db"], np.float32),
        label=np.array(of_group["label"], np.int8),
        recorded_at=np.full(len(clips), np.nan),
        first_row=np.cumsum(n_rows, dtype=np.int64) - n_rows,
        n_rows=n_rows,
        feature_mean=np.zeros(1),
        feature_std=np.ones(1),
        **{name: np.array(values, np.dtypes.StringDType()) for name, values in texts.items()},
    )


def span_of(clip):
    """Return all rows of a clip: those before it have 1, 2, 3, ... rows."""
    return RowSpan(clip, 0, clip + 1, clip * (clip + 1) // 2)


def fans(*clips, **more):
    """Make one machine of clips with a label and a split each."""
    [machine] = find_machines(columns([("fan", "id_00", 6, *clip, "ok") for clip in clips], **more))
    return machine


def roles(machine):
    return [span.clip for span in machine.train], [span.clip for span in machine.test]


def test_clips_are_grouped_by_type_id_and_snr():
    found = find_machines(
        columns(
            [
                ("fan", "id_00", 6, 0, "train", "ok"),
                ("fan", "id_00", -6, 0, "train", "ok"),
                ("fan", "id_02", 6, 0, "train", "ok"),
                ("fan", "id_00", 6, 1, "test", "ok"),
                ("pump", "id_00", 6, 0, "train", "ok"),
            ],
            domain=["target", "", "", "source", ""],
        )
    )
    names = ["fan-id_00-6dB", "fan-id_00-min6dB", "fan-id_02-6dB", "pump-id_00-6dB"]
    assert [machine.name for machine in found] == names
    first = (("fan-id_00-6dB", "fan", "id_00", 6.0, 0), ((span_of(0),), (0,), ("target",)), ((span_of(3),), (1,)))
    assert found[0] == Machine(*first[0], *first[1], *first[2])
    assert found[0].n_clips == 2


def test_each_channel_is_a_machine_where_each_is_a_clip():
    clip = ("", "press7", math.nan, 0, "train", "ok")
    every = find_machines(columns([clip] * 3, FeatureSpec(channel="all"), channel=[0, 1, 0]))
    assert [(one.name, one.channel, len(one.train)) for one in every] == [("press7-ch0", 0, 2), ("press7-ch1", 1, 1)]
    [mixed] = find_machines(columns([clip] * 3, FeatureSpec(channel="mean"), channel=[-1] * 3))
    assert (mixed.name, mixed.channel) == ("press7", -1)


def test_normal_clips_for_training_are_learned_from_and_all_others_scored():
    clips = [(0, "train"), (0, "test"), (1, "test"), (1, "train"), (-1, "train"), (-1, "test"), (0, ""), (0, "train")]
    machine = fans(*clips)
    assert roles(machine) == ([0, 7], [1, 2, 3, 4, 5, 6])
    assert machine.labels == (0, 1, 1, -1, -1, 0)
    assert not machine.is_assumed


def test_without_any_for_training_all_normal_ones_in_no_split_are_learned_from():
    machine = fans((0, ""), (1, ""), (-1, ""), (0, "test"), (0, ""))
    assert roles(machine) == ([0, 4], [1, 2, 3])
    assert machine.labels == (1, -1, 0)
    assert not machine.is_assumed


@pytest.mark.parametrize("split", ["", "train"])
def test_where_no_clip_has_a_label_all_that_are_not_for_testing_are_taken_for_normal(split):
    machine = fans((-1, split), (-1, "test"), (-1, split))
    assert roles(machine) == ([0, 2], [1])
    assert machine.labels == (-1,)
    assert machine.is_assumed


@pytest.mark.parametrize("clips", [[(1, ""), (-1, "")], [(0, "test"), (1, "test")], [(-1, "test")], [(1, "train")]])
def test_nothing_is_learned_where_no_clip_is_known_to_be_normal(clips):
    machine = fans(*clips)
    assert roles(machine) == ([], list(range(len(clips))))
    assert not machine.is_assumed


def test_clips_that_could_not_be_read_are_in_no_machine():
    kinds = [("fan", "id_00", 6, 0, "train", status) for status in ("ok", "truncated", "removed", "replaced")]
    [machine] = find_machines(columns(kinds))
    assert roles(machine) == ([0], [])
    assert find_machines(columns(kinds[1:])) == []


def test_clips_of_one_recording_are_known_as_such():
    machine = fans(*[(0, "train")] * 5, path=["a", "b", "a", "c", "b"])
    assert machine.recordings == (0, 1, 0, 2, 1)


def test_clips_of_unknown_machines_are_one_machine():
    [machine] = find_machines(columns([("", "", math.nan, 0, "train", "ok")] * 3))
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


def test_two_machines_of_one_name_have_names_of_their_own():
    clips = [("fan", "", math.nan, 0, "train", "ok"), ("", "fan", math.nan, 0, "train", "ok")]
    names = [machine.name for machine in find_machines(columns(clips))]
    assert len(set(names)) == 2
    assert all(re.fullmatch("fan-[0-9a-f]{8}", name) for name in names)
    assert [machine.name for machine in find_machines(columns(clips[:1]))] == ["fan"]


def test_where_none_is_known_to_be_normal_those_for_training_without_a_label_are_learned_from():
    machine = fans((-1, "train"), (-1, "train"), (0, "test"), (1, "test"))
    assert roles(machine) == ([0, 1], [2, 3])
    assert machine.is_assumed
    assert roles(fans((0, "train"), (-1, "train"), (1, "test"))) == ([0], [1, 2])
