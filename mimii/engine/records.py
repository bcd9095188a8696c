"""What a task leaves behind when its results are safely written. A task is done when a record says so."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from mimii.engine.work import Stamp, Work, make_stamp
from mimii.storage import Objects

_RECORDS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Written:
    """An object as it was written.

    Attributes
    ----------
    size : int
        Bytes.
    sha256 : str
        Their SHA-256 in hexadecimal, as ``sha256sum`` prints it.

    """

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One task that is done.

    Attributes
    ----------
    stamp : Stamp
        Which task, of which work, from which recordings.
    written : dict of str to Written
        The objects that it wrote, by key.
    bad : dict of int to str
        Which clips could not be used, and why.
    unread : tuple of int
        Those bad clips that the next run tries again, since the fault may lie with the disk.
    result : mapping
        What the job wants to know of the task later, as JSON takes it.

    """

    stamp: Stamp
    written: dict[str, Written]
    bad: dict[int, str] = field(default_factory=dict)
    unread: tuple[int, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)

    @property
    def size(self) -> int:
        """Bytes of all that was written."""
        return sum(written.size for written in self.written.values())


def record_key(prefix: str, index: int) -> str:
    """Return the key of the record of a task, below the prefix of the records."""
    return f"{prefix}/{index}.json"


def describe(objects: Mapping[str, bytes]) -> dict[str, Written]:
    """Note what a record vouches for."""
    return {key: Written(len(data), hashlib.sha256(data).hexdigest()) for key, data in objects.items()}


def to_json(record: Record) -> bytes:
    """Write a record as JSON; floats keep every bit."""
    return json.dumps(asdict(record), separators=(",", ":")).encode()


def from_json(data: bytes) -> Record | None:
    """Read a record."""
    try:
        values = json.loads(data)
        return Record(
            stamp=Stamp(**values["stamp"]),
            written={str(key): Written(**written) for key, written in values["written"].items()},
            bad={int(clip): reason for clip, reason in values["bad"].items()},
            unread=tuple(values["unread"]),
            result=dict(values["result"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def digest_written(objects: Objects, prefix: str) -> str:
    """Digest what all tasks of an output have written, by their records."""
    digest = hashlib.sha256()
    for key, data in sorted(objects.get_all(objects.sizes(prefix)).items()):
        record = from_json(data)
        written = sorted((name, one.sha256) for name, one in record.written.items()) if record else []
        digest.update(f"{key} {written}\n".encode())
    return digest.hexdigest()[:16]


def withdraw(objects: Objects, key: str, stamp: Stamp) -> None:
    """Delete the record of other recordings: it must not vouch for what is written from now on."""
    data = objects.get(key)
    record = None if data is None else from_json(data)
    if data is not None and (record is None or record.stamp != stamp or record.unread):
        objects.delete(key)


def read_records(objects: Objects, work: Work) -> dict[int, Record]:
    """Read the records that are valid: of this work, of these recordings, with all that they vouch for in place."""
    return dict(each_record(objects, work))


def each_record(objects: Objects, work: Work) -> Iterator[tuple[int, Record]]:
    """Read the records that are valid, some at a time: results may be large, and tasks many."""
    sizes = objects.sizes()
    for first in range(0, work.n_tasks, _RECORDS_AT_ONCE):
        tasks = range(first, min(first + _RECORDS_AT_ONCE, work.n_tasks))
        keys = {task: record_key(work.records, task) for task in tasks}
        found = objects.get_all([key for key in keys.values() if key in sizes])
        for task, key in keys.items():
            record = from_json(found.get(key, b""))
            if record and _is_valid(record, task, work, sizes):
                yield task, record


def _is_valid(record: Record, task: int, work: Work, sizes: Mapping[str, int]) -> bool:
    stamp, wanted = record.stamp, make_stamp(work, task)
    return (
        (stamp.fingerprint, stamp.task, stamp.inputs) == (wanted.fingerprint, wanted.task, wanted.inputs)
        and (not record.bad or stamp.archives == wanted.archives)
        and all(sizes.get(key) == written.size for key, written in record.written.items())
    )
