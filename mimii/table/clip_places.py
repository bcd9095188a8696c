"""Where the recordings of a table's clips are, of which the table has paths as they were named, and digests of places.

A path may be relative to the working directory of any earlier run. Nothing says which one that was, but the digest says
whether a place is the right one.
"""

import os
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from mimii.engine import digest_part
from mimii.storage import absolute, is_remote, path_to_text

_LOST_BYTES = "\N{REPLACEMENT CHARACTER}"
_UP = "../"


class Parts(NamedTuple):
    """Which parts of which recordings the clips of a table are, and digests of that; 0 where no record has one."""

    paths: Sequence[str]
    channels: Sequence[int]
    starts_s: Sequence[float]
    digests: Sequence[int]

    def digest_at(self, clip: int, place: str) -> int:
        """Return what the digest of a clip is if its recording is at a place."""
        return digest_part(place, self.channels[clip], self.starts_s[clip])


def find_places(parts: Parts, found: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Return the place of the recording of each clip; empty where it is not known from here.

    Known are those of clips that were found, and those below the working directory and the sources that the digests
    confirm. A clip without a digest, or with bytes in its path that the table cannot hold, is where the one before is.
    """
    folders, ends, places = _folders(parts.paths, found), list(_ends(sources)), list[str]()
    last: str | None = folders[0]
    for clip, (path, place) in enumerate(zip(parts.paths, found, strict=True)):
        name, there = _below(path), place
        if _is_absolute(path):
            there = place or absolute(path)
        elif parts.digests[clip] and _LOST_BYTES not in path:
            tried = _candidates(path, folders if last is None else (last, *folders), ends)
            there = place or next((one for one in tried if parts.digest_at(clip, one) == parts.digests[clip]), "")
            last = _base(there, name)
        elif not place and last is not None:
            there = f"{last}/{name}"
        places.append(there)
    return places


def find_unrecorded(parts: Parts, found: Sequence[str], wanted: Collection[int]) -> dict[int, int]:
    """Return the digests of clips that have none: of these, the first that a folder of other clips leads to."""
    folders, digests = _folders(parts.paths, found), dict[int, int]()
    for clip, (path, known) in enumerate(zip(parts.paths, parts.digests, strict=True)):
        if not known:
            tried = (parts.digest_at(clip, one) for one in _candidates(path, folders, ()))
            if digest := next((one for one in tried if one in wanted), 0):
                digests[clip] = digest
    return digests


def _folders(paths: Sequence[str], places: Sequence[str]) -> list[str]:
    """Return the working directory, and the folders that the paths of clips at these places are relative to."""
    here = path_to_text(absolute("")).rstrip("/")
    pairs = zip(paths, places, strict=True)
    others = (_base(place, _below(path)) for path, place in pairs if place and not _is_absolute(path))
    return list(dict.fromkeys((here, *(one for one in others if one is not None))))


def _is_absolute(path: str) -> bool:
    return is_remote(path) or os.path.isabs(path)


def _base(place: str, name: str) -> str | None:
    """Return the folder of a place to which a path below it is relative; empty for the topmost one."""
    return place[: -len(name) - 1] if place.endswith(f"/{name}") else None


def _below(path: str) -> str:
    """Return a path without what leads up from the working directory."""
    while path.startswith(_UP):
        path = path.removeprefix(_UP)
    return path


def _ends(sources: Sequence[str]) -> Iterator[tuple[str, str]]:
    """Yield each folder that is a source or above one, with that source."""
    for source in sources:
        root = folder = path_to_text(absolute(source)).rstrip("/")
        while folder and not is_remote(root):
            yield folder, root
            folder = folder.rpartition("/")[0]
        yield folder, root


def _candidates(path: str, folders: Sequence[str], ends: Sequence[tuple[str, str]]) -> Iterator[str]:
    """Yield where the recording of a path may be: from here, from these folders, and below sources."""
    name = _below(path)
    yield absolute(path)
    if not _is_absolute(path):
        yield from (f"{folder}/{name}" for folder in folders)
        below = ((f"{folder}/{name}", root) for folder, root in ends)
        yield from (place for place, root in below if place == root or place.startswith(f"{root}/"))
