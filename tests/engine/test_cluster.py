"""Where the work runs: every task once, failures tried again, dead workers replaced, nothing open to the network."""

import itertools
import os
import subprocess
import sys
import urllib.request
from contextlib import suppress
from functools import partial

import psutil
import pytest
from distributed import Client, LocalCluster
from threadpoolctl import threadpool_info, threadpool_limits

from mimii import engine
from mimii.engine import HERE, WORKER_ENVIRONMENT, Pipeline, Where, WorkError, clips_to_partitions, connect
from mimii.engine.partitions import _TASKS_A_WORKER, RETRIES, compute
from tests.helpers.commands import environment, librosa_rows, open_table, output_at, plan_table, rows_by_path
from tests.helpers.dask_processes import run_tasks
from tests.helpers.recordings import write_machines
from tests.helpers.worker_tasks import (
    attempts,
    environment_of_worker,
    fail_some_times,
    identity,
    kill_worker,
    square,
    write_and_list_modules,
)

CONNECTED = [scheduler for scheduler in HERE if scheduler != "sync"]


@pytest.fixture(scope="module", params=HERE)
def cluster(request):
    """Connect once a scheduler: these tests leave a cluster as they found it."""
    with connect(Where(request.param, 2)) as connected:
        yield connected


@pytest.fixture(scope="module")
def local():
    with connect(Where("local", 2)) as connected:
        yield connected


@pytest.mark.parametrize("n_tasks", [0, 1, 5, 100])
def test_every_task_runs_exactly_once(cluster, tmp_path, n_tasks):
    results = list(run_tasks(cluster, square, ((str(tmp_path), number) for number in range(n_tasks))))
    assert sorted(results) == [number * number for number in range(n_tasks)]
    assert sorted(int(path.name.split("-")[0]) for path in tmp_path.iterdir()) == list(range(n_tasks))


def test_tasks_are_drawn_as_needed_even_from_an_endless_source(cluster):
    drawn = []

    def endless():
        for number in itertools.count():
            drawn.append(number)
            yield number

    window = _TASKS_A_WORKER * cluster.n_workers if cluster.client else 1
    results = run_tasks(cluster, identity, endless())
    seen = []
    for result in itertools.islice(results, 10 * window + 50):
        seen.append(result)
        # A window is under way; as many again may have finished together and wait here to be taken.
        assert len(drawn) <= len(seen) + 2 * window
    results.close()
    assert len(set(seen)) == len(seen)
    assert set(seen) <= set(drawn)


def test_a_task_that_fails_as_often_as_allowed_succeeds(local, tmp_path):
    tasks = [(str(tmp_path), f"task{number}", RETRIES if number == 3 else 0) for number in range(8)]
    assert sorted(run_tasks(local, fail_some_times, tasks)) == [name for _, name, _ in tasks]
    assert [attempts(tmp_path, name) for _, name, _ in tasks] == [1, 1, 1, RETRIES + 1, 1, 1, 1, 1]


def test_a_task_that_always_fails_surfaces_its_error_after_all_retries(local, tmp_path):
    tasks = [(str(tmp_path), "good", 0), (str(tmp_path), "bad", 1000)]
    with pytest.raises((ConnectionError, WorkError), match="injected into bad"):
        list(run_tasks(local, fail_some_times, tasks))
    assert attempts(tmp_path, "bad") == RETRIES + 1


def test_a_cluster_works_on_after_a_failure(local, tmp_path):
    with pytest.raises((ConnectionError, WorkError)):
        list(run_tasks(local, fail_some_times, [(str(tmp_path), "bad", 1000)]))
    assert list(run_tasks(local, identity, [1])) == [1]


@pytest.mark.parametrize("scheduler", ["threads", "sync"])
def test_an_error_surfaces_on_other_schedulers_too(tmp_path, scheduler):
    with (
        connect(Where(scheduler, 2)) as connected,
        pytest.raises((ConnectionError, WorkError), match="injected into bad"),
    ):
        list(run_tasks(connected, fail_some_times, [(str(tmp_path), "bad", 1000)]))


def test_work_completes_when_a_worker_is_killed_once(tmp_path):
    tasks = [(str(tmp_path), f"task{number}", int(number == 5), os.getpid()) for number in range(40)]
    with connect(Where("local", 2)) as connected:
        results = list(run_tasks(connected, kill_worker, tasks))
    assert sorted(results) == sorted(name for _, name, _, _ in tasks)
    assert attempts(tmp_path, "task5") == 2


@pytest.mark.slow
def test_a_task_that_kills_every_worker_ends_the_work_with_a_message(tmp_path):
    tasks = [(str(tmp_path), "deadly", 1000, os.getpid())]
    with (
        connect(Where("local", 2)) as connected,
        pytest.raises(WorkError, match=r"a worker died \d+ times") as raised,
    ):
        list(run_tasks(connected, kill_worker, tasks))
    assert attempts(tmp_path, "deadly") == int(str(raised.value).split(" times")[0].split()[-1])


def test_workers_compute_without_librosa_numba_zarr_or_matplotlib(local, tmp_path):
    write_machines(tmp_path / "raw", 12, 160_000)
    output = output_at(plan_table(tmp_path / "raw"), tmp_path / "out")
    engine.outputs.begin(output)
    pipeline = Pipeline("load-mel-db-list", partial(clips_to_partitions, write=write_and_list_modules))
    tasks = [(shard, output.task(shard)) for shard in range(output.n_tasks)]
    done = dict(compute(local, pipeline, tasks))
    assert os.getpid() not in {pid for pid, _, _ in done.values()}
    assert sorted(record.stamp.task for _, record, _ in done.values()) == sorted(done) == list(range(output.n_tasks))
    assert {name for _, _, names in done.values() for name in names} == set()
    engine.outputs.finish(output, {shard: record for shard, (_, record, _) in done.items()})
    for name, rows in rows_by_path(open_table(tmp_path / "out")).items():
        [path] = (tmp_path / "raw").rglob(name)
        assert abs(rows - librosa_rows(path)).max() < 1e-3


def test_workers_have_an_allocator_that_keeps_memory_and_one_thread_a_library(local):
    for pid, variables in run_tasks(local, environment_of_worker, range(8)):
        assert pid != os.getpid()
        assert variables == WORKER_ENVIRONMENT


@pytest.mark.usefixtures("threads_are_limited")
def test_this_process_computes_with_one_thread_a_library_while_it_does_the_work_itself():
    with threadpool_limits(2):
        before = threadpool_info()
        assert {library["num_threads"] for library in before} == {2}
        with connect(Where("sync")):
            assert {library["num_threads"] for library in threadpool_info()} == {1}
        assert threadpool_info() == before


@pytest.mark.parametrize("how", [None, "7"])
def test_what_is_set_for_workers_does_not_stay_in_the_process_that_started_them(how, monkeypatch):
    for name in (*WORKER_ENVIRONMENT, "PYTHONHASHSEED"):
        monkeypatch.delenv(name, raising=False) if how is None else monkeypatch.setenv(name, how)
    before = dict(os.environ)
    with connect(Where("local", 1)) as connected:
        assert len(list(run_tasks(connected, environment_of_worker, [1]))) == 1
    assert dict(os.environ) == before


def messages_kept(dask_scheduler):
    return [comm.recent_message_log.maxlen for comm in dask_scheduler.stream_comms.values()]


def test_a_scheduler_keeps_few_of_the_messages_to_a_worker(local):
    assert set(local.client.run_on_scheduler(messages_kept)) == {100}


@pytest.mark.parametrize("scheduler", CONNECTED)
def test_everything_listens_on_loopback_only(scheduler):
    before = listening()
    with connect(Where(scheduler, 2)) as connected:
        assert list(run_tasks(connected, identity, [1])) == [1]
        opened = listening() - before
        assert len(opened) >= (4 if scheduler == "local" else 1)
        assert {address for _, address, _ in opened} == {"127.0.0.1"}
        assert connected.dashboard.startswith("http://127.0.0.1:")
        ports = {port for _, _, port in opened}
        assert int(connected.dashboard.split(":")[2].split("/")[0]) in ports


def listening():
    """Return process, address and port of what this process and those that it started listen on."""
    me, found = psutil.Process(), set()
    for process in [me, *me.children(recursive=True)]:
        with suppress(psutil.NoSuchProcess):  # it has exited since
            for connection in process.net_connections(kind="inet"):
                if connection.status == psutil.CONN_LISTEN:
                    found.add((process.pid, connection.laddr.ip, connection.laddr.port))
    return found


@pytest.mark.parametrize("scheduler", CONNECTED)
def test_two_clusters_do_not_get_in_each_others_way(scheduler):
    with connect(Where(scheduler, 1)) as one, connect(Where(scheduler, 1)) as other:
        assert one.dashboard != other.dashboard
        assert sorted(run_tasks(one, identity, range(9))) == list(range(9))
        assert sorted(run_tasks(other, identity, range(9))) == list(range(9))


@pytest.mark.slow
def test_workers_are_spawned_where_the_temporary_folder_has_too_long_a_path(tmp_path):
    folder = tmp_path.joinpath(*["long"] * 30)
    folder.mkdir(parents=True)
    script = (
        "if __name__ == '__main__':\n"
        "    from mimii.engine import Where, connect\n"
        "    with connect(Where(n_workers=1)) as cluster:\n"
        "        print(cluster.client.submit(int, '7').result())\n"
    )
    (tmp_path / "script.py").write_text(script)
    command = [sys.executable, str(tmp_path / "script.py")]
    done = subprocess.run(command, env=environment(TMPDIR=str(folder)), capture_output=True, text=True, check=False)
    assert done.stdout == "7\n", done.stderr


def test_workers_of_this_machine_are_started_without_what_only_dask_wants():
    script = (
        "import sys\n"
        "from mimii.engine import Where, connect\n"
        "with connect(Where(n_workers=1)) as cluster:\n"
        "    assert cluster.client.submit(int, '7').result() == 7\n"
        "    print([name for name in ('pandas', 'bokeh', 'zarr') if name in sys.modules])\n"
    )
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.stdout == "[]\n", done.stderr


@pytest.mark.slow
def test_a_script_that_workers_cannot_import_is_told_what_they_need(tmp_path):
    script = tmp_path / "script.py"
    script.write_text("from mimii.engine import Where, connect\nwith connect(Where(n_workers=1)):\n    pass\n")
    command = [sys.executable, str(script)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 1
    wanted = f'Workers import {script}: it must be a file, and start them below if __name__ == "__main__"\n'
    assert done.stderr.endswith(wanted)


def test_the_dashboard_is_opened_by_who_looks_at_it():
    with connect(Where(n_workers=1)) as cluster:
        for path in ("/status", "/", "/status"):
            with urllib.request.urlopen(cluster.dashboard.replace("/status", path)) as page:  # noqa: S310  our own
                assert b"Dask" in page.read()


def test_workers_of_several_threads_are_counted_once():
    with (
        LocalCluster(n_workers=2, threads_per_worker=3, processes=False, dashboard_address=None) as local,
        Client(local, set_as_default=False) as client,
        connect(client) as cluster,
    ):
        assert cluster.n_workers == 2
