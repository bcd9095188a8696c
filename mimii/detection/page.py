"""The results of detection as one HTML page: a table, curves, and the hardest clips as pictures and sound.

All is within the page: it loads nothing from elsewhere.
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
from mimii.detection.listening import Sound
from mimii.detection.machines import Machine
from mimii.features import FloatArray, unstack_rows
from mimii.images import ABNORMAL_COLOUR, NORMAL_COLOUR, draw_errors, draw_roc, draw_spectrogram
from mimii.recordings import ABNORMAL, LABEL_NAMES, NORMAL
from mimii.table import Columns

MOST_SHOWN = 12
"""How many machines are shown with curves and clips: those with the lowest AUC."""

_TITLE = "Which machines sound abnormal?"
_TEMPLATE = "report.html.jinja"
_KINDS = {
    "autoencoder": "an autoencoder, {epochs} epochs",
    "pca": "principal components",
    "knn": "the nearest training row",
}
_HEADER = (
    *("machine", "normal", "abnormal", "AUC", "pAUC", "published AUC", "threshold"),
    *("found", "false alarms", "precision", "recall", "F1"),
)


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
    return [Hardest(machine, outcome, _hardest(outcome)) for machine, outcome in ranked[:MOST_SHOWN]]


def write_page(
    columns: Columns,
    training: Training,
    results: Results,
    shown: Sequence[Hardest],
    clips: Mapping[int, tuple[FloatArray, Sound]],
) -> bytes:
    """Return the page; ``clips`` are the rows and the sound of those in ``shown``, by their index in the table."""
    mean = averages(results)
    text = _template().render(
        title=_TITLE,
        summary=_summary(columns, training, results),
        numbers=_numbers(results, mean),
        header=_HEADER,
        rows=[_row(machine, outcome) for machine, outcome in results],
        mean=_mean_row(mean),
        is_cut=len(shown) < len(results),
        shown=[hardest.machine.name for hardest in shown],
        sections=[_section(hardest, columns, clips) for hardest in shown],
        normal_colour=NORMAL_COLOUR,
        abnormal_colour=ABNORMAL_COLOUR,
    )
    return text.encode("utf-8", "replace")


def _template() -> jinja2.Template:
    source = resources.files("mimii.detection").joinpath(_TEMPLATE).read_text(encoding="utf-8")
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    return environment.from_string(source)


def _summary(columns: Columns, training: Training, results: Results) -> str:
    spec, kind = columns.spec, _KINDS[training.kind].format(epochs=training.epochs)
    n_learned, n_scored = sum(one.n_learned for _, one in results), sum(len(one.clips) for _, one in results)
    scaled = "features scaled to mean 0 and standard deviation 1" if training.normalize else "features not scaled"
    return (
        f"Each machine has its own model, trained on its normal clips alone ({n_learned:,} clips in all): {kind}, "
        f"{scaled}, seed {training.seed}. The models scored {n_scored:,} other clips; a clip's score is the mean "
        f"squared error of its rows. A row is {spec.frames} frames of {spec.n_mels} mel bands (n_fft {spec.n_fft}, "
        f"hop_length {spec.hop_length})."
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


def _mean_row(mean: Mapping[str, float]) -> tuple[str, ...]:
    auc, partial_auc, *rest = (_number(mean[name]) for name in ("auc", "partial_auc", "precision", "recall", "f1"))
    return ("average", "", "", auc, partial_auc, "", "", "", "", *rest)


def _section(hardest: Hardest, columns: Columns, clips: Mapping[int, tuple[FloatArray, Sound]]) -> dict[str, object]:
    outcome, evaluation = hardest.outcome, hardest.outcome.evaluation
    normal, abnormal = _scores(outcome, NORMAL), _scores(outcome, ABNORMAL)
    charts = [draw_errors(normal, abnormal, outcome.threshold)]
    if normal and abnormal:
        charts.append(draw_roc(*roc_curve(outcome.labels, outcome.scores), evaluation.auc))
    rows = [clips[outcome.clips[place]][0] for place in hardest.clips]
    db_range = (float(min(map(np.min, rows))), float(max(map(np.max, rows))))
    return {
        "name": hardest.machine.name,
        "text": (
            f"Trained on {outcome.n_learned:,} clips. Abnormal clips found: {evaluation.true_alarms:,} of "
            f"{evaluation.n_abnormal:,}; false alarms: {evaluation.false_alarms:,} of {evaluation.n_normal:,} normal "
            "clips."
        ),
        "charts": charts,
        "examples": [
            _example(outcome, place, columns, clips[outcome.clips[place]], db_range) for place in hardest.clips
        ],
    }


def _example(
    outcome: Outcome, place: int, columns: Columns, clip: tuple[FloatArray, Sound], db_range: tuple[float, float]
) -> dict[str, str]:
    rows, sound = clip
    label, score = outcome.labels[place], outcome.scores[place]
    picture = draw_spectrogram(unstack_rows(rows, columns.spec.frames), columns.spec, db_range)
    return {
        "title": _title(label, is_alarm=score > outcome.threshold),
        "label": LABEL_NAMES[label],
        "text": f"score {score:.4g}, threshold {outcome.threshold:.4g}",
        "path": str(columns.path[outcome.clips[place]]),
        "picture": base64.b64encode(picture).decode(),
        "sound": base64.b64encode(sound.flac).decode(),
        "problem": sound.problem,
    }


def _title(label: int, *, is_alarm: bool) -> str:
    if label == ABNORMAL:
        return f"{'Found' if is_alarm else 'Missed'}: the lowest score of an abnormal clip"
    return f"{'False alarm' if is_alarm else 'No alarm'}: the highest score of a normal clip"


def _scores(outcome: Outcome, label: int) -> list[float]:
    return [score for score, known in zip(outcome.scores, outcome.labels, strict=True) if known == label]


def _hardest(outcome: Outcome) -> tuple[int, ...]:
    by_score = sorted(range(len(outcome.clips)), key=lambda place: outcome.scores[place])
    abnormal = [place for place in by_score if outcome.labels[place] == ABNORMAL]
    normal = [place for place in by_score if outcome.labels[place] == NORMAL]
    return (*abnormal[:1], *normal[-1:])


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
