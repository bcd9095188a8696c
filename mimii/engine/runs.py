"""A run: compare the plan with the records at the output, do what is missing, write what comes last.

Featurize, render and detect are runs; score and verify have no output and use `do_tasks` alone. Where the scheduler is
lost, both connect again.
"""

import logging
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Protocol

from distributed import Client

from mimii.engine.cluster import Cluster, LostError, connect
from mimii.engine.elsewhere import check_cluster_file
from mimii.engine.interrupts import check_interrupts, deferred_interrupts
from mimii.engine.lease import LeaseHolder, hold
from mimii.engine.outputs import (
    Existing,
    Found,
    Output,
    StoreError,
    begin,
    erase,
    find_records,
    finish,
    look,
    read_new_records,
    read_records,
)
from mimii.engine.partitions import Known, compute
from mimii.engine.pipeline import Pipeline
from mimii.engine.records import Record
from mimii.engine.schedulers import Where, check_scheduler, fit_to_tasks, is_cluster_file
from mimii.storage import SHORT_TIMEOUT, with_timeout

Scheduler = Where | Client | None
"""Where tasks run: what ``--scheduler`` says, a client of Dask, or this process."""

SECONDS_FOR_READERS = 5.0
"""How long what was replaced stays, for those who opened it a moment before."""

_SECONDS_BETWEEN_CHECKS = 0.1
_GOLDEN_RATIO = 0.618
"""Multiples of it, without their whole part, are spread over the interval from 0 to 1, however many there are."""

_LOOKED_AT_ONCE = 4
"""For records of how many tasks is looked at a time, where another run is at the same output: those sent next."""

_MOST_LOOKED_AT_ONCE = 64
"""The same, where all that were looked for were there."""

_MOST_LOSSES = 3
"""How often the scheduler may be lost with no result in between."""

_log = logging.getLogger(__name__)


class Progress(Protocol):
    """What is shown of a run while it lasts."""

    def start(self, n_tasks: int, n_clips: int, cluster: Cluster) -> None:
        """Take note that so many tasks begin, over so many clips; again after each connection."""
        ...

    def advance(self, n_clips: int, bad: Iterable[int]) -> None:
        """Take note that so many clips are finished, and which turned out to be bad."""
        ...

    def end(self) -> None:
        """Take note that all is done, or has failed."""
        ...


class Silent:
    """Shows nothing."""

    def start(self, n_tasks: int, n_clips: int, cluster: Cluster) -> None:
        """Show nothing."""

    def advance(self, n_clips: int, bad: Iterable[int]) -> None:
        """Show nothing."""

    def end(self) -> None:
        """Show nothing."""


SILENT = Silent()


@dataclass(frozen=True, slots=True)
class Run:
    """What a run did.

    Attributes
    ----------
    location : str
        Where the results are.
    computed : tuple of int
        The tasks that were done now.
    records : dict of int to Record
        Those of all tasks.
    bad : dict of int to str
        Clips that turned out to be unreadable, and why; not those that were taken out.
    seconds : float
        How long it took.

    """

    location: str
    computed: tuple[int, ...]
    records: Mapping[int, Record] = field(repr=False)
    bad: Mapping[int, str] = field(repr=False)
    seconds: float

    def __fspath__(self) -> str:
        """Return where the results are: a run stands for them wherever a location is wanted."""
        return self.location

    @property
    def n_bytes(self) -> int:
        """Bytes that all tasks have written."""
        return sum(record.size for record in self.records.values())


def run(output: Output, where: Scheduler = None, *, overwrite: bool = False, progress: Progress = SILENT) -> Run:
    """Do what is missing at an output, and finish it.

    Raises StoreError where other results are there, unless they are to be overwritten; WorkError where the work
    cannot be finished; OSError where the output cannot be written.
    """
    started = time.monotonic()
    if isinstance(where, Where):
        check_scheduler(where.scheduler)  # before anything is erased
        if is_cluster_file(where.scheduler):
            check_cluster_file(where.scheduler)
    while (done := _run_once(output, where, progress, overwrite=overwrite)) is None:
        pass
    todo, records = done
    bad = {clip: record.bad[clip] for record in records.values() for clip in output.bad_clips(record)}
    return Run(output.objects.root, tuple(todo), records, bad, time.monotonic() - started)


def _run_once(
    output: Output, where: Scheduler, progress: Progress, *, overwrite: bool
) -> tuple[list[int], dict[int, Record]] | None:
    """Do what is missing; None where another run has changed the output before this one had its lease."""
    existing = _look(output, overwrite=overwrite)
    is_other = existing is not None and bool(output.differences(existing))
    as_stored = with_timeout(output.objects, SHORT_TIMEOUT)  # by other keys, a head may say something else
    aside = output.beside(existing) if existing and is_other and existing.finished else None
    output = aside or output.at(existing)
    found, is_whole = compare(output, None if is_other and not aside else existing)
    records, todo = found.records, find_tasks(output, found.records)
    if is_whole and not todo:
        return todo, records
    near = with_timeout(output.objects, SHORT_TIMEOUT)
    near.check()
    with hold(near, output.purpose) as lease:
        if lease.had_rivals or look(as_stored, output.head) != existing:
            return None
        if is_other and not aside:
            erase(output)
            existing = None
        if existing is None or not existing.finished:  # what is finished stays readable meanwhile
            begin(output)
        output = output.recall(todo, found.sizes) if todo else output
        done, theirs = _do(output, todo, found, where, progress, lease)
        records |= done
        lease.check()
        sizes = finish(output, dict(sorted(records.items())), existing)
        _delete_replaced(output, output.find_replaced(sizes), has_readers=aside is not None)
    near.delete_partial()  # once more: a lease is put anew until it is given back
    return [task for task in todo if task not in theirs], records


def _delete_replaced(output: Output, keys: Sequence[str], *, has_readers: bool) -> None:
    """Delete what has been replaced, once those who have just begun to read it have had a moment."""
    if not keys:
        return
    deadline = time.monotonic() + SECONDS_FOR_READERS
    with deferred_interrupts():
        while has_readers and time.monotonic() < deadline:
            check_interrupts()
            time.sleep(_SECONDS_BETWEEN_CHECKS)
    output.delete_replaced(keys)


def find_tasks(output: Output, records: Mapping[int, Record]) -> list[int]:
    """Return the tasks that are to be done: without a valid record, or with clips to be read again."""
    return [task for task in range(output.n_tasks) if task not in records or output.can_retry(records[task])]


def compare(output: Output, existing: Existing | None) -> tuple[Found, bool]:
    """Return the records at an output, and whether all is there."""
    if existing is None:
        return Found({}, {}), False
    found = find_records(output)
    is_whole = existing.finished and len(found.records) == output.n_tasks
    return found, is_whole and output.is_whole(existing, found.records, found.sizes)


def _look(output: Output, *, overwrite: bool) -> Existing | None:
    """Return what is at an output; StoreError where these are other results, unless they are to be overwritten."""
    existing = look(with_timeout(output.objects, SHORT_TIMEOUT), output.head)
    if existing is None or overwrite or not (changes := output.differences(existing)):
        return existing
    listed = "\n  ".join(changes)
    msg = (
        f"{output.objects.root} holds another {existing.kind}; choose another --output, or replace it with "
        f"--overwrite:\n  {listed}"
    )
    raise StoreError(msg)


def _do(
    output: Output,
    todo: Sequence[int],
    found: Found,
    where: Scheduler,
    progress: Progress,
    lease: LeaseHolder,
) -> tuple[dict[int, Record], set[int]]:
    """Do the tasks that are missing; return their records, and which of them other runs have done meanwhile."""
    records, sent, theirs = dict[int, Record](), set[int](), set[int]()

    def make_task(task: int) -> Any:  # noqa: ANN401  each output has tasks of its own type
        sent.add(task)
        return output.task(task, found.former.get(task))

    def recorded(left: Sequence[int]) -> Iterator[tuple[int, Record]]:
        there = read_records(output)
        new = {task: there[task] for task in left if task in there and not output.can_retry(there[task])}
        theirs.update(new.keys() - sent)
        yield from new.items()

    def appeared(some: Sequence[int]) -> Iterator[tuple[int, Record]]:
        new = dict(read_new_records(output, some, found.sizes)) if lease.has_company else {}
        theirs.update(new.keys() - sent)  # workers finish what they were sent when their scheduler is lost
        yield from new.items()

    work = Work(make_task, output.pipeline, output.is_remote, output.n_clips, output.bad_clips, recorded, appeared)
    for task, record in do_tasks(work, _in_order(todo, lease.rank()), where, progress):
        lease.check()
        records[task] = record
    return records, theirs


def _in_order(todo: Sequence[int], rank: int) -> Sequence[int]:
    """Return tasks in another order for each of several runs at one output: they meet late, and skip what is done."""
    if rank == 1:
        return todo[::-1]
    first = int(len(todo) * (rank * _GOLDEN_RATIO % 1))
    return [*todo[first:], *todo[:first]]


def _nothing_recorded(_left: Sequence[int]) -> Iterator[tuple[int, Any]]:
    return iter(())


def _bad_clips(record: Record) -> Iterable[int]:
    return record.bad


@dataclass(frozen=True, slots=True)
class Work:
    """Tasks by number, and what is mapped over them.

    Attributes
    ----------
    make_task : callable
        From the number of a task to all that a worker needs to know.
    pipeline : Pipeline
        What is mapped over them.
    is_remote : bool
        Whether tasks wait for a network: then each worker has several under way.
    n_clips : callable
        From the number of a task to how many clips are finished with it.
    bad_clips : callable
        From a result to the clips that turned out to be bad.
    recorded : callable
        From the numbers of tasks to those that are recorded as done, with their results: workers finish what they
        have begun when their scheduler is lost.
    appeared : callable
        The same of tasks that are about to be sent, where another run may have done them meanwhile.

    """

    make_task: Callable[[int], Any]
    pipeline: Pipeline
    is_remote: bool
    n_clips: Callable[[int], int]
    bad_clips: Callable[[Any], Iterable[int]] = _bad_clips
    recorded: Callable[[Sequence[int]], Iterator[tuple[int, Any]]] = _nothing_recorded
    appeared: Callable[[Sequence[int]], Iterator[tuple[int, Any]]] = _nothing_recorded


def do_tasks(
    work: Work, todo: Sequence[int], where: Scheduler, progress: Progress = SILENT
) -> Iterator[tuple[int, Any]]:
    """Yield the number of each task and its result, as they come; connect again where the scheduler is lost.

    Ctrl-C and SIGTERM take effect between results.
    """
    left, n_losses, was_lost = dict.fromkeys(todo), 0, False
    try:
        with deferred_interrupts():
            while left:
                try:
                    with closing(_do_connected(work, left, where, progress, was_lost=was_lost)) as results:
                        for task, result in results:
                            del left[task]
                            n_losses = 0
                            progress.advance(work.n_clips(task), work.bad_clips(result))
                            yield task, result
                            check_interrupts()
                except LostError as error:
                    was_lost, n_losses = True, n_losses + 1
                    if n_losses == _MOST_LOSSES or isinstance(where, Client):
                        raise
                    _log.warning("%s; connecting again", error)
    finally:
        progress.end()


def _do_connected(
    work: Work, left: Mapping[int, None], where: Scheduler, progress: Progress, *, was_lost: bool
) -> Generator[tuple[int, Any]]:
    """Do what is left as long as the scheduler is there."""
    fitted = fit_to_tasks(where, len(left), is_remote=work.is_remote) if isinstance(where, Where) else where
    with connect(fitted) as cluster:
        if was_lost:
            yield from work.recorded(list(left))
        todo = list(left)
        if todo:
            progress.start(len(todo), sum(map(work.n_clips, todo)), cluster)
        yield from compute(cluster, work.pipeline, _with_what_is_known(work, deque(todo)))


def _with_what_is_known(work: Work, left: deque[int]) -> Iterator[tuple[int, Any]]:
    """Yield each task, or its result where it is done.

    Where many are done in a row, more of them are looked for at a time. What is not done and not sent at once is
    looked for again, as it may be done meanwhile.
    """
    n = _LOOKED_AT_ONCE
    while left:
        some = [left.popleft() for _ in range(min(n, len(left)))]
        known = dict(work.appeared(some))
        yield from ((task, Known(result)) for task, result in known.items())
        others = [task for task in some if task not in known]
        left.extendleft(reversed(others[_LOOKED_AT_ONCE:]))
        yield from ((task, work.make_task(task)) for task in others[:_LOOKED_AT_ONCE])
        n = _LOOKED_AT_ONCE if others else min(2 * n, _MOST_LOOKED_AT_ONCE)
