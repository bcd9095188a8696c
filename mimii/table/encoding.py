"""Rows to the bytes of one shard, as the Zarr v3 specification lays them out.

A shard of `features` is its inner chunks, each little-endian float32 or float16, Zstandard level 1 and a CRC-32C,
followed by an index of their offsets and lengths with a CRC-32C of its own. Written here and not by zarr: chunk after
chunk goes through one buffer of a megabyte, no worker imports zarr, and nothing but whole shards can be written.

References
----------
Zarr v3 ``sharding_indexed`` codec, version 1.0; ``zstd``, ``crc32c`` and ``bytes`` codecs.

"""

from collections.abc import Iterable, Iterator

import google_crc32c
import numpy as np
from numcodecs.zstd import Zstd
from numpy.typing import NDArray

from mimii.table.plan import Layout

ZSTD_LEVEL = 1
_ZSTD = Zstd(level=ZSTD_LEVEL)
_EMPTY = 2**64 - 1
_CHECKSUM_BYTES = 4


def encode_chunk(values: NDArray[np.floating] | NDArray[np.int32]) -> bytes:
    """Encode one chunk: little-endian bytes, Zstandard, CRC-32C.

    Parameters
    ----------
    values : ndarray of float32, float16 or int32
        C-contiguous, a whole chunk.

    Returns
    -------
    bytes
        As the codecs ``bytes``, ``zstd`` and ``crc32c`` produce them.

    """
    return _with_checksum(_ZSTD.encode(values.astype(values.dtype.newbyteorder("<"), copy=False)))


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
    values = np.frombuffer(_ZSTD.decode(_without_checksum(data)), np.dtype(dtype).newbyteorder("<"))
    return values.reshape(shape).astype(np.float32, copy=False)


def decode_shard(data: bytes, layout: Layout) -> NDArray[np.float32]:
    """Decode all rows of one shard; rows that it lacks are NaN.

    Raises
    ------
    ValueError
        If a checksum or a length is wrong.

    """
    n_chunks = layout.shard_rows // layout.chunk_rows
    index = np.frombuffer(_without_checksum(data[-(16 * n_chunks + _CHECKSUM_BYTES) :]), "<u8").reshape(n_chunks, 2)
    rows = np.full((n_chunks, layout.chunk_rows, layout.n_features), np.nan, np.float32)
    for chunk, (offset, length) in enumerate(index.tolist()):
        if length != _EMPTY:
            rows[chunk] = decode_chunk(data[offset : offset + length], rows.shape[1:], layout.dtype)
    return rows.reshape(layout.shard_rows, layout.n_features)


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
    if _with_checksum(content) != data:
        msg = "its checksum is not that of its bytes"
        raise ValueError(msg)
    return content
