"""Which recordings kill the process that reads them? They are read in separate processes, so that no worker is harmed.

A child reads the recordings of a task and reports each. Where it dies, the recording it was reading is at fault; the
next child starts with the one after it.
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
from typing import Any, TypeVar

from mimii.engine.steps import compute_spectrograms
from mimii.features import Fault, Input, Task

_SHARE_OF_MEMORY = 0.8
_KILLED = "reading it kills the process ({how})"
_KILLED_FOR_MEMORY = "not enough memory for it: the process that read it was killed"
_READY = "ready"

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True, slots=True)
class _Trial:
    """What a child reported before it exited: None for a recording that can be read, or its fault."""

    ready: bool
    reported: Sequence[Fault | None]
    error: str
    status: int


def find_fatal(task: AnyTask, memory: int | None) -> AnyTask:
    """Return a task with the faults of all recordings that cannot be read, or whose reading kills a process.

    `memory` is the limit of a worker in bytes, of which a child may use 80 %.
    """
    faults = dict(task.faults)
    left = list(task.inputs)
    while left:
        n_tried, found = _try(left, task, memory)
        faults |= found
        left = left[n_tried:]
    return replace(task, faults=faults)  # type: ignore[type-var]  # a protocol cannot ask for a dataclass


def _try(inputs: Sequence[Input], task: Task, memory: int | None) -> tuple[int, dict[int, Fault]]:
    """Let a child read recordings until one kills it; return how many it has tried, and the faults."""
    trial = _start(replace(task, inputs=tuple(inputs)), memory)  # type: ignore[type-var]
    faults = {one.clip: fault for one, fault in zip(inputs, trial.reported, strict=False) if fault}
    n_tried = len(trial.reported)
    if n_tried == len(inputs):
        return n_tried, faults
    if trial.error or not trial.ready:
        msg = f"cannot read recordings in a process of its own: {trial.error or f'its exit status was {trial.status}'}"
        raise OSError(msg)
    return n_tried + 1, faults | {inputs[n_tried].clip: _fault(trial.status)}


def _start(task: Task, memory: int | None) -> _Trial:
    """Read the recordings of a task in a child, as far as it gets."""
    request = pickle.dumps((task, memory))
    import_path = filter(None, [os.environ.get("PYTHONPATH"), *sys.path])  # the child is to have the same code
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(import_path)}
    command = [sys.executable, "-m", __name__]
    done = subprocess.run(command, input=request, stdout=subprocess.PIPE, env=environment, check=False)
    lines = [json.loads(line) for line in done.stdout.splitlines(keepends=True) if line.endswith(b"\n")]
    reported = [Fault(*line) if line[0] else None for line in lines if isinstance(line, list)]
    error = next((str(line["error"]) for line in lines if isinstance(line, dict)), "")
    return _Trial(_READY in lines, reported, error, done.returncode)


def _fault(status: int) -> Fault:
    if status == -signal.SIGKILL:
        return Fault(_KILLED_FOR_MEMORY, unread=True)
    how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
    return Fault(_KILLED.format(how=how))


def _read_all() -> None:
    """Read the recordings that the parent process sends; report each to it."""
    parent = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not for the parent

    def report(what: Any) -> None:  # noqa: ANN401  any JSON value
        parent.write(json.dumps(what).encode() + b"\n")

    task, memory = pickle.load(sys.stdin.buffer)  # noqa: S301  from the parent process
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory * _SHARE_OF_MEMORY),) * 2)
    report(_READY)
    try:
        for clip in compute_spectrograms(task):
            report([clip.fault.problem, clip.fault.unread] if clip.fault else ["", False])
    except Exception as error:
        report({"error": f"{type(error).__name__}: {error}"})
        raise


if __name__ == "__main__":
    try:
        _read_all()
    except BrokenPipeError:  # the parent process was killed: nobody waits for reports
        sys.exit(1)
