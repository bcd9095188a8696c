"""Read headers of recordings; those that libsndfile has to read in a child, since some kill the process that does.

A child reads all of them and reports each. Where it dies, the recordings that it may have been at are read one by one:
then it is known which one is to blame.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, replace
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO

from mimii.features import UNKNOWN_LENGTH, Header, Report, count_samples, read_header, serve, start_child
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
    s3,
    unreadable,
)

if TYPE_CHECKING:
    from mimii.features import Fault


def read_clip_header(
    clip: Clip, access: Access = DEFAULT_ACCESS, read: Callable[[BinaryIO], Header | None] = read_header
) -> Clip:
    """Return a clip with its header, or with the problem; one that has a problem already is not read.

    A recording whose header does not say how long it is, such as MP3 without a Xing or Info frame, is decoded to count.
    Where `read` returns None, the clip is returned as it is.

    Raises StorageError if S3 cannot be used: the clip is not to blame.
    """
    if clip.problem:
        return clip
    try:
        with open_part(clip.place, access) as file:
            header = read(file)
        if header and header.n_samples == UNKNOWN_LENGTH:
            header = replace(header, n_samples=_count(clip.place, access))
        return replace(clip, header=header)
    except AudioError as error:
        return replace(clip, problem=str(error))
    except StorageError:
        raise
    except OSError as error:
        return replace(clip, problem=unreadable(error))
    except MemoryError:
        return replace(clip, problem="not enough memory to read its header")


def _count(place: Place, access: Access) -> int:
    with next(open_all([place], ReadOptions(access)))() as file:
        return count_samples(file)


def probe(clips: Sequence[Clip], access: Access) -> list[Clip]:
    """Return clips with the header or the problem of each, as `read_clip_header` does, without harm to this process."""
    is_far = any(is_remote(clip.place.url) for clip in clips)
    return _probe(clips, MAX_REQUESTS if is_far else 1, access)


def _probe(clips: Sequence[Clip], n_threads: int, access: Access) -> list[Clip]:
    """Let children read headers, one child after the other, each until a recording kills it."""
    found = dict[int, Clip]()
    while left := [index for index in range(len(clips)) if index not in found]:
        fault = _read_in_child(clips, left, n_threads, access, found)
        suspects = [index for index in left if index not in found][:n_threads]
        if fault and n_threads == 1:
            found[suspects[0]] = replace(clips[suspects[0]], problem=fault.problem)
        elif fault:
            found |= zip(suspects, _probe([clips[index] for index in suspects], 1, access), strict=True)
    return [found[index] for index in range(len(clips))]


def _read_in_child(
    clips: Sequence[Clip], left: Sequence[int], n_threads: int, access: Access, found: dict[int, Clip]
) -> "Fault | None":
    """Add the headers that a child reads; return how it died, where it did before it had read them all."""
    n_requests = 0
    request = ([(index, clips[index].place) for index in left], n_threads, access)
    with start_child(__name__, request) as child:
        for index, problem, header, n_so_far in child.reports():
            found[index] = replace(clips[index], problem=problem, header=Header(*header) if header else None)
            n_requests = max(n_requests, n_so_far)
        s3.add_requests(n_requests)
        return None if found.keys() >= set(left) else child.fault()


def _read_all(request: tuple[Sequence[tuple[int, Place]], int, Access], report: Report) -> None:
    """Read headers, and report each."""
    numbered, n_threads, access = request
    read = partial(_read_one, access=access, report=report)
    if n_threads == 1:
        for one in numbered:
            read(one)
        return
    with ThreadPoolExecutor(n_threads) as pool:
        for _ in pool.map(read, numbered):
            pass


def _read_one(numbered: tuple[int, Place], access: Access, report: Report) -> None:
    index, place = numbered
    clip = read_clip_header(Clip("", place), access)
    header: Any = astuple(clip.header) if clip.header else None
    report([index, clip.problem, header, s3.count_requests()])


if __name__ == "__main__":
    serve(_read_all)
