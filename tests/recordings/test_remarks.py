"""What is taken for granted of recordings, and how that is said: machines by folder, labels assumed, files left out."""

import logging

import pytest

import mimii
from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN
from tests.helpers.archives import pack_folder
from tests.helpers.recordings import write_clip


def write(root, *names):
    for seed, name in enumerate(names):
        write_clip(root / name, seed, 50)
    return root


def machines(clips):
    return [clip.identity.machine_id for clip in clips]


def labels(clips):
    return [clip.identity.label for clip in clips]


def test_machines_that_are_folders_are_remarked(tmp_path):
    clips = mimii.find_recordings(
        write(tmp_path, "press7/normal/1.wav", "pump3/OK/1.wav", "6_dB_fan/fan/id_00/normal/00000001.wav")
    )
    assert machines(clips) == ["id_00", "press7", "pump3"]
    assert clips.remarks.by_folder == {"press7", "pump3"}


@pytest.mark.parametrize(
    ("names", "machine"),
    [
        (("siteA/press7/normal/1.wav", "siteB/press7/normal/2.wav"), "press7"),
        (("day1/press7/normal/1.wav", "day2/press7/abnormal/1.wav"), "press7"),
        (("6_dB/day1/press7/normal/1.wav", "6_dB/day2/press7/normal/2.wav"), "press7"),
        (("siteA/fan/id_00/normal/1.wav", "siteB/fan/id_00/normal/2.wav"), "fan id_00"),
        (("2022/fan/test/section_00_0000.wav", "2023/fan/test/section_00_0001.wav"), "fan section_00"),
        (("fan/section_00_0000.wav", "pump/section_00_0000.wav"), "section_00"),
    ],
)
def test_folders_that_become_one_machine_are_warned_of_with_both(tmp_path, caplog, names, machine):
    with caplog.at_level(logging.WARNING):
        clips = mimii.find_recordings(write(tmp_path, *names))
    assert len(clips) == 2
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(f"different folders count as one machine: {machine} in {tmp_path}/")
    assert f" and {tmp_path}/" in message
    assert "--layout '{machine_type}/{machine_id}/{label}/*'" in message


def test_more_such_machines_are_counted(tmp_path, caplog):
    mimii.find_recordings(write(tmp_path, *(f"day{d}/press{m}/ok/1.wav" for d in range(3) for m in range(4))))
    [message] = [record.getMessage() for record in caplog.records]
    assert f"{tmp_path}/day0/press0 and {tmp_path}/day1/press0, and 3 more such machines; " in message


@pytest.mark.parametrize(
    "names",
    [
        ("press7/normal/1.wav", "press7/abnormal/1.wav", "pump3/normal/1.wav"),
        ("press7/train/good/1.wav", "press7/test/bad/1.wav"),
        ("6_dB/press7/normal/1.wav", "0_dB/press7/normal/1.wav"),
        ("fan/source_test/section_00_source_test_0000.wav", "fan/target_test/section_00_target_test_0000.wav"),
        ("6_dB_fan/fan/id_00/normal/1.wav", "more/6_dB_fan/fan/id_00/normal/2.wav"),
        ("a/1.wav", "b/1.wav"),
    ],
)
def test_other_folders_are_not(tmp_path, caplog, names):
    mimii.find_recordings(write(tmp_path, *names))
    assert not caplog.records


def test_a_layout_keeps_machines_apart(tmp_path, caplog):
    write(tmp_path, "siteA/press7/normal/1.wav", "siteB/press7/normal/2.wav")
    clips = mimii.find_recordings(tmp_path, layout="{machine_type}/{machine_id}/{label}/*")
    assert [clip.identity.machine_type for clip in clips] == ["siteA", "siteB"]
    assert clips.remarks.by_folder == frozenset()
    assert not caplog.records


def test_recordings_without_label_are_assumed_normal_and_of_the_machine_of_their_folder(tmp_path):
    write(tmp_path, "press7/a.wav", "press7/b.wav", "pump3/abnormal/c.wav", "pump3/train/d.wav")
    clips = mimii.find_recordings(tmp_path, assume="normal")
    assert machines(clips) == ["press7", "press7", "pump3", "pump3"]
    assert labels(clips) == [NORMAL, NORMAL, ABNORMAL, NORMAL]
    assert (clips.remarks.n_assumed, clips.remarks.n_hidden) == (3, 0)
    assert clips.remarks.by_folder == {"press7", "pump3"}
    assert "3 without label assumed normal" in repr(clips)
    assert labels(mimii.find_recordings(tmp_path)) == [UNKNOWN, UNKNOWN, ABNORMAL, UNKNOWN]


def test_folders_that_become_one_machine_by_assumption_are_warned_of(tmp_path, caplog):
    mimii.find_recordings(write(tmp_path, "day1/press7/a.wav", "day2/press7/b.wav"), assume="normal")
    assert "count as one machine: press7 in " in caplog.text


def test_nothing_is_assumed_of_dcase_whose_labels_are_hidden(tmp_path):
    names = ("test/section_00_0000.wav", "test/id_05_00000000.wav", "train/normal_id_05_00000000.wav")
    write(tmp_path / "fan", *names)
    clips = mimii.find_recordings(tmp_path, assume="normal")
    assert labels(clips) == [UNKNOWN, UNKNOWN, NORMAL]
    assert (clips.remarks.n_assumed, clips.remarks.n_hidden) == (0, 2)


def test_with_a_layout_no_folder_is_a_machine_and_what_does_not_match_stays_unknown(tmp_path):
    write(tmp_path, "siteA/x/a_7.wav", "b.wav")
    clips = mimii.find_recordings(tmp_path, layout="{site}/x/*_{number}.wav", assume="normal")
    assert [(who.machine_id, who.label) for who in (clip.identity for clip in clips)] == [("", UNKNOWN), ("", NORMAL)]


def test_an_empty_label_of_a_list_is_assumed_too(tmp_path):
    write(tmp_path, "a.wav", "b.wav")
    (tmp_path / "list.csv").write_text("path,machine_id,label\na.wav,press 7,\nb.wav,press 7,abnormal\n")
    clips = mimii.find_recordings(lists=tmp_path / "list.csv", assume="normal")
    assert labels(clips) == [NORMAL, ABNORMAL]
    assert machines(clips) == ["press 7"] * 2


def test_an_unknown_assumption_is_refused(tmp_path):
    with pytest.raises(ValueError, match="assume must be one of normal, or empty, not 'abnormal'"):
        mimii.find_recordings(tmp_path, assume="abnormal")


def test_files_that_are_left_out_are_counted_with_what_to_do(tmp_path):
    write(tmp_path / "inner", "a.wav")
    pack_folder(tmp_path / "raw/inner.zip", tmp_path / "inner")
    pack_folder(tmp_path / "outer.zip", tmp_path / "raw")
    for name in ("1.m4a", "2.M4A", "3.wma", "b.tar.gz", "notes.txt"):
        (tmp_path / name).touch()
    clips = mimii.find_recordings(tmp_path)
    assert len(clips.remarks.left_out) == 5
    assert clips.remarks.describe() == {
        "left out": "2 .m4a, 1 .wma: convert them to WAV or FLAC, such as with ffmpeg -i; "
        "1 .tar.gz, 1 .zip within another archive: unpack them"
    }
    assert "2 .m4a" in repr(clips)
