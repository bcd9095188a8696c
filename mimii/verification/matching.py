"""Which recording is which clip of a store: by path, or where recordings were moved, by what they are."""

import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from numpy.typing import NDArray

from mimii.engine import as_unicode
from mimii.recordings import UNKNOWN, Clip
from mimii.storage import is_remote

BY_PATH, BY_END, BY_IDENTITY = WAYS = ("path", "end of path", "identity")
"""How a recording may be known for a clip of a store, the surest first."""

_NUMBERS = ("snr_db", "label", "number")


@dataclass(frozen=True, slots=True)
class Matches:
    """Which recordings are those of a store.

    Attributes
    ----------
    recordings : mapping of int to Clip
        What was found, by the number of the clip in the store.
    ways : mapping of int to str
        How each is known: one of `WAYS`. Those known by ``"path"`` are where they were when the store was made.
    n_clips : int
        Clips in the store.

    """

    recordings: Mapping[int, Clip]
    ways: Mapping[int, str]
    n_clips: int

    def describe(self) -> str:
        """Say how many have a match, for people."""
        counts = Counter(self.ways.values())
        known = ", ".join(f"{counts[way]:,} by {way}" for way in WAYS if counts[way])
        n_without = self.n_clips - len(self.recordings)
        return f"{known or 'none'}; {n_without:,} of {self.n_clips:,} clips have no match"


def match_clips(columns: Mapping[str, NDArray[Any]], found: Sequence[Clip]) -> Matches:
    """Find the clips of a store among recordings.

    First by the path as it was named, or the same place by another name. Where recordings were moved, by the end of
    the path, the longest one that only one clip of the store and only one recording has; then by identity, where
    all five parts of it are known and only one has them on either side. Of two that contradict each other in what
    is known of them, neither is taken for the other.
    """
    paths = [str(path) for path in columns["path"]]
    usable = [clip for clip in found if not clip.problem]
    identities = _identities(columns)
    matched = _by_path(paths, usable)
    ways = dict.fromkeys(matched, BY_PATH)

    def add(pairs: Mapping[int, int], way: str) -> None:
        taken = set(matched.values())
        for clip, recording in pairs.items():
            known = _identity(usable[recording])
            if clip not in matched and recording not in taken and _agree(identities[clip], known):
                matched[clip], ways[clip] = recording, way

    if len(matched) < len(paths):
        ends, found_ends = [_parts(path) for path in paths], [_parts(as_unicode(clip.path)) for clip in usable]
        for length in range(max(map(len, [*ends, *found_ends]), default=0), 0, -1):
            add(_unique_pairs(ends, found_ends, partial(_last, length)), BY_END)
        add(_unique_pairs(identities, list(map(_identity, usable)), lambda who: who if all(who) else None), BY_IDENTITY)
    return Matches({clip: usable[recording] for clip, recording in matched.items()}, ways, len(paths))


def _by_path(paths: Sequence[str], found: Sequence[Clip]) -> dict[int, int]:
    by_name = {as_unicode(clip.path): index for index, clip in enumerate(found)}
    by_place = {as_unicode(str(clip.place)): index for index, clip in enumerate(found)}
    pairs = ((clip, by_name.get(path, by_place.get(_absolute(path)))) for clip, path in enumerate(paths))
    return {clip: recording for clip, recording in pairs if recording is not None}


def _absolute(path: str) -> str:
    return path if is_remote(path) else os.path.abspath(path)


def _last(length: int, parts: tuple[str, ...]) -> tuple[str, ...] | None:
    return parts[-length:] if len(parts) >= length else None


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _identities(columns: Mapping[str, NDArray[Any]]) -> list[tuple[str, ...]]:
    names = ("machine_type", "machine_id", *_NUMBERS)
    return [_known(*values) for values in zip(*(columns[name].tolist() for name in names), strict=True)]


def _identity(clip: Clip) -> tuple[str, ...]:
    who = clip.identity
    return _known(who.machine_type, who.machine_id, who.snr_db, who.label, who.number)


def _known(machine_type: str, machine_id: str, snr_db: float, label: int, number: int) -> tuple[str, ...]:
    """Write what is known of a clip; what is not is empty."""
    return (
        machine_type,
        machine_id,
        f"{snr_db:g}" if snr_db == snr_db else "",  # noqa: PLR0124  NaN is unknown
        "" if label == UNKNOWN else str(label),
        "" if number < 0 else str(number),
    )


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(mine == theirs for mine, theirs in zip(one, other, strict=True) if mine and theirs)


def _unique_pairs(ours: Sequence[Any], theirs: Sequence[Any], key: Callable[[Any], Hashable]) -> dict[int, int]:
    """Pair what has the same key, where it is the only one on either side."""
    mine, others = _unique(map(key, ours)), _unique(map(key, theirs))
    return {index: others[value] for value, index in mine.items() if value in others}


def _unique(values: Iterable[Hashable]) -> dict[Hashable, int]:
    listed = list(values)
    counts = Counter(listed)
    return {value: index for index, value in enumerate(listed) if value is not None and counts[value] == 1}
