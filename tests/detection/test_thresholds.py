"""Thresholds: how many normal clips exceed them, rules as text, and what a score counts as."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from mimii.detection import LearningError, Training
from mimii.detection.thresholds import (
    Rule,
    RuleError,
    choose_peak_threshold,
    choose_threshold,
    rank,
    read_rule,
    verdict,
)

scores = st.lists(st.floats(-1e6, 1e6), min_size=2, max_size=60)


@pytest.mark.parametrize(("n", "deviations"), [(3, 1), (5, 2), (5, 3), (20, 3), (200, 3)])
def test_as_many_normal_clips_are_above_sigma_as_the_normal_distribution_says(n, deviations):
    rng, n_trials = np.random.default_rng(n), 1500
    share = 0.0
    for _ in range(n_trials):
        limit = choose_threshold(Rule("sigma", deviations), rng.normal(5, 2, n))
        share += stats.norm.sf(limit, 5, 2) / n_trials  # what a new clip does, without drawing it
    assert share == pytest.approx(stats.norm.sf(deviations), rel=0.25)


def test_sigma_of_few_clips_is_farther_from_their_mean():
    drawn = {n: np.random.default_rng(n).normal(0, 1, n) for n in (5, 20, 1000)}
    limits = {n: (choose_threshold(Rule("sigma", 3), x) - x.mean()) / x.std(ddof=1) for n, x in drawn.items()}
    assert limits == pytest.approx({5: 7.3, 20: 3.54, 1000: 3.01}, abs=0.06)


@pytest.mark.parametrize(("n", "share"), [(9, 0.9), (19, 0.9), (99, 0.9), (99, 0.99), (40, 0.5)])
def test_at_most_the_rest_of_normal_clips_is_above_a_quantile(n, share):
    rng, n_trials = np.random.default_rng(n), 4000
    above = np.mean(
        [rng.gamma(2, 3) > choose_threshold(Rule("quantile", share), rng.gamma(2, 3, n)) for _ in range(n_trials)]
    )
    deviation = math.sqrt(share * (1 - share) / n_trials)
    assert 1 - share - 1 / (n + 1) - 4 * deviation < above < 1 - share + 4 * deviation


@given(values=scores, share=st.floats(0.01, 0.99))
def test_a_quantile_is_the_smallest_score_that_enough_do_not_exceed(values, share):
    enough = [one for one in values if np.sum(np.array(values) <= one) >= share * (len(values) + 1) - 1e-9]
    assert choose_threshold(Rule("quantile", share), values) == min(enough, default=math.inf)


def test_too_few_clips_for_a_quantile_have_none():
    assert choose_threshold(Rule("quantile", 0.9), range(9)) == 8
    assert choose_threshold(Rule("quantile", 0.9), range(8)) == math.inf


def test_gamma_is_the_quantile_of_a_fitted_gamma_distribution():
    drawn = np.random.default_rng(1).gamma(3, 2, 300)
    expected = stats.gamma.ppf(0.9, *stats.gamma.fit(np.sort(drawn)))
    assert choose_threshold(Rule("gamma", 0.9), drawn) == pytest.approx(expected)
    assert np.mean(np.random.default_rng(2).gamma(3, 2, 10_000) > expected) == pytest.approx(0.1, abs=0.02)


@settings(max_examples=25)
@given(values=st.lists(st.floats(0, 100), min_size=2, max_size=30))
def test_gamma_is_a_number_above_the_least_score_or_infinite(values):
    found = choose_threshold(Rule("gamma", 0.9), values)
    assert found == math.inf or found >= min(values) - 1e-6


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("values", [[0, 0, 0, 5e-324, 1e-300], [1, 1 + 1e-16, 1 + 3e-16, 2], [5, 5, 7]])
def test_gamma_of_odd_scores_is_no_error(values):
    assert not math.isnan(choose_threshold(Rule("gamma", 0.9), values))


def test_a_value_is_the_threshold_whatever_the_scores_are():
    assert choose_threshold(Rule("value", 1.25), [7, 8]) == choose_threshold(Rule("value", 1.25), []) == 1.25


@pytest.mark.parametrize("rule", ["sigma 3", "quantile 0.9", "gamma 0.9"])
@pytest.mark.parametrize("values", [[], [7.0]])
def test_no_score_or_one_give_no_threshold(rule, values):
    assert choose_threshold(read_rule(rule), values) == math.inf


@given(values=scores, shift=st.integers(-5, 5))
def test_the_order_of_scores_does_not_matter(values, shift):
    for rule in (Rule("sigma", 3), Rule("quantile", 0.9)):
        assert choose_threshold(rule, np.roll(values, shift)) == choose_threshold(rule, values)


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        *(("sigma 3", ("sigma", 3)), (" sigma  2.5 ", ("sigma", 2.5)), ("quantile 0.99", ("quantile", 0.99))),
        *(
            ("gamma .9", ("gamma", 0.9)),
            ("1.25", ("value", 1.25)),
            ("-3e2", ("value", -300)),
            ("sigma -1", ("sigma", -1)),
        ),
    ],
)
def test_rules_are_read(text, rule):
    assert read_rule(text) == rule


@given(name=st.sampled_from(["sigma", "value"]), value=st.floats(allow_nan=False, allow_infinity=False))
def test_rules_are_read_as_they_are_written(name, value):
    assert read_rule(str(Rule(name, value))) == (name, value)


@given(name=st.sampled_from(["quantile", "gamma"]), value=st.floats(0, 1, exclude_min=True, exclude_max=True))
def test_shares_are_read_as_they_are_written(name, value):
    assert read_rule(str(Rule(name, value))) == (name, value)


@pytest.mark.parametrize(
    ("text", "written"), [("sigma 3.0", "sigma 3"), ("quantile 0.90", "quantile 0.9"), ("2", "2.0")]
)
def test_rules_are_written_as_users_do(text, written):
    assert str(read_rule(text)) == written


BAD_RULES = [
    *("", "sigma", "3 sigma", "median 3", "sigma three", "sigma nan", "inf", "nan", "sigma 3 4"),
    *("quantile 0", "quantile 1", "gamma 1.5", "quantile -0.1", "gamma 90"),
]


@pytest.mark.parametrize("text", BAD_RULES)
def test_other_texts_are_refused_with_those_that_are_rules(text):
    with pytest.raises(RuleError, match=r"a threshold is 'sigma 3', 'quantile 0\.9', 'gamma 0\.9' .* or a number; not"):
        read_rule(text)
    with pytest.raises(LearningError, match="a threshold is 'sigma 3'"):
        Training(threshold=text)


def test_a_moment_counts_above_all_normal_ones_and_ten_deviations():
    drawn = np.random.default_rng(1).normal(3, 0.5, 500)
    assert choose_peak_threshold(drawn) == pytest.approx(drawn.mean() + 10 * drawn.std(ddof=1))
    assert choose_peak_threshold([*drawn, 100.0]) == 100
    assert choose_peak_threshold([*drawn, math.nan]) == choose_peak_threshold(drawn)


@pytest.mark.parametrize("values", [[], [3.0], [math.nan] * 5, [math.nan, 2.0]])
def test_no_moment_or_one_give_no_threshold(values):
    assert choose_peak_threshold(values) == math.inf


def test_a_rank_is_the_share_of_normal_scores_below():
    assert [rank(score, [1, 2, 2, 4]) for score in (0, 1, 2, 3, 9)] == [0, 0, 0.25, 0.75, 1]
    assert math.isnan(rank(1.0, []))


@pytest.mark.parametrize(
    ("score", "threshold", "expected"),
    [(2, 1, "abnormal"), (1, 1, "normal"), (0, 1, "normal"), (9, math.inf, "unknown"), (math.nan, 1, "unknown")],
)
def test_a_clip_is_abnormal_above_the_threshold_and_unknown_without_one(score, threshold, expected):
    assert verdict(score, threshold) == expected
