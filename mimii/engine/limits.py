"""Whether this process may have workers: open files, of which it may raise the limit, and memory."""

import resource

from mimii.engine.granted import DRIVER_BYTES, WORKER_BYTES, granted_memory
from mimii.engine.schedulers import WorkError

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
            f"--workers {n_workers} needs up to {needed} open files at once, and the system allows {hard}: "
            f"raise that (ulimit -n {needed}), or take fewer workers, or --scheduler sync"
        )
        raise WorkError(msg) from error


def worker_memory(n_workers: int) -> int:
    """Return how many bytes each of so many workers may use."""
    return max(1, granted_memory() - DRIVER_BYTES) // n_workers


def _check_memory(n_workers: int) -> None:
    addresses = resource.getrlimit(resource.RLIMIT_AS)[0]
    if 0 <= addresses < _ADDRESSES:
        raise _too_little(n_workers, _ADDRESSES, addresses, "ulimit -v")
    if (granted := granted_memory()) < (needed := DRIVER_BYTES + n_workers * WORKER_BYTES):
        raise _too_little(n_workers, needed, granted, "its control group, or the machine")


def _too_little(n_workers: int, needed: int, granted: int, by: str) -> WorkError:
    fewer = "take fewer, or " if n_workers > 1 and by != "ulimit -v" else ""
    return WorkError(
        f"--workers {n_workers} needs {needed // _MIB} MiB of memory at least, and {by} allows {granted // _MIB} MiB: "
        f"raise that, or {fewer}use --scheduler sync"
    )
