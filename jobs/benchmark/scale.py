"""The benchmark of scale: what a job costs by its number of clips.

With nothing to compute: ``python -m jobs.benchmark.scale STEP N_CLIPS SCRATCH N_WORKERS`` is one step as a process of
its own; it prints what it measured as JSON. With recordings: the whole command, on links to some of them.
"""

import argparse
import json
import os
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jobs.benchmark.simulation import (
    SchedulerState,
    leave_records,
    make_clips,
    peak_bytes,
    plan_clips,
    run_nothing,
    watch_scheduler,
)
from jobs.benchmark.timing import Timing, time_process
from jobs.report import format_table, numbered
from mimii.engine import ONE_THREAD, Where, connect
from mimii.recordings import SourceError, find_clips
from mimii.storage import DiskObjects
from mimii.table import Table, shard_task, store

_SIMULATED_CLIPS = (10_000, 1_000_000, 10_000_000)
_REAL_CLIPS = (1_000, 10_000)
_START_UP_CLIPS = 84
_WARM_UP_TASKS = 100
_CLUSTER = """\
module: distributed.deploy.subprocess
class: SubprocessCluster
kwargs:
  host: 127.0.0.1
  dashboard_address: null
  worker_class: distributed.Worker
  n_workers: {n_workers}
  threads_per_worker: 1
"""
_ROWS: Mapping[str, str] = {
    "tasks": "tasks",
    "plan_seconds": "plan, s",
    "plan_microseconds": "plan: CPU, us a clip",
    "plan_peak_mb": "plan, peak MB",
    "begin_seconds": "write the columns, s",
    "tasks_a_second": "tasks/s",
    "clips_a_second": "clips/s",
    "message_bytes": "bytes of a task",
    "known_tasks": "tasks known to the scheduler, at most",
    "scheduler_first_mb": "scheduler MB, a tenth done",
    "scheduler_last_mb": "scheduler MB, in the end",
    "scheduler_peak_mb": "scheduler MB, peak",
    "driver_microseconds": "sending off: CPU of the driver, us a clip",
    "driver_peak_mb": "driver MB, peak",
    "read_seconds": "99 % done: read the records, s",
    "read_mb": "99 % done: memory of the records, MB",
    "start_seconds": "99 % done: start scheduler and workers, s",
    "first_result_seconds": "99 % done: first new result, s after the plan",
    "finish_seconds": "finish, s",
    "resume_peak_mb": "99 % done: driver MB, peak",
}


def compare_scale(sources: Sequence[str], options: argparse.Namespace, scratch: Path) -> None:
    """Measure, and print."""
    if sources:
        _compare_real(sources, options, scratch)
    else:
        _compare_simulated(options.clips or _SIMULATED_CLIPS, options.workers, scratch)


def _compare_simulated(sizes: Sequence[int], n_workers: int, scratch: Path) -> None:
    print(f"{numbered(n_workers, 'worker')} and a scheduler with nothing to compute\n", flush=True)
    measured = [_simulate(n_clips, n_workers, scratch) for n_clips in sizes]
    header = ("clips", *(f"{n_clips:,}" for n_clips in sizes))
    rows = [(title, *(f"{found[name]:,.{_digits(name)}f}" for found in measured)) for name, title in _ROWS.items()]
    print("\n".join(format_table(header, rows)))


def _digits(name: str) -> int:
    return 1 if name.endswith(("seconds", "microseconds")) else 0


def _simulate(n_clips: int, n_workers: int, scratch: Path) -> dict[str, float]:
    """Measure each step in a process of its own; the second one finds what the first one leaves."""
    found: dict[str, float] = {}
    folder = scratch / str(n_clips)
    folder.mkdir()
    for step in _STEPS:
        arguments = (step, str(n_clips), str(folder), str(n_workers))
        found |= json.loads(time_process((sys.executable, "-m", "jobs.benchmark.scale", *arguments)).output)
    shutil.rmtree(folder)
    return found


def _run(n_clips: int, scratch: Path, n_workers: int) -> dict[str, float]:
    """Plan, and send all tasks off; leave the records of 99 %."""
    started, cpu_started = time.perf_counter(), time.process_time()
    table = plan_clips(make_clips(n_clips))
    plan: dict[str, float] = {
        "tasks": table.n_tasks,
        "plan_seconds": time.perf_counter() - started,
        "plan_microseconds": (time.process_time() - cpu_started) / n_clips * 1e6,
        "plan_peak_mb": _peak_mb(),
    }
    output = DiskObjects(str(scratch / "features.zarr"))
    plan |= {
        "begin_seconds": _seconds(lambda: store.begin(output, table, [])),
        "message_bytes": len(pickle.dumps(shard_task(table, 0, output))),
    }
    run = _send_off(table, output, _cluster(scratch, n_workers))
    leave_records(table, output, range(_n_done(table)))
    return plan | run


def _send_off(table: Table, output: DiskObjects, where: Where) -> dict[str, float]:
    """Send all tasks off, to workers that have done a few already: these pay for what is imported."""
    with connect(where) as cluster:
        list(run_nothing(cluster, table, output, range(min(_WARM_UP_TASKS, table.n_tasks))))
        started, cpu_started = time.perf_counter(), time.process_time()
        results = run_nothing(cluster, table, output, range(table.n_tasks))
        states = list(watch_scheduler(cluster, results, table.n_tasks))
        seconds, cpu_seconds = time.perf_counter() - started, time.process_time() - cpu_started
    return _describe_scheduler(states) | {
        "tasks_a_second": table.n_tasks / seconds,
        "clips_a_second": len(table.catalogue.clips) / seconds,
        "driver_microseconds": cpu_seconds / len(table.catalogue.clips) * 1e6,
        "driver_peak_mb": _peak_mb(),
    }


def _describe_scheduler(states: Sequence[SchedulerState]) -> dict[str, float]:
    return {
        "known_tasks": max(state.n_tasks for state in states),
        "scheduler_first_mb": states[len(states) // 10].rss_bytes / 1e6,
        "scheduler_last_mb": states[-1].rss_bytes / 1e6,
        "scheduler_peak_mb": states[-1].peak_bytes / 1e6,
    }


def _resume(n_clips: int, scratch: Path, n_workers: int) -> dict[str, float]:
    """Go on where 99 % are done, as `jobs.run` does, until the first result and then to the end."""
    table = plan_clips(make_clips(n_clips))
    output = DiskObjects(str(scratch / "features.zarr"))
    before, started = _rss_mb(), time.perf_counter()
    done = store.read_records(output, table)
    seconds = time.perf_counter() - started
    found = {"read_seconds": seconds, "read_mb": _rss_mb() - before}
    todo = [task for task in range(table.n_tasks) if task not in done]
    store.begin(output, table, [])
    starting = time.perf_counter()
    with connect(_cluster(scratch, n_workers)) as cluster:
        found["start_seconds"] = time.perf_counter() - starting
        next(results := run_nothing(cluster, table, output, todo))
        found["first_result_seconds"] = time.perf_counter() - started
        list(results)
    leave_records(table, output, todo)
    found["finish_seconds"] = _seconds(lambda: store.finish(output, table, []))
    return found | {"resume_peak_mb": _peak_mb()}


_STEPS: Mapping[str, Callable[[int, Path, int], dict[str, float]]] = {"run": _run, "resume": _resume}


def _cluster(scratch: Path, n_workers: int) -> Where:
    """Have the scheduler and each worker in processes of their own."""
    path = scratch / "cluster.yaml"
    path.write_text(_CLUSTER.format(n_workers=n_workers))
    return Where(str(path))


def _n_done(table: Table) -> int:
    return min(round(0.99 * table.n_tasks), table.n_tasks - 1)


def _seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def _peak_mb() -> float:
    return peak_bytes() / 1e6


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def _compare_real(sources: Sequence[str], options: argparse.Namespace, scratch: Path) -> None:
    """Compare what a clip costs in small jobs and in large ones; what a job of a single shard takes is start-up."""
    recordings = [clip.place.url for clip in find_clips(sources) if not clip.problem and clip.place.member is None]
    if not recordings:
        msg = f"{', '.join(sources)}: --job scale wants single files on a disk: name a folder of them"
        raise SourceError(msg)
    copies = _copy(recordings, scratch)
    sizes = sorted(options.clips or _REAL_CLIPS)
    folders = {size: _link(copies, size, scratch) for size in (_START_UP_CLIPS, *sizes)}
    costs = {size: _best_cost(folder, options) for size, folder in folders.items()}
    start_up = costs[_START_UP_CLIPS]
    print(f"{numbered(len(recordings), 'recording')}, each linked to many times; {options.workers} workers, ", end="")
    print(f"the best of {numbered(options.rounds, 'round')}; start-up left out: {start_up[0]:.2f} s\n")
    base = _milliseconds(costs, sizes[0])
    rows = [(f"{size:,}", f"{costs[size][0]:.2f}", *_compared(_milliseconds(costs, size), base)) for size in sizes]
    to_first = f"to {sizes[0]:,}"
    print("\n".join(format_table(("clips", "s", "ms/clip", to_first, "CPU ms/clip", to_first), rows)))


def _compared(milliseconds: Sequence[float], base: Sequence[float]) -> Iterator[str]:
    for cost, cost_at_first in zip(milliseconds, base, strict=True):
        yield from (f"{cost:.3f}", f"{cost / cost_at_first:.3f}")


def _milliseconds(costs: Mapping[int, tuple[float, float]], size: int) -> list[float]:
    """Return what a clip takes and what CPU it costs, without start-up."""
    both = zip(costs[size], costs[_START_UP_CLIPS], strict=True)
    return [(cost - start_up) / (size - _START_UP_CLIPS) * 1e3 for cost, start_up in both]


def _copy(recordings: Sequence[str], scratch: Path) -> list[Path]:
    """Copy recordings to where they can be linked to."""
    copies = [scratch / f"recording-{number}{Path(path).suffix}" for number, path in enumerate(recordings)]
    for path, copy in zip(recordings, copies, strict=True):
        shutil.copyfile(path, copy)
    return copies


def _link(copies: Sequence[Path], n_clips: int, scratch: Path) -> Path:
    folder = scratch / f"{n_clips}" / "6_dB_fan" / "fan" / "id_00" / "normal"
    folder.mkdir(parents=True)
    for number in range(n_clips):
        copy = copies[number % len(copies)]
        os.link(copy, folder / f"{number:08d}{copy.suffix}")
    return scratch / f"{n_clips}"


def _best_cost(folder: Path, options: argparse.Namespace) -> tuple[float, float]:
    """Return seconds elapsed, and of CPU."""
    timings = [_time_job(folder, options.workers) for _ in range(options.rounds)]
    return min(timing.wall_seconds for timing in timings), min(timing.cpu_seconds for timing in timings)


def _time_job(folder: Path, n_workers: int) -> Timing:
    output = folder.with_name(f"{folder.name}.zarr")
    arguments = (str(folder), "--output", str(output), "--workers", str(n_workers), "--quiet")
    timing = time_process((sys.executable, "-m", "jobs.featurize", *arguments), ONE_THREAD)
    shutil.rmtree(output)
    return timing


def main(arguments: Sequence[str]) -> int:
    """Measure one step, and print it as JSON."""
    step, n_clips, scratch, n_workers = arguments
    print(json.dumps(_STEPS[step](int(n_clips), Path(scratch), int(n_workers))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
