"""Start a cluster elsewhere, as a cluster file says, or connect to one that such a file names; close it in the end."""

import asyncio
import importlib
import inspect
import logging
import math
import pkgutil
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from operator import attrgetter
from typing import Any

import dask
from distributed import SpecCluster, Status

from mimii.engine.early import deaf_to_interrupts
from mimii.engine.interrupts import Started, interruptible, left_behind, same_handlers
from mimii.engine.schedulers import ClusterClass, Manifest, SchedulerError, Where, WorkError, read_cluster_file
from mimii.storage import did_you_mean

NEVER_GIVEN_UP = {"distributed.deploy.lost-worker-timeout": "3650 days"}
"""Dask closes a worker for good that is missing so long after it died, though it may only have died again."""

_SECONDS_TO_CLOSE = 120
_SECONDS_TO_CLOSE_HALF = 10
_ARGUMENTS = re.compile(r"\w\(\) (got an unexpected|got multiple values|missing \d+ required|takes )")
"""What Python says where a function does not take its arguments."""

_WITH_CLUSTERS = ["distributed", "dask_cloudprovider", "dask_gateway", "dask_jobqueue", "dask_kubernetes"]
_log = logging.getLogger(__name__)
_gateways: list[Any] = []
"""Those of closed clusters, until this process exits: collected earlier, they print that their loop does not run."""


def start_elsewhere(path: str, where: Where, stack: ExitStack) -> Any:  # noqa: ANN401  any class of clusters
    """Return the cluster of a cluster file, with its workers asked for; the stack closes it."""
    meant = read_cluster_file(path)
    given_up = {} if where.adapt else NEVER_GIVEN_UP  # what adapts starts others in place of those that it gave up
    stack.enter_context(dask.config.set(given_up))
    close = partial(_close, path=path)
    stack.enter_context(left_behind(f"{path}: the cluster is not stopped; look whether any of it still runs"))
    try:
        start = _operator(meant, where) if isinstance(meant, Manifest) else _cluster_class(meant, path)
        before = start.known_clusters()
        cluster = _interruptible(start, close, lambda: _close_half(start.known_clusters() - before, path))
        stack.callback(close, cluster)
        _interruptible(partial(_scale, cluster, where, path))
    except SchedulerError:
        raise
    except Exception as error:  # each class of clusters raises its own
        reason = _reason(error)
        msg = f"{path}: the cluster cannot be started: {_in_one_line(reason)}"
        if isinstance(meant, ClusterClass) and _is_of_arguments(reason):
            msg = f"{path}: {meant.name} does not take these kwargs: {_in_one_line(reason)}"
            raise SchedulerError(msg) from error
        raise WorkError(msg) from error
    return cluster


def check_cluster_file(path: str) -> None:
    """Import the class of a cluster file; SchedulerError where there is none, or it does not take its arguments."""
    if isinstance(meant := read_cluster_file(path), ClusterClass):
        _cluster_class(meant, path)


def why_refused(cluster: Any) -> str:  # noqa: ANN401  any class of clusters, or None
    """Return why none of the workers can be started that a cluster was asked for; empty where one can."""
    if not isinstance(cluster, SpecCluster):
        return ""
    refused = _refused(cluster)
    return cluster.sync(_ask_again, refused) if refused and len(refused) == len(cluster.workers) else ""


def _interruptible(
    start: Callable[[], Started],
    undo: Callable[[Started], object] = lambda _: None,
    give_up: Callable[[], object] = lambda: None,
) -> Started:
    def start_deaf() -> Started:
        with deaf_to_interrupts():
            return start()

    return interruptible(start_deaf, undo, give_up)


@dataclass(frozen=True, slots=True)
class _Start:
    """What makes a cluster: a class, or a function such as GatewayCluster.from_name, and its arguments."""

    path: str
    name: str
    make: Callable[..., Any]
    kwargs: Mapping[str, Any]

    def __call__(self) -> Any:  # noqa: ANN401  any class of clusters
        cluster = self.make(**self.kwargs)
        if not hasattr(cluster, "scheduler_address"):
            raise _no_cluster(self.path, self.name)
        return cluster

    def known_clusters(self) -> set[Any]:
        """Return the clusters of this process, started or not; most classes keep a list to close them at its exit."""
        owner = getattr(self.make, "__self__", self.make)
        return {*SpecCluster._instances, *getattr(owner, "_instances", ())}  # noqa: SLF001


def _operator(manifest: Manifest, where: Where) -> _Start:
    operator, kubernetes = _import("dask_kubernetes.operator"), _import("kr8s")
    _interruptible(lambda: kubernetes.api().version())  # where there is no Kubernetes, half a cluster would be left
    kwargs = {
        "custom_cluster_spec": manifest.document,
        "namespace": manifest.document["metadata"].get("namespace"),
        "resource_timeout": math.ceil(where.timeout),
        "quiet": True,
    }
    return _Start("", "KubeCluster", operator.KubeCluster, kwargs)


def _cluster_class(meant: ClusterClass, path: str) -> _Start:
    """Return what makes a cluster; SchedulerError where it shows before the start that it cannot."""
    name = f"{meant.module}.{meant.name}"
    try:
        module = _import(meant.module)
    except Exception as error:  # whatever a module raises
        why = _in_one_line(error)
        said = (
            why
            if isinstance(error, ModuleNotFoundError)
            else f"{meant.module} cannot be imported: {type(error).__name__}: {why}"
        )
        msg = f"{path}: {said}"
        raise SchedulerError(msg) from error
    try:
        make = attrgetter(meant.name)(module)
    except AttributeError as error:
        msg = f"{path}: {meant.module} has no class {meant.name}{did_you_mean([meant.name], dir(module))}"
        raise SchedulerError(msg) from error
    if not callable(make):
        raise _no_cluster(path, name)
    _check_arguments(make, meant, path)
    silent = {"silence_logs": logging.CRITICAL} if "silence_logs" in _parameters(make) else {}
    return _Start(path, name, make, {**silent, **meant.kwargs})


def _no_cluster(path: str, name: str) -> SchedulerError:
    return SchedulerError(f"{path}: {name} is not a class of Dask clusters, such as distributed.LocalCluster")


def _parameters(make: Callable[..., Any]) -> Mapping[str, inspect.Parameter]:
    with suppress(ValueError, TypeError):  # of what is written in C
        return inspect.signature(make).parameters
    return {}


def _check_arguments(make: Callable[..., Any], meant: ClusterClass, path: str) -> None:
    """Make sure that a class takes its arguments; those that take any are only known to refuse some at the start."""
    parameters = _parameters(make)
    if any(one.kind == one.VAR_KEYWORD for one in parameters.values()) or not parameters:
        return
    if unknown := sorted(meant.kwargs.keys() - parameters.keys()):
        msg = f"{path}: {meant.name} does not take {', '.join(unknown)}; its kwargs may be {', '.join(parameters)}"
        raise SchedulerError(msg)


def _close_half(clusters: set[Any], path: str) -> None:
    """Stop what has started of a cluster so far; warn where it is not known."""
    for cluster in clusters:
        _close(cluster, path, _SECONDS_TO_CLOSE_HALF)
    if not clusters:
        _log.warning("%s: the cluster was still starting; look whether any of it still runs", path)


def _import(module: str) -> Any:  # noqa: ANN401  a module of a package that may be missing
    """Import a module; in the main thread, since dask-jobqueue sets a handler of signals."""
    try:
        with same_handlers():
            return importlib.import_module(module)
    except ModuleNotFoundError as error:
        msg = _why_missing(module, error.name) if error.name else str(error)
        raise ModuleNotFoundError(msg) from error


def _why_missing(module: str, missing: str) -> str:
    """Say what to do where one module is missing, and so another one, or the same, cannot be imported."""
    package = missing.partition(".")[0]
    if missing != package:
        parent, _, name = missing.rpartition(".")
        meant = did_you_mean([name], _modules_in(parent)) or f"; the documentation of {package} names them"
        return f"{package} has no module {missing}{meant}"
    which = "" if package == module.partition(".")[0] else f", which {module} needs,"
    how = f": pip install '{package.replace('_', '-')}'"
    meant = "" if package in _WITH_CLUSTERS else did_you_mean([package], _WITH_CLUSTERS)
    return f"{package}{which} is not installed{meant or how}"


def _modules_in(package: str) -> list[str]:
    return [module.name for module in pkgutil.iter_modules(getattr(sys.modules.get(package), "__path__", []))]


def _scale(cluster: Any, where: Where, path: str) -> None:  # noqa: ANN401  any class of clusters
    if where.adapt:
        cluster.adapt(minimum=where.adapt[0], maximum=where.adapt[1])
    elif where.n_workers:
        cluster.scale(where.n_workers)
    if isinstance(cluster, SpecCluster):
        cluster.sync(_until_asked_for, cluster)
        if why := why_refused(cluster):
            raise RuntimeError(why)
        if (refused := _refused(cluster)) and (why := cluster.sync(_ask_again, refused)):
            _log.warning("%s: %d of %d workers cannot be started: %s", path, len(refused), len(cluster.workers), why)


async def _until_asked_for(cluster: SpecCluster) -> None:
    with suppress(Exception):  # each worker that was refused is asked for again, and raises why
        await cluster._correct_state()  # noqa: SLF001  what scale() begins and does not wait for


def _refused(cluster: SpecCluster) -> list[Any]:
    """Return the workers of a cluster that could not be started, such as jobs that a batch system did not take."""
    return [worker for worker in cluster.workers.values() if getattr(worker, "status", None) == Status.created]


async def _ask_again(workers: list[Any]) -> str:
    """Try once more to start workers; return why the first cannot be, or nothing."""
    results = await asyncio.gather(*workers, return_exceptions=True)
    failed = {worker: result for worker, result in zip(workers, results, strict=True) if isinstance(result, Exception)}
    for worker in failed:
        worker.status = Status.failed  # or Dask asks once more, and does not close the cluster
    return next(map(_in_one_line, failed.values()), "")


def _reason(error: BaseException) -> BaseException:
    """Return the error with the reason: Dask raises others from it, which say only that a part failed to start."""
    while re.fullmatch(r"(\w+ failed to start\W*)+", str(error)) and error.__cause__:
        error = error.__cause__
    return error


def _is_of_arguments(error: BaseException) -> bool:
    """Say whether an error is that of a function that does not take its arguments, not one in the midst of its work."""
    return isinstance(error, TypeError) and _ARGUMENTS.search(str(error)) is not None


def _in_one_line(error: BaseException) -> str:
    """Return what an error says; of a command that failed, such as sbatch, what the command has said."""
    text = str(error)
    said = text.rpartition("\nstderr:\n")[2] or text or type(error).__name__
    return "; ".join(line.strip() for line in said.splitlines() if line.strip())


def _close(cluster: Any, path: str, timeout: float = _SECONDS_TO_CLOSE) -> None:  # noqa: ANN401  any class of clusters
    """Stop a cluster; warn where that fails, since machines that stay on cost money."""
    _gateways.extend([cluster.gateway] if hasattr(cluster, "gateway") else [])
    try:
        if "timeout" in inspect.signature(cluster.close).parameters:
            cluster.close(timeout=timeout)
        else:  # as that of a gateway
            cluster.close()
    except Exception as error:  # noqa: BLE001  the work is done
        reason = _in_one_line(error)
        _log.warning("%s: the cluster was not stopped; look whether any of it still runs: %s", path, reason)
