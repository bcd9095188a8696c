"""Child processes that read recordings: some recordings kill the process that reads them.

A child runs a module of this project, with the same code as its parent. It gets one request, and reports JSON values,
one a line. It exits when its parent exits or is killed: then the pipe that brought the request is closed.
"""

import json
import logging
import os
import pickle
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, TYPE_CHECKING, Any

from mimii.storage import StorageError

if TYPE_CHECKING:
    from mimii.features.loading import Fault

_KILLED = "reading it kills the process ({how})"
_KILLED_FOR_MEMORY = "not enough memory for it: the process that read it was killed"
_READY, _REPORT, _LOG, _ERROR = "ready", "report", "log", "error"
_MOST_SAID = 10_000
_OURS = "mimii"
_log = logging.getLogger(__name__)

Report = Callable[[Any], None]
"""Sends any JSON value to the parent; from any thread."""


class Child:
    """A child as its parent sees it, from `start_child`."""

    def __init__(self, process: subprocess.Popen[bytes], said: IO[bytes]) -> None:
        self._process, self._said, self._is_ready, self._error = process, said, False, ("", "")

    def reports(self) -> Iterator[Any]:
        """Yield what the child reports, as it comes; what it logs is logged here."""
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if not line.endswith(b"\n"):  # it died as it wrote
                return
            kind, value = json.loads(line)
            if kind == _REPORT:
                yield value
            elif kind == _LOG:
                name, level, message = value
                logging.getLogger(name).log(level, "%s", message)
            elif kind == _ERROR:
                self._error = value
            else:
                self._is_ready = True

    def fault(self) -> "Fault":
        """Return the fault of the recording that the child was at when it died.

        Raises
        ------
        OSError
            If no recording is to blame; StorageError if S3 cannot be used.

        """
        from mimii.features.loading import Fault  # noqa: PLC0415  a child that reads headers starts without SciPy

        status = self._process.wait()
        kind, text = self._error
        if kind == StorageError.__name__:
            raise StorageError(text)
        if kind or not self._is_ready:
            last = "".join(f", {line}" for line in _text(self._said).splitlines()[-1:])
            why = f"{kind}: {text}" if kind else f"its exit status was {status}{last}"
            msg = f"cannot read recordings in a process of its own: {why}"
            raise OSError(msg)
        if status == -signal.SIGKILL:
            return Fault(_KILLED_FOR_MEMORY, unread=True)
        how = signal.Signals(-status).name if status < 0 else f"exit status {status}"
        return Fault(_KILLED.format(how=how))


@contextmanager
def start_child(module: str, request: object) -> Iterator[Child]:
    """Run a module in a child, which calls `serve`; it is killed in the end, if it still runs."""
    # The child is to have the same code, and none of the working directory that this process does not have.
    import_path = filter(None, [os.environ.get("PYTHONPATH"), *(entry or os.getcwd() for entry in sys.path)])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(import_path)}
    with (
        _memory_file() as said,
        subprocess.Popen(  # noqa: S603  a module of this project
            [sys.executable, "-P", "-m", module],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=said,
            env=environment,
            process_group=0,  # Ctrl-C in a terminal is for its parent
        ) as process,
    ):
        try:
            _send(process, (logging.getLogger(_OURS).getEffectiveLevel(), request))
            yield Child(process, said)
        finally:
            process.kill()
            with suppress(BrokenPipeError):
                process.stdin.close()  # type: ignore[union-attr]  # it is a pipe
            process.wait()
            if text := _text(said):
                _log.debug("a process of %s said: %s", module, text)


def _send(process: subprocess.Popen[bytes], request: object) -> None:
    assert process.stdin is not None
    with suppress(BrokenPipeError):  # it has died already; its exit status says how
        process.stdin.write(pickle.dumps(request))
        process.stdin.flush()


def _memory_file() -> IO[bytes]:
    """Return a file for what a child prints: it must not appear on the terminal, and a disk may be full."""
    return open(os.memfd_create("said"), "w+b") if hasattr(os, "memfd_create") else tempfile.TemporaryFile()


def _text(said: IO[bytes]) -> str:
    said.seek(0)
    return said.read(_MOST_SAID).decode(errors="replace").strip()


def serve(work: Callable[[Any, Report], None]) -> None:
    """Do in a child what its parent requests; `work` has the request, and what sends reports."""
    parent, lock = os.fdopen(os.dup(sys.stdout.fileno()), "wb", buffering=0), threading.Lock()
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not for the parent

    def send(kind: str, value: object) -> None:
        with lock:
            parent.write(json.dumps([kind, value]).encode() + b"\n")

    level, request = pickle.load(sys.stdin.buffer)  # noqa: S301  from the parent process
    threading.Thread(target=_end_with_parent, daemon=True).start()
    logging.getLogger(_OURS).addHandler(_Forwarding(lambda record: send(_LOG, record)))
    logging.getLogger(_OURS).setLevel(level)
    try:
        send(_READY, None)
        work(request, lambda value: send(_REPORT, value))
    except BrokenPipeError:  # the parent was killed: nobody waits for reports
        os._exit(1)
    except Exception as error:
        send(_ERROR, [type(error).__name__, str(error)])
        raise


def _end_with_parent() -> None:
    """Wait until the parent closes the pipe or is gone, and exit at once."""
    while os.read(sys.stdin.fileno(), 1):
        pass
    os._exit(1)


class _Forwarding(logging.Handler):
    """Gives records of the log to the parent."""

    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        """Send name, level and message."""
        self._send([record.name, record.levelno, record.getMessage()])
