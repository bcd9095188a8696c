"""What ``--scheduler`` may be, as data; nothing is started here."""

import json
import os
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import yaml

from mimii.engine.granted import DRIVER_BYTES, WORKER_BYTES, granted_cpus, granted_memory
from mimii.storage import MOST_AHEAD

HERE = ("local", "threads", "sync")
ENVIRONMENT_VARIABLE = "DASK_SCHEDULER_ADDRESS"
TIMEOUT = 300.0
"""Seconds to wait for a scheduler and its first worker."""

_SECONDS_TO_GREET = 5.0
_PORTS = 1 << 16
_CLASS_KEYS = {"module", "class", "kwargs"}
_SHAPES = """It must be one document, and either a manifest of Dask's operator for Kubernetes,
  apiVersion: kubernetes.dask.org/v1
  kind: DaskCluster
  metadata: {name: ...}
  spec: ...
or a class that starts a Dask cluster, such as
  module: distributed
  class: SSHCluster
  kwargs: {hosts: [a, b, c]}"""


TASKS_FAR_AWAY = 3
"""How many tasks a worker has under way where they wait for S3: one computes while others begin and end."""


class SchedulerError(ValueError):
    """A scheduler that cannot be meant; the message names it and says what may be."""


class WorkError(RuntimeError):
    """Work that cannot be finished; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Where:
    """Where work runs.

    Attributes
    ----------
    scheduler : str
        One of `HERE`, ``tcp://`` or ``tls://`` and an address, a scheduler file (``.json``), ``env``, or a cluster
        file (``.yaml``).
    n_workers : int or None
        How many workers; None leaves it to the machine, or to the cluster file.
    tasks_a_worker : int
        How many tasks each worker that is started here has under way: more than one where tasks wait for a network.
    adapt : tuple of int or None
        From how many to how many workers there are, as the work demands.
    timeout : float
        Seconds to wait for the scheduler and the first worker.

    """

    scheduler: str = "local"
    n_workers: int | None = None
    tasks_a_worker: int = 1
    adapt: tuple[int, int] | None = None
    timeout: float = TIMEOUT


def default_workers(*, is_remote: bool = False) -> int:
    """Return how many workers there is room for: one a core, as far as this process may use cores and memory.

    Where tasks wait for S3, each of them may hold what it has fetched ahead.
    """
    worker_bytes = WORKER_BYTES + (TASKS_FAR_AWAY * MOST_AHEAD if is_remote else 0)
    return max(1, min(granted_cpus(), (granted_memory() - DRIVER_BYTES) // worker_bytes))


def fit_to_tasks(where: Where, n_tasks: int, *, is_remote: bool) -> Where:
    """Start no more workers on this machine than there are tasks; give each more tasks where these wait for S3."""
    n_workers = where.n_workers
    if where.scheduler in HERE:
        n_workers = min(n_workers or default_workers(is_remote=is_remote), n_tasks)
    return replace(
        where, n_workers=n_workers, tasks_a_worker=max(where.tasks_a_worker, TASKS_FAR_AWAY if is_remote else 1)
    )


@dataclass(frozen=True, slots=True)
class Manifest:
    """A ``DaskCluster`` for Dask's operator.

    Attributes
    ----------
    document : mapping
        The whole manifest.

    """

    document: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ClusterClass:
    """A class that starts a Dask cluster.

    Attributes
    ----------
    module, name : str
        What to import.
    kwargs : mapping
        Its arguments.

    """

    module: str
    name: str
    kwargs: Mapping[str, Any]


def is_cluster_file(scheduler: str) -> bool:
    """Say whether a scheduler is named by a file that says how to start one."""
    return scheduler.endswith((".yaml", ".yml"))


def check_scheduler(scheduler: str) -> str:
    """Make sure that a scheduler may be meant."""
    if scheduler == "env":
        return _check_address(_address_of_environment())
    if is_cluster_file(scheduler):
        read_cluster_file(scheduler)
    elif not (scheduler in HERE or scheduler.endswith(".json") or _is_address(scheduler)):
        msg = (
            f"{scheduler!r}: must be {', '.join(HERE)}, tcp://HOST:PORT, tls://HOST:PORT, a scheduler file (*.json), "
            f"env (which reads {ENVIRONMENT_VARIABLE}), or a cluster file (*.yaml)"
        )
        raise SchedulerError(msg)
    return scheduler


def read_cluster_file(path: str) -> Manifest | ClusterClass:
    """Read how to start a cluster."""
    try:
        with open(path, encoding="utf-8") as file:
            documents = list(yaml.safe_load_all(file))
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror or error}"
        raise SchedulerError(msg) from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        msg = f"{path}: is no YAML: {error}"
        raise SchedulerError(msg) from error
    match documents:
        case [{"apiVersion": "kubernetes.dask.org/v1", "kind": "DaskCluster", "metadata": {"name": str()}} as manifest]:
            return Manifest(manifest)
        case [{"module": str(module), "class": str(name)} as keys] if keys.keys() <= _CLASS_KEYS:
            if isinstance(kwargs := keys.get("kwargs") or {}, dict):
                return ClusterClass(module, name, kwargs)
    msg = f"{path}: does not say how to start a cluster: {_why_no_cluster(documents)}. {_SHAPES}"
    raise SchedulerError(msg)


def _why_no_cluster(documents: list[Any]) -> str:
    """Return what is wrong with the documents of a cluster file."""
    filled = [document for document in documents if document is not None]
    if len(filled) != 1:
        return f"it holds {len(filled)} documents" if filled else "it is empty"
    [keys] = filled
    if not isinstance(keys, dict):
        return f"it is a {'list' if isinstance(keys, list) else 'single value'}, not a mapping of keys to values"
    if "apiVersion" in keys or "kind" in keys:
        return "it is another manifest than a DaskCluster of kubernetes.dask.org/v1 with a name"
    return "; ".join(_wrong_keys(keys))


def _wrong_keys(keys: dict[Any, Any]) -> Iterator[str]:
    for name in (name for name in ("module", "class") if not isinstance(keys.get(name), str)):
        yield f"'{name}' must be a name, not {keys[name]!r}" if name in keys else f"it has no '{name}'"
    if not isinstance(keys.get("kwargs") or {}, dict):
        yield f"'kwargs' must be a mapping of names to values, not {keys['kwargs']!r}"
    if others := [str(name) for name in keys if name not in _CLASS_KEYS]:
        yield f"{', '.join(map(repr, others))} means nothing there; arguments of the class go below 'kwargs'"


def find_address(scheduler: str) -> str:
    """Find out where a scheduler is."""
    if not scheduler.endswith(".json"):
        return scheduler
    with open(scheduler, encoding="utf-8") as file:
        text = file.read()
    try:
        address = str(json.loads(text)["address"])
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{scheduler}: no scheduler file: it names no address"
        raise SchedulerError(msg) from error
    if not _is_address(address):
        msg = f"{scheduler}: {address} is no address of a scheduler for this machine; it must be tcp://HOST:PORT or tls://HOST:PORT"
        raise SchedulerError(msg)
    return address


def open_socket(address: str) -> socket.socket:
    """Connect to an address."""
    host, _, port = address.partition("://")[2].rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), _SECONDS_TO_GREET)


def speaks_tls(address: str) -> bool:
    """Say whether who listens at an address encrypts."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nothing is sent, nothing trusted
    with open_socket(address) as plain:
        try:
            with context.wrap_socket(plain):
                return True
        except ssl.SSLError as error:  # it may say, in TLS, that it wants a certificate
            return any(word in (error.reason or "") for word in ("CERTIFICATE", "ALERT"))


def _check_address(address: str) -> str:
    if not (address.endswith(".json") or _is_address(address)):
        msg = (
            f"env: {ENVIRONMENT_VARIABLE} is {address!r}; it must be tcp://HOST:PORT, tls://HOST:PORT or a *.json file"
        )
        raise SchedulerError(msg)
    return address


def _is_address(scheduler: str) -> bool:
    scheme, separator, address = scheduler.partition("://")
    host, _, port = address.rpartition(":")
    return bool(separator and host) and scheme in {"tcp", "tls"} and port.isdecimal() and 0 < int(port) < _PORTS


def _address_of_environment() -> str:
    address = os.environ.get(ENVIRONMENT_VARIABLE, "")
    if not address or address == "env":
        msg = f"env: {ENVIRONMENT_VARIABLE} is not set; set it to the address of a scheduler, such as tcp://HOST:8786"
        raise SchedulerError(msg)
    return address
