"""Find recordings, and open them: folders, single files, and lists of one's own."""

import csv
import logging
import math
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, TypeVar

from mimii.clips import ABNORMAL, LARGEST_NUMBER, NORMAL, UNKNOWN, Clip, Identity, identify

AUDIO_SUFFIXES = frozenset(
    (
        ".aif",
        ".aifc",
        ".aiff",
        ".au",
        ".caf",
        ".flac",
        ".mp3",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".w64",
        ".wav",
        ".wave",
    )
)
"""Endings, in lower case, of the files in a folder that are taken for recordings."""

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


class SourceError(ValueError):
    """A source that is not there or cannot be understood; the message names it."""


def find_clips(sources: Sequence[str]) -> list[Clip]:
    """Find the recordings in folders and single files, sorted by path.

    Files are taken by their ending (`AUDIO_SUFFIXES`); hidden ones (``._*``, ``.DS_Store``) and ``__MACOSX`` are left
    out. Links are followed, each real folder once, so loops end. What cannot be listed or looked at becomes a
    clip with a `problem`, so that it is not forgotten silently.

    Parameters
    ----------
    sources : sequence of str
        Paths of folders or recordings.

    Returns
    -------
    list of Clip
        Sorted by path; the order of `sources` does not matter.

    Raises
    ------
    SourceError
        If a source does not exist.

    """
    visited: set[tuple[int, int]] = set()
    found: dict[str, Clip] = {}
    for source in sorted(map(os.path.normpath, sources)):
        if not os.path.exists(source):
            msg = f"{source}: no such file or folder"
            raise SourceError(msg)
        files = _walk(source, visited) if os.path.isdir(source) else [(source, "")]
        for path, problem in files:
            found.setdefault(os.path.abspath(path), _clip(os.path.normpath(path), problem))
    return sorted(found.values(), key=lambda clip: clip.path)


def read_list(path: str) -> list[Clip]:
    """Read a list of one's own recordings.

    A CSV file in UTF-8, with commas or semicolons, and with a header line: ``path`` (absolute, or relative to the
    list), and any of ``machine_type``, ``machine_id``, ``number``, ``snr_db``, ``label`` (normal, abnormal, 0, 1 or
    empty) and ``split`` (train, test or empty). An empty cell means unknown; what has no column is taken from the path
    where its layout is known.

    Parameters
    ----------
    path : str
        The list's path.

    Returns
    -------
    list of Clip
        Sorted by path. A recording that is not there is a clip with a `problem`.

    Raises
    ------
    SourceError
        If the list cannot be read or a line makes no sense; the message names the line.

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
            return _listed_clips(path, reader)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        msg = f"{path}: cannot be read as a CSV list in UTF-8: {error}"
        raise SourceError(msg) from error


def open_clip(location: str) -> BinaryIO:
    """Open a recording for reading.

    Parameters
    ----------
    location : str
        Of a `Clip`.

    Returns
    -------
    binary file
        Seekable; the caller closes it.

    Raises
    ------
    OSError
        If it cannot be opened.

    """
    return open(location, "rb")


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield the path of each recording below, with what is wrong with it, if anything."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"folder cannot be listed: {error.strerror}"
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in listed:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, visited)
        elif os.path.splitext(entry.name)[1].lower() in AUDIO_SUFFIXES:
            yield entry.path, ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _clip(path: str, problem: str) -> Clip:
    location = os.path.abspath(path)
    clip = Clip(path, location, identity=identify(location), problem=problem)
    return clip if problem else _with_size(clip)


def _with_size(clip: Clip) -> Clip:
    try:
        status = os.stat(clip.location)
    except OSError as error:
        return replace(clip, problem=f"cannot be read: {error.strerror}")
    if not stat.S_ISREG(status.st_mode):
        return replace(clip, problem="not a regular file")
    return replace(clip, size=status.st_size, version=str(status.st_mtime_ns))


def _listed_clips(path: str, rows: "csv.DictReader[str]") -> list[Clip]:
    clips: dict[str, Clip] = {}
    for row in rows:
        where = f"{path}, line {rows.line_num}"
        name = (row["path"] or "").strip()
        if not name or "\0" in name:
            msg = f"{where}: no path" if not name else f"{where}: a path with a zero byte"
            raise SourceError(msg)
        location = os.path.normpath(os.path.join(os.path.dirname(path), name))
        if location in clips:
            msg = f"{where}: {name} is listed twice"
            raise SourceError(msg)
        clip = _clip(location, "")
        clips[location] = replace(clip, identity=_listed_identity(clip.identity, row, where))
    return [clips[location] for location in sorted(clips)]


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
