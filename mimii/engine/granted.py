"""How many CPUs and how much memory this process may use: those of the machine, or what its control groups grant.

Dask reads the group that a container shows as its root. Here, all groups that this process is in count, also those
around them, of both versions.
"""

import math
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

DRIVER_BYTES = 200 << 20
"""What a command needs beside its workers. Measured are 140 MiB."""

WORKER_BYTES = 128 << 20
"""The least that a worker needs. Measured are 96 MiB."""

_GROUPS, _MOUNTED = Path("/proc/self/cgroup"), Path("/sys/fs/cgroup")


def granted_cpus(groups: Path = _GROUPS, mounted: Path = _MOUNTED) -> int:
    """Return on how many CPUs this process may run: by its affinity, which cpusets limit, and the quotas of groups."""
    n_cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    quotas = [_numbers(folder / "cpu.max") for folder in _folders("", groups, mounted)]
    quotas += [
        _numbers(folder / "cpu.cfs_quota_us") + _numbers(folder / "cpu.cfs_period_us")
        for folder in _folders("cpu", groups, mounted)
    ]
    whole = [math.ceil(quota[0] / quota[1]) for quota in quotas if len(quota) > 1 and min(quota) > 0]
    return max(1, min([n_cpus, *whole]))


def granted_memory(groups: Path = _GROUPS, mounted: Path = _MOUNTED) -> int:
    """Return how many bytes this process and its workers may use."""
    limits = [_numbers(folder / "memory.max") for folder in _folders("", groups, mounted)]
    limits += [_numbers(folder / "memory.limit_in_bytes") for folder in _folders("memory", groups, mounted)]
    whole = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([whole, *(limit[0] for limit in limits if limit and limit[0] > 0)])


def _folders(controller: str, groups: Path, mounted: Path) -> Iterator[Path]:
    """Yield the folders of the groups of this process and of those around them; no controller is version 2."""
    with suppress(OSError):
        for line in groups.read_text(encoding="utf-8", errors="surrogateescape").splitlines():
            _, controllers, path = line.split(":", 2)
            if controller not in controllers.split(","):
                continue
            # The kernel may list cpuacct,cpu where cpu,cpuacct is mounted; cpu is a link to it.
            for root in (mounted / controllers, mounted / (controller or "unified")):
                inner = root / path.strip("/")
                yield from (folder for folder in (inner, *inner.parents) if folder.is_relative_to(root))


def _numbers(path: Path) -> list[int]:
    """Return the numbers in a file; none where there is no such file, or no limit: ``max``."""
    with suppress(OSError, ValueError):
        return [int(word) for word in path.read_text(encoding="ascii").split()]
    return []
