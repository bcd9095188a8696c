"""Files of attributes of the DCASE tasks, such as ``attributes_00.csv`` beside the recordings or one folder above."""

import csv
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from posixpath import dirname, splitext

from mimii.recordings.clips import Clip
from mimii.recordings.dcase import attributes_of
from mimii.storage import Access, AudioError, Place, StorageError, open_part, printable

_NAME = re.compile(r"attributes_\d+\.csv", re.IGNORECASE)
_MOST_BYTES = 1 << 26
_log = logging.getLogger(__name__)


def holds_attributes(path: str) -> bool:
    """Return whether a file is one of attributes, by its name."""
    return path[-4:].lower() == ".csv" and bool(_NAME.fullmatch(path.replace("\\", "/").rpartition("/")[2]))


def fill_attributes(clips: Sequence[Clip], files: Iterable[Clip], access: Access) -> list[Clip]:
    """Return the clips with the attributes of files beside them or one folder above, where their names say none.

    A file that cannot be read or is damaged is warned of.
    """
    tables: dict[str, dict[str, str]] = {}
    for file in files:
        tables.setdefault(dirname(str(file.place)), {}).update(_read(file, access))
    return [_filled(clip, tables) for clip in clips] if any(tables.values()) else list(clips)


def parse_attributes(text: str) -> dict[str, str]:
    """Return attributes by the names of recordings without folder and suffix; ValueError where it is no such CSV.

    The first line is ``file_name,d1p,d1v,d2p,d2v,...``: names of parameters and their values in turn. They are returned
    as names of recordings have them, such as ``car_A1_spd_28V``.
    """
    lines = [[cell.strip() for cell in cells] for cells in csv.reader(text.splitlines(), strict=True)]
    if not lines or lines[0][:1] != ["file_name"]:
        msg = "its first line does not begin with file_name"
        raise ValueError(msg)
    return {_stem(cells[0]): _joined(cells[1:]) for cells in lines[1:] if any(cells)}


def _joined(cells: Sequence[str]) -> str:
    pairs = zip(cells[::2], cells[1::2], strict=False)
    return attributes_of("_".join(f"{name}_{value}" for name, value in pairs if name and value))


def _stem(name: str) -> str:
    base = name.replace("\\", "/").rpartition("/")[2]
    return base[:-4] if base.lower().endswith(".wav") else base


def _read(file: Clip, access: Access) -> dict[str, str]:
    """Return what a file of attributes holds; nothing, and a warning, where that cannot be read."""
    try:
        problem, table = file.problem, {} if file.problem else parse_attributes(_text(file.place, access))
    except StorageError:
        raise
    except (OSError, ValueError, AudioError, csv.Error) as error:
        problem, table = str(error), {}
    if problem:
        _log.warning("%s: its attributes are not used: %s", printable(file.path), problem)
    return table


def _text(place: Place, access: Access) -> str:
    with open_part(place, access) as file:
        data = file.read(_MOST_BYTES + 1)
    if len(data) > _MOST_BYTES:
        msg = f"more than {_MOST_BYTES >> 20} MiB"
        raise ValueError(msg)
    return data.decode("utf-8-sig")


def _filled(clip: Clip, tables: Mapping[str, Mapping[str, str]]) -> Clip:
    if clip.identity.attributes:
        return clip
    folder, _, name = str(clip.place).rpartition("/")
    stem = splitext(name)[0]
    text = next((found for above in (folder, dirname(folder)) if (found := tables.get(above, {}).get(stem))), "")
    return replace(clip, identity=replace(clip.identity, attributes=text)) if text else clip
