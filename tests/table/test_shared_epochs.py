"""Workers of one iteration agree on its epoch, in whichever order they begin."""

import copy
from multiprocessing import get_context

import pytest

from mimii.table.shared_epochs import SharedEpochs, Start, Worker

MAIN = Worker(0, 0, 0)


def begin(epochs, seed, *workers, total=2):
    return [epochs.begin(Worker(worker, total, seed)).epoch for worker in workers]


def started(epochs):
    """Return what a process has that is started with it: the same memory, and calls of its own."""
    return SharedEpochs(epochs._memory, epochs._n_begun)


def test_without_workers_each_iteration_is_the_next_epoch():
    epochs = SharedEpochs()
    epochs.set_next(Start(3, 5))
    assert [epochs.begin(MAIN) for _ in range(3)] == [Start(3, 5), Start(4), Start(5)]


def test_workers_that_are_late_join_their_own_iteration():
    main = SharedEpochs()
    assert begin(started(main), 70, 0) == [0]
    assert begin(started(main), 90, 1) == [1]
    assert begin(started(main), 70, 1) == [0]
    assert begin(started(main), 90, 0) == [1]
    assert begin(started(main), 90, 0, total=3) == [2]
    assert main.begin(MAIN) == Start(3)


def test_a_worker_that_stays_may_begin_before_another_has_begun_the_last_iteration():
    main = SharedEpochs()
    one, other = started(main), started(main)
    assert begin(one, 70, 0, 0, 0) == [0, 1, 2]
    assert begin(other, 70, 1, 1, 1) == [0, 1, 2]


def test_the_same_seed_again_is_another_iteration():
    main = SharedEpochs()
    found = [[*begin(started(main), 70, 0), *begin(started(main), 70, 1)] for _ in range(40)]
    assert found == [[number, number] for number in range(40)]


def test_a_part_of_an_epoch_is_for_all_workers_and_once():
    main = SharedEpochs()
    main.set_next(Start(4, 9))
    assert [started(main).begin(Worker(worker, 2, 70)) for worker in (1, 0)] == [Start(4, 9)] * 2
    assert begin(started(main), 80, 0) == [5]


def test_a_copy_counts_for_itself():
    epochs = SharedEpochs()
    epochs.set_next(Start(3))
    other = copy.deepcopy(epochs)
    assert other.begin(MAIN) == epochs.begin(MAIN) == Start(3)


def take(epochs):
    assert epochs.begin(Worker(1, 2, 70)) == Start(3)
    epochs.set_next(Start(8))


@pytest.mark.parametrize("context", ["fork", "spawn"])
def test_processes_that_are_started_share_the_count(context):
    epochs = SharedEpochs()
    epochs.set_next(Start(3))
    process = get_context(context).Process(target=take, args=(epochs,))
    process.start()
    process.join()
    assert process.exitcode == 0
    assert begin(started(epochs), 70, 0) == [3]
    assert epochs.begin(MAIN) == Start(8)
