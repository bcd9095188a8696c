"""The benchmark of zip archives: read in place, against unpacking and looping, and against inflating alone."""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from jobs.benchmark.baselines import make_benchmark_table
from jobs.benchmark.timing import Timing, time_process, time_workers
from jobs.report import format_bytes, format_table
from mimii.engine import ONE_THREAD, WORKER_ENVIRONMENT
from mimii.recordings import Clip

_BASELINES = "jobs.benchmark.baselines"


def compare_archives(clips: Sequence[Clip], options: argparse.Namespace, scratch: Path) -> None:
    """Compare, and print."""
    archives = sorted({clip.place.url for clip in clips})
    stored, size = (sum(getattr(clip.place, name) for clip in clips) for name in ("fetched", "size"))
    for archive in archives:
        _read_whole(archive)
    print(
        f"{len(clips):,} clips in {', '.join(archives)}, {format_bytes(stored)} that inflate to {format_bytes(size)}, "
        f"in the page cache; {options.workers} workers\n"
    )
    print("\n".join(_end_to_end(archives, len(clips), options, scratch)), flush=True)
    print("\nwhen all is warm, the best of each")
    print("\n".join(_warm(clips, archives, options, scratch)))


def _end_to_end(archives: Sequence[str], n_clips: int, options: argparse.Namespace, scratch: Path) -> list[str]:
    listed = scratch / "archives.json"
    listed.write_text(json.dumps(archives))
    python, workers = (sys.executable, "-m"), ("--workers", str(options.workers))
    commands = {
        "unpack, librosa loop": (*python, _BASELINES, "unpack", str(listed), str(scratch / "loop.pkl")),
        f"inflate, {options.workers} processes": (
            *python,
            _BASELINES,
            "inflate",
            str(listed),
            "-",
            *workers,
        ),
        "jobs.featurize": (
            *(*python, "jobs.featurize", *archives, "--output", str(scratch / "features.zarr"), "--quiet", *workers),
        ),
    }
    timings = {name: time_process(command, ONE_THREAD) for name, command in commands.items()}
    loop, floor, _ = (timing.wall_seconds for timing in timings.values())
    header = ("start to end", "s", "clips/s", "CPU ms/clip", "peak MB", "times the loop", "s to inflating")
    return format_table(header, [_row(name, timing, n_clips, loop, floor) for name, timing in timings.items()])


def _row(name: str, timing: Timing, n_clips: int, loop: float, floor: float) -> tuple[str, ...]:
    return (
        name,
        f"{timing.wall_seconds:.1f}",
        f"{n_clips / timing.wall_seconds:.0f}",
        f"{timing.cpu_seconds / n_clips * 1e3:.1f}",
        f"{timing.peak_bytes / 1e6:.0f}",
        f"{loop / timing.wall_seconds:.2f}",
        f"{timing.wall_seconds / floor:.2f}",
    )


def _warm(clips: Sequence[Clip], archives: Sequence[str], options: argparse.Namespace, scratch: Path) -> list[str]:
    """Measure in turns, so that a machine whose speed drifts treats both alike, and tabulate."""
    table = make_benchmark_table(clips)
    inflating, working = [], []
    for _ in range(options.rounds):
        inflating.append(_inflate_rate(archives, options.workers, scratch))
        working.append(time_workers(table, options.workers, scratch).clips_a_second)
    rows = [
        (name, f"{max(rates):.0f}", f"{max(inflating) / max(rates):.2f}")
        for name, rates in (("inflating alone", inflating), (f"{options.workers} Dask workers", working))
    ]
    return format_table(("warm", "clips/s", "times inflating"), rows)


def _inflate_rate(archives: Sequence[str], n_workers: int, scratch: Path) -> float:
    listed = scratch / "archives.json"
    listed.write_text(json.dumps(archives))
    command = (
        sys.executable,
        "-m",
        _BASELINES,
        "inflate",
        str(listed),
        "-",
        "--workers",
        str(n_workers),
    )
    return float(json.loads(time_process(command, WORKER_ENVIRONMENT).output))


def _read_whole(path: str) -> None:
    """Bring a file to the page cache."""
    with Path(path).open("rb") as file:
        while file.read(1 << 24):
            pass
