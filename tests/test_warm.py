"""The programs of tests that are forked: they stay quick, and nothing of them stays."""

import os
import signal
import subprocess

import psutil
import pytest

from mimii.engine import Where, connect
from tests.helpers import warm
from tests.helpers.commands import start, wait_for
from tests.helpers.dask_processes import Program, run_tasks
from tests.helpers.worker_tasks import square


def session(number):
    """Return the processes of a session; one that ends while it is looked at is in none."""
    return [pid for pid in psutil.pids() if session_of(pid) == number]


def session_of(pid):
    try:
        return os.getsid(pid)
    except ProcessLookupError:
        return None


@pytest.mark.slow
def test_commands_are_forked_also_after_workers_were_started_here(tmp_path):
    """Dask changes variables of the process that starts workers: with one that is new, Python would start anew."""
    with connect(Where("local", 1)) as cluster:
        assert list(run_tasks(cluster, square, [(str(tmp_path), 7)])) == [49]
    with (tmp_path / "log").open("wb") as log:
        process = start("featurize", "--version", out=log, err=log)
        assert isinstance(process, warm.Process)
        assert process.wait() == 0


def test_what_waits_to_be_the_server_of_workers_ends_with_its_command(tmp_path):
    with (tmp_path / "log").open("wb") as log:
        process = start("featurize", "--version", out=log, err=log)
    assert process.wait() == 0
    wait_for(lambda: not session(process.pid), "the end of all processes")


def test_a_program_that_ends_by_itself_while_it_is_killed_is_no_error(tmp_path, monkeypatch):
    process = subprocess.Popen(["/bin/sleep", "1000"])

    def end_first(*_, **__):
        process.kill()
        process.wait()
        return []

    monkeypatch.setattr(psutil.Process, "children", end_first)
    Program(process, tmp_path / "log").kill()
    assert process.poll() == -signal.SIGKILL
