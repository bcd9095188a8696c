"""Programs as processes that need not import the packages of others: each is forked from one that has.

A command takes a second of CPU for its imports, most of it for other packages. Here a process imports these, once for
each process of pytest, and forks; the fork imports this project and the program itself, as ``python -m`` does. What it
starts, such as the server that its workers are forked from, it starts as ever.
"""

import faulthandler
import functools
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

ROOT = Path(__file__).parents[2]
_IMPORTED = [
    "dask.bag",
    "distributed.deploy.local",
    "distributed.nanny",
    "google_crc32c",
    "lazy_loader",
    "numcodecs.vlen",
    "numcodecs.zstd",
    "pandas",
    "PIL.Image",
    "scipy.fft",
    "soundfile",
    "soxr",
    "threadpoolctl",
    "tqdm",
    "xarray",
    "yaml",
    "zarr",
]
"""Of other projects alone: tests put code in front of this project's, and change it before it is imported."""

DOCUMENTED = {"DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false"}
"""Of what docs/clusters.md asks for: on Python 3.11, Dask's profiler may freeze a process that starts threads."""

STACKS = "most recent call first"
"""What a process writes for each thread when it gets SIGUSR2."""

_MOST_BYTES = 1 << 20


class Process:
    """A process that was forked elsewhere, with what tests use of `subprocess.Popen`."""

    def __init__(self, pid: int, status: int) -> None:
        self.pid, self.returncode = pid, None
        self._status = status

    def poll(self) -> int | None:
        return self._read(0)

    def wait(self, timeout: float | None = None) -> int:
        if self._read(timeout) is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return self.returncode

    def send_signal(self, number: int) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def _read(self, timeout: float | None) -> int | None:
        if self.returncode is None and select.select([self._status], [], [], timeout)[0]:
            self.returncode = os.waitstatus_to_exitcode(int(os.read(self._status, 64)))
            os.close(self._status)
        return self.returncode


def start(
    module: str, arguments: Sequence[str], cwd: Path, environment: Mapping[str, str], out: BinaryIO, err: BinaryIO
) -> Process | subprocess.Popen[bytes]:
    """Start ``python -m`` a module as the leader of a session; anew where an import would read other variables."""
    if _read_at_import(environment) != _IMPORTED_WITH:
        words = [sys.executable, "-m", module, *arguments]
        return subprocess.Popen(words, cwd=cwd, env=environment, stdout=out, stderr=err, start_new_session=True)
    server, (status, to_status) = _server(), os.pipe()
    request = {"module": module, "arguments": list(arguments), "cwd": str(cwd), "environment": dict(environment)}
    socket.send_fds(server, [json.dumps(request).encode()], [out.fileno(), err.fileno(), to_status])
    os.close(to_status)
    return Process(int(server.recv(64)), status)


def _read_at_import(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that packages read when they are imported; what is in PYTHONPATH, each fork imports."""
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("DASK_", "OMP_", "OPENBLAS_", "PYTHON")) and name != "PYTHONPATH"
    }


_IMPORTED_WITH = _read_at_import(os.environ | DOCUMENTED)


@functools.cache
def _server() -> socket.socket:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    words = [sys.executable, "-m", __name__, str(theirs.fileno())]
    clean = {name: value for name, value in os.environ.items() if name not in _read_at_import(os.environ)}
    environment = clean | _IMPORTED_WITH
    subprocess.Popen(words, cwd=ROOT, env=environment, stdin=subprocess.DEVNULL, pass_fds=[theirs.fileno()])
    theirs.close()
    return ours


def _serve(connection: socket.socket) -> tuple[dict[str, Any], list[int]]:
    """Fork for each request; return the request and its streams in the fork. Without more requests, exit."""
    statuses: dict[int, int] = {}
    ended, wake = os.pipe2(os.O_NONBLOCK)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(wake)
    while True:
        ready = select.select([connection, ended], [], [])[0]
        if ended in ready:
            os.read(ended, _MOST_BYTES)
            _report(statuses)
        if connection in ready:
            request, streams, _, _ = socket.recv_fds(connection, _MOST_BYTES, 3)
            if not request:
                raise SystemExit
            if not (process := os.fork()):
                return json.loads(request), streams
            connection.send(str(process).encode())
            statuses[process] = streams.pop()
            for stream in streams:
                os.close(stream)


def _report(statuses: dict[int, int]) -> None:
    while statuses and (ended := os.waitpid(-1, os.WNOHANG))[0]:
        process, status = ended
        to_status = statuses.pop(process)
        os.write(to_status, str(status).encode())
        os.close(to_status)


def _become(request: dict[str, Any], streams: Sequence[int]) -> None:
    """Make a fork what a process that was started anew is."""
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    os.setsid()
    os.dup2(streams[0], 1)
    os.dup2(streams[1], 2)
    os.closerange(3, 1024)
    faulthandler.register(signal.SIGUSR2, file=2)
    os.chdir(request["cwd"])
    os.environ.clear()
    os.environ.update(request["environment"])
    sys.path[0] = request["cwd"]
    path = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[1:1] = path
    sys.argv = ["-m", *request["arguments"]]
    sys.orig_argv = [sys.executable, "-m", request["module"], *request["arguments"]]
    for customize in filter(os.path.exists, (os.path.join(entry, "sitecustomize.py") for entry in path)):
        runpy.run_path(customize)


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    os.fsync = lambda _: None  # leave files in the memory of the system: no test cuts the power
    _become(*(found := _serve(socket.socket(fileno=int(sys.argv[1])))))
    runpy.run_module(found[0]["module"], run_name="__main__", alter_sys=True)
