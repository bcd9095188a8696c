"""One task: which clips it counts, and what it makes of a clip that cannot be read for the moment."""

import re
import resource

import numpy as np
import soundfile

from jobs.progress import show_lines
from mimii.engine.work import Done
from mimii.storage.disk import DiskObjects
from mimii.table.extract import extract_shard
from mimii.table.table import shard_task
from tests.helpers.commands import assert_same_bytes, build, featurize_here, fill, open_table, plan_table, shard_files
from tests.helpers.recordings import noise, write_clip


def test_a_clip_that_straddles_shards_counts_once(tmp_path):
    for seed, seconds in enumerate((7, 11, 13, 17, 19, 23, 29)):
        write_clip(tmp_path / f"{seed}.wav", seed, 16_000 * seconds)
    table = plan_table(tmp_path)
    tasks = [shard_task(table, index, DiskObjects("unused")) for index in range(table.plan.n_shards)]
    assert len(tasks) > 2
    assert sum(len(task.parts) for task in tasks) > 7
    assert sum(task.n_ended for task in tasks) == 7


def test_progress_counts_a_bad_clip_that_straddles_shards_once(tmp_path, capsys):
    for seed, seconds in enumerate((20, 40, 20)):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 16_000 * seconds)
    table = plan_table(tmp_path / "raw")
    (tmp_path / "raw" / "1.wav").write_bytes(b"no longer audio")
    done = fill(table, tmp_path / "out")
    assert sum(1 in shard.bad for shard in done) > 1
    assert list(show_lines(done, 3, 0)) == done
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("3/3 clips")
    assert last.endswith("1 bad")


def test_the_last_line_says_how_many_are_bad(tmp_path, capsys):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed)
    table = plan_table(tmp_path / "raw")
    (tmp_path / "raw" / "2.wav").write_bytes(b"no longer audio")
    list(show_lines(fill(table, tmp_path / "out"), 4, 5))
    assert capsys.readouterr().err.strip().endswith(", 0 s left, 6 bad")


def test_a_clip_that_could_not_be_read_for_the_moment_is_tried_again(tmp_path):
    raw, moved, output = tmp_path / "raw", tmp_path / "elsewhere.wav", tmp_path / "out"
    for seed in range(6):
        write_clip(raw / f"{seed}.wav", seed, 160_000)
    table = plan_table(raw)
    undisturbed = build(table, tmp_path / "undisturbed")
    (raw / "3.wav").rename(moved)
    build(table, output)
    moved.rename(raw / "3.wav")
    before = shard_files(output)
    assert featurize_here(raw, "--output", output, "--shard-mib", 1, "--scheduler", "sync") == 0
    after = shard_files(output)
    changed = [index for index in before if before[index] != after[index]]
    assert changed == [index for index in before if any(p.clip == 3 for p in table.plan.shard(index).pieces)]
    for name in ("features", "row_clip"):
        assert_same_bytes(output / name, undisturbed / name)


def test_a_task_may_be_done_twice(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 160_000)
    table = plan_table(tmp_path / "raw")
    once, twice = build(table, tmp_path / "once"), build(table, tmp_path / "twice")
    extract_shard(shard_task(table, 0, DiskObjects(str(twice))))
    assert_same_bytes(once / "features", twice / "features")


def test_the_memory_for_an_hour_of_sound_is_bounded(tmp_path):
    rng = np.random.default_rng(5)
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", 16_000, 1, subtype="PCM_16") as sound:
        minute = rng.integers(-3000, 3000, 960_000).astype(np.int16)
        for _ in range(60):
            sound.write(minute)
    table = plan_table(tmp_path, mib=32)
    assert table.plan.n_shards > 1
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    done = extract_shard(shard_task(table, 1, DiskObjects(str(tmp_path / "out"))))
    assert not done.bad
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200 * 1024


def test_progress_before_the_first_clip_has_ended_has_no_rate(capsys):
    started = [Done(0, 0, 100, {}), Done(1, 1, 100, {})]
    assert list(show_lines(started, 1, 0, interval=0)) == started
    first, last = capsys.readouterr().err.splitlines()
    assert first == "0/1 clips, 0 clips/s, ? s left, 0 bad"
    assert last.startswith("1/1 clips")


def run_here(raw, output, *options):
    return featurize_here(raw, "--output", output, "--shard-mib", 1, "--scheduler", "sync", *options)


def test_statistics_of_a_clip_that_has_gone_bad_do_not_stay(tmp_path):
    path, samples = tmp_path / "raw" / "only.wav", noise(1, 320_000) / 32768
    path.parent.mkdir()
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert run_here(path.parent, tmp_path / "out") == 0
    assert not np.isnan(open_table(tmp_path / "out").feature_mean).any()
    soundfile.write(path, samples * np.nan, 16_000, subtype="FLOAT")
    for output in ("out", "new"):
        assert run_here(path.parent, tmp_path / output) == 3
    assert_same_bytes(tmp_path / "out", tmp_path / "new")


def test_folders_of_machines_need_not_be_text(tmp_path):
    write_clip(tmp_path / "raw" / "6_dB_f\udcffan" / "f\udcffan" / "id_00" / "normal" / "00000000.wav", 1, 32_000)
    assert run_here(tmp_path / "raw", tmp_path / "out") == 0
    assert open_table(tmp_path / "out").machine_type.values.tolist() == ["f\ufffdan"]


def test_other_recordings_of_the_same_names_and_lengths_are_another_table(tmp_path, capsys):
    for seed, folder in enumerate(("monday", "tuesday")):
        write_clip(tmp_path / folder / "0001.wav", seed, 32_000)
    assert run_here(tmp_path / "monday", tmp_path / "out") == 0
    assert run_here(tmp_path / "tuesday", tmp_path / "out") == 2
    assert "another table" in capsys.readouterr().err


def test_overwrite_goes_on_with_what_it_began(tmp_path, capsys):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 320_000)
    run_here(tmp_path / "raw", tmp_path / "out", "--preset", "autoencoder")
    assert run_here(tmp_path / "raw", tmp_path / "out") == 2
    assert run_here(tmp_path / "raw", tmp_path / "out", "--overwrite") == 0
    before = shard_files(tmp_path / "out")
    assert run_here(tmp_path / "raw", tmp_path / "out", "--overwrite") == 0
    assert shard_files(tmp_path / "out") == before
    assert len(re.findall(r"shards +0 computed", capsys.readouterr().out)) == 1
