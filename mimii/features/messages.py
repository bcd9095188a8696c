"""What decoders written in C print to stderr: it goes to the log, with the names of the recordings.

mpg123, which decodes MPEG audio within libsndfile, prints what it thinks of damaged files. It prints to the stream
`stderr` of the C library, which Python does not use: `sys.stderr` writes to the same terminal in another way. So that
stream can be another one for a while, and neither tracebacks nor progress bars of other threads are lost.
"""

import ctypes
import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

_MOST_BYTES = 2000
_log = logging.getLogger(__name__)
_lock = threading.Lock()
_names: list[str] = []


class _Stream:
    """A stream of the C library that leads to a file in memory; it stays open, since others may hold it."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        self._stderr = ctypes.c_void_p.in_dll(library, "stderr")
        self._before = self._stderr.value
        self._file = os.memfd_create("messages")
        library.fdopen.restype = ctypes.c_void_p
        self._stream = library.fdopen(self._file, b"a")
        library.setvbuf(ctypes.c_void_p(self._stream), None, 2, 0)  # 2: each message is written at once

    def begin(self) -> None:
        self._before, self._stderr.value = self._stderr.value, self._stream

    def end(self) -> None:
        self._stderr.value = self._before

    def take(self) -> str:
        """Return the first bytes of what was printed, and drop all of it."""
        if not os.fstat(self._file).st_size:
            return ""
        text = os.pread(self._file, _MOST_BYTES, 0).decode(errors="replace")
        os.ftruncate(self._file, 0)
        return text


@cache
def _stream() -> _Stream | None:
    """Return the stream; None where there is no way: other C libraries than GNU's keep `stderr` where it is."""
    try:
        return _Stream() if os.confstr("CS_GNU_LIBC_VERSION") else None
    except (AttributeError, OSError, ValueError):
        return None


@contextmanager
def logged_messages(name: str) -> Iterator[None]:
    """Give what C code prints meanwhile to the log, at debug level; where other threads do so, too, with all names."""
    stream = _stream()
    if stream is None:
        yield
        return
    with _lock:
        if not _names:
            stream.begin()
        _names.append(name)
    try:
        yield
    finally:
        with _lock:
            text, who = stream.take(), ", or ".join(dict.fromkeys(_names))
            _names.remove(name)
            if not _names:
                stream.end()
        for line in text.splitlines():
            _log.debug("%s: %s", who, line)
