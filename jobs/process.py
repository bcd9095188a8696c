"""A command as a process of its own: when it began, and what Ctrl-C, SIGTERM and SIGHUP do to it.

Imports, the plan and the exit write nothing that an exit at once would damage, and an exception in the midst of them
may be lost or end in a traceback. So a signal there ends the process with one line, and what it has started with it.
While workers are at work, `mimii.engine` has handlers of its own, which close them first; a second signal comes here.
"""

import atexit
import os
import signal
import sys
import time
from contextlib import suppress
from types import FrameType
from typing import NamedTuple

_SCRIPT = "sound-features"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

IS_COMMAND = sys.argv[:1] == ["-m"] or _SCRIPT in [os.path.basename(word) for word in sys.orig_argv[1:3]]
"""Whether this process is a command: neither a worker of one, nor a program or a test that imports one.

``python -m`` imports the package `jobs` before it sets the first argument to the path of the job.
"""

INTERRUPTED = "130 interrupted by Ctrl-C, 143 by SIGTERM, 129 by SIGHUP"
"""What the exit status says of signals: as in shells, it is their number and 128."""

_SIGNALLED = 128

_PARENT, _BEGAN = 1, 19
"""Where they are among the fields of ``/proc/PID/stat`` that follow the name of a process."""

_began = time.monotonic()
_concluded: list[int] = []


def began() -> float:
    """Return when this command began, on the clock of `time.monotonic`: with its imports, where it is a process."""
    return _began if IS_COMMAND else time.monotonic()


def status_of(interrupt: KeyboardInterrupt) -> int:
    """Return the exit status of a command that an interrupt ended; its argument is the signal, else it is Ctrl-C."""
    return _SIGNALLED + (interrupt.args[0] if interrupt.args else signal.SIGINT)


def heeded() -> list[signal.Signals]:
    """Return the signals that end a command: with nohup, SIGHUP does not."""
    return [one for one in _SIGNALS if one != signal.SIGHUP or signal.getsignal(one) != signal.SIG_IGN]


def exit_at_interrupts(status: int | None = None, message: str = "interrupted; run the same command again") -> None:
    """Let signals end this process at once, if it is a command: with a status, or that of the signal, and a line."""

    def end(number: int, _frame: FrameType | None) -> None:
        _ignore_interrupts()
        with suppress(Exception):  # a stream that is closed, or in the midst of writing
            sys.stdout.flush()
        with suppress(OSError):
            os.write(2, f"{message}\n".encode() if message else b"")
        kill_children()
        os._exit(_SIGNALLED + number if status is None else status)

    if IS_COMMAND:
        for number in heeded():
            signal.signal(number, end)


def conclude(status: int) -> None:
    """Have a command exit with this status once what was registered for its exit is done; a signal ends it so, too.

    Python would free all modules and objects first, which takes up to a second.
    """
    _concluded.append(status)
    exit_at_interrupts(status, "")


def raise_interrupts() -> None:
    """Let signals raise KeyboardInterrupt in a command that has to clean up."""

    def interrupt(number: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt(number)

    if IS_COMMAND:
        for number in heeded():
            signal.signal(number, interrupt)


def kill_children() -> None:
    """Kill all processes that this one has started, and what these have started, where the system lists them (Linux).

    Not multiprocessing's tracker of resources: it ends by itself once the others are dead, and deletes what they leave.
    """
    tracker = getattr(sys.modules.get("multiprocessing.resource_tracker"), "_resource_tracker", None)
    for process in _below(os.getpid(), _running() - _there_before) - {getattr(tracker, "_pid", None)}:
        with suppress(OSError):  # it has exited meanwhile
            os.kill(process, signal.SIGKILL)


class _Process(NamedTuple):
    """A process: `began` tells it from a later one with the same number."""

    number: int
    parent: int
    began: int


def _running() -> set[_Process]:
    found = set()
    with suppress(OSError):
        for name in filter(str.isdecimal, os.listdir("/proc")):
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
                found.add(_Process(int(name), int(fields[_PARENT]), int(fields[_BEGAN])))
    return found


def _below(process: int, running: set[_Process]) -> set[int]:
    children = {one.number for one in running if one.parent == process}
    return children.union(*(_below(child, running) for child in children))


def _ignore_interrupts() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _let_signals_kill() -> None:
    """Give a forked process the default actions back.

    A handler in Python runs late where a signal comes just before a lock is waited for: a worker of a pool of processes
    that was told to end then never did.
    """
    for number in _SIGNALS:
        if signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)


def _exit() -> None:
    """Exit with the status of the command; after an interrupt, nothing is left of what it has started."""
    _ignore_interrupts()
    if _concluded and _concluded[-1] > _SIGNALLED:
        kill_children()
    if _concluded:
        for stream in (sys.stdout, sys.stderr):
            with suppress(Exception):
                stream.flush()
        os._exit(_concluded[-1])


_there_before = {one for one in _running() if one.parent == os.getpid()} if IS_COMMAND else set[_Process]()
"""Children that are not of this command: the shell whose place it has taken had started them."""

if IS_COMMAND:
    exit_at_interrupts()
    os.register_at_fork(after_in_child=_let_signals_kill)
    atexit.register(_exit)  # called last: what remains takes no time, and has no handlers in Python
