"""The benchmark of images: against librosa's figures, and against the loop that saves with Pillow."""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobs.benchmark.timing import time_process
from jobs.report import format_bytes, format_table, numbered
from mimii.engine import ONE_THREAD, WORKER_ENVIRONMENT
from mimii.recordings import Clip

_SPECSHOW_CLIPS = 40
_NAMES = {
    "specshow": "librosa.display.specshow, savefig",
    "pillow": "librosa, scale, save with Pillow",
    "kernel": "this project's kernel",
}

_BASELINES = "jobs.benchmark.image_baselines"


def compare_images(clips: Sequence[Clip], options: argparse.Namespace, scratch: Path) -> None:
    """Time all candidates in turns, on the same clips, and print what an image costs."""
    paths = [clip.place.url for clip in clips]
    size = sum(len(Path(path).read_bytes()) for path in paths)
    print(f"{len(paths):,} clips, {format_bytes(size)}, in the page cache\n")
    print("\n".join(_end_to_end(paths, options.workers, scratch)), flush=True)
    print(f"\none core, when all is warm, the median of {numbered(options.rounds, 'round')}")
    print("\n".join(_a_core(paths, options.rounds, scratch)))


def _end_to_end(paths: Sequence[str], n_workers: int, scratch: Path) -> list[str]:
    listed, table = _list(paths, scratch), scratch / "listed.csv"
    table.write_text("\n".join(["path", *(f'"{path}"' for path in paths)]) + "\n")
    (scratch / "pillow").mkdir()
    python = (sys.executable, "-m")
    commands = {
        "loop with Pillow, 1 process": (
            *(*python, _BASELINES, "pillow", str(listed), str(scratch / "pillow"), "--once"),
        ),
        f"jobs.render, {numbered(n_workers, 'worker')}": (
            *(*python, "jobs.render", "--list", str(table), "--output", str(scratch / "rendered"), "--quiet"),
            *("--workers", str(n_workers)),
        ),
    }
    seconds = {name: time_process(command, ONE_THREAD).wall_seconds for name, command in commands.items()}
    loop = next(iter(seconds.values()))
    rows = [(name, f"{s:.1f}", f"{len(paths) / s:.0f}", f"{loop / s:.2f}") for name, s in seconds.items()]
    return format_table(("start to end", "s", "images/s", "times the loop"), rows)


def _a_core(paths: Sequence[str], n_rounds: int, scratch: Path) -> list[str]:
    rounds: dict[str, list[float]] = {name: [] for name in _NAMES}
    for _ in range(n_rounds):
        for name, measured in rounds.items():
            measured.append(_seconds_an_image(name, paths[:_SPECSHOW_CLIPS] if name == "specshow" else paths, scratch))
    medians = {name: statistics.median(measured) for name, measured in rounds.items()}
    rows = [
        (_NAMES[name], f"{cost * 1e3:.2f}", f"{medians['specshow'] / cost:.1f}", f"{medians['pillow'] / cost:.2f}")
        for name, cost in medians.items()
    ]
    return format_table(("one core", "CPU ms/image", "times specshow", "times Pillow"), rows)


def _seconds_an_image(name: str, paths: Sequence[str], scratch: Path) -> float:
    listed = _list(paths, scratch)
    environment = WORKER_ENVIRONMENT if name == "kernel" else ONE_THREAD
    with tempfile.TemporaryDirectory(dir=scratch) as output:
        command = (sys.executable, "-m", _BASELINES, name, str(listed), output)
        return float(time_process(command, environment).output)


def _list(paths: Sequence[str], scratch: Path) -> Path:
    listed = scratch / "paths.json"
    listed.write_text(json.dumps(list(paths)))
    return listed
