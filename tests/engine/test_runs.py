"""A run: what is there is listed once and read once, what is missing is done, and where it runs makes no difference."""

import signal
from collections import Counter
from dataclasses import dataclass, field, replace

import pytest

from mimii import engine
from mimii.engine import Cluster, Record, StoreError, runs
from mimii.engine.cluster import LostError
from mimii.images import AlbumOutput, Style, album
from mimii.storage import DiskObjects
from mimii.table import TableOutput
from tests.helpers.commands import assert_same_bytes, contents, featurize_here, partial_files, plan_table
from tests.helpers.recordings import write_machines


@dataclass(frozen=True)
class Counting(DiskObjects):
    """Objects that count what is listed, read and written."""

    listed: Counter = field(default_factory=Counter)
    read: Counter = field(default_factory=Counter)
    written: Counter = field(default_factory=Counter)

    def sizes(self, prefix=""):
        self.listed[prefix] += 1
        return super().sizes(prefix)

    def get(self, key):
        self.read[key] += 1
        return super().get(key)

    def put_all(self, objects):
        self.written.update(objects.keys())
        super().put_all(objects)


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan twelve clips of 309 rows: four shards."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, 12, 160_000)
    return plan_table(root)


@pytest.fixture(params=["table", "images"])
def output_of(plan, request, monkeypatch):
    """Return what makes an output of these clips at some objects, in four tasks."""
    if request.param == "table":
        return lambda objects: TableOutput(plan, objects)
    monkeypatch.setattr(album, "_FRAMES_A_TASK", 1000)
    images = album.make_album(replace(plan.catalogue, spec=replace(plan.catalogue.spec, frames=1)), Style())
    return lambda objects: AlbumOutput(images, objects)


def is_record(output, key):
    return key in {output.record_key(task) for task in range(output.n_tasks)}


def test_a_lease_that_is_renewed_at_the_very_end_leaves_no_folder(output_of, tmp_path, monkeypatch):
    def finish_and_renew(output, *rest):
        sizes = finish(output, *rest)
        output.objects.put("lease-0", b"{}")
        output.objects.delete("lease-0")
        return sizes

    finish = runs.finish
    monkeypatch.setattr(runs, "finish", finish_and_renew)
    engine.run(output_of(DiskObjects(str(tmp_path / "out"))))
    assert partial_files(tmp_path / "out") == []


def test_a_run_lists_the_output_before_and_after_the_work_and_reads_each_record_once(output_of, tmp_path):
    first = output_of(Counting(str(tmp_path / "out")))
    assert first.n_tasks == 4
    engine.run(first)
    kept = contents(tmp_path / "out")
    (tmp_path / "out" / first.record_key(1)).unlink()
    for computed in ((1,), ()):
        output = output_of(Counting(str(tmp_path / "out")))
        assert engine.run(output).computed == computed
        objects = output.objects
        assert objects.listed[""] == (2 if computed else 1)
        assert {key: count for key, count in objects.read.items() if is_record(output, key)} == {
            output.record_key(task): 1 for task in range(output.n_tasks)
        } | ({first.record_key(1): 1} if computed else {})
        assert [key for key in objects.written if is_record(output, key)] == [
            first.record_key(task) for task in computed
        ]
    assert contents(tmp_path / "out") == kept


def test_a_run_over_a_finished_output_writes_nothing(output_of, tmp_path):
    engine.run(output_of(Counting(str(tmp_path / "out"))))
    again = output_of(Counting(str(tmp_path / "out")))
    done = engine.run(again)
    assert done.computed == ()
    assert len(done.records) == again.n_tasks
    assert not again.objects.written


def test_a_run_says_what_it_did(plan, tmp_path):
    done = engine.run(TableOutput(plan, DiskObjects(str(tmp_path / "out"))))
    assert done.computed == tuple(done.records) == (0, 1, 2, 3)
    assert done.location == str(tmp_path / "out")
    assert done.bad == {}
    assert done.n_bytes == sum(record.size for record in done.records.values()) > 0
    assert "records" not in repr(done)


def test_another_table_is_refused_and_overwritten_on_demand(plan, tmp_path):
    objects = DiskObjects(str(tmp_path / "out"))
    engine.run(TableOutput(plan, objects))
    other = TableOutput(replace(plan, fingerprint="another"), objects)
    with pytest.raises(StoreError, match=f"{tmp_path}/out holds another table of features; choose another --output"):
        engine.run(other)
    assert engine.run(other, overwrite=True).computed == (0, 1, 2, 3)


class InterruptedProgress(runs.Silent):
    """Interrupts this process when the first result is there."""

    def advance(self, *_):
        signal.raise_signal(signal.SIGINT)


def test_an_interrupt_ends_a_run_after_the_task_in_hand(plan, tmp_path):
    output = TableOutput(plan, DiskObjects(str(tmp_path / "out")))
    handler = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        engine.run(output, progress=InterruptedProgress())
    assert signal.getsignal(signal.SIGINT) is handler
    assert engine.run(output).computed == (1, 2, 3)


# A scheduler that is lost


class Progress:
    """Notes what is shown."""

    def __init__(self):
        self.started, self.clips, self.ended = [], 0, 0

    def start(self, n_tasks, n_clips, cluster):
        self.started.append((n_tasks, n_clips, cluster.n_workers))

    def advance(self, n_clips, bad):
        self.clips += n_clips
        assert list(bad) == []

    def end(self):
        self.ended += 1


@pytest.fixture
def losses(monkeypatch):
    """Return what makes each connection fail after so many results."""

    def set_losses(*counts):
        left = list(counts)

        def compute(cluster, pipeline, tasks):
            results = engine.partitions.compute(cluster, pipeline, tasks)
            if not left:
                yield from results
                return
            for _ in range(left.pop(0)):
                yield next(results)
            msg = "lost"
            raise LostError(msg)

        monkeypatch.setattr(runs, "compute", compute)

    return set_losses


def test_a_lost_scheduler_is_connected_to_again_and_nothing_is_done_twice(plan, tmp_path, losses):
    losses(1, 0, 2)
    progress, output = Progress(), TableOutput(plan, Counting(str(tmp_path / "out")))
    done = engine.run(output, progress=progress)
    assert done.computed == tuple(done.records) == (0, 1, 2, 3)
    assert [n_tasks for n_tasks, _, _ in progress.started] == [4, 3, 3, 1]
    assert (progress.clips, progress.ended) == (12, 1)
    assert {key: count for key, count in output.objects.written.items() if is_record(output, key)} == {
        output.record_key(task): 1 for task in range(4)
    }
    engine.run(TableOutput(plan, DiskObjects(str(tmp_path / "undisturbed"))))
    assert_same_bytes(tmp_path / "out", tmp_path / "undisturbed")


def test_a_scheduler_that_is_lost_again_and_again_ends_the_run(plan, tmp_path, losses):
    losses(0, 0, 0)
    progress = Progress()
    with pytest.raises(LostError):
        engine.run(TableOutput(plan, DiskObjects(str(tmp_path / "out"))), progress=progress)
    assert progress.ended == 1


def test_what_workers_recorded_while_the_scheduler_was_lost_is_not_done_again(plan, tmp_path, monkeypatch):
    computed = []

    def compute(cluster, pipeline, tasks):
        """Compute all that is asked for, but lose the scheduler before any result is here."""
        asked = list(tasks)
        computed.append([task for task, _ in asked])
        results = list(engine.partitions.compute(cluster, pipeline, asked[:3]))
        if len(computed) == 1:
            msg = "lost"
            raise LostError(msg)
        yield from results

    monkeypatch.setattr(runs, "compute", compute)
    done = engine.run(TableOutput(plan, DiskObjects(str(tmp_path / "out"))))
    assert computed == [[0, 1, 2, 3], [3]]
    assert sorted(done.records) == [0, 1, 2, 3]
    assert all(isinstance(record, Record) for record in done.records.values())


def test_progress_is_of_the_cluster_that_does_the_work(plan, tmp_path):
    seen = []

    class Notes(Progress):
        def start(self, n_tasks, n_clips, cluster):
            seen.append((n_tasks, n_clips, cluster))

    engine.run(TableOutput(plan, DiskObjects(str(tmp_path / "out"))), progress=Notes())
    assert seen == [(4, 12, Cluster(None, 1))]


@pytest.mark.parametrize("name", [".DS_Store", "Thumbs.db", "lost+found", "._x", "desktop.ini"])
def test_a_folder_with_nothing_but_what_systems_leave_there_is_empty(tmp_path, name):
    raw, output = tmp_path / "raw", tmp_path / "out"
    write_machines(raw, 4, n_samples=4000)
    output.mkdir()
    (output / name).touch()
    assert featurize_here(raw, "--output", output) == 0
    assert (output / name).exists()


def test_a_second_interrupt_while_workers_are_closed_is_raised_and_not_lost_in_a_traceback(monkeypatch):
    def connected(*_, **__):
        try:
            yield 0, None
        finally:  # as where workers are closed
            signal.raise_signal(signal.SIGINT)

    lost = []
    monkeypatch.setattr(runs, "_do_connected", connected)
    monkeypatch.setattr("sys.unraisablehook", lost.append)
    work = runs.Work(str, None, is_remote=False, n_clips=lambda _: 1, bad_clips=lambda _: ())
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        for _ in runs.do_tasks(work, [0, 1], None):
            signal.raise_signal(signal.SIGINT)
    assert lost == []
