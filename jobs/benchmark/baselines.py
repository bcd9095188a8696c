"""What the benchmark compares with: ``python -m jobs.benchmark.baselines NAME LISTED.json OUTPUT N_WORKERS``.

The loop is what people write in a notebook: librosa, one clip after the other, stack, pickle. The pool is the same over
processes; unpack the same of archives that are unpacked first; remote the same of recordings on S3. Inflate does
nothing but inflate archives. The kernel is this project's own, without Dask.

Each imports what it needs itself, so that the loop does not pay for this project.
"""

import io
import json
import multiprocessing
import pickle
import sys
import tempfile
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from mimii.recordings import Clip
    from mimii.storage import Place
    from mimii.table import TablePlan

_MOST_SHARD_BYTES = 32 << 20
_LEAST_SHARDS = 16


def librosa_decibel(path: str | BinaryIO) -> tuple[NDArray[np.float32], float]:
    """Return the log-mel spectrogram of one clip (preset `explore`) and its sample rate, the plain way."""
    import librosa

    samples, sample_rate = librosa.load(path, sr=None, mono=False)
    samples = samples if samples.ndim == 1 else samples[0]
    mel = librosa.feature.melspectrogram(y=samples, sr=sample_rate, n_fft=2048, hop_length=512, n_mels=64, power=2.0)
    return librosa.power_to_db(mel, ref=np.max), sample_rate


def librosa_rows(path: str | BinaryIO) -> NDArray[np.float32]:
    """Return the rows of one clip (preset `explore`), computed the plain way."""
    return _stack(librosa_decibel(path)[0])


def librosa_parts(path: str, way: str) -> Iterator[NDArray[np.float32]]:
    """Yield the rows of a recording that is resampled, of all of its channels, or of its segments of a second."""
    import librosa

    samples, rate = librosa.load(path, sr=22_050 if way == "resampled" else None, mono=False)
    channels = np.atleast_2d(samples)
    parts = list(channels) if way == "channels" else [channels[0]]
    if way == "segments":
        parts = [channels[0, start : start + int(rate)] for start in range(0, channels.shape[1], int(rate))]
    for part in parts:
        mel = librosa.feature.melspectrogram(y=part, sr=rate, n_fft=2048, hop_length=512, n_mels=64, power=2.0)
        yield _stack(librosa.power_to_db(mel, ref=np.max))


def _stack(decibel: NDArray[np.float32]) -> NDArray[np.float32]:
    n_rows = decibel.shape[1] - 5 + 1
    rows = np.zeros((n_rows, 5 * 64), np.float32)
    for frame in range(5):
        rows[:, 64 * frame : 64 * (frame + 1)] = decibel[:, frame : frame + n_rows].T
    return rows


def run_nothing(_paths: Sequence[str], _output: str, _n_workers: int) -> None:
    """Load librosa, which compiles parts of itself where it has not been used yet."""
    import librosa

    librosa.feature.melspectrogram  # noqa: B018  it is loaded when it is asked for


def run_loop(paths: Sequence[str], output: str, _n_workers: int) -> None:
    """Compute and pickle the rows of all clips, one after the other."""
    _pickle([librosa_rows(path) for path in paths], output)


def run_pool(paths: Sequence[str], output: str, n_workers: int) -> None:
    """Compute the rows of all clips over processes, and pickle them."""
    with multiprocessing.Pool(n_workers) as pool:
        _pickle(pool.map(librosa_rows, paths, chunksize=8), output)


def run_parts(listed: Mapping[str, Any], output: str, _n_workers: int) -> None:
    """Compute and pickle the rows of all parts of recordings, one after the other."""
    _pickle([rows for path in listed["paths"] for rows in librosa_parts(path, listed["way"])], output)


def run_unpacked(archives: Sequence[str], output: str, n_workers: int) -> None:
    """Unpack archives, and then compute and pickle the rows of all clips, one after the other."""
    from mimii.recordings import find_clips

    with tempfile.TemporaryDirectory(dir=Path(output).parent) as folder:
        for archive in archives:
            with zipfile.ZipFile(archive) as packed:
                packed.extractall(Path(folder, Path(archive).stem))
        run_loop([clip.place.url for clip in find_clips([folder])], output, n_workers)


def run_inflate(archives: Sequence[str], _output: str, n_workers: int) -> None:
    """Read and inflate all members of archives over processes, and print how many a second."""
    from mimii.recordings import find_clips

    places = [clip.place for clip in find_clips(archives)]
    with multiprocessing.Pool(n_workers) as pool:
        pool.map(inflate_place, places[:n_workers], chunksize=1)  # imports what it needs
        started = time.perf_counter()
        pool.map(inflate_place, places, chunksize=8)
        print(len(places) / (time.perf_counter() - started))


def inflate_place(place: "Place") -> None:
    """Read and inflate one member, and drop it."""
    from mimii.storage import zips

    if place.member:
        with open(place.url, "rb", buffering=0) as archive:
            archive.seek(place.member.offset)
            zips.extract(archive.read(place.member.length), place)


def run_remote(listed: Mapping[str, Any], output: str, _n_workers: int) -> None:
    """Read clips from S3 one after the other, compute and pickle their rows, and print how many a second."""
    from mimii.storage import s3

    files = s3.filesystem(tuple(map(tuple, listed["options"])))
    places = [_place(**place) for place in listed["places"]]
    _read_plainly(files, places[0])  # imports and compiles what it needs, and opens a connection
    started = time.perf_counter()
    _pickle([_read_plainly(files, place) for place in places], output)
    print(len(places) / (time.perf_counter() - started))


def run_kernel(paths: Sequence[str], output: str, _n_workers: int) -> None:
    """Fill a table in this process, and print what a clip costs when it is warm."""
    from jobs.benchmark.plain import run_plain
    from jobs.benchmark.timing import time_warm, usage
    from mimii.recordings import find_recordings
    from mimii.storage import DiskObjects
    from mimii.table import TableOutput

    table = TableOutput(plan_benchmark_table(find_recordings(*paths)), DiskObjects(output))
    print(json.dumps(time_warm(table, 1, lambda tasks: run_plain(table, tasks), lambda: [usage()])))


def plan_benchmark_table(clips: "Sequence[Clip]") -> "TablePlan":
    """Plan a table with shards so small that there are some for each worker, but not larger than usual."""
    from mimii.features import FeatureSpec
    from mimii.recordings import make_catalogue, no_split
    from mimii.table import make_table_plan

    catalogue = make_catalogue(clips, no_split(clips), FeatureSpec())
    size = 4 * catalogue.spec.n_features * int(catalogue.n_rows.sum())
    return make_table_plan(catalogue, min(_MOST_SHARD_BYTES, size // _LEAST_SHARDS))


_BASELINES: Mapping[str, Callable[[Any, str, int], None]] = {
    "compile": run_nothing,
    "loop": run_loop,
    "pool": run_pool,
    "parts": run_parts,
    "unpack": run_unpacked,
    "inflate": run_inflate,
    "remote": run_remote,
    "kernel": run_kernel,
}


def _read_plainly(files: Any, place: "Place") -> NDArray[np.float32]:  # noqa: ANN401  of s3fs
    from mimii.storage import zips

    if place.member is None:
        with files.open(place.url) as file:
            return librosa_rows(file)
    stop = place.member.offset + place.member.length
    data = files.cat_file(place.url, start=place.member.offset, end=stop)
    return librosa_rows(io.BytesIO(zips.extract(data, place)))


def _place(member: dict[str, Any] | None, **values: Any) -> "Place":  # noqa: ANN401  as they are in the JSON
    from mimii.storage import Member, Place

    return Place(member=Member(**member) if member else None, **values)


def _pickle(rows: Sequence[NDArray[np.float32]], output: str) -> None:
    with Path(output).open("wb") as file:
        pickle.dump(np.concatenate(rows), file, protocol=4)


def main(arguments: Sequence[str]) -> None:
    """Run the baseline that is named."""
    name, listed, output, n_workers = arguments
    _BASELINES[name](json.loads(Path(listed).read_bytes()), output, int(n_workers))


if __name__ == "__main__":
    main(sys.argv[1:])
