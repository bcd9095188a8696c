"""Find recordings: in folders, in zip archives, below prefixes on S3."""

import os
import stat
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import NamedTuple

from mimii.recordings.attributes import fill_attributes, holds_attributes
from mimii.recordings.clips import Clip, Identity
from mimii.recordings.paths import identify
from mimii.storage import (
    DEFAULT_ACCESS,
    Access,
    ArchiveError,
    Place,
    archive_of,
    is_remote,
    open_archive,
    path_to_text,
    s3,
    text_to_path,
    unreadable,
    zips,
)

_UNCOMPRESSED = (".aif", ".aifc", ".aiff", ".au", ".bwf", ".caf", ".rf64", ".snd", ".w64", ".wav", ".wave")
_COMPRESSED = (".flac", ".mp3", ".oga", ".ogg", ".opus")
AUDIO_SUFFIXES = frozenset(_UNCOMPRESSED + _COMPRESSED)
"""Suffixes, in lower case, of the files in a folder that are taken for recordings."""

_ARCHIVE = ".zip"
_SUFFIXES = AUDIO_SUFFIXES | {_ARCHIVE}
_OTHER_AUDIO = frozenset(
    (".3gp", ".aac", ".ac3", ".amr", ".ape", ".dsf", ".m4a", ".mka", ".mkv", ".mp4", ".sph", ".tta", ".wma", ".wv")
)
_OTHER_ARCHIVES = frozenset((".7z", ".bz2", ".gz", ".rar", ".tar", ".tgz", ".xz", ".zst"))
_LEFT_OUT = _OTHER_AUDIO | _OTHER_ARCHIVES | {_ARCHIVE}  # which is read unless it is in another
_LISTS = (".csv", ".tsv")


class SourceError(ValueError):
    """A source that does not exist or cannot be used; the message names it."""


class Found(NamedTuple):
    """What there is: clips sorted by path, and the paths of recordings and archives of formats that are not read."""

    clips: list[Clip]
    left_out: list[str]


def find_clips(sources: Sequence[str], access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Return the recordings in folders, zip archives, prefixes on S3 and single files, sorted by path."""
    return find_files(sources, access).clips


def find_files(
    sources: Sequence[str],
    access: Access = DEFAULT_ACCESS,
    identify: Callable[[str], Identity] = identify,
) -> Found:
    """Find the recordings in folders, zip archives, prefixes on S3 and single files; `identify` says what they are.

    Files are taken by their suffix (`AUDIO_SUFFIXES`), zip archives are searched; hidden files (``._*``,
    ``.DS_Store``) and ``__MACOSX`` are skipped. Links are followed, each real folder once, so loops end. What cannot
    be listed or accessed becomes a clip with a `problem`, so that it is never dropped silently. Files of attributes
    tell more of what is beside them.
    """
    found, attributes, left_out = dict[str, Clip](), list[Clip](), list[str]()
    for one in _find_all(sources, access):
        if isinstance(one, str):
            left_out += [one] * bool(kind_left_out(one))
        elif holds_attributes(one.path):
            attributes.append(one)
        else:
            found.setdefault(str(one.place), one)
    clips = [Clip(clip.path, clip.place, identify(name), clip.problem) for name, clip in found.items()]
    clips.sort(key=lambda clip: clip.path)
    return Found(fill_attributes(clips, attributes, access), left_out)


def _find_all(sources: Sequence[str], access: Access) -> Iterator[Clip | str]:
    """Yield clips, also those in archives, files of attributes likewise, and the paths of the other files."""
    visited: set[tuple[int, int]] = set()
    for source in sorted(source.rstrip("/") if is_remote(source) else os.path.normpath(source) for source in sources):
        _refuse_list(source)
        for one in _find_objects(source, access) if is_remote(source) else _find_files(source, visited):
            if isinstance(one, Clip) and _suffix(one.path) == _ARCHIVE and not one.problem:
                yield from _find_members(one, access)
            else:
                yield one


def find_listed(
    paths: Sequence[str], access: Access = DEFAULT_ACCESS, identify: Callable[[str], Identity] = identify
) -> list[Clip]:
    """Return the clips at these paths, in this order; many are looked up at a time on S3."""
    archives = {archive for archive in map(archive_of, paths) if archive}
    places = sorted(archive if is_remote(archive) else text_to_path(archive) for archive in archives)
    members = {clip.path: clip for clip in find_files(places, access, identify).clips}
    with ThreadPoolExecutor(s3.MAX_REQUESTS if any(map(is_remote, paths)) else 1) as pool:
        listed = pool.map(lambda path: members.get(path) or _listed(path, access), paths)
    return [clip if clip.path in members else replace(clip, identity=identify(str(clip.place))) for clip in listed]


def kind_left_out(name: str) -> str:
    """Return the suffix of a recording or an archive that is not read; empty for all other files."""
    if (suffix := _suffix(name)) not in _LEFT_OUT:
        return ""
    is_packed_tar = _suffix(name[: -len(suffix)]) == ".tar" and suffix != ".tar"
    return f".tar{suffix}" if is_packed_tar else suffix


def is_archive(kind: str) -> bool:
    """Return whether what is left out is an archive, not a recording."""
    return kind not in _OTHER_AUDIO


def _refuse_list(source: str) -> None:
    if _suffix(source) in _LISTS and not os.path.isdir(source):
        msg = f"{source}: a list is no source: use --list {source}, or lists= in Python"
        raise SourceError(msg)


def _find_files(source: str, visited: set[tuple[int, int]]) -> Iterator[Clip | str]:
    if not os.path.exists(source):
        msg = f"{source}: no such file or folder"
        raise SourceError(msg)
    if os.path.isdir(source):
        yield from _walk(source, visited)
    else:
        yield _file(source)


def _find_objects(source: str, access: Access) -> Iterator[Clip | str]:
    """Find the object of that name, or else those below."""
    found = _named_object(source, access) or list(s3.find(source, access))
    if not found:
        msg = f"{source}: no such object or prefix"
        raise SourceError(msg)
    for item in found:
        if not _is_hidden(item.url[len(source) :]):
            yield Clip(item.url, _object_place(item)) if _is_taken(item.url, _SUFFIXES) else item.url


def _named_object(source: str, access: Access) -> list[s3.Found]:
    if _suffix(source) not in _SUFFIXES:
        return []
    try:
        found = s3.describe(source, access)
    except PermissionError as error:
        msg = f"{source}: cannot be accessed: {error.strerror}"
        raise SourceError(msg) from error
    return [found] if found else []


def _object_place(found: s3.Found) -> Place:
    return Place(found.url, found.size, found.version, modified=found.modified)


def _find_members(archive: Clip, access: Access) -> Iterator[Clip | str]:
    place = archive.place
    try:
        with open_archive(place.url, place.size, access) as file:
            members = zips.list_members(file, place)
    except s3.StorageError:
        raise
    except (ArchiveError, OSError) as error:
        msg = f"{archive.path}: {error}. Remove it, or resume an interrupted download: python -m jobs.fetch"
        raise SourceError(msg) from error
    for member, problem in members:
        name = member.member.name if member.member else ""
        if not _is_hidden(name):
            path = f"{archive.path}/{name}"
            yield Clip(path, member, problem=problem) if _is_taken(name, AUDIO_SUFFIXES) else path


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[Clip | str]:
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield _clip(folder, f"folder cannot be listed: {error.strerror}")
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in listed:
        if _is_hidden(entry.name):
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, visited)
        else:
            yield _file(entry.path) if _is_taken(entry.name, _SUFFIXES) else entry.path


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(path: str, access: Access) -> Clip:
    archive = archive_of(path)
    if not is_remote(path) and not (archive and os.path.isfile(text_to_path(archive))):
        return _file(text_to_path(path))
    clip = Clip(path, Place(path))
    if archive:
        return replace(clip, problem="cannot be read: no such recording in the archive")
    try:
        found = s3.describe(path, access)
    except PermissionError as error:
        return replace(clip, problem=unreadable(error))
    if found is None:
        return replace(clip, problem="cannot be read: no such object")
    return replace(clip, place=_object_place(found))


def _file(path: str) -> Clip:
    try:
        status = os.stat(path)
    except OSError as error:
        return _clip(path, unreadable(error))
    if not stat.S_ISREG(status.st_mode):
        return _clip(path, "not a regular file")
    place = Place(os.path.abspath(path), status.st_size, str(status.st_mtime_ns), modified=status.st_mtime)
    return Clip(path_to_text(os.path.normpath(path)), place)


def _clip(path: str, problem: str) -> Clip:
    """Return a clip on a disk that cannot be read."""
    place = Place(os.path.abspath(path))
    return Clip(path_to_text(os.path.normpath(path)), place, problem=problem)


def _is_taken(name: str, suffixes: frozenset[str]) -> bool:
    """Return whether a file is looked at: a recording, an archive, or one of attributes."""
    return _suffix(name) in suffixes or holds_attributes(name)


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_hidden(name: str) -> bool:
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))
