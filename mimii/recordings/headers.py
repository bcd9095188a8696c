"""Look at the headers of recordings: of all, or of one in each group that is alike."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mimii.features import Header, read_header
from mimii.recordings.clips import Clip
from mimii.storage import (
    DEFAULT_ACCESS,
    MAX_REQUESTS,
    Access,
    AudioError,
    StorageError,
    is_remote,
    open_part,
    unreadable,
)

_OF_ONE_SIZE = frozenset((".wav", ".wave"))


@dataclass(frozen=True, slots=True)
class Probe:
    """What a look at a clip's header told.

    Attributes
    ----------
    header : Header or None
        None where it cannot be read.
    problem : str
        Why it cannot; else empty.

    """

    header: Header | None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Probes:
    """What looks at headers told of all clips.

    Attributes
    ----------
    of_clips : tuple of Probe
        One for each clip, in their order.
    n_read : int
        How many headers were read for it.

    """

    of_clips: tuple[Probe, ...]
    n_read: int


def probe_clip(clip: Clip, access: Access = DEFAULT_ACCESS) -> Probe:
    """Read a clip's header; what goes wrong is the probe's `problem`."""
    if clip.problem:
        return Probe(None, clip.problem)
    try:
        with open_part(clip.place, access) as file:
            return Probe(read_header(file))
    except AudioError as error:
        return Probe(None, str(error))
    except StorageError:
        raise
    except OSError as error:
        return Probe(None, unreadable(error))


def probe_all(clips: Sequence[Clip], access: Access = DEFAULT_ACCESS) -> Probes:
    """Read the header of every clip, many at a time where they are far away."""
    probes = _probe(clips, range(len(clips)), access)
    return Probes(tuple(probes[index] for index in range(len(clips))), sum(not clip.problem for clip in clips))


def probe_alike(clips: Sequence[Clip], access: Access = DEFAULT_ACCESS) -> Probes:
    """Read the header of one clip of each group that is alike, and take it for the others of the group.

    Alike are WAV files of the same size in the same folder of an archive or on S3: without compression, the same
    length in bytes and the same format are the same number of samples. Files on a disk are all looked at, which costs
    next to nothing. A clip that turns out otherwise when it is decoded is a bad clip then, with that reason.
    """
    groups = group_alike(clips)
    probes = _probe(clips, [group[0] for group in groups], access)
    doubtful = [index for group in groups if probes[group[0]].header is None for index in group[1:]]
    probes |= _probe(clips, doubtful, access)
    n_read = sum(not clips[index].problem for index in probes)
    of_clips = {index: probes.get(index, probes[group[0]]) for group in groups for index in group}
    return Probes(tuple(of_clips[index] for index in range(len(clips))), n_read)


def group_alike(clips: Sequence[Clip]) -> list[list[int]]:
    """Group clips that are alike; see `probe_alike`."""
    groups: Mapping[object, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[_likeness(clip) or index].append(index)
    return list(groups.values())


def _likeness(clip: Clip) -> tuple[str, str, int] | None:
    """Return what alike clips have in common; None for one that is like no other."""
    place = str(clip.place)
    suffix = os.path.splitext(place)[1].lower()
    near = clip.place.member is None and not is_remote(clip.place.url)
    if near or clip.problem or suffix not in _OF_ONE_SIZE:
        return None
    return os.path.dirname(place), suffix, clip.place.size


def _probe(clips: Sequence[Clip], indices: Iterable[int], access: Access) -> dict[int, Probe]:
    indices = list(indices)
    if not any(is_remote(clips[index].place.url) for index in indices):
        return {index: probe_clip(clips[index], access) for index in indices}
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        probes = pool.map(lambda index: probe_clip(clips[index], access), indices)
        return dict(zip(indices, probes, strict=True))
