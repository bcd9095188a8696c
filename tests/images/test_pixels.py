"""Pixels against formulas computed pixel by pixel, files against Pillow's readers, low frequencies at the bottom."""

import io
import math
from concurrent.futures import ThreadPoolExecutor
from typing import get_args

import matplotlib as mpl
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.colors import Normalize
from PIL import Image

from mimii.features.mel import mel_spectrogram, power_to_db
from mimii.features.spec import FeatureSpec, SpecError
from mimii.images.drawings import colour_table
from mimii.images.pixels import Resampling, Style, encode_jpeg, encode_png, measure_image, render_image, to_pixels

SPEC = FeatureSpec()


def some_db(seed, n_frames=20, n_mels=7):
    return np.random.default_rng(seed).uniform(-80, 0, (n_frames, n_mels)).astype(np.float32)


def colour_style(name="magma", **how):
    return Style(name, colour_table(name), **how)


def opened(data):
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


def naive_gray(decibel, low, high):
    """Compute each pixel by itself, with Python's numbers."""
    n_frames, n_mels = decibel.shape
    pixels = np.empty((n_mels, n_frames), np.uint8)
    for y in range(n_mels):
        for x in range(n_frames):
            loudness = min(max((float(decibel[x, n_mels - 1 - y]) - low) / (high - low), 0), 1)
            pixels[y, x] = 255 - math.floor(255 * loudness)
    return pixels


def assert_same_pixels(ours, theirs, most_rounded=0.002):
    """Compare pixels; where float32 rounds across an integer, one may be off by one."""
    assert ours.shape == theirs.shape
    difference = np.abs(ours.astype(int) - theirs.astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() <= most_rounded


def scaled(decibel):
    """Return dB scaled to 0..1 between the smallest and the largest, low frequencies at the bottom."""
    return ((decibel - decibel.min()) / (decibel.max() - decibel.min())).T[::-1]


@pytest.mark.parametrize("db_range", [None, (-60.0, -10.0), (-200.0, 50.0)])
def test_gray_is_the_formula_pixel_by_pixel(db_range):
    decibel = some_db(1, 313, 64)
    low, high = db_range or (float(decibel.min()), float(decibel.max()))
    assert_same_pixels(to_pixels(decibel, Style(db_range=db_range)), naive_gray(decibel, low, high))


def test_gray_is_what_the_usual_numpy_code_gives():
    decibel = some_db(2, 313, 64)
    np.testing.assert_array_equal(to_pixels(decibel, Style()), 255 - (scaled(decibel) * 255).astype(np.uint8))


@pytest.mark.parametrize("name", ["viridis", "magma", "jet", "gray", "tab10", "Set1", "twilight"])
@pytest.mark.parametrize("db_range", [None, (-60.0, -10.0)])
def test_colours_are_those_of_matplotlib(name, db_range):
    decibel = some_db(3, 100, 40)
    low, high = db_range or (decibel.min(), decibel.max())
    values = Normalize(low, high, clip=True)(decibel.T[::-1]).filled()
    theirs = mpl.colormaps[name](values, bytes=True)[..., :3]
    ours = to_pixels(decibel, colour_style(name, db_range=db_range))
    assert ours.shape == (40, 100, 3)
    assert (ours != theirs).any(axis=-1).mean() <= 0.002


def test_the_ends_of_the_scale_are_black_and_white():
    pixels = to_pixels(some_db(4), Style())
    assert (pixels.min(), pixels.max()) == (0, 255)
    assert np.argwhere(pixels == 0).tolist() == np.argwhere(some_db(4).T[::-1] == some_db(4).max()).tolist()


@pytest.mark.parametrize("style", [Style(), colour_style(), Style(size=(9, 9))], ids=["gray", "colour", "resized"])
@pytest.mark.parametrize("value", [-80.0, 0.0, -13.5])
def test_a_clip_of_constant_level_is_all_quiet(style, value):
    pixels = to_pixels(np.full((5, 4), value, np.float32), style)
    assert len(np.unique(pixels.reshape(-1, 3 if style.colours else 1), axis=0)) == 1
    assert pixels.flat[0] == (style.colours[0] if style.colours else 255)


def db_of(samples):
    return power_to_db(mel_spectrogram(samples, SPEC), SPEC)


def rising_tone(n_samples=160_000, start=200, stop=6000):
    """Return a tone whose frequency grows by the same factor each second."""
    seconds = np.arange(n_samples) / 16_000
    hz = start * (stop / start) ** (seconds / seconds[-1])
    return (0.3 * np.sin(2 * np.pi * np.cumsum(hz) / 16_000)).astype(np.float32)


def test_a_rising_tone_rises_and_is_dark():
    pixels = to_pixels(db_of(rising_tone()), Style())
    assert pixels.shape == (64, 313)
    heights = 63 - pixels.argmin(axis=0)
    assert heights[5] < 8
    assert heights[-5] > 50
    assert (np.diff(heights[2:-2].astype(int)) >= 0).mean() > 0.99
    assert pixels.min(axis=0)[2:-2].max() < 60
    assert np.median(pixels) > 200


def test_loud_is_at_the_end_of_the_colours():
    table = np.frombuffer(colour_table("viridis"), np.uint8).reshape(-1, 3)
    pixels = to_pixels(db_of(rising_tone()), colour_style("viridis"))
    loudest = 63 - np.unravel_index((pixels == table[-1]).all(axis=-1).argmax(), (64, 313))[0]
    assert (pixels == table[0]).all(axis=-1).mean() > 0.5
    assert 0 <= loudest <= 63


@given(height=st.integers(1, 40), width=st.integers(1, 50), gray=st.booleans(), seed=st.integers(0, 99))
def test_a_png_has_exactly_the_pixels_that_were_encoded(height, width, gray, seed):
    shape = (height, width) if gray else (height, width, 3)
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    data = encode_png(pixels)
    with Image.open(io.BytesIO(data)) as image:
        assert (image.format, image.mode, image.size) == ("PNG", "L" if gray else "RGB", (width, height))
        image.verify()
    np.testing.assert_array_equal(opened(data), pixels)


def test_a_png_is_as_small_as_pillows():
    decibel = db_of(np.random.default_rng(5).normal(0, 0.1, 160_000).astype(np.float32))
    for style in (Style(), colour_style()):
        pillow = io.BytesIO()
        Image.fromarray(to_pixels(decibel, style)).save(pillow, "PNG")
        assert len(render_image(decibel, style)) < 1.1 * len(pillow.getvalue())


@pytest.mark.parametrize("style", [Style(), colour_style()], ids=["gray", "colour"])
def test_the_bytes_are_the_same_each_time_also_in_threads(style):
    spectrograms = [some_db(seed, 313, 64) for seed in range(20)]
    with ThreadPoolExecutor(4) as pool:
        encoded = list(pool.map(lambda decibel: render_image(decibel, style), spectrograms * 20))
    assert len(set(encoded)) == len(spectrograms)
    assert encoded == encoded[:20] * 20


@pytest.mark.parametrize("style", [Style(format="jpeg"), colour_style(format="jpeg")], ids=["gray", "colour"])
def test_a_jpeg_shows_nearly_the_same(style):
    decibel = db_of(rising_tone())
    pixels = to_pixels(decibel, style)
    assert measure_image(encode_jpeg(pixels)) == ("JPEG", 313, 64)
    difference = np.abs(opened(render_image(decibel, style)).astype(int) - pixels)
    assert difference.mean() < 3


@pytest.mark.parametrize("resampling", get_args(Resampling))
def test_the_named_filter_resizes_levels_not_colours(resampling):
    decibel = some_db(6, 313, 64)
    method = getattr(Image.Resampling, resampling.upper())
    resized = np.asarray(Image.fromarray(np.ascontiguousarray(scaled(decibel))).resize((224, 224), method)).clip(0, 1)
    assert_same_pixels(to_pixels(decibel, Style(size=(224, 224), resampling=resampling)), 255 - np.floor(resized * 255))
    table = np.frombuffer(colour_table("magma"), np.uint8).reshape(-1, 3)
    pixels = to_pixels(decibel, colour_style(size=(224, 224), resampling=resampling))
    assert set(map(tuple, pixels.reshape(-1, 3))) <= set(map(tuple, table))


def test_filters_differ():
    names = get_args(Resampling)
    files = {render_image(some_db(7, 313, 64), Style(size=(100, 30), resampling=name)) for name in names}
    assert len(files) == len(names)


def test_a_box_filter_is_the_mean():
    decibel = some_db(8, 12, 6)
    means = scaled(decibel).reshape(3, 2, 4, 3).mean(axis=(1, 3))
    assert_same_pixels(to_pixels(decibel, Style(size=(4, 3), resampling="box")), 255 - np.floor(means * 255), 0.1)


@pytest.mark.parametrize(
    "how",
    [
        {"db_range": (0.0, 0.0)},
        {"db_range": (0.0, -80.0)},
        {"db_range": (math.nan, 0.0)},
        {"db_range": (-math.inf, 0.0)},
        {"size": (0, 10)},
        {"size": (10, 100_000)},
        {"resampling": "best"},
        {"format": "gif"},
    ],
    ids=str,
)
def test_an_invalid_style_is_refused_by_name(how):
    with pytest.raises(SpecError, match=next(iter(how)).replace("db_range", "dB range")):
        Style(**how)


def test_an_unknown_colormap_is_refused_by_name():
    with pytest.raises(SpecError, match="'plasmo'"):
        colour_table("plasmo")


@pytest.mark.parametrize("damage", ["", "text", "cut"])
def test_a_damaged_image_cannot_be_measured(damage):
    data = render_image(some_db(9, 100, 64), Style())
    damaged = {"": b"", "text": b"no image", "cut": data[:-500]}[damage]
    assert measure_image(data) == ("PNG", 100, 64)
    with pytest.raises(ValueError, match="not a whole image"):
        measure_image(damaged)
