"""What all jobs have in common: clips, cut into tasks, each of which is done when a record says so."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from mimii.recordings import Catalogue
from mimii.storage import Place


class Work(Protocol):
    """All that is known of a job's results before any of them is computed."""

    @property
    def catalogue(self) -> Catalogue:
        """All clips."""
        ...

    @property
    def fingerprint(self) -> str:
        """Two pieces of work with the same fingerprint have the same results."""
        ...

    @property
    def records(self) -> str:
        """Below which prefix of the output the records of the tasks are."""
        ...

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        ...

    def clips_of(self, task: int) -> Sequence[int]:
        """Say of which clips a task reads the recordings."""
        ...

    def n_ended(self, task: int) -> int:
        """Count the clips that are finished with a task."""
        ...


@dataclass(frozen=True, slots=True)
class Stamp:
    """What a record must bear to be valid.

    Attributes
    ----------
    fingerprint : str
        Of the work.
    task : int
        Which task.
    inputs : str
        A digest of the sizes and versions of the recordings.
    archives : str
        A digest of the versions of the archives that they are in.

    """

    fingerprint: str
    task: int
    inputs: str
    archives: str


@dataclass(frozen=True, slots=True)
class Done:
    """What a task says of results that are now safely written.

    Attributes
    ----------
    task : int
        Which.
    n_clips : int
        Clips that are finished with it: over all tasks each clip counts once.
    bytes_written : int
        Bytes of its results.
    bad : dict of int to str
        Which clips could not be used, and why.

    """

    task: int
    n_clips: int
    bytes_written: int
    bad: dict[int, str]


def make_stamp(work: Work, task: int) -> Stamp:
    """Say what the record of a task must bear to be valid."""
    places = [work.catalogue.clips[clip].place for clip in work.clips_of(task)]
    archives = {f"{place.url} {place.member.archive_version}\n" for place in places if place.member}
    return Stamp(work.fingerprint, task, digest_inputs(places), _digest(sorted(archives)))


def digest_inputs(places: Sequence[Place]) -> str:
    """Digest the sizes and versions of the recordings of a task."""
    return _digest([f"{place.size} {place.version}\n" for place in places])


def _digest(lines: Sequence[str]) -> str:
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]
