"""The results of detection as one HTML page for those who run the machines: which one, since when, how to hear it.

All is within the page: it loads nothing from elsewhere.
"""

import base64
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import jinja2

from mimii.detection.charts import format_time, history_chart, roc_chart, scores_chart, sparkline
from mimii.detection.evaluation import roc_curve
from mimii.detection.kinds import KINDS
from mimii.detection.ranking import LATEST, Standing, rank_machines
from mimii.detection.results import (
    Results,
    averages,
    best_channels,
    describe_machine,
)
from mimii.detection.shown import Case, choose_cases, name_clip
from mimii.detection.study import Outcome, Study
from mimii.detection.thresholds import ABNORMAL_VERDICT, LEAST_CLIPS, NO_VERDICT
from mimii.features import describe_axes
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL
from mimii.storage import Access
from mimii.table import Columns

MOST_CURVES = 12
"""How many machines are shown with a ROC curve: those with the lowest AUC."""

_TEMPLATE = "report.html.jinja"


@dataclass(frozen=True, slots=True)
class Line:
    """A machine on the page.

    Attributes
    ----------
    number : int
        Its place, from 1 for the most alarming machine.
    standing : Standing
        How alarming it is.
    cases : list of Case
        Its most alarming moments; empty where there is no room for pictures.
    spark, chart : str
        Its scores over time, as SVG, small and large; the latter is empty where there are no cases.

    """

    number: int
    standing: Standing
    cases: list[Case]
    spark: str
    chart: str

    @property
    def has_sound(self) -> bool:
        """Whether its most alarming moment can be played."""
        return bool(self.cases) and bool(self.cases[0].alarming.sound.flac)


def write_page(columns: Columns, study: Study, results: Results, access: Access) -> bytes:
    """Return the page; `access` is for the sound of recordings on S3."""
    standings = rank_machines(results, columns)
    cases = choose_cases(standings, columns, study, access)
    lines = [_line(place + 1, *one) for place, one in enumerate(zip(standings, cases, strict=True))]
    text = _template().render(
        columns=columns,
        spec=study.spec,
        axes=describe_axes(study.spec),
        training=study.training,
        kinds=KINDS,
        lines=lines,
        alarming=[line for line in lines if line.standing.verdict == ABNORMAL_VERDICT],
        new=[line for line in lines if line.standing.is_new],
        untrusted=[line for line in lines if not line.standing.is_trusted],
        n_timed=sum(standing.history.is_timed for standing in standings),
        without_scores=[line for line in lines if not len(line.standing.latest)],
        without_pictures=[line for line in lines if not line.cases and len(line.standing.latest)],
        is_any_shown=any(cases),
        without_sound=_by_problem(lines),
        latest=LATEST,
        least_clips=LEAST_CLIPS,
        verdicts={"alarm": ABNORMAL_VERDICT, "unknown": NO_VERDICT},
        name_clip=lambda clip: name_clip(columns, clip),
        label_names=LABEL_NAMES,
        **_quality(results),
    )
    return text.encode("utf-8", "replace")


def _by_problem(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """Return the machines that have pictures but no sound, by why that is."""
    found: dict[str, list[Line]] = {}
    for line in lines:
        if line.cases and not line.has_sound:
            found.setdefault(line.cases[0].alarming.sound.problem, []).append(line)
    return found


def _line(number: int, standing: Standing, cases: list[Case]) -> Line:
    threshold = standing.outcome.scores.threshold
    chart = history_chart(standing.history, threshold) if cases else ""
    return Line(number, standing, cases, sparkline(standing.history, threshold), chart)


def _quality(results: Results) -> dict[str, Any]:
    """Return how good the detectors are, where clips have labels."""
    labelled = [(machine, outcome) for machine, outcome in results if {*outcome.labels} & {NORMAL, ABNORMAL}]
    lines = [describe_machine(machine, outcome, next(iter(outcome.detectors))) for machine, outcome in labelled]
    totals = {name: sum(line[name] for line in lines) for name in ("n_normal", "n_abnormal")}
    totals |= {name: sum(line[name] for line in lines) for name in ("true_alarms", "false_alarms")}
    known = [(outcome.evaluation().auc, machine.name, outcome) for machine, outcome in labelled]
    curves = sorted((one for one in known if not math.isnan(one[0])), key=lambda one: one[:2])[:MOST_CURVES]
    return {
        "quality": lines,
        "totals": totals,
        "means": averages(results),
        "n_best": _count_best(results),
        "best_channels": best_channels(results),
        "curves": [(name, auc, *_curves(outcome)) for auc, name, outcome in curves],
    }


def _count_best(results: Results) -> Counter[str]:
    """Count for how many machines each detector has the highest AUC; of two that are equal, both count."""
    best = Counter[str]()
    for _, outcome in results:
        aucs = {kind: outcome.evaluation(kind).auc for kind in outcome.detectors}
        best.update(kind for kind, auc in aucs.items() if auc == max(aucs.values()))
    return best


def _curves(outcome: Outcome) -> tuple[str, str]:
    scores = outcome.scores
    normal, abnormal = (
        [score for score, known in zip(scores.clips, outcome.labels, strict=True) if known == label]
        for label in (NORMAL, ABNORMAL)
    )
    histograms = scores_chart(normal, abnormal, scores.threshold)
    return roc_chart(*roc_curve(outcome.labels, scores.clips)), histograms


@cache
def _template() -> jinja2.Template:
    source = resources.files("mimii.detection").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {
        "count": "{:,}".format,
        "share": _known("{:.3f}".format),
        "score": _known("{:.4g}".format),
        "level": _known(_level),
        "percent": _known(_percent),
        "width": _width,
        "time": format_time,
        "hz": lambda hz: f"{hz:,.0f}" if hz < 1000 else f"{round(hz, -1):,.0f}",
        "names": _names,
        "base64": lambda data: base64.b64encode(data).decode(),
    }
    return environment.from_string(source)


def _known(write: Callable[[float], str]) -> Callable[[float], str]:
    """Return what writes a number, or ``-`` where there is none."""
    return lambda value: write(value) if math.isfinite(value) else "-"


def _level(value: float) -> str:
    return f"{value:.1f}" if abs(value) >= 0.05 else "0.0"


def _percent(share: float) -> str:
    """Write a share, never a larger one: 100 % is all."""
    return f"{math.floor(share * 1000) / 10:.1f} %".replace(".0 %", " %")


def _width(level: float) -> str:
    """Return how long the bar of a level is, in percent; the threshold is at a third."""
    return f"{100 * min(max(level, 0), 3) / 3 if math.isfinite(level) else 0:.0f}"


def _names(lines: Sequence[Line], most: int = 20) -> str:
    names = [line.standing.machine.name for line in lines]
    return ", ".join(names[:most]) + (f" and {len(names) - most:,} others" if len(names) > most else "")
