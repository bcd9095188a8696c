"""Tables of what was measured: a line for each candidate, a column for each number."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeVar

from jobs.benchmark.timing import Timing, time_around
from jobs.words import format_table

T = TypeVar("T")


def tabulate(title: str, measured: Mapping[str, T], columns: Mapping[str, Callable[[T], str]]) -> str:
    """Return a table with a line for each that was measured, and columns that are computed from what was."""
    rows = [(name, *(column(value) for column in columns.values())) for name, value in measured.items()]
    return "\n".join(format_table((title, *columns), rows))


def tabulate_end_to_end(
    timings: Mapping[str, Timing], n_clips: int, more: Mapping[str, Callable[[Timing], str]] = MappingProxyType({})
) -> str:
    """Return a table of whole processes, with more columns; the first one is the loop."""
    loop = next(iter(timings.values()))
    columns: dict[str, Callable[[Timing], str]] = {
        "s": lambda timing: f"{timing.wall_seconds:.1f}",
        "clips/s": lambda timing: f"{n_clips / timing.wall_seconds:.0f}",
        "CPU ms/clip": lambda timing: f"{timing.cpu_seconds / n_clips * 1e3:.2f}",
        "peak MB": lambda timing: f"{timing.peak_bytes / 1e6:.0f}",
        **more,
        "times the loop": lambda timing: f"{loop.wall_seconds / timing.wall_seconds:.2f}",
    }
    return tabulate("start to end", timings, columns)


def tabulate_around(timing: Timing, n_workers: int) -> str:
    """Return a table of what jobs.featurize takes around its tasks."""
    around = time_around(timing, n_workers)
    return tabulate("around the tasks of jobs.featurize", around, {"": lambda value: f"{value:.2f}"})
