"""Start workers on this machine, connect to a cluster, or have `mimii.engine.elsewhere` start one.

Workers that are started here are processes with one thread each, see `mimii.engine.early`. Before the work, versions
are compared; whether a cluster encrypts is found out before Dask tries, since its own errors do not say.
"""

import importlib
import logging
import multiprocessing
import os
import sys
import time
import warnings
from collections.abc import Iterator
from concurrent.futures import CancelledError
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from typing import Any, cast

import dask
import distributed
from distributed import Client, LocalCluster, Scheduler, Security
from distributed.client import ClosedClientError
from distributed.comm.core import FatalCommClosedError
from distributed.versions import VersionMismatchWarning
from threadpoolctl import threadpool_limits
from tornado import web

from mimii.engine.early import WORKER_ENVIRONMENT, deaf_to_interrupts, keeping_variables, start_early
from mimii.engine.elsewhere import NEVER_GIVEN_UP, start_elsewhere, why_refused
from mimii.engine.interrupts import check_interrupts, interruptible
from mimii.engine.limits import allow_workers, worker_memory
from mimii.engine.schedulers import (
    HERE,
    SchedulerError,
    Where,
    WorkError,
    check_scheduler,
    default_workers,
    find_address,
    is_cluster_file,
    open_socket,
    speaks_tls,
)
from mimii.engine.versions import (
    PACKAGES,
    PROJECT,
    MixError,
    Versions,
    check_versions,
    code_here,
    make_code_asker,
    select_versions,
)

MESSAGES_KEPT = 100
"""How many of the last messages to each worker a scheduler keeps. Dask keeps a thousand, for its own developers; one
holds tasks of 13 kB, and there may be a thousand workers."""

SCHEDULER_ENVIRONMENT = {"DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": str(MESSAGES_KEPT)}
"""For schedulers that are started elsewhere."""

_STARTS = 3
_SECONDS_TO_CLOSE = 10
_SECONDS_TO_ANSWER = 30
_SECONDS_A_TRY = 5
_SECONDS_BETWEEN_TRIES = 0.5
_log = logging.getLogger(__name__)
_CONFIG = {
    "distributed.nanny.pre-spawn-environ": WORKER_ENVIRONMENT,
    "distributed.worker.multiprocessing-method": "spawn",
    "distributed.worker.profile.enabled": False,
}
_SET_BY_NANNIES = (*WORKER_ENVIRONMENT, "PYTHONHASHSEED")
"""In the process that starts workers, where they stay: what it starts afterwards would have one thread, too."""

_DEFAULTS = {
    "distributed.admin.low-level-log-length": MESSAGES_KEPT,
    "distributed.admin.system-monitor.interval": "2s",
    "distributed.comm.timeouts.connect": "60s",
    "distributed.adaptive.target-duration": "1s",  # tasks are short, and few of them are known ahead
}
_HOW_TO_ENCRYPT = "set distributed.comm.tls in Dask's configuration"
_LOGGERS = (
    *("distributed", "distributed.client", "tornado", "tornado.application", "bokeh", "asyncssh"),
    "asyncio",  # logs what a cluster raises while it starts workers, which is said once, in words
)


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
        How many workers there are; where they come and go, when it was connected.
    dashboard : str
        The address of Dask's dashboard; empty where there is none.
    most : int
        To how many workers it may grow by itself.

    """

    client: Client | None
    n_workers: int
    dashboard: str = ""
    most: int = 0


@contextmanager
def connect(where: Where | Client | None) -> Iterator[Cluster]:
    """Start a cluster or connect to one, and let go of it in the end; a client stays open, None is this process."""
    with (
        dask.config.set(_CONFIG | _unless_configured(_DEFAULTS)),
        keeping_variables(_SET_BY_NANNIES),
        _hushed(),
        threadpool_limits(1),
        ExitStack() as stack,
    ):
        if where is None or (isinstance(where, Where) and where.scheduler == "sync"):
            yield Cluster(None, 1)
        elif isinstance(where, Client):
            yield Cluster(where, _check_client(where, Where().timeout), _dashboard(where))
        elif where.scheduler in HERE:
            yield _start_here(where, stack)
        else:
            yield _connect_elsewhere(where, stack)


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
    """Keep Dask's own log lines from users: what matters to them is logged here in plain words."""
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
    if processes and multiprocessing.current_process().daemon:
        _log.warning("this is a daemonic process of multiprocessing, which may start no others: workers are threads")
        processes = False
    first, most = where.adapt or (n_workers, n_workers)
    security = Security()
    stack.enter_context(dask.config.set(NEVER_GIVEN_UP))
    if processes:
        allow_workers(most)
        # The server that workers are forked from may be older than a variable of this process.
        environment = dict(os.environ) | WORKER_ENVIRONMENT
        forked = {"distributed.worker.multiprocessing-method": "forkserver", "distributed.nanny.environ": environment}
        if start_early():
            stack.enter_context(dask.config.set(forked))
            # Dask would import pandas here, to have that server import it, too; but the server runs already.
            distributed.utils._forkserver_preload_set = True  # noqa: SLF001  what it does once, it does not do again
    how = {
        "n_workers": first if processes else 1,
        "threads_per_worker": where.tasks_a_worker * (1 if processes else n_workers),
        "processes": processes,
        "host": "127.0.0.1",
        "protocol": "tls://" if security.require_encryption else "tcp://",
        "security": security,
        "dashboard_address": "127.0.0.1:0",
        "scheduler_kwargs": {"dashboard": False},
        "silence_logs": logging.CRITICAL,
    }
    if processes:
        how["memory_limit"] = worker_memory(most)
    local = interruptible(lambda: _start_local(how), _close)
    stack.callback(_close, local)
    if where.adapt:
        local.adapt(minimum=where.adapt[0], maximum=where.adapt[1])
    client = stack.enter_context(Client(local, set_as_default=False))
    _offer_dashboard(cast(Scheduler, local.scheduler))
    return Cluster(
        client, first if where.adapt else n_workers, local.dashboard_link, where.adapt[1] if where.adapt else 0
    )


class _OpenDashboard(web.RequestHandler):
    """Opens Dask's dashboard when somebody asks for it: importing bokeh takes 0.4 s, which most runs can do without."""

    def initialize(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def get(self) -> None:
        application = self._scheduler.http_application
        if self.application in application.applications:  # else a request at the same time has opened it
            application.applications.remove(self.application)
            dashboard = importlib.import_module("distributed.dashboard.scheduler")
            dashboard.connect(application, self._scheduler.http_server, self._scheduler, prefix="")
        self.redirect(self.request.uri or "/status")


def _offer_dashboard(scheduler: Scheduler) -> None:
    lazily = web.Application([(r"/.*", _OpenDashboard, {"scheduler": scheduler})])
    scheduler.http_application.add_application(lazily)


def _start_deaf(how: dict[str, Any]) -> LocalCluster:
    with deaf_to_interrupts():
        return LocalCluster(**how)


def _start_local(how: dict[str, Any]) -> LocalCluster:
    """Start workers on this machine; where one is killed while it starts, Dask stops them all, so try again."""
    for _ in range(_STARTS - 1):
        try:
            return _start_deaf(how)
        except (RuntimeError, MemoryError):  # of which the text is names of Dask's states
            _log.warning("workers cannot start; trying once more")
    try:
        return _start_deaf(how)
    except (RuntimeError, MemoryError) as error:
        msg = (
            f"workers cannot start on this machine, tried {_STARTS} times; too little memory ({worker_memory(1) >> 20} "
            f"MiB for all)? Take fewer --workers, or try --scheduler sync{_of_a_script()}"
        )
        raise WorkError(msg) from error


def _of_a_script() -> str:
    """Say what workers need of the script that starts them, if one does: multiprocessing has them import it."""
    main = sys.modules["__main__"]
    if getattr(main, "__spec__", None) or not getattr(main, "__file__", None):
        return ""
    return f'. Workers import {main.__file__}: it must be a file, and start them below if __name__ == "__main__"'


def _connect_elsewhere(where: Where, stack: ExitStack) -> Cluster:
    scheduler = check_scheduler(where.scheduler)
    if is_cluster_file(scheduler):
        client = stack.enter_context(_open_client(start_elsewhere(scheduler, where, stack), where.timeout))
    else:
        client = stack.enter_context(_find_client(scheduler, where))
    n_workers = _check_client(client, where.timeout)
    return Cluster(client, n_workers, _dashboard(client), where.adapt[1] if where.adapt else 0)


def _check_client(client: Client, timeout: float) -> int:
    """Wait for the first worker, compare versions, and return how many workers there are."""
    if client.status != "running":
        msg = f"the client is {client.status}; connect a new one"
        raise WorkError(msg)
    try:
        n_workers = _await_workers(client, timeout)
        _compare_versions(client)
    except (OSError, CancelledError, ClosedClientError) as error:
        raise lost(client) from error
    return n_workers


def _dashboard(client: Client) -> str:
    return client.dashboard_link or ""


def _find_client(scheduler: str, where: Where) -> Client:
    """Connect to an address, or to that in a scheduler file; wait where there is no answer yet."""
    deadline = time.monotonic() + where.timeout
    warned = False
    while True:
        check_interrupts()
        try:
            return _try_client(find_address(scheduler), where)
        except (OSError, SchedulerError) as error:
            if time.monotonic() > deadline:
                msg = f"{scheduler}: no scheduler answers there within {where.timeout:g} s (--timeout): {error}"
                raise WorkError(msg) from error
        if not warned:
            _log.warning("%s: no scheduler answers there yet; waiting for it, %g s at most", scheduler, where.timeout)
        warned = True
        time.sleep(_SECONDS_BETWEEN_TRIES)


def _try_client(address: str, where: Where) -> Client:
    """Connect to an address; an error that waiting does not fix is raised at once."""
    open_socket(address).close()  # a client that fails leaves more behind
    scheme, _, place = address.partition("://")
    if scheme == "tls" and not speaks_tls(address):
        msg = f"{address}: it does not encrypt; start it with TLS, or name it as tcp://{place}"
        raise WorkError(msg)
    try:
        return _open_client(address, min(_SECONDS_A_TRY, where.timeout))
    except FatalCommClosedError as error:
        msg = f"{address}: it does not know these certificates, or they do not know it: {error.__cause__ or error}"
        raise WorkError(msg) from error
    except OSError as error:
        if scheme == "tls" or not speaks_tls(address):
            raise
        msg = f"{address}: it encrypts. Name it as tls://{place}, and {_HOW_TO_ENCRYPT}"
        raise WorkError(msg) from error


def _open_client(scheduler: Any, timeout: float) -> Client:  # noqa: ANN401
    address = scheduler if isinstance(scheduler, str) else str(scheduler.scheduler_address)
    security = getattr(scheduler, "security", None) or Security()
    _check_encryption(address, security)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", VersionMismatchWarning)  # _compare_versions refuses a mix
        return Client(scheduler, security=security, set_as_default=False, timeout=timeout)


def _check_encryption(address: str, security: Security) -> None:
    """Refuse what Dask would refuse after leaving half a client behind."""
    encrypted = address.startswith("tls://")
    if encrypted and not security.get_connection_args("client").get("ssl_context"):
        msg = f"{address}: it encrypts; {_HOW_TO_ENCRYPT}"
        raise WorkError(msg)
    if getattr(security, "require_encryption", False) and not encrypted:  # that of a gateway has no such choice
        msg = f"{address}: it does not encrypt, which Dask's configuration asks for; start it with TLS"
        raise WorkError(msg)


def _await_workers(client: Client, timeout: float) -> int:
    """Wait for the first worker; return how many there are."""
    scheduler, deadline = _address(client), time.monotonic() + timeout
    if not _count_workers(client):
        _log.warning("%s has no worker yet; waiting for the first one, %g s at most", scheduler, timeout)
    while not (n_workers := _count_workers(client)):
        check_interrupts()
        if time.monotonic() > deadline:
            msg = f"{scheduler}: no worker came within {timeout:g} s (--timeout); {_how_to_start_workers(client)}"
            raise WorkError(msg)
        if why := why_refused(client.cluster):  # where they are started as the work demands, it shows only now
            msg = f"no worker can be started: {why}"
            raise WorkError(msg)
        time.sleep(_SECONDS_BETWEEN_TRIES)
    return n_workers


def _how_to_start_workers(client: Client) -> str:
    if client.cluster is not None:
        return "ask for some with --workers N, and raise --timeout where they wait in a queue"
    return f"start some with 'dask worker {_address(client)}'"


def _address(client: Client) -> str:
    return str(client.scheduler.address) if client.scheduler else "?"


def lost(client: Client) -> LostError:
    """Return the error of a scheduler that is lost."""
    return LostError(f"the connection to the scheduler at {_address(client)} is lost")


def _count_workers(client: Client) -> int:
    if client.status != "running":  # it connects again by itself, and to ask would wait for that
        raise lost(client)
    with suppress(TimeoutError):  # whether the scheduler is lost, the status shows
        return int(client.sync(_ask_for_workers, client, callback_timeout=_SECONDS_A_TRY))
    return 0


async def _ask_for_workers(client: Client) -> int:
    return len(await client.nthreads())


def _compare_versions(client: Client) -> None:
    try:
        found = client.sync(client._get_versions, packages=PACKAGES, callback_timeout=_SECONDS_TO_ANSWER)  # noqa: SLF001
        here, scheduler = select_versions(found["client"]), select_versions(found["scheduler"])
        workers = {address: select_versions(versions) for address, versions in found["workers"].items()}
        check_versions(here, scheduler, workers)
        check_versions(*client.sync(_ask_for_code, client, here, callback_timeout=_SECONDS_TO_ANSWER))
    except MixError as error:
        raise WorkError(str(error)) from error
    except TimeoutError:
        _log.warning("a worker does not report its versions within %d s; they are not compared", _SECONDS_TO_ANSWER)


async def _ask_for_code(client: Client, versions: Versions) -> tuple[Versions, Versions, dict[str, Versions]]:
    """Ask for the code of this project as well; a worker that has left meanwhile is left out."""
    ask = make_code_asker()
    on_scheduler = await client._run_on_scheduler(ask)  # noqa: SLF001  run() has no timeout
    on_workers = await client._run(ask, on_error="ignore")  # noqa: SLF001
    workers = {address: versions | {PROJECT: code} for address, code in on_workers.items()}
    return versions | {PROJECT: code_here()}, versions | {PROJECT: on_scheduler}, workers


def _close(cluster: LocalCluster) -> None:
    """Stop a cluster, with a timeout: Dask may hang where a worker has just died and is being replaced."""
    try:
        cluster.close(timeout=_SECONDS_TO_CLOSE)
    except TimeoutError:
        _log.info("Dask did not stop its workers within %d s; they exit with this process", _SECONDS_TO_CLOSE)
