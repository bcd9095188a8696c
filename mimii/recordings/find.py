"""Find recordings and look at their headers: what the front door and all jobs begin with."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from mimii.recordings.clips import ASSUMPTIONS, LABEL_NAMES, UNKNOWN, Clip
from mimii.recordings.columns import as_numbers
from mimii.recordings.headers import read_all_headers, read_headers
from mimii.recordings.layouts import Layout, read_layout
from mimii.recordings.lists import find_rows, read_lines
from mimii.recordings.paths import identify
from mimii.recordings.remarks import (
    NO_REMARKS,
    Remarks,
    assume_normal,
    machine_folders,
    warn_of_merged,
    warn_of_merged_columns,
    warn_of_unmatched,
)
from mimii.recordings.sources import Found, find_files
from mimii.recordings.truths import is_truth, read_truths, tell_truths
from mimii.storage import DEFAULT_ACCESS, Access, Location, Place, as_paths, numbered, printable, s3

if TYPE_CHECKING:
    import pandas as pd
    import xarray

_READERS = {"auto": read_headers, "all": read_all_headers}

_log = logging.getLogger(__name__)


class Meaning(NamedTuple):
    """How paths are understood: a layout and what is assumed, as `find_recordings` takes them."""

    layout: str = ""
    assume: str = ""


PLAIN = Meaning()
"""The known layouts, and nothing assumed."""


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
    remarks : Remarks
        What was assumed, and which files were left out.
    meaning : Meaning
        How `find_recordings` was asked to understand their paths.

    """

    def __init__(
        self,
        clips: Iterable[Clip] = (),
        sources: Sequence[str] = (),
        n_headers: int = 0,
        n_requests: int = 0,
        remarks: Remarks = NO_REMARKS,
        meaning: Meaning = PLAIN,
    ) -> None:
        super().__init__(clips)
        self.meaning = meaning
        self.sources, self.n_headers, self.n_requests, self.remarks = tuple(sources), n_headers, n_requests, remarks

    def __repr__(self) -> str:
        n_bad = sum(bool(clip.problem) for clip in self)
        said = [f"{n_bad:,} cannot be read", *self.remarks.describe().values()]
        return f"<Recordings: {numbered(len(self), 'clip')} from {', '.join(self.sources)}; {'; '.join(said)}>"

    def to_pandas(self) -> "pd.DataFrame":
        """Return a line for each clip: path, what it is, columns of lists, rate in Hz, channels, seconds, problem."""
        import pandas as pd

        frame = pd.DataFrame([_describe(clip) for clip in self], columns=list(_describe(Clip("", Place("")))))
        frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], unit="s")
        own = [dict(clip.identity.columns) for clip in self]
        for name in sorted({name for columns in own for name in columns}):
            texts = [columns.get(name, "") for columns in own]
            frame.insert(frame.columns.get_loc("sample_rate"), name, as_numbers(texts) or texts)
        return frame

    def to_xarray(self) -> "xarray.Dataset":
        """Return the same as a Dataset over the dimension clip."""
        dataset: xarray.Dataset = self.to_pandas().rename_axis("clip").to_xarray()
        return dataset


def find_recordings(
    *sources: Location | Iterable[Location],
    lists: Location | Iterable[Location] = (),
    headers: str = "auto",
    layout: str = "",
    assume: str = "",
    access: Access = DEFAULT_ACCESS,
) -> Recordings:
    """Find recordings, and read how long they are, at which rate, with how many channels.

    Parameters
    ----------
    *sources : str, path, or a list of these
        Folders, zip archives, single files, ``s3://bucket/prefix``.
    lists : str, path, or a list of these
        CSV files that name recordings, or the truth about DCASE's evaluation sets, see docs/own_recordings.md.
    headers : {"auto", "all"}
        Whether the header of each recording is read, or in archives and on S3 that of one WAV file for each size
        in a folder. Files on a disk are all read.
    layout : str
        What the ends of paths say, such as ``"{site}/{machine_id}/*_{label}.wav"``: known columns of lists, and any
        others. Without one, MIMII's and DCASE's layouts are known, and a folder above ``normal``, ``abnormal``,
        ``ok``, ``ng`` and so on is the machine.
    assume : {"", "normal"}
        What recordings without a label are. One in no known layout is then of the machine that its folder is named
        after. Evaluation sets of DCASE, of which the label is hidden, and supplemental recordings stay unknown, and
        so does what does not match the layout.
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
    ValueError
        If the layout is not a valid pattern.
    StorageError
        If S3 cannot be used.

    """
    if headers not in _READERS:
        msg = f"headers must be one of {', '.join(_READERS)}, not {headers!r}"
        raise ValueError(msg)
    if assume not in ("", *ASSUMPTIONS):
        msg = f"assume must be one of {', '.join(ASSUMPTIONS)}, or empty, not {assume!r}"
        raise ValueError(msg)
    before, places, tables = s3.count_requests(), as_paths(*sources), as_paths(lists)
    pattern = read_layout(layout) if layout else None
    found = _find(places, tables, pattern, access)
    clips, remarks = _assume(found, pattern, assume)
    clips, n_headers = _READERS[headers](clips, access)
    n_requests, meaning = s3.count_requests() - before, Meaning(layout, assume)
    return Recordings(clips, sorted([*places, *tables]), n_headers, n_requests, remarks, meaning)


def _find(places: Sequence[str], tables: Sequence[str], layout: Layout | None, access: Access) -> Found:
    """Find what is in the sources and in the lists."""
    identified = layout.identify if layout else identify
    lines = {path: read_lines(path) for path in tables}
    truths = {path: read_truths(path, lines[path]) for path in tables if is_truth(lines[path])}
    rows = [find_rows(path, lines[path], access, identified) for path in tables if path not in truths]
    found = find_files(places, access, identified)
    listed = {str(clip.place): clip for clips in rows for clip in clips}
    _warn_of_lists([clip for clips in rows for clip in clips], listed)
    clips = sorted(({str(clip.place): clip for clip in found.clips} | listed).values(), key=lambda clip: clip.path)
    for path, said in truths.items():
        clips = tell_truths(clips, path, said)
    _warn_of_copies(clips)
    if layout:
        warn_of_unmatched(layout, clips, listed)
        warn_of_merged_columns(layout, clips)
    return Found(clips, found.left_out)


def _assume(found: Found, layout: Layout | None, assume: str) -> tuple[list[Clip], Remarks]:
    """Return the clips with what is assumed of them, and remarks on that."""
    clips, by_place = assume_normal(found.clips, layout) if assume else (found.clips, {})
    if not layout:
        by_place |= machine_folders(found.clips)
        warn_of_merged(clips, by_place)
    by_folder = frozenset(home.machine_id for home in by_place.values() if home.is_its_name)
    n_unknown = [sum(clip.identity.label == UNKNOWN for clip in some) for some in (found.clips, clips)]
    n_assumed, n_hidden = n_unknown[0] - n_unknown[1], n_unknown[1] if assume else 0
    return clips, Remarks(by_folder, n_assumed, n_hidden, tuple(found.left_out))


def _warn_of_lists(clips: Iterable[Clip], last: Mapping[str, Clip]) -> None:
    """Warn of recordings on which several lists do not agree."""
    if others := [clip.path for clip in clips if str(clip.identity) != str(last[str(clip.place)].identity)]:
        _log.warning(
            "recordings on which several lists do not agree: %d, such as %s; the last list counts",
            *(len(set(others)), printable(others[0])),
        )


def _warn_of_copies(clips: Iterable[Clip]) -> None:
    """Warn where clips are the same by what they are, as when an archive lies beside what was unpacked from it."""
    first: dict[tuple[object, ...], Clip] = {}
    copies: dict[tuple[object, ...], tuple[Clip, Clip]] = {}
    for clip in clips:
        who = clip.identity
        if who.number >= 0 and who.machine_id and not math.isnan(who.snr_db):
            key = (who.machine_type, who.machine_id, who.snr_db, who.label, who.number, who.split, who.domain)
            other = first.setdefault(key, clip)
            if other is not clip:
                copies.setdefault(key, (other, clip))
    if copies:
        one, other = next(iter(copies.values()))
        _log.warning(
            "clips found more than once, with the same machine, SNR, label and number: %d, such as %s and %s; all "
            "are used. "
            "Leave one of the places out if they are copies",
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
        "domain": who.domain,
        "attributes": who.attributes,
        "recorded_at": who.recorded_at,
        "sample_rate": header.sample_rate if header else 0,
        "n_channels": header.n_channels if header else 0,
        "duration_s": header.n_samples / header.sample_rate if header and header.sample_rate else math.nan,
        "problem": clip.problem,
    }
