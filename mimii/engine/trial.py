"""Which recordings kill the process that reads them? Tried in processes of their own, so that none else comes to harm.

Where a task has killed its workers again and again, each of its recordings is read in a child process, under a limit of
memory. One that kills the child has a fault from then on, and the task goes on without it.
"""

import json
import os
import pickle
import resource
import signal
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TypeVar

from mimii.features import Loaded, Part, Task, load_all

_SHARE_OF_MEMORY = 0.8
_KILLED = "reading it kills the process ({how})"
_KILLED_FOR_MEMORY = "not enough memory for it: the process that read it was killed"
_READY = "ready"

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a child told before its end."""

    ready: bool
    loaded: Sequence[Loaded]
    error: str
    status: int


def without_killers(task: AnyTask, memory: int | None) -> AnyTask:
    """Find out which recordings of a task cannot be read without harm."""
    faults = dict(task.faults)
    left = list(task.parts)
    while left:
        n_tried, found = _try(left, task, memory)
        faults |= found
        left = left[n_tried:]
    return replace(task, faults=faults)  # type: ignore[type-var]  # a protocol cannot ask for a dataclass


def _try(parts: Sequence[Part], task: Task, memory: int | None) -> tuple[int, dict[int, Loaded]]:
    """Let a child read recordings until one kills it; return how many it has tried, and the faults."""
    trial = _start(replace(task, parts=tuple(parts)), memory)  # type: ignore[type-var]
    faults = {part.clip: loaded for part, loaded in zip(parts, trial.loaded, strict=False) if loaded.problem}
    n_tried = len(trial.loaded)
    if n_tried == len(parts):
        return n_tried, faults
    if trial.error or not trial.ready:
        msg = f"cannot read recordings in a process of its own: {trial.error or f'it ended with {trial.status}'}"
        raise OSError(msg)
    return n_tried + 1, faults | {parts[n_tried].clip: _fault(trial.status)}


def _start(task: Task, memory: int | None) -> _Trial:
    """Read the recordings of a task in a child, as far as it comes."""
    asked = pickle.dumps((task, memory))
    done = subprocess.run([sys.executable, "-m", __name__], input=asked, stdout=subprocess.PIPE, check=False)
    told = [json.loads(line) for line in done.stdout.splitlines(keepends=True) if line.endswith(b"\n")]
    loaded = [Loaded(None, *about) for about in told if isinstance(about, list)]
    error = next((str(about["error"]) for about in told if isinstance(about, dict)), "")
    return _Trial(_READY in told, loaded, error, done.returncode)


def _fault(status: int) -> Loaded:
    if status == -signal.SIGKILL:
        return Loaded(None, _KILLED_FOR_MEMORY, unread=True)
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return Loaded(None, _KILLED.format(how=how))


def _read_all() -> None:
    """Read the recordings that the parent process names; tell it of each one what is wrong with it."""
    told = os.fdopen(os.dup(sys.stdout.fileno()), "w")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not for the parent

    def tell(what: object) -> None:
        print(json.dumps(what), file=told, flush=True)

    task, memory = pickle.load(sys.stdin.buffer)  # noqa: S301  from the parent process
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory * _SHARE_OF_MEMORY),) * 2)
    tell(_READY)
    try:
        for loaded in load_all(task):
            tell([loaded.problem, loaded.unread])
    except Exception as error:
        tell({"error": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    _read_all()
