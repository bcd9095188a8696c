"""A job with nothing to compute: made clips, the real plan and scheduler, and records of tasks as if they were done.

What is left is what a job costs that is not sound: planning, sending tasks off, reading records.
"""

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jobs.survey import arrange_clips
from mimii.engine import Cluster, Done, Record, Written, make_stamp, record_key, run_tasks, to_json
from mimii.features import FeatureSpec, Header
from mimii.recordings import Clip, Probe, baseline_split, group_alike, identify, make_catalogue
from mimii.storage import DiskObjects, Place
from mimii.table import RECORDS, ShardTask, Sums, Table, as_json, make_table, row_clip_key, shard_key, shard_task

_MACHINES = ("fan", "pump", "slider", "valve")
_SNRS = ("-6", "0", "6")
_CLIPS_A_FOLDER = 1000
_CLIP_BYTES = 2_560_080
_HEADER = Header(sample_rate=16_000, n_channels=8, n_samples=160_000)
_SHARD_BYTES = 32 << 20
_COMPRESSION = 5.6
_ROW_CLIP_BYTES = 400
_LOOKS = 20


@dataclass(frozen=True, slots=True)
class SchedulerState:
    """What a scheduler says of itself.

    Attributes
    ----------
    n_tasks : int
        Tasks that it knows.
    rss_bytes : int
        Memory of its process.
    peak_bytes : int
        The most that it was.

    """

    n_tasks: int
    rss_bytes: int
    peak_bytes: int


def make_clips(n_clips: int) -> Iterator[Clip]:
    """Make clips as a listing of S3 has them, named like MIMII's; none of them is anywhere."""
    for index in range(n_clips):
        folder = index // _CLIPS_A_FOLDER
        machine, snr = _MACHINES[folder % 4], _SNRS[folder // 4 % 3]
        label = "normal" if folder // 12 % 5 else "abnormal"
        where = f"{snr}_dB_{machine}/{machine}/id_{folder // 60:05d}/{label}/{index:08d}.wav"
        url = f"s3://factory/recordings/{where}"
        etag = f"{index * 0x9E3779B97F4A7C15 % 2**128:032x}"
        yield Clip(url, Place(url, _CLIP_BYTES, etag, modified=1.6e9 + index), identify(url))


def plan_clips(clips: Iterable[Clip]) -> Table:
    """Plan a table of made clips as a job does, but for the headers: they are known."""
    arranged = arrange_clips(_find(clips))
    probe = Probe(_HEADER)
    probes = {index: probe for group in group_alike(arranged) for index in group}
    of_clips = tuple(probes[index] for index in range(len(arranged)))
    catalogue = make_catalogue(arranged, of_clips, baseline_split(arranged), FeatureSpec())
    return make_table(catalogue, _SHARD_BYTES)


def _find(clips: Iterable[Clip]) -> list[Clip]:
    """Keep and sort clips as `mimii.recordings.sources.find_clips` does."""
    return sorted({str(clip.place): clip for clip in clips}.values(), key=lambda clip: clip.path)


def do_nothing(task: ShardTask) -> Done:
    """Be the kernel of a task that costs nothing."""
    return Done(task.shard, task.n_ended, 0, {})


def run_nothing(cluster: Cluster, table: Table, output: DiskObjects, todo: Iterable[int]) -> Iterator[Done]:
    """Send tasks to workers that do nothing."""
    yield from run_tasks(cluster, do_nothing, (shard_task(table, index, output) for index in todo))


def watch_scheduler(cluster: Cluster, results: Iterable[Done], n_tasks: int) -> Iterator[SchedulerState]:
    """Look at the scheduler again and again, while results come."""
    step = max(1, n_tasks // _LOOKS)
    for number, _ in enumerate(results, 1):
        if cluster.client and number % step == 0:
            yield SchedulerState(*cluster.client.run_on_scheduler(_look))


def leave_records(table: Table, output: DiskObjects, tasks: Iterable[int]) -> None:
    """Leave what tasks leave that are done: a record of real size, and files as large as shards that hold nothing."""
    for folder in (RECORDS, os.path.dirname(row_clip_key(0))):
        Path(output.root, folder).mkdir(parents=True, exist_ok=True)
    sums = as_json(_some_sums(table.plan.layout.n_features))
    shard_bytes = int(table.plan.layout.shard_rows * table.plan.layout.row_bytes / _COMPRESSION)
    for task in tasks:
        sizes = {shard_key(task): shard_bytes, row_clip_key(task): _ROW_CLIP_BYTES}
        written = {key: Written(size, f"{task:064x}") for key, size in sizes.items()}
        for key, size in sizes.items():
            with open(os.path.join(output.root, key), "wb") as file:
                file.truncate(size)
        record = to_json(Record(make_stamp(table, task), written, result=sums))
        Path(output.root, record_key(RECORDS, task)).write_bytes(record)


def _some_sums(n_features: int) -> Sums:
    rows = np.random.default_rng(0).normal(-30 * math.pi, 10, (2, n_features))
    return Sums(25_956, rows[0], rows[1] ** 2)


def peak_bytes() -> int:
    """Return the most memory that this process had; unlike what `resource` tells, none that its parent had."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


def _look(dask_scheduler: Any) -> tuple[int, int, int]:  # noqa: ANN401  a distributed.Scheduler
    return (
        len(dask_scheduler.tasks),
        dask_scheduler.monitor.proc.memory_info().rss,
        peak_bytes(),
    )
