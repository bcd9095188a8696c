"""Training on blocks of rows: as good as on all rows at once, reproducible, and better than no training."""

import numpy as np
import pytest

from mimii.detection.detectors import Detector, score_clip
from mimii.detection.kinds import KINDS
from mimii.detection.learning import LearningError, Training, train
from mimii.features.spec import FeatureSpec

N_FEATURES = 40


def some_rows(seed, n_rows=2000):
    """Return mixtures of 4 sources with a little noise, which 8 numbers can describe."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((4, N_FEATURES))
    return (rng.standard_normal((n_rows, 4)) @ mixing + 0.1 * rng.standard_normal((n_rows, N_FEATURES))).astype("f4")


def in_blocks(rows, size):
    return lambda _epoch: (rows[start : start + size] for start in range(0, len(rows), size))


def score(kind, arrays, rows):
    plain = np.zeros(N_FEATURES, "f4"), np.ones(N_FEATURES, "f4")
    return score_clip(rows, Detector(kind, arrays, *plain, FeatureSpec()))


@pytest.mark.parametrize("kind", KINDS)
def test_rows_like_the_training_rows_score_less_than_others(kind):
    arrays = train(in_blocks(some_rows(1), 700), Training(kind, epochs=60))
    others = np.random.default_rng(5).permuted(some_rows(2), axis=1)
    assert score(kind, arrays, some_rows(2)) < 0.5 * score(kind, arrays, others)


def test_more_epochs_learn_more():
    short, long = (train(in_blocks(some_rows(1), 700), Training(epochs=epochs)) for epochs in (2, 40))
    assert score("autoencoder", long, some_rows(2)) < 0.7 * score("autoencoder", short, some_rows(2))


def test_the_network_has_the_published_layout():
    arrays = train(in_blocks(some_rows(1), 700), Training(epochs=1))
    shapes = [arrays[f"weights_{index}"].shape for index in range(6)]
    assert shapes == [(N_FEATURES, 64), (64, 64), (64, 8), (8, 64), (64, 64), (64, N_FEATURES)]
    assert [arrays[f"biases_{index}"].shape for index in range(6)] == [(n,) for _, n in shapes]
    assert len(arrays) == 12
    assert {array.dtype for array in arrays.values()} == {np.dtype("f4")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_what_is_learned(kind):
    rows = some_rows(1, 9000)
    one, again, other = (train(in_blocks(rows, 5000), Training(kind, 2, seed)) for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert kind == "pca" or not all(np.array_equal(one[name], other[name]) for name in one)


def test_components_from_blocks_span_the_same_space_as_those_from_all_rows():
    rows = some_rows(1)
    small, large = (train(in_blocks(rows, size), Training("pca")) for size in (90, 5000))
    np.testing.assert_allclose(small["mean"], rows.mean(axis=0), atol=1e-4)
    assert score("pca", small, some_rows(2)) == pytest.approx(score("pca", large, some_rows(2)), rel=0.1)


def test_few_rows_have_fewer_components():
    arrays = train(in_blocks(some_rows(1, 3), 3), Training("pca"))
    assert arrays["components"].shape == (3, N_FEATURES)
    assert train(in_blocks(some_rows(1, 101), 50), Training("pca"))["components"].shape == (8, N_FEATURES)


def test_few_rows_are_all_drawn():
    rows = some_rows(1, 300)
    arrays = train(in_blocks(rows, 70), Training("knn"))
    assert np.array_equal(np.unique(arrays["rows"], axis=0), np.unique(rows, axis=0))


def test_many_rows_are_drawn_with_the_same_probability():
    rows = np.repeat(np.arange(40_960, dtype="f4")[:, np.newaxis], 2, axis=1)
    drawn = train(in_blocks(rows, 3000), Training("knn"))["rows"][:, 0]
    assert len(drawn) == len(set(drawn.tolist())) == 4096
    # Each tenth of all rows has about a tenth of the drawn ones (hypergeometric: 410, deviation 18).
    counts = np.histogram(drawn, bins=10, range=(0, 40_960))[0]
    assert (abs(counts - 409.6) < 5 * 19).all()


@pytest.mark.parametrize("kind", KINDS)
def test_training_without_rows_is_an_error(kind):
    with pytest.raises(LearningError, match="no row"):
        train(lambda _epoch: iter(()), Training(kind))


def test_fewer_rows_than_a_step_raise_no_warning(recwarn):
    train(in_blocks(some_rows(1, 20), 20), Training(epochs=2))
    assert not recwarn.list


@pytest.mark.parametrize("kind", KINDS)
def test_each_epoch_asks_for_its_blocks(kind):
    epochs = []

    def blocks(epoch):
        epochs.append(epoch)
        return iter([some_rows(epoch, 600)])

    train(blocks, Training(kind, epochs=3))
    assert epochs == ([0, 1, 2] if kind == "autoencoder" else [0])
