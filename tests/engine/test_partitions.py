"""Tasks to workers: one partition is one task of Dask with a short name, and a frozen worker stops none but its own."""

import re
from functools import partial

import psutil
import pytest
from dask.utils import key_split
from distributed.diagnostics.plugin import SchedulerPlugin

from mimii.engine import Cluster, Pipeline, Where, compute, connect, outputs, partitions, tasks_to_results
from mimii.engine.partitions import Attempt, make_bag
from tests.helpers.commands import assert_same_bytes, output_at, plan_table
from tests.helpers.dask_processes import run_tasks, thaw
from tests.helpers.recordings import write_machines
from tests.helpers.worker_tasks import IN_THE_MIDDLE, WHEN_FETCHED, freeze_some


@pytest.fixture(scope="module")
def plan(tmp_path_factory):
    """Plan twelve clips of 309 rows: four shards."""
    root = tmp_path_factory.mktemp("recordings") / "raw"
    write_machines(root, 12, 160_000)
    return plan_table(root)


def tasks_of(output):
    return [(shard, output.task(shard)) for shard in range(output.n_tasks)]


class Tasks(SchedulerPlugin):
    """Notes the keys of all tasks that a scheduler has ever had."""

    def __init__(self):
        self.keys = set()

    def transition(self, key, start, finish, *args, **kwargs):  # noqa: ARG002  as Dask calls it
        self.keys.add(key)


def keys_on_the_scheduler(cluster, output):
    """Compute an output; return the keys of the tasks that the scheduler had."""
    plugin = Tasks()
    scheduler = cluster.client.cluster.scheduler
    scheduler.add_plugin(plugin, name="tasks of a test")
    try:
        outputs.begin(output)
        outputs.finish(output, dict(compute(cluster, output.pipeline, tasks_of(output))))
    finally:
        scheduler.remove_plugin("tasks of a test")
    return plugin.keys


@pytest.fixture(scope="module")
def threads():
    with connect(Where("threads", 2)) as cluster:
        yield cluster


def test_one_shard_is_one_task_with_a_short_name(plan, threads, tmp_path):
    keys = keys_on_the_scheduler(threads, output_at(plan, tmp_path / "out"))
    assert sorted((shard, n_careful) for _, shard, n_careful in keys) == [(shard, 0) for shard in range(4)]
    [name] = {name for name, _, _ in keys}
    assert re.fullmatch(r"load-mel-db-shard-[0-9a-f]{8}", name)
    assert {key_split(key) for key in keys} == {"load-mel-db-shard"}


@pytest.mark.parametrize("run", ["00000000", "abcdefab", "0a1b2c3d", "deadbeef", "12345678"])
def test_the_dashboard_shows_the_steps_of_any_run(run):
    assert key_split((f"load-mel-db-shard-{run}", 3, 1)) == "load-mel-db-shard"


def test_two_runs_on_one_scheduler_do_not_share_tasks(plan, threads, tmp_path):
    one, other = (keys_on_the_scheduler(threads, output_at(plan, tmp_path / name)) for name in ("one", "other"))
    assert not one & other


def test_one_process_and_a_cluster_compute_the_same_bag(plan, threads, tmp_path, monkeypatch):
    bags = []

    def note(attempts, pipeline):
        bag = make_bag(attempts, pipeline)
        bags.append(bag)
        return bag

    monkeypatch.setattr(partitions, "make_bag", note)
    n_layers = set()
    for name, cluster in (("here", Cluster(None, 1)), ("there", threads)):
        output = output_at(plan, tmp_path / name)
        outputs.begin(output)
        outputs.finish(output, dict(compute(cluster, output.pipeline, tasks_of(output))))
        assert sum(bag.npartitions for bag in bags) == output.n_tasks
        n_layers |= {len(bag.dask.layers) for bag in bags}
        bags.clear()
    assert len(n_layers) == 1
    assert_same_bytes(tmp_path / "here", tmp_path / "there")


def test_the_name_of_a_task_does_not_depend_on_what_is_in_it():
    pipeline = Pipeline("steps", partial(tasks_to_results, function=str))
    bags = [make_bag([Attempt(1, task, "code", "run")], pipeline) for task in ("one", "other")]
    assert bags[0].name == bags[1].name
    assert bags[0].name != make_bag([Attempt(1, "one", "code", "run", 1)], pipeline).name


# A worker that is frozen: its process is there, its connections are open, and it does not answer.


def frozen(folder):
    """Return the processes that tasks have frozen, or are about to."""
    return [psutil.Process(int(path.read_text())) for path in folder.glob("*.pid")]


def results_with_frozen_workers(folder, n_workers, moments, n_tasks):
    """Compute tasks while workers are frozen until what is missing may be theirs; thaw them; return all results.

    Besides the tasks that a worker has before it, it holds the results that were not yet fetched when it was frozen.
    """
    with connect(Where("local", n_workers)) as cluster:
        results = run_tasks(cluster, freeze_some, [(folder, number, moments) for number in range(n_tasks)])
        try:
            first = [next(results) for _ in range(n_tasks - partitions._TASKS_A_WORKER * n_workers)]
            assert len(frozen(folder)) == len(moments)
            assert {process.status() for process in frozen(folder)} == {psutil.STATUS_STOPPED}
        finally:
            for process in frozen(folder):
                thaw(process)
        return [*first, *results]


@pytest.mark.slow
@pytest.mark.parametrize("moment", [IN_THE_MIDDLE, WHEN_FETCHED, 0.004])
def test_a_frozen_worker_stops_none_but_its_own_tasks(tmp_path, moment):
    assert sorted(results_with_frozen_workers(tmp_path, 2, [moment], 60)) == list(range(60))


@pytest.mark.slow
def test_many_frozen_workers_stop_none_but_their_own_tasks(tmp_path):
    assert sorted(results_with_frozen_workers(tmp_path, 7, [WHEN_FETCHED] * 6, 150)) == list(range(150))
