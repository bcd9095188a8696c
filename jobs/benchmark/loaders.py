"""What reading for training is compared with: ``python -m jobs.benchmark.loaders NAME TABLE N_WORKERS``.

Each prints, as JSON, how many rows a second it reads once the table is open, and the seconds from opening it to the
first rows. Packages are imported before.
"""

import importlib
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import xarray
import zarr

import mimii
from mimii.storage import DEFAULT_ACCESS, open_objects
from mimii.table import shard_key

BATCH = 512
OPENED = 0
"""What a reader yields when it has opened the table."""

_CLIPS = 200
_FETCHES = 8
NEED_TORCH = frozenset({"naive_loader", "torch_threads", "torch_workers"})


def zarr_shards(url: str, n_workers: int) -> Iterator[int]:
    """Read whole shards through zarr, several at a time, and nothing else."""
    features = _open_array(url)
    yield OPENED
    with ThreadPoolExecutor(n_workers) as pool:
        begins = range(0, features.shape[0], features.shards[0])
        yield from pool.map(lambda begin: len(features[begin : begin + features.shards[0]]), begins)


def fetch_shards(url: str, _n_workers: int) -> Iterator[int]:
    """Fetch the objects of all shards, as many at a time as mimii.batches does, and decode nothing."""
    objects, features = open_objects(url, DEFAULT_ACCESS), _open_array(url)
    yield OPENED
    n_shards = -(-features.shape[0] // features.shards[0])
    with ThreadPoolExecutor(_FETCHES) as pool:
        for shard, data in enumerate(pool.map(objects.get, map(shard_key, range(n_shards)))):
            yield min(features.shards[0], features.shape[0] - shard * features.shards[0]) if data else OPENED


def naive_loader(url: str, n_workers: int) -> Iterator[int]:
    """Read with the loader of PyTorch that one writes first: row by row, each worker its share of the shards."""
    import torch

    class Rows(torch.utils.data.IterableDataset):  # type: ignore[misc]  # types are checked without PyTorch
        def __iter__(self) -> Iterator[Any]:
            features, worker = _open_array(url), torch.utils.data.get_worker_info()
            share = slice(worker.id, None, worker.num_workers) if worker else slice(None)
            rng, size = np.random.default_rng(worker.seed if worker else 0), features.shards[0]
            for shard in rng.permutation(np.arange(-(-features.shape[0] // size))[share]):
                rows = features[shard * size : (shard + 1) * size]
                rng.shuffle(rows)
                yield from rows[~np.isnan(rows[:, 0])]

    yield OPENED
    yield from map(len, torch.utils.data.DataLoader(Rows(), batch_size=BATCH, num_workers=n_workers))


def batches(url: str, n_workers: int) -> Iterator[int]:
    """Read with mimii.batches; the workers are threads."""
    yield from _count(mimii.batches(url, split=None, batch_size=BATCH, threads=n_workers))


def normalized(url: str, n_workers: int) -> Iterator[int]:
    """Read normalized rows."""
    yield from _count(mimii.batches(url, split=None, batch_size=BATCH, threads=n_workers, normalize=True))


def frames(url: str, n_workers: int) -> Iterator[int]:
    """Read single frames, as many at a time as have the bytes of a batch of rows."""
    yield from _count(mimii.frames(url, split=None, batch_size=5 * BATCH, threads=n_workers))


def torch_threads(url: str, n_workers: int) -> Iterator[int]:
    """Read with mimii.torch_dataset in this process."""
    yield from _torch(url, 0, n_workers)


def torch_workers(url: str, n_workers: int) -> Iterator[int]:
    """Read with mimii.torch_dataset in worker processes."""
    yield from _torch(url, n_workers, 1)


def plain_npy(url: str, _n_workers: int) -> Iterator[int]:
    """Read random rows of a plain .npy in the page cache, as large as the table: a full shuffle."""
    with tempfile.TemporaryDirectory() as folder:
        features = _open_array(url)
        rows = np.lib.format.open_memmap(Path(folder, "rows.npy"), "w+", np.float32, features.shape)
        for begin in range(0, len(rows), features.shards[0]):
            rows[begin : begin + features.shards[0]] = features[begin : begin + features.shards[0]]
        yield OPENED
        order = np.random.default_rng(0).permutation(len(rows))
        yield from (len(rows[order[begin : begin + BATCH]]) for begin in range(0, len(rows), BATCH))


def zarr_clips(url: str, _n_workers: int) -> Iterator[int]:
    """Read random clips through zarr."""
    spans, features = _spans(url), _open_array(url)
    yield OPENED
    for first, n_rows in spans:
        yield len(features[first : first + n_rows])


def read_clips(url: str, _n_workers: int) -> Iterator[int]:
    """Read the same clips with mimii.read_clip."""
    table = mimii.open_table(url)
    clips = _some(table).tolist()
    mimii.read_clip(table, clips[0])
    yield OPENED
    yield from (len(mimii.read_clip(table, clip)) for clip in clips)


def lazy_clips(url: str, _n_workers: int) -> Iterator[int]:
    """Read the same clips through xarray without dask."""
    spans, table = _spans(url), xarray.open_zarr(url, chunks=None)
    yield OPENED
    yield from (len(table.features[first : first + n_rows].values) for first, n_rows in spans)


def dask_clips(url: str, _n_workers: int) -> Iterator[int]:
    """Read the same clips through xarray and dask."""
    spans, table = _spans(url), mimii.open_table(url)
    yield OPENED
    yield from (len(table.features[first : first + n_rows].values) for first, n_rows in spans)


READERS: Mapping[str, Callable[[str, int], Iterator[int]]] = MappingProxyType(
    {
        reader.__name__: reader
        for reader in (
            *(zarr_shards, fetch_shards, naive_loader, batches, normalized, frames, torch_threads, torch_workers),
            *(plain_npy, zarr_clips, read_clips, lazy_clips, dask_clips),
        )
    }
)


def _open_array(url: str) -> Any:  # noqa: ANN401  a zarr.Array, whose slices have many types
    return zarr.open_array(url, path="features", mode="r")


def _some(table: xarray.Dataset) -> np.ndarray[Any, Any]:
    return np.random.default_rng(0).permutation(table.sizes["clip"])[:_CLIPS]


def _spans(url: str) -> list[tuple[int, int]]:
    table = mimii.open_table(url)
    columns = (table[name].values[_some(table)].tolist() for name in ("first_row", "n_rows"))
    return list(zip(*columns, strict=True))


def _count(found: Iterable[mimii.Batch]) -> Iterator[int]:
    yield OPENED
    yield from (len(batch.clip) for batch in found)


def _torch(url: str, n_workers: int, threads: int) -> Iterator[int]:
    import torch

    dataset = mimii.torch_dataset(url, split=None, batch_size=BATCH, threads=threads)
    yield from _count(torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=n_workers))


def main(arguments: list[str]) -> None:
    """Run the reader that is named."""
    name, url, n_workers = arguments
    for package in ("torch",) if name in NEED_TORCH else ():
        importlib.import_module(package)
    begun = opened = time.perf_counter()
    n_rows, first = 0, 0.0
    for n in READERS[name](url, int(n_workers)):
        opened = opened if n_rows or n else time.perf_counter()
        first = first or (time.perf_counter() - begun if n else 0.0)
        n_rows += n
    print(json.dumps({"rows": n_rows, "rate": n_rows / (time.perf_counter() - opened), "first": first}))


if __name__ == "__main__":
    main(sys.argv[1:])
