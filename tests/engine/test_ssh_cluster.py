"""The whole job on machines over SSH: a real server on the loopback interface, with its own keys."""

import getpass
import os
import shutil
import socket
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import yaml

from tests.helpers.certificates import dask_configuration, write_certificates
from tests.helpers.commands import ROOT, assert_same_bytes, featurize, featurize_from_here, wait_for
from tests.helpers.dask_processes import HOST, Program, running

SERVER = shutil.which("sshd") or shutil.which("sshd", path="/usr/sbin:/usr/local/sbin")
KEYGEN = shutil.which("ssh-keygen")
SEPARATION = Path("/run/sshd")
if SERVER is None or KEYGEN is None:
    pytest.skip("there is no OpenSSH server here", allow_module_level=True)
asyncssh = pytest.importorskip("asyncssh", reason="asyncssh is not installed")

CONFIGURATION = """\
ListenAddress {host}:{port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
StrictModes no
"""


@dataclass(frozen=True)
class Machine:
    """A server of SSH, and what is needed to get in."""

    program: Program
    port: int
    folder: Path

    def connect_options(self):
        return {
            "port": self.port,
            "username": getpass.getuser(),
            "client_keys": [str(self.folder / "user_key")],
            "known_hosts": str(self.folder / "known_hosts"),
            "config": None,
        }


def make_key(path):
    subprocess.run([KEYGEN, "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return path.with_name(f"{path.name}.pub").read_text()


def free_port():
    with socket.create_server((HOST, 0)) as listener:
        return listener.getsockname()[1]


def answers(program, port):
    assert program.process.poll() is None, program.text()
    try:
        with socket.create_connection((HOST, port), 1) as connection:
            return connection.recv(4).startswith(b"SSH")
    except OSError:
        return False


def start_server(folder):
    port = free_port()
    configuration = folder / "sshd_config"
    configuration.write_text(CONFIGURATION.format(host=HOST, port=port, folder=folder))
    log = folder / "sshd.log"
    with log.open("wb") as file:
        process = subprocess.Popen([SERVER, "-D", "-e", "-f", configuration], stdout=file, stderr=file)
    return Program(process, log), port


@contextmanager
def ssh_machine(folder):
    folder.mkdir()
    if os.getuid() == 0:
        SEPARATION.mkdir(exist_ok=True)  # where a server that runs as root shuts itself in
    make_key(folder / "user_key")
    host_key = make_key(folder / "host_key")
    program, port = start_server(folder)
    (folder / "known_hosts").write_text(f"[{HOST}]:{port} {host_key}")
    with running(program):
        wait_for(lambda: answers(program, port), "the server")
        yield Machine(program, port, folder)


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    with ssh_machine(tmp_path_factory.mktemp("ssh") / "machine") as started:
        yield started


def write_cluster(path, connect_options, *, python=sys.executable, **changed):
    here = {"host": HOST, "dashboard_address": f"{HOST}:0"}
    kwargs = {
        "hosts": [HOST, HOST, HOST],
        "connect_options": connect_options,
        "remote_python": python,
        "scheduler_options": {"port": 0} | here,
        "worker_options": {"nthreads": 1, "memory_limit": "1GiB"} | here,
    }
    path.write_text(yaml.safe_dump({"module": "distributed", "class": "SSHCluster", "kwargs": kwargs | changed}))
    return path


@pytest.fixture
def remote_python(tmp_path):
    """Return a Python that knows the project."""
    script = tmp_path / "python"
    script.write_text(f'#!/bin/sh\ncd {tmp_path}\nexec env PYTHONPATH={ROOT} {sys.executable} "$@"\n')
    script.chmod(0o755)
    return str(script)


def left_over(machine):
    """Return what the server still runs for somebody."""
    return [
        child for child in psutil.Process(machine.program.process.pid).children(recursive=True) if child.is_running()
    ]


@pytest.mark.parametrize("encrypted", [False, True])
def test_the_job_runs_on_machines_over_ssh(raw, undisturbed, machine, remote_python, tmp_path, encrypted):
    variables = dask_configuration(write_certificates(tmp_path / "tls")) if encrypted else {}
    one_worker = {"hosts": [HOST, HOST], "worker_class": "distributed.Worker"} if encrypted else {}  # without a nanny
    path = write_cluster(tmp_path / "ssh.yaml", machine.connect_options(), python=remote_python, **one_worker)
    run = featurize_from_here if encrypted else featurize
    done = run(raw, tmp_path / "table", "--scheduler", path, **variables)
    assert done.returncode == 0, done.stderr
    assert "shards on 2 workers, dashboard http://127.0.0.1:" in done.stderr or "on 1 worker" in done.stderr
    assert [line for line in done.stderr.splitlines() if "distributed" in line or "asyncssh" in line] == []
    assert_same_bytes(undisturbed, tmp_path / "table")
    wait_for(lambda: not left_over(machine), "nothing is left over there")


def test_a_machine_that_is_not_known_is_refused(raw, machine, tmp_path):
    known = tmp_path / "known_hosts"
    known.write_text("")
    path = write_cluster(tmp_path / "ssh.yaml", machine.connect_options() | {"known_hosts": str(known)})
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path)
    assert done.returncode == 1
    assert f"{path}: the cluster cannot be started: " in done.stderr
    assert "Host key is not trusted" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_key_that_is_not_known_is_refused(raw, machine, tmp_path):
    make_key(tmp_path / "another")
    options = machine.connect_options() | {"client_keys": [str(tmp_path / "another")], "agent_path": None}
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", write_cluster(tmp_path / "ssh.yaml", options))
    assert done.returncode == 1
    assert "Permission denied" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_python_that_is_missing_is_an_error(raw, machine, tmp_path):
    options = machine.connect_options()
    path = write_cluster(tmp_path / "ssh.yaml", options, python="/nowhere/python")
    done = featurize_from_here(raw, tmp_path / "table", "--scheduler", path)
    assert done.returncode == 1
    assert f"{path}: the cluster cannot be started: " in done.stderr
    assert "Traceback" not in done.stderr
