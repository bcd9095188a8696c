"""When: intervals above a threshold against a loop over windows, their peaks, and the band that is to blame."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.detection.detectors import Detector, fit
from mimii.detection.events import Moments, find_moments
from mimii.detection.pooling import Pooling, pool
from mimii.detection.scoring import find_band
from mimii.detection.training import Training
from mimii.features import band_centres
from tests.helpers.detection import SPEC, examples_of, spectrogram, spectrograms


def moments(scores, threshold=1.0, window_s=0.5):
    edges = np.arange(len(scores) + 1) * window_s
    return Moments(edges[:-1], edges[1:], np.array(scores, float), threshold)


def in_a_loop(scores, window_s=0.5):
    """Return start, stop and peak of each interval above 1; those less than a second apart are one."""
    found = []
    for index, score in enumerate(scores):
        if score > 1:
            start = index * window_s
            if found and start - found[-1][1] < 1:
                found[-1][1:] = start + window_s, max(found[-1][2], score)
            else:
                found.append([start, start + window_s, score])
    return found


@given(scores=st.lists(st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, math.nan]), min_size=1, max_size=40))
def test_intervals_above_the_threshold_are_those_of_a_loop(scores):
    events = list(moments(scores).events())
    assert [[one.start_s, one.stop_s, one.peak] for one in events] == in_a_loop(scores)
    for one in events:
        index = int(one.peak_s / 0.5)
        assert one.start_s < one.peak_s < one.stop_s
        assert (scores[index], one.peak_s) == (one.peak, 0.5 * index + 0.25)


def test_intervals_a_second_apart_are_two_and_those_closer_are_one():
    assert len(list(moments([2, 0, 0, 2]).events())) == 2
    assert len(list(moments([2, 0, 2]).events())) == 1


@pytest.mark.parametrize("scores", [[0, 1, 1], [math.nan] * 3])
def test_nothing_above_the_threshold_is_no_event(scores):
    assert list(moments(scores).events()) == []


def test_without_a_threshold_there_is_no_event():
    assert list(moments([1e9], math.inf).events()) == []


def test_the_peak_is_the_highest_score_and_the_middle_of_its_window():
    found = moments([0.5, math.nan, 3, 3, 1])
    assert (found.peak, found.peak_s) == (3, 1.25)
    nothing = moments([math.nan, math.nan])
    assert math.isnan(nothing.peak)
    assert math.isnan(nothing.peak_s)


def disturbed(band, by, what=slice(100, 105)):
    decibel = spectrogram(500, 200)
    decibel[what, band] += by
    return decibel


@pytest.mark.parametrize("kind", ["neighbours", "mahalanobis"])
@pytest.mark.parametrize(("band", "by"), [(5, 80), (2, 60), (6, -80)])
def test_the_band_that_differs_most_is_named_with_how_much(kind, band, by):
    detector = Detector(kind, fit(kind, examples_of(spectrograms(10)), Training()), peak_threshold=8.0)
    pooling = Pooling(SPEC, 40, -50.0)
    clip = pool(disturbed(band, by, slice(100, 110)), pooling)
    found = find_moments(clip, detector, pooling)
    [event] = found.events()
    assert (event.start_s, event.stop_s) == (5, 5.5)
    assert found.peak_s == event.peak_s == pytest.approx(5.25)
    frequency, louder = find_band(clip, detector, found, pooling)
    assert frequency == pytest.approx(band_centres(SPEC)[band])
    assert louder == pytest.approx(by, abs=15)


def test_a_detector_of_rows_names_no_band():
    detector, pooling = Detector("pca", fit("pca", examples_of(spectrograms(10)), Training())), Pooling(SPEC, 40, -50.0)
    clip = pool(disturbed(3, 60), pooling)
    found = find_moments(clip, detector, pooling)
    assert found.peak_s == pytest.approx(5.25)
    assert all(map(math.isnan, find_band(clip, detector, found, pooling)))
