"""Whole objects under a folder: put, get, list, delete. Nothing is ever seen half written.

An object is written to a file of its own beside the others, brought safely to disk, and moved into place: whatever
is killed, and whenever the power fails, there is the old object or the new one.
"""

import os
import shutil
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

PARTIAL = ".partial"
_TRIES = 5


@dataclass(frozen=True, slots=True)
class DiskObjects:
    """Objects as files below a folder; see `mimii.objects.Objects` for the methods.

    Attributes
    ----------
    root : str
        The folder; made where missing.

    """

    root: str

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it survives a power cut.

        Raises
        ------
        OSError
            If it cannot be written; what was there before is still there.

        """
        target = Path(self.root, key)
        for _ in range(_TRIES):
            if _put(target, Path(self.root, PARTIAL, uuid.uuid4().hex), data):
                return
        msg = f"{target}: cannot be written, somebody else deletes what is written"
        raise FileNotFoundError(msg)

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects."""
        for key, data in objects.items():
            self.put(key, data)

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
        """List what is directly below the root, sorted.

        Raises
        ------
        NotADirectoryError
            If the root is a file.

        """
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
        """Delete what writers that were killed have left behind."""
        self.delete_below(PARTIAL)

    def check(self) -> None:
        """Make sure that objects can be written, read and deleted."""
        key = f"{PARTIAL}/check-{uuid.uuid4().hex}"
        self.put(key, b"check")
        self.get(key)
        self.delete(key)


def sync_folder(folder: Path) -> None:
    """Bring a folder's list of files safely to disk: what was moved there, and under which name.

    Parameters
    ----------
    folder : Path
        Any.

    """
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


def _put(target: Path, partial: Path, data: bytes) -> bool:
    """Write an object; say whether it is in place, and not tidied up by another run on its way there."""
    _make_folder(partial.parent)
    _make_folder(target.parent)
    try:
        with partial.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(target)
    except FileNotFoundError:
        return False
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise type(error)(error.errno, error.strerror, str(target)) from error
    sync_folder(target.parent)
    return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        sync_folder(folder.parent)
