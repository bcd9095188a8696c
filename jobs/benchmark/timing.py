"""Time whole processes, what a job takes around its tasks, and what a clip costs when all is warm."""

import ctypes
import json
import os
import resource
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple, TypeVar

from mimii.engine import ONE_THREAD, Cluster, Output, Where, compute, connect
from mimii.recordings import SourceError
from mimii.storage import DiskObjects, numbered
from mimii.table import TableOutput, TablePlan

T = TypeVar("T")
_PR_SET_CHILD_SUBREAPER = 36
_PRINT_TASK_TIMES = {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "jobs.benchmark.task_times"}


@dataclass(frozen=True, slots=True)
class Timing:
    """What a process and its children cost from start to end.

    Attributes
    ----------
    started : float
        Seconds since 1970.
    wall_seconds, cpu_seconds : float
        Elapsed, and user and system time.
    peak_bytes : int
        Memory of the largest single process.
    output : str
        What it printed.

    """

    started: float
    wall_seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str


class ClipCost(NamedTuple):
    """What a clip costs when all is warm: CPU, page faults that need no disk, and clips a second of all workers."""

    cpu_seconds: float
    page_faults: float
    clips_a_second: float


def time_process(command: Sequence[str], environment: Mapping[str, str] = ONE_THREAD) -> Timing:
    """Run a process to its end, and return what it and all processes below it cost.

    Workers are forked from a server that outlives the process that started it. On Linux this process then becomes its
    parent, and waits for it: else nothing of the workers would be counted.
    """
    started, start = time.time(), time.perf_counter()
    with _adopting(), tempfile.TemporaryFile("w+") as output:
        process = subprocess.Popen(command, stdout=output, env=os.environ | environment, process_group=0)
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall, usages = time.perf_counter() - start, [usage, *_wait_for_group(process.pid)]
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGINT)  # which a group in the background does not get from a terminal
            raise
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            raise subprocess.CalledProcessError(process.returncode, command[:3])
        output.seek(0)
        cpu_seconds = sum(usage.ru_utime + usage.ru_stime for usage in usages)
        return Timing(started, wall, cpu_seconds, max(usage.ru_maxrss for usage in usages) * 1024, output.read())


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of what a child leaves when it exits; afterwards not any more, since nobody waits for it."""
    if sys.platform != "linux":
        yield
        return
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0)


def _wait_for_group(group: int) -> Iterator[resource.struct_rusage]:
    """Wait for the children of this process that are in a group of processes, and yield what each has used."""
    with suppress(ChildProcessError):
        while True:
            yield os.wait4(-group, 0)[2]


def time_module(module: str, *arguments: object, environment: Mapping[str, str] = ONE_THREAD) -> Timing:
    """Run a module of Python as a process, and return what it and its children cost."""
    return time_process((sys.executable, "-m", module, *map(str, arguments)), environment)


def compile_librosa(scratch: Path) -> None:
    """Load librosa once: the first time it compiles parts of itself, half a minute that no later loop takes."""
    nothing = scratch / "nothing.json"
    nothing.write_text("[]")
    time_module("jobs.benchmark.baselines", "compile", nothing, "-", 1)


def time_featurize(sources: Sequence[object], scratch: Path, n_workers: int) -> Timing:
    """Run jobs.featurize, and return what it cost; its output is start and stop of each task, a line of JSON.

    The command runs as it is. Its scheduler is in its process, and Dask's configuration makes that import
    `jobs.benchmark.task_times`, which keeps Dask's own record of its tasks and prints it when the scheduler stops.
    There is a line for each scheduler, and a second one where workers did not start at once. Where the machine
    has nothing else to do, the times are right to some hundredths of a second: Dask estimates by how much the clock of
    a worker differs.
    """
    arguments = (*sources, "--output", scratch / "features.zarr", "--workers", n_workers, "--quiet")
    return time_module("jobs.featurize", *arguments, environment=ONE_THREAD | _PRINT_TASK_TIMES)


def time_around(timing: Timing, n_workers: int) -> dict[str, float]:
    """Return what jobs.featurize takes around its tasks, from what `time_featurize` returns.

    The idle share is of the time that the workers have from the first task to the last.
    """
    spans = sorted(chain.from_iterable(map(json.loads, timing.output.splitlines())))
    first, last = spans[0][0], max(stop for _, stop in spans)
    busy, covered, until = 0.0, 0.0, first
    for start, stop in spans:
        busy += stop - start
        covered += max(0.0, stop - max(start, until))
        until = max(until, stop)
    return {
        "start to first task, s": first - timing.started,
        "last task to exit, s": timing.started + timing.wall_seconds - last,
        "everything around the work, s": timing.wall_seconds - covered,
        "everything around the work, share": 1 - covered / timing.wall_seconds,
        "idle share of workers": 1 - busy / (n_workers * (last - first)),
    }


def time_workers(plan: TablePlan, n_workers: int, scratch: Path) -> ClipCost:
    """Fill a table in Dask workers, and return what a clip costs when they are warm."""
    output = TableOutput(plan, DiskObjects(tempfile.mkdtemp(dir=scratch)))
    with connect(Where("local", n_workers)) as cluster:
        client = cluster.client
        assert client is not None  # it is None in this process alone
        return time_warm(
            output,
            n_workers,
            lambda tasks: run_on(cluster, output, tasks),
            lambda: client.run(usage).values(),
        )


def run_on(cluster: Cluster, output: Output, tasks: Iterable[int]) -> None:
    """Do tasks of an output on a cluster, and nothing else of a run."""
    for _ in compute(cluster, output.pipeline, ((task, output.task(task)) for task in tasks)):
        pass


def time_warm(
    output: Output,
    n_first: int,
    run: Callable[[Iterable[int]], object],
    usages: Callable[[], Iterable[tuple[float, int]]],
) -> ClipCost:
    """Return what a clip costs after the first tasks, which import what they need; `usages` are of all processes."""
    rest = range(n_first, output.n_tasks)
    if not rest:
        msg = f"too few clips for {numbered(n_first, 'worker')}: use more, or fewer --workers"
        raise SourceError(msg)
    run(range(n_first))
    before, started = _sums(usages()), time.perf_counter()
    run(rest)
    seconds, after = time.perf_counter() - started, _sums(usages())
    n_clips = sum(map(output.n_clips, rest))
    cpu_seconds, page_faults = ((now - then) / n_clips for now, then in zip(after, before, strict=True))
    return ClipCost(cpu_seconds, page_faults, n_clips / seconds)


def usage() -> tuple[float, int]:
    """Return the user and system time of this process in seconds, and its page faults that needed no disk."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime, used.ru_minflt


def in_turns(candidates: Mapping[str, Callable[[], T]], n_rounds: int) -> dict[str, list[T]]:
    """Measure in turns, so that a machine whose speed drifts treats all alike; return what was measured of each."""
    measured: dict[str, list[T]] = {name: [] for name in candidates}
    for _ in range(n_rounds):
        for name, measure in candidates.items():
            measured[name].append(measure())
    return measured


def _sums(usages: Iterable[tuple[float, int]]) -> tuple[float, ...]:
    return tuple(map(sum, zip(*usages, strict=True)))
