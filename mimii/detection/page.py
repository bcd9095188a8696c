"""The results of detection as one HTML page: a table, curves, and the hardest clips as pictures and sound.

All is within the page: it loads nothing from elsewhere.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import jinja2
import numpy as np

from mimii.detection.evaluation import published_auc, roc_curve
from mimii.detection.kinds import KINDS
from mimii.detection.learning import Training
from mimii.detection.listening import Sound
from mimii.detection.machines import Machine
from mimii.detection.results import Results, averages, best_channels
from mimii.detection.study import Outcome
from mimii.features import FloatArray, unstack_rows
from mimii.images import ABNORMAL_COLOUR, NORMAL_COLOUR, draw_errors, draw_roc, draw_spectrogram
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL
from mimii.table import Columns

MOST_SHOWN = 12
"""How many machines are shown with curves and clips: those with the lowest AUC."""

_TEMPLATE = "report.html.jinja"


@dataclass(frozen=True, slots=True)
class Hardest:
    """The clips of a machine that say most about its detector.

    Attributes
    ----------
    clips : tuple of int
        The abnormal clip with the lowest score and the normal one with the highest, as places in ``outcome.clips``;
        one of them where the other label is missing.

    """

    machine: Machine
    outcome: Outcome
    clips: tuple[int, ...]


def find_hardest(results: Results) -> list[Hardest]:
    """Choose the machines to show, the lowest AUC first, and clips of each."""
    tested = [(machine, outcome) for machine, outcome in results if outcome.clips]
    ranked = sorted(tested, key=lambda result: (math.isnan(result[1].evaluation.auc), result[1].evaluation.auc))
    return [
        Hardest(machine, outcome, (*_by_score(outcome, ABNORMAL)[:1], *_by_score(outcome, NORMAL)[-1:]))
        for machine, outcome in ranked[:MOST_SHOWN]
    ]


def write_page(
    columns: Columns,
    training: Training,
    results: Results,
    shown: Sequence[Hardest],
    clips: Mapping[int, tuple[FloatArray, Sound]],
) -> bytes:
    """Return the page; ``clips`` are the rows and the sound of those in ``shown``, by their index in the table."""
    evaluations = [outcome.evaluation for _, outcome in results]
    totals = {
        name: sum(getattr(evaluation, name) for evaluation in evaluations)
        for name in ("n_normal", "n_abnormal", "true_alarms", "false_alarms")
    }
    text = _template().render(
        spec=columns.spec,
        training=training,
        kinds=KINDS,
        n_learned=sum(outcome.n_learned for _, outcome in results),
        n_scored=sum(len(outcome.clips) for _, outcome in results),
        mean=averages(results),
        best_channels=best_channels(results),
        totals=totals,
        rows=[(machine.name, outcome.evaluation, _published(machine)) for machine, outcome in results],
        sections=[_section(hardest, columns, clips) for hardest in shown],
        colours={"normal": NORMAL_COLOUR, "abnormal": ABNORMAL_COLOUR},
    )
    return text.encode("utf-8", "replace")


def _template() -> jinja2.Template:
    source = resources.files("mimii.detection").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters["count"] = "{:,}".format
    environment.filters["share"] = lambda value: "-" if math.isnan(value) else f"{value:.3f}"
    environment.filters["score"] = "{:.4g}".format
    environment.filters["base64"] = lambda data: base64.b64encode(data).decode()
    return environment.from_string(source)


def _published(machine: Machine) -> float:
    return published_auc(machine.machine_type, machine.machine_id, machine.snr_db)


def _by_score(outcome: Outcome, label: int) -> list[int]:
    """Return the places of the clips with a label, the lowest score first."""
    places = [place for place, known in enumerate(outcome.labels) if known == label]
    return sorted(places, key=lambda place: outcome.scores[place])


def _section(hardest: Hardest, columns: Columns, clips: Mapping[int, tuple[FloatArray, Sound]]) -> dict[str, Any]:
    outcome = hardest.outcome
    normal, abnormal = ([outcome.scores[place] for place in _by_score(outcome, label)] for label in (NORMAL, ABNORMAL))
    charts = [draw_errors(normal, abnormal, outcome.threshold)]
    if normal and abnormal:
        charts.append(draw_roc(*roc_curve(outcome.labels, outcome.scores), outcome.evaluation.auc))
    rows = [clips[outcome.clips[place]][0] for place in hardest.clips]
    db_range = (float(min(map(np.min, rows))), float(max(map(np.max, rows))))
    examples = [_example(outcome, place, columns, clips[outcome.clips[place]], db_range) for place in hardest.clips]
    return {"machine": hardest.machine, "outcome": outcome, "charts": charts, "examples": examples}


def _example(
    outcome: Outcome, place: int, columns: Columns, clip: tuple[FloatArray, Sound], db_range: tuple[float, float]
) -> dict[str, Any]:
    (rows, sound), spec = clip, columns.spec
    return {
        "label": LABEL_NAMES[outcome.labels[place]],
        "score": outcome.scores[place],
        "path": str(columns.path[outcome.clips[place]]),
        "picture": draw_spectrogram(unstack_rows(rows, spec.frames, spec.stride), spec, db_range),
        "sound": sound,
    }
