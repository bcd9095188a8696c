"""A table is read whole, by column, by shard, or in batches: never an unfinished one."""

import shutil
import tracemalloc

import numpy as np
import pytest
import xarray

import mimii
from mimii.engine import StoreError
from mimii.storage import DiskObjects
from mimii.table import COLUMNS, read_columns, read_shard
from tests.helpers.commands import MIB, fill, open_table
from tests.helpers.recordings import write_clip, write_machines

N_CLIPS, ROWS_A_CLIP = 48, 497
BAD = 8
SPEC = mimii.FeatureSpec(hop_length=32)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan clips of two machines, all for training but some; one of them is bad when it is read."""
    raw = tmp_path_factory.mktemp("reading") / "raw"
    paths = write_machines(raw, N_CLIPS)
    write_clip(raw / "unlabelled" / "a.wav", 77)
    plan = mimii.plan_table(mimii.find_recordings(str(raw)), SPEC, split="stratified", shard_bytes=MIB)
    paths[BAD].write_bytes(b"no longer audio")
    return plan


@pytest.fixture(scope="module")
def url(plan, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("reading") / "features.zarr")
    mimii.featurize(plan, folder)
    return folder


@pytest.fixture(scope="module")
def table(url):
    return open_table(url)


def test_the_table_is_what_xarray_opens(url, table):
    opened = mimii.open_table(url)
    xarray.testing.assert_identical(opened.load(), table)
    assert mimii.open_table(f"{url}/").sizes["clip"] == N_CLIPS + 1


def test_rows_are_not_read_before_they_are_asked_for(url, tmp_path):
    shutil.copytree(url, tmp_path / "copy")
    for shard in (tmp_path / "copy/features").glob("c.*"):
        shard.write_bytes(b"damaged")
    opened = mimii.open_table(str(tmp_path / "copy"))
    assert opened.features.shape == ((N_CLIPS + 1) * ROWS_A_CLIP, 320)
    with pytest.raises(ValueError, match=r".*"):
        opened.features.load()


def read(how, url):
    return {
        "open_table": mimii.open_table,
        "batches": lambda url: next(mimii.batches(url)),
        "read_columns": lambda url: read_columns(DiskObjects(url)),
    }[how](url)


@pytest.mark.parametrize("how", ["open_table", "batches", "read_columns"])
def test_an_unfinished_table_is_refused_with_what_to_do(how, plan, tmp_path):
    fill(plan, tmp_path / "out")
    with pytest.raises(StoreError, match=r"out: the table is not finished; run jobs\.featurize with this --output"):
        read(how, str(tmp_path / "out"))


@pytest.mark.parametrize("how", ["open_table", "batches", "read_columns"])
def test_what_is_no_table_is_refused(how, tmp_path):
    with pytest.raises(StoreError, match=r"none: there is no table of features"):
        read(how, str(tmp_path / "none"))
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(StoreError, match=r"not a table of features"):
        read(how, str(tmp_path))


def test_columns_are_those_of_the_table(url, table):
    columns = read_columns(DiskObjects(url))
    names = set(COLUMNS) - {"mel_frequency", "domain", "attributes", "recorded_at"}
    for name in names:
        np.testing.assert_array_equal(getattr(columns, name), table[name].values)
    assert (columns.spec, columns.shard_rows) == (SPEC, table.attrs["shard_rows"])


def test_a_shard_has_its_rows_of_the_table(url, table, plan):
    shard_rows = plan.rows.layout.shard_rows
    for shard in (0, plan.rows.n_shards - 1):
        rows = slice(shard * shard_rows, (shard + 1) * shard_rows)
        np.testing.assert_array_equal(read_shard(DiskObjects(url), shard), table.features.values[rows])


@pytest.mark.parametrize("damage", ["missing", "damaged"])
def test_a_shard_or_a_column_that_is_missing_or_damaged_is_named(url, tmp_path, damage):
    shutil.copytree(url, tmp_path / "copy")
    for key in ("features/c.2.0", "label/c.0"):
        path = tmp_path / "copy" / key
        path.unlink() if damage == "missing" else path.write_bytes(path.read_bytes()[:-1])
    objects = DiskObjects(str(tmp_path / "copy"))
    with pytest.raises(OSError, match=rf"features/c\.2\.0: (this shard is )?{damage}"):
        read_shard(objects, 2)
    if damage == "damaged":
        with pytest.raises(StoreError, match=r"a column is damaged or missing"):
            read_columns(objects)


def rows_of(table, split):
    """Return the numbers of the rows of a split, without those of the bad clip."""
    wanted = (table.split.values == split) & (table.status.values == "ok")
    return np.flatnonzero(wanted[table.row_clip.values])


def numbers_of(found, table):
    """Return which row of the table each row of some batches is: all rows differ."""
    known = {row.tobytes(): number for number, row in enumerate(table.features.values)}
    return [known[row.tobytes()] for batch in found for row in batch.features]


def test_the_table_has_what_these_tests_want(table, plan):
    assert plan.rows.n_shards > 12
    [bad] = np.flatnonzero(table.status.values != "ok")
    assert (table.split.values[bad], table.number.values[bad]) == ("train", BAD)
    assert {split: len(rows_of(table, split)) > 0 for split in ("train", "test", "")} == {"train": 1, "test": 1, "": 1}
    assert set(table.label.values[table.split.values == "train"]) == {0, 1}


@pytest.mark.parametrize("split", ["train", "test", ""])
def test_each_row_of_a_split_comes_once_with_its_label_and_clip(url, table, split):
    found = list(mimii.batches(url, split=split))
    numbers = numbers_of(found, table)
    assert sorted(numbers) == rows_of(table, split).tolist()
    clips = np.concatenate([batch.clip for batch in found])
    np.testing.assert_array_equal(clips, table.row_clip.values[numbers])
    np.testing.assert_array_equal(np.concatenate([batch.label for batch in found]), table.label.values[clips])


def test_rows_of_bad_clips_are_left_out(url, table):
    [bad] = np.flatnonzero(table.status.values != "ok")
    for batch in mimii.batches(url):
        assert bad not in batch.clip
        assert np.isfinite(batch.features).all()


@pytest.mark.parametrize("batch_size", [1, 100, 512, 4096, 10**6])
def test_all_batches_but_the_last_are_full(url, table, batch_size):
    sizes = [len(batch.label) for batch in mimii.batches(url, batch_size=batch_size)]
    n_rows = len(rows_of(table, "train"))
    full, rest = divmod(n_rows, batch_size)
    assert sizes == [batch_size] * full + [rest] * (rest > 0)


def test_batches_have_the_types_of_the_table(url):
    batch = next(mimii.batches(url, batch_size=7))
    assert {name: (one.dtype, one.shape) for name, one in batch._asdict().items()} == {
        "features": (np.float32, (7, 320)),
        "label": (np.int8, (7,)),
        "clip": (np.int32, (7,)),
    }


def test_rows_are_shuffled_among_several_shards(url, table, plan):
    shard_rows = plan.rows.layout.shard_rows
    numbers = np.array(numbers_of(mimii.batches(url), table))
    assert (np.diff(numbers) == 1).mean() < 0.02
    for start in range(0, len(numbers) - 512, 512):
        assert len(set(numbers[start : start + 512] // shard_rows)) >= 3
    first_shards = [min(numbers_of([batch], table)) // shard_rows for batch in mimii.batches(url, batch_size=2000)]
    assert first_shards != sorted(first_shards)


def test_the_seed_decides_the_order(url, table):
    one, again, other = (numbers_of(mimii.batches(url, seed=seed), table) for seed in (3, 3, 4))
    assert one == again
    assert one != other
    assert sorted(one) == sorted(other)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"split": "validation"}, "^split must be train, test or empty, not 'validation'$"),
        ({"batch_size": 0}, "^batch_size must be at least 1, not 0$"),
    ],
)
def test_what_makes_no_batch_is_refused_at_once(url, how, message):
    with pytest.raises(ValueError, match=message):
        mimii.batches(url, **how)


def test_a_split_without_any_good_clip_is_refused_with_those_that_there_are(tmp_path):
    for index in range(3):
        write_clip(tmp_path / f"raw/{index}.wav", index)
    (tmp_path / "raw/bad.wav").touch()
    done = mimii.featurize(mimii.plan_table(mimii.find_recordings(tmp_path / "raw")), tmp_path / "out")
    with pytest.raises(ValueError, match="no clip that can be used has the split 'train'; there are 3 with ''"):
        mimii.batches(done)
    assert sum(len(batch.label) for batch in mimii.batches(done, split="")) == 3 * 28


def test_a_few_shards_are_in_memory_at_most(url, table, plan):
    shard_bytes = plan.rows.layout.shard_rows * plan.rows.layout.row_bytes
    assert 4 * 320 * len(rows_of(table, "train")) > 15 * shard_bytes
    list(mimii.batches(url))  # imports what is imported late
    tracemalloc.start()
    try:
        for _ in mimii.batches(url, batch_size=64):
            pass
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 9 * shard_bytes  # four that are mixed, and what it takes to decompress one
