"""Headers: all of them, or one of each group that is alike."""

import numpy as np
import soundfile

from mimii.recordings.headers import probe_alike, probe_all
from mimii.recordings.sources import find_clips
from tests.helpers.archives import pack, pack_folder, wav
from tests.helpers.commands import featurize_here, open_table
from tests.helpers.recordings import noise, write_machines


def members(folder="fan/id_00/normal", n=5, seed=0, **how):
    return {f"{folder}/{index:08d}.wav": wav(seed + index, **how) for index in range(n)}


def found(tmp_path, contents):
    return find_clips([str(pack(tmp_path / "6_dB_fan.zip", contents))])


def lengths(probes):
    return [probe.header.n_samples if probe.header else None for probe in probes.of_clips]


def test_one_of_each_size_in_a_folder_is_looked_at(tmp_path):
    contents = members() | members("fan/id_00/abnormal", seed=10) | members("fan/id_02/normal", seed=20, n_samples=9000)
    clips = found(tmp_path, contents | {"fan/id_02/normal/00000009.wav": wav(30, 7000)})
    alike, every = probe_alike(clips), probe_all(clips)
    assert (alike.n_read, every.n_read) == (4, 16)
    assert lengths(alike) == lengths(every)
    assert sorted(set(lengths(alike))) == [7000, 9000, 16_000]


def test_files_on_a_disk_are_all_looked_at(tmp_path):
    write_machines(tmp_path, 7)
    assert probe_alike(find_clips([str(tmp_path)])).n_read == 7


def test_compressed_recordings_are_all_looked_at(tmp_path):
    (tmp_path / "made").mkdir()
    for index in range(4):
        soundfile.write(tmp_path / "made" / f"{index}.flac", noise(index, 4000 + index), 16_000)
    clips = find_clips([str(pack_folder(tmp_path / "a.zip", tmp_path / "made"))])
    probes = probe_alike(clips)
    assert probes.n_read == 4
    assert lengths(probes) == [4000, 4001, 4002, 4003]


def test_where_the_first_of_a_group_is_bad_all_are_looked_at(tmp_path):
    contents = members()
    first = next(iter(contents))
    contents[first] = b"no sound" + contents[first][8:]
    probes = probe_alike(found(tmp_path, contents))
    assert lengths(probes) == [None, 16_000, 16_000, 16_000, 16_000]
    assert "not audio" in probes.of_clips[0].problem
    assert probes.n_read == 5


def test_clips_that_are_known_to_be_bad_are_not_looked_at(tmp_path):
    clips = found(tmp_path, {"../a.wav": wav(1), "b.wav": wav(2)})
    probes = probe_all(clips)
    assert probes.n_read == 1
    assert [bool(probe.problem) for probe in probes.of_clips] == [clip.path.endswith("a.wav") for clip in clips]


def test_a_clip_unlike_the_others_of_its_size_is_never_given_wrong_rows(tmp_path, capsys):
    contents = members(n_samples=16_000)
    contents["fan/id_00/normal/00000003.wav"] = wav(3, n_samples=8000, n_channels=2)  # the same number of bytes
    archive = pack(tmp_path / "6_dB_fan.zip", contents)
    assert featurize_here(archive, "--output", tmp_path / "auto") == 3
    assert "1 of 5 read" in (said := capsys.readouterr().out)
    assert "planned were 16000 samples at 16000 Hz, found were 8000 at 16000 Hz" in said
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
    assert "found were 16000 at 22050 Hz" in capsys.readouterr().out
