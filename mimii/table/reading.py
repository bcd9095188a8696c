"""Read a table: its columns, its shards, a clip of it, or all of it as a Dataset. `training` reads it in batches.

zarr and xarray are imported where they are used: workers do not need them.
"""

import json
import math
import operator
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import fields
from functools import lru_cache, partial
from itertools import product
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Existing, StoreError, look
from mimii.features import FeatureSpec, complete_spec
from mimii.recordings import GOOD
from mimii.storage import (
    DEFAULT_ACCESS,
    SHORT_TIMEOUT,
    Access,
    Location,
    Objects,
    as_path,
    is_remote,
    nest_options,
    open_objects,
    with_timeout,
)
from mimii.table.axes import with_axes
from mimii.table.columns import CLIPS_A_CHUNK, MEL_STATISTICS, Columns
from mimii.table.encoding import decode_column, decode_shard
from mimii.table.keys import FEATURES, metadata_key, shard_key
from mimii.table.mel_columns import mel_chunk_key
from mimii.table.metadata import chunk_shape, is_column
from mimii.table.plan import Layout
from mimii.table.second_keys import by_keys, has_second_keys
from mimii.table.spans import FORMAT
from mimii.table.table import HEAD

if TYPE_CHECKING:
    import xarray

_GROUP = HEAD.key
_COLUMNS_AT_A_TIME = 8
_SPANS = ("first_row", "n_rows", "status")
_LATER: Mapping[str, np.generic] = MappingProxyType(
    {
        "channel": np.int16(0),
        "start_s": np.float64(0),
        "duration_s": np.float64(np.nan),
        "domain": np.str_(""),
        "recorded_at": np.float64(np.nan),
    }
)
"""Columns that tables before `_FORMAT_OF_LATER` do not have, and what stands for them."""

_FORMAT_OF_LATER = 3

DAMAGED = (ValueError, KeyError, TypeError, AttributeError, RuntimeError, FileNotFoundError)
"""What zarr and its codecs raise over metadata and chunks that are damaged or missing."""


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
        the clips: docs/store.md lists them. The coordinates ``mel`` (Hz), ``feature_frequency`` (Hz) and
        ``feature_offset_s`` (s) are not in the store: plots have frequencies and units by them.

    Raises
    ------
    StoreError
        If there is no table, or it is not finished.

    """
    import xarray

    url = as_path(url)
    attributes = read_finished(open_objects(url, access)).attributes
    options = nest_options(access.pairs) if is_remote(url) else None
    table: xarray.Dataset = xarray.open_zarr(url, storage_options=options)
    table = with_axes(table, FeatureSpec(**complete_spec(attributes["spec"])))
    table.encoding["source"] = url
    return table


def read_clip(table: "xarray.Dataset | Location", clip: int, *, access: Access = DEFAULT_ACCESS) -> NDArray[np.float32]:
    """Return the rows of one clip.

    Of an opened table, only the chunks that hold them are read, in the time that zarr takes: the Dataset keeps where
    the rows of its clips are. Of a URL, that is read each time.

    Parameters
    ----------
    table : xarray.Dataset, str or path
        What `open_table` returned, or some of its clips; or a folder, or ``s3://bucket/prefix``.
    clip : int
        Index of the clip in the Dataset; from its end where it is negative.
    access : Access
        How to connect to S3.

    Returns
    -------
    ndarray of float32, shape (n_rows, n_features)
        dB; NaN where the clip could not be read, and no rows where that was known before.

    Raises
    ------
    TypeError
        If the clip is no index, such as a path.
    IndexError
        If there is no such clip.
    StoreError
        If there is no table, it is not finished, or it is another than the one that was opened.
    OSError
        If a shard is missing or damaged; the message names the clip.

    """
    import xarray

    if not isinstance(table, xarray.Dataset):
        table = open_table(table, access)
    first_row, n_rows, status = _spans_of(table)
    n_clips, clip = len(n_rows), _as_index(clip)
    if not -n_clips <= clip < n_clips:
        msg = f"no clip {clip}: there are {n_clips:,}"
        raise IndexError(msg)
    span = int(first_row[clip]), int(n_rows[clip]), status[clip] == GOOD
    try:
        return _stored_of(table, access).read(clip, *span)
    except FileNotFoundError:  # another table may have taken its place, and have other keys
        _open_stored.cache_clear()
        return _stored_of(table, access).read(clip, *span)


def _as_index(clip: object) -> int:
    try:
        return operator.index(np.asarray(clip))
    except TypeError as error:
        msg = f"clip must be the index of a clip, such as 17, not {clip!r}; the column path has the recordings"
        raise TypeError(msg) from error


def _spans_of(table: "xarray.Dataset") -> tuple[NDArray[Any], NDArray[Any], NDArray[Any]]:
    """Return the first row, the number of rows and the status of each clip of a Dataset; it keeps what was read."""
    variables = [table.variables[name].data for name in _SPANS]
    names = tuple(getattr(variable, "name", None) for variable in variables)  # of dask's arrays: their content
    kept = table.encoding.get("spans")
    if kept and kept[0] == names:
        return cast("tuple[NDArray[Any], NDArray[Any], NDArray[Any]]", kept[1])
    first_row, n_rows, status = map(np.asarray, variables)
    if None not in names:
        table.encoding["spans"] = names, (first_row, n_rows, status)
    return first_row, n_rows, status


def _stored_of(table: "xarray.Dataset", access: Access) -> "_Stored":
    """Return the stored rows of a Dataset; StoreError where they are of another table now, and not of one that grew."""
    url, fingerprint = table.encoding.get("source"), str(table.attrs.get("fingerprint"))
    if not isinstance(url, str):
        msg = "it is not known where this Dataset is from: open it with mimii.open_table, or give its URL"
        raise TypeError(msg)
    stored = _open_stored(url, access, fingerprint)
    if fingerprint not in stored.fingerprints:
        objects = open_store(url, access)
        metadata = metadata_of_arrays(read_finished(objects).document)
        there = read_clip_columns(objects, metadata, ("path", "first_row"))
        clips = set(zip(there["path"].tolist(), there["first_row"].tolist(), strict=True))
        if not set(zip(table.path.values.tolist(), table.first_row.values.tolist(), strict=True)) <= clips:
            msg = f"{url}: another table is there than when this Dataset was opened; open it again"
            raise StoreError(msg)
        stored.fingerprints.add(fingerprint)
    return stored


class _Stored(NamedTuple):
    """The rows of a table, opened by zarr, and the fingerprints of the tables that it is, or has grown from."""

    url: str
    features: Any
    fingerprints: set[str]

    def read(self, clip: int, first: int, n_rows: int, is_good: bool) -> NDArray[np.float32]:  # noqa: FBT001
        """Read the rows of a clip."""
        try:
            rows = np.asarray(self.features[first : first + n_rows], np.float32)
        except (ValueError, TypeError, RuntimeError) as error:
            msg = f"{self.url}: the rows of clip {clip} are damaged: {error}; python -m jobs.verify says more"
            raise OSError(msg) from error
        if is_good and np.isnan(rows[:, 0]).any():  # zarr reads a shard that is missing as NaN
            msg = f"{self.url}: the rows of clip {clip} are missing; python -m jobs.verify says more"
            raise FileNotFoundError(msg)
        return rows


@lru_cache(maxsize=4)
def _open_stored(url: str, access: Access, _fingerprint: str) -> _Stored:
    """Open the rows of a finished table once."""
    import zarr

    read_finished(open_objects(url, access))
    options = nest_options(access.pairs) if is_remote(url) else None
    group = zarr.open_group(url, mode="r", storage_options=options, zarr_format=3, use_consolidated=True)
    return _Stored(url, group[FEATURES], {str(group.attrs.get("fingerprint"))})


def open_store(url: str, access: Access = DEFAULT_ACCESS) -> Objects:
    """Return the objects of a table, by the keys that all tables have in this code."""
    objects = open_objects(url, access)
    return by_keys(objects, second=has_second_keys(with_timeout(objects, SHORT_TIMEOUT).get(_GROUP)))


def read_columns(objects: Objects) -> Columns:
    """Read all of a finished table but its rows."""
    table = read_finished(objects)
    attributes, metadata = table.attributes, metadata_of_arrays(table.document)
    names = [field.name for field in fields(Columns) if field.name != "attributes"]
    try:
        there = [name for name in names if name not in _LATER or attributes.get("format", 0) >= _FORMAT_OF_LATER]
        columns = {name: read_array(objects, name, metadata) for name in there}
        n_clips = len(columns["path"])
        return Columns(attributes, **columns, **{name: np.full(n_clips, _LATER[name]) for name in {*names} - {*there}})
    except DAMAGED as error:
        raise damaged_column(objects, error) from error


def damaged_column(objects: Objects, error: Exception) -> StoreError:
    """Return what is raised where a column cannot be read."""
    return StoreError(f"{objects.root}: a column is damaged or missing: {error}; python -m jobs.verify says more")


def read_clip_columns(objects: Objects, metadata: Mapping[str, bytes], names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Read columns of the clips of a finished table, several at a time, with the metadata of its arrays.

    Text is in arrays of objects. KeyError where there is no such column; StoreError where one is damaged or missing.
    """
    wanted, there = list(names), [name for name, of in read_dimensions(metadata).items() if of[:1] == ["clip"]]
    if unknown := [name for name in wanted if name not in there]:
        msg = f"{objects.root}: no column of the clips is named {unknown[0]!r}; there are {', '.join(sorted(there))}"
        raise KeyError(msg)
    try:
        with ThreadPoolExecutor(_COLUMNS_AT_A_TIME) as pool:
            read = partial(read_array, objects, metadata=metadata)
            columns = dict(zip(wanted, pool.map(read, wanted), strict=True))
    except DAMAGED as error:
        raise damaged_column(objects, error) from error
    return {name: column if column.dtype.kind in "biuf" else column.astype(object) for name, column in columns.items()}


def read_dimensions(metadata: Mapping[str, bytes]) -> dict[str, list[str]]:
    """Read the names of the dimensions of each array."""
    return {key.partition("/")[0]: json.loads(one).get("dimension_names") or [] for key, one in metadata.items()}


def read_finished(objects: Objects) -> Existing:
    """Read what the group of a finished table says; StoreError where there is none."""
    try:
        existing = look(objects, HEAD)
    except StoreError as error:
        msg = f"{objects.root}: what is there is no {HEAD.kind}; name the --output of python -m jobs.featurize"
        raise StoreError(msg) from error
    if existing is None or not existing.finished:
        none = "there is no table of features; name the --output of python -m jobs.featurize, or run it with this one"
        unfinished = "the table is not finished; run the same python -m jobs.featurize command again"
        msg = f"{objects.root}: {f'{none} first' if existing is None else unfinished}"
        raise StoreError(msg)
    check_version(objects.root, existing.attributes)
    return existing


def check_version(root: str, attributes: Mapping[str, Any]) -> None:
    """Raise StoreError for a table of a later version: its values may not mean what this version takes them for."""
    later = [f"format {number}"] if (number := attributes.get("format", 0)) > FORMAT else []
    later += sorted(attributes.get("spec", {}).keys() - FeatureSpec().as_dict().keys())
    if later:
        what = ", ".join(later)
        msg = f"{root}: made by a later version of sound-features; this one does not know {what}: install that version"
        raise StoreError(msg)


def read_shard(objects: Objects, index: int) -> NDArray[np.float32]:
    """Read the rows of one shard."""
    data = objects.get(shard_key(index))
    if data is None:
        msg = f"{objects.root}/{shard_key(index)}: this shard is missing"
        raise FileNotFoundError(msg)
    try:
        features = read_metadata(objects)[metadata_key(FEATURES)]
        layout, n_rows = read_layout(features), json.loads(features)["shape"][0]
        return decode_shard(data, layout)[: n_rows - index * layout.shard_rows]
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        msg = f"{objects.root}/{shard_key(index)}: damaged: {error}; python -m jobs.verify says more"
        raise OSError(msg) from error


def read_layout(document: bytes) -> Layout:
    """Read from the metadata of the features how they are cut up."""
    features = json.loads(document)
    shard_rows, n_features = features["chunk_grid"]["configuration"]["chunk_shape"]
    chunk_rows, _ = features["codecs"][0]["configuration"]["chunk_shape"]
    return Layout(int(n_features), int(chunk_rows), int(shard_rows), str(features["data_type"]))


def read_metadata(objects: Objects) -> dict[str, bytes]:
    """Read the metadata of the arrays of a finished table, by key."""
    return metadata_of_arrays(json.loads(objects.get(_GROUP) or b"{}"))


def metadata_of_arrays(group: Mapping[str, Any]) -> dict[str, bytes]:
    """Return the metadata of the arrays of a finished table, by key: that which its group has.

    A run replaces the group's last of all. What each array has by itself may be that of a table that is being made.
    """
    arrays = group.get("consolidated_metadata", {}).get("metadata", {})
    return {metadata_key(name): json.dumps(array).encode() for name, array in arrays.items()}


def read_array(objects: Objects, name: str, metadata: Mapping[str, bytes]) -> NDArray[Any]:
    """Read one of the small arrays of a store, without zarr where it is stored as columns are: in a tenth of the time.

    ValueError or RuntimeError where it is damaged or a part of it is missing, which zarr would take for empty values.
    """
    array = json.loads(metadata[metadata_key(name)])
    if not is_column(array):
        return read_array_by_zarr(objects, name, metadata)
    chunks = list(_get_chunks(objects, name, array).values())
    try:
        return decode_column(chunks, chunk_shape(array), array["shape"][0], array["data_type"])
    except (ValueError, RuntimeError) as error:
        msg = f"{name}: {error}"
        raise ValueError(msg) from error


def read_array_by_zarr(objects: Objects, name: str, metadata: Mapping[str, bytes]) -> NDArray[Any]:
    """Read one of the small arrays of a store as other programs do."""
    document = metadata[metadata_key(name)]
    chunks = _get_chunks(objects, name, json.loads(document))
    return np.asarray(open_array({**chunks, metadata_key(name): document}, name)[...])


def _get_chunks(objects: Objects, name: str, array: Mapping[str, Any]) -> dict[str, bytes]:
    """Return all chunks of an array by key, in order; ValueError where one is missing."""
    keys = _chunk_keys(name, array["shape"], chunk_shape(array))
    found = objects.get_all(keys)
    if missing := [key for key in keys if key not in found]:
        msg = f"{missing[0]} is missing"
        raise ValueError(msg)
    return {key: found[key] for key in keys}


def _chunk_keys(name: str, shape: Sequence[int], chunk: Sequence[int]) -> list[str]:
    counts = (range(math.ceil(length / size)) for length, size in zip(shape, chunk, strict=True))
    return [f"{name}/c.{'.'.join(map(str, place))}" for place in product(*counts)]


def read_mel_statistics(objects: Objects, chunk: int) -> NDArray[np.float32]:
    """Read mean, standard deviation and maximum of each band of a chunk of clips, shape (n_clips, 3, n_mels).

    Raises KeyError for tables of the first versions, which have none.
    """
    metadata = read_metadata(objects)
    if metadata_key(MEL_STATISTICS[0]) not in metadata:
        raise KeyError(MEL_STATISTICS[0])
    keys = [mel_chunk_key(name, chunk) for name in MEL_STATISTICS]
    found = objects.get_all(keys)
    if missing := [key for key in keys if key not in found]:
        msg = f"{objects.root}/{missing[0]}: this is missing; python -m jobs.verify says more"
        raise FileNotFoundError(msg)
    try:
        documents = [metadata[metadata_key(name)] for name in MEL_STATISTICS]
        pairs = zip(keys, documents, strict=True)
        arrays = [_decode_mel_chunk(found[key], json.loads(document), chunk) for key, document in pairs]
        return np.stack(arrays, axis=1).astype(np.float32, copy=False)
    except (ValueError, KeyError, TypeError, AttributeError, RuntimeError) as error:
        msg = f"{objects.root}: the mel statistics are damaged: {error}; python -m jobs.verify says more"
        raise OSError(msg) from error


def _decode_mel_chunk(data: bytes, array: Mapping[str, Any], chunk: int) -> NDArray[Any]:
    n_clips = array["shape"][0] - chunk * CLIPS_A_CHUNK
    return decode_column([data], chunk_shape(array), n_clips, array["data_type"])


def open_array(documents: Mapping[str, bytes], name: str) -> Any:  # noqa: ANN401  a zarr.Array, whose slices have many types
    """Open an array of which some objects are in memory: zarr then checks all checksums of what is read of it."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    memory = zarr.storage.MemoryStore({key: buffer.from_bytes(data) for key, data in documents.items()})
    return zarr.open_array(memory, path=name, mode="r")
