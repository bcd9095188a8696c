"""What is at an output before a run, what may be wrong with it, and where results say that they come from."""

import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mimii import __version__

_LICENSE = "The {what} are derived from the recordings and come under their licence; MIMII is CC BY-SA 4.0."
_ATTRIBUTION = (
    "Where the recordings are of MIMII: Purohit, Tanabe, Ichige, Endo, Nikaido, Suefusa, Kawaguchi: MIMII Dataset, "
    "Hitachi, Ltd., doi:10.5281/zenodo.3384388"
)


class StoreError(RuntimeError):
    """An output that is not ours to write, or that holds other results; the message says what to do."""


class UnfinishedError(RuntimeError):
    """An output that lacks results when it is to be finished; the message says which."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What is at the output before a run.

    Attributes
    ----------
    kind : str
        What it is, for people: ``"table"``.
    attributes : mapping
        What it says of itself.
    finished : bool
        Whether it is whole.

    """

    kind: str
    attributes: Mapping[str, Any]
    finished: bool


def provenance(sources: Sequence[str], what: str, packages: Sequence[str]) -> dict[str, Any]:
    """Say where results come from.

    Parameters
    ----------
    sources : sequence of str
        Where the recordings are; credentials in URLs are left out.
    what : str
        The results, for people: ``"features"``.
    packages : sequence of str
        The software that decides what they are.

    Returns
    -------
    dict
        sources, software with versions, license and attribution.

    """
    return {
        "sources": [_without_credentials(as_unicode(source)) for source in sources],
        "software": {"sound-features": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "license": _LICENSE.format(what=what),
        "attribution": _ATTRIBUTION,
    }


def as_unicode(path: str) -> str:
    """Replace bytes of a path that are not UTF-8: neither Zarr's strings nor JSON can hold them.

    Parameters
    ----------
    path : str
        As Python has it from the operating system.

    Returns
    -------
    str
        Valid Unicode.

    """
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _without_credentials(source: str) -> str:
    url = urlsplit(source)
    if not url.scheme:
        return source
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
