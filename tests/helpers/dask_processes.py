"""A Dask cluster as its operator starts it: ``dask scheduler`` and ``dask worker``, processes of their own."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import psutil

from mimii.engine import Cluster, Pipeline, compute, tasks_to_results
from tests.helpers import warm
from tests.helpers.commands import environment, wait_for

HOST = "127.0.0.1"
SCHEDULER, WORKER = "distributed.cli.dask_scheduler", "distributed.cli.dask_worker"
"""What ``dask scheduler`` and ``dask worker`` run; ``dask`` first imports all packages that add commands to it."""

NO_NANNY = "--no-nanny"
"""A worker without a process that looks after it starts twice as fast; it is not started again when it dies."""

_ADDRESS = "--dashboard-address"
_LAST_CHARACTERS = 5000

NO_DASHBOARD = {"dashboard_address": f"{HOST}:0", "scheduler_kwargs": {"dashboard": False}}
"""For a cluster within this process: its HTTP server stays, and without an address would take port 8787."""


@dataclass(frozen=True)
class Program:
    """A program in its own session, with all that it starts."""

    process: subprocess.Popen[bytes] | warm.Process
    log: Path
    is_worker: bool = False

    def kill(self) -> None:
        """Kill it and all that it has started, at once."""
        kill_all(self.processes())
        self.process.wait()

    def processes(self) -> list[psutil.Process]:
        """Return it, and what it has started."""
        try:
            me = psutil.Process(self.process.pid)
            return [me, *me.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def workers(self) -> list[psutil.Process]:
        """Return the processes that work: with a nanny it has started them, without one it is one itself."""
        processes = self.processes()
        return processes[:1] if self.is_worker else list(filter(is_worker, processes))

    def text(self) -> str:
        return self.log.read_text(errors="replace")

    def last_words(self) -> str:
        """Return the end of its log, with the stacks of its threads if it still runs and was forked here."""
        if isinstance(self.process, warm.Process) and self.process.poll() is None:
            self.process.send_signal(signal.SIGUSR2)
            with suppress(AssertionError):
                wait_for(lambda: warm.STACKS in self.text(), "the stacks of its threads", seconds=5)
        return f"{self.log.name}: ...{self.text()[-_LAST_CHARACTERS:]}"


def kill_all(processes: Iterable[psutil.Process]) -> None:
    """Kill processes that may end by themselves meanwhile."""
    for process in processes:
        with suppress(psutil.NoSuchProcess):
            process.kill()


def is_worker(process: psutil.Process) -> bool:
    """Say whether a process is a worker without a nanny, was spawned by multiprocessing, or forked by its server."""
    try:
        words, parent = " ".join(process.cmdline()), process.parent()
        return (
            NO_NANNY in words
            or "spawn_main" in words
            or (parent is not None and "multiprocessing.forkserver" in " ".join(parent.cmdline()))
            or (parent is not None and parent.name() == warm.SERVER_OF_WORKERS)
        )
    except psutil.Error:
        return False


def start(log: Path, *arguments: object, within: Sequence[str] = (), **variables: str) -> Program:
    """Start a Python module as a program, by itself or within what another command makes for it."""
    module, *words = map(str, arguments)
    with log.open("ab") as file:
        if not within:
            process = warm.start(module, words, Path.cwd(), environment(**variables), file, file)
            return Program(process, log, is_worker=NO_NANNY in words)
        return Program(
            subprocess.Popen(
                [*within, sys.executable, "-m", module, *words],
                env=environment(**variables),
                stdout=file,
                stderr=file,
                start_new_session=True,
            ),
            log,
        )


@contextmanager
def running(program: Program) -> Iterator[Program]:
    """Kill a program in the end, also what it left behind."""
    try:
        yield program
    finally:
        known = program.processes()
        program.kill()
        kill_all(known)


def start_scheduler(folder: Path, *arguments: object, **variables: str) -> Program:
    """Start a scheduler that writes ``scheduler.json`` into a folder."""
    file = folder / "scheduler.json"
    file.unlink(missing_ok=True)
    where = ("--host", HOST, "--port", 0, "--scheduler-file", file)
    return start(folder / "scheduler.log", SCHEDULER, *where, *_dashboard(arguments), *arguments, **variables)


def start_worker(folder: Path, *arguments: object, **variables: str) -> Program:
    """Start a worker for it, without a nanny unless one is asked for."""
    log = folder / f"worker-{len(list(folder.glob('worker-*')))}.log"
    where = ("--scheduler-file", folder / "scheduler.json", "--host", HOST, *_dashboard(arguments))
    nanny = () if "--nanny" in arguments else (NO_NANNY,)
    more = (*nanny, "--nthreads", 1, "--local-directory", folder / "scratch")
    return start(log, WORKER, *where, *more, *arguments, **variables)


def _dashboard(arguments: Sequence[object]) -> Sequence[str]:
    """Return the options of a program without a dashboard, which starts half a second earlier, if none is asked for."""
    return () if _ADDRESS in arguments else (_ADDRESS, f"{HOST}:0", "--no-dashboard")


def address_of(folder: Path) -> str:
    """Wait for a scheduler; return where it is."""
    file = folder / "scheduler.json"

    def read() -> str:
        try:
            return json.loads(file.read_text())["address"]
        except (OSError, ValueError):
            return ""

    return str(wait_for(read, "the scheduler"))


@contextmanager
def dask_cluster(
    folder: Path, n_workers: int = 2, *arguments: object, **variables: str
) -> Iterator[tuple[Program, list[Program]]]:
    """Run a scheduler and some workers; the variables are for workers."""
    folder.mkdir(exist_ok=True)
    with running(start_scheduler(folder, *arguments)) as scheduler:
        address_of(folder)
        workers = [start_worker(folder, *arguments, **variables) for _ in range(n_workers)]
        try:
            yield scheduler, workers
        except BaseException as error:
            for program in (scheduler, *workers):
                error.add_note(program.last_words())
            raise
        finally:
            for worker in workers:
                kill_all(worker.processes())


def freeze(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGSTOP)


def thaw(process: psutil.Process) -> None:
    os.kill(process.pid, signal.SIGCONT)


def run_tasks(cluster: Cluster, function: Callable[[Any], Any], tasks: Iterable[Any]) -> Iterator[Any]:
    """Yield the results of a function over tasks, as they come."""
    pipeline = Pipeline(function.__name__, partial(tasks_to_results, function=function), reads_recordings=False)
    return (result for _, result in compute(cluster, pipeline, enumerate(tasks)))
