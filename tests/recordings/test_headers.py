"""Headers: all of them, or one of each group of recordings of one size; and why one cannot be read."""

import os

import numpy as np
import pytest
import soundfile

from mimii.features.decode import Header
from mimii.recordings.clips import Clip
from mimii.recordings.headers import group_alike, read_all_headers, read_headers
from mimii.recordings.probing import read_clip_header
from mimii.recordings.sources import find_clips
from mimii.storage import Place, StorageError, unreadable
from tests.helpers.archives import pack, pack_folder, wav
from tests.helpers.commands import featurize_here, open_table
from tests.helpers.recordings import noise, write_clip, write_machines


def members(folder="fan/id_00/normal", n=5, seed=0, **how):
    return {f"{folder}/{index:08d}.wav": wav(seed + index, **how) for index in range(n)}


def found(tmp_path, contents):
    return find_clips([str(pack(tmp_path / "6_dB_fan.zip", contents))])


def lengths(clips):
    return [clip.header.n_samples if clip.header else None for clip in clips]


def test_the_header_of_a_clip_is_read(tmp_path):
    write_clip(tmp_path / "a.wav", 1, n_samples=777, n_channels=3, sample_rate=22_050)
    (clip,) = find_clips([str(tmp_path)])
    found = read_clip_header(clip)
    assert (found.header.sample_rate, found.header.n_channels, found.header.n_samples) == (22_050, 3, 777)
    assert (found.path, found.place, found.identity, found.problem) == (clip.path, clip.place, clip.identity, "")


def test_a_clip_with_a_problem_is_not_read(tmp_path):
    write_clip(tmp_path / "a.wav", 1, 50)
    clip = Clip("a.wav", Place(str(tmp_path / "a.wav")), problem="known to be bad")
    assert read_clip_header(clip) is clip


@pytest.mark.parametrize(
    ("content", "reason"), [(b"", "empty file"), (b"text\n" * 50, "not audio"), (None, "No such file")]
)
def test_a_clip_that_cannot_be_read_has_the_reason(tmp_path, content, reason):
    path = tmp_path / "a.wav"
    if content is not None:
        path.write_bytes(content)
    found = read_clip_header(Clip("a.wav", Place(str(path))))
    assert found.header is None
    assert reason in found.problem
    assert str(tmp_path) not in found.problem


def test_a_folder_cannot_be_read(tmp_path):
    assert "cannot be read" in read_clip_header(Clip("a", Place(str(tmp_path)))).problem


def test_an_error_is_described_without_the_path():
    error = PermissionError(13, os.strerror(13), "/secret/place.wav")
    assert unreadable(error) == "cannot be read: Permission denied"
    assert unreadable(OSError("bad sector")) == "cannot be read: bad sector"


@pytest.mark.parametrize("read", [read_headers, read_all_headers])
def test_where_s3_cannot_be_used_no_clip_is_to_blame(monkeypatch, read):
    def fail(_place, _access):
        msg = "no answer"
        raise StorageError(msg)

    monkeypatch.setattr("mimii.recordings.probing.open_part", fail)
    with pytest.raises(StorageError, match="no answer"):
        read([Clip(f"s3://b/{n}.wav", Place(f"s3://b/{n}.wav", 100)) for n in range(3)])


def test_one_of_each_size_in_a_folder_is_read(tmp_path):
    contents = members() | members("fan/id_00/abnormal", seed=10) | members("fan/id_02/normal", seed=20, n_samples=9000)
    clips = found(tmp_path, contents | {"fan/id_02/normal/00000009.wav": wav(30, 7000)})
    (alike, n_alike), (every, n_every) = read_headers(clips), read_all_headers(clips)
    assert (n_alike, n_every) == (4, 16)
    assert alike == every
    assert [clip.path for clip in alike] == [clip.path for clip in clips]
    assert sorted(set(lengths(alike))) == [7000, 9000, 16_000]


def test_the_header_is_that_of_the_first_of_its_group(monkeypatch):
    places = [
        Place(f"s3://b/{folder}/{n}.{suffix}", 100 + size)
        for folder in "xy"
        for suffix in ("wav", "flac")
        for size in (0, 1)
        for n in (2 * size, 2 * size + 1)
    ]
    clips = [Clip(place.url, place) for place in places]
    headers = {place.url: Header(16_000, 1, 1000 + index) for index, place in enumerate(places)}
    monkeypatch.setattr(
        "mimii.recordings.headers._read",
        lambda clips, indices, _access: {
            index: Clip(clips[index].path, clips[index].place, header=headers[clips[index].path]) for index in indices
        },
    )
    read, n_read = read_headers(clips)
    wav_then_flac = [[0, 0, 2, 2, 4, 5, 6, 7], [8, 8, 10, 10, 12, 13, 14, 15]]
    assert lengths(read) == [1000 + index for indices in wav_then_flac for index in indices]
    assert n_read == 12


def test_each_clip_is_in_one_group(tmp_path):
    clips = found(tmp_path, members(n=7) | members("fan/id_02/normal", n=3, n_samples=9000))
    assert sorted(map(len, group_alike(clips))) == [3, 7]
    assert sorted(index for group in group_alike(clips) for index in group) == list(range(10))
    assert group_alike([]) == []


def test_files_on_a_disk_are_all_read(tmp_path):
    write_machines(tmp_path, 7)
    assert read_headers(find_clips([str(tmp_path)]))[1] == 7


def test_compressed_recordings_are_all_read(tmp_path):
    (tmp_path / "made").mkdir()
    for index in range(4):
        soundfile.write(tmp_path / "made" / f"{index}.flac", noise(index, 4000 + index), 16_000)
    clips, n_read = read_headers(find_clips([str(pack_folder(tmp_path / "a.zip", tmp_path / "made"))]))
    assert n_read == 4
    assert lengths(clips) == [4000, 4001, 4002, 4003]


def test_where_the_first_of_a_group_is_bad_all_are_read(tmp_path):
    contents = members()
    first = next(iter(contents))
    contents[first] = b"no sound" + contents[first][8:]
    clips, n_read = read_headers(found(tmp_path, contents))
    assert lengths(clips) == [None, 16_000, 16_000, 16_000, 16_000]
    assert "not audio" in clips[0].problem
    assert n_read == 5


@pytest.mark.parametrize("read", [read_headers, read_all_headers])
def test_clips_that_are_known_to_be_bad_are_not_read(tmp_path, read):
    clips, n_read = read(found(tmp_path, {"../a.wav": wav(1), "b.wav": wav(2)}))
    assert n_read == 1
    assert [bool(clip.problem) for clip in clips] == [clip.path.endswith("a.wav") for clip in clips]


def test_a_clip_unlike_the_others_of_its_size_is_never_given_wrong_rows(tmp_path, capsys):
    contents = members(n_samples=16_000)
    contents["fan/id_00/normal/00000003.wav"] = wav(3, n_samples=8000, n_channels=2)  # the same number of bytes
    archive = pack(tmp_path / "6_dB_fan.zip", contents)
    assert featurize_here(archive, "--output", tmp_path / "auto") == 3
    assert "1 of 5 read" in (said := capsys.readouterr().out)
    assert (
        "it has 8000 samples of 2 channels at 16000 Hz, and 16000 samples of 1 channel at 16000 Hz were expected"
        in said
    )
    assert featurize_here(archive, "--output", tmp_path / "all", "--probe", "all") == 0
    assert "5 of 5 read" in capsys.readouterr().out
    auto, every = open_table(tmp_path / "auto"), open_table(tmp_path / "all")
    assert every.n_rows.values.tolist() == [28, 28, 28, 12, 28]
    for clip in range(5):
        ours, theirs = (table.features.values[table.row_clip.values == clip] for table in (auto, every))
        if clip == 3:
            assert np.isnan(ours).all()
        else:
            assert (ours == theirs).all()


def test_a_header_of_another_rate_is_found_when_it_is_decoded(tmp_path, capsys):
    contents = members()
    name = "fan/id_00/normal/00000004.wav"
    contents[name] = contents[name][:24] + (22_050).to_bytes(4, "little") + contents[name][28:]
    assert featurize_here(pack(tmp_path / "a.zip", contents), "--output", tmp_path / "out") == 3
    assert "it has 16000 samples of 1 channel at 22050 Hz" in capsys.readouterr().out
