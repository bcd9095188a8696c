"""Names of the DCASE challenge's task 2, of all years: ``section_00_source_train_normal_0000_vel_8.wav`` and others."""

import re
from functools import lru_cache
from typing import NamedTuple

from mimii.recordings.clips import LABEL_WORDS, UNKNOWN, Identity, number_of, snr_of

SUPPLEMENTAL = "supplemental"
"""The folder of the sounds of the machine alone and of noise alone, and the column that says which; from 2025 on."""

FOLDS = {
    "train": "train",
    **dict.fromkeys(("test", "source_test", "target_test", "test_rename"), "test"),
    SUPPLEMENTAL: "",
}
"""The folders in which the recordings of a machine are, in lower case, and the split that they say."""

_DOMAINS, _SPLITS, _LABELS, _ALONE = (
    ("source", "target"),
    ("train", "test"),
    ("normal", "anomaly"),
    ("machine", "noise"),
)
_WORDS = "|".join((*_DOMAINS, *_SPLITS, *_LABELS, *_ALONE, "clean", SUPPLEMENTAL))
_NAME = re.compile(
    rf"(?P<id>section_\d+)_(?P<words>(?:(?:{_WORDS})_)*)(?P<number>\d+)(?:_(?P<attributes>.*))?", re.IGNORECASE
)
_NAME_2020 = re.compile(
    r"(?P<words>(?:(?:normal|anomaly)_)?)(?P<id>id_\d+)_(?P<number>\d+)(?P<attributes>)", re.IGNORECASE
)


class _Folder(NamedTuple):
    """What the folder of a recording says: the machine type, the fold, and where all of that type is."""

    machine_type: str
    fold: str
    home: str


def identify_dcase(folder: str, stem: str) -> Identity | None:
    """Return what a name of DCASE says about a recording; None where it is none.

    The machine type is the folder above ``train``, ``test``, ``source_test``, ``target_test``, ``test_rename`` or
    ``supplemental``; the machine id is the section. Names of the evaluation sets have no label: it stays unknown.
    Supplemental recordings have neither label nor split, whatever their name says, so that nobody learns from noise
    alone; a column ``supplemental`` says what they are: machine, noise or unknown.
    """
    match = _match(stem)
    if match is None:
        return None
    above, words = _look_at(folder), match["words"].lower().split("_")
    is_supplemental = above.fold == SUPPLEMENTAL or not {SUPPLEMENTAL, *_ALONE}.isdisjoint(words)
    return Identity(
        machine_type=above.machine_type,
        machine_id=match["id"].lower(),
        number=number_of(match["number"]),
        snr_db=snr_of(folder),
        label=UNKNOWN if is_supplemental else LABEL_WORDS.get(_first(_LABELS, words), UNKNOWN),
        split="" if is_supplemental else FOLDS.get(above.fold) or _named_split(match["id"], words),
        domain=_first(_DOMAINS, words) or _first(_DOMAINS, above.fold.split("_")),
        attributes=attributes_of(match["attributes"]),
        columns=((SUPPLEMENTAL, _first(_ALONE, words) or "unknown"),) if is_supplemental else (),
    )


def is_dcase(folder: str, stem: str) -> bool:
    """Return whether a recording is one of DCASE: its name, or the folder of what is supplemental."""
    return bool(_match(stem)) or _look_at(folder).fold == SUPPLEMENTAL


def machine_folder_of_dcase(folder: str) -> tuple[str, str]:
    """Return the machine type of the recordings in a folder, and the folder of all of that type."""
    above = _look_at(folder)
    return above.machine_type, above.home


def attributes_of(text: str | None) -> str:
    """Return attributes as a name has them; empty where they are hidden."""
    return "" if text is None or text.lower() == "noattribute" else text


def _match(stem: str) -> re.Match[str] | None:
    return _NAME.fullmatch(stem) or _NAME_2020.fullmatch(stem)


def _first(known: tuple[str, ...], words: list[str]) -> str:
    return next((word for word in known if word in words), "")


def _named_split(machine_id: str, words: list[str]) -> str:
    """Return the split that a name says: one of 2021 or later without label is of an evaluation set."""
    is_hidden = machine_id[0] in "sS" and not _first(_LABELS, words)
    return _first(_SPLITS, words) or ("test" if is_hidden else "")


@lru_cache(maxsize=4096)
def _look_at(folder: str) -> _Folder:
    above, _, fold = folder.rpartition("/")
    if fold.lower() not in FOLDS:
        return _Folder("", "", folder)
    return _Folder(above.rpartition("/")[2].removesuffix(".zip"), fold.lower(), above)
