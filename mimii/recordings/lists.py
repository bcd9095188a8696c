"""Lists of one's own recordings: CSV files with the path of each and what it is."""

import csv
import logging
import math
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import unquote, urlsplit

from mimii.recordings.clips import ABNORMAL, LARGEST_NUMBER, NORMAL, UNKNOWN, Clip, Identity
from mimii.recordings.sources import SourceError, find_listed
from mimii.storage import DEFAULT_ACCESS, Access, is_remote, path_to_text, text_to_path

_log = logging.getLogger(__name__)


def read_list(path: str, access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Return the recordings of a CSV list, sorted by path.

    It is in UTF-8, with commas, semicolons or tabs, as pandas and Excel write it, and has a header line: ``path``
    (absolute, or relative to the list; also ``s3://...``, ``file://...``, or within a zip archive), and any of
    ``machine_type``, ``machine_id``, ``number``, ``snr_db``, ``label`` (normal, abnormal, 0, 1 or empty) and ``split``
    (train, test or empty). An empty cell means unknown; what has no column is taken from the path where its layout is
    known.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            rows = {location: (row, where) for location, row, where in _rows(path, file)}
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read as a CSV list in UTF-8: {error}"
        raise SourceError(msg) from error
    clips = find_listed(sorted(rows), access)
    return [replace(clip, identity=_listed_identity(clip.identity, *rows[clip.path])) for clip in clips]


def _lines(path: str, file: TextIO) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of each line, and the number of the line where they begin."""
    head, skipped = file.readline(), 0
    if separator := _SEPARATOR.match(head):  # Excel's own
        head, skipped = file.readline(), 1
    file.seek(0)
    for _ in range(skipped):
        file.readline()
    delimiter = separator[1] if separator else max(",;\t", key=re.sub('"[^"]*"', "", head).count)
    lines = csv.reader(file, delimiter=delimiter, strict=True)
    while True:
        number = lines.line_num + 1 + skipped
        try:
            yield number, [cell.strip() for cell in next(lines)]
        except StopIteration:
            return
        except csv.Error as error:
            msg = f"{path}, line {number}: a quote is opened and not closed, or closed within a cell ({error})"
            raise SourceError(msg) from error


def _columns(path: str, cells: Sequence[str]) -> list[str]:
    columns = [cell.lower() for cell in cells]
    if "path" not in columns:
        msg = f"{path}: the first line must name the columns, one of them 'path'; it names {columns}"
        raise SourceError(msg)
    if twice := sorted({column for column in columns if column and columns.count(column) > 1}):
        msg = f"{path}: there are several columns {', '.join(map(repr, twice))}; rename or remove all but one"
        raise SourceError(msg)
    if unused := sorted(set(columns) - {"path", *_COLUMNS}):
        _log.warning("%s: columns not used: %s", path, ", ".join(unused))
    return columns


def _rows(path: str, file: TextIO) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the path of each recording, its row, and the list and line of that row."""
    lines = _lines(path, file)
    columns = _columns(path, next(lines, (0, []))[1])
    seen = set()
    for number, cells in lines:
        if not any(cells):
            continue
        where = f"{path}, line {number}"
        if any(cells[len(columns) :]):
            msg = f"{where}: {len(cells)} cells, and {len(columns)} columns; a cell that has the separator needs quotes"
            raise SourceError(msg)
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        name = row["path"]
        location = _location(path, name, where)
        problem = f"{name} is listed twice" if location in seen else ""
        if not name or "\0" in location:
            problem = "a path with a zero byte" if name else "no path"
        if problem:
            msg = f"{where}: {problem}"
            raise SourceError(msg)
        seen.add(location)
        yield location, row, where


def _path_of_url(name: str, where: str) -> str:
    try:
        url = urlsplit(name)
    except ValueError as error:
        msg = f"{where}: {name} is not a URL of a file: {error}"
        raise SourceError(msg) from error
    if url.netloc not in ("", "localhost", socket.gethostname()):
        msg = f"{where}: {name} is on the machine {url.netloc}; name a path on this one"
        raise SourceError(msg)
    return unquote(url.path, errors="surrogateescape")


def _location(path: str, name: str, where: str) -> str:
    """Return where a recording is, from a cell of a list: relative to the list, with backslashes, or as a URL."""
    if is_remote(name):
        return name
    if name.lower().startswith("file:"):
        name = _path_of_url(name, where)
    folder = path_to_text(os.path.dirname(path))
    location = os.path.normpath(os.path.join(folder, name))
    if "\\" in name and "\0" not in name and not os.path.exists(text_to_path(location)):
        location = os.path.normpath(os.path.join(folder, name.replace("\\", "/")))
    return location


def _listed_identity(known: Identity, row: Mapping[str, str], where: str) -> Identity:
    cells = {}
    for name in filter(row.__contains__, _COLUMNS):
        text, (parse, allowed) = row[name], _COLUMNS[name]
        try:
            cells[name] = parse(text)
        except (KeyError, ValueError):
            msg = f"{where}: {name} must be {allowed} or empty, not {text!r}"
            raise SourceError(msg) from None
    return replace(known, **cells)


def _plain(text: str) -> str:
    """Return a number as people write it: pandas writes 17.0 for 17 where others are missing, Excel may write 17,0."""
    return _WHOLE.sub(r"\1", text)


def _number(text: str) -> int:
    text = _plain(text)
    if not text:
        return -1
    if not text.isdecimal() or int(text) > LARGEST_NUMBER:
        raise ValueError
    return int(text)


def _decibel(text: str) -> float:
    return float(text.replace(",", ".") or math.nan)


_SEPARATOR = re.compile(r"sep=(.)\r?\n?$", re.IGNORECASE)
_WHOLE = re.compile(r"^(-?\d+)[.,]00?$")  # not 1,000 or 1.000
_FLOAT = re.compile(r"^(\d+)\.0$")  # of a column of numbers in which pandas misses some
_LABELS = {
    **dict.fromkeys(("", "unknown", "-1"), UNKNOWN),
    **dict.fromkeys(("normal", "0"), NORMAL),
    **dict.fromkeys(("abnormal", "anomaly", "1"), ABNORMAL),
}
_COLUMNS: Mapping[str, tuple[Callable[[str], Any], str]] = {
    "machine_type": (str, "text"),
    "machine_id": (lambda text: _FLOAT.sub(r"\1", text), "text"),
    "number": (_number, f"from 0 to {LARGEST_NUMBER}"),
    "snr_db": (_decibel, "a number"),
    "label": (lambda text: _LABELS[_plain(text).lower()], "one of " + ", ".join(filter(None, _LABELS))),
    "split": (lambda text: {"": "", "train": "train", "test": "test"}[text.lower()], "train, test"),
}
