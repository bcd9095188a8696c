"""Whole objects under a root folder: put, get, list, delete. Nothing is ever seen half written.

An object is written to a file of its own beside the others, brought safely to disk, and moved into place: whatever
is killed, and whenever the power fails, there is the old object or the new one.
"""

import os
import shutil
import uuid
from pathlib import Path

PARTIAL = ".partial"
_TRIES = 5


def put(root: str, key: str, data: bytes) -> None:
    """Write an object; when this returns, it survives a power cut.

    Parameters
    ----------
    root : str
        A folder; made where missing.
    key : str
        The object's path below it, with ``/`` between its parts.
    data : bytes
        All of it.

    Raises
    ------
    OSError
        If it cannot be written; what was there before is still there.

    """
    target = Path(root, key)
    for _ in range(_TRIES):
        if _put(target, Path(root, PARTIAL, uuid.uuid4().hex), data):
            return
    msg = f"{target}: cannot be written, somebody else deletes what is written"
    raise FileNotFoundError(msg)


def get(root: str, key: str) -> bytes | None:
    """Read an object.

    Parameters
    ----------
    root : str
        A folder.
    key : str
        The object's path below it.

    Returns
    -------
    bytes or None
        None where there is no such object.

    Raises
    ------
    OSError
        If it is there but cannot be read.

    """
    try:
        return Path(root, key).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def sizes(root: str, prefix: str) -> dict[str, int]:
    """List the objects of one folder.

    Parameters
    ----------
    root : str
        A folder.
    prefix : str
        A folder below it.

    Returns
    -------
    dict of str to int
        The size in bytes by name, folders left out; empty where there is no such folder.

    """
    try:
        with os.scandir(Path(root, prefix)) as entries:
            return {entry.name: entry.stat().st_size for entry in entries if entry.is_file()}
    except FileNotFoundError:
        return {}


def exists(root: str, key: str) -> bool:
    """Say whether there is an object.

    Parameters
    ----------
    root : str
        A folder.
    key : str
        The object's path below it.

    Returns
    -------
    bool
        True for an object, False for a folder or nothing.

    """
    return Path(root, key).is_file()


def names(root: str) -> list[str]:
    """List what is directly below a root, objects and folders.

    Parameters
    ----------
    root : str
        A folder.

    Returns
    -------
    list of str
        Sorted; empty where there is no such folder.

    Raises
    ------
    NotADirectoryError
        If the root is a file.

    """
    try:
        return sorted(os.listdir(root))
    except FileNotFoundError:
        return []


def delete(root: str, prefix: str) -> None:
    """Delete all below a prefix, or one object; nothing happens where there is none.

    Parameters
    ----------
    root : str
        A folder.
    prefix : str
        An object or folder below it; empty for the root itself.

    """
    path = Path(root, prefix)
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def delete_partial(root: str) -> None:
    """Delete what writers that were killed have left behind.

    Parameters
    ----------
    root : str
        A folder to which nobody is writing.

    """
    delete(root, PARTIAL)


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
    _sync_folder(target.parent)
    return True


def _make_folder(folder: Path) -> None:
    if not folder.is_dir():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
