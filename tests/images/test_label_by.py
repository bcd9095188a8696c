"""Images that are labelled by the moments that jobs.score found: what overlaps an event is abnormal."""

import csv
import json
import logging
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

import mimii
from mimii.detection import store
from mimii.engine import digest_version, look
from mimii.images import ALBUM_HEAD, find_changes
from mimii.images.matching import find_scored
from mimii.images.scored import EVER, Scored, ScoredRecordings
from mimii.recordings import Clip
from mimii.storage import DiskObjects, Place
from tests.detection.test_new_recordings import hum, machine, write
from tests.helpers.commands import assert_same_bytes, contents, run_here
from tests.helpers.recordings import write_clip

SPEC = mimii.FeatureSpec(n_mels=16, n_fft=512, hop_length=160, frames=1)
"""100 frames a second."""

EVENTS = ("recording", "machine", "channel", "start_s", "stop_s", "peak", "peak_s")
SCORES = ("path", "channel", "start_s", "duration_s", "peak", "peak_threshold", "status", "version")


@pytest.fixture
def no_overview(monkeypatch):
    """Leave out the overview, which takes longer to draw than all images."""
    monkeypatch.setattr("mimii.images.store.make_contact_sheet", lambda *_: b"overview")


def write_csv(path, columns, lines):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([columns, *lines])
    return path


def write_events(folder, *events):
    """Write events: recording, channel, start and stop."""
    lines = [(path, "press", channel, start, stop, 5.0, start) for path, channel, start, stop in events]
    return write_csv(folder / "events.csv", EVENTS, lines)


def score_of(path, channel=0, start=0.0, seconds=4.0, **other):
    [clip] = mimii.find_recordings(path) if "version" not in other else [None]
    version = f"{digest_version(clip.place):016x}" if clip else other["version"]
    return path, channel, start, seconds, 1.0, other.get("threshold", 2.0), other.get("status", "ok"), version


def write_scores(folder, *scores):
    return write_csv(folder / "scores.csv", SCORES, scores)


@pytest.fixture
def raw(tmp_path):
    """Write recordings of 4 s: two that are normal, two abnormal, and two without a label."""
    folders = ("press/id_01/normal", "press/id_01/abnormal", "lathe")
    names = [f"{folder}/{number:08d}.wav" for folder in folders for number in range(2)]
    for seed, name in enumerate(names):
        write_clip(tmp_path / "raw" / name, seed, 64_000)
    return tmp_path / "raw"


def plan(raw, events="", window=1.0, **how):
    how = {"split": "none"} | how
    spec = how.pop("spec", SPEC)
    return mimii.plan_images(mimii.find_recordings(str(raw)), spec, window=window, label_by=events, **how)


def labels_of(album):
    """Return the labels of the images of each recording: N, A or - for none."""
    names = {0: "N", 1: "A", -1: "-"}
    found = {}
    for clip, one in enumerate(album.catalogue.clips):
        text = "".join(names[picture.label] for picture in album.pictures(clip))
        found["/".join(one.path.split("/")[-2:])] = found.get("/".join(one.path.split("/")[-2:]), "") + text
    return found


def listed(output):
    with (output / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_what_overlaps_an_event_is_abnormal_and_the_rest_of_what_was_scored_is_normal(raw, tmp_path):
    paths = [str(path) for path in sorted(raw.rglob("*.wav"))]
    lathe, other, bad, _, normal, good = paths
    events = write_events(
        tmp_path / "scores", (lathe, 0, 1.2, 1.9), (bad, 0, 0.5, 1.0), (bad, 0, 2.999, 3.5), (normal, 0, 3.0, 4.0)
    )
    write_scores(tmp_path / "scores", *map(score_of, (lathe, other, bad, normal, good)))
    assert labels_of(plan(raw, str(events))) == {
        "lathe/00000000.wav": "NANN",
        "lathe/00000001.wav": "NNNN",
        "abnormal/00000000.wav": "ANAA",  # an event that ends when a window begins is not in it
        "abnormal/00000001.wav": "----",  # not scored: which of its parts are abnormal is not known
        "normal/00000000.wav": "NNNA",
        "normal/00000001.wav": "NNNN",
    }


def test_what_was_not_scored_keeps_its_label_where_that_holds_for_what_the_image_shows(raw, tmp_path):
    scored = str(raw / "lathe/00000000.wav")
    write_scores(tmp_path, score_of(scored))
    events = str(write_events(tmp_path))
    parts, whole = plan(raw, events), plan(raw, events, window=None)
    segments = plan(raw, events, window=None, spec=SPEC.changed(segment=2.0))
    for album, abnormal, normal in ((parts, "----", "NNNN"), (whole, "A", "N"), (segments, "--", "NN")):
        labels = labels_of(album)
        assert labels.pop("lathe/00000000.wav") == normal
        assert labels.pop("lathe/00000001.wav") == "-" * len(normal)
        assert {name.split("/")[0]: label for name, label in labels.items()} == {"abnormal": abnormal, "normal": normal}


def test_an_abnormal_recording_without_events_has_no_normal_part(raw, tmp_path):
    """Its fault was missed, and may be in any of them."""
    missed, found, *_ = sorted(str(path) for path in raw.rglob("abnormal/*.wav"))
    write_scores(tmp_path, score_of(missed), score_of(found))
    events = str(write_events(tmp_path, (found, 0, 1.2, 1.9)))
    for window, labels in ((1.0, ("----", "NANN")), (None, ("A", "A"))):
        album = labels_of(plan(raw, events, window=window))
        assert (album["abnormal/00000000.wav"], album["abnormal/00000001.wav"]) == labels


@pytest.mark.parametrize("why", [{"status": "unreadable"}, {"threshold": "inf"}, {"threshold": ""}, {"seconds": 1.3}])
def test_what_no_event_was_looked_for_in_is_not_normal(raw, tmp_path, why):
    paths = [str(raw / f"lathe/0000000{number}.wav") for number in range(2)]
    write_scores(tmp_path, score_of(paths[0], **why), score_of(paths[1]))
    events = write_events(tmp_path, (paths[0], 0, 3.6, 3.9))
    expected = "N--A" if "seconds" in why else "---A"
    assert labels_of(plan(raw, str(events)))["lathe/00000000.wav"] == expected


def test_segments_that_were_scored_join_and_channels_are_told_apart(tmp_path):
    path = str(write_clip(tmp_path / "raw/lathe/a.wav", 3, 64_000, n_channels=2))
    one = [score_of(path, 1, start, 1.0) for start in (0.0, 1.0, 2.0, 3.0)]
    write_scores(tmp_path, *one, score_of(path, 0, 0.0, 2.0))
    events = str(write_events(tmp_path, (path, 1, 0.9, 1.1), (path, 0, 0.2, 0.4)))
    for channel, expected in ((0, "A--"), (1, "ANN")):
        album = plan(tmp_path / "raw", events, window=1.4, spec=SPEC.changed(channel=channel))
        assert labels_of(album) == {"lathe/a.wav": expected}
    both = plan(tmp_path / "raw", events, window=None, spec=SPEC.changed(channel="all", segment=2.0))
    pairs = [(clip.channel, clip.start_s) for clip in both.catalogue.clips]
    labels = [picture.label for clip in range(4) for picture in both.pictures(clip)]
    assert dict(zip(pairs, labels, strict=True)) == {(0, 0.0): 1, (1, 0.0): 1, (0, 2.0): -1, (1, 2.0): 0}
    with pytest.raises(mimii.SourceError, match=r"is of channel 0, 1 and the images show channel -1"):
        plan(tmp_path / "raw", events, spec=SPEC.changed(channel="mean"))


def test_names_are_unique_though_labels_change(raw, tmp_path):
    paths = [str(path) for path in sorted(raw.rglob("*.wav"))]
    write_scores(tmp_path, *map(score_of, paths))
    album = plan(raw, str(write_events(tmp_path)))
    keys = [picture.key for clip in range(6) for picture in album.pictures(clip)]
    assert len(set(keys)) == 24
    normal = [key for key in keys if key.startswith("all/normal/normal-")]
    assert len(normal) == 16
    assert {key.rpartition("/")[0] for key in set(keys) - set(normal)} == {"unlabelled"}  # no event was found in these


def test_recordings_without_a_label_are_split_once_they_are_scored_and_stay_whatever_the_events(raw, tmp_path):
    paths = [str(raw / f"lathe/0000000{number}.wav") for number in range(2)]
    write_scores(tmp_path, score_of(paths[0]))
    splits = set()
    for events in ((), ((paths[0], 0, 0.0, 1.0),)):
        album = plan(raw, str(write_events(tmp_path, *events)), split="stratified", train_fraction=0.5)
        where = {clip.path: split for clip, split in zip(album.catalogue.clips, album.catalogue.splits, strict=True)}
        assert where[paths[0]] in ("train", "test")
        assert where[paths[1]] == ""
        splits.add(where[paths[0]])
        unscored = plan(raw, split="stratified", train_fraction=0.5).catalogue
        assert {clip.path: split for clip, split in zip(unscored.clips, unscored.splits, strict=True) if split} == {
            path: split for path, split in where.items() if split and path != paths[0]
        }
    assert len(splits) == 1


@pytest.mark.usefixtures("no_overview")
def test_labels_are_in_folders_lists_and_manifests(raw, tmp_path):
    paths = [str(path) for path in sorted(raw.rglob("*.wav"))]
    write_scores(tmp_path, *map(score_of, paths[:4]))
    events = write_events(tmp_path, (paths[0], 0, 1.5, 1.7), (paths[2], 0, 3.5, 3.7), (paths[3], 0, 0.1, 0.4))
    album = plan(raw, str(events), manifest_base="s3://bucket/there")
    mimii.render(album, tmp_path / "out")
    files = {name for name in contents(tmp_path / "out") if name.endswith(".png") and "/" in name}
    rows = listed(tmp_path / "out")
    assert {row["file"] for row in rows} == files
    abnormal = {(row["path"], row["start_s"], row["stop_s"]) for row in rows if row["label"] == "abnormal"}
    assert abnormal == {
        (paths[0], "1.000", "2.000"),
        (paths[2], "3.000", "4.000"),
        (paths[3], "0.000", "1.000"),
    }
    assert all(row["file"].startswith(f"all/{row['label']}/{row['label']}-") for row in rows)
    lines = (tmp_path / "out/manifests/all.manifest").read_text().splitlines()
    entries = {entry["source-ref"]: entry["machine-state-metadata"] for entry in map(json.loads, lines)}
    by_file = {f"s3://bucket/there/{row['file']}": row for row in rows}
    assert {url: entry["class-name"] for url, entry in entries.items()} == {
        url: row["label"] for url, row in by_file.items()
    }
    human = {url for url, entry in entries.items() if entry["human-annotated"] == "yes"}
    assert human == {url for url, row in by_file.items() if row["path"] in paths[4:]}
    assert json.loads((tmp_path / "out/render.json").read_text())["label_by"] == str(events)


@pytest.mark.usefixtures("no_overview")
def test_other_events_relabel_and_render_nothing(raw, tmp_path, monkeypatch):
    paths = [str(path) for path in sorted(raw.rglob("*.wav"))]
    write_scores(tmp_path, *map(score_of, paths))
    output = tmp_path / "out"
    mimii.render(plan(raw), output)
    plain = contents(output)
    events = str(write_events(tmp_path, (paths[0], 0, 1.5, 1.7)))
    with pytest.raises(mimii.StoreError, match="relabelled"):
        mimii.render(plan(raw, events), output)

    def refuse(*_):
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr("mimii.images.batch.render_image", refuse)
        mimii.render(plan(raw, events), output, update=True)
    events = str(write_events(tmp_path, (paths[0], 0, 2.5, 2.7), (paths[1], 0, 0.5, 0.7)))
    album = plan(raw, events)
    objects = DiskObjects(str(output))
    changes = find_changes(album, objects, look(objects, ALBUM_HEAD))
    assert dict(changes.relabelled) == {
        paths[0]: "label 1 abnormal and 3 normal, of other images than before",
        paths[1]: "label normal -> 1 abnormal and 3 normal",
    }
    assert not changes.to_read
    with monkeypatch.context() as patch:
        patch.setattr("mimii.images.batch.render_image", refuse)
        mimii.render(album, output, update=True)
    assert mimii.render(album, output).computed == ()
    mimii.render(album, tmp_path / "once")
    assert_same_bytes(output, tmp_path / "once")
    mimii.render(plan(raw), output, update=True)
    assert contents(output) == plain


def test_the_overview_shows_an_image_of_each_label(raw, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "mimii.images.contact_sheet.draw_overview", lambda panels, *_: drawn.extend(panels) or b"overview"
    )
    lathe = str(raw / "lathe/00000000.wav")
    write_scores(tmp_path, score_of(lathe))
    mimii.render(plan(raw, str(write_events(tmp_path, (lathe, 0, 2.1, 2.4)))), tmp_path / "out")
    [panels] = [pair for pair in drawn if "00000000.wav" in pair[0].title]
    assert [(panel.title, panel.start_s) for panel in panels] == [
        ("00000000.wav, normal", 0.0),
        ("00000000.wav, abnormal", 2.0),
    ]
    spectrum = mimii.log_mel(lathe, SPEC)
    for panel in panels:
        first = int(panel.start_s * 100)
        shown = spectrum[first : first + 100]
        assert np.allclose(panel.decibel - panel.decibel.max(), shown - shown.max(), atol=1e-3)


@pytest.mark.parametrize(
    ("scored", "rendered"),
    [
        ("{folder}/raw/lathe/00000000.wav", "raw"),
        ("raw/lathe/00000000.wav", "{folder}/raw"),
        ("./raw/../raw/lathe/00000000.wav", "{folder}/raw"),
        ("{folder}/raw/lathe/00000000.wav", "../{name}/raw"),
    ],
)
def test_paths_may_be_relative_or_absolute(raw, tmp_path, monkeypatch, scored, rendered, caplog):
    monkeypatch.chdir(tmp_path)
    names = {"folder": tmp_path, "name": tmp_path.name}
    real = str(raw / "lathe/00000000.wav")
    version = score_of(real)[-1]
    write_scores(tmp_path, score_of(scored.format(**names), version=version))
    events = str(write_events(tmp_path, (scored.format(**names), 0, 0.0, 0.5)))
    assert labels_of(plan(rendered.format(**names), events))["lathe/00000000.wav"] == "ANNN"
    assert not caplog.records


def test_a_relative_path_is_found_below_another_folder_and_said(raw, tmp_path, monkeypatch, caplog):
    shutil.copytree(raw, tmp_path / "elsewhere/raw")
    monkeypatch.chdir(raw.parent)
    write_scores(tmp_path, *(score_of(f"raw/lathe/0000000{number}.wav") for number in range(2)))
    events = str(write_events(tmp_path, ("raw/lathe/00000001.wav", 0, 0.0, 0.5)))
    monkeypatch.chdir("/")
    labels = labels_of(plan(tmp_path / "elsewhere/raw", events))
    assert (labels["lathe/00000000.wav"], labels["lathe/00000001.wav"]) == ("NNNN", "ANNN")
    [record] = caplog.records
    assert record.getMessage() == (
        f"{events}: 2 recordings matched by the ends of their paths, such as "
        f"{tmp_path}/elsewhere/raw/lathe/00000000.wav as raw/lathe/00000000.wav"
    )


def test_a_recording_on_s3_is_that_of_a_relative_path():
    urls = [f"s3://bucket/night/raw/press{number}/1.wav" for number in range(3)]
    clips = [Clip(url, Place(url)) for url in urls]
    known = {number: {0: Scored(EVER)} for number in range(2)}
    paths = {urls[0]: known[0], "raw/press1/1.wav": known[1]}
    found = find_scored(clips, ScoredRecordings("events.csv", paths))
    assert found == {clips[0].recording: known[0], clips[1].recording: known[1]}
    for wrong in ("/raw/press0/1.wav", "s3://other/night/raw/press0/1.wav", "aw/press0/1.wav", "1.wav", "press1/2.wav"):
        with pytest.raises(mimii.SourceError, match=f"Looked for {wrong}, among paths such as {urls[0]}"):
            find_scored(clips, ScoredRecordings("events.csv", {wrong: known[0]}))
    other = "s3://bucket/day/raw/press0/1.wav"
    clips.append(Clip(other, Place(other)))
    with pytest.raises(mimii.SourceError, match=r"press0/1\.wav may be .*night/raw/press0/1\.wav or .*day/raw/press0"):
        find_scored(clips, ScoredRecordings("events.csv", {"press0/1.wav": known[0]}))


def test_a_recording_that_was_replaced_since_counts_as_not_scored(raw, tmp_path, caplog):
    paths = [str(raw / f"lathe/0000000{number}.wav") for number in range(2)]
    write_scores(tmp_path, *map(score_of, paths))
    events = str(write_events(tmp_path, *((path, 0, 0.0, 0.5) for path in paths)))
    write_clip(Path(paths[0]), 77, 32_000)
    labels = labels_of(plan(raw, events))
    assert (labels["lathe/00000000.wav"], labels["lathe/00000001.wav"]) == ("--", "ANNN")
    assert "1 recording replaced since, which count" in caplog.text
    os.utime(paths[1], (1, 1))
    with pytest.raises(
        mimii.SourceError, match=r"all of its recordings were replaced since, .*; run jobs\.score again"
    ):
        plan(raw, events)


def test_without_scores_only_recordings_that_have_events_count_as_scored(raw, tmp_path, caplog):
    events = str(write_events(tmp_path, (str(raw / "lathe/00000000.wav"), 0, 0.0, 0.5)))
    labels = labels_of(plan(raw, events))
    assert (labels["lathe/00000000.wav"], labels["lathe/00000001.wav"]) == ("ANNN", "----")
    assert f"{events}: there is no scores.csv beside it" in caplog.text
    assert caplog.records[0].levelno == logging.WARNING


@pytest.mark.parametrize("end", ["", "/"])
def test_the_folder_of_both_stands_for_them(raw, tmp_path, end):
    events = str(write_events(tmp_path, (str(raw / "lathe/00000000.wav"), 0, 0.0, 0.5)))
    assert labels_of(plan(raw, f"{tmp_path}{end}")) == labels_of(plan(raw, events))
    with pytest.raises(mimii.SourceError, match=rf"{raw}/events\.csv: there is no such file; name the events\.csv"):
        plan(raw, f"{raw}{end}")


EVENT = b"a.wav,press,0,1,2,5,1.5\n"
HEAD = ",".join(EVENTS).encode() + b"\n"


@pytest.mark.parametrize(
    ("events", "message"),
    [
        (None, r"{place}: there is no such file; name the events.csv that jobs.score wrote"),
        (b"", r"{place}, line 1: is empty; jobs.score writes recording, channel, start_s, stop_s, separated by commas"),
        (
            HEAD.replace(b",", b";"),
            r"{place}, line 1: has the columns recording;machine;.*separated by commas; missing",
        ),
        (b"recording,start_s,stop_s\n", r"{place}, line 1: has the columns recording, start_s, .*missing: channel"),
        (HEAD + EVENT + b"a.wav,press,0,1\n", r"{place}, line 3: has 4 cells, and the first line names 7 columns"),
        (HEAD + b"a.wav,press,left,1,2,5,1\n", r"{place}, line 2: channel must be a whole number, not 'left'"),
        (HEAD + b"a.wav,press,0,one,2,5,1\n", r"{place}, line 2: start_s must be a number, not 'one'"),
        (HEAD + EVENT + b"a.wav,press,0,3,2,5,1\n", r"{place}, line 3: must be seconds with start_s at most stop_s"),
        (HEAD + b"a.wav,press,0,,2,5,1\n", r"{place}, line 2: must be seconds with .*, not nan and 2"),
        (b"\xff\xfe" + HEAD, r"{place}: cannot be read as CSV in UTF-8"),
        (
            HEAD + EVENT,
            r"none of its 1 recordings is among the 6 to be rendered. Looked for a.wav, among .*/raw/lathe/",
        ),
        (HEAD, r"{place}: has no recordings; run jobs.score for those that are to be rendered"),
    ],
)
def test_what_is_no_list_of_events_is_refused_by_file_line_and_columns(raw, tmp_path, events, message):
    place = tmp_path / "found/events.csv"
    place.parent.mkdir()
    if events is not None:
        place.write_bytes(events)
    with pytest.raises(mimii.SourceError, match=message.format(place=place)):
        plan(raw, str(place))


def test_scores_that_are_none_are_refused_too(raw, tmp_path):
    events = str(write_events(tmp_path, (str(raw / "lathe/00000000.wav"), 0, 0.0, 0.5)))
    write_csv(tmp_path / "scores.csv", SCORES[:-1], [])
    with pytest.raises(mimii.SourceError, match=rf"{tmp_path}/scores\.csv, line 1: .*; missing: version"):
        plan(raw, events)


def render(*arguments):
    return run_here("render", *arguments, "--n-mels", 16, "--scheduler", "sync", "--split", "none")


@pytest.mark.usefixtures("no_overview")
def test_the_command_says_how_many_images_have_the_label_of_the_whole_recording(raw, tmp_path):
    said = "8 abnormal images have the label of the whole recording and show a part of it; --label-by events.csv labels"
    for more in (("--dry-run",), ()):
        assert said in render(raw, "--window", 1, "--output", tmp_path / "out", *more).stdout
    shutil.rmtree(raw / "press/id_01/abnormal")
    for window in (1, 9):
        assert "whole recording" not in render(raw, "--window", window, "--output", tmp_path / f"{window}").stdout
    assert "whole recording" not in render(raw / "lathe", "--output", tmp_path / "lathe").stdout


@pytest.mark.usefixtures("no_overview")
def test_what_jobs_score_finds_labels_the_windows_of_its_recordings(tmp_path, monkeypatch):
    monkeypatch.setattr(store, "write_page", lambda *_: b"page")
    machine(tmp_path / "raw/press7", n_abnormal=0)
    spec = mimii.FeatureSpec(n_fft=256, hop_length=100, n_mels=8, scale="add_eps")
    mimii.featurize(mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), spec, split="none"), tmp_path / "t.zarr")
    report = mimii.detect(tmp_path / "t.zarr")
    night = tmp_path / "night/press7"
    write(night / "abnormal/squeal.wav", hum(201, 96_000, tone=[(33_000, 47_000)]))
    write(night / "abnormal/quiet.wav", hum(202, 96_000))
    mimii.score(tmp_path / "night", report, output=tmp_path / "scores")
    done = render(night, "--window", 1, "--output", tmp_path / "out", "--label-by", tmp_path / "scores/events.csv")
    assert done.returncode == 0, done.stderr
    by_name = {name: [row for row in listed(tmp_path / "out") if name in row["path"]] for name in ("squeal", "quiet")}
    assert {row["label"] for row in by_name["quiet"]} == {"unknown"}  # labelled abnormal, and nothing was found
    assert [row["label"] for row in by_name["squeal"]].index("abnormal") in (1, 2)
    assert {round(float(row["start_s"])) for row in by_name["squeal"] if row["label"] == "abnormal"} <= {1, 2, 3}
    n_abnormal = sum(row["label"] == "abnormal" for row in by_name["squeal"])
    counts = f"{n_abnormal} abnormal, {6 - n_abnormal} normal, 6 without a label"
    said = f"labels    {counts}; 2 of 2 recordings scored; 1 recording labelled abnormal has no event\n"
    assert said in done.stdout
