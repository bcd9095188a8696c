"""Which versions run where: a cluster in which they differ computes something else, or nothing."""

from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from mimii.storage import numbered

Versions = dict[str, str]

PACKAGES = ("dask", "distributed", "numpy", "zarr")
"""What decides whether parts of a cluster understand each other and compute the same."""

PROJECT = "sound-features"
"""The name of this project in tables of versions."""

ADVICE = "Use the same everywhere: one image, built of the Dockerfile, or one constraints.txt and one copy of the code"


class MixError(RuntimeError):
    """Parts of a cluster with different versions; the message is a table of them."""


def select_versions(reported: Mapping[str, Any]) -> Versions:
    """Return the versions that have to be the same, from what a part of a cluster reports of itself."""
    found = {name: str(reported["packages"].get(name) or "missing") for name in ("python", *PACKAGES)}
    return found | {"python": ".".join(found["python"].split(".")[:2])}


def make_code_asker() -> Callable[[], str]:
    """Return a function that digests this project's code where it is called; it is sent to other processes."""

    def ask() -> str:
        import hashlib
        from importlib import util
        from pathlib import Path

        digest = hashlib.sha256()
        for package in ("mimii", "jobs"):
            spec = util.find_spec(package)
            if spec is None or spec.origin is None:
                return "missing"
            folder = Path(spec.origin).parent
            for path in sorted(folder.rglob("*.py")):
                digest.update(path.relative_to(folder).as_posix().encode() + path.read_bytes())
        return f"code {digest.hexdigest()[:8]}"

    return ask


@cache
def code_here() -> str:
    """Return the digest of the code of this process."""
    return make_code_asker()()


def check_code(expected: str) -> None:
    """Make sure that this process has the code of another one."""
    if code_here() != expected:
        msg = f"a worker has {code_here()} of {PROJECT}, and the job {expected}. {ADVICE}"
        raise MixError(msg)


def check_versions(here: Versions, scheduler: Versions, workers: Mapping[str, Versions]) -> None:
    """Make sure that all parts of a cluster have the same versions."""
    kinds = Counter(tuple(versions.items()) for versions in workers.values())
    columns = {"here": here, "scheduler": scheduler}
    for kind, count in kinds.most_common():
        example = next(address for address, versions in workers.items() if tuple(versions.items()) == kind)
        columns[example if count == 1 else f"{numbered(count, 'worker')}, as {example}"] = dict(kind)
    if any(versions != here for versions in columns.values()):
        raise MixError(_tabulate(columns))


def _tabulate(columns: Mapping[str, Versions]) -> str:
    names = [name for name in columns["here"] if len({versions.get(name) for versions in columns.values()}) > 1]
    rows = [["", *columns], *([name, *(versions.get(name, "?") for versions in columns.values())] for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    table = "\n  ".join(lines)
    return f"the parts of the cluster have different versions:\n  {table}\n{ADVICE}"
