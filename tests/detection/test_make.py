"""The front door of detection: machines and clips as tables, the same as the command's, whatever labels there are."""

import csv
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

import mimii
from mimii.detection import KINDS, write_official
from mimii.detection.detectors import from_bytes, score
from mimii.detection.pooling import pool
from mimii.detection.training import training_as_dict
from mimii.recordings import list_recordings, synthesize, wav_bytes
from tests.detection.test_new_recordings import hum, machine, write
from tests.helpers.commands import assert_same_bytes, contents, open_table, run_here

pytestmark = pytest.mark.usefixtures("without_page")
NAMES = ["fan-id_00-6dB", "fan-id_02-6dB", "valve-id_00-6dB", "valve-id_02-6dB"]
SPEC = mimii.FeatureSpec(n_fft=512, hop_length=256, n_mels=16, scale="add_eps")
BOTH = mimii.Training(["neighbours", "pca"])
EXACT = ("score", "threshold", "pca_score", "pca_threshold")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Make 64 recordings of four machines, half a second each: 12 normal and 4 abnormal ones of each."""
    folder = tmp_path_factory.mktemp("machines") / "raw"
    for recording in list_recordings(64, ("fan", "valve"), (0, 2)):
        path = folder / recording.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(synthesize(recording.identity, 0.5)))
    return folder


def featurize(raw, output, split="baseline", spec=SPEC, **how):
    mimii.featurize(mimii.plan_table(mimii.find_recordings(raw, **how), spec, split=split), output)
    return str(output)


@pytest.fixture(scope="module")
def table(raw):
    return featurize(raw, raw.parent / "features.zarr")


@pytest.fixture(scope="module")
def report(table):
    return mimii.detect(table, f"{table}-detect", training=BOTH)


def model_of(report, name):
    return from_bytes((Path(report.output) / "models" / f"{name}.npz").read_bytes())


def test_a_line_for_each_machine_and_detector(report, table):
    frame = report.machines
    assert frame.machine.tolist() == [name for name in NAMES for _ in range(2)]
    assert frame.detector.tolist() == ["neighbours", "pca"] * 4
    assert frame.machine_type.unique().tolist() == ["fan", "valve"]
    assert (set(frame.snr_db), set(frame.channel)) == ({6.0}, {0})
    opened = open_table(table)
    for line in frame.itertuples():
        mine = (opened.machine_type.to_numpy() == line.machine_type) & (opened.machine_id.to_numpy() == line.machine_id)
        tested, label = mine & (opened.split.to_numpy() == "test"), opened.label.to_numpy()
        assert line.n_abnormal == (label[tested] == 1).sum() == 4
        assert line.n_normal == (label[tested] == 0).sum() == 4
        assert line.n_learned == line.n_threshold == (mine & (opened.split.to_numpy() == "train")).sum() == 8
        assert line.is_trusted == (line.n_learned >= 10)
        [detector] = [one for one in model_of(report, line.machine).detectors if one.kind == line.detector]
        assert line.threshold == detector.threshold
    published = frame[frame.detector == "pca"].published_auc
    assert [None if math.isnan(value) else value for value in published] == [0.745, 0.993, None, None]


def test_a_line_for_each_clip_the_highest_score_first(report, table):
    frame, opened = report.clips, open_table(table)
    assert list(frame.columns) == [
        *("path", "channel", "start_s", "recorded_at", "machine", "machine_type", "machine_id", "snr_db", "number"),
        *("label", "is_training", "score", "threshold", "rank", "verdict"),
        *("pca_score", "pca_threshold", "pca_rank", "pca_verdict"),
    ]
    assert sorted(frame.path) == sorted(opened.path.to_numpy().tolist())
    assert frame.score.is_monotonic_decreasing
    assert frame.index.tolist() == list(range(len(frame)))
    of_path = {str(one.path.values): one for one in (opened.isel(clip=clip) for clip in range(64))}
    for line in frame.itertuples():
        clip, model = of_path[line.path], model_of(report, line.machine)
        assert line.is_training == (str(clip.split.values) == "train")
        assert line.label == ("normal", "abnormal")[int(clip.label)]
        assert line.number == int(clip.number)
        assert line.path.split("/")[-4:-2] == line.machine.split("-")[:2]
        values = ((line.score, line.rank, line.verdict), (line.pca_score, line.pca_rank, line.pca_verdict))
        for one, (value, rank, verdict) in zip(model.detectors, values, strict=True):
            assert verdict == ("abnormal" if value > one.threshold else "normal")
            assert rank == np.mean([normal < value for normal in one.normal_scores])
            if line.is_training:
                assert value in one.normal_scores
            else:
                pooled = pool(mimii.log_mel(line.path, SPEC), model.pooling)
                assert value == score(pooled, one, model.pooling)


def test_machines_are_evaluated_by_the_scores_of_their_test_clips(report):
    clips = report.clips[~report.clips.is_training]
    for line in report.machines.itertuples():
        mine, prefix = clips[clips.machine == line.machine], "pca_" if line.detector == "pca" else ""
        is_abnormal, scores = mine.label == "abnormal", mine[f"{prefix}score"]
        assert line.auc == pytest.approx(roc_auc_score(is_abnormal, scores))
        assert line.partial_auc == pytest.approx(roc_auc_score(is_abnormal, scores, max_fpr=0.1))
        assert line.auc_low <= line.auc <= line.auc_high
        is_alarm = mine[f"{prefix}verdict"] == "abnormal"
        assert line.true_alarms == (is_alarm & is_abnormal).sum()
        assert line.false_alarms == (is_alarm & ~is_abnormal).sum()
        assert line.recall == pytest.approx((is_alarm & is_abnormal).sum() / is_abnormal.sum())


def test_abnormal_clips_are_found(report):
    assert report.machines[report.machines.detector == "neighbours"].auc.mean() > 0.9


def test_what_is_written_says_the_same(report):
    folder = Path(report.output)
    assert set(contents(folder)) == {
        *(f"models/{name}.npz" for name in NAMES),
        *(f"outcomes/{name}.json" for name in NAMES),
        *("detect.json", "scores.csv", "results.csv", "report.html"),
    }
    scores = pd.read_csv(folder / "scores.csv", converters=dict.fromkeys(EXACT, float))
    opened = report.clips.set_index("path").loc[scores.path]
    for name in EXACT:
        assert scores[name].tolist() == opened[name].tolist()
    assert scores.is_training.tolist() == opened.is_training.tolist()
    results = pd.read_csv(folder / "results.csv")
    assert results.machine.tolist() == [*report.machines.machine, "average", "average"]
    for kind, mean in mimii.detection.averages(report.results).items():
        line = results[(results.machine == "average") & (results.detector == kind)]
        of_kind = report.machines[report.machines.detector == kind]
        assert line.auc.item() == pytest.approx(of_kind.auc.mean()) == pytest.approx(mean["auc"])
    about = json.loads((folder / "detect.json").read_text())
    attributes = about.get("attributes", about)
    assert attributes["training"]["kinds"] == ["neighbours", "pca"]


def test_what_was_done_is_known(report, table):
    assert (report.output, report.run.computed) == (f"{table}-detect", (0, 1, 2, 3))
    assert repr(report) == f"<Report: 4 machines, {table}-detect/report.html>"
    assert (Path(report.output) / "report.html").read_text().split() == NAMES


def test_a_second_call_learns_nothing_and_reports_the_same(report, table):
    before = contents(Path(report.output))
    again = mimii.detect(table, report.output, training=BOTH)
    assert again.run.computed == ()
    pd.testing.assert_frame_equal(again.clips, report.clips)
    pd.testing.assert_frame_equal(again.machines, report.machines)
    assert contents(Path(report.output)) == before


def test_results_are_those_of_the_command_byte_for_byte(report, table, tmp_path):
    done = run_here("detect", table, "--output", tmp_path / "out", "--model", "neighbours", "pca", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same_bytes(tmp_path / "out", Path(report.output))
    assert all(name in done.stdout for name in NAMES)


def test_results_are_beside_the_table_where_no_output_is_named(table, tmp_path, monkeypatch):
    shutil.copytree(table, tmp_path / "some" / "features.zarr")
    assert mimii.detect(f"{tmp_path}/some/features.zarr/").output == f"{tmp_path}/some/detect"
    monkeypatch.chdir(tmp_path / "some")
    assert mimii.detect(Path("features.zarr")).run.computed == ()
    with pytest.raises(ValueError, match="the table is a whole bucket, so no results can be beside it; name an output"):
        mimii.detect("s3://bucket")


def test_other_results_are_refused_unless_they_are_to_be_overwritten(report, table, tmp_path):
    shutil.copytree(report.output, tmp_path / "out")
    other = mimii.Training(["neighbours", "pca"], threshold="quantile 0.5")
    with pytest.raises(
        mimii.StoreError, match=r"another run of detection[\s\S]*threshold: sigma 3 there, quantile 0.5 now"
    ):
        mimii.detect(table, tmp_path / "out", training=other)
    assert contents(tmp_path / "out") == contents(Path(report.output))
    mimii.detect(table, tmp_path / "out", training=other, overwrite=True)
    assert_same_bytes(tmp_path / "out", Path(mimii.detect(table, tmp_path / "new", training=other).output))


def test_results_of_another_table_or_of_other_features_are_refused(report, table, raw, tmp_path):
    shutil.copytree(report.output, tmp_path / "out")
    shutil.copytree(table, tmp_path / "t.zarr")
    with pytest.raises(
        mimii.StoreError, match=r"another run of detection[\s\S]*table: .*features.zarr there, .*t.zarr now"
    ):
        mimii.detect(tmp_path / "t.zarr", tmp_path / "out", training=BOTH)
    mimii.detect(tmp_path / "t.zarr", tmp_path / "out", training=BOTH, overwrite=True)
    plan = mimii.plan_table(mimii.find_recordings(raw), SPEC.changed(n_mels=8))
    mimii.featurize(plan, tmp_path / "t.zarr", overwrite=True)
    with pytest.raises(mimii.StoreError, match=r"another run of detection[\s\S]*n_mels: 16 there, 8 now"):
        mimii.detect(tmp_path / "t.zarr", tmp_path / "out", training=BOTH)


def test_of_a_table_that_has_grown_only_what_changed_is_learned_again(tmp_path):
    for index, name in enumerate(("press7", "press8", "press9")):
        machine(tmp_path / f"raw/{name}", 100 * index, 6, 2)
    aside = shutil.move(tmp_path / "raw/press9", tmp_path / "press9")
    featurize(tmp_path / "raw", tmp_path / "t.zarr", "stratified")
    assert mimii.detect(tmp_path / "t.zarr").run.computed == (0, 1)
    shutil.move(aside, tmp_path / "raw/press9")
    write(tmp_path / "raw/press8/normal/900.wav", hum(900))
    plan = mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), SPEC, split="stratified")
    mimii.featurize(plan, tmp_path / "t.zarr", update=True)
    again = mimii.detect(tmp_path / "t.zarr")
    assert again.run.computed == (1, 2)
    assert again.machines.machine.tolist() == ["press7", "press8", "press9"]
    assert_same_bytes(tmp_path / "detect", Path(mimii.detect(tmp_path / "t.zarr", tmp_path / "anew").output))


def test_models_of_machines_that_are_gone_are_deleted(tmp_path):
    machine(tmp_path / "raw/press7", 0, 6, 2)
    machine(tmp_path / "raw/press8", 100, 6, 2)
    featurize(tmp_path / "raw", tmp_path / "t.zarr")
    mimii.detect(tmp_path / "t.zarr")
    shutil.rmtree(tmp_path / "raw/press8")
    plan = mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), SPEC)
    mimii.featurize(plan, tmp_path / "t.zarr", update=True, prune=True)
    assert mimii.detect(tmp_path / "t.zarr").machines.machine.tolist() == ["press7"]
    assert {key for key in contents(tmp_path / "detect") if "/" in key} == {"models/press7.npz", "outcomes/press7.json"}


def test_a_table_that_is_not_there_or_has_no_normal_clip_is_refused(raw, tmp_path):
    with pytest.raises(mimii.StoreError, match="there is no table of features"):
        mimii.detect(tmp_path / "none", tmp_path / "out")
    abnormal = [path for path in raw.rglob("abnormal") if "fan" in str(path)]
    featurize(abnormal, tmp_path / "abnormal")
    with pytest.raises(mimii.StoreError, match=r"no normal clip to learn from\. Add normal recordings, or label "):
        mimii.detect(tmp_path / "abnormal", tmp_path / "out")
    machine(tmp_path / "few/press7", 0, 2, 3)
    featurize(tmp_path / "few", tmp_path / "tests")
    with pytest.raises(mimii.StoreError, match=r"normal clips \(2\) are all for testing: add more .* --split none"):
        mimii.detect(tmp_path / "tests", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_machines_without_normal_clips_are_named_and_left_out(raw, tmp_path, caplog):
    shutil.copytree(raw / "6_dB_fan/fan/id_00", tmp_path / "raw/6_dB_fan/fan/id_00")
    shutil.copytree(raw / "6_dB_fan/fan/id_02/abnormal", tmp_path / "raw/6_dB_fan/fan/id_02/abnormal")
    report = mimii.detect(featurize(tmp_path / "raw", tmp_path / "table"))
    assert report.machines.machine.tolist() == ["fan-id_00-6dB"]
    assert "1 machine has no normal clip to learn from and is skipped: fan-id_02-6dB" in caplog.text
    caplog.clear()
    shutil.copytree(raw / "6_dB_valve/valve/id_02/abnormal", tmp_path / "raw/6_dB_valve/valve/id_02/abnormal")
    mimii.detect(featurize(tmp_path / "raw", tmp_path / "other"), tmp_path / "out")
    expected = "2 machines have no normal clip to learn from and are skipped: fan-id_02-6dB, valve-id_02-6dB"
    assert expected in caplog.text


@pytest.mark.parametrize("kind", KINDS)
def test_a_table_without_labels_is_taken_for_normal_with_a_warning(tmp_path, caplog, kind):
    for seed in range(9):
        write(tmp_path / "raw" / f"{seed}.wav", hum(seed, tone=[(0, 8000)] if seed == 4 else ()))
    table = featurize(tmp_path / "raw", tmp_path / "t.zarr", "none")
    report = mimii.detect(table, training=mimii.Training(kind, epochs=2))
    assert "9 clips of no known machine are taken for one machine, which is called all; name" in caplog.text
    assert "all: none of its clips has a label, so all are taken for normal" in caplog.text
    [machine] = report.machines.itertuples()
    assert (machine.machine, machine.n_learned, machine.n_threshold, machine.is_trusted) == ("all", 9, 9, False)
    assert (machine.n_normal, machine.n_abnormal, math.isnan(machine.auc)) == (0, 0, True)
    assert len(report.clips) == 9
    assert report.clips.is_training.all()
    assert set(report.clips.label) == {"unknown"}
    assert Path(report.clips.path[0]).stem == "4"


def test_several_machines_without_labels_are_warned_of_together(tmp_path, caplog):
    for seed in range(8):
        write(tmp_path / f"raw/m{seed % 2}/{seed}.wav", hum(seed))
    featurize(tmp_path / "raw", tmp_path / "t.zarr", "none", layout="{machine_id}/*.wav")
    assert len(mimii.detect(tmp_path / "t.zarr").results) == 2
    assert "2 machines, such as m0: none of their clips has a label, so all are taken for normal" in caplog.text


def test_labelled_clips_in_no_split_are_learned_from_and_tested(tmp_path, caplog):
    machine(tmp_path / "raw/press7", 0, 8, 3)
    report = mimii.detect(featurize(tmp_path / "raw", tmp_path / "t.zarr", "none"))
    assert report.clips[report.clips.is_training].label.tolist() == ["normal"] * 8
    assert report.clips[~report.clips.is_training].label.tolist() == ["abnormal"] * 3
    assert math.isnan(report.machines.auc[0])
    assert report.machines.recall[0] == 1
    assert not caplog.records


def test_a_machine_whose_normal_clips_for_testing_are_all_bad_is_warned_of(tmp_path, caplog):
    machine(tmp_path / "raw/press7", 0, 8, 3)
    machine(tmp_path / "raw/press8", 20, 8, 3)
    for path in sorted((tmp_path / "raw/press7/normal").iterdir())[:3]:
        path.write_bytes(b"no recording")
    report = mimii.detect(featurize(tmp_path / "raw", tmp_path / "t.zarr"))
    assert "WARNING" in caplog.text
    assert "press7: no normal clip for testing can be used (see the column status), so there" in caplog.text
    assert "press8" not in caplog.text
    of_press7, of_press8 = report.machines.itertuples()
    assert (of_press7.n_normal, of_press7.n_abnormal, of_press7.true_alarms, of_press7.recall) == (0, 3, 3, 1)
    assert all(map(math.isnan, (of_press7.auc, of_press7.precision, of_press7.f1)))
    assert (of_press8.n_normal, of_press8.auc) == (3, 1)


@pytest.mark.parametrize("kind", KINDS)
def test_of_a_single_clip_there_is_a_model_and_nothing_to_say(tmp_path, kind):
    write(tmp_path / "raw/press7/normal/0.wav", hum(1))
    report = mimii.detect(
        featurize(tmp_path / "raw", tmp_path / "t.zarr", "none"), training=mimii.Training(kind, epochs=2)
    )
    [line] = report.machines.itertuples()
    assert (line.n_learned, line.n_threshold, line.threshold, line.is_trusted) == (1, 0, math.inf, False)
    assert len(report.clips) == 0
    assert {"path", "score", "verdict", "recorded_at"} <= set(report.clips.columns)
    assert (tmp_path / "detect/scores.csv").read_text().startswith("path,channel,start_s,")
    assert mimii.detection.untrusted(report.results) == ["press7 (0)"]
    found = mimii.score(tmp_path / "raw", report).clips
    assert (found.verdict.tolist(), found.alarm.tolist(), found.status.tolist()) == (["unknown"], [False], ["ok"])


@pytest.mark.parametrize("n_clips", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_of_three_clips_there_is_a_threshold_and_of_two_a_score(tmp_path, n_clips, kind):
    for seed in range(n_clips):
        write(tmp_path / f"raw/press7/normal/{seed}.wav", hum(seed))
    write(tmp_path / "raw/press7/abnormal/9.wav", hum(9, tone=[(0, 8000)]))
    report = mimii.detect(
        featurize(tmp_path / "raw", tmp_path / "t.zarr", "none"), training=mimii.Training(kind, epochs=2)
    )
    assert np.isfinite(report.clips.score).all()
    assert len(report.clips) == n_clips + 1
    assert np.isfinite(report.clips.threshold).all() == (n_clips == 3)
    assert ("unknown" in set(report.clips.verdict)) == (n_clips == 2)


def test_a_table_deaf_to_level_is_warned_of(tmp_path, caplog):
    machine(tmp_path / "raw/press7", 0, 4, 1)
    mimii.detect(featurize(tmp_path / "raw", tmp_path / "t.zarr", spec=SPEC.changed(scale="ref_max")))
    assert "do not say how loud a clip is (scale ref_max)" in caplog.text


def test_kinds_of_detectors_that_there_are_not_are_refused_with_those_there_are():
    with pytest.raises(
        mimii.LearningError, match="no kind of detector 'make'; there are neighbours, mahalanobis, auto"
    ):
        mimii.Training("make")
    with pytest.raises(mimii.LearningError, match="name one kind of detector or several, each once, not pca, pca"):
        mimii.Training(["pca", "pca"])
    with pytest.raises(mimii.LearningError, match="each once, not none"):
        mimii.Training([])
    for how in ({"epochs": 0}, {"seed": -1}):
        with pytest.raises(mimii.LearningError, match=r"(epochs must be at least 1|seed must be at least 0), not"):
            mimii.Training(**how)


def test_epochs_matter_to_networks_alone():
    few, many = ([training_as_dict(mimii.Training(kind, epochs)) for kind in KINDS] for epochs in (3, 4))
    different = [kind for kind, one, other in zip(KINDS, few, many, strict=True) if one != other]
    assert different == ["autoencoder", "autoencoder-mahalanobis"]


@pytest.fixture(scope="module")
def dcase(tmp_path_factory):
    """Make a machine as the challenge has it from 2022 on: two domains, and noise alone."""
    folder = tmp_path_factory.mktemp("challenge")
    for index in range(24):
        domain = "target" if index % 3 == 2 else "source"
        write(folder / f"raw/fan/train/section_00_{domain}_train_normal_{index:04d}_speed_{index % 2}.wav", hum(index))
    for index in range(12):
        domain, label = ("source", "target")[index % 2], ("normal", "anomaly")[index // 6]
        sound = hum(100 + index, tone=[(0, 400 * index)] if label == "anomaly" else ())
        write(folder / f"raw/fan/test/section_00_{domain}_test_{label}_{index:04d}.wav", sound)
    write(folder / "raw/fan/supplemental/section_00_noise_0000_.wav", hum(300))
    table = featurize(folder / "raw", folder / "t.zarr")
    return mimii.detect(table, training=mimii.Training("neighbours", threshold="gamma 0.9"))


def test_the_scores_of_a_challenge_are_those_of_its_rules(dcase):
    official = write_official(dcase, "dcase2024")
    clips = dcase.clips[~dcase.clips.is_training & (dcase.clips.label != "unknown")]
    is_abnormal, is_source = clips.label == "abnormal", clips.path.str.contains("source")
    aucs = [
        roc_auc_score(is_abnormal[of], clips.score[of]) for of in (is_source | is_abnormal, ~is_source | is_abnormal)
    ]
    p_auc = roc_auc_score(is_abnormal, clips.score, max_fpr=0.1)
    assert official.total == pytest.approx(3 / sum(1 / value for value in (*aucs, p_auc)))
    assert (official.year, official.n_missing) == ("dcase2024", 0)


def test_result_files_have_the_test_clips_alone(dcase):
    write_official(dcase, "dcase2025")
    folder = Path(dcase.output, "official/dcase2025")
    names = {"anomaly_score_fan_section_00_test.csv", "decision_result_fan_section_00_test.csv", "official.csv"}
    assert {path.name for path in folder.iterdir()} == names
    scores = {Path(line.path).name: line for line in dcase.clips.itertuples()}
    found = list(csv.reader((folder / "anomaly_score_fan_section_00_test.csv").read_text().splitlines()))
    assert sorted(name for name, _ in found) == sorted(name for name in scores if "_test_" in name)
    assert all(float(value) == pytest.approx(scores[name].score) for name, value in found)
    decisions = dict(csv.reader((folder / "decision_result_fan_section_00_test.csv").read_text().splitlines()))
    assert {name: value == "1" for name, value in decisions.items()} == {
        name: scores[name].verdict == "abnormal" for name in decisions
    }


def test_what_is_no_challenge_is_refused(dcase, tmp_path):
    with pytest.raises(ValueError, match="dcase1999"):
        write_official(dcase, "dcase1999")
    machine(tmp_path / "raw/press7", 0, 6, 2)
    for spec in (SPEC.changed(segment=0.25), SPEC.changed(channel="all")):
        report = mimii.detect(
            featurize(tmp_path / "raw", tmp_path / str(spec.channel), spec=spec), tmp_path / f"d{spec.channel}"
        )
        with pytest.raises(mimii.StoreError, match="make a table of one channel and without segments"):
            write_official(report, "dcase2024")


def test_machines_of_one_type_and_section_are_refused(raw, tmp_path):
    for snr in ("6_dB", "0_dB"):
        shutil.copytree(raw / "6_dB_fan/fan/id_00", tmp_path / f"raw/{snr}_fan/fan/id_00")
    report = mimii.detect(featurize(tmp_path / "raw", tmp_path / "t.zarr"))
    with pytest.raises(mimii.StoreError, match="detect: "):
        write_official(report, "dcase2020")
