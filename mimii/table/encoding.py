"""Rows to the bytes of one shard, and columns to those of chunks, as the Zarr v3 specification lays them out.

A shard of `features` is its inner chunks, each little-endian float32 or float16, Zstandard level 1 and a CRC-32C,
followed by an index of their offsets and lengths with a CRC-32C of its own. Written here and not by zarr: chunk after
chunk goes through one buffer of a megabyte, no worker imports zarr, and nothing but whole shards can be written.

References
----------
Zarr v3 ``sharding_indexed`` codec, version 1.0; ``zstd``, ``crc32c`` and ``bytes`` codecs.

"""

import math
import sys
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import google_crc32c
import numpy as np
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from mimii.table.plan import Layout

ZSTD_LEVEL = 1
_ZSTD = Zstd(level=ZSTD_LEVEL)
_STRINGS = VLenUTF8()
_EMPTY = 2**64 - 1
_CHECKSUM_BYTES = _LENGTH_BYTES = 4
_NOT_WRITTEN = 0xFFABCDEF
"""A NaN that no computation yields."""


def encode_chunk(values: NDArray[np.floating] | NDArray[np.integer]) -> bytes:
    """Encode one chunk: little-endian bytes, Zstandard, CRC-32C.

    Parameters
    ----------
    values : ndarray of floats or integers
        C-contiguous, a whole chunk.

    Returns
    -------
    bytes
        As the codecs ``bytes``, ``zstd`` and ``crc32c`` produce them.

    """
    return _with_checksum(_ZSTD.encode(values.astype(values.dtype.newbyteorder("<"), copy=False)))


def encode_column(values: NDArray[Any], length: int) -> Iterator[bytes]:
    """Encode a column of numbers or strings in chunks of one length, the last filled with NaN, 0 or empty strings.

    Parameters
    ----------
    values : ndarray of floats, integers or StringDType
        Of one dimension.
    length : int
        Values a chunk.

    Yields
    ------
    bytes
        As the codecs ``bytes`` or ``vlen-utf8``, ``zstd`` and ``crc32c`` produce them.

    """
    encode = _encode_strings if values.dtype.kind == "T" else _encode_numbers
    for first in range(0, len(values), length):
        yield encode(values[first : first + length], length)


def _encode_numbers(values: NDArray[Any], length: int) -> bytes:
    chunk = np.full(length, np.nan if values.dtype.kind == "f" else 0, values.dtype)
    chunk[: len(values)] = values
    return encode_chunk(chunk)


def _encode_strings(values: NDArray[Any], length: int) -> bytes:
    """Encode as ``vlen-utf8``: how many strings, and of each its bytes' number and its bytes; empty ones have none."""
    strings = bytes(_STRINGS.encode(values.astype(object)))[_LENGTH_BYTES:]
    content = length.to_bytes(_LENGTH_BYTES, "little") + strings + bytes(_LENGTH_BYTES * (length - len(values)))
    return _with_checksum(_ZSTD.encode(content))


def decode_column(chunks: Sequence[bytes], shape: tuple[int, ...], length: int, dtype: str) -> NDArray[Any]:
    """Decode successive chunks of a column of numbers or strings, or of one of several dimensions.

    Parameters
    ----------
    chunks : sequence of bytes
        In order; each has the column's whole other dimensions.
    shape : tuple of int
        Of a chunk.
    length : int
        How much is wanted of the first dimension; what is in the chunks beyond it only fills the last one.
    dtype : str
        Of numbers, or ``"string"``.

    Returns
    -------
    ndarray of shape (length, *shape[1:])
        Strings as StringDType.

    Raises
    ------
    ValueError, RuntimeError
        If a checksum or a length is wrong, or Zstandard cannot decode a chunk.

    """
    decode_first = _first_strings if dtype == "string" else partial(_first_numbers, dtype=dtype)
    width = math.prod(shape[1:])
    parts = [np.empty(0, np.dtypes.StringDType() if dtype == "string" else dtype)]
    for number, chunk in enumerate(chunks):
        wanted = min(max(0, length - number * shape[0]), shape[0])
        parts.append(decode_first(_ZSTD.decode(_without_checksum(chunk)), shape[0] * width, wanted * width))
    return np.concatenate(parts).reshape(-1, *shape[1:])


def _decode_numbers(data: bytes, dtype: str) -> NDArray[Any]:
    return np.frombuffer(data, np.dtype(dtype).newbyteorder("<"))


def _first_numbers(data: bytes, n_values: int, n_wanted: int, dtype: str) -> NDArray[Any]:
    values = _decode_numbers(data, dtype)
    _check_count(len(values), n_values)
    return values[:n_wanted]


def _first_strings(data: bytes, n_values: int, n_wanted: int) -> NDArray[Any]:
    """Decode the first strings of a chunk, without the empty ones that fill it: they would take most of the time."""
    _check_count(int.from_bytes(data[:_LENGTH_BYTES], "little"), n_values)
    fill = bytes(_LENGTH_BYTES * (n_values - n_wanted))
    if data.endswith(fill):
        data = n_wanted.to_bytes(_LENGTH_BYTES, "little") + data[_LENGTH_BYTES : len(data) - len(fill)]
    return np.array(_STRINGS.decode(data)[:n_wanted], np.dtypes.StringDType())


def _check_count(found: int, n_values: int) -> None:
    if found != n_values:
        msg = f"a chunk has {found:,} values, not {n_values:,}"
        raise ValueError(msg)


def encode_shard(blocks: Iterable[NDArray[np.float32]], layout: Layout) -> bytes:
    """Encode one shard of rows.

    Parameters
    ----------
    blocks : iterable of ndarray of float32, shape (any, layout.n_features)
        The shard's rows, in order; at most ``layout.shard_rows`` in all. Rows that are missing at the end are NaN.
    layout : Layout
        Rows of a chunk and of a shard, and the type of the values, to which they are rounded.

    Returns
    -------
    bytes
        A whole shard, index included.

    """
    chunks = [encode_chunk(chunk) for chunk in _chunks(blocks, layout)]
    index = np.full((layout.shard_rows // layout.chunk_rows, 2), _EMPTY, "<u8")
    lengths = np.array([len(chunk) for chunk in chunks], "<u8")
    index[: len(chunks), 0] = np.cumsum(lengths) - lengths
    index[: len(chunks), 1] = lengths
    return b"".join([*chunks, _with_checksum(index.tobytes())])


def decode_chunk(data: bytes, shape: tuple[int, ...], dtype: str = "float32") -> NDArray[np.float32]:
    """Decode one chunk of floats to float32; ValueError where its checksum or its length is wrong."""
    values = _decode_numbers(_ZSTD.decode(_without_checksum(data)), dtype)
    return values.reshape(shape).astype(np.float32, copy=False)


def decode_shard(data: bytes, layout: Layout) -> NDArray[np.float32]:
    """Decode all rows of one shard; rows that it lacks are NaN.

    Raises
    ------
    ValueError
        If a checksum or a length is wrong.

    """
    rows = np.empty((layout.shard_rows // layout.chunk_rows, layout.chunk_rows, layout.n_features), np.float32)
    for chunk, place in zip(rows, read_index(data, layout), strict=True):
        decode_chunk_of(data, place, chunk, layout.dtype)
    return rows.reshape(layout.shard_rows, layout.n_features)


def read_index(data: bytes, layout: Layout) -> list[tuple[int, int]]:
    """Return offset and length of each chunk of a shard; ValueError where the checksum is wrong."""
    n_chunks = layout.shard_rows // layout.chunk_rows
    index = _without_checksum(data[-(16 * n_chunks + _CHECKSUM_BYTES) :])
    return [(offset, length) for offset, length in np.frombuffer(index, "<u8").reshape(n_chunks, 2).tolist()]


def decode_chunk_of(data: bytes, place: tuple[int, int], out: NDArray[np.float32], dtype: str = "float32") -> None:
    """Decode one chunk of a shard into an array, without a copy where it has its type; NaN where there is none.

    Parameters
    ----------
    data : bytes
        The shard.
    place : tuple of int
        Offset and length, of `read_index`.
    out : ndarray of float32, C-contiguous
        A whole chunk.
    dtype : str
        Of the values that are stored.

    Raises
    ------
    ValueError
        If a checksum or a length is wrong.

    """
    offset, length = place
    if length == _EMPTY:
        out.fill(np.nan)
        return
    chunk = data[offset : offset + length]
    if dtype != "float32" or sys.byteorder != "little":
        np.copyto(out, decode_chunk(chunk, out.shape, dtype))
        return
    last = out.reshape(-1)[-1:].view(np.uint32)
    last[0] = _NOT_WRITTEN
    _ZSTD.decode(_without_checksum(chunk), out=out)
    if last[0] == _NOT_WRITTEN:
        msg = f"a chunk has fewer than {out.size:,} values"
        raise ValueError(msg)


def _chunks(blocks: Iterable[NDArray[np.float32]], layout: Layout) -> Iterator[NDArray[np.floating]]:
    """Regroup rows into whole chunks, all in the same buffer."""
    chunk = np.empty((layout.chunk_rows, layout.n_features), layout.dtype)
    filled = 0
    for block in blocks:
        done = 0
        while done < len(block):
            taken = block[done : done + layout.chunk_rows - filled]
            chunk[filled : filled + len(taken)] = taken
            filled, done = filled + len(taken), done + len(taken)
            if filled == layout.chunk_rows:
                yield chunk
                filled = 0
    if filled:
        chunk[filled:] = np.nan
        yield chunk


def _with_checksum(data: bytes) -> bytes:
    checksum: int = google_crc32c.value(data)
    return data + checksum.to_bytes(_CHECKSUM_BYTES, "little")


def _without_checksum(data: bytes) -> bytes:
    content = data[:-_CHECKSUM_BYTES]
    if len(data) <= _CHECKSUM_BYTES:
        msg = f"it has {len(data)} bytes"
        raise ValueError(msg)
    if google_crc32c.value(content) != int.from_bytes(data[-_CHECKSUM_BYTES:], "little"):
        msg = "its checksum is not that of its bytes"
        raise ValueError(msg)
    return content
