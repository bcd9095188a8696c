"""The front door of tables: a plan says what there will be, and making it is what the command does."""

import json
import logging
import os

import numpy as np
import pytest
from distributed import Client

import mimii
from tests.helpers.commands import (
    MIB,
    assert_same_bytes,
    contents,
    featurize,
    fill,
    librosa_rows,
    open_table,
    record_numbers,
    rows_by_path,
    shard_files,
)
from tests.helpers.dask_processes import NO_DASHBOARD
from tests.helpers.recordings import write_clip, write_machines

SHORT_HOP = mimii.FeatureSpec(hop_length=32)
"""Makes 497 rows of a second of sound: two clips fill more than a shard of 1 MiB."""


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("make") / "raw"
    write_machines(folder, 8)
    (folder / "6_dB_fan" / "fan" / "id_00" / "normal" / "00000099.wav").write_bytes(b"not audio")
    return folder


def plan_of(raw, spec=SHORT_HOP, **how):
    return mimii.plan_table(mimii.find_recordings(str(raw)), spec, **{"shard_bytes": MIB} | how)


def test_a_plan_says_what_there_will_be(raw):
    plan = plan_of(raw)
    assert plan.rows.n_shards == 4
    assert repr(plan) == (
        "<TablePlan: 9 clips (1 cannot be used), 3,976 rows of 320 float32 values, 4 shards, 5.1 MB uncompressed>"
    )
    assert (plan.sources, plan.catalogue.spec) == ((str(raw),), SHORT_HOP)


def test_the_same_clips_have_the_same_plan_and_a_list_will_do(raw):
    clips = mimii.find_recordings(str(raw))
    one, other = (mimii.plan_table(some, SHORT_HOP) for some in (clips, list(clips)))
    assert one.fingerprint == other.fingerprint
    assert other.sources == ()


def test_nothing_is_read_or_written(tmp_path):
    write_machines(tmp_path / "moved", 4)
    clips = mimii.find_recordings(str(tmp_path / "moved"))
    (tmp_path / "moved").rename(tmp_path / "elsewhere")
    before = contents(tmp_path)
    assert mimii.plan_table(clips).rows.total_rows == 4 * 28
    assert contents(tmp_path) == before


def test_without_a_spec_it_is_explore_at_the_rate_of_most_clips(tmp_path):
    for seed, rate in enumerate((8000, 44_100, 44_100)):
        write_clip(tmp_path / f"{seed}.wav", seed, sample_rate=rate)
    plan = mimii.plan_table(mimii.find_recordings(str(tmp_path)))
    assert plan.catalogue.spec == mimii.FeatureSpec.preset("explore", sample_rate=44_100)
    assert plan.catalogue.problems == (
        "its sample rate is 8000 Hz, and the features are for 44100 Hz; --sample-rate resamples",
        "",
        "",
    )
    assert mimii.plan_table([]).catalogue.spec == mimii.FeatureSpec()


def test_clips_are_split_as_asked(raw):
    clips = mimii.find_recordings(str(raw))
    numbers = {clip.identity.number: index for index, clip in enumerate(clips)}
    baseline = mimii.plan_table(clips).catalogue.splits
    assert [baseline[numbers[number]] for number in (3, 7, 1, 5)] == ["test"] * 4  # id_02 has two faults of four clips
    assert [baseline[numbers[number]] for number in (0, 2, 4, 6)] == ["train"] * 4
    assert set(mimii.plan_table(clips, split="none").catalogue.splits) == {""}
    every, no = (mimii.plan_table(clips, split="stratified", train_fraction=share) for share in (1.0, 0.0))
    assert (set(every.catalogue.splits), set(no.catalogue.splits)) == ({"train"}, {"test"})
    plans = [mimii.plan_table(clips, split="stratified", train_fraction=0.5, seed=seed) for seed in range(9)]
    assert len({plan.catalogue.splits for plan in plans}) > 3


def test_a_spec_with_another_rate_than_most_clips_is_warned_of(raw, caplog):
    plan = plan_of(raw, mimii.FeatureSpec(sample_rate=8000))
    assert "the features are for 8000 Hz, and of the recordings, 8 have 16000 Hz: those at other rates" in caplog.text
    assert plan.rows.total_rows == 0


def test_mel_bands_without_a_frequency_are_warned_of(raw, caplog):
    plan_of(raw, mimii.FeatureSpec(n_fft=256, n_mels=128))
    assert "have no frequency bin at n_fft 256" in caplog.text


def test_a_split_that_leaves_no_clip_for_training_is_warned_of(tmp_path, caplog):
    write_clip(tmp_path / "abnormal" / "0.wav", 0)
    clips = mimii.find_recordings(str(tmp_path))
    mimii.plan_table(clips)
    assert "no clip is for training: the split baseline needs more normal clips" in caplog.text
    caplog.clear()
    mimii.plan_table(clips, split="none")
    assert not caplog.records


def test_a_usual_plan_warns_of_nothing(raw, caplog):
    with caplog.at_level(logging.WARNING):
        plan_of(raw)
    assert not caplog.records


def test_a_table_made_in_this_process_is_the_commands_byte_for_byte(raw, tmp_path):
    done = featurize(raw, tmp_path / "command", "--hop-length", 32, "--workers", 2)
    assert done.returncode == 3, done.stderr  # a clip is bad
    run = mimii.featurize(plan_of(raw), str(tmp_path / "here"))
    assert_same_bytes(tmp_path / "here", tmp_path / "command")
    assert (run.location, run.computed, list(run.records)) == (str(tmp_path / "here"), (0, 1, 2, 3), [0, 1, 2, 3])
    patterns = ("features/c.*", "features/mel/*", "row_clip/c.*")
    assert run.n_bytes == sum(path.stat().st_size for one in patterns for path in (tmp_path / "here").glob(one))


def test_a_client_of_dask_computes_the_same(raw, tmp_path):
    with Client(n_workers=1, threads_per_worker=1, processes=False, **NO_DASHBOARD) as client:
        mimii.featurize(plan_of(raw), str(tmp_path / "client"), client=client)
    mimii.featurize(plan_of(raw), str(tmp_path / "here"))
    assert_same_bytes(tmp_path / "client", tmp_path / "here")


def test_the_rows_of_the_table_are_those_of_librosa(raw, tmp_path):
    mimii.featurize(plan_of(raw), str(tmp_path / "out"))
    rows = rows_by_path(open_table(tmp_path / "out"))
    assert len(rows.pop("00000099.wav")) == 0
    for name, found in rows.items():
        [path] = raw.rglob(name)
        np.testing.assert_allclose(found, librosa_rows(path, hop_length=32), rtol=0, atol=1e-3)


def test_the_same_call_resumes(raw, tmp_path):
    plan, output = plan_of(raw), tmp_path / "out"
    fill(plan, output, [1, 3])
    before = shard_files(output)
    assert mimii.featurize(plan, str(output)).computed == (0, 2)
    assert {shard: shard_files(output)[shard] for shard in before} == before
    assert record_numbers(output) == [0, 1, 2, 3]
    again = mimii.featurize(plan, str(output))
    assert (again.computed, list(again.records)) == ((), [0, 1, 2, 3])


def test_another_table_is_refused_unless_it_is_to_be_overwritten(raw, tmp_path):
    output = str(tmp_path / "out")
    mimii.featurize(plan_of(raw), output)
    other = plan_of(raw, mimii.FeatureSpec(hop_length=64))
    with pytest.raises(mimii.StoreError, match="hop_length: 32 there, 64 now"):
        mimii.featurize(other, output)
    assert json.loads(mimii.open_table(output).attrs["spec"])["hop_length"] == 32
    mimii.featurize(other, output, overwrite=True)
    assert json.loads(mimii.open_table(output).attrs["spec"])["hop_length"] == 64


def test_a_clip_that_turns_out_bad_is_reported_and_keeps_its_rows_as_nan(tmp_path):
    paths = write_machines(tmp_path / "raw", 4)
    plan = plan_of(tmp_path / "raw")
    paths[2].write_bytes(b"no longer audio")
    run = mimii.featurize(plan, str(tmp_path / "out"))
    [(clip, problem)] = run.bad.items()
    table = open_table(tmp_path / "out")
    assert table.path.values[clip] == str(paths[2])
    assert "not audio" in problem
    assert table.status.values.tolist() == [problem if index == clip else "ok" for index in range(4)]
    assert (np.isnan(table.features.values).all(axis=1) == (table.row_clip.values == clip)).all()


def test_progress_counts_all_clips_once(raw, tmp_path):
    seen = []

    class Progress:
        def start(self, n_tasks, n_clips, cluster):
            seen.append((n_tasks, n_clips, cluster.n_workers))

        def advance(self, n_clips, bad):
            seen.append((n_clips, list(bad)))

        def end(self):
            seen.append("end")

    mimii.featurize(plan_of(raw), str(tmp_path / "out"), progress=Progress())
    first, *steps, last = seen
    assert (first, last, len(steps)) == ((4, 8, 1), "end", 4)
    assert sum(n_clips for n_clips, _ in steps) == 8
    assert not any(bad for _, bad in steps)


@pytest.mark.parametrize("split", ["baseline", "stratified"])
def test_clips_without_any_label_are_said_to_be_why_none_is_for_training(tmp_path, caplog, split):
    write_clip(tmp_path / "0.wav", 0)
    mimii.plan_table(mimii.find_recordings(tmp_path), split=split)
    assert "no clip is for training, as none has a label: name folders normal and abnormal" in caplog.text


def test_arguments_of_a_wrong_type_are_refused_with_what_to_give(raw, tmp_path):
    with pytest.raises(TypeError, match=r"clips must be what mimii\.find_recordings returns, not '.*raw'"):
        mimii.plan_table(str(raw))
    with pytest.raises(TypeError, match=r'such as mimii\.FeatureSpec\.preset\("explore"\), not \'explore\''):
        mimii.plan_table(mimii.find_recordings(raw), "explore")
    with pytest.raises(TypeError, match=r"a plan: mimii\.plan_table\(mimii\.find_recordings\(FOLDER\)\), not '.*raw'"):
        mimii.featurize(str(raw), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_plan_without_any_clip_is_refused(tmp_path):
    with pytest.raises(mimii.SourceError, match=r"the plan has no clips: mimii\.find_recordings has found none"):
        mimii.featurize(mimii.plan_table([]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_run_or_a_path_stands_for_the_table(raw, tmp_path):
    done = mimii.featurize(plan_of(raw), tmp_path / "out")
    assert os.fspath(done) == str(tmp_path / "out")
    for table in (done, tmp_path / "out"):
        assert mimii.open_table(table).sizes["clip"] == len(mimii.find_recordings(raw))
        assert next(mimii.batches(table, split="train")).features.shape[1] == 320
        assert mimii.verify(table).is_right
        assert mimii.verify(table, raw, sample=1).checks["librosa"].n == 1
