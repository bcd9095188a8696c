"""The main command: what it says, what its options do, and that it does what is missing and no more."""

import csv
import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import termios
import warnings
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

import mimii
from tests.helpers import oracle
from tests.helpers.commands import (
    assert_same_bytes,
    assert_same_table,
    command,
    contents,
    environment,
    featurize,
    featurize_from_here,
    featurize_here,
    librosa_rows,
    open_table,
    partial_files,
    record_numbers,
    replaced,
    rows_by_path,
    run_here,
    shard_files,
    shards_of,
    wait_for,
)
from tests.helpers.faults import Gate, Run
from tests.helpers.recordings import write_clip, write_machines

OPTIONS = (
    "--output",
    "--scheduler",
    "--preset",
    "--n-fft",
    "--hop-length",
    "--n-mels",
    "--frames",
    "--power",
    "--channel",
    "--sample-rate",
    "--split",
    "--list",
    "--workers",
    "--shard-mib",
    "--max-bad",
    "--overwrite",
    "--dry-run",
    "--quiet",
)
MANY = ("--hop-length", 32)
"""Makes hundreds of rows of a short clip: many shards in little time."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Twelve clips of 309 rows, three to a shard."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, 12, 160_000)
    return root


@pytest.fixture(scope="module")
def finished(raw, tmp_path_factory):
    """Run the command with two workers; return the store and what the command said."""
    output = tmp_path_factory.mktemp("finished") / "features.zarr"
    return output, featurize(raw, output, "--workers", 2)


@pytest.fixture(scope="module")
def stereo(tmp_path_factory):
    """Short clips with two channels, of two machines and SNRs, one of them at 8 kHz."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    for index in range(10):
        label = "abnormal" if index % 5 == 4 else "normal"
        path = root / f"{index % 2 * 6}_dB_pump/pump/id_00/{label}/{index:08d}.wav"
        write_clip(path, index, 24_000, n_channels=2, sample_rate=8_000 if index == 7 else 16_000)
    return root


def copied(finished, folder):
    return Path(shutil.copytree(finished[0], folder / "features.zarr"))


def mel_power(path, n_fft, n_mels):
    samples, sample_rate = soundfile.read(path, dtype="float32", always_2d=True)
    return librosa.feature.melspectrogram(y=samples[:, 0], sr=sample_rate, n_fft=n_fft, n_mels=n_mels, power=2.0)


def stacked(decibel):
    return np.array([decibel[:, t : t + 5].T.ravel() for t in range(decibel.shape[1] - 4)])


def test_it_ends_with_0_and_a_store_that_equals_librosa(finished, raw):
    output, done = finished
    assert done.returncode == 0, done.stderr
    rows = rows_by_path(open_table(output))
    assert len(rows) == 12
    for path in raw.rglob("*.wav"):
        np.testing.assert_allclose(rows[path.name], librosa_rows(path), atol=1e-3, rtol=0)


def test_the_summarys_numbers_are_those_of_files_and_store(finished, raw):
    output, done = finished
    size_in = sum(path.stat().st_size for path in raw.rglob("*.wav"))
    patterns = ("features/c.*", "features/mel/*", "row_clip/c.*")
    size_out = sum(path.stat().st_size for pattern in patterns for path in output.glob(pattern))
    lines = dict(
        re.split(r"\s{2,}", line, maxsplit=1) for line in done.stdout.splitlines() if re.match(r"\w+\s{2,}", line)
    )
    assert lines["clips"] == "12: 12 good, 0 bad"
    smaller = 12 * 309 * 1280 / size_out
    assert lines["rows"] == f"{12 * 309:,} of 320 values, {smaller:.1f} times smaller than uncompressed"
    assert lines["shards"] == "4 computed, 0 there already"
    assert lines["read"] == f"{size_in / 1e6:.1f} MB"
    assert lines["output"] == f"{output}, {size_out / 1e3:.1f} kB"
    seconds, rate = map(float, re.fullmatch(r"([\d.]+) s, (\d+) clips/s, start-up included", lines["time"]).groups())
    assert 12 / (seconds + 0.06) - 1 < rate < 12 / (seconds - 0.05) + 1
    assert "bad clips" not in done.stdout


def test_a_log_file_gets_plain_lines_and_the_dashboards_address(finished):
    lines = finished[1].stderr.splitlines()
    assert re.fullmatch(r"4 shards on 2 workers, dashboard http://127\.0\.0\.1:\d+/status", lines[0])
    assert re.fullmatch(r"12/12 clips, \d+ clips/s, 0 s left, 0 bad", lines[-1])
    assert "\r" not in finished[1].stderr


def test_the_line_of_python_that_it_prints_opens_the_store(raw, tmp_path):
    output = tmp_path / "it's my table"
    done = featurize_from_here(raw, output, "--scheduler", "sync")
    names = {}
    with warnings.catch_warnings(action="error"):
        exec(done.stdout.splitlines()[-1].strip(), names)  # noqa: S102  the line that users are asked to type
    assert names["table"].sizes == {"clip": 12, "feature": 320, "mel": 64, "row": 12 * 309}


def test_a_terminal_gets_a_bar(raw, tmp_path):
    master, slave = pty.openpty()
    termios.tcsetwinsize(slave, (24, 120))
    with (tmp_path / "out").open("wb") as out:
        process = subprocess.Popen(
            command("featurize", raw, "--output", tmp_path / "t.zarr", "--scheduler", "sync", "--shard-mib", 1),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=slave,
            env=environment(),
        )
    os.close(slave)
    shown = b""
    try:
        while block := os.read(master, 4096):
            shown += block
    except OSError:  # Linux says so when the other end is closed
        pass
    os.close(master)
    assert process.wait() == 0
    last = shown.decode().split("\r")
    assert len(last) > 2
    assert any(re.search(r"100% \|.*\| 12/12 clips, .*clips/s, .*left, 0 bad", line) for line in last)


def test_quiet_prints_nothing(raw, tmp_path):
    done = featurize(raw, tmp_path / "quiet.zarr", "--quiet")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert open_table(tmp_path / "quiet.zarr").sizes["clip"] == 12


@pytest.mark.parametrize("how", [("threads", "--workers", 2), ("local", "--workers", 1), ("sync",)])
def test_any_scheduler_and_number_of_workers_writes_the_same_bytes(finished, raw, tmp_path, how):
    done = featurize_from_here(raw, tmp_path / "out", "--scheduler", *how)
    assert done.returncode == 0, done.stderr
    assert re.search(rf"4 shards on {2 if 2 in how else 1} workers?\b", done.stderr)
    assert_same_bytes(tmp_path / "out", finished[0])


def test_another_run_does_nothing_and_starts_no_worker(finished, raw):
    output, _ = finished
    before, shards = contents(output), shard_files(output)
    done = featurize_from_here(raw, output)
    assert done.returncode == 0
    assert done.stderr == ""
    assert "0 computed, 4 there already" in done.stdout
    assert contents(output) == before
    assert replaced(shards, output) == []


# What is missing, and no more


def resumed(raw, output, shards):
    assert featurize_here(raw, "--output", output) == 0
    return replaced(shards, output)


def test_a_deleted_record_has_exactly_its_shard_computed(finished, raw, tmp_path):
    output = copied(finished, tmp_path)
    shards = shard_files(output)
    (output / "features/records/2.json").unlink()
    done = featurize_from_here(raw, output)
    assert done.returncode == 0
    assert "1 computed, 3 there already" in done.stdout
    assert replaced(shards, output) == [2]
    assert_same_bytes(output, finished[0])


@pytest.mark.parametrize("damage", ["deleted", "truncated", "emptied"])
def test_a_damaged_shard_is_computed_again_and_no_other(finished, raw, tmp_path, damage):
    output = copied(finished, tmp_path)
    shards = shard_files(output)
    shard = output / "features/c.1.0"
    if damage == "deleted":
        shard.unlink()
    else:
        os.truncate(shard, shard.stat().st_size // 2 if damage == "truncated" else 0)
    assert resumed(raw, output, shards) == [1]
    assert_same_bytes(output, finished[0])


def test_a_deleted_chunk_of_row_clip_is_written_again(finished, raw, tmp_path):
    output = copied(finished, tmp_path)
    (output / "row_clip/c.1").unlink()
    resumed(raw, output, {})
    assert_same_bytes(output, finished[0])


@pytest.mark.parametrize("lost", ["zarr.json", "status/c.0", "feature_mean/zarr.json"])
def test_a_store_that_lost_something_small_is_made_whole_or_refused(finished, raw, tmp_path, lost):
    output = copied(finished, tmp_path)
    (output / lost).unlink()
    damaged = contents(output)
    status = featurize_here(raw, "--output", output)
    if status == 2:
        assert contents(output) == damaged
    else:
        assert status == 0
        assert_same_bytes(output, finished[0])


def test_a_replaced_recording_has_just_its_shards_computed(tmp_path):
    lengths = [160_000, 77_777, 200_000, 54_321, 160_000, 123_456, 99_999, 160_000, 160_000, 31_000, 250_000, 160_000]
    paths = [write_clip(tmp_path / f"raw/{index}.wav", index, n) for index, n in enumerate(lengths)]
    output = tmp_path / "out"
    assert featurize_here(tmp_path / "raw", "--output", output) == 0
    before, shards = open_table(output), shard_files(output)
    touched = shards_of(before, "8.wav", before.attrs["shard_rows"])
    write_clip(paths[8], 88, lengths[8])
    assert resumed(tmp_path / "raw", output, shards) == touched
    assert 0 < len(touched) < len(shards)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "fresh") == 0
    assert_same_bytes(output, tmp_path / "fresh")
    assert not np.array_equal(rows_by_path(before)["8.wav"], rows_by_path(open_table(output))["8.wav"])


# Another table, or something else, at the output


def test_another_spec_is_refused_with_what_differs_and_overwrite_replaces(finished, raw, tmp_path):
    output = copied(finished, tmp_path)
    before = contents(output)
    refused = featurize_from_here(raw, output, "--n-fft", 1024, "--scheduler", "sync")
    assert refused.returncode == 2
    assert "n_fft: 2048 there, 1024 now" in refused.stderr
    assert "--overwrite" in refused.stderr
    assert contents(output) == before
    assert featurize_here(raw, "--output", output, "--n-fft", 1024, "--overwrite") == 0
    assert featurize_here(raw, "--output", tmp_path / "fresh", "--n-fft", 1024) == 0
    assert_same_table(output, tmp_path / "fresh")


def test_other_clips_are_refused_with_which_ones(tmp_path, capsys):
    paths = write_machines(tmp_path / "raw", 4)
    output = tmp_path / "out"
    assert featurize_here(tmp_path / "raw", "--output", output) == 0
    before = contents(output)
    added = write_clip(paths[0].with_name("99999999.wav"), 99)
    assert featurize_here(tmp_path / "raw", "--output", output) == 2
    said = capsys.readouterr().err
    assert f"  1 new:\n    {added}\n" in said
    assert "--update" in said
    assert contents(output) == before
    assert featurize_here(tmp_path / "raw", "--output", output, "--overwrite") == 0
    assert open_table(output).sizes["clip"] == 5


def test_an_unfinished_store_of_another_table_is_refused_too(finished, raw, tmp_path, capsys):
    output = copied(finished, tmp_path)
    (output / "features/c.0.0").unlink()
    assert featurize_here(raw, "--output", output, "--split", "none") == 2
    assert "12 in another split:" in capsys.readouterr().err
    assert not (output / "features/c.0.0").exists()


@pytest.mark.parametrize("overwrite", [(), ("--overwrite",)])
@pytest.mark.parametrize("what", ["file", "folder", "below a file"])
def test_something_elses_place_is_left_alone(raw, tmp_path, capsys, what, overwrite):
    mine = tmp_path / "mine" if what != "folder" else tmp_path / "mine" / "thesis.txt"
    mine.parent.mkdir(exist_ok=True)
    mine.write_text("years of work")
    output = tmp_path / "mine" / ("below.zarr" if what == "below a file" else "")
    assert featurize_here(raw, "--output", output, *overwrite) == 2
    assert "left alone" in capsys.readouterr().err
    assert contents(tmp_path) == {str(mine.relative_to(tmp_path)): b"years of work"}


# Wrong usage


def test_without_recordings_it_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("featurize")
    assert done.returncode == 2
    assert "data/raw: no recordings there" in done.stderr
    for help_ in ("python -m jobs.synthesize data/raw", "python -m jobs.fetch", "--list"):
        assert help_ in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_recordings_is_named(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "notes.txt").write_text("no sound")
    assert featurize_here(tmp_path / "empty", "--output", tmp_path / "out") == 2
    assert f"{tmp_path / 'empty'}: no recordings there" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_an_unknown_option_ends_with_2_and_the_usage():
    done = run_here("featurize", "--n-ftt", 1024)
    assert done.returncode == 2
    assert "usage: python -m jobs.featurize" in done.stderr
    assert "--n-ftt" in done.stderr


@pytest.mark.parametrize(
    ("option", "value"),
    [
        *(
            (option, value)
            for option in ("--n-fft", "--hop-length", "--n-mels", "--frames")
            for value in ("0", "-1", "x")
        ),
        *(("--power", value) for value in ("0", "-2", "nan", "inf", "x")),
        *(("--channel", value) for value in ("-1", "x")),
        *(("--sample-rate", value) for value in ("0", "x")),
        *(("--max-bad", value) for value in ("x", "-1", "1.5", "%", "-1%", "nan", "inf", "nan%", "")),
        *((option, value) for option in ("--workers", "--shard-mib") for value in ("0", "-1", "x", "1.5")),
        *((option, "nonsense") for option in ("--preset", "--split", "--scheduler")),
        ("--list", "no such file.csv"),
    ],
)
def test_a_bad_value_ends_with_2_and_names_the_option(raw, tmp_path, capsys, option, value):
    assert featurize_here(raw, "--output", tmp_path / "out", f"{option}={value}") == 2
    said = capsys.readouterr().err
    names = (option, option.removeprefix("--").replace("-", "_"), value if option == "--list" else option)
    assert any(name in said for name in names)
    assert list(tmp_path.iterdir()) == []


def test_a_missing_source_is_named(raw, tmp_path, capsys):
    assert featurize_here(raw, tmp_path / "gone", "--output", tmp_path / "out") == 2
    assert f"{tmp_path / 'gone'}: no such file or folder" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where even root cannot write")
def test_an_output_that_cannot_be_written_ends_with_1_and_a_message(raw):
    done = featurize_from_here(raw, Path("/proc/features.zarr"), "--scheduler", "sync")
    assert done.returncode == 1
    assert "/proc/features.zarr" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_an_output_folder_without_permission_ends_with_1_and_a_message(raw, tmp_path):
    (tmp_path / "locked").mkdir(mode=0o500)
    done = featurize_from_here(raw, tmp_path / "locked" / "out", "--scheduler", "sync")
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_help_mentions_every_option_and_exit_status():
    done = run_here("featurize", "--help")
    assert done.returncode == 0
    assert [
        option
        for option in (*OPTIONS, "SOURCE", "data/raw", "data/processed/features.zarr")
        if option not in done.stdout
    ] == []
    assert "exit status: 0" in done.stdout


# What the options do


def test_dry_run_prints_the_plan_and_writes_nothing(raw, tmp_path):
    done = featurize_from_here(raw, tmp_path / "out", "--dry-run")
    assert (done.returncode, done.stderr) == (0, "")
    assert list(tmp_path.iterdir()) == []
    words = [line.split() for line in done.stdout.splitlines()]
    for line in (
        "clips normal abnormal",
        "fan id_00 6 dB 6 0",
        "fan id_02 6 dB 3 3",
        "all 9 3",
        f"rows {12 * 309:,} of 320 values",
        "shards 4 of 927 rows, a task each",
        f"output {tmp_path / 'out'}, where nothing is yet",
        "split 6 train, 6 test, 0 neither",
    ):
        assert line.split() in words
    size_in = sum(path.stat().st_size for path in raw.rglob("*.wav"))
    assert f"reads     {size_in / 1e6:.1f} MB" in done.stdout
    assert f"writes    {12 * 309 * 1280 / 1e6:.1f} MB" in done.stdout


@pytest.mark.parametrize(
    ("option", "name", "value"),
    [
        ("--n-fft", "n_fft", 512),
        ("--hop-length", "hop_length", 400),
        ("--n-mels", "n_mels", 32),
        ("--frames", "frames", 3),
        ("--power", "power", 1.0),
        ("--channel", "channel", 1),
    ],
)
def test_an_option_changes_the_features_as_it_does_in_librosa(stereo, tmp_path, option, name, value):
    assert featurize_here(stereo, "--output", tmp_path / "out", option, value, "--max-bad", 1) == 0
    table = open_table(tmp_path / "out")
    assert json.loads(table.attrs["spec"])[name] == value
    rows = rows_by_path(table)
    for path in table.path.values[table.status.values == "ok"]:
        np.testing.assert_allclose(rows[Path(path).name], librosa_rows(path, **{name: value}), atol=1e-3, rtol=0)


@pytest.mark.parametrize("preset", ["explore", "autoencoder", "mimii-baseline", "dcase2020"])
def test_a_preset_gives_its_formula(raw, tmp_path, preset):
    assert featurize_here(raw, "--output", tmp_path / "out", "--preset", preset) == 0
    table = open_table(tmp_path / "out")
    rows = rows_by_path(table)
    eps = sys.float_info.epsilon
    formulas = {
        "explore": (2048, 64, lambda mel: librosa.power_to_db(mel, ref=np.max)),
        "autoencoder": (1024, 64, lambda mel: librosa.power_to_db(mel, ref=np.max)),
        "mimii-baseline": (1024, 64, lambda mel: 20 / 2.0 * np.log10(mel + eps)),
        "dcase2020": (1024, 128, lambda mel: 20 / 2.0 * np.log10(np.maximum(mel, eps))),
    }
    n_fft, n_mels, formula = formulas[preset]
    for path in table.path.values:
        expected = stacked(formula(mel_power(path, n_fft, n_mels).astype(np.float64)))
        np.testing.assert_allclose(rows[Path(path).name], expected, atol=1e-3, rtol=0)


def test_the_sample_rate_is_that_of_most_clips_and_a_given_one_is_resampled_to(stereo, tmp_path, capsys, caplog):
    assert featurize_here(stereo, "--output", tmp_path / "most") == 3
    assert (
        "the features are for 16000 Hz, and of the recordings, 9 have 16000 Hz, 1 has 8000 Hz: those at other rates"
        in caplog.text
    )
    assert "Resample them with --sample-rate 16000" in caplog.text
    caplog.clear()
    table = open_table(tmp_path / "most")
    bad = table.status.values != "ok"
    assert table.number.values[bad].tolist() == [7]
    assert (
        table.status.values[bad]
        == "its sample rate is 8000 Hz, and the features are for 16000 Hz; --sample-rate resamples"
    )
    assert featurize_here(stereo, "--output", tmp_path / "given", "--sample-rate", 8_000) == 0
    assert f"resampled  {len(bad) - 1} clips to 8000 Hz" in capsys.readouterr().out
    assert not caplog.text
    given = open_table(tmp_path / "given")
    assert oracle.check_table(given, mimii.FeatureSpec(sample_rate=8000)) == len(bad)


def test_channels_segments_and_rows_are_as_the_options_say(stereo, tmp_path, capsys):
    options = ("--channel", "all", "--segment", 0.4, "--overlap", 0.1, "--sample-rate", 16_000, "--preset", "dcase2024")
    more = ("--fmin", 50, "--fmax", 7000, "--win-length", 800, "--stride", 2, "--dtype", "float16", "--frames", 3)
    assert featurize_here(stereo, "--output", tmp_path / "t", *options, *more) == 0
    said = capsys.readouterr().out
    assert re.search(r"channels +each is a clip of its own, up to 2 of a recording", said)
    assert re.search(r"segments +of 0.4 s, 0.1 s shared with the one before; at the ends \d+ shorter ones", said)
    assert "level" not in said
    table = open_table(tmp_path / "t")
    how = {"channel": "all", "segment": 0.4, "overlap": 0.1, "fmin": 50, "fmax": 7000, "win_length": 800}
    spec = mimii.FeatureSpec.preset("dcase", **how, stride=2, dtype="float16", frames=3)
    assert mimii.FeatureSpec(**json.loads(table.attrs["spec"])) == spec
    assert oracle.check_table(table, spec, atol=0.07) == table.sizes["clip"]


def test_bad_parts_of_a_recording_are_one_line_and_what_is_gone_is_counted(tmp_path, capsys):
    for seed in range(2):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 40_000, n_channels=2)
    sync = ("--segment", 0.5, "--channel", "all")
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "t", *sync) == 0
    (tmp_path / "raw" / "0.wav").write_bytes(b"no longer audio" * 100)
    (tmp_path / "raw" / "1.wav").unlink()
    capsys.readouterr()
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "t", "--update") == 3
    said = capsys.readouterr().out
    assert "0 gone, 0 not named and left as they are, 10 gone but kept (--prune takes them out)" in said
    assert "20: 10 good, 10 bad" in said
    assert f"{tmp_path}/raw/0.wav, 10 clips" in said


def test_a_table_that_is_deaf_to_level_says_so(raw, tmp_path, capsys):
    assert featurize_here(raw, "--output", tmp_path / "out") == 0
    assert re.search(r"level +not in the features", capsys.readouterr().out)


def test_a_table_keeps_resampling_as_it_grows(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "t", "--sample-rate", 16_000) == 0
    write_clip(tmp_path / "raw" / "b.wav", 2, 44_100, sample_rate=44_100)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "t", "--update") == 0
    assert oracle.check_table(open_table(tmp_path / "t"), mimii.FeatureSpec()) == 2


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (("--channel", "left"), "--channel: must be a number counted from 0, mean or all, not 'left'"),
        (("--overlap", 1), "overlap 1.0 s needs segment"),
        (("--segment", 1, "--overlap", 1), "overlap must be at least 0 s and less than the segment of 1.0 s, not 1.0"),
        (("--segment", 0.05), "segment 0.05 s makes 2 of the 5 frames that a row takes"),
        (("--fmax", 9000), "fmax 9000.0 Hz is above half the sample rate, 8000 Hz"),
        (("--fmin", 500, "--fmax", 400), "fmin 500 Hz is not below fmax 400 Hz"),
        (("--win-length", 4096), "win_length 4096 is more than n_fft 2048"),
        (("--dtype", "int8"), "--dtype: invalid choice: 'int8'"),
        (("--stride", 0), "--stride: must be a whole number of at least 1, not '0'"),
        (("--preset", "dcase2019"), "--preset: invalid choice: 'dcase2019'"),
    ],
    ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
)
def test_options_that_make_no_sense_are_refused_by_name(raw, tmp_path, capsys, options, problem):
    assert featurize_here(raw, "--output", tmp_path / "out", *options) == 2
    assert problem in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_shard_mib_changes_the_number_of_shards(raw, tmp_path, capsys):
    assert featurize_here(raw, "--output", tmp_path / "out", "--shard-mib", 3) == 0
    assert "2 computed" in capsys.readouterr().out
    assert sorted(shard_files(tmp_path / "out")) == [0, 1]


def splits_of(tmp_path, raw, split):
    assert featurize_here(raw, "--output", tmp_path / split, "--split", split) == 0
    table = open_table(tmp_path / split)
    keys = (table.machine_id.values, table.label.values.tolist(), table.number.values.tolist())
    return dict(zip(zip(*keys, strict=True), table.split.values, strict=True))


def test_the_baseline_split_tests_all_abnormal_clips_and_as_many_first_normal_ones(raw, tmp_path):
    expected = {("id_02", 1, number): "test" for number in (3, 7, 11)}
    expected |= {("id_02", 0, number): "test" for number in (1, 5, 9)}
    expected |= {("id_00", 0, number): "train" for number in (0, 2, 4, 6, 8, 10)}
    assert splits_of(tmp_path, raw, "baseline") == expected


def test_no_split_leaves_all_empty(raw, tmp_path):
    assert set(splits_of(tmp_path, raw, "none").values()) == {""}


def test_the_stratified_split_keeps_snr_copies_together_and_moves_no_clip_when_others_come(tmp_path):
    for index in range(60):
        for snr in (-6, 6):
            write_clip(tmp_path / f"raw/{snr}_dB_fan/fan/id_00/normal/{index:08d}.wav", 100 * index + snr + 6, 3_000)
    few = splits_of(tmp_path, tmp_path / "raw/6_dB_fan", "stratified")
    assert 30 < list(few.values()).count("train") < 60
    assert set(few.values()) == {"train", "test"}
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "all", "--split", "stratified") == 0
    table = open_table(tmp_path / "all")
    assert table.sizes["clip"] == 120
    for number, split in zip(table.number.values.tolist(), table.split.values, strict=True):
        assert split == few["id_00", 0, number]


def test_a_list_says_what_clips_are(tmp_path):
    for index, name in enumerate(("a.wav", "sub/b.wav", "c.wav")):
        write_clip(tmp_path / "lab" / name, index, 20_000 + 1_000 * index)
    rows = [
        ("path", "machine_type", "machine_id", "label", "snr_db", "split"),
        ("a.wav", "lathe", "7", "normal", "12.5", "train"),
        ("sub/b.wav", "lathe", "7", "abnormal", "", "test"),
        (str(tmp_path / "lab/c.wav"), "saw", "", "", "-3", ""),
    ]
    with (tmp_path / "lab" / "my.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    assert featurize_here("--list", tmp_path / "lab/my.csv", "--output", tmp_path / "out") == 0
    table = open_table(tmp_path / "out")
    columns = [table[name].values.tolist() for name in ("machine_type", "machine_id", "label", "snr_db", "split")]
    clips = {Path(path).name: clip for path, *clip in zip(table.path.values, *columns, strict=True)}
    assert clips["a.wav"] == ["lathe", "7", 0, 12.5, "train"]
    assert clips["b.wav"][:3] == ["lathe", "7", 1]
    assert np.isnan(clips["b.wav"][3])
    assert clips["c.wav"] == ["saw", "", -1, -3.0, ""]
    for path, rows_ in rows_by_path(table).items():
        [where] = (tmp_path / "lab").rglob(path)
        np.testing.assert_allclose(rows_, librosa_rows(where), atol=1e-3, rtol=0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("file\na.wav\n", "'path'"),
        ("path,label\na.wav,broken\n", "line 2"),
        ("path\n\na.wav\na.wav\n", "listed twice"),
        ("", "'path'"),
    ],
)
def test_a_list_that_makes_no_sense_ends_with_2_and_the_line(tmp_path, capsys, text, reason):
    (tmp_path / "my.csv").write_text(text)
    assert featurize_here("--list", tmp_path / "my.csv", "--output", tmp_path / "out") == 2
    said = capsys.readouterr().err
    assert "my.csv" in said
    assert reason in said
    assert not (tmp_path / "out").exists()


# Interrupted


@pytest.fixture(scope="module")
def short(tmp_path_factory):
    """Return short clips, two to a shard, and their table."""
    root = tmp_path_factory.mktemp("short")
    write_machines(root / "raw", 24)
    assert featurize_here(root / "raw", "--output", root / "undisturbed", *MANY) == 0
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    ("number", "is_for_all"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True)],
)
def test_an_interrupted_run_says_so_and_the_next_resumes(short, tmp_path, number, is_for_all):
    gate = Gate(tmp_path / "gate", sorted(short.glob("raw/**/*.wav"))[-1:])
    run = Run(short / "raw", tmp_path / "out", how=MANY, **gate.environment)
    run.wait_for(lambda: record_numbers(tmp_path / "out"), "the first record")
    (os.killpg if is_for_all else os.kill)(run.process.pid, number)
    assert run.wait() == 128 + number, run.text()
    assert "stopping; once more to stop at once" in run.text()
    assert "interrupted. Finished work is kept: run the same command again to resume." in run.text()
    assert "Traceback" not in run.text()
    wait_for(lambda: not run.alive(), "the end of all workers")
    kept, shards = record_numbers(tmp_path / "out"), shard_files(tmp_path / "out")
    assert featurize_here(short / "raw", "--output", tmp_path / "out", *MANY) == 0
    assert 0 < len(kept) < len(shard_files(tmp_path / "out"))
    assert set(kept).isdisjoint(replaced(shards, tmp_path / "out"))
    assert partial_files(tmp_path / "out") == []
    assert_same_bytes(tmp_path / "out", short / "undisturbed")


# The real recordings


def test_the_real_clips_equal_librosa(real_recordings, tmp_path):
    done = featurize_from_here(real_recordings, tmp_path / "out")
    assert done.returncode == 0, done.stderr
    assert "38: 38 good, 0 bad" in done.stdout
    table = open_table(tmp_path / "out")
    assert table.sizes["row"] == 38 * 309
    assert set(table.snr_db.values.tolist()) == {-6.0, 0.0, 6.0}
    for index, path in enumerate(table.path.values):
        first = int(table.first_row[index])
        assert int(table.n_rows[index]) == 309
        assert set(table.row_clip.values[first : first + 309]) == {index}
        np.testing.assert_allclose(table.features.values[first : first + 309], librosa_rows(path), atol=1e-3, rtol=0)


def test_an_empty_output_is_refused(raw, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    done = run_here("featurize", raw, "--output", "")
    assert done.returncode == 2
    assert "--output: must not be empty" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_dry_run_says_what_would_become_of_the_output(finished, raw, capsys):
    output, _ = finished
    arguments = (raw, "--output", output, "--shard-mib", 1, "--dry-run")
    before = contents(output)
    for more, fate in (
        ((), "where 4 of 4 shards are there already"),
        (("--n-mels", 32), "which holds another table of features: would be refused without --overwrite"),
        (("--n-mels", 32, "--overwrite"), "which holds another table of features: would be replaced"),
    ):
        assert featurize_here(*arguments, *more) == 0
        assert capsys.readouterr().out.splitlines()[-1] == f"output    {output}, {fate}"
    assert contents(output) == before


def test_quiet_still_says_that_clips_are_bad(tmp_path):
    write_clip(tmp_path / "raw" / "good.wav", 1)
    (tmp_path / "raw" / "bad.wav").write_bytes(b"")
    done = featurize_from_here(tmp_path / "raw", tmp_path / "out", "--quiet", "--scheduler", "sync")
    assert (done.returncode, done.stdout) == (3, "")
    assert "1 of 2 clips cannot be used" in done.stderr


def test_no_clip_for_training_is_worth_a_warning(tmp_path):
    write_clip(tmp_path / "raw" / "fan" / "id_00" / "abnormal" / "00000000.wav", 1)
    done = featurize_from_here(tmp_path / "raw", tmp_path / "out", "--scheduler", "sync")
    assert done.returncode == 0
    assert "no clip is for training" in done.stderr


def test_a_reader_that_has_had_enough_is_no_error_worth_a_word(raw, tmp_path):
    process = subprocess.Popen(
        command("featurize", raw, "--output", tmp_path / "out", "--dry-run"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED="1"),
    )
    process.stdout.close()
    assert process.stderr.read() == b""
    process.stderr.close()
    assert process.wait() == 1


def test_a_list_may_have_semicolons_and_capitals(tmp_path):
    write_clip(tmp_path / "a.wav", 1)
    (tmp_path / "list.csv").write_text("Path;Label;SNR_dB\na.wav;abnormal;-6\n")
    assert featurize_here("--list", tmp_path / "list.csv", "--output", tmp_path / "out", "--scheduler", "sync") == 0
    table = open_table(tmp_path / "out")
    assert (table.label.values.tolist(), table.snr_db.values.tolist()) == ([1], [-6])


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a place where even root cannot write")
def test_dry_run_says_that_an_output_cannot_be_written(raw, capsys):
    assert featurize_here(raw, "--output", "/proc/features.zarr", "--dry-run") == 0
    assert "output    /proc/features.zarr, which cannot be written: " in capsys.readouterr().out


def test_a_list_named_as_a_source_is_refused_and_leaves_nothing(tmp_path, capsys):
    (tmp_path / "my.csv").write_text("path\na.wav\n")
    assert featurize_here(tmp_path / "my.csv", "--output", tmp_path / "out") == 2
    assert "a list is no source: use --list" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
