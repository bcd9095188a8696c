"""Programs as processes that need not import the packages of others: each is forked from one that has.

A command takes a second of CPU for its imports, most of it for other packages. Here a process imports these, once for
each process of pytest, and forks; the fork imports this project and the program itself, as ``python -m`` does. A second
fork waits to become the server that its workers are forked from. What else it starts, it starts as ever.
"""

import ctypes
import faulthandler
import fcntl
import functools
import gc
import importlib
import json
import os
import runpy
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from multiprocessing import util
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

SERVER_OF_WORKERS = "forkserver"
"""The name of a process from which workers are forked: its command line is that of the process it was forked from."""

STACKS = "most recent call first"
"""What a process writes for each thread when it gets SIGUSR2."""

_MOST_BYTES = 1 << 20
_PR_SET_CHILD_SUBREAPER = 36
_FREE = 512
"""A number above those of open files."""


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
    """Return the variables that packages read when they are imported; what is in PYTHONPATH, each fork imports.

    Dask sets PYTHONHASHSEED where it starts workers, and leaves it there.
    """
    return {
        name: value
        for name, value in environment.items()
        if name.startswith(("DASK_", "OMP_", "OPENBLAS_", "PYTHON")) and name not in {"PYTHONPATH", "PYTHONHASHSEED"}
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
    arguments = ["-m", *request["arguments"]]
    starts_workers = request["module"].startswith("jobs.") and "sync" not in arguments
    if not (asked := _stand_by() if starts_workers else None):
        _begin(request["cwd"], arguments, ["-m", request["module"], *request["arguments"]], request["environment"])
        return
    _begin("", ["-c"], ["-c", asked["code"]], asked["environment"])
    exec(asked["code"], {"__name__": "__main__"})  # noqa: S102  what multiprocessing would have started Python with
    os._exit(0)


def _begin(first: str, arguments: list[str], words: list[str], environment: Mapping[str, str]) -> None:
    """Set what Python sets from its command line and the environment."""
    os.environ.clear()
    os.environ.update(environment)
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if entry]
    sys.path[:1] = [first, *path]
    sys.argv, sys.orig_argv = arguments, [sys.executable, *words]
    for customize in filter(os.path.exists, (os.path.join(entry, "sitecustomize.py") for entry in path)):
        runpy.run_path(customize)


def _stand_by() -> dict[str, Any] | None:
    """Fork what can become the server that workers are forked from; there, return with what is asked of it."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    if not (process := os.fork()):
        ours.close()
        return _await_request(theirs)
    theirs.close()
    start_anew = util.spawnv_passfds

    def ask_or_start(path: bytes, words: list[str], descriptors: Sequence[int]) -> int:
        if f"multiprocessing.{SERVER_OF_WORKERS}" not in words[-1]:
            return start_anew(path, words, descriptors)
        util.spawnv_passfds = start_anew
        blocked = [int(number) for number in signal.pthread_sigmask(signal.SIG_BLOCK, [])]
        request = {"code": words[-1], "environment": dict(os.environ), "fds": list(descriptors), "blocked": blocked}
        with _adopting(), ours:
            socket.send_fds(ours, [json.dumps(request).encode()], list(descriptors))
            server = int(ours.recv(64))
            os.waitpid(process, 0)
        return server

    util.spawnv_passfds = ask_or_start
    return None


@contextmanager
def _adopting() -> Iterator[None]:
    """Become the parent of what a child leaves when it exits."""
    prctl = ctypes.CDLL(None).prctl
    prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_PR_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


def _await_request(connection: socket.socket) -> dict[str, Any]:
    """Return in a process that is as new as the request; exit with the process that may ask, where it never does."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with connection:
        message, received, _, _ = socket.recv_fds(connection, _MOST_BYTES, 2)
        if not message:
            os._exit(0)
        if server := os.fork():
            connection.send(str(server).encode())
            os._exit(0)
    request = json.loads(message)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.pthread_sigmask(signal.SIG_SETMASK, request["blocked"])
    moved = [fcntl.fcntl(descriptor, fcntl.F_DUPFD, _FREE) for descriptor in received]
    os.closerange(3, _FREE)
    for descriptor, number in zip(moved, request["fds"], strict=True):
        os.dup2(descriptor, number, inheritable=False)
        os.close(descriptor)
    Path("/proc/self/comm").write_text(SERVER_OF_WORKERS)
    return request


if __name__ == "__main__":
    for name in _IMPORTED:
        importlib.import_module(name)
    gc.freeze()  # a fork that looks for garbage would have to copy all of it
    os.fsync = lambda _: None  # leave files in the memory of the system: no test cuts the power
    _become(*(found := _serve(socket.socket(fileno=int(sys.argv[1])))))
    runpy.run_module(found[0]["module"], run_name="__main__", alter_sys=True)
