"""Whole objects under a root: on a disk or on S3, with the same methods."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Protocol, TypeVar

from mimii.storage.access import Access
from mimii.storage.arguments import as_path
from mimii.storage.disk import DiskObjects
from mimii.storage.places import is_remote
from mimii.storage.renamed import RenamedObjects
from mimii.storage.s3 import S3Objects

AnyObjects = TypeVar("AnyObjects")


class Objects(Protocol):
    """Objects under a root. A key is a path below it, with ``/`` between its parts.

    After a kill or a power failure at any moment, there is the old object or the new one, never half of one.
    All methods raise OSError where the storage cannot be used; it names the object or the root.
    """

    @property
    def root(self) -> str:
        """Where they are, as users write it."""
        ...

    def put(self, key: str, data: bytes) -> None:
        """Write an object; when this returns, it is durable."""
        ...

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, in any order."""
        ...

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        ...

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects; those that do not exist are left out."""
        ...

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a prefix: bytes by key."""
        ...

    def names(self) -> list[str]:
        """List what is directly below the root, sorted; empty where there is nothing."""
        ...

    def delete(self, key: str) -> None:
        """Delete an object; nothing happens where there is none."""
        ...

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a prefix; nothing happens where there is none."""
        ...

    def delete_partial(self) -> None:
        """Delete what killed writers left behind."""
        ...

    def check(self) -> None:
        """Raise an error unless objects can be written; it says what fails, and nothing is left behind."""
        ...


def with_timeout(objects: Objects, seconds: float) -> Objects:
    """Return the same objects, for which S3 has this long to answer."""
    if isinstance(objects, RenamedObjects):
        return replace(objects, stored=_with_timeout(objects.stored, seconds))
    return _with_timeout(objects, seconds)


def _with_timeout(objects: AnyObjects, seconds: float) -> AnyObjects:
    if isinstance(objects, S3Objects):
        return replace(objects, access=replace(objects.access, timeout=seconds))
    return objects


def open_objects(root: str, access: Access) -> Objects:
    """Return the objects under a root, a folder or an S3 URL, else LocationError; nothing is read or written."""
    root = as_path(root)
    return S3Objects(root, access) if is_remote(root) else DiskObjects(os.path.abspath(root))
