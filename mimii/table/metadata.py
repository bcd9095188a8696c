"""The metadata of a table's group and of its arrays: the JSON documents that zarr writes, byte for byte.

Written here, as shards and chunks are: to import zarr takes a command a quarter of a second.

References
----------
Zarr v3 core specification, version 3.1, "Metadata"; ``sharding_indexed``, ``bytes``, ``zstd``, ``crc32c`` codecs; the
``string`` data type with ``vlen-utf8`` of zarr-extensions; consolidated metadata as zarr-python writes it.

"""

import json
import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np

from mimii.table.columns import ARRAY_ATTRIBUTES
from mimii.table.encoding import ZSTD_LEVEL

STRING = "string"
_COMPRESSED = [{"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"}]
_CHUNK_KEYS = {"name": "default", "configuration": {"separator": "."}}


class Array(NamedTuple):
    """What the metadata of an array says; without a fill value, it is zero or an empty string."""

    name: str
    shape: tuple[int, ...]
    chunks: tuple[int, ...]
    dtype: str
    fill_value: float | None
    dimensions: tuple[str, ...]
    shards: tuple[int, ...] | None = None


def array_metadata(array: Array) -> dict[str, Any]:
    """Return the metadata of an array."""
    return {
        "shape": list(array.shape),
        "data_type": array.dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": list(array.shards or array.chunks)}},
        "chunk_key_encoding": _CHUNK_KEYS,
        "fill_value": _fill_value(array),
        "codecs": _codecs(array),
        "attributes": dict(ARRAY_ATTRIBUTES.get(array.name, {})),
        "dimension_names": list(array.dimensions),
        "zarr_format": 3,
        "node_type": "array",
        "storage_transformers": [],
    }


def group_metadata(attributes: Mapping[str, Any], arrays: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return the metadata of the group; where arrays are given, it is consolidated with theirs."""
    group: dict[str, Any] = {"attributes": dict(attributes), "zarr_format": 3}
    if arrays:
        consolidated = {"kind": "inline", "must_understand": False, "metadata": dict(sorted(arrays.items()))}
        group["consolidated_metadata"] = consolidated
    return {**group, "node_type": "group"}


def is_column(metadata: Mapping[str, Any]) -> bool:
    """Say whether an array is stored as columns are: chunks of successive clips, each by itself, with these codecs."""
    try:
        is_plain = bool(metadata["codecs"] == _codecs_of_chunks(metadata["data_type"]))
        return is_plain and chunk_shape(metadata)[1:] == tuple(metadata["shape"][1:])
    except (KeyError, TypeError):
        return False


def chunk_shape(metadata: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shape of the chunks of an array."""
    return tuple(metadata["chunk_grid"]["configuration"]["chunk_shape"])


def to_document(metadata: Mapping[str, Any]) -> bytes:
    """Return metadata as it is stored."""
    return json.dumps(metadata, indent=2).encode()


def _fill_value(array: Array) -> float | str:
    if array.dtype == STRING:
        return ""
    value = array.fill_value or 0
    return "NaN" if math.isnan(value) else value


def _codecs(array: Array) -> list[Any]:
    inner = _codecs_of_chunks(array.dtype)
    if not array.shards:
        return inner
    sharding = {
        "chunk_shape": list(array.chunks),
        "codecs": inner,
        "index_codecs": [_to_bytes("uint64"), {"name": "crc32c"}],
        "index_location": "end",
    }
    return [{"name": "sharding_indexed", "configuration": sharding}]


def _codecs_of_chunks(dtype: str) -> list[Any]:
    return [_to_bytes(dtype), *_COMPRESSED]


def _to_bytes(dtype: str) -> dict[str, Any]:
    if dtype == STRING:
        return {"name": "vlen-utf8", "configuration": {}}
    return {"name": "bytes"} | ({"configuration": {"endian": "little"}} if np.dtype(dtype).itemsize > 1 else {})
