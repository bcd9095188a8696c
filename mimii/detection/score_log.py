"""Scores of recordings that are kept, so that each is scored once: ``scores.csv`` and ``events.csv`` at an output.

A line of ``scores.csv`` says that a clip of a recording, in a version of it, has been scored. Events are written first:
where a run is stopped in between, the next one scores the same recordings again and replaces what is there of them.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from mimii.detection.documents import EVENTS, FINDINGS_HEAD, SCORES, write_csv
from mimii.detection.new_recordings import (
    EVENT_COLUMNS,
    NO_MODEL,
    Models,
    ScoreReport,
    Scoring,
    score_found,
    version_of,
)
from mimii.engine import LEASE, LeaseHolder, StoreError, hold
from mimii.features import FeatureSpec
from mimii.recordings import Clip
from mimii.storage import Objects, absolute, as_unicode

_MOST_CLIPS, _MOST_SECONDS = 5000, 50 * 3600.0


@dataclass(frozen=True, slots=True)
class ScoreLog:
    """Scores at an output.

    Attributes
    ----------
    objects : Objects
        Where they are.
    lease : LeaseHolder
        That of this run.
    lines, event_lines : tuple of dict
        What is there: a line for each clip, and for each event.

    """

    objects: Objects
    lease: LeaseHolder
    lines: tuple[Mapping[str, Any], ...] = ()
    event_lines: tuple[Mapping[str, Any], ...] = ()

    def left(self, clips: Sequence[Clip]) -> list[Clip]:
        """Return the clips that have not been scored in their version; those without a model are tried again."""
        done = {_key(line) for line in self.lines if line["status"] != NO_MODEL}
        return [clip for clip in clips if (absolute(as_unicode(clip.path)), version_of(clip)) not in done]

    def news(self, report: ScoreReport) -> ScoreReport:
        """Return a report without recordings that had no model before, either."""
        known = {_key(line) for line in self.lines}
        lines = tuple(line for line in report.lines if line["status"] != NO_MODEL or _key(line) not in known)
        return ScoreReport(lines, report.event_lines)

    def add(self, report: ScoreReport) -> "ScoreLog":
        """Write what was found, in place of what was there of the same recordings.

        Recordings that the disk or the network kept from being read are left out; the next run tries them again.
        """
        retried = {report.lines[place]["path"] for place in report.retried}
        kept = [line for line in report.lines if line["path"] not in retried]
        paths = {absolute(line["path"]) for line in kept}
        before = (line for line in self.event_lines if absolute(line["recording"]) not in paths)
        of_kept = (line for line in report.event_lines if absolute(line["recording"]) in paths)
        events = (*before, *of_kept)
        lines = (*(line for line in self.lines if absolute(line["path"]) not in paths), *kept)
        self.lease.check()
        self.objects.put(EVENTS, write_csv(events, EVENT_COLUMNS))
        self.objects.put(SCORES, write_csv(lines))
        return ScoreLog(self.objects, self.lease, lines, events)


def score_into(log: ScoreLog, clips: Sequence[Clip], models: Models, spec: FeatureSpec, how: Scoring) -> ScoreReport:
    """Score what a log does not have yet, and add it some thousand clips at a time; return what was found now."""
    lines, event_lines = list[dict[str, Any]](), list[dict[str, Any]]()
    for some in _some_at_a_time(log.left(clips)):
        report = score_found(some, models, spec, how)
        news, log = log.news(report), log.add(report)
        lines += news.lines
        event_lines += news.event_lines
    return ScoreReport(tuple(lines), tuple(event_lines))


def score_anew(log: ScoreLog, clips: Sequence[Clip], models: Models, spec: FeatureSpec, how: Scoring) -> ScoreReport:
    """Score all clips and write that in the end: until then, what was there stays."""
    report = score_found(clips, models, spec, how)
    log.add(report)
    return report


def _key(line: Mapping[str, Any]) -> tuple[str, str]:
    return absolute(line["path"]), line["version"]


def _some_at_a_time(clips: Sequence[Clip]) -> Iterator[list[Clip]]:
    """Yield some recordings at a time: as many as may be scored again after a kill."""
    some, seconds = list[Clip](), 0.0
    for clip in clips:
        header = clip.header
        some.append(clip)
        seconds += header.n_samples / header.sample_rate if header and header.sample_rate else 0.0
        if len(some) >= _MOST_CLIPS or seconds >= _MOST_SECONDS:
            yield some
            some, seconds = [], 0.0
    if some:
        yield some


@contextmanager
def open_log(objects: Objects, *, update: bool = False, overwrite: bool = False) -> Iterator[ScoreLog]:
    """Open the scores at an output for one run at a time.

    Raises StoreError where scores are there and are neither to be added to nor to be replaced, where something else is
    there, and where another run adds to them at the moment.
    """
    _refuse(objects, may_have_scores=update or overwrite)
    objects.check()
    with hold(objects, uuid4().hex) as lease:
        _refuse(objects, may_have_scores=update or overwrite)  # another run may have finished since
        yield _read(objects, lease) if update else ScoreLog(objects, lease)


def _refuse(objects: Objects, *, may_have_scores: bool) -> None:
    """Raise StoreError where something else is there, or scores that are neither added to nor replaced."""
    names = [name for name in objects.names() if not name.startswith((LEASE, "."))]
    if FINDINGS_HEAD.key in names:
        msg = f"{objects.root} has results of jobs.detect, which are left alone; choose another --output"
        raise StoreError(msg)
    if names and SCORES not in names and EVENTS not in names:
        msg = (
            f"{objects.root} has files that are not scores, such as {names[0]}, which are left alone; choose another "
            "--output"
        )
        raise StoreError(msg)
    if SCORES in names and not may_have_scores:
        msg = f"{objects.root} has scores already; add to them with --update, or replace them with --overwrite"
        raise StoreError(msg)


def _read(objects: Objects, lease: LeaseHolder) -> ScoreLog:
    needed = {SCORES: ("path", "version", "status"), EVENTS: EVENT_COLUMNS}
    found = {name: _read_csv(objects.get(name) or b"", columns) for name, columns in needed.items()}
    if damaged := [name for name, lines in found.items() if lines is None]:
        msg = f"{objects.root}/{damaged[0]}: damaged, or not written by jobs.score; replace all scores with --overwrite"
        raise StoreError(msg)
    return ScoreLog(objects, lease, tuple(found[SCORES] or ()), tuple(found[EVENTS] or ()))


def _read_csv(data: bytes, columns: Sequence[str]) -> list[dict[str, Any]] | None:
    """Read lines; None where one is damaged."""
    try:
        lines = list(csv.DictReader(io.StringIO(data.decode("utf-8"))))
    except (csv.Error, UnicodeDecodeError):
        return None
    return None if any(line.get(column) is None for line in lines for column in columns) else lines
