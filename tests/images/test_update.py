"""Albums that are updated: whatever comes, goes, changes or is relabelled, and wherever a run is killed."""

import csv
import hashlib
import json
import logging
import os
import tempfile
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from unittest import mock

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, example, given, settings

import mimii
from mimii import features
from mimii.engine import look
from mimii.images import album as album_module
from mimii.images import batch, find_changes, store
from mimii.images.contact_sheet import digest_contact_sheet
from mimii.storage import DiskObjects
from tests.helpers.commands import assert_same_bytes, contents
from tests.helpers.recordings import write_clip
from tests.table.test_growth import KilledError, dying_at

SPEC = mimii.FeatureSpec(n_mels=16, n_fft=512, hop_length=256, frames=1)
LENGTHS = (4000, 6000, 30_000)
FRAMES_A_TASK = 60
"""So that the clips of a test are some tasks."""


@dataclass(frozen=True)
class Take:
    """What a recording is, and what the list says of it."""

    seed: int
    n_samples: int
    label: str
    split: str
    number: int
    folder: str = "a"


@dataclass
class Factory:
    """A folder of recordings with a list of them, and what they are."""

    folder: Path
    clock: int = 1_700_000_000
    takes: dict[str, Take] = field(default_factory=dict)

    def path(self, name):
        return self.folder / "raw" / self.takes[name].folder / f"{name}.wav"

    def write(self, name, seed, n_samples):
        before = self.takes.get(name, Take(0, 0, "normal" if int(name) % 4 else "abnormal", "", int(name)))
        self.takes[name] = replace(before, seed=seed, n_samples=n_samples)
        path = write_clip(self.path(name), 1000 * int(name) + seed, n_samples)
        self.clock += 1
        os.utime(path, (self.clock, self.clock))

    def change(self, name, **what):
        self.takes[name] = replace(self.takes[name], **what)

    def swap(self, name, other):
        """Give each of two recordings the number and the label of the other: their images swap names."""
        one, two = self.takes[name], self.takes[other]
        self.change(name, number=two.number, label=two.label)
        self.change(other, number=one.number, label=one.label)

    def delete(self, name):
        self.path(name).unlink()
        del self.takes[name]

    def album(self, **how):
        path = self.folder / "list.csv"
        with path.open("w", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(("path", "machine_type", "machine_id", "number", "label", "split", "snr_db"))
            for name, take in sorted(self.takes.items()):
                rows.writerow((self.path(name), "press", "id_01", take.number, take.label, take.split, 6))
        return mimii.plan_images(mimii.find_recordings(lists=[str(path)]), SPEC, **how)


def render(album, output, **how):
    logging.disable(logging.WARNING)
    try:
        return mimii.render(album, str(output), **how)
    finally:
        logging.disable(logging.NOTSET)


def update(factory, output, **how):
    return render(factory.album(**how), output, update=True, prune=True)


@pytest.fixture(autouse=True)
def small_tasks(monkeypatch):
    monkeypatch.setattr(album_module, "_FRAMES_A_TASK", FRAMES_A_TASK)


@pytest.fixture
def same_sizes(monkeypatch):
    """Have images of one size, so that only records tell them apart; and overviews that are quick to draw."""
    monkeypatch.setattr(batch, "render_image", lambda decibel, _: hashlib.sha256(decibel.tobytes()).digest())

    def draw(album, problems, _):
        return None if all(problems) else digest_contact_sheet(album, problems).encode()

    monkeypatch.setattr(store, "make_contact_sheet", draw)


@pytest.fixture
def factory(tmp_path):
    factory = Factory(tmp_path)
    for name in map("{:08d}".format, range(1, 10)):
        factory.write(name, 0, 4000)
    return factory


@pytest.fixture
def opened(monkeypatch):
    """Return the names of recordings whose samples are loaded; overviews do not count."""
    names = []
    load = features.load

    def watching(read, one, spec):
        names.append(Path(one.place.url).stem)
        return load(read, one, spec)

    monkeypatch.setattr(features, "load", watching)
    monkeypatch.setattr(store, "make_contact_sheet", lambda *_: b"overview")
    return names


def listed(output):
    with (output / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def folders_of(root):
    return {path.relative_to(root) for path in root.rglob("*") if path.is_dir()}


def assert_as_in_one_go(factory, output, **how):
    with tempfile.TemporaryDirectory() as scratch:
        render(factory.album(**how), scratch)
        assert_same_bytes(output, Path(scratch))
        assert folders_of(output) == folders_of(Path(scratch))


def assert_listed_images_are_there(output):
    """Make sure that a reader of the list finds all that it names."""
    if (output / "images.csv").exists():
        assert [row["file"] for row in listed(output) if row["file"] and not (output / row["file"]).exists()] == []


def keys_of(output):
    return {name for name in contents(output) if name.endswith(".png") and "/" in name}


NAMES = st.sampled_from([f"{number:08d}" for number in range(7)])
CHANGES = st.one_of(
    st.tuples(st.just("write"), NAMES, st.integers(0, 2), st.sampled_from(LENGTHS)),
    st.tuples(st.just("delete"), NAMES),
    st.tuples(st.just("label"), NAMES, st.sampled_from(["normal", "abnormal", ""])),
    st.tuples(st.just("split"), NAMES, st.sampled_from(["train", "test", ""])),
    st.tuples(st.just("swap"), NAMES, NAMES),
    st.tuples(st.just("break"), NAMES, st.sampled_from([10, 2000])),
)
STEPS = st.lists(
    st.tuples(st.lists(CHANGES, min_size=1, max_size=5), st.one_of(st.none(), st.integers(0, 40))),
    min_size=1,
    max_size=5,
)
TWO = ("00000001", "00000004")
FIRST = [("write", f"{number:08d}", 0, 4000) for number in range(7)]


def apply_changes(factory, changes):
    for kind, name, *how in changes:
        if kind == "write":
            factory.write(name, *how)
        elif name in factory.takes:
            apply_change(factory, kind, name, *how)


def apply_change(factory, kind, name, *how):
    if kind == "delete":
        factory.delete(name)
    elif kind == "swap" and how[0] in factory.takes:
        factory.swap(name, how[0])
    elif kind == "break":
        path = factory.path(name)
        path.write_bytes(path.read_bytes()[: how[0]])
        factory.clock += 1
        os.utime(path, (factory.clock, factory.clock))
    elif kind in ("label", "split"):
        factory.change(name, **{kind: how[0]})


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@example([(FIRST, None), ([("write", "00000000", 1, 30_000), ("delete", "00000003")], 9), ([("swap", *TWO)], 5)])
@example([(FIRST, None), ([("swap", *TWO)], 7), ([("swap", *TWO)], 9)])
@given(steps=STEPS)
@pytest.mark.usefixtures("same_sizes")
def test_any_sequence_with_kills_leaves_the_bytes_of_an_album_made_in_one_go(steps):
    with tempfile.TemporaryDirectory() as scratch:
        factory, output = Factory(Path(scratch)), Path(scratch, "album")
        for changes, kill in steps:
            apply_changes(factory, changes)
            if not factory.takes:
                continue
            if kill is not None:
                with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
                    dying_at(patch, kill)
                    update(factory, output, window=0.5)
                for lease in output.glob("lease-*"):  # of this process, which is alive
                    lease.unlink()
                assert_listed_images_are_there(output)
                if kill % 2:  # what comes next finds an update that is not finished, and has other clips
                    continue
            update(factory, output, window=0.5)
            assert_as_in_one_go(factory, output, window=0.5)


def earlier(output, album):
    """Make an album one of format 1, whose records say nothing of clips, and whose head has fewer attributes."""
    fingerprint = album_module.fingerprint_of(album, album_module.EARLIER_FORMAT)
    for task in range(album.n_tasks):
        path = output / "records" / f"{task}.json"
        record = json.loads(path.read_text())
        record["stamp"]["fingerprint"], record["result"] = fingerprint, {}
        path.write_text(json.dumps(record))
    head = json.loads((output / "render.json").read_text())
    head = {name: value for name, value in head.items() if name not in ("recordings", "lists", "overview")}
    (output / "render.json").write_text(json.dumps(head | {"format": 1, "fingerprint": fingerprint}))


def test_only_clips_that_are_new_or_have_changed_are_read(factory, tmp_path, opened):
    output = tmp_path / "album"
    update(factory, output)
    assert sorted(opened) == sorted(factory.takes)
    opened.clear()
    factory.write("00000000", 1, 4000)  # before all others: each of them is in another place of its task
    factory.write("00000004", 1, 6000)
    factory.change("00000005", label="abnormal")
    factory.change("00000006", split="test")
    factory.delete("00000007")
    assert len(update(factory, output).computed) > 1
    assert sorted(opened) == ["00000000", "00000004"]
    assert_as_in_one_go(factory, output)


@pytest.mark.parametrize("kill", [1, 5, 8, 11, 14, 18])
def test_what_a_killed_update_has_rendered_is_not_read_again_and_what_it_has_not_touched_is_not_either(
    factory, tmp_path, opened, kill
):
    output = tmp_path / "album"
    update(factory, output)
    factory.write("00000000", 1, 4000)
    factory.write("00000009", 1, 4000)
    opened.clear()
    with pytest.MonkeyPatch.context() as patch, suppress(KilledError):
        dying_at(patch, kill)
        update(factory, output)
    for lease in output.glob("lease-*"):
        lease.unlink()
    update(factory, output)
    assert set(opened) == {"00000000", "00000009"}
    assert len(opened) <= 2 + 1  # one task was killed between its images and its record
    assert_as_in_one_go(factory, output)


def test_a_clip_that_cannot_be_read_is_not_read_again_before_it_changes(factory, tmp_path, opened):
    output = tmp_path / "album"
    apply_change(factory, "break", "00000003", 2000)
    update(factory, output)
    opened.clear()
    factory.write("00000000", 1, 4000)
    update(factory, output)
    assert opened == ["00000000"]
    assert_as_in_one_go(factory, output)


def test_with_nothing_new_nothing_is_written(factory, tmp_path, opened):
    output = tmp_path / "album"
    update(factory, output)
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    opened.clear()
    assert update(factory, output).computed == ()
    assert ({path: path.stat().st_mtime_ns for path in output.rglob("*")}, opened) == (before, [])


def test_an_overview_that_shows_the_same_is_not_drawn_again(factory, tmp_path):
    output, drawn = tmp_path / "album", []
    real = store.make_contact_sheet
    with mock.patch.object(store, "make_contact_sheet", lambda *of: drawn.append(1) or real(*of)):
        update(factory, output)
        factory.takes = {name: replace(take, folder=take.folder) for name, take in factory.takes.items()}
        apply_change(factory, "split", "00000009", "test")
        update(factory, output)
        assert len(drawn) == 1
        factory.write("00000001", 5, 4000)  # it is on the overview
        update(factory, output)
        assert len(drawn) == 2
    assert_as_in_one_go(factory, output)


def test_clips_that_are_not_named_are_refused_by_name_unless_pruned(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output)
    before = contents(output)
    factory.delete("00000002")
    with pytest.raises(mimii.StoreError, match=r"1 gone:\n    .*00000002\.wav\n  .*name their sources, too, or delete"):
        render(factory.album(), output, update=True)
    assert contents(output) == before
    render(factory.album(), output, update=True, prune=True)
    assert_as_in_one_go(factory, output)


def test_without_update_other_clips_are_refused_by_name_with_the_option_that_does_it(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output)
    before = contents(output)
    for name in map("{:08d}".format, range(20, 32)):
        factory.write(name, 1, 4000)
    factory.write("00000005", 1, 6000)
    factory.delete("00000002")
    factory.change("00000001", label="abnormal")
    with pytest.raises(mimii.StoreError) as refused:
        render(factory.album(), output)
    said = str(refused.value)
    assert "clips: 9 there, 20 now" in said
    assert "12 new:" in said
    assert said.count("/000000") == 10 + 3  # the first ten of twelve
    assert "and 2 more" in said
    assert "00000001.wav: label normal -> abnormal" in said
    assert "1 replaced:" in said
    assert "1 gone:" in said
    assert "--update" in said
    assert contents(output) == before


def test_where_the_list_of_images_is_damaged_it_is_not_guessed_how_the_clips_differ(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output)
    (output / "images.csv").write_text("nothing\n")
    before = contents(output)
    factory.write("00000020", 1, 4000)
    with pytest.raises(mimii.StoreError, match=r"images\.csv: is missing or damaged.*--overwrite"):
        render(factory.album(), output)
    assert contents(output) == before


def test_another_style_is_refused_with_update_too(factory, tmp_path):
    update(factory, tmp_path / "album")
    with pytest.raises(mimii.StoreError, match="size: None there"):
        update(factory, tmp_path / "album", style=mimii.Style(size=(64, 64)))


@pytest.mark.usefixtures("factory")
def test_recordings_are_known_by_their_place_from_another_folder(tmp_path, monkeypatch, opened):
    monkeypatch.chdir(tmp_path)
    clips = mimii.find_recordings("raw")
    render(mimii.plan_images(clips, SPEC), tmp_path / "album", update=True)
    opened.clear()
    monkeypatch.chdir(tmp_path / "raw")
    render(mimii.plan_images(mimii.find_recordings("."), SPEC), tmp_path / "album", update=True)
    assert not opened


def test_an_album_of_an_earlier_format_is_brought_up_to_date_without_reading_audio(factory, tmp_path, opened):
    output = tmp_path / "album"
    update(factory, output)
    finished = contents(output)
    earlier(output, factory.album())
    opened.clear()
    render(factory.album(), output)
    assert (contents(output), opened) == (finished, [])


def test_an_album_of_an_earlier_format_with_other_clips_is_refused_with_what_to_do(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output)
    earlier(output, factory.album())
    factory.write("00000000", 1, 4000)
    with pytest.raises(mimii.StoreError, match=r"format: 1 there, 2 now.*Run this once for the recordings"):
        update(factory, output)


def test_files_that_are_not_ours_stay(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output)
    mine = [output / "train/normal/holiday.png", output / "train/normal/normal-notes.txt", output / "notes.png"]
    for path in mine:
        path.write_bytes(b"mine")
    factory.delete("00000002")
    update(factory, output)
    assert all(path.exists() for path in mine)


def test_changes_are_counted_before_anything_is_done(factory, tmp_path):
    output = tmp_path / "album"
    update(factory, output, window=0.25)
    factory.write("00000000", 1, 8000)
    factory.write("00000004", 1, 4000)
    factory.change("00000005", label="abnormal")
    factory.delete("00000007")
    planned = store.AlbumOutput(factory.album(window=0.25), DiskObjects(str(output)), is_update=True, prune=True)
    changes = find_changes(planned.album, planned.objects, look(planned.objects, planned.head))
    counts = [len(some) for some in (changes.added, changes.replaced, changes.relabelled, changes.gone)]
    assert counts == [1, 1, 1, 1]
    assert planned.count_work()[:2] == (2 + 1, 1)


def test_a_damaged_image_that_gets_another_name_is_an_error_that_says_what_to_do(factory, tmp_path):
    update(factory, tmp_path / "out")
    [damaged] = [row["file"] for row in listed(tmp_path / "out") if row["path"].endswith("00000002.wav")]
    path = tmp_path / "out" / damaged
    path.write_bytes(bytes(path.stat().st_size))
    factory.change("00000002", label="abnormal")
    said = rf"{damaged}: this image is damaged; delete it and run the same command again, and it is rendered"
    with pytest.raises(OSError, match=said):
        update(factory, tmp_path / "out")
    path.unlink()
    update(factory, tmp_path / "out")
    assert_as_in_one_go(factory, tmp_path / "out")
