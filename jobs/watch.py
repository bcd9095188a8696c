"""Progress of downloads: a bar for each on a terminal, lines in a log file; and how they are stopped."""

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tqdm import tqdm

from jobs.words import format_bytes
from mimii.storage import StoppedError

_SECONDS_A_LINE = 5.0


class Downloads:
    """Shows the progress of all downloads: bars on a terminal, else a line for each every few seconds."""

    def __init__(self, stop: threading.Event, *, quiet: bool) -> None:
        self._stop = stop
        self._show: Callable[[str], _Line | _Bar | None] = (
            (lambda _: None) if quiet else _Bar if sys.stderr.isatty() else _Line
        )

    @contextmanager
    def of(self, name: str) -> Iterator["_Watcher"]:
        """Watch one download, as long as the block lasts."""
        shown = self._show(name)
        try:
            yield _Watcher(name, shown, self._stop)
        finally:
            if isinstance(shown, _Bar):
                shown.close()


class _Watcher:
    """Watches one download, and ends it with StoppedError when the user interrupts."""

    def __init__(self, name: str, shown: "_Line | _Bar | None", stop: threading.Event) -> None:
        self._name, self._shown, self._stop = name, shown, stop

    def progress(self, done: int, total: int | None) -> None:
        if self._stop.is_set():
            raise StoppedError
        if self._shown:
            self._shown.show(done, total)

    def wait(self, seconds: float, reason: str) -> None:
        if self._shown:
            tqdm.write(f"{self._name}: {reason}; trying again in {seconds:.0f} s", file=sys.stderr)
        if self._stop.wait(seconds):
            raise StoppedError


class _Bar:
    """A progress bar for one download."""

    def __init__(self, name: str) -> None:
        layout = "{desc} {percentage:3.0f}% |{bar:24}| {n_fmt}/{total_fmt}, {rate_fmt}, {remaining} left"
        self._bar = tqdm(desc=name, unit="B", unit_scale=True, bar_format=layout, mininterval=0.2, leave=False)

    def show(self, done: int, total: int | None) -> None:
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def close(self) -> None:
        self._bar.close()
        print("\r", end="", file=sys.stderr, flush=True)  # tqdm clears the line, but leaves the cursor at its end


class _Line:
    """A line every few seconds for one download."""

    def __init__(self, name: str) -> None:
        self._name, self._written = name, time.monotonic()
        self._start: tuple[float, int] | None = None

    def show(self, done: int, total: int | None) -> None:
        now = time.monotonic()
        self._start = self._start or (now, done)
        if now - self._written < _SECONDS_A_LINE:
            return
        self._written = now
        rate = (done - self._start[1]) / max(now - self._start[0], 1e-9)
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        whole = f" of {format_bytes(total)}" if total else ""
        print(f"{self._name}: {format_bytes(done)}{whole}, {format_bytes(rate)}/s{left}", file=sys.stderr, flush=True)
