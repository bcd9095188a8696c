"""Lists of one's own recordings: CSV files that say where each is and what it is."""

import csv
import logging
import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from mimii.recordings.clips import ABNORMAL, LARGEST_NUMBER, NORMAL, UNKNOWN, Clip, Identity
from mimii.recordings.sources import SourceError, find_listed
from mimii.storage import DEFAULT_ACCESS, Access, is_remote

LIST_COLUMNS = ("path", "machine_type", "machine_id", "number", "snr_db", "label", "split")
_LABELS = {
    "": UNKNOWN,
    "-1": UNKNOWN,
    "unknown": UNKNOWN,
    "0": NORMAL,
    "normal": NORMAL,
    "1": ABNORMAL,
    "abnormal": ABNORMAL,
    "anomaly": ABNORMAL,
}
_SPLITS = {"": "", "train": "train", "test": "test"}
_T = TypeVar("_T")
_log = logging.getLogger(__name__)


def read_list(path: str, access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Read a list of one's own recordings.

    A CSV file in UTF-8, with commas or semicolons, and with a header line: ``path`` (absolute, or relative to the
    list; also ``s3://...``, or within a zip archive), and any of ``machine_type``, ``machine_id``, ``number``,
    ``snr_db``, ``label`` (normal, abnormal, 0, 1 or empty) and ``split`` (train, test or empty). An empty cell means
    unknown; what has no column is taken from the path where its layout is known.
    """
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            head = file.readline()
            file.seek(0)
            reader = csv.DictReader(file, delimiter=";" if ";" in head and "," not in head else ",")
            columns = [column.strip().lower() for column in reader.fieldnames or []]
            if "path" not in columns:
                msg = f"{path}: the first line must name the columns, one of them 'path'; it names {columns}"
                raise SourceError(msg)
            reader.fieldnames = columns
            if unused := sorted(set(columns) - set(LIST_COLUMNS)):
                _log.warning("%s: columns not used: %s", path, ", ".join(unused))
            rows = {location: (row, where) for location, row, where in _rows(path, reader)}
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read as a CSV list in UTF-8: {error}"
        raise SourceError(msg) from error
    clips = find_listed(sorted(rows), access)
    return [replace(clip, identity=_listed_identity(clip.identity, *rows[clip.path])) for clip in clips]


def _rows(path: str, rows: "csv.DictReader[str]") -> Iterator[tuple[str, dict[str, str], str]]:
    """Yield the path of each recording, its row, and where in the list that is."""
    seen = set()
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        name = (row["path"] or "").strip()
        if not name or "\0" in name:
            msg = f"{where}: no path" if not name else f"{where}: a path with a zero byte"
            raise SourceError(msg)
        location = name if is_remote(name) else os.path.normpath(os.path.join(os.path.dirname(path), name))
        if location in seen:
            msg = f"{where}: {name} is listed twice"
            raise SourceError(msg)
        seen.add(location)
        yield location, row, where


def _listed_identity(known: Identity, row: dict[str, str], where: str) -> Identity:
    cells = {name: (row[name] or "").strip() for name in LIST_COLUMNS[1:] if name in row}
    try:
        return Identity(
            machine_type=cells.get("machine_type", known.machine_type),
            machine_id=cells.get("machine_id", known.machine_id),
            number=_number(cells["number"]) if "number" in cells else known.number,
            snr_db=_decibel(cells["snr_db"]) if "snr_db" in cells else known.snr_db,
            label=_choice("label", cells["label"].lower(), _LABELS) if "label" in cells else known.label,
            split=_choice("split", cells["split"].lower(), _SPLITS) if "split" in cells else known.split,
        )
    except ValueError as error:
        msg = f"{where}: {error}"
        raise SourceError(msg) from error


def _decibel(text: str) -> float:
    try:
        return float(text or math.nan)
    except ValueError:
        msg = f"snr_db must be a number or empty, not {text!r}"
        raise ValueError(msg) from None


def _number(text: str) -> int:
    if not text:
        return -1
    if not text.isdecimal() or not int(text) <= LARGEST_NUMBER:
        msg = f"number must be from 0 to {LARGEST_NUMBER} or empty, not {text!r}"
        raise ValueError(msg)
    return int(text)


def _choice(name: str, text: str, values: Mapping[str, _T]) -> _T:
    if text not in values:
        msg = f"{name} must be one of {', '.join(filter(None, values))} or empty, not {text!r}"
        raise ValueError(msg)
    return values[text]
