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
import warnings
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from multiprocessing import resource_tracker
from typing import Any, Generic, TypeVar

import dask
from dask.system import CPU_COUNT
from distributed import Client, Future, KilledWorker, LocalCluster, Security, as_completed, get_worker
from distributed.client import ClosedClientError
from distributed.comm.core import CommClosedError, FatalCommClosedError
from distributed.versions import VersionMismatchWarning
from threadpoolctl import threadpool_limits

from mimii.engine.schedulers import (
    HERE,
    ClusterClass,
    Manifest,
    SchedulerError,
    Tls,
    Where,
    check_scheduler,
    find_address,
    is_cluster_file,
    knock,
    read_cluster_file,
    speaks_tls,
)
from mimii.engine.versions import (
    PACKAGES,
    PROJECT,
    MixError,
    Versions,
    check_code,
    check_versions,
    code_here,
    make_code_asker,
    select_versions,
)

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

MESSAGES_KEPT = 100
"""How many of the last messages to each worker a scheduler keeps. Dask keeps a thousand, for its own developers; one
holds tasks of 13 kB, and there may be a thousand workers."""

SCHEDULER_ENVIRONMENT = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": str(MESSAGES_KEPT)}
"""For schedulers that are started elsewhere."""

TASKS_FAR_AWAY = 3
"""How many tasks a worker has under way where they wait for S3: one computes while others begin and end."""

_TASKS_A_WORKER = 8
_STARTS = 3
_SECONDS_TO_CLOSE = 10
_SECONDS_TO_CLOSE_ELSEWHERE = 120
_SECONDS_TO_ANSWER = 30
_SECONDS_A_TRY = 5
_SECONDS_BETWEEN_TRIES = 0.5
_SECONDS_BETWEEN_LOOKS = 5.0
_log = logging.getLogger(__name__)
_CONFIG = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
}
_DEFAULTS = {
    "distributed.admin.low-level-log-length": MESSAGES_KEPT,
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.adaptive.target-duration": "1s",  # tasks are short, and few of them are known ahead
}
_NEVER_GIVEN_UP = {"distributed.deploy.lost-worker-timeout": "3650 days"}
"""Dask gives up a worker that is missing so long after it died, though it may only have died again in between."""

_PARTS = ("client", "scheduler", "worker")
_HOW_TO_ENCRYPT = "pass --tls-ca-file, --tls-cert and --tls-key, or set distributed.comm.tls in Dask's configuration"
_LOGGERS = ("distributed", "distributed.client", "tornado", "bokeh", "asyncssh")

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


@dataclass(frozen=True, slots=True)
class _Call(Generic[Task, Result]):
    function: Callable[[Task], Result]
    task: Task
    with_care: Callable[[Task, int | None], Task] | None
    code: str
    key: tuple[str, int]

    def __dask_tokenize__(self) -> tuple[str, int]:
        """Tell calls apart by their keys: Dask would walk through all of the task, which takes longer than all else."""
        return self.key


def default_workers() -> int:
    """Return how many workers this machine has room for: one a core, as far as this process may use them."""
    return CPU_COUNT


@contextmanager
def connect(where: Where) -> Iterator[Cluster]:
    """Start or reach what a scheduler's name says, and let go of it in the end."""
    with (
        dask.config.set(_CONFIG | _unless_configured(_DEFAULTS)),
        _hushed(),
        threadpool_limits(1),
        ExitStack() as stack,
    ):
        if where.scheduler == "sync":
            yield Cluster(None, 1)
        elif where.scheduler in HERE:
            yield _start_here(where, stack)
        else:
            yield _reach(where, stack)


def _unless_configured(settings: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the user has set in Dask's configuration."""
    defaults = dask.config.merge(*dask.config.defaults)
    return {
        name: value
        for name, value in settings.items()
        if dask.config.get(name) == dask.config.get(name, config=defaults)
    }


@contextmanager
def _hushed() -> Iterator[None]:
    """Keep Dask's own lines from users: whatever matters to them is said in words here."""
    levels = {name: logging.getLogger(name).level for name in _LOGGERS}
    try:
        for name in _LOGGERS:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        yield
    finally:
        for name, level in levels.items():
            logging.getLogger(name).setLevel(level)


def _start_here(where: Where, stack: ExitStack) -> Cluster:
    n_workers, processes = where.n_workers or default_workers(), where.scheduler == "local"
    first = where.adapt[0] if where.adapt else n_workers
    security = _security(where.tls if processes else None) or Security()
    stack.enter_context(dask.config.set(_NEVER_GIVEN_UP))
    with _interrupts_held_back():
        local = _start_local(
            n_workers=first if processes else 1,
            threads_per_worker=where.tasks_a_worker * (1 if processes else n_workers),
            processes=processes,
            host="127.0.0.1",
            protocol="tls://" if security.require_encryption else "tcp://",
            security=security,
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


def _start_local(**how: Any) -> LocalCluster:  # noqa: ANN401
    """Start workers on this machine; where one is killed while it starts, Dask stops them all: then once more."""
    for _ in range(_STARTS - 1):
        try:
            return LocalCluster(**how)
        except RuntimeError as error:
            _log.warning("workers do not start: %s; once more", error.__cause__ or error)
    try:
        return LocalCluster(**how)
    except RuntimeError as error:
        msg = f"workers do not start on this machine, tried {_STARTS} times: {error.__cause__ or error}"
        raise WorkError(msg) from error


def _reach(where: Where, stack: ExitStack) -> Cluster:
    scheduler = check_scheduler(where.scheduler)
    if is_cluster_file(scheduler):
        client = stack.enter_context(_open_client(_start_elsewhere(scheduler, where, stack), where, where.timeout))
    else:
        client = stack.enter_context(_find_client(scheduler, where))
    try:
        n_threads = _await_workers(client, where)
        _compare_versions(client)
    except (OSError, CancelledError, ClosedClientError) as error:
        raise _lost(client) from error
    return Cluster(client, n_threads, client.dashboard_link or "", where.adapt[1] if where.adapt else 0)


def _start_elsewhere(path: str, where: Where, stack: ExitStack) -> Any:  # noqa: ANN401  any class of clusters
    meant = read_cluster_file(path)
    given_up = {} if where.adapt else _NEVER_GIVEN_UP  # what adapts starts others in place of those that it gave up
    stack.enter_context(dask.config.set(_tls_config(where.tls) | given_up))
    try:
        with _interrupts_held_back():
            cluster = _start_operator(meant, where) if isinstance(meant, Manifest) else _start_class(meant)
            stack.callback(_close_elsewhere, cluster, path)
            _scale(cluster, where)
    except Exception as error:  # whatever classes of clusters raise where they cannot start
        msg = f"{path}: the cluster cannot be started: {error or type(error).__name__}"
        raise WorkError(msg) from error
    return cluster


def _start_operator(manifest: Manifest, where: Where) -> Any:  # noqa: ANN401
    operator = _import("dask_kubernetes.operator")
    _import("kr8s").api().version()  # fails where there is no Kubernetes, before half a cluster is left behind
    return operator.KubeCluster(
        custom_cluster_spec=manifest.document,
        namespace=manifest.document["metadata"].get("namespace"),
        resource_timeout=math.ceil(where.timeout),
        quiet=True,
    )


def _start_class(meant: ClusterClass) -> Any:  # noqa: ANN401
    cluster = getattr(_import(meant.module), meant.name)(**meant.kwargs)
    if not hasattr(cluster, "scheduler_address"):
        msg = f"{meant.module}.{meant.name} is no class of Dask clusters"
        raise TypeError(msg)
    return cluster


def _import(module: str) -> Any:  # noqa: ANN401
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        package = module.partition(".")[0].replace("_", "-")
        msg = f"{module} is not installed: pip install '{package}'"
        raise ModuleNotFoundError(msg) from error


def _scale(cluster: Any, where: Where) -> None:  # noqa: ANN401
    if where.adapt:
        cluster.adapt(minimum=where.adapt[0], maximum=where.adapt[1])
    elif where.n_workers:
        cluster.scale(where.n_workers)


def _find_client(scheduler: str, where: Where) -> Client:
    """Connect to an address, or to that in a scheduler file; where nobody answers yet, wait."""
    deadline = time.monotonic() + where.timeout
    told = False
    while True:
        try:
            return _try_client(find_address(scheduler), where)
        except (OSError, SchedulerError) as error:
            if time.monotonic() > deadline:
                msg = f"{scheduler}: no scheduler answers there within {where.timeout:g} s (--timeout): {error}"
                raise WorkError(msg) from error
        if not told:
            _log.warning("%s: no scheduler answers there yet; waiting for it, %g s at most", scheduler, where.timeout)
        told = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _try_client(address: str, where: Where) -> Client:
    """Connect to an address; what waiting would not mend is said at once."""
    knock(address).close()  # a client that fails leaves more behind
    scheme, _, place = address.partition("://")
    if scheme == "tls" and not speaks_tls(address):
        msg = f"{address}: it does not encrypt; start it with TLS, or name it as tcp://{place}"
        raise WorkError(msg)
    try:
        return _open_client(address, where, min(_SECONDS_A_TRY, where.timeout))
    except FatalCommClosedError as error:
        msg = f"{address}: it does not know these certificates, or they do not know it: {error.__cause__ or error}"
        raise WorkError(msg) from error
    except OSError as error:
        if scheme == "tls" or not speaks_tls(address):
            raise
        msg = f"{address}: it encrypts. Name it as tls://{place}, and {_HOW_TO_ENCRYPT}"
        raise WorkError(msg) from error


def _open_client(scheduler: Any, where: Where, timeout: float) -> Client:  # noqa: ANN401
    address = scheduler if isinstance(scheduler, str) else str(scheduler.scheduler_address)
    security = _security(where.tls) or getattr(scheduler, "security", None) or Security()
    _check_encryption(address, security)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # a mix of versions is refused in words of our own
        return Client(scheduler, security=security, set_as_default=False, timeout=timeout)


def _check_encryption(address: str, security: Security) -> None:
    """Refuse what Dask would say in its own way, after leaving half a client behind."""
    encrypted = address.startswith("tls://")
    if encrypted and not security.get_connection_args("client").get("ssl_context"):
        msg = f"{address}: it encrypts; {_HOW_TO_ENCRYPT}"
        raise WorkError(msg)
    if security.require_encryption and not encrypted:
        msg = f"{address}: it does not encrypt, which the options or Dask's configuration ask for; start it with TLS"
        raise WorkError(msg)


def _security(tls: Tls | None) -> Security | None:
    if tls is None:
        return None
    parts = {f"tls_{part}_{what}": file for part in _PARTS for what, file in _files(tls)}
    return Security(tls_ca_file=tls.ca_file, require_encryption=True, **parts)


def _tls_config(tls: Tls | None) -> dict[str, Any]:
    """Say it in Dask's configuration, which goes to the parts of a cluster that is started elsewhere."""
    if tls is None:
        return {}
    parts = {f"distributed.comm.tls.{part}.{what}": file for part in _PARTS for what, file in _files(tls)}
    return parts | {
        "distributed.comm.tls.ca-file": tls.ca_file,
        "distributed.comm.require-encryption": True,
        "distributed.comm.default-scheme": "tls",
    }


def _files(tls: Tls) -> list[tuple[str, str]]:
    return [("cert", tls.cert), ("key", tls.key)]


def _await_workers(client: Client, where: Where) -> int:
    """Wait for the first worker; return how many tasks run at a time."""
    scheduler, deadline = _address(client), time.monotonic() + where.timeout
    if not _count_threads(client):
        _log.warning("%s has no worker yet; waiting for the first one, %g s at most", scheduler, where.timeout)
    while not (n_threads := _count_threads(client)):
        if time.monotonic() > deadline:
            msg = (
                f"{scheduler}: no worker came within {where.timeout:g} s (--timeout); "
                f"start some with 'dask worker {scheduler}'"
            )
            raise WorkError(msg)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return n_threads


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"


def _lost(client: Client) -> LostError:
    return LostError(f"the connection to the scheduler at {_address(client)} is lost")


def _count_threads(client: Client) -> int:
    return sum(client.nthreads().values())


def _compare_versions(client: Client) -> None:
    try:
        told = client.sync(client._get_versions, packages=PACKAGES, callback_timeout=_SECONDS_TO_ANSWER)  # noqa: SLF001
        here, scheduler = select_versions(told["client"]), select_versions(told["scheduler"])
        workers = {address: select_versions(versions) for address, versions in told["workers"].items()}
        check_versions(here, scheduler, workers)
        check_versions(*client.sync(_ask_for_code, client, here, callback_timeout=_SECONDS_TO_ANSWER))
    except MixError as error:
        raise WorkError(str(error)) from error
    except TimeoutError:
        _log.warning("a worker does not tell its versions within %d s; they are not compared", _SECONDS_TO_ANSWER)


async def _ask_for_code(client: Client, versions: Versions) -> tuple[Versions, Versions, dict[str, Versions]]:
    """Ask for the code of this project as well; a worker that has gone meanwhile does not tell."""
    ask = make_code_asker()
    on_scheduler = await client._run_on_scheduler(ask)  # noqa: SLF001  run() waits for ever
    on_workers = await client._run(ask, on_error="ignore")  # noqa: SLF001
    workers = {address: versions | {PROJECT: code} for address, code in on_workers.items()}
    return versions | {PROJECT: code_here()}, versions | {PROJECT: on_scheduler}, workers


def _close(cluster: LocalCluster) -> None:
    """Stop a cluster, but do not wait for ever: Dask may, when a worker has just died and is being replaced."""
    try:
        cluster.close(timeout=_SECONDS_TO_CLOSE)
    except TimeoutError:
        _log.info("Dask did not stop its workers within %d s; they end with this process", _SECONDS_TO_CLOSE)


def _close_elsewhere(cluster: Any, path: str) -> None:  # noqa: ANN401  any class of clusters
    """Stop a cluster, and say so where that fails: machines that go on cost money."""
    try:
        cluster.close(timeout=_SECONDS_TO_CLOSE_ELSEWHERE)
    except Exception as error:  # noqa: BLE001  the work is done
        reason = error or type(error).__name__
        _log.warning("%s: the cluster was not stopped; look whether any of it still runs: %s", path, reason)


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
            ended_well = {future: attempt for future, attempt in done.items() if not _killed(future)}
            try:
                results = cluster.client.gather(list(ended_well))
            except KilledWorker:  # over a task done again, since a worker had died before its result was taken
                under_way |= ended_well
                running.update(ended_well)
                continue
            yield from results
    except MixError as error:
        raise WorkError(str(error)) from error
    except (CancelledError, CommClosedError, ClosedClientError) as error:
        raise _lost(cluster.client) from error


def _make_submit(
    client: Client, function: Callable[[Task], Result], with_care: Callable[[Task, int | None], Task] | None
) -> Callable[[Iterable[_Attempt[Task]]], "dict[Future[Result], _Attempt[Task]]"]:
    """Make what sends tasks off, and tells which future is whose."""
    numbers, name, code = itertools.count(), f"{function.__name__}-{uuid.uuid4().hex}", code_here()

    def submit(attempts: Iterable[_Attempt[Task]]) -> "dict[Future[Result], _Attempt[Task]]":
        batch = list(attempts)
        keys = [(name, next(numbers)) for _ in batch]
        calls = [
            _Call(function, attempt.task, with_care if attempt.n_careful else None, code, key)
            for attempt, key in zip(batch, keys, strict=True)
        ]
        return dict(zip(client.map(_call, calls, key=keys, retries=RETRIES), batch, strict=True)) if batch else {}

    return submit


def _call(call: _Call[Task, Result]) -> Result:
    check_code(call.code)  # a worker may have come after all were compared
    if call.with_care:
        return call.function(call.with_care(call.task, get_worker().memory_manager.memory_limit))
    return call.function(call.task)


def _windows(client: Client, most: int) -> Iterator[int]:
    """Say again and again how many tasks are to be under way: workers come and go."""
    looked, n_threads = -math.inf, 0
    while True:
        if time.monotonic() - looked > _SECONDS_BETWEEN_LOOKS:
            looked = time.monotonic()
            with suppress(OSError):  # whether the scheduler is lost, the tasks tell
                n_threads = client.sync(_ask_for_threads, client, callback_timeout=_SECONDS_BETWEEN_LOOKS)
        yield _TASKS_A_WORKER * max(n_threads, most, 1)


async def _ask_for_threads(client: Client) -> int:
    return sum((await client.scheduler.ncores()).values()) if client.scheduler else 0


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
