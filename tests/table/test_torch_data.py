"""A table as a dataset of PyTorch: workers and ranks share the rows, and each epoch has another order."""

import importlib.util
import pickle
import sys

import numpy as np
import pytest

import mimii
from tests.helpers.commands import MIB, open_table
from tests.helpers.recordings import write_machines
from tests.helpers.servers import filesystem

has_torch = importlib.util.find_spec("torch") is not None
needs_torch = pytest.mark.skipif(not has_torch, reason="PyTorch is not installed")
SPEC = mimii.FeatureSpec(hop_length=32)
N_CLIPS = 48


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    """Make a table of 8 shards with 3 chunks each."""
    folder = tmp_path_factory.mktemp("torch")
    write_machines(folder / "raw", N_CLIPS)
    plan = mimii.plan_table(mimii.find_recordings(folder / "raw"), SPEC, split="stratified", shard_bytes=4 * MIB)
    assert plan.rows.n_shards == 8
    return str(mimii.featurize(plan, folder / "features.zarr").location)


@pytest.fixture(scope="module")
def wanted(url):
    """Return the bytes of each row for training."""
    table = open_table(url)
    return sorted(
        row.tobytes() for row in table.features.values[(table.split.values == "train")[table.row_clip.values]]
    )


@pytest.fixture
def loader():
    """Return what makes a loader of a table."""
    import torch  # noqa: PLC0415  it may be missing

    def make(url, n_workers=0, options=None, **how):
        dataset = mimii.torch_dataset(url, pool_mib=8, batch_size=100, **how)
        context = {"multiprocessing_context": options.pop("context")} if options and "context" in options else {}
        options = {**(options or {}), **context}
        return dataset, torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=n_workers, **options)

    return make


def rows_of(found):
    return [row.numpy().tobytes() for batch in found for row in batch.features]


def same(one, other):
    return all(np.array_equal(a, b) for a, b in zip(one[:3], other[:3], strict=True))


@pytest.mark.skipif(has_torch, reason="PyTorch is installed")
def test_without_torch_it_is_said_what_is_missing(url):
    with pytest.raises(ImportError, match=r"torch_dataset needs PyTorch, which cannot be imported .*mimii\.batches"):
        mimii.torch_dataset(url)


def test_reading_in_batches_does_not_import_torch(url):
    next(mimii.batches(url))
    assert has_torch or "torch" not in sys.modules


@needs_torch
@pytest.mark.parametrize("n_workers", [0, 1, 2, 3])
def test_workers_share_the_rows(url, wanted, loader, n_workers):
    _, batches = loader(url, n_workers)
    assert sorted(rows_of(batches)) == wanted


@needs_torch
@pytest.mark.parametrize("context", ["fork", "spawn", "forkserver"])
def test_workers_may_be_started_in_any_way(url, wanted, loader, context):
    _, batches = loader(url, 2, {"context": context}, where=lambda clips: clips.label >= 0)
    assert sorted(rows_of(batches)) == wanted


@needs_torch
def test_batches_are_tensors(url, loader):
    import torch  # noqa: PLC0415

    _, batches = loader(url, columns=["number", "machine_id"])
    batch = next(iter(batches))
    assert (batch.features.dtype, tuple(batch.features.shape)) == (torch.float32, (100, 320))
    assert (batch.label.dtype, batch.clip.dtype, batch.columns["number"].dtype) == (
        torch.int8,
        torch.int32,
        torch.int32,
    )
    assert set(batch.columns["machine_id"]) <= {"id_00", "id_02"}


@needs_torch
@pytest.mark.parametrize("options", [{}, {"persistent_workers": True}])
@pytest.mark.parametrize("n_workers", [0, 2])
def test_each_epoch_has_another_order_and_the_seed_decides_it(url, wanted, loader, n_workers, options):
    options = options if n_workers else {}
    _, one = loader(url, n_workers, options)
    epochs = [rows_of(one) for _ in range(3)]
    assert len(set(map(tuple, epochs))) == 3
    assert all(sorted(epoch) == wanted for epoch in epochs)
    dataset, again = loader(url, n_workers, options)
    assert rows_of(again) == epochs[0]
    dataset.set_epoch(2)
    assert rows_of(again) == epochs[2]


@needs_torch
def test_all_workers_are_in_one_epoch_whatever_was_iterated_before(url, wanted, loader):
    import torch  # noqa: PLC0415

    dataset, two = loader(url, 2)
    three = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=3)
    stay = torch.utils.data.DataLoader(dataset, batch_size=None, num_workers=2, persistent_workers=True)
    next(iter(dataset))  # a look at it, without workers
    next(iter(two))  # and one that is left
    found = [rows_of(one) for one in (two, three, stay, two, stay, dataset, stay)]
    assert all(sorted(epoch) == wanted for epoch in found)
    assert len(set(map(tuple, found))) == len(found)


@needs_torch
def test_workers_of_a_loader_whose_seed_is_always_the_same_are_in_one_epoch(url, wanted, loader):
    import torch  # noqa: PLC0415

    _, batches = loader(url, 2)
    found = []
    for _ in range(2):
        torch.manual_seed(3)
        found.append(rows_of(batches))
    assert all(sorted(epoch) == wanted for epoch in found)
    assert found[0] != found[1]


@needs_torch
def test_two_iterations_at_a_time_are_two_epochs(url, wanted, loader):
    _, batches = loader(url, 2)
    one, other = zip(*zip(batches, batches, strict=True), strict=True)
    assert sorted(rows_of(one)) == sorted(rows_of(other)) == wanted
    assert rows_of(one) != rows_of(other)


@needs_torch
def test_workers_that_stay_resume_in_the_middle_of_an_epoch(url, loader):
    dataset, batches = loader(url, 2, {"persistent_workers": True})
    whole = list(batches)
    dataset.resume(0, 7)
    assert all(map(same, list(batches), whole[7:]))
    dataset.set_epoch(0)
    assert len(list(batches)) == len(whole)  # what is resumed, is once


@needs_torch
def test_a_dataset_is_copied_with_its_epoch(url, loader):
    dataset, _ = loader(url)
    next(iter(dataset))
    copy = pickle.loads(pickle.dumps(dataset))
    assert same(next(iter(copy)), next(iter(dataset)))


@needs_torch
@pytest.mark.parametrize("n_workers", [0, 2])
@pytest.mark.parametrize("n_done", [0, 5, 60, 170])
def test_an_epoch_is_resumed_bit_for_bit(url, loader, n_workers, n_done):
    dataset, batches = loader(url, n_workers)
    dataset.set_epoch(1)
    whole = list(batches)
    other, rest = loader(url, n_workers)
    other.resume(1, n_done)
    left = list(rest)
    assert len(left) == len(whole) - min(n_done, len(whole))
    key = lambda batch: batch.features.numpy().tobytes()  # noqa: E731
    assert sorted(map(key, left)) == sorted(map(key, whole[n_done:]))
    assert all(map(same, left[:3], whole[n_done:]))
    assert sorted(rows_of(rest)) == sorted(rows_of(batches))  # the next epoch is whole


@needs_torch
@pytest.mark.parametrize("n_workers", [0, 2])
def test_ranks_have_no_row_in_common_and_equally_many_batches(url, wanted, loader, n_workers):
    found = [list(loader(url, n_workers, rank=rank, n_ranks=3)[1]) for rank in range(3)]
    assert len(set(map(len, found))) == 1
    rows = [row for one in found for row in rows_of(one)]
    assert len(set(rows)) == len(rows) > 0.5 * len(wanted)
    assert set(rows) <= set(wanted)
    with pytest.raises(ValueError, match="no rank 3: there are 3"):
        mimii.torch_dataset(url, rank=3, n_ranks=3)


@needs_torch
def test_batches_of_workers_stay_as_they_are_also_when_loops_are_left(url, wanted, loader):
    _, batches = loader(url, 2, {"persistent_workers": True})
    kept = [next(iter(batches)) for _ in range(20)]
    copies = [batch.features.clone() for batch in kept]
    assert sorted(rows_of(list(batches))) == wanted
    assert all(batch.features.equal(copy) for batch, copy in zip(kept, copies, strict=True))


@needs_torch
def test_a_part_of_a_batch_may_be_chosen_in_the_worker(url, loader):
    dataset, batches = loader(url, 2, {"collate_fn": lambda batch: batch.features[1:, :64]})
    dataset.set_epoch(0)
    found = list(batches)
    whole = list(loader(url, 2)[1])
    assert all(part.equal(batch.features[1:, :64]) for part, batch in zip(found, whole, strict=True))


@needs_torch
def test_single_frames_are_those_of_frames(url, loader):
    _, batches = loader(url, single_frames=True)
    assert sum(len(batch.clip) for batch in batches) == mimii.frames(url).n_items


@needs_torch
def test_an_iterator_has_a_state(url, loader):
    dataset, _ = loader(url)
    first = iter(dataset)
    for _ in range(7):
        next(first)
    state, rest = first.state_dict(), list(first)
    other = iter(loader(url)[0])
    other.load_state_dict(state)
    again = list(other)
    assert len(again) == len(rest) > 0
    assert all(map(same, again, rest))


@needs_torch
def test_a_state_of_a_later_epoch_is_loaded_also_after_others(url, loader):
    dataset, _ = loader(url)
    dataset.set_epoch(2)
    first = iter(dataset)
    for _ in range(7):
        next(first)
    state, rest, after = first.state_dict(), list(first), list(dataset)
    other, _ = loader(url)
    for n_before in (0, 1):
        for _ in range(n_before):
            next(iter(other))
        resumed = iter(other)
        resumed.load_state_dict(state)
        again = list(resumed)
        assert len(again) == len(rest) > 0
        assert all(map(same, again, rest))
        assert all(map(same, list(other), after))
    with pytest.raises(ValueError, match="the state is of other batches: share differs"):
        iter(loader(url, rank=1, n_ranks=2)[0]).load_state_dict(state)
    with pytest.raises(ValueError, match="not a state of batches: it lacks"):
        iter(other).load_state_dict({"batch": 3})


@needs_torch
def test_a_loader_of_torchdata_continues_in_a_later_epoch(url):
    stateful = pytest.importorskip("torchdata.stateful_dataloader").StatefulDataLoader

    def make():
        dataset = mimii.torch_dataset(url, pool_mib=8, batch_size=100)
        return stateful(dataset, batch_size=None, num_workers=2)

    batches = make()
    list(batches)
    found = iter(batches)
    for _ in range(11):
        next(found)
    state, rest, after = batches.state_dict(), list(found), list(batches)
    other = make()
    other.load_state_dict(state)
    for expected in (rest, after):
        again = list(other)
        assert len(again) == len(expected)
        assert all(map(same, again, expected))


@needs_torch
def test_more_ranks_than_shards_are_refused(url, loader):
    with pytest.raises(ValueError, match=r"9 ranks cannot share 8 shards.*use fewer ranks, or .*--shard-mib"):
        loader(url, rank=0, n_ranks=9)
    one = lambda clips: clips.index == clips.index[clips.split == "train"][0]  # noqa: E731
    with pytest.raises(ValueError, match="2 ranks cannot share 1 shard"):
        loader(url, rank=1, n_ranks=2, where=one)


@needs_torch
def test_ranks_with_more_workers_than_shards_have_rows(url, loader):
    found = [rows_of(loader(url, 2, rank=rank, n_ranks=6)[1]) for rank in range(6)]
    assert min(map(len, found)) > 1000
    assert len(set().union(*found)) == sum(map(len, found))


@needs_torch
@pytest.mark.parametrize("n_workers", [0, 2])
def test_a_table_on_s3_is_read_also_by_workers(url, wanted, loader, rclone, use, n_workers):
    use(rclone)
    files = filesystem(rclone)
    if not files.exists("tables"):
        files.mkdir("tables")
        files.put(url, "tables/features.zarr", recursive=True)
    _, batches = loader("s3://tables/features.zarr", n_workers)
    assert sorted(rows_of(batches)) == wanted
