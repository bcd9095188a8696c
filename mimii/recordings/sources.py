"""Find recordings: in folders, in zip archives, below prefixes on S3."""

import os
import stat
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

from mimii.recordings.clips import Clip, identify
from mimii.storage import DEFAULT_ACCESS, Access, ArchiveError, Place, is_remote, open_archive, s3, unreadable, zips

AUDIO_SUFFIXES = frozenset(
    (
        ".aif",
        ".aifc",
        ".aiff",
        ".au",
        ".caf",
        ".flac",
        ".mp3",
        ".oga",
        ".ogg",
        ".opus",
        ".rf64",
        ".snd",
        ".w64",
        ".wav",
        ".wave",
    )
)
"""Endings, in lower case, of the files in a folder that are taken for recordings."""

_ARCHIVE = ".zip"


class SourceError(ValueError):
    """A source that is not there or cannot be understood; the message names it."""


def find_clips(sources: Sequence[str], access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Find the recordings in folders, zip archives, prefixes on S3 and single files, sorted by path.

    Files are taken by their ending (`AUDIO_SUFFIXES`); hidden ones (``._*``, ``.DS_Store``) and ``__MACOSX`` are left
    out. Archives (``.zip``) are looked into wherever they are. Links are followed, each real folder once, so loops
    end. What cannot be listed or looked at becomes a clip with a `problem`, so that it is not forgotten silently.
    """
    visited: set[tuple[int, int]] = set()
    found: dict[str, Clip] = {}
    for source in sorted(_normal(source) for source in sources):
        for clip in _find_remote(source, access) if is_remote(source) else _find_local(source, visited):
            found.setdefault(str(clip.place), clip)
    return sorted(found.values(), key=lambda clip: clip.path)


def find_listed(paths: Sequence[str], access: Access = DEFAULT_ACCESS) -> list[Clip]:
    """Look at single recordings, many at a time where they are far away."""
    archives = {archive for archive, _ in map(_split_archive, paths) if archive}
    members = {clip.path: clip for clip in find_clips(sorted(archives), access)} if archives else {}
    with ThreadPoolExecutor(s3.MAX_REQUESTS if any(map(is_remote, paths)) else 1) as pool:
        return list(pool.map(lambda path: members.get(path) or _listed(path, access), paths))


def _split_archive(path: str) -> tuple[str, str]:
    """Cut a path after the archive in it; both are empty where there is none."""
    archive, suffix, name = path.partition(f"{_ARCHIVE}/")
    return (archive + _ARCHIVE, name) if suffix else ("", "")


def _normal(source: str) -> str:
    return source.rstrip("/") if is_remote(source) else os.path.normpath(source)


def _find_local(source: str, visited: set[tuple[int, int]]) -> Iterator[Clip]:
    if not os.path.exists(source):
        msg = f"{source}: no such file or folder"
        raise SourceError(msg)
    files = _walk(source, visited) if os.path.isdir(source) else [(source, "")]
    for path, problem in files:
        clip = _file(path, problem)
        if _suffix(path) == _ARCHIVE and not clip.problem:
            yield from _find_in_archive(clip.path, clip.place, DEFAULT_ACCESS)
        else:
            yield clip


def _find_remote(source: str, access: Access) -> Iterator[Clip]:
    found = _find_objects(source, access)
    if not found:
        msg = f"{source}: there is nothing"
        raise SourceError(msg)
    for thing in found:
        place = Place(thing.url, thing.size, thing.version, modified=thing.modified)
        if _is_hidden(thing.url[len(source) :]):
            continue
        if _suffix(thing.url) == _ARCHIVE:
            yield from _find_in_archive(thing.url, place, access)
        elif _suffix(thing.url) in AUDIO_SUFFIXES:
            yield Clip(thing.url, place, identify(thing.url))


def _find_objects(source: str, access: Access) -> list[s3.Found]:
    """Return the object of that name, or else those below."""
    if _suffix(source) == _ARCHIVE or _suffix(source) in AUDIO_SUFFIXES:
        try:
            thing = s3.describe(source, access)
        except PermissionError as error:
            msg = f"{source}: cannot be looked at: {error.strerror}"
            raise SourceError(msg) from error
        if thing:
            return [thing]
    return list(s3.find(source, access))


def _find_in_archive(path: str, archive: Place, access: Access) -> Iterator[Clip]:
    try:
        with open_archive(archive.url, archive.size, access) as file:
            members = zips.list_members(file, archive)
    except (ArchiveError, OSError) as error:
        if isinstance(error, s3.StorageError):
            raise
        msg = f"{path}: {error}. Move it away, or complete it: python -m jobs.fetch goes on with a broken download"
        raise SourceError(msg) from error
    for place, problem in members:
        name = str(place)[len(archive.url) + 1 :]
        if not _is_hidden(name) and _suffix(name) in AUDIO_SUFFIXES:
            yield Clip(f"{path}/{name}", place, identify(str(place)), problem)


def _walk(folder: str, visited: set[tuple[int, int]]) -> Iterator[tuple[str, str]]:
    """Yield the path of each recording below, with what is wrong with it, if anything."""
    try:
        status = os.stat(folder)
        with os.scandir(folder) as entries:
            listed = sorted(entries, key=lambda entry: entry.name)
    except OSError as error:
        yield folder, f"folder cannot be listed: {error.strerror}"
        return
    if (status.st_dev, status.st_ino) in visited:
        return
    visited.add((status.st_dev, status.st_ino))
    for entry in listed:
        if entry.name.startswith(".") or entry.name == "__MACOSX":
            continue
        if _is_folder(entry):
            yield from _walk(entry.path, visited)
        elif _suffix(entry.name) in AUDIO_SUFFIXES or _suffix(entry.name) == _ARCHIVE:
            yield entry.path, ""


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _listed(path: str, access: Access) -> Clip:
    if not is_remote(path):
        return _file(path)
    clip = Clip(path, Place(path), identify(path))
    if any(_split_archive(path)):
        return replace(clip, problem="cannot be read: no such recording in the archive")
    try:
        found = s3.describe(path, access)
    except PermissionError as error:
        return replace(clip, problem=unreadable(error))
    if found is None:
        return replace(clip, problem="cannot be read: no such object")
    return replace(clip, place=Place(path, found.size, found.version, modified=found.modified))


def _file(path: str, problem: str = "") -> Clip:
    """Look at a file on a disk."""
    clip = Clip(os.path.normpath(path), Place(os.path.abspath(path)), identify(os.path.abspath(path)), problem)
    if problem:
        return clip
    try:
        status = os.stat(path)
    except OSError as error:
        return replace(clip, problem=unreadable(error))
    if not stat.S_ISREG(status.st_mode):
        return replace(clip, problem="not a regular file")
    version, modified = str(status.st_mtime_ns), status.st_mtime
    return replace(clip, place=Place(clip.place.url, status.st_size, version, modified=modified))


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_hidden(name: str) -> bool:
    return any((part.startswith(".") and part not in (".", "..")) or part == "__MACOSX" for part in name.split("/"))
