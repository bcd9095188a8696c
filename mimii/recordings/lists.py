"""Lists of one's own recordings: CSV files with the path of each and what it is."""

import csv
import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO

from mimii.recordings.clips import ABNORMAL, LARGEST_NUMBER, NORMAL, UNKNOWN, Clip, Identity
from mimii.recordings.sources import SourceError, find_listed
from mimii.storage import DEFAULT_ACCESS, Access, is_remote

_log = logging.getLogger(__name__)


def read_list(path: str, access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Return the recordings of a CSV list, sorted by path.

    It is in UTF-8, with commas or semicolons, and has a header line: ``path`` (absolute, or relative to the list; also
    ``s3://...``, or within a zip archive), and any of ``machine_type``, ``machine_id``, ``number``, ``snr_db``,
    ``label`` (normal, abnormal, 0, 1 or empty) and ``split`` (train, test or empty). An empty cell means unknown; what
    has no column is taken from the path where its layout is known.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = {location: (row, where) for location, row, where in _rows(path, _reader(path, file))}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read as a CSV list in UTF-8: {error}"
        raise SourceError(msg) from error
    clips = find_listed(sorted(rows), access)
    return [replace(clip, identity=_listed_identity(clip.identity, *rows[clip.path])) for clip in clips]


def _reader(path: str, file: TextIO) -> "csv.DictReader[str]":
    head = file.readline()
    file.seek(0)
    reader = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",")
    columns = [column.strip().lower() for column in reader.fieldnames or []]
    if "path" not in columns:
        msg = f"{path}: the first line must name the columns, one of them 'path'; it names {columns}"
        raise SourceError(msg)
    if unused := sorted(set(columns) - {"path", *_COLUMNS}):
        _log.warning("%s: columns not used: %s", path, ", ".join(unused))
    reader.fieldnames = columns
    return reader


def _rows(path: str, rows: "csv.DictReader[str]") -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the path of each recording, its row, and the list and line of that row."""
    seen = set()
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        name = (row["path"] or "").strip()
        location = name if is_remote(name) else os.path.normpath(os.path.join(os.path.dirname(path), name))
        problem = f"{name} is listed twice" if location in seen else ""
        if not name or "\0" in name:
            problem = "a path with a zero byte" if name else "no path"
        if problem:
            msg = f"{where}: {problem}"
            raise SourceError(msg)
        seen.add(location)
        yield location, row, where


def _listed_identity(known: Identity, row: Mapping[str, str], where: str) -> Identity:
    cells = {}
    for name in filter(row.__contains__, _COLUMNS):
        text, (parse, allowed) = (row[name] or "").strip(), _COLUMNS[name]
        try:
            cells[name] = parse(text)
        except (KeyError, ValueError):
            msg = f"{where}: {name} must be {allowed} or empty, not {text!r}"
            raise SourceError(msg) from None
    return replace(known, **cells)


def _number(text: str) -> int:
    if not text:
        return -1
    if not text.isdecimal() or int(text) > LARGEST_NUMBER:
        raise ValueError
    return int(text)


_LABELS = {
    **dict.fromkeys(("", "unknown", "-1"), UNKNOWN),
    **dict.fromkeys(("normal", "0"), NORMAL),
    **dict.fromkeys(("abnormal", "anomaly", "1"), ABNORMAL),
}
_COLUMNS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "machine_type": (str, "text"),
    "machine_id": (str, "text"),
    "number": (_number, f"from 0 to {LARGEST_NUMBER}"),
    "snr_db": (lambda text: float(text or math.nan), "a number"),
    "label": (lambda text: _LABELS[text.lower()], "one of " + ", ".join(filter(None, _LABELS))),
    "split": (lambda text: {"": "", "train": "train", "test": "test"}[text.lower()], "train, test"),
}
