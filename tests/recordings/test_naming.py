"""Names of images: readable, unique on every file system, and independent of other clips."""

import dataclasses
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.features import FeatureSpec
from mimii.recordings.clips import Clip
from mimii.recordings.naming import image_names
from mimii.recordings.paths import identify
from mimii.storage.places import Place


def clip(path, **who):
    return Clip(path, Place(f"/data/{path}"), dataclasses.replace(identify(path), **who))


def names(*paths, split="train"):
    return image_names([clip(path) for path in paths], [split] * len(paths), FeatureSpec())


def test_a_name_holds_all_that_is_known():
    assert names("6_dB_fan/fan/id_00/normal/00000012.wav") == ["train/normal/normal-fan-id_00-6dB-00000012"]


def test_three_snrs_of_one_clip_have_three_names():
    found = names(*(f"{snr}_dB_fan/fan/id_00/abnormal/00000003.wav" for snr in ("-6", "0", "6")))
    assert found == [f"train/abnormal/abnormal-fan-id_00-{snr}-00000003" for snr in ("min6dB", "0dB", "6dB")]


def test_names_are_unique_over_all_of_mimii():
    paths = [
        f"{snr}_dB_{kind}/{kind}/id_0{machine}/{label}/{number:08d}.wav"
        for snr in (-6, 0, 6)
        for kind in ("fan", "pump", "slider", "valve")
        for machine in (0, 2, 4, 6)
        for label in ("normal", "abnormal")
        for number in range(5)
    ]
    found = names(*paths)
    assert len({name.casefold() for name in found}) == len(paths)
    assert not [name for name in found if re.search(r"-[0-9a-f]{8}$", name) and not name[-8:].isdigit()]


@pytest.mark.parametrize(
    ("split", "path", "folder"),
    [
        ("test", "6_dB_fan/fan/id_00/abnormal/00000001.wav", "test/abnormal/"),
        ("", "6_dB_fan/fan/id_00/abnormal/00000001.wav", "all/abnormal/"),
        ("train", "recordings/a.wav", "unlabelled/"),
        ("", "recordings/a.wav", "unlabelled/"),
    ],
)
def test_folders_are_splits_and_labels(split, path, folder):
    [name] = names(path, split=split)
    assert name.startswith(folder)
    assert "/" not in name[len(folder) :]


def test_a_hash_of_the_path_stands_for_what_is_not_known():
    one, other = names("a/fan/normal/take 1.wav", "b/fan/normal/take 1.wav")
    assert re.fullmatch(r"train/normal/normal-fan-take_1-[0-9a-f]{8}", one)
    assert one != other


def test_a_name_depends_on_no_other_clip():
    alone = names("a/normal/take 1.wav")
    assert names("a/normal/take 1.wav", "b/normal/take 1.wav", "a/normal/other.wav")[:1] == alone


def test_equal_clips_have_different_names_in_any_order():
    paths = ["x/6_dB_fan/fan/id_00/normal/00000001.wav", "y/6_dB_fan/fan/id_00/normal/00000001.wav"]
    one, other = names(*paths)
    assert one != other
    assert one.startswith("train/normal/normal-fan-id_00-6dB-00000001-")
    assert names(*reversed(paths)) == [other, one]


def test_names_differ_by_more_than_capitals():
    clips = [clip("fan/id_00/normal/00000001.wav", machine_type=kind, snr_db=6.0) for kind in ("fan", "Fan")]
    clips = [dataclasses.replace(one, path=f"{index}/{one.path}") for index, one in enumerate(clips)]
    found = image_names(clips, ["", ""], FeatureSpec())
    assert found[0].casefold() != found[1].casefold()


@given(
    stems=st.lists(st.text(min_size=1, max_size=120).filter(lambda text: "/" not in text), max_size=20, unique=True),
    machine=st.text(max_size=10),
)
def test_names_are_safe_and_unique_for_files_of_any_name(stems, machine):
    clips = [clip(f"normal/{stem}", machine_type=machine) for stem in stems]
    found = image_names(clips, ["train"] * len(clips), FeatureSpec())
    assert len({name.casefold() for name in found}) == len(stems)
    assert all(re.fullmatch(r"train/normal/[A-Za-z0-9._-]{1,120}", name) for name in found)


def test_the_same_path_at_two_places_has_two_names():
    clips = [Clip("a.wav", Place(f"/{folder}/a.wav"), identify("a.wav")) for folder in "ab"]
    assert len(set(image_names(clips, ["", ""], FeatureSpec()))) == 2


def test_a_path_that_is_no_text_has_a_name():
    [name] = names("normal/caf\udce9.wav")
    assert re.fullmatch(r"train/normal/normal-caf_-[0-9a-f]{8}", name)
