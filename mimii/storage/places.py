"""Where the bytes of a recording are: a file, an S3 object, or a block of a zip archive."""

import os
from dataclasses import dataclass

S3 = "s3://"
MOST_WHOLE = 64 << 20
"""Recordings up to so many bytes are read whole; larger ones in blocks."""

STORED = 0
"""The method of a member of an archive that is not compressed."""


@dataclass(frozen=True, slots=True)
class Member:
    """Where in a zip archive a recording is, as the archive's directory says.

    Attributes
    ----------
    name : str
        Its path within the archive.
    offset, length : int
        The block of the archive with its header and its data: what one ranged read has to fetch.
    stored : int
        Bytes of its data, compressed.
    crc32 : int
        Checksum of its data, inflated.
    method : int
        How it is compressed: 0 stored, 8 deflate.
    archive_version : str
        Changes when the archive is written again, perhaps with the same content.

    """

    name: str
    offset: int
    length: int
    stored: int
    crc32: int
    method: int
    archive_version: str = ""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a recording is, independent of a process's working directory.

    Attributes
    ----------
    url : str
        An absolute path, or ``s3://bucket/key``; for a member of an archive, those of the archive.
    size : int
        Bytes of the recording; of a member, inflated.
    version : str
        Changes when the bytes change (on disk: the time of modification; on S3: the ETag; of a member: its checksum).
    member : Member or None
        Where in the archive; None outside archives.
    modified : float
        When the file, the object or the archive was last changed, in seconds since 1970; 0 where unknown.

    """

    url: str
    size: int = 0
    version: str = ""
    member: Member | None = None
    modified: float = 0.0

    def __str__(self) -> str:
        """Return the URL, with the path within the archive behind it; the same in every locale."""
        url = self.url if is_remote(self.url) else path_to_text(self.url)
        return f"{url}/{self.member.name}" if self.member else url

    @property
    def is_stored(self) -> bool:
        """Whether its bytes are as they are, not compressed within an archive."""
        return self.member is None or self.member.method == STORED

    @property
    def is_sought_at_once(self) -> bool:
        """Whether any byte can be read without those before it: not in a large member, inflated as it is read."""
        return self.is_stored or self.size <= MOST_WHOLE

    @property
    def fetched(self) -> int:
        """Bytes that are read to have all of the recording."""
        return self.member.length if self.member else self.size


def path_to_text(path: str) -> str:
    """Return a path as it reads in UTF-8, though the locale of this process has another encoding."""
    return os.fsencode(path).decode("utf-8", "surrogateescape")


def as_unicode(path: str) -> str:
    """Replace bytes of a path that are not UTF-8: neither Zarr's strings nor JSON can hold them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def text_to_path(text: str) -> str:
    """Return what opens a path that reads like this in UTF-8."""
    return os.fsdecode(text.encode("utf-8", "surrogateescape"))


def is_remote(url: str) -> bool:
    """Return whether a place is on S3, not on a disk of this machine."""
    return url.startswith(S3)


def absolute(path: str) -> str:
    """Return a path of this machine without reference to the working directory; an S3 URL as it is."""
    return path if is_remote(path) else os.path.abspath(path)


def split_url(url: str) -> tuple[str, str]:
    """Split an S3 URL into bucket and key."""
    bucket, _, key = url.removeprefix(S3).partition("/")
    return bucket, key
