"""Which recordings kill the process that reads them? Tried in processes of their own, so that none else comes to harm.

Where a task has killed its workers again and again, each of its recordings is read in a child process, under a limit of
memory. One that kills the child has a fault from then on, and the task goes on without it.
"""

import json
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mimii.loading import Loaded, Part, Task, load_all

_SHARE_OF_MEMORY = 0.8
_KILLED = "reading it kills the process ({name})"
_KILLED_FOR_MEMORY = "not enough memory for it: the process that read it was killed"


AnyTask = TypeVar("AnyTask", bound=Task)


def without_killers(task: AnyTask, memory: int | None) -> AnyTask:
    """Find out which recordings of a task cannot be read without harm.

    Parameters
    ----------
    task : Task
        Any.
    memory : int or None
        Bytes that this process may use; the children may use a share of it. None is no limit.

    Returns
    -------
    Task
        With a fault for each of these recordings: it reads the others only.

    """
    faults = dict(task.faults)
    left = list(task.parts)
    while left:
        n_tried, found = _try(left, task, memory)
        faults |= found
        left = left[n_tried:]
    return replace(task, faults=faults)  # type: ignore[type-var]  # a protocol cannot ask for a dataclass


def _try(parts: Sequence[Part], task: Task, memory: int | None) -> tuple[int, dict[int, Loaded]]:
    """Let a child read recordings until one kills it; return how many it has tried, and the faults."""
    asked = pickle.dumps((replace(task, parts=tuple(parts)), memory))  # type: ignore[type-var]
    done = subprocess.run([sys.executable, "-m", __name__], input=asked, stdout=subprocess.PIPE, check=False)
    tried = [Loaded(None, *json.loads(line)) for line in done.stdout.splitlines() if line.endswith(b"]")]
    faults = {part.clip: loaded for part, loaded in zip(parts, tried, strict=False) if loaded.problem}
    if len(tried) == len(parts):
        return len(parts), faults
    if done.returncode >= 0:
        msg = f"cannot read recordings in a process of its own: it ended with status {done.returncode}"
        raise OSError(msg)
    killer = parts[len(tried)]
    return len(tried) + 1, faults | {killer.clip: _fault(-done.returncode)}


def _fault(number: int) -> Loaded:
    if number == signal.SIGKILL:
        return Loaded(None, _KILLED_FOR_MEMORY, unread=True)
    return Loaded(None, _KILLED.format(name=signal.Signals(number).name))


def _read_all() -> None:
    """Read the recordings that the parent process names; tell it of each one what is wrong with it."""
    task, memory = pickle.load(sys.stdin.buffer)  # noqa: S301  from the parent process
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory * _SHARE_OF_MEMORY),) * 2)
    for loaded in load_all(task):
        print(json.dumps([loaded.problem, loaded.unread]), flush=True)


if __name__ == "__main__":
    _read_all()
