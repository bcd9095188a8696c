"""A table read for training: every wanted row once an epoch, mixed, resumed bit for bit, with bounded memory."""

import gc
import json
import os
import shutil
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter

import numpy as np
import pytest
import xarray

import mimii
from mimii.features import unstack_rows
from mimii.storage import DiskObjects
from mimii.table import read_ahead, row_source
from mimii.table.drawing import Batches
from tests.helpers.commands import MIB, ROOT, open_table, wait_for
from tests.helpers.recordings import write_clip, write_machines
from tests.helpers.servers import filesystem

N_CLIPS, ROWS_A_CLIP = 48, 497
BAD = 8
SPEC = mimii.FeatureSpec(hop_length=32)
POOL = 8
"""So small that it holds a part of the table."""


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan clips of two machines, all for training but some; one is bad when it is read; shards have three chunks."""
    raw = tmp_path_factory.mktemp("training") / "raw"
    paths = write_machines(raw, N_CLIPS)
    write_clip(raw / "unlabelled" / "a.wav", 77)
    plan = mimii.plan_table(mimii.find_recordings(str(raw)), SPEC, split="stratified", shard_bytes=4 * MIB)
    paths[BAD].write_bytes(b"no longer audio")
    return plan


@pytest.fixture(scope="module")
def url(plan, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("training") / "features.zarr")
    mimii.featurize(plan, folder)
    return folder


@pytest.fixture(scope="module")
def table(url):
    return open_table(url)


@pytest.fixture(scope="module")
def number_of(table):
    """Return which row of the table has some bytes: all rows differ."""
    return {row.tobytes(): number for number, row in enumerate(table.features.values)}


@pytest.fixture
def numbers(number_of):
    """Return which rows of the table those of some batches are."""
    return lambda found: [number_of[row.tobytes()] for batch in found for row in batch.features]


def rows_of(table, wanted):
    """Return the numbers of the rows of clips, without those of the bad clip."""
    return np.flatnonzero((np.asarray(wanted) & (table.status.values == "ok"))[table.row_clip.values]).tolist()


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


def reading_threads():
    return [thread for thread in threading.enumerate() if thread.name.startswith("mimii-read")]


def test_the_table_has_what_these_tests_want(table, plan):
    layout = plan.rows.layout
    assert (plan.rows.n_shards, layout.shard_rows // layout.chunk_rows) == (9, 3)
    [bad] = np.flatnonzero(table.status.values != "ok")
    assert (table.split.values[bad], table.number.values[bad]) == ("train", BAD)
    assert set(table.label.values[table.split.values == "train"]) == {0, 1}
    assert {"train", "test", ""} == set(table.split.values)


@pytest.mark.parametrize("pool_mib", [1, POOL, 160])
@pytest.mark.parametrize("split", ["train", "test", "", None])
def test_each_row_of_a_split_comes_once_with_its_label_and_clip(url, table, numbers, split, pool_mib):
    found = list(mimii.batches(url, split=split, pool_mib=pool_mib))
    rows = numbers(found)
    assert sorted(rows) == rows_of(table, True if split is None else table.split.values == split)
    clips = np.concatenate([batch.clip for batch in found])
    np.testing.assert_array_equal(clips, table.row_clip.values[rows])
    np.testing.assert_array_equal(np.concatenate([batch.label for batch in found]), table.label.values[clips])


def test_each_object_is_read_once_where_a_table_is_opened(url, monkeypatch):
    """But the group's: by it are the keys of the others known. So what is opened is never of two tables."""
    read, get = Counter(), DiskObjects.get
    monkeypatch.setattr(DiskObjects, "get", lambda self, key: read.update([key]) or get(self, key))
    mimii.batches(url, normalize=True, columns=["path", "mel_mean"], where=lambda clips: clips.label >= -1)
    assert read.pop("zarr.json") == 2
    assert {"path/c.0", "mel_mean/c.0.0", "status/c.0", "feature_std/c.0"} <= read.keys()
    assert set(read.values()) == {1}


@pytest.mark.parametrize("batch_size", [1, 100, 512, 4096, 10**6])
def test_all_batches_but_the_last_are_full(url, table, batch_size):
    found = mimii.batches(url, batch_size=batch_size, pool_mib=POOL)
    n_rows = len(rows_of(table, table.split.values == "train"))
    full, rest = divmod(n_rows, batch_size)
    assert (found.n_items, len(found)) == (n_rows, full + (rest > 0))
    assert [len(batch.label) for batch in found] == [batch_size] * full + [rest] * (rest > 0)


def test_batches_have_the_types_of_the_table(url):
    batch = next(mimii.batches(url, batch_size=7))
    assert {name: (one.dtype, one.shape) for name, one in batch._asdict().items() if name != "columns"} == {
        "features": (np.float32, (7, 320)),
        "label": (np.int8, (7,)),
        "clip": (np.int32, (7,)),
    }
    assert batch.columns == {}


def test_a_batch_belongs_to_those_who_got_it(url):
    found = list(mimii.batches(url, pool_mib=POOL))
    again = [(batch.features.copy(), batch.label, batch.clip) for batch in mimii.batches(url, pool_mib=POOL)]
    assert all(map(same, found, again))


def test_columns_are_those_of_the_clips_of_the_rows(url, table):
    asked = ("machine_id", "path", "snr_db", "number", "mel_mean")
    for batch in mimii.batches(url, columns=asked, pool_mib=POOL):
        assert tuple(batch.columns) == asked
        for name in asked:
            np.testing.assert_array_equal(batch.columns[name], table[name].values[batch.clip])
    assert list(next(mimii.batches(url, columns="number")).columns) == ["number"]


def test_where_is_a_mask_or_a_function_of_the_clips(url, table, numbers):
    mask = (table.machine_id.values == "id_02") & (table.label.values == 0)
    expected = rows_of(table, mask & (table.split.values == "train"))
    assert expected

    def choose(clips):
        assert clips.recorded_at.dtype.kind == "M"
        assert clips.path.tolist() == table.path.values.tolist()
        return (clips.machine_id == "id_02") & (clips.label == 0)

    for where in (mask, mask.tolist(), choose):
        assert sorted(numbers(mimii.batches(url, where=where, pool_mib=POOL))) == expected


def test_shards_and_chunks_without_a_wanted_row_are_not_read(url, table, plan, monkeypatch):
    wanted = np.arange(N_CLIPS + 1) == 20
    begin, stop = (int(table.first_row[clip]) for clip in (20, 21))
    decoded, fetched = spy(monkeypatch)
    list(mimii.batches(url, where=wanted, split=None))
    layout = plan.rows.layout
    assert sorted(decoded) == list(range(begin // layout.chunk_rows, (stop - 1) // layout.chunk_rows + 1))
    assert sorted(fetched) == list(range(begin // layout.shard_rows, (stop - 1) // layout.shard_rows + 1))


def spy(monkeypatch):
    """Return lists that get the chunks that are decoded from now on, and the shards that are fetched."""
    decoded, fetched = [], []
    for name, noted in (("decode", decoded), ("fetch", fetched)):
        act = getattr(row_source.RowSource, name)

        def noting(self, *arguments, act=act, noted=noted):
            noted.append(arguments[1] if len(arguments) > 1 else arguments[0])
            return act(self, *arguments)

        monkeypatch.setattr(row_source.RowSource, name, noting)
    return decoded, fetched


def test_every_shard_is_fetched_and_every_chunk_decoded_once_an_epoch(url, plan, monkeypatch):
    decoded, fetched = spy(monkeypatch)
    n_chunks = -(-plan.rows.total_rows // plan.rows.layout.chunk_rows)
    list(mimii.batches(url, split=None, pool_mib=POOL))
    assert sorted(fetched) == list(range(plan.rows.n_shards))
    assert sorted(decoded) == list(range(n_chunks))
    decoded.clear()
    list(mimii.frames(url, split=None, pool_mib=1))
    assert sorted(decoded) == list(range(n_chunks))


@pytest.mark.parametrize("how", [{}, {"shuffle": False}])
def test_normalized_rows_are_those_of_the_statistics_of_the_table(url, table, how):
    mean, std = table.feature_mean.values, table.feature_std.values
    plain, normal = (list(mimii.batches(url, normalize=one, pool_mib=POOL, **how)) for one in (False, True))
    for one, other in zip(plain, normal, strict=True):
        np.testing.assert_allclose(other.features, (one.features - mean) / std, rtol=1e-4, atol=1e-4)
    rows = np.concatenate([batch.features for batch in normal]).astype(float)
    np.testing.assert_allclose(rows.mean(0), 0, atol=1e-3)
    np.testing.assert_allclose(rows.std(0), 1, atol=1e-3)


def test_without_shuffle_rows_are_in_the_order_of_the_table(url, table, numbers):
    rows = numbers(mimii.batches(url, shuffle=False, pool_mib=POOL))
    assert rows == rows_of(table, table.split.values == "train")


def test_the_seed_and_the_epoch_decide_the_order(url, numbers):
    def order(**how):
        return numbers(mimii.batches(url, pool_mib=POOL, **how))

    one, again, other = order(seed=3), order(seed=3), order(seed=4)
    assert one == again
    assert one != other
    three = order(seed=3, epochs=3)
    epochs = [three[: len(one)], three[len(one) : 2 * len(one)], three[2 * len(one) :]]
    assert epochs[0] == one
    assert all(sorted(epoch) == sorted(one) for epoch in epochs)
    assert len(set(map(tuple, epochs))) == 3


def test_epochs_may_have_no_end(url):
    found = mimii.batches(url, epochs=None, batch_size=4096)
    assert len([next(found) for _ in range(3 * len(found))]) == 3 * len(found)
    assert found.state_dict()["epoch"] == 2


@pytest.mark.parametrize("n_done", [0, 1, 13, 35, 36, 37, 71, 72])
@pytest.mark.parametrize("how", [{}, {"shuffle": False}, {"normalize": True}])
def test_a_restart_in_the_middle_gives_the_rest_bit_for_bit(url, n_done, how):
    def begin():
        return mimii.batches(url, epochs=2, pool_mib=POOL, batch_size=512, **how)

    whole = list(begin())
    assert len(whole) == 72
    first = begin()
    for _ in range(n_done):
        next(first)
    state = json.loads(json.dumps(first.state_dict()))
    resumed = begin()
    resumed.load_state_dict(state)
    rest = list(resumed)
    assert len(rest) == len(whole) - n_done
    assert all(map(same, whole[n_done:], rest))


def test_a_restart_reads_only_what_is_left(url, monkeypatch):
    found = mimii.batches(url, pool_mib=POOL)
    for _ in range(30):
        next(found)
    state = found.state_dict()
    found.close()
    decoded, _ = spy(monkeypatch)
    found.load_state_dict(state)
    assert len(list(found)) == 6
    assert 0 < len(decoded) < 14


def test_closing_and_iterating_again_goes_on(url):
    whole, found = list(mimii.batches(url, pool_mib=POOL)), mimii.batches(url, pool_mib=POOL)
    first = [next(found) for _ in range(5)]
    found.close()
    assert all(map(same, whole, [*first, *found]))


def test_a_state_of_other_batches_is_refused(url):
    state = mimii.batches(url).state_dict()
    for how, message in (
        ({"seed": 1}, "seed differs"),
        ({"batch_size": 5}, "batch_size differs"),
        ({"split": "test"}, "other rows are read, or the table has changed"),
        ({"pool_mib": 3}, "pool_bytes differs"),
    ):
        with pytest.raises(ValueError, match=message):
            mimii.batches(url, **how).load_state_dict(state)
    with pytest.raises(ValueError, match="not a state of batches: it lacks batch, "):
        mimii.batches(url).load_state_dict({"epoch": 1})


def neighbours(found):
    """Return how many rows lie between neighbours in a batch."""
    return np.concatenate([np.abs(np.diff(rows)) for rows in found])


def test_a_table_that_fits_into_the_pool_is_mixed_as_in_a_full_shuffle(url, plan, number_of):
    total, quantiles = plan.rows.total_rows, [0.1, 0.25, 0.5, 0.75, 0.9]
    full = neighbours(np.random.default_rng(0).permutation(total)[: total // 512 * 512].reshape(-1, 512))
    found = distances(mimii.batches(url, split=None), number_of)
    np.testing.assert_allclose(np.quantile(found, quantiles), np.quantile(full, quantiles), rtol=0.05)
    assert (found == 1).mean() < 1e-3


def test_neighbours_are_of_one_chunk_as_rarely_as_there_are_chunks_in_the_pool(url, plan, number_of):
    found = distances(mimii.batches(url, split=None, pool_mib=POOL), number_of)
    assert (found < plan.rows.layout.chunk_rows).mean() < 1.5 / 4  # of the six blocks in memory, two are read ahead
    assert (found == 1).mean() < 2e-3


def distances(found, number_of):
    return neighbours([[number_of[row.tobytes()] for row in batch.features] for batch in found])


class ShardsInMemory:
    """Counts shards that are fetched and not yet dropped."""

    def __init__(self, monkeypatch):
        self.most, self.lock, self.there = 0, threading.Lock(), set()
        fetch = row_source.RowSource.fetch

        class Shard(row_source.Shard):
            __slots__ = ("__weakref__",)

        def counting(source, number):
            shard = fetch(source, number)
            shard = Shard(shard.number, shard.data, shard.index)
            with self.lock:
                self.there.add(number)
                self.most = max(self.most, len(self.there))
            weakref.finalize(shard, self.there.discard, number)
            return shard

        monkeypatch.setattr(row_source.RowSource, "fetch", counting)


@pytest.fixture(scope="module")
def many_shards(tmp_path_factory):
    """Make a table of 96 shards, each of one chunk."""
    raw = tmp_path_factory.mktemp("many") / "raw"
    write_machines(raw, 192)
    plan = mimii.plan_table(mimii.find_recordings(str(raw)), SPEC, split="stratified", shard_bytes=MIB)
    assert plan.rows.n_shards == 96
    return str(mimii.featurize(plan, tmp_path_factory.mktemp("many") / "features.zarr").location)


@pytest.mark.parametrize("how", [{}, {"shuffle": False}])
def test_few_shards_are_in_memory_at_a_time(many_shards, monkeypatch, how):
    counted = ShardsInMemory(monkeypatch)
    for _ in mimii.batches(many_shards, split=None, pool_mib=20, **how):
        time.sleep(0.001)  # as a learner does, so that the threads are ahead
    assert counted.most <= 16 + 4 + 1
    assert not counted.there


def test_the_memory_of_decoded_rows_is_what_was_asked_for(url):
    found = mimii.batches(url, split=None, pool_mib=POOL)
    next(found)
    pools = [one for one in gc.get_objects() if type(one).__name__ == "Pool" and hasattr(one, "values")]
    assert sum(pool.values.nbytes for pool in pools) <= POOL * MIB


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"split": "validation"},
            "^split must be 'train', 'test', '' for clips in neither, or None for all, not 'valid",
        ),
        ({"batch_size": 0}, "^batch_size must be at least 1, not 0$"),
        ({"epochs": 0}, "^epochs must be at least 1, not 0$"),
        ({"threads": 0}, "^threads must be at least 1, not 0$"),
        ({"pool_mib": 0}, "^pool_mib must be at least 1, not 0$"),
        ({"seed": -1}, "^seed must be at least 0, not -1$"),
        ({"where": [True]}, r"^where must be True or False for each of the 49 clips; its shape is \(1,\)$"),
        (
            {"where": lambda clips: clips.label == 7},
            "where selects none of the [0-9]+ good clips of the split 'train'$",
        ),
    ],
)
def test_what_makes_no_batch_is_refused_at_once(url, how, message):
    with pytest.raises(ValueError, match=message):
        mimii.batches(url, **how)


def test_a_mask_of_numbers_and_a_column_that_is_not_there_are_refused(url):
    with pytest.raises(TypeError, match="where must be True or False for each of the 49 clips, not int64"):
        mimii.batches(url, where=np.arange(N_CLIPS + 1))
    with pytest.raises(KeyError, match="no column of the clips is named 'colour'; there are attributes, channel, "):
        mimii.batches(url, columns=["colour"])


def test_a_split_without_any_good_clip_is_refused_with_those_that_there_are(tmp_path):
    for index in range(3):
        write_clip(tmp_path / f"raw/{index}.wav", index)
    (tmp_path / "raw/bad.wav").touch()
    done = mimii.featurize(mimii.plan_table(mimii.find_recordings(tmp_path / "raw")), tmp_path / "out")
    with pytest.raises(ValueError, match="no good clip has the split 'train'; there are 3 with ''"):
        mimii.batches(done)
    assert sum(len(batch.label) for batch in mimii.batches(done, split="")) == 3 * 28


@pytest.mark.parametrize("damage", ["missing", "damaged", "cut off"])
@pytest.mark.parametrize("read", [mimii.batches, mimii.frames])
def test_a_shard_that_is_missing_or_damaged_is_named(url, tmp_path, damage, read):
    shutil.copytree(url, tmp_path / "copy")
    path = tmp_path / "copy/features/c.2.0"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.unlink() if damage == "missing" else path.write_bytes(data if damage == "damaged" else data[:99])
    error = FileNotFoundError if damage == "missing" else OSError
    with pytest.raises(error, match=r"features/c\.2\.0: (this shard is missing|damaged: .*jobs\.verify says more)"):
        list(read(str(tmp_path / "copy"), split=None, pool_mib=POOL))
    wait_for(lambda: not reading_threads(), "the end of the threads", 10)


def test_after_an_error_the_rest_comes_where_the_shard_is_back(url, tmp_path):
    expected = [batch.features for batch in mimii.batches(url, split=None, pool_mib=POOL)]
    shutil.copytree(url, tmp_path / "copy")
    shard = tmp_path / "copy/features/c.2.0"
    shard.rename(tmp_path / "shard")
    batches, found = mimii.batches(tmp_path / "copy", split=None, pool_mib=POOL), []
    with pytest.raises(FileNotFoundError):
        found.extend(batch.features for batch in batches)
    (tmp_path / "shard").rename(shard)
    found.extend(batch.features for batch in batches)
    assert len(found) == len(expected)
    np.testing.assert_array_equal(np.concatenate(found), np.concatenate(expected))


def test_a_table_that_was_made_anew_is_to_be_opened_again(url, plan, tmp_path):
    shutil.copytree(url, tmp_path / "out")
    batches = mimii.batches(tmp_path / "out", epochs=2)
    state = batches.state_dict()
    other = mimii.plan_table(list(plan.catalogue.clips)[20:], SPEC, split="stratified", shard_bytes=4 * MIB)
    mimii.featurize(other, tmp_path / "out", overwrite=True)
    with pytest.raises(FileNotFoundError, match="the table has changed since it was opened: open it again"):
        list(batches)
    with pytest.raises(ValueError, match="other rows are read, or the table has changed"):
        mimii.batches(tmp_path / "out", epochs=2).load_state_dict(state)


def test_closing_does_not_wait_for_a_server(url, monkeypatch):
    answered, whole = threading.Event(), row_source.RowSource.fetch
    monkeypatch.setattr(read_ahead, "is_remote", lambda _: True)
    monkeypatch.setattr(
        row_source.RowSource, "fetch", lambda source, shard: whole(source, shard) if not shard or answered.wait() else 0
    )
    batches = mimii.batches(url, split=None, shuffle=False, batch_size=256, pool_mib=POOL)
    for _ in range(5):  # a chunk of the second shard is to be decoded by then
        next(batches)
    try:
        batches.close()
    finally:
        answered.set()
    wait_for(lambda: not reading_threads(), "the end of the threads", 10)


@pytest.mark.parametrize("end", ["break", "close", "exhausted", "error"])
def test_no_thread_is_left(url, end):
    def use():
        for number, _ in enumerate(found := mimii.batches(url, pool_mib=POOL)):
            assert reading_threads()
            if number == 2 and end == "break":
                break
            if number == 2 and end == "close":
                found.close()
                return
            if number == 2 and end == "error":
                raise KeyError

    if end == "error":
        with pytest.raises(KeyError):
            use()
    else:
        use()
    wait_for(lambda: not reading_threads(), "the end of the threads", 10)


@pytest.mark.parametrize("ending", ["", "; raise SystemExit(0)", "; import signal; signal.raise_signal(2)"])
def test_a_process_that_stops_in_the_middle_ends_at_once(url, ending):
    handled = "import signal; signal.signal(2, signal.default_int_handler); "  # what runs in the background ignores it
    script = f"{handled}import mimii; found = mimii.batches({url!r}); next(found){ending}"
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False, capture_output=True)
    assert done.returncode in ((0,) if "raise_signal" not in ending else (130, -2))
    assert b"Traceback" not in done.stderr or "raise_signal" in ending


@pytest.mark.parametrize("dtype", ["float16", "float32"])
@pytest.mark.parametrize("stride", [1, 3, 5, 7])
def test_frames_are_those_of_the_rows_and_come_once(tmp_path, stride, dtype):
    for index, n_samples in enumerate((16_000, 30_000, 9000, 50_000)):
        write_clip(tmp_path / f"raw/{index}.wav", index, n_samples)
    spec = mimii.FeatureSpec(hop_length=16, stride=stride, dtype=dtype, n_mels=32, n_fft=512)
    plan = mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), spec, shard_bytes=MIB)
    url = str(tmp_path / "out")
    table = mimii.open_table(mimii.featurize(plan, url)).load()
    expected = {}
    for clip in range(4):
        first, count = int(table.first_row[clip]), int(table.n_rows[clip])
        frames = unstack_rows(table.features.values[first : first + count].astype(np.float32), 5, stride)
        expected |= {clip: frames[~np.isnan(frames[:, 0])]}
    for how in ({"shuffle": False}, {"pool_mib": 2}):
        found = list(mimii.frames(url, split="", batch_size=100, **how))
        for clip, frames in expected.items():
            mine = np.concatenate([batch.features[batch.clip == clip] for batch in found])
            order = (lambda some: some) if "shuffle" in how else (lambda some: some[np.lexsort(some.T)])
            np.testing.assert_array_equal(order(mine), order(frames))
    assert sum(len(batch.clip) for batch in mimii.frames(url, split="")) == sum(map(len, expected.values()))


def test_normalized_frames_have_mean_0_and_deviation_1(url):
    frames = np.concatenate([batch.features for batch in mimii.frames(url, normalize=True)]).astype(float)
    np.testing.assert_allclose(frames.mean(0), 0, atol=0.03)
    np.testing.assert_allclose(frames.std(0), 1, atol=0.03)


def test_rows_of_float16_are_read_as_float32(tmp_path):
    write_machines(tmp_path / "raw", 12)
    plan = mimii.plan_table(
        mimii.find_recordings(tmp_path / "raw"), mimii.FeatureSpec(hop_length=32, dtype="float16"), shard_bytes=MIB
    )
    table = mimii.open_table(mimii.featurize(plan, tmp_path / "out")).load()
    found = list(mimii.batches(tmp_path / "out", split=None, shuffle=False))
    rows = np.concatenate([batch.features for batch in found])
    assert rows.dtype == np.float32
    np.testing.assert_array_equal(rows, table.features.values.astype(np.float32))


@pytest.mark.parametrize("version", [1, 2])
def test_tables_of_earlier_formats_are_read(url, table, tmp_path, numbers, version):
    shutil.copytree(url, tmp_path / "old")
    later = ("channel", "start_s", "duration_s", "domain", "attributes", "recorded_at")
    group = json.loads((tmp_path / "old/zarr.json").read_text())
    group["attributes"]["format"] = version
    for name in later if version == 2 else (*later, "mel_mean", "mel_std", "mel_max", "mel_frequency"):
        del group["consolidated_metadata"]["metadata"][name]
        shutil.rmtree(tmp_path / "old" / name)
    (tmp_path / "old/zarr.json").write_text(json.dumps(group))
    found = numbers(mimii.batches(tmp_path / "old", where=lambda clips: clips.label == 0))
    assert sorted(found) == rows_of(table, (table.split.values == "train") & (table.label.values == 0))
    np.testing.assert_array_equal(mimii.read_clip(tmp_path / "old", 3), table.features.values[3 * 497 : 4 * 497])


def test_a_table_that_took_the_place_of_another_is_read(url, plan, table, tmp_path):
    shutil.copytree(url, tmp_path / "out")
    np.testing.assert_array_equal(
        mimii.read_clip(mimii.open_table(tmp_path / "out"), 1), table.features.values[497:994]
    )
    mimii.featurize(plan, tmp_path / "out", overwrite=True)
    np.testing.assert_array_equal(
        mimii.read_clip(mimii.open_table(tmp_path / "out"), 1), table.features.values[497:994]
    )
    whole = np.concatenate([batch.features for batch in mimii.batches(tmp_path / "out", split=None, shuffle=False)])
    np.testing.assert_array_equal(whole, table.features.values[rows_of(table, True)])  # noqa: FBT003


@pytest.fixture
def remote(url, rclone, use):
    """Put the table on S3."""
    use(rclone)
    files = filesystem(rclone)
    if not files.exists("tables"):
        files.mkdir("tables")
        files.put(url, "tables/features.zarr", recursive=True)
    return "s3://tables/features.zarr"


def test_a_table_on_s3_gives_the_same(url, remote, table):
    here, there = (list(mimii.batches(one, pool_mib=POOL, columns=["number"])) for one in (url, remote))
    assert len(here) == len(there) > 0
    assert all(map(same, here, there))
    np.testing.assert_array_equal(
        mimii.read_clip(mimii.open_table(remote), 5), table.features.values[5 * 497 : 6 * 497]
    )
    wait_for(lambda: not reading_threads(), "the end of the threads", 10)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_a_forked_process_reads_by_itself(url, remote):
    for one in (url, remote):
        expected = next(mimii.batches(one)).features.sum()
        reader, writer = os.pipe()
        if (child := os.fork()) == 0:
            try:
                os.write(writer, str(next(mimii.batches(one)).features.sum()).encode())
            finally:
                os._exit(0)
        os.close(writer)
        with os.fdopen(reader) as said:
            assert said.read() == str(expected)
        os.waitpid(child, 0)


@pytest.mark.parametrize("of", ["a table that is open", "its URL"])
def test_a_clip_has_its_rows_also_at_the_borders_of_shards(url, table, plan, of):
    opened = mimii.open_table(url) if of.startswith("a") else url
    layout = plan.rows.layout
    begins = table.first_row.values
    astride = [
        clip
        for clip in range(N_CLIPS)
        if begins[clip] // layout.chunk_rows != (begins[clip] + 496) // layout.chunk_rows
    ]
    for clip in (0, 5, 6, 7, BAD, N_CLIPS, -1, *astride):
        rows = mimii.read_clip(opened, clip)
        assert rows.dtype == np.float32
        np.testing.assert_array_equal(rows, table.features.values[begins[clip] : begins[clip] + 497])
    with pytest.raises(IndexError, match="no clip 49: there are 49"):
        mimii.read_clip(opened, N_CLIPS + 1)


@pytest.mark.parametrize("clip", [np.int64(5), xarray.DataArray(5)], ids=["numpy", "xarray"])
def test_the_index_of_a_clip_may_be_of_numpy_or_xarray(url, table, clip):
    np.testing.assert_array_equal(mimii.read_clip(url, clip), table.features.values[5 * 497 : 6 * 497])


@pytest.mark.parametrize("clip", ["raw/a.wav", None, 1.0, [1, 2]], ids=str)
def test_what_is_no_index_of_a_clip_is_refused(url, clip):
    with pytest.raises(TypeError, match=r"^clip must be the index of a clip, such as 17, not "):
        mimii.read_clip(url, clip)


def test_clips_that_straddle_shards_are_read_whole(tmp_path):
    for index, n_samples in enumerate((30_000, 50_000, 20_000, 70_000)):
        write_clip(tmp_path / f"raw/{index}.wav", index, n_samples)
    plan = mimii.plan_table(
        mimii.find_recordings(tmp_path / "raw"), mimii.FeatureSpec(hop_length=16, n_fft=512), shard_bytes=MIB
    )
    assert plan.rows.n_shards > 4
    table = mimii.open_table(mimii.featurize(plan, tmp_path / "out"))
    rows = table.features.values
    for clip, (first, count) in enumerate(zip(table.first_row.values, table.n_rows.values, strict=True)):
        np.testing.assert_array_equal(mimii.read_clip(table, clip), rows[first : first + count])


def test_a_clip_of_a_damaged_or_missing_shard_is_named(url, tmp_path):
    shutil.copytree(url, tmp_path / "copy")
    (tmp_path / "copy/features/c.0.0").unlink()
    path = tmp_path / "copy/features/c.1.0"
    path.write_bytes(path.read_bytes()[:-9] + bytes(9))
    opened = mimii.open_table(tmp_path / "copy")
    with pytest.raises(FileNotFoundError, match=r"the rows of clip 2 are missing; python -m jobs\.verify says more"):
        mimii.read_clip(opened, 2)
    with pytest.raises(OSError, match=r"the rows of clip 7 are damaged: .*; python -m jobs\.verify says more"):
        mimii.read_clip(opened, 7)


def test_a_clip_of_some_clips_of_a_table_is_theirs(url, table):
    opened = mimii.open_table(url)
    np.testing.assert_array_equal(mimii.read_clip(opened, 2), table.features.values[2 * 497 : 3 * 497])
    turned = opened.isel(clip=slice(None, None, -1))
    for some in (turned, turned.load()):
        first = int(table.first_row[-3])
        np.testing.assert_array_equal(mimii.read_clip(some, 2), table.features.values[first : first + 497])
    with pytest.raises(IndexError, match="no clip 3: there are 3"):
        mimii.read_clip(opened.isel(clip=slice(3)), 3)
    with pytest.raises(TypeError, match="it is not known where this Dataset is from"):
        mimii.read_clip(table.drop_encoding(), 0)


@pytest.mark.parametrize("was_read", [False, True])
def test_clips_of_a_table_that_has_grown_are_read_and_those_of_another_table_are_not(tmp_path, was_read):
    def make(*indices, **how):
        for index in indices:
            write_clip(tmp_path / f"raw/{index}.wav", index, 16_000)
        plan = mimii.plan_table(mimii.find_recordings(tmp_path / "raw"), mimii.FeatureSpec())
        return mimii.open_table(mimii.featurize(plan, tmp_path / "out", **how))

    opened = make(3, 5)
    expected = opened.features.values[28:56]
    if was_read:
        mimii.read_clip(opened, 0)
    make(1, 4, update=True)
    np.testing.assert_array_equal(mimii.read_clip(opened, 1), expected)
    shutil.rmtree(tmp_path / "raw")
    make(1, 2, 3, 5, overwrite=True)
    with pytest.raises(mimii.StoreError, match="another table is there than when this Dataset was opened; open it a"):
        mimii.read_clip(opened, 1)


@pytest.mark.parametrize("epochs", [1, 2])
def test_iterating_again_gives_the_next_epochs(url, numbers, epochs):
    batches = mimii.batches(url, epochs=epochs)
    expected = [numbers([batch]) for batch in mimii.batches(url, epochs=3 * epochs)]
    found = [[numbers([batch]) for batch in batches] for _ in range(3)]
    assert len(found[0]) == len(found[2]) == epochs * len(batches)
    assert [batch for epoch in found for batch in epoch] == expected
    again, rest = mimii.batches(url, epochs=epochs), iter(batches)
    next(rest)
    again.load_state_dict(batches.state_dict())
    left = [numbers([batch]) for batch in again]
    assert left == [numbers([batch]) for batch in rest]
    assert len(left) == epochs * len(batches) - 1


def test_the_iterator_is_one(url):
    found = mimii.batches(url)
    assert isinstance(found, Batches)
    assert iter(found) is found
    assert DiskObjects(url).get("zarr.json")
