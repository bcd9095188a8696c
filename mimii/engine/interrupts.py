"""Ctrl-C and SIGTERM: stop between two results, where nothing is under way in this process.

Raised anywhere, KeyboardInterrupt may end up in a callback of the garbage collector or in an event loop, and get lost.
Signals belong to the process, and so does what is noted of them here.
"""

import logging
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Started = TypeVar("Started")

_SECONDS_BETWEEN_CHECKS = 0.1
_SECONDS_TO_START = 5.0
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_received: list[int] = []
_log = logging.getLogger(__name__)


@contextmanager
def deferred_interrupts() -> Iterator[None]:
    """Defer the first interrupt until `check_interrupts`; a second one takes effect at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    _received.clear()
    before = {number: signal.signal(number, _defer) for number in _SIGNALS}
    try:
        yield
        check_interrupts()  # one that came after the last result
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _received.clear()


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
    """Raise KeyboardInterrupt if one was deferred."""
    if _received:
        raise KeyboardInterrupt


def _defer(number: int, _frame: FrameType | None) -> None:
    _received.append(number)
    if len(_received) > 1:
        raise KeyboardInterrupt
    _log.warning("stopping; once more to stop at once")
