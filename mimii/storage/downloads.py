"""Download one large file from a web server: resumed after breaks, checked as it streams, in place only when right.

`stream` reads the bytes, from any position and over as many connections as it takes; `download` writes them to a disk,
`transfer` to S3. requests is imported where it is used: it takes longer than all the rest.

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
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from mimii._version import __version__
from mimii.storage import s3
from mimii.storage.access import Access
from mimii.storage.disk import sync

if TYPE_CHECKING:
    import requests

_PIECE_BYTES = 1 << 20
_RANGE_BYTES = 32 << 20
_TRANSIENT = frozenset((408, 425, 429, 500, 502, 503, 504))
_CONTENT_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")
_PREFIX_OF_URLLIB3 = re.compile(r"^(<.*?>|\w+\(.*?\)): ")
MD5 = "md5"
"""The name of the metadata with which S3 keeps a file's checksum."""


class DownloadError(RuntimeError):
    """A file cannot be downloaded; the message says why and what to do."""


class StoppedError(RuntimeError):
    """The user has stopped the download; the bytes received so far are kept."""


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """A file on a web server, its checksum in hexadecimal, and its size in bytes where that is known."""

    url: str
    md5: str
    size: int | None = None


@dataclass(frozen=True, slots=True)
class Retrying:
    """How often and how long to retry.

    Attributes
    ----------
    tries : int
        How many in a row may fail without a byte of progress.
    first_wait, longest_wait : float
        Seconds before the second try, doubled from try to try, and their limit.
    longest_request : float
        The most seconds that a server may ask to wait (Retry-After); more are an error.
    timeouts : (float, float)
        Seconds to wait for a connection, and for bytes on it.

    """

    tries: int = 8
    first_wait: float = 1.0
    longest_wait: float = 60.0
    longest_request: float = 900.0
    timeouts: tuple[float, float] = (10.0, 30.0)


class Watcher(Protocol):
    """Follows the progress of a download, and may stop it."""

    def progress(self, done: int, total: int | None) -> None:
        """Note how many bytes are complete; raise StoppedError to stop."""
        ...

    def wait(self, seconds: float, reason: str) -> None:
        """Wait before the next try; raise StoppedError to stop."""
        ...


class Silent:
    """Ignores progress, and waits as long as it should."""

    def progress(self, done: int, total: int | None) -> None:
        """Do nothing."""

    def wait(self, seconds: float, reason: str) -> None:  # noqa: ARG002  the protocol
        """Wait, and never stop."""
        time.sleep(seconds)


class _TransientError(Exception):
    """A failure after which a retry may succeed."""

    def __init__(self, reason: str, wait: float | None = None) -> None:
        super().__init__(reason)
        self.wait = wait


class _ChangedError(Exception):
    """The bytes received are not those of the published file, or the server has another file there now."""


class _Writable(Protocol):
    def write(self, data: bytes, /) -> object: ...


def stream(wanted: PublishedFile, start: int, retrying: Retrying, watcher: Watcher) -> Iterator[bytes]:
    """Yield a published file from some byte to its end, over as many connections as it takes."""
    reader = _Reader(wanted, start, retrying)
    failures = 0
    while not reader.finished:
        try:
            for block in reader.blocks():
                failures = 0
                yield block
        except _TransientError as error:
            failures += 1
            if failures >= retrying.tries:
                msg = f"{wanted.url}: given up after {failures} tries in a row: {error}"
                raise DownloadError(msg) from error
            watcher.wait(_pause(failures, error.wait, retrying, wanted.url), str(error))


def published_size(wanted: PublishedFile, retrying: Retrying) -> int | None:
    """Return the size of a file, by asking the server where it is not known."""
    if wanted.size is not None:
        return wanted.size
    import requests  # noqa: PLC0415

    try:
        answer = requests.head(wanted.url, headers=_HEADERS, timeout=retrying.timeouts, allow_redirects=True)
    except requests.RequestException:
        return None
    length = answer.headers.get("Content-Length", "")
    return int(length) if answer.ok and length.isdecimal() else None


def download(wanted: PublishedFile, target: Path, retrying: Retrying, watcher: Watcher) -> bool:
    """Download a file to a disk; return False where it is there already.

    Until it is complete, it is kept beside the target as the hidden file ``.NAME.part``, where the next call resumes.
    """
    if target.exists():
        _refuse_if(check_file(target, wanted, watcher), str(target))
        return False
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(partial_path(target)) as file:
        _try_twice(lambda: _complete(file, wanted, retrying, watcher), wanted, watcher)
        file.flush()
        os.fsync(file.fileno())
        partial_path(target).replace(target)
        sync(target.parent)
    return True


def transfer(wanted: PublishedFile, url: str, access: Access, retrying: Retrying, watcher: Watcher) -> bool:
    """Download a file to S3, without a disk in between; return False where it is there already."""
    if found := s3.describe(url, access):
        if found.metadata.get(MD5) != wanted.md5 or wanted.size not in (None, found.size):
            _refuse_if(check_object(found, wanted, access, watcher), url)
        return False

    def upload() -> None:
        with s3.upload(url, access, {MD5: wanted.md5}) as file:
            _copy(wanted, 0, _md5(), file, retrying, watcher)

    _try_twice(upload, wanted, watcher)
    return True


def check_file(path: Path, wanted: PublishedFile, watcher: Watcher) -> str:
    """Return how a file on a disk differs from what was published; empty where size and checksum are right."""
    with path.open("rb") as file:
        return _difference(path.stat().st_size, _blocks(file), wanted, watcher)


def check_object(found: s3.Found, wanted: PublishedFile, access: Access, watcher: Watcher) -> str:
    """Return how an object on S3 differs from what was published, like `check_file`; all of it is read."""
    starts = range(0, found.size, _RANGE_BYTES)
    blocks = (s3.read(found.url, start, min(start + _RANGE_BYTES, found.size), access) for start in starts)
    return _difference(found.size, blocks, wanted, watcher)


def partial_path(target: Path) -> Path:
    """Return where the first bytes of an incomplete download are kept."""
    return target.with_name(f".{target.name}.part")


_HEADERS = {"Accept-Encoding": "identity", "User-Agent": f"sound-features/{__version__}"}


class _Reader:
    """A file that is being read: the position, and the version that its first bytes are of."""

    def __init__(self, wanted: PublishedFile, start: int, retrying: Retrying) -> None:
        self._wanted, self._retrying, self._position, self._etag = wanted, retrying, start, ""
        self.finished = start == wanted.size

    def blocks(self) -> Iterator[bytes]:
        """Continue over one connection; raise _TransientError where it breaks."""
        import requests  # noqa: PLC0415

        headers, timeouts = dict(_HEADERS), self._retrying.timeouts
        if self._position:
            headers |= {"Range": f"bytes={self._position}-"} | ({"If-Range": self._etag} if self._etag else {})
        try:
            with requests.get(self._wanted.url, headers=headers, stream=True, timeout=timeouts) as answer:
                skipped, total = self._accept(answer)
                yield from self._read(answer, skipped, total)
        except requests.RequestException as error:
            raise _TransientError(_reason(error)) from error
        if total is not None and self._position < total:
            msg = f"the connection closed after {self._position} of {total} bytes"
            raise _TransientError(msg)
        self.finished = True

    def _accept(self, answer: "requests.Response") -> tuple[int, int | None]:
        """Return how many bytes to skip, and the size of the whole file; raise an error unless the answer fits."""
        url, status = self._wanted.url, answer.status_code
        if status in _TRANSIENT:
            msg = f"the server answers {status} {answer.reason}"
            raise _TransientError(msg, _retry_after(answer.headers.get("Retry-After", "")))
        if status == 416 and self._position:
            return self._accept_nothing(answer)
        if status not in (200, 206):
            msg = f"{url}: the server answers {status} {answer.reason}"
            raise DownloadError(msg)
        begin, total = _extent(answer)
        if begin > self._position:
            msg = f"{url}: asked for byte {self._position}, the server sends from byte {begin}"
            raise DownloadError(msg)
        if total is not None and self._wanted.size not in (None, total):
            msg = f"{url}: {total} bytes are published there, {self._wanted.size} were expected"
            raise DownloadError(msg)
        self._compare_versions(answer.headers.get("ETag", ""))
        return self._position - begin, total if total is not None else self._wanted.size

    def _accept_nothing(self, answer: "requests.Response") -> tuple[int, int]:
        """Accept that there are no more bytes; raise _ChangedError where the server has a file of another size."""
        if answer.headers.get("Content-Range", "") != f"bytes */{self._position}":
            raise _ChangedError
        return int(answer.headers.get("Content-Length", 0)), self._position

    def _compare_versions(self, etag: str) -> None:
        if etag.startswith("W/"):  # a weak one, the same for other bytes
            return
        if self._etag and etag and etag != self._etag:
            raise _ChangedError
        self._etag = etag or self._etag

    def _read(self, answer: "requests.Response", skipped: int, total: int | None) -> Iterator[bytes]:
        for block in answer.iter_content(_PIECE_BYTES):
            kept = block[skipped:]
            skipped -= len(block) - len(kept)
            self._position += len(kept)
            if total is not None and self._position > total:
                msg = f"{self._wanted.url}: the server sends more than the {total} bytes expected"
                raise DownloadError(msg)
            if kept:
                yield kept


def _extent(answer: "requests.Response") -> tuple[int, int | None]:
    """Return the first byte of an answer, and the size of the whole file where it says so."""
    if answer.status_code == 206:
        match = _CONTENT_RANGE.fullmatch(answer.headers.get("Content-Range", ""))
        if not match:
            msg = "the server sends a part of the file, but no valid Content-Range"
            raise _TransientError(msg)
        return int(match[1]), int(match[2]) if match[2] != "*" else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdecimal() else None


def _retry_after(text: str) -> float | None:
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
    except (TypeError, ValueError):
        return None


def _pause(failures: int, asked: float | None, retrying: Retrying, url: str) -> float:
    """Return the seconds before the next try: those that the server asks for, or more."""
    if asked is not None and asked > retrying.longest_request:
        msg = f"{url}: the server asks to retry in {asked:.0f} s; run the same command again then"
        raise DownloadError(msg)
    longest: float = min(retrying.longest_wait, retrying.first_wait * 2 ** (failures - 1))
    own: float = longest * random.uniform(0.5, 1)  # noqa: S311  so that many clients do not retry at once
    return max(own, asked or 0.0)


def _refuse_if(problem: str, target: str) -> None:
    if problem:
        msg = f"{target}: {problem}. It is left alone: delete it or move it away, and run this again"
        raise DownloadError(msg)


def _try_twice(act: Callable[[], None], wanted: PublishedFile, watcher: Watcher) -> None:
    """Download a second time where the first one is not what was published."""
    with suppress(_ChangedError):
        return act()
    watcher.wait(0, "the bytes received are not those that were published")
    with suppress(_ChangedError):
        return act()
    msg = f"{wanted.url}: twice it has another checksum than was published (MD5 {wanted.md5}); nothing is kept"
    raise DownloadError(msg)


def _complete(file: BinaryIO, wanted: PublishedFile, retrying: Retrying, watcher: Watcher) -> None:
    """Complete a partial file; empty it and raise _ChangedError where the result is not what was published."""
    if wanted.size is not None and file.seek(0, os.SEEK_END) > wanted.size:
        file.truncate(0)
    file.seek(0)
    digest = _digest(_blocks(file), wanted.size, watcher)
    try:
        _copy(wanted, file.tell(), digest, file, retrying, watcher)
    except _ChangedError:
        file.truncate(0)
        raise


def _copy(
    wanted: PublishedFile, start: int, digest: "hashlib._Hash", file: _Writable, retrying: Retrying, watcher: Watcher
) -> None:
    """Write a published file from some byte to its end; raise _ChangedError where the checksum is wrong then."""
    for block in stream(wanted, start, retrying, watcher):
        file.write(block)
        digest.update(block)
        start += len(block)
        watcher.progress(start, wanted.size)
    if digest.hexdigest() != wanted.md5:
        raise _ChangedError


def _difference(size: int, blocks: Iterable[bytes], wanted: PublishedFile, watcher: Watcher) -> str:
    if wanted.size not in (None, size):
        return f"has {size} bytes, {wanted.size} were published"
    md5 = _digest(blocks, size, watcher).hexdigest()
    return "" if md5 == wanted.md5 else f"has the MD5 {md5}, {wanted.md5} was published"


def _digest(blocks: Iterable[bytes], total: int | None, watcher: Watcher) -> "hashlib._Hash":
    digest, done = _md5(), 0
    for block in blocks:
        digest.update(block)
        done += len(block)
        watcher.progress(done, total)
    return digest


def _md5() -> "hashlib._Hash":
    return hashlib.md5(usedforsecurity=False)


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    return iter(lambda: file.read(_PIECE_BYTES), b"")


@contextmanager
def _locked(partial: Path) -> Iterator[BinaryIO]:
    """Open a partial file, which no other process may open meanwhile; delete it where it stays empty."""
    with partial.open("ab+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            msg = f"{partial}: another process is fetching this file; wait for it"
            raise DownloadError(msg) from None
        if not _is_the_same(file, partial):
            msg = f"{partial}: another process has just completed this file; run this again"
            raise DownloadError(msg)
        try:
            yield file
        finally:
            if not os.fstat(file.fileno()).st_size and _is_the_same(file, partial):
                partial.unlink()


def _is_the_same(file: BinaryIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except FileNotFoundError:
        return False


def _reason(error: Exception) -> str:
    """Return the innermost reason, without what urllib3 writes before it."""
    while error.args and isinstance(error.args[-1], Exception):
        error = error.args[-1]
    reason = getattr(error, "reason", None) or error
    text = " ".join(_PREFIX_OF_URLLIB3.sub("", str(reason)).split())
    return text or type(error).__name__
