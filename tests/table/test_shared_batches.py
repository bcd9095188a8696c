"""Rows that go to another process in shared memory: they arrive, and nothing overwrites what is in use."""

import gc
import multiprocessing
import os
import subprocess
import sys
from multiprocessing.reduction import ForkingPickler

import numpy as np
import pytest

from mimii.table import shared_batches
from mimii.table.shared_batches import receive, send, sender_of_process

N_SLOTS = 16
SHAPE = 5, 7


@pytest.fixture
def sender(monkeypatch):
    """Return a sender of this process, of which nothing has been sent."""
    monkeypatch.setattr(shared_batches, "_SENDERS", {})
    return sender_of_process(4 * 5 * 7)


def filled(sender, value, shape=SHAPE):
    rows = sender.new_rows(*shape)
    rows[:] = value
    return rows


def through_a_queue(rows):
    """Send rows and receive them, as two processes would."""
    return receive(ForkingPickler.loads(ForkingPickler.dumps(send(rows))))


def address(rows):
    return rows.__array_interface__["data"][0]


def test_rows_arrive_in_the_memory_in_which_they_were_made(sender):
    for value in range(3):
        made = filled(sender, value)
        found = through_a_queue(made)
        np.testing.assert_array_equal(found, np.full(SHAPE, value, np.float32))
        assert address(found) != address(made)  # another mapping of the same memory
        made[0, 0] = 99
        assert found[0, 0] == 99


def test_a_slot_is_used_again_when_no_array_has_it_any_more(sender):
    first = address(filled(sender, 1))
    gc.collect()
    made = filled(sender, 2)
    assert address(made) == first  # that one was never sent
    part = through_a_queue(made)[2:4]
    del made
    assert address(filled(sender, 3)) != first
    np.testing.assert_array_equal(part, np.full((2, 7), 2, np.float32))
    del part
    assert address(filled(sender, 4)) == first


def test_rows_on_their_way_are_not_overwritten(sender):
    made = filled(sender, 1)
    place, on_its_way = address(made), send(made)
    del made
    assert address(filled(sender, 2)) != place
    assert receive(on_its_way).max() == 1
    assert address(filled(sender, 2)) == place


def test_where_no_slot_is_free_rows_are_sent_as_they_are(sender):
    found = [through_a_queue(filled(sender, value)) for value in range(N_SLOTS + 9)]
    assert [rows.tolist() for rows in found] == [np.full(SHAPE, value).tolist() for value in range(N_SLOTS + 9)]
    plain = filled(sender, 1)
    assert send(plain) is plain


@pytest.mark.parametrize(
    "change",
    [lambda rows: rows[1:], lambda rows: rows[:, :3], lambda rows: rows.view(np.int32), lambda rows: rows.astype("f8")],
    ids=["later rows", "columns", "bytes of another type", "another type"],
)
def test_what_does_not_fill_a_slot_from_its_begin_is_sent_as_it_is(sender, change):
    rows = change(filled(sender, 5))
    assert send(rows) is rows
    np.testing.assert_array_equal(through_a_queue(rows), rows)


def test_fewer_rows_arrive_alone(sender):
    np.testing.assert_array_equal(through_a_queue(filled(sender, 5)[:2]), np.full((2, 7), 5, np.float32))


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_rows_that_a_forked_process_has_are_never_overwritten(sender):
    def look(rows, there):
        there.recv()
        there.send(rows.tolist())

    found = through_a_queue(filled(sender, 1))
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe()
    process = context.Process(target=look, args=(found, there), daemon=True)
    process.start()
    del found
    for value in range(2, 2 + 2 * N_SLOTS):
        assert through_a_queue(filled(sender, value)).max() == value
    here.send("all others have come")
    assert here.recv() == np.ones(SHAPE).tolist()
    process.join()


def test_memory_of_processes_that_have_ended_is_forgotten(sender, monkeypatch):
    monkeypatch.setattr(shared_batches, "_RECEIVED", {})
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    shared_batches._RECEIVED[process.pid, 140] = None
    through_a_queue(filled(sender, 1))
    assert [owner for owner, _ in shared_batches._RECEIVED] == [os.getpid()]


def test_without_such_memory_there_is_no_sender(monkeypatch):
    monkeypatch.setattr(shared_batches, "_SENDERS", {})
    monkeypatch.delattr(shared_batches.os, "memfd_create")
    assert sender_of_process(140) is None
