"""The whole job on a network: each part has its own address, and a link goes down while a worker is at work.

Each part is in a network namespace; a bridge in one more namespace links them. This machine's own network has no part
in it.
"""

import itertools
import os
import shutil
import subprocess
from contextlib import ExitStack

import pytest

from mimii.engine import partitions
from tests.helpers.commands import assert_same_bytes, featurize_here, record_numbers, wait_for
from tests.helpers.dask_processes import NO_NANNY, SCHEDULER, WORKER, Program, running, start
from tests.helpers.faults import Gate
from tests.helpers.recordings import write_machines

IP = shutil.which("ip", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
NUMBERS = itertools.count()
PARTS = ("scheduler", "job", "worker1", "worker2")
HOW = ("--shard-mib", 1, "--hop-length", 128)
"""Makes more shards than are under way at a time."""
HASTE = {
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__TCP": "11s",  # Dask takes no less
    "DASK_DISTRIBUTED__COMM__TIMEOUTS__CONNECT": "5s",
    "DASK_DISTRIBUTED__SCHEDULER__WORKER_TTL": "1s",  # looked at so often; Dask gives a worker five seconds at least
}


def ip(*arguments):
    return subprocess.run([IP, *map(str, arguments)], check=True, capture_output=True, text=True).stdout


def why_not():
    """Return why there can be no namespaces here, if so."""
    if os.getuid() != 0:
        return "only root may make network namespaces"
    if IP is None:
        return "there is no ip command"
    name = f"sf-{os.getpid()}-trial"
    try:
        ip("netns", "add", name)
        try:
            ip("-n", name, "link", "add", "bridge", "type", "bridge")
        finally:
            ip("netns", "delete", name)
    except subprocess.CalledProcessError as error:
        return f"no network namespaces can be made: {error.stderr.strip()}"
    return ""


REASON = why_not()
pytestmark = pytest.mark.skipif(bool(REASON), reason=REASON)


class Network:
    """Parts with addresses of their own, and links that can be cut."""

    def __init__(self, stack):
        self.prefix = f"sf-{os.getpid()}-{next(NUMBERS)}"
        self.hub = self.make("hub", stack)
        ip("-n", self.hub, "link", "add", "bridge", "type", "bridge")
        ip("-n", self.hub, "link", "set", "bridge", "up")
        for part in PARTS:
            self.link(part, self.make(part, stack))

    def name(self, part):
        return f"{self.prefix}-{part}"

    def make(self, part, stack):
        name = self.name(part)
        ip("netns", "add", name)
        stack.callback(ip, "netns", "delete", name)
        ip("-n", name, "link", "set", "lo", "up")
        return name

    def link(self, part, name):
        ip("link", "add", part, "netns", self.hub, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", self.hub, "link", "set", part, "master", "bridge", "up")
        ip("-n", name, "address", "add", f"{self.address(part)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "eth0", "up")

    def address(self, part):
        return f"10.213.7.{PARTS.index(part) + 1}"

    def within(self, part):
        return (IP, "netns", "exec", self.name(part))

    def cut(self, part):
        ip("-n", self.hub, "link", "set", part, "down")

    def restore(self, part):
        ip("-n", self.hub, "link", "set", part, "up")


@pytest.fixture
def network():
    with ExitStack() as stack:
        yield Network(stack)


@pytest.fixture
def start_part(network, tmp_path):
    """Return what starts a program on a part of the network."""
    with ExitStack() as stack:

        def begin(part, *arguments, **variables):
            program = start(tmp_path / f"{part}.log", *arguments, within=network.within(part), **variables)
            return stack.enter_context(running(program))

        yield begin


def start_scheduler(network, begin, **variables):
    host = network.address("scheduler")
    program = begin(
        *("scheduler", SCHEDULER, "--host", host, "--port", 8786, "--no-dashboard"),
        **variables,
    )
    wait_for(lambda: "Scheduler at:" in program.text(), "the scheduler")
    return f"tcp://{host}:8786"


def start_worker(network, begin, part, scheduler, folder, **variables):
    where = ("--host", network.address(part), NO_NANNY, "--nthreads", 1, "--no-dashboard")
    worker = begin(part, WORKER, scheduler, *where, "--local-directory", folder, **variables)
    wait_for(lambda: "Starting established connection" in worker.text(), "a worker")
    return worker


def start_job(begin, raw, output, *arguments, **variables):
    return begin("job", "jobs.featurize", raw, "--output", output, *HOW, *arguments, **variables)


def wait_while_running(job: Program, condition, what):
    def check():
        assert job.process.poll() is None, job.text()
        return condition()

    return wait_for(check, what)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("raw")
    write_machines(folder, 45, 160_000)
    return folder


@pytest.fixture(scope="module")
def undisturbed(raw, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "table"
    assert featurize_here(raw, "--output", output, "--quiet", *HOW) == 0
    return output


@pytest.fixture
def cut_off(network, start_part, raw, tmp_path):
    """Return what starts a job on two workers and cuts the link of one while both are at work."""

    def begin(**variables):
        gate = Gate(tmp_path / "gate", raw.rglob("*.wav"))
        scheduler = start_scheduler(network, start_part, **variables)
        for part in PARTS[2:]:
            start_worker(network, start_part, part, scheduler, tmp_path, **variables, **gate.environment)
        job = start_job(start_part, raw, tmp_path / "table", "--scheduler", scheduler, **variables)
        wait_while_running(job, lambda: "shards on 2 workers" in job.text(), "begins")
        network.cut("worker2")
        assert record_numbers(tmp_path / "table") == []
        gate.open()
        return job

    return begin


def test_a_link_that_goes_down_costs_time_and_nothing_else(cut_off, undisturbed, tmp_path):
    job = cut_off(**HASTE)
    assert job.process.wait() == 0, job.text()
    assert "Traceback" not in job.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_a_worker_that_is_cut_off_stops_none_but_its_own_tasks(network, cut_off, undisturbed, tmp_path):
    job = cut_off()  # Dask gives a worker up after five minutes, unless configured otherwise
    n_shards = len(record_numbers(undisturbed))
    assert n_shards > 3 * partitions._TASKS_A_WORKER
    # A worker is sent one task beside the one that it is at; what it finishes without a link has a record, too.
    wait_while_running(job, lambda: len(record_numbers(tmp_path / "table")) >= n_shards - 2, "all of the other")
    network.restore("worker2")
    assert job.process.wait() == 0, job.text()
    assert "Traceback" not in job.text()
    assert_same_bytes(undisturbed, tmp_path / "table")


def test_a_scheduler_that_does_not_answer_ends_the_job_in_words(network, start_part, tmp_path):
    write_machines(tmp_path / "raw", 4)
    scheduler = start_scheduler(network, start_part)
    network.cut("scheduler")
    job = start_job(start_part, tmp_path / "raw", tmp_path / "table", "--scheduler", scheduler, "--timeout", 0.5)
    assert job.process.wait() == 1
    assert f"{scheduler}: no scheduler answers there within 0.5 s (--timeout)" in job.text()
    assert "Traceback" not in job.text()


def test_namespaces_are_removed_in_the_end():
    with ExitStack() as stack:
        made = Network(stack)
        assert made.hub in ip("netns", "list")
    assert made.prefix not in ip("netns", "list")
