"""What came out of detection as one page for people: tables, curves, the hardest clips to see and to hear.

All is within the page: no request leaves it.
"""

import base64
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources

import jinja2
import numpy as np

from mimii.detection.detection import Outcome
from mimii.detection.evaluation import published_auc, roc_curve
from mimii.detection.findings import Results, averages
from mimii.detection.learning import Training
from mimii.detection.listening import Heard
from mimii.detection.machines import Machine
from mimii.features import FloatArray, unstack_rows
from mimii.images import ABNORMAL_COLOUR, NORMAL_COLOUR, draw_errors, draw_roc, draw_spectrogram
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL
from mimii.table import Columns

MOST_SHOWN = 12
"""How many machines are shown with curves and clips: those with the lowest AUC."""

_TEMPLATE = "report.html.jinja"
_KINDS = {
    "autoencoder": "an autoencoder",
    "pca": "principal components",
    "knn": "the nearest row for training",
}
_HEADER = (
    *("machine", "normal", "abnormal", "AUC", "pAUC", "published AUC", "threshold"),
    *("found", "false", "precision", "recall", "F1"),
)


@dataclass(frozen=True, slots=True)
class Hardest:
    """The clips of a machine that say most about its detector.

    Attributes
    ----------
    machine : Machine
        Which machine.
    outcome : Outcome
        What came of it.
    clips : tuple of int
        The abnormal clip with the lowest score, and the normal one with the highest: places in ``outcome.clips``. Only
        the one where there are none of the other.

    """

    machine: Machine
    outcome: Outcome
    clips: tuple[int, ...]


def find_hardest(results: Results) -> list[Hardest]:
    """Choose which machines to show, the worst first, and which clips of them."""
    tested = [(machine, outcome) for machine, outcome in results if outcome.clips]
    ranked = sorted(tested, key=lambda result: (math.isnan(result[1].evaluation.auc), result[1].evaluation.auc))
    return [Hardest(machine, outcome, _hardest(outcome)) for machine, outcome in ranked[:MOST_SHOWN]]


def write_page(
    columns: Columns,
    training: Training,
    results: Results,
    shown: Sequence[Hardest],
    clips: Mapping[int, tuple[FloatArray, Heard]],
) -> bytes:
    """Write the page."""
    mean = averages(results)
    names = [hardest.machine.name for hardest in shown]
    text = _template().render(
        title="Which machines sound unlike themselves?",
        summary=_summary(columns, training, results),
        numbers=_numbers(results, mean),
        header=_HEADER,
        rows=[_row(machine, outcome) for machine, outcome in results],
        mean=("average", "", "", *map(_number, (mean["auc"], mean["partial_auc"])), *[""] * 4, *_last(mean)),
        is_cut=len(shown) < len(results),
        shown=names,
        sections=[_section(hardest, columns, clips) for hardest in shown],
        normal_colour=NORMAL_COLOUR,
        abnormal_colour=ABNORMAL_COLOUR,
    )
    return text.encode("utf-8", "replace")


def _template() -> jinja2.Template:
    source = resources.files("mimii.detection").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    return jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True).from_string(source)


def _summary(columns: Columns, training: Training, results: Results) -> str:
    spec = columns.spec
    n_learned, n_scored = sum(one.n_learned for _, one in results), sum(len(one.clips) for _, one in results)
    scaled = "features of mean 0 and deviation 1" if training.normalize else "features as they are"
    epochs = f", {training.epochs} epochs" if training.kind == "autoencoder" else ""
    return (
        f"Each machine was learned from its normal clips alone ({n_learned:,} in all) by {_KINDS[training.kind]}"
        f"{epochs}, {scaled}, seed {training.seed}. Then {n_scored:,} other clips were scored: the mean squared error "
        f"of a clip's rows. A row is {spec.frames} frames of {spec.n_mels} mel bands (n_fft {spec.n_fft}, hop_length "
        f"{spec.hop_length})."
    )


def _numbers(results: Results, mean: Mapping[str, float]) -> list[tuple[str, str]]:
    evaluations = [outcome.evaluation for _, outcome in results]
    n_abnormal, found = sum(one.n_abnormal for one in evaluations), sum(one.true_alarms for one in evaluations)
    n_normal, alarms = sum(one.n_normal for one in evaluations), sum(one.false_alarms for one in evaluations)
    return [
        ("average AUC", _number(mean["auc"])),
        ("average pAUC", _number(mean["partial_auc"])),
        ("abnormal clips found", f"{found:,} of {n_abnormal:,}"),
        ("false alarms", f"{alarms:,} of {n_normal:,}"),
        ("machines", f"{len(results):,}"),
    ]


def _row(machine: Machine, outcome: Outcome) -> tuple[str, ...]:
    one = outcome.evaluation
    published = published_auc(machine.machine_type, machine.machine_id, machine.snr_db)
    return (
        *(machine.name, f"{one.n_normal:,}", f"{one.n_abnormal:,}", _number(one.auc), _number(one.partial_auc)),
        *(_number(published), f"{one.threshold:.4g}", f"{one.true_alarms:,}", f"{one.false_alarms:,}"),
        *map(_number, (one.precision, one.recall, one.f1)),
    )


def _last(mean: Mapping[str, float]) -> list[str]:
    return [_number(mean[name]) for name in ("precision", "recall", "f1")]


def _section(hardest: Hardest, columns: Columns, clips: Mapping[int, tuple[FloatArray, Heard]]) -> dict[str, object]:
    machine, outcome, one = hardest.machine, hardest.outcome, hardest.outcome.evaluation
    normal, abnormal = _scores(outcome, NORMAL), _scores(outcome, ABNORMAL)
    charts = [draw_errors(normal, abnormal, outcome.threshold)]
    if normal and abnormal:
        charts.append(draw_roc(*roc_curve(outcome.labels, outcome.scores), one.auc))
    return {
        "name": machine.name,
        "text": (
            f"Learned from {outcome.n_learned:,} clips; {one.true_alarms} of {one.n_abnormal} abnormal clips found, "
            f"{one.false_alarms} false alarms of {one.n_normal} normal ones."
        ),
        "charts": charts,
        "examples": [_example(hardest, place, columns, clips) for place in hardest.clips],
    }


def _example(
    hardest: Hardest, place: int, columns: Columns, clips: Mapping[int, tuple[FloatArray, Heard]]
) -> dict[str, str]:
    outcome = hardest.outcome
    clip, label, score = outcome.clips[place], outcome.labels[place], outcome.scores[place]
    rows, heard = clips[clip]
    both = [clips[outcome.clips[other]][0] for other in hardest.clips]
    db_range = (float(min(map(np.min, both))), float(max(map(np.max, both))))
    picture = draw_spectrogram(unstack_rows(rows, columns.spec.frames), columns.spec, db_range)
    return {
        "title": _title(label, is_alarm=score > outcome.threshold),
        "label": LABEL_NAMES[label],
        "text": f"score {score:.4g}, threshold {outcome.threshold:.4g}",
        "path": str(columns.path[clip]),
        "picture": base64.b64encode(picture).decode(),
        "sound": base64.b64encode(heard.flac).decode(),
        "silence": heard.problem,
    }


def _title(label: int, *, is_alarm: bool) -> str:
    if label == ABNORMAL:
        return "Found, with the lowest score of all" if is_alarm else "Missed, with the lowest score"
    return "False alarm, with the highest score" if is_alarm else "No alarm, with the highest score of all"


def _scores(outcome: Outcome, label: int) -> list[float]:
    return [score for score, known in zip(outcome.scores, outcome.labels, strict=True) if known == label]


def _hardest(outcome: Outcome) -> tuple[int, ...]:
    by_score = sorted(range(len(outcome.clips)), key=lambda place: outcome.scores[place])
    missed = [place for place in by_score if outcome.labels[place] == ABNORMAL][:1]
    false = [place for place in by_score if outcome.labels[place] == NORMAL][-1:]
    return (*missed, *false)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
