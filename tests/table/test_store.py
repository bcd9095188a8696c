"""The store: what others can read from it, whether it is right, and what it refuses."""

import json
import warnings
from functools import partialmethod
from pathlib import Path

import dask.array
import numpy as np
import pytest
import tensorstore
import xarray
import zarr

from mimii.features.spec import FeatureSpec
from mimii.recordings.splits import no_split
from mimii.storage import disk
from mimii.storage.disk import DiskObjects
from mimii.table import store
from mimii.table.store import StoreError, UnfinishedError
from tests.helpers.commands import MIB, assert_same_bytes, build, contents, fill, librosa_rows, open_table, plan_table
from tests.helpers.recordings import write_clip, write_machines

LENGTHS = (160_000, 16_000, 100_001, 2_048, 54_321, 1_000_000, 2_047, 160_000, 77_777, 300_123, 31_000, 240_000)
SCHEMA = {
    "features": (("row", "feature"), "float32"),
    "row_clip": (("row",), "int32"),
    "path": (("clip",), None),
    "machine_type": (("clip",), None),
    "machine_id": (("clip",), None),
    "number": (("clip",), "int32"),
    "snr_db": (("clip",), "float32"),
    "label": (("clip",), "int8"),
    "split": (("clip",), None),
    "first_row": (("clip",), "int64"),
    "n_rows": (("clip",), "int32"),
    "status": (("clip",), None),
    "feature_mean": (("feature",), "float64"),
    "feature_std": (("feature",), "float64"),
}
INTEGERS = [name for name, (_, dtype) in SCHEMA.items() if dtype and dtype.startswith("int")]
FLOATS = [name for name, (_, dtype) in SCHEMA.items() if dtype and dtype.startswith("float")]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    """Clips of odd lengths, so that they straddle shards, one of them three; one is too short for a row."""
    root = tmp_path_factory.mktemp("odd") / "raw"
    for index, n_samples in enumerate(LENGTHS):
        label = "abnormal" if index in (2, 8) else "normal"
        path = root / f"-6_dB_valve/valve/id_0{index % 2 * 4}/{label}/{index:08d}.wav"
        write_clip(path, index, n_samples, n_channels=1 + index % 2)
    return root


@pytest.fixture(scope="module")
def planned(source):
    return plan_table(source)


@pytest.fixture(scope="module")
def output(planned, tmp_path_factory):
    return build(planned, tmp_path_factory.mktemp("store") / "features.zarr")


@pytest.fixture(scope="module")
def table(output):
    return open_table(output)


def metadata(output, name):
    return json.loads((output / name / "zarr.json").read_text())


def test_the_fixture_has_several_shards_and_clips_that_straddle_them(planned):
    holders = [[piece.clip for piece in planned.plan.shard(index).pieces] for index in range(planned.plan.n_shards)]
    assert len(holders) >= 4
    assert max(sum(clip in held for held in holders) for clip in range(len(LENGTHS))) >= 3


def test_xarray_opens_and_reads_it_without_a_warning(output):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        opened = xarray.open_zarr(output)
        opened.load()
    assert {name: variable.dims for name, variable in opened.variables.items()} == {
        name: dims for name, (dims, _) in SCHEMA.items()
    }
    for name, (_, dtype) in SCHEMA.items():
        if dtype:
            assert opened[name].dtype == dtype, name
        else:
            assert all(isinstance(value, str) for value in opened[name].values.tolist()), name


def test_consolidated_metadata_names_every_array(output):
    group = json.loads((output / "zarr.json").read_text())
    assert set(group["consolidated_metadata"]["metadata"]) == set(SCHEMA)
    assert group["zarr_format"] == 3


@pytest.mark.parametrize("name", SCHEMA)
def test_every_array_names_its_dimensions(output, name):
    assert tuple(metadata(output, name)["dimension_names"]) == SCHEMA[name][0]


def test_only_floats_are_filled_with_nan(output):
    fills = {name: metadata(output, name)["fill_value"] for name in SCHEMA}
    assert {name for name, value in fills.items() if value == "NaN"} == set(FLOATS)


@pytest.mark.parametrize("name", INTEGERS)
def test_integers_carry_no_fill_value_for_xarray(output, table, name):
    assert "_FillValue" not in metadata(output, name)["attributes"]
    assert "_FillValue" not in table[name].attrs
    assert "_FillValue" not in table[name].encoding


def test_features_are_sharded_into_chunks_of_a_mebibyte_or_more(output, planned):
    array = zarr.open_array(output / "features", mode="r")
    assert array.shards == (planned.plan.layout.shard_rows, 320)
    assert array.chunks[0] * array.chunks[1] * 4 >= MIB
    codecs = json.dumps(metadata(output, "features")["codecs"])
    assert "zstd" in codecs
    assert "crc32c" in codecs


def test_attributes_say_what_was_computed_with_what_and_under_which_licence(table, planned):
    assert table.attrs["spec"] == FeatureSpec().as_dict()
    assert table.attrs["fingerprint"] == planned.fingerprint
    assert table.attrs["sources"] == ["recordings"]
    assert table.attrs["software"]["numpy"] == np.__version__
    assert "CC BY-SA 4.0" in table.attrs["license"]
    assert "Purohit" in table.attrs["attribution"]


def test_attributes_hold_no_credentials_of_a_source(planned, tmp_path):
    store.begin(
        DiskObjects(str(tmp_path / "out")), planned, ["https://someone:s3cret@example.org/mimii?signature=s3cret2"]
    )
    assert [name for name, data in contents(tmp_path / "out").items() if b"s3cret" in data] == []
    assert "example.org/mimii" in (tmp_path / "out/zarr.json").read_text()


def test_dask_reads_the_same(output, table):
    lazy = dask.array.from_zarr(str(output), component="features")
    assert lazy.shape == table.features.shape
    np.testing.assert_array_equal(lazy.compute(scheduler="sync"), table.features.values)


@pytest.mark.parametrize("name", ["features", *INTEGERS])
def test_tensorstore_reads_the_same(output, table, name):
    where = {"driver": "zarr3", "kvstore": {"driver": "file", "path": f"{output / name}/"}}
    array = tensorstore.open(where, open=True).result()
    values = array.read().result()
    assert values.dtype == table[name].dtype
    np.testing.assert_array_equal(values, table[name].values)


@pytest.mark.parametrize("clip", [index for index, n in enumerate(LENGTHS) if n != 2_047])
def test_the_rows_of_a_clip_are_those_of_librosa(table, clip):
    [at] = np.flatnonzero(table.number.values == clip)
    first, count = int(table.first_row[at]), int(table.n_rows[at])
    expected = librosa_rows(table.path.values[at])
    assert count == len(expected) == 1 + LENGTHS[clip] // 512 - 4
    np.testing.assert_allclose(table.features.values[first : first + count], expected, atol=1e-3, rtol=0)
    assert set(table.row_clip.values[first : first + count]) == {at}


def test_rows_follow_each_other_clip_by_clip_in_the_order_of_paths(table):
    first, count = table.first_row.values, table.n_rows.values
    np.testing.assert_array_equal(first, np.cumsum(count) - count)
    assert table.sizes["row"] == count.sum()
    np.testing.assert_array_equal(table.row_clip.values, np.repeat(np.arange(len(LENGTHS)), count))
    assert list(table.path.values) == sorted(table.path.values)


def test_columns_say_what_each_clip_is(table, source):
    for index, path in enumerate(table.path.values):
        number = int(table.number[index])
        assert Path(path).is_relative_to(source)
        assert Path(path).stem == f"{number:08d}"
        assert table.machine_type.values[index] == "valve"
        assert table.machine_id.values[index] == f"id_0{number % 2 * 4}"
        assert int(table.label[index]) == (number in (2, 8))
        assert float(table.snr_db[index]) == -6


def test_status_is_ok_but_for_the_clip_that_is_too_short(table):
    status = dict(zip(table.number.values.tolist(), table.status.values.tolist(), strict=True))
    assert "too short for one row: 2047 samples" in status.pop(6)
    assert set(status.values()) == {"ok"}


def test_statistics_are_those_of_the_training_rows(table):
    training = table.features.values[(table.split.values == "train")[table.row_clip.values]].astype(np.float64)
    assert 0 < len(training) < table.sizes["row"]
    np.testing.assert_allclose(table.feature_mean.values, training.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(table.feature_std.values, training.std(axis=0), rtol=1e-7)


def test_statistics_are_those_of_all_rows_where_none_is_for_training(source, tmp_path):
    table = open_table(build(plan_table(source, split=no_split), tmp_path / "out"))
    rows = table.features.values.astype(np.float64)
    assert set(table.split.values) == {""}
    np.testing.assert_allclose(table.feature_mean.values, rows.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(table.feature_std.values, rows.std(axis=0), rtol=1e-7)


def test_consolidated_metadata_comes_only_at_the_end(planned, output, tmp_path):
    fill(planned, tmp_path / "out")
    assert not json.loads((tmp_path / "out/zarr.json").read_text()).get("consolidated_metadata")
    assert not store.look(DiskObjects(str(tmp_path / "out"))).finished
    store.finish(DiskObjects(str(tmp_path / "out")), planned, ["recordings"])
    assert store.look(DiskObjects(str(tmp_path / "out"))).finished
    assert_same_bytes(tmp_path / "out", output)


def test_shards_may_be_computed_in_any_order_and_twice(planned, output, tmp_path):
    backwards = list(reversed(range(planned.plan.n_shards)))
    fill(planned, tmp_path / "out", [*backwards, 1, 0])
    store.finish(DiskObjects(str(tmp_path / "out")), planned, ["recordings"])
    assert_same_bytes(tmp_path / "out", output)


@pytest.mark.parametrize("missing", [0, 2])
def test_finish_refuses_and_names_the_shard_that_is_missing(planned, tmp_path, missing):
    fill(planned, tmp_path / "out", set(range(planned.plan.n_shards)) - {missing})
    with pytest.raises(
        UnfinishedError, match=rf"1 of {planned.plan.n_shards} shards are not done, the first is {missing}$"
    ):
        store.finish(DiskObjects(str(tmp_path / "out")), planned, ["recordings"])
    assert not store.look(DiskObjects(str(tmp_path / "out"))).finished


def test_nothing_an_empty_folder_and_a_dead_writers_leftovers_are_free_to_use(tmp_path):
    assert store.look(DiskObjects(str(tmp_path / "none"))) is None
    assert store.look(DiskObjects(str(tmp_path))) is None
    (tmp_path / disk.PARTIAL).mkdir()
    (tmp_path / disk.PARTIAL / "a").write_bytes(b"half")
    assert store.look(DiskObjects(str(tmp_path))) is None


def test_a_zarr_array_of_somebody_elses_is_refused(tmp_path):
    zarr.create_array(tmp_path / "theirs", shape=(3,), dtype="f4")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="left alone"):
        store.look(DiskObjects(str(tmp_path / "theirs")))
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "torn", [b"", b"{", b'{"attributes": {"fingerp', b"[]", b"7", b"null", b'{"attributes": null}', b"\xff"]
)
def test_a_torn_group_document_is_refused(tmp_path, torn):
    (tmp_path / "zarr.json").write_bytes(torn)
    with pytest.raises(StoreError, match="left alone"):
        store.look(DiskObjects(str(tmp_path)))
    assert (tmp_path / "zarr.json").read_bytes() == torn


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="left alone"):
        store.look(DiskObjects(str(tmp_path)))


@pytest.mark.parametrize("output", ["file", "file/features.zarr"])
def test_a_file_in_the_way_is_refused(tmp_path, output):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="left alone"):
        store.look(DiskObjects(str(tmp_path / output)))
    assert (tmp_path / "file").read_text() == "mine"


def test_the_same_table_has_no_differences(planned, output, source):
    existing = store.look(DiskObjects(str(output)))
    assert store.differences(existing, planned, DiskObjects(str(output))) == []
    assert store.differences(existing, plan_table(source), DiskObjects(str(output))) == []


def test_another_spec_differs_in_what_was_changed(output, source):
    other = plan_table(source, FeatureSpec(n_fft=1024, power=1.0))
    found = store.differences(store.look(DiskObjects(str(output))), other, DiskObjects(str(output)))
    assert found == ["n_fft: 2048 there, 1024 now", "power: 2.0 there, 1.0 now"]


def test_another_shard_length_differs_in_the_layout(output, source):
    found = store.differences(store.look(DiskObjects(str(output))), plan_table(source, mib=3), DiskObjects(str(output)))
    assert len(found) == 1
    assert found[0].startswith("layout: ")


def test_clips_that_came_and_went_are_named(tmp_path):
    paths = write_machines(tmp_path / "raw", 6)
    output = str(build(plan_table(tmp_path / "raw"), tmp_path / "out"))
    paths[1].unlink()
    write_clip(paths[0].with_name("77777777.wav"), 77)
    write_clip(paths[0].with_name("88888888.wav"), 88)
    [found] = store.differences(store.look(DiskObjects(output)), plan_table(tmp_path / "raw"), DiskObjects(output))
    assert f"1 gone, first {paths[1]}" in found
    assert "2 new, first " in found
    assert "77777777.wav" in found
    assert "6 there, 7 now" in found


def test_another_length_or_split_of_the_same_paths_is_a_difference(tmp_path):
    paths = write_machines(tmp_path / "raw", 4)
    planned = plan_table(tmp_path / "raw")
    output = str(build(planned, tmp_path / "out"))
    unsplit = plan_table(tmp_path / "raw", split=no_split)
    assert "splits" in store.differences(store.look(DiskObjects(output)), unsplit, DiskObjects(output))[0]
    write_clip(paths[0], 0, 20_000)
    longer = plan_table(tmp_path / "raw")
    assert "lengths" in store.differences(store.look(DiskObjects(output)), longer, DiskObjects(output))[0]


def test_erase_leaves_an_empty_folder_also_behind_a_link(planned, tmp_path):
    fill(planned, tmp_path / "disk", [0])
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    store.erase(DiskObjects(str(tmp_path / "link")))
    assert (tmp_path / "link").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []
    store.erase(DiskObjects(str(tmp_path / "link")))


def test_erase_leaves_what_somebody_else_put_there(planned, tmp_path):
    build(planned, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "pictures").mkdir()
    store.erase(DiskObjects(str(tmp_path / "out")))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["notes.txt", "pictures"]
    with pytest.raises(StoreError, match="left alone"):
        store.look(DiskObjects(str(tmp_path / "out")))


class Killed(BaseException):
    """Ends the test's process, as far as the code under test can see."""


def test_an_erase_that_is_killed_leaves_what_can_be_erased_again(tmp_path, monkeypatch):
    write_machines(tmp_path / "raw", 4)
    table, output = plan_table(tmp_path / "raw"), tmp_path / "out"
    delete, delete_below, stages = DiskObjects.delete, DiskObjects.delete_below, 0
    for allowed in range(100):
        build(table, output)
        left = iter(range(allowed))

        def dying(self, key, left=left, delete=delete):
            if next(left, None) is None:
                raise Killed
            delete(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(DiskObjects, "delete", dying)
            patch.setattr(DiskObjects, "delete_below", partialmethod(dying, delete=delete_below))
            try:
                store.erase(DiskObjects(str(output)))
                break
            except Killed:
                stages += 1
        assert allowed == 0 or store.read_records(DiskObjects(str(output)), table) == {}
        assert store.look(DiskObjects(str(output))) is not None
        store.erase(DiskObjects(str(output)))
        assert not any(output.iterdir())
    assert stages > 10


@pytest.mark.parametrize("damage", ["delete", "shorten", "empty", "other fingerprint", "not json"])
def test_a_shard_or_record_that_is_not_right_is_not_done(tmp_path, damage):
    write_machines(tmp_path / "raw", 35)
    table, output = plan_table(tmp_path / "raw"), build(plan_table(tmp_path / "raw"), tmp_path / "out")
    shard, record = output / "features/c.1.0", output / "features/records/1.json"
    assert list(store.read_records(DiskObjects(str(output)), table)) == [0, 1]
    if damage == "delete":
        shard.unlink()
    elif damage == "shorten":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "empty":
        record.write_bytes(b"")
    elif damage == "other fingerprint":
        record.write_bytes(record.read_bytes().replace(table.fingerprint.encode(), b"0" * 16))
    else:
        record.write_bytes(record.read_bytes()[:-5])
    assert list(store.read_records(DiskObjects(str(output)), table)) == [0]
