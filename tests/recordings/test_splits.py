"""Train or test: the same in any order, and copies of one sound on one side."""

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN, Clip, Identity
from mimii.recordings.paths import identify
from mimii.recordings.splits import baseline_split, no_split, stratified_split
from mimii.storage.places import Place


def clip(path, split=""):
    who = identify(path)
    who = Identity(who.machine_type, who.machine_id, who.number, who.snr_db, who.label, split or who.split)
    return Clip(path, Place(path), who)


def machine(n_normal, n_abnormal, folder="6_dB_fan/fan/id_00"):
    normal = [clip(f"{folder}/normal/{number:08d}.wav") for number in range(n_normal)]
    abnormal = [clip(f"{folder}/abnormal/{number:08d}.wav") for number in range(n_abnormal)]
    return [*normal, *abnormal]


def archives(n_clips, seed=0):
    """Return the clips of two machines at three SNRs, normal and abnormal."""
    names = product(("-6_dB", "0_dB", "6_dB"), ("fan", "pump"), ("normal", "abnormal"), range(n_clips))
    return [clip(f"{snr}_{kind}/{kind}/id_00/{label}/{seed + number:08d}.wav") for snr, kind, label, number in names]


some_clips = st.lists(
    st.tuples(
        st.sampled_from(["6_dB_fan/fan/id_00", "-6_dB_fan/fan/id_00", "6_dB_pump/pump/id_00", "6_dB_fan/fan/id_02"]),
        st.sampled_from(["normal", "abnormal", "other"]),
        st.integers(0, 12),
    ),
    unique=True,
    max_size=60,
).map(lambda rows: [clip(f"{folder}/{label}/{number:08d}.wav") for folder, label, number in rows])


def test_the_baseline_tests_on_all_abnormal_clips_and_as_many_first_normal_ones():
    normal, abnormal = ["test", "test", "train", "train", "train"], ["test", "test"]
    assert baseline_split(machine(5, 2)) == [*normal, *abnormal]


def test_the_baseline_counts_each_machine_and_snr_alone():
    clips = (
        machine(4, 1, "6_dB_fan/fan/id_00") + machine(4, 3, "0_dB_fan/fan/id_00") + machine(4, 2, "6_dB_fan/fan/id_02")
    )
    splits = baseline_split(clips)
    assert [splits[:4].count("train"), splits[5:9].count("train"), splits[12:16].count("train")] == [3, 1, 2]


def test_the_baseline_on_all_of_mimii_trains_on_the_normal_clips_beyond_the_abnormal():
    counts = {"id_00": (1011, 407), "id_02": (1016, 359), "id_04": (1033, 348), "id_06": (1015, 361)}
    clips = [one for name, count in counts.items() for one in machine(*count, f"6_dB_fan/fan/{name}")]
    splits = baseline_split(clips)
    assert splits.count("train") == sum(normal - abnormal for normal, abnormal in counts.values()) == 2600
    assert splits.count("test") == 2 * sum(abnormal for _, abnormal in counts.values()) == 2950


def test_with_more_abnormal_than_normal_clips_the_baseline_trains_on_none():
    assert set(baseline_split(machine(3, 5))) == {"test"}


def naive_baseline(clips):
    splits = {}
    for one in clips:
        who = one.identity
        if who.label == UNKNOWN:
            splits[one.path] = ""
        elif who.label == ABNORMAL:
            splits[one.path] = "test"
        else:
            same = [c for c in clips if c.path.split("/")[:3] == one.path.split("/")[:3]]
            normal_before = [c for c in same if c.identity.label == NORMAL and c.path < one.path]
            abnormal = [c for c in same if c.identity.label == ABNORMAL]
            splits[one.path] = "test" if len(normal_before) < len(abnormal) else "train"
    return [splits[one.path] for one in clips]


@given(clips=some_clips)
def test_the_baseline_is_what_its_description_says(clips):
    assert baseline_split(clips) == naive_baseline(clips)


@given(clips=some_clips.flatmap(st.permutations), policy=st.sampled_from([baseline_split, stratified_split]))
def test_the_order_of_clips_does_not_matter(clips, policy):
    in_order = sorted(clips, key=lambda one: one.path)
    paths = [one.path for one in in_order]
    assert dict(zip([one.path for one in clips], policy(clips), strict=True)) == dict(
        zip(paths, policy(in_order), strict=True)
    )


def test_copies_of_a_clip_at_several_snrs_are_on_one_side():
    clips = archives(200)
    sides = {}
    for one, split in zip(clips, stratified_split(clips), strict=True):
        who = one.identity
        sides.setdefault((who.machine_type, who.label, who.number), set()).add(split)
    assert len(sides) == 800
    assert {len(side) for side in sides.values()} == {1}
    assert {side for sides_ in sides.values() for side in sides_} == {"train", "test"}


@given(clips=some_clips, kept=st.integers(0, 60))
def test_clips_that_are_added_move_no_other(clips, kept):
    assert stratified_split(clips)[:kept] == stratified_split(clips[:kept])


@pytest.mark.parametrize("fraction", [0.8, 0.5, 0.95])
@pytest.mark.parametrize("label", ["normal", "abnormal"])
def test_about_the_fraction_asked_for_is_for_training_with_each_label(fraction, label):
    clips = [clip(f"6_dB_fan/fan/id_00/{label}/{number:08d}.wav") for number in range(4000)]
    splits = stratified_split(clips, fraction)
    assert splits.count("train") / 4000 == pytest.approx(fraction, abs=0.025)
    assert splits.count("train") + splits.count("test") == 4000


def test_the_default_fraction_is_four_fifths():
    assert stratified_split(archives(50)) == stratified_split(archives(50), 0.8)


@pytest.mark.parametrize(("fraction", "side"), [(0.0, "test"), (1.0, "train")])
def test_all_or_none_can_be_for_training(fraction, side):
    assert set(stratified_split(archives(100), fraction)) == {side}


def test_a_larger_fraction_only_adds_training_clips():
    clips = archives(100)
    small, large = stratified_split(clips, 0.3), stratified_split(clips, 0.6)
    assert all(b == "train" for a, b in zip(small, large, strict=True) if a == "train")


def test_another_seed_gives_another_split():
    clips = archives(100)
    assert stratified_split(clips, seed=1) != stratified_split(clips, seed=2)
    assert stratified_split(clips, seed=1) == stratified_split(clips, seed=1)


def test_numbers_repeat_in_other_machines_and_labels_but_their_sides_do_not():
    clips = archives(100)
    sides = dict(zip([one.path for one in clips], stratified_split(clips), strict=True))
    fan, pump, broken = (
        [sides[f"6_dB_{kind}/{kind}/id_00/{label}/{number:08d}.wav"] for number in range(100)]
        for kind, label in (("fan", "normal"), ("pump", "normal"), ("fan", "abnormal"))
    )
    assert fan != pump
    assert fan != broken


def test_clips_without_a_number_are_split_by_name_in_any_folder():
    here = [clip(f"/here/fan/normal/take {number} b.wav") for number in range(200)]
    there = [clip(f"/mnt/there/fan/normal/take {number} b.wav") for number in range(200)]
    assert set(stratified_split(here)) == {"train", "test"}
    assert stratified_split(here) == stratified_split(there)


@pytest.mark.parametrize("policy", [baseline_split, stratified_split, no_split])
def test_a_clip_without_a_label_gets_no_split(policy):
    assert policy([clip("recordings/a.wav"), clip("fan/id_00/other/00000001.wav")]) == ["", ""]


@pytest.mark.parametrize("policy", [baseline_split, stratified_split])
def test_a_split_of_the_data_itself_is_kept(policy):
    clips = [clip(f"fan/{fold}/normal_id_00_{n:08d}.wav") for fold in ("train", "test") for n in range(30)]
    clips += [clip("recordings/a.wav", "train"), clip("0_dB/fan/id_00/abnormal/00000001.wav", "train")]
    assert policy(clips) == ["train"] * 30 + ["test"] * 30 + ["train"] * 2


def test_no_split_splits_nothing():
    assert no_split(archives(2)) == [""] * 24
    assert no_split([]) == []


@pytest.mark.parametrize("policy", [baseline_split, stratified_split])
def test_a_path_that_is_no_text_is_split_too(policy):
    assert policy([clip("fan/id_00/normal/caf\udce9.wav")])[0] in ("train", "test")
