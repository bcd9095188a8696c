"""The store: what others can read from it, whether it is right, and what it refuses."""

import dataclasses
import json
import shutil
import warnings
from functools import partialmethod
from pathlib import Path

import dask.array
import numpy as np
import pytest
import tensorstore
import xarray
import zarr

from mimii import engine
from mimii.engine import StoreError, UnfinishedError, erase, look
from mimii.engine.outputs import begin, finish
from mimii.features import FeatureSpec
from mimii.recordings import no_split
from mimii.storage import PARTIAL, DiskObjects
from mimii.table import CLIPS_A_CHUNK, HEAD, read_attributes
from mimii.table.table import shard_stamp, write_attributes
from tests.helpers.commands import (
    MIB,
    assert_same_bytes,
    assert_same_table,
    build,
    contents,
    featurize_here,
    fill,
    librosa_rows,
    open_table,
    output_at,
    plan_table,
    records_at,
    shard_files,
)
from tests.helpers.recordings import write_clip, write_machines

LENGTHS = (160_000, 16_000, 100_001, 2_048, 54_321, 1_000_000, 2_047, 160_000, 77_777, 300_123, 31_000, 240_000)
SCHEMA = {
    "features": (("row", "feature"), "float32"),
    "row_clip": (("row",), "int32"),
    "path": (("clip",), None),
    "machine_type": (("clip",), None),
    "machine_id": (("clip",), None),
    "number": (("clip",), "int32"),
    "channel": (("clip",), "int16"),
    "start_s": (("clip",), "float64"),
    "duration_s": (("clip",), "float64"),
    "snr_db": (("clip",), "float32"),
    "domain": (("clip",), None),
    "attributes": (("clip",), None),
    "recorded_at": (("clip",), "datetime64[ns]"),
    "label": (("clip",), "int8"),
    "split": (("clip",), None),
    "first_row": (("clip",), "int64"),
    "n_rows": (("clip",), "int32"),
    "status": (("clip",), None),
    "mel_mean": (("clip", "mel"), "float32"),
    "mel_std": (("clip", "mel"), "float32"),
    "mel_max": (("clip", "mel"), "float32"),
    "mel_frequency": (("mel",), "float64"),
    "feature_mean": (("feature",), "float64"),
    "feature_std": (("feature",), "float64"),
}
INTEGERS = [name for name, (_, dtype) in SCHEMA.items() if dtype and dtype.startswith("int")]
FLOATS = [name for name, (_, dtype) in SCHEMA.items() if dtype and dtype.startswith(("float", "datetime"))]


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


def look_at(folder):
    return look(DiskObjects(str(folder)), HEAD)


def finish_at(plan, folder):
    finish(output_at(plan, folder), records_at(plan, folder))


def differences(plan, folder):
    return output_at(plan, folder).differences(look_at(folder))


def metadata(output, name):
    return json.loads((output / name / "zarr.json").read_text())


def test_the_fixture_has_several_shards_and_clips_that_straddle_them(planned):
    clips = [planned.rows.clips_of(shard).tolist() for shard in range(planned.rows.n_shards)]
    assert len(clips) >= 4
    assert max(sum(clip in some for some in clips) for clip in range(len(LENGTHS))) >= 3


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
    assert array.shards == (planned.rows.layout.shard_rows, 320)
    assert array.chunks[0] * array.chunks[1] * 4 >= MIB
    codecs = json.dumps(metadata(output, "features")["codecs"])
    assert "zstd" in codecs
    assert "crc32c" in codecs


def test_attributes_say_what_was_computed_with_what_and_under_which_licence(table, planned):
    assert json.loads(table.attrs["spec"]) == FeatureSpec().as_dict()
    assert table.attrs["fingerprint"] == planned.fingerprint
    assert json.loads(table.attrs["sources"]) == ["recordings"]
    assert json.loads(table.attrs["software"])["numpy"] == np.__version__
    assert "CC BY-SA 4.0" in table.attrs["license"]
    assert "Purohit" in table.attrs["attribution"]


def test_attributes_hold_no_credentials_of_a_source(planned, tmp_path):
    plan = dataclasses.replace(planned, sources=("https://someone:s3cret@example.org/mimii?signature=s3cret2",))
    begin(output_at(plan, tmp_path / "out"))
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
    assert "too short: 4 of the 5 frames that a row takes, from 2,047 samples" in status.pop(6)
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
    assert not look_at(tmp_path / "out").finished
    finish_at(planned, tmp_path / "out")
    assert look_at(tmp_path / "out").finished
    assert_same_bytes(tmp_path / "out", output)


def test_shards_may_be_computed_in_any_order_and_twice(planned, output, tmp_path):
    backwards = list(reversed(range(planned.rows.n_shards)))
    fill(planned, tmp_path / "out", [*backwards, 1, 0])
    finish_at(planned, tmp_path / "out")
    assert_same_bytes(tmp_path / "out", output)


@pytest.mark.parametrize("missing", [0, 2])
def test_finish_refuses_and_names_the_shard_that_is_missing(planned, tmp_path, missing):
    fill(planned, tmp_path / "out", set(range(planned.rows.n_shards)) - {missing})
    with pytest.raises(
        UnfinishedError, match=rf"1 of {planned.rows.n_shards} shards is missing, the first is shard {missing}: "
    ):
        finish_at(planned, tmp_path / "out")
    assert not look_at(tmp_path / "out").finished


def test_nothing_an_empty_folder_and_a_dead_writers_leftovers_are_free_to_use(tmp_path):
    assert look_at(tmp_path / "none") is None
    assert look_at(tmp_path) is None
    (tmp_path / PARTIAL).mkdir()
    (tmp_path / PARTIAL / "a").write_bytes(b"half")
    assert look_at(tmp_path) is None


def test_a_zarr_array_of_somebody_elses_is_refused(tmp_path):
    zarr.create_array(tmp_path / "theirs", shape=(3,), dtype="f4")
    before = contents(tmp_path)
    with pytest.raises(StoreError, match="left alone"):
        look_at(tmp_path / "theirs")
    assert contents(tmp_path) == before


@pytest.mark.parametrize(
    "torn", [b"", b"{", b'{"attributes": {"fingerp', b"[]", b"7", b"null", b'{"attributes": null}', b"\xff"]
)
def test_a_torn_group_document_is_refused(tmp_path, torn):
    (tmp_path / "zarr.json").write_bytes(torn)
    with pytest.raises(StoreError, match="left alone"):
        look_at(tmp_path)
    assert (tmp_path / "zarr.json").read_bytes() == torn


def test_a_folder_with_other_files_is_refused(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match="left alone"):
        look_at(tmp_path)


@pytest.mark.parametrize("output", ["file", "file/features.zarr"])
def test_a_file_in_the_way_is_refused(tmp_path, output):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(StoreError, match="left alone"):
        look_at(tmp_path / output)
    assert (tmp_path / "file").read_text() == "mine"


def test_the_same_table_has_no_differences(planned, output, source):
    assert differences(planned, output) == []
    assert differences(plan_table(source), output) == []


def test_another_spec_differs_in_what_was_changed(output, source):
    found = differences(plan_table(source, FeatureSpec(n_fft=1024, power=1.0)), output)
    assert found == ["n_fft: 2048 there, 1024 now", "power: 2.0 there, 1.0 now"]


def test_another_shard_length_differs_in_the_layout(output, source):
    [found] = differences(plan_table(source, mib=3), output)
    assert found.startswith("layout: ")


def test_clips_that_were_added_or_are_missing_are_named(tmp_path):
    paths = write_machines(tmp_path / "raw", 6)
    output = build(plan_table(tmp_path / "raw"), tmp_path / "out")
    paths[1].unlink()
    write_clip(paths[0].with_name("77777777.wav"), 77)
    write_clip(paths[0].with_name("88888888.wav"), 88)
    new = [paths[0].with_name(f"{number}.wav") for number in ("77777777", "88888888")]
    assert differences(plan_table(tmp_path / "raw"), output)[:5] == [
        "2 new:",
        *(f"  {path}" for path in new),
        "1 not named now:",
        f"  {paths[1]}",
    ]


def test_another_length_or_split_of_the_same_paths_is_a_difference(tmp_path):
    paths = write_machines(tmp_path / "raw", 4)
    output = build(plan_table(tmp_path / "raw"), tmp_path / "out")
    found = differences(plan_table(tmp_path / "raw", split=no_split), output)
    assert found[:2] == ["4 in another split:", f"  {paths[0]}: train -> none"]
    write_clip(paths[0], 0, 20_000)
    assert differences(plan_table(tmp_path / "raw"), output)[:2] == ["1 replaced:", f"  {paths[0]}"]


def test_a_difference_is_refused_unless_it_is_to_be_overwritten(tmp_path):
    write_machines(tmp_path / "raw", 4)
    one, other = (plan_table(tmp_path / "raw", FeatureSpec(n_fft=n_fft)) for n_fft in (2048, 1024))
    before = contents(build(one, tmp_path / "out"))
    with pytest.raises(StoreError, match=r"another table of features[\s\S]*n_fft: 2048 there, 1024 now"):
        build(other, tmp_path / "out")
    assert contents(tmp_path / "out") == before
    engine.run(output_at(other, tmp_path / "out"), overwrite=True)
    assert_same_table(tmp_path / "out", build(other, tmp_path / "new"))


@pytest.mark.parametrize("name", ["label/c.0", "path/zarr.json", "feature_std/c.0"])
def test_a_finished_table_that_lacks_a_column_is_finished_again_without_its_shards(tmp_path, name):
    write_machines(tmp_path / "raw", 4)
    plan = plan_table(tmp_path / "raw")
    build(plan, tmp_path / "out")
    before, shards = contents(tmp_path / "out"), shard_files(tmp_path / "out")
    (tmp_path / "out" / name).unlink()
    assert engine.run(output_at(plan, tmp_path / "out")).computed == ()
    assert contents(tmp_path / "out") == before
    assert shard_files(tmp_path / "out") == shards


def test_a_finished_table_of_very_long_rows_is_not_written_again(tmp_path):
    write_machines(tmp_path / "raw", 2, n_samples=8000)
    plan = plan_table(tmp_path / "raw", FeatureSpec(n_fft=256, hop_length=16, frames=300))
    output = build(plan, tmp_path / "out")
    assert plan.catalogue.spec.n_features > CLIPS_A_CHUNK
    before = {path: path.stat().st_mtime_ns for path in output.rglob("*")}
    build(plan, output)
    assert {path: path.stat().st_mtime_ns for path in output.rglob("*")} == before


def test_erase_leaves_an_empty_folder_also_behind_a_link(planned, tmp_path):
    fill(planned, tmp_path / "disk", [0])
    (tmp_path / "link").symlink_to(tmp_path / "disk")
    erase(output_at(planned, tmp_path / "link"))
    assert (tmp_path / "link").is_symlink()
    assert list((tmp_path / "disk").iterdir()) == []
    erase(output_at(planned, tmp_path / "link"))


def test_erase_leaves_what_somebody_else_put_there(planned, tmp_path):
    build(planned, tmp_path / "out")
    (tmp_path / "out" / "notes.txt").write_text("mine")
    (tmp_path / "out" / "pictures").mkdir()
    erase(output_at(planned, tmp_path / "out"))
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["notes.txt", "pictures"]
    with pytest.raises(StoreError, match="left alone"):
        look_at(tmp_path / "out")


class Killed(BaseException):
    """Ends the test's process, as far as the code under test can see."""


def test_an_erase_that_is_killed_leaves_what_can_be_erased_again(tmp_path, monkeypatch):
    write_machines(tmp_path / "raw", 4)
    plan, output = plan_table(tmp_path / "raw"), tmp_path / "out"
    whole = build(plan, tmp_path / "whole")
    delete, delete_below, stages = DiskObjects.delete, DiskObjects.delete_below, 0
    for allowed in range(100):
        shutil.copytree(whole, output, dirs_exist_ok=True)
        left = iter(range(allowed))

        def dying(self, key, left=left, delete=delete):
            if next(left, None) is None:
                raise Killed
            delete(self, key)

        with monkeypatch.context() as patch:
            patch.setattr(DiskObjects, "delete", dying)
            patch.setattr(DiskObjects, "delete_below", partialmethod(dying, delete=delete_below))
            try:
                erase(output_at(plan, output))
                break
            except Killed:
                stages += 1
        assert allowed == 0 or records_at(plan, output) == {}
        assert look_at(output) is not None
        erase(output_at(plan, output))
        assert not any(output.iterdir())
    assert stages > 10


@pytest.mark.parametrize("damage", ["delete", "shorten", "empty", "other fingerprint", "not json", "no sums"])
def test_a_shard_or_record_that_is_not_right_is_not_done(tmp_path, damage):
    write_machines(tmp_path / "raw", 35)
    plan = plan_table(tmp_path / "raw")
    output = build(plan, tmp_path / "out")
    shard, record = output / "features/c.1.0", output / "features/records/1.json"
    assert list(records_at(plan, output)) == [0, 1]
    if damage == "delete":
        shard.unlink()
    elif damage == "shorten":
        shard.write_bytes(shard.read_bytes()[:-1])
    elif damage == "empty":
        record.write_bytes(b"")
    elif damage == "other fingerprint":
        record.write_bytes(record.read_bytes().replace(shard_stamp(plan, 1).fingerprint.encode(), b"0" * 16))
    elif damage == "not json":
        record.write_bytes(record.read_bytes()[:-5])
    else:
        record.write_text(json.dumps(json.loads(record.read_text()) | {"result": {"train": {"count": 3}}}))
    assert list(records_at(plan, output)) == [0]


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_damaged_mel_statistics_are_named_with_what_to_delete_and_that_helps(tmp_path, dtype):
    write_machines(tmp_path / "raw", 35)
    plan = plan_table(tmp_path / "raw", FeatureSpec(dtype=dtype))
    whole, output = build(plan, tmp_path / "whole"), tmp_path / "out"
    fill(plan, output)
    [statistics] = (output / "features/mel").glob("0-*")
    damaged = "this object" if dtype == "float32" else f"{output}/features/records/0.json"
    data = bytearray(statistics.read_bytes())
    data[len(data) // 2] ^= 1
    statistics.write_bytes(data)
    with pytest.raises(OSError, match=rf"{statistics}: .* shard 0 .*checksum.*; delete {damaged} and run"):
        engine.run(output_at(plan, output))
    (statistics if dtype == "float32" else output / "features/records/0.json").unlink()
    assert engine.run(output_at(plan, output)).computed == (0,)
    assert_same_bytes(output, whole)


def test_a_table_that_xarray_opened_can_be_written_as_netcdf(tmp_path):
    write_machines(tmp_path / "raw", 8, n_samples=4000)
    assert featurize_here(tmp_path / "raw", "--output", tmp_path / "out") == 0
    table = xarray.open_zarr(tmp_path / "out").load()
    table.to_netcdf(tmp_path / "out.nc", engine="scipy")
    again = xarray.open_dataset(tmp_path / "out.nc", engine="scipy")
    assert again.attrs == table.attrs
    np.testing.assert_array_equal(again.features.values, table.features.values)
    assert [path.decode() if isinstance(path, bytes) else path for path in again.path.values] == list(table.path.values)


def test_attributes_are_read_as_earlier_versions_stored_them():
    values = {"title": "Stacked", "spec": {"n_fft": 2048}, "sources": ["a", "b"], "format": 1, "fingerprint": "ab"}
    stored = write_attributes(values)
    assert all(isinstance(value, str | int) for value in stored.values())
    assert read_attributes(stored) == read_attributes(values) == values
