"""Ctrl-C and SIGTERM: stop between two results, where nothing is under way in this process.

Raised anywhere, KeyboardInterrupt may end up in a callback of the garbage collector or in an event loop, and get lost.
"""

import logging
import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TypeVar

Result = TypeVar("Result")
_log = logging.getLogger(__name__)
_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextmanager
def deferred_interrupts() -> Iterator[list[int]]:
    """Put off the first interrupt; a second one takes effect at once."""
    received: list[int] = []

    def defer(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        if len(received) > 1:
            raise KeyboardInterrupt
        _log.warning("stopping; once more to stop at once")

    before = {number: signal.signal(number, defer) for number in _SIGNALS}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def until_interrupted(results: Iterable[Result], received: list[int]) -> Iterator[Result]:
    """Pass on results until an interrupt has come."""
    for result in results:
        yield result
        if received:
            raise KeyboardInterrupt
