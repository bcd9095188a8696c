"""The results of detection as lists: scores of clips, and how well each machine's clips are separated."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from mimii.detection.documents import write_csv
from mimii.detection.evaluation import average
from mimii.detection.machines import NAMELESS, Machine
from mimii.detection.published import published_auc
from mimii.detection.study import Outcome, Scores
from mimii.detection.thresholds import LEAST_CLIPS, rank, verdict
from mimii.recordings import LABEL_NAMES, Identity, machine_name
from mimii.table import Columns

CLIP_COLUMNS = (
    *("path", "channel", "start_s", "recorded_at", "machine", "machine_type", "machine_id", "snr_db", "number"),
    *("label", "is_training", "score", "threshold", "rank", "verdict"),
)
"""What is said of a clip by one detector; that of others comes with its name in front."""

_AVERAGED = ("auc", "partial_auc", "precision", "recall", "f1")
Results = Sequence[tuple[Machine, Outcome]]


def is_trusted(scores: Scores) -> bool:
    """Say whether there is a threshold, and it comes from enough normal clips."""
    return len(scores.normal) >= LEAST_CLIPS and math.isfinite(scores.threshold)


def untrusted(results: Results) -> list[str]:
    """Return the machines whose thresholds come from too few normal clips, with how many."""
    return [f"{machine.name} ({len(one.scores.normal)})" for machine, one in results if not is_trusted(one.scores)]


def describe_machine(machine: Machine, outcome: Outcome, kind: str) -> dict[str, Any]:
    """Return what is known of a machine by one detector."""
    scores, evaluation = outcome.detectors[kind], asdict(outcome.evaluation(kind))
    return {
        "machine": machine.name,
        "machine_type": machine.machine_type,
        "machine_id": machine.machine_id,
        "snr_db": machine.snr_db,
        "channel": machine.channel,
        "detector": kind,
        "n_learned": outcome.n_learned,
        "n_threshold": len(scores.normal),
        "is_trusted": is_trusted(scores),
        **{name: evaluation[name] for name in ("n_normal", "n_abnormal")},
        "auc": evaluation["auc"],
        "auc_low": scores.auc_interval[0],
        "auc_high": scores.auc_interval[1],
        "partial_auc": evaluation["partial_auc"],
        "partial_auc_low": scores.partial_auc_interval[0],
        "partial_auc_high": scores.partial_auc_interval[1],
        "published_auc": published_auc(machine.machine_type, machine.machine_id, machine.snr_db),
        **{name: evaluation[name] for name in ("threshold", "true_alarms", "false_alarms", *_AVERAGED[2:])},
    }


def describe_machines(results: Results) -> list[dict[str, Any]]:
    """Return a line for each machine and detector."""
    return [describe_machine(machine, outcome, kind) for machine, outcome in results for kind in outcome.detectors]


def describe_clips(results: Results, columns: Columns) -> list[dict[str, Any]]:
    """Return a line for each clip that has a score, in the order of the table.

    Training clips have scores of detectors that had not learned from them: ``is_training`` says which these are.
    """
    lines = [line for machine, outcome in results for line in _clips_of(machine, outcome)]
    return [
        _describe_clip(columns, *line[:-1], is_training=line[-1]) for line in sorted(lines, key=lambda line: line[0])
    ]


def _clips_of(machine: Machine, outcome: Outcome) -> Iterator[tuple[int, Machine, Outcome, dict[str, float], bool]]:
    trained: dict[int, dict[str, float]] = {}
    for kind, scores in outcome.detectors.items():
        for clip, score in zip(scores.normal_clips, scores.normal, strict=True):
            trained.setdefault(clip, {})[kind] = score
    yield from ((clip, machine, outcome, scores, True) for clip, scores in trained.items())
    for place, clip in enumerate(outcome.clips):
        yield clip, machine, outcome, {kind: one.clips[place] for kind, one in outcome.detectors.items()}, False


def _describe_clip(
    columns: Columns, clip: int, machine: Machine, outcome: Outcome, scores: Mapping[str, float], *, is_training: bool
) -> dict[str, Any]:
    values = {
        "path": str(columns.path[clip]),
        "channel": int(columns.channel[clip]),
        "start_s": float(columns.start_s[clip]),
        "recorded_at": float(columns.recorded_at[clip]),
        "machine": machine.name,
        "machine_type": machine.machine_type,
        "machine_id": machine.machine_id,
        "snr_db": machine.snr_db,
        "number": int(columns.number[clip]),
        "label": LABEL_NAMES[int(columns.label[clip])],
        "is_training": is_training,
    }
    for index, (kind, of_kind) in enumerate(outcome.detectors.items()):
        score, prefix = scores.get(kind, math.nan), f"{kind}_" if index else ""
        values[f"{prefix}score"] = score
        values[f"{prefix}threshold"] = of_kind.threshold
        values[f"{prefix}rank"] = math.nan if math.isnan(score) else rank(score, of_kind.normal)
        values[f"{prefix}verdict"] = verdict(score, of_kind.threshold)
    return values


def scores_document(results: Results, columns: Columns) -> bytes:
    """Write the scores of all clips as CSV, UTF-8."""
    return write_csv(describe_clips(results, columns), CLIP_COLUMNS)


def results_document(results: Results) -> bytes:
    """Write how well each machine's clips are separated as CSV, UTF-8; the last lines are averages by detector."""
    lines = describe_machines(results)
    means = [{"machine": "average", "detector": kind, **mean} for kind, mean in averages(results).items()]
    return write_csv([*lines, *means])


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
        if not math.isnan(auc := outcome.evaluation().auc):
            name = machine_name(Identity(machine.machine_type, machine.machine_id, snr_db=machine.snr_db)) or NAMELESS
            by_machine.setdefault(name, []).append((auc, -machine.channel))  # of two that are equal, the first
    return [
        BestChannel(name, -max(scores)[1], max(scores)[0], min(scores)[0])
        for name, scores in by_machine.items()
        if len(scores) > 1
    ]


def averages(results: Results) -> dict[str, dict[str, float]]:
    """Average over machines, each counting alike, for each detector."""
    kinds = dict.fromkeys(kind for _, outcome in results for kind in outcome.detectors)
    found: dict[str, dict[str, float]] = {}
    for kind in kinds:
        evaluations = [outcome.evaluation(kind) for _, outcome in results]
        found[kind] = {name: average(getattr(one, name) for one in evaluations) for name in _AVERAGED}
    return found
