"""The benchmark of zip archives: read in place, against unpacking and looping, and against inflating alone."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.benchmark.baselines import plan_benchmark_table
from jobs.benchmark.files import read_whole
from jobs.benchmark.tables import tabulate, tabulate_around, tabulate_end_to_end
from jobs.benchmark.timing import in_turns, time_featurize, time_module, time_workers
from jobs.words import format_bytes, numbered
from mimii.engine import WORKER_ENVIRONMENT
from mimii.recordings import Clip

_BASELINES = "jobs.benchmark.baselines"


def compare_archives(clips: Sequence[Clip], n_workers: int, n_rounds: int, scratch: Path) -> None:
    """Time whole commands and then the rates when all is warm, and print both."""
    archives = sorted({clip.place.url for clip in clips})
    stored, size = (sum(getattr(clip.place, name) for clip in clips) for name in ("fetched", "size"))
    read_whole(clips)
    print(
        f"{numbered(len(clips), 'clip')} in {', '.join(archives)}, {format_bytes(stored)} that inflate to "
        f"{format_bytes(size)}, in the page cache; {numbered(n_workers, 'worker')}\n"
    )
    listed = scratch / "archives.json"
    listed.write_text(json.dumps(archives))
    inflate = ("inflate", listed, "-", n_workers)
    timings = {
        "unpack, librosa loop": time_module(_BASELINES, "unpack", listed, scratch / "rows.pkl", 1),
        f"inflate, {numbered(n_workers, 'process')}": (inflated := time_module(_BASELINES, *inflate)),
        "jobs.featurize": time_featurize(archives, scratch, n_workers),
    }
    more = {"s to inflating": lambda timing: f"{timing.wall_seconds / inflated.wall_seconds:.2f}"}
    print(tabulate_end_to_end(timings, len(clips), more))
    print(f"\n{tabulate_around(timings['jobs.featurize'], n_workers)}", flush=True)
    print("\nwhen all is warm, the best of each")
    plan = plan_benchmark_table(clips)
    candidates: dict[str, Callable[[], float]] = {
        "inflating alone": lambda: float(time_module(_BASELINES, *inflate, environment=WORKER_ENVIRONMENT).output),
        numbered(n_workers, "Dask worker"): lambda: time_workers(plan, n_workers, scratch).clips_a_second,
    }
    best = {name: max(rates) for name, rates in in_turns(candidates, n_rounds).items()}
    columns: dict[str, Callable[[float], str]] = {
        "clips/s": lambda rate: f"{rate:.0f}",
        "times inflating": lambda rate: f"{best['inflating alone'] / rate:.2f}",
    }
    print(tabulate("warm", best, columns))
