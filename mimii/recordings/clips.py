"""One recording: where it is and what it is, as far as its path or a list says.

A MIMII clip is identified by five values: SNR, machine type, machine id, label and number. The SNR is only in the name
of the archive or of a folder above; numbers repeat in all of the others.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mimii.features import Header, Segment
    from mimii.storage import Place

NORMAL, ABNORMAL, UNKNOWN = 0, 1, -1
LABEL_NAMES = {NORMAL: "normal", ABNORMAL: "abnormal", UNKNOWN: "unknown"}
LARGEST_NUMBER = 2**31 - 1
"""The largest number of a clip that the table can store."""

_LABELS = {"normal": NORMAL, "abnormal": ABNORMAL, "anomaly": ABNORMAL}
_SNR = re.compile(r"(?P<sign>min|minus|-|\+)?_?(?P<size>\d+(\.\d+)?)_?dB(_\w+)?(\.zip)?", re.IGNORECASE)
_MACHINE_ID = re.compile(r"id_\w+", re.IGNORECASE)
_DCASE = re.compile(
    r"((?P<label>normal|anomaly)_)?(?P<id>id_\d+)_(?P<number>\d+)"
    r"|(?P<section>section_\d+)_(source|target)_(?P<fold>train|test)_(?P<label2>normal|anomaly)_(?P<number2>\d+)(_.*)?",
    re.IGNORECASE,
)
_MOST_DIGITS = 100


@dataclass(frozen=True, slots=True)
class Identity:
    """What a clip is. What is not known is empty, NaN or -1; nothing is guessed.

    Attributes
    ----------
    machine_type, machine_id : str
        Such as ``"fan"`` and ``"id_00"``.
    number : int
        Of the clip within machine, label and SNR; -1 where unknown.
    snr_db : float
        Signal-to-noise ratio in dB; NaN where unknown.
    label : int
        0 normal, 1 abnormal, -1 unknown.
    split : str
        ``"train"`` or ``"test"`` where the data itself says so, else empty.
    domain : str
        ``"source"`` or ``"target"`` as in the DCASE tasks, else empty.
    attributes : str
        Under which conditions it was recorded, such as ``"car_A1_spd_28V"``.
    recorded_at : float
        When it was recorded, in seconds since 1970 in UTC; NaN where unknown.
    columns : tuple of (str, str)
        What a list or a layout says besides: names and texts, sorted by name.

    """

    machine_type: str = ""
    machine_id: str = ""
    number: int = -1
    snr_db: float = math.nan
    label: int = UNKNOWN
    split: str = ""
    domain: str = ""
    attributes: str = ""
    recorded_at: float = math.nan
    columns: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Clip:
    """One recording, or one channel of it, or a segment.

    Attributes
    ----------
    path : str
        As the user named it: source and path within it.
    problem : str
        Why it cannot be read, where that is known already; else empty.
    header : Header or None
        What its header says, once that was read; clips that are alike share one.
    channel : int
        Counted from 0; -1 for the mean of all.
    start_s, duration_s : float
        Which segment of the recording, in seconds; NaN where it is not known how long it is.
    segment : Segment or None
        The same in samples of the recording; None before it is cut.

    """

    path: str
    place: Place
    identity: Identity = Identity()
    problem: str = ""
    header: Header | None = None
    channel: int = 0
    start_s: float = 0.0
    duration_s: float = math.nan
    segment: Segment | None = None

    @property
    def recording(self) -> tuple[str, str]:
        """What all clips of a recording have in common, and no other has."""
        return self.path, str(self.place)


def identify(path: str) -> Identity:
    """Return what a path says about a recording.

    Known layouts are MIMII (``6_dB_fan/fan/id_00/normal/00000000.wav``, the SNR also as ``min6dB`` or ``-6_dB``), the
    DCASE tasks (``fan/train/normal_id_00_00000000.wav``, ``fan/test/section_00_source_test_anomaly_0000_....wav``),
    and, in any other layout, a folder named ``normal`` or ``abnormal`` and an SNR folder.

    Examples
    --------
    >>> who = identify("-6_dB/valve/id_06/abnormal/00000008.wav")
    >>> who.machine_type, who.machine_id, who.number, who.snr_db, who.label
    ('valve', 'id_06', 8, -6.0, 1)

    """
    folder, _, name = path.rpartition("/")
    stem = PurePosixPath(name).stem
    if dcase := _DCASE.fullmatch(stem):
        return _identify_dcase(folder, dcase)
    machine_type, machine_id, snr_db, label = _identify_folder(folder)
    return Identity(machine_type, machine_id, _number(stem), snr_db, label)


@lru_cache(maxsize=4096)
def _identify_folder(folder: str) -> tuple[str, str, float, int]:
    parts = folder.split("/")
    label = _LABELS.get(parts[-1].lower(), UNKNOWN)
    if label != UNKNOWN and len(parts) > 2 and _MACHINE_ID.fullmatch(parts[-2]):
        return parts[-3], parts[-2], _snr(folder), label
    return "", "", _snr(folder), label


def _identify_dcase(folder: str, match: re.Match[str]) -> Identity:
    *above, fold = folder.split("/")
    in_fold = fold.lower() in ("train", "test")
    return Identity(
        machine_type=above[-1] if in_fold and above else "",
        machine_id=(match["id"] or match["section"]).lower(),
        number=_number(match["number"] or match["number2"]),
        snr_db=_snr(folder),
        label=_LABELS.get((match["label"] or match["label2"] or "").lower(), UNKNOWN),
        split=(fold if in_fold else match["fold"] or "").lower(),
    )


@lru_cache(maxsize=4096)
def _snr(folder: str) -> float:
    for part in reversed(folder.split("/")):
        if match := _SNR.fullmatch(part):
            size = float(match["size"])
            return -size if match["sign"] not in (None, "+") and size else size
    return math.nan


def _number(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number and int(text) <= LARGEST_NUMBER else -1
