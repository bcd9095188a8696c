"""Find recordings and look at their headers: what the front door and all jobs begin with."""

import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from mimii.features import SPEC_EXPECTED, FeatureSpec, count_empty_bands
from mimii.recordings.catalogue import commonest_sample_rate
from mimii.recordings.clips import LABEL_NAMES, Clip, Identity
from mimii.recordings.headers import read_all_headers, read_headers
from mimii.recordings.lists import read_list
from mimii.recordings.sources import find_clips
from mimii.recordings.splits import SPLITS, baseline_split, no_split, stratified_split
from mimii.storage import DEFAULT_ACCESS, Access, Location, Place, as_paths, expect, printable, s3

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


def split_clips(clips: Sequence[Clip], split: str, train_fraction: float = 0.8, seed: int = 0) -> list[str]:
    """Return the split of each clip: train, test or empty.

    `split` is ``"baseline"`` (train on normal sound, as the baseline published with MIMII), ``"stratified"`` (a
    share of each label) or ``"none"``. A split that the recordings bring along is kept by the first two.
    """
    if split not in SPLITS:
        msg = f"split must be one of {', '.join(SPLITS)}, not {split!r}"
        raise ValueError(msg)
    if not 0 <= train_fraction <= 1:
        msg = f"train_fraction must be from 0 to 1, not {train_fraction}"
        raise ValueError(msg)
    if split == "stratified":
        return stratified_split(clips, train_fraction, seed)
    return no_split(clips) if split == "none" else baseline_split(clips)


def choose_spec(clips: Sequence[Clip], spec: FeatureSpec | None) -> FeatureSpec:
    """Return the spec, or the preset explore at the sample rate of most clips; warn of one that hardly fits."""
    for clip in [clips] if isinstance(clips, str | os.PathLike) else clips:
        expect(clip, Clip, "clips must be what mimii.find_recordings returns")
    rate = commonest_sample_rate(clips)
    if spec is None:
        spec = replace(FeatureSpec(), sample_rate=rate or FeatureSpec().sample_rate)
    expect(spec, FeatureSpec, SPEC_EXPECTED)
    if rate not in (None, spec.sample_rate):
        _log.warning("most clips have %d Hz and the spec %d Hz: change its sample_rate", rate, spec.sample_rate)
    if empty := count_empty_bands(spec):
        _log.warning(
            "%d of %d mel bands hold no frequency bin at n_fft %d: fewer n_mels, or a larger n_fft",
            *(empty, spec.n_mels, spec.n_fft),
        )
    return spec


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
