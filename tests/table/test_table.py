"""A table's fingerprint: what changes it and what does not; and what its tasks are given."""

import dataclasses
import pickle
from dataclasses import replace

import numpy as np
import pytest

from mimii.features.decode import Header
from mimii.features.spec import FeatureSpec
from mimii.recordings.catalogue import digest_clips, make_catalogue
from mimii.recordings.clips import Clip, Identity
from mimii.storage.disk import DiskObjects
from mimii.storage.places import Place
from mimii.table import choose_sums, digest_made, no_sums
from mimii.table.plan import Layout
from mimii.table.table import fingerprint, make_table_plan, shard_stamp, shard_task

MIB = 1 << 20
WHO = Identity("fan", "id_00", 3, 6.0, 0, "")


def some_clips():
    who = [dataclasses.replace(WHO, number=n) for n in range(6)]
    return [Clip(f"data/{n}.wav", Place(f"/data/{n}.wav", 100 + n, f"v{n}"), who[n]) for n in range(6)]


def with_lengths(clips, lengths, sample_rate=16_000):
    headers = [Header(sample_rate, 8, length) for length in lengths]
    return [dataclasses.replace(clip, header=header) for clip, header in zip(clips, headers, strict=True)]


def table_of(clips=None, splits=None, spec=None, lengths=None, shard_bytes=32 * MIB):
    clips = some_clips() if clips is None else clips
    lengths = lengths or [160_000] * len(clips)
    spec = spec or FeatureSpec()
    clips = with_lengths(clips, lengths, spec.sample_rate)
    return make_table_plan(make_catalogue(clips, splits or [""] * len(clips), spec), shard_bytes)


def with_change(index, **changes):
    clips = some_clips()
    clips[index] = dataclasses.replace(clips[index], **changes)
    return clips


def with_place(index, **changes):
    return with_change(index, place=dataclasses.replace(some_clips()[index].place, **changes))


def with_identity(index, **changes):
    return with_change(index, identity=dataclasses.replace(some_clips()[index].identity, **changes))


def test_the_same_clips_give_the_same_fingerprint():
    assert table_of().fingerprint == table_of().fingerprint


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", 8000),
        ("channel", 1),
        ("channel", "mean"),
        ("channel", "all"),
        ("segment", 0.5),
        ("win_length", 1000),
        ("fmin", 20.0),
        ("fmax", 7000.0),
        ("stride", 2),
        ("dtype", "float16"),
        ("n_fft", 1024),
        ("hop_length", 256),
        ("n_mels", 128),
        ("frames", 3),
        ("power", 1.0),
        ("scale", "max_eps"),
    ],
)
def test_the_fingerprint_changes_with_each_parameter(name, value):
    assert table_of(spec=FeatureSpec(**{name: value})).fingerprint != table_of().fingerprint


def test_the_fingerprint_changes_with_the_overlap():
    one, other = (table_of(spec=FeatureSpec(segment=0.5, overlap=overlap)) for overlap in (0.0, 0.1))
    assert one.fingerprint != other.fingerprint


def test_every_parameter_is_tried_above():
    marks = test_the_fingerprint_changes_with_each_parameter.pytestmark
    assert {name for name, _ in marks[0].args[1]} | {"overlap"} == {
        field.name for field in dataclasses.fields(FeatureSpec)
    }


@dataclasses.dataclass(frozen=True, slots=True)
class LaterSpec(FeatureSpec):
    """That of a later version, with another parameter."""

    emphasis: float = 0.0


@pytest.mark.parametrize("changes", [{}, {"channel": "all", "segment": 2.0}], ids=str)
def test_a_parameter_that_comes_later_changes_nothing_of_tables_that_do_not_use_it(changes):
    there, now, used = (
        table_of(spec=spec)
        for spec in (FeatureSpec(**changes), LaterSpec(**changes), LaterSpec(**changes, emphasis=0.5))
    )
    assert (now.made, now.fingerprint, shard_stamp(now, 0)) == (there.made, there.fingerprint, shard_stamp(there, 0))
    assert used.made != there.made
    assert used.fingerprint != there.fingerprint


def test_digests_of_how_rows_are_made_are_those_of_the_tables_that_there_are():
    layout = Layout(320, 824, 26_368)
    assert digest_made(FeatureSpec(), layout) == "f721c52cb03aa62b"
    assert digest_made(FeatureSpec(channel="all", segment=2.0), layout) == "848d7646531f39ec"
    assert fingerprint(FeatureSpec(), layout, "x") == "6dfc4c4e35ee2a47"


@pytest.mark.parametrize(
    "changes",
    [
        {"machine_type": "pump"},
        {"machine_id": "id_02"},
        {"number": 77},
        {"snr_db": -6.0},
        {"snr_db": float("nan")},
        {"label": 1},
        {"label": -1},
    ],
    ids=str,
)
def test_the_fingerprint_changes_with_what_a_clip_is(changes):
    assert table_of(with_identity(4, **changes)).fingerprint != table_of().fingerprint


def test_the_fingerprint_changes_with_names_splits_lengths_order_and_number_of_clips():
    tables = [
        table_of(),
        table_of(with_place(2, url="/data/other.wav")),
        table_of(splits=["", "", "train", "", "", ""]),
        table_of(splits=["", "", "test", "", "", ""]),
        table_of(lengths=[160_000] * 5 + [80_000]),
        table_of(some_clips()[:5]),
        table_of(some_clips()[::-1]),
        table_of([]),
    ]
    assert len({table.fingerprint for table in tables}) == len(tables)
    assert len({digest_clips(table.catalogue) for table in tables}) == len(tables)


def test_the_fingerprint_changes_with_the_layout_but_the_digest_of_clips_does_not():
    small, large = table_of(shard_bytes=2 * MIB), table_of(shard_bytes=64 * MIB)
    assert small.rows.layout != large.rows.layout
    assert small.fingerprint != large.fingerprint
    assert digest_clips(small.catalogue) == digest_clips(large.catalogue)


@pytest.mark.parametrize("changes", [{"version": "later"}, {"size": 5}], ids=str)
def test_the_fingerprint_does_not_change_with_time_or_size_of_a_file(changes):
    assert table_of(with_place(2, **changes)).fingerprint == table_of().fingerprint


def test_the_fingerprint_does_not_change_with_how_a_file_is_named():
    assert table_of(with_change(2, path="/mnt/2.wav")).fingerprint == table_of().fingerprint


def test_names_that_are_no_text_have_a_fingerprint():
    one, other = table_of(with_place(0, url="caf\udce9.wav")), table_of(with_place(0, url="caf\udce8.wav"))
    assert one.fingerprint != other.fingerprint


def test_values_that_run_together_have_two_fingerprints():
    one = with_identity(0, machine_type="fan, id", machine_id="00")
    other = with_identity(0, machine_type="fan", machine_id="id, 00")
    assert table_of(one).fingerprint != table_of(other).fingerprint


@pytest.mark.parametrize("changes", [{"version": "later"}, {"size": 5}], ids=str)
def test_the_inputs_of_a_shard_change_with_its_recordings_and_no_others(changes):
    before, after = (table_of(clips, shard_bytes=MIB) for clips in (some_clips(), with_place(0, **changes)))
    assert before.rows.n_shards > 1
    assert shard_stamp(before, 0) != shard_stamp(after, 0)
    others = range(1, before.rows.n_shards)
    assert [shard_stamp(before, n) for n in others] == [shard_stamp(after, n) for n in others]


def test_a_shard_vouches_for_itself_alone():
    before = table_of(shard_bytes=MIB)
    later = table_of([*some_clips(), *some_clips()[:1]], lengths=[160_000] * 7, shard_bytes=MIB)
    untouched = range(int(before.rows.n_shards) - 1)
    assert before.fingerprint != later.fingerprint
    assert [shard_stamp(before, n) for n in untouched] == [shard_stamp(later, n) for n in untouched]


def tasks_of(plan):
    return [shard_task(plan, shard, DiskObjects("out")) for shard in range(plan.rows.n_shards)]


def test_tasks_together_have_all_rows_of_all_clips_once():
    plan = table_of(lengths=[160_000, 3000, 700_000, 5_000_000, 2048, 160_000], shard_bytes=MIB)
    rows = []
    for shard, task in enumerate(tasks_of(plan)):
        assert (task.output, task.spec, task.layout) == (DiskObjects("out"), plan.catalogue.spec, plan.rows.layout)
        assert task.stamp == shard_stamp(plan, shard)
        assert (task.stamp.task, task.faults) == (shard, {})
        for one, span in zip(task.inputs, task.spans.tolist(), strict=True):
            clip, start, stop, row, *_ = span
            assert one.clip == clip
            assert str(one.place) == f"/data/{clip}.wav"
            assert one.segment == (0, plan.catalogue.n_samples[clip])
            assert not one.is_kept
            assert row == len(rows)
            rows += [(clip, at) for at in range(start, stop)]
    assert rows == [(clip, row) for clip in range(6) for row in range(int(plan.catalogue.n_rows[clip]))]


def test_a_task_is_named_by_its_shard_and_recordings():
    assert str(tasks_of(table_of())[0]) == "shard 0, recordings /data/0.wav to /data/5.wav"


def test_tasks_know_which_clips_are_for_training():
    plan = table_of(splits=["train", "test", "", "train", "test", "test"], shard_bytes=MIB)
    is_train = {clip: bool(train) for task in tasks_of(plan) for clip, *_, train in task.spans.tolist()}
    assert [clip for clip, train in is_train.items() if train] == [0, 3]


@pytest.mark.parametrize(
    ("n_train", "n_other", "expected"), [(3, 4, 3), (0, 4, 4), (0, 0, 0)], ids=["train", "none for training", "no row"]
)
def test_statistics_are_of_clips_for_training_or_of_all_where_none_has_rows(n_train, n_other, expected):
    groups = {name: replace(no_sums(2), count=n) for name, n in (("train", n_train), ("other", n_other)) if n}
    assert choose_sums(groups, 2).count == expected


def test_clips_without_rows_are_in_no_task():
    plan = table_of(lengths=[160_000, 10, 160_000, 0, 100, 160_000])
    [task] = tasks_of(plan)
    assert [one.clip for one in task.inputs] == [0, 2, 5]


def test_a_table_of_no_clips_has_no_tasks():
    plan = table_of([])
    assert plan.rows.n_shards == 0
    with pytest.raises(IndexError):
        shard_task(plan, 0, DiskObjects("out"))


def test_a_task_is_small_and_of_plain_values():
    [task] = tasks_of(table_of())
    assert len(pickle.dumps(task)) < 4000
    values = (value for one in task.inputs for value in dataclasses.astuple(one))
    assert not any(isinstance(value, np.generic) for value in values)
