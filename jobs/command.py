"""What all commands share: how they begin, how errors are said, how they end."""

import argparse
import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from io import TextIOWrapper

from jobs.process import INTERRUPTED, IS_COMMAND, conclude, exit_at_interrupts, status_of
from mimii import detection, engine, features, recordings

OK, FAILED, USAGE, BAD_CLIPS, ALARM = 0, 1, 2, 3, 4
_STANDARD_STREAMS = 3
_LEAST_ADDRESSES = 384 << 20
"""Of a job in one process. With less, OpenBLAS may ask for memory for ever when it is loaded."""

EXIT_STATUS = f"""\
exit status: 0 all good, or no more bad clips than --max-bad; 1 failed; 2 wrong usage; 3 finished, with more bad clips
than --max-bad; {INTERRUPTED}."""


class ConfigurationError(ValueError):
    """The user's configuration of Dask cannot be read; the message names the file."""


def run_command(name: str, options: argparse.Namespace, body: Callable[[argparse.Namespace], int]) -> int:
    """Run what a command does and return the exit status; errors are said in words."""
    _open_streams()
    logging.basicConfig(level=logging.ERROR if options.quiet else logging.WARNING, format="%(levelname)s: %(message)s")
    if not IS_COMMAND and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    too_little = _too_few_addresses()
    status = fail(name, FAILED, too_little) if too_little else _conclude(name, options, body)
    conclude(status)  # all is done and said
    return status


def _conclude(name: str, options: argparse.Namespace, body: Callable[[argparse.Namespace], int]) -> int:
    """Run the body and flush the output; say errors in words."""
    try:
        status = _run(body, options)
        sys.stdout.flush()
    except KeyboardInterrupt as interrupt:  # the first two to be compared: what the others name imports Dask
        return interrupted(name, interrupt, "Finished work is kept: run the same command again to resume.")
    except ConfigurationError as error:
        return fail(name, USAGE, str(error))
    except (
        *(recordings.SourceError, features.SpecError, engine.StoreError, engine.SchedulerError),
        detection.LearningError,
    ) as error:
        may_succeed_later = isinstance(error, engine.BusyError)
        return fail(name, FAILED if may_succeed_later else USAGE, str(error))
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (engine.WorkError, engine.UnfinishedError, OSError) as error:
        return fail(name, FAILED, f"{error}\nWhen that is fixed, run the same command again: finished work is kept.")
    return status


def _too_few_addresses() -> str:
    """Return what is wrong where a job would not even start; empty where it would."""
    with suppress(ImportError):  # Windows has no such limits
        import resource

        most = resource.getrlimit(resource.RLIMIT_AS)[0]
        if 0 <= most < _LEAST_ADDRESSES:
            need = _LEAST_ADDRESSES >> 20
            return f"a job needs {need} MiB of address space at least, and ulimit -v grants {most >> 20} MiB: raise it"
    return ""


def _open_streams() -> None:
    """Have standard streams that take any name: services and pythonw have none, and closed ones fail."""
    while (opened := os.open(os.devnull, os.O_RDWR)) < _STANDARD_STREAMS:  # what is opened next would be taken for one
        pass
    os.close(opened)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or stream.closed:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115  for the rest of the process
        elif isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text


def _run(body: Callable[[argparse.Namespace], int], options: argparse.Namespace) -> int:
    try:
        return body(options)
    except ValueError as error:  # raised while Dask is imported
        if not str(error).startswith("A dask config file"):
            raise
        raise ConfigurationError(" ".join(str(error).split())) from None


def interrupted(name: str, interrupt: KeyboardInterrupt, what: str) -> int:
    """Say that the command was interrupted and what that means; return the status. A command says nothing after it."""
    status = status_of(interrupt)
    exit_at_interrupts(status, "")
    with suppress(OSError):  # the terminal may be gone
        fail(name, status, f"interrupted. {what}")
    if IS_COMMAND:  # Dask closes at exit what a second interrupt has left open, with a log and tracebacks
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return status


def fail(name: str, status: int, message: str) -> int:
    """Say what went wrong; return the status."""
    print(f"{name}: {message}", file=sys.stderr)
    return status
