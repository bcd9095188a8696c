"""Scores that are kept: each recording is scored once, in each version, whatever stops a run in between."""

import csv
import io
import os
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

import mimii
from mimii.detection import NO_MODEL, ScoreReport, score_log
from mimii.detection.score_log import ScoreLog, open_log
from mimii.engine import BusyError, StoreError, lease
from mimii.features import Fault
from mimii.storage import DiskObjects
from tests.detection.test_new_recordings import SHORT, detect, hum, machine, write
from tests.helpers.commands import contents

pytestmark = pytest.mark.usefixtures("without_page")


class KilledError(BaseException):
    """Stands for kill -9: nothing between the write that it replaces and the test may catch it."""


@pytest.fixture(autouse=True)
def _quick_lease(monkeypatch):
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.02)
    monkeypatch.setattr(lease, "_SECONDS_BETWEEN_LOOKS", 0.01)


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    machine(folder / "raw/press7")
    machine(folder / "raw/press8", 100)
    return detect(folder)


TONE = [(3000, 5000)]


@pytest.fixture
def night(tmp_path):
    """Make a folder of recordings of the two machines: two seconds each, of which some have a tone."""
    for index in range(6):
        write(tmp_path / f"night/press{7 + index % 2}/{index}.wav", hum(200 + index, 32_000, TONE if index < 3 else ()))
    return tmp_path / "night"


def update(night, report, **how):
    return mimii.score(night, report, output=night.parent / "scores", update=True, **how)


def written(night):
    """Return the lines of scores and events at the output, as they are."""
    paths = (night.parent / "scores" / name for name in ("scores.csv", "events.csv"))
    return [path.read_bytes().decode().splitlines() for path in paths]


def by_path(lines):
    return {next(csv.reader([line]))[0]: line for line in lines[1:]}


def stems(scores):
    return [Path(line["path"]).stem for line in scores.lines]


def test_what_is_found_is_written(report, night):
    found = mimii.score(night, report, output=night.parent / "scores")
    assert set(contents(night.parent / "scores")) == {"scores.csv", "events.csv"}
    scores, events = written(night)
    assert "\n".join(scores) + "\n" == found.to_csv()
    assert len(scores) == 7
    rows = pd.read_csv(night.parent / "scores/events.csv", converters={"peak": float})
    assert rows.peak.tolist() == found.events.peak.tolist()
    assert list(rows.columns) == list(found.events.columns)
    assert [Path(path).stem for path in rows.recording] == ["0", "2", "1"]
    assert events[0] == "recording,machine,channel,start_s,stop_s,peak,peak_s"


def test_an_update_scores_what_is_new_and_keeps_all_else_byte_for_byte(report, night):
    first = update(night, report)
    assert len(first.lines) == 6
    before = written(night)
    write(night / "press7/6.wav", hum(300, 32_000, TONE))
    assert stems(update(night, report)) == ["6"]
    after = written(night)
    assert after[0][:-1] == before[0]
    assert after[1][:-1] == before[1]
    assert [Path(by_path(lines).popitem()[0]).stem for lines in after] == ["6", "6"]


def test_an_update_without_anything_new_writes_nothing(report, night):
    update(night, report)
    before = contents(night.parent / "scores")
    again = update(night, report)
    assert (again.lines, again.event_lines) == ((), ())
    assert repr(again) == "<ScoreReport: 0 clips, 0 alarms, 0 events>"
    assert (len(again.clips), len(again.events)) == (0, 0)
    assert {"path", "score", "verdict", "alarm", "recorded_at"} <= set(again.clips.columns)
    assert contents(night.parent / "scores") == before


def test_an_update_of_nothing_at_all_is_no_error(report, night):
    shutil.rmtree(night)
    night.mkdir()
    assert update(night, report).lines == ()


def test_a_recording_that_changed_is_scored_again_with_its_events(report, night):
    update(night, report)
    before = [by_path(lines) for lines in written(night)]
    changed = night / "press7/0.wav"
    write(changed, hum(400, 32_000, [(16_000, 18_000)]))
    os.utime(changed, (2e9, 2e9))
    assert stems(update(night, report)) == ["0"]
    after = [by_path(lines) for lines in written(night)]
    for one, other in zip(before, after, strict=True):
        assert one.pop(str(changed)) != other.pop(str(changed))
        assert one == other


def test_updates_one_after_the_other_have_what_one_run_has(report, night):
    late = [night / "press7/4.wav", night / "press8/1.wav"]
    aside = [path.rename(night.parent / path.name) for path in late]
    update(night, report)
    for path, there in zip(late, aside, strict=True):
        there.rename(path)
    update(night, report)
    mimii.score(night, report, output=night.parent / "once")
    for name in ("scores.csv", "events.csv"):
        one, other = ((night.parent / folder / name).read_text().splitlines() for folder in ("scores", "once"))
        assert sorted(one) == sorted(other)


@pytest.mark.parametrize("which", ["events.csv", "scores.csv"])
def test_killed_in_between_the_next_run_has_what_an_undisturbed_one_has(report, night, monkeypatch, which):
    update(night, report)
    write(night / "press7/6.wav", hum(300, 32_000, TONE))
    write(night / "press8/1.wav", hum(500, 32_000, [(16_000, 18_000)]))
    os.utime(night / "press8/1.wav", (2e9, 2e9))
    shutil.copytree(night.parent / "scores", night.parent / "undisturbed")
    mimii.score(night, report, output=night.parent / "undisturbed", update=True)

    def killed(self, key, data, put=DiskObjects.put):
        if key == which:
            raise KilledError
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(DiskObjects, "put", killed)
        with pytest.raises(KilledError):
            update(night, report)
    assert sorted(stems(update(night, report))) == ["1", "6"]
    assert contents(night.parent / "scores") == contents(night.parent / "undisturbed")


def test_some_thousand_clips_at_a_time_are_written(report, night, monkeypatch):
    monkeypatch.setattr(score_log, "_MOST_CLIPS", 4)
    puts = []

    def noted(self, key, data, put=DiskObjects.put):
        puts.append((key, data.count(b"\n") - 1))
        put(self, key, data)

    with monkeypatch.context() as patch:
        patch.setattr(DiskObjects, "put", noted)
        found = update(night, report)
    assert [put for put in puts if put[0] == "scores.csv"] == [("scores.csv", 4), ("scores.csv", 6)]
    whole = mimii.score(night, report)
    assert sorted(map(repr, found.lines)) == sorted(map(repr, whole.lines))
    assert written(night)[0] == whole.to_csv().splitlines()
    monkeypatch.setattr(score_log, "_MOST_SECONDS", 3.0)
    shutil.rmtree(night.parent / "scores")
    puts.clear()
    with monkeypatch.context() as patch:
        patch.setattr(DiskObjects, "put", noted)
        update(night, report)
    assert [count for key, count in puts if key == "scores.csv"] == [2, 4, 6]


def unreadable(monkeypatch, stem):
    """Have the disk refuse a recording."""

    def refuse(clip, function, then=mimii.features.ClipResult.then):
        if Path(str(clip.input.place)).stem == stem:
            return replace(clip, value=None, fault=Fault("cannot be read: Input/output error", unread=True))
        return then(clip, function)

    monkeypatch.setattr(mimii.features.ClipResult, "then", refuse)


def test_what_could_not_be_read_is_tried_again(report, night):
    with pytest.MonkeyPatch.context() as patch:
        unreadable(patch, "3")
        found = update(night, report)
        assert [line["status"] for line in found.lines if Path(line["path"]).stem == "3"] == [
            "cannot be read: Input/output error"
        ]
        assert len(written(night)[0]) == 6  # without it
        assert stems(update(night, report)) == ["3"]
    assert [(line["status"], Path(line["path"]).stem) for line in update(night, report).lines] == [("ok", "3")]
    assert len(written(night)[0]) == 7


def test_a_recording_of_which_a_segment_could_not_be_read_is_tried_again_as_a_whole(report, night):
    log = ScoreLog(DiskObjects(str(night.parent / "scores")), SimpleNamespace(check=lambda: None))
    [clip] = mimii.find_recordings(night / "press7/0.wav")
    whole = mimii.score([clip], report, segment=1.0)
    assert len(whole.lines) == 2
    assert len(whole.event_lines) == 1
    after = log.add(replace(whole, retried=frozenset({1})))
    assert after.left([clip]) == [clip]
    assert (after.lines, after.event_lines) == ((), ())
    assert log.add(whole).left([clip]) == []


def test_what_will_never_be_read_is_not_tried_again(report, night):
    (night / "press7/9.wav").write_bytes(b"no audio")
    assert "9" in stems(update(night, report))
    assert update(night, report).lines == ()
    assert any("no audio" in line or "not audio" in line for line in written(night)[0])


def test_recordings_without_a_model_are_tried_again(report, night, tmp_path):
    shutil.copytree(Path(report.output, "models"), tmp_path / "models/models")
    (tmp_path / "models/models/press8.npz").rename(tmp_path / "press8.npz")
    shutil.copy(tmp_path / "models/models/press7.npz", tmp_path / "models/models/press9.npz")
    found = update(night, tmp_path / "models")
    assert [line["status"] for line in found.lines] == ["ok"] * 3 + [NO_MODEL] * 3
    assert stems(update(night, tmp_path / "models")) == []  # said once, and tried each time
    (tmp_path / "press8.npz").rename(tmp_path / "models/models/press8.npz")
    found = update(night, tmp_path / "models")
    assert [(Path(line["path"]).stem, line["status"]) for line in found.lines] == [
        ("1", "ok"),
        ("3", "ok"),
        ("5", "ok"),
    ]
    assert NO_MODEL not in "\n".join(written(night)[0])
    assert len(written(night)[0]) == 7
    assert len(written(night)[1]) == 4


def test_segments_are_kept_together(report, night):
    update(night, report, segment=1.0)
    assert len(written(night)[0]) == 13
    assert update(night, report, segment=1.0).lines == ()
    os.utime(night / "press7/0.wav", (2e9, 2e9))
    assert stems(update(night, report, segment=1.0)) == ["0", "0"]
    assert len(written(night)[0]) == 13


ODD = ["a,b", 'quo"te', "new\nline", "car\rriage", " spaces ", "\udcff\udcfe", "\u673a", "=1+1"]


@pytest.mark.parametrize("name", ODD, ids=[f"name {index}" for index in range(len(ODD))])
def test_odd_names_are_scored_once(report, night, name):
    os.rename(night / "press7/0.wav", night / f"press7/{name}.wav")
    assert len(update(night, report).lines) == 6
    before = contents(night.parent / "scores")
    assert update(night, report).lines == ()
    write(night / "press8/7.wav", hum(300, 32_000))
    assert stems(update(night, report)) == ["7"]
    events = contents(night.parent / "scores")["events.csv"]
    assert events == before["events.csv"]


def test_what_is_there_is_neither_replaced_nor_added_to_unless_asked(report, night):
    update(night, report)
    before = contents(night.parent / "scores")
    with pytest.raises(mimii.StoreError, match=r"has scores already; add to them with --update, or .*--overwrite"):
        mimii.score(night, report, output=night.parent / "scores")
    assert contents(night.parent / "scores") == before


def test_overwritten_scores_are_those_of_now_alone(report, night):
    update(night, report)
    for path in sorted(night.rglob("*.wav"))[1:]:
        path.unlink()
    found = mimii.score(night, report, output=night.parent / "scores", overwrite=True)
    assert "\n".join(written(night)[0]) + "\n" == found.to_csv()
    assert len(written(night)[0]) == 2


def test_results_of_detection_are_no_place_for_scores(report, night):
    before = contents(Path(report.output))
    for how in ({}, {"update": True}, {"overwrite": True}):
        with pytest.raises(mimii.StoreError, match=r"has results of jobs\.detect, which are left alone; choose"):
            mimii.score(night, report, output=report.output, **how)
    assert contents(Path(report.output)) == before


@pytest.mark.parametrize(
    "how", [{"update": True}, {"overwrite": True}, {"update": True, "overwrite": True, "output": "x"}]
)
def test_options_without_sense_are_refused(report, night, how):
    with pytest.raises(ValueError, match=r"update and overwrite need an output|use one of them"):
        mimii.score(night, report, **how)


DAMAGED = {
    "text": lambda _: b"hello\nworld\n",
    "binary": lambda data: bytes(range(256)) * 20 + data,
    "no version": lambda data: data.replace(b"version", b"vision", 1),
    "short line": lambda data: data[: data.index(b"press8")],
    "carriage returns": lambda data: data.replace(b",", b"\r", 9),
    "long cell": lambda data: data + b'"' + b"x" * 200_000,
}


@pytest.mark.parametrize("name", ["scores.csv", "events.csv"])
@pytest.mark.parametrize("damage", DAMAGED)
def test_damaged_scores_are_refused_with_what_to_do(report, night, name, damage):
    update(night, report)
    path = night.parent / "scores" / name
    data = DAMAGED[damage](path.read_bytes())
    if name == "events.csv" and damage == "no version":
        data = path.read_bytes().replace(b"peak_s", b"peek_s")
    path.write_bytes(data)
    write(night / "press8/7.wav", hum(300, 32_000))
    with pytest.raises(
        StoreError, match=rf"{name}: damaged, or not written by jobs\.score; replace all scores with --overwrite"
    ):
        update(night, report)
    assert path.read_bytes() == data
    mimii.score(night, report, output=night.parent / "scores", overwrite=True)
    assert update(night, report).lines == ()


def test_a_second_run_at_the_same_time_is_refused(report, night):
    objects = DiskObjects(str(night.parent / "scores"))
    with open_log(objects, update=True), pytest.raises(BusyError, match="another run writes other results to it"):
        update(night, report)
    assert len(update(night, report).lines) == 6
    assert set(contents(night.parent / "scores")) == {"scores.csv", "events.csv"}


def test_models_with_other_detectors_add_their_columns(report, night, tmp_path):
    update(night, report)
    machine(tmp_path / "raw/press7")
    machine(tmp_path / "raw/press8", 100)
    other = detect(tmp_path, SHORT, mimii.Training(["mahalanobis", "neighbours"]))
    write(night / "press7/6.wav", hum(300, 32_000))
    update(night, other)
    rows = list(csv.DictReader(io.StringIO((night.parent / "scores/scores.csv").read_text())))
    assert len(rows) == 7
    assert all(row["pca_score"] and not row["neighbours_score"] for row in rows[:6])
    assert rows[6]["neighbours_score"]
    assert not rows[6]["pca_score"]


def test_a_report_of_nothing_has_its_columns():
    nothing = ScoreReport((), ())
    assert len(nothing.clips) == len(nothing.events) == 0
    assert "recorded_at" in nothing.clips.columns
