"""Which recordings kill the process that reads them? They are read in child processes, so that no worker is harmed.

A child reads the recordings of a task and reports each. Where it dies, the recording it was reading is at fault; the
next child starts with the one after it.
"""

import resource
from collections.abc import Sequence
from dataclasses import replace
from typing import TypeVar

from mimii.engine.steps import compute_spectrograms
from mimii.features import Fault, Input, Report, Task, serve, start_child

_SHARE_OF_MEMORY = 0.8

AnyTask = TypeVar("AnyTask", bound=Task)


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
    request = (replace(task, inputs=tuple(inputs)), memory)  # type: ignore[type-var]
    with start_child(__name__, request) as child:
        reported = [Fault(*report) if report else None for report in child.reports()]
        faults = {one.clip: fault for one, fault in zip(inputs, reported, strict=False) if fault}
        n_tried = len(reported)
        if n_tried == len(inputs):
            return n_tried, faults
        return n_tried + 1, faults | {inputs[n_tried].clip: child.fault()}


def _read_all(request: tuple[Task, int | None], report: Report) -> None:
    """Read the recordings of a task, and report each."""
    task, memory = request
    if memory:
        resource.setrlimit(resource.RLIMIT_DATA, (int(memory * _SHARE_OF_MEMORY),) * 2)
    for clip in compute_spectrograms(task):
        report([clip.fault.problem, clip.fault.unread] if clip.fault else None)


if __name__ == "__main__":
    serve(_read_all)
