"""What public functions take: paths in any form; errors say what to give instead where it is something else."""

import os
import re
from collections.abc import Iterable
from pathlib import PurePath
from urllib.parse import unquote

from mimii.storage.places import S3

Location = str | os.PathLike[str]
"""A path of this machine, as text or as a path, or an ``s3://`` URL."""

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*):(?P<slashes>/*)(?P<rest>.*)", re.IGNORECASE | re.DOTALL)
_LIKE_S3 = ("s3", "s3a", "s3n")
_WITH_LOGIN = "a URL must hold no user name or password: set AWS_ACCESS_KEY_ID and so on, or use a profile"
_JOINED = " (pathlib joins the slashes of a URL: give it as text)"


class LocationError(ValueError):
    """A place that is neither a path of this machine nor an S3 URL; the message says what was probably meant."""


def as_path(location: Location) -> str:
    """Return a location as text: a path of this machine or ``s3://bucket/key``; LocationError for other URLs."""
    text = os.fspath(location)
    url = _URL.match(text)
    if not url:
        return text
    scheme, is_url = url["scheme"].lower(), url["slashes"].startswith("//")
    if is_url and "@" in url["rest"].partition("/")[0]:
        raise LocationError(_WITH_LOGIN)
    if scheme in _LIKE_S3:
        return _as_s3(text, url["rest"], _JOINED if isinstance(location, PurePath) else "")
    if scheme == "file":
        return _as_file(text, url["slashes"], url["rest"])
    if is_url:
        msg = f"{text}: must be a path of this machine or s3://bucket/prefix"
        raise LocationError(msg)
    return text


def _as_s3(text: str, rest: str, why: str) -> str:
    if not rest:
        msg = f"{text}: names no bucket; write s3://bucket/prefix"
        raise LocationError(msg)
    if text != f"{S3}{rest}":
        msg = f"{text}: did you mean {S3}{rest}?{why}"
        raise LocationError(msg)
    return text


def _as_file(text: str, slashes: str, rest: str) -> str:
    host, slash, below = rest.partition("/")
    if slashes == "//" and host == "localhost" and slash:
        return unquote(f"/{below}", errors="surrogateescape")
    if slashes != "///":
        msg = f"{text}: did you mean {'/' * (len(slashes) % 2)}{rest}? As a URL, that is file:///FOLDER"
        raise LocationError(msg)
    return unquote(f"/{rest}", errors="surrogateescape")


def as_paths(*given: Location | Iterable[Location]) -> list[str]:
    """Return locations as text, also those in lists of them; TypeError for anything else."""
    return [as_path(one) for some in given for one in ([some] if isinstance(some, str | os.PathLike) else some)]


def expect(value: object, kind: type, advice: str) -> None:
    """Raise TypeError with the advice unless a value is of a kind."""
    if not isinstance(value, kind):
        msg = f"{advice}, not {value!r}"
        raise TypeError(msg)
