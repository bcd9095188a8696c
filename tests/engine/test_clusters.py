"""The whole job on clusters of separate processes: they join, leave, die, differ, encrypt; the bytes are the same."""

import contextlib
import os
import shutil
import signal

import dask
import psutil
import pytest

from mimii.engine import Where, connect
from tests.helpers.certificates import dask_configuration, write_certificates
from tests.helpers.commands import (
    ROOT,
    assert_same_bytes,
    featurize_from_here,
    featurize_here,
    record_numbers,
    start,
    wait_for,
)
from tests.helpers.dask_processes import (
    HOST,
    Program,
    address_of,
    dask_cluster,
    freeze,
    running,
    start_scheduler,
    start_worker,
    thaw,
)
from tests.helpers.faults import Gate
from tests.helpers.recordings import write_machines
from tests.helpers.under_way import interrupt_when, job_here

N_CLIPS = 45


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """Return recordings for some fifteen shards: a worker holds no more than two of them at a time."""
    folder = tmp_path_factory.mktemp("raw")
    write_machines(folder, N_CLIPS, 160_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "table"
    assert featurize_here(raw, "--output", output, "--quiet") == 0
    assert len(record_numbers(output)) == 15
    return output


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "cluster"
    path.mkdir()
    return path


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    """Share a cluster among tests that do it no harm: its folder, and its programs, a worker without a nanny first."""
    path = tmp_path_factory.mktemp("cluster")
    listens = ("--dashboard-address", f"{HOST}:0")
    with (
        dask_cluster(path, 1, *listens) as (scheduler, workers),
        running(start_worker(path, "--nanny", *listens)) as worker,
    ):
        wait_for_workers(path, 2)
        yield path, [scheduler, *workers, worker]


@pytest.fixture(scope="module")
def cluster(programs):
    return programs[0]


@pytest.fixture(scope="module")
def lonely(tmp_path_factory):
    """Return the address of a scheduler without workers."""
    path = tmp_path_factory.mktemp("lonely")
    with running(start_scheduler(path)):
        yield address_of(path)


def under_way(raw, output, scheduler, *arguments):
    """Run the command in a thread of this process."""
    return job_here("featurize", raw, output, "--shard-mib", 1, "--scheduler", scheduler, *arguments)


class Job:
    """The command, under way as a process of its own."""

    def __init__(self, raw, output, *arguments, **variables):
        self.output = output
        self.log = output.parent / "job.log"
        whole = ("featurize", raw, "--output", output, "--shard-mib", 1, *arguments)
        with self.log.open("wb") as file:
            self.process = start(*whole, out=file, err=file, **variables)

    def text(self):
        return self.log.read_text()

    def n_done(self):
        return len(record_numbers(self.output)) if self.output.exists() else 0

    def wait_for(self, condition, what):
        def check():
            assert self.process.poll() is None, self.text()
            return condition()

        return wait_for(check, what)

    def end(self):
        """Wait for the end; what it said must be words."""
        status = self.process.wait()
        assert "Traceback" not in self.text(), self.text()
        assert "distributed." not in self.text(), self.text()
        return status


@contextlib.contextmanager
def job(raw, output, *arguments, **variables):
    started = Job(raw, output, *arguments, **variables)
    try:
        yield started
    finally:
        if started.process.poll() is None:
            started.process.kill()
            started.process.wait()


def succeed(done, undisturbed, output):
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert_same_bytes(undisturbed, output)
    return done.stderr


def fail(done):
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "run the same command again" in done.stderr
    return done.stderr


def test_a_cluster_is_found_by_its_address(raw, undisturbed, cluster, tmp_path):
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", address_of(cluster))
    said = succeed(done, undisturbed, tmp_path / "table")
    assert "shards on 2 workers, dashboard http://127.0.0.1:" in said


def test_a_cluster_is_found_by_its_scheduler_file(raw, undisturbed, cluster, tmp_path):
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", cluster / "scheduler.json")
    succeed(done, undisturbed, tmp_path / "table")


def test_a_cluster_is_found_by_the_environment(raw, undisturbed, cluster, tmp_path):
    variables = {"DASK_SCHEDULER_ADDRESS": address_of(cluster)}
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", "env", **variables)
    succeed(done, undisturbed, tmp_path / "table")


def test_a_scheduler_and_a_worker_that_start_later_are_waited_for(raw, undisturbed, folder, tmp_path):
    with under_way(raw, tmp_path / "table", folder / "scheduler.json") as it:
        it.wait_for(lambda: "no scheduler answers there yet; waiting for it, 300 s" in it.text(), "waits")
        with running(start_scheduler(folder)):
            it.wait_for(lambda: "has no worker yet; waiting for the first one, 300 s" in it.text(), "waits")
            with running(start_worker(folder)):
                assert it.end() == 0, it.text()
    assert "on 1 worker" in it.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_a_cluster_that_is_started_as_the_documentation_says_listens_where_it_has_to(programs):
    processes = [process for program in programs[1] for process in program.processes()]
    assert len(processes) >= 4
    listening = {
        connection.laddr.ip
        for process in processes
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {HOST}


def test_without_a_scheduler_the_job_ends_in_words(raw, tmp_path):
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", tmp_path / "none.json", "--timeout", "0.5"))
    assert "none.json: no scheduler answers there within 0.5 s (--timeout)" in said


def test_where_no_program_listens_the_job_ends_in_words(raw, tmp_path):
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", "tcp://127.0.0.1:1", "--timeout", "0.5"))
    assert "tcp://127.0.0.1:1: no scheduler answers there within 0.5 s (--timeout)" in said


def test_without_a_worker_the_job_ends_in_words(raw, lonely, tmp_path):
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", lonely, "--timeout", "3"))
    assert f"no worker came within 3 s (--timeout); start some with 'dask worker {lonely}'" in said


def interrupt(raw, output, scheduler, words):
    """Interrupt the command when it says some words."""
    done = interrupt_when(words, "featurize", raw, "--output", output, "--scheduler", scheduler)
    assert done.returncode == 130, done.stderr
    assert "interrupted. Finished work is kept" in done.stderr
    assert "Traceback" not in done.stderr


def test_waiting_for_a_scheduler_ends_with_an_interrupt(raw, tmp_path):
    interrupt(raw, tmp_path / "table", tmp_path / "none.json", "no scheduler answers there yet")


def test_waiting_for_a_worker_ends_with_an_interrupt(raw, lonely, tmp_path):
    interrupt(raw, tmp_path / "table", lonely, "has no worker yet")


def test_an_interrupt_takes_effect_while_there_is_no_result(raw, undisturbed, folder, tmp_path, gate):
    with (
        dask_cluster(folder, 1, **gate.environment),
        job(raw, tmp_path / "table", "--scheduler", address_of(folder)) as it,
    ):
        it.wait_for(lambda: "on 1 worker" in it.text(), "has begun")
        it.process.send_signal(signal.SIGINT)
        assert it.end() == 130, it.text()
    assert it.text().count("stopping; once more to stop at once") == 1
    assert featurize_here(raw, "--output", tmp_path / "table", "--quiet") == 0
    assert_same_bytes(undisturbed, tmp_path / "table")


@pytest.fixture
def gate(raw, tmp_path):
    """Return what keeps workers from finishing a task before they are frozen."""
    return Gate(tmp_path / "gate", raw.rglob("*.wav"))


def freeze_workers(it, gate, *programs):
    """Freeze the workers once the job has begun; thawed, they work."""
    it.wait_for(lambda: f"on {len(programs)} worker" in it.text(), "has begun")
    workers = [worker for program in programs for worker in program.workers()]
    assert len(workers) == len(programs)
    for worker in workers:
        freeze(worker)
    gate.open()
    assert it.n_done() == 0
    return workers


def test_a_worker_that_joins_is_used_and_one_that_retires_is_not_missed(raw, undisturbed, folder, tmp_path, gate):
    with (
        running(start_scheduler(folder)),
        running(start_worker(folder, "--nanny", **gate.environment)) as first,
        under_way(raw, tmp_path / "table", folder / "scheduler.json") as it,
    ):
        [frozen] = freeze_workers(it, gate, first)
        with running(start_worker(folder)):
            it.wait_for(lambda: it.n_done() >= 3, "the second one works")
            thaw(frozen)
            os.kill(first.process.pid, signal.SIGTERM)  # a nanny retires its worker, as on a spot machine that ends
            assert it.end() == 0, it.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_a_scheduler_that_is_killed_and_started_again_is_found_again(raw, undisturbed, folder, tmp_path, gate):
    with under_way(raw, tmp_path / "table", folder / "scheduler.json") as it:
        with dask_cluster(folder, 1, **gate.environment) as (scheduler, workers):
            freeze_workers(it, gate, *workers)
            scheduler.kill()
            it.wait_for(lambda: "is lost; connecting again" in it.text(), "notices the loss")
        with dask_cluster(folder, 1):
            assert it.end() == 0, it.text()
    said = it.text()
    assert said.count("is lost; connecting again") == 1
    assert f"{N_CLIPS}/{N_CLIPS} clips" in said
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_where_the_scheduler_stays_lost_the_job_ends_in_words_and_resumes_later(
    raw, undisturbed, folder, tmp_path, gate
):
    with dask_cluster(folder, 1, **gate.environment) as (scheduler, workers):
        wait_for_workers(folder, 1)
        with under_way(raw, tmp_path / "table", folder / "scheduler.json", "--timeout", 3) as it:
            freeze_workers(it, gate, *workers)
            scheduler.kill()
            assert it.end() == 1
    assert "is lost; connecting again" in it.text()
    assert "no scheduler answers there within 3 s (--timeout)" in it.text()
    assert "run the same command again: finished work is kept" in it.text()
    assert featurize_here(raw, "--output", tmp_path / "table", "--quiet") == 0
    assert_same_bytes(undisturbed, tmp_path / "table")


def other_code(folder):
    """Copy the project; one file differs. Return the environment of a worker that has this copy."""
    copy = folder / "other"
    for package in ("mimii", "jobs"):
        shutil.copytree(ROOT / package, copy / package, ignore=shutil.ignore_patterns("__pycache__"))
    with (copy / "mimii/features/mel.py").open("a") as file:
        file.write("# changed\n")
    return {"PYTHONPATH": str(copy), "PYTHONSAFEPATH": "1"}


def wait_for_workers(folder, number):
    text = folder / "scheduler.log"
    wait_for(lambda: text.read_text().count("Starting worker compute stream") >= number, f"{number} workers")


def other_zarr(folder):
    """Return the environment of a worker that believes that another version of a package is installed."""
    shadow = folder / "shadow"
    (shadow / "zarr-3.1.2.dist-info").mkdir(parents=True)
    (shadow / "zarr-3.1.2.dist-info/METADATA").write_text("Metadata-Version: 2.1\nName: zarr\nVersion: 3.1.2\n")
    return {"PYTHONPATH": os.pathsep.join([str(shadow), str(ROOT)])}


def row_of(package, said):
    """Return the row of a package in the only table of versions."""
    assert "the parts of the cluster have different versions:" in said
    [row] = [line for line in said.splitlines() if line.strip().startswith(package)]
    return row


def test_workers_that_differ_compute_nothing_and_are_refused_with_a_table(raw, folder, tmp_path, gate, recwarn):
    how = ("--scheduler", folder / "scheduler.json")
    with dask_cluster(folder, 1, **gate.environment) as (_, [first]):
        with under_way(raw, tmp_path / "joined", folder / "scheduler.json") as it:
            [frozen] = freeze_workers(it, gate, first)
            with running(start_worker(folder, **other_code(tmp_path))):
                assert it.end() == 1, it.text()
                assert "a worker has code " in it.text()
                thaw(frozen)
                said = fail(featurize_from_here(raw, tmp_path / "table", *how))
                assert row_of("sound-features", said).count("code ") == 4
        with running(start_worker(folder, **other_zarr(tmp_path))):
            wait_for_workers(folder, 3)
            said = fail(featurize_from_here(raw, tmp_path / "table", *how))
            assert "3.1.2" in row_of("zarr", said).split()
    assert not record_numbers(tmp_path / "table")
    assert "VersionMismatchWarning" not in {warning.category.__name__ for warning in recwarn}


@pytest.fixture(scope="module")
def certificates(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certificates")
    return {name: write_certificates(folder / name) for name in ("ours", "others")}


def arguments_of(options):
    return [part for pair in options.items() for part in pair]


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory, certificates):
    path = tmp_path_factory.mktemp("encrypted")
    with dask_cluster(path, 1, *arguments_of(certificates["ours"]), "--protocol", "tls"):
        yield path


@pytest.mark.parametrize("by", ["address", "file"])
def test_all_parts_encrypt_by_dasks_configuration(raw, undisturbed, encrypted, certificates, tmp_path, by):
    address = address_of(encrypted)
    assert address.startswith("tls://")
    scheduler = address if by == "address" else encrypted / "scheduler.json"
    done = featurize_from_here(
        raw, tmp_path / "table", "--scheduler", scheduler, **dask_configuration(certificates["ours"])
    )
    succeed(done, undisturbed, tmp_path / "table")


def test_workers_on_this_machine_encrypt_too(raw, undisturbed, certificates, tmp_path):
    done = featurize_from_here(raw, tmp_path / "table", "--workers", 1, **dask_configuration(certificates["ours"]))
    succeed(done, undisturbed, tmp_path / "table")


def test_a_client_that_does_not_encrypt_is_refused_with_how_to(raw, encrypted, tmp_path):
    address = address_of(encrypted)
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", address.replace("tls://", "tcp://")))
    assert f"it encrypts. Name it as {address}, and set distributed.comm.tls in Dask's configuration" in said


def test_a_client_without_certificates_is_refused_with_how_to(raw, encrypted, tmp_path):
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", encrypted / "scheduler.json"))
    assert "it encrypts; set distributed.comm.tls in Dask's configuration" in said


def test_a_client_with_the_certificates_of_others_is_refused(raw, encrypted, certificates, tmp_path):
    theirs = dask_configuration(certificates["others"])
    said = fail(featurize_from_here(raw, tmp_path / "table", "--scheduler", address_of(encrypted), **theirs))
    assert "it does not know these certificates, or they do not know it" in said


def test_a_client_that_encrypts_refuses_a_scheduler_that_does_not(raw, cluster, certificates, tmp_path):
    address, ours = address_of(cluster), dask_configuration(certificates["ours"])
    said = fail(featurize_from_here(raw, tmp_path / "one", "--scheduler", address.replace("tcp://", "tls://"), **ours))
    assert f"it does not encrypt; start it with TLS, or name it as {address}" in said
    said = fail(featurize_from_here(raw, tmp_path / "two", "--scheduler", address, **ours))
    assert f"{address}: it does not encrypt, which Dask's configuration asks for; start it with TLS" in said


def test_workers_are_started_as_the_work_demands(raw, undisturbed, tmp_path, gate):
    with job(raw, tmp_path / "table", "--adapt", 1, 2, **gate.environment) as it:
        here = Program(it.process, it.log)
        [frozen] = freeze_workers(it, gate, here)
        it.wait_for(lambda: len(here.workers()) == 2, "a second one comes")
        it.wait_for(lambda: it.n_done() >= 3, "it works")
        thaw(frozen)
        assert it.end() == 0, it.text()
    assert "on 1 worker, " in it.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


@pytest.mark.parametrize(("said", "used"), [({}, "60s"), ({"distributed.comm.timeouts.connect": "7s"}, "7s")])
def test_what_the_user_configured_of_dask_is_left_as_it_is(said, used):
    with dask.config.set(said):
        before = dask.config.get("distributed.comm.timeouts.connect")
        with connect(Where("threads", 1)):
            assert dask.config.get("distributed.comm.timeouts.connect") == used
        assert dask.config.get("distributed.comm.timeouts.connect") == before
