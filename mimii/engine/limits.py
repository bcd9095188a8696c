"""Whether this process may have workers: open files, of which it may raise the limit, memory and addresses."""

import resource

from mimii.engine.granted import DRIVER_BYTES, WORKER_BYTES, granted_memory
from mimii.engine.schedulers import WorkError
from mimii.storage import numbered

_ADDRESSES = 960 << 20
"""What a command with workers reserves (ulimit -v), most of it for stacks of threads. Measured: 921 MB are too few."""

_MIB = 1 << 20

_FILES = 64
_FILES_A_WORKER = 12
"""Measured are 9: connections and pipes to a worker and to what watches it."""


def allow_workers(n_workers: int) -> None:
    """Raise the limit on open files to what so many workers on this machine need.

    Raises WorkError where the system does not allow that, or allows too little memory.
    """
    _check_memory(n_workers)
    needed = _FILES + _FILES_A_WORKER * n_workers
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
    except (OSError, ValueError) as error:
        msg = (
            f"{_workers(n_workers)} up to {needed} open files at once, and the system allows {hard}: raise that "
            f"(ulimit -n {needed}), {_fewer(n_workers)}or use --scheduler sync"
        )
        raise WorkError(msg) from error


def worker_memory(n_workers: int) -> int:
    """Return how many bytes each of so many workers may use."""
    return max(1, granted_memory() - DRIVER_BYTES) // n_workers


def _check_memory(n_workers: int) -> None:
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= addresses < _ADDRESSES:
        allowed = f"ulimit -v allows {addresses // _MIB} MiB: raise that, "
        raise _too_little(n_workers, _ADDRESSES, "addresses", f"{allowed}or use --scheduler sync")
    if (granted := granted_memory()) < (needed := DRIVER_BYTES + n_workers * WORKER_BYTES):
        allowed = f"the machine, or its control group, has {granted // _MIB} MiB: "
        raise _too_little(n_workers, needed, "memory", f"{allowed}{_fewer(n_workers)}or use --scheduler sync")


def _too_little(n_workers: int, needed: int, what: str, allowed: str) -> WorkError:
    return WorkError(f"{_workers(n_workers)} {needed // _MIB} MiB of {what} at least, and {allowed}")


def _workers(n_workers: int) -> str:
    return f"{numbered(n_workers, 'worker')} on this machine {'needs' if n_workers == 1 else 'need'}"


def _fewer(n_workers: int) -> str:
    return "take fewer (--workers N), " if n_workers > 1 else ""
