"""Partitions of a bag to workers: some for each worker at a time, so that the scheduler stays small.

A task that failed is tried again. One that killed its workers is tried with care: its recordings are read in processes
of their own first, and those that kill become faults. Results are awaited one by one, so a worker that is frozen
or cut off stops none but its own.
"""

import asyncio
import logging
import math
import queue
import time
import uuid
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import dask.bag
from dask.bag import Bag
from distributed import Client, Future, KilledWorker, get_worker
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError

from mimii.engine.cluster import Cluster, lost
from mimii.engine.interrupts import check_interrupts
from mimii.engine.pipeline import Pipeline
from mimii.engine.schedulers import WorkError
from mimii.engine.silence import Silence
from mimii.engine.trial import find_fatal
from mimii.engine.versions import MixError, check_code, code_here

RETRIES = 2
"""How often a task that failed is tried again."""

CAREFUL_TRIES = 3
"""How often a task that killed its workers is tried with care, since care, too, may meet a worker that is killed."""

_TASKS_A_WORKER = 8
_SECONDS_BETWEEN_LOOKS = 5.0
_SECONDS_BETWEEN_CHECKS = 0.2
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Attempt:
    """A task on its way to a worker.

    Attributes
    ----------
    index : int
        Which task.
    task : Any
        All that a worker needs to know.
    code : str
        Digest of the code of this process; a worker with another one computes nothing.
    run : str
        Distinguishes the runs on one scheduler.
    n_careful : int
        How often it was tried with care.

    """

    index: int
    task: Any
    code: str
    run: str
    n_careful: int = 0

    def __dask_tokenize__(self) -> tuple[str, int, int]:
        """Return what distinguishes attempts: Dask would hash all of the task, which takes longer than all else."""
        return self.run, self.index, self.n_careful


@dataclass(frozen=True, slots=True)
class Known:
    """In the place of a task, its result: there is nothing to compute."""

    result: Any


def prepare(attempt: Attempt) -> Any:  # noqa: ANN401  each output has tasks of its own type
    """Return the task of an attempt, once it is known that it can be computed here without harm."""
    check_code(attempt.code)  # a worker may have joined after all were compared
    if attempt.n_careful:
        return find_fatal(attempt.task, get_worker().memory_manager.memory_limit)
    return attempt.task


def make_bag(attempts: Iterable[Attempt], pipeline: Pipeline) -> Bag:
    """Return the bag of some tasks, each a partition."""
    return pipeline.build(dask.bag.from_sequence(attempts, partition_size=1).map(prepare))


def compute(cluster: Cluster, pipeline: Pipeline, tasks: Iterable[tuple[int, Any]]) -> Iterator[tuple[int, Any]]:
    """Yield the number of each task and its result, as they come; a task may turn out to be `Known`.

    Raises what a task raised when it failed for the last time; WorkError if one kills its workers again and again, or
    code differs; LostError if the scheduler is lost.
    """
    run, code = uuid.uuid4().hex[:8], code_here()
    attempts = (Attempt(index, task, code, run) for index, task in tasks)
    if cluster.client is None:
        yield from (_compute_here(pipeline, attempt) for attempt in attempts)
        return
    try:
        yield from _compute_on(cluster, pipeline, attempts)
    except MixError as error:
        raise WorkError(str(error)) from error
    except (CancelledError, asyncio.CancelledError, CommClosedError, ClosedClientError) as error:
        raise lost(cluster.client) from error


def _compute_here(pipeline: Pipeline, attempt: Attempt) -> tuple[int, Any]:
    if isinstance(attempt.task, Known):
        return attempt.index, attempt.task.result
    [result] = make_bag([attempt], pipeline).compute(scheduler="sync")
    return attempt.index, result


def _compute_on(cluster: Cluster, pipeline: Pipeline, attempts: Iterator[Attempt]) -> Iterator[tuple[int, Any]]:
    """Keep a window of tasks under way; send more when half of it is free.

    More are also sent when there was no result for a moment: tasks of frozen workers may fill half of the window.
    """
    client, results = cluster.client, queue.Queue[tuple[Future[Any], Any]]()  # a SimpleQueue may miss an interrupt
    assert client is not None
    under_way, again, windows = dict[Future[Any], Attempt](), list[Attempt](), _windows(client, cluster.most)
    is_idle, silence = False, Silence(client)
    try:
        while True:
            window = next(windows)
            room = window - len(under_way)
            known = list[tuple[int, Any]]()
            if again or is_idle or room >= window // 2:
                new, known = _split([*again, *islice(attempts, max(room, 0))])
                under_way, again = under_way | _send(client, pipeline, new, results), []
                yield from known
            if not under_way and not known:
                return
            found = _next(results, 0 if known else _SECONDS_BETWEEN_CHECKS)
            is_idle = found is None
            if found is None and not known:
                if client.status != "running":  # Dask does not cancel what was sent after the loss
                    raise lost(client)
                silence.look(len(under_way))
                continue
            silence.end()
            if found is None:
                continue
            future, result = found
            attempt = under_way.pop(future)
            if isinstance(result, KilledWorker):
                again = [_with_more_care(attempt, result, pipeline)]
            elif isinstance(result, BaseException):
                raise result
            else:
                yield attempt.index, result
    finally:
        for future in under_way:
            future.release()


def _split(attempts: Sequence[Attempt]) -> tuple[list[Attempt], list[tuple[int, Any]]]:
    """Return those to be sent, and the results of those that are known."""
    new = [one for one in attempts if not isinstance(one.task, Known)]
    return new, [(one.index, one.task.result) for one in attempts if isinstance(one.task, Known)]


def _send(
    client: Client, pipeline: Pipeline, attempts: Sequence[Attempt], results: queue.Queue[Any]
) -> dict[Future[Any], Attempt]:
    """Send tasks off; their results come into a queue."""
    sent = _submit(client, pipeline, attempts)
    for future in sent:
        _await(client, future, results)
    return sent


def _submit(client: Client, pipeline: Pipeline, attempts: Sequence[Attempt]) -> dict[Future[Any], Attempt]:
    """Send tasks off, each one task of Dask with a short name, and return which future is whose."""
    if not attempts:
        return {}
    bag = make_bag(attempts, pipeline)
    graph = bag.__dask_optimize__(bag.__dask_graph__(), bag.__dask_keys__())
    tasks = {}
    for attempt, key in zip(attempts, bag.__dask_keys__(), strict=True):
        name = (f"{pipeline.name}-{attempt.run}", attempt.index, attempt.n_careful)
        fused = graph[key]  # an alias of the one task that Dask has fused the steps to
        tasks[name] = graph[getattr(fused, "target", key)].substitute({}, key=name)
    return dict(zip(client.get(tasks, list(tasks), sync=False, retries=RETRIES), attempts, strict=True))


def _await(client: Client, future: Future[Any], results: queue.Queue[tuple[Future[Any], Any]]) -> None:
    """Put a future and its result, or what it raises, into a queue as soon as that is here."""

    async def wait() -> None:
        try:
            [result] = await _fetch(client, future)
        except (Exception, asyncio.CancelledError) as error:  # noqa: BLE001  it is raised by who waits
            result = error
        results.put((future, result))

    assert client.loop is not None  # it is None before a client has started
    client.loop.add_callback(wait)


async def _fetch(client: Client, future: Future[Any]) -> Any:  # noqa: ANN401
    """Return what a task returned, asked for by itself: in Dask's batches it would wait for frozen workers, too."""
    await future.exception()  # waits and fetches nothing
    if future.status == "finished" and client.scheduler:
        with suppress(OSError):
            response = await client.scheduler.gather(keys=[future.key])
            if response["status"] == "OK":
                return response["data"][future.key]
    return await future  # whether it failed, or its worker has died since, Dask knows


def _next(results: queue.Queue[tuple[Future[Any], Any]], seconds: float) -> tuple[Future[Any], Any] | None:
    """Wait a moment for the next result; None where there is none yet."""
    check_interrupts()
    with suppress(queue.Empty):
        return results.get(timeout=seconds)
    return None


def _windows(client: Client, most: int) -> Iterator[int]:
    """Yield again and again how many tasks are to be under way: workers join and leave."""
    looked, n_threads = -math.inf, 0
    while True:
        if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            with suppress(OSError):  # whether the scheduler is lost, the tasks show
                n_threads = client.sync(_count_threads, client, callback_timeout=_SECONDS_BETWEEN_LOOKS)
        yield _TASKS_A_WORKER * max(n_threads, most, 1)


async def _count_threads(client: Client) -> int:
    return sum((await client.nthreads()).values())


def _with_more_care(attempt: Attempt, killed: KilledWorker, pipeline: Pipeline) -> Attempt:
    n_deaths = killed.allowed_failures + 1
    if not pipeline.reads_recordings or attempt.n_careful == CAREFUL_TRIES:
        msg = (
            f"a worker died {n_deaths} times over the same task ({attempt.task}); if it was out of memory, take fewer "
            "workers (--workers N) or give them more memory"
        )
        raise WorkError(msg)
    _log.warning(
        "a worker died %d times over %s: trying again, each recording in a process of its own first",
        n_deaths,
        attempt.task,
    )
    return replace(attempt, n_careful=attempt.n_careful + 1)
