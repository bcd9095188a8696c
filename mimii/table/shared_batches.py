"""Memory that a worker process fills with rows, and from which another process copies them: none go through a pipe.

Both map a file without name, which the worker sends with its first rows. A byte for each slot of it says whether its
rows are on their way: the worker sets it, and the process that receives them clears it. Where no slot is free, rows are
sent as plain bytes, so neither waits for the other.
"""

import math
import mmap
import os
import weakref
from contextlib import suppress
from multiprocessing.reduction import DupFd
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]

_N_SLOTS = 16
_HEAD = mmap.PAGESIZE


class SentRows(NamedTuple):
    """Rows in a slot, as they are sent.

    Attributes
    ----------
    owner : tuple of int
        Process, and bytes of a slot: whose memory it is.
    slot, shape
        Where in it the rows are.
    file : DupFd or None
        The memory; it is there the first time.

    """

    owner: tuple[int, int]
    slot: int
    shape: tuple[int, ...]
    file: Any


class Slots:
    """Equally large places in shared memory, each for the rows of a batch; those that are never used take none."""

    def __init__(self, file: int, slot_bytes: int) -> None:
        self._memory, self._slot_bytes = mmap.mmap(file, _file_bytes(slot_bytes)), slot_bytes
        self.is_taken = np.frombuffer(self._memory, np.uint8, _N_SLOTS)

    def place(self, slot: int, n_values: int) -> FloatArray:
        """Return the first values of a slot."""
        return np.frombuffer(self._memory, np.float32, n_values, _HEAD + slot * self._slot_bytes)


class Sender:
    """Slots that this process fills. One is free when its rows have been received and no array here has them."""

    def __init__(self, slot_bytes: int) -> None:
        self._owner, self._slot_bytes = (os.getpid(), slot_bytes), slot_bytes
        self._file: int | None = os.memfd_create("batches")
        os.ftruncate(self._file, _file_bytes(slot_bytes))
        self._slots = Slots(self._file, slot_bytes)
        self._begin = self._slots.place(0, 1).ctypes.data
        self._used: dict[int, weakref.ref[FloatArray]] = {}

    def new_rows(self, n_rows: int, width: int) -> FloatArray:
        """Return memory for rows: a free slot's, or another where there is none."""
        for slot, is_taken in enumerate(self._slots.is_taken.tolist()):
            if not is_taken and (slot not in self._used or self._used[slot]() is None):
                place = self._slots.place(slot, n_rows * width)
                self._used[slot] = weakref.ref(place)
                return place.reshape(n_rows, width)
        return np.empty((n_rows, width), np.float32)

    def send(self, rows: FloatArray) -> SentRows | None:
        """Return what is sent for rows that fill a slot from its begin; None for others."""
        slot, offset = divmod(rows.ctypes.data - self._begin, self._slot_bytes)
        if offset or not 0 <= slot < _N_SLOTS:
            return None
        file, self._file = self._file, None
        sent = SentRows(self._owner, slot, rows.shape, None if file is None else DupFd(file))
        if file is not None:
            os.close(file)
        self._slots.is_taken[slot] = 1
        return sent


_SENDERS: dict[tuple[int, int], Sender] = {}
_RECEIVED: dict[tuple[int, int], Slots] = {}
_IN_USE: dict[tuple[tuple[int, int], int], "weakref.finalize[..., FloatArray]"] = {}


def sender_of_process(slot_bytes: int) -> Sender | None:
    """Return what this process sends rows with, the same one each time; None where memory cannot be shared so."""
    owner = os.getpid(), slot_bytes
    with suppress(OSError, AttributeError):  # only Linux has files without name
        return _SENDERS.get(owner) or _SENDERS.setdefault(owner, Sender(slot_bytes))
    return None


def send(rows: NDArray[Any]) -> SentRows | NDArray[Any]:
    """Return what is sent to another process for rows: themselves, where they are not in memory of a sender."""
    if rows.dtype == np.float32 and rows.flags.c_contiguous:
        for (process, _), sender in list(_SENDERS.items()):
            if process == os.getpid() and (sent := sender.send(rows)):
                return sent
    return rows


def receive(sent: SentRows | NDArray[Any]) -> NDArray[Any]:
    """Return rows that another process has sent; it does not write there as long as any array has their memory."""
    if not isinstance(sent, SentRows):
        return sent
    if sent.file is not None:
        _RECEIVED[sent.owner] = _map(sent.file.detach(), sent.owner[1])
    slots = _RECEIVED[sent.owner]
    place = slots.place(sent.slot, math.prod(sent.shape))
    release = weakref.finalize(place, slots.is_taken.__setitem__, sent.slot, 0)
    release.atexit = False
    _IN_USE[sent.owner, sent.slot] = release
    return place.reshape(sent.shape)


def _keep_all() -> None:
    """Never release what is in use now: a process that is forked has it too, and may use it for longer."""
    for release in list(_IN_USE.values()):
        release.detach()


os.register_at_fork(before=_keep_all)


def _map(file: int, slot_bytes: int) -> Slots:
    """Map the memory of a worker, and forget that of workers that are gone: arrays that have it keep it."""
    for owner in [owner for owner in _RECEIVED if not _is_alive(owner[0])]:
        _RECEIVED.pop(owner, None)
        for slot in range(_N_SLOTS):
            _IN_USE.pop((owner, slot), None)
    try:
        return Slots(file, slot_bytes)
    finally:
        os.close(file)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except OSError:
        return False
    return True


def _file_bytes(slot_bytes: int) -> int:
    return _HEAD + _N_SLOTS * slot_bytes
