"""How much memory a process or a piece of code has taken at most."""

import contextlib
import resource
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path


def peak_resident_bytes() -> int:
    """Return the most memory that this process has had at once.

    On Linux ru_maxrss starts at the peak of the process that started this one, VmHWM at nothing.
    """
    status = Path("/proc/self/status")
    if status.exists():
        [line] = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) << 10
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak << 10


@contextlib.contextmanager
def allocates_at_most(limit: int) -> Iterator[None]:
    """Fail when Python and NumPy together hold more bytes at once than the limit, beyond what they held before."""
    tracemalloc.start()
    try:
        yield
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < limit, f"{peak:,} bytes"
