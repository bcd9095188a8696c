"""How many files and connections this process may have open at once: raised to what its workers need."""

import resource

from mimii.engine.schedulers import WorkError

_FILES = 64
_FILES_A_WORKER = 12
"""Measured are 9: connections and pipes to a worker and to what watches it."""


def allow_workers(n_workers: int) -> None:
    """Raise the limit on open files to what so many workers on this machine need.

    Raises WorkError where the system does not allow that.
    """
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
