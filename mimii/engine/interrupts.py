"""Ctrl-C, SIGTERM and SIGHUP: stop between two results, where nothing is under way in this process.

Raised anywhere, KeyboardInterrupt may end up in a callback of the garbage collector or in an event loop, and get lost.
Signals belong to the process, and so does what is noted of them here.
"""

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Started = TypeVar("Started")

_SECONDS_BETWEEN_CHECKS = 0.1
_SECONDS_TO_START = 5.0
_SECONDS_OF_ONE_END = 0.5
"""``timeout`` sends SIGTERM twice, a terminal that closes SIGHUP: so soon after the first, it is the same."""

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_Handler = Callable[[int, FrameType | None], object] | int | None
_received: list[tuple[int, float]] = []
_before: dict[int, _Handler] = {}
_left_behind: list[str] = []
_log = logging.getLogger(__name__)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Defer the first interrupt until `check_interrupts`; a second one does at once what it would do elsewhere."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = _handlers()
    if _defer in before.values():  # within another block
        yield
        check_interrupts()
        return
    _received.clear()
    _before.update(before)
    for number in before:
        signal.signal(number, _defer)
    try:
        yield
        check_interrupts()  # one that came after the last result
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _before.clear()
        _received.clear()


@contextmanager
def left_behind(warning: str) -> Iterator[None]:
    """Have a second interrupt log this warning: what is open meanwhile is then not closed."""
    _left_behind.append(warning)
    try:
        yield
    finally:
        _left_behind.remove(warning)


def _handlers() -> dict[int, _Handler]:
    """Return the handlers to be replaced: not one of C, which Python could not put back, nor that of nohup."""
    found = {number: signal.getsignal(number) for number in _SIGNALS}
    return {
        number: handler
        for number, handler in found.items()
        if handler is not None and (number, handler) != (signal.SIGHUP, signal.SIG_IGN)
    }


@contextmanager
def same_handlers() -> Iterator[None]:
    """Leave handlers of signals as they are: dask-jobqueue takes over Ctrl-C when it is imported."""
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                if handler is not None:  # as where a program of C has set it
                    signal.signal(number, handler)


def interruptible(
    start: Callable[[], Started], undo: Callable[[Started], object], give_up: Callable[[], object] = lambda: None
) -> Started:
    """Start something that takes long in a thread of its own; an interrupt takes effect meanwhile, and it is undone.

    It is undone before the interrupt is raised. Where it still starts after some seconds, `give_up` is called; then it
    is undone later, if this process is still there.
    """
    future: Future[Started] = Future()

    def run() -> None:
        try:
            future.set_result(start())
        except BaseException as error:  # noqa: BLE001  raised again in the thread that waits
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    try:
        while not wait([future], timeout=_SECONDS_BETWEEN_CHECKS).done:
            check_interrupts()
    except KeyboardInterrupt:
        if not wait([future], timeout=_SECONDS_TO_START).done:
            future.add_done_callback(lambda done: None if done.exception() else undo(done.result()))
            give_up()
        elif not future.exception():
            undo(future.result())
        raise
    return future.result()


def check_interrupts() -> None:
    """Raise KeyboardInterrupt if one was deferred; its argument is the number of the signal."""
    if _received:
        raise KeyboardInterrupt(_received[0][0])


def _defer(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if not _received:
        _received.append((number, now))
        _log.warning("stopping; once more to stop at once")
        return
    first, since = _received[0]
    is_same = number == first != signal.SIGINT and now - since < _SECONDS_OF_ONE_END
    if not is_same:
        _end_at_once(number, frame)


def _end_at_once(number: int, frame: FrameType | None) -> None:
    for warning in _left_behind:
        _log.warning("%s", warning)
    handler = _before.get(number)
    if callable(handler):
        handler(number, frame)
    raise KeyboardInterrupt(number)
