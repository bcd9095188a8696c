"""How far the work is: a bar on a terminal, plain lines in a log file."""

import os
import sys
import time
from collections.abc import Iterable
from typing import TextIO

from tqdm import tqdm

from jobs.words import numbered
from mimii.engine import SILENT, Cluster, Progress

_SECONDS_A_LINE = 5.0
_COLUMNS = 80
_BAR = "{percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt}{unit}, {rate_fmt}, {remaining} left{postfix}"


def show_progress(noun: str, n_bad: int = 0, *, quiet: bool, unit: str = "clips", bad: str = "bad") -> Progress:
    """Return what shows the progress of tasks: a bar on a terminal, else a line now and then.

    `unit` is what is counted, and `bad` what those are called that something is wrong with.
    """
    if quiet:
        return SILENT
    return Bar(noun, n_bad, unit, bad) if sys.stderr.isatty() else Lines(noun, n_bad, unit=unit, bad=bad)


def announce(noun: str, n_tasks: int, cluster: Cluster) -> None:
    """Print how many tasks begin on how many workers, and where Dask's dashboard is."""
    dashboard = f", dashboard {cluster.dashboard}" if cluster.dashboard else ""
    print(f"{numbered(n_tasks, noun)} on {numbered(cluster.n_workers, 'worker')}{dashboard}", file=sys.stderr)


class Bar:
    """Draws a bar on standard error: clips done, clips a second, time left, bad ones so far."""

    def __init__(self, noun: str, n_bad: int = 0, unit: str = "clips", bad: str = "bad") -> None:
        self._noun, self._n_bad, self._unit, self._bad = noun, n_bad, unit, bad
        self._found: set[int] = set()
        self._bar: tqdm | None = None

    def start(self, n_tasks: int, n_clips: int, cluster: Cluster) -> None:
        """Draw an empty bar, once."""
        announce(self._noun, n_tasks, cluster)
        if self._bar is None:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS  # 0 where no size is set
            self._bar = tqdm(total=n_clips, unit=f" {self._unit}", bar_format=_BAR, mininterval=0.2, ncols=columns - 1)
            self._bar.set_postfix_str(f"{self._n_bad} {self._bad}")

    def advance(self, n_clips: int, bad: Iterable[int]) -> None:
        """Fill a part of it."""
        self._found.update(bad)
        if self._bar is not None:
            self._bar.set_postfix_str(f"{self._n_bad + len(self._found)} {self._bad}", refresh=False)
            self._bar.update(n_clips)

    def end(self) -> None:
        """Leave it as it is."""
        if self._bar is not None:
            self._bar.close()


class Lines:
    """Writes a line now and then, and one in the end."""

    def __init__(
        self,
        noun: str,
        n_bad: int = 0,
        stream: TextIO | None = None,
        interval: float = _SECONDS_A_LINE,
        unit: str = "clips",
        bad: str = "bad",
    ) -> None:
        self._noun, self._n_bad, self._stream, self._interval = noun, n_bad, stream or sys.stderr, interval
        self._unit, self._bad = unit, bad
        self._found: set[int] = set()
        self._n_done = self._n_clips = 0
        self._started = self._written = 0.0

    def start(self, n_tasks: int, n_clips: int, cluster: Cluster) -> None:
        """Write how many tasks there are."""
        announce(self._noun, n_tasks, cluster)
        if not self._started:
            self._started = self._written = time.monotonic()
            self._n_clips = n_clips

    def advance(self, n_clips: int, bad: Iterable[int]) -> None:
        """Write a line if the last one was some seconds ago, or if all is done."""
        self._n_done += n_clips
        self._found.update(bad)
        now = time.monotonic()
        is_last = n_clips > 0 and self._n_done == self._n_clips
        if now - self._written >= self._interval or is_last:
            self._written = now
            rate = self._n_done / max(now - self._started, 1e-9)
            left = f"{(self._n_clips - self._n_done) / rate:.0f}" if rate else "?"
            n_bad = self._n_bad + len(self._found)
            done = f"{self._n_done}/{self._n_clips} {self._unit}, {rate:.0f} {self._unit}/s"
            line = f"{done}, {left} s left, {n_bad} {self._bad}"
            print(line, file=self._stream, flush=True)

    def end(self) -> None:
        """Write nothing more."""
