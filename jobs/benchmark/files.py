"""The benchmark of clips on a disk: against a loop over librosa, and against a program in C."""

import csv
import json
import statistics
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from jobs.benchmark.baselines import plan_benchmark_table
from jobs.benchmark.tables import tabulate, tabulate_around, tabulate_end_to_end
from jobs.benchmark.timing import ClipCost, in_turns, time_featurize, time_module, time_process, time_workers
from jobs.words import format_bytes, numbered
from mimii.engine import WORKER_ENVIRONMENT
from mimii.features import FeatureSpec, mel_filter_bank
from mimii.recordings import Clip

_BASELINES = "jobs.benchmark.baselines"


def compare_files(clips: Sequence[Clip], n_workers: int, n_rounds: int, floor: str | None, scratch: Path) -> None:
    """Time whole commands and then what a clip costs when all is warm, and print both."""
    print(f"{numbered(len(clips), 'clip')}, {read_whole(clips)}, in the page cache; {numbered(n_workers, 'worker')}\n")
    listed, table = write_lists(clips, scratch)
    rows = scratch / "rows.pkl"
    timings = {
        "librosa loop, 1 process": time_module(_BASELINES, "loop", listed, rows, 1),
        f"the same, {numbered(n_workers, 'process')}": time_module(_BASELINES, "pool", listed, rows, n_workers),
        "jobs.featurize": time_featurize(("--list", table), scratch, n_workers),
    }
    rows.unlink()
    size = sum(clip.place.size for clip in clips)
    more = {"MB/s": lambda timing: f"{size / timing.wall_seconds / 1e6:.0f}"}
    print(tabulate_end_to_end(timings, len(clips), more))
    print(f"\n{tabulate_around(timings['jobs.featurize'], n_workers)}", flush=True)
    print(f"\nwhen all is warm, the median of {numbered(n_rounds, 'round')}")
    measured = in_turns(_candidates(clips, listed, n_workers, floor, scratch), n_rounds)
    medians = {name: ClipCost(*map(statistics.median, zip(*costs, strict=True))) for name, costs in measured.items()}
    print(_tabulate_warm(medians))


def write_lists(clips: Sequence[Clip], scratch: Path) -> tuple[Path, Path]:
    """Write the paths of clips as JSON, for baselines, and as CSV, for jobs."""
    paths = [clip.place.url for clip in clips]
    listed, table = scratch / "paths.json", scratch / "paths.csv"
    listed.write_text(json.dumps(paths))
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([path] for path in paths)])
    return listed, table


def read_whole(clips: Sequence[Clip]) -> str:
    """Bring the files or archives of clips to the page cache; return how large they are, for messages."""
    size = 0
    for path in {clip.place.url for clip in clips}:
        with open(path, "rb") as file:
            while data := file.read(1 << 24):
                size += len(data)
    return format_bytes(size)


def _candidates(
    clips: Sequence[Clip], listed: Path, n_workers: int, floor: str | None, scratch: Path
) -> Mapping[str, Callable[[], ClipCost]]:
    plan = plan_benchmark_table(clips)
    first = {"floor": partial(_time_floor, floor, clips, scratch)} if floor else {}
    workers = {
        numbered(number, "Dask worker"): partial(time_workers, plan, number, scratch)
        for number in dict.fromkeys((1, n_workers))
    }
    return {**first, "plain process": partial(_time_kernel, listed, scratch), **workers}


def _time_floor(binary: str, clips: Sequence[Clip], scratch: Path) -> ClipCost:
    spec = FeatureSpec()
    mel, output = scratch / "mel.f32", scratch / "floor"
    mel.write_bytes(mel_filter_bank(spec).tobytes())
    output.mkdir(exist_ok=True)
    timing = time_process((binary, str(mel), str(output), *(clip.place.url for clip in clips)))
    return ClipCost(timing.cpu_seconds / len(clips), 0.0, len(clips) / timing.wall_seconds)


def _time_kernel(listed: Path, scratch: Path) -> ClipCost:
    output = tempfile.mkdtemp(dir=scratch)
    timing = time_module(_BASELINES, "kernel", listed, output, 1, environment=WORKER_ENVIRONMENT)
    return ClipCost(*json.loads(timing.output))


def _tabulate_warm(costs: Mapping[str, ClipCost]) -> str:
    first, base = next(iter(costs.items()))
    columns: dict[str, Callable[[ClipCost], str]] = {
        "clips/s": lambda cost: f"{cost.clips_a_second:.0f}",
        "CPU ms/clip": lambda cost: f"{cost.cpu_seconds * 1e3:.2f}",
        "page faults/clip": lambda cost: f"{cost.page_faults:.1f}",
        f"CPU to {first}": lambda cost: f"{cost.cpu_seconds / base.cpu_seconds:.2f}",
        f"clips/s to {first}": lambda cost: f"{cost.clips_a_second / base.clips_a_second:.2f}",
    }
    return tabulate("warm", costs, columns)
