"""What all commands share: how they begin, how errors are said, how they end."""

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from io import TextIOWrapper

from mimii import detection, engine, features, recordings

OK, FAILED, USAGE, BAD_CLIPS, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_STATUS = """\
exit status: 0 all good, or no more bad clips than --max-bad; 1 failed; 2 wrong usage; 3 finished, with more bad clips
than --max-bad; 130 interrupted."""


def run_command(name: str, options: argparse.Namespace, body: Callable[[argparse.Namespace], int]) -> int:
    """Run what a command does and return the exit status; errors are said in words."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.basicConfig(level=logging.ERROR if options.quiet else logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return body(options)
    except (
        *(recordings.SourceError, features.SpecError, engine.StoreError, engine.SchedulerError),
        detection.LearningError,
    ) as error:
        return fail(name, USAGE, str(error))
    except BrokenPipeError:  # the reader of the output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (engine.WorkError, engine.UnfinishedError, OSError) as error:
        return fail(name, FAILED, f"{error}\nWhen that is fixed, run the same command again: finished work is kept.")
    except KeyboardInterrupt:
        return fail(name, INTERRUPTED, "interrupted. Finished work is kept: run the same command again to resume.")


def fail(name: str, status: int, message: str) -> int:
    """Say what went wrong; return the status."""
    print(f"{name}: {message}", file=sys.stderr)
    return status


def _interrupt(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
