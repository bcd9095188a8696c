"""The order of chunks and rows: all of them, once, mixed, and the same for the same numbers."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.table.row_order import (
    ALL_SHARDS,
    Epoch,
    Mixing,
    Share,
    choose_mixing,
    equal_counts,
    next_worker,
    rounds,
    share_of,
)

MIB = 1 << 20
SHARDS = np.repeat(np.arange(40), 28)


def epoch(seed=0, number=0, share=ALL_SHARDS, *, shuffle=True):
    return Epoch(seed, number, share, shuffle)


def items_of(sizes):
    begins = np.cumsum(sizes) - sizes
    return lambda block: np.arange(begins[block], begins[block] + sizes[block])


@given(n_ranks=st.integers(1, 4), n_workers=st.integers(1, 4), n_shards=st.integers(1, 40), number=st.integers(0, 3))
def test_workers_and_ranks_share_all_shards_and_no_two_have_one_in_common(n_ranks, n_workers, n_shards, number):
    shards = SHARDS[: 28 * n_shards]
    shares = [share_of(rank, n_ranks, worker, n_workers) for rank in range(n_ranks) for worker in range(n_workers)]
    found = [epoch(number=number, share=share).order_chunks(shards, 16) for share in shares]
    assert sorted(np.concatenate(found).tolist()) == list(range(len(shards)))
    owners = [set(shards[chunks].tolist()) for chunks in found]
    assert sum(map(len, owners)) == n_shards
    assert max(map(len, owners)) - min(map(len, owners)) <= 1
    dealt = epoch(number=number, share=shares[0]).deal(n_shards)
    assert [set(np.flatnonzero(dealt == share.number).tolist()) for share in shares] == owners


def test_a_rank_has_the_same_shards_with_any_number_of_workers():
    def shards_of(rank, n_workers):
        shares = [share_of(rank, 3, worker, n_workers) for worker in range(n_workers)]
        return sorted(np.concatenate([epoch(share=share).order_chunks(SHARDS, 16) for share in shares]).tolist())

    assert shards_of(1, 1) == shards_of(1, 2) == shards_of(1, 5)


def test_the_order_of_shards_and_that_of_rows_have_no_random_numbers_in_common():
    shards = epoch().order_chunks(np.arange(40), 0)
    [(_, items)] = epoch().steps(1, 1, items_of([40]))
    assert not np.array_equal(shards, items)


def test_shares_differ_from_epoch_to_epoch():
    ones = [set(SHARDS[epoch(number=number, share=Share(0, 4)).order_chunks(SHARDS, 16)].tolist()) for number in (0, 1)]
    assert ones[0] != ones[1]


def test_few_shards_are_open_at_a_time_and_their_chunks_are_mixed():
    order = SHARDS[epoch().order_chunks(SHARDS, 16)]
    first = {shard: int(np.flatnonzero(order == shard)[0]) for shard in range(40)}
    last = {shard: int(np.flatnonzero(order == shard)[-1]) for shard in range(40)}
    n_open = [sum(first[shard] <= place <= last[shard] for shard in range(40)) for place in range(len(order))]
    assert max(n_open) <= 17
    assert np.mean(np.diff(order) == 0) < 2 / 16


def test_without_shuffle_chunks_are_in_the_order_of_the_table():
    assert epoch(shuffle=False).order_chunks(SHARDS, 1).tolist() == list(range(len(SHARDS)))
    mine = epoch(shuffle=False, share=Share(1, 2)).order_chunks(SHARDS, 1)
    assert SHARDS[mine].tolist() == np.repeat(np.arange(1, 40, 2), 28).tolist()


@given(sizes=st.lists(st.integers(0, 30), min_size=1, max_size=20), depth=st.integers(1, 9), shuffle=st.booleans())
def test_each_item_leaves_once_and_only_when_its_block_is_in_memory(sizes, depth, shuffle):
    depth = depth if shuffle else 1
    block_of = np.repeat(np.arange(len(sizes)), sizes)
    steps = list(epoch(shuffle=shuffle).steps(len(sizes), depth, items_of(np.array(sizes))))
    left = np.concatenate([items for _, items in steps])
    assert sorted(left.tolist()) == list(range(sum(sizes)))
    for step, items in steps:
        assert all(step - depth < block_of[item] <= step for item in items)
    if not shuffle:
        assert left.tolist() == list(range(sum(sizes)))


def test_what_fits_into_the_pool_is_shuffled_as_one():
    [(_, items)] = epoch().steps(5, 14, items_of(np.full(5, 100)))
    assert abs(np.corrcoef(items, np.arange(500))[0, 1]) < 0.2


def test_seed_epoch_and_share_decide_the_order():
    def order(**how):
        return np.concatenate([items for _, items in epoch(**how).steps(20, 4, items_of(np.full(20, 50)))]).tolist()

    assert order() == order()
    assert len({tuple(order(**how)) for how in ({}, {"seed": 1}, {"number": 1}, {"share": Share(1, 2)})}) == 4


def test_the_pool_holds_what_it_may():
    for chunk_bytes, pool_mib in ((1_186_560, 160), (4 * MIB, 160), (237_000, 160), (1_186_560, 8), (40 * MIB, 160)):
        mixing = choose_mixing(chunk_bytes, pool_mib * MIB, shuffle=True)
        assert mixing.depth >= 1
        assert mixing.n_slots * mixing.block_chunks * chunk_bytes <= max(pool_mib * MIB, 3 * chunk_bytes)
    assert choose_mixing(1_186_560, 160 * MIB, shuffle=True) == Mixing(8, 14)
    assert choose_mixing(1_186_560, 640 * MIB, shuffle=True) == Mixing(35, 14)
    assert choose_mixing(1_186_560, 160 * MIB, shuffle=False) == Mixing(8, 1, 1)


@pytest.mark.parametrize(
    ("counts", "n", "given"),
    [([5, 5], 4, [2, 2]), ([5, 5], 5, [3, 2]), ([1, 5], 5, [1, 4]), ([0, 3, 2], 9, [0, 3, 2]), ([7], 3, [3])],
)
def test_workers_take_turns(counts, n, given):
    assert rounds(counts, n) == given


@given(counts=st.lists(st.integers(0, 20), min_size=1, max_size=5), n=st.integers(0, 120))
def test_turns_are_those_of_a_loop(counts, n):
    given, worker = [0] * len(counts), 0
    for _ in range(min(n, sum(counts))):
        while given[worker] == counts[worker]:
            worker = (worker + 1) % len(counts)
        given[worker] += 1
        worker = (worker + 1) % len(counts)
    assert rounds(counts, n) == given


def turns(counts):
    """Return what a loader gives: who, and which batch of it."""
    given, found, worker = [0] * len(counts), [], 0
    while given != list(counts):
        if given[worker] < counts[worker]:
            found.append((worker, given[worker]))
            given[worker] += 1
        worker = (worker + 1) % len(counts)
    return found


@given(counts=st.lists(st.integers(0, 9), min_size=1, max_size=5))
def test_the_rest_of_an_epoch_is_in_order_behind_any_number_of_batches(counts):
    for n in range(sum(counts) + 1):
        first, done = next_worker(counts, n), rounds(counts, n)
        places = [(first + worker) % len(counts) for worker in range(len(counts))]
        rest = turns([counts[place] - done[place] for place in places])
        assert [(places[worker], done[places[worker]] + batch) for worker, batch in rest] == turns(counts)[n:]


@given(
    counts=st.integers(1, 4).flatmap(
        lambda n: st.lists(st.lists(st.integers(0, 9), min_size=n, max_size=n), min_size=1, max_size=4)
    )
)
def test_ranks_give_equally_many_batches_and_one_of_them_all_that_it_has(counts):
    given = equal_counts(counts)
    assert set(map(sum, given)) == {min(map(sum, counts))}
    assert all(
        one <= most for few, many in zip(given, counts, strict=True) for one, most in zip(few, many, strict=True)
    )
