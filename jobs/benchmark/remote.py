"""The benchmark of recordings on S3: a window of fetches, against clip by clip and against what the link allows."""

import json
import statistics
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

from jobs.benchmark.baselines import plan_benchmark_table
from jobs.benchmark.tables import tabulate
from jobs.benchmark.timing import run_on, time_module
from jobs.words import format_bytes, numbered
from mimii.engine import TASKS_FAR_AWAY, Where, connect
from mimii.recordings import Clip
from mimii.storage import Access, ReadOptions, open_objects, s3
from mimii.table import TableOutput

_CLIPS_ALONE = 40
_FETCHES = 5


def compare_remote(
    clips: Sequence[Clip], read_options: ReadOptions, n_workers: int, output: str | None, scratch: Path
) -> None:
    """Measure what the link allows, clip by clip and this job, and print the rates."""
    access, window = read_options.access, read_options.window
    size = sum(clip.place.fetched for clip in clips)
    print(f"{numbered(len(clips), 'clip')} on S3, {format_bytes(size)}; start-up left out\n")
    seconds = statistics.median([_time_fetch(clip, access) for clip in clips[: _FETCHES + 1]][1:])  # once connected
    allowed = n_workers * window / seconds
    alone = _clip_by_clip(clips[:_CLIPS_ALONE], access, scratch)
    root = f"{output.rstrip('/')}/benchmark-{uuid.uuid4().hex}" if output else str(scratch / "out")
    table = TableOutput(plan_benchmark_table(clips), open_objects(root, access), read_options)
    rates = {"clip by clip, s3fs and librosa": alone, "jobs.featurize": _featurize(table, n_workers)}
    print(
        f"a fetch takes {seconds * 1e3:.0f} ms: a window of {window} on {numbered(n_workers, 'worker')} allows "
        f"{allowed:.0f} clips/s\n"
    )
    columns: dict[str, Callable[[float], str]] = {
        "clips/s": lambda rate: f"{rate:.1f}",
        "MB/s": lambda rate: f"{rate * size / len(clips) / 1e6:.0f}",
        "times clip by clip": lambda rate: f"{rate / alone:.1f}",
        "share of what is allowed": lambda rate: f"{rate / allowed:.2f}",
    }
    print(tabulate("", rates, columns))


def _time_fetch(clip: Clip, access: Access) -> float:
    start = clip.place.member.offset if clip.place.member else 0
    started = time.perf_counter()
    s3.read(clip.place.url, start, start + clip.place.fetched, access)
    return time.perf_counter() - started


def _clip_by_clip(clips: Sequence[Clip], access: Access, scratch: Path) -> float:
    listed = scratch / "places.json"
    listed.write_text(json.dumps({"options": access.options, "places": [asdict(clip.place) for clip in clips]}))
    return float(time_module("jobs.benchmark.baselines", "remote", listed, scratch / "alone.pkl", 1).output)


def _featurize(output: TableOutput, n_workers: int) -> float:
    """Return clips a second of workers that have imported what they need, first fetch and last record included."""
    tasks = range(output.n_tasks)
    with connect(Where("local", n_workers, TASKS_FAR_AWAY)) as cluster:
        run_on(cluster, output, tasks[: TASKS_FAR_AWAY * n_workers])
        started = time.perf_counter()
        run_on(cluster, output, tasks)
        seconds = time.perf_counter() - started
    output.objects.delete_below("")
    return sum(map(output.n_clips, tasks)) / seconds
