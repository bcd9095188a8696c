"""Names of the DCASE tasks of all years, files of attributes, and the truth about evaluation sets."""

import logging
import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

import mimii
from mimii.recordings import baseline_split, stratified_split
from mimii.recordings.attributes import parse_attributes
from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN
from mimii.recordings.paths import identify
from tests.helpers.archives import pack
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client


def known(path):
    """Return what a path says: machine, number, label, split, domain, attributes."""
    who = identify(path)
    return who.machine_type, who.machine_id, who.number, who.label, who.split, who.domain, who.attributes


def only(clips):
    [clip] = clips
    return clip.identity


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        # 2020
        ("fan/train/normal_id_01_00000000.wav", ("fan", "id_01", 0, NORMAL, "train", "", "")),
        ("ToyCar/test/anomaly_id_01_00000012.wav", ("ToyCar", "id_01", 12, ABNORMAL, "test", "", "")),
        ("pump/test/id_05_00000123.wav", ("pump", "id_05", 123, UNKNOWN, "test", "", "")),
        ("pump/test_rename/normal_id_05_00000123.wav", ("pump", "id_05", 123, NORMAL, "test", "", "")),
        # 2021
        (
            "fan/train/section_00_source_train_normal_0004_strength_1_ambient.wav",
            ("fan", "section_00", 4, NORMAL, "train", "source", "strength_1_ambient"),
        ),
        (
            "fan/source_test/section_00_source_test_normal_0007.wav",
            ("fan", "section_00", 7, NORMAL, "test", "source", ""),
        ),
        (
            "fan/target_test/section_02_target_test_anomaly_0007.wav",
            ("fan", "section_02", 7, ABNORMAL, "test", "target", ""),
        ),
        (
            "valve/source_test/section_03_source_test_0000.wav",
            ("valve", "section_03", 0, UNKNOWN, "test", "source", ""),
        ),
        (
            "valve/test_rename/section_03_target_test_anomaly_0004.wav",
            ("valve", "section_03", 4, ABNORMAL, "test", "target", ""),
        ),
        # 2022
        (
            "ToyCar/test/section_00_target_test_anomaly_0001_car_A1_spd_28V_mic_1_noise_1.wav",
            ("ToyCar", "section_00", 1, ABNORMAL, "test", "target", "car_A1_spd_28V_mic_1_noise_1"),
        ),
        ("bearing/test/section_03_0000.wav", ("bearing", "section_03", 0, UNKNOWN, "test", "", "")),
        ("bearing/test/section_03_test_0011.wav", ("bearing", "section_03", 11, UNKNOWN, "test", "", "")),
        # 2023
        (
            "bandsaw/train/section_00_target_train_normal_0002_vel_12.wav",
            ("bandsaw", "section_00", 2, NORMAL, "train", "target", "vel_12"),
        ),
        ("Vacuum/test/section_00_0199.wav", ("Vacuum", "section_00", 199, UNKNOWN, "test", "", "")),
        # 2024 and 2025
        (
            "slider/train/section_00_source_train_normal_0765_noAttribute.wav",
            ("slider", "section_00", 765, NORMAL, "train", "source", ""),
        ),
        ("AutoTrash/test/section_00_test_0000.wav", ("AutoTrash", "section_00", 0, UNKNOWN, "test", "", "")),
        (
            "AutoTrash/test_rename/section_00_target_test_anomaly_0012_id_C1_spd_2_mic_2.wav",
            ("AutoTrash", "section_00", 12, ABNORMAL, "test", "target", "id_C1_spd_2_mic_2"),
        ),
        # as tools and people write them
        (
            "FAN/TRAIN/SECTION_00_SOURCE_TRAIN_NORMAL_0001_N_A.WAV",
            ("FAN", "section_00", 1, NORMAL, "train", "source", "N_A"),
        ),
        ("dev_fan.zip/train/section_00_source_train_normal_0001_n_A.wav",
         ("dev_fan", "section_00", 1, NORMAL, "train", "source", "n_A")),
        ("s3://dcase/fan/test/section_00_0003.wav", ("fan", "section_00", 3, UNKNOWN, "test", "", "")),
    ],
)  # fmt: skip
def test_names_of_every_year_are_understood(path, expected):
    assert known(path) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("normal_id_01_00000000.wav", ("", "id_01", 0, NORMAL, "", "", "")),
        ("id_05_00000123.wav", ("", "id_05", 123, UNKNOWN, "", "", "")),
        (
            "section_00_source_train_normal_0001_n_A.wav",
            ("", "section_00", 1, NORMAL, "train", "source", "n_A"),
        ),
        ("section_03_source_test_0000.wav", ("", "section_03", 0, UNKNOWN, "test", "source", "")),
        ("section_00_0000.wav", ("", "section_00", 0, UNKNOWN, "test", "", "")),
        ("section_00_test_0007.wav", ("", "section_00", 7, UNKNOWN, "test", "", "")),
    ],
)
@pytest.mark.parametrize("folder", ["", "downloads/"])
def test_a_name_alone_says_what_it_can(folder, name, expected):
    assert known(folder + name) == expected


@pytest.mark.parametrize(
    ("name", "kind", "domain", "attributes"),
    [
        ("section_00_machine_0001_.wav", "machine", "", ""),
        ("section_00_machine_source_0000_noAttribute.wav", "machine", "source", ""),
        ("section_00_source_supplemental_machine_0003_vel_8.wav", "machine", "source", "vel_8"),
        ("section_00_noise_supplemental_normal_0000.wav", "noise", "", ""),
        ("section_00_noise_0002_.wav", "noise", "", ""),
        ("section_00_source_train_normal_0001_n_A.wav", "unknown", "source", "n_A"),
    ],
)
def test_supplemental_recordings_have_no_label_and_no_split(name, kind, domain, attributes):
    who = identify(f"bearing/supplemental/{name}")
    assert (who.machine_type, who.machine_id, who.domain, who.attributes) == (
        *("bearing", "section_00", domain),
        attributes,
    )
    assert (who.label, who.split, who.columns) == (UNKNOWN, "", (("supplemental", kind),))


def test_a_supplemental_name_without_its_folder_has_no_label_either():
    who = identify("section_00_noise_supplemental_normal_0000.wav")
    assert (who.label, who.split, who.columns) == (UNKNOWN, "", (("supplemental", "noise"),))


@pytest.mark.parametrize("assume", ["", "normal"])
def test_nobody_learns_from_noise_alone(tmp_path, assume):
    for seed, name in enumerate(("section_00_noise_supplemental_normal_0000", "section_00_machine_0001_", "hum")):
        write_clip(tmp_path / "fan" / "supplemental" / f"{name}.wav", seed, 50)
    clips = mimii.find_recordings(tmp_path, assume=assume)
    assert len(clips) == 3
    assert baseline_split(clips) == stratified_split(clips) == [""] * 3


def test_a_folder_named_like_a_label_knows_more_than_a_name_without_one():
    who = identify("fan/normal/id_00_00000004.wav")
    assert (who.machine_type, who.machine_id, who.label) == ("", "fan", NORMAL)


@given(st.text(alphabet="section_0189ourcetagmlpynid", max_size=50))
def test_any_name_is_identified(stem):
    who = identify(f"fan/test/section_00_{stem}.wav")
    assert who.label in (NORMAL, ABNORMAL, UNKNOWN)
    assert who.split in ("", "test")
    assert who.domain in ("", "source", "target")


HEADER = "file_name,d1p,d1v,d2p,d2v\n"


def write_set(root):
    """Write two recordings of a machine whose names do not say their attributes, and one whose name does."""
    write_clip(root / "ToyCar/test/section_00_0000.wav", 1, 50)
    write_clip(root / "ToyCar/test/section_00_0001.wav", 2, 50)
    write_clip(root / "ToyCar/train/section_00_source_train_normal_0002_car_B1_spd_40V.wav", 3, 50)


def attributes_of(clips):
    return [clip.identity.attributes for clip in clips]


@pytest.mark.parametrize("folder", ["ToyCar", "ToyCar/test"])
@pytest.mark.parametrize("name", ["ToyCar/test/section_00_0001.wav", "section_00_0001.wav", "section_00_0001"])
def test_attributes_are_read_from_a_file_beside_or_above(tmp_path, folder, name):
    write_set(tmp_path)
    path = tmp_path / folder / "attributes_00.csv"
    path.write_text(f"{HEADER}{name},car,A1,spd,28V\nsection_00_source_train_normal_0002_car_B1_spd_40V,car,C1,,\n")
    assert attributes_of(mimii.find_recordings(tmp_path)) == ["", "car_A1_spd_28V", "car_B1_spd_40V"]


def test_attributes_are_read_in_archives(tmp_path):
    write_set(tmp_path / "raw")
    members = {str(path.relative_to(tmp_path / "raw")): path.read_bytes() for path in tmp_path.rglob("*.wav")}
    members["ToyCar/attributes_00.csv"] = f"{HEADER}section_00_0001.wav,car,A1,spd,28V\n".encode("utf-8-sig")
    pack(tmp_path / "dev_ToyCar.zip", members)
    clips = mimii.find_recordings(tmp_path / "dev_ToyCar.zip")
    assert attributes_of(clips) == ["", "car_A1_spd_28V", "car_B1_spd_40V"]


def test_attributes_are_read_on_s3(moto, use, tmp_path):
    use(moto)
    client(moto).create_bucket(Bucket="dcase")
    write_set(tmp_path)
    (tmp_path / "ToyCar/attributes_00.csv").write_text(f"{HEADER}section_00_0000.wav,spd,28V,,\n")
    for path in filter(lambda path: path.is_file(), tmp_path.rglob("*")):
        client(moto).put_object(Bucket="dcase", Key=str(path.relative_to(tmp_path)), Body=path.read_bytes())
    clips = mimii.find_recordings("s3://dcase")
    assert attributes_of(clips) == ["spd_28V", "", "car_B1_spd_40V"]
    assert {clip.identity.machine_type for clip in clips} == {"ToyCar"}


@pytest.mark.parametrize(
    "content", [b"", b"name,label\na,b\n", b'file_name,d1p\n"section_00_0001,x\n', b"\xff\xfe\0", bytes(range(256))]
)
def test_a_damaged_file_of_attributes_is_warned_of_by_name_and_no_more(tmp_path, caplog, content):
    write_set(tmp_path)
    (tmp_path / "ToyCar/attributes_00.csv").write_bytes(content)
    with caplog.at_level(logging.WARNING):
        clips = mimii.find_recordings(tmp_path)
    assert attributes_of(clips) == ["", "", "car_B1_spd_40V"]
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"{tmp_path}/ToyCar/attributes_00.csv: its attributes are not used: ")


def test_a_file_of_attributes_that_is_a_folder_or_a_pipe_is_no_trap(tmp_path, caplog):
    write_set(tmp_path)
    (tmp_path / "ToyCar/attributes_00.csv").mkdir()
    os.mkfifo(tmp_path / "ToyCar/attributes_01.csv")
    assert len(mimii.find_recordings(tmp_path)) == 3
    assert [record.getMessage().endswith("not a regular file") for record in caplog.records] == [True]


@given(
    st.dictionaries(
        st.from_regex(r"section_\d\d_\d{4}", fullmatch=True),
        st.lists(st.tuples(st.from_regex(r"[a-z]{1,4}", fullmatch=True), st.from_regex(r"\w{1,5}", fullmatch=True))),
        max_size=5,
    )
)
def test_attributes_read_as_names_have_them(rows):
    cells = [(f"fan/test/{name}.wav", *(cell for pair in pairs for cell in pair)) for name, pairs in rows.items()]
    parsed = parse_attributes("\n".join(("file_name,d1p,d1v", *map(",".join, cells))))
    assert parsed == {name: "_".join(f"{one}_{other}" for one, other in pairs) for name, pairs in rows.items()}


def write_truth(root, name, *lines):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")
    return path


@pytest.fixture
def evaluation(tmp_path):
    """Return a folder of two machine types whose recordings have the same names."""
    for seed, machine in enumerate(("bandsaw", "Vacuum")):
        for number in range(2):
            write_clip(tmp_path / "raw" / machine / "test" / f"section_00_000{number}.wav", 2 * seed + number, 50)
    return tmp_path / "raw"


def labels(clips):
    return {"/".join(clip.path.split("/")[-3::2]): clip.identity.label for clip in clips}


def test_the_name_of_a_list_of_truth_says_the_machine_type(tmp_path, evaluation):
    name = "ground_truth_data/ground_truth_bandsaw_section_00_test.csv"
    path = write_truth(tmp_path, name, "section_00_0000.wav,1", "section_00_0001.wav,0")
    clips = mimii.find_recordings(evaluation, lists=path)
    assert labels(clips) == {
        "Vacuum/section_00_0000.wav": UNKNOWN,
        "Vacuum/section_00_0001.wav": UNKNOWN,
        "bandsaw/section_00_0000.wav": ABNORMAL,
        "bandsaw/section_00_0001.wav": NORMAL,
    }
    assert {clip.identity.split for clip in clips} == {"test"}


def test_a_list_of_domains_has_the_same_name_in_another_folder(tmp_path, evaluation):
    name = "ground_truth_Vacuum_section_00_test.csv"
    lines = ("section_00_0000.wav,1", "section_00_0001.wav,0")
    lists = [write_truth(tmp_path, f"ground_truth_{what}/{name}", *lines) for what in ("data", "domain")]
    one, other = (clip.identity for clip in mimii.find_recordings(evaluation / "Vacuum", lists=lists))
    assert (one.label, one.domain, other.label, other.domain) == (ABNORMAL, "target", NORMAL, "source")


def test_a_line_says_the_machine_type_of_those_below_and_names_say_more(tmp_path, evaluation):
    lines = (
        "bandsaw",
        "section_00_0000.wav,section_00_target_test_anomaly_0012_vel_12.wav",
        "section_00_0001.wav,section_00_source_test_normal_0031_vel_15",
        "Vacuum",
        "section_00_0001.wav,section_00_source_test_anomaly_0001_n_1.wav",
    )
    clips = mimii.find_recordings(evaluation, lists=write_truth(tmp_path, "eval_data_list_2025.csv", *lines))
    told = [(one.label, one.domain, one.attributes, one.number) for one in (clip.identity for clip in clips)]
    assert told == [
        (UNKNOWN, "", "", 0),
        (ABNORMAL, "source", "n_1", 1),
        (ABNORMAL, "target", "vel_12", 0),
        (NORMAL, "source", "vel_15", 1),
    ]


def test_the_truth_of_2020_has_three_columns(tmp_path):
    write_clip(tmp_path / "raw/fan/test/id_01_00000000.wav", 1, 50)
    path = write_truth(tmp_path, "eval_data_list.csv", "fan", "id_01_00000000.wav,anomaly_id_01_00000000.wav,1")
    assert only(mimii.find_recordings(tmp_path / "raw", lists=path)).label == ABNORMAL


def test_recordings_without_their_machine_type_are_found_below_a_folder_of_that_name(tmp_path):
    write_clip(tmp_path / "raw/fan/section_00_0000.wav", 1, 50)
    path = write_truth(tmp_path, "ground_truth_FAN_section_00_test.csv", "section_00_0000.wav,1")
    assert only(mimii.find_recordings(tmp_path / "raw", lists=path)).label == ABNORMAL


def test_a_line_that_may_mean_several_recordings_is_refused(tmp_path, evaluation):
    path = write_truth(tmp_path, "truth.csv", "section_00_0001.wav,1")
    message = r"truth.csv, line 1: section_00_0001.wav may be .*Vacuum/test/.* or .*bandsaw/test/"
    with pytest.raises(mimii.SourceError, match=message):
        mimii.find_recordings(evaluation, lists=path)


def test_a_line_without_a_recording_is_warned_of_and_a_list_without_any_refused(tmp_path, evaluation, caplog):
    lines = ("section_00_0000.wav,1", "section_00_0009.wav,0")
    mimii.find_recordings(evaluation, lists=write_truth(tmp_path, "ground_truth_Vacuum_section_00.csv", *lines))
    assert "1 of its 2 recordings are not in the sources, such as Vacuum section_00_0009.wav" in caplog.text
    path = write_truth(tmp_path, "ground_truth_fan_section_00_test.csv", *lines)
    with pytest.raises(mimii.SourceError, match=r"none of its 2 recordings is in the sources, such as fan section_00_"):
        mimii.find_recordings(evaluation, lists=path)
    with pytest.raises(mimii.SourceError, match="none of its 2 recordings"):
        mimii.find_recordings(lists=path)


@pytest.mark.parametrize("line", ["section_00_0001.wav,0.73", "section_00_0001.wav,2", "notes,1"])
def test_a_line_of_anything_else_is_refused_with_its_number(tmp_path, evaluation, line):
    path = write_truth(tmp_path, "ground_truth_Vacuum_section_00_test.csv", "section_00_0000.wav,1", line)
    with pytest.raises(mimii.SourceError, match=re.escape(f"{path}, line 2: must be a recording and 0, 1")):
        mimii.find_recordings(evaluation, lists=path)


@pytest.mark.parametrize("name", ["decision_result_Vacuum_section_00_test.csv", "anomaly_score_Vacuum_section_00.csv"])
def test_results_of_a_system_are_no_truth(tmp_path, evaluation, name):
    with pytest.raises(mimii.SourceError, match="results of a system are no truth"):
        mimii.find_recordings(evaluation, lists=write_truth(tmp_path, name, "section_00_0000.wav,1"))


def test_a_truth_that_contradicts_the_name_of_a_recording_is_refused(tmp_path):
    write_clip(tmp_path / "raw/fan/test/section_00_source_test_normal_0000_n_A.wav", 1, 50)
    path = write_truth(tmp_path, "truth.csv", "section_00_source_test_normal_0000_n_A.wav,1")
    with pytest.raises(mimii.SourceError, match="line 1: says abnormal of a recording that is normal by its name"):
        mimii.find_recordings(tmp_path / "raw", lists=path)
