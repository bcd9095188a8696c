"""Where the work runs: ``--scheduler`` to what maps a function over tasks. The only file that knows distributed.

Workers are processes with one thread each. Their allocator is told to keep freed memory: Dask's own setting gives it
back to the kernel at once, and then page faults make the same code three times slower.
"""

import logging
import signal
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, TypeVar

import dask
import dask.bag
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, as_completed, futures_of
from threadpoolctl import threadpool_limits

SCHEDULERS = ("local", "threads", "sync")
RETRIES = 2
"""How often a task that failed is tried again."""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "NUMBA_NUM_THREADS": "1",
    "BLOSC_NTHREADS": "1",
}
"""One thread for each numerical library: workers are processes, one a core."""

WORKER_ENVIRONMENT = ONE_THREAD | {
    "MALLOC_ARENA_MAX": "1",
    "MALLOC_TRIM_THRESHOLD_": "1073741824",
    "MALLOC_MMAP_THRESHOLD_": "33554432",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}
"""Set before a worker starts: an allocator that keeps what it has, in huge pages, and one thread for each library."""

TASKS_FAR_AWAY = 3
"""How many tasks a worker has under way where they wait for S3: one computes while others begin and end."""

_TASKS_A_WORKER = 8
_SECONDS_TO_CLOSE = 10
_log = logging.getLogger(__name__)
_CONFIG = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.comm.timeouts.connect": "60s",
}

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkError(RuntimeError):
    """A task whose worker died each time it was tried."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Something that runs tasks.

    Attributes
    ----------
    client : distributed.Client or None
        None runs the tasks one after the other in this process.
    n_workers : int
        How many tasks run at a time.
    dashboard : str
        The address of Dask's dashboard; empty where there is none.

    """

    client: Client | None
    n_workers: int
    dashboard: str = ""


def default_workers() -> int:
    """Return how many workers this machine has room for: one a core, as far as this process may use them."""
    return CPU_COUNT


@contextmanager
def connect(scheduler: str, n_workers: int, tasks_a_worker: int = 1) -> Iterator[Cluster]:
    """Start what `scheduler` names, and stop it in the end.

    Parameters
    ----------
    scheduler : {"local", "threads", "sync"}
        Processes on this machine, threads of this process, or one task after the other (for debugging).
    n_workers : int
        How many processes or threads.
    tasks_a_worker : int
        How many tasks each has under way: more than one where tasks wait for a network.

    Yields
    ------
    Cluster
        To be given to `run_tasks`. It listens on the loopback interface only.

    """
    if scheduler == "sync":
        with threadpool_limits(1):
            yield Cluster(None, 1)
        return
    processes = scheduler == "local"
    with dask.config.set(_CONFIG), threadpool_limits(1), ExitStack() as stack:
        with _interrupts_held_back():
            local = LocalCluster(
                n_workers=n_workers if processes else 1,
                threads_per_worker=tasks_a_worker * (1 if processes else n_workers),
                processes=processes,
                host="127.0.0.1",
                protocol="tcp://",
                dashboard_address="127.0.0.1:0",
                silence_logs=logging.CRITICAL,
            )
            stack.callback(_close, local)
        client = stack.enter_context(Client(local, set_as_default=False))
        yield Cluster(client, n_workers, local.dashboard_link)


def _close(local: LocalCluster) -> None:
    """Stop a cluster, but do not wait for ever: Dask may, when a worker has just died and is being replaced."""
    try:
        local.close(timeout=_SECONDS_TO_CLOSE)
    except TimeoutError:
        _log.info("Dask did not stop its workers within %d s; they end with this process", _SECONDS_TO_CLOSE)


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    """Let the threads and processes that are started here never see Ctrl-C: it is this process that ends them."""
    resource_tracker.ensure_running()  # when first started, it lets them through again
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})


def run_tasks(cluster: Cluster, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
    """Map a function over tasks, as a Dask bag of which a few partitions a worker are under way at a time.

    So neither the graph nor the scheduler grows with the number of tasks. A task that fails is tried again (not
    where there is no client), and a task whose worker dies goes to another.

    Parameters
    ----------
    cluster : Cluster
        From `connect`.
    function : callable
        Importable by workers.
    tasks : iterable
        Its arguments, small; taken as needed.

    Yields
    ------
    object
        The results, as they come.

    Raises
    ------
    WorkError
        If a task's worker dies each time.
    Exception
        What the task itself raised the last time it was tried.

    """
    tasks = iter(tasks)
    if cluster.client is None:
        for task in tasks:
            yield from _bag(function, [task]).compute(scheduler="sync")
        return
    client, under_way = cluster.client, dict[Any, Task]()
    first = _submit(client, function, islice(tasks, _TASKS_A_WORKER * cluster.n_workers), under_way)
    running = as_completed(first, loop=client.loop)
    try:
        for ended in running.batches():
            running.update(_submit(client, function, islice(tasks, len(ended)), under_way))
            for future, results in zip(ended, client.gather(list(ended)), strict=True):
                del under_way[future.key]
                yield from results
    except KilledWorker as error:
        killer = under_way.get(error.task, error.task)
        msg = f"a worker died {error.allowed_failures + 1} times over the same task ({killer}); out of memory?"
        raise WorkError(msg) from error


def _submit(
    client: Client, function: Callable[[Task], Result], tasks: Iterable[Task], under_way: dict[Any, Task]
) -> "list[Future[list[Result]]]":
    """Send tasks off, and note which future is which."""
    batch = list(tasks)
    futures = futures_of(client.persist(_bag(function, batch), retries=RETRIES)) if batch else []
    under_way.update((future.key, batch[future.key[1]]) for future in futures)
    return list(futures)


def _bag(function: Callable[[Task], Result], tasks: Sequence[Task]) -> dask.bag.Bag:
    """Make a bag with one partition, and one node of the graph, a task: ``from_sequence`` would make it two."""
    name = f"{function.__name__}-{uuid.uuid4().hex}"
    graph: dict[Any, Any] = {(name, index): (_map_one, function, task) for index, task in enumerate(tasks)}
    return dask.bag.Bag(graph, name, len(tasks))


def _map_one(function: Callable[[Task], Result], task: Task) -> list[Result]:
    return [function(task)]
