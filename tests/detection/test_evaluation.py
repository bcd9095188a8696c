"""Evaluation: AUCs against counted pairs, intervals against a slow loop, precision and recall by their definitions."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from mimii.detection.evaluation import average, bootstrap, evaluate, roc_curve

scored = st.lists(
    st.tuples(st.integers(-1, 1), st.integers(0, 6)), min_size=2, max_size=40
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
    if {*labels} >= {0, 1}:
        area = np.trapezoid(*reversed(roc_curve(labels, scores)))
        assert area == pytest.approx(evaluate(labels, scores, 0).auc)


@given(clips=scored)
def test_the_curve_is_that_of_scikit_learn(clips):
    labels, scores = zip(*((label, score) for label, score in [*clips, (0, 2), (1, 3)] if label >= 0), strict=True)
    expected = metrics.roc_curve(labels, scores)[:2]
    assert [rate.tolist() for rate in roc_curve(labels, scores)] == [rate.tolist() for rate in expected]


@given(clips=scored, threshold=st.integers(-1, 7))
def test_clips_without_a_label_do_not_count(clips, threshold):
    labelled = [clip for clip in clips if clip[0] >= 0]
    every, known = (
        evaluate([label for label, _ in some], [score for _, score in some], threshold) for some in (clips, labelled)
    )
    assert repr(every) == repr(known)
    both = [bootstrap([label for label, _ in some], [score for _, score in some]) for some in (clips, labelled)]
    assert repr(both[0]) == repr(both[1])


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
    found = evaluate([0, 0, 0, 1, 1, -1], [1, 2.5, 3, 2.5, 9, 99], 2.5)
    assert (found.n_normal, found.n_abnormal, found.true_alarms, found.false_alarms) == (3, 2, 1, 1)
    assert (found.precision, found.recall, found.f1) == (0.5, 0.5, 0.5)


@given(clips=scored, threshold=st.integers(-1, 7))
def test_precision_recall_and_f1_follow_their_definitions(clips, threshold):
    labels, scores = (np.array(values) for values in zip(*clips, strict=True))
    alarms, abnormal = (scores > threshold) & (labels >= 0), labels == 1
    both = (alarms & abnormal).sum()
    found = evaluate(labels, scores, threshold)
    has_both = {*labels} >= {0, 1}
    assert found.precision == pytest.approx(both / alarms.sum() if has_both and alarms.any() else math.nan, nan_ok=True)
    assert found.recall == pytest.approx(both / abnormal.sum() if abnormal.any() else math.nan, nan_ok=True)
    if both and has_both:
        assert found.f1 == pytest.approx(2 / (1 / found.precision + 1 / found.recall))


@pytest.mark.parametrize("labels", [[0] * 3, [1] * 3, [-1] * 3, [0, -1, -1], []], ids=str)
def test_with_one_label_alone_there_is_no_auc(labels):
    scores = [1.0, 2.0, 3.0][: len(labels)]
    found = evaluate(labels, scores, math.inf)
    assert (math.isnan(found.auc), math.isnan(found.partial_auc)) == (True, True)
    assert (found.true_alarms, found.false_alarms) == (0, 0)
    at_threshold = evaluate(labels, scores, 0)
    assert (math.isnan(at_threshold.precision), math.isnan(at_threshold.f1)) == (True, True)
    assert at_threshold.true_alarms + at_threshold.false_alarms == sum(label >= 0 for label in labels)
    assert all(map(math.isnan, np.ravel(bootstrap(labels, scores))))


def some_clips(n_normal, n_abnormal, seed=0):
    rng = np.random.default_rng(seed)
    labels = [0] * n_normal + [1] * n_abnormal
    return labels, np.concatenate([rng.normal(0, 1, n_normal), rng.normal(1.2, 1, n_abnormal)])


@pytest.mark.parametrize(("n_normal", "n_abnormal"), [(40, 12), (7, 60)])
def test_intervals_are_those_of_a_loop_that_draws_clips_anew(n_normal, n_abnormal):
    labels, scores = some_clips(n_normal, n_abnormal)
    rng, wholes, parts = np.random.default_rng(7), [], []
    for _ in range(300):
        drawn = [*rng.integers(0, n_normal, n_normal), *(n_normal + rng.integers(0, n_abnormal, n_abnormal))]
        wholes.append(metrics.roc_auc_score(labels, scores[drawn]))
        parts.append(metrics.roc_auc_score(labels, scores[drawn], max_fpr=0.1))
    for found, values in zip(bootstrap(labels, scores), (wholes, parts), strict=True):
        assert found == pytest.approx(np.quantile(values, [0.025, 0.975]), abs=0.05)


def test_of_clips_that_are_all_drawn_once_the_auc_of_each_draw_is_that_of_scikit_learn(monkeypatch):
    # With draws that are known, the sums must be the AUCs of scikit-learn, and not only close to these.
    labels, scores = some_clips(30, 20, 3)
    rng, drawn = np.random.default_rng(1), []

    class Known:
        def multinomial(self, n, _shares, size):
            drawn.append(rng.multinomial(n, [1 / n] * n, size))
            return drawn[-1]

    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Known())
    monkeypatch.setattr("mimii.detection.evaluation._DRAWS", 40)
    monkeypatch.setattr("mimii.detection.evaluation._DRAWS_AT_ONCE", 20)
    intervals = bootstrap(labels, scores)
    order = np.argsort(-scores[:30])
    wholes, parts = [], []
    assert [len(one) for one in drawn] == [20] * 4
    for abnormal, normal in zip(np.concatenate(drawn[::2]), np.concatenate(drawn[1::2]), strict=True):
        clips = [*np.repeat(order, normal), *np.repeat(np.arange(30, 50), abnormal)]
        of_clips = [labels[clip] for clip in clips], scores[clips]
        wholes.append(metrics.roc_auc_score(*of_clips))
        parts.append(metrics.roc_auc_score(*of_clips, max_fpr=0.1))
    for found, values in zip(intervals, (wholes, parts), strict=True):
        assert found == pytest.approx(np.quantile(values, [0.025, 0.975]))


def test_about_19_in_20_intervals_have_the_true_auc_in_them():
    true, n_trials = 0.8019, 100  # of normal distributions 1.2 deviations apart
    inside = [low < true < high for low, high in (bootstrap(*some_clips(60, 60, seed))[0] for seed in range(n_trials))]
    assert 0.88 < np.mean(inside) < 0.99


def test_the_same_clips_have_the_same_interval():
    assert bootstrap(*some_clips(20, 9)) == bootstrap(*some_clips(20, 9))


def test_clips_that_are_all_separated_have_no_interval_to_speak_of():
    assert bootstrap([0, 0, 1, 1], [1, 2, 3, 4]) == ((1, 1), pytest.approx((1, 1)))


def test_an_average_leaves_nan_out():
    assert average([1.0, math.nan, 2.0]) == 1.5
    assert math.isnan(average([math.nan]))
    assert math.isnan(average([]))
