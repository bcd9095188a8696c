"""A command as a process of its own: when it began, and what Ctrl-C and SIGTERM do to it.

Imports, the plan and the exit write nothing that an exit at once would damage, and an exception in the midst of them
may be lost or end in a traceback. So a signal there ends the process with one line. While workers are at work,
`mimii.engine` has handlers of its own, which close them first.
"""

import atexit
import os
import signal
import sys
import time
from contextlib import suppress

INTERRUPTED = 130
"""The exit status of a command that Ctrl-C or SIGTERM ended."""

_SCRIPT = "sound-features"
_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_BEGAN = time.monotonic()

IS_COMMAND = sys.argv[:1] == ["-m"] or _SCRIPT in [os.path.basename(word) for word in sys.orig_argv[1:3]]
"""Whether this process is a command: neither a worker of one, nor a program or a test that imports one.

``python -m`` imports the package `jobs` before it sets the first argument to the path of the job.
"""


def began() -> float:
    """Return when this command began, on the clock of `time.monotonic`: with its imports, where it is a process."""
    return _BEGAN if IS_COMMAND else time.monotonic()


def exit_at_interrupts(status: int = INTERRUPTED, message: str = "interrupted; run the same command again") -> None:
    """Let Ctrl-C and SIGTERM end this process at once, if it is a command: with this status, and a line if any."""

    def end(_number: int, _frame: object) -> None:
        with suppress(Exception):  # a stream that is closed, or in the midst of writing
            sys.stdout.flush()
        with suppress(OSError):
            os.write(2, f"{message}\n".encode() if message else b"")
        os._exit(status)

    if IS_COMMAND:
        for number in _SIGNALS:
            signal.signal(number, end)


def raise_interrupts() -> None:
    """Let Ctrl-C and SIGTERM raise KeyboardInterrupt in a command that has to clean up."""
    if IS_COMMAND:
        for number in _SIGNALS:
            signal.signal(number, signal.default_int_handler)


def _ignore_interrupts() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


if IS_COMMAND:
    exit_at_interrupts()
    atexit.register(_ignore_interrupts)  # called last: what remains takes no time, and has no handlers in Python
