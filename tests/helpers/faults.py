"""Runs of the commands that come to harm, and recordings that do harm to the process that reads them."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

from tests.helpers.commands import ROOT, start, wait_for
from tests.helpers.dask_processes import is_worker, kill_all

SHORT_HOP = ("--hop-length", 32)
"""Makes 497 rows of a second of sound: two clips are a shard of a MiB."""

_DEADLY = """
import os, signal, sys, time

import mimii.features.decode
import mimii.storage.s3

read = mimii.features.decode.{function}
deeds = {deeds!r}


def harmful_read(file, *how):
    deed = deeds.get(os.path.basename(file.name))
    os.write(1, b'["libraries", "print"]\\n')
    if deed in signal.Signals.__members__:
        os.kill(os.getpid(), signal.Signals[deed])
    elif deed == "exit":
        os._exit(1)
    elif deed == "memory":
        kept = []
        while True:
            kept.append(b"x" * (1 << 24))
            time.sleep(0.01)
    elif deed == "wait":
        open({waits!r}, "w").close()
        while True:
            time.sleep(1)
    elif deed == "storage":
        raise mimii.storage.s3.StorageError("the storage is gone")
    elif deed:
        raise mimii.features.decode.AudioError(deed)
    return read(file, *how)


mimii.features.decode.{function} = harmful_read
"""

_GATE = """
import os, time

import mimii.features.decode
from mimii.storage.disk import DiskObjects

read, put_all = mimii.features.decode.read_blocks, DiskObjects.put_all


def wait_at(*paths):
    if any(os.path.basename(path) in {names!r} for path in paths):
        with open({reached!r}, "w") as file:
            file.write(str(os.getpid()))
        while not os.path.exists({opened!r}):
            time.sleep(0.01)


def read_blocks(file, header, channels, segment=None):
    wait_at(file.name)
    return read(file, header, channels, segment)


def put_all_at_a_gate(self, objects):
    wait_at(*objects)
    put_all(self, objects)


mimii.features.decode.read_blocks, DiskObjects.put_all = read_blocks, put_all_at_a_gate
"""

_DEADLY_START = """
import os, pathlib, signal, sys

def die():
    deaths = pathlib.Path({folder!r}, "deaths")
    if not deaths.exists() or len(deaths.read_text()) < {times}:
        with deaths.open("a") as file:
            file.write("x")
        os.kill(os.getpid(), signal.SIGKILL)

if "spawn_main" in " ".join(sys.orig_argv):
    die()
if "forkserver" in " ".join(sys.orig_argv):
    os.register_at_fork(after_in_child=die)
"""


def deadly_recordings(folder: Path, **deeds: str) -> dict[str, str]:
    """Return the environment in which recordings, by name, do harm to the process that reads their samples.

    The name of a signal kills it, ``exit`` ends it, ``memory`` makes it take all there is, ``storage`` fails it. Any
    other text does no harm: for that reason the recording cannot be used. Reading a header is safe.
    """
    return _deadly(folder, "read_blocks", {f"{name.removeprefix('clip')}.wav": deed for name, deed in deeds.items()})


def deadly_headers(folder: Path, deeds: dict[str, str]) -> dict[str, str]:
    """Return the same of recordings, by file name, that do harm to the process that reads their headers.

    Those that libsndfile reads: 16-bit WAV is safe. ``wait`` never ends; then there is a file ``waits`` in the folder.
    """
    return _deadly(folder, "read_header", deeds)


def _deadly(folder: Path, function: str, deeds: dict[str, str]) -> dict[str, str]:
    folder.mkdir()
    text = _DEADLY.format(function=function, deeds=deeds, waits=str(folder / "waits"))
    (folder / "sitecustomize.py").write_text(text)
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def with_constant(folder: Path, name: str, value: object) -> dict[str, str]:
    """Return the environment in which a constant of the project has another value, such as a shorter wait."""
    folder.mkdir()
    module = name.rpartition(".")[0]
    (folder / "sitecustomize.py").write_text(f"import {module}\n{name} = {value!r}\n")
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


class Gate:
    """Recordings on a disk, or objects to be written there, at which workers wait until it is opened.

    However slow a test is, a run cannot end before.
    """

    def __init__(self, folder: Path, paths: Iterable[Path]) -> None:
        folder.mkdir()
        self._opened, self._reached = folder / "opened", folder / "reached"
        names, opened, reached = {path.name for path in paths}, str(self._opened), str(self._reached)
        text = _GATE.format(names=names, opened=opened, reached=reached)
        (folder / "sitecustomize.py").write_text(text)
        self.environment = {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}

    def open(self) -> None:
        self._opened.touch()

    def is_reached(self) -> bool:
        return self._reached.exists()

    def holds(self, process: psutil.Process) -> bool:
        """Say whether it was this process that came to the gate last."""
        return self.is_reached() and self._reached.read_text() == str(process.pid)


def deadly_starts(folder: Path, times: int) -> dict[str, str]:
    """Return the environment in which the first processes that are to be workers are killed before they are."""
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(_DEADLY_START.format(folder=str(folder), times=times))
    return {"PYTHONPATH": os.pathsep.join([str(folder), str(ROOT)])}


def cluster_file(**kwargs: object) -> str:
    """Return a cluster file for workers on this machine, which listen to it alone."""
    listening = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0", "worker_dashboard_address": "127.0.0.1:0"}
    return json.dumps({"module": "distributed", "class": "LocalCluster", "kwargs": listening | kwargs})


class Run:
    """A command as a process in its own session, so that what it started can be found when it is dead."""

    def __init__(self, raw, output, *options, said=None, job="featurize", how=SHORT_HOP, **variables):
        size = ("--shard-mib", 1) if job == "featurize" else ()
        workers = () if "--scheduler" in options else ("--workers", 2)
        self.said = said or output.with_name(f"said-{time.monotonic_ns()}")
        with self.said.open("wb") as log:
            self.process = start(
                job, raw, "--output", output, *size, *workers, *how, *options, out=log, err=log, **variables
            )

    def wait(self):
        return self.process.wait()

    def wait_for(self, condition, what):
        """Wait until something is true while it runs; where it has exited before, what it said is the error."""

        def check():
            has_exited = self.ended()
            value = condition()
            assert value or not has_exited, self.text()
            return value

        return wait_for(check, what)

    def kill(self):
        self.process.kill()
        self.wait()

    def ended(self):
        return self.process.poll() is not None

    def text(self):
        return self.said.read_text(errors="replace")

    def workers(self):
        try:
            return list(filter(is_worker, psutil.Process(self.process.pid).children(recursive=True)))
        except psutil.NoSuchProcess:
            return []

    def alive(self):
        """Return all processes of the run, also those whose parent has died."""
        found = []
        for number in psutil.pids():
            try:
                if os.getsid(number) == self.process.pid:
                    process = psutil.Process(number)
                    found += [process] if process.status() != psutil.STATUS_ZOMBIE else []
            except (ProcessLookupError, psutil.NoSuchProcess):
                continue
        return found

    def end(self):
        """Kill what is left of it; return when nothing is."""
        kill_all(self.alive())
        self.process.wait()
        wait_for(lambda: not self.alive(), "the end of all workers")


def kill_one(processes):
    process = processes[0]
    process.send_signal(signal.SIGKILL)
    return process.pid


def is_root() -> bool:
    """Say whether a small disk can be mounted."""
    return os.geteuid() == 0


@contextmanager
def full_disk(folder: Path, size: int, room: int) -> Iterator[Path]:
    """Mount a small disk with some room left; yield the file that fills it."""
    folder.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)], check=True)  # noqa: S607
    try:
        ballast = folder / "ballast"
        with ballast.open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, size - room)
        yield ballast
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)  # noqa: S607
