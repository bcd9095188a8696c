"""What may go wrong on a machine or a cluster, one thing at a time: the same bytes in the end, nothing done twice."""

import threading
from dataclasses import replace
from operator import gt

import pytest

from mimii import engine
from mimii.engine import Cluster, compute, outputs
from mimii.storage import PARTIAL, DiskObjects
from mimii.table import HEAD
from tests.helpers.commands import (
    assert_same_bytes,
    build,
    contents,
    featurize_here,
    fill,
    output_at,
    partial_files,
    plan_table,
    record_numbers,
    replaced,
    shard_files,
    wait_for,
)
from tests.helpers.dask_processes import dask_cluster, freeze, running, start_scheduler, start_worker, thaw
from tests.helpers.faults import SHORT_HOP, Gate, Run, cluster_file, deadly_starts, full_disk, is_root
from tests.helpers.recordings import write_machines
from tests.helpers.under_way import job_here

N_CLIPS = 32
N_SHARDS = 16
SYNC = ("--scheduler", "sync")


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, N_CLIPS)
    return root


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "features.zarr"
    assert featurize_here(raw, "--output", output, *SHORT_HOP) == 0
    assert len(shard_files(output)) == N_SHARDS
    return output


@pytest.fixture
def gate(raw, tmp_path):
    """Return what keeps a run from finishing its last shard."""
    return Gate(tmp_path / "gate", sorted(raw.rglob("*.wav"), key=lambda path: path.parts)[-1:])


@pytest.fixture
def start(tmp_path):
    """Start the command; what is left of it in the end is killed."""
    runs = []

    def start(raw, *options, **how):
        runs.append(Run(raw, tmp_path / "out", *options, said=tmp_path / f"said-{len(runs)}", **how))
        return runs[-1]

    yield start
    for run in runs:
        run.end()


@pytest.mark.slow
@pytest.mark.parametrize("started_by", ["option", "file"])
def test_a_worker_that_dies_again_and_again_is_replaced_each_time(raw, undisturbed, tmp_path, start, gate, started_by):
    output, file = tmp_path / "out", tmp_path / "cluster.yaml"
    file.write_text(cluster_file(n_workers=1))
    # Dask looks so long after a death whether the worker is there again, and gives it up otherwise.
    impatient = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1ms"} | gate.environment
    run = start(raw, *(("--workers", 1) if started_by == "option" else ("--scheduler", file)), **impatient)
    for _ in range(3 if started_by == "option" else 1):
        before = record_numbers(output)
        # Dask may compute the last shard before others: the only worker then waits at the gate.
        run.wait_for(
            lambda before=before: record_numbers(output) != before or any(map(gate.holds, run.workers())),
            "a record, or the worker at the gate",
        )
        [killed] = run.workers()
        killed.kill()
        run.wait_for(lambda killed=killed: not killed.is_running(), "the end of the worker")
    gate.open()
    assert run.wait() == 0, run.text()
    assert_same_bytes(output, undisturbed)
    assert partial_files(output) == []
    assert "Traceback" not in run.text()


@pytest.mark.slow
def test_a_worker_that_is_killed_while_it_starts_is_started_once_more(raw, undisturbed, tmp_path, start):
    run = start(raw, **deadly_starts(tmp_path / "deadly", 1))
    assert run.wait() == 0, run.text()
    assert "once more" in run.text()
    assert "Traceback" not in run.text()
    assert_same_bytes(tmp_path / "out", undisturbed)


@pytest.mark.slow
def test_workers_that_never_start_end_the_run_in_words(raw, start, tmp_path):
    run = start(raw, **deadly_starts(tmp_path / "deadly", 100))
    assert run.wait() == 1, run.text()
    assert "featurize: workers cannot start on this machine, tried 3 times; too little memory (" in run.text()
    assert "Traceback" not in run.text()


@pytest.mark.slow
def test_a_frozen_worker_is_waited_for(raw, undisturbed, tmp_path, start, gate):
    output = tmp_path / "out"
    run = start(raw, **gate.environment)
    run.wait_for(lambda: record_numbers(output), "the first record")
    victim = run.workers()[0]
    freeze(victim)
    gate.open()
    run.wait_for(lambda: len(record_numbers(output)) >= N_SHARDS - 2, "all that others can do")
    assert not run.ended(), run.text()
    thaw(victim)
    assert run.wait() == 0, run.text()
    assert_same_bytes(output, undisturbed)


@pytest.mark.slow
def test_what_workers_finish_when_their_scheduler_has_died_is_not_done_again(raw, undisturbed, tmp_path):
    output, folder = tmp_path / "out", tmp_path / "cluster"
    gate = Gate(tmp_path / "gate", raw.rglob("*.wav"))
    where = ("--shard-mib", 1, *SHORT_HOP, "--scheduler", folder / "scheduler.json")
    with (
        dask_cluster(folder, 1, **gate.environment) as (scheduler, [worker]),
        job_here("featurize", raw, output, *where) as job,
    ):
        job.wait_for(gate.is_reached, "a worker within its first task")
        scheduler.kill()
        gate.open()
        job.wait_for(job.n_done, "what it finishes without a scheduler")
        worker.kill()
        done, shards = record_numbers(output), shard_files(output)
        with running(start_scheduler(folder)), running(start_worker(folder)):
            assert job.end() == 0, job.text()
    assert "connecting again" in job.text()
    assert len(done) < N_SHARDS
    assert not set(done) & set(replaced(shards, output))
    assert_same_bytes(output, undisturbed)


@pytest.mark.slow
def test_a_scheduler_that_dies_before_there_is_a_worker_is_waited_for(raw, undisturbed, tmp_path):
    folder = tmp_path / "cluster"
    folder.mkdir()
    where = ("--shard-mib", 1, *SHORT_HOP, "--scheduler", folder / "scheduler.json")
    with running(start_scheduler(folder)) as first, job_here("featurize", raw, tmp_path / "out", *where) as job:
        job.wait_for(lambda: "no worker yet" in job.text(), "a driver that waits")
        first.kill()
        with running(start_scheduler(folder)), running(start_worker(folder)):
            assert job.end() == 0, job.text()
    assert_same_bytes(tmp_path / "out", undisturbed)


@pytest.mark.slow
@pytest.mark.skipif(not is_root(), reason="a small disk is mounted by root alone")
@pytest.mark.parametrize(("share", "how"), [(0.0, SYNC), (0.5, ())], ids=["no room, sync", "half, workers"])
def test_a_full_disk_ends_the_run_and_the_next_one_resumes_when_there_is_room(
    raw, undisturbed, tmp_path, start, share, how
):
    size = sum(map(len, contents(undisturbed).values()))
    with full_disk(tmp_path / "out", 2 * size + (1 << 20), int(share * size)) as ballast:
        output = tmp_path / "out" / "features.zarr"
        options = ("--output", output)
        full = start(raw, *options, *how)
        assert full.wait() == 1, full.text()
        assert "No space left on device" in full.text()
        assert str(output) in full.text()
        assert "run the same command again" in full.text()
        assert "Traceback" not in full.text()
        wait_for(lambda: not full.alive(), "the end of all workers")
        done, shards = record_numbers(output), shard_files(output)
        assert bool(done) == bool(share)
        ballast.unlink()
        assert featurize_here(raw, *options, *SHORT_HOP) == 0
        assert not set(done) & set(replaced(shards, output))
        assert_same_bytes(output, undisturbed)
        assert partial_files(output) == []


@pytest.mark.slow
def test_two_drivers_at_once_both_end_right(raw, undisturbed, tmp_path, start):
    one, other = start(raw, *SYNC), start(raw, *SYNC)
    assert [one.wait(), other.wait()] == [0, 0], one.text() + other.text()
    assert_same_bytes(tmp_path / "out", undisturbed)
    assert partial_files(tmp_path / "out") == []


class Meanwhile(DiskObjects):
    """Objects of one driver, in whose way another one comes."""

    def get(self, key):
        if self.before_get:
            found = super().get(key)
            self.before_get.pop()()
            return found
        return super().get(key)

    def put_all(self, objects):
        if self.before_put:
            self.before_put.pop()()
        super().put_all(objects)

    before_get = before_put = ()


def meanwhile(root, **acts):
    """Return objects at which something happens once: just after the first look, or just before the first writing."""
    kind = type("Once", (Meanwhile,), {when: [act] for when, act in acts.items()})
    return kind(str(root))


def write_first_shard(output, **stamp):
    """Do a task, of which the stamp may be changed."""
    task = output.task(0)
    list(compute(Cluster(None, 1), output.pipeline, [(0, replace(task, stamp=replace(task.stamp, **stamp)))]))


def test_a_driver_that_ends_while_another_one_does_a_shard_again_finds_all_of_them(raw, tmp_path):
    table, output = plan_table(raw), tmp_path / "out"
    expected = build(table, tmp_path / "expected")
    fill(table, output)
    others = []
    objects = meanwhile(output, before_put=lambda: others.append(engine.run(output_at(table, output))))
    write_first_shard(replace(output_at(table, output), objects=objects))
    assert [(len(run.records), run.computed) for run in others] == [(table.rows.n_shards, ())]
    assert_same_bytes(output, expected)


def test_a_record_of_other_recordings_does_not_vouch_for_a_shard_that_is_being_written(raw, tmp_path):
    table, output = plan_table(raw), tmp_path / "out"
    fill(table, output)
    seen = []
    key = output_at(table, output).record_key(0)
    assert (output / key).exists()
    objects = meanwhile(output, before_put=lambda: seen.append(DiskObjects(str(output)).get(key)))
    write_first_shard(replace(output_at(table, output), objects=objects), inputs="others")
    assert seen == [None]


def test_a_run_that_looks_while_another_one_begins_sees_a_table(raw, tmp_path):
    output = output_at(plan_table(raw), tmp_path / "out")
    objects = meanwhile(tmp_path / "out", before_get=lambda: outputs.begin(output))
    assert engine.look(objects, HEAD) == engine.look(output.objects, HEAD)
    assert engine.look(output.objects, HEAD) is not None


def test_tidying_up_beside_writers_does_no_harm(tmp_path):
    objects, failed, rounds = DiskObjects(str(tmp_path)), [], [0, 0]
    stopped = threading.Event()

    def write(writer):
        try:
            while not stopped.is_set():
                objects.put_all({f"{writer}/{number}": b"some bytes" for number in range(20)})
                rounds[writer] += 1
        except OSError as error:
            failed.append(error)

    writers = [threading.Thread(target=write, args=(writer,)) for writer in range(2)]
    for writer in writers:
        writer.start()
    try:
        for _ in range(10):
            objects.delete_partial()
            # Each writes again before the next tidying: one that met it five times within one writing would give up.
            before = list(rounds)
            wait_for(lambda before=before: failed or all(map(gt, rounds, before)), "the next writing of each")
    finally:
        stopped.set()
        for writer in writers:
            writer.join()
    assert failed == []
    objects.delete_partial()
    assert not (tmp_path / PARTIAL).exists()
