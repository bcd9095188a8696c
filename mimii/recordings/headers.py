"""Read the headers of recordings: of all, or of one in each group of recordings that are alike."""

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mimii.features import UNKNOWN_LENGTH, count_samples, read_header
from mimii.recordings.clips import Clip
from mimii.storage import (
    DEFAULT_ACCESS,
    MAX_REQUESTS,
    Access,
    AudioError,
    Place,
    ReadOptions,
    StorageError,
    is_remote,
    open_all,
    open_part,
    unreadable,
)

_OF_ONE_SIZE = frozenset((".wav", ".wave"))


def read_clip_header(clip: Clip, access: Access = DEFAULT_ACCESS) -> Clip:
    """Return a clip with its header, or with the problem; one that has a problem already is not read.

    A recording whose header does not say how long it is, such as MP3 without a Xing or Info frame, is decoded to count.

    Raises StorageError if S3 cannot be used: the clip is not to blame.
    """
    if clip.problem:
        return clip
    try:
        with open_part(clip.place, access) as file:
            header = read_header(file)
        if header.n_samples == UNKNOWN_LENGTH:
            header = replace(header, n_samples=_count(clip.place, access))
        return replace(clip, header=header)
    except AudioError as error:
        return replace(clip, problem=str(error))
    except StorageError:
        raise
    except OSError as error:
        return replace(clip, problem=unreadable(error))


def _count(place: Place, access: Access) -> int:
    with next(open_all([place], ReadOptions(access)))() as file:
        return count_samples(file)


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
    indices = list(indices)
    if not any(is_remote(clips[index].place.url) for index in indices):
        return {index: read_clip_header(clips[index], access) for index in indices}
    with ThreadPoolExecutor(MAX_REQUESTS) as pool:
        found = pool.map(lambda index: read_clip_header(clips[index], access), indices)
        return dict(zip(indices, found, strict=True))
