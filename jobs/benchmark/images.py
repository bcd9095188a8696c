"""The benchmark of images: against librosa's figures, and against the loop that saves with Pillow."""

import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from jobs.benchmark.files import read_whole, write_lists
from jobs.benchmark.tables import tabulate, tabulate_end_to_end
from jobs.benchmark.timing import in_turns, time_module
from jobs.words import numbered
from mimii.engine import ONE_THREAD, WORKER_ENVIRONMENT
from mimii.recordings import Clip

_SPECSHOW_CLIPS = 40
_BASELINES = "jobs.benchmark.image_baselines"


def compare_images(clips: Sequence[Clip], n_workers: int, n_rounds: int, scratch: Path) -> None:
    """Time all candidates in turns, on the same clips, and print what an image costs."""
    print(f"{numbered(len(clips), 'clip')}, {read_whole(clips)}, in the page cache\n")
    listed, table = write_lists(clips, scratch)
    arguments = ("--list", table, "--output", scratch / "rendered", "--workers", n_workers, "--quiet")
    timings = {
        "loop with Pillow, 1 process": time_module(_BASELINES, "pillow", listed, scratch / "pillow", "once"),
        f"jobs.render, {numbered(n_workers, 'worker')}": time_module("jobs.render", *arguments),
    }
    print(tabulate_end_to_end(timings, len(clips)), flush=True)
    print(f"\none core, when all is warm, the median of {numbered(n_rounds, 'round')}")
    few = scratch / "few.json"
    few.write_text(json.dumps([clip.place.url for clip in clips[:_SPECSHOW_CLIPS]]))
    candidates = {
        "librosa.display.specshow, savefig": partial(_seconds_an_image, "specshow", few, ONE_THREAD),
        "librosa, scale, save with Pillow": partial(_seconds_an_image, "pillow", listed, ONE_THREAD),
        "this project's kernel": partial(_seconds_an_image, "kernel", listed, WORKER_ENVIRONMENT),
    }
    medians = {name: statistics.median(costs) for name, costs in in_turns(candidates, n_rounds).items()}
    specshow, pillow, _ = medians.values()
    columns: dict[str, Callable[[float], str]] = {
        "CPU ms/image": lambda cost: f"{cost * 1e3:.2f}",
        "times specshow": lambda cost: f"{specshow / cost:.1f}",
        "times Pillow": lambda cost: f"{pillow / cost:.2f}",
    }
    print(tabulate("one core", medians, columns))


def _seconds_an_image(name: str, listed: Path, environment: Mapping[str, str]) -> float:
    with tempfile.TemporaryDirectory(dir=listed.parent) as output:
        return float(time_module(_BASELINES, name, listed, output, environment=environment).output)
