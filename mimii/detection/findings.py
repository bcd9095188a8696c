"""What detection leaves at its output: what it is, scores, results; and what is there already."""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import fields
from typing import Any

from mimii.detection.detection import MODELS, OUTCOMES, Outcome, from_json, outcome_key
from mimii.detection.evaluation import Evaluation, average, published_auc
from mimii.detection.learning import Training, digest_training
from mimii.detection.machines import Machine
from mimii.engine import Existing, StoreError, find_existing, provenance
from mimii.recordings import LABEL_NAMES
from mimii.storage import Objects
from mimii.table import Columns

SCORES, RESULTS, REPORT = "scores.csv", "results.csv", "report.html"
VERDICTS = {False: "normal", True: "abnormal"}
"""What a clip counts as, by whether its score is above the threshold."""

_ABOUT = "detect.json"
_TITLE = "Detection of machines that sound unlike themselves"
_FORMAT = 1
_SOFTWARE = ("numpy", "scikit-learn", "zarr")
_SCORE_COLUMNS = (
    *("path", "machine_type", "machine_id", "snr_db", "number", "label"),
    *("score", "threshold", "verdict"),
)
Results = Sequence[tuple[Machine, Outcome]]


def fingerprint(columns: Columns, content: str, training: Training) -> str:
    """Digest all that decides what comes out: the table with its content, and how it is learned."""
    values = (_FORMAT, columns.attributes["fingerprint"], columns.status.tolist(), content, digest_training(training))
    statistics = columns.feature_mean.tobytes() + columns.feature_std.tobytes()
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode() + statistics).hexdigest()[:16]


def look(objects: Objects) -> Existing | None:
    """Look at what is at the output."""
    return find_existing(objects, _ABOUT, _TITLE, "run of detection")


def describe(columns: Columns, training: Training, table: str, wanted: str) -> dict[str, Any]:
    """Say what an output is."""
    about = {"title": _TITLE, "format": _FORMAT, "fingerprint": wanted}
    about |= {"training": digest_training(training), "spec": columns.spec.as_dict()}
    return about | provenance([table], "results", _SOFTWARE)


def differences(existing: Existing, about: Mapping[str, Any]) -> list[str]:
    """Say how what is at an output differs from what is to be there."""
    there = existing.attributes
    if there["fingerprint"] == about["fingerprint"]:
        return []
    found = [
        f"{name}: {there.get(group, {}).get(name)} there, {value} now"
        for group in ("training", "spec")
        for name, value in about[group].items()
        if there.get(group, {}).get(name) != value
    ]
    return found or ["the table: its clips or their features have changed"]


def is_finished(objects: Objects, existing: Existing | None) -> bool:
    """Say whether an output is whole: it says so, and its documents are there."""
    return existing is not None and existing.finished and {SCORES, RESULTS, REPORT} <= set(objects.names())


def check_free(objects: Objects, *, overwrite: bool) -> None:
    """Make sure that scores of new recordings do not take the place of other results."""
    names = objects.names()
    if _ABOUT in names:
        msg = f"{objects.root} holds a run of detection, which stays; choose another --output"
        raise StoreError(msg)
    if SCORES in names and not overwrite:
        msg = f"{objects.root} holds scores already; choose another --output, or replace them with --overwrite"
        raise StoreError(msg)


def begin(objects: Objects, about: Mapping[str, Any]) -> None:
    """Say what will be at an output."""
    objects.put(_ABOUT, _json({**about, "finished": False}))


def finish(objects: Objects, about: Mapping[str, Any], documents: Mapping[str, bytes]) -> None:
    """Write what comes last: documents, and that all is there."""
    objects.put_all(documents)
    objects.delete_partial()
    objects.put(_ABOUT, _json({**about, "finished": True}))
    objects.delete_partial()


def erase(objects: Objects) -> None:
    """Delete what is at an output; what says what it is goes last."""
    for folder in (OUTCOMES, MODELS):
        objects.delete_below(folder)
    for key in (SCORES, RESULTS, REPORT):
        objects.delete(key)
    objects.delete_partial()
    objects.delete(_ABOUT)


def read_outcomes(objects: Objects, machines: Sequence[Machine], wanted: str) -> dict[str, Outcome]:
    """Read what has come of machines, as far as it is of the same table and training and its model is there."""
    models = objects.sizes(MODELS)
    documents = objects.get_all([outcome_key(machine.name) for machine in machines])
    found = (from_json(data) for data in documents.values())
    valid = (outcome for outcome in found if outcome and outcome.fingerprint == wanted)
    return {one.name: one for one in valid if models.get(f"{MODELS}/{one.name}.npz") == one.model_bytes}


def scores_document(columns: Columns, results: Results) -> bytes:
    """Write the score of each clip for testing as CSV, UTF-8."""
    rows = []
    for machine, outcome in results:
        for clip, label, score in zip(outcome.clips, outcome.labels, outcome.scores, strict=True):
            number = "" if columns.number[clip] < 0 else str(columns.number[clip])
            who = (*_machine(machine), number, LABEL_NAMES[label])
            what = (repr(score), repr(outcome.threshold), VERDICTS[score > outcome.threshold])
            rows.append((clip, (columns.path[clip], *who, *what)))
    return _csv(_SCORE_COLUMNS, (row for _, row in sorted(rows)))


def results_document(results: Results) -> bytes:
    """Write how well each machine's clips are told apart as CSV, UTF-8; the last line is the average."""
    names = [field.name for field in fields(Evaluation)]
    rows: list[tuple[object, ...]] = []
    for machine, outcome in results:
        published = published_auc(machine.machine_type, machine.machine_id, machine.snr_db)
        values = [getattr(outcome.evaluation, name) for name in names]
        rows.append((*_machine(machine), outcome.n_learned, *map(_cell, values), _cell(published)))
    mean = averages(results)
    rows.append(("average", "", "", "", *(_cell(mean[name]) if name in mean else "" for name in names), ""))
    return _csv(("machine_type", "machine_id", "snr_db", "n_learned", *names, "published_auc"), rows)


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


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=2).encode() + b"\n"
