"""Files of all kinds among the recordings: the run ends, good clips are right, and each bad one has its reason."""

import os
import re
import shutil
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mimii import engine
from mimii.recordings import wav_bytes
from mimii.storage import DiskObjects
from mimii.table import HEAD
from tests.helpers.commands import (
    assert_same_bytes,
    contents,
    featurize_from_here,
    featurize_here,
    fill,
    librosa_rows,
    open_table,
    output_at,
    plan_table,
    rows_by_path,
    run,
)
from tests.helpers.recordings import noise, write_clip

N_GOOD = 12
NOT_UTF8 = os.fsdecode(b"caf\xe9.wav")
REASONS = {
    "empty.wav": r"empty file",
    "text.wav": r"not audio",
    "truncated.wav": r"truncated: the header promises 96000 bytes of samples, the file holds 50000",
    "header only.wav": r"no samples",
    "short.wav": r"too short: . of the 5 frames that a row takes, from 2,000 samples",
    "absurd length.flac": r"claims 68719476735 samples",
    "nan.wav": r"NaN or infinite",
    "inf.wav": r"NaN or infinite",
    "huge.wav": r"so large",
    "8 kHz.wav": r"its sample rate is 8000 Hz, and the features are for 16000 Hz; --sample-rate resamples",
    "dangling.wav": r"cannot be read: No such file",
    "itself.wav": r"cannot be read: Too many levels of symbolic links",
    "pipe.wav": r"not a regular file",
}
HAVE_ROWS = {"nan.wav", "inf.wav", "huge.wav"}
"""Found to be bad only when their samples are read: their rows are there, and NaN."""


def write_good(root):
    for index in range(N_GOOD):
        label = "abnormal" if index % 4 == 3 else "normal"
        write_clip(root / f"6_dB_fan/fan/id_00/{label}/{index:08d}.wav", index, 48_000 + 4_321 * (index % 3), 2)


def write_float(path, value):
    samples = noise(zlib.crc32(path.name.encode()), 48_000)[:, 0] / np.float32(32768)
    samples[20_000] = value
    soundfile.write(path, samples.astype(np.float32), 16_000, subtype="FLOAT")


def write_flac(path, seed, n_samples):
    """Write a FLAC file whose header claims a number of samples: 36 bits that end at byte 26."""
    soundfile.write(path, noise(seed, 48_000), 16_000, format="FLAC")
    data = bytearray(path.read_bytes())
    [word] = struct.unpack_from(">Q", data, 18)
    struct.pack_into(">Q", data, 18, word >> 36 << 36 | n_samples)
    path.write_bytes(data)


def write_bad(folder):
    """Write one clip for each of `REASONS`, and what is no clip."""
    folder.mkdir(parents=True)
    (folder / "empty.wav").touch()
    (folder / "text.wav").write_text("This is a shopping list: milk, bread, a fan. " * 30)
    (folder / "truncated.wav").write_bytes(wav_bytes(noise(501, 48_000))[: 80 - 12 + 50_012])
    header = struct.pack(
        "<4sI4s4sIHHIIHH4sI", b"RIFF", 36, b"WAVE", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16, b"data", 0
    )
    (folder / "header only.wav").write_bytes(header)
    write_clip(folder / "short.wav", 502, 2_000)
    write_flac(folder / "absurd length.flac", 504, 2**36 - 1)
    write_float(folder / "nan.wav", np.nan)
    write_float(folder / "inf.wav", -np.inf)
    write_float(folder / "huge.wav", 1e30)
    write_clip(folder / "8 kHz.wav", 505, 48_000, sample_rate=8_000)
    (folder / "dangling.wav").symlink_to("nowhere.wav")
    (folder / "itself.wav").symlink_to("itself.wav")
    os.mkfifo(folder / "pipe.wav")
    (folder / "loop").symlink_to(folder, target_is_directory=True)
    (folder / "up").symlink_to("..", target_is_directory=True)
    write_clip(folder / "._x.wav", 506)
    (folder / ".DS_Store").write_bytes(b"\0\0\0\1Bud1")
    (folder / "a folder.wav").mkdir()


@pytest.fixture(scope="module")
def mixed(tmp_path_factory):
    """Return the store of good and bad clips, that of the good ones alone, and what the command said of the first."""
    folder = tmp_path_factory.mktemp("mixed")
    write_good(folder / "raw")
    assert featurize_here(folder / "raw", "--output", folder / "good.zarr") == 0
    write_bad(folder / "raw/bad")
    done = featurize_from_here(folder / "raw", folder / "mixed.zarr", "--workers", 2)
    return open_table(folder / "mixed.zarr"), open_table(folder / "good.zarr"), done


def status_by_name(table):
    return {Path(path).name: why for path, why in zip(table.path.values, table.status.values, strict=True)}


def test_the_run_ends_with_3_and_without_a_traceback(mixed):
    done = mixed[2]
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert f"{N_GOOD + len(REASONS)}: {N_GOOD} good, {len(REASONS)} bad" in done.stdout


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_clip_keeps_its_entry_with_its_reason(mixed, name):
    table, _, done = mixed
    status = status_by_name(table)[name]
    assert re.search(REASONS[name], status)
    lines = done.stdout.splitlines()
    [at] = [index for index, line in enumerate(lines) if line.strip().endswith(f"bad/{name}")]
    heads = [line for line in lines[:at] if re.match(r"  \d+: ", line)]
    assert heads[-1].split(": ", 1)[1] == status


@pytest.mark.parametrize("name", REASONS)
def test_a_bad_clip_has_no_rows_or_rows_of_nan(mixed, name):
    rows = rows_by_path(mixed[0])[name]
    assert len(rows) == (90 if name in HAVE_ROWS else 0)
    assert np.isnan(rows).all()


def test_the_table_has_exactly_the_good_and_the_bad_clips(mixed):
    status = status_by_name(mixed[0])
    assert {name for name, why in status.items() if why != "ok"} == set(REASONS)
    assert len(status) == mixed[0].sizes["clip"] == N_GOOD + len(REASONS)


def test_good_clips_are_the_same_as_without_the_bad_ones(mixed):
    table, good, _ = mixed
    rows, expected = rows_by_path(table), rows_by_path(good)
    assert len(expected) == N_GOOD
    for name, values in expected.items():
        assert np.isfinite(values).all()
        np.testing.assert_array_equal(rows[name], values)


def test_statistics_leave_bad_clips_out(mixed):
    table, good, _ = mixed
    np.testing.assert_allclose(table.feature_mean.values, good.feature_mean.values, rtol=1e-12)
    np.testing.assert_allclose(table.feature_std.values, good.feature_std.values, rtol=1e-9)


def test_statistics_leave_bad_rows_out_where_all_rows_count(tmp_path):
    write_clip(tmp_path / "raw/0.wav", 0, 48_000)
    write_float(tmp_path / "raw/1.wav", np.nan)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    table = open_table(tmp_path / "out")
    rows = rows_by_path(table)
    assert np.isnan(rows["1.wav"]).all()
    np.testing.assert_allclose(table.feature_mean.values, rows["0.wav"].astype(np.float64).mean(axis=0), rtol=1e-9)


def test_a_run_with_bad_clips_is_finished_all_the_same(tmp_path, capsys):
    write_clip(tmp_path / "raw/0.wav", 0, 48_000)
    write_float(tmp_path / "raw/1.wav", np.inf)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    before = contents(tmp_path / "out")
    capsys.readouterr()
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    assert contents(tmp_path / "out") == before
    said = capsys.readouterr().out
    assert "0 computed, 1 there already" in said
    assert "NaN or infinite" in said


def test_a_missing_channel_is_a_reason(tmp_path):
    for index in range(3):
        write_clip(tmp_path / f"raw/{index}.wav", index, 30_000, n_channels=8)
    write_clip(tmp_path / "raw/mono.wav", 3, 30_000)
    assert featurize_here(tmp_path / "raw", "--channel", 7, "--output", tmp_path / "out") == 3
    table = open_table(tmp_path / "out")
    assert status_by_name(table).pop("mono.wav") == "no channel 7: the recording has 1, counted from 0"
    for index in range(3):
        expected = librosa_rows(tmp_path / f"raw/{index}.wav", channel=7)
        np.testing.assert_allclose(rows_by_path(table)[f"{index}.wav"], expected, atol=1e-3, rtol=0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_clip_or_folder_without_permission_is_a_reason(tmp_path):
    write_clip(tmp_path / "raw/0.wav", 0, 30_000)
    write_clip(tmp_path / "raw/secret.wav", 1, 30_000).chmod(0)
    write_clip(tmp_path / "raw/locked/2.wav", 2, 30_000).parent.chmod(0)
    try:
        assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    finally:
        (tmp_path / "raw/locked").chmod(0o700)
    status = status_by_name(open_table(tmp_path / "out"))
    assert status["0.wav"] == "ok"
    assert status["secret.wav"] == "cannot be read: Permission denied"
    assert "Permission denied" in status["locked"]


def test_a_name_that_is_not_utf8_is_no_obstacle(tmp_path):
    write_clip(tmp_path / "raw/0.wav", 0, 30_000)
    write_clip(tmp_path / "raw" / NOT_UTF8, 1, 30_000)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 0
    table = open_table(tmp_path / "out")
    [path] = [path for path in table.path.values if Path(path).name != "0.wav"]
    assert Path(path).name == "caf\ufffd.wav"
    expected = librosa_rows(shutil.copy(tmp_path / "raw" / NOT_UTF8, tmp_path / "copy.wav"))
    np.testing.assert_allclose(rows_by_path(table)["caf\ufffd.wav"], expected, atol=1e-3, rtol=0)


def test_a_bad_clip_with_a_name_that_is_not_utf8_can_be_listed(tmp_path):
    write_clip(tmp_path / "raw/0.wav", 0, 30_000)
    (tmp_path / "raw" / NOT_UTF8).touch()
    arguments = (tmp_path / "raw", "--output", tmp_path / "out", "--scheduler", "sync")
    done = run("featurize", *arguments, PYTHONIOENCODING="utf-8:strict")
    assert done.returncode == 3, done.stderr
    assert "Traceback" not in done.stderr
    assert "1: empty file" in done.stdout


# Changes between plan and computing


def change_nothing(path):
    pass


def make_longer(path):
    write_clip(path, 900, 60_000)


def make_shorter(path):
    write_clip(path, 901, 40_000)


def cut_off(path):
    os.truncate(path, 30_000)


def change_rate(path):
    write_clip(path, 902, 48_000, sample_rate=22_050)


def vanish(path):
    path.unlink()


def become_a_folder(path):
    path.unlink()
    path.mkdir()


def become_text(path):
    path.write_text("no longer a recording")


CHANGES = [
    (vanish, "cannot be read: No such file or directory"),
    (become_a_folder, "cannot be read: Is a directory"),
    (become_text, "not audio"),
    (
        make_longer,
        "it has 60000 samples of 1 channel at 16000 Hz",
    ),
    (
        make_shorter,
        "it has 40000 samples of 1 channel at 16000 Hz",
    ),
    (
        change_rate,
        "it has 48000 samples of 1 channel at 22050 Hz",
    ),
    (cut_off, "truncated"),
]


@pytest.mark.parametrize(("change", "reason"), CHANGES)
def test_a_clip_that_changes_after_the_plan_is_bad_and_its_neighbours_are_right(tmp_path, change, reason):
    paths = [write_clip(tmp_path / f"raw/{index}.wav", index, 48_000) for index in range(5)]
    table, output = plan_table(tmp_path / "raw"), tmp_path / "out"
    change(paths[2])
    [record] = fill(table, output)
    assert list(record.bad) == [2]
    assert reason in record.bad[2]
    engine.outputs.finish(output_at(table, output), {0: record})
    opened = open_table(output)
    assert opened.status.values[2] == record.bad[2]
    rows = rows_by_path(opened)
    assert rows["2.wav"].shape == (90, 320)
    assert np.isnan(rows["2.wav"]).all()
    for index in (0, 1, 3, 4):
        np.testing.assert_allclose(rows[f"{index}.wav"], librosa_rows(paths[index]), atol=1e-3, rtol=0)


def test_a_clip_that_is_there_again_is_computed_by_the_next_run(tmp_path):
    paths = [write_clip(tmp_path / f"raw/{index}.wav", index, 48_000) for index in range(3)]
    table, output = plan_table(tmp_path / "raw"), tmp_path / "out"
    data = paths[1].read_bytes()
    paths[1].unlink()
    fill(table, output)
    paths[1].write_bytes(data)
    assert featurize_here(tmp_path / "raw", "--output", output) == 0
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "fresh") == 0
    assert_same_bytes(output, tmp_path / "fresh")


# How many are too many


@pytest.fixture(scope="module")
def two_of_ten(tmp_path_factory):
    """Return recordings of which two are bad, one by its header and one by its samples, and where their table is."""
    folder = tmp_path_factory.mktemp("two of ten")
    for index in range(8):
        write_clip(folder / f"raw/{index}.wav", index)
    (folder / "raw/8.wav").touch()
    write_float(folder / "raw/9.wav", np.nan)
    return folder


@pytest.mark.parametrize(
    ("limit", "status"),
    [("0", 3), ("1", 3), ("2", 0), ("3", 0), ("19%", 3), ("19.9%", 3), ("20%", 0), ("100%", 0), ("0%", 3)],
)
def test_max_bad_decides_the_status(two_of_ten, limit, status):
    """The first run computes the table, and the others find it."""
    tmp_path = two_of_ten
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out", "--max-bad", limit) == status
    assert sorted(open_table(tmp_path / "out").status.values)[2:] == ["ok"] * 8


def test_bad_clips_alone_make_a_finished_empty_table(tmp_path, capsys):
    for index in range(3):
        (tmp_path / "raw").mkdir(exist_ok=True)
        (tmp_path / f"raw/{index}.wav").write_bytes(b"RIFF" * index)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    table = open_table(tmp_path / "out")
    assert dict(table.sizes) == {"row": 0, "feature": 320, "clip": 3, "mel": 64}
    assert "ok" not in table.status.values
    assert np.isnan(table.feature_mean.values).all()
    assert engine.look(DiskObjects(str(tmp_path / "out")), HEAD).finished
    before = contents(tmp_path / "out")
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    assert contents(tmp_path / "out") == before
    printed = capsys.readouterr().out
    assert "3: 0 good, 3 bad" in printed
    assert "open it" not in printed
    assert "no clip could be used: the output has nothing but the reasons" in printed


def test_all_clips_may_turn_out_bad_while_computing(tmp_path):
    for index in range(3):
        (tmp_path / "raw").mkdir(exist_ok=True)
        write_float(tmp_path / f"raw/{index}.wav", np.nan)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 3
    table = open_table(tmp_path / "out")
    assert table.features.shape == (270, 320)
    assert np.isnan(table.features.values).all()
    assert set(table.status.values) == {"NaN or infinite samples"}
