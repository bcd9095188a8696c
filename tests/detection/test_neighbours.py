"""The distance to the nearest training clip: its density, and the number of clips from which that counts."""

import numpy as np
import pytest

from mimii.detection import neighbours
from mimii.detection.examples import Examples
from mimii.detection.pooling import Pooling
from mimii.features import FeatureSpec

N_MELS = 8


def examples(n_clips, seed=0, domains=None, deviation=4.0, n_recordings=None):
    values = np.random.default_rng(seed).normal(-60, deviation, (n_clips, 3, N_MELS)).astype(np.float32)
    pooling = Pooling(FeatureSpec(n_mels=N_MELS), 100, -60.0)
    names = domains or ("",) * n_clips
    places = tuple(range(n_clips))
    recordings = tuple(place % (n_recordings or n_clips) for place in places)
    return Examples(pooling, values, names, recordings, (None,) * n_clips, places, lambda *_: ())


def mean_distances(known):
    """Return the mean distance to the 4 nearest others, in another way."""
    differences = known[:, np.newaxis].astype(np.float64) - known
    distances = np.sort(np.sqrt((differences**2).mean(axis=2)), axis=1)
    return distances[:, 1:5].mean(axis=1)


@pytest.mark.parametrize("n_clips", [neighbours.LEAST_FOR_DENSITY, 300])
def test_the_density_is_that_of_the_nearest_four_relative_to_its_median(n_clips):
    arrays = neighbours.fit(examples(n_clips))
    expected = mean_distances(arrays["known"])
    np.testing.assert_allclose(arrays["density"], expected / np.median(expected), rtol=1e-5)


def test_each_domain_has_the_density_of_its_own_clips():
    domains = tuple("source" if index % 10 else "target" for index in range(200))
    arrays = neighbours.fit(examples(200, domains=domains))
    is_target = np.array(domains) == "target"
    expected = np.empty(200)
    for chosen in (is_target, ~is_target):
        expected[chosen] = mean_distances(arrays["known"][chosen])
    np.testing.assert_allclose(arrays["density"], expected / np.median(expected), rtol=1e-5)


def test_the_unit_of_scores_is_the_same_with_one_clip_fewer_than_there_must_be_for_density():
    """Else a threshold from detectors that learned from nine tenths of the clips would be of another unit."""
    n_clips = neighbours.LEAST_FOR_DENSITY
    learned, new = examples(n_clips, deviation=0.2), examples(200, seed=1, deviation=0.2).statistics
    means = []
    for count in (n_clips - 1, n_clips):
        arrays = neighbours.fit(learned.select(range(count)))
        means.append(np.mean([neighbours.score(one, arrays) for one in new]))
    assert abs(means[1] / means[0] - 1) < 0.25
    assert (arrays["density"] != 1).any()


def test_clips_that_are_there_twice_have_a_density():
    some = examples(neighbours.LEAST_FOR_DENSITY)
    some.statistics[:10] = some.statistics[0]
    assert neighbours.fit(some)["density"].min() == pytest.approx(0.1)
    some.statistics[:] = some.statistics[0]
    arrays = neighbours.fit(some)
    np.testing.assert_array_equal(arrays["density"], 1)
    assert neighbours.score(some.statistics[0], arrays) == 0


def test_segments_of_few_recordings_have_no_density_however_many_they_are():
    few = neighbours.fit(examples(300, n_recordings=neighbours.LEAST_FOR_DENSITY - 1))
    many = neighbours.fit(examples(300, n_recordings=neighbours.LEAST_FOR_DENSITY))
    assert (few["density"] == 1).all()
    assert not (many["density"] == 1).all()


def test_a_single_clip_of_a_domain_counts_as_the_others_do():
    domains = ("target",) + ("source",) * 199
    density = neighbours.fit(examples(200, domains=domains))["density"]
    assert density[0] == 1
    assert np.median(density[1:]) == pytest.approx(1, rel=1e-3)
