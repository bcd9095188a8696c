"""Get one large file from a web server: broken off and gone on with, checked as it streams, in place only when right.

The stream of bytes is one thing, where they go another: `stream` begins at any byte and goes on after whatever may
pass; `download` writes to a disk, `transfer` to S3.

References
----------
RFC 9110, HTTP Semantics: sections 10.2.3 (Retry-After), 13.1.5 (If-Range), 14 (range requests).

"""

import fcntl
import hashlib
import os
import random
import re
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import BinaryIO, Protocol

import requests

from mimii._version import __version__
from mimii.storage import s3
from mimii.storage.access import Access
from mimii.storage.disk import sync_folder

_PIECE_BYTES = 1 << 20
_RANGE_BYTES = 32 << 20
_PASSING = frozenset((408, 425, 429, 500, 502, 503, 504))
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_INNARDS = re.compile(r"^(<.*?>|\w+\(.*?\)): ")
_ATTEMPTS = 2
_NOT_IT = "what came is not what was published"
MD5 = "md5"
"""The name under which S3 keeps an archive's checksum."""


class DownloadError(RuntimeError):
    """A file that cannot be had; the message says why and what to do."""


class StoppedError(RuntimeError):
    """The user has had enough; what has come so far is kept."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file to get.

    Attributes
    ----------
    url : str
        Where it is published.
    md5 : str
        Its checksum, in hexadecimal.
    size : int or None
        Bytes; None where that is not known.

    """

    url: str
    md5: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """How long to try.

    Attributes
    ----------
    tries : int
        How often in a row without a byte of progress.
    first_wait, longest_wait : float
        Seconds before the second try, doubled from try to try, and the most of them.
    longest_request : float
        Seconds to wait because the server asks for it; more are an error.
    timeouts : (float, float)
        Seconds to wait for a connection, and for some bytes on it.

    """

    tries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_request: float = 900.0
    timeouts: tuple[float, float] = (10.0, 30.0)


class Watcher(Protocol):
    """Is told how far a file is, and may stop it."""

    def progress(self, done: int, total: int | None) -> None:
        """Take note of the bytes that are there; raise StoppedError to stop."""
        ...

    def wait(self, seconds: float, reason: str) -> None:
        """Wait before the next try; raise StoppedError to stop."""
        ...


class Silent:
    """Watches nothing."""

    def progress(self, done: int, total: int | None) -> None:
        """Take note of nothing."""

    def wait(self, seconds: float, reason: str) -> None:  # noqa: ARG002  what a watcher is told
        """Wait."""
        time.sleep(seconds)


class _PassingError(Exception):
    """Something that may pass."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _ChangedError(Exception):
    """What is published now is another file than what the first bytes came from."""


def stream(wanted: PublishedFile, start: int, retrying: Retrying, watcher: Watcher) -> Iterator[bytes]:
    """Read a published file from some byte to its end, over as many connections as it takes."""
    reader = _Reader(wanted, start, retrying)
    failures = 0
    while not reader.finished:
        try:
            for piece in reader.pieces():
                failures = 0
                yield piece
        except _PassingError as error:
            failures += 1
            if failures >= retrying.tries:
                msg = f"{wanted.url}: given up after {failures} tries in a row: {error}"
                raise DownloadError(msg) from error
            watcher.wait(_pause(failures, error.wait, retrying, wanted.url), str(error))


def published_size(wanted: PublishedFile, retrying: Retrying) -> int | None:
    """Ask a server how large a file is."""
    if wanted.size is not None:
        return wanted.size
    try:
        answer = requests.head(wanted.url, headers=_HEADERS, timeout=retrying.timeouts, allow_redirects=True)
    except requests.RequestException:
        return None
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.ok and length.isdecimal() else None


def download(wanted: PublishedFile, target: Path, retrying: Retrying, watcher: Watcher) -> bool:
    """Get a file to a disk.

    What has come so far is kept beside the target, hidden, as ``.NAME.part``: the next call goes on with it.
    """
    if target.exists():
        if problem := check_file(target, wanted, watcher):
            msg = f"{target}: {problem}. It is left alone: delete it or move it away, and run this again"
            raise DownloadError(msg)
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    partial = partial_path(target)
    with _locked(partial) as file:
        for attempt in range(1, _ATTEMPTS + 1):
            if _fill(file, wanted, retrying, watcher):
                file.flush()
                os.fsync(file.fileno())
                partial.replace(target)
                sync_folder(target.parent)
                return True
            file.truncate(0)
            if attempt < _ATTEMPTS:
                watcher.wait(0, _NOT_IT)
    raise DownloadError(_wrong(wanted))


def transfer(wanted: PublishedFile, url: str, access: Access, retrying: Retrying, watcher: Watcher) -> bool:
    """Get a file to S3, without a disk in between."""
    found = s3.describe(url, access)
    if found:
        noted = found.metadata.get(MD5) == wanted.md5 and wanted.size in (None, found.size)
        if problem := "" if noted else check_object(found, wanted, access, watcher):
            msg = f"{url}: {problem}. It is left alone: delete it or move it away, and run this again"
            raise DownloadError(msg)
        return False
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            with s3.upload(url, access, {MD5: wanted.md5}) as file:
                _pour(file, wanted, retrying, watcher)
        except _ChangedError:
            if attempt < _ATTEMPTS:
                watcher.wait(0, _NOT_IT)
        else:
            return True
    raise DownloadError(_wrong(wanted))


def check_file(path: Path, wanted: PublishedFile, watcher: Watcher) -> str:
    """Compare the size and the checksum of a file on a disk with what was published."""
    size = path.stat().st_size
    if wanted.size not in (None, size):
        return _wrong_size(size, wanted)
    with path.open("rb") as file:
        digest = _hash(file, watcher, size)
    return "" if digest.hexdigest() == wanted.md5 else _wrong_checksum(digest.hexdigest(), wanted)


def check_object(found: s3.Found, wanted: PublishedFile, access: Access, watcher: Watcher) -> str:
    """Compare the size and the checksum of an object on S3 with what was published; all of it is read."""
    if wanted.size not in (None, found.size):
        return _wrong_size(found.size, wanted)
    digest = hashlib.md5(usedforsecurity=False)
    for start in range(0, found.size, _RANGE_BYTES):
        digest.update(s3.read(found.url, start, min(start + _RANGE_BYTES, found.size), access))
        watcher.progress(min(start + _RANGE_BYTES, found.size), found.size)
    return "" if digest.hexdigest() == wanted.md5 else _wrong_checksum(digest.hexdigest(), wanted)


def partial_path(target: Path) -> Path:
    """Say where the part of a file is kept that has come so far."""
    return target.with_name(f".{target.name}.part")


_HEADERS = {
    "Accept-Encoding": "identity",
    "User-Agent": f"sound-features/{__version__}",
}


class _Reader:
    """One file being read: how far it is, and which version of it."""

    def __init__(self, wanted: PublishedFile, start: int, retrying: Retrying) -> None:
        self._wanted, self._timeout, self._position = wanted, retrying, start
        self._etag = ""
        self.finished = start == wanted.size

    def pieces(self) -> Iterator[bytes]:
        """Read on over one connection; raise _PassingError where it breaks."""
        headers = dict(_HEADERS)
        if self._position:
            headers |= {"Range": f"bytes={self._position}-"} | ({"If-Range": self._etag} if self._etag else {})
        try:
            with requests.get(self._wanted.url, headers=headers, stream=True, timeout=self._timeout.timeouts) as answer:
                skipped, total = self._accept(answer)
                yield from self._read(answer, skipped, total)
        except requests.RequestException as error:
            raise _PassingError(_brief(error)) from error
        if total is not None and self._position < total:
            msg = f"the connection ended after {self._position} of {total} bytes"
            raise _PassingError(msg)
        self.finished = True

    def _accept(self, answer: requests.Response) -> tuple[int, int | None]:
        """Return how many bytes to skip, and how many the whole file has; raise what the status asks for."""
        url, status = self._wanted.url, answer.status_code
        if status in _PASSING:
            msg = f"the server answers {status} {answer.reason}"
            raise _PassingError(msg, _retry_after(answer.headers.get("Retry-After", "")))
        if status == 416 and self._position:
            return self._accept_nothing(answer)
        if status not in (200, 206):
            msg = f"{url}: the server answers {status} {answer.reason}"
            raise DownloadError(msg)
        begin, total = _extent(answer)
        if begin > self._position:
            msg = f"{url}: asked for byte {self._position}, the server sends byte {begin} and on"
            raise DownloadError(msg)
        if total is not None and self._wanted.size not in (None, total):
            msg = f"{url}: {total} bytes are published there, {self._wanted.size} were expected"
            raise DownloadError(msg)
        self._compare_versions(answer.headers.get("ETag", ""))
        return self._position - begin, total if total is not None else self._wanted.size

    def _accept_nothing(self, answer: requests.Response) -> tuple[int, int]:
        """Judge an answer that there is nothing from here on: all is here already, or another file is there now."""
        if answer.headers.get("Content-Range", "") != f"bytes */{self._position}":
            raise _ChangedError
        return int(answer.headers.get("Content-Length", 0)), self._position

    def _compare_versions(self, etag: str) -> None:
        if etag.startswith("W/"):  # says nothing about the bytes
            return
        if self._etag and etag and etag != self._etag:
            raise _ChangedError
        self._etag = etag or self._etag

    def _read(self, answer: requests.Response, skipped: int, total: int | None) -> Iterator[bytes]:
        for piece in answer.iter_content(_PIECE_BYTES):
            kept = piece[skipped:]
            skipped -= len(piece) - len(kept)
            self._position += len(kept)
            if total is not None and self._position > total:
                msg = f"{self._wanted.url}: the server sends more than the {total} bytes that it should"
                raise DownloadError(msg)
            if kept:
                yield kept


def _extent(answer: requests.Response) -> tuple[int, int | None]:
    """Return the first byte of an answer, and the size of the whole file where it says so."""
    if answer.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not match:
            msg = "the server sends a part without saying which"
            raise _PassingError(msg)
        return int(match[1]), int(match[2]) if match[2] != "*" else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _retry_after(text: str) -> float | None:
    if text.isdecimal():
        return float(text)
    try:
        moment: float = parsedate_to_datetime(text).timestamp()
    except (TypeError, ValueError):
        return None
    return float(max(0.0, moment - time.time()))


def _pause(failures: int, asked: float | None, retrying: Retrying, url: str) -> float:
    if asked is not None and asked > retrying.longest_request:
        msg = f"{url}: the server asks to come back in {asked:.0f} s; run the same command again then"
        raise DownloadError(msg)
    longest: float = min(retrying.longest_wait, retrying.first_wait * 2 ** (failures - 1))
    own: float = longest * random.uniform(0.5, 1)  # noqa: S311  so that many clients do not come back at once
    return max(own, asked or 0.0)


def _fill(file: BinaryIO, wanted: PublishedFile, retrying: Retrying, watcher: Watcher) -> bool:
    """Complete a partial file; say whether it is right."""
    start = file.seek(0, os.SEEK_END)
    if wanted.size is not None and start > wanted.size:
        file.truncate(0)
    file.seek(0)
    digest = _hash(file, watcher, wanted.size)
    done = file.tell()
    try:
        for piece in stream(wanted, done, retrying, watcher):
            file.write(piece)
            digest.update(piece)
            done += len(piece)
            watcher.progress(done, wanted.size)
    except _ChangedError:
        return False
    return digest.hexdigest() == wanted.md5


def _pour(file: s3.Upload, wanted: PublishedFile, retrying: Retrying, watcher: Watcher) -> None:
    """Write a stream to S3; raise _ChangedError where it is not what was published, so that it is given up."""
    digest, done = hashlib.md5(usedforsecurity=False), 0
    for piece in stream(wanted, 0, retrying, watcher):
        file.write(piece)
        digest.update(piece)
        done += len(piece)
        watcher.progress(done, wanted.size)
    if digest.hexdigest() != wanted.md5:
        raise _ChangedError


def _hash(file: BinaryIO, watcher: Watcher, total: int | None) -> "hashlib._Hash":
    digest = hashlib.md5(usedforsecurity=False)
    while piece := file.read(_PIECE_BYTES):
        digest.update(piece)
        watcher.progress(file.tell(), total)
    return digest


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file for ourselves alone."""
    with partial.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{partial}: another process is fetching this file at the moment"
            raise DownloadError(msg) from None
        if not _is_the_same(file, partial):
            msg = f"{partial}: another process has just finished with this file; run this again"
            raise DownloadError(msg)
        try:
            yield file
        finally:
            if not os.fstat(file.fileno()).st_size and _is_the_same(file, partial):
                partial.unlink()  # there is nothing to go on with


def _is_the_same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _brief(error: Exception) -> str:
    """Say what went wrong without the innards of urllib3."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    reason = getattr(error, "reason", None) or error
    text = " ".join(_INNARDS.sub("", str(reason)).split())
    return text or type(error).__name__


def _wrong(wanted: PublishedFile) -> str:
    return f"{wanted.url}: what came has another checksum than was published (MD5 {wanted.md5}), twice; nothing is kept"


def _wrong_size(size: int, wanted: PublishedFile) -> str:
    return f"has {size} bytes, {wanted.size} were published"


def _wrong_checksum(digest: str, wanted: PublishedFile) -> str:
    return f"has the MD5 {digest}, {wanted.md5} was published"
