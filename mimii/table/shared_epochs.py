"""Which epoch an iteration is: one number for all worker processes of a loader, agreed on in shared memory.

A loader starts its workers, or has them begin anew, without a call in its own process: each worker calls by itself, and
one may begin the next iteration before another has begun this one. So the first worker of an iteration takes the next
epoch, and the others find what it took. Numbers of the latest iterations are kept.
"""

from multiprocessing import get_context
from multiprocessing.context import get_spawning_popen
from multiprocessing.sharedctypes import SynchronizedArray
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_MOST_WORKERS = 1024
_N_KEPT = 16
_ITERATION = np.dtype([("worker_seed", "i8"), ("n_workers", "i8"), ("nth", "i8"), ("epoch", "i8"), ("n_done", "i8")])
_STATE = np.dtype(
    [
        ("next", "i8", 2),
        ("n_iterations", "i8"),
        ("iterations", _ITERATION, _N_KEPT),
        ("has_begun", "?", (_N_KEPT, _MOST_WORKERS)),
    ]
)


class Worker(NamedTuple):
    """A process that iterates.

    Attributes
    ----------
    number, total
        Which worker of how many; total is 0 for a process that is no worker.
    seed
        What the workers of one iteration have in common.

    """

    number: int
    total: int
    seed: int


class Start(NamedTuple):
    """Where an iteration begins: in which epoch, behind how many of its batches."""

    epoch: int
    n_done: int = 0


class SharedEpochs:
    """Counts epochs. A process that is started with it has the same count; a copy has a count of its own."""

    def __init__(self, memory: "SynchronizedArray[int] | None" = None, n_begun: int = 0) -> None:
        # The lock of this context can be sent to processes that are started in any way.
        self._memory = get_context("spawn").Array("b", _STATE.itemsize) if memory is None else memory
        self._n_begun = n_begun  # in this process

    def __reduce__(self) -> tuple[Any, ...]:
        if get_spawning_popen() is None:
            return _copied, (self._next(),)
        return SharedEpochs, (self._memory, self._n_begun)

    def set_next(self, start: Start) -> None:
        """Have the next iteration begin here."""
        with self._memory.get_lock():
            self._state()["next"] = start

    def begin(self, worker: Worker) -> Start:
        """Return where the iteration begins that this worker begins, as do the others of it."""
        self._n_begun += 1
        with self._memory.get_lock():
            if not worker.total:
                return self._take_next()
            state = self._state()
            slot = self._find(worker)
            if slot is None:
                slot = int(state["n_iterations"]) % _N_KEPT
                state["iterations"][slot] = (worker.seed, worker.total, self._n_begun, *self._take_next())
                state["has_begun"][slot] = False
                state["n_iterations"] += 1
            state["has_begun"][slot, worker.number] = True
            return Start(int(state["iterations"][slot]["epoch"]), int(state["iterations"][slot]["n_done"]))

    def _find(self, worker: Worker) -> int | None:
        """Return where the iteration is kept that other workers have begun and this one has not: the latest such."""
        state, key = self._state(), (worker.seed, worker.total, self._n_begun)
        for number in reversed(range(max(0, int(state["n_iterations"]) - _N_KEPT), int(state["n_iterations"]))):
            slot = number % _N_KEPT
            if state["iterations"][slot].item()[:3] == key and not state["has_begun"][slot, worker.number]:
                return slot
        return None

    def _next(self) -> Start:
        with self._memory.get_lock():
            return Start(*self._state()["next"].tolist())

    def _take_next(self) -> Start:
        start = self._next()
        self.set_next(Start(start.epoch + 1))
        return start

    def _state(self) -> NDArray[np.void]:
        state: NDArray[np.void] = np.ndarray((), _STATE, memoryview(self._memory.get_obj()))
        return state


def _copied(start: Start) -> SharedEpochs:
    epochs = SharedEpochs()
    epochs.set_next(start)
    return epochs
