"""Tables whose recordings were named relative to a working directory, updated from others: a clip is its place."""

import dataclasses
import logging
import os
import shutil

import numpy as np
import pytest

import mimii
from tests.helpers.archives import pack, wav
from tests.helpers.commands import open_table
from tests.helpers.growth import SPEC, expected_rows
from tests.helpers.recordings import write_clip

SECOND = 16_000
CUT = SPEC.changed(segment=1.0)


@pytest.fixture(autouse=True)
def quiet(caplog):
    """Do not say that no clip is for training."""
    caplog.set_level(logging.ERROR)


def grow(output, *sources, spec=SPEC, split="none", prune=True):
    plan = mimii.plan_table(mimii.find_recordings(*map(str, sources)), spec, split=split, shard_bytes=1 << 20)
    return mimii.featurize(plan, str(output), update=True, prune=prune)


def make(output, monkeypatch, folder, *sources, **how):
    """Make a table of recordings that are named relative to a folder."""
    monkeypatch.chdir(folder)
    grow(output, *sources, **how)


def statuses(output):
    """Return path and status of the clips, in their order."""
    table = open_table(output)
    return list(zip(map(str, table.path.values), map(str, table.status.values), strict=True))


def rows_of(output, clip):
    table = open_table(output)
    first = int(table.first_row[clip])
    return table.features.values[first : first + int(table.n_rows[clip])]


@pytest.fixture
def data(tmp_path):
    """Return a folder with three recordings below raw."""
    for number in range(3):
        write_clip(tmp_path / "data" / "raw" / "normal" / f"{number}.wav", number, 4000)
    return tmp_path / "data"


@pytest.mark.parametrize(
    ("made", "then"),
    [
        (("data", "raw"), (".", "{data}/raw")),
        (("data", "raw"), (".", "data/raw")),
        (("data", "raw"), ("data/raw", ".")),
        (("data/raw", "."), (".", "data/raw/normal")),
        (("data/raw/normal", ".."), (".", "{data}")),
        (("data/raw/normal", "."), (".", "data")),
        (("data", "{data}/raw"), (".", "data")),
        (("data", "raw"), ("data", "raw")),
    ],
)
def test_a_clip_that_is_gone_is_found_from_any_folder(data, tmp_path, monkeypatch, made, then):
    """Each is a working directory and a source."""
    make(tmp_path / "t", monkeypatch, tmp_path / made[0], made[1].format(data=data))
    (data / "raw" / "normal" / "1.wav").unlink()
    write_clip(data / "raw" / "normal" / "3.wav", 3, 4000)
    monkeypatch.chdir(tmp_path / then[0])
    grow(tmp_path / "t", then[1].format(data=data))
    assert [status for _, status in statuses(tmp_path / "t")] == ["ok", "removed", "ok", "ok"]
    assert np.isnan(rows_of(tmp_path / "t", 1)).all()
    np.testing.assert_array_equal(rows_of(tmp_path / "t", 2), expected_rows(4000, 2))


def test_a_folder_of_which_all_is_gone_is_found_from_another_one(data, tmp_path, monkeypatch):
    make(tmp_path / "t", monkeypatch, data, "raw")
    shutil.rmtree(data / "raw")
    write_clip(data / "raw" / "normal" / "7.wav", 7, 4000)
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / "t", data / "raw")
    assert [status for _, status in statuses(tmp_path / "t")] == ["removed"] * 3 + ["ok"]


def test_clips_of_an_unknown_folder_stay_also_where_all_of_the_machine_is_named(data, tmp_path, monkeypatch):
    make(tmp_path / "t", monkeypatch, data, "raw")
    shutil.rmtree(data)
    other = write_clip(tmp_path / "other" / "9.wav", 79, 4000)
    plan = mimii.plan_table(mimii.find_recordings(str(other)), SPEC, split="none", shard_bytes=1 << 20)
    monkeypatch.chdir(tmp_path)
    mimii.featurize(dataclasses.replace(plan, sources=("/",)), str(tmp_path / "t"), update=True, prune=True)
    assert {status for _, status in statuses(tmp_path / "t")} == {"ok"}


def test_clips_of_a_folder_of_the_same_name_elsewhere_stay(data, tmp_path, monkeypatch):
    """They lie below another working directory, though their paths read the same."""
    make(tmp_path / "t", monkeypatch, data, "raw")
    write_clip(tmp_path / "other" / "raw" / "normal" / "1.wav", 71, 4000)
    write_clip(tmp_path / "other" / "raw" / "normal" / "9.wav", 79, 4000)
    make(tmp_path / "t", monkeypatch, tmp_path / "other", "raw")
    there = statuses(tmp_path / "t")
    assert there == [(f"raw/normal/{name}.wav", "ok") for name in (0, 1, 2, 1, 9)]
    for clip, seed in enumerate((0, 1, 2, 71, 79)):
        np.testing.assert_array_equal(rows_of(tmp_path / "t", clip), expected_rows(4000, seed))
    (tmp_path / "other" / "raw" / "normal" / "1.wav").unlink()
    (data / "raw" / "normal" / "2.wav").unlink()
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / "t", data / "raw", "other/raw")
    assert [status for _, status in statuses(tmp_path / "t")] == ["ok", "ok", "removed", "removed", "ok"]


def test_members_of_an_archive_are_found_from_another_folder(data, tmp_path, monkeypatch):
    members = {f"normal/{number}.wav": wav(number, 4000) for number in range(3)} | {"./normal/3.wav": wav(3, 4000)}
    pack(data / "night.zip", members)
    make(tmp_path / "t", monkeypatch, data, "night.zip")
    names = [path for path, _ in statuses(tmp_path / "t")]
    pack(data / "night.zip", {"normal/1.wav": members["normal/1.wav"]})
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / "t", data / "night.zip")
    there = dict(statuses(tmp_path / "t"))
    assert [there[name] for name in names] == ["ok" if name.endswith("1.wav") else "removed" for name in names]
    assert len(there) == 4


@pytest.mark.skipif(os.fsencode("\udcff") != b"\xff", reason="names of files have to be any bytes")
def test_a_name_that_is_not_utf_8_is_found_from_its_folder(data, tmp_path, monkeypatch):
    odd = data / "raw" / "normal" / "Gr\udcf6\udcdfe.wav"
    write_clip(odd, 5, 4000)
    make(tmp_path / "t", monkeypatch, data, "raw")
    odd.unlink()
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "raw" / "normal" / "1.wav", 71, 4000)
    grow(tmp_path / "t", "raw")
    assert {status for _, status in statuses(tmp_path / "t")} == {"ok"}, "of another folder"
    monkeypatch.chdir(data)
    grow(tmp_path / "t", "raw")
    assert [status for _, status in statuses(tmp_path / "t")] == ["ok", "ok", "ok", "removed", "ok"]


def test_a_bad_recording_is_known_from_another_folder(data, tmp_path, monkeypatch):
    """It has no rows, so no record says where it is."""
    (data / "raw" / "normal" / "1.wav").write_bytes(b"RIFF")
    make(tmp_path / "t", monkeypatch, data, "raw")
    before = statuses(tmp_path / "t")
    monkeypatch.chdir(tmp_path)
    grow(tmp_path / "t", data / "raw")
    assert statuses(tmp_path / "t") == before
    (data / "raw" / "normal" / "1.wav").unlink()
    grow(tmp_path / "t", data / "raw")
    assert [status for _, status in statuses(tmp_path / "t")] == ["ok", "removed", "ok"]


# Parts of recordings


def write_cut(data, name, seconds, label="normal"):
    return write_clip(data / "raw" / label / f"{name}.wav", 10 * seconds + int(name), seconds * SECOND)


def test_segments_that_a_recording_has_no_more_are_found_from_another_folder(tmp_path, monkeypatch):
    data, output = tmp_path / "data", tmp_path / "t"
    write_cut(data, 0, 3)
    write_cut(data, 1, 2)
    make(output, monkeypatch, data, "raw", spec=CUT)
    write_cut(data, 0, 1)
    write_cut(data, 1, 1).write_bytes(b"no recording")
    monkeypatch.chdir(tmp_path)
    grow(output, data / "raw", spec=CUT, prune=False)
    problems = [status for _, status in statuses(output)]
    assert problems[:3] == ["ok", "replaced", "replaced"]
    assert {problem in ("ok", "replaced", "removed") for problem in problems[3:]} == {False}
    assert np.isnan(rows_of(output, 2)).all()


def test_new_segments_have_the_split_of_their_recording_from_any_folder(tmp_path, monkeypatch):
    """By themselves, they would be for training: no abnormal clip has come with them."""
    data, output = tmp_path / "data", tmp_path / "t"
    for name in range(4):
        write_cut(data, name, 1)
    write_cut(data, 8, 1, "abnormal")
    make(output, monkeypatch, data, "raw", spec=CUT, split="baseline")
    for name in range(4):
        write_cut(data, name, 2)
    monkeypatch.chdir(tmp_path)
    grow(output, data / "raw", spec=CUT, split="baseline")
    table = open_table(output)
    names = [str(path)[-5] for path in table.path.values]
    splits = {name: {str(s) for n, s in zip(names, table.split.values, strict=True) if n == name} for name in names}
    assert splits == {"0": {"test"}, "1": {"train"}, "2": {"train"}, "3": {"train"}, "8": {"test"}}
    assert len(names) == 9
