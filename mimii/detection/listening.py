"""The sound of clips of a table, for a page, read from the recordings where these are still available."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimii.features import encode_flac, read_channel
from mimii.recordings import SourceError, find_listed
from mimii.storage import Access, AudioError, StorageError, open_part, unreadable

_MOST_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip as a FLAC file, or empty and why."""

    flac: bytes
    problem: str = ""


def read_sounds(paths: Sequence[str], channel: int, access: Access) -> list[Sound]:
    """Read one channel of each recording, where that can be read."""
    return [_listen(path, channel, access) for path in paths]


def _listen(path: str, channel: int, access: Access) -> Sound:
    try:
        return _read(path, channel, access)
    except (AudioError, SourceError, StorageError) as error:
        return Sound(b"", str(error))
    except OSError as error:
        return Sound(b"", unreadable(error))


def _read(path: str, channel: int, access: Access) -> Sound:
    [clip] = find_listed([path], access)
    if clip.problem:
        return Sound(b"", clip.problem)
    if clip.place.size > _MOST_BYTES:
        return Sound(b"", f"{clip.place.size >> 20} MiB, too large for a page ({_MOST_BYTES >> 20} MiB at most)")
    with open_part(clip.place, access) as file:
        header, samples = read_channel(file, channel)
    return Sound(encode_flac(samples, header.sample_rate))
