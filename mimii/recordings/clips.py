"""One recording: where it is and what it is, as far as its path or a list says.

A MIMII clip is identified by five values: SNR, machine type, machine id, label and number. The SNR is only in the name
of the archive or of a folder above; numbers repeat in all of the others.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mimii.features import Header, Segment
    from mimii.storage import Place

NORMAL, ABNORMAL, UNKNOWN = 0, 1, -1
LABEL_NAMES = {NORMAL: "normal", ABNORMAL: "abnormal", UNKNOWN: "unknown"}
ASSUMPTIONS = ("normal",)
"""What recordings without a label may be assumed to be."""

LARGEST_NUMBER = 2**31 - 1
"""The largest number of a clip that the table can store."""

LABEL_WORDS: Mapping[str, int] = {
    **dict.fromkeys(("normal", "ok", "good"), NORMAL),
    **dict.fromkeys(("abnormal", "anomaly", "ng", "bad"), ABNORMAL),
}
"""What a label may be called, in lower case."""

_SNR = re.compile(r"(?P<sign>min|minus|-|\+)?_?(?P<size>\d+(\.\d+)?)_?dB(_\w+)?(\.zip)?", re.IGNORECASE)
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


def number_of(text: str) -> int:
    """Return a number as names have it; -1 where it is none, or too large for its column."""
    is_number = text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS
    return int(text) if is_number and int(text) <= LARGEST_NUMBER else -1


@lru_cache(maxsize=4096)
def snr_of(folder: str) -> float:
    """Return the SNR in dB that the nearest folder of a path says, such as ``6_dB_fan`` or ``min6dB``; NaN for none."""
    for part in reversed(folder.split("/")):
        if match := _SNR.fullmatch(part):
            size = float(match["size"])
            return -size if match["sign"] not in (None, "+") and size else size
    return math.nan
