"""Images of channels and segments: one each, named and listed for what they are, and kept when the album grows."""

import csv

import numpy as np
import pytest
from PIL import Image

import mimii
from tests.helpers.commands import contents
from tests.helpers.recordings import write_clip

SPEC = mimii.FeatureSpec.preset("dcase", channel="all", segment=0.5, n_mels=32)


@pytest.fixture
def raw(tmp_path):
    for seed, (rate, n_channels) in enumerate([(16_000, 2), (44_100, 2), (16_000, 1)]):
        label = "normal" if seed else "abnormal"
        write_clip(tmp_path / "raw" / "press7" / label / f"{seed:08d}.wav", seed, int(1.2 * rate), n_channels, rate)
    return tmp_path / "raw"


def render(raw, output, spec=SPEC, **how):
    return mimii.render(mimii.plan_images(mimii.find_recordings(raw), spec), output, **how)


def rows_of(output):
    with (output / "images.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_each_part_has_an_image_of_its_own(raw, tmp_path):
    run = render(raw, tmp_path / "album")
    assert not run.bad
    rows = rows_of(tmp_path / "album")
    found = {(row["path"][-5], row["channel"], row["start_s"]) for row in rows}
    starts, parts = ("0.000", "0.500", "1.000"), [("0", 2), ("1", 2), ("2", 1)]
    assert found == {(name, str(c), at) for name, channels in parts for c in range(channels) for at in starts}
    assert len({row["file"] for row in rows}) == len(rows) == 15
    pictures = {row["file"]: np.asarray(Image.open(tmp_path / "album" / row["file"])) for row in rows}
    assert len({picture.tobytes() for picture in pictures.values()}) == 15
    whole = [row for row in rows if row["start_s"] != "1.000"]
    assert {pictures[row["file"]].shape for row in whole} == {(32, 1 + 8000 // 512)}  # also where it was resampled
    assert all(f"-ch{row['channel']}-at" in row["file"] for row in rows)


def test_an_album_of_parts_grows_by_what_is_new(raw, tmp_path):
    render(raw, tmp_path / "album")
    before = contents(tmp_path / "album")
    write_clip(raw / "press7" / "normal" / "00000009.wav", 9, 8000, 2)
    album = mimii.plan_images(mimii.find_recordings(raw), SPEC)
    mimii.render(album, tmp_path / "album", update=True)
    rows = rows_of(tmp_path / "album")
    assert len(rows) == 17
    now = contents(tmp_path / "album")
    kept = [key for key, data in before.items() if key.endswith(".png") and now.get(key) == data]
    assert len(kept) == 15
    (raw / "press7" / "normal" / "00000001.wav").unlink()
    with pytest.raises(mimii.StoreError, match=r"00000001\.wav, channel 0, from 0 s"):
        render(raw, tmp_path / "album", update=True)
    render(raw, tmp_path / "album", update=True, prune=True)
    assert len(rows_of(tmp_path / "album")) == 11


def test_whole_recordings_keep_their_names(raw, tmp_path):
    render(raw, tmp_path / "album", mimii.FeatureSpec.preset("dcase"))
    assert not any("-ch" in row["file"] or "-at" in row["file"] for row in rows_of(tmp_path / "album"))
