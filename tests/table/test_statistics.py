"""Sums without stacking, and statistics over all rows."""

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.features.mel import stack_frames
from mimii.table.statistics import Sums, add_sums, as_values, from_values, mean_and_std, no_sums, sum_stacked


def frames_in_db(seed, count, n_mels):
    return np.random.default_rng(seed).uniform(-80, 0, (count, n_mels)).astype(np.float32)


def direct_sums(rows):
    values = rows.astype(np.float64)
    return Sums(len(rows), values.sum(axis=0), (values**2).sum(axis=0))


def assert_same_sums(found, expected):
    assert found.count == expected.count
    np.testing.assert_allclose(found.total, expected.total, rtol=1e-12, atol=1e-9)
    np.testing.assert_allclose(found.squares, expected.squares, rtol=1e-12, atol=1e-9)


@given(n_rows=st.integers(1, 40), frames=st.integers(1, 12), n_mels=st.integers(1, 8), seed=st.integers(0, 999))
def test_sums_are_those_over_stacked_rows(n_rows, frames, n_mels, seed):
    decibel = frames_in_db(seed, n_rows + frames - 1, n_mels)
    assert_same_sums(sum_stacked(decibel, frames), direct_sums(stack_frames(decibel, frames)))


@pytest.mark.parametrize("frames", [1, 2, 5])
def test_frames_too_few_for_a_row_sum_to_nothing(frames):
    found = sum_stacked(frames_in_db(1, frames - 1, 3), frames)
    assert_same_sums(found, no_sums(3 * frames))


def test_sums_of_a_clip_at_full_length_are_exact_to_the_last_digits():
    decibel = frames_in_db(2, 313, 64)
    assert_same_sums(sum_stacked(decibel, 5), direct_sums(stack_frames(decibel, 5)))


@given(counts=st.lists(st.integers(1, 30), min_size=1, max_size=12), seed=st.integers(0, 999))
def test_mean_and_deviation_are_numpys_over_all_rows(counts, seed):
    clips = [frames_in_db(seed + index, count + 4, 6) for index, count in enumerate(counts)]
    rows = np.concatenate([stack_frames(clip, 5) for clip in clips]).astype(np.float64)
    mean, std = mean_and_std(add_sums((sum_stacked(clip, 5) for clip in clips), 30))
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=0, atol=1e-9)
    # The difference of squares loses half of the digits where all rows are nearly the same.
    np.testing.assert_allclose(std**2, rows.var(axis=0), rtol=0, atol=1e-9)


def test_mean_and_deviation_of_many_rows_are_numpys():
    clips = [frames_in_db(index, 313, 8) - 10 * index for index in range(20)]
    rows = np.concatenate([stack_frames(clip, 5) for clip in clips]).astype(np.float64)
    mean, std = mean_and_std(add_sums((sum_stacked(clip, 5) for clip in clips), 40))
    np.testing.assert_allclose(mean, rows.mean(axis=0), rtol=0, atol=1e-9)
    np.testing.assert_allclose(std, rows.std(axis=0), rtol=0, atol=1e-9)


def test_a_constant_feature_has_no_deviation():
    sums = sum_stacked(np.full((500, 2), -79.3, np.float32), 3)
    assert (mean_and_std(sums)[1] < 1e-5).all()


def test_over_no_rows_mean_and_deviation_are_unknown():
    mean, std = mean_and_std(no_sums(7))
    assert mean.shape == std.shape == (7,)
    assert np.isnan(mean).all()
    assert np.isnan(std).all()


def test_no_parts_add_up_to_no_sums():
    total = add_sums([], 4)
    assert (total.count, total.total.tolist(), total.squares.tolist()) == (0, [0] * 4, [0] * 4)


def test_adding_leaves_the_parts_as_they_were():
    parts = [Sums(1, np.ones(2), np.ones(2)), Sums(2, np.full(2, 3.0), np.full(2, 9.0))]
    for _ in range(2):
        total = add_sums(parts, 2)
        assert (total.count, total.total.tolist(), total.squares.tolist()) == (3, [4, 4], [10, 10])


any_floats = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=3, max_size=3)
any_sums = st.builds(Sums, st.integers(0, 2**50), any_floats.map(np.array), any_floats.map(np.array))


@given(sums=any_sums)
def test_sums_survive_json_bit_for_bit(sums):
    found = from_values(json.loads(json.dumps(as_values(sums), default=np.ndarray.tolist)))
    assert found.count == sums.count
    assert found.total.tobytes() == sums.total.tobytes()
    assert found.squares.tobytes() == sums.squares.tobytes()


@pytest.mark.parametrize("name", ["count", "total", "squares"])
def test_sums_that_lack_something_are_none(name):
    values = as_values(no_sums(2))
    assert from_values(values) is not None
    del values[name]
    assert from_values(values) is None


@pytest.mark.parametrize("values", [{"count": None}, {"total": "text"}, {"squares": {"a": 1}}, {"total": [None, "x"]}])
def test_what_are_no_sums_is_none(values):
    assert from_values(as_values(no_sums(2)) | values) is None
