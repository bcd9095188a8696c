"""The metadata of groups and arrays: that which zarr writes, byte for byte."""

import json
import math
import warnings

import pytest
import zarr

from mimii.table.columns import ARRAY_ATTRIBUTES
from mimii.table.encoding import ZSTD_LEVEL
from mimii.table.metadata import Array, array_metadata, group_metadata, to_document

ARRAYS = [
    Array("features", (618, 320), (103, 320), "float32", math.nan, ("row", "feature"), (309, 320)),
    Array("features", (0, 7), (1, 7), "float16", math.nan, ("row", "feature"), (5, 7)),
    Array("row_clip", (618,), (309,), "int32", -1, ("row",)),
    Array("mel_mean", (9, 64), (4, 64), "float32", math.nan, ("clip", "mel")),
    Array("path", (9,), (4,), "string", None, ("clip",)),
    Array("label", (9,), (4,), "int8", None, ("clip",)),
    Array("first_row", (0,), (4,), "int64", None, ("clip",)),
    Array("start_s", (9,), (4,), "float64", math.nan, ("clip",)),
    Array("motor-speed ø", (9,), (4,), "float64", math.nan, ("clip",)),
]


def by_zarr(array):
    """Return the document that zarr writes for an array."""
    written = {}
    compressed = ({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"})
    with warnings.catch_warnings():  # strings are not in the core of the specification yet
        warnings.simplefilter("ignore")
        zarr.create_array(
            zarr.storage.MemoryStore(written),
            shape=array.shape,
            chunks=array.chunks,
            shards=array.shards,
            dtype="str" if array.dtype == "string" else array.dtype,
            compressors=compressed,
            fill_value=array.fill_value,
            dimension_names=array.dimensions,
            chunk_key_encoding={"name": "default", "separator": "."},
            attributes=dict(ARRAY_ATTRIBUTES.get(array.name, {})),
        )
    return written["zarr.json"].to_bytes()


@pytest.mark.parametrize("array", ARRAYS, ids=lambda array: f"{array.name} {array.dtype}")
def test_the_metadata_of_an_array_is_that_of_zarr(array):
    assert to_document(array_metadata(array)) == by_zarr(array)


def test_the_metadata_of_a_group_is_that_of_zarr():
    attributes = {"title": "Straße", "spec": '{"hop": 5}', "format": 3, "share": 0.1}
    written = {}
    group = zarr.create_group(zarr.storage.MemoryStore(written), attributes=attributes)
    assert to_document(group_metadata(attributes, {})) == written["zarr.json"].to_bytes()
    of_arrays = {array.name: array_metadata(array) for array in ARRAYS[2:]}
    for name, metadata in of_arrays.items():
        written[f"{name}/zarr.json"] = zarr.core.buffer.default_buffer_prototype().buffer.from_bytes(
            to_document(metadata)
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        zarr.consolidate_metadata(group.store)
    ours, theirs = (
        json.loads(to_document(group_metadata(attributes, of_arrays))),
        json.loads(written["zarr.json"].to_bytes()),
    )
    assert ours == theirs
    assert list(ours) == list(theirs)
