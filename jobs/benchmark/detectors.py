"""The benchmark of detectors: how well each tells abnormal clips of a table from normal ones, and what that costs."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from jobs.benchmark.tables import tabulate
from jobs.words import numbered
from mimii.detection import KINDS, Trial, try_detectors
from mimii.engine import connect
from mimii.storage import Access

_DRAWS, _DRAWS_OF_ROWS = 30, 10


def compare_detectors(
    tables: Sequence[str], kinds: Sequence[str], n_learn: int, n_draws: int | None, epochs: int, access: Access
) -> None:
    """Let detectors learn from clips that are drawn at random, and print how well they separate all others."""
    draws = {kind: n_draws or default_draws(kind) for kind in kinds}
    for index, table in enumerate(tables):
        with connect(None):  # one thread for each numerical library, as in a worker
            trials = list(try_detectors(table, draws, n_learn=n_learn, epochs=epochs, access=access))
        print("\n" * bool(index) + describe_trials(table, trials, n_learn), flush=True)


def default_draws(kind: str) -> int:
    """Return how many draws there are unless the user says so: fewer where rows are read."""
    return _DRAWS_OF_ROWS if kind not in KINDS or KINDS[kind].reads_rows else _DRAWS


def describe_trials(table: str, trials: Sequence[Trial], n_learn: int) -> str:
    """Return what was tried, a table by detector, and one of mean AUCs by type of machine."""
    machines = list({id(trial.machine): trial.machine for trial in trials}.values())
    n_normal, n_others = (
        sum(map(len, clips)) for clips in zip(*((one.train, one.test) for one in machines), strict=True)
    )
    by_kind: dict[str, list[Trial]] = {}
    for trial in trials:
        by_kind.setdefault(trial.kind, []).append(trial)
    columns: dict[str, Callable[[list[Trial]], str]] = {
        "draws": lambda tried: f"{len(auc_by_draw(tried))}",
        "mean AUC": lambda tried: f"{auc_by_draw(tried).mean():.3f}",
        "deviation": lambda tried: _deviation(auc_by_draw(tried)),
        "s to learn": lambda tried: f"{np.mean([one.learn_seconds for one in tried]):.4f}",
        "s to score": lambda tried: f"{np.mean([one.score_seconds for one in tried]):.4f}",
    }
    head = (
        f"{table}: {numbered(len(machines), 'machine')}, {n_normal:,} normal clips and {n_others:,} others; "
        f"learned from {n_learn} normal recordings a machine, all other clips scored\n"
        "the deviation is that of the mean AUC from draw to draw; seconds are of one machine and draw\n"
    )
    return "\n".join((head, tabulate("detector", by_kind, columns), "", _tabulate_types(by_kind)))


def auc_by_draw(trials: Sequence[Trial]) -> NDArray[np.float64]:
    """Return the mean AUC over machines for each draw."""
    by_draw: dict[int, list[float]] = {}
    for trial in trials:
        by_draw.setdefault(trial.draw, []).append(trial.auc)
    return np.array([np.mean(aucs) for aucs in by_draw.values()])


def _deviation(values: NDArray[np.float64]) -> str:
    return f"{values.std(ddof=1):.3f}" if len(values) > 1 else "-"


def _tabulate_types(by_kind: Mapping[str, Sequence[Trial]]) -> str:
    types = dict.fromkeys(trial.machine.machine_type for tried in by_kind.values() for trial in tried)
    columns = {name or "unknown": _auc_of_type(name) for name in types}
    return tabulate("mean AUC by type of machine", by_kind, columns)


def _auc_of_type(name: str) -> Callable[[Sequence[Trial]], str]:
    return lambda trials: f"{np.mean([trial.auc for trial in trials if trial.machine.machine_type == name]):.3f}"
