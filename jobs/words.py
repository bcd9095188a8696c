"""Numbers, sizes and tables as the commands print them."""

import math
from collections.abc import Iterable, Sequence

from mimii.storage import be, have, numbered

__all__ = ["be", "format_bytes", "format_table", "have", "numbered"]

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB")


def format_bytes(size: float) -> str:
    """Write a number of bytes in powers of 1000: ``2.6 MB``."""
    power = min(max(0, int(math.log10(max(size, 1)) // 3)), len(_UNITS) - 1)
    return f"{size / 1000**power:.{min(power, 1)}f} {_UNITS[power]}"


def format_table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Align columns: the first one left, the others right."""
    cells = [list(header), *map(list, rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(header))]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in cells]
