"""Which recording is which clip of a store: by path, or where recordings were moved, by what they are."""

import math
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mimii.recordings import UNKNOWN, Clip
from mimii.storage import absolute, as_unicode, have, numbered

BY_PATH, BY_END, BY_IDENTITY = WAYS = ("path", "end of path", "identity")
"""How a recording may be matched with a clip of a store, the surest first."""

_IDENTITY = ("machine_type", "machine_id", "snr_db", "label", "number")


@dataclass(frozen=True, slots=True)
class Matches:
    """Which recordings are those of a store.

    Attributes
    ----------
    recordings : mapping of int to Clip
        By the number of the clip in the store.
    ways : mapping of int to str
        How each was matched: one of `WAYS`. By ``"path"``, it is where it was when the store was made.
    n_clips : int
        Clips in the store.

    """

    recordings: Mapping[int, Clip]
    ways: Mapping[int, str]
    n_clips: int

    def describe(self) -> str:
        """Write how many have a match."""
        counts = Counter(self.ways.values())
        matched = ", ".join(f"{counts[way]:,} by {way}" for way in WAYS if counts[way])
        clips = f"{len(self.recordings):,} of {numbered(self.n_clips, 'clip')} {have(self.n_clips)} a recording"
        return f"{clips}: {matched}" if matched else clips


def match_clips(columns: Mapping[str, NDArray[Any]], found: Sequence[Clip]) -> Matches:
    """Find the clips of a store among recordings.

    First by the path as it was named, or the same place by another name. Where recordings were moved, by the longest
    end of the path that only one clip of the store and only one recording has; then by identity, where all five parts
    of it are known and only one on either side has them. Two whose known properties differ never match.
    """
    of_clips = [str(path) for path in columns["path"]]
    firsts = {path: clip for clip, path in reversed(list(enumerate(of_clips)))}  # a recording may be several clips
    paths, columns = list(firsts), {name: columns[name][list(firsts.values())] for name in _IDENTITY}
    usable = [clip for clip in found if not clip.problem]
    identities = [_known(*values) for values in zip(*(columns[name].tolist() for name in _IDENTITY), strict=True)]
    found_identities = [_known(*(getattr(clip.identity, name) for name in _IDENTITY)) for clip in usable]
    matched = _by_path(paths, usable)
    ways, taken = dict.fromkeys(matched, BY_PATH), set(matched.values())

    def add(ours: Iterable[Hashable], theirs: Iterable[Hashable], way: str) -> None:
        for clip, recording in _unique_pairs(ours, theirs):
            is_free = clip not in matched and recording not in taken
            if is_free and _agree(identities[clip], found_identities[recording]):
                matched[clip], ways[clip] = recording, way
                taken.add(recording)

    if len(matched) < len(paths):
        ends, found_ends = [_parts(path) for path in paths], [_parts(as_unicode(clip.path)) for clip in usable]
        for length in range(max(map(len, [*ends, *found_ends]), default=0), 0, -1):
            add(_last(length, ends), _last(length, found_ends), BY_END)
        add(_whole(identities), _whole(found_identities), BY_IDENTITY)
    by_path = {paths[one]: (usable[recording], ways[one]) for one, recording in matched.items()}
    found_of = {clip: by_path[path] for clip, path in enumerate(of_clips) if path in by_path}
    recordings = {clip: recording for clip, (recording, _) in found_of.items()}
    return Matches(recordings, {clip: way for clip, (_, way) in found_of.items()}, len(of_clips))


def _by_path(paths: Sequence[str], found: Sequence[Clip]) -> dict[int, int]:
    by_name = {as_unicode(clip.path): index for index, clip in enumerate(found)}
    by_place = {as_unicode(str(clip.place)): index for index, clip in enumerate(found)}
    pairs = ((clip, by_name.get(path, by_place.get(absolute(path)))) for clip, path in enumerate(paths))
    return {clip: recording for clip, recording in pairs if recording is not None}


def _parts(path: str) -> tuple[str, ...]:
    return tuple(part for part in path.split("/") if part)


def _last(length: int, paths: Iterable[tuple[str, ...]]) -> list[tuple[str, ...] | None]:
    """Return the last parts of each path; None where it has fewer."""
    return [parts[-length:] if len(parts) >= length else None for parts in paths]


def _known(machine_type: str, machine_id: str, snr_db: float, label: int, number: int) -> tuple[str, ...]:
    """Write what is known of a clip; what is not is empty."""
    return (
        machine_type,
        machine_id,
        "" if math.isnan(snr_db) else f"{snr_db:g}",
        "" if label == UNKNOWN else str(label),
        "" if number < 0 else str(number),
    )


def _whole(identities: Iterable[tuple[str, ...]]) -> list[tuple[str, ...] | None]:
    """Return the identities of which all is known; None for the others."""
    return [identity if all(identity) else None for identity in identities]


def _agree(one: tuple[str, ...], other: tuple[str, ...]) -> bool:
    return all(mine == theirs for mine, theirs in zip(one, other, strict=True) if mine and theirs)


def _unique_pairs(ours: Iterable[Hashable], theirs: Iterable[Hashable]) -> list[tuple[int, int]]:
    """Pair those of the same value, where only one on either side has it."""
    mine, others = _unique(ours), _unique(theirs)
    return [(index, others[value]) for value, index in mine.items() if value in others]


def _unique(values: Iterable[Hashable]) -> dict[Hashable, int]:
    listed = list(values)
    counts = Counter(listed)
    return {value: index for index, value in enumerate(listed) if value is not None and counts[value] == 1}
