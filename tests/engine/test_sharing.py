"""Two runs that write the same output at once share its tasks: what has a record by now is not computed again."""

import json
import os
from collections import Counter
from dataclasses import asdict, replace

import pytest

from mimii import engine
from mimii.engine import lease, runs, to_json
from mimii.engine.cluster import LostError
from mimii.engine.pipeline import Pipeline
from mimii.engine.runs import Silent, Where, Work, _in_order, do_tasks
from mimii.storage import DiskObjects
from tests.helpers.commands import assert_same_bytes, build, fill, output_at, plan_table
from tests.helpers.recordings import write_machines


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan sixteen clips of 309 rows: six shards."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, 16, 160_000)
    return plan_table(root)


@pytest.fixture(autouse=True)
def look_at_each(monkeypatch):
    monkeypatch.setattr(runs, "_LOOKED_AT_ONCE", 1)


def leave_lease(output, number=1):
    """Put the lease of a run of the same purpose of another process that lives."""
    process = (os.getppid(), lease._this_machine(), lease._process_began(os.getppid()))
    others = lease.Lease("0" * 32, output.purpose, "press7", *process, "2031-01-01", number)
    output.objects.put(others.key, json.dumps(asdict(others)).encode())


class Counting(DiskObjects):
    """Objects that count what is written and read."""

    written, read = Counter(), Counter()

    def put_all(self, objects):
        self.written.update(objects.keys())
        super().put_all(objects)

    def get_all(self, keys):
        keys = list(keys)
        self.read.update(keys)
        return super().get_all(keys)


def counting(output):
    kind = type("Fresh", (Counting,), {"written": Counter(), "read": Counter()})
    return replace(output, objects=kind(output.objects.root))


class AfterTheFirst(Silent):
    """Does something when the first task is done."""

    def __init__(self, deed):
        self.deeds = [deed]

    def advance(self, *_):
        while self.deeds:
            self.deeds.pop()()


def test_each_task_is_computed_once(plan, tmp_path):
    ours = counting(output_at(plan, tmp_path / "out"))
    leave_lease(ours)
    theirs = []
    done = engine.run(ours, progress=AfterTheFirst(lambda: theirs.append(engine.run(ours))))
    assert len(done.computed) == 1
    assert sorted([*done.computed, *theirs[0].computed]) == list(range(6))
    assert done.records.keys() == theirs[0].records.keys() == set(range(6))
    shards = {key: n for key, n in ours.objects.written.items() if key.startswith("features/c.")}
    assert set(shards.values()) == {1}
    assert len(shards) == 6
    assert_same_bytes(build(plan, tmp_path / "alone"), clean(tmp_path / "out"))


def clean(folder):
    """Delete the lease that was left."""
    for path in folder.glob("lease-*"):
        path.unlink()
    return folder


@pytest.mark.parametrize("change", ["inputs", "fingerprint", "damaged"])
def test_a_record_that_is_not_of_the_very_same_shard_vouches_for_nothing(plan, tmp_path, change):
    ours = output_at(plan, tmp_path / "out")
    leave_lease(ours)

    def put_records():
        for task in range(6):
            record = engine.Record(replace(ours.stamp(task), **{} if change == "damaged" else {change: "others"}), {})
            data = b"{" if change == "damaged" else to_json(record)
            if ours.objects.get(ours.record_key(task)) is None:
                ours.objects.put(ours.record_key(task), data)

    done = engine.run(ours, progress=AfterTheFirst(put_records))
    assert sorted(done.computed) == list(range(6))
    assert_same_bytes(build(plan, tmp_path / "alone"), clean(tmp_path / "out"))


def test_one_run_alone_does_not_look_for_records_of_its_tasks(plan, tmp_path):
    ours = counting(output_at(plan, tmp_path / "out"))
    done = engine.run(ours)
    assert sorted(done.computed) == list(range(6))
    assert not {ours.record_key(task) for task in range(6)} & ours.objects.read.keys()


def test_what_the_scheduler_left_behind_is_ours_and_what_others_did_meanwhile_is_theirs(plan, tmp_path, monkeypatch):
    really = runs.compute

    def compute_one_and_lose(cluster, pipeline, tasks):
        list(really(cluster, pipeline, [next(tasks)]))
        fill(plan, tmp_path / "out", [5])
        monkeypatch.setattr(runs, "compute", really)
        msg = "the connection is lost"
        raise LostError(msg)
        yield

    monkeypatch.setattr(runs, "compute", compute_one_and_lose)
    done = engine.run(output_at(plan, tmp_path / "out"))
    assert sorted(done.computed) == [0, 1, 2, 3, 4]
    assert done.records.keys() == set(range(6))


@pytest.mark.parametrize("where", ["sync", "threads"])
def test_what_others_have_done_is_looked_for_more_at_a_time_and_comes_between_the_looks(where, monkeypatch):
    monkeypatch.setattr(runs, "_LOOKED_AT_ONCE", 4)
    todo, missing, looks = list(range(1000)), {700, 701, 702, 703, 704, 999}, []

    def appeared(some):
        looks.append(list(some))
        return ((task, "theirs") for task in some if task not in missing)

    pipeline = Pipeline("lookups", _ours)
    work = Work(str, pipeline, is_remote=False, n_clips=abs, bad_clips=str.split, appeared=appeared)
    results = do_tasks(work, todo, Where(where, 1))
    assert next(results) == (0, "theirs")
    assert len(looks) < 5, "the first result does not wait for all looks"
    found = dict([(0, "theirs"), *results])
    assert found == {task: "ours" if task in missing else "theirs" for task in todo}
    assert len(looks) < 40
    assert max(map(len, looks)) == 64
    assert sum(704 in some for some in looks) == 2, "it was not sent at once"


def _ours(bag):
    return bag.map(lambda _: "ours")


def test_a_run_knows_how_many_came_before_it(plan, tmp_path):
    ours = output_at(plan, tmp_path / "out")
    with lease.hold(ours.objects, ours.purpose) as first:
        assert (first.rank(), first.has_company) == (0, False)
        with lease.hold(ours.objects, ours.purpose) as second:
            assert (first.rank(), second.rank()) == (0, 1)
            assert first.has_company
            assert second.has_company
        assert first.rank() == 0
        assert first.has_company


@pytest.mark.parametrize("rank", range(5))
def test_each_run_does_all_tasks_in_an_order_of_its_own(rank):
    tasks = list(range(3, 103))
    orders = [list(_in_order(tasks, one)) for one in range(5)]
    assert sorted(orders[rank]) == tasks
    assert orders[0] == tasks
    assert orders[1] == tasks[::-1]
    assert len({order[0] for order in orders}) == 5
