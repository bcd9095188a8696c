"""Whole objects under a folder: put, get, list, delete. No reader ever sees one half written.

An object is written to a temporary file beside the others, synced to disk, and renamed: after a kill or a power
failure at any moment, there is the old object or the new one.
"""

import errno
import logging
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryFile

PARTIAL = ".partial"
"""The folder of temporary files."""

_TRIES = 5
_NOT_FOR_FOLDERS = {errno.EINVAL, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EBADF, errno.EACCES, errno.EPERM}
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class DiskObjects:
    """Objects as files below a folder, made where missing; see `mimii.storage.objects.Objects` for the methods."""

    root: str

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it survives a power failure."""
        self.put_all({key: data})

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects; when this returns, all of them survive a power failure."""
        left = {Path(self.root, key): data for key, data in objects.items()}
        for _ in range(_TRIES):
            left = {target: left[target] for target in _put_all(left, Path(self.root, PARTIAL))}
            if not left:
                return
        msg = f"{next(iter(left))}: cannot be written, another process deletes the temporary files; stop it"
        raise FileNotFoundError(msg)

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        try:
            return Path(self.root, key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects; those that do not exist are left out."""
        return {key: data for key in keys if (data := self.get(key)) is not None}

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a prefix: bytes by key."""
        return dict(_files(os.path.join(self.root, prefix), prefix))

    def names(self) -> list[str]:
        """List what is directly below the root, sorted."""
        try:
            return sorted(os.listdir(self.root))
        except FileNotFoundError:
            return []

    def delete(self, key: str) -> None:
        """Delete an object."""
        Path(self.root, key).unlink(missing_ok=True)

    def delete_below(self, prefix: str) -> None:
        """Delete a folder with all that is in it."""
        path = Path(self.root, prefix)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)

    def delete_partial(self) -> None:
        """Delete the temporary files of killed writers; a writer that still runs writes its own once more."""
        folder = Path(self.root, PARTIAL)
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # a writer that still runs has added one
                folder.rmdir()

    def check(self) -> None:
        """Raise an error unless files can be written here; no file or folder is left behind."""
        root = Path(self.root)
        there = next(folder for folder in (root, *root.parents) if os.path.lexists(folder))
        try:
            with TemporaryFile(dir=there) as file:
                file.write(b"check")
        except OSError as error:
            raise type(error)(error.errno, error.strerror, self.root) from error


def sync(path: Path) -> None:
    """Bring a file's content, or a folder's list of files, safely to disk.

    Some file systems (SMB shares, shares in WSL, some of FUSE) refuse it for a folder: that is warned of once.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if not (path.is_dir() and error.errno in _NOT_FOR_FOLDERS):
            raise type(error)(error.errno, error.strerror, str(path)) from error
        _warn_of_folders()
    finally:
        os.close(descriptor)


@cache
def _warn_of_folders() -> None:
    _log.warning("this file system does not sync folders: after a power failure, run the same command again")


def _files(folder: str, prefix: str) -> Iterator[tuple[str, int]]:
    try:
        with os.scandir(folder) as entries:
            listed = list(entries)
    except (FileNotFoundError, NotADirectoryError):
        return
    for entry in listed:
        key = f"{prefix}/{entry.name}" if prefix else entry.name
        if entry.is_dir():
            yield from _files(entry.path, key)
        elif entry.is_file():
            with suppress(FileNotFoundError):  # another process has just renamed it
                yield key, entry.stat().st_size


def _put_all(objects: Mapping[Path, bytes], partial: Path) -> set[Path]:
    """Write files; return those whose temporary files another process deleted.

    All are written before the first is synced, and a folder is synced once: many small files wait for the disk a few
    times, not three times each.
    """
    temporary = {target: partial / uuid.uuid4().hex for target in objects}
    folders = {target.parent for target in objects}
    for folder in (partial, *folders):
        _make_folder(folder)
    steps: tuple[Callable[[Path], object], ...] = (
        lambda target: temporary[target].write_bytes(objects[target]),
        lambda target: sync(temporary[target]),
        lambda target: temporary[target].replace(target),
    )
    done = list(objects)
    try:
        for step in steps:
            done = [target for target in done if _succeeds(step, target)]
    except OSError:
        for path in temporary.values():
            path.unlink(missing_ok=True)
        raise
    for folder in folders:
        sync(folder)
    return set(objects) - set(done)


def _succeeds(step: Callable[[Path], object], target: Path) -> bool:
    """Do a step; return False where its temporary file was deleted, and name the target in other errors."""
    try:
        step(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error
    return True


def _make_folder(folder: Path) -> None:
    """Make a folder; one that others make and remove meanwhile may be missing: what is written into it is, too."""
    if folder.is_dir():
        return
    _make_folder(folder.parent)
    try:
        folder.mkdir()
    except FileExistsError:
        if folder.is_file() or folder.is_symlink():
            raise
    sync(folder.parent)
