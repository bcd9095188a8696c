"""Find recordings and look at their headers: what the front door and all jobs begin with."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from mimii.recordings.clips import LABEL_NAMES, Clip, Identity
from mimii.recordings.headers import read_all_headers, read_headers
from mimii.recordings.lists import read_list
from mimii.recordings.sources import find_clips
from mimii.storage import DEFAULT_ACCESS, Access, Location, Place, as_paths, printable, s3

if TYPE_CHECKING:
    import pandas as pd
    import xarray

_READERS = {"auto": read_headers, "all": read_all_headers}
_log = logging.getLogger(__name__)


class Recordings(list[Clip]):
    """Clips sorted by path, with what finding them took.

    Attributes
    ----------
    sources : tuple of str
        Where they were looked for.
    n_headers : int
        How many headers were read.
    n_requests : int
        How many requests to S3 it took.

    """

    def __init__(
        self, clips: Iterable[Clip] = (), sources: Sequence[str] = (), n_headers: int = 0, n_requests: int = 0
    ) -> None:
        super().__init__(clips)
        self.sources, self.n_headers, self.n_requests = tuple(sources), n_headers, n_requests

    def __repr__(self) -> str:
        n_bad = sum(bool(clip.problem) for clip in self)
        return f"<Recordings: {len(self):,} clips from {', '.join(self.sources)}; {n_bad:,} cannot be read>"

    def to_pandas(self) -> "pd.DataFrame":
        """Return a line for each clip: path, machine, label, sample rate in Hz, channels, duration in s, problem."""
        import pandas as pd

        return pd.DataFrame([_describe(clip) for clip in self], columns=list(_describe(Clip("", Place("")))))

    def to_xarray(self) -> "xarray.Dataset":
        """Return the same as a Dataset over the dimension clip."""
        dataset: xarray.Dataset = self.to_pandas().rename_axis("clip").to_xarray()
        return dataset


def find_recordings(
    *sources: Location | Iterable[Location],
    lists: Location | Iterable[Location] = (),
    headers: str = "auto",
    access: Access = DEFAULT_ACCESS,
) -> Recordings:
    """Find recordings, and read how long they are, at which rate, with how many channels.

    Parameters
    ----------
    *sources : str, path, or a list of these
        Folders, zip archives, single files, ``s3://bucket/prefix``.
    lists : str, path, or a list of these
        CSV files that name recordings, see docs/own_recordings.md.
    headers : {"auto", "all"}
        Whether the header of each recording is read, or in archives and on S3 that of one WAV file for each size
        in a folder. Files on a disk are all read.
    access : Access
        How to connect to S3.

    Returns
    -------
    Recordings
        A list of `Clip`, sorted by path. One that cannot be read has a `problem`. Empty where nothing was found.

    Raises
    ------
    SourceError
        If a source does not exist, or an archive or a list is damaged.
    StorageError
        If S3 cannot be used.

    """
    if headers not in _READERS:
        msg = f"headers must be one of {', '.join(_READERS)}, not {headers!r}"
        raise ValueError(msg)
    before, places, tables = s3.count_requests(), as_paths(*sources), as_paths(lists)
    listed = [clip for path in tables for clip in read_list(path, access)]
    by_place = {str(clip.place): clip for clip in [*find_clips(places, access), *listed]}
    clips = sorted(by_place.values(), key=lambda clip: clip.path)
    _warn_of_copies(clips)
    clips, n_headers = _READERS[headers](clips, access)
    return Recordings(clips, sorted([*places, *tables]), n_headers, s3.count_requests() - before)


def _warn_of_copies(clips: Iterable[Clip]) -> None:
    """Warn where clips are the same by what they are, as when an archive lies beside what was unpacked from it."""
    first: dict[Identity, Clip] = {}
    copies: dict[Identity, tuple[Clip, Clip]] = {}
    for clip in clips:
        if clip.identity.number >= 0 and clip.identity.machine_id and not math.isnan(clip.identity.snr_db):
            other = first.setdefault(clip.identity, clip)
            if other is not clip:
                copies.setdefault(clip.identity, (other, clip))
    if copies:
        one, other = next(iter(copies.values()))
        _log.warning(
            "%d clips are there more than once by what they are, such as %s and %s: all are taken",
            *(len(copies), printable(one.path), printable(other.path)),
        )


def _describe(clip: Clip) -> dict[str, Any]:
    who, header = clip.identity, clip.header
    return {
        "path": clip.path,
        "machine_type": who.machine_type,
        "machine_id": who.machine_id,
        "number": who.number,
        "snr_db": who.snr_db,
        "label": LABEL_NAMES[who.label],
        "split": who.split,
        "sample_rate": header.sample_rate if header else 0,
        "n_channels": header.n_channels if header else 0,
        "duration_s": header.n_samples / header.sample_rate if header and header.sample_rate else math.nan,
        "problem": clip.problem,
    }
