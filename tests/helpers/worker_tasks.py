"""What tests have workers do, in a module of its own: with one of tests, each worker would import pytest and xarray.

Attempts are counted in files: the only counter that processes share and that survives kill -9.
"""

import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from mimii.engine import WORKER_ENVIRONMENT, Record
from mimii.features.loading import ClipResult
from mimii.table.shards import write_shard

NOT_IN_A_WORKER = ("librosa", "numba", "zarr", "matplotlib")

IN_THE_MIDDLE, WHEN_FETCHED = "in the middle", "when fetched"
FIRST_TO_FREEZE = 20
FROZEN: list[str | float] = []
"""When this process was frozen, if it was: once is enough."""


def count_attempt(folder: str, name: object) -> int:
    Path(folder, f"{name}-{uuid.uuid4().hex}").touch()
    return attempts(folder, name)


def attempts(folder: str | Path, name: object) -> int:
    return len(list(Path(folder).glob(f"{name}-*")))


def square(task: tuple[str, int]) -> int:
    folder, number = task
    count_attempt(folder, number)
    return number * number


def fail_some_times(task: tuple[str, str, int]) -> str:
    folder, name, times = task
    if count_attempt(folder, name) <= times:
        msg = f"injected into {name}"
        raise ConnectionError(msg)
    return name


def kill_worker(task: tuple[str, str, int, int]) -> str:
    """Kill the process some times; never that of the tests."""
    folder, name, times, tests_pid = task
    if count_attempt(folder, name) <= times and os.getpid() != tests_pid:
        os.kill(os.getpid(), signal.SIGKILL)
    return name


def write_and_list_modules(clips: Iterable[ClipResult]) -> list[tuple[int, Record, list[str]]]:
    [record] = write_shard(clips)
    return [(os.getpid(), record, [name for name in NOT_IN_A_WORKER if name in sys.modules])]


def environment_of_worker(_: object) -> tuple[int, dict[str, str | None]]:
    return os.getpid(), {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}


def identity(task: Any) -> Any:
    return task


def freeze_some(task: tuple[Path, int, Sequence[str | float]]) -> object:
    """Freeze the worker in a task, while its result is fetched, or so many seconds after it: one for each moment."""
    folder, number, moments = task
    time.sleep(0.03)  # or results would wait at their workers to be fetched, however many
    if number < FIRST_TO_FREEZE or FROZEN or (moment := take_one(folder, moments)) is None:
        return number
    if moment == IN_THE_MIDDLE:
        os.kill(os.getpid(), signal.SIGSTOP)
    elif moment == WHEN_FETCHED:
        return FreezingResult(number)
    else:
        subprocess.Popen(["/bin/sh", "-c", f"sleep {moment}; kill -STOP {os.getpid()}"])
    return number


def take_one(folder: Path, moments: Sequence[str | float]) -> str | float | None:
    """Return a moment that no other worker has taken; None where all are."""
    for index, moment in enumerate(moments):
        with suppress(FileExistsError), (folder / f"{index}.pid").open("x") as file:
            file.write(str(os.getpid()))
            FROZEN.append(moment)
            return moment
    return None


class FreezingResult:
    """A number that freezes the process that it is fetched from, once."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[type, tuple[int]]:
        if FROZEN == [WHEN_FETCHED]:
            FROZEN.append("again")
            os.kill(os.getpid(), signal.SIGSTOP)
        return int, (self.number,)
