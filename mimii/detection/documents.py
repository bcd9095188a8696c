"""What is at an output of detection: the names of its documents, and lists as CSV."""

import csv
import io
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from mimii.engine import Head

FINDINGS_HEAD = Head("detect.json", "Detection of machines that sound unlike themselves", "run of detection")

MODELS, OUTCOMES = "models", "outcomes"
"""Folders: what was learned, and what came of it; the second is written last."""

OFFICIAL = "official"
"""The folder of the scores of the DCASE challenge."""

SCORES, EVENTS, RESULTS, REPORT = "scores.csv", "events.csv", "results.csv", "report.html"

_BITWISE = ("score", "threshold", "peak")


def model_key(machine: str) -> str:
    """Return the key of the model of a machine."""
    return f"{MODELS}/{machine}.npz"


def outcome_key(machine: str) -> str:
    """Return the key of the outcome of a machine."""
    return f"{OUTCOMES}/{machine}.json"


def write_csv(lines: Sequence[Mapping[str, Any]], columns: Sequence[str] = ()) -> bytes:
    """Write lines as CSV, UTF-8: these columns and others as they come up; what is not known is empty."""
    names = dict.fromkeys([*columns, *(name for line in lines for name in line)])
    written = [_line(list(names)), *(_line([_cell(name, line.get(name, "")) for name in names]) for line in lines)]
    return "".join(written).encode("utf-8", "backslashreplace")


def _line(cells: Sequence[object]) -> str:
    """Write a line; with the usual end of line, the writer puts a carriage return in a cell in quotes."""
    text = io.StringIO()
    csv.writer(text).writerow(cells)
    return text.getvalue().removesuffix("\r\n") + "\n"


def _cell(name: str, value: object) -> object:
    """Write a value for CSV; scores keep every bit."""
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, float):
        return "" if name == "number" and value == -1 else value
    if math.isnan(value):
        return ""
    if name == "recorded_at":
        return datetime.fromtimestamp(value, UTC).replace(tzinfo=None).isoformat()
    return repr(value) if name.endswith(_BITWISE) else f"{value:.10g}"
