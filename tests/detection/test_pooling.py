"""Clips as detectors take them: statistics, pieces of long clips, windows and their times, levels, rounding."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.detection.pooling import Pooling, levelled, pool, window_frames, window_statistics, window_times
from mimii.features import FeatureSpec
from tests.helpers.detection import SPEC, WINDOW, rows_of, spectrogram, statistics_of

DEAF = SPEC.changed(scale="ref_max")


def tiles(parts, whole):
    np.testing.assert_array_equal(np.concatenate(parts), whole)


@pytest.mark.parametrize(
    ("rate", "hop", "frames"), [(16_000, 512, 16), (16_000, 800, 10), (48_000, 512, 47), (8000, 8000, 1)]
)
def test_a_window_is_about_half_a_second_of_whole_frames(rate, hop, frames):
    assert window_frames(FeatureSpec(sample_rate=rate, hop_length=hop)) == frames


@given(n_frames=st.integers(3, 200))
def test_windows_follow_each_other_from_the_start_to_the_end(n_frames):
    found = pool(spectrogram(1, n_frames), Pooling(SPEC, 10_000, 0.0))
    start_s, stop_s = window_times(found, SPEC)
    assert len(window_statistics(found, Pooling(SPEC, 10_000, 0.0))) == len(start_s)
    assert (start_s[0], stop_s[-1]) == (0, pytest.approx(n_frames / 20))
    np.testing.assert_array_equal(start_s[1:], stop_s[:-1])
    lengths = np.round((stop_s - start_s) * 20)
    assert (lengths[:-1] == WINDOW).all()
    assert len(lengths) == 1 or WINDOW / 2 <= lengths[-1] <= 1.5 * WINDOW


@given(n_frames=st.integers(3, 120))
def test_a_window_has_mean_and_maximum_of_each_band(n_frames):
    decibel, pooling = spectrogram(2, n_frames), Pooling(SPEC, 10_000, 0.0)
    found = pool(decibel, pooling)
    start_s, stop_s = window_times(found, SPEC)
    for (mean, highest), start, stop in zip(window_statistics(found, pooling), start_s, stop_s, strict=True):
        frames = decibel[round(start * 20) : round(stop * 20)].astype(float)
        np.testing.assert_allclose(mean, frames.mean(axis=0), rtol=1e-6)
        np.testing.assert_allclose(highest, frames.max(axis=0), rtol=1e-7)


@pytest.mark.parametrize("n_frames", [3, 40, 60])
def test_a_clip_up_to_half_as_long_again_as_the_training_clips_is_one_piece(n_frames):
    decibel = spectrogram(1, n_frames)
    found = pool(decibel, Pooling(SPEC, 40, -50.0))
    tiles(found.pieces, decibel)
    assert len(found.pieces) == 1
    np.testing.assert_allclose(found.statistics, statistics_of(decibel), rtol=1e-6)


@given(n_frames=st.integers(61, 700), most=st.integers(3, 40))
def test_a_longer_one_is_cut_into_pieces_of_about_their_length(n_frames, most):
    decibel = spectrogram(3, n_frames)
    found = pool(decibel, Pooling(SPEC, most, -50.0))
    tiles(found.pieces, decibel)
    lengths = [len(piece) for piece in found.pieces]
    assert len(set(lengths[:-1])) == 1
    assert lengths[0] % WINDOW == 0
    assert 0.75 * most - WINDOW / 2 <= lengths[0] <= max(1.25 * most + WINDOW / 2, WINDOW)
    assert SPEC.frames <= lengths[-1] < lengths[0] + SPEC.frames
    of_pieces = np.mean([statistics_of(piece).astype(float) for piece in found.pieces], axis=0)
    np.testing.assert_allclose(found.statistics, of_pieces, rtol=1e-6)
    start_s, stop_s = window_times(found, SPEC)
    assert {round(begin * 20) for begin in start_s} >= set(np.cumsum([0, *lengths[:-1]]).tolist())
    assert stop_s[-1] == pytest.approx(n_frames / 20)


def test_a_piece_has_at_least_the_frames_of_a_row():
    spec = SPEC.changed(frames=25)
    decibel = spectrogram(1, 113)
    pieces = pool(decibel, Pooling(spec, 25, 0.0)).pieces
    tiles(pieces, decibel)
    assert [len(piece) for piece in pieces] == [25, 25, 25, 38]


def test_pieces_of_features_deaf_to_level_are_each_below_their_own_maximum():
    decibel = spectrogram(1, 200)
    decibel -= decibel.max()
    pieces = pool(decibel, Pooling(DEAF, 40, -20.0)).pieces
    assert len(pieces) == 5
    for index, piece in enumerate(pieces):
        part = decibel[40 * index : 40 * index + 40]
        np.testing.assert_allclose(piece, part - part.max(), atol=1e-5)
    [short] = pool(decibel[:50], Pooling(DEAF, 40, -20.0)).pieces
    np.testing.assert_array_equal(short, decibel[:50])


def test_windows_of_features_deaf_to_level_are_at_the_level_of_the_training_clips():
    # A loud moment makes all else quieter: without it, the same windows come out.
    pooling, decibel = Pooling(DEAF, 4000, -20.0), spectrogram(1, 4000)
    plain = pool(decibel - decibel.max(), pooling)
    assert np.mean([piece.mean(dtype=float) for piece in levelled(plain, pooling)]) == pytest.approx(-20, abs=1e-4)
    louder = decibel.copy()
    louder[1000:1005] += 30
    before, after = (window_statistics(one, pooling) for one in (plain, pool(louder - louder.max(), pooling)))
    others = np.delete(np.arange(400), 100)
    np.testing.assert_allclose(after[others], before[others], atol=0.05)
    assert (after[100, 1] - before[100, 1]).min() > 10


def test_windows_of_absolute_features_keep_their_level():
    pooling = Pooling(SPEC, 40, -20.0)
    one, louder = (window_statistics(pool(spectrogram(1) + add, pooling), pooling) for add in (0, 6))
    np.testing.assert_allclose(louder - one, 6, atol=1e-4)


@pytest.mark.parametrize("stride", [1, 2, 3, 4])
def test_frames_at_the_end_that_are_in_no_row_count_for_the_statistics_alone(stride):
    spec = SPEC.changed(stride=stride)
    for n_frames in range(20, 28):
        decibel = spectrogram(1, n_frames)
        found = pool(decibel, Pooling(spec, 40, -50.0))
        n_rows = len(rows_of(decibel, spec))
        assert len(found.pieces[0]) == (n_rows - 1) * stride + spec.frames
        np.testing.assert_array_equal(rows_of(found.pieces[0], spec), rows_of(decibel, spec))
        np.testing.assert_allclose(found.statistics, statistics_of(decibel), rtol=1e-6)


def test_frames_are_rounded_as_the_table_rounds_them():
    decibel = spectrogram(1)
    [piece] = pool(decibel, Pooling(SPEC.changed(dtype="float16"), 40, 0.0)).pieces
    assert piece.dtype == np.float32
    np.testing.assert_array_equal(piece, decibel.astype(np.float16).astype(np.float32))
    assert (piece != decibel).mean() > 0.9


@pytest.mark.parametrize("times", [2, 3, 10])
def test_pieces_are_no_longer_than_the_training_clips_where_these_fit(times):
    # One frame more than a whole number of windows, as a centred transform has, is not another window.
    pieces = pool(spectrogram(1, 40 * times + 1), Pooling(SPEC, 41, 0.0)).pieces
    assert [len(piece) for piece in pieces] == [40] * (times - 1) + [41]
