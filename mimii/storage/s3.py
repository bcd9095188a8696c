"""Objects on S3: find, read, put, delete. The only file that knows s3fs.

s3fs speaks the protocol and finds credentials as every AWS tool does. What is decided here is when to retry: after cut
connections, slow-downs and restarts of a server, but not after errors that do not pass.

s3fs takes half a second to import, and most workers never use it: it is imported where it is used.
"""

import asyncio
import errno
import logging
import os
import random
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypeVar

from mimii.storage.access import DEFAULT_ACCESS, Access, Options, nest_options
from mimii.storage.disk import PARTIAL
from mimii.storage.places import split_url

if TYPE_CHECKING:
    import s3fs

MAX_REQUESTS = 32
"""How many small requests a process makes at a time."""

_MOST_CONNECTIONS = 128
_PART_BYTES = 32 << 20
_PARTS_AT_ONCE = 2
_FIRST_WAIT, _LONGEST_WAIT = 0.2, 2.0
_TIMEOUTS = {"connect_timeout": 10, "read_timeout": 20}
_BAD_CREDENTIALS = {
    *("ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "InvalidToken", "InvalidSecurity", "NotSignedUp"),
    *("RequestTimeTooSkewed", "SignatureDoesNotMatch", "TokenRefreshRequired", "AuthorizationHeaderMalformed"),
}
_NO_CREDENTIALS = {
    *("NoCredentialsError", "PartialCredentialsError", "CredentialRetrievalError", "ProfileNotFound"),
    *("NoAuthTokenError", "TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError"),
}
_TRANSIENT_ERRORS = {
    *("HTTPClientError", "ConnectionError", "IncompleteReadError", "ResponseParserError", "ClientError"),
    *("ClientPayloadError", "ChecksumError", "TimeoutError", "FSTimeoutError", "ReadTimeoutError"),
}
_TRANSIENT_CODES = {
    *("SlowDown", "RequestTimeout", "InternalError", "ServiceUnavailable", "TooManyRequests", "Throttling"),
    *("ThrottlingException", "RequestLimitExceeded", "OperationAborted", "BadDigest", "IncompleteBody"),
    *("XAmzContentSHA256Mismatch", "408", "409", "429", "500", "502", "503", "504"),
}

_log = logging.getLogger(__name__)
_opening = threading.Lock()

Result = TypeVar("Result")


class StorageError(OSError):
    """S3 cannot be used: no credentials, no bucket, or no answer for too long; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Found:
    """An object that exists.

    Attributes
    ----------
    size : int
        Bytes.
    version : str
        Its ETag, which changes with its bytes.
    modified : float
        When it was written, in seconds since 1970.
    metadata : mapping of str to str
        Stored with it by its writer; only `describe` reads it.

    """

    url: str
    size: int
    version: str
    modified: float
    metadata: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))


def filesystem(options: Options) -> "s3fs.S3FileSystem":
    """Return the file system of these options, one for a process: one that is dropped would leave open connections.

    A process that was forked has its own: that of its parent does not work in it.
    """
    with _opening:
        return open_filesystem(options, os.getpid())


@lru_cache(maxsize=8)
def open_filesystem(options: Options, _process: int) -> "s3fs.S3FileSystem":
    """Open a file system; called by `filesystem` alone."""
    import s3fs

    settings = nest_options(options)
    # Retries are decided in this file alone: botocore and s3fs are not to add their own.
    config = {"max_pool_connections": _MOST_CONNECTIONS, "retries": {"total_max_attempts": 1}, **_TIMEOUTS}
    config |= settings.pop("config_kwargs", {})
    opened = s3fs.S3FileSystem(**settings, config_kwargs=config, use_listings_cache=False, skip_instance_cache=True)
    opened.retries = 1
    opened.close_session = _close_session
    opened.split_path = lambda path: (*split_url(path), None)  # it would cut off ?versionId=
    return opened


def _close_session(loop: Any, session: Any) -> None:  # noqa: ANN401  an event loop, and a session of aiobotocore
    """Close the connections of a file system that is collected: s3fs would use any event loop that runs here."""
    from fsspec.asyn import FSTimeoutError, sync

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        if loop is not None and loop.is_running():
            with suppress(FSTimeoutError):
                sync(loop, session.__aexit__, None, None, None, timeout=0.1)
                return
    with suppress(AttributeError):  # at the end of the process, some of it may be gone
        session._client._endpoint.http_session._connector._close()  # noqa: SLF001  as s3fs does


def count_requests() -> int:
    """Return how many requests this process has made so far."""
    return _requests.total


def add_requests(n: int) -> None:
    """Count requests that another process has made for this one."""
    _requests.add(n)


def find(url: str, access: Access) -> Iterator[Found]:
    """Yield the objects below a prefix."""
    bucket, _ = split_url(url)
    for page in _pages(url, access):
        for entry in page.get("Contents", ()):
            yield _found(f"s3://{bucket}/{entry['Key']}", entry["Size"], entry)


def describe(url: str, access: Access) -> Found | None:
    """Return the size, version and metadata of an object; None where there is none."""
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


def read(url: str, start: int, stop: int | None, access: Access) -> bytes:
    """Read a block of an object, up to its end where `stop` is None, with one request."""
    if stop is not None and start >= stop:
        return b""
    path = "/".join(split_url(url))
    # Given a start, s3fs asks for the bytes at once, and not for the size first.
    data: bytes = _retried(lambda: filesystem(access.pairs).cat_file(path, start=start, end=stop), url, access)
    return data


@contextmanager
def upload(url: str, access: Access, metadata: Mapping[str, str]) -> "Iterator[Upload]":
    """Write a large object in parts; it appears when all is written, and not at all after an exception."""
    bucket, key = split_url(url)
    begun = _call("create_multipart_upload", url, access, Bucket=bucket, Key=key, Metadata=dict(metadata))
    arguments = {"Bucket": bucket, "Key": key, "UploadId": begun["UploadId"]}
    with ThreadPoolExecutor(_PARTS_AT_ONCE) as pool:
        writer = Upload(partial(_call, "upload_part", url, access, **arguments), pool)
        try:
            yield writer
            _complete(url, access, arguments, writer.finish())
        except BaseException:
            pool.shutdown(cancel_futures=True)  # a part that is sent after the abort would stay for ever
            _abort(url, access, arguments)
            raise


class Upload:
    """Takes bytes in order and sends them in parts; yielded by `upload`."""

    def __init__(self, send: Callable[..., Any], pool: ThreadPoolExecutor) -> None:
        self._send, self._pool, self._buffer = send, pool, bytearray()
        self._answers: list[Future[Any]] = []

    def write(self, data: bytes) -> None:
        """Add bytes; wait while too many are being sent."""
        self._buffer += data
        if len(self._buffer) >= _PART_BYTES:
            self._send_buffer()

    def finish(self) -> list[dict[str, Any]]:
        """Send the last part, wait for all; return the list of parts that S3 asks for."""
        if self._buffer or not self._answers:
            self._send_buffer()
        return [{"PartNumber": number, "ETag": part.result()["ETag"]} for number, part in enumerate(self._answers, 1)]

    def _send_buffer(self) -> None:
        if len(self._answers) >= _PARTS_AT_ONCE:
            self._answers[-_PARTS_AT_ONCE].result()
        number = len(self._answers) + 1
        self._answers.append(self._pool.submit(self._send, PartNumber=number, Body=bytes(self._buffer)))
        self._buffer.clear()


@dataclass(frozen=True, slots=True)
class S3Objects:
    """Objects below ``s3://bucket/prefix``, each whole or absent; see `mimii.storage.objects.Objects`."""

    root: str
    access: Access = DEFAULT_ACCESS

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it is durable."""
        self._request("put_object", key, Body=data)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, many at a time."""
        _in_threads(lambda key: self.put(key, objects[key]), objects)

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        try:
            return read(self._url(key), 0, None, self.access)
        except FileNotFoundError:
            return None

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects, many at a time; those that do not exist are left out."""
        keys = list(keys)
        found = zip(keys, _in_threads(self.get, keys), strict=True)
        return {key: data for key, data in found if data is not None}

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a prefix: bytes by key."""
        begin = len(self._url("")) + 1
        return {found.url[begin:]: found.size for found in find(self._url(prefix), self.access)}

    def names(self) -> list[str]:
        """List what is directly below the root, sorted."""
        paths: list[str] = []
        for page in _pages(self.root, self.access, Delimiter="/"):
            paths += [entry["Key"] for entry in page.get("Contents", ())]
            paths += [entry["Prefix"][:-1] for entry in page.get("CommonPrefixes", ())]
        return sorted(name for path in paths if (name := path.rpartition("/")[2]))

    def delete(self, key: str) -> None:
        """Delete an object."""
        self._request("delete_object", key)

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a prefix, many at a time."""
        _in_threads(self.delete, self.sizes(prefix))

    def delete_partial(self) -> None:
        """Delete what killed checks left behind."""
        self.delete_below(PARTIAL)

    def check(self) -> None:
        """Raise an error unless objects can be written, read and deleted."""
        key = f"{PARTIAL}/{uuid.uuid4().hex}"
        acts: dict[str, Callable[[], object]] = {
            "written": partial(self.put, key, b"check"),
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

    def _request(self, method: str, key: str, **arguments: Any) -> None:  # noqa: ANN401  botocore's own
        bucket, name = split_url(self._url(key))
        _call(method, self._url(key), self.access, Bucket=bucket, Key=name, **arguments)


class _Requests:
    """Counts requests over all threads of a process."""

    def __init__(self) -> None:
        self.total, self._lock = 0, threading.Lock()

    def add(self, n: int = 1) -> None:
        with self._lock:
            self.total += n


_requests = _Requests()


def _pages(url: str, access: Access, **arguments: str) -> Iterator[Mapping[str, Any]]:
    bucket, prefix = split_url(url.rstrip("/"))
    arguments |= {"Bucket": bucket, "Prefix": f"{prefix}/" if prefix else ""}
    while True:
        try:
            page = _call("list_objects_v2", url, access, **arguments)
        except PermissionError as error:
            msg = f"{url}: cannot be listed: {error.strerror}"
            raise StorageError(msg) from None
        yield page
        if not page.get("IsTruncated"):
            return
        arguments["ContinuationToken"] = page["NextContinuationToken"]


def _call(method: str, url: str, access: Access, **arguments: Any) -> Any:  # noqa: ANN401  botocore's own
    return _retried(lambda: filesystem(access.pairs).call_s3(method, **arguments), url, access)


def _abort(url: str, access: Access, arguments: Mapping[str, str]) -> None:
    try:
        _call("abort_multipart_upload", url, access, **arguments)
    except FileNotFoundError:  # it was completed, and the answer was lost
        pass
    except OSError as error:  # raised is the error for which the upload was aborted
        number = arguments["UploadId"]
        _log.warning("%s: an unfinished upload stays there (UploadId %s), delete it: %s", url, number, error)


def _complete(url: str, access: Access, arguments: Mapping[str, str], parts: list[dict[str, Any]]) -> None:
    try:
        _call("complete_multipart_upload", url, access, **arguments, MultipartUpload={"Parts": parts})
    except FileNotFoundError:  # an earlier try has completed it, and its answer was lost
        if describe(url, access) is None:
            raise


def _in_threads(act: Callable[[str], Result], keys: Iterable[str]) -> list[Result]:
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        return list(pool.map(act, keys))


def _retried(act: Callable[[], Result], url: str, access: Access) -> Result:
    """Act, and act again as long as the error is transient."""
    deadline, wait = time.monotonic() + access.timeout, _FIRST_WAIT
    while True:
        _requests.add()
        try:
            return act()
        except Exception as error:  # noqa: BLE001  s3fs, botocore and aiohttp raise errors of many types
            if not _is_transient(error):
                # Not chained: errors of these libraries may contain what must not be logged, and cannot be pickled.
                raise _explained(error, url) from None
            if time.monotonic() + wait > deadline:
                msg = f"{url}: no useful answer for {access.timeout:g} s: {_reason(error)}"
                raise StorageError(msg) from None
        time.sleep(wait * random.uniform(0.5, 1))  # noqa: S311  so that many workers do not retry at once
        wait = min(2 * wait, _LONGEST_WAIT)


def _is_transient(error: Exception) -> bool:
    code = _code(error)
    return code in _TRANSIENT_CODES or (not code and bool(_kinds(error) & _TRANSIENT_ERRORS))


def _explained(error: Exception, url: str) -> OSError:
    """Return an error that names the object and says what to do."""
    code, reason = _code(error), _reason(error)
    if code == "NoSuchBucket":
        return StorageError(f"{url}: there is no such bucket")
    if code in _BAD_CREDENTIALS:
        return StorageError(f"{url}: the credentials are not accepted ({code}: {reason})")
    if _kinds(error) & _NO_CREDENTIALS:
        advice = "set them as for the aws command, or --storage-option anon=true"
        return StorageError(f"{url}: no credentials ({reason}); {advice}")
    if isinstance(error, FileNotFoundError):
        return FileNotFoundError(errno.ENOENT, "no such object", url)
    if isinstance(error, PermissionError):
        return PermissionError(errno.EACCES, reason, url)
    return StorageError(f"{url}: {reason}")


def _kinds(error: Exception) -> set[str]:
    return {kind.__name__ for kind in type(error).__mro__}


def _code(error: Exception) -> str:
    """Return S3's error code; empty where S3 has not answered."""
    cause = error if hasattr(error, "response") else error.__cause__
    response = getattr(cause, "response", None)
    return str(response.get("Error", {}).get("Code", "")) if isinstance(response, dict) else ""


def _reason(error: Exception) -> str:
    """Return what an error says; where S3 sends a code and no words, as Ceph does, the code and what was asked for."""
    cause = error if hasattr(error, "response") else error.__cause__
    if (code := _code(error)) and not cause.response["Error"].get("Message"):  # type: ignore[union-attr]
        return f"{code}, in answer to {getattr(cause, 'operation_name', 'a request')}"
    text = " ".join(str(error.strerror or error).split() if isinstance(error, OSError) else str(error).split())
    return text or type(error).__name__
