"""What all jobs over recordings do alike: plan, refuse or resume, spread the tasks, sum up, end with a status.

A job says what is special about it in a `Job`, a table of functions; `run_command` does the rest.
"""

import argparse
import logging
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import chain
from typing import Any, Generic, Protocol, TypeVar

from jobs.options import SHORT_TIMEOUT, open_output, read_options_of, where_to_run
from jobs.progress import watch
from jobs.report import Run, describe_plan, describe_run, numbered, summarize
from jobs.survey import Survey, read_survey, source_names
from mimii.engine import (
    TASKS_FAR_AWAY,
    Cluster,
    Done,
    Existing,
    LostError,
    Record,
    SchedulerError,
    StoreError,
    UnfinishedError,
    Where,
    Work,
    WorkError,
    connect,
    deferred_interrupts,
    run_tasks,
    until_interrupted,
    without_killers,
)
from mimii.features import SpecError, Task
from mimii.recordings import Catalogue, SourceError
from mimii.storage import Objects, ReadOptions, is_remote

OK, FAILED, USAGE, BAD_CLIPS, INTERRUPTED = 0, 1, 2, 3, 130
EXIT_STATUS = """\
exit status: 0 all good, or no more bad clips than --max-bad; 1 failed; 2 wrong usage; 3 finished, with more bad clips
than --max-bad; 130 interrupted."""

_MOST_IN_VAIN = 3
_log = logging.getLogger(__name__)

AnyWork = TypeVar("AnyWork", bound=Work)
AnyWork_contra = TypeVar("AnyWork_contra", bound=Work, contravariant=True)
AnyTask = TypeVar("AnyTask", bound=Task)


class Storage(Protocol[AnyWork_contra]):
    """How results are kept: `mimii.table.store` and `mimii.albums` are such modules; see there."""

    def look(self, objects: Objects) -> Existing | None:
        """Look at what is at the output."""
        ...

    def differences(self, existing: Existing, work: AnyWork_contra, objects: Objects) -> list[str]:
        """Say how what is at the output differs from the work."""
        ...

    def begin(self, objects: Objects, work: AnyWork_contra, sources: Sequence[str]) -> None:
        """Write all that is known before the work."""
        ...

    def is_finished(
        self, objects: Objects, existing: Existing | None, work: AnyWork_contra, done: Mapping[int, Record]
    ) -> bool:
        """Say whether an output is whole."""
        ...

    def read_records(self, objects: Objects, work: AnyWork_contra) -> dict[int, Record]:
        """Read the records that are valid."""
        ...

    def erase(self, objects: Objects) -> None:
        """Delete what is at the output."""
        ...


def nothing_to_check(*_: object) -> int:
    """Find all good."""
    return OK


@dataclass(frozen=True, slots=True)
class Job(Generic[AnyWork, AnyTask]):
    """What is special about a job.

    Attributes
    ----------
    name : str
        Of the command.
    things : str
        What one task makes, for people: ``"shard"``.
    kernel : callable
        What workers do with a task.
    plan : callable
        From the options and the clips to the work.
    task : callable
        From the work, the number of a task, the output and the reach to what a worker needs to know.
    storage : module
        How the results are kept.
    finish : callable
        From the options, the output and the work: write what comes last; return all records.
    plan_lines, run_lines : callable
        What to tell before and after the work, by name, beyond what is told of every job.
    opening : callable
        From the work and the output: how to go on from here, for people.
    check_plan, check : callable
        Look at the plan, or at what is at the output in the end, and return a status.

    """

    name: str
    things: str
    kernel: Callable[[AnyTask], Done]
    plan: Callable[[argparse.Namespace, Catalogue], AnyWork]
    task: Callable[[AnyWork, int, Objects, ReadOptions], AnyTask]
    storage: Storage[AnyWork]
    finish: Callable[[argparse.Namespace, Objects, AnyWork], dict[int, Record]]
    plan_lines: Callable[[AnyWork], dict[str, str]]
    run_lines: Callable[[AnyWork, Run], dict[str, str]]
    opening: Callable[[AnyWork, str], str]
    check_plan: Callable[[argparse.Namespace, AnyWork], int] = nothing_to_check
    check: Callable[[argparse.Namespace, AnyWork, Objects, Mapping[int, Record]], int] = nothing_to_check


def run_command(name: str, options: argparse.Namespace, body: Callable[[], int]) -> int:
    """Do what a command does; whatever goes wrong is said in words and with a status."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text
    logging.basicConfig(level=logging.ERROR if options.quiet else logging.WARNING, format="%(levelname)s: %(message)s")
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return body()
    except (SourceError, SpecError, StoreError, SchedulerError) as error:
        return fail(name, USAGE, str(error))
    except BrokenPipeError:  # whoever read the output has had enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except (WorkError, UnfinishedError, OSError) as error:
        return fail(
            name, FAILED, f"{error}\nWhen that is mended, run the same command again: what is finished is kept."
        )
    except KeyboardInterrupt:
        return fail(name, INTERRUPTED, "interrupted. What is finished is kept: run the same command again to go on.")


def fail(name: str, status: int, message: str) -> int:
    """Say what went wrong; return the status."""
    print(f"{name}: {message}", file=sys.stderr)
    return status


def run_job(job: Job[AnyWork, AnyTask], options: argparse.Namespace) -> int:
    """Do what is missing at the output, or with ``--dry-run`` say what would be done."""
    started = time.monotonic()
    where_to_run(options, 1, 1)  # refuses options that contradict each other
    output = open_output(options)
    existing = job.storage.look(open_output(options, SHORT_TIMEOUT))  # so that nobody waits for a refusal
    survey = read_survey(options)
    work = job.plan(options, survey.catalogue)
    if options.dry_run:
        print(
            describe_plan(work, survey, job.plan_lines(work)), _describe_output(job, options, existing, work), sep="\n"
        )
        return job.check_plan(options, work)
    if _is_in_the_way(job, options, existing, work):
        job.storage.erase(output)
        existing = None
    done = job.storage.read_records(output, work)
    todo = [task for task in range(work.n_tasks) if task not in done or done[task].unread]
    if todo or not job.storage.is_finished(output, existing, work, done):
        open_output(options, SHORT_TIMEOUT).check()
        job.storage.begin(output, work, source_names(options))
        _fill(job, options, work, todo)
        done = job.finish(options, output, work)
    status = _conclude(job, options, survey, work, (done, todo, time.monotonic() - started))
    return job.check(options, work, output, done) or status


def _conclude(
    job: Job[AnyWork, Any],
    options: argparse.Namespace,
    survey: Survey,
    work: AnyWork,
    outcome: tuple[dict[int, Record], list[int], float],
) -> int:
    """Sum up, and say whether too many clips are bad."""
    run = summarize(work, options.output, *outcome)
    if not options.quiet:
        print(describe_run(work, survey, run, job.run_lines(work, run)))
        print(f"\n{job.opening(work, run.output)}")
    if len(run.bad) <= options.max_bad(len(work.catalogue.clips)):
        return OK
    clips = numbered(len(work.catalogue.clips), "clip")
    return fail(job.name, BAD_CLIPS, f"{len(run.bad):,} of {clips} cannot be used, which is more than --max-bad admits")


def _describe_output(
    job: Job[AnyWork, Any], options: argparse.Namespace, existing: Existing | None, work: AnyWork
) -> str:
    if existing is None:
        return f"output    {options.output}, where nothing is yet"
    output = open_output(options)
    if job.storage.differences(existing, work, output):
        fate = "would be deleted" if options.overwrite else "would be refused without --overwrite"
        return f"output    {options.output}, which holds another {existing.kind}: {fate}"
    n_done = len(job.storage.read_records(output, work))
    return f"output    {options.output}, where {n_done:,} of {numbered(work.n_tasks, job.things)} are there already"


def _is_in_the_way(
    job: Job[AnyWork, Any], options: argparse.Namespace, existing: Existing | None, work: AnyWork
) -> bool:
    """Say whether what is at the output is to be deleted; refuse other results that are not."""
    changes = job.storage.differences(existing, work, open_output(options)) if existing else []
    if existing and changes and not options.overwrite:
        listed = "\n  ".join(changes)
        msg = (
            f"{options.output} holds another {existing.kind}; choose another --output, or delete it with --overwrite:\n"
            f"  {listed}"
        )
        raise StoreError(msg)
    return bool(changes)


def _fill(job: Job[AnyWork, AnyTask], options: argparse.Namespace, work: AnyWork, todo: Sequence[int]) -> None:
    """Do the tasks that are missing."""
    if not todo:
        return
    where = where_to_run(options, len(todo), _tasks_a_worker(options, work))
    with deferred_interrupts() as interrupts:
        results = until_interrupted(_do_all(job, options, work, todo, where), interrupts)
        for _ in _watch(results, work, todo, quiet=options.quiet):
            pass


def _do_all(
    job: Job[AnyWork, AnyTask], options: argparse.Namespace, work: AnyWork, todo: Sequence[int], where: Where
) -> Iterator[Done]:
    """Do tasks; where the scheduler is lost, connect again and do those that have no record yet."""
    left, lost, n_in_vain = dict.fromkeys(todo), False, 0
    while left:
        try:
            with connect(where) as cluster:
                meanwhile = _done_meanwhile(job, options, work, left) if lost else []
                for done in chain(meanwhile, _do_some(job, options, work, left, cluster)):
                    del left[done.task]
                    n_in_vain = 0
                    yield done
        except LostError as error:
            lost, n_in_vain = True, n_in_vain + 1
            if n_in_vain == _MOST_IN_VAIN:
                raise
            _log.warning("%s; connecting again", error)


def _done_meanwhile(
    job: Job[AnyWork, AnyTask], options: argparse.Namespace, work: AnyWork, left: Iterable[int]
) -> list[Done]:
    """Find tasks that have ended without word of it: workers finish what they are at when their scheduler dies."""
    records = job.storage.read_records(open_output(options), work)
    ended = [task for task in left if task in records and not records[task].unread]
    return [Done(task, work.n_ended(task), records[task].size, records[task].bad) for task in ended]


def _do_some(
    job: Job[AnyWork, AnyTask], options: argparse.Namespace, work: AnyWork, left: Iterable[int], cluster: Cluster
) -> Iterator[Done]:
    """Do tasks, as long as the scheduler is there."""
    output, read_options, todo = open_output(options), read_options_of(options), list(left)
    tasks = (job.task(work, task, output, read_options) for task in todo)
    if todo and not options.quiet:
        dashboard = f", dashboard {cluster.dashboard}" if cluster.dashboard else ""
        things, workers = numbered(len(todo), job.things), numbered(cluster.n_workers, "worker")
        print(f"{things} on {workers}{dashboard}", file=sys.stderr)
    yield from run_tasks(cluster, job.kernel, tasks, without_killers)


def _tasks_a_worker(options: argparse.Namespace, work: Work) -> int:
    far = is_remote(options.output) or any(is_remote(clip.place.url) for clip in work.catalogue.clips)
    return TASKS_FAR_AWAY if far else 1


def _watch(done: Iterator[Done], work: Work, todo: Sequence[int], *, quiet: bool) -> Iterator[Done]:
    if quiet:
        return done
    n_clips = sum(work.n_ended(task) for task in todo)
    n_bad = sum(map(bool, work.catalogue.problems))
    return watch(done, n_clips, n_bad)


def _interrupt(_signal_number: int, _frame: object) -> None:
    raise KeyboardInterrupt
