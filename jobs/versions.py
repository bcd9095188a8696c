"""Which versions run where: a cluster in which they differ computes something else, or nothing."""

from collections import Counter
from collections.abc import Callable, Mapping

Versions = dict[str, str]


class MixError(RuntimeError):
    """Parts of a cluster with different versions; the message is a table of them."""


def make_asker() -> Callable[[], Versions]:
    """Make a function that tells the versions where it is called.

    Returns
    -------
    callable
        Without arguments; of Python (without the patch level), of packages, and a digest of this project's code. It
        needs nothing to be installed, and is defined here so that it is sent to others whole.

    """

    def ask() -> Versions:
        import hashlib
        import platform
        from importlib import metadata, util
        from pathlib import Path

        found = {"python": ".".join(platform.python_version_tuple()[:2])}
        for name in ("dask", "distributed", "numpy", "zarr"):
            try:
                found[name] = metadata.version(name)
            except metadata.PackageNotFoundError:
                found[name] = "missing"
        digest = hashlib.sha256()
        for package in ("mimii", "jobs"):
            spec = util.find_spec(package)
            if spec is None or spec.origin is None:
                return found | {"sound-features": "missing"}
            for path in sorted(Path(spec.origin).parent.glob("*.py")):
                digest.update(path.name.encode() + path.read_bytes())
        return found | {"sound-features": f"code {digest.hexdigest()[:8]}"}

    return ask


def check_versions(here: Versions, scheduler: Versions, workers: Mapping[str, Versions]) -> None:
    """Make sure that all parts of a cluster have the same versions.

    Parameters
    ----------
    here, scheduler : dict of str to str
        Versions by name, of this process and of the scheduler.
    workers : mapping of str to dict
        Those of the workers, by address.

    Raises
    ------
    MixError
        If any differs.

    """
    kinds = Counter(tuple(versions.items()) for versions in workers.values())
    columns = {"here": here, "scheduler": scheduler}
    for kind, count in kinds.most_common():
        example = next(address for address, versions in workers.items() if tuple(versions.items()) == kind)
        columns[f"{count} workers" if count > 1 else example] = dict(kind)
    if any(versions != here for versions in columns.values()):
        raise MixError(_tell(columns))


def _tell(columns: Mapping[str, Versions]) -> str:
    names = [name for name in columns["here"] if len({versions.get(name) for versions in columns.values()}) > 1]
    rows = [["", *columns], *([name, *(versions.get(name, "?") for versions in columns.values())] for name in names)]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)
    table = "\n  ".join(lines)
    return (
        f"the parts of the cluster have different versions:\n  {table}\n"
        "Use the same everywhere: one image, built of the Dockerfile, or one constraints.txt"
    )
