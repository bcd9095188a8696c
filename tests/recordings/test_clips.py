"""What a path says about a recording, and what it does not."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN, Identity
from mimii.recordings.paths import identify


def as_tuple(who):
    """Return an identity as a tuple that equals itself: NaN becomes None."""
    snr = None if math.isnan(who.snr_db) else who.snr_db
    return who.machine_type, who.machine_id, who.number, snr, who.label, who.split


@pytest.mark.parametrize(
    ("folder", "snr_db"),
    [
        ("6_dB_fan", 6.0),
        ("0_dB_fan", 0.0),
        ("-6_dB_fan", -6.0),
        ("6_dB", 6.0),
        ("-6_dB", -6.0),
        ("min6dB", -6.0),
        ("minus6dB", -6.0),
        ("min_6_dB", -6.0),
        ("0dB", 0.0),
        ("6dB", 6.0),
        ("+6dB", 6.0),
        ("6db", 6.0),
        ("-6DB_fan", -6.0),
        ("-2.5_dB", -2.5),
        ("6_dB_fan.zip", 6.0),
        ("-6_dB_fan.zip", -6.0),
    ],
)
def test_the_snr_is_understood_in_every_spelling(folder, snr_db):
    who = identify(f"/data/{folder}/fan/id_00/normal/00000017.wav")
    assert as_tuple(who) == ("fan", "id_00", 17, snr_db, NORMAL, "")


def test_zero_decibels_are_not_minus_zero():
    assert math.copysign(1, identify("min0dB/fan/id_00/normal/00000000.wav").snr_db) == 1
    assert math.copysign(1, identify("-0_dB/fan/id_00/normal/00000000.wav").snr_db) == 1


@pytest.mark.parametrize("machine_type", ["fan", "pump", "slider", "valve", "ToyCar"])
@pytest.mark.parametrize(("folder", "label"), [("normal", NORMAL), ("abnormal", ABNORMAL), ("Abnormal", ABNORMAL)])
def test_machine_id_label_and_number_are_read_from_mimii_paths(machine_type, folder, label):
    who = identify(f"-6_dB_{machine_type}/{machine_type}/id_04/{folder}/00000321.wav")
    assert as_tuple(who) == (machine_type, "id_04", 321, -6.0, label, "")


def test_the_nearest_snr_folder_counts():
    who = identify("6_dB_fan/again/min6dB/fan/id_02/abnormal/00000001.wav")
    assert who.snr_db == -6.0


def test_spaces_in_folders_do_not_matter():
    who = identify("/my data/sound of machines/6_dB_fan/cooling fan/id_00/normal/00000003.wav")
    assert as_tuple(who) == ("cooling fan", "id_00", 3, 6.0, NORMAL, "")


def test_the_suffix_of_the_file_does_not_matter():
    one, other = (identify(f"0dB/fan/id_00/normal/00000005.{suffix}") for suffix in ("flac", "wav"))
    assert as_tuple(one) == as_tuple(other)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("fan/train/normal_id_00_00000000.wav", ("fan", "id_00", 0, None, NORMAL, "train")),
        ("dev data/fan/test/anomaly_id_06_00000406.wav", ("fan", "id_06", 406, None, ABNORMAL, "test")),
        ("ToyCar/test/normal_id_01_00000399.wav", ("ToyCar", "id_01", 399, None, NORMAL, "test")),
        ("fan/test/id_01_00000050.wav", ("fan", "id_01", 50, None, UNKNOWN, "test")),
        ("normal_id_00_00000012.wav", ("", "id_00", 12, None, NORMAL, "")),
    ],
)
def test_names_of_dcase_2020_are_understood(path, expected):
    assert as_tuple(identify(path)) == expected


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (
            "fan/train/section_00_source_train_normal_0000_strength_1_ambient.wav",
            ("fan", "section_00", 0, None, NORMAL, "train"),
        ),
        (
            "valve/test/section_02_target_test_anomaly_0049_v1pat_0.wav",
            ("valve", "section_02", 49, None, ABNORMAL, "test"),
        ),
        ("gearbox/section_01_source_test_normal_0007.wav", ("", "section_01", 7, None, NORMAL, "test")),
        ("section_03_target_train_normal_0002_x.wav", ("", "section_03", 2, None, NORMAL, "train")),
    ],
)
def test_names_of_dcase_2021_and_later_are_understood(path, expected):
    assert as_tuple(identify(path)) == expected


def test_a_split_is_known_only_where_the_data_says_so():
    assert identify("0dB/fan/id_00/normal/00000000.wav").split == ""
    assert identify("train/fan/id_00/normal/00000000.wav").split == ""


@pytest.mark.parametrize(
    "path",
    [
        "sound.wav",
        "",
        "/",
        "a/b/c.wav",
        "fan/id_00/broken/x.wav",
        "id_00/normality/x.wav",
        "6_dB_of_snow/dB/x.wav",
        "x/",
    ],
)
def test_in_an_unknown_layout_nothing_is_guessed(path):
    who = identify(path)
    assert (who.machine_type, who.machine_id, who.number, who.label, who.split) == ("", "", -1, UNKNOWN, "")


def test_nothing_is_known_of_a_clip_by_default():
    assert as_tuple(Identity()) == ("", "", -1, None, UNKNOWN, "")


@pytest.mark.parametrize(
    ("path", "machine", "label"),
    [
        ("recordings/press 7/abnormal/00000002.wav", "press 7", ABNORMAL),
        ("press7/OK/00000002.wav", "press7", NORMAL),
        ("press7/NG/00000002.wav", "press7", ABNORMAL),
        ("press7/Good/00000002.wav", "press7", NORMAL),
        ("press7/bad/00000002.wav", "press7", ABNORMAL),
        ("press7/Anomaly/00000002.wav", "press7", ABNORMAL),
        ("id_00/normal/00000002.wav", "id_00", NORMAL),
        ("s3://factory/normal/00000002.wav", "factory", NORMAL),
        ("press7.zip/normal/00000002.wav", "press7", NORMAL),
    ],
)
def test_the_folder_above_a_label_is_the_machine(path, machine, label):
    assert as_tuple(identify(path)) == ("", machine, 2, None, label, "")


@pytest.mark.parametrize("path", ["/normal/00000002.wav", "normal/00000002.wav", "train/normal/00000002.wav"])
def test_without_a_folder_above_the_label_there_is_no_machine(path):
    who = identify(path)
    assert (who.machine_type, who.machine_id, who.label) == ("", "", NORMAL)


def test_a_folder_of_an_snr_is_no_machine():
    assert as_tuple(identify("data/6_dB_fan/normal/00000002.wav")) == ("", "", 2, 6.0, NORMAL, "")


@pytest.mark.parametrize(("fold", "split"), [("train", "train"), ("Test", "test")])
def test_a_folder_between_machine_and_label_may_say_the_split(fold, split):
    assert as_tuple(identify(f"press7/{fold}/good/00000002.wav")) == ("", "press7", 2, None, NORMAL, split)


@pytest.mark.parametrize("stem", ["12a", "-5", "1.5", "x", "٣", "²", " 7"])
def test_a_name_that_is_no_plain_number_gives_no_number(stem):
    assert identify(f"0dB/fan/id_00/normal/{stem}.wav").number == -1


@pytest.mark.parametrize(("stem", "number"), [("2147483647", 2**31 - 1), ("2147483648", -1), ("9" * 240, -1)])
def test_a_number_too_large_for_its_column_is_unknown(stem, number):
    assert identify(f"0dB/fan/id_00/normal/{stem}.wav").number == number
    assert identify(f"fan/train/normal_id_00_{stem}.wav").number == number


def test_a_number_longer_than_python_converts_is_unknown():
    assert identify(f"0dB/fan/id_00/normal/{'9' * 5000}.wav").number == -1


def test_an_absurd_snr_is_not_an_error():
    assert math.isinf(identify(f"{'9' * 400}dB/fan/id_00/normal/00000000.wav").snr_db)


@given(st.text(alphabet="abn/orml_id0069-.dB", max_size=60))
def test_any_path_is_identified_within_the_range_of_the_columns(path):
    who = identify(path)
    assert -1 <= who.number < 2**31
    assert who.label in (NORMAL, ABNORMAL, UNKNOWN)
    assert "/" not in who.machine_type + who.machine_id


@pytest.mark.parametrize(
    ("path", "machine", "label"),
    [
        ("site/press7/NG/2026-05-01/a.wav", "press7", ABNORMAL),
        ("site/press7/ok/2026/05/a.wav", "press7", NORMAL),
        ("site/press7/train/good/day 1/a.wav", "press7", NORMAL),
        ("6_dB_fan/fan/id_00/normal/day/00000000.wav", "id_00", NORMAL),
        ("good/site/hall/2026/a.wav", "", UNKNOWN),  # too far above to be meant
    ],
)
def test_folders_of_days_may_be_below_a_label(path, machine, label):
    who = identify(path)
    assert (who.machine_id, who.label) == (machine, label)
