"""The whole job on a real Slurm of one node: workers are its jobs, and none is left when the job ends."""

import signal

import psutil
import pytest
import yaml

from tests.helpers.commands import ROOT, assert_same_bytes, featurize_from_here, wait_for
from tests.helpers.dask_processes import HOST, running, start
from tests.helpers.faults import Gate
from tests.helpers.slurm import slurm, why_not

pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
REASON = why_not()
pytestmark = [pytest.mark.slow, pytest.mark.skipif(bool(REASON), reason=REASON)]
REFUSED = (
    "sbatch: error: invalid partition specified: nonesuch; "
    "sbatch: error: Batch job submission failed: Invalid partition name specified"
)


@pytest.fixture(scope="module")
def batch():
    with slurm() as started:
        yield started


def loopback():
    """Return the name of the interface of this machine itself."""
    return next(name for name, found in psutil.net_if_addrs().items() if HOST in {one.address for one in found})


def write_cluster(folder, **kwargs):
    """Write the example of a cluster file as it is for this machine; arguments change it."""
    document = yaml.safe_load((ROOT / "docs/clusters/slurm.yaml").read_text())
    document["kwargs"] |= {"interface": loopback(), "log_directory": str(folder / "logs")} | kwargs
    document["kwargs"]["scheduler_options"]["interface"] = loopback()
    path = folder / "slurm.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def start_job(batch, raw, tmp_path):
    """Return what starts the job as a program."""

    def begin(*how, **variables):
        whole = ("jobs.featurize", raw, "--output", tmp_path / "table", "--shard-mib", 1, "--scheduler", *how)
        return running(start(tmp_path / "job.log", *whole, **batch.environment, **variables))

    return begin


def test_the_job_runs_as_jobs_of_slurm_that_end_with_it(raw, undisturbed, batch, tmp_path):
    path = write_cluster(tmp_path)
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path, "--workers", 2, **batch.environment)
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_same_bytes(undisturbed, tmp_path / "table")
    assert len(list((tmp_path / "logs").glob("*.out"))) == 2
    wait_for(lambda: not batch.jobs(), "no job is left")


@pytest.mark.parametrize(("how", "kwargs"), [(("--workers", 2), {}), ((), {"n_workers": 2}), (("--adapt", 1, 2), {})])
def test_what_sbatch_refuses_is_said_as_it_says_it(raw, batch, tmp_path, how, kwargs):
    path = write_cluster(tmp_path, queue="nonesuch", **kwargs)
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path, *how, **batch.environment)
    assert done.returncode == 1
    said = [line for line in done.stderr.splitlines() if "has no worker yet" not in line]
    assert len(said) == 2, done.stderr
    assert said[0].startswith(f"featurize: {path}: the cluster cannot be started: ") or "--adapt" in how
    assert said[0].endswith(REFUSED)
    assert "run the same command again" in said[1]


def test_an_interrupt_cancels_jobs_that_wait(batch, start_job, tmp_path):
    with start_job(write_cluster(tmp_path, queue="closed"), "--workers", 2) as job:
        wait_for(lambda: len(batch.jobs()) == 2, "both wait")
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait() == 130, job.text()
    assert "interrupted. Finished work is kept" in job.text()
    assert "Traceback" not in job.text()
    wait_for(lambda: not batch.jobs(), "no job is left")


@pytest.fixture
def gate(raw, tmp_path):
    """Return what keeps workers from finishing a task until the test ends: a worker that waits would outlive it."""
    gate = Gate(tmp_path / "gate", raw.rglob("*.wav"))
    yield gate
    gate.open()


def test_an_interrupt_cancels_jobs_that_run(batch, start_job, gate, tmp_path):
    with start_job(write_cluster(tmp_path), "--workers", 1, **gate.environment) as job:
        wait_for(lambda: "shards on 1 worker" in job.text(), "works")
        job.process.send_signal(signal.SIGINT)
        assert job.process.wait() == 130, job.text()
    assert "interrupted. Finished work is kept" in job.text()
    assert "Traceback" not in job.text()
    wait_for(lambda: not batch.jobs(), "no job is left")


def test_a_job_that_slurm_ends_is_replaced_where_workers_adapt(undisturbed, batch, start_job, gate, tmp_path):
    haste = {"DASK_DISTRIBUTED__DEPLOY__LOST_WORKER_TIMEOUT": "1s"}
    cluster = write_cluster(tmp_path)
    with start_job(cluster, "--adapt", 1, 1, **gate.environment, **haste) as job:
        wait_for(lambda: "shards on 1 worker" in job.text(), "works")
        [first] = batch.jobs()
        batch.ask("scancel", first)
        wait_for(lambda: set(batch.jobs()) - {first}, "another one")
        gate.open()
        assert job.process.wait() == 0, job.text()
    assert_same_bytes(undisturbed, tmp_path / "table")
