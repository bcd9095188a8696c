"""The job from cron: recordings are scored once, alarms are said and end with 4, and scores are those of the table."""

import csv
import io
import json
import resource
import shutil
from pathlib import Path

import numpy as np
import pytest
import soundfile

from jobs import synthesize
from mimii.detection import new_recordings
from mimii.engine import LostError, runs
from tests.helpers.commands import call, contents, featurize_here, run
from tests.helpers.recordings import write_clip
from tests.helpers.servers import filesystem

RATE = 16_000


def score_here(*arguments):
    """Run the command in this process, one task after the other."""
    return call("score", "--scheduler", "sync", *arguments)


def read_csv(text):
    return list(csv.DictReader(io.StringIO(text)))


def noise(seed, seconds=2.0, level=0.1):
    return np.random.default_rng(seed).normal(size=int(RATE * seconds)) * level


def write_noise(path, seed, seconds=2.0, beep_at=None):
    """Write noise, with a loud tone of half a second where asked."""
    path.parent.mkdir(parents=True, exist_ok=True)
    samples = noise(seed, seconds)
    if beep_at is not None:
        start, length = int(RATE * beep_at), RATE // 2
        samples[start : start + length] += 0.5 * np.sin(2 * np.pi * 3000 * np.arange(length) / RATE)
    soundfile.write(path, samples.clip(-1, 1), RATE, subtype="PCM_16")
    return path


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Learn two presses from 12 recordings of noise each, as a list names them."""
    folder = tmp_path_factory.mktemp("presses")
    lines = ["path,machine_id,label"]
    for number in range(24):
        path = write_noise(folder / f"raw/{number:02d}.wav", number)
        lines.append(f"{path},press{number % 2},normal")
    (folder / "list.csv").write_text("\n".join(lines) + "\n")
    how = ("--list", folder / "list.csv", "--preset", "mimii-baseline", "--split", "none")
    assert featurize_here(*how, "--output", folder / "table") == 0
    assert call("detect", "--scheduler", "sync", folder / "table", "--output", folder / "detect", "--quiet") == 0
    return folder / "detect"


@pytest.fixture
def incoming(tmp_path):
    """Write three new recordings of one press: two as usual, and one that squeals after a second."""
    folder = tmp_path / "incoming/press1"
    for number in range(2):
        write_noise(folder / f"{number}.wav", 100 + number)
    write_noise(folder / "2.wav", 102, beep_at=1.0)
    return folder.parent


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Make 40 recordings of four machines, and learn them."""
    folder = tmp_path_factory.mktemp("machines")
    assert synthesize.main([str(folder / "raw"), "--clips", "40", "--seconds", "2", "--machines", "fan", "valve"]) == 0
    assert featurize_here(folder / "raw", "--output", folder / "table") == 0
    assert call("detect", "--scheduler", "sync", folder / "table", "--output", folder / "detect") == 0
    return folder


def test_new_recordings_score_as_they_do_in_the_table(machines, capsys):
    assert score_here(machines / "detect", machines / "raw") in (0, 4)
    new = {line["path"]: line for line in read_csv(capsys.readouterr().out)}
    old = [line for line in read_csv((machines / "detect/scores.csv").read_text()) if line["is_training"] == "false"]
    assert len(new) == 40
    assert len(old) == 16
    same = ("machine", "score", "threshold", "rank", "verdict")
    assert [[new[line["path"]][name] for name in same] for line in old] == [
        [line[name] for name in same] for line in old
    ]


def test_an_alarm_says_which_machine_when_and_how_surely_and_ends_with_4(models, incoming, capsys):
    assert score_here(models, incoming, "--quiet") == 4
    [line] = capsys.readouterr().out.splitlines()
    assert line.startswith("ALARM press1  ")
    assert "2.wav: score " in line
    assert "higher than all 12 normal clips, 1 event, peak " in line
    assert "(threshold for moments " in line
    assert "; least normal at 1." in line
    hertz = int(line.split(" Hz ")[0].split()[-1])
    assert abs(hertz - 3000) < 150
    assert line.endswith("dB louder")


def test_without_an_alarm_nothing_is_said_and_the_status_is_0(models, incoming, capsys):
    (incoming / "press1/2.wav").unlink()
    assert score_here(models, incoming, "--quiet") == 0
    assert capsys.readouterr() == ("", "")


def test_what_cannot_be_scored_ends_with_3_and_is_listed(machines, tmp_path, capsys):
    good = next((machines / "raw").rglob("fan/id_00/normal/*.wav")).read_bytes()
    for path, data in {
        "fan/id_00/normal/00000001.wav": good,
        "fan/id_00/normal/00000002.wav": good[:5000],
        "fan/id_06/normal/00000003.wav": good,
        "pump/id_00/normal/00000004.wav": good,
    }.items():
        (tmp_path / "new" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "new" / path).write_bytes(data)
    assert score_here(machines / "detect", tmp_path / "new") == 3
    said = capsys.readouterr()
    status = {Path(line["path"]).name: line["status"] for line in read_csv(said.out)}
    assert status["00000001.wav"] == "ok"
    assert "truncated" in status["00000002.wav"]
    assert status["00000003.wav"] == status["00000004.wav"] == "no model of this machine"
    assert "3 of 4 clips could not be scored" in said.err


def test_one_model_scores_all_that_it_is_given(models, tmp_path, capsys):
    write_noise(tmp_path / "new/somewhere.wav", 1000, beep_at=0.5)
    assert score_here(models / "models/press0.npz", tmp_path / "new", "--output", tmp_path / "out", "--quiet") == 4
    [line] = read_csv((tmp_path / "out/scores.csv").read_text())
    assert (line["machine"], line["status"], line["alarm"]) == ("press0", "ok", "true")
    assert f"ALARM press0  {tmp_path}/new/somewhere.wav" in capsys.readouterr().out


def test_machines_of_a_list_are_found_by_a_list(models, tmp_path, capsys):
    paths = [write_noise(tmp_path / f"flat/{number}.wav", 200 + number) for number in range(2)]
    (tmp_path / "new.csv").write_text(f"path,machine_id\n{paths[0]},press1\n{paths[1]},press0\n")
    assert score_here(models, "--list", tmp_path / "new.csv") == 0
    assert [line["machine"] for line in read_csv(capsys.readouterr().out)] == ["press1", "press0"]


def test_the_layout_of_the_table_tells_machines_of_new_recordings(tmp_path, capsys):
    for number in range(10):
        write_noise(tmp_path / f"raw/site/m{number % 2}/fine/{number}.wav", number)
    how = ("--layout", "{site}/{machine_id}/*/*.wav", "--assume", "normal", "--split", "none")
    assert featurize_here(tmp_path / "raw", *how, "--output", tmp_path / "table") == 0
    assert call("detect", "--scheduler", "sync", tmp_path / "table", "--output", tmp_path / "detect", "--quiet") == 0
    names = sorted(path.stem for path in (tmp_path / "detect/models").iterdir())
    assert names == ["m0", "m1"]
    capsys.readouterr()
    write_noise(tmp_path / "night/site/m1/late/a.wav", 77)
    assert score_here(tmp_path / "detect", tmp_path / "night") in (0, 4)
    assert [line["machine"] for line in read_csv(capsys.readouterr().out)] == ["m1"]
    write_noise(tmp_path / "other/m0/normal/a.wav", 78)
    assert score_here(tmp_path / "detect", tmp_path / "other", "--layout", "{machine_id}/{label}/*.wav") in (0, 4)
    assert [line["machine"] for line in read_csv(capsys.readouterr().out)] == ["m0"]


def test_an_update_scores_what_is_new_and_keeps_the_rest_byte_for_byte(models, incoming, tmp_path, capsys):
    update = (models, incoming, "--output", tmp_path / "out", "--update")
    assert score_here(*update) == 4
    first = (tmp_path / "out/scores.csv").read_text()
    assert "scored   3 clips now" in capsys.readouterr().out
    assert score_here(*update) == 0  # the alarm has been said
    assert "scored   0 clips now" in capsys.readouterr().out
    assert (tmp_path / "out/scores.csv").read_text() == first
    write_noise(incoming / "press1/3.wav", 103)
    write_noise(incoming / "press1/2.wav", 104)  # replaced: it does not squeal any more
    assert score_here(*update) == 0
    lines = read_csv((tmp_path / "out/scores.csv").read_text())
    assert sorted(Path(line["path"]).name for line in lines) == ["0.wav", "1.wav", "2.wav", "3.wav"]
    assert {line["alarm"] for line in lines} == {"false"}
    assert read_csv((tmp_path / "out/events.csv").read_text()) == []
    assert first.splitlines()[:3] == (tmp_path / "out/scores.csv").read_text().splitlines()[:3]


def test_events_are_listed_with_their_times_in_the_recording(models, tmp_path):
    write_noise(tmp_path / "long/press1/a.wav", 300, seconds=12, beep_at=7.25)
    where = ("--output", tmp_path / "out", "--segment", 4)
    assert score_here(models, tmp_path / "long", *where) == 4
    header, *_ = (tmp_path / "out/events.csv").read_text().splitlines()
    assert header == "recording,machine,channel,start_s,stop_s,peak,peak_s"
    [event] = read_csv((tmp_path / "out/events.csv").read_text())
    assert event["machine"] == "press1"
    assert 6.5 <= float(event["start_s"]) <= 7.25 <= float(event["peak_s"]) <= 7.75 <= float(event["stop_s"]) <= 8.5
    scores = read_csv((tmp_path / "out/scores.csv").read_text())
    assert [float(line["start_s"]) for line in scores] == [0, 4, 8]
    assert [line["alarm"] for line in scores] == ["false", "true", "false"]
    assert float(scores[1]["peak_s"]) == pytest.approx(float(event["peak_s"]))


def test_json_has_a_line_for_each_clip_with_its_events(models, incoming, capsys):
    assert score_here(models, incoming, "--json") == 4
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(line["path"]).name for line in lines] == ["0.wav", "1.wav", "2.wav"]
    assert [len(line["events"]) for line in lines] == [0, 0, 1]
    assert [line["alarm"] for line in lines] == [False, False, True]
    assert lines[0]["recorded_at"] is None


def test_another_threshold_is_made_of_the_same_normal_scores(models, incoming, capsys):
    assert score_here(models, incoming, "--threshold", "0.001") == 4
    assert {line["threshold"] for line in read_csv(capsys.readouterr().out)} == {"0.001"}


def test_one_normal_clip_gives_no_confident_alarm(tmp_path, capsys):
    write_noise(tmp_path / "raw/press/normal/0.wav", 0)
    assert featurize_here(tmp_path / "raw", "--split", "none", "--output", tmp_path / "table") == 0
    assert call("detect", "--scheduler", "sync", tmp_path / "table", "--output", tmp_path / "detect") == 0
    assert "not to be trusted" in capsys.readouterr().out
    write_clip(tmp_path / "new/press/1.wav", 5)
    assert score_here(tmp_path / "detect", tmp_path / "new") == 0
    [line] = read_csv(capsys.readouterr().out)
    assert (line["verdict"], line["alarm"], line["status"]) == ("unknown", "false", "ok")


def test_scores_do_not_take_the_place_of_others(models, incoming, tmp_path, capsys):
    before = contents(models)
    assert score_here(models, incoming, "--output", models) == 2
    assert "has results of jobs.detect, which are left alone" in capsys.readouterr().err
    assert contents(models) == before
    how = (models, incoming, "--output", tmp_path / "new")
    assert [score_here(*how), score_here(*how), score_here(*how, "--overwrite")] == [4, 2, 4]
    assert "add to them with --update, or replace them with --overwrite" in capsys.readouterr().err


def test_a_damaged_list_of_scores_is_refused_with_what_to_do(models, incoming, tmp_path, capsys):
    (tmp_path / "out").mkdir()
    (tmp_path / "out/scores.csv").write_text("some,thing\n1,2\n")
    assert score_here(models, incoming, "--output", tmp_path / "out", "--update") == 2
    assert (
        "scores.csv: damaged, or not written by jobs.score; replace all scores with --overwrite"
        in capsys.readouterr().err
    )
    assert (tmp_path / "out/scores.csv").read_text() == "some,thing\n1,2\n"


def test_a_scheduler_that_is_lost_is_connected_to_again(models, incoming, monkeypatch, capsys, caplog):
    """Its connection is lost once, after the first clip; the other ones are scored after that."""
    monkeypatch.setattr(new_recordings, "_CLIPS_A_TASK", 1)
    write_noise(incoming / "press0/3.wav", 103)
    assert score_here(models, incoming) == 4
    undisturbed, compute, computed = capsys.readouterr().out, runs.compute, []

    def lose(cluster, pipeline, tasks):
        for number, result in compute(cluster, pipeline, tasks):
            yield number, result
            computed.append(number)
            if len(computed) == 1:
                raise LostError(str(cluster))

    monkeypatch.setattr(runs, "compute", lose)
    assert score_here(models, incoming) == 4
    assert capsys.readouterr().out == undisturbed
    assert sorted(computed) == [0, 1, 2, 3]
    assert "; connecting again" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("models",), "name the models, and the recordings"),
        (("nowhere", "."), "no model there"),
        (("pyproject.toml.npz", "."), "there is no such model"),
        (("nowhere", ".", "--update"), "--update: needs --output"),
        (("nowhere", ".", "--update", "--overwrite", "--output", "out"), "use one of them"),
    ],
)
def test_wrong_options_end_with_2_and_what_is_wrong(tmp_path, monkeypatch, capsys, arguments, said):
    monkeypatch.chdir(tmp_path)
    assert score_here(*arguments) == 2
    assert said in capsys.readouterr().err


def test_a_wrong_threshold_and_an_empty_folder_are_said(models, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    assert score_here(models, tmp_path / "empty") == 2
    assert "no recordings there" in capsys.readouterr().err
    assert score_here(models, tmp_path / "empty", "--output", tmp_path / "out", "--update") == 0
    assert score_here(models, tmp_path / "empty", "--threshold", "sigma", "x") == 2
    assert "a threshold is 'sigma 3'" in capsys.readouterr().err


def test_from_s3_to_s3(models, incoming, rclone, use, capsys):
    use(rclone)
    files = filesystem(rclone)
    files.mkdirs("presses", exist_ok=True)
    for folder, prefix in ((models, "detect"), (incoming, "incoming")):
        for path in folder.rglob("*"):
            if path.is_file():
                files.pipe(f"presses/{prefix}/{path.relative_to(folder)}", path.read_bytes())
    update = ("s3://presses/detect", "s3://presses/incoming", "--output", "s3://presses/scores", "--update")
    assert [score_here(*update), score_here(*update)] == [4, 0]
    there = read_csv(files.cat_file("presses/scores/scores.csv").decode())
    assert score_here(models, incoming) == 4
    here = read_csv(capsys.readouterr().out.split("events.csv\n")[-1])
    same = ("machine", "score", "threshold", "peak", "peak_s", "alarm")
    assert [[line[name] for name in same] for line in there] == [[line[name] for name in same] for line in here]


@pytest.mark.slow
def test_one_minute_is_scored_within_moments(models, tmp_path):
    write_noise(tmp_path / "minute.wav", 9, seconds=60)
    arguments = (models / "models/press1.npz", tmp_path / "minute.wav", "--quiet")
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = run("score", *arguments)
    assert done.returncode == 0, done.stderr
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 20  # of the processor


@pytest.mark.slow
def test_on_workers_the_scores_are_the_same(machines, tmp_path):
    shutil.copytree(machines / "raw", tmp_path / "raw")
    here, there = tmp_path / "here", tmp_path / "there"
    assert score_here(machines / "detect", tmp_path / "raw", "--output", here) in (0, 4)
    done = run("score", machines / "detect", tmp_path / "raw", "--output", there, "--workers", 2)
    assert done.returncode in (0, 4), done.stderr
    assert contents(here) == contents(there)


def test_places_may_come_behind_a_threshold_of_two_words(models, incoming, capsys):
    assert score_here("--threshold", "sigma", "4", models, incoming) == 4
    one = capsys.readouterr().out
    assert score_here(models, "--threshold", "sigma", "4", incoming) == 4
    assert capsys.readouterr().out == one != ""


def test_json_has_an_event_for_each_segment_that_it_is_in(models, tmp_path, capsys):
    path = write_noise(tmp_path / "long/press1/a.wav", 300, seconds=12)
    samples, _ = soundfile.read(path)
    samples[4 * RATE : 9 * RATE] += 0.3 * np.sin(2 * np.pi * 3000 * np.arange(5 * RATE) / RATE)
    soundfile.write(path, samples.clip(-1, 1), RATE)
    assert score_here(models, tmp_path / "long", "--segment", 3, "--json") == 4
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [len(line["events"]) for line in lines] == [0, 1, 1, 0]


def test_what_has_no_model_is_said_once(machines, tmp_path):
    write_noise(tmp_path / "new/press9/normal/a.wav", 5)
    update = (machines / "detect", tmp_path / "new", "--output", tmp_path / "out", "--update")
    assert [score_here(*update), score_here(*update)] == [3, 0]


def test_another_folder_is_the_same_place(models, incoming, tmp_path, monkeypatch):
    update = ("--output", tmp_path / "out", "--update", "--quiet")
    assert score_here(models, incoming, *update) == 4
    monkeypatch.chdir(incoming.parent)
    assert score_here(models, incoming.name, *update) == 0
    assert len(read_csv((tmp_path / "out/scores.csv").read_text())) == 3


def test_scores_are_not_put_among_other_things(models, incoming, tmp_path, capsys):
    (tmp_path / "table").mkdir()
    (tmp_path / "table/zarr.json").write_text("{}")
    assert score_here(models, incoming, "--output", tmp_path / "table", "--update") == 2
    assert "has files that are not scores, such as zarr.json, which are left alone" in capsys.readouterr().err
