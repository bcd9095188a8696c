"""How alarming machines are: their latest clips beside their own normal ones, and since when."""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimii.detection.machines import Machine
from mimii.detection.results import Results, is_trusted
from mimii.detection.study import Outcome, Scores
from mimii.detection.thresholds import NORMAL_VERDICT, Rule, choose_threshold, rank, verdict
from mimii.table import Columns

LATEST = 10
"""How many clips say how a machine is now."""

_HIGHEST, _LEAST_HIGHEST = 0.1, 3
_USUAL = Rule("sigma", 3.0)


@dataclass(frozen=True, slots=True)
class History:
    """The clips of a machine that have a score, the latest ones last; where no time is known, as in the table.

    Attributes
    ----------
    clips : ndarray of int
        Their indices in the table.
    scores : ndarray of float64
        By the first detector; of training clips, by one that had not learned from them.
    times : ndarray of float64
        Seconds since 1970-01-01; NaN where unknown, and these clips come first.
    is_training : ndarray of bool
        Which are training clips.

    """

    clips: NDArray[np.intp]
    scores: NDArray[np.float64]
    times: NDArray[np.float64]
    is_training: NDArray[np.bool_]

    @property
    def is_timed(self) -> bool:
        """Whether it is known of any clip when it was recorded."""
        return bool(np.isfinite(self.times).any())

    def latest(self) -> NDArray[np.intp]:
        """Return the places of the clips that say how the machine is now, the highest score first.

        These are the last 10 by time. Where no time is known, the order of the table says nothing about age: then, the
        highest tenth of the scores of all clips but training clips, and at least 3; of training clips where there are
        no others. So a machine is alarming when one clip in twenty is, however many clips there are.
        """
        if self.is_timed:
            chosen, count = np.flatnonzero(np.isfinite(self.times))[-LATEST:], LATEST
        else:
            chosen = np.flatnonzero(~self.is_training | self.is_training.all())
            count = max(_LEAST_HIGHEST, round(_HIGHEST * len(chosen)))
        highest: NDArray[np.intp] = chosen[np.argsort(-self.scores[chosen], kind="stable")][:count]
        return highest

    def alarm_began(self, threshold: float) -> float:
        """Return when the first clip was recorded of the unbroken run of alarms that lasts until the latest clip.

        NaN where the latest clip is no alarm, or no time is known.
        """
        known = np.isfinite(self.times)
        times, is_alarm = self.times[known], self.scores[known] > threshold
        if not len(times) or not is_alarm[-1]:
            return math.nan
        quiet = np.flatnonzero(~is_alarm)
        return float(times[quiet[-1] + 1 if len(quiet) else 0])


@dataclass(frozen=True, slots=True)
class Standing:
    """How alarming a machine is.

    Attributes
    ----------
    machine : Machine
        Which one.
    outcome : Outcome
        What came of it.
    history : History
        All of its clips that have a score.
    latest : ndarray of int
        Places in the history, see `History.latest`.
    score : float
        The median of the scores of these; NaN where there are none.
    level : float
        See `alarm_level`.
    rank : float
        The share of the scores of the machine's normal clips that `score` exceeds; NaN where there are none.
    since : float
        See `History.alarm_began`.

    """

    machine: Machine
    outcome: Outcome
    history: History
    latest: NDArray[np.intp]
    score: float
    level: float
    rank: float
    since: float

    @property
    def verdict(self) -> str:
        """What the machine counts as now: abnormal, normal, or unknown where there is no threshold."""
        return verdict(self.score, self.outcome.scores.threshold)

    @property
    def is_new(self) -> bool:
        """Whether its very latest clip is an alarm, but most of the latest clips are not."""
        return self.verdict == NORMAL_VERDICT and math.isfinite(self.since)

    @property
    def n_alarms(self) -> int:
        """How many of the latest clips are above the threshold."""
        return int((self.history.scores[self.latest] > self.outcome.scores.threshold).sum())

    @property
    def is_trusted(self) -> bool:
        """Whether there are enough normal clips for a threshold, and there is one."""
        scores = self.outcome.scores
        return is_trusted(scores) and math.isfinite(scores.threshold)


def rank_machines(results: Results, columns: Columns) -> list[Standing]:
    """Return how alarming each machine is, the most alarming one first.

    By level; behind the machines above 1 come those of which the very latest clip is an alarm, and at the end those
    without a level.
    """
    standings = [judge(machine, outcome, columns) for machine, outcome in results]
    return sorted(standings, key=_place)


def judge(machine: Machine, outcome: Outcome, columns: Columns) -> Standing:
    """Say how alarming a machine is."""
    history, scores = make_history(outcome, columns), outcome.scores
    latest = history.latest()
    score = float(np.median(history.scores[latest])) if len(latest) else math.nan
    place = math.nan if math.isnan(score) else rank(score, scores.normal)
    since = history.alarm_began(scores.threshold)
    return Standing(machine, outcome, history, latest, score, alarm_level(score, scores), place, since)


def _place(one: Standing) -> tuple[bool, bool, float, str]:
    is_alarming = one.level > 1 or one.is_new
    return math.isnan(one.level), not is_alarming, -one.level, one.machine.name


def make_history(outcome: Outcome, columns: Columns) -> History:
    """Return the clips of a machine that have a score, in order."""
    scores = outcome.scores
    clips = np.array([*scores.normal_clips, *outcome.clips], np.intp)
    values = np.array([*scores.normal, *scores.clips], np.float64)
    is_training = np.arange(len(clips)) < len(scores.normal_clips)
    times = np.asarray(columns.recorded_at, np.float64)[clips]
    order = np.lexsort((clips, np.where(np.isfinite(times), times, -np.inf)))
    order = order[np.isfinite(values[order])]
    return History(clips[order], values[order], times[order], is_training[order])


def alarm_level(score: float, scores: Scores) -> float:
    """Return how far above normal a score is, so that machines can be compared: 0 for a typical clip, 1 for an alarm.

    ``(score - median) / (threshold - median)``, with the median of the scores of the machine's normal clips. Scores of
    two machines are in different units; their thresholds, made by one rule, are as seldom exceeded by normal clips. An
    infinite threshold, and one that is not above the median, is replaced by that of the rule ``sigma 3``, which grows
    with the scatter of the normal scores and with how few they are. NaN where there is no such threshold either: of
    fewer than two normal clips, or where all of them have the same score.
    """
    if math.isnan(score) or not scores.normal:
        return math.nan
    median = float(np.median(scores.normal))
    limits = (scores.threshold, choose_threshold(_USUAL, scores.normal))
    limit = next((one for one in limits if math.isfinite(one) and one > median), math.nan)
    return (score - median) / (limit - median)
