"""How far the work is: a bar on a terminal, plain lines in a log file."""

import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TextIO

from tqdm import tqdm

from mimii.engine import Done

_SECONDS_A_LINE = 5.0
_COLUMNS = 80


def watch(done: Iterable[Done], n_clips: int, n_bad: int = 0) -> Iterator[Done]:
    """Show how far the work is, as fits whoever looks: a bar on a terminal, or lines."""
    return (show_bar if sys.stderr.isatty() else show_lines)(done, n_clips, n_bad)


def show_bar(done: Iterable[Done], n_clips: int, n_bad: int) -> Iterator[Done]:
    """Draw a bar on standard error: clips done, clips a second, time left, bad ones so far."""
    layout = "{percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt} clips, {rate_fmt}, {remaining} left{postfix}"
    found: set[int] = set()
    columns = os.get_terminal_size(sys.stderr.fileno()).columns or _COLUMNS  # 0 where nobody has set a size
    with tqdm(total=n_clips, unit=" clips", bar_format=layout, mininterval=0.2, ncols=columns - 1) as bar:
        bar.set_postfix_str(f"{n_bad} bad")
        for task in done:
            found.update(task.bad)
            bar.set_postfix_str(f"{n_bad + len(found)} bad", refresh=False)
            bar.update(task.n_clips)
            yield task


def show_lines(
    done: Iterable[Done], n_clips: int, n_bad: int, stream: TextIO | None = None, interval: float = _SECONDS_A_LINE
) -> Iterator[Done]:
    """Write a line now and then, and one in the end."""
    started = written = time.monotonic()
    found: set[int] = set()
    n_done = 0
    for task in done:
        n_done += task.n_clips
        found.update(task.bad)
        now = time.monotonic()
        if now - written >= interval or n_done == n_clips:
            rate = n_done / max(now - started, 1e-9)
            left = f"{(n_clips - n_done) / rate:.0f}" if rate else "?"
            line = f"{n_done}/{n_clips} clips, {rate:.0f} clips/s, {left} s left, {n_bad + len(found)} bad"
            print(line, file=stream or sys.stderr, flush=True)
            written = now
        yield task
