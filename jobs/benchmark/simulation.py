"""A job with nothing to compute: made clips, the real plan, run and scheduler, and records as if tasks were done.

What is left is what a job costs that is not sound: planning, sending tasks, reading records.
"""

import math
import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

import mimii
from mimii.engine import Cluster, Pipeline, Record, Written, describe, tasks_to_results, to_json
from mimii.features import Header
from mimii.recordings import Clip, group_alike, identify
from mimii.storage import Place
from mimii.table import (
    MEL_STATISTICS,
    RECORDS,
    ShardTask,
    TableOutput,
    TablePlan,
    encode_chunk,
    mel_key,
    row_clip_key,
    shard_key,
    spans_as_values,
)

_MACHINES = ("fan", "pump", "slider", "valve")
_SNRS = ("-6", "0", "6")
_CLIPS_A_FOLDER = 1000
_CLIP_BYTES = 2_560_080
_HEADER = Header(sample_rate=16_000, n_channels=8, n_samples=160_000)
_SHARD_ROWS_COUNTED = 25_956
_COMPRESSION = 5.6
_ROW_CLIP_BYTES = 400
_LOOKS = 20


def make_clips(n_clips: int) -> Iterator[Clip]:
    """Make clips as a listing of S3 has them, named like MIMII's; none of them is anywhere."""
    for index in range(n_clips):
        folder = index // _CLIPS_A_FOLDER
        machine, snr = _MACHINES[folder % 4], _SNRS[folder // 4 % 3]
        label = "abnormal" if folder // 12 % 5 == 1 else "normal"
        where = f"{snr}_dB_{machine}/{machine}/id_{folder // 60:05d}/{label}/{index:08d}.wav"
        url = f"s3://factory/recordings/{where}"
        etag = f"{index * 0x9E3779B97F4A7C15 % 2**128:032x}"
        yield Clip(url, Place(url, _CLIP_BYTES, etag, modified=1.6e9 + index), identify(url))


def plan_clips(clips: Iterable[Clip]) -> TablePlan:
    """Plan a table of made clips as a job does, except that their headers are known."""
    found = sorted({str(clip.place): clip for clip in clips}.values(), key=lambda clip: clip.path)
    for group in group_alike(found):
        for index in group:
            found[index] = replace(found[index], header=_HEADER)
    return mimii.plan_table(found)


def skip_sound(task: ShardTask) -> Record:
    """Return the record of a shard, of real size, without computing it; its files hold nothing but are as large."""
    number, layout = task.stamp.task, task.layout
    sizes = {
        shard_key(number): int(layout.shard_rows * layout.row_bytes / _COMPRESSION),
        row_clip_key(number): _ROW_CLIP_BYTES,
    }
    written = {key: Written(size, f"{number:064x}") for key, size in sizes.items()}
    for key, size in sizes.items():
        path = Path(task.output.root, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            file.truncate(size)
    mel = {mel_key(number, task.stamp.fingerprint): _some_statistics(len(task.spans), task.spec.n_mels)}
    for key, data in mel.items():
        path = Path(task.output.root, key)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    result = {"made": task.made, "spans": spans_as_values(task.spans), "other": _some_sums(layout.n_features)}
    return Record(task.stamp, written | describe(mel), result=result)


@dataclass(frozen=True, slots=True)
class SilentTable(TableOutput):
    """A table whose tasks read no recordings and write files that hold nothing."""

    pipeline: ClassVar[Pipeline] = Pipeline(
        "skip-sound", partial(tasks_to_results, function=skip_sound), reads_recordings=False
    )

    def write_records(self, tasks: Iterable[int]) -> None:
        """Write what finished tasks leave: their records, and files that hold nothing."""
        root = self.objects.root
        for folder in (RECORDS, os.path.dirname(row_clip_key(0))):
            Path(root, folder).mkdir(parents=True, exist_ok=True)
        for task in tasks:
            record = skip_sound(self.task(task))
            Path(root, self.record_key(task)).write_bytes(to_json(record))


class Watch:
    """Takes the time of a run, and looks at its scheduler now and then: a `Progress`.

    Attributes
    ----------
    connected, first, last, finishing : float
        When the workers were there, the first and the last result came, and the run began to finish, by
        `time.perf_counter`.
    n_results : int
        How many came.
    cpu_seconds : float
        What this process needed from then on to the last result.
    states : list of tuple of int
        What a scheduler says about itself: tasks that it knows, memory of its process in bytes, and the peak of that.

    """

    def __init__(self) -> None:
        self.connected = self.first = self.last = self.finishing = self.cpu_seconds = 0.0
        self.states: list[tuple[int, int, int]] = []
        self.n_results = 0

    def start(self, n_tasks: int, _n_clips: int, cluster: Cluster) -> None:
        """Take the time, and begin to look."""
        self._client, self._step, self.n_results = cluster.client, max(1, n_tasks // _LOOKS), 0
        self.connected, self._cpu_started = time.perf_counter(), time.process_time()

    def advance(self, _n_clips: int, _bad: Iterable[int]) -> None:
        """Take the time of a result."""
        self.n_results += 1
        if self._client and self.n_results % self._step == 0:
            self.states.append(self._client.run_on_scheduler(_look))
        self.last, self.cpu_seconds = time.perf_counter(), time.process_time() - self._cpu_started
        self.first = self.first or self.last

    def end(self) -> None:
        """Take the time."""
        self.finishing = time.perf_counter()


def peak_bytes() -> int:
    """Return the most memory that this process had; unlike `resource`, without that of its parent."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) << 10


@cache
def _some_sums(n_features: int) -> dict[str, Any]:
    rows = np.random.default_rng(0).normal(-30 * math.pi, 10, (2, n_features))
    return {"count": _SHARD_ROWS_COUNTED, "total": rows[0], "squares": rows[1] ** 2}


@cache
def _some_statistics(n_clips: int, n_mels: int) -> bytes:
    rng = np.random.default_rng(0)
    return encode_chunk(rng.normal(-30, 10, (n_clips, len(MEL_STATISTICS), n_mels)).astype(np.float32))


def _look(dask_scheduler: Any) -> tuple[int, int, int]:  # noqa: ANN401  a distributed.Scheduler
    return len(dask_scheduler.tasks), dask_scheduler.monitor.proc.memory_info().rss, peak_bytes()
