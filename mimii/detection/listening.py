"""The sound of clips of a table, for people to listen to, where the recordings are still at hand."""

from collections.abc import Sequence
from dataclasses import dataclass

from mimii.features import encode_flac, read_channel
from mimii.recordings import Clip, SourceError, find_listed
from mimii.storage import Access, AudioError, StorageError, open_part, unreadable

_MOST_BYTES = 20 << 20


@dataclass(frozen=True, slots=True)
class Heard:
    """The sound of a clip.

    Attributes
    ----------
    flac : bytes
        A FLAC file; empty where there is none.
    problem : str
        Why there is none.

    """

    flac: bytes
    problem: str = ""


def listen(paths: Sequence[str], channel: int, access: Access) -> list[Heard]:
    """Read recordings, to be heard in a page."""
    return [_listen(path, channel, access) for path in paths]


def _listen(path: str, channel: int, access: Access) -> Heard:
    try:
        [clip] = find_listed([path], access)
        return Heard(b"", clip.problem) if clip.problem else _encode(clip, channel, access)
    except (AudioError, SourceError, StorageError) as error:
        return Heard(b"", str(error))
    except OSError as error:
        return Heard(b"", unreadable(error))


def _encode(clip: Clip, channel: int, access: Access) -> Heard:
    if clip.place.size > _MOST_BYTES:
        return Heard(b"", f"{clip.place.size >> 20} MiB are too long for a page")
    with open_part(clip.place, access) as file:
        header, samples = read_channel(file, channel)
    return Heard(encode_flac(samples, header.sample_rate))
