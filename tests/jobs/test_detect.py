"""The job: what is abnormal is found, nothing where there is nothing, and new recordings score as old ones do."""

import csv
import io
import json
import os
import random
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile
from sklearn.metrics import roc_auc_score

from jobs import synthesize
from mimii.detection import KINDS
from mimii.engine import LostError, runs
from mimii.recordings import identify, machine_name
from mimii.storage.access import DEFAULT_ACCESS
from mimii.storage.objects import open_objects
from tests.helpers.commands import (
    assert_same_bytes,
    call,
    contents,
    featurize_here,
    open_table,
    partial_files,
    run_here,
    wait_for,
)
from tests.helpers.dask_processes import start
from tests.helpers.faults import Gate
from tests.helpers.recordings import write_clip
from tests.helpers.servers import filesystem

MACHINES = ("fan", "valve")
ONE_OUTCOME = "outcomes/valve-id_02-6dB.json"


def detect_here(*arguments):
    """Run the command in this process, one task after the other."""
    return call("detect", "--scheduler", "sync", *arguments)


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Make 40 recordings of four machines, two seconds each."""
    folder = tmp_path_factory.mktemp("machines") / "raw"
    assert synthesize.main([str(folder), "--clips", "40", "--seconds", "2", "--machines", *MACHINES]) == 0
    return folder


@pytest.fixture(scope="module")
def table(raw):
    output = raw.parent / "features.zarr"
    assert featurize_here(raw, "--output", output) == 0
    return output


@pytest.fixture(scope="module")
def found(table):
    output = table.parent / "detect"
    assert detect_here(table, "--output", output, "--model", "pca") == 0
    return output


def test_what_comes_out(found, table):
    columns = open_table(table)
    names = [f"{machine}-id_0{number}-6dB" for machine in MACHINES for number in (0, 2)]
    assert set(contents(found)) == {
        *(f"models/{name}.npz" for name in names),
        *(f"outcomes/{name}.json" for name in names),
        *("detect.json", "scores.csv", "results.csv", "report.html"),
    }
    scores = read_csv((found / "scores.csv").read_text())
    used = [str(path) for path in columns.path.values]
    assert [line["path"] for line in scores] == used
    is_training = dict(zip(used, columns.split.values == "train", strict=True))
    assert [line["is_training"] for line in scores] == [str(is_training[path]).lower() for path in used]
    labels = dict(zip(map(str, columns.path.values), columns.label.values, strict=True))
    for line in scores:
        assert line["label"] == ("normal", "abnormal")[labels[line["path"]]]
        assert line["verdict"] == ("normal", "abnormal")[float(line["score"]) > float(line["threshold"])]
        assert 0 <= float(line["rank"]) <= 1


def test_results_are_those_of_the_scores(found):
    scores = read_csv((found / "scores.csv").read_text())
    *results, mean = read_csv((found / "results.csv").read_text())
    assert len(results) == 4
    for line in results:
        mine = [one for one in scores if one["machine"] == line["machine"] and one["is_training"] == "false"]
        labels = [one["label"] == "abnormal" for one in mine]
        values = [float(one["score"]) for one in mine]
        assert float(line["auc"]) == pytest.approx(roc_auc_score(labels, values))
        assert float(line["partial_auc"]) == pytest.approx(roc_auc_score(labels, values, max_fpr=0.1))
        alarms = [one["verdict"] == "abnormal" for one in mine]
        assert int(line["true_alarms"]) == sum(a and b for a, b in zip(alarms, labels, strict=True))
        assert line["published_auc"] == {("fan", "id_00"): "0.745", ("fan", "id_02"): "0.993"}.get(
            (line["machine_type"], line["machine_id"]), ""
        )
    assert (mean["machine"], mean["detector"]) == ("average", "pca")
    assert float(mean["auc"]) == pytest.approx(np.mean([float(line["auc"]) for line in results]))


@pytest.mark.slow
def test_models_of_all_kinds_find_what_is_abnormal(table, tmp_path):
    assert detect_here(table, "--output", tmp_path / "out", "--model", *KINDS, "--epochs", 10) == 0
    results = read_csv((tmp_path / "out/results.csv").read_text())
    means = {line["detector"]: float(line["auc"]) for line in results if line["machine"] == "average"}
    assert means.keys() == set(KINDS)
    assert min(means.values()) > 0.9, means


def average_auc(source, tmp_path):
    """Featurize and detect; return the average AUC."""
    store, output = tmp_path / "features.zarr", tmp_path / "detect"
    assert featurize_here(*source, "--output", store, "--quiet") == 0
    done = run_here("detect", "--scheduler", "sync", store, "--output", output, "--model", "pca")
    assert done.returncode == 0, done.stderr
    assert f"look at   {output}/report.html" in done.stdout
    *_, mean = read_csv((output / "results.csv").read_text())
    [line] = [line for line in done.stdout.splitlines() if line.startswith("average")]
    assert line.split()[1] == f"{float(mean['auc']):.3f}"
    return float(mean["auc"])


@pytest.mark.slow
def test_with_shuffled_labels_nothing_is_found(tmp_path):
    raw = tmp_path / "raw"
    assert synthesize.main([str(raw), "--seconds", "1"]) == 0
    shuffled = ["path,label"]
    for folder in sorted(raw.glob("*/*/*")):
        paths = sorted(folder.rglob("*.wav"))
        labels = [path.parent.name for path in paths]
        random.Random(str(folder.relative_to(raw))).shuffle(labels)
        shuffled += [f"{path},{label}" for path, label in zip(paths, labels, strict=True)]
    assert len(shuffled) == 161
    (tmp_path / "shuffled.csv").write_text("\n".join(shuffled) + "\n")
    # Eight AUCs of five against five clips: by chance their average is 0.5, with a deviation of 0.07.
    assert 0.25 < average_auc(["--list", tmp_path / "shuffled.csv"], tmp_path) < 0.75


@pytest.mark.slow
def test_threads_write_the_same_bytes(found, table, tmp_path):
    """As processes do, see below."""
    assert detect_here(table, "--output", tmp_path / "out", "--model", "pca", "--scheduler", "threads") == 0
    assert_same_bytes(tmp_path / "out", found)


def test_a_second_run_writes_nothing(found, table, capsys):
    before = {path: path.stat().st_mtime_ns for path in found.rglob("*")}
    assert detect_here(table, "--output", found, "--model", "pca") == 0
    assert {path: path.stat().st_mtime_ns for path in found.rglob("*")} == before
    assert "0 learned, 4 there already" in capsys.readouterr().out


@pytest.mark.parametrize("lost", ["models/fan-id_02-6dB.npz", "outcomes/fan-id_02-6dB.json"])
def test_what_is_lost_is_learned_again_and_nothing_else(found, table, tmp_path, capsys, lost):
    output = tmp_path / "out"
    shutil.copytree(found, output)
    (output / lost).unlink()
    about = output / "detect.json"
    about.write_text(about.read_text().replace('finished": true', 'finished": false'))
    before = {path: path.stat().st_mtime_ns for path in output.glob("models/*")}
    assert detect_here(table, "--output", output, "--model", "pca") == 0
    assert "1 learned, 3 there already" in capsys.readouterr().out
    again = [path.name for path in output.glob("models/*") if before.get(path) != path.stat().st_mtime_ns]
    assert again == ["fan-id_02-6dB.npz"]
    assert_same_bytes(output, found)


@pytest.mark.slow
def test_killed_at_any_moment_the_same_bytes_in_the_end(found, table, tmp_path):
    arguments = (table, "--model", "pca", "--quiet")
    output = tmp_path / "out"
    gate = Gate(tmp_path / "gate", [Path(ONE_OUTCOME)])
    it = start(
        tmp_path / "said", "jobs.detect", *arguments, "--output", output, "--scheduler", "sync", **gate.environment
    )
    wait_for(lambda: list(output.glob("outcomes/*.json")) or it.process.poll() is not None, "the first outcome")
    it.kill()
    done = {path: path.stat().st_mtime_ns for path in output.glob("outcomes/*.json")}
    assert 0 < len(done) < 4, it.text()
    assert detect_here(*arguments, "--output", output, "--scheduler", "local", "--workers", 2) == 0
    assert {path for path in done if path.stat().st_mtime_ns == done[path]} == set(done)
    assert_same_bytes(output, found)
    assert partial_files(output) == []


def test_a_replaced_recording_for_testing_is_scored_again(raw, tmp_path, capsys):
    mine, store, output = tmp_path / "raw", tmp_path / "features.zarr", tmp_path / "out"
    shutil.copytree(raw, mine)
    assert featurize_here(mine, "--output", store) == 0
    assert detect_here(store, "--output", output, "--model", "pca") == 0
    before = read_csv((output / "scores.csv").read_text())
    [replaced] = [Path(line["path"]) for line in before if line["label"] == "abnormal"][:1]
    replaced.write_bytes(next(replaced.parents[1].glob("normal/*.wav")).read_bytes())
    assert featurize_here(mine, "--output", store) == 0
    learned = {path: path.stat().st_mtime_ns for path in output.glob("outcomes/*.json")}
    assert detect_here(store, "--output", output, "--model", "pca", "--no-normalize") == 2
    assert "normalize: True there, False now" in capsys.readouterr().err
    assert detect_here(store, "--output", output, "--model", "pca") == 0
    again = [path.stem for path, when in learned.items() if path.stat().st_mtime_ns != when]
    assert again == [machine_name(identify(str(replaced)))]
    after = read_csv((output / "scores.csv").read_text())
    changed = [one["path"] for one, other in zip(after, before, strict=True) if one["score"] != other["score"]]
    assert changed == [str(replaced)]


@pytest.mark.parametrize("lost", ["report.html", "results.csv", "scores.csv"])
def test_a_document_that_is_lost_is_written_again(found, table, tmp_path, lost):
    output = tmp_path / "out"
    shutil.copytree(found, output)
    (output / lost).unlink()
    assert detect_here(table, "--output", output, "--model", "pca") == 0
    assert_same_bytes(output, found)


def test_relative_places_are_those_of_the_working_folder(found, table, tmp_path, monkeypatch):
    monkeypatch.chdir(table.parent)
    assert detect_here(table.name, "--output", os.path.relpath(tmp_path / "out"), "--model", "pca") == 0
    assert (tmp_path / "out/scores.csv").read_bytes() == (found / "scores.csv").read_bytes()
    assert os.path.isabs(open_objects("some/folder", DEFAULT_ACCESS).root)


def test_a_scheduler_that_is_lost_is_found_again_and_what_is_learned_is_kept(
    found, table, tmp_path, monkeypatch, caplog
):
    """It is lost once, when a worker has done the second task and before the job knows of it."""
    output, compute, kept = tmp_path / "out", runs.compute, {}

    def lose(cluster, pipeline, tasks):
        for number, result in enumerate(compute(cluster, pipeline, tasks)):
            if number == 1 and not kept:
                kept.update({path: path.stat().st_mtime_ns for path in output.glob("outcomes/*.json")})
                raise LostError(str(cluster))
            yield result

    monkeypatch.setattr(runs, "compute", lose)
    assert detect_here(table, "--output", output, "--model", "pca") == 0
    assert "; connecting again" in caplog.text
    assert len(kept) == 2
    assert {path for path in kept if path.stat().st_mtime_ns == kept[path]} == set(kept)
    assert_same_bytes(output, found)


def test_other_results_are_refused_with_what_differs_and_overwrite_replaces(found, table, tmp_path, capsys):
    output = tmp_path / "out"
    shutil.copytree(found, output)
    assert detect_here(table, "--output", output, "--model", "knn") == 2
    said = capsys.readouterr().err
    assert "kinds: ['pca'] there, ['knn'] now" in said
    assert "--overwrite" in said
    assert detect_here(table, "--output", output, "--model", "knn", "--overwrite", "--training-seed", 5) == 0
    assert json.loads((output / "detect.json").read_text())["training"]["seed"] == 5
    assert detect_here(table, "--output", tmp_path / "new", "--model", "knn", "--training-seed", 5) == 0
    assert_same_bytes(output, tmp_path / "new")


def test_something_elses_place_is_left_alone(table, tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("mine")
    assert detect_here(table, "--output", tmp_path) == 2
    assert "left alone" in capsys.readouterr().err
    assert contents(tmp_path) == {"mine.txt": b"mine"}


def test_a_machine_without_normal_clips_for_training_is_a_warning(raw, tmp_path, caplog):
    store = tmp_path / "features.zarr"
    abnormal = next(raw.rglob("fan/id_00/abnormal"))
    assert featurize_here(abnormal, next(raw.rglob("valve")), "--output", store) == 0
    assert detect_here(store, "--output", tmp_path / "out", "--model", "pca") == 0
    assert "1 machine has no normal clip to learn from and is skipped: fan-id_00-6dB" in caplog.text
    assert len(list((tmp_path / "out/models").iterdir())) == 2


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("nowhere.zarr",), "there is no table of features"),
        (("one.zarr", "two.zarr"), "one table at a time"),
        (("--model", "oracle"), "no kind of detector 'oracle'; there are neighbours,"),
        (("--model", "pca", "pca"), "each once"),
        (("--model", "neighbours", "pac"), "no kind of detector 'pac'"),
        (("--threshold", "sigma"), "a threshold is 'sigma 3'"),
        (("--threshold", "quantile", "7"), "a threshold is 'sigma 3'"),
        (("--official", "dcase1999"), "invalid choice"),
        (("--epochs", "0"), "whole number of at least 1"),
        (("--score-only", "nowhere"), "name the recordings"),
        (("--score-only", "nowhere", "."), "no model there"),
        (("--score-only", "pyproject.toml.npz", "."), "there is no such model"),
        (("--scheduler", "nowhere"), "must be local"),
    ],
)
def test_wrong_options_end_with_2_and_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "fan/id_00/normal/00000000.wav", 1)
    assert detect_here(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_table_of_abnormal_clips_alone_is_refused_with_what_to_do(raw, tmp_path, capsys):
    store = tmp_path / "features.zarr"
    assert featurize_here(next(raw.rglob("fan/id_00/abnormal")), "--output", store) == 0
    assert detect_here(store, "--output", tmp_path / "out") == 2
    assert "Add normal recordings, or label those that are normal: by a folder named " in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_from_s3_to_s3(found, table, rclone, use):
    use(rclone)
    files = filesystem(rclone)
    files.mkdirs("sound", exist_ok=True)
    for path in table.rglob("*"):
        if path.is_file():
            files.pipe(f"sound/features.zarr/{path.relative_to(table)}", path.read_bytes())
    assert detect_here("s3://sound/features.zarr", "--output", "s3://sound/detect", "--model", "pca") == 0
    theirs = {name.removeprefix("sound/detect/"): files.cat_file(name) for name in files.find("sound/detect")}
    ours = contents(found)
    assert theirs.keys() == ours.keys()
    assert [name for name in ours if theirs[name] != ours[name]] == ["detect.json"]  # it says where the table is


@pytest.mark.slow
def test_the_real_clips_can_be_learned(real_recordings, tmp_path):
    store = tmp_path / "features.zarr"
    assert featurize_here(real_recordings, "--output", store, "--split", "stratified", "--train-fraction", 0.5) == 0
    assert detect_here(store, "--output", tmp_path / "out") == 0
    *lines, mean = read_csv((tmp_path / "out/results.csv").read_text())
    assert len(lines) >= 4
    assert (tmp_path / "out/report.html").read_text().count("data:audio/flac") >= 2
    assert mean["machine"] == "average"


def test_the_table_may_come_behind_options_that_take_several_words(table, tmp_path):
    how = ("--model", "neighbours", "pca", "--threshold", "quantile", "0.5")
    assert detect_here(*how, table, "--output", tmp_path / "one") == 0
    assert detect_here(table, *how, "--output", tmp_path / "other") == 0
    assert_same_bytes(tmp_path / "one", tmp_path / "other")
    about = json.loads((tmp_path / "one/detect.json").read_text())["training"]
    assert (about["kinds"], about["threshold"]) == (["neighbours", "pca"], "quantile 0.5")


def test_several_detectors_are_compared_and_none_is_chosen_by_the_labels(table, tmp_path, capsys):
    assert detect_here(table, "--model", "neighbours", "pca", "--output", tmp_path / "out") == 0
    said = capsys.readouterr().out
    aucs = {line.split()[0]: line.split()[1] for line in said.splitlines() if line.startswith(("neighbours ", "pca "))}
    results = read_csv((tmp_path / "out/results.csv").read_text())
    means = {line["detector"]: f"{float(line['auc']):.3f}" for line in results if line["machine"] == "average"}
    assert aucs == means
    best = max(means, key=lambda kind: float(means[kind]))
    assert f"by these labels, {best} separates best; the verdicts are those of neighbours" in said
    scores = read_csv((tmp_path / "out/scores.csv").read_text())
    assert {"score", "threshold", "rank", "verdict", "pca_score", "pca_verdict"} <= set(scores[0])


def test_machines_with_few_normal_clips_are_named_first(table, tmp_path, capsys):
    assert detect_here(table, "--output", tmp_path / "out") == 0
    first, *_ = capsys.readouterr().out.splitlines()
    assert first.startswith("thresholds not to be trusted, from too few normal clips: fan-id_00-6dB (")
    assert all(f"valve-id_0{number}-6dB (" in first for number in (0, 2))


def test_what_cannot_be_had_is_a_dash(raw, tmp_path, capsys):
    store = tmp_path / "features.zarr"
    assert featurize_here(next(raw.rglob("fan/id_00/normal")), "--split", "none", "--output", store) == 0
    assert detect_here(store, "--output", tmp_path / "out") == 0
    said = capsys.readouterr().out
    [line] = [line for line in said.splitlines() if line.startswith("fan-id_00-6dB")]
    assert re.search(r" [0-8] of 8$", line)
    assert "0 of 0" not in said
    assert "AUC" not in said
    assert "nan" not in said


def test_without_labels_all_clips_are_taken_for_normal_and_each_has_a_score(raw, tmp_path, caplog):
    unlabelled = tmp_path / "press7"
    unlabelled.mkdir()
    for number, path in enumerate(sorted(raw.rglob("fan/id_00/*/*.wav"))):
        shutil.copy(path, unlabelled / f"{number}.wav")
    assert featurize_here(unlabelled, "--split", "none", "--output", tmp_path / "table") == 0
    assert detect_here(tmp_path / "table", "--output", tmp_path / "out") == 0
    assert ": none of its clips has a label, so all are taken for normal" in caplog.text
    scores = read_csv((tmp_path / "out/scores.csv").read_text())
    assert len(scores) == len(list(unlabelled.iterdir())) == 10
    assert all(line["score"] and line["label"] == "unknown" for line in scores)


def test_the_scores_of_a_challenge_are_written_beside_the_results(tmp_path, capsys):
    for number, (name, label) in enumerate([("train", "normal")] * 6 + [("test", "normal"), ("test", "anomaly")] * 3):
        domain = ("source", "target")[number % 3 == 0]
        file = f"section_00_{domain}_{name}_{label}_{number:04d}_noAttribute.wav"
        write_clip(tmp_path / f"raw/fan/{name}/{file}", number)
    assert featurize_here(tmp_path / "raw", "--preset", "dcase", "--output", tmp_path / "table") == 0
    out = tmp_path / "out"
    assert detect_here(tmp_path / "table", "--output", out, "--official", "dcase2023") == 0
    said = capsys.readouterr().out
    assert "official score 0." in said or "official score 1." in said
    files = contents(out / "official/dcase2023")
    assert set(files) == {
        "official.csv",
        "anomaly_score_fan_section_00_test.csv",
        "decision_result_fan_section_00_test.csv",
    }
    listed = dict(line.split(",") for line in files["anomaly_score_fan_section_00_test.csv"].decode().splitlines())
    scores = read_csv((out / "scores.csv").read_text())
    assert listed == {Path(one["path"]).name: one["score"] for one in scores if one["is_training"] == "false"}


def test_score_only_is_jobs_score_and_says_so(found, raw, capsys):
    assert detect_here("--score-only", found, raw) in (0, 4)
    old = capsys.readouterr()
    assert "--score-only is python -m jobs.score MODELS SOURCE ... now" in old.err
    assert call("score", "--scheduler", "sync", found, raw) in (0, 4)
    assert capsys.readouterr().out == old.out


def test_a_new_time_of_a_recording_is_in_the_results(raw, tmp_path):
    paths = sorted(raw.rglob("fan/id_00/normal/*.wav"))

    def run(month):
        lines = [f"{path},press,2026-{month:02d}-{day + 1:02d}" for day, path in enumerate(paths)]
        (tmp_path / "list.csv").write_text("\n".join(["path,machine_id,recorded_at", *lines]) + "\n")
        how = ("--list", tmp_path / "list.csv", "--split", "none", "--output", tmp_path / "table", "--update")
        assert featurize_here(*how) == 0
        assert detect_here(tmp_path / "table", "--output", tmp_path / "out") == 0
        return {line["recorded_at"][:7] for line in read_csv((tmp_path / "out/scores.csv").read_text())}

    assert [run(1), run(5)] == [{"2026-01"}, {"2026-05"}]


def test_clips_that_are_unlike_all_others_of_a_machine_are_warned_of(tmp_path, caplog):
    for number in range(14):
        write_clip(tmp_path / f"press/{number:02d}.wav", number)
    samples, rate = soundfile.read(tmp_path / "press/07.wav", always_2d=True)
    soundfile.write(tmp_path / "press/07.wav", samples * 0.001, rate)
    how = ("--assume", "normal", "--split", "none", "--preset", "mimii-baseline", "--output", tmp_path / "table")
    assert featurize_here(tmp_path / "press", *how) == 0
    assert detect_here(tmp_path / "table", "--output", tmp_path / "out") == 0
    assert "of its clips taken for normal, 1 of 14 is unlike the others, such as " in caplog.text
    assert "07.wav: what is not normal makes the threshold too high, so leave such clips out" in caplog.text
