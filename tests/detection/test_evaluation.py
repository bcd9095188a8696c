"""Evaluation: AUCs against counted pairs, thresholds, precision and recall against their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.detection.evaluation import average, choose_threshold, evaluate, published_auc, roc_curve

scored = st.lists(
    st.tuples(st.integers(0, 1), st.integers(0, 6)), min_size=2, max_size=40
)  # few values, so many are equal


def auc_by_pairs(labels, scores):
    """Return the share of pairs in which the abnormal clip scores higher; equal scores count half."""
    pairs = [
        (abnormal > normal) + 0.5 * (abnormal == normal)
        for label, abnormal in zip(labels, scores, strict=True)
        for other, normal in zip(labels, scores, strict=True)
        if label == 1 and other == 0
    ]
    return sum(pairs) / len(pairs) if pairs else math.nan


@given(clips=scored)
def test_the_auc_is_the_share_of_pairs_in_the_right_order(clips):
    labels, scores = zip(*clips, strict=True)
    assert evaluate(labels, scores, 3).auc == pytest.approx(auc_by_pairs(labels, scores), nan_ok=True)


@given(clips=scored)
def test_the_area_below_the_curve_is_the_auc(clips):
    labels, scores = zip(*clips, strict=True)
    if len(set(labels)) == 2:
        area = np.trapezoid(*reversed(roc_curve(labels, scores)))
        assert area == pytest.approx(evaluate(labels, scores, 0).auc)


def test_the_partial_auc_counts_up_to_one_false_alarm_in_ten():
    # One normal clip of ten scores more than two of the four abnormal ones: up to one false alarm, recall is 1/2.
    labels = [0] * 10 + [1] * 4
    scores = [*range(9), 100, 101, 102, 50, 51]
    area, least, most = 0.1 * 0.5, 0.1**2 / 2, 0.1
    found = evaluate(labels, scores, 0)
    assert found.partial_auc == pytest.approx(0.5 * (1 + (area - least) / (most - least)))
    assert found.auc == pytest.approx(auc_by_pairs(labels, scores)) == pytest.approx(0.95)


@pytest.mark.parametrize(("scores", "auc"), [([1, 2, 3, 4], 1), ([4, 3, 2, 1], 0), ([1, 1, 1, 1], 0.5)])
def test_perfect_inverted_and_constant_scores(scores, auc):
    assert evaluate([0, 0, 1, 1], scores, 2.5).auc == auc


def test_alarms_are_counted_above_the_threshold():
    found = evaluate([0, 0, 0, 1, 1], [1, 2.5, 3, 2.5, 9], 2.5)
    assert (found.n_normal, found.n_abnormal, found.true_alarms, found.false_alarms) == (3, 2, 1, 1)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)


@given(clips=scored, threshold=st.integers(-1, 7))
def test_precision_recall_and_f1_follow_their_definitions(clips, threshold):
    labels, scores = (np.array(values) for values in zip(*clips, strict=True))
    alarms, abnormal = scores > threshold, labels == 1
    both = (alarms & abnormal).sum()
    found = evaluate(labels, scores, threshold)
    assert found.precision == pytest.approx(both / alarms.sum() if alarms.any() else math.nan, nan_ok=True)
    assert found.recall == pytest.approx(both / abnormal.sum() if abnormal.any() else math.nan, nan_ok=True)
    if both:
        assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


@pytest.mark.parametrize("label", [0, 1])
def test_with_one_label_alone_there_is_no_auc(label):
    found = evaluate([label] * 3, [1, 2, 3], 2)
    assert math.isnan(found.auc)
    assert math.isnan(found.partial_auc)


def test_no_clip_at_all():
    found = evaluate([], [], 1)
    assert (found.n_normal, found.n_abnormal, found.true_alarms) == (0, 0, 0)
    assert math.isnan(found.auc)
    assert math.isnan(found.f1)


def test_a_threshold_is_three_deviations_above_the_mean():
    assert choose_threshold([1, 2, 3]) == pytest.approx(2 + 3 * 1)
    assert choose_threshold([7]) == 7
    assert choose_threshold([]) == math.inf


def test_about_one_normal_clip_in_a_thousand_is_above_the_threshold():
    scores = np.random.default_rng(0).normal(5, 2, 100_000)
    assert (scores > choose_threshold(scores)).mean() == pytest.approx(0.00135, abs=0.0005)


def test_an_average_leaves_nan_out():
    assert average([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(average([math.nan]))
    assert math.isnan(average([]))


@pytest.mark.parametrize(
    ("machine", "auc"),
    [(("fan", "id_00", 6.0), 0.745), (("fan", "id_02", -6.0), 0.640), (("fan", "id_06", 0.0), 0.982)],
)
def test_published_aucs_are_known(machine, auc):
    assert published_auc(*machine) == auc


@pytest.mark.parametrize(
    "machine", [("fan", "id_06", 6.0), ("pump", "id_00", 6.0), ("", "", 0.0), ("fan", "id_00", math.nan)]
)
def test_other_aucs_are_nan(machine):
    assert math.isnan(published_auc(*machine))
