"""A job in this process, in a thread of its own or with something that happens meanwhile."""

import io
import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path

from mimii.engine import interrupts
from tests.helpers.commands import record_numbers, run_here, wait_for


class JobHere:
    """A job in a thread of this process, under way: a second or two less than a process of its own."""

    def __init__(self, module: str, raw: Path, output: Path, *arguments: object) -> None:
        self._said, self._status, self._output = io.StringIO(), Future[int](), output
        self._words = (module, raw, "--output", output, *arguments)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._status.set_result(run_here(*self._words, said=self._said).returncode)
        except BaseException as error:  # noqa: BLE001  raised again by who waits for the end
            self._status.set_exception(error)

    def text(self) -> str:
        return self._said.getvalue()

    def n_done(self) -> int:
        return len(record_numbers(self._output))

    def ended(self) -> bool:
        return self._status.done()

    def wait_for(self, condition: Callable[[], object], what: str) -> object:
        """Wait until something is true while it runs."""

        def check() -> object:
            assert not self.ended(), self.text()
            return condition()

        return wait_for(check, what)

    def end(self) -> int:
        """Wait for the end; what it said must be words."""
        status = self._status.result()
        assert "Traceback" not in self.text(), self.text()
        assert "distributed." not in self.text(), self.text()
        return status

    def stop(self) -> None:
        """Let it end as with an interrupt, where a test has failed before its end."""
        while not self.ended():
            interrupts._received.append((signal.SIGINT, time.monotonic()))
            self._thread.join(0.1)
            interrupts._received.clear()


@contextmanager
def job_here(module: str, raw: Path, output: Path, *arguments: object) -> Iterator[JobHere]:
    """Run a job in a thread; it has ended when this block ends."""
    started = JobHere(module, raw, output, *arguments)
    try:
        yield started
    finally:
        started.stop()


def interrupt_when(words: str, module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run a job in this thread, and send this process what Ctrl-C sends as soon as the job says some words."""
    said, has_ended = io.StringIO(), threading.Event()

    def interrupt() -> None:
        wait_for(lambda: words in said.getvalue() or has_ended.is_set(), words)
        if not has_ended.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt, daemon=True)
    thread.start()
    try:
        return run_here(module, *arguments, said=said)
    finally:
        has_ended.set()
        thread.join()
