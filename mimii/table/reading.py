"""Read a table: its columns, its shards, all of it as a Dataset, or its rows in batches.

zarr and xarray are imported where they are used: workers do not need them.
"""

import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimii.engine import StoreError, look
from mimii.recordings import GOOD, TEST, TRAIN
from mimii.storage import (
    DEFAULT_ACCESS,
    SHORT_TIMEOUT,
    Access,
    Location,
    Objects,
    is_remote,
    nest_options,
    open_objects,
    with_timeout,
)
from mimii.table.columns import CLIPS_A_CHUNK, MEL_STATISTICS, Columns
from mimii.table.keys import FEATURES, metadata_key, shard_key
from mimii.table.mel_columns import mel_chunk_key
from mimii.table.plan import Layout, RowPlan
from mimii.table.second_keys import by_keys, has_second_keys
from mimii.table.spans import FORMAT
from mimii.table.table import HEAD

if TYPE_CHECKING:
    import xarray

_GROUP = HEAD.key
_SHARDS_MIXED = 4
_LATER: Mapping[str, np.generic] = MappingProxyType(
    {
        "channel": np.int16(0),
        "start_s": np.float64(0),
        "duration_s": np.float64(np.nan),
        "domain": np.str_(""),
        "recorded_at": np.float64(np.nan),
    }
)
"""Columns that tables of earlier formats do not have, and what stands for them."""


class Batch(NamedTuple):
    """Some rows of a table, in random order.

    Attributes
    ----------
    features : ndarray of float32, shape (n, n_features)
        dB.
    label : ndarray of int8, shape (n,)
        0 normal, 1 abnormal, -1 unknown.
    clip : ndarray of int32, shape (n,)
        Index of the clip that each row is from.

    """

    features: NDArray[np.float32]
    label: NDArray[np.int8]
    clip: NDArray[np.int32]


def open_table(url: Location, access: Access = DEFAULT_ACCESS) -> "xarray.Dataset":
    """Open a table of features; nothing but metadata is read until values are asked for.

    Parameters
    ----------
    url : str or path
        A folder, or ``s3://bucket/prefix``.
    access : Access
        How to connect to S3.

    Returns
    -------
    xarray.Dataset
        ``features`` over (row, feature) in dB, ``row_clip`` over row, and a column over clip for all that is known of
        the clips: docs/store.md lists them.

    Raises
    ------
    StoreError
        If there is no table, or it is not finished.

    """
    import xarray

    url = os.fspath(url)
    _check_finished(open_objects(url, access))
    options = nest_options(access.options) if is_remote(url) else None
    table: xarray.Dataset = xarray.open_zarr(url, storage_options=options)
    return table


def batches(
    url: Location, *, split: str = "train", batch_size: int = 512, seed: int = 0, access: Access = DEFAULT_ACCESS
) -> Iterator[Batch]:
    """Yield all rows of a split once, shuffled, from a table that may be larger than memory.

    Shards are read in random order, and the rows of 4 of them are shuffled among each other: at most as many shards
    are in memory. Use another seed for each epoch.

    Parameters
    ----------
    url : str or path
        A folder, or ``s3://bucket/prefix``.
    split : str
        ``"train"``, ``"test"``, or empty for clips that are in neither.
    batch_size : int
        Rows in a batch; the last one may have fewer.
    seed : int
        Another one is another order.
    access : Access
        How to connect to S3.

    Returns
    -------
    iterator of Batch
        Rows in dB, their labels, and the clips that they are from; rows of bad clips are left out.

    Raises
    ------
    StoreError
        If there is no table, or it is not finished.
    ValueError
        If there is no such split, no good clip is in it, or a batch is to have no rows.

    """
    if split not in (TRAIN, TEST, ""):
        msg = f"split must be train, test or empty, not {split!r}"
        raise ValueError(msg)
    if batch_size < 1:
        msg = f"batch_size must be at least 1, not {batch_size}"
        raise ValueError(msg)
    table = open_store(os.fspath(url), access)
    columns = read_columns(table)
    wanted = (columns.split == split) & (columns.status == GOOD)
    if not wanted.any():
        there = Counter(columns.split[columns.status == GOOD].tolist())
        found = ", ".join(f"{count:,} with {name!r}" for name, count in sorted(there.items())) or "none at all"
        msg = f"{table.root}: no clip that can be used has the split {split!r}; there are {found}"
        raise ValueError(msg)
    return _batches(table, columns, wanted, batch_size, np.random.default_rng(seed))


def _batches(
    table: Objects, columns: Columns, wanted: NDArray[np.bool_], batch_size: int, rng: np.random.Generator
) -> Iterator[Batch]:
    plan = RowPlan(Layout(columns.spec.n_features, 1, columns.shard_rows), columns.first_row, columns.n_rows)
    shards = [shard for shard in rng.permutation(plan.n_shards).tolist() if wanted[plan.clips_of(shard)].any()]
    left = Batch(np.empty((0, columns.spec.n_features), np.float32), np.empty(0, np.int8), np.empty(0, np.int32))
    for start in range(0, len(shards), _SHARDS_MIXED):
        mixed = _read_rows(table, plan, columns, wanted, shards[start : start + _SHARDS_MIXED], left)
        order = rng.permutation(len(mixed.label))
        is_last = start + _SHARDS_MIXED >= len(shards)
        n_full = len(order) if is_last else len(order) - len(order) % batch_size
        for first in range(0, n_full, batch_size):
            yield _take(mixed, order[first : min(first + batch_size, n_full)])
        left = _take(mixed, order[n_full:])
        del mixed  # before the next shards are read


def _take(rows: Batch, order: NDArray[np.intp]) -> Batch:
    return Batch(rows.features[order], rows.label[order], rows.clip[order])


def _read_rows(
    table: Objects, plan: RowPlan, columns: Columns, wanted: NDArray[np.bool_], shards: Sequence[int], left: Batch
) -> Batch:
    """Read the rows of wanted clips in some shards, one after the other, behind the rows that are left."""
    row_clips = [_row_clip(plan, shard) for shard in shards]
    clip = np.concatenate([left.clip, *(row_clip[wanted[row_clip]] for row_clip in row_clips)])
    features = np.empty((len(clip), columns.spec.n_features), np.float32)
    done = len(left.clip)
    features[:done] = left.features
    for shard, row_clip in zip(shards, row_clips, strict=True):
        stop = done + int(np.count_nonzero(wanted[row_clip]))
        np.compress(wanted[row_clip], read_shard(table, shard), axis=0, out=features[done:stop])
        done = stop
    return Batch(features, columns.label[clip], clip)


def _row_clip(plan: RowPlan, shard: int) -> NDArray[np.int32]:
    spans = plan.spans(shard)
    return np.repeat(np.array([span.clip for span in spans], np.int32), [span.n_rows for span in spans])


def open_store(url: str, access: Access = DEFAULT_ACCESS) -> Objects:
    """Return the objects of a table, by the keys that all tables have in this code."""
    objects = open_objects(url, access)
    return by_keys(objects, second=has_second_keys(with_timeout(objects, SHORT_TIMEOUT).get(_GROUP)))


def read_columns(objects: Objects) -> Columns:
    """Read all of a finished table but its rows."""
    attributes = _check_finished(objects)
    names = [field.name for field in fields(Columns) if field.name != "attributes"]
    try:
        there = [name for name in names if name not in _LATER or attributes.get("format", 0) >= FORMAT]
        columns = {name: read_column(objects, name) for name in there}
        n_clips = len(columns["path"])
        return Columns(attributes, **columns, **{name: np.full(n_clips, _LATER[name]) for name in {*names} - {*there}})
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError, FileNotFoundError) as error:
        msg = f"{objects.root}: a column is damaged or missing: {error}; python -m jobs.verify says more"
        raise StoreError(msg) from error


def _check_finished(objects: Objects) -> Mapping[str, Any]:
    """Return the attributes of a finished table."""
    existing = look(objects, HEAD)
    if existing is None or not existing.finished:
        what = "there is no table of features" if existing is None else "the table is not finished"
        msg = f"{objects.root}: {what}; run jobs.featurize with this --output first"
        raise StoreError(msg)
    return existing.attributes


def read_shard(objects: Objects, index: int) -> NDArray[np.float32]:
    """Read the rows of one shard, through zarr."""
    array = f"{FEATURES}/{_GROUP}"
    documents = objects.get_all([array, shard_key(index)])
    if shard_key(index) not in documents:
        msg = f"{objects.root}/{shard_key(index)}: this shard is missing"
        raise FileNotFoundError(msg)
    try:
        features = open_array(documents, FEATURES)
        begin = index * features.shards[0]
        return np.asarray(features[begin : begin + features.shards[0]], np.float32)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        msg = f"{objects.root}/{shard_key(index)}: damaged: {error}; python -m jobs.verify says more"
        raise OSError(msg) from error


def read_layout(document: bytes) -> Layout:
    """Read from the metadata of the features how they are cut up."""
    features = json.loads(document)
    shard_rows, n_features = features["chunk_grid"]["configuration"]["chunk_shape"]
    chunk_rows, _ = features["codecs"][0]["configuration"]["chunk_shape"]
    return Layout(int(n_features), int(chunk_rows), int(shard_rows), str(features["data_type"]))


def read_column(objects: Objects, name: str) -> NDArray[Any]:
    """Read one of the small arrays of a store, through zarr."""
    return np.asarray(open_array(objects.get_all(objects.sizes(name)), name)[:])


def read_mel_statistics(objects: Objects, chunk: int) -> NDArray[np.float32]:
    """Read mean, standard deviation and maximum of each band of a chunk of clips, shape (n_clips, 3, n_mels).

    Raises KeyError for tables of the first versions, which have none.
    """
    keys = [key for name in MEL_STATISTICS for key in (metadata_key(name), mel_chunk_key(name, chunk))]
    documents, begin = objects.get_all(keys), chunk * CLIPS_A_CHUNK
    if metadata_key(MEL_STATISTICS[0]) not in documents:
        raise KeyError(MEL_STATISTICS[0])
    try:
        arrays = [open_array(documents, name)[begin : begin + CLIPS_A_CHUNK] for name in MEL_STATISTICS]
        return np.stack(arrays, axis=1).astype(np.float32, copy=False)
    except (ValueError, TypeError, AttributeError, RuntimeError) as error:
        msg = f"{objects.root}: the mel statistics are damaged: {error}; python -m jobs.verify says more"
        raise OSError(msg) from error


def open_array(documents: Mapping[str, bytes], name: str) -> Any:  # noqa: ANN401  a zarr.Array, whose slices have many types
    """Open an array of which some objects are in memory: zarr then checks all checksums of what is read of it."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    memory = zarr.storage.MemoryStore({key: buffer.from_bytes(data) for key, data in documents.items()})
    return zarr.open_array(memory, path=name, mode="r")
