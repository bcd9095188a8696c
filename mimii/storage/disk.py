"""Whole objects under a folder: put, get, list, delete. Nothing is ever seen half written.

An object is written to a file of its own beside the others, brought safely to disk, and moved into place: whatever
is killed, and whenever the power fails, there is the old object or the new one.
"""

import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PARTIAL = ".partial"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class DiskObjects:
    """Objects as files below a folder; see `mimii.storage.objects.Objects` for the methods.

    Attributes
    ----------
    root : str
        The folder; made where missing.

    """

    root: str

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it survives a power cut."""
        self.put_all({key: data})

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects; when this returns, all of them survive a power cut."""
        left = {Path(self.root, key): data for key, data in objects.items()}
        for _ in range(_TRIES):
            left = {target: left[target] for target in _put_all(left, Path(self.root, PARTIAL))}
            if not left:
                return
        msg = f"{next(iter(left))}: cannot be written, somebody else deletes what is written"
        raise FileNotFoundError(msg)

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        try:
            return Path(self.root, key).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects; what is not there is left out."""
        found = ((key, self.get(key)) for key in keys)
        return {key: data for key, data in found if data is not None}

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
        """Delete what writers that were killed have left behind; one that is alive writes its own once more."""
        folder = Path(self.root, PARTIAL)
        with suppress(FileNotFoundError):
            for name in os.listdir(folder):
                (folder / name).unlink(missing_ok=True)
            with suppress(OSError):  # one that is alive has written there meanwhile
                folder.rmdir()

    def check(self) -> None:
        """Make sure that objects can be written, read and deleted."""
        key = f"{PARTIAL}/check-{uuid.uuid4().hex}"
        self.put(key, b"check")
        self.get(key)
        self.delete(key)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files safely to disk: what was moved there, and under which name."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


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
            with suppress(FileNotFoundError):  # moved to its place by another process a moment ago
                yield key, entry.stat().st_size


def _put_all(objects: Mapping[Path, bytes], partial: Path) -> list[Path]:
    """Write files; return those that another run tidied up on their way to their places.

    All are written before the first is brought to disk, and a folder is brought there once: many small files cost a
    few waits for the disk, and not three each.
    """
    ways = {target: partial / uuid.uuid4().hex for target in objects}
    folders = {target.parent for target in objects}
    for folder in (partial, *folders):
        _make_folder(folder)
    done = list(objects)
    try:
        done = [target for target in done if _done(lambda target: ways[target].write_bytes(objects[target]), target)]
        done = [target for target in done if _done(lambda target: _sync_file(ways[target]), target)]
        done = [target for target in done if _done(lambda target: ways[target].replace(target), target)]
    except OSError:
        for way in ways.values():
            way.unlink(missing_ok=True)
        raise
    for folder in folders:
        sync_folder(folder)
    return [target for target in objects if target not in set(done)]


def _done(step: Callable[[Path], object], target: Path) -> bool:
    """Do a step for a file, unless somebody has tidied it up; an error names the place that it was meant for."""
    try:
        step(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        raise type(error)(error.errno, error.strerror, str(target)) from error
    return True


def _sync_file(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
