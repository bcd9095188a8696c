"""A lease: one of two runs that would write different results is refused, and what the dead have left is taken over."""

import json
import logging
import os
import threading
import time
from dataclasses import asdict, replace
from types import SimpleNamespace

import pytest

from mimii.engine import BusyError, lease
from mimii.storage import DiskObjects
from tests.helpers.commands import wait_for

OTHER_MACHINE = "another boot, another namespace"


@pytest.fixture
def objects(tmp_path, monkeypatch):
    monkeypatch.setattr(lease, "SECONDS_BETWEEN_BEATS", 0.02)
    monkeypatch.setattr(lease, "SECONDS_UNTIL_STALE", 1000.0)
    monkeypatch.setattr(lease, "_SECONDS_BETWEEN_LOOKS", 0.01)
    return DiskObjects(str(tmp_path / "out"))


def leave(objects, purpose="theirs", **how):
    """Put the lease of a run; by default of this machine, of a process that is no more."""
    process = {"host": "press7", "process": 4_194_305, "machine": lease._this_machine(), "began": "123"}
    since = {"since": "2031-01-01 00:00:00+00:00", "number": 1}  # an hour or years ahead: clocks are not compared
    one = lease.Lease(**{"name": "0" * 32, "purpose": purpose} | process | since | how)
    objects.put(one.key, json.dumps(asdict(one)).encode())
    return one


def leases(objects):
    return [name for name in objects.names() if name.startswith("lease-")]


class Beating:
    """Another machine, on which a run holds a lease and puts it anew, until the block ends."""

    def __init__(self, objects, **how):
        self.objects, self.one, self.ended = objects, leave(objects, machine=OTHER_MACHINE, **how), threading.Event()
        self.thread = threading.Thread(target=self.beat)

    def beat(self):
        while not self.ended.wait(0.02):
            self.one = replace(self.one, beat=self.one.beat + 1)
            self.objects.put(self.one.key, json.dumps(asdict(self.one)).encode())

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.ended.set()
        self.thread.join()


def test_a_lease_is_there_while_it_is_held_and_is_put_anew(objects):
    with lease.hold(objects, "ours") as held:
        [key] = leases(objects)
        first = json.loads(objects.get(key))["beat"]
        wait_for(lambda: json.loads(objects.get(key))["beat"] > first + 2, "beats")
        held.check()
        assert not held.had_rivals
    assert leases(objects) == []


@pytest.mark.parametrize("purpose", ["ours", "theirs"])
def test_of_a_live_run_on_another_machine_only_one_with_another_purpose_is_refused(objects, purpose):
    with Beating(objects, purpose=purpose):
        if purpose == "ours":
            with lease.hold(objects, "ours") as held:
                assert not held.had_rivals
        else:
            with (
                pytest.raises(BusyError, match=r"process 4194305 on press7, since 2031-01-01 00:00:00\+00:00"),
                lease.hold(objects, "ours"),
            ):
                pass
    assert len(leases(objects)) == 1, "that of the other one"


def wait_for_beats(objects, n):
    """Wait until the lease of this process was put anew so many times: it looks at others each time."""
    [key] = [key for key in leases(objects) if key != f"lease-{'0' * 32}.json"]
    first = json.loads(objects.get(key))["beat"]
    wait_for(lambda: json.loads(objects.get(key))["beat"] > first + n, "beats")


def test_a_lease_that_was_left_elsewhere_is_no_company_and_goes_after_a_while(objects, monkeypatch):
    left = leave(objects, purpose="ours", machine=OTHER_MACHINE)
    with lease.hold(objects, "ours") as held:
        held.rank()
        wait_for_beats(objects, 3)
        assert left.key in leases(objects)
        monkeypatch.setattr(lease, "SECONDS_UNTIL_STALE", 2.0)
        wait_for(lambda: left.key not in leases(objects), "the end of the lease")
        assert not held.has_company
        held.check()


def test_a_run_elsewhere_that_beats_is_company_and_its_lease_stays(objects):
    with Beating(objects, purpose="ours"), lease.hold(objects, "ours") as held:
        assert not held.has_company
        wait_for(lambda: held.has_company, "company")
        wait_for_beats(objects, 20)
    assert len(leases(objects)) == 1


def test_a_run_of_this_machine_that_lives_is_company_at_once(objects):
    leave(objects, purpose="ours", process=os.getppid(), began=lease._process_began(os.getppid()))
    with lease.hold(objects, "ours") as held:
        assert held.rank() == 1
        assert held.has_company


def test_a_run_that_could_not_give_its_lease_back_is_not_waited_for_though_its_process_lives(
    objects, monkeypatch, caplog
):
    leave(objects, process=os.getppid(), began=lease._process_began(os.getppid()))
    monkeypatch.setattr(lease, "SECONDS_UNTIL_STALE", 0.3)
    with lease.hold(objects, "ours"):
        assert len(leases(objects)) == 1
    assert "is not there any more; taking over" in caplog.text
    leave(objects, process=os.getpid(), began=lease._process_began(os.getpid()))
    monkeypatch.setattr(lease, "SECONDS_UNTIL_STALE", 1000.0)  # of this process it is known at once
    with lease.hold(objects, "ours"):
        assert len(leases(objects)) == 1


def test_two_runs_of_this_process_with_different_purposes_exclude_each_other(objects):
    with (
        lease.hold(objects, "theirs"),
        pytest.raises(BusyError, match="another run writes other results"),
        lease.hold(objects, "ours"),
    ):
        pass


def test_a_dead_process_of_this_machine_is_taken_over_at_once_and_its_number_is_not_taken_for_another(objects, caplog):
    caplog.set_level(logging.INFO)
    leave(objects)
    leave(objects, name="1" * 32, process=os.getppid(), began="1")  # a process that has got its number
    with lease.hold(objects, "ours"):
        assert len(leases(objects)) == 1
    assert caplog.text.count("was killed") == 2
    assert "process 4194305 on press7" in caplog.text


def test_a_silent_run_of_another_machine_is_taken_over_after_a_while(objects, monkeypatch, caplog):
    monkeypatch.setattr(lease, "SECONDS_UNTIL_STALE", 0.3)
    leave(objects, machine=OTHER_MACHINE)
    began = time.monotonic()
    with lease.hold(objects, "ours") as held:
        assert time.monotonic() - began >= 0.3
        assert held.had_rivals
        assert len(leases(objects)) == 1
    assert "taking over" in caplog.text


def test_a_run_that_is_suspended_while_its_lease_is_taken_over_stops(objects):
    with lease.hold(objects, "ours") as held:
        objects.delete(leases(objects)[0])
        held._thread.join()
        with pytest.raises(BusyError, match="another run may have taken over, or files were deleted"):
            held.check()
        other = leave(objects)
    assert leases(objects) == [other.key], "it leaves alone what is not its own"


def test_a_run_that_is_suspended_between_looking_at_its_lease_and_putting_it_anew_stops(objects, monkeypatch):
    suspended, put = [], DiskObjects.put
    clock = SimpleNamespace(monotonic=lambda: time.monotonic() + 2000 * len(suspended), sleep=time.sleep)
    monkeypatch.setattr(lease, "time", clock)

    def put_late(self, key, data):
        if json.loads(data)["purpose"] == "ours" and json.loads(data)["beat"] == 3:
            self.delete(key)
            suspended.append(leave(self, number=2))  # the rival that has taken over meanwhile
        put(self, key, data)

    monkeypatch.setattr(DiskObjects, "put", put_late)
    with lease.hold(objects, "ours") as held:
        held._thread.join()
        with pytest.raises(BusyError, match="has lost its lease"):
            held.check()
    assert leases(objects) == [suspended[0].key], "that of the rival"


def test_what_is_no_lease_is_passed_over(objects):
    objects.put("lease-notes.json", b"[]")
    objects.put("lease-more.json", b'{"name": 1}')
    with lease.hold(objects, "ours") as held:
        assert not held.had_rivals


def test_a_lease_that_cannot_be_given_back_does_not_hide_what_the_run_has_to_say(objects, monkeypatch):
    def fail(_self, _key):
        msg = "the disk is gone"
        raise OSError(msg)

    def fail_in_run():
        with lease.hold(objects, "ours"):
            monkeypatch.setattr(DiskObjects, "delete", fail)
            msg = "the run itself"
            raise ValueError(msg)

    with pytest.raises(ValueError, match="the run itself"):
        fail_in_run()


def test_of_many_contenders_never_two_with_different_purposes_hold_it(objects):
    """All are threads of this process, which is alive: who comes second is refused."""
    inside, wrong, taken, refused = [], [], [], []
    barrier = threading.Barrier(8)

    def contend(purpose):
        barrier.wait()
        for _ in range(12):
            try:
                with lease.hold(objects, purpose) as held:
                    inside.append(purpose)
                    wrong.extend({*inside} - {purpose})
                    taken.append(purpose)
                    held.check()
                    inside.remove(purpose)
            except BusyError:
                refused.append(purpose)

    threads = [threading.Thread(target=contend, args=(f"purpose {number % 4}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert len(taken) + len(refused) == 8 * 12
    assert taken
    assert refused
    assert leases(objects) == []
