"""The results of detection as lists: scores of clips, and how well each machine's clips are separated."""

import csv
import io
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields

from mimii.detection.evaluation import Evaluation, average, published_auc
from mimii.detection.machines import Machine
from mimii.detection.study import Outcome
from mimii.recordings import LABEL_NAMES, Identity, machine_name
from mimii.table import Columns

VERDICTS = {False: "normal", True: "abnormal"}
"""What a clip counts as, by whether its score is above the threshold."""

_SCORE_COLUMNS = (
    *("path", "channel", "start_s", "machine_type", "machine_id", "snr_db", "number", "label"),
    *("score", "threshold", "verdict"),
)
Results = Sequence[tuple[Machine, Outcome]]


def scores_document(columns: Columns, results: Results) -> bytes:
    """Write the score of each clip for testing as CSV, UTF-8."""
    rows = []
    for machine, outcome in results:
        for clip, label, score in zip(outcome.clips, outcome.labels, outcome.scores, strict=True):
            number = "" if columns.number[clip] < 0 else str(columns.number[clip])
            who = (*_machine(machine), number, LABEL_NAMES[label])
            what = (repr(score), repr(outcome.threshold), VERDICTS[score > outcome.threshold])
            part = (columns.path[clip], int(columns.channel[clip]), _cell(float(columns.start_s[clip])))
            rows.append((clip, (*part, *who, *what)))
    return _csv(_SCORE_COLUMNS, (row for _, row in sorted(rows)))


def results_document(results: Results) -> bytes:
    """Write how well each machine's clips are separated as CSV, UTF-8; the last line is the average."""
    names = [field.name for field in fields(Evaluation)]
    rows: list[tuple[object, ...]] = []
    for machine, outcome in results:
        published = published_auc(machine.machine_type, machine.machine_id, machine.snr_db)
        values = [getattr(outcome.evaluation, name) for name in names]
        rows.append((*_machine(machine), machine.channel, outcome.n_learned, *map(_cell, values), _cell(published)))
    mean = averages(results)
    rows.append(("average", "", "", "", "", *(_cell(mean[name]) if name in mean else "" for name in names), ""))
    return _csv(("machine_type", "machine_id", "snr_db", "channel", "n_learned", *names, "published_auc"), rows)


@dataclass(frozen=True, slots=True)
class BestChannel:
    """Which channel of a machine separates its clips best, with its AUC, and the lowest AUC of its channels."""

    machine: str
    channel: int
    auc: float
    lowest_auc: float


def best_channels(results: Results) -> list[BestChannel]:
    """Say of each machine of which several channels have models which one separates its clips best."""
    by_machine: dict[str, list[tuple[float, int]]] = {}
    for machine, outcome in results:
        if not math.isnan(auc := outcome.evaluation.auc):
            name = machine_name(Identity(machine.machine_type, machine.machine_id, snr_db=machine.snr_db)) or "all"
            by_machine.setdefault(name, []).append((auc, -machine.channel))  # of two that are equal, the first
    return [
        BestChannel(name, -max(scores)[1], max(scores)[0], min(scores)[0])
        for name, scores in by_machine.items()
        if len(scores) > 1
    ]


def averages(results: Results) -> dict[str, float]:
    """Average over machines, each counting alike."""
    evaluations = [outcome.evaluation for _, outcome in results]
    names = ("auc", "partial_auc", "precision", "recall", "f1")
    return {name: average(getattr(evaluation, name) for evaluation in evaluations) for name in names}


def _machine(machine: Machine) -> tuple[str, str, str]:
    return machine.machine_type, machine.machine_id, _cell(machine.snr_db)


def _cell(value: float) -> str:
    """Write a number for CSV; what is not known is empty."""
    return "" if math.isnan(value) else f"{value:.6g}"


def _csv(names: Sequence[str], rows: Iterable[Sequence[object]]) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(names)
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")
