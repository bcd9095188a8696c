"""The front door of detection: machines and clips as tables, and scores of new recordings by the same models."""

import logging
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import mimii
from mimii.detection import KINDS
from mimii.detection.detectors import from_bytes, score_clip
from mimii.detection.learning import training_as_dict
from mimii.recordings import list_recordings, synthesize, wav_bytes
from tests.helpers.commands import assert_same_bytes, contents, open_table, run_here
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client

pytestmark = pytest.mark.usefixtures("drawn_once")
PCA = mimii.Training("pca")
NAMES = ["fan-id_00-6dB", "fan-id_02-6dB", "valve-id_00-6dB", "valve-id_02-6dB"]


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Make 40 recordings of four machines, a second each: 8 normal and 2 abnormal ones of each."""
    folder = tmp_path_factory.mktemp("machines") / "raw"
    for recording in list_recordings(40, ("fan", "valve"), (0, 2)):
        path = folder / recording.path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(wav_bytes(synthesize(recording.identity, 1.0)))
    return folder


@pytest.fixture(scope="module")
def table(raw):
    url = str(raw.parent / "features.zarr")
    mimii.featurize(mimii.plan_table(mimii.find_recordings(str(raw))), url)
    return url


@pytest.fixture(scope="module")
def report(table):
    return mimii.detect(table, f"{table}-detect", training=PCA)


def by_path(opened, name):
    """Return a column of a table, by the path of the clip."""
    return dict(zip(opened.path.to_numpy().tolist(), opened[name].to_numpy().tolist(), strict=True))


def model(report, name):
    return from_bytes((Path(report.output) / "models" / f"{name}.npz").read_bytes())


def test_a_line_for_each_machine(report, table):
    frame = report.machines
    assert frame.machine.tolist() == NAMES
    assert [list(frame[name]) for name in ("machine_type", "machine_id")] == [
        ["fan", "fan", "valve", "valve"],
        ["id_00", "id_02"] * 2,
    ]
    assert set(frame.snr_db) == {6.0}
    opened = open_table(table)
    for line in frame.itertuples():
        mine = (opened.machine_type.to_numpy() == line.machine_type) & (opened.machine_id.to_numpy() == line.machine_id)
        tested = mine & (opened.split.to_numpy() == "test")
        assert line.n_abnormal == (opened.label.to_numpy()[tested] == 1).sum() > 0
        assert line.n_normal == (opened.label.to_numpy()[tested] == 0).sum() > 0
        n_train = (mine & (opened.split.to_numpy() == "train")).sum()
        assert line.n_learned == (n_train if n_train < 6 else n_train - 3)
        assert line.threshold == model(report, line.machine).threshold
    published = [0.745, 0.993, None, None]
    assert [None if math.isnan(value) else value for value in frame.published_auc] == published


def test_a_line_for_each_test_clip_the_highest_score_first(report, table):
    frame, opened = report.clips, open_table(table)
    assert list(frame.columns) == ["path", "channel", "start_s", "machine", "label", "score", "threshold", "verdict"]
    assert sorted(frame.path) == sorted(opened.path.to_numpy()[opened.split.to_numpy() == "test"].tolist())
    assert frame.score.is_monotonic_decreasing
    assert frame.index.tolist() == list(range(len(frame)))
    labels, first, n_rows = (by_path(opened, name) for name in ("label", "first_row", "n_rows"))
    for line in frame.itertuples():
        assert line.machine in NAMES
        detector = model(report, line.machine)
        assert line.path.split("/")[-4:-2] == line.machine.split("-")[:2]
        rows = opened.features.to_numpy()[first[line.path] :][: n_rows[line.path]]
        assert line.score == score_clip(rows, detector)
        assert line.threshold == detector.threshold
        assert line.label == ("normal", "abnormal")[labels[line.path]]
        assert line.verdict == ("abnormal" if line.score > line.threshold else "normal")


def test_machines_are_evaluated_by_the_scores_of_their_clips(report):
    clips = report.clips
    for line in report.machines.itertuples():
        mine = clips[clips.machine == line.machine]
        normal, abnormal = (mine.score[mine.label == label].to_numpy() for label in ("normal", "abnormal"))
        pairs = (abnormal[:, np.newaxis] > normal).mean() + 0.5 * (abnormal[:, np.newaxis] == normal).mean()
        assert line.auc == pytest.approx(pairs)
        alarms = mine[mine.verdict == "abnormal"]
        hits = (alarms.label == "abnormal").sum()
        assert line.recall == pytest.approx(hits / len(abnormal))
        assert math.isnan(line.precision) if alarms.empty else line.precision == pytest.approx(hits / len(alarms))


def test_abnormal_clips_are_found(report):
    assert report.machines.auc.mean() > 0.9


def test_what_was_done_is_known(report, table):
    assert (report.output, report.run.computed) == (f"{table}-detect", (0, 1, 2, 3))
    assert repr(report) == f"<Report: 4 machines, {table}-detect/report.html>"
    assert (Path(report.output) / "report.html").read_text().count(NAMES[0]) > 0


def test_a_second_call_learns_nothing_and_reports_the_same(report, table):
    before = contents(Path(report.output))
    again = mimii.detect(table, report.output, training=PCA)
    assert again.run.computed == ()
    pd.testing.assert_frame_equal(again.clips, report.clips)
    pd.testing.assert_frame_equal(again.machines, report.machines)
    assert contents(Path(report.output)) == before


def test_results_are_those_of_the_command_byte_for_byte(report, table, tmp_path):
    done = run_here("detect", table, "--output", tmp_path / "out", "--model", "pca", "--workers", 2)
    assert done.returncode == 0, done.stderr
    assert_same_bytes(tmp_path / "out", Path(report.output))


def test_results_are_beside_the_table_where_no_output_is_named(table, tmp_path, monkeypatch):
    shutil.copytree(table, tmp_path / "some" / "features.zarr")
    assert mimii.detect(f"{tmp_path}/some/features.zarr/", training=PCA).output == f"{tmp_path}/some/detect"
    monkeypatch.chdir(tmp_path / "some")
    assert mimii.detect("features.zarr", training=PCA).run.computed == ()


def test_other_results_are_refused_unless_they_are_to_be_overwritten(report, table, tmp_path):
    shutil.copytree(report.output, tmp_path / "out")
    seven = mimii.Training("pca", seed=7)
    with pytest.raises(mimii.StoreError, match=r"another run of detection[\s\S]*seed: 0 there, 7 now"):
        mimii.detect(table, str(tmp_path / "out"), training=seven)
    assert contents(tmp_path / "out") == contents(Path(report.output))
    mimii.detect(table, str(tmp_path / "out"), training=seven, overwrite=True)
    assert_same_bytes(tmp_path / "out", Path(mimii.detect(table, str(tmp_path / "new"), training=seven).output))


def test_features_are_scaled_by_the_statistics_of_the_table_where_asked(table, tmp_path):
    normalized = mimii.detect(table, str(tmp_path / "out"), training=mimii.Training("pca", normalize=True))
    opened, detector = open_table(table), model(normalized, NAMES[0])
    np.testing.assert_array_equal(detector.shift, opened.feature_mean.to_numpy().astype("f4"))
    np.testing.assert_array_equal(detector.scale, opened.feature_std.to_numpy().astype("f4"))


def test_a_table_that_is_not_there_or_has_no_split_is_refused(raw, tmp_path):
    with pytest.raises(mimii.StoreError, match="there is no table of features"):
        mimii.detect(str(tmp_path / "none"), str(tmp_path / "out"))
    plan = mimii.plan_table(mimii.find_recordings(str(raw / "6_dB_fan")), split="none")
    mimii.featurize(plan, str(tmp_path / "unsplit"))
    with pytest.raises(mimii.StoreError, match=r"no normal clip is for training[\s\S]*--split baseline"):
        mimii.detect(str(tmp_path / "unsplit"), str(tmp_path / "out"))
    assert not (tmp_path / "out").exists()


def test_machines_without_normal_clips_for_training_are_warned_of_and_left_out(raw, tmp_path, caplog):
    for label in ("abnormal", "normal"):
        shutil.copytree(raw / f"6_dB_fan/fan/id_00/{label}", tmp_path / f"raw/6_dB_fan/fan/id_00/{label}")
    shutil.copytree(raw / "6_dB_fan/fan/id_02/abnormal", tmp_path / "raw/6_dB_fan/fan/id_02/abnormal")
    mimii.featurize(mimii.plan_table(mimii.find_recordings(str(tmp_path / "raw"))), str(tmp_path / "table"))
    report = mimii.detect(str(tmp_path / "table"), training=PCA)
    assert report.machines.machine.tolist() == ["fan-id_00-6dB"]
    assert "1 machine without a normal clip for training: fan-id_02-6dB" in caplog.text


def test_an_unknown_kind_of_detector_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no kind of detector 'make'; there are autoencoder, pca, knn"):
        mimii.Training("make")


def test_epochs_matter_to_an_autoencoder_alone():
    few, many = ([training_as_dict(mimii.Training(kind, epochs)) for kind in KINDS] for epochs in (3, 4))
    assert [one == other for one, other in zip(few, many, strict=True)] == [kind != "autoencoder" for kind in KINDS]


def test_new_recordings_score_as_they_do_in_the_table(report, raw):
    scores = mimii.score(str(raw), report)
    assert list(scores.columns) == ["path", "model", "score", "threshold", "verdict", "status"]
    assert scores.path.tolist() == sorted(map(str, raw.rglob("*.wav")))
    assert set(scores.status) == {"ok"}
    by_path = scores.set_index("path")
    for line in report.clips.itertuples():
        new = by_path.loc[line.path]
        assert (new.model, new.score, new.threshold, new.verdict) == (
            *(line.machine, line.score, line.threshold, line.verdict),
        )


@pytest.mark.parametrize("how", ["a list of sources", "clips", "a list of clips"])
def test_recordings_may_be_sources_or_clips(report, raw, how):
    folders = [str(raw / "6_dB_fan/fan/id_00"), str(raw / "6_dB_valve")]
    found = mimii.find_recordings(*folders)
    given = {"a list of sources": folders, "clips": found, "a list of clips": list(found)[::-1]}[how]
    scores = mimii.score(given, report)
    expected = mimii.score(str(raw), report).set_index("path").loc[scores.path].reset_index()
    pd.testing.assert_frame_equal(scores, expected)
    assert scores.path.tolist() == [clip.path for clip in (given if how != "a list of sources" else found)]


def test_models_may_be_a_report_its_output_or_one_file(report, raw):
    fan = str(raw / "6_dB_fan/fan/id_02")
    scores = mimii.score(fan, report)
    pd.testing.assert_frame_equal(mimii.score(fan, report.output), scores)
    pd.testing.assert_frame_equal(mimii.score(fan, f"{report.output}/models/fan-id_02-6dB.npz"), scores)
    one = mimii.score(fan, f"{report.output}/models/valve-id_00-6dB.npz")
    assert set(one.model) == {"valve-id_00-6dB"}
    assert not np.isclose(one.score, scores.score).any()


def test_more_clips_than_a_task_takes_are_scored_in_their_order(report, tmp_path):
    paths = [write_clip(tmp_path / f"6_dB_fan/fan/id_00/normal/{seed:08d}.wav", seed, 3000) for seed in range(70)]
    scores = mimii.score(str(tmp_path), report)
    assert scores.path.tolist() == list(map(str, paths))
    detector = model(report, "fan-id_00-6dB")
    for path, found in zip(paths[::23], scores.score[::23], strict=True):
        decibel = mimii.log_mel(path)
        rows = np.stack([decibel[row : row + 5].ravel() for row in range(len(decibel) - 4)])
        assert found == pytest.approx(score_clip(rows, detector), rel=1e-6)


def test_what_cannot_be_scored_has_the_reason_and_no_score(report, raw, tmp_path):
    good = next(raw.glob("6_dB_fan/fan/id_00/normal/*.wav")).read_bytes()
    for name, data in {
        "6_dB_fan/fan/id_00/normal/1.wav": good,
        "6_dB_fan/fan/id_00/normal/2.wav": b"",
        "6_dB_fan/fan/id_00/normal/3.wav": good,
        "6_dB_fan/fan/id_06/normal/4.wav": good,
        "0_dB_fan/fan/id_00/normal/5.wav": good,
        "fan/id_00/normal/6.wav": good,
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(data)
    clips = mimii.find_recordings(str(tmp_path))
    (tmp_path / "6_dB_fan/fan/id_00/normal/3.wav").write_bytes(b"no longer audio")
    scores = {Path(line.path).stem: line for line in mimii.score(clips, report).itertuples()}
    assert {stem: line.status == "ok" for stem, line in scores.items()} == {
        "1": True,
        "2": False,
        "3": False,
        "4": False,
        "5": False,
        "6": True,  # the SNR is another; it is not known
    }
    assert scores["2"].status == "empty file"
    assert "not audio" in scores["3"].status
    assert scores["4"].status == scores["5"].status == "no model of this machine"
    assert scores["6"].model == "fan-id_00-6dB"
    for stem in "2345":
        assert (math.isnan(scores[stem].score), math.isnan(scores[stem].threshold), scores[stem].verdict) == (1, 1, "")


def test_no_recordings_and_no_models_are_refused(report, raw, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(mimii.SourceError, match="empty: no recordings there"):
        mimii.score(str(tmp_path / "empty"), report)
    with pytest.raises(mimii.StoreError, match="empty: no model there"):
        mimii.score(str(raw), str(tmp_path / "empty"))
    with pytest.raises(mimii.StoreError, match=r"missing\.npz.*there is no such model"):
        mimii.score(str(raw), str(tmp_path / "missing.npz"))
    (tmp_path / "torn.npz").write_bytes(b"PK")
    with pytest.raises(mimii.StoreError, match=r"torn\.npz: not a model"):
        mimii.score(str(raw), str(tmp_path / "torn.npz"))


def test_scoring_a_whole_folder_warns_of_nothing(report, raw, caplog):
    with caplog.at_level(logging.WARNING):
        mimii.score(str(raw), report)
    assert not caplog.records


def test_recordings_table_models_and_results_may_be_on_s3(moto, use, report, raw, table):
    use(moto)
    client(moto).create_bucket(Bucket="detect")
    for folder, prefix in ((Path(table), "features.zarr"), (raw, "raw")):
        for name, data in contents(folder).items():
            client(moto).put_object(Bucket="detect", Key=f"{prefix}/{name}", Body=data)
    far = mimii.detect("s3://detect/features.zarr", training=PCA)
    assert far.output == "s3://detect/detect"
    pd.testing.assert_frame_equal(far.clips, report.clips)
    scores = mimii.score("s3://detect/raw", far)
    near = mimii.score(str(raw), report)
    assert scores.score.tolist() == near.score.tolist()
    assert scores.path.tolist() == [path.replace(str(raw), "s3://detect/raw") for path in near.path]
