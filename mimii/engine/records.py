"""What a task leaves behind when its results are safely written. A task is done when its record says so."""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import ClipResult, kernels_here
from mimii.recordings import Clip
from mimii.storage import Objects, Place

_RECORDS_AT_ONCE = 256


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a record must bear to be valid.

    Attributes
    ----------
    fingerprint : str
        Of what the task makes: for a table, its features and the spans of one shard; else the whole plan.
    task : int
        Which task.
    inputs : str
        A digest of the sizes and versions of the recordings.
    archives : str
        A digest of the versions of the archives that they are in.

    """

    fingerprint: str
    task: int
    inputs: str = ""
    archives: str = ""


@dataclass(frozen=True, slots=True)
class Written:
    """An object as it was written: bytes and SHA-256."""

    size: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Record:
    """One task that is done.

    Attributes
    ----------
    stamp : Stamp
        Which task of which plan, of which recordings.
    written : dict of str to Written
        What the task wrote, by key.
    bad : dict of int to str
        Clips that could not be read, and why.
    unread : tuple of int
        Those of them that the next run tries again: the disk may be to blame.
    result : dict
        What else the task found: sums of a shard, scores of a machine. Lists of numbers are arrays.
    kernels : str
        Which kernels computed it; empty where an earlier version wrote the record.

    """

    stamp: Stamp
    written: dict[str, Written]
    bad: dict[int, str] = field(default_factory=dict)
    unread: tuple[int, ...] = ()
    result: Mapping[str, Any] = field(default_factory=dict)
    kernels: str = field(default_factory=kernels_here)

    @property
    def size(self) -> int:
        """Bytes of all that was written."""
        return sum(written.size for written in self.written.values())


@dataclass(frozen=True, slots=True)
class Origins:
    """Which part of which recording each clip is, as digests: where it is, which version, and which one of its archive.

    Attributes
    ----------
    place, version, archive : ndarray of int64, shape (n_clips,)
        Digests; that of an archive is 0 where there is none.

    """

    place: NDArray[np.int64]
    version: NDArray[np.int64]
    archive: NDArray[np.int64]

    def __add__(self, other: "Origins") -> "Origins":
        """Return these, and others behind them."""
        pairs = ((self.place, other.place), (self.version, other.version), (self.archive, other.archive))
        return Origins(*(np.concatenate(pair) for pair in pairs))


def find_origins(clips: Sequence[Clip]) -> Origins:
    """Return the origins of clips."""
    places = [clip.place for clip in clips]
    parts = [digest_part(str(clip.place), clip.channel, clip.start_s) for clip in clips]
    columns = (parts, map(digest_version, places), map(_digest_archive, places))
    return Origins(*(np.fromiter(column, np.int64, len(clips)) for column in columns))


def digest_part(place: str, channel: int, start_s: float) -> int:
    """Return a digest of where the samples of a clip are: which part of which recording."""
    return digest(f"{place} {channel} {start_s!r}")


def digest(text: str) -> int:
    """Return 63 bits of a hash."""
    data = text.encode("utf-8", "surrogateescape")
    return int.from_bytes(hashlib.blake2b(data, digest_size=8).digest(), "big") >> 1


def digest_version(place: Place) -> int:
    """Return what changes when a recording changes: a digest of its size and version."""
    return digest(f"{place.size} {place.version}")


def _digest_archive(place: Place) -> int:
    return _digest_often(place.member.archive_version) if place.member else 0


_digest_often = lru_cache(maxsize=1024)(digest)


def make_stamp(fingerprint: str, task: int, places: Sequence[Place]) -> Stamp:
    """Return what the record of a task over these recordings must bear."""
    archives = {f"{place.url} {place.member.archive_version}\n" for place in places if place.member}
    return Stamp(fingerprint, task, digest_inputs(places), _digest(sorted(archives)))


def digest_inputs(places: Sequence[Place]) -> str:
    """Digest the sizes and versions of the recordings of a task."""
    return _digest([f"{place.size} {place.version}\n" for place in places])


def make_record(
    stamp: Stamp, written: dict[str, Written], clips: Iterable[ClipResult], result: Mapping[str, Any] | None = None
) -> Record:
    """Return the record of a task, with the faults of its clips."""
    faults = {clip.input.clip: clip.fault for clip in clips if clip.fault}
    bad = {clip: fault.problem for clip, fault in faults.items()}
    unread = tuple(clip for clip, fault in faults.items() if fault.unread)
    return Record(stamp, written, bad, unread, result or {})


def describe(objects: Mapping[str, bytes]) -> dict[str, Written]:
    """Return size and SHA-256 of objects, for a record."""
    return {key: Written(len(data), hashlib.sha256(data).hexdigest()) for key, data in objects.items()}


def record_key(prefix: str, task: int) -> str:
    """Return the key of the record of a task, below the prefix of the records."""
    return f"{prefix}/{task}.json"


def to_json(record: Record) -> bytes:
    """Write a record as JSON; floats keep every bit."""
    return json.dumps(asdict(record), separators=(",", ":"), default=np.ndarray.tolist).encode()


def from_json(data: bytes) -> Record | None:
    """Read a record; None where it is damaged."""
    try:
        values = json.loads(data)
        return Record(
            stamp=Stamp(**values["stamp"]),
            written={str(key): Written(**written) for key, written in values["written"].items()},
            bad={int(clip): reason for clip, reason in values["bad"].items()},
            unread=tuple(values["unread"]),
            result={key: _as_array(value) for key, value in values["result"].items()},
            kernels=str(values.get("kernels", "")),
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def read_each(objects: Objects, keys: Iterable[str]) -> Iterator[tuple[str, Record | None]]:
    """Yield records by key, in the order of the keys; None for one that is damaged or missing."""
    left = iter(keys)
    while some := list(islice(left, _RECORDS_AT_ONCE)):
        found = objects.get_all(some)
        yield from ((key, from_json(found[key]) if key in found else None) for key in some)


def is_valid(record: Record, wanted: Stamp, sizes: Mapping[str, int]) -> bool:
    """Say whether a record is of this task and these recordings, with all that it vouches for in place."""
    stamp = record.stamp
    return (
        (stamp.fingerprint, stamp.task, stamp.inputs) == (wanted.fingerprint, wanted.task, wanted.inputs)
        and (not record.bad or stamp.archives == wanted.archives)  # a repaired archive may have good clips
        and is_in_place(record, sizes)
    )


def is_in_place(record: Record, sizes: Mapping[str, int]) -> bool:
    """Say whether all that a record vouches for is there, by its size."""
    return all(sizes.get(key) == written.size for key, written in record.written.items())


def withdraw(objects: Objects, key: str, stamp: Stamp) -> None:
    """Delete a record that is not of these recordings, is damaged or has clips to be read again.

    It must not vouch for what is written from now on.
    """
    data = objects.get(key)
    record = None if data is None else from_json(data)
    if data is not None and (record is None or record.stamp != stamp or record.unread):
        objects.delete(key)


def digest_written(objects: Objects, prefix: str) -> str:
    """Digest what all tasks of an output have written, by their records."""
    digest = hashlib.sha256()
    for key, record in read_each(objects, sorted(objects.sizes(prefix))):
        written = sorted((name, one.sha256) for name, one in record.written.items()) if record else []
        digest.update(f"{key} {written}\n".encode())
    return digest.hexdigest()[:16]


def _as_array(value: Any) -> Any:  # noqa: ANN401  any JSON value
    if isinstance(value, dict):
        return {name: _as_array(one) for name, one in value.items()}
    return np.array(value) if isinstance(value, list) else value


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
