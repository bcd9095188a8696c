"""The front door of images: a plan of them, and rendering it is what the command does."""

import csv
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import mimii
from mimii.engine import SILENT
from tests.helpers.commands import assert_same_bytes, contents, run_here
from tests.helpers.recordings import write_clip, write_machines

SIZE = mimii.Style(size=(100, 70))


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("make") / "raw"
    write_machines(folder, 12)
    (folder / "zero.wav").write_bytes(b"")
    return folder


@pytest.fixture(scope="module")
def clips(raw):
    return mimii.find_recordings(str(raw))


def listed(output):
    with (output / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def images_of(output):
    return {name: data for name, data in contents(output).items() if name.endswith(".png") and "/" in name}


def test_a_plan_has_an_image_for_each_clip_and_writes_nothing(raw, clips):
    before = contents(raw)
    album = mimii.plan_images(clips)
    assert contents(raw) == before
    assert [len(album.pictures(clip)) for clip in range(13)] == [1] * 12 + [0]
    assert [album.size(album.pictures(clip)[0]) for clip in range(12)] == [(32, 64)] * 12
    assert (album.style, album.window, album.base, album.sources) == (mimii.Style(), None, "", (str(raw),))
    assert mimii.plan_images(list(clips)).fingerprint == album.fingerprint


def test_without_a_spec_it_is_explore_at_the_rate_of_most_clips_and_frames_have_no_effect(tmp_path, clips):
    for seed, rate in enumerate((8000, 44_100, 44_100)):
        write_clip(tmp_path / f"{seed}.wav", seed, sample_rate=rate)
    album = mimii.plan_images(mimii.find_recordings(str(tmp_path)))
    assert album.catalogue.spec == mimii.FeatureSpec.preset("explore", sample_rate=44_100, frames=1)
    specs = (mimii.FeatureSpec(frames=frames) for frames in (1, 5))
    assert len({mimii.plan_images(clips, spec).fingerprint for spec in specs}) == 1


def test_clips_are_split_as_asked(clips):
    def splits(**how):
        return mimii.plan_images(clips, **how).catalogue.splits[:12]

    assert set(splits(train_fraction=1.0)) == {"train"}
    assert set(splits(train_fraction=0.0)) == {"test"}
    assert set(splits(split="none")) == {""}
    assert len({splits(train_fraction=0.5, seed=seed) for seed in range(9)}) > 3


def test_a_label_that_train_or_test_lacks_is_warned_of(clips, caplog):
    def lacking(clips, **how):
        caplog.clear()
        splits = mimii.plan_images(clips, **how).catalogue.splits
        labels = {(split, clip.identity.label) for split, clip in zip(splits, clips, strict=True) if not clip.problem}
        names = {split: sorted(label for other, label in labels if other == split) for split, _ in labels}
        return names, [record.getMessage().partition(":")[0] for record in caplog.records]

    found = [lacking(clips, train_fraction=0.7, seed=seed) for seed in range(40)]
    said = {"train": {0: "no recording in train is normal", 1: "no recording in train is abnormal"}}
    said["test"] = {0: "no recording in test is normal", 1: "no recording in test is abnormal"}
    for labels, warnings in found:
        expected = [said[split][label] for split in labels for label in {0, 1} - {*labels[split]}]
        assert sorted(warnings) == sorted(expected if len(labels) == 2 else [])
    assert {bool(warnings) for _, warnings in found} == {True, False}
    assert lacking(clips, split="none")[1] == lacking(clips, train_fraction=1.0)[1] == []
    told = [replace(one, identity=replace(one.identity, split=("train", "test")[one.identity.label])) for one in clips]
    assert lacking(told) == ({"train": [0], "test": [1]}, [])


def test_a_window_too_narrow_is_refused(clips):
    with pytest.raises(mimii.SpecError, match=r"at least two frames, which are 0\.064 s, not 0\.05 s"):
        mimii.plan_images(clips, window=0.05)


def test_images_rendered_in_this_process_are_the_commands_byte_for_byte(raw, clips, tmp_path):
    options = ("--size", "100x70", "--window", 0.5, "--manifest-base", "s3://bucket/there", "--workers", 2)
    done = run_here("render", raw, "--output", tmp_path / "command", *options)
    assert done.returncode == 3, done.stderr  # a clip is bad
    album = mimii.plan_images(clips, style=SIZE, window=0.5, manifest_base="s3://bucket/there")
    rendered = mimii.render(album, str(tmp_path / "here"))
    assert_same_bytes(tmp_path / "here", tmp_path / "command")
    assert (rendered.location, rendered.computed, rendered.bad) == (str(tmp_path / "here"), (0,), {})
    assert rendered.n_bytes == sum(map(len, images_of(tmp_path / "here").values()))


def test_images_are_where_the_list_and_the_manifests_say(clips, tmp_path):
    output = tmp_path / "out"
    mimii.render(mimii.plan_images(clips, style=SIZE, manifest_base="s3://bucket/there"), str(output))
    rows = listed(output)
    assert {row["file"] for row in rows if row["file"]} == images_of(output).keys()
    assert [Path(row["path"]).name for row in rows if row["status"] != "ok"] == ["zero.wav"]
    assert len(rows) == 13
    for name in images_of(output):
        with Image.open(output / name) as image:
            assert image.size == (100, 70)
    entries = [json.loads(line) for path in output.glob("manifests/*") for line in path.read_text().splitlines()]
    assert {entry["source-ref"] for entry in entries} == {f"s3://bucket/there/{name}" for name in images_of(output)}


def test_each_clip_has_an_image_of_its_own_sound(clips, tmp_path):
    album = mimii.plan_images(clips)
    mimii.render(album, str(tmp_path / "out"))
    found = images_of(tmp_path / "out")
    assert len(set(found.values())) == 12
    for clip in range(12):
        [picture] = album.pictures(clip)
        decibel = mimii.log_mel(clips[clip].path)
        expected = 255 - 255 * (decibel - decibel.min()) / np.ptp(decibel)
        with Image.open(tmp_path / "out" / picture.key) as image:
            assert np.abs(np.asarray(image) - expected.T[::-1]).max() <= 1


def test_the_same_call_resumes(clips, tmp_path):
    long = mimii.FeatureSpec(hop_length=8)  # 2,001 frames a clip, 5 clips a task
    album, output = mimii.plan_images(clips, long), tmp_path / "out"
    assert album.n_tasks == 3
    assert mimii.render(album, str(output)).computed == (0, 1, 2)
    finished = contents(output)
    (output / album.pictures(album.clips_of(1)[0])[0].key).unlink()
    (output / "records/2.json").unlink()
    assert mimii.render(album, str(output)).computed == (1, 2)
    assert contents(output) == finished
    assert mimii.render(album, str(output), progress=SILENT).computed == ()


def test_another_style_is_refused_unless_it_is_to_be_overwritten(clips, tmp_path):
    output = str(tmp_path / "out")
    mimii.render(mimii.plan_images(clips), output)
    other = mimii.plan_images(clips, style=SIZE)
    with pytest.raises(mimii.StoreError, match=r"another set of images[\s\S]*size: None there, \[100, 70\] now"):
        mimii.render(other, output)
    mimii.render(other, output, overwrite=True)
    mimii.render(other, str(tmp_path / "new"))
    assert_same_bytes(tmp_path / "out", tmp_path / "new")


def test_a_clip_that_turns_out_bad_is_reported_and_has_no_image(tmp_path):
    paths = write_machines(tmp_path / "raw", 4)
    album = mimii.plan_images(mimii.find_recordings(str(tmp_path / "raw")))
    paths[2].write_bytes(b"no longer audio")
    rendered = mimii.render(album, str(tmp_path / "out"))
    [(clip, problem)] = rendered.bad.items()
    assert album.catalogue.clips[clip].path == str(paths[2])
    [row] = [row for row in listed(tmp_path / "out") if row["status"] != "ok"]
    assert (row["path"], row["status"], row["file"]) == (str(paths[2]), problem, "")
    assert len(images_of(tmp_path / "out")) == 3


def test_arguments_of_a_wrong_type_are_refused_with_what_to_give(raw, clips, tmp_path):
    with pytest.raises(TypeError, match=r"clips must be what mimii\.find_recordings returns"):
        mimii.plan_images(str(raw))
    with pytest.raises(TypeError, match=r"spec must be a mimii\.FeatureSpec"):
        mimii.plan_images(clips, "explore")
    with pytest.raises(TypeError, match=r"an album: mimii\.plan_images\(mimii\.find_recordings\(FOLDER\)\), not '"):
        mimii.render(str(raw), tmp_path / "out")
    with pytest.raises(mimii.SourceError, match="the album has no clips"):
        mimii.render(mimii.plan_images([]), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_album_says_in_a_line_what_its_images_show(clips):
    album = mimii.plan_images(clips, window=0.5)
    assert repr(album) == (
        "<Album: 13 clips (1 cannot be used), 24 images, 16 x 64 pixels: 0.512 s to the right, 64 mel bands from 0 to "
        "8,000 Hz upwards, each on its own dB scale>"
    )
    assert "from -80 to 0 dB>" in repr(mimii.plan_images(clips, style=mimii.Style(db_range=(-80, 0))))
    assert repr(mimii.plan_images([])) == "<Album: 0 clips (0 cannot be used), 0 images>"
