"""Compare this project with the plain way, side by side, on your machine and your recordings.

Timed in one run and on the same clips, each as a process of its own, start-up included: a loop over librosa that stacks
and pickles; the same over a pool of processes; and python -m jobs.featurize. All have one thread for each numerical
library, which is faster for each of them. Then the cost of a clip when all is warm, in a plain process and in Dask
workers, and with --floor that of a program in C that does no more than it must.
"""

import argparse
import csv
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from jobs.baselines import Cost, make_benchmark_table, measure_shard
from jobs.cluster import ONE_THREAD, WORKER_ENVIRONMENT, connect, default_workers, run_tasks
from jobs.options import DEFAULT_SOURCE, count
from jobs.report import format_bytes, format_table, numbered
from mimii import store
from mimii.audio import read_header
from mimii.clips import Clip
from mimii.disk import DiskObjects
from mimii.features import mel_filter_bank
from mimii.problems import AudioError
from mimii.sources import SourceError, find_clips
from mimii.spec import FeatureSpec
from mimii.table import Table, shard_task

OK, FAILED, USAGE = 0, 1, 2
_LEAST_CLIPS = 32


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


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", metavar="SOURCE", help=f"recordings at 16 kHz; default: {DEFAULT_SOURCE}")
    parser.add_argument("--clips", type=count, metavar="N", help="use the first N; default: all")
    parser.add_argument("--workers", type=count, metavar="N", default=default_workers(), help="default: one a core")
    parser.add_argument("--floor", metavar="BINARY", help="a program called as: BINARY MEL.f32 OUTDIR FILE...")
    parser.add_argument(
        "--rounds", type=count, metavar="N", default=3, help="repeat the warm part; default: %(default)s"
    )
    parser.add_argument("--scratch", metavar="DIR", help="where results go for the time being; default: the system's")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    options = make_parser().parse_args(arguments)
    try:
        clips = _usable_clips(options.sources or [DEFAULT_SOURCE])[: options.clips]
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            _compare(clips, options, scratch)
    except SourceError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return USAGE
    except subprocess.CalledProcessError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return FAILED
    return OK


def _compare(clips: Sequence[Clip], options: argparse.Namespace, scratch: str) -> None:
    size = sum(_read_whole(clip.path) for clip in clips)
    print(f"{len(clips):,} clips, {format_bytes(size)}, in the page cache; {options.workers} workers\n")
    listed = Path(scratch, "paths.json")
    listed.write_text(json.dumps([clip.place.url for clip in clips]))
    print("\n".join(_end_to_end(clips, size, listed, options.workers)), flush=True)
    print(f"\nwhen all is warm, the median of {numbered(options.rounds, 'round')}")
    print("\n".join(_warm(clips, listed, options)))


def _end_to_end(clips: Sequence[Clip], size: int, listed: Path, n_workers: int) -> list[str]:
    """Time the whole commands, and tabulate."""
    scratch = listed.parent
    table = listed.with_suffix(".csv")
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([clip.place.url] for clip in clips)])
    python, workers = (sys.executable, "-m"), ("--workers", str(n_workers))
    commands = {
        "librosa loop, 1 process": (*python, "jobs.baselines", "loop", str(listed), str(scratch / "loop.pkl")),
        f"the same, {n_workers} processes": (
            *(*python, "jobs.baselines", "pool", str(listed), str(scratch / "pool.pkl")),
            *workers,
        ),
        "jobs.featurize": (
            *(*python, "jobs.featurize", "--list", str(table), "--output", str(scratch / "features.zarr")),
            *("--quiet", *workers),
        ),
    }
    timings = {}
    for name, command in commands.items():
        timings[name] = time_process(command, ONE_THREAD)
        for pickled in scratch.glob("*.pkl"):
            pickled.unlink()
    loop = next(iter(timings.values())).wall_seconds
    rows = [_end_to_end_row(name, timing, len(clips), size, loop) for name, timing in timings.items()]
    return format_table(("start to end", "s", "clips/s", "MB/s", "CPU ms/clip", "peak MB", "times the loop"), rows)


def _end_to_end_row(name: str, timing: Timing, n_clips: int, size: int, loop_seconds: float) -> tuple[str, ...]:
    return (
        name,
        f"{timing.wall_seconds:.1f}",
        f"{n_clips / timing.wall_seconds:.0f}",
        f"{size / timing.wall_seconds / 1e6:.0f}",
        f"{timing.cpu_seconds / n_clips * 1e3:.2f}",
        f"{timing.peak_bytes / 1e6:.0f}",
        f"{loop_seconds / timing.wall_seconds:.2f}",
    )


def _warm(clips: Sequence[Clip], listed: Path, options: argparse.Namespace) -> list[str]:
    """Measure the cost of a clip in turns, so that a machine whose speed drifts treats all alike, and tabulate."""
    scratch = listed.parent
    table = make_benchmark_table(clips)
    rounds: dict[str, list[Steady]] = {}
    for _ in range(options.rounds):
        if options.floor:
            rounds.setdefault("floor", []).append(_time_floor(options.floor, clips, scratch))
        rounds.setdefault("plain process", []).append(_time_kernel(listed))
        for n_workers in dict.fromkeys((1, options.workers)):
            rounds.setdefault(numbered(n_workers, "Dask worker"), []).append(_time_workers(table, n_workers, scratch))
    medians = {name: _median(measured) for name, measured in rounds.items()}
    base = next(iter(medians.values()))
    first = next(iter(medians))
    header = ("warm", "clips/s", "CPU ms/clip", "page faults/clip", f"CPU to {first}", f"clips/s to {first}")
    return format_table(header, [_warm_row(name, steady, base) for name, steady in medians.items()])


def _warm_row(name: str, steady: Steady, base: Steady) -> tuple[str, ...]:
    return (
        name,
        f"{steady.clips_a_second:.0f}",
        f"{steady.cpu_seconds * 1e3:.2f}",
        f"{steady.page_faults:.1f}",
        f"{steady.cpu_seconds / base.cpu_seconds:.2f}",
        f"{steady.clips_a_second / base.clips_a_second:.2f}",
    )


def time_process(command: Sequence[str], environment: dict[str, str] | None = None) -> Timing:
    """Run a process to its end, and say what it and its children cost.

    Parameters
    ----------
    command : sequence of str
        The program and its arguments.
    environment : dict of str to str, optional
        Added to this process's.

    Returns
    -------
    Timing
        Children count as far as they were waited for.

    Raises
    ------
    subprocess.CalledProcessError
        If it fails.

    """
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


def _time_floor(binary: str, clips: Sequence[Clip], scratch: Path) -> Steady:
    spec = FeatureSpec()
    mel, output = scratch / "mel.f32", scratch / "floor"
    mel.write_bytes(mel_filter_bank(spec.sample_rate, spec.n_fft, spec.n_mels).tobytes())
    output.mkdir(exist_ok=True)
    timing = time_process((binary, str(mel), str(output), *(clip.path for clip in clips)))
    return Steady(timing.cpu_seconds / len(clips), 0.0, len(clips) / timing.wall_seconds)


def _time_kernel(listed: Path) -> Steady:
    output = tempfile.mkdtemp(dir=listed.parent)
    command = (sys.executable, "-m", "jobs.baselines", "kernel", str(listed), output)
    costs = [Cost(**cost) for cost in json.loads(time_process(command, WORKER_ENVIRONMENT).output)]
    return _steady(costs, sum(cost.wall_seconds for cost in costs[1:]), 1)


def _time_workers(table: Table, n_workers: int, scratch: Path) -> Steady:
    output = DiskObjects(tempfile.mkdtemp(dir=scratch))
    store.begin(output, table, [])
    with connect("local", n_workers) as cluster:
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
    return _steady(costs, wall_seconds, 0)


def _steady(costs: Sequence[Cost], wall_seconds: float, skipped: int) -> Steady:
    warm = costs[skipped:]
    n_clips = sum(cost.n_clips for cost in warm)
    return Steady(
        sum(cost.cpu_seconds for cost in warm) / n_clips,
        sum(cost.page_faults for cost in warm) / n_clips,
        n_clips / wall_seconds,
    )


def _median(measured: Sequence[Steady]) -> Steady:
    return Steady(
        statistics.median(steady.cpu_seconds for steady in measured),
        statistics.median(steady.page_faults for steady in measured),
        statistics.median(steady.clips_a_second for steady in measured),
    )


def _usable_clips(sources: Sequence[str]) -> list[Clip]:
    clips = [clip for clip in find_clips(sources) if _is_usable(clip)]
    if len(clips) < _LEAST_CLIPS:
        where = ", ".join(sources)
        msg = f"{where}: fewer than {_LEAST_CLIPS} 16-bit WAV clips at 16 kHz; python -m jobs.synthesize makes some"
        raise SourceError(msg)
    return clips


def _is_usable(clip: Clip) -> bool:
    """Say whether all candidates, also the floor, can read a clip."""
    try:
        with open(clip.place.url, "rb") as file:
            header = read_header(file)
    except (AudioError, OSError):
        return False
    return header.pcm16_offset >= 0 and header.sample_rate == FeatureSpec().sample_rate


def _read_whole(path: str) -> int:
    """Bring a file to the page cache; return its size."""
    return len(Path(path).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
