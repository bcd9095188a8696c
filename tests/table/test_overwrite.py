"""``--overwrite`` makes the new table beside the old one: a reader finds one of them, whole, wherever it is killed."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import xarray
import zarr

import mimii
from mimii.engine import runs
from mimii.storage import DEFAULT_ACCESS, DiskObjects
from mimii.table import open_store, read_columns, read_mel_statistics, read_shard
from mimii.table.reading import read_clip_columns, read_dimensions, read_metadata
from mimii.table.second_keys import is_first, is_second
from tests.helpers.commands import assert_same_table, contents, open_table
from tests.helpers.growth import SPEC, Factory, KilledError, check_against, drop_leases, dying_at

OTHER = mimii.FeatureSpec(n_mels=16, n_fft=512, hop_length=512, frames=2)


@pytest.fixture(autouse=True)
def _no_readers(monkeypatch):
    monkeypatch.setattr(runs, "SECONDS_FOR_READERS", 0.0)


@pytest.fixture
def factory(tmp_path):
    factory = Factory(tmp_path / "factory")
    for number in range(4):
        factory.write(f"{number:08d}", number, 90_000)
    return factory


def make(factory, output, spec, *, lists=(), overwrite=True, **how):
    clips = mimii.find_recordings(str(factory.folder / "raw"), lists=lists)
    plan = mimii.plan_table(clips, spec, split="stratified", shard_bytes=1 << 20)
    return mimii.featurize(plan, str(output), overwrite=overwrite, **how)


@pytest.mark.slow
def test_killed_at_any_write_a_reader_finds_the_old_or_the_new_table_and_the_same_command_ends(factory, tmp_path):
    """From first to second keys, and back: each time killed at one write more, until it is not."""
    make(factory, tmp_path / "one", SPEC)
    make(factory, tmp_path / "two", OTHER)
    tables = {SPEC: open_table(tmp_path / "one"), OTHER: open_table(tmp_path / "two")}
    for n_acts in range(1, 200, STRIDE):
        output, is_done = tmp_path / "out", True
        shutil.rmtree(output, ignore_errors=True)
        shutil.copytree(tmp_path / "one", output)
        for before, after in ((SPEC, OTHER), (OTHER, SPEC)):
            with pytest.MonkeyPatch.context() as patch:
                dying_at(patch, n_acts)
                try:
                    make(factory, output, after)
                except KilledError:
                    is_done = False
            drop_leases(output)
            found = open_table(output)
            assert found.identical(tables[before]) or found.identical(tables[after]), n_acts
            make(factory, output, after)
            xarray.testing.assert_identical(open_table(output), tables[after])
            assert mimii.verify(str(output)).is_right
            is_other = is_first if after is OTHER else is_second
            assert not [key for key in contents(output) if is_other(key)]
        if is_done:
            return
    pytest.fail("it never ended")


STRIDE = 13
"""Each third write was tried by hand."""


@pytest.mark.parametrize(("n_acts", "update"), [(2, False), (8, True), (20, False), (20, True)])
def test_an_ordinary_command_after_an_interrupted_overwrite_keeps_the_table_that_is_there(
    factory, tmp_path, n_acts, update
):
    output = tmp_path / "out"
    make(factory, output, SPEC)
    make(factory, tmp_path / "wanted", SPEC)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):  # noqa: PT012
        dying_at(patch, n_acts)
        make(factory, output, OTHER)
    drop_leases(output)
    make(factory, output, SPEC, overwrite=False, update=update)
    assert_same_table(output, tmp_path / "wanted")
    assert contents(output).keys() == contents(tmp_path / "wanted").keys()
    check_against(factory, output)


def test_what_was_replaced_stays_for_a_moment_for_those_who_read_it(factory, tmp_path, monkeypatch):
    output, clock, seen = tmp_path / "out", [0.0], []
    make(factory, output, SPEC)
    before = {key: data for key, data in contents(output).items() if is_first(key)}

    def sleep(_):
        seen.append((contents(output).items() >= before.items(), open_table(output).attrs["spec"]))
        clock[0] += 3

    monkeypatch.setattr(runs, "SECONDS_FOR_READERS", 5.0)
    monkeypatch.setattr(runs, "time", SimpleNamespace(monotonic=lambda: clock[0], sleep=sleep))
    make(factory, output, OTHER)
    assert seen == [(True, open_table(output).attrs["spec"])] * 2
    assert not contents(output).keys() & before.keys()


def test_a_table_with_second_keys_grows(factory, tmp_path):
    output = tmp_path / "out"
    make(factory, output, OTHER)
    make(factory, output, SPEC)
    assert list(Path(output, "features").glob("c/*/0"))
    factory.write("00000007", 7, 90_000)
    factory.write("00000002", 99, 90_000)
    make(factory, output, SPEC, overwrite=False, update=True)
    assert list(Path(output, "features").glob("c/*/0"))
    check_against(factory, output)


def list_of(factory, **columns):
    """Write a list of all recordings, with columns of its own: a value and more for each one after the other."""
    paths = sorted((factory.folder / "raw").rglob("*.wav"))
    lines = [",".join(["path", *columns]), *(f"{path},{_cells(columns, clip)}" for clip, path in enumerate(paths))]
    there = factory.folder / f"{'-'.join(columns)}.csv"
    there.write_text("\n".join(lines))
    return str(there)


def _cells(columns, clip):
    return ",".join(str(first + clip) for first in columns.values())


def dying_before_the_end(monkeypatch):
    """Have the last write fail that makes a table finished, as if the process was killed there."""
    put_all = DiskObjects.put_all

    def limited(self, objects):
        if b"consolidated" in objects.get("zarr.json", b""):
            raise KilledError
        put_all(self, objects)

    monkeypatch.setattr(DiskObjects, "put", lambda self, key, data: limited(self, {key: data}))
    monkeypatch.setattr(DiskObjects, "put_all", limited)


def read_all(output):
    """Read a table through all readers of the project: by column, clip, shard and batch."""
    mimii.table.reading._open_stored.cache_clear()
    objects = open_store(str(output), DEFAULT_ACCESS)
    columns, metadata = read_columns(objects), read_metadata(objects)
    of_clips = [name for name, dimensions in read_dimensions(metadata).items() if dimensions == ["clip"]]
    shuffled = [batch.features for batch in mimii.batches(str(output), split=None, normalize=True)]
    return {
        **{name: values.tolist() for name, values in read_clip_columns(objects, metadata, of_clips).items()},
        "label of all": columns.label,
        "mean": columns.feature_mean,
        "mel": read_mel_statistics(objects, 0),
        **{f"clip {clip}": mimii.read_clip(str(output), clip) for clip in range(len(columns.path))},
        "shard": read_shard(objects, 0),
        "batches": np.sort(np.concatenate(shuffled), axis=0),
    }


@pytest.mark.parametrize("of_first_keys", [True, False])
def test_all_readers_find_the_old_table_until_the_new_one_is_finished(factory, tmp_path, of_first_keys):
    output = tmp_path / "out"
    if not of_first_keys:
        make(factory, output, OTHER)
    make(factory, output, SPEC, lists=list_of(factory, **{"motor-speed": 7}, load=100))
    before = read_all(output)
    assert before["motor-speed"] == [7, 8, 9, 10]
    for number in range(4, 6):
        factory.write(f"{number:08d}", number, 90_000)
    other = list_of(factory, **{"motor-speed": 50}, oil=3)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KilledError):  # noqa: PT012
        dying_before_the_end(patch)
        make(factory, output, OTHER, lists=other)
    np.testing.assert_equal(read_all(output), before)
    drop_leases(output)
    make(factory, output, OTHER, lists=other)
    make(factory, tmp_path / "wanted", OTHER, lists=other)
    xarray.testing.assert_identical(open_table(output), open_table(tmp_path / "wanted"))
    assert open_table(output)["motor-speed"].values.tolist() == [50, 51, 52, 53, 54, 55]
    assert {key.partition("/")[0] for key in contents(output)} == {
        key.partition("/")[0] for key in contents(tmp_path / "wanted")
    }
    assert mimii.verify(str(output)).is_right


def test_a_table_with_second_keys_is_refused_with_what_differs(factory, tmp_path):
    output = tmp_path / "out"
    make(factory, output, OTHER)
    make(factory, output, SPEC)
    factory.write("00000009", 9, 90_000)
    with pytest.raises(mimii.StoreError, match=r"(?s)1 new:.*00000009\.wav"):
        make(factory, output, SPEC, overwrite=False)


@pytest.mark.parametrize("of_first_keys", [True, False])
def test_arrays_that_users_put_into_the_group_are_left_alone(factory, tmp_path, of_first_keys):
    """Also by runs that find the leftovers of an overwritten table beside them."""
    output, embeddings = tmp_path / "out", np.arange(1, 25.0).reshape(4, 6)
    if not of_first_keys:
        make(factory, output, OTHER)
    make(factory, output, SPEC, lists=list_of(factory, load=100, oil=3))
    group = zarr.open_group(output, mode="a", use_consolidated=False)
    for separator in "./":
        how = {"chunk_key_encoding": {"name": "default", "separator": separator}}
        group.create_array(f"cluster{ord(separator)}", data=np.arange(1, 5.0), dimension_names=["clip"], **how)
        group.create_array(f"embeddings{ord(separator)}", data=embeddings, chunks=(2, 6), **how)
    (output / "embeddings47" / "notes.txt").write_text("mine")
    of_users = {key: data for key, data in contents(output).items() if key.startswith(("cluster", "embeddings"))}
    assert len(of_users) == 2 * (1 + 1) + 2 * (1 + 2) + 1
    make(factory, output, SPEC, lists=list_of(factory, load=100, oil=3))
    assert contents(output).items() >= of_users.items()
    make(factory, output, OTHER, lists=list_of(factory, load=100))
    assert contents(output).items() >= of_users.items()
    assert not [key for key in contents(output) if key.startswith("oil/")]
    assert mimii.verify(str(output)).is_right
