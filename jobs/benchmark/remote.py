"""The benchmark of recordings on S3: a window of fetches, against clip by clip and against what the link allows."""

import argparse
import json
import statistics
import sys
import time
import uuid
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from jobs.benchmark.baselines import make_benchmark_table
from jobs.benchmark.timing import time_process
from jobs.options import source_access
from jobs.report import format_bytes, format_table, numbered
from mimii.engine import ONE_THREAD, TASKS_FAR_AWAY, Where, connect, run_tasks
from mimii.recordings import Clip
from mimii.storage import Access, Objects, ReadOptions, open_objects, s3
from mimii.table import extract_shard, shard_task, store

_CLIPS_ALONE = 40
_LOOKS = 5

_BASELINES = "jobs.benchmark.baselines"


def compare_remote(clips: Sequence[Clip], options: argparse.Namespace, scratch: Path) -> None:
    """Compare, and print."""
    access = source_access(options)
    size = sum(clip.place.fetched for clip in clips)
    print(f"{numbered(len(clips), 'clip')} on S3, {format_bytes(size)}; start-up left out\n")
    seconds = _seconds_a_fetch(clips, access)
    allowed = options.workers * options.window / seconds
    alone = _clip_by_clip(clips[:_CLIPS_ALONE], access, scratch)
    output = f"{options.output.rstrip('/')}/benchmark-{uuid.uuid4().hex}" if options.output else str(scratch / "out")
    job = _featurize(clips, options, open_objects(output, access))
    mean = size / len(clips)
    print(
        f"a fetch takes {seconds * 1e3:.0f} ms: a window of {options.window} on {options.workers} workers allows",
        end="",
    )
    print(f" {allowed:.0f} clips/s\n")
    rows = [
        (name, f"{rate:.1f}", f"{rate * mean / 1e6:.0f}", f"{rate / alone:.1f}", f"{rate / allowed:.2f}")
        for name, rate in (("clip by clip, s3fs and librosa", alone), ("jobs.featurize", job))
    ]
    print("\n".join(format_table(("", "clips/s", "MB/s", "times clip by clip", "share of what is allowed"), rows)))


def _seconds_a_fetch(clips: Sequence[Clip], access: Access) -> float:
    """Measure one fetch over a connection that is open already: the median of some."""
    return statistics.median([_time_fetch(clip, access) for clip in clips[: _LOOKS + 1]][1:])


def _time_fetch(clip: Clip, access: Access) -> float:
    start = clip.place.member.offset if clip.place.member else 0
    started = time.perf_counter()
    s3.read(clip.place.url, start, start + clip.place.fetched, access)
    return time.perf_counter() - started


def _clip_by_clip(clips: Sequence[Clip], access: Access, scratch: Path) -> float:
    listed = scratch / "places.json"
    listed.write_text(json.dumps({"options": access.options, "places": [asdict(clip.place) for clip in clips]}))
    command = (sys.executable, "-m", _BASELINES, "remote", str(listed), str(scratch / "alone.pkl"))
    return float(json.loads(time_process(command, ONE_THREAD).output))


def _featurize(clips: Sequence[Clip], options: argparse.Namespace, output: Objects) -> float:
    """Return clips a second of workers that have imported what they need, first fetch and last record included."""
    table = make_benchmark_table(clips, source_access(options))
    read_options = ReadOptions(source_access(options), options.window)
    tasks = [shard_task(table, index, output, read_options) for index in range(table.plan.n_shards)]
    store.begin(output, table, [])
    with connect(Where("local", options.workers, TASKS_FAR_AWAY)) as cluster:
        list(run_tasks(cluster, extract_shard, tasks[: TASKS_FAR_AWAY * options.workers]))
        started = time.perf_counter()
        n_clips = sum(done.n_clips for done in run_tasks(cluster, extract_shard, tasks))
        seconds = time.perf_counter() - started
    output.delete_below("")
    return n_clips / seconds
