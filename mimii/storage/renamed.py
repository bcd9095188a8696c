"""Objects some of which have other keys, and other bytes, than those that use them need to know."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

from mimii.storage.disk import DiskObjects
from mimii.storage.s3 import S3Objects


class Translation(Protocol):
    """Between the keys and bytes that are used and those that are stored."""

    def to_stored(self, key: str) -> str:
        """Return the stored key."""
        ...

    def to_used(self, key: str) -> str | None:
        """Return the key that is used; None for an object that is not to be seen."""
        ...

    def encode(self, key: str, data: bytes) -> bytes:
        """Return the bytes to store."""
        ...

    def decode(self, key: str, data: bytes) -> bytes:
        """Return the bytes to use."""
        ...


@dataclass(frozen=True, slots=True)
class RenamedObjects:
    """Objects by translated keys; see `mimii.storage.objects.Objects` for the methods."""

    stored: DiskObjects | S3Objects
    translation: Translation

    @property
    def root(self) -> str:
        """Where they are, as users write it."""
        return self.stored.root

    def put(self, key: str, data: bytes) -> None:
        """Write an object."""
        self.put_all({key: data})

    def put_all(self, objects: Mapping[str, bytes]) -> None:
        """Write objects, in any order."""
        to_stored, encode = self.translation.to_stored, self.translation.encode
        self.stored.put_all({to_stored(key): encode(key, data) for key, data in objects.items()})

    def get(self, key: str) -> bytes | None:
        """Read an object; None where there is none."""
        data = self.stored.get(self.translation.to_stored(key))
        return None if data is None else self.translation.decode(key, data)

    def get_all(self, keys: Iterable[str]) -> dict[str, bytes]:
        """Read objects; those that do not exist are left out."""
        by_stored = {self.translation.to_stored(key): key for key in keys}
        found = self.stored.get_all(by_stored)
        return {by_stored[key]: self.translation.decode(by_stored[key], data) for key, data in found.items()}

    def sizes(self, prefix: str = "") -> dict[str, int]:
        """List all objects below a prefix that are to be seen."""
        listed = self.stored.sizes(self.translation.to_stored(prefix)).items()
        return {key: size for stored, size in listed if (key := self.translation.to_used(stored)) is not None}

    def names(self) -> list[str]:
        """List what is directly below the root, sorted."""
        return self.stored.names()

    def delete(self, key: str) -> None:
        """Delete an object."""
        self.stored.delete(self.translation.to_stored(key))

    def delete_below(self, prefix: str) -> None:
        """Delete all objects below a prefix, seen or not."""
        self.stored.delete_below(self.translation.to_stored(prefix))

    def delete_partial(self) -> None:
        """Delete what killed writers left behind."""
        self.stored.delete_partial()

    def check(self) -> None:
        """Raise an error unless objects can be written, read and deleted."""
        self.stored.check()
