"""What workers on this machine start from: their environment, and a process that has imported what they need.

Workers are forked from a server (`multiprocessing`'s forkserver), which is started before anything else: it imports
on another core while this process finds recordings and plans, and all workers share what it has imported.
"""

import logging
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from multiprocessing import forkserver, get_context, resource_tracker
from signal import SIG_BLOCK, SIG_SETMASK, SIGHUP, SIGINT, SIGTERM, pthread_sigmask

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
    "DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED": "false",
}
"""Set before a worker starts: an allocator that keeps what it has, in huge pages, one thread a library, no profiler.

Dask's own setting gives freed memory back to the kernel at once; page faults then make the code three times slower.
Its profiler looks at a worker a hundred times a second, and may freeze it on Python 3.11 (CPython issue 106883).
"""

_log = logging.getLogger(__name__)
_SIGNALS = {SIGINT, SIGTERM, SIGHUP}
_SILENT_TRACKER = {"PYTHONWARNINGS": "ignore::UserWarning:multiprocessing.resource_tracker"}
"""What a command leaves that ends at once, the tracker deletes, and would warn of it."""

_PRELOAD = [
    "distributed.nanny",
    "dask.bag",
    "numpy",
    "soundfile",
    "mimii.engine.partitions",
    "mimii.features.loading",
    "mimii.table.shards",
]


def start_early() -> bool:
    """Start the process that workers are forked from, unless it runs; return whether there is one.

    There is none where the path of the temporary folder is too long for its socket, or on systems without it.
    """
    try:
        get_context("forkserver").set_forkserver_preload(_PRELOAD)
        with deaf_to_interrupts(), _environment(WORKER_ENVIRONMENT):
            forkserver.ensure_running()
    except (OSError, ValueError) as error:
        _log.info("workers are spawned: no process to fork them from: %s", error)
        return False
    return True


@contextmanager
def deaf_to_interrupts() -> Iterator[None]:
    """Let threads and processes that are started here never see Ctrl-C: it is this process that ends them.

    Nor SIGTERM and SIGHUP, which service managers and terminals send to all processes of a command.
    """
    before = pthread_sigmask(SIG_BLOCK, _SIGNALS)
    try:
        with _environment(_SILENT_TRACKER):
            resource_tracker.ensure_running()
        pthread_sigmask(SIG_BLOCK, _SIGNALS)  # when first started, it lets some of them through again
        yield
    finally:
        pthread_sigmask(SIG_SETMASK, before)


@contextmanager
def keeping_variables(names: Iterable[str]) -> Iterator[None]:
    """Give variables of the environment back the values that they had, or none."""
    before = {name: os.environ.get(name) for name in names}
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


@contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    with keeping_variables(variables):
        os.environ.update(variables)
        yield
