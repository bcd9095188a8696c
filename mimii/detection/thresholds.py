"""Thresholds from the scores of normal clips, and how a score compares with these.

All scores here are of clips that the detector had not learned from.
"""

import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, stdtrit

LEAST_CLIPS = 10
"""With fewer scores of normal clips, a threshold is not to be trusted: docs/benchmarks.md has the measured curve."""

NORMAL_VERDICT, ABNORMAL_VERDICT, NO_VERDICT = "normal", "abnormal", "unknown"

_PEAK_DEVIATIONS = 10.0
_LEAST_FOR_GAMMA = 3
_LEAST_FOR_SIGMA = 3


class RuleError(ValueError):
    """A text that is not a rule for thresholds."""


class Rule(NamedTuple):
    """How a threshold is made of scores: ``sigma``, ``gamma``, ``quantile`` or ``value``, and its number."""

    name: str
    value: float

    def __str__(self) -> str:
        """Write it as users do."""
        return f"{self.name} {self.value!r}".removesuffix(".0") if self.name != "value" else f"{self.value!r}"


def read_rule(text: str) -> Rule:
    """Read a rule such as ``"sigma 3"``, ``"quantile 0.9"``, ``"gamma 0.9"`` or ``"1.25"``; RuleError if it is none."""
    name, _, number = f"{text}".strip().rpartition(" ")
    rule = Rule(name.strip() or "value", _number(number))
    is_share = rule.name in ("quantile", "gamma")
    if rule.name not in _RULES or not math.isfinite(rule.value) or (is_share and not 0 < rule.value < 1):
        msg = f"a threshold is 'sigma 3', 'quantile 0.9', 'gamma 0.9' (from 0 to 1), or a number; not {text!r}"
        raise RuleError(msg)
    return rule


def choose_threshold(rule: Rule, normal_scores: ArrayLike) -> float:
    """Return the threshold; infinite where there are too few scores for one.

    ``sigma k``: if scores are normally distributed, a new normal clip exceeds it as rarely as mean + k standard
    deviations. Mean and deviation are known from n scores alone, so it is the prediction limit
    ``mean + t * s * sqrt(1 + 1 / n)``, where t is the quantile of Student's distribution with n - 1 degrees of freedom:
    for 5 clips 7.3 deviations, for 20 clips 3.5, for 1,000 clips 3.0. ``quantile q``: the smallest score that at least
    ``q * (n + 1)`` scores do not exceed. ``gamma q``: the quantile of a gamma distribution fitted to the scores, as in
    the baselines of DCASE.
    """
    scores = np.sort(np.asarray(normal_scores, float))
    return _RULES[rule.name](scores, rule.value)


def choose_peak_threshold(window_scores: ArrayLike) -> float:
    """Return the threshold for moments: above all moments of normal clips, and 10 deviations above their mean.

    An hour has 7,200 moments. The score of each is a maximum over bands, and maxima have a long tail: if it is a Gumbel
    distribution's, a normal moment exceeds 10 deviations once in 670,000, or in 90 hours; 6 deviations twice an hour.
    """
    scores = np.asarray(window_scores, float)
    scores = scores[np.isfinite(scores)]
    if len(scores) <= 1:
        return math.inf
    return float(max(scores.max(), scores.mean() + _PEAK_DEVIATIONS * scores.std(ddof=1)))


def rank(score: float, normal_scores: ArrayLike) -> float:
    """Return the share of normal scores that a score exceeds; NaN where there is none."""
    scores = np.asarray(normal_scores, float)
    return float((scores < score).mean()) if len(scores) else math.nan


def verdict(score: float, threshold: float) -> str:
    """Return what a clip counts as: abnormal above the threshold; unknown where there is none."""
    if math.isinf(threshold) or math.isnan(score):
        return NO_VERDICT
    return ABNORMAL_VERDICT if score > threshold else NORMAL_VERDICT


def _sigma(scores: NDArray[np.float64], deviations: float) -> float:
    n = len(scores)
    if n < _LEAST_FOR_SIGMA:
        return math.inf
    if not scores.std() > 0:  # the same recording many times, or silence
        return math.inf
    quantile = -float(stdtrit(n - 1, ndtr(-deviations)))  # of Student's t: exceeded as seldom as the deviations are
    return float(scores.mean() + quantile * scores.std(ddof=1) * math.sqrt(1 + 1 / n))


def _quantile(scores: NDArray[np.float64], share: float) -> float:
    place = math.ceil(share * (len(scores) + 1) - 1e-9)
    return float(scores[place - 1]) if place <= len(scores) else math.inf


def _gamma(scores: NDArray[np.float64], share: float) -> float:
    from scipy.stats import FitError, gamma

    if len(np.unique(scores)) < _LEAST_FOR_GAMMA:
        return math.inf
    try:
        limit = float(gamma.ppf(share, *gamma.fit(scores)))
    except FitError:  # as of scores that are nearly all the same
        return math.inf
    return limit if math.isfinite(limit) else math.inf


def _value(_scores: NDArray[np.float64], value: float) -> float:
    return value


_RULES: Mapping[str, Callable[[NDArray[np.float64], float], float]] = MappingProxyType(
    {"sigma": _sigma, "quantile": _quantile, "gamma": _gamma, "value": _value}
)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
