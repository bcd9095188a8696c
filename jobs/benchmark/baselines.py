"""What the benchmark compares with, each as a process of its own: ``python -m jobs.benchmark.baselines NAME ...``.

The loop is what people write in a notebook: librosa, one clip after the other, stack, pickle. The pool is the same over
processes; unpack the same of archives that are unpacked first; remote the same of recordings on S3. Inflate does
nothing but inflate archives. The kernel is this project's own, without Dask.
"""

import argparse
import io
import json
import multiprocessing
import pickle
import resource
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.recordings import Clip, find_clips, make_catalogue, no_split, probe_alike
from mimii.storage import DEFAULT_ACCESS, Access, DiskObjects, Member, Options, Place, s3, zips
from mimii.table import ShardTask, Table, extract_shard, make_table, shard_task, store

OK = 0
_MOST_SHARD_BYTES = 32 << 20
_LEAST_SHARDS = 16


@dataclass(frozen=True, slots=True)
class Cost:
    """What some work cost its process.

    Attributes
    ----------
    n_clips : int
        Clips done.
    cpu_seconds, wall_seconds : float
        User and system time, and elapsed.
    page_faults : int
        Those that needed no disk.

    """

    n_clips: int
    cpu_seconds: float
    wall_seconds: float
    page_faults: int


def librosa_rows(path: str | BinaryIO) -> NDArray[np.float32]:
    """Compute the rows of one clip (preset `explore`) the plain way."""
    import librosa

    samples, sample_rate = librosa.load(path, sr=None, mono=False)
    samples = samples if samples.ndim == 1 else samples[0]
    mel = librosa.feature.melspectrogram(y=samples, sr=sample_rate, n_fft=2048, hop_length=512, n_mels=64, power=2.0)
    decibel = librosa.power_to_db(mel, ref=np.max)
    n_rows = decibel.shape[1] - 5 + 1
    rows = np.zeros((n_rows, 5 * 64), np.float32)
    for frame in range(5):
        rows[:, 64 * frame : 64 * (frame + 1)] = decibel[:, frame : frame + n_rows].T
    return rows


def run_loop(paths: Sequence[str], output: str) -> None:
    """Compute and pickle the rows of all clips, one after the other."""
    _pickle([librosa_rows(path) for path in paths], output)


def run_pool(paths: Sequence[str], output: str, n_workers: int) -> None:
    """Compute the rows of all clips over processes, and pickle them."""
    with multiprocessing.Pool(n_workers) as pool:
        _pickle(pool.map(librosa_rows, paths, chunksize=8), output)


def run_unpacked(archives: Sequence[str], output: str) -> None:
    """Unpack archives, and then compute and pickle the rows of all clips, one after the other."""
    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder:
        for archive in archives:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(Path(folder, Path(archive).stem))
        run_loop([clip.place.url for clip in find_clips([folder])], output)


def run_inflate(archives: Sequence[str], n_workers: int) -> None:
    """Read and inflate all members of archives over processes, and print how many a second."""
    places = [clip.place for clip in find_clips(archives)]
    with multiprocessing.Pool(n_workers) as pool:
        pool.map(inflate_place, places[:n_workers], chunksize=1)  # imports what it needs
        started = time.perf_counter()
        pool.map(inflate_place, places, chunksize=8)
        print(len(places) / (time.perf_counter() - started))


def inflate_place(place: Place) -> None:
    """Read and inflate one member, and let it go."""
    if place.member:
        with open(place.url, "rb", buffering=0) as archive:
            archive.seek(place.member.offset)
            zips.extract(archive.read(place.member.length), place)


def run_remote(places: Sequence[Place], options: Options, output: str) -> None:
    """Read clips from S3 one after the other, compute and pickle their rows, and print how many a second."""
    files = s3.filesystem(options)
    _read_plainly(files, places[0])  # imports and compiles what it needs, and opens a connection
    started = time.perf_counter()
    _pickle([_read_plainly(files, place) for place in places], output)
    print(len(places) / (time.perf_counter() - started))


def _read_plainly(files: Any, place: Place) -> NDArray[np.float32]:  # noqa: ANN401  of s3fs
    if place.member is None:
        with files.open(place.url) as file:
            return librosa_rows(file)
    stop = place.member.offset + place.member.length
    data = files.cat_file(place.url, start=place.member.offset, end=stop)
    return librosa_rows(io.BytesIO(zips.extract(data, place)))


def measure_shard(task: ShardTask) -> Cost:
    """Compute one shard, and say what it cost this process."""
    started, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF)
    done = extract_shard(task)
    wall_seconds = time.perf_counter() - started
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu_seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Cost(done.n_clips, cpu_seconds, wall_seconds, after.ru_minflt - before.ru_minflt)


def make_benchmark_table(clips: Sequence[Clip], access: Access = DEFAULT_ACCESS) -> Table:
    """Plan a table, its shards so small that there are some for each worker, but no larger than usual."""
    catalogue = make_catalogue(clips, probe_alike(clips, access).of_clips, no_split(clips), FeatureSpec())
    size = 4 * catalogue.spec.n_features * int(catalogue.n_rows.sum())
    return make_table(catalogue, min(_MOST_SHARD_BYTES, size // _LEAST_SHARDS))


def run_kernel(paths: Sequence[str], output: str) -> None:
    """Fill a table in this process, shard after shard, and print what each cost."""
    table = make_benchmark_table(find_clips(paths))
    objects = DiskObjects(output)
    store.begin(objects, table, [])
    costs = [measure_shard(shard_task(table, index, objects)) for index in range(table.plan.n_shards)]
    print(json.dumps([asdict(cost) for cost in costs]))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmark.baselines", description=__doc__)
    parser.add_argument("baseline", choices=("loop", "pool", "unpack", "inflate", "remote", "kernel"))
    parser.add_argument("listed", help="a JSON file of recordings, archives or places")
    parser.add_argument("output", help="the pickle, or for kernel the store, to write")
    parser.add_argument("--workers", type=int, default=1)
    options = parser.parse_args(arguments)
    listed = json.loads(Path(options.listed).read_bytes())
    baselines: dict[str, Callable[[], None]] = {
        "loop": lambda: run_loop(listed, options.output),
        "pool": lambda: run_pool(listed, options.output, options.workers),
        "unpack": lambda: run_unpacked(listed, options.output),
        "inflate": lambda: run_inflate(listed, options.workers),
        "remote": lambda: run_remote(
            [_place(**place) for place in listed["places"]], tuple(map(tuple, listed["options"])), options.output
        ),
        "kernel": lambda: run_kernel(listed, options.output),
    }
    baselines[options.baseline]()
    return OK


def _place(member: dict[str, Any] | None, **values: Any) -> Place:  # noqa: ANN401  as they are in the JSON
    return Place(member=Member(**member) if member else None, **values)


def _pickle(rows: Sequence[NDArray[np.float32]], output: str) -> None:
    with Path(output).open("wb") as file:
        pickle.dump(np.concatenate(rows), file, protocol=4)


if __name__ == "__main__":
    sys.exit(main())
