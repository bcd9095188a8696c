"""A second set of keys for the chunks of a table, so that a new table can be made beside the one that is there.

Zarr v3 has two ways to name the chunks of an array: ``c.3.0`` and ``c/3/0``. A table that replaces another has the one
that the other has not. Until its metadata is put, last and at once, readers find the old table whole; from then on the
new one. In this code all tables have keys of the first kind: those of the second are translated.
"""

import re
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass

from mimii.storage import DiskObjects, Objects, RenamedObjects, S3Objects
from mimii.table.keys import MEL, RECORDS

_FIRST, _SECOND = b'"separator": "."', b'"separator": "/"'
_CHUNK = re.compile(r"([^/]+)/c\.(\d+)(?:\.(\d+))?")
_SECOND_CHUNK = re.compile(r"([^/]+)/c/(\d+)(?:/(\d+))?")
_FOLDERS = {RECORDS: f"{RECORDS}-2", MEL: f"{MEL}-2"}
_DOCUMENT = "zarr.json"


@dataclass(frozen=True, slots=True)
class SecondKeys:
    """Translates; see `mimii.storage.Translation` for the methods."""

    def to_stored(self, key: str) -> str:
        """Return the second key."""
        if match := _CHUNK.fullmatch(key):
            return f"{match[1]}/c/{'/'.join(filter(None, match.groups()[1:]))}"
        return _in_folder(key, _FOLDERS)

    def to_used(self, key: str) -> str | None:
        """Return the first key; None for what belongs to a table with first keys."""
        if match := _SECOND_CHUNK.fullmatch(key):
            return f"{match[1]}/c.{'.'.join(filter(None, match.groups()[1:]))}"
        return None if is_first(key) else _in_folder(key, {second: first for first, second in _FOLDERS.items()})

    def encode(self, key: str, data: bytes) -> bytes:
        """Return metadata that names second keys."""
        return data.replace(_FIRST, _SECOND) if key.endswith(_DOCUMENT) else data

    def decode(self, key: str, data: bytes) -> bytes:
        """Return metadata that names first keys."""
        return data.replace(_SECOND, _FIRST) if key.endswith(_DOCUMENT) else data


def is_first(key: str) -> bool:
    """Say whether an object belongs to a table with first keys, and no document is."""
    return bool(_CHUNK.fullmatch(key)) or key.startswith(tuple(f"{folder}/" for folder in _FOLDERS))


def is_second(key: str) -> bool:
    """Say whether an object belongs to a table with second keys, and no document is."""
    return bool(_SECOND_CHUNK.fullmatch(key)) or key.startswith(tuple(f"{folder}/" for folder in _FOLDERS.values()))


def by_keys(objects: Objects, *, second: bool) -> Objects:
    """Return the objects of the table with first or with second keys."""
    stored = stored_objects(objects)
    return RenamedObjects(stored, SecondKeys()) if second else stored


def stored_objects(objects: Objects) -> DiskObjects | S3Objects:
    """Return all objects, by the keys that they have."""
    stored = objects.stored if isinstance(objects, RenamedObjects) else objects
    if not isinstance(stored, DiskObjects | S3Objects):
        msg = f"objects of this kind have no second keys: {type(stored).__name__}"
        raise TypeError(msg)
    return stored


def has_second_keys(group: bytes | None) -> bool:
    """Say whether the metadata of a table names second keys."""
    return _SECOND in (group or b"")


def find_others(
    keys: Iterable[str], arrays: Container[str], is_column: Callable[[str], bool], *, second: bool
) -> list[str]:
    """Return the stored keys that belong to the other table than that with first or with second keys.

    Arrays that are not among those of this table belong to it where they are columns: users put their own beside them.
    First comes the metadata of the arrays that only the other one has: their chunks tell of it.
    """
    pattern, is_other = (_CHUNK, is_first) if second else (_SECOND_CHUNK, is_second)
    others = [key for key in keys if is_other(key)]
    names = {match[1] for key in others if (match := pattern.fullmatch(key)) and match[1] not in arrays}
    columns = {name for name in names if is_column(name)}
    of_users = tuple(f"{name}/" for name in names - columns)
    return [
        *(f"{name}/{_DOCUMENT}" for name in sorted(columns)),
        *(key for key in others if not key.startswith(of_users)),
    ]


def delete_others(stored: DiskObjects | S3Objects, keys: Iterable[str]) -> None:
    """Delete objects of a table, and the folders that only it has."""
    listed = list(keys)
    folders = {key.rpartition("/")[0] for key in listed if not _CHUNK.fullmatch(key)}
    folders = {folder.rpartition("/c/")[0] + "/c" if "/c/" in folder else folder for folder in folders}
    for key in listed:
        stored.delete(key)
    for folder in folders:
        stored.delete_below(folder)


def _in_folder(key: str, folders: dict[str, str]) -> str:
    for folder, other in folders.items():
        if key == folder or key.startswith(f"{folder}/"):
            return other + key.removeprefix(folder)
    return key
