"""Which recordings are found in folders and lists, and why some cannot be used."""

import math
import os
import re
import shutil
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN
from mimii.recordings.lists import read_list
from mimii.recordings.sources import SourceError, find_clips, find_files
from mimii.storage.access import Access
from mimii.storage.places import Place
from mimii.storage.reading import open_part
from tests.helpers.archives import pack_folder
from tests.helpers.recordings import write_clip, write_machines


def paths(clips):
    return [clip.path for clip in clips]


def write_list(folder, *lines, name="list.csv"):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / name
    path.write_text("\n".join([*lines, ""]), encoding="utf-8")
    return str(path)


def test_all_recordings_of_a_folder_are_found_sorted_by_path(tmp_path):
    written = write_machines(tmp_path, 9, n_samples=50)
    clips = find_clips([str(tmp_path)])
    assert paths(clips) == sorted(map(str, written))
    assert not any(clip.problem for clip in clips)


def test_a_clip_has_size_name_version_and_identity(tmp_path):
    path = write_clip(tmp_path / "-6_dB_pump" / "pump" / "id_02" / "abnormal" / "00000007.wav", 7, 50)
    (clip,) = find_clips([str(tmp_path)])
    assert str(clip.place) == clip.path == str(tmp_path / "-6_dB_pump/pump/id_02/abnormal/00000007.wav")
    assert clip.place.size == path.stat().st_size
    assert clip.place.version == str(path.stat().st_mtime_ns)
    who = clip.identity
    assert (who.machine_type, who.machine_id, who.number, who.snr_db, who.label) == ("pump", "id_02", 7, -6.0, ABNORMAL)


def test_the_version_changes_when_the_file_is_written_again(tmp_path):
    path = write_clip(tmp_path / "a.wav", 1, 50)
    (before,) = find_clips([str(tmp_path)])
    os.utime(path, ns=(1, 123_456_789))
    (after,) = find_clips([str(tmp_path)])
    assert before.place.version != after.place.version


def test_an_snr_above_the_source_is_seen_through_a_relative_path(tmp_path, monkeypatch):
    folder = tmp_path / "min6dB" / "fan" / "id_00" / "normal"
    write_clip(folder / "00000001.wav", 1, 50)
    monkeypatch.chdir(folder)
    (clip,) = find_clips(["."])
    assert str(clip.place) == os.path.abspath(clip.path)
    assert os.path.samefile(clip.path, folder / "00000001.wav")
    assert (clip.identity.snr_db, clip.identity.machine_type) == (-6.0, "fan")


@pytest.mark.parametrize(
    "name", ["._00000000.wav", ".DS_Store", ".hidden.wav", ".git/x.wav", "__MACOSX/00000000.wav", "a/__MACOSX/b/x.wav"]
)
def test_hidden_files_and_what_macs_leave_behind_are_left_out(tmp_path, name):
    kept = write_clip(tmp_path / "kept.wav", 1, 50)
    write_clip(tmp_path / name, 2, 50)
    assert paths(find_clips([str(tmp_path)])) == [str(kept)]


def test_files_are_taken_by_their_suffix_in_any_case(tmp_path):
    taken = [write_clip(tmp_path / name, 1, 50) for name in ("A.WAV", "b.flac", "c.Flac", "d.rf64", "e.aif", "f.ogg")]
    for name in ("readme.txt", "labels.csv", "wav", "a.wav.md5", "b.npy"):
        write_clip(tmp_path / name, 2, 50)
    assert paths(find_clips([str(tmp_path)])) == sorted(map(str, taken))


def test_a_file_that_is_named_is_taken_with_any_suffix(tmp_path):
    path = write_clip(tmp_path / "recording.bin", 1, 50)
    (clip,) = find_clips([str(path)])
    assert (clip.path, str(clip.place), clip.problem) == (str(path), str(path), "")


def test_spaces_and_bytes_that_are_no_text_in_names_are_fine(tmp_path):
    odd = os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9 au lait.wav")
    plain = write_clip(tmp_path / "two words" / "a b.wav", 1, 50)
    shutil.copy(plain, odd)
    clips = find_clips([str(tmp_path)])
    assert paths(clips) == sorted([odd, str(plain)])
    assert not any(clip.problem for clip in clips)
    with open_part(Place(odd), Access()) as file:
        assert file.read() == plain.read_bytes()


def test_loops_of_links_end_and_give_each_recording_once(tmp_path):
    path = write_clip(tmp_path / "fan" / "id_00" / "normal" / "00000000.wav", 1, 50)
    (tmp_path / "fan" / "id_00" / "up").symlink_to(tmp_path)
    (tmp_path / "fan" / "self").symlink_to("self")
    clips = find_clips([str(tmp_path)])
    assert [os.path.realpath(clip.path) for clip in clips] == [str(path)]


def test_two_links_to_one_folder_give_its_recordings_once(tmp_path):
    write_clip(tmp_path / "elsewhere" / "a.wav", 1, 50)
    root = tmp_path / "root"
    root.mkdir()
    (root / "one").symlink_to(tmp_path / "elsewhere")
    (root / "two").symlink_to(tmp_path / "elsewhere")
    assert paths(find_clips([str(root)])) == [str(root / "one" / "a.wav")]


def test_a_dangling_link_becomes_a_clip_with_a_problem(tmp_path):
    good = write_clip(tmp_path / "a.wav", 1, 50)
    (tmp_path / "b.wav").symlink_to("missing.wav")
    first, second = find_clips([str(tmp_path)])
    assert (first.path, first.problem) == (str(good), "")
    assert second.path == str(tmp_path / "b.wav")
    assert "No such file" in second.problem


def test_a_link_to_itself_becomes_a_clip_with_a_problem(tmp_path):
    (tmp_path / "a.wav").symlink_to("a.wav")
    (clip,) = find_clips([str(tmp_path)])
    assert clip.problem


def test_a_pipe_becomes_a_clip_with_a_problem_and_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.wav")
    (clip,) = find_clips([str(tmp_path)])
    assert clip.problem == "not a regular file"


def test_a_folder_that_cannot_be_listed_becomes_a_clip_with_a_problem(tmp_path, monkeypatch):
    good = write_clip(tmp_path / "open" / "a.wav", 1, 50)
    locked = write_clip(tmp_path / "locked" / "b.wav", 2, 50).parent
    list_folder = os.scandir

    def refuse_locked(path):  # access rights do not stop root, who runs tests in containers
        if str(path) == str(locked):
            raise PermissionError(13, "Permission denied", path)
        return list_folder(path)

    monkeypatch.setattr(os, "scandir", refuse_locked)
    first, second = find_clips([str(tmp_path)])
    assert first.path == str(locked)
    assert "Permission denied" in first.problem
    assert (second.path, second.problem) == (str(good), "")


def test_sources_that_overlap_give_each_recording_once(tmp_path):
    written = write_machines(tmp_path, 6, n_samples=50)
    sources = [str(tmp_path), str(tmp_path / "6_dB_fan" / "fan"), str(written[0]), f"{tmp_path}/6_dB_fan/../"]
    assert paths(find_clips(sources)) == sorted(map(str, written))


@pytest.mark.parametrize("other", ["a.wav", "./a.wav", "{root}/a.wav", "{root}", "../{root.name}", "sub/.."])
def test_one_recording_named_in_two_ways_is_found_once(tmp_path, monkeypatch, other):
    write_clip(tmp_path / "a.wav", 1, 50)
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path)
    assert len(find_clips([".", other.format(root=tmp_path)])) == 1


@given(order=st.permutations(["", "6_dB_fan/fan/id_00", "6_dB_fan/fan/id_02/normal", "6_dB_fan", "other"]))
def test_the_order_of_sources_does_not_matter(tmp_path_factory, order):
    root = tmp_path_factory.getbasetemp() / "sources in any order"
    if not root.exists():
        write_machines(root, 6, n_samples=50)
        write_clip(root / "other" / "x.wav", 99, 50)
    sources = [os.path.join(root, name) for name in order]
    # As text: an unknown SNR is NaN, which equals nothing.
    assert repr(find_clips(sources)) == repr(find_clips(sorted(sources)))


def test_no_sources_have_no_clips_and_neither_has_an_empty_folder(tmp_path):
    assert find_clips([]) == []
    assert find_clips([str(tmp_path)]) == []


@pytest.mark.parametrize("name", ["missing", "dangling", "file.wav/x"])
def test_a_source_that_is_not_there_is_refused_by_name(tmp_path, name):
    write_clip(tmp_path / "file.wav", 1, 50)
    (tmp_path / "dangling").symlink_to("missing")
    missing = str(tmp_path / name)
    with pytest.raises(SourceError, match=re.escape(f"{missing}: no such file or folder")):
        find_clips([str(tmp_path), missing])


def test_opening_a_clip_that_is_missing_raises(tmp_path):
    with pytest.raises(FileNotFoundError):
        open_part(Place(str(tmp_path / "missing.wav")), Access())


def test_a_list_names_recordings_and_what_they_are(tmp_path):
    write_clip(tmp_path / "b.wav", 1, 50)
    write_clip(tmp_path / "a.wav", 2, 50)
    path = write_list(
        tmp_path,
        "path,machine_type,machine_id,number,snr_db,label,split",
        "b.wav,press,id_7,12,-3.5,abnormal,test",
        "a.wav,lathe,id_8,13,4,normal,train",
    )
    first, second = read_list(path)
    assert paths([first, second]) == [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    assert [Path(str(clip.place)).name for clip in (first, second)] == ["a.wav", "b.wav"]
    who = first.identity
    found = (who.machine_type, who.machine_id, who.number, who.snr_db, who.label, who.split)
    assert found == ("lathe", "id_8", 13, 4.0, NORMAL, "train")
    who = second.identity
    found = (who.machine_type, who.machine_id, who.number, who.snr_db, who.label, who.split)
    assert found == ("press", "id_7", 12, -3.5, ABNORMAL, "test")


def test_columns_may_come_in_any_order_with_spaces_and_a_byte_order_mark(tmp_path):
    clip_path = write_clip(tmp_path / "a.wav", 1, 50)
    (tmp_path / "list.csv").write_text("\ufefflabel , path\r\n abnormal ,  a.wav \r\n", encoding="utf-8")
    (clip,) = read_list(str(tmp_path / "list.csv"))
    assert (clip.path, clip.identity.label, clip.place.size) == (str(clip_path), ABNORMAL, clip_path.stat().st_size)


def test_paths_are_relative_to_the_list_or_absolute(tmp_path, monkeypatch):
    beside = write_clip(tmp_path / "lists" / "sounds" / "a.wav", 1, 50)
    above = write_clip(tmp_path / "b.wav", 2, 50)
    far = write_clip(tmp_path / "far" / "c.wav", 3, 50)
    path = write_list(tmp_path / "lists", "path", "sounds/a.wav", "../b.wav", str(far))
    monkeypatch.chdir(tmp_path / "far")
    clips = read_list(path)
    assert paths(clips) == sorted(map(str, (beside, above, far)))
    assert not any(clip.problem for clip in clips)


@pytest.mark.parametrize(
    ("cell", "label"),
    [("normal", NORMAL), ("0", NORMAL), ("Abnormal", ABNORMAL), ("1", ABNORMAL), ("anomaly", ABNORMAL), ("", UNKNOWN)],
)
def test_labels_are_words_or_numbers(tmp_path, cell, label):
    (clip,) = read_list(write_list(tmp_path, "path,label", f"a.wav,{cell}"))
    assert clip.identity.label == label


def test_an_empty_cell_means_unknown_though_the_path_says_more(tmp_path):
    path = write_list(
        tmp_path,
        "path,machine_type,machine_id,number,snr_db,label,split",
        "6_dB_fan/fan/id_00/abnormal/00000003.wav,,,,,,",
    )
    who = read_list(path)[0].identity
    assert (who.machine_type, who.machine_id, who.number, who.label, who.split) == ("", "", -1, UNKNOWN, "")
    assert math.isnan(who.snr_db)


def test_what_has_no_column_is_taken_from_the_path(tmp_path):
    path = write_list(tmp_path, "path,split", "6_dB_fan/fan/id_00/abnormal/00000003.wav,train")
    who = read_list(path)[0].identity
    found = (who.machine_type, who.machine_id, who.number, who.snr_db, who.label, who.split)
    assert found == ("fan", "id_00", 3, 6.0, ABNORMAL, "train")


def test_a_short_line_and_an_empty_line_are_fine(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    clips = read_list(write_list(tmp_path, "path,label,split", "", "a.wav", ""))
    assert [(Path(clip.path).name, clip.identity.label, clip.problem) for clip in clips] == [("a.wav", UNKNOWN, "")]


def test_a_recording_that_is_missing_becomes_a_clip_with_a_problem(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    first, second = read_list(write_list(tmp_path, "path", "a.wav", "missing.wav"))
    assert (first.problem, Path(second.path).name) == ("", "missing.wav")
    assert "No such file" in second.problem


@pytest.mark.parametrize(
    ("header", "line", "named"),
    [
        ("path,label", "b.wav,broken", "broken"),
        ("path,split", "b.wav,validation", "validation"),
        ("path,number", "b.wav,seven", "seven"),
        ("path,snr_db", "b.wav,loud", "loud"),
        ("path,label", ",normal", "no path"),
        ("path", "a.wav", "listed twice"),
        ("path", "./sub/../a.wav", "listed twice"),
    ],
)
def test_an_invalid_line_is_refused_with_its_number(tmp_path, header, line, named):
    path = write_list(tmp_path, header, "a.wav" + "," * header.count(","), line)
    with pytest.raises(SourceError) as caught:
        read_list(path)
    assert "list.csv, line 3" in str(caught.value)
    assert named in str(caught.value)


@pytest.mark.parametrize("number", ["2147483648", "99999999999999999999", "-2147483649"])
def test_a_number_too_large_for_its_column_is_refused_with_its_line(tmp_path, number):
    path = write_list(tmp_path, "path,number", f"a.wav,{number}")
    with pytest.raises(SourceError, match="line 2"):
        read_list(path)


@pytest.mark.parametrize("content", [b"", b"a.wav\nb.wav\n", b"file;label\na.wav;normal\n"])
def test_a_list_without_a_path_column_is_refused(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(SourceError, match=r"list\.csv.*'path'"):
        read_list(str(tmp_path / "list.csv"))


@pytest.mark.parametrize(
    "content",
    ["path\ncafé.wav\n".encode("latin-1"), bytes(range(256)), b"path\n\0.wav\n", b"\xff\xfep\0a\0t\0h\0"],
    ids=["latin-1", "binary", "zero byte", "utf-16"],
)
def test_a_list_that_is_not_utf_8_text_is_refused_by_name(tmp_path, content):
    (tmp_path / "list.csv").write_bytes(content)
    with pytest.raises(SourceError, match=r"list\.csv"):
        read_list(str(tmp_path / "list.csv"))


def test_a_list_that_is_not_there_is_refused_by_name(tmp_path):
    with pytest.raises(SourceError, match=r"missing\.csv"):
        read_list(str(tmp_path / "missing.csv"))


def test_a_folder_is_not_a_list(tmp_path):
    with pytest.raises(SourceError, match="cannot be read"):
        read_list(str(tmp_path))


@pytest.mark.parametrize(
    ("columns", "line", "expected"),
    [
        ("path,label,number", "a.wav,0.0,17.0", (NORMAL, 17)),
        ("path,label,number", "a.wav,1.0,", (ABNORMAL, -1)),
        ("path;label;number", "a.wav;-1,0;3,00", (UNKNOWN, 3)),
        ("path\tlabel\tnumber", "a.wav\tnormal\t5", (NORMAL, 5)),
    ],
)
def test_numbers_and_separators_are_as_pandas_and_excel_write_them(tmp_path, columns, line, expected):
    write_clip(tmp_path / "a.wav", 1, 50)
    (clip,) = read_list(write_list(tmp_path, columns, line))
    assert (clip.identity.label, clip.identity.number, clip.problem) == (*expected, "")


@pytest.mark.parametrize(
    ("cell", "machine"), [("7.0", "7"), ("line 3", "line 3"), ("id_00", "id_00"), ("v2.0", "v2.0")]
)
def test_a_machine_that_is_a_number_has_no_decimals(tmp_path, cell, machine):
    (clip,) = read_list(write_list(tmp_path, "path,machine_id", f"a.wav,{cell}"))
    assert clip.identity.machine_id == machine


@pytest.mark.parametrize(("cell", "decibel"), [("-6,5", -6.5), ("6.5", 6.5), ("0,0", 0.0), ("-6", -6.0)])
def test_an_snr_may_have_a_decimal_comma(tmp_path, cell, decibel):
    (clip,) = read_list(write_list(tmp_path, "path;snr_db", f"a.wav;{cell}"))
    assert clip.identity.snr_db == decibel


def test_blank_rows_and_excels_line_of_the_separator_are_passed_over_and_lines_keep_their_numbers(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    (clip,) = read_list(write_list(tmp_path, "sep=;", "path;label", "a.wav;normal", ";", "", " ; "))
    assert (clip.path, clip.identity.label) == (str(tmp_path / "a.wav"), NORMAL)
    with pytest.raises(SourceError, match="line 4: label must be"):
        read_list(write_list(tmp_path, "sep=;", "path;label", "a.wav;normal", "b.wav;loud"))


def test_a_path_may_have_the_backslashes_of_windows(tmp_path):
    write_clip(tmp_path / "fan" / "a.wav", 1, 50)
    write_clip(tmp_path / "odd\\name.wav", 2, 50)
    pack_folder(tmp_path / "FAN.ZIP", tmp_path / "fan")
    clips = read_list(write_list(tmp_path, "path", "fan\\a.wav", "odd\\name.wav", "FAN.ZIP\\a.wav"))
    assert paths(clips) == [str(tmp_path / name) for name in ("FAN.ZIP/a.wav", "fan/a.wav", "odd\\name.wav")]
    assert [clip.problem for clip in clips] == [""] * 3


@pytest.mark.parametrize("host", ["", "localhost", socket.gethostname()])
def test_a_path_may_be_a_url_of_a_file(tmp_path, host):
    path = write_clip(tmp_path / "with space.wav", 1, 50)
    (clip,) = read_list(write_list(tmp_path, "path", f"file://{host}{tmp_path}/with%20space.wav"))
    assert (clip.path, clip.problem) == (str(path), "")


def test_a_url_of_a_file_on_another_machine_is_refused_with_its_line(tmp_path):
    with pytest.raises(SourceError, match=r"list.csv, line 2: .* is on the machine elsewhere"):
        read_list(write_list(tmp_path, "path", "file://elsewhere/a.wav"))


@pytest.mark.parametrize("lines", [['"a.wav,normal', "b.wav,abnormal"], ['"a.wav,normal', '"b.wav",abnormal']])
def test_a_quote_that_is_not_closed_is_refused_with_the_line_where_it_begins(tmp_path, lines):
    with pytest.raises(SourceError, match=r"list.csv, line 3: a quote"):
        read_list(write_list(tmp_path, "path,label", "c.wav,normal", *lines))


def test_a_column_that_is_there_twice_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"list.csv: there are several columns 'label'"):
        read_list(write_list(tmp_path, "path,label,Label", "a.wav,normal,abnormal"))


def test_files_of_kinds_that_are_not_read_are_left_out_by_path(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 50)
    write_clip(tmp_path / "raw" / "broadcast.BWF", 2, 50)
    (tmp_path / "inner").mkdir()
    pack_folder(tmp_path / "inner" / "inner.zip", tmp_path / "raw")
    pack_folder(tmp_path / "raw" / "outer.zip", tmp_path / "inner")
    for name in ("1.m4a", "2.M4A", "3.wma", "b.tar.gz", "c.7z", "notes.txt", "._4.m4a"):
        (tmp_path / "raw" / name).touch()
    (tmp_path / "raw" / "folder.mp4").mkdir()
    found = find_files([str(tmp_path / "raw")])
    assert [Path(clip.path).name for clip in found.clips] == ["a.wav", "broadcast.BWF"]
    names = ["1.m4a", "2.M4A", "3.wma", "b.tar.gz", "c.7z", "outer.zip/inner.zip"]
    assert sorted(found.left_out) == [str(tmp_path / "raw" / name) for name in names]


def test_two_lines_for_one_file_through_a_longer_path_are_noticed(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    path = write_list(tmp_path, "path", "a.wav", str(tmp_path / "a.wav"))
    with pytest.raises(SourceError, match="listed twice"):
        read_list(path)


@pytest.mark.parametrize(
    ("columns", "line"), [("path,number,label", "a.wav,17,0,abnormal"), ("path,snr_db", "a.wav,-6,5")]
)
def test_a_line_of_more_cells_than_columns_is_refused(tmp_path, columns, line):
    with pytest.raises(SourceError, match=r"list.csv, line 2: \d cells, and \d columns"):
        read_list(write_list(tmp_path, columns, line))


@pytest.mark.parametrize("number", ["1.000", '"1,000"', "1.5"])
def test_a_number_that_may_mean_a_thousand_is_refused(tmp_path, number):
    with pytest.raises(SourceError, match="line 2: number must be"):
        read_list(write_list(tmp_path, "path,number", f"a.wav,{number}"))


@pytest.mark.parametrize("url", ["file:///a%00.wav", "file://[x/a.wav"])
def test_a_url_that_names_no_file_is_refused_with_its_line(tmp_path, url):
    with pytest.raises(SourceError, match=r"list.csv, line 2: "):
        read_list(write_list(tmp_path, "path", url))


def test_a_separator_within_quotes_does_not_count(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    (clip,) = read_list(write_list(tmp_path, 'path;"x, y, z";number', "a.wav;1;7"))
    assert clip.identity.number == 7


@pytest.mark.parametrize("name", ["my.csv", "MY.TSV", "s3://bucket/my.csv"])
def test_a_list_named_as_a_source_is_refused_with_the_option_for_it(tmp_path, name):
    path = name if name.startswith("s3:") else str(tmp_path / name)
    with pytest.raises(SourceError, match=r"(?i)a list is no source: use --list .*my"):
        find_clips([path])


def test_a_folder_may_be_named_like_a_list(tmp_path):
    write_clip(tmp_path / "day.csv/a.wav", 1)
    assert len(find_clips([str(tmp_path / "day.csv")])) == 1
