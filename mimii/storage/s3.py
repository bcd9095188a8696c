"""Objects on S3: find, read, put, delete. The only file that knows s3fs.

s3fs speaks the protocol and finds credentials as every AWS tool does. What is decided here is when to try again: cut
connections, slow-downs and servers that are restarting are waited for; what waiting cannot mend is raised at once.

s3fs is imported where it is used: most workers come past here when they start, and do not need its half a second.
"""

import errno
import logging
import random
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from mimii.storage.access import DEFAULT_ACCESS, Access, Options, nest_options
from mimii.storage.places import split_url

if TYPE_CHECKING:
    import s3fs

MAX_REQUESTS = 32
"""How many small requests one process has under way."""

_MOST_CONNECTIONS = 128
_PART_BYTES = 32 << 20
_PARTS_AT_ONCE = 2
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 20}
_BAD_CREDENTIALS = frozenset(
    (
        *(
            "ExpiredToken",
            "ExpiredTokenException",
            "InvalidAccessKeyId",
            "InvalidToken",
            "InvalidSecurity",
            "NotSignedUp",
        ),
        *("RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "AuthorizationHeaderMalformed"),
    )
)
_NO_CREDENTIALS = frozenset(
    (
        *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
        *("NoAuthTokenError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError"),
    )
)
_PASSING_ERRORS = frozenset(
    (
        *("HTTPClientError", "ConnectionError", "IncompleteReadError", "ResponseParserError", "ClientError"),
        *("ClientPayloadError", "ChecksumError", "TimeoutError", "FSTimeoutError", "ReadTimeoutError"),
    )
)
_PASSING_CODES = frozenset(
    (
        *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "TooManyRequests", "Throttling"),
        *("ThrottlingException", "RequestLimitExceeded", "OperationAborted", "BadDigest", "IncompleteBody"),
        *("XAmzContentSHA256Mismatch", "408", "409", "429", "500", "502", "503", "504"),
    )
)

_log = logging.getLogger(__name__)

_PARTIAL = ".partial"
Result = TypeVar("Result")


class StorageError(OSError):
    """S3 that cannot be used as it is: no credentials, no bucket, or no answer for too long; the message says which."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that is there.

    Attributes
    ----------
    url : str
        Where it is.
    size : int
        Bytes.
    version : str
        Its ETag, which changes with its bytes.
    modified : float
        When it was written, in seconds since 1970.
    metadata : mapping of str to str
        What was noted with it; only `describe` knows.

    """

    url: str
    size: int
    version: str
    modified: float
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


@lru_cache(maxsize=8)
def filesystem(options: Options) -> "s3fs.S3FileSystem":
    """Open S3 once for a process."""
    import s3fs

    settings = nest_options(options)
    # Trying again is decided here, in one place, and not on three floors.
    config = {"max_pool_connections": _MOST_CONNECTIONS, "retries": {"total_max_attempts": 1}, **_TIMEOUTS}
    config |= settings.pop("config_kwargs", {})
    opened = s3fs.S3FileSystem(**settings, config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
    opened.retries = 1
    return opened


def count_requests() -> int:
    """Count the requests that this process has made so far."""
    return _requests.total


def find(url: str, access: Access) -> Iterator[Found]:
    """Find the objects below a prefix, or the one object."""
    bucket, prefix = split_url(url.rstrip("/"))
    folder = f"{prefix}/" if prefix else ""
    for page in _pages(url, {"Bucket": bucket, "Prefix": folder}, access):
        for entry in page.get("Contents", ()):
            yield _found(f"s3://{bucket}/{entry['Key']}", entry["Size"], entry)


def describe(url: str, access: Access) -> Found | None:
    """Look at one object."""
    bucket, key = split_url(url)
    if not key:
        return None
    try:
        head = _call("head_object", url, access, Bucket=bucket, Key=key)
    except FileNotFoundError:
        return None
    return _found(url, head["ContentLength"], head)


def _found(url: str, size: int, answer: Mapping[str, Any]) -> Found:
    metadata = MappingProxyType(answer.get("Metadata", {}))
    return Found(url, size, answer["ETag"].strip('"'), answer["LastModified"].timestamp(), metadata)


def read(url: str, start: int, stop: int, access: Access) -> bytes:
    """Read a stretch of an object, with one request."""
    if start >= stop:
        return b""
    path = "/".join(split_url(url))
    data: bytes = _retried(lambda: filesystem(access.options).cat_file(path, start=start, end=stop), url, access)
    return data


@contextmanager
def upload(url: str, access: Access, metadata: Mapping[str, str]) -> "Iterator[Upload]":
    """Write a large object bit by bit; it appears when all is written, and not at all if there is an exception."""
    bucket, key = split_url(url)
    begun = _call("create_multipart_upload", url, access, Bucket=bucket, Key=key, Metadata=dict(metadata))
    arguments = {"Bucket": bucket, "Key": key, "UploadId": begun["UploadId"]}
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        writer = Upload(url, access, arguments, pool)
        try:
            yield writer
            parts = writer.finish()
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a part that arrives later would stay for ever
            _abort(url, access, arguments)
            raise
    _complete(url, access, arguments, parts)


class Upload:
    """What `upload` yields: takes bytes in order, and sends them off in parts."""

    def __init__(self, url: str, access: Access, arguments: Mapping[str, str], pool: ThreadPoolExecutor) -> None:
        self._send = partial(_call, "upload_part", url, access, **arguments)
        self._pool, self._buffer = pool, bytearray()
        self._under_way: deque[Future[Any]] = deque()
        self._tags: list[str] = []
        self._n_parts = 0

    def write(self, data: bytes) -> None:
        """Take some bytes; wait where too many are under way."""
        self._buffer += data
        if len(self._buffer) >= _PART_BYTES:
            self._send_buffer()

    def finish(self) -> list[dict[str, Any]]:
        """Send what is left, and wait for all of it; return the parts as S3 wants them listed."""
        if self._buffer or not self._n_parts:
            self._send_buffer()
        while self._under_way:
            self._collect()
        return [{"PartNumber": number, "ETag": tag} for number, tag in enumerate(self._tags, 1)]

    def _send_buffer(self) -> None:
        if len(self._under_way) >= _PARTS_AT_ONCE:
            self._collect()
        self._n_parts += 1
        self._under_way.append(self._pool.submit(self._send, PartNumber=self._n_parts, Body=bytes(self._buffer)))
        self._buffer.clear()

    def _collect(self) -> None:
        self._tags.append(self._under_way.popleft().result()["ETag"])


@dataclass(frozen=True, slots=True)
class S3Objects:
    """Objects below a prefix. S3 shows an object whole or not at all; see `mimii.storage.objects.Objects`.

    Attributes
    ----------
    root : str
        ``s3://bucket/prefix``.
    access : Access
        How to reach it.

    """

    root: str
    access: Access = DEFAULT_ACCESS

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it is there to stay."""
        bucket, name = self._split(key)
        _call("put_object", self._url(key), self.access, Bucket=bucket, Key=name, Body=data)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, many at a time."""
        _at_once(lambda key: self.put(key, objects[key]), objects)

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        path, url = "/".join(self._split(key)), self._url(key)
        try:
            # With a beginning but no end, s3fs asks for all of it at once, and not for its size first.
            data: bytes = _retried(lambda: filesystem(self.access.options).cat_file(path, start=0), url, self.access)
        except FileNotFoundError:
            return None
        return data

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects, many at a time; what is not there is left out."""
        keys = list(keys)
        found = zip(keys, _at_once(self.get, keys), strict=True)
        return {key: data for key, data in found if data is not None}

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a prefix: bytes by key."""
        folder = self._url(prefix)
        begin = len(self._url("")) + 1
        return {found.url[begin:]: found.size for found in find(folder, self.access)}

    def names(self) -> list[str]:
        """List what is directly below the root, sorted."""
        bucket, prefix = self._split("")
        folder = f"{prefix}/" if prefix else ""
        found = []
        for page in _pages(self.root, {"Bucket": bucket, "Prefix": folder, "Delimiter": "/"}, self.access):
            found += [entry["Key"] for entry in page.get("Contents", ())]
            found += [entry["Prefix"].rstrip("/") for entry in page.get("CommonPrefixes", ())]
        return sorted(name[len(folder) :] for name in found if name != folder)

    def delete(self, key: str) -> None:
        """Delete an object."""
        bucket, name = self._split(key)
        _call("delete_object", self._url(key), self.access, Bucket=bucket, Key=name)

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a prefix, many at a time."""
        _at_once(self.delete, self.sizes(prefix))

    def delete_partial(self) -> None:
        """Delete what checks that were killed have left behind."""
        self.delete_below(_PARTIAL)

    def check(self) -> None:
        """Make sure that objects can be written, read and deleted."""
        key, data = f"{_PARTIAL}/{uuid.uuid4().hex}", b"check"
        acts: dict[str, Callable[[], object]] = {
            "written": partial(self.put, key, data),
            "read": partial(self.get, key),
            "deleted": partial(self.delete, key),
        }
        for what, act in acts.items():
            try:
                act()
            except PermissionError as error:
                msg = f"{self.root}: objects cannot be {what} there: {error.strerror}"
                raise StorageError(msg) from None

    def _url(self, key: str) -> str:
        root = self.root.rstrip("/")
        return f"{root}/{key}" if key else root

    def _split(self, key: str) -> tuple[str, str]:
        return split_url(self._url(key))


class _Requests:
    """Counts, over all threads of a process."""

    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self) -> None:
        with self._lock:
            self.total += 1


_requests = _Requests()


def _pages(url: str, arguments: Mapping[str, str], access: Access) -> Iterator[Mapping[str, Any]]:
    more: dict[str, str] = {}
    while True:
        try:
            page = _call("list_objects_v2", url, access, **arguments, **more)
        except PermissionError as error:
            msg = f"{url}: cannot be listed: {error.strerror}"
            raise StorageError(msg) from None
        yield page
        if not page.get("IsTruncated"):
            return
        more = {"ContinuationToken": page["NextContinuationToken"]}


def _call(method: str, url: str, access: Access, **arguments: Any) -> Any:  # noqa: ANN401  botocore's own
    return _retried(lambda: filesystem(access.options).call_s3(method, **arguments), url, access)


def _abort(url: str, access: Access, arguments: Mapping[str, str]) -> None:
    try:
        _call("abort_multipart_upload", url, access, **arguments)
    except OSError as error:  # what made us give up matters more
        _log.warning("%s: an unfinished upload is left behind there: %s", url, error)


def _complete(url: str, access: Access, arguments: Mapping[str, str], parts: list[dict[str, Any]]) -> None:
    try:
        _call("complete_multipart_upload", url, access, **arguments, MultipartUpload={"Parts": parts})
    except FileNotFoundError:  # done already, where the answer to an earlier try was lost
        if describe(url, access) is None:
            raise


def _at_once(act: Callable[[str], Result], keys: Iterable[str]) -> list[Result]:
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        return list(pool.map(act, keys))


def _retried(act: Callable[[], Result], url: str, access: Access) -> Result:
    """Act, and act again while what goes wrong may pass."""
    deadline, wait = time.monotonic() + access.timeout, _FIRST_WAIT
    while True:
        _requests.add()
        try:
            return act()
        except Exception as error:  # noqa: BLE001  s3fs, botocore and aiohttp raise what they like
            _raise_lasting(error, url)
            if time.monotonic() + wait > deadline:
                # Not chained: what these libraries raise may hold more than is good in a log, and cannot be pickled.
                msg = f"{url}: no answer worth the name for {access.timeout:.0f} s: {_reason(error)}"
                raise StorageError(msg) from None
        time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  so that many workers do not come back at once
        wait = min(2 * wait, _LONGEST_WAIT)


def _raise_lasting(error: Exception, url: str) -> None:
    """Raise what will not pass, in words for people; return for what may."""
    code = _code(error)
    if code in _PASSING_CODES:
        return
    if code == "NoSuchBucket":
        _stop(f"{url}: there is no such bucket")
    if code in _BAD_CREDENTIALS:
        _stop(f"{url}: the credentials are not accepted ({code}: {_reason(error)})")
    kinds = {kind.__name__ for kind in type(error).__mro__}
    if kinds & _NO_CREDENTIALS:
        _stop(
            f"{url}: no credentials ({_reason(error)}); set them as for the aws command, or --storage-option anon=true"
        )
    if isinstance(error, FileNotFoundError):
        raise FileNotFoundError(errno.ENOENT, "no such object", url) from None
    if isinstance(error, PermissionError):
        raise PermissionError(errno.EACCES, _reason(error), url) from None
    if code or not kinds & _PASSING_ERRORS:
        _stop(f"{url}: {_reason(error)}")


def _stop(message: str) -> NoReturn:
    raise StorageError(message) from None


def _code(error: Exception) -> str:
    """Return S3's error code; empty where S3 has not answered."""
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _reason(error: Exception) -> str:
    text = " ".join(str(error.strerror or error).split() if isinstance(error, OSError) else str(error).split())
    return text or type(error).__name__
