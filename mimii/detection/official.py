"""Scores and result files as the evaluators of task 2 of the DCASE challenges compute and read them, 2020 to 2026.

What counts follows the organisers' evaluators and baselines (on GitHub); the partial AUC is always up to a false
positive rate of 0.1, scaled by McClish's formula, and a clip is an alarm where ``score > threshold``.

2020, y-kawagu/dcase2020_task2_evaluator
    AUC and partial AUC of each machine id, and their arithmetic mean over the ids of a machine type. The evaluator
    prints no score over all types: it is here the arithmetic mean of these means, AUC and partial AUC alike.
2021, y-kawagu/dcase2021_task2_evaluator
    AUC, partial AUC, precision, recall and F1 of each section and domain, each from the clips of that domain alone;
    arithmetic and harmonic means over the sections and domains of a machine type, and over all. The evaluator
    prints the harmonic means of AUC and of partial AUC; the official score is the harmonic mean of both together.
2022 to 2024, Kota-Dohi/dcase2022_evaluator, nttcslab/dcase2023_task2_evaluator, nttcslab/dcase2024_task2_evaluator
    The AUC of a domain is of the normal clips of that domain and the anomalies of both; the partial AUC is of all
    clips of a section; precision, recall and F1 are of the clips of a domain. Arithmetic and harmonic means over the
    domains of a machine type, where a section's partial AUC counts for each domain, and harmonic means of each domain.
    Official score: the harmonic mean over all sections of AUC (source), AUC (target) and, once, the partial AUC.
    The evaluator of 2022 divides the sections of a machine type at the wrong place for its means by domain (with three
    sections, the mean of the source domain is that of the first section); here it is done as from 2023 on.
2025 and 2026, nttcslab/dcase2025_task2_evaluator, nttcslab/dcase2026_task2_evaluator
    As in 2024: the results in their readmes agree with these rules.

In harmonic means, values below the float64 epsilon count as epsilon, as in the evaluators. These stop where a section
has no clips of one kind; here its values are NaN, and means leave them out and tell how many lines lack a value.
"""

import csv
import io
import math
import re
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimii.detection.evaluation import Evaluation, evaluate
from mimii.detection.published import YEARS, published
from mimii.recordings import ABNORMAL, NORMAL

DOMAINS = ("source", "target")

_COLUMNS = (
    *("machine_type", "section", "domain", "auc", "p_auc", "precision", "recall", "f1"),
    *("n_normal", "n_abnormal", "n_missing", "published_auc", "published_p_auc", "official_score"),
)
_Row = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class Section:
    """The test clips of one machine: a section, or a machine id in 2020.

    Attributes
    ----------
    labels : tuple of int
        0 normal, 1 abnormal, -1 unknown. Clips of unknown label count in no score.
    domains : tuple of str
        ``source``, ``target``, or empty where unknown.
    threshold : float
        Above it, a clip counts as abnormal.

    """

    machine_type: str
    name: str
    labels: tuple[int, ...]
    scores: tuple[float, ...]
    domains: tuple[str, ...]
    paths: tuple[str, ...]
    threshold: float


class Rates(NamedTuple):
    """AUC, partial AUC, and precision, recall and F1 at the threshold; NaN where not defined or not of that year."""

    auc: float = math.nan
    p_auc: float = math.nan
    precision: float = math.nan
    recall: float = math.nan
    f1: float = math.nan


@dataclass(frozen=True, slots=True)
class Line:
    """The values of a section in one domain, and how many clips the AUC is of; an empty domain stands for all clips."""

    machine_type: str
    section: str
    domain: str
    rates: Rates
    n_normal: int
    n_abnormal: int


@dataclass(frozen=True, slots=True)
class Mean:
    """The mean over the sections of a machine type, or over all (no machine type), and over both domains or one.

    Attributes
    ----------
    kind : str
        ``arithmetic mean`` or ``harmonic mean``.
    n_missing : int
        How many of the lines that it is the mean of lack a value; each value is the mean of those that have it.

    """

    machine_type: str
    kind: str
    domain: str
    rates: Rates
    n_missing: int


@dataclass(frozen=True, slots=True)
class Official:
    """The scores of one year's evaluator.

    Attributes
    ----------
    machines, overall : tuple of Mean
        Means over the sections of each machine type, and over all sections. In 2020, the latter are the mean over
        machine types.
    total : float
        The official score; NaN where no section has a value.
    n_missing : int
        How many AUCs and partial AUCs of sections are not in the official score, because they are NaN.

    """

    year: str
    sections: tuple[Line, ...]
    machines: tuple[Mean, ...]
    overall: tuple[Mean, ...]
    total: float
    n_missing: int


def official_scores(sections: Sequence[Section], year: str) -> Official:
    """Compute the scores of sections as the evaluator of a year does.

    Raises
    ------
    ValueError
        Where the year is none of `YEARS`, or two sections have the same machine type and name.

    """
    _check(sections, year)
    ordered = sorted(sections, key=lambda section: (section.machine_type, section.name))
    lines = [line for section in ordered for line in _lines(section, year)]
    machines = [
        mean for name in dict.fromkeys(line.machine_type for line in lines) for mean in _means(lines, year, name)
    ]
    overall = [_mean("", "arithmetic mean", "", machines, year)] if year == "dcase2020" else _means(lines, year)
    values = _values(lines, year)
    total = _arithmetic(np.array(overall[0].rates[:2])) if year == "dcase2020" else _harmonic(values)
    return Official(year, tuple(lines), tuple(machines), tuple(overall), total, int(np.isnan(values).sum()))


def result_files(sections: Sequence[Section], year: str) -> dict[str, bytes]:
    """Return the files that an evaluator reads, by name: CSV without header, of file names and scores or decisions.

    In 2021 there are files for each domain; in 2020 there are no decisions.

    Raises
    ------
    ValueError
        As `official_scores`.

    """
    _check(sections, year)
    files = {}
    for section in sections:
        for ending, clips in _files(section, year):
            scores = [(name, repr(score)) for name, score in clips]
            files[f"anomaly_score_{_as_name(section.machine_type)}_{ending}.csv"] = _csv(scores)
            if year != "dcase2020":
                decisions = [(name, int(score > section.threshold)) for name, score in clips]
                files[f"decision_result_{_as_name(section.machine_type)}_{ending}.csv"] = _csv(decisions)
    return files


def official_document(official: Official) -> bytes:
    """Write all lines, the means and the official score as CSV, UTF-8, beside what is published of the baseline."""
    rows: list[_Row] = [_COLUMNS]
    rows.extend(_section_row(line, official.year) for line in official.sections)
    rows.extend(_mean_row(mean) for mean in (*official.machines, *official.overall))
    empty = [""] * (len(_COLUMNS) - 3)
    empty[_COLUMNS.index("n_missing") - 2] = str(official.n_missing)
    rows.append(("", "official score", *empty, _cell(official.total)))
    return _csv(rows)


def _check(sections: Sequence[Section], year: str) -> None:
    if year not in YEARS:
        msg = f"{year}: no such year of the challenge; there are {', '.join(YEARS)}"
        raise ValueError(msg)
    names = [(section.machine_type, section.name) for section in sections]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        msg = f"several machines are {' '.join(twice[0])}: score one channel and one SNR at a time"
        raise ValueError(msg)


class _Clips(NamedTuple):
    """The clips of a section of which label and score are known."""

    labels: NDArray[np.int64]
    scores: NDArray[np.float64]
    domains: NDArray[np.str_]

    def evaluate(self, chosen: NDArray[np.bool_], threshold: float) -> Evaluation:
        return evaluate(self.labels[chosen], self.scores[chosen], threshold)


def _clips(section: Section) -> _Clips:
    """Return the clips that count."""
    labels, domains = np.array(section.labels, int), np.array(section.domains, str)
    scores = np.array(section.scores, float)
    known = np.isin(labels, (NORMAL, ABNORMAL)) & ~np.isnan(scores)
    return _Clips(labels[known], scores[known], domains[known])


def _lines(section: Section, year: str) -> list[Line]:
    clips = _clips(section)
    everything = np.ones(len(clips.labels), bool)
    together = clips.evaluate(everything, section.threshold)
    if year == "dcase2020":
        return [_line(section, "", together, together.partial_auc)]
    lines = [] if year == "dcase2021" else [_line(section, "", together, together.partial_auc)]
    for domain in DOMAINS:
        own = clips.domains == domain
        decided = clips.evaluate(own, section.threshold)
        if year == "dcase2021":
            lines.append(_line(section, domain, decided, decided.partial_auc, decided))
        else:
            ranked = clips.evaluate(own | (clips.labels == ABNORMAL), section.threshold)
            lines.append(_line(section, domain, ranked, together.partial_auc, decided))
    return lines


def _line(section: Section, domain: str, ranked: Evaluation, p_auc: float, decided: Evaluation | None = None) -> Line:
    rates = Rates(ranked.auc, p_auc, *_at_threshold(decided))
    return Line(section.machine_type, section.name, domain, rates, ranked.n_normal, ranked.n_abnormal)


def _at_threshold(decided: Evaluation | None) -> tuple[float, float, float]:
    """Return precision, recall and F1; the evaluators have 0 as precision where there is no alarm."""
    if decided is None or not decided.n_normal or not decided.n_abnormal:
        return math.nan, math.nan, math.nan
    return 0.0 if math.isnan(decided.precision) else decided.precision, decided.recall, decided.f1


def _means(lines: Sequence[Line], year: str, machine_type: str = "") -> list[Mean]:
    """Return the means that the evaluator of a year prints of a machine type, or over all."""
    chosen = [line for line in lines if machine_type in ("", line.machine_type)]
    if year == "dcase2020":
        return [_mean(machine_type, "arithmetic mean", "", chosen, year)]
    by_domain = {domain: [line for line in chosen if line.domain == domain] for domain in DOMAINS}
    both = [*by_domain["source"], *by_domain["target"]]
    means = [_mean(machine_type, kind, "", both, year) for kind in ("arithmetic mean", "harmonic mean")]
    if year != "dcase2021":
        means += [_mean(machine_type, "harmonic mean", domain, own, year) for domain, own in by_domain.items()]
    return means


def _mean(machine_type: str, kind: str, domain: str, lines: Sequence[Line] | Sequence[Mean], year: str) -> Mean:
    values = np.array([line.rates for line in lines], float).reshape(-1, len(Rates._fields))
    of_year = values[:, :2] if year == "dcase2020" else values
    average = _arithmetic if kind == "arithmetic mean" else _harmonic
    return Mean(machine_type, kind, domain, Rates(*map(average, values.T)), int(np.isnan(of_year).any(axis=1).sum()))


def _values(lines: Sequence[Line], year: str) -> NDArray[np.float64]:
    """Return the AUCs and partial AUCs that the official score is the mean of."""
    by_domain = [line for line in lines if line.domain or year == "dcase2020"]
    pooled = by_domain if year == "dcase2021" else [line for line in lines if not line.domain]
    return np.array([*(line.rates.auc for line in by_domain), *(line.rates.p_auc for line in pooled)], float)


def _arithmetic(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def _harmonic(values: NDArray[np.float64]) -> float:
    known = values[~np.isnan(values)]
    return float(1 / np.mean(1 / np.maximum(known, sys.float_info.epsilon))) if len(known) else math.nan


def _files(section: Section, year: str) -> Iterator[tuple[str, list[tuple[str, float]]]]:
    """Yield the ends of the names of a section's files, and the names and scores of the clips of each."""
    names = (path.rpartition("/")[2] for path in section.paths)
    clips = sorted(zip(names, section.scores, section.domains, strict=True), key=lambda clip: clip[0])
    if year != "dcase2021":
        name = _as_name(section.name)
        yield name if year == "dcase2020" else f"{name}_test", [clip[:2] for clip in clips]
        return
    for domain in sorted(set(section.domains)):
        fold = f"{domain}_test" if domain else "test"
        yield f"{_as_name(section.name)}_{fold}", [(name, score) for name, score, own in clips if own == domain]


def _as_name(text: str) -> str:
    """Return a text as a part of the name of a file."""
    return re.sub(r"[^\w.-]|^\.+", "_", text)


def _section_row(line: Line, year: str) -> _Row:
    known = published(year, line.machine_type, line.section)
    beside = known.of(line.domain) if known else (math.nan, math.nan)
    names, counts = (line.machine_type, line.section, line.domain), (line.n_normal, line.n_abnormal)
    return (*names, *map(_cell, line.rates), *counts, "", *map(_cell, beside), "")


def _mean_row(mean: Mean) -> _Row:
    return (mean.machine_type, mean.kind, mean.domain, *map(_cell, mean.rates), "", "", mean.n_missing, "", "", "")


def _cell(value: float) -> str:
    """Write a number for CSV; what is not known is empty."""
    return "" if math.isnan(value) else f"{value:.6g}"


def _csv(rows: Iterable[_Row]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
