"""The whole job on clusters of a real Dask Gateway: new ones that end with the job, and one that stays."""

import os
import signal
from pathlib import Path

import pytest
import yaml

from mimii.engine import WORKER_ENVIRONMENT
from mimii.engine.schedulers import read_cluster_file
from tests.helpers.commands import ROOT, assert_same_bytes, featurize_from_here, wait_for
from tests.helpers.dask_processes import running, start
from tests.helpers.faults import Gate, with_constant
from tests.helpers.gateway import gateway_server

pytest.importorskip("dask_gateway", reason="dask-gateway is not installed")
server = pytest.importorskip("dask_gateway_server", reason="dask-gateway-server is not installed")
pytest.importorskip("sqlalchemy", reason="dask-gateway-server[local] is not installed: there is no sqlalchemy")
START = "mimii.engine.interrupts._SECONDS_TO_START"
PROXY = Path(server.__file__).parent / "proxy/dask-gateway-proxy"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access(PROXY, os.X_OK), reason="this dask-gateway-server has no proxy that runs here"),
]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory):
    with gateway_server(tmp_path_factory.mktemp("gateway")) as started:
        yield started


def write_cluster(example, path, gateway, **kwargs):
    """Write an example of a cluster file that names this server."""
    document = yaml.safe_load((ROOT / "docs/clusters" / example).read_text())
    document["kwargs"] |= {"address": gateway.address} | kwargs
    path.write_text(yaml.safe_dump(document))
    return path


def wait_for_no_clusters(gateway):
    wait_for(lambda: not gateway.client.list_clusters(), "no cluster is left")


def test_the_job_runs_on_a_new_cluster_that_ends_with_it(raw, undisturbed, gateway, tmp_path):
    path = write_cluster("gateway.yaml", tmp_path / "gateway.yaml", gateway)
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path, "--adapt", 1, 2)
    assert done.returncode == 0, done.stderr
    assert f"dashboard {gateway.address}/clusters/" in done.stderr
    assert "Traceback" not in done.stderr
    assert "was not stopped" not in done.stderr
    assert_same_bytes(undisturbed, tmp_path / "table")
    wait_for_no_clusters(gateway)


@pytest.fixture
def running_cluster(gateway, tmp_path):
    """Start a cluster with the environment of the example; return its name."""
    path = write_cluster("gateway.yaml", tmp_path / "gateway.yaml", gateway)
    name = gateway.client.submit(environment=read_cluster_file(str(path)).kwargs["environment"], nanny=True)
    wait_for(lambda: gateway.client.list_clusters(status="running"), "the cluster runs")
    yield name
    gateway.client.stop_cluster(name)
    wait_for_no_clusters(gateway)


def test_a_running_cluster_is_used_by_its_name_and_left_running(raw, undisturbed, gateway, running_cluster, tmp_path):
    path = write_cluster("gateway_running.yaml", tmp_path / "running.yaml", gateway, cluster_name=running_cluster)
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path, "--timeout", 3)
    assert done.returncode == 1
    assert "no worker came within 3 s (--timeout); ask for some with --workers N" in done.stderr
    gateway.client.scale_cluster(running_cluster, 1)
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path)
    assert done.returncode == 0, done.stderr
    assert f"shards on 1 worker, dashboard {gateway.address}/clusters/{running_cluster}" in done.stderr
    assert_same_bytes(undisturbed, tmp_path / "table")
    [report] = gateway.client.list_clusters()
    assert (report.name, report.status.name) == (running_cluster, "RUNNING")
    [worker] = gateway.program.workers()
    assert WORKER_ENVIRONMENT.items() <= worker.environ().items()


def test_a_cluster_that_is_not_there_is_said_in_one_line(raw, gateway, tmp_path):
    path = write_cluster("gateway_running.yaml", tmp_path / "running.yaml", gateway, cluster_name="nobody")
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path)
    assert done.returncode == 1
    said, how_to_resume = done.stderr.splitlines()
    assert said.startswith(f"featurize: {path}: the cluster cannot be started: ")
    assert "nobody" in said
    assert "run the same command again" in how_to_resume


@pytest.fixture
def start_job(raw, tmp_path):
    """Return what starts the job on a new cluster as a program."""

    def begin(gateway, *how, **kwargs):
        path = write_cluster("gateway.yaml", tmp_path / "gateway.yaml", gateway, **kwargs)
        whole = ("jobs.featurize", raw, "--output", tmp_path / "table", "--shard-mib", 1, "--scheduler", path, *how)
        return running(start(tmp_path / "job.log", *whole, **with_constant(tmp_path / "site", START, 0.1)))

    return begin


def test_an_interrupt_ends_the_start_of_a_cluster_and_the_gateway_forgets_it(gateway, start_job):
    with start_job(gateway, never_starts=True) as job:
        wait_for(lambda: gateway.client.list_clusters(status="pending"), "the cluster is asked for")
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait() == 130, job.text()
    assert "interrupted. Finished work is kept" in job.text()
    assert "Traceback" not in job.text()
    wait_for_no_clusters(gateway)


def test_a_scheduler_that_is_killed_at_work_costs_a_new_cluster_and_nothing_else(
    raw, undisturbed, gateway, start_job, tmp_path
):
    gate = Gate(tmp_path / "gate", raw.rglob("*.wav"))
    with start_job(gateway, "--workers", 1, environment=gate.environment) as job:
        wait_for(lambda: "shards on 1 worker" in job.text(), "works")
        gateway.kill_schedulers()
        wait_for(lambda: "is lost; connecting again" in job.text(), "notices the loss")
        gate.open()
        assert job.process.wait() == 0, job.text()
    assert "Traceback" not in job.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_a_scheduler_that_is_killed_before_a_worker_came_is_replaced(gateway, start_job):
    with start_job(gateway) as job:
        wait_for(lambda: "has no worker yet" in job.text(), "waits")
        gateway.kill_schedulers()
        wait_for(lambda: job.text().count("has no worker yet") == 2, "waits at another cluster")
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait() == 130, job.text()
    assert job.text().count("is lost; connecting again") == 1
    assert "Traceback" not in job.text()
    wait_for_no_clusters(gateway)
