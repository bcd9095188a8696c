"""Read the headers of recordings: of all, or of one in each group of recordings that are alike."""

import os
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mimii.features import read_plain_header
from mimii.recordings.clips import Clip
from mimii.recordings.probing import probe, read_clip_header
from mimii.storage import DEFAULT_ACCESS, MAX_REQUESTS, Access, is_remote

_OF_ONE_SIZE = frozenset((".wav", ".wave"))


def read_all_headers(clips: Sequence[Clip], access: Access = DEFAULT_ACCESS) -> tuple[list[Clip], int]:
    """Return clips with the header of each, and how many were read; many are read at a time where they are remote."""
    found = _read(clips, range(len(clips)), access)
    return [found[index] for index in range(len(clips))], sum(not clip.problem for clip in clips)


def read_headers(clips: Sequence[Clip], access: Access = DEFAULT_ACCESS) -> tuple[list[Clip], int]:
    """Return clips with the header of one clip for each group that is alike, and how many were read.

    Alike are WAV files of the same size in the same folder of an archive or on S3: without compression, the same
    length in bytes and the same format are the same number of samples. Files on a disk are all read, which costs
    next to nothing. A clip that differs when it is decoded is a bad clip then. Where the first of a group cannot be
    read, all of the group are.
    """
    groups = group_alike(clips)
    found = _read(clips, [group[0] for group in groups], access)
    doubtful = [index for group in groups if found[group[0]].header is None for index in group[1:]]
    found |= _read(clips, doubtful, access)
    n_read = sum(not clips[index].problem for index in found)
    for group in groups:
        for index in group:
            if index not in found:
                found[index] = replace(clips[index], header=found[group[0]].header)
    return [found[index] for index in range(len(clips))], n_read


def group_alike(clips: Sequence[Clip]) -> list[list[int]]:
    """Return the indices of clips by group, see `read_headers`; each clip is in one group."""
    groups: Mapping[object, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        groups[_likeness(clip) or index].append(index)
    return list(groups.values())


def _likeness(clip: Clip) -> tuple[str, str, int] | None:
    """Return what alike clips share: folder, suffix and size; None for a clip that is read by itself."""
    place = str(clip.place)
    suffix = os.path.splitext(place)[1].lower()
    is_near = clip.place.member is None and not is_remote(clip.place.url)
    if is_near or clip.problem or suffix not in _OF_ONE_SIZE:
        return None
    return os.path.dirname(place), suffix, clip.place.size


def _read(clips: Sequence[Clip], indices: Iterable[int], access: Access) -> dict[int, Clip]:
    """Read headers: those of 16-bit WAV files here, all others in a process that may die."""
    indices = list(indices)
    found = _map(lambda index: _read_plain(clips[index], access), indices, clips)
    left = [index for index in indices if not (found[index].header or found[index].problem)]
    return found | dict(zip(left, probe([clips[index] for index in left], access), strict=True))


def _map(read: Callable[[int], Clip], indices: Sequence[int], clips: Sequence[Clip]) -> dict[int, Clip]:
    if not any(is_remote(clips[index].place.url) for index in indices):
        return {index: read(index) for index in indices}
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        return dict(zip(indices, pool.map(read, indices), strict=True))


def _read_plain(clip: Clip, access: Access) -> Clip:
    """Return a clip with its header, if it needs no decoder, or its problem; else as it is."""
    suffix = os.path.splitext(str(clip.place))[1].lower()
    return read_clip_header(clip, access, read_plain_header) if suffix in _OF_ONE_SIZE else clip
