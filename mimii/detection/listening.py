"""The sound of clips of a table, for a page, read from the recordings where these are still available."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from mimii.features import Segment, encode_flac, read_header, read_segment
from mimii.recordings import Part, SourceError, find_listed
from mimii.storage import Access, AudioError, StorageError, open_part, unreadable

_MOST_SAMPLES = 10 << 20


@dataclass(frozen=True, slots=True)
class Sound:
    """A clip as a FLAC file, or empty and why."""

    flac: bytes
    problem: str = ""


def read_sounds(parts: Sequence[tuple[str, Part]], access: Access) -> list[Sound]:
    """Read parts of recordings, by path, to be played, where they can be read."""
    return [_listen(path, part, access) for path, part in parts]


def _listen(path: str, part: Part, access: Access) -> Sound:
    try:
        return _read(path, part, access)
    except (AudioError, SourceError, StorageError) as error:
        return Sound(b"", str(error))
    except OSError as error:
        return Sound(b"", unreadable(error))


def _read(path: str, part: Part, access: Access) -> Sound:
    [clip] = find_listed([path], access)
    if clip.problem:
        return Sound(b"", clip.problem)
    with open_part(clip.place, access) as file:
        header = read_header(file)
        start = int(part.start_s * header.sample_rate)
        count = header.n_samples - start if math.isnan(part.duration_s) else int(part.duration_s * header.sample_rate)
        if count > _MOST_SAMPLES:
            return Sound(b"", f"{count / header.sample_rate:.0f} s, too long for a page")
        [samples] = read_segment(file, header, [part.channel], Segment(start, count))
    return Sound(encode_flac(samples, header.sample_rate))
