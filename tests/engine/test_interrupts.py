"""Ctrl-C: noted at first, takes effect where it does no harm, and ends each wait."""

import os
import signal
import threading

import pytest
from distributed import Client, LocalCluster

from mimii.engine import Where, cluster, connect, interrupts
from mimii.engine.interrupts import check_interrupts, deferred_interrupts
from tests.helpers.dask_processes import run_tasks

NUMBERS = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]


@pytest.mark.parametrize("number", NUMBERS)
def test_the_first_interrupt_waits_for_a_check_and_the_second_does_not(number, monkeypatch):
    monkeypatch.setattr(interrupts, "_SECONDS_OF_ONE_END", 0.0)
    with pytest.raises(KeyboardInterrupt) as raised, deferred_interrupts():  # noqa: PT012
        check_interrupts()
        signal.raise_signal(number)
        with pytest.raises(KeyboardInterrupt):
            check_interrupts()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(number)
    assert raised.value.args == (number,)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_an_end_that_is_asked_for_twice_at_once_is_one(number, monkeypatch):
    monkeypatch.setattr(interrupts, "_SECONDS_OF_ONE_END", 1000.0)
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
        signal.raise_signal(number)
        signal.raise_signal(number)  # as `timeout` does
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_a_second_interrupt_does_what_it_does_elsewhere_and_says_what_is_left(caplog):
    done, before = [], signal.signal(signal.SIGINT, lambda number, _: done.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), deferred_interrupts(), interrupts.left_behind("machines"):  # noqa: PT012
            signal.raise_signal(signal.SIGINT)
            assert done == []
            signal.raise_signal(signal.SIGINT)
        assert done == [signal.SIGINT]
    finally:
        signal.signal(signal.SIGINT, before)
    assert [one.message for one in caplog.records] == ["stopping; once more to stop at once", "machines"]


def test_with_nohup_a_terminal_that_closes_is_ignored():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with deferred_interrupts():
            signal.raise_signal(signal.SIGHUP)
            check_interrupts()
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_an_interrupt_that_nothing_checked_counts_in_the_end_and_handlers_are_as_before():
    before = [signal.getsignal(number) for number in NUMBERS]
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():
        signal.raise_signal(signal.SIGINT)
    check_interrupts()
    assert [signal.getsignal(number) for number in NUMBERS] == before


def test_a_block_within_another_is_the_same_block():
    done, before = [], signal.signal(signal.SIGINT, lambda number, _: done.append(number))
    try:
        with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
            with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
                signal.raise_signal(signal.SIGINT)
                with pytest.raises(KeyboardInterrupt):
                    signal.raise_signal(signal.SIGINT)
                assert done == [signal.SIGINT]
            with pytest.raises(KeyboardInterrupt):
                check_interrupts()
        signal.raise_signal(signal.SIGINT)
        assert done == [signal.SIGINT] * 2, "the handler is as before"
    finally:
        signal.signal(signal.SIGINT, before)


def test_a_handler_that_python_does_not_know_stays(monkeypatch):
    """As where a program of C has set it."""
    known, replaced = signal.getsignal, []
    monkeypatch.setattr(signal, "getsignal", lambda number: None if number == signal.SIGTERM else known(number))
    monkeypatch.setattr(signal, "signal", lambda number, _handler: replaced.append(number))
    with deferred_interrupts():
        assert replaced == [signal.SIGINT, signal.SIGHUP]


def test_in_another_thread_nothing_is_deferred():
    before, seen = signal.getsignal(signal.SIGINT), []

    def look():
        with deferred_interrupts():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    assert seen == [before]


def interrupt_soon(seconds=0.2):
    """Interrupt this process once it waits; before that is all the same."""
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()


def test_waiting_for_a_scheduler_ends_with_an_interrupt(tmp_path):
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
        interrupt_soon()
        with connect(Where(str(tmp_path / "none.json"))):
            pass


@pytest.fixture
def client():
    """Return the client of a cluster without workers."""
    where = {"protocol": "tcp://", "host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=0, processes=False, **where) as cluster, Client(cluster, set_as_default=False) as found:
        yield found


def test_waiting_for_a_worker_ends_with_an_interrupt(client):
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
        interrupt_soon()
        with connect(client):
            pass


ENDED = threading.Event()


def wait_for_the_end(task):
    ENDED.wait()
    return task


def interrupt_a_wait_for_a_result():
    ENDED.clear()
    with connect(Where("threads", 1)) as cluster, pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
        results = run_tasks(cluster, wait_for_the_end, [1])
        interrupt_soon()
        try:
            next(results)
        finally:
            ENDED.set()


def test_waiting_for_a_result_ends_with_an_interrupt():
    interrupt_a_wait_for_a_result()


def test_it_ends_also_where_to_say_so_takes_longer_than_it_would_have_lasted(monkeypatch):
    """As on a slow terminal. A SimpleQueue that is interrupted then waits for ever, before Python 3.13."""
    never, warn = threading.Event(), interrupts._log.warning
    monkeypatch.setattr(interrupts._log, "warning", lambda *words: (warn(*words), never.wait(0.5)))
    interrupt_a_wait_for_a_result()


def test_an_interrupt_ends_the_start_of_workers_and_what_has_started_is_closed(monkeypatch):
    begun, let, closed = threading.Event(), threading.Event(), threading.Event()

    class Slow:
        def __init__(self, **_):
            begun.set()
            let.wait()

        def close(self, **_):
            closed.set()

    monkeypatch.setattr(cluster, "LocalCluster", Slow)
    monkeypatch.setattr(interrupts, "_SECONDS_TO_START", 0.1)
    with pytest.raises(KeyboardInterrupt), deferred_interrupts():  # noqa: PT012
        threading.Thread(target=lambda: (begun.wait(), os.kill(os.getpid(), signal.SIGINT))).start()
        with connect(Where("local")):
            pass
    assert not closed.is_set()
    let.set()
    assert closed.wait()


def test_what_fails_to_start_raises_its_own_error(monkeypatch):
    def fail(**_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cluster, "LocalCluster", fail)
    with pytest.raises(OSError, match="No space left"), connect(Where("local")):
        pass


def test_workers_that_were_about_to_start_are_closed_before_the_interrupt_is_raised(monkeypatch):
    let, said, wait = threading.Event(), [], interrupts.wait

    class Starting:
        def __init__(self, **_):
            os.kill(os.getpid(), signal.SIGINT)
            let.wait()
            said.append("started")

        def close(self, **_):
            said.append("closed")

    def wait_and_let(futures, timeout):
        if timeout == interrupts._SECONDS_TO_START:
            let.set()
        return wait(futures, timeout)

    monkeypatch.setattr(interrupts, "wait", wait_and_let)
    monkeypatch.setattr(interrupts, "_SECONDS_TO_START", 1000.0)
    monkeypatch.setattr(cluster, "LocalCluster", Starting)
    with pytest.raises(KeyboardInterrupt), deferred_interrupts(), connect(Where("local")):
        pass
    assert said == ["started", "closed"]
