"""Where the work runs: `Where` to what maps a function over tasks. The only file that knows distributed.

Workers are processes with one thread each. Their allocator is told to keep freed memory: Dask's own setting gives it
back to the kernel at once, and then page faults make the same code three times slower.
"""

import importlib
import itertools
import logging
import math
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, Security, as_completed, get_worker
from threadpoolctl import threadpool_limits

from jobs.schedulers import (
    HERE,
    ClusterClass,
    Manifest,
    SchedulerError,
    Tls,
    Where,
    check_scheduler,
    find_address,
    is_cluster_file,
    read_cluster_file,
)
from jobs.versions import MixError, check_versions, make_asker

RETRIES = 2
"""How often a task that failed is tried again."""

CAREFUL_TRIES = 3
"""How often a task that killed its workers is done with care, since care, too, may meet a worker that is killed."""

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
_SECONDS_TO_ANSWER = 30
_SECONDS_A_TRY = 5
_SECONDS_BETWEEN_TRIES = 0.5
_SECONDS_BETWEEN_LOOKS = 5.0
_log = logging.getLogger(__name__)
_CONFIG = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.adaptive.target-duration": "1s",  # tasks are short, and few of them are known ahead
}

Task = TypeVar("Task")
Result = TypeVar("Result")


class WorkError(RuntimeError):
    """Work that cannot go on; the message says why and what to do."""


class LostError(WorkError):
    """The connection to the scheduler is lost; another one may be had."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """Something that runs tasks.

    Attributes
    ----------
    client : distributed.Client or None
        None runs the tasks one after the other in this process.
    n_workers : int
        How many tasks run at a time; where workers come and go, when it was connected.
    dashboard : str
        The address of Dask's dashboard; empty where there is none.
    most : int
        To how many workers it may grow by itself.

    """

    client: Client | None
    n_workers: int
    dashboard: str = ""
    most: int = 0


@dataclass(frozen=True, slots=True)
class _Attempt(Generic[Task]):
    task: Task
    n_careful: int = 0


def default_workers() -> int:
    """Return how many workers this machine has room for: one a core, as far as this process may use them."""
    return CPU_COUNT


@contextmanager
def connect(where: Where) -> Iterator[Cluster]:
    """Start or reach what a scheduler's name says, and let go of it in the end.

    Parameters
    ----------
    where : Where
        Which scheduler, how many workers, how to encrypt.

    Yields
    ------
    Cluster
        To be given to `run_tasks`. What is started here listens on the loopback interface only, unless a cluster file
        says otherwise.

    Raises
    ------
    WorkError
        If there is no scheduler or no worker in time, or their versions differ.

    """
    with dask.config.set(_CONFIG), threadpool_limits(1), ExitStack() as stack:
        if where.scheduler == "sync":
            yield Cluster(None, 1)
        elif where.scheduler in HERE:
            yield _start_here(where, stack)
        else:
            yield _reach(where, stack)


def _start_here(where: Where, stack: ExitStack) -> Cluster:
    n_workers, processes = where.n_workers or default_workers(), where.scheduler == "local"
    first = where.adapt[0] if where.adapt else n_workers
    with _interrupts_held_back():
        local = LocalCluster(
            n_workers=first if processes else 1,
            threads_per_worker=where.tasks_a_worker * (1 if processes else n_workers),
            processes=processes,
            host="127.0.0.1",
            protocol="tls://" if where.tls and processes else "tcp://",
            security=_security(where.tls) if processes else None,
            dashboard_address="127.0.0.1:0",
            silence_logs=logging.CRITICAL,
        )
        stack.callback(_close, local)
    if where.adapt:
        local.adapt(minimum=where.adapt[0], maximum=where.adapt[1])
    client = stack.enter_context(Client(local, set_as_default=False))
    return Cluster(
        client, first if where.adapt else n_workers, local.dashboard_link, where.adapt[1] if where.adapt else 0
    )


def _reach(where: Where, stack: ExitStack) -> Cluster:
    scheduler = check_scheduler(where.scheduler)
    started = _start_elsewhere(scheduler, where, stack) if is_cluster_file(scheduler) else None
    client = stack.enter_context(_open_client(started, where) if started else _find_client(scheduler, where))
    n_threads = _await_workers(client, where)
    _compare_versions(client)
    return Cluster(client, n_threads, client.dashboard_link or "", where.adapt[1] if where.adapt else 0)


def _start_elsewhere(path: str, where: Where, stack: ExitStack) -> Any:  # noqa: ANN401  any class of clusters
    meant = read_cluster_file(path)
    try:
        with _interrupts_held_back():
            cluster = _start_operator(meant) if isinstance(meant, Manifest) else _start_class(meant)
    except Exception as error:  # whatever classes of clusters raise where they cannot start
        msg = f"{path}: the cluster cannot be started: {type(error).__name__}: {error}"
        raise WorkError(msg) from error
    stack.callback(_close, cluster)
    if where.adapt:
        cluster.adapt(minimum=where.adapt[0], maximum=where.adapt[1])
    elif where.n_workers:
        cluster.scale(where.n_workers)
    return cluster


def _start_operator(manifest: Manifest) -> Any:  # noqa: ANN401
    operator = _import("dask_kubernetes.operator", "sound-features[kubernetes]")
    return operator.KubeCluster(custom_cluster_spec=manifest.document)


def _start_class(meant: ClusterClass) -> Any:  # noqa: ANN401
    return getattr(_import(meant.module, meant.module.partition(".")[0].replace("_", "-")), meant.name)(**meant.kwargs)


def _import(module: str, package: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        msg = f"{module} is not installed: pip install '{package}'"
        raise WorkError(msg) from error


def _find_client(scheduler: str, where: Where) -> Client:
    """Connect to an address, or to that in a scheduler file; where nobody answers yet, wait."""
    deadline = time.monotonic() + where.patience
    told = False
    while True:
        try:
            return _open_client(find_address(scheduler), where, _SECONDS_A_TRY)
        except (OSError, SchedulerError) as error:
            if time.monotonic() > deadline:
                msg = f"{scheduler}: no scheduler answers there within {where.patience:g} s (--patience): {error}"
                raise WorkError(msg) from error
        if not told:
            _log.warning("%s: no scheduler answers there yet; waiting for it, %g s at most", scheduler, where.patience)
        told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _open_client(scheduler: Any, where: Where, timeout: float | None = None) -> Client:  # noqa: ANN401
    try:
        return Client(scheduler, security=_security(where.tls), set_as_default=False, timeout=timeout)
    except (TypeError, RuntimeError) as error:
        if not str(scheduler).startswith("tls://"):
            raise
        msg = f"{scheduler}: it wants --tls-ca-file, --tls-cert and --tls-key, or Dask's own configuration of them"
        raise WorkError(msg) from error


def _security(tls: Tls | None) -> Security | None:
    if tls is None:
        return None
    parts = {f"tls_{part}_{what}": file for part in ("client", "scheduler", "worker") for what, file in _files(tls)}
    return Security(tls_ca_file=tls.ca_file, require_encryption=True, **parts)


def _files(tls: Tls) -> list[tuple[str, str]]:
    return [("cert", tls.cert), ("key", tls.key)]


def _await_workers(client: Client, where: Where) -> int:
    """Wait for the first worker; return how many tasks run at a time."""
    scheduler = _address(client)
    if not client.nthreads():
        _log.warning("%s has no worker yet; waiting for the first one, %g s at most", scheduler, where.patience)
        try:
            client.wait_for_workers(1, timeout=where.patience)
        except TimeoutError as error:
            msg = (
                f"{scheduler}: no worker came within {where.patience:g} s (--patience); "
                f"start some with 'dask worker {scheduler}'"
            )
            raise WorkError(msg) from error
    return _count_threads(client)


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"


def _count_threads(client: Client) -> int:
    return sum(client.nthreads().values())


def _compare_versions(client: Client) -> None:
    ask = make_asker()
    try:
        on_workers = client.sync(client._run, ask, callback_timeout=_SECONDS_TO_ANSWER)  # noqa: SLF001  run() waits for ever
        check_versions(ask(), client.run_on_scheduler(ask), on_workers)
    except MixError as error:
        raise WorkError(str(error)) from error
    except TimeoutError:
        _log.warning("a worker does not tell its versions within %d s; they are not compared", _SECONDS_TO_ANSWER)


def _close(cluster: Any) -> None:  # noqa: ANN401  any class of clusters
    """Stop a cluster, but do not wait for ever: Dask may, when a worker has just died and is being replaced."""
    try:
        cluster.close(timeout=_SECONDS_TO_CLOSE)
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


def run_tasks(
    cluster: Cluster,
    function: Callable[[Task], Result],
    tasks: Iterable[Task],
    with_care: Callable[[Task, int | None], Task] | None = None,
) -> Iterator[Result]:
    """Map a function over tasks, of which a few a worker are under way at a time.

    So the scheduler does not grow with the number of tasks. A task that fails is tried again (not where there is no
    client), and a task whose worker dies goes to another. All tasks are of one group of keys, so that the scheduler
    keeps them in a queue: the death of a worker is then held against the two that it has, not against all it might get.

    Parameters
    ----------
    cluster : Cluster
        From `connect`.
    function : callable
        Importable by workers.
    tasks : iterable
        Its arguments, small; taken as needed.
    with_care : callable, optional
        What to do, on a worker, with a task that has killed its workers before the function is called once more: from
        the task and the bytes of memory that the worker may use to the task without what kills.

    Yields
    ------
    object
        The results, as they come.

    Raises
    ------
    WorkError
        If a task's worker dies each time, with care or where there is none.
    LostError
        If the scheduler is lost.
    Exception
        What the task itself raised the last time it was tried.

    """
    if cluster.client is None:
        for task in tasks:
            yield function(task)
        return
    submit = _make_submit(cluster.client, function, with_care)
    attempts, windows = (_Attempt(task) for task in tasks), _windows(cluster.client, cluster.most)
    under_way = submit(islice(attempts, next(windows)))
    running = as_completed(under_way, loop=cluster.client.loop)
    try:
        for ended in running.batches():
            done = {future: under_way.pop(future) for future in ended}
            again = [_with_more_care(attempt, future, with_care) for future, attempt in done.items() if _killed(future)]
            new = submit([*again, *islice(attempts, max(0, next(windows) - len(under_way) - len(again)))])
            under_way |= new
            running.update(new)
            yield from cluster.client.gather([future for future in done if not _killed(future)])
    except CancelledError as error:
        msg = f"the connection to the scheduler at {_address(cluster.client)} is lost"
        raise LostError(msg) from error


def _make_submit(
    client: Client, function: Callable[[Task], Result], with_care: Callable[[Task, int | None], Task] | None
) -> Callable[[Iterable[_Attempt[Task]]], "dict[Future[Result], _Attempt[Task]]"]:
    """Make what sends tasks off, and tells which future is whose."""
    numbers, name = itertools.count(), f"{function.__name__}-{uuid.uuid4().hex}"

    def submit(attempts: Iterable[_Attempt[Task]]) -> "dict[Future[Result], _Attempt[Task]]":
        batch = list(attempts)
        calls = [(function, attempt.task, with_care if attempt.n_careful else None) for attempt in batch]
        keys = [(name, next(numbers)) for _ in batch]
        return dict(zip(client.map(_call, calls, key=keys, retries=RETRIES), batch, strict=True)) if batch else {}

    return submit


def _call(call: tuple[Callable[[Task], Result], Task, Callable[[Task, int | None], Task] | None]) -> Result:
    function, task, with_care = call
    if with_care:
        task = with_care(task, get_worker().memory_manager.memory_limit)
    return function(task)


def _windows(client: Client, most: int) -> Iterator[int]:
    """Say again and again how many tasks are to be under way: workers come and go."""
    looked, n_threads = -math.inf, 0
    while True:
        if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
            looked, n_threads = time.monotonic(), _count_threads(client)
        yield _TASKS_A_WORKER * max(n_threads, most, 1)


def _killed(future: "Future[Any]") -> bool:
    return future.status == "error" and isinstance(future.exception(), KilledWorker)


def _with_more_care(
    attempt: _Attempt[Task], future: "Future[Any]", with_care: Callable[[Task, int | None], Task] | None
) -> _Attempt[Task]:
    n_deaths = future.exception().allowed_failures + 1
    if with_care is None or attempt.n_careful == CAREFUL_TRIES:
        msg = f"a worker died {n_deaths} times over the same task ({attempt.task}); out of memory?"
        raise WorkError(msg)
    _log.warning("a worker died %d times over %s: once more, with care", n_deaths, attempt.task)
    return _Attempt(attempt.task, attempt.n_careful + 1)
