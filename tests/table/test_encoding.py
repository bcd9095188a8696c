"""The bytes of a shard, as zarr reads them and as the specification says."""

import struct
import tempfile

import google_crc32c
import numpy as np
import pytest
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from numcodecs.vlen import VLenUTF8
from numcodecs.zstd import Zstd
from zarr.codecs import Crc32cCodec, ZstdCodec

from mimii.table import encoding
from mimii.table.encoding import decode_column, encode_chunk, encode_column, encode_shard
from mimii.table.plan import Layout


def some_rows(seed, count, n_features):
    return np.random.default_rng(seed).uniform(-80, 0, (count, n_features)).astype(np.float32)


def cut(rows, lengths):
    """Cut rows into blocks of the lengths given, over and over."""
    blocks, start = [], 0
    while start < len(rows):
        length = lengths[len(blocks) % len(lengths)] if lengths else len(rows)
        blocks.append(rows[start : start + length])
        start += length
    return blocks


def read_with_zarr(shard, layout):
    """Put the bytes of a shard where an array of one shard has them; read the array."""
    with tempfile.TemporaryDirectory() as folder:
        array = zarr.create_array(
            folder,
            shape=(layout.shard_rows, layout.n_features),
            chunks=(layout.chunk_rows, layout.n_features),
            shards=(layout.shard_rows, layout.n_features),
            dtype="float32",
            compressors=(ZstdCodec(level=1), Crc32cCodec()),
            fill_value=123.0,
            chunk_key_encoding={"name": "default", "separator": "."},
        )
        with open(f"{folder}/c.0.0", "wb") as file:
            file.write(shard)
        return array[:]


layouts = st.builds(
    lambda n_features, chunk_rows, n_chunks: Layout(n_features, chunk_rows, chunk_rows * n_chunks),
    st.integers(1, 9),
    st.integers(1, 20),
    st.integers(1, 6),
)
block_lengths = st.lists(st.integers(1, 50), max_size=5)


@settings(max_examples=40)
@given(layout=layouts, filled=st.floats(0, 1), lengths=block_lengths)
def test_zarr_reads_the_rows_and_nan_or_fill_after_them(layout, filled, lengths):
    count = round(filled * layout.shard_rows)
    rows = some_rows(count, count, layout.n_features)
    found = read_with_zarr(encode_shard(cut(rows, lengths), layout), layout)
    started = -(-count // layout.chunk_rows) * layout.chunk_rows
    assert np.array_equal(found[:count], rows)
    assert np.isnan(found[count:started]).all()
    assert (found[started:] == 123).all()


@given(layout=layouts, filled=st.floats(0, 1), lengths=block_lengths)
def test_the_bytes_do_not_depend_on_where_blocks_end(layout, filled, lengths):
    count = round(filled * layout.shard_rows)
    rows = some_rows(count, count, layout.n_features)
    assert encode_shard(cut(rows, lengths), layout) == encode_shard([rows], layout)


def test_blocks_may_be_empty_overlapping_views_or_broadcast():
    layout = Layout(4, 5, 15)
    frames = some_rows(1, 9, 2)
    view = np.lib.stride_tricks.as_strided(frames, (8, 4), (8, 4), writeable=False)
    missing = np.broadcast_to(np.float32(np.nan), (3, 4))
    empty = np.empty((0, 4), np.float32)
    found = read_with_zarr(encode_shard([empty, view, missing, empty], layout), layout)
    assert np.array_equal(found[:8], np.hstack([frames[:-1], frames[1:]]))
    assert np.isnan(found[8:10]).all()


def test_zarr_reads_a_shard_of_ten_second_clips():
    layout = Layout(320, 927, 9 * 927)
    rows = some_rows(2, 8000, 320)
    found = read_with_zarr(encode_shard(cut(rows, [309]), layout), layout)
    assert np.array_equal(found[:8000], rows)
    assert np.isnan(found[8000:8343]).all()


def test_an_empty_shard_is_an_index_of_missing_chunks():
    layout = Layout(3, 10, 40)
    shard = encode_shard([], layout)
    assert shard[:-4] == b"\xff" * (4 * 16)
    assert (read_with_zarr(shard, layout) == 123).all()


def test_rows_that_are_not_numbers_are_written_all_the_same():
    layout = Layout(3, 10, 20)
    missing = np.full((20, 3), np.nan, np.float32)
    found = read_with_zarr(encode_shard([missing], layout), layout)
    assert np.isnan(found).all()


def checked(data):
    """Take off the checksum at the end, after a look at it."""
    assert struct.unpack("<I", data[-4:])[0] == google_crc32c.value(data[:-4])
    return data[:-4]


@pytest.mark.parametrize(
    "values",
    [some_rows(3, 50, 7), np.arange(-3, 500, dtype=np.int32), np.float32([[1.5]]), np.arange(6, dtype=">i4")],
    ids=["float", "int", "single", "big-endian"],
)
def test_a_chunk_is_little_endian_zstandard_and_crc32c(values):
    content = Zstd().decode(checked(encode_chunk(values)))
    found = np.frombuffer(content, values.dtype.newbyteorder("<")).reshape(values.shape)
    assert np.array_equal(found, values)


def test_checksums_are_of_the_castagnoli_kind():
    def bit_by_bit(data):
        crc = 0xFFFFFFFF
        for byte in data:
            crc ^= byte
            for _ in range(8):
                crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        return crc ^ 0xFFFFFFFF

    chunk = encode_chunk(np.arange(20, dtype=np.int32))
    assert int.from_bytes(chunk[-4:], "little") == bit_by_bit(chunk[:-4])


def test_the_index_says_where_each_chunk_is():
    layout = Layout(5, 10, 40)
    rows = some_rows(4, 30, 5)
    shard = encode_shard([rows], layout)
    index = np.frombuffer(checked(shard[-(4 * 16 + 4) :]), "<u8").reshape(4, 2)
    for number in range(3):
        offset, length = map(int, index[number])
        content = Zstd().decode(checked(shard[offset : offset + length]))
        assert np.array_equal(np.frombuffer(content, "<f4").reshape(10, 5), rows[10 * number : 10 * number + 10])
    assert index[3].tolist() == [2**64 - 1] * 2
    assert int(index[:3, 1].sum()) + 4 * 16 + 4 == len(shard)


def test_stacked_rows_become_much_smaller():
    frames = some_rows(5, 1004, 64)
    rows = np.lib.stride_tricks.as_strided(frames, (1000, 320), (256, 4), writeable=False)
    assert len(encode_shard([rows], Layout(320, 1000, 1000))) < rows.nbytes / 3


@pytest.mark.parametrize("where", [0, 0.2, 0.5, 0.8, 0.99, 1])
def test_zarr_notices_a_flipped_bit(where):
    layout = Layout(8, 50, 150)
    rows = some_rows(6, 150, 8)
    shard = bytearray(encode_shard([rows], layout))
    assert np.array_equal(read_with_zarr(bytes(shard), layout), rows)
    shard[int(where * (len(shard) - 1))] ^= 0x10
    with pytest.raises((ValueError, RuntimeError)):
        read_with_zarr(bytes(shard), layout)


COLUMNS = {
    "string": np.array(["", "fan", "Müller", "漢字 \U0001f600", "", "a" * 300, "b"], np.dtypes.StringDType()),
    **{name: np.array([0, 1, -1, 100, -100, 7, 3], name) for name in ("int8", "int16", "int32", "int64")},
    **{name: np.array([0, 0.1, -np.inf, np.nan, 5, 6, 1e9], name) for name in ("float32", "float64")},
}


@pytest.mark.parametrize("length", [1, 3, 7, 50])
@pytest.mark.parametrize("name", COLUMNS)
def test_chunks_of_columns_are_the_bytes_that_zarr_writes(name, length):
    values, written = COLUMNS[name], {}
    array = zarr.create_array(
        zarr.storage.MemoryStore(written),
        config={"write_empty_chunks": True},
        shape=values.shape,
        chunks=(length,),
        dtype=str if name == "string" else name,
        compressors=(ZstdCodec(level=1), Crc32cCodec()),
        fill_value=np.nan if values.dtype.kind == "f" else None,
        chunk_key_encoding={"name": "default", "separator": "."},
    )
    array[:] = values
    chunks = {f"c.{number}": chunk for number, chunk in enumerate(encode_column(values, length))}
    assert chunks == {key: data.to_bytes() for key, data in written.items() if key.startswith("c.")}


@pytest.mark.parametrize("length", [1, 4, 7, 100])
@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_is_decoded_to_its_values(name, length):
    values = COLUMNS[name]
    decoded = decode_column(list(encode_column(values, length)), (length,), len(values), name)
    assert decoded.dtype == values.dtype
    np.testing.assert_array_equal(decoded, values)


@pytest.mark.parametrize("name", COLUMNS)
def test_a_column_that_is_damaged_is_not_decoded(name):
    values = COLUMNS[name]
    [chunk] = encode_column(values, len(values))
    for place in range(len(chunk)):
        flipped = chunk[:place] + bytes([chunk[place] ^ 4]) + chunk[place + 1 :]
        with pytest.raises(ValueError, match="its checksum is not that of its bytes"):
            decode_column([flipped], values.shape, len(values), name)
        with pytest.raises(ValueError, match=r"its checksum is not that of its bytes|it has \d bytes"):
            decode_column([chunk[:place]], values.shape, len(values), name)
    with pytest.raises(ValueError, match=f"a chunk has {len(values)} values, not {len(values) + 1}"):
        decode_column([chunk], (len(values) + 1,), len(values), name)


@pytest.mark.parametrize("n_wanted", [0, 1, 3, 4, 6])
def test_a_column_is_cut_to_what_is_wanted(n_wanted):
    rows = np.arange(12.0).reshape(6, 2)
    chunks = [encode_chunk(rows[:3]), encode_chunk(rows[3:])]
    decoded = decode_column(chunks, (3, 2), n_wanted, "float64")
    np.testing.assert_array_equal(decoded, rows[:n_wanted], strict=True)
    strings = COLUMNS["string"][:6]
    decoded = decode_column(list(encode_column(strings, 3)), (3,), n_wanted, "string")
    np.testing.assert_array_equal(decoded, strings[:n_wanted], strict=True)


def test_strings_that_only_fill_a_chunk_are_not_decoded(monkeypatch):
    n_decoded = []

    class Counted(VLenUTF8):
        def decode(self, data):
            strings = super().decode(data)
            n_decoded.append(len(strings))
            return strings

    monkeypatch.setattr(encoding, "_STRINGS", Counted())
    strings = COLUMNS["string"]
    decoded = decode_column(list(encode_column(strings, 1000)), (1000,), len(strings), "string")
    np.testing.assert_array_equal(decoded, strings, strict=True)
    assert n_decoded == [len(strings)]


TWO = b"\2\0\0\0" + b"\3\0\0\0fan"
"""A chunk of two strings, of which the first one is there."""


@pytest.mark.parametrize("second", [b"\0\0\0\0", b"\4\0\0\0pump", b"\4\0\0\0\0\0\0\0"])
def test_strings_that_are_not_wanted_may_be_there(second):
    chunk = encode_chunk(np.frombuffer(TWO + second, np.uint8))
    assert decode_column([chunk], (2,), 1, "string").tolist() == ["fan"]


@pytest.mark.parametrize("second", [b"", b"\0\0", b"\xff\0\0\0too short", b"\2\0\0\0\xff\xff"])
def test_strings_that_are_not_wanted_must_be_right_all_the_same(second):
    chunk = encode_chunk(np.frombuffer(TWO + second, np.uint8))
    with pytest.raises(ValueError, match=r"truncated|codec"):
        decode_column([chunk], (2,), 1, "string")


def test_a_column_without_values_has_no_chunk():
    assert list(encode_column(np.array([], np.dtypes.StringDType()), 5)) == []
    assert decode_column([], (5,), 0, "string").dtype == np.dtypes.StringDType()
    assert decode_column([], (5,), 0, "int8").dtype == np.int8
