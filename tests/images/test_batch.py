"""One task of images: windows of the mel spectrogram, each with dB of its own; a clip at a time; what becomes bad."""

import hashlib
import io
import json

import numpy as np
import pytest
from PIL import Image

from mimii.engine import Cluster, compute
from mimii.features import ClipResult, ClipTask, Fault, FeatureSpec, Header, Input, Segment
from mimii.images.album import make_album
from mimii.images.batch import cut_windows
from mimii.images.pixels import Style
from mimii.images.store import AlbumOutput
from mimii.recordings import find_recordings, make_catalogue, no_split
from mimii.storage import DEFAULT_READS, DiskObjects, Place
from tests.helpers.commands import contents, librosa_rows
from tests.helpers.recordings import write_clip
from tests.images.test_pixels import naive_gray
from tests.table.test_shards import watch

SPEC = FeatureSpec(frames=1)


def album_of(folder, **how):
    clips = find_recordings(str(folder))
    return make_album(make_catalogue(clips, no_split(clips), SPEC), Style(), **how)


def render(album, folder, tasks=None):
    """Render some tasks in this process, by default all; return their records."""
    output = AlbumOutput(album, DiskObjects(str(folder)))
    todo = range(output.n_tasks) if tasks is None else tasks
    return [record for _, record in compute(Cluster(None, 1), output.pipeline, ((n, output.task(n)) for n in todo))]


def images_of(folder):
    return {name: data for name, data in contents(folder).items() if name.endswith(".png")}


def pixels_of(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image).astype(int)


@pytest.mark.parametrize("window", [None, 0.5])
def test_each_image_shows_its_frames_as_librosa_computes_them(tmp_path, window):
    for seed in range(3):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 25_000 + 1000 * seed)
    album = album_of(tmp_path / "raw", window=window)
    render(album, tmp_path / "out")
    found = images_of(tmp_path / "out")
    pictures = [(clip, picture) for clip in range(3) for picture in album.pictures(clip)]
    assert found.keys() == {picture.key for _, picture in pictures}
    assert len(found) == (3 if window is None else 3 * 4)
    for clip, picture in pictures:
        decibel = librosa_rows(tmp_path / "raw" / f"{clip}.wav", frames=1)[picture.start : picture.stop]
        difference = np.abs(pixels_of(found[picture.key]) - naive_gray(decibel, decibel.min(), decibel.max()))
        assert difference.max() <= 1
        assert (difference > 0).mean() < 0.01


def test_a_record_vouches_for_the_images_of_its_task(tmp_path):
    for seed in range(5):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 1 << 21)  # 4,097 frames
    album = album_of(tmp_path / "raw", window=20.0)
    assert album.n_tasks > 1
    [record] = render(album, tmp_path / "out", [1])
    found = images_of(tmp_path / "out")
    assert found.keys() == {picture.key for clip in album.clips_of(1) for picture in album.pictures(clip)}
    assert {key: (one.size, one.sha256) for key, one in record.written.items()} == {
        key: (len(data), hashlib.sha256(data).hexdigest()) for key, data in found.items()
    }
    assert json.loads((tmp_path / "out/records/1.json").read_text())["stamp"]["task"] == 1
    assert (record.bad, record.unread) == ({}, ())


def test_a_partition_streams_one_clip_after_the_other(tmp_path, monkeypatch):
    for seed in range(4):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed)
    album, events = album_of(tmp_path / "raw", window=0.25), watch(monkeypatch)
    assert album.n_tasks == 1
    render(album, tmp_path / "out")
    assert events == [(what, clip) for clip in "0123" for what in ("open", "samples", "close")]


def test_more_images_than_are_written_together_are_all_written(tmp_path):
    write_clip(tmp_path / "raw" / "a.wav", 1, 480_000)
    album = album_of(tmp_path / "raw", window=0.1)
    [record] = render(album, tmp_path / "out")
    assert len(album.pictures(0)) == len(record.written) == len(images_of(tmp_path / "out")) == 300


def test_a_record_does_not_vouch_for_images_of_a_clip_that_became_bad_which_stay_until_lists_are_written(tmp_path):
    for seed in range(3):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed)
    album = album_of(tmp_path / "raw", window=0.5)
    render(album, tmp_path / "out")
    before = images_of(tmp_path / "out")
    (tmp_path / "raw" / "1.wav").write_bytes(b"no longer audio")
    (tmp_path / "raw" / "2.wav").unlink()
    [record] = render(album, tmp_path / "out")
    assert images_of(tmp_path / "out") == before
    assert record.written.keys() == {picture.key for picture in album.pictures(0)}
    assert (list(record.bad), record.unread) == ([1, 2], (2,))
    assert "not audio" in record.bad[1]
    assert "No such file" in record.bad[2]


def test_a_bad_clip_is_not_cut():
    one = Input(0, Place("/data/a.wav"), Header(16_000, 1, 16_000), 0, Segment(0, 16_000))
    clip = ClipResult(one, ClipTask((one,), DEFAULT_READS, SPEC), fault=Fault("truncated"))
    assert cut_windows(clip) == [clip]
