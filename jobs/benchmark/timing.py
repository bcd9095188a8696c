"""Time whole processes, and workers that are warm."""

import os
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.benchmark.baselines import Cost, measure_shard
from mimii.engine import Where, connect, run_tasks
from mimii.recordings import SourceError
from mimii.storage import DiskObjects
from mimii.table import Table, shard_task, store


@dataclass(frozen=True, slots=True)
class Timing:
    """What a process and its children cost from start to end.

    Attributes
    ----------
    wall_seconds, cpu_seconds : float
        Elapsed, and user and system time.
    peak_bytes : int
        Memory of the largest single process.
    output : str
        What it printed.

    """

    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


@dataclass(frozen=True, slots=True)
class Steady:
    """What a clip costs when all is warm.

    Attributes
    ----------
    cpu_seconds : float
        User and system time a clip.
    page_faults : float
        Page faults a clip.
    clips_a_second : float
        Of all workers together.

    """

    cpu_seconds: float
    page_faults: float
    clips_a_second: float


def time_process(command: Sequence[str], environment: dict[str, str] | None = None) -> Timing:
    """Run a process to its end, and say what it and its children cost."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env=os.environ | (environment or {}))
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command[:3])
        output.seek(0)
        return Timing(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024, output.read())


def time_workers(table: Table, n_workers: int, scratch: Path) -> Steady:
    """Fill a table in Dask workers, and say what a clip costs from the end of the first tasks on."""
    output = DiskObjects(tempfile.mkdtemp(dir=scratch))
    store.begin(output, table, [])
    with connect(Where("local", n_workers)) as cluster:
        tasks = (shard_task(table, index, output) for index in range(table.plan.n_shards))
        return _drain(run_tasks(cluster, measure_shard, tasks), n_workers)


def _drain(results: Iterator[Cost], n_workers: int) -> Steady:
    """Measure from the end of the first tasks, which import what they need, on."""
    warming = [next(results) for _ in range(n_workers)]
    started = time.perf_counter()
    costs = list(results)
    wall_seconds = time.perf_counter() - started
    if not costs:
        msg = f"too few clips for {len(warming)} workers: use more, or fewer --workers"
        raise SourceError(msg)
    return steady(costs, wall_seconds, 0)


def steady(costs: Sequence[Cost], wall_seconds: float, skipped: int) -> Steady:
    """Sum up what shards cost."""
    warm = costs[skipped:]
    n_clips = sum(cost.n_clips for cost in warm)
    return Steady(
        sum(cost.cpu_seconds for cost in warm) / n_clips,
        sum(cost.page_faults for cost in warm) / n_clips,
        n_clips / wall_seconds,
    )
