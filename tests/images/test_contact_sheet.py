"""The overview: which clips it shows, its size, its colours, low frequencies at the bottom."""

import io

import numpy as np
import pytest
from PIL import Image

from mimii.features.spec import FeatureSpec
from mimii.images.album import make_album
from mimii.images.contact_sheet import make_contact_sheet
from mimii.images.drawings import Panel, colour_table, draw_overview
from mimii.images.pixels import Style
from mimii.recordings.catalogue import make_catalogue
from mimii.recordings.find import find_recordings
from mimii.recordings.splits import stratified_split
from mimii.storage import DEFAULT_READS
from tests.helpers.recordings import write_clip, write_machines

SPEC = FeatureSpec(frames=1)


def pixels_of(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def album_of(folder, style=Style(), window=None):  # noqa: B008  frozen
    clips = find_recordings(str(folder))
    return make_album(make_catalogue(clips, stratified_split(clips), SPEC), style, window)


@pytest.fixture
def shown(monkeypatch):
    """Return a function from an album to the titles of the panels that are drawn."""

    def titles(album, problems=None):
        drawn = []
        monkeypatch.setattr("mimii.images.contact_sheet.draw_overview", lambda pairs, *_: drawn.extend(pairs) or b"png")
        assert make_contact_sheet(album, problems or album.catalogue.problems, DEFAULT_READS) == b"png"
        return [tuple(panel.title for panel in pair) for pair in drawn]

    return titles


def test_each_machine_is_shown_normal_and_abnormal(tmp_path, shown):
    write_machines(tmp_path, 8)
    assert shown(album_of(tmp_path)) == [
        ("fan id_00, 6 dB, normal", "no abnormal clip"),
        ("fan id_02, 6 dB, normal", "fan id_02, 6 dB, abnormal"),
    ]


def test_of_several_snrs_the_highest_is_shown(tmp_path, shown):
    for seed, snr in enumerate((-6, 6, 0)):
        for label in ("normal", "abnormal"):
            write_clip(tmp_path / f"{snr}_dB/fan/id_00/{label}/00000000.wav", seed)
    pair = shown(album_of(tmp_path))
    assert pair == [("fan id_00, 6 dB, normal", "fan id_00, 6 dB, abnormal")]


def test_at_most_sixteen_machines_are_shown_evenly_chosen(tmp_path, shown):
    for machine in range(40):
        write_clip(tmp_path / f"0_dB/fan/id_{machine:02d}/normal/00000000.wav", machine)
    titles = [above for above, _ in shown(album_of(tmp_path))]
    assert len(titles) == 16
    assert titles[0].startswith("fan id_00")
    assert titles[-1] >= "fan id_36"


def test_clips_without_labels_are_shown_by_name(tmp_path, shown):
    for seed in range(3):
        write_clip(tmp_path / f"take {seed}.wav", seed)
    assert shown(album_of(tmp_path)) == [("take 0.wav", "take 1.wav"), ("take 2.wav", "")]


def test_bad_clips_are_not_shown(tmp_path, shown):
    write_machines(tmp_path, 8)
    album = album_of(tmp_path)
    problems = ["bad" if clip.identity.label == 0 else "" for clip in album.catalogue.clips]
    assert shown(album, problems) == [("no normal clip", "fan id_02, 6 dB, abnormal")]
    assert make_contact_sheet(album, ["bad"] * 8, DEFAULT_READS) is None


def test_a_clip_deleted_meanwhile_leaves_an_empty_place(tmp_path, shown):
    paths = write_machines(tmp_path, 8)
    album = album_of(tmp_path)
    paths[0].unlink()
    assert shown(album)[0] == ("", "no abnormal clip")


@pytest.mark.parametrize("n_pairs", [1, 5, 16])
def test_an_overview_is_a_picture_that_fits_a_screen(n_pairs):
    rng = np.random.default_rng(1)
    clips = [rng.uniform(-80, 0, (313, 64)).astype(np.float32) for _ in range(2)]
    pairs = [(Panel("fan, normal", clips[0]), Panel("fan, abnormal", clips[1]))] * n_pairs
    height, width, _ = pixels_of(draw_overview(pairs, SPEC, Style(), "Images " * 20)).shape
    assert 300 < width < 1200
    assert 300 < height < 1400


def test_an_overview_drawn_twice_has_the_same_bytes():
    pair = [(Panel("a", np.zeros((313, 64), np.float32)), Panel("b", None))]
    assert draw_overview(pair, SPEC, Style(), "x") == draw_overview(pair, SPEC, Style(), "x")


def test_an_overview_has_the_colours_of_the_images():
    clip = np.linspace(-80, 0, 313 * 64, dtype=np.float32).reshape(313, 64)
    pair = [(Panel("a", clip), Panel("b", None))]
    gray = pixels_of(draw_overview(pair, SPEC, Style(), ""))
    colour = pixels_of(draw_overview(pair, SPEC, Style("magma", colour_table("magma")), ""))
    assert (np.ptp(gray, axis=-1) == 0).all()
    assert (np.ptp(colour, axis=-1) > 50).mean() > 0.1


def test_low_frequencies_are_at_the_bottom_of_an_overview():
    clip = np.full((313, 64), -80, np.float32)
    clip[:, :8] = 0
    picture = pixels_of(draw_overview([(Panel("", clip), Panel("", None))], SPEC, Style(), ""))[:, :, 0]
    frame, *band = np.flatnonzero(picture[:, 150:200].mean(axis=1) < 40)  # the upper edge, and the loud bands
    assert 10 < len(band) < 20
    assert band[0] - frame > 6 * len(band)
    assert band == list(range(band[0], band[-1] + 1))


def overview(title):
    decibel = np.random.default_rng(1).normal(-40, 5, (30, 64)).astype(np.float32)
    return draw_overview([(Panel(title, decibel), Panel("", None))], SPEC, Style(), "caption")


@pytest.mark.parametrize(
    "title", ["x$_{$.wav", "$\\frac{1$", "a\\b.wav", "工場ファン.wav", "مصنع.wav", "🏭.wav", "f\ufffdn", "\u0301", ""]
)
def test_any_name_is_drawn_as_it_is_without_a_warning(title, recwarn):
    with Image.open(io.BytesIO(overview(title))) as image:
        image.verify()
    assert [str(warning.message) for warning in recwarn] == []


def test_signs_that_the_usual_font_lacks_are_drawn_from_another_one_that_has_them():
    circled, lacking = pixels_of(overview("\u24b6\u24b7\u24b8")), pixels_of(overview("\U000e0000" * 3))
    assert circled.shape == lacking.shape
    assert (circled != lacking).any()
    assert (pixels_of(overview("\u24b6\u24b7\u24b8")) != pixels_of(overview("\u24b8\u24b7\u24b6"))).any()
