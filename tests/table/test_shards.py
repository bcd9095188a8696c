"""One task: the rows that it writes, a clip at a time, and what it makes of a clip that cannot be read for now."""

import hashlib
import io
import re
import weakref
from functools import partial

import numpy as np
import soundfile

from jobs.progress import Lines
from mimii import engine
from mimii.engine import Cluster, steps
from mimii.features import FeatureSpec, decode, recording
from tests.helpers.commands import (
    MIB,
    assert_same_bytes,
    build,
    contents,
    featurize_here,
    fill,
    librosa_rows,
    open_table,
    output_at,
    plan_table,
    records_at,
    shard_files,
)
from tests.helpers.memory import allocates_at_most
from tests.helpers.recordings import noise, write_clip


def plan_of_80_seconds(folder):
    """Write three clips, 80 s in all; of the second one, rows are in several shards."""
    for seed, seconds in enumerate((20, 40, 20)):
        write_clip(folder / f"{seed}.wav", seed, 16_000 * seconds)
    return plan_table(folder)


def test_a_task_writes_the_rows_of_its_clips_and_which_clip_they_are_from(tmp_path):
    plan = plan_of_80_seconds(tmp_path / "raw")
    fill(plan, tmp_path / "out", [1])
    assert shard_files(tmp_path / "out").keys() == {1}
    table, shard = open_table(build(plan, tmp_path / "out")), plan.rows.spans(1)
    assert len(shard) == 2
    for span in shard:
        rows = slice(span.row, span.row + span.n_rows)
        expected = librosa_rows(tmp_path / "raw" / f"{span.clip}.wav")[span.start : span.stop]
        np.testing.assert_allclose(table.features.values[rows], expected, rtol=0, atol=1e-3)
        assert set(table.row_clip.values[rows]) == {span.clip}


def test_a_record_says_what_was_written_and_sums_the_rows_for_training(tmp_path):
    plan = plan_of_80_seconds(tmp_path / "raw")
    [record] = fill(plan, tmp_path / "out", [0])
    objects = contents(tmp_path / "out")
    mel_key = f"features/mel/0-{record.stamp.fingerprint}"
    assert record.written.keys() == {"features/c.0.0", "row_clip/c.0", mel_key}
    for key, one in record.written.items():
        assert (one.size, one.sha256) == (len(objects[key]), hashlib.sha256(objects[key]).hexdigest())
    rows = np.concatenate([librosa_rows(tmp_path / "raw" / f"{clip}.wav") for clip in range(3)])
    rows = rows[: plan.rows.layout.shard_rows].astype(float)
    sums = record.result["other"]  # no clip is for training
    assert sums["count"] == len(rows)
    np.testing.assert_allclose(sums["total"], rows.sum(axis=0), rtol=1e-5)
    np.testing.assert_allclose(sums["squares"], (rows**2).sum(axis=0), rtol=1e-5)
    assert records_at(plan, tmp_path / "out").keys() == {0}


def watch(monkeypatch):
    """Return what happens from now on: which clip is opened and closed, and whose samples are in memory at a block."""
    events, blocks = [], []

    class Watched(io.FileIO):
        def __init__(self, path):
            super().__init__(path)
            events.append(("open", path[-5]))

        def close(self):
            if not self.closed:
                events.append(("close", self.name[-5]))
            super().close()

    def read_blocks(file, header, channels, segment):
        name = file.name[-5]
        for block in decode.read_blocks(file, header, channels, segment):
            blocks.append((name, weakref.ref(block)))
            events.append(("samples", "".join(name for name, ref in blocks if ref() is not None)))
            yield block

    monkeypatch.setattr(steps, "open_all", lambda wanted, _: (partial(Watched, one.place.url) for one in wanted))
    monkeypatch.setattr(recording, "read_blocks", read_blocks)
    return events


def test_a_partition_streams_one_clip_after_the_other(tmp_path, monkeypatch):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 16_000)
    plan, events = plan_table(tmp_path / "raw"), watch(monkeypatch)
    assert plan.rows.n_shards == 1
    fill(plan, tmp_path / "out")
    assert events == [(what, clip) for clip in "0123" for what in ("open", "samples", "close")]


def test_of_a_long_clip_a_block_is_read_when_the_one_before_is_done(tmp_path, monkeypatch):
    for seed in range(2):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 5 << 19)  # blocks have 2**20 samples
    plan, events = plan_table(tmp_path / "raw", mib=32), watch(monkeypatch)
    assert plan.rows.n_shards == 1
    fill(plan, tmp_path / "out")
    steps_of_a_clip = [("open", 1), ("samples", 1), ("samples", 2), ("samples", 2), ("close", 1)]
    assert events == [(what, clip * n_blocks) for clip in "01" for what, n_blocks in steps_of_a_clip]


def test_progress_counts_a_bad_clip_that_straddles_shards_once(tmp_path, capsys):
    plan = plan_of_80_seconds(tmp_path / "raw")
    (tmp_path / "raw" / "1.wav").write_bytes(b"no longer audio")
    run = engine.run(output_at(plan, tmp_path / "out"), progress=Lines("shard"))
    assert sum(1 in record.bad for record in run.records.values()) > 1
    assert run.bad.keys() == {1}
    first, *_, last = capsys.readouterr().err.strip().splitlines()
    assert first == f"{plan.rows.n_shards} shards on 1 worker"
    assert last.startswith("3/3 clips")
    assert last.endswith("1 bad")


def test_the_last_line_says_how_many_are_bad(tmp_path, capsys):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed)
    plan = plan_table(tmp_path / "raw")
    (tmp_path / "raw" / "2.wav").write_bytes(b"no longer audio")
    engine.run(output_at(plan, tmp_path / "out"), progress=Lines("shard", 5))
    assert capsys.readouterr().err.strip().endswith(", 0 s left, 6 bad")


def test_progress_before_the_first_clip_is_finished_has_no_rate(capsys):
    lines = Lines("shard", interval=0)
    lines.start(2, 1, Cluster(None, 1))
    lines.advance(0, ())
    lines.advance(1, ())
    _, first, last = capsys.readouterr().err.splitlines()
    assert first == "0/1 clips, 0 clips/s, ? s left, 0 bad"
    assert last.startswith("1/1 clips")


def test_a_clip_that_could_not_be_read_for_now_is_tried_again(tmp_path):
    raw, moved, output = tmp_path / "raw", tmp_path / "elsewhere.wav", tmp_path / "out"
    for seed in range(6):
        write_clip(raw / f"{seed}.wav", seed, 160_000)
    plan = plan_table(raw)
    undisturbed = build(plan, tmp_path / "undisturbed")
    (raw / "3.wav").rename(moved)
    build(plan, output)
    moved.rename(raw / "3.wav")
    before = shard_files(output)
    assert featurize_here(raw, "--output", output) == 0
    after = shard_files(output)
    changed = [shard for shard in before if before[shard] != after[shard]]
    assert changed == [shard for shard in before if 3 in plan.rows.clips_of(shard)]
    for name in ("features", "row_clip"):
        assert_same_bytes(output / name, undisturbed / name)


def test_a_task_may_be_done_twice(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 160_000)
    plan = plan_table(tmp_path / "raw")
    once, twice = build(plan, tmp_path / "once"), build(plan, tmp_path / "twice")
    fill(plan, twice, [0])
    assert_same_bytes(once / "features", twice / "features")


def test_the_memory_for_an_hour_of_sound_is_bounded(tmp_path):
    rng = np.random.default_rng(5)
    with soundfile.SoundFile(tmp_path / "hour.wav", "w", 16_000, 1, subtype="PCM_16") as sound:
        minute = rng.integers(-3000, 3000, 960_000).astype(np.int16)
        for _ in range(60):
            sound.write(minute)
    plan = plan_table(tmp_path, mib=32)
    assert plan.rows.n_shards > 1
    with allocates_at_most(200 * MIB):
        [record] = fill(plan, tmp_path / "out", [1])
    assert not record.bad


def test_a_shard_keeps_only_the_frames_of_its_rows_of_a_long_clip(tmp_path):
    for seed in range(2):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 1_600_000 - 1000 * seed)
    spec = FeatureSpec(n_fft=256, hop_length=16, n_mels=32)
    plan = plan_table(tmp_path / "raw", spec)
    [shard] = [shard for shard in range(plan.rows.n_shards) if len(plan.rows.clips_of(shard)) == 2]
    n_bytes = 4 * spec.n_mels * 100_001  # of the spectrogram of one clip
    with allocates_at_most(4 * n_bytes):
        fill(plan, tmp_path / "out", [shard])


def test_statistics_of_a_clip_that_has_gone_bad_do_not_stay(tmp_path):
    path, samples = tmp_path / "raw" / "only.wav", noise(1, 320_000) / 32768
    path.parent.mkdir()
    soundfile.write(path, samples, 16_000, subtype="FLOAT")
    assert featurize_here(path.parent, "--output", tmp_path / "out") == 0
    assert not np.isnan(open_table(tmp_path / "out").feature_mean).any()
    soundfile.write(path, samples * np.nan, 16_000, subtype="FLOAT")
    for output in ("out", "new"):
        assert featurize_here(path.parent, "--output", tmp_path / output) == 3
    assert_same_bytes(tmp_path / "out", tmp_path / "new")


def test_folders_of_machines_need_not_be_text(tmp_path):
    write_clip(tmp_path / "raw" / "6_dB_f\udcffan" / "f\udcffan" / "id_00" / "normal" / "00000000.wav", 1, 32_000)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 0
    assert open_table(tmp_path / "out").machine_type.values.tolist() == ["f\ufffdan"]


def test_other_recordings_of_the_same_names_and_lengths_are_another_table(tmp_path, capsys):
    for seed, folder in enumerate(("monday", "tuesday")):
        write_clip(tmp_path / folder / "0001.wav", seed, 32_000)
    assert featurize_here(tmp_path / "monday", "--output", tmp_path / "out") == 0
    assert featurize_here(tmp_path / "tuesday", "--output", tmp_path / "out") == 2
    assert "another table" in capsys.readouterr().err


def test_overwrite_resumes_what_it_began(tmp_path, capsys):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 320_000)
    featurize_here(tmp_path / "raw", "--output", tmp_path / "out", "--preset", "autoencoder")
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 2
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out", "--overwrite") == 0
    before = shard_files(tmp_path / "out")
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out", "--overwrite") == 0
    assert shard_files(tmp_path / "out") == before
    assert len(re.findall(r"shards +0 computed", capsys.readouterr().out)) == 1
