"""What public functions take: paths in any form; TypeError with what to give instead where it is something else."""

import os
from collections.abc import Iterable

Location = str | os.PathLike[str]
"""A path of this machine, as text or as a path, or an ``s3://`` URL."""


def as_paths(*given: Location | Iterable[Location]) -> list[str]:
    """Return locations as text, also those in lists of them; TypeError for anything else."""
    return [os.fspath(one) for some in given for one in ([some] if isinstance(some, str | os.PathLike) else some)]


def expect(value: object, kind: type, advice: str) -> None:
    """Raise TypeError with the advice unless a value is of a kind."""
    if not isinstance(value, kind):
        msg = f"{advice}, not {value!r}"
        raise TypeError(msg)
