"""A lease on an output: of two runs that would write different results to it, one is refused.

Each run that writes puts a small document of its own at the output and puts it anew every few seconds. Who is first is
decided as in a bakery (Lamport 1974): draw a number, look at the numbers of the others, and the lowest is served. That
takes no more than objects that are put whole and listed, so it holds on any disk and any object store. A lease whose
document does not change any more is stale; clocks of two hosts are never compared.
"""

import json
import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from functools import cache

from mimii.engine.outputs import LEASE, StoreError
from mimii.storage import Objects

SECONDS_BETWEEN_BEATS = 3.0
SECONDS_UNTIL_STALE = 20.0
_SECONDS_BETWEEN_LOOKS = 0.5
_TAKEN_HERE: set[str] = set()
"""The names of the leases of this process."""

_log = logging.getLogger(__name__)


class BusyError(StoreError):
    """Another run writes other results to this output; the message says which, and since when."""


@dataclass(frozen=True, slots=True)
class Lease:
    """What a run says of itself at an output.

    Attributes
    ----------
    name : str
        Of the lease, unlike any other.
    purpose : str
        Digest of what is written: runs of the same purpose do not disturb each other.
    host, process, machine, began : str or int
        Which process of which machine holds it, and when that process began.
    since : str
        When it was taken, by that machine's clock.
    number : int
        The number that it has drawn; 0 while it draws.
    beat : int
        How often it was put anew.

    """

    name: str
    purpose: str
    host: str
    process: int
    machine: str
    began: str
    since: str
    number: int = 0
    beat: int = 0

    @property
    def key(self) -> str:
        """Where it is."""
        return f"{LEASE}{self.name}.json"

    def __str__(self) -> str:
        """Name the process that holds it."""
        return f"process {self.process} on {self.host}, since {self.since}"


@dataclass(frozen=True, slots=True)
class _Watched:
    """A lease, when it was last looked at, for how many seconds it has not changed, and whether it ever has."""

    lease: Lease
    looked: float
    unchanged: float = 0.0
    has_changed: bool = False


def _look_again(before: _Watched | None, lease: Lease) -> _Watched:
    now = time.monotonic()
    if before is None:
        return _Watched(lease, now)
    if lease != before.lease:
        return _Watched(lease, now, has_changed=True)
    # Where both runs were suspended meanwhile, that time does not count.
    unchanged = before.unchanged + min(now - before.looked, SECONDS_BETWEEN_BEATS)
    return replace(before, looked=now, unchanged=unchanged)


class LeaseHolder:
    """Puts the lease of a run of this process anew, until it is given back."""

    had_rivals = False
    """Whether a run with another purpose was there before, and may have changed the output."""

    has_company = False
    """Whether another run with the same purpose is known to be at work, or was: no lease that one has left counts."""

    def __init__(self, objects: Objects, lease: Lease) -> None:
        self._objects, self._lease, self._released = objects, lease, threading.Event()
        self._watched: dict[str, _Watched] = {}
        self._was_taken = False
        self._thread = threading.Thread(target=self._beat, name="lease", daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise BusyError where another run may have taken over, as this one was silent, or the lease was deleted."""
        if self._was_taken:
            msg = (
                f"{self._objects.root}: this run has lost its lease: while it was suspended, another run may have "
                "taken over, or files were deleted there; run it again"
            )
            raise BusyError(msg)

    def rank(self) -> int:
        """Return how many runs with the same purpose came before, of those whose leases are there."""
        lease = self._lease
        same = {key: one for key, one in _leases(self._objects, lease).items() if one.purpose == lease.purpose}
        self._watch(same)
        return sum(one.number > 0 and (one.number, one.name) < (lease.number, lease.name) for one in same.values())

    def _watch(self, found: Mapping[str, Lease]) -> None:
        """Take note of which leases change, and delete those that have not for too long."""
        self._watched = {key: _look_again(self._watched.get(key), one) for key, one in found.items()}
        self.has_company |= any(
            watched.has_changed or watched.lease.machine == self._lease.machine for watched in self._watched.values()
        )
        for key, watched in self._watched.items():
            if watched.unchanged > SECONDS_UNTIL_STALE:
                _log.info("%s: a run before (%s) is not there any more", self._objects.root, watched.lease)
                self._objects.delete(key)

    def release(self) -> None:
        """Give it back."""
        self._released.set()
        self._thread.join()
        _TAKEN_HERE.discard(self._lease.name)
        if not self._was_taken:
            _delete(self._objects, self._lease)

    def _beat(self) -> None:
        while not self._released.wait(SECONDS_BETWEEN_BEATS):
            looked = time.monotonic()
            try:
                if self._objects.get(self._lease.key) is None:
                    self._was_taken = True
                    return
                self._lease = replace(self._lease, beat=self._lease.beat + 1)
                _put(self._objects, self._lease)
                if time.monotonic() - looked > SECONDS_UNTIL_STALE:  # another run may have deleted it in between
                    self._was_taken = True
                    _delete(self._objects, self._lease)
                    return
                self.rank()
            except OSError as error:
                _log.warning("the lease on %s could not be renewed: %s", self._objects.root, error)


@contextmanager
def hold(objects: Objects, purpose: str) -> Iterator[LeaseHolder]:
    """Hold a lease on an output meanwhile; BusyError where another run with another purpose has one."""
    lease, seen = _draw(objects, purpose)
    holder = LeaseHolder(objects, lease)
    try:
        rivals = _of_others(_leases(objects, lease), lease)
        gone = [_settle(objects, lease, rival) for rival in rivals.values()]
        holder.had_rivals = any(gone) or not seen.keys() <= rivals.keys()
        yield holder
    finally:
        holder.release()


def _draw(objects: Objects, purpose: str) -> tuple[Lease, dict[str, Lease]]:
    """Draw a number, one more than the highest that is there; return the lease, and those of other purposes."""
    since = datetime.now(UTC).astimezone().isoformat(" ", "seconds")
    process, began = os.getpid(), _process_began(os.getpid())
    lease = Lease(uuid.uuid4().hex, purpose, socket.gethostname(), process, _this_machine(), began, since)
    _TAKEN_HERE.add(lease.name)
    try:
        _put(objects, lease)
        found = _leases(objects, lease)
        lease = replace(lease, number=1 + max((one.number for one in found.values()), default=0))
        _put(objects, lease)
    except BaseException:
        _delete(objects, lease)
        raise
    return lease, _of_others(found, lease)


def _settle(objects: Objects, lease: Lease, rival: Lease) -> bool:
    """Wait until it is known which of two is first; return whether it is the rival, and it is not there any more.

    Raises BusyError where it is the rival, and it is alive.
    """
    seen, changed = rival, time.monotonic()
    while (now := _read(objects, rival.key)) is not None:
        if now.beat != seen.beat or now.number != seen.number:
            seen, changed = now, time.monotonic()
        if now.number and (now.number, now.name) > (lease.number, lease.name):
            return False
        if now.number and now.beat != rival.beat:
            _refuse(objects, now)
        if _is_dead(now, lease.machine) or time.monotonic() - changed > SECONDS_UNTIL_STALE:
            _log.warning("%s: the run before (%s) is not there any more; taking over", objects.root, now)
            objects.delete(now.key)
            return True
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    return True


def _refuse(objects: Objects, rival: Lease) -> None:
    msg = (
        f"{objects.root}: another run writes other results to it ({rival}). Wait for its end, or choose another "
        "--output"
    )
    raise BusyError(msg)


def _of_others(found: Mapping[str, Lease], lease: Lease) -> dict[str, Lease]:
    """Return the leases of other purposes."""
    return {key: one for key, one in found.items() if one.purpose != lease.purpose}


def _leases(objects: Objects, lease: Lease) -> dict[str, Lease]:
    """Return the other leases; those that processes of this machine have left when killed are deleted."""
    names = [name for name in objects.names() if name.startswith(LEASE) and name != lease.key]
    found = {key: one for key, data in objects.get_all(names).items() if (one := _parse(data))}
    for key in [key for key, one in found.items() if _is_dead(one, lease.machine)]:
        _log.info("%s: the run before (%s) was killed", objects.root, found.pop(key))
        objects.delete(key)
    return found


def _read(objects: Objects, key: str) -> Lease | None:
    data = objects.get(key)
    return None if data is None else _parse(data)


def _parse(data: bytes) -> Lease | None:
    try:
        values: Mapping[str, str] = json.loads(data)
        return Lease(**values)  # type: ignore[arg-type]  # a TypeError where it is none
    except (ValueError, TypeError):
        return None


def _put(objects: Objects, lease: Lease) -> None:
    objects.put(lease.key, json.dumps(asdict(lease)).encode())


def _delete(objects: Objects, lease: Lease) -> None:
    """Delete a lease; where that fails, what the run itself has to say matters more."""
    _TAKEN_HERE.discard(lease.name)
    try:
        objects.delete(lease.key)
    except OSError as error:
        _log.info("the lease on %s could not be released: %s", objects.root, error)


def _is_dead(lease: Lease, machine: str) -> bool:
    """Say whether a lease is of this machine, and its process or, of this very process, its run is not there any more.

    That a process is there does not say that its run is: it may not have been able to give its lease back.
    """
    if lease.machine != machine:
        return False
    if lease.process == os.getpid() and lease.began == _process_began(lease.process):
        return lease.name not in _TAKEN_HERE
    return _process_began(lease.process) != lease.began


def _process_began(process: int) -> str:
    """Return when a process began, by the kernel's ticks; empty where there is none, or it is a zombie."""
    try:
        with open(f"/proc/{process}/stat", encoding="ascii", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] == "Z" else fields[19]


@cache
def _this_machine() -> str:
    """Return what tells machines, and containers with process ids of their own, from each other."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
            boot = file.read().strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return uuid.uuid4().hex  # nothing is known of the processes of others
