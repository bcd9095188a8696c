"""The benchmark of reading a table for training: rows a second, and how long one waits for the first."""

import importlib.util
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from statistics import median
from types import MappingProxyType

from jobs.benchmark.loaders import BATCH, NEED_TORCH
from jobs.benchmark.tables import tabulate
from jobs.benchmark.timing import in_turns, time_module
from jobs.words import format_bytes, numbered
from mimii.storage import is_remote
from mimii.table import open_table

_LOADERS = "jobs.benchmark.loaders"
_ZARR = "zarr_shards"
_ROWS: Mapping[str, str] = MappingProxyType(
    {
        _ZARR: "whole shards through zarr, {n} threads",
        "naive_loader": "naive PyTorch loader, {n} workers",
        "batches": "mimii.batches, {n} threads",
        "normalized": "the same, normalized",
        "frames": "mimii.frames, {n} threads (frames)",
        "torch_threads": "mimii.torch_dataset, no worker, {n} threads",
        "torch_workers": "mimii.torch_dataset, {n} workers",
    }
)
_ON_DISK: Mapping[str, str] = MappingProxyType({"plain_npy": "random rows of a .npy in the page cache"})
_FAR_AWAY: Mapping[str, str] = MappingProxyType({"fetch_shards": "fetching the shards, 8 at a time: the link"})
_CLIPS: Mapping[str, str] = MappingProxyType(
    {
        "zarr_clips": "features[a:b] of zarr",
        "read_clips": "mimii.read_clip",
        "lazy_clips": "xarray, chunks=None",
        "dask_clips": "xarray and dask",
    }
)


@dataclass(frozen=True, slots=True)
class Reading:
    """What a reader did: rows a second, seconds from opening the table to the first rows, and its memory."""

    rate: float
    first: float
    peak_bytes: int


def compare_train(url: str, n_workers: int, n_rounds: int) -> None:
    """Read a table in all ways, in turns, each as a process of its own; print the median of each."""
    table = open_table(url)
    rows, clips = table.sizes["row"], table.sizes["clip"]
    size = format_bytes(4 * rows * table.sizes["feature"])
    where = "on S3" if is_remote(url) else "in the page cache"
    print(f"{numbered(clips, 'clip')}, {rows:,} rows, {size} as float32, {where}; batches of {BATCH}\n")
    more = _FAR_AWAY if is_remote(url) else _ON_DISK
    names = {name: text.format(n=n_workers) for name, text in {**more, **_ROWS}.items()}
    if importlib.util.find_spec("torch") is None:
        print("PyTorch is not installed: its loaders are left out\n")
        names = {name: text for name, text in names.items() if name not in NEED_TORCH}
    print(_tabulate("the median of all rounds", names, _read(names, url, n_workers, n_rounds), "fetch_shards"))
    print(f"\n{_tabulate('random clips', _CLIPS, _read(_CLIPS, url, n_workers, n_rounds), 'zarr_clips')}")


def _read(names: Iterable[str], url: str, n_workers: int, n_rounds: int) -> dict[str, Reading]:
    found = in_turns({name: partial(_time, name, url, n_workers) for name in names}, n_rounds)
    return {name: _median(readings) for name, readings in found.items()}


def _time(name: str, url: str, n_workers: int) -> Reading:
    timing = time_module(_LOADERS, name, url, n_workers)
    said = json.loads(timing.output)
    return Reading(said["rate"], said["first"], timing.peak_bytes)


def _median(readings: list[Reading]) -> Reading:
    rate, first = (median(getattr(one, name) for one in readings) for name in ("rate", "first"))
    return Reading(rate, first, max(one.peak_bytes for one in readings))


def _tabulate(title: str, names: Mapping[str, str], found: Mapping[str, Reading], base: str) -> str:
    """Return a table; rates are compared with a reader, or with zarr where there is none of this name."""
    base = base if base in found else _ZARR
    columns: dict[str, Callable[[Reading], str]] = {
        "thousand rows/s": lambda one: f"{one.rate / 1e3:.0f}",
        f"times {names[base]}": lambda one: f"{one.rate / found[base].rate:.2f}",
        "first rows, s": lambda one: f"{one.first:.2f}",
        "peak MB": lambda one: f"{one.peak_bytes / 1e6:.0f}",
    }
    return tabulate(title, {names[name]: reading for name, reading in found.items()}, columns)
