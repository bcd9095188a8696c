"""What is at an output before a run, what may be wrong with it, and where results say that they come from."""

import json
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from mimii._version import __version__
from mimii.storage import PARTIAL, Objects

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


def find_existing(objects: Objects, key: str, title: str, kind: str) -> Existing | None:
    """Look at what is at an output that a JSON document tells of."""
    data = objects.get(key)
    try:
        if data is None and all(name == PARTIAL for name in objects.names()):
            return None
        about = json.loads(data or b"")
        if about["title"] == title and about["fingerprint"]:
            return Existing(kind, about, finished=bool(about["finished"]))
    except (ValueError, KeyError, TypeError, NotADirectoryError):
        pass
    msg = f"{objects.root}: there is something that is not a {kind}; it is left alone. Choose another --output"
    raise StoreError(msg)


def provenance(sources: Sequence[str], what: str, packages: Sequence[str]) -> dict[str, Any]:
    """Say where results come from."""
    return {
        "sources": [_without_credentials(as_unicode(source)) for source in sources],
        "software": {"sound-features": __version__, "python": platform.python_version()}
        | {name: version(name) for name in packages},
        "license": _LICENSE.format(what=what),
        "attribution": _ATTRIBUTION,
    }


def as_unicode(path: str) -> str:
    """Replace bytes of a path that are not UTF-8: neither Zarr's strings nor JSON can hold them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _without_credentials(source: str) -> str:
    url = urlsplit(source)
    if not url.scheme:
        return source
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))
