"""An album's plan: windows that cover a clip, tasks that cover the clips, a fingerprint of all that matters."""

import dataclasses
import math
import pickle

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mimii.features.spec import FeatureSpec, SpecError, n_frames
from mimii.images.album import make_album, render_stamp, render_task
from mimii.images.pixels import Style
from mimii.recordings.catalogue import make_catalogue
from mimii.storage.disk import DiskObjects
from tests.table.test_table import some_clips, with_identity, with_lengths, with_place

SPEC = FeatureSpec(frames=1)


def album_of(clips=None, lengths=None, spec=SPEC, style=Style(), window=None, splits=None, **how):  # noqa: B008  frozen
    clips = some_clips() if clips is None else clips
    clips = with_lengths(clips, lengths or [160_000] * len(clips))
    return make_album(make_catalogue(clips, splits or ["train"] * len(clips), spec), style, window, **how)


def test_a_clip_has_one_image_of_all_its_frames():
    album = album_of(lengths=[160_000, 1000, 3_000_000, 1, 511, 512])
    for clip, length in enumerate([160_000, 1000, 3_000_000, 1, 511, 512]):
        [picture] = album.pictures(clip)
        assert (picture.start, picture.stop) == (0, n_frames(length, SPEC))
        assert album.size(picture) == (n_frames(length, SPEC), 64)


def test_a_clip_without_samples_has_none():
    album = album_of(lengths=[160_000, 0, 160_000, 160_000, 160_000, 160_000])
    assert album.pictures(1) == []
    assert 1 not in [clip for task in range(album.n_tasks) for clip in album.clips_of(task)]


@example(n_samples=32_126, window=32_125 / 16_000)  # a sample more than a window, and no frame more
@given(n_samples=st.integers(1, 3_000_000), window=st.floats(0.064, 60, allow_nan=False))
def test_windows_cover_a_clip_and_are_equally_wide(n_samples, window):
    album = album_of(some_clips()[:1], [n_samples], window=window)
    pictures, total = album.pictures(0), n_frames(n_samples, SPEC)
    width = min(round(window * 16_000 / 512), total)
    assert {picture.stop - picture.start for picture in pictures} == {width}
    assert all(0 <= picture.start < picture.stop <= total for picture in pictures)
    starts = [picture.start for picture in pictures]
    assert starts == sorted(set(starts))
    assert len({picture.key for picture in pictures}) == len(pictures)
    covered = {frame for picture in pictures for frame in range(picture.start, picture.stop)}
    gaps = total - len(covered)
    assert gaps <= len(pictures)  # a frame at most where widths are rounded down
    count = max(1, math.ceil(n_samples / (window * 16_000) - 1e-9))
    assert len(pictures) == count or (len(pictures) == count - 1 and pictures[-1].stop == total)


@pytest.mark.parametrize(
    ("seconds", "window", "starts"),
    [(10, 5.0, [0, 156]), (10, 10.0, [0]), (10, 20.0, [0]), (10, 3.0, [0, 94, 188, 219]), (60, 20.0, [0, 625, 1250])],
)
def test_windows_begin_where_they_should(seconds, window, starts):
    album = album_of(some_clips()[:1], [16_000 * seconds], window=window)
    assert [picture.start for picture in album.pictures(0)] == starts


def test_windows_are_numbered_in_the_names():
    keys = [picture.key for picture in album_of(some_clips()[:1], window=4.0).pictures(0)]
    assert keys == [f"train/normal/normal-fan-id_00-6dB-00000000-w000{index}.png" for index in range(3)]


@pytest.mark.parametrize("window", [0.05, 0.0, -1.0, float("nan")])
def test_a_window_narrower_than_two_frames_is_refused(window):
    with pytest.raises(SpecError, match=r"at least two frames, which are 0\.064 s"):
        album_of(window=window)


@given(lengths=st.lists(st.sampled_from([0, 1000, 160_000, 2_000_000, 30_000_000]), max_size=60))
def test_tasks_together_have_each_usable_clip_once(lengths):
    clips = [dataclasses.replace(some_clips()[0], path=f"{n}.wav") for n in range(len(lengths))]
    album = album_of(clips, lengths)
    usable = [clip for clip, length in enumerate(lengths) if length]
    assert [clip for task in range(album.n_tasks) for clip in album.clips_of(task)] == usable
    assert all(album.clips_of(task) for task in range(album.n_tasks))
    frames = [sum(n_frames(lengths[clip], SPEC) for clip in album.clips_of(task)[:-1]) for task in range(album.n_tasks)]
    assert all(count < 20_000 for count in frames)


def test_many_clips_are_some_tasks():
    clips = [dataclasses.replace(some_clips()[0], path=f"{n}.wav") for n in range(1000)]
    assert 20 < album_of(clips).n_tasks < 50


def test_a_task_is_small_and_knows_its_images():
    clips = [dataclasses.replace(some_clips()[0], path=f"{n}.wav") for n in range(1000)]
    album = album_of(clips)
    task = render_task(album, 3, DiskObjects("out"))
    assert [one.clip for one in task.inputs] == album.clips_of(3)
    assert list(task.pictures) == [tuple(album.pictures(clip)) for clip in album.clips_of(3)]
    assert task.stamp == render_stamp(album, 3)
    assert (task.stamp.task, task.faults, task.kept) == (3, {}, {})
    assert len(pickle.dumps(task)) < 300 * len(task.inputs)
    assert "batch 3" in str(task)


@pytest.mark.parametrize(
    "how",
    [
        {"spec": FeatureSpec(frames=1, n_mels=32)},
        {"spec": FeatureSpec(frames=1, scale="add_eps")},
        {"style": Style(db_range=(-60.0, 0.0))},
        {"style": Style(size=(224, 224))},
        {"style": Style(size=(224, 224), resampling="box")},
        {"style": Style(format="jpeg")},
        {"style": Style("magma", bytes(range(30)))},
        {"window": 5.0},
        {"lengths": [160_000] * 5 + [160_001]},
        {"splits": ["train"] * 5 + ["test"]},
        {"clips": with_identity(0, label=1)},
        {"clips": some_clips()[:5]},
    ],
    ids=str,
)
def test_what_changes_a_pixel_or_a_name_changes_the_fingerprint(how):
    assert album_of(**how).fingerprint != album_of().fingerprint


@pytest.mark.parametrize("how", [{}, {"base": "s3://bucket/there"}, {"clips": with_place(0, version="other")}], ids=str)
def test_what_changes_none_does_not(how):
    assert album_of(**how).fingerprint == album_of().fingerprint


@pytest.mark.parametrize("changes", [{"version": "later"}, {"size": 5}], ids=str)
def test_the_inputs_of_a_task_change_with_its_recordings_and_no_others(changes):
    before, after = (album_of(clips, [3_000_000] * 6) for clips in (some_clips(), with_place(0, **changes)))
    assert before.n_tasks > 1
    assert render_stamp(before, 0).inputs != render_stamp(after, 0).inputs
    others = range(1, before.n_tasks)
    assert [render_stamp(before, n).inputs for n in others] == [render_stamp(after, n).inputs for n in others]


def test_an_empty_album_has_no_tasks():
    album = album_of([], [])
    assert (album.n_tasks, album.firsts.dtype) == (0, np.int64)
