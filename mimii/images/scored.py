"""When recordings are unlike normal: what `jobs.score` wrote, read to label images.

``events.csv`` has the events. ``scores.csv`` beside it has every clip that was scored, also those without events.
"""

import csv
import io
import logging
import math
import os
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import NamedTuple

from mimii.recordings import ABNORMAL, GOOD, NORMAL, UNKNOWN, SourceError
from mimii.storage import DEFAULT_ACCESS, Access, open_objects

EVENTS, SCORES = "events.csv", "scores.csv"
_EVENT_COLUMNS = ("recording", "channel", "start_s", "stop_s")
_SCORE_COLUMNS = ("path", "channel", "start_s", "duration_s", "peak", "peak_threshold", "status", "version")
_MOMENT_S = 0.5
"""Events are found in windows of half a second: what is left out between two clips, and shorter, could have none."""

_log = logging.getLogger(__name__)


class Interval(NamedTuple):
    """From when to when, in seconds of a recording."""

    start_s: float
    stop_s: float


EVER = (Interval(-math.inf, math.inf),)


@dataclass(frozen=True, slots=True)
class Scored:
    """What is known of one channel of a recording: where events were looked for, and where there are some.

    The intervals are in the order of time, and no two overlap.
    """

    searched: tuple[Interval, ...]
    events: tuple[Interval, ...] = ()

    def label(self, start_s: float, stop_s: float) -> int:
        """Return the label of a block of the recording: unknown where events were not looked for in all of it."""
        if (event := _ends_after(self.events, start_s)) and event.start_s < stop_s:
            return ABNORMAL
        searched = _ends_after(self.searched, start_s)
        near = searched and searched.start_s <= start_s + _MOMENT_S and stop_s <= searched.stop_s + _MOMENT_S
        return NORMAL if near else UNKNOWN


@dataclass(frozen=True, slots=True)
class ScoredRecordings:
    """What `jobs.score` found.

    Attributes
    ----------
    place : str
        The file with the events, for messages.
    channels : mapping of str to mapping of int to Scored
        By the path that it wrote, and by channel.
    versions : mapping of str to str
        Which version of each recording was scored, where that is known.

    """

    place: str
    channels: Mapping[str, Mapping[int, Scored]]
    versions: Mapping[str, str] = field(default_factory=dict)


def read_scored(place: str, access: Access = DEFAULT_ACCESS) -> ScoredRecordings:
    """Read an ``events.csv``, or the one in a folder, and ``scores.csv`` beside it.

    Without ``scores.csv``, the recordings that have events count as scored, and no others. Raises SourceError where one
    of them is not what `jobs.score` writes; it names the file, the line and the columns.
    """
    if place.endswith("/") or os.path.isdir(place):
        place = f"{place.rstrip('/')}/{EVENTS}"
    folder, _, name = place.rpartition("/")
    beside = f"{folder}/{SCORES}" if folder else SCORES
    objects = open_objects(folder or ("/" if place.startswith("/") else "."), access)
    events, scores = objects.get(name), objects.get(SCORES)
    if events is None:
        msg = f"{place}: there is no such file; name the events.csv that jobs.score wrote"
        raise SourceError(msg)
    found = _read_events(place, events)
    if scores is not None:
        return ScoredRecordings(place, *_join(found, list(_read_scores(beside, scores))))
    _log.warning(
        "%s: there is no %s beside it, so recordings that have no events count as not scored; keep both in one folder",
        *(place, SCORES),
    )
    return ScoredRecordings(place, _by_channel({key: Scored(EVER, _merge(some)) for key, some in found.items()}))


def _ends_after(intervals: Sequence[Interval], start_s: float) -> Interval | None:
    """Return the first interval that ends after a moment."""
    index = bisect_right(intervals, start_s, key=itemgetter(1))
    return intervals[index] if index < len(intervals) else None


_Key = tuple[str, int]


class _Score(NamedTuple):
    """A clip that was scored, its version, and whether events were looked for in it."""

    key: _Key
    interval: Interval
    version: str
    is_searched: bool


def _read_events(place: str, data: bytes) -> dict[_Key, list[Interval]]:
    found = defaultdict[_Key, list[Interval]](list)
    for where, cells in _lines(place, data, _EVENT_COLUMNS):
        start_s, stop_s = (_number(where, name, cells) for name in ("start_s", "stop_s"))
        if not -math.inf < start_s <= stop_s < math.inf:
            msg = f"{where}: must be seconds with start_s at most stop_s, not {start_s:g} and {stop_s:g}"
            raise SourceError(msg)
        found[cells["recording"], _channel(where, cells)].append(Interval(start_s, stop_s))
    return found


def _read_scores(place: str, data: bytes) -> Iterator[_Score]:
    for where, cells in _lines(place, data, _SCORE_COLUMNS):
        names = ("start_s", "duration_s", "peak", "peak_threshold")
        start_s, duration_s, peak, threshold = (_number(where, name, cells) for name in names)
        is_searched = cells["status"] == GOOD and math.isfinite(peak) and math.isfinite(threshold)
        interval = Interval(start_s, start_s + duration_s)
        yield _Score((cells["path"], _channel(where, cells)), interval, cells["version"], is_searched)


def _join(
    events: Mapping[_Key, Sequence[Interval]], scores: Sequence[_Score]
) -> tuple[dict[str, dict[int, Scored]], dict[str, str]]:
    searched = defaultdict[_Key, list[Interval]](list)
    for one in scores:
        searched[one.key] += [one.interval] if one.is_searched and one.interval.stop_s > one.interval.start_s else []
    keys = dict.fromkeys([*searched, *events])
    found = {key: Scored(_merge(searched.get(key, ()), _MOMENT_S), _merge(events.get(key, ()))) for key in keys}
    return _by_channel(found), {one.key[0]: one.version for one in scores}


def _by_channel(found: Mapping[_Key, Scored]) -> dict[str, dict[int, Scored]]:
    by_path = defaultdict[str, dict[int, Scored]](dict)
    for (path, channel), one in found.items():
        by_path[path][channel] = one
    return dict(by_path)


def _merge(intervals: Iterable[Interval], gap_s: float = 0.0) -> tuple[Interval, ...]:
    """Return intervals in the order of time; those that overlap, or are less apart than a gap, are one."""
    merged = list[Interval]()
    for one in sorted(intervals):
        if merged and one.start_s <= merged[-1].stop_s + gap_s:
            merged[-1] = Interval(merged[-1].start_s, max(merged[-1].stop_s, one.stop_s))
        else:
            merged.append(one)
    return tuple(merged)


def _lines(place: str, data: bytes, columns: Sequence[str]) -> Iterator[tuple[str, dict[str, str]]]:
    """Yield which line it is, for messages, and its cells by column."""
    names, *lines = _split(place, data) or [(1, list[str]())]
    if missing := [name for name in columns if name not in names[1]]:
        has = f"has the columns {', '.join(names[1])}" if names[1] else "is empty"
        msg = f"{place}, line 1: {has}; jobs.score writes {', '.join(columns)}, separated by commas; missing: "
        raise SourceError(msg + ", ".join(missing))
    for number, cells in lines:
        where = f"{place}, line {number}"
        if len(cells) != len(names[1]):
            msg = f"{where}: has {len(cells)} cells, and the first line names {len(names[1])} columns"
            raise SourceError(msg)
        yield where, dict(zip(names[1], cells, strict=True))


def _split(place: str, data: bytes) -> list[tuple[int, list[str]]]:
    """Return the number of each line, where it ends, and its cells."""
    try:
        lines = csv.reader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        return [(lines.line_num, cells) for cells in lines if cells]
    except (csv.Error, UnicodeDecodeError) as error:
        msg = f"{place}: cannot be read as CSV in UTF-8: {error}"
        raise SourceError(msg) from error


def _number(where: str, name: str, cells: Mapping[str, str]) -> float:
    """Return a number; NaN for an empty cell."""
    try:
        return float(cells[name] or "nan")
    except ValueError:
        msg = f"{where}: {name} must be a number, not {cells[name]!r}"
        raise SourceError(msg) from None


def _channel(where: str, cells: Mapping[str, str]) -> int:
    try:
        return int(cells["channel"])
    except ValueError:
        msg = f"{where}: channel must be a whole number, not {cells['channel']!r}"
        raise SourceError(msg) from None
