"""The benchmark of scale: what a job costs by its number of clips.

With nothing to compute: ``python -m jobs.benchmark.scale STEP N_CLIPS SCRATCH N_WORKERS`` is one step as a separate
process; it prints what it measured as JSON. With recordings: the whole command, on links to some of them.
"""

import json
import os
import pickle
import resource
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from jobs.benchmark.simulation import SilentTable, Watch, make_clips, peak_bytes, plan_clips
from jobs.benchmark.timing import run_on, time_featurize, time_module
from jobs.words import format_table, numbered
from mimii.engine import Where, compare, connect, look, run
from mimii.recordings import SourceError, find_clips
from mimii.storage import DiskObjects
from mimii.table import plan_update

_SIMULATED_CLIPS = (10_000, 1_000_000, 10_000_000)
_REAL_CLIPS = (1_000, 10_000)
_START_UP_CLIPS = 84
_WARM_UP_TASKS = 100
_SHARE_DONE = 0.99
_NEW_CLIPS = 1000
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


def compare_simulated(sizes: Sequence[int] | None, n_workers: int, scratch: Path) -> None:
    """Measure jobs with nothing to compute, and print what they cost."""
    sizes = sizes or _SIMULATED_CLIPS
    print(f"{numbered(n_workers, 'worker')} and a scheduler with nothing to compute\n", flush=True)
    measured = [_simulate(n_clips, n_workers, scratch) for n_clips in sizes]
    rows = [(title, *(f"{found[title]:,.{_digits(title)}f}" for found in measured)) for title in measured[0]]
    print("\n".join(format_table(("clips", *(f"{n_clips:,}" for n_clips in sizes)), rows)))


def _digits(title: str) -> int:
    return 1 if title.endswith((", s", "us a clip", "after the plan", "after the sources")) else 0


def _simulate(n_clips: int, n_workers: int, scratch: Path) -> dict[str, float]:
    """Measure each step in a separate process; each one works on what the one before leaves."""
    found: dict[str, float] = {}
    folder = scratch / str(n_clips)
    folder.mkdir()
    for step in _STEPS:
        found = json.loads(time_module("jobs.benchmark.scale", step, n_clips, folder, n_workers).output) | found
    shutil.rmtree(folder)
    return found


def _run(output: SilentTable, where: Where) -> dict[str, float]:
    """Run the whole job, on workers that have done a few tasks already and so imported what they need."""
    n_tasks, n_clips, watch = output.n_tasks, len(output.plan.catalogue.clips), Watch()
    starting = time.perf_counter()
    with connect(where) as cluster:
        start_seconds = time.perf_counter() - starting
        elsewhere = replace(output, objects=DiskObjects(f"{output.objects.root}-warm-up"))
        run_on(cluster, elsewhere, range(min(_WARM_UP_TASKS, n_tasks)))
        started = time.perf_counter()
        run(output, cluster.client, progress=watch)
    output.write_records(range(_n_done(output)))
    seconds, (n_known, rss, peaks) = watch.last - watch.connected, zip(*watch.states, strict=True)
    return {
        "write the columns, s": watch.connected - started,
        "start scheduler and workers, s": start_seconds,
        "tasks/s": n_tasks / seconds,
        "clips/s": n_clips / seconds,
        "bytes of a task": len(pickle.dumps(output.task(0))),
        "tasks known to the scheduler, at most": max(n_known),
        "scheduler MB, a tenth done": rss[len(rss) // 10] / 1e6,
        "scheduler MB, at the end": rss[-1] / 1e6,
        "scheduler MB, peak": peaks[-1] / 1e6,
        "sending tasks: CPU of the driver, us a clip": watch.cpu_seconds / n_clips * 1e6,
        "driver MB, peak": peak_bytes() / 1e6,
    }


def _n_done(output: SilentTable) -> int:
    return min(round(_SHARE_DONE * output.n_tasks), output.n_tasks - 1)


def _resume(output: SilentTable, where: Where) -> dict[str, float]:
    """Read the records of a job that is 99 % done, and then resume it."""
    before, started = _rss_mb(), time.perf_counter()
    records, _ = compare(output, look(output.objects, output.head))
    found = {
        "99 % done: read the records, s": time.perf_counter() - started,
        "99 % done: memory of the records, MB": _rss_mb() - before,
    }
    del records
    started, watch = time.perf_counter(), Watch()
    run(output, where, progress=watch)
    output.write_records(range(_n_done(output), output.n_tasks))
    return found | {
        "99 % done: first new result, s after the plan": watch.first - started,
        "99 % done: driver MB, peak": peak_bytes() / 1e6,
        "finish, s": time.perf_counter() - watch.finishing,
    }


def _grow(output: SilentTable, where: Where) -> dict[str, float]:
    """Add some clips to the table that is there."""
    started, watch = time.perf_counter(), Watch()
    growth = plan_update(output.plan, output.objects.root)
    planned = time.perf_counter() - started
    run(replace(output, plan=growth.plan), where, progress=watch)
    return {
        "grow: clips that are new": len(growth.added),
        "grow: read the table and plan, s": planned,
        "grow: first new result, s after the sources": watch.first - started,
        "grow: tasks": watch.n_results,
        "grow: driver MB, peak": peak_bytes() / 1e6,
        "grow: finish, s": time.perf_counter() - watch.finishing,
    }


_STEPS: Mapping[str, Callable[[SilentTable, Where], dict[str, float]]] = {
    "run": _run,
    "resume": _resume,
    "grow": _grow,
}


def _rss_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def compare_real(
    sources: Sequence[str], sizes: Sequence[int] | None, n_workers: int, n_rounds: int, scratch: Path
) -> None:
    """Print what a clip costs in small jobs and in large ones; what a job of a single shard takes is start-up."""
    recordings = [clip.place.url for clip in find_clips(sources) if not clip.problem and clip.place.member is None]
    if not recordings:
        msg = f"{', '.join(sources)}: --job scale wants single files on a disk: name a folder of them"
        raise SourceError(msg)
    copies = [scratch / f"recording-{number}{Path(path).suffix}" for number, path in enumerate(recordings)]
    for path, copy in zip(recordings, copies, strict=True):
        shutil.copyfile(path, copy)  # to where it can be linked to
    folders = {size: _link(copies, size, scratch) for size in (_START_UP_CLIPS, *sorted(sizes or _REAL_CLIPS))}
    costs = {size: _best_cost(folder, n_workers, n_rounds) for size, folder in folders.items()}
    start_up = costs.pop(_START_UP_CLIPS)
    ms_a_clip = {size: (cost - start_up) / (size - _START_UP_CLIPS) * 1e3 for size, cost in costs.items()}
    first, base = next(iter(ms_a_clip.items()))
    print(
        f"{numbered(len(recordings), 'recording')}, each linked to many times; {numbered(n_workers, 'worker')}, "
        f"the best of {numbered(n_rounds, 'round')}; start-up left out: {start_up[0]:.2f} s\n"
    )
    rows = [
        (f"{size:,}", f"{costs[size][0]:.2f}", *(f"{number:.3f}" for number in np.ravel([ms, ms / base], "F")))
        for size, ms in ms_a_clip.items()
    ]
    to_first = f"to {first:,}"
    print("\n".join(format_table(("clips", "s", "ms/clip", to_first, "CPU ms/clip", to_first), rows)))


def _link(copies: Sequence[Path], n_clips: int, scratch: Path) -> Path:
    folder = scratch / f"{n_clips}" / "6_dB_fan" / "fan" / "id_00" / "normal"
    folder.mkdir(parents=True)
    for number in range(n_clips):
        copy = copies[number % len(copies)]
        os.link(copy, folder / f"{number:08d}{copy.suffix}")
    return scratch / f"{n_clips}"


def _best_cost(folder: Path, n_workers: int, n_rounds: int) -> NDArray[np.float64]:
    """Return the seconds that elapse in a job and its seconds of CPU: the least of each."""
    costs = []
    for _ in range(n_rounds):
        timing = time_featurize([folder], folder.parent, n_workers)
        costs.append((timing.wall_seconds, timing.cpu_seconds))
        shutil.rmtree(folder.parent / "features.zarr")
    least: NDArray[np.float64] = np.array(costs).min(axis=0)
    return least


def main(arguments: Sequence[str]) -> None:
    """Plan, measure one step, and print as JSON what both cost."""
    step, n_clips, scratch, n_workers = arguments[0], int(arguments[1]), Path(arguments[2]), arguments[3]
    started, cpu_started = time.perf_counter(), time.process_time()
    first, last = (n_clips, n_clips + _NEW_CLIPS) if step == "grow" else (0, n_clips)
    plan = plan_clips(islice(make_clips(last), first, last))
    found: dict[str, float] = {
        "tasks": plan.rows.n_shards,
        "plan, s": time.perf_counter() - started,
        "plan: CPU, us a clip": (time.process_time() - cpu_started) / n_clips * 1e6,
        "plan, peak MB": peak_bytes() / 1e6,
    }
    cluster = scratch / "cluster.yaml"  # scheduler and workers in separate processes
    cluster.write_text(_CLUSTER.format(n_workers=n_workers))
    output = SilentTable(plan, DiskObjects(str(scratch / "features.zarr")))
    print(json.dumps(found | _STEPS[step](output, Where(str(cluster)))))


if __name__ == "__main__":
    main(sys.argv[1:])
