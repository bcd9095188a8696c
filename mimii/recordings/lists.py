"""Lists of one's own recordings: CSV files with the path of each and what it is."""

import csv
import logging
import os
import re
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple, TextIO
from urllib.parse import unquote, urlsplit

from mimii.recordings.clips import Clip, Identity
from mimii.recordings.columns import COLUMNS, column_problem
from mimii.recordings.paths import identify
from mimii.recordings.sources import SourceError, find_listed
from mimii.storage import DEFAULT_ACCESS, Access, LocationError, as_path, is_remote, path_to_text, text_to_path

_log = logging.getLogger(__name__)


class Line(NamedTuple):
    """The cells of a line of a list, and which line it is."""

    number: int
    cells: list[str]


def read_list(path: str, access: Access = DEFAULT_ACCESS, identify: Callable[[str], Identity] = identify) -> list[Clip]:
    """Return the recordings of a CSV list, sorted by path; see `find_rows`."""
    return find_rows(path, read_lines(path), access, identify)


def read_lines(path: str) -> list[Line]:
    """Return the lines of a CSV list in UTF-8, with commas, semicolons or tabs, as pandas and Excel write it."""
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            return list(_lines(path, file))
    except (OSError, UnicodeDecodeError) as error:
        msg = f"{path}: cannot be read as a CSV list in UTF-8: {error}"
        raise SourceError(msg) from error


def find_rows(path: str, lines: Sequence[Line], access: Access, identify: Callable[[str], Identity]) -> list[Clip]:
    """Return the recordings that the lines of a list name, sorted by path.

    The first line names the columns: ``path`` (absolute, or relative to the list; also ``s3://...``, ``file://...``, or
    within a zip archive), and any of ``machine_type``, ``machine_id``, ``number``, ``snr_db``, ``label`` (normal,
    abnormal, 0, 1 or empty), ``split`` (train, test or empty), ``domain`` (source, target or empty), ``attributes``
    and ``recorded_at`` (ISO 8601; UTC where it has no offset). An empty cell means unknown; what has no column is taken
    from the path. Any other column is kept under its own name.
    """
    rows = {location: (row, where) for location, row, where in _rows(path, lines)}
    clips = find_listed(sorted(rows), access, identify)
    return [replace(clip, identity=_listed_identity(clip.identity, *rows[clip.path])) for clip in clips]


def _lines(path: str, file: TextIO) -> Iterator[Line]:
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
            yield Line(number, [cell.strip() for cell in next(lines)])
        except StopIteration:
            return
        except csv.Error as error:
            msg = f"{path}, line {number}: a quote is opened and not closed, or closed within a cell ({error})"
            raise SourceError(msg) from error


def _columns(path: str, cells: Sequence[str]) -> list[str]:
    """Return the names of columns: known ones in lower case, others as they are."""
    columns = [cell.lower() if cell.lower() in (_PATH, *COLUMNS) else cell for cell in cells]
    if _PATH not in columns:
        msg = f"{path}: the first line must name the columns, one of them 'path'; it names {columns}"
        raise SourceError(msg)
    folded = [column.lower() for column in columns]
    if twice := sorted({column for column in folded if column and folded.count(column) > 1}):
        msg = f"{path}: there are several columns {', '.join(map(repr, twice))}; rename or remove all but one"
        raise SourceError(msg)
    for column in columns:
        if not column:
            _log.warning("%s: a column without a name is not used", path)
        elif column not in (_PATH, *COLUMNS) and (problem := column_problem(column)):
            msg = f"{path}: the column {column!r} has {problem}; rename or remove it"
            raise SourceError(msg)
    return columns


def _rows(path: str, lines: Sequence[Line]) -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the path of each recording, its row, and the list and line of that row."""
    columns = _columns(path, lines[0].cells if lines else [])
    seen = set()
    for number, cells in lines[1:]:
        if not any(cells):
            continue
        where = f"{path}, line {number}"
        if any(cells[len(columns) :]):
            msg = f"{where}: {len(cells)} cells, and {len(columns)} columns; a cell that has the separator needs quotes"
            raise SourceError(msg)
        row = dict.fromkeys(columns, "") | dict(zip(columns, cells, strict=False))
        name = row.pop(_PATH)
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


def _checked(name: str, where: str) -> str:
    """Return a path or a URL that can be used; SourceError for another URL."""
    try:
        return as_path(name)
    except LocationError as error:
        msg = f"{where}: {error}"
        raise SourceError(msg) from error


def _location(path: str, name: str, where: str) -> str:
    """Return where a recording is, from a cell of a list: relative to the list, with backslashes, or as a URL."""
    if name.lower().startswith("file:"):
        name = _path_of_url(name, where)
    elif is_remote(_checked(name, where)):
        return name
    folder = path_to_text(os.path.dirname(path))
    location = os.path.normpath(os.path.join(folder, name))
    if "\\" in name and "\0" not in name and not os.path.exists(text_to_path(location)):
        location = os.path.normpath(os.path.join(folder, name.replace("\\", "/")))
    return location


def _listed_identity(known: Identity, row: Mapping[str, str], where: str) -> Identity:
    cells = {}
    for name in filter(row.__contains__, COLUMNS):
        text, column = row[name], COLUMNS[name]
        try:
            cells[name] = column.parse(text)
        except (KeyError, ValueError):
            msg = f"{where}: {name} must be {column.allowed} or empty, not {text!r}"
            raise SourceError(msg) from None
    own = {name: text for name, text in row.items() if name and name not in COLUMNS}
    return replace(known, **cells, columns=tuple(sorted({**dict(known.columns), **own}.items())))


_PATH = "path"
_SEPARATOR = re.compile(r"sep=(.)\r?\n?$", re.IGNORECASE)
