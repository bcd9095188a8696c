"""What lists and layouts may say about a recording: known columns and how they are written, and reserved names."""

import math
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any, NamedTuple

from mimii.recordings.clips import LABEL_WORDS, LARGEST_NUMBER, UNKNOWN

RESERVED_COLUMNS = frozenset(
    (
        *("features", "row_clip", "path", "channel", "start_s", "duration_s", "first_row", "n_rows", "status"),
        *("machine_type", "machine_id", "number", "snr_db", "domain", "attributes", "recorded_at", "label", "split"),
        *("mel_mean", "mel_std", "mel_max", "feature_mean", "feature_std", "mel_frequency"),
        *("row", "feature", "clip", "mel"),  # the dimensions
        *("sample_rate", "n_channels", "problem"),  # of what `Recordings.to_pandas` returns
    )
)
"""Names that columns of one's own must not have, in lower case: those of a table, and of what is known of a clip."""

LABELS = {**dict.fromkeys(("unknown", "-1"), UNKNOWN), "0": 0, "1": 1, **LABEL_WORDS}
"""How a label may be written, in lower case."""

FIRST_YEAR, LAST_YEAR = 1678, 2261  # what fits into the nanoseconds of pandas
_WHOLE = re.compile(r"^(-?\d+)[.,]00?$")  # not 1,000 or 1.000
_FLOAT = re.compile(r"^(\d+)\.0$")  # of a column of numbers in which pandas misses some


class Column(NamedTuple):
    """A known column.

    Attributes
    ----------
    parse : callable
        From the text of a cell, which may be empty, to the value; KeyError or ValueError where it is none.
    allowed : str
        What a cell may be, in words.
    pattern : str
        What it may look like in a path, as a regular expression without regard to case.

    """

    parse: Callable[[str], Any]
    allowed: str
    pattern: str = "[^/]+"


def column_problem(name: str) -> str:
    """Return why a column of one's own cannot have a name; empty where it can."""
    if name.lower() in RESERVED_COLUMNS:
        return "a name that tables use themselves"
    if "/" in name or "\\" in name or name.startswith((".", "__")) or not name.isprintable():
        return "no name that a column can have: it must not begin with . or __, nor have a slash or a line break in it"
    return ""


def as_numbers(texts: Iterable[str]) -> list[float] | None:
    """Return texts as numbers, NaN where one is empty; None where one is no number, or all are empty."""
    cells = list(texts)
    numbers = [as_number(text) if text else math.nan for text in cells]
    known = [number for number in numbers if number is not None]
    return known if len(known) == len(cells) and any(cells) else None


def as_number(text: str) -> float | None:
    """Read a number of a list; None where it is none. ``nan`` and ``inf`` are words."""
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) and "_" not in text else None


def seconds_since_1970(moment: datetime) -> float:
    """Return a time in seconds since 1970 in UTC; without an offset, it is one of UTC. ValueError if out of range."""
    if not FIRST_YEAR <= moment.year <= LAST_YEAR:
        raise ValueError
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()


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


def _label(text: str) -> int:
    return LABELS[_plain(text).lower()] if text else UNKNOWN


def _time(text: str) -> float:
    return seconds_since_1970(datetime.fromisoformat(text)) if text else math.nan


def _one_of(*words: str) -> Column:
    known = {"": "", **{word: word for word in words}}
    return Column(lambda text: known[text.lower()], ", ".join(words), "|".join(words))


COLUMNS: Mapping[str, Column] = {
    "machine_type": Column(str, "text"),
    "machine_id": Column(lambda text: _FLOAT.sub(r"\1", text), "text"),
    "number": Column(_number, f"from 0 to {LARGEST_NUMBER}", r"\d+"),
    "snr_db": Column(_decibel, "a number", r"[-+]?\d+(?:[.,]\d+)?"),
    "label": Column(_label, "one of " + ", ".join(LABELS), "|".join(sorted(LABELS, key=len, reverse=True))),
    "split": _one_of("train", "test"),
    "domain": _one_of("source", "target"),
    "attributes": Column(str, "text"),
    "recorded_at": Column(
        _time, f"a time in ISO 8601 from {FIRST_YEAR} to {LAST_YEAR}, such as 2024-05-01T06:30:00+02:00,"
    ),
}
"""The known columns by name, in the order of `Identity`."""
