"""Clips and their headers to a catalogue: which clips have how many rows, and which cannot be used, and why."""

import hashlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec, n_frames, n_rows
from mimii.recordings.clips import Clip
from mimii.storage import is_remote, missing_channel

GOOD = "ok"
"""The status of a clip that can be used."""

_MOST_MEL_BYTES = 128 << 20


@dataclass(frozen=True, slots=True)
class Catalogue:
    """All clips of a table.

    Attributes
    ----------
    spec : FeatureSpec
        What is computed of them.
    clips : tuple of Clip
        In the order of the table.
    splits : tuple of str
        Each clip's split: train, test or empty.
    n_samples : ndarray of int64, shape (n_clips,)
        Samples of one channel; 0 where unknown.
    n_rows : ndarray of int32, shape (n_clips,)
        Rows; 0 where the clip cannot be used.
    problems : tuple of str
        Why a clip cannot be used; empty where it can.

    """

    spec: FeatureSpec
    clips: tuple[Clip, ...]
    splits: tuple[str, ...]
    n_samples: NDArray[np.int64]
    n_rows: NDArray[np.int32]
    problems: tuple[str, ...]

    @property
    def is_remote(self) -> bool:
        """Whether a recording is on S3."""
        return any(is_remote(clip.place.url) for clip in self.clips)


def commonest_sample_rate(clips: Iterable[Clip]) -> int | None:
    """Return the sample rate of most clips in Hz; of two that are equally common the higher; None without any."""
    counts = Counter(clip.header.sample_rate for clip in clips if clip.header)
    return max(counts, key=lambda rate: (counts[rate], rate), default=None)


def make_catalogue(clips: Sequence[Clip], splits: Sequence[str], spec: FeatureSpec) -> Catalogue:
    """Decide which clips can be used, and how many rows each has; one that cannot has a problem and no rows."""
    problems = tuple(_problem(clip, spec) for clip, _ in zip(clips, splits, strict=True))
    n_samples = np.array([clip.header.n_samples if clip.header else 0 for clip in clips], np.int64)
    rows = [0 if bad else n_rows(int(n), spec) for n, bad in zip(n_samples, problems, strict=True)]
    return Catalogue(spec, tuple(clips), tuple(splits), n_samples, np.array(rows, np.int32), problems)


def digest_clips(catalogue: Catalogue, recordings: Iterable[object] | None = None) -> str:
    """Digest the list of clips: recordings by place and length, or what stands for them, identities, splits, rows."""
    digest, lengths = hashlib.sha256(), catalogue.n_samples
    by_place = (f"{clip.place} {n_samples}" for clip, n_samples in zip(catalogue.clips, lengths, strict=True))
    where = by_place if recordings is None else recordings
    for clip, place, split, count in zip(catalogue.clips, where, catalogue.splits, catalogue.n_rows, strict=True):
        who = clip.identity
        values = (
            str(place),
            who.machine_type,
            who.machine_id,
            who.number,
            str(np.float32(who.snr_db)),
            who.label,
            split,
        )
        digest.update(f"{values!r} {count}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _problem(clip: Clip, spec: FeatureSpec) -> str:
    header = clip.header
    if clip.problem or header is None:
        return clip.problem or "its header was not read"
    if header.sample_rate != spec.sample_rate:
        return f"sample rate {header.sample_rate} Hz, the others have {spec.sample_rate} Hz"
    if spec.channel >= header.n_channels:
        return missing_channel(spec.channel, header.n_channels)
    return _bad_length(header.n_samples, header.sample_rate, spec)


def _bad_length(n_samples: int, sample_rate: int, spec: FeatureSpec) -> str:
    frames = n_frames(n_samples, spec)
    size = 4 * frames * spec.n_mels
    if not frames:
        return "no samples"
    if frames < spec.frames:
        return f"too short for one row: {n_samples} samples make {frames} of the {spec.frames} frames that it takes"
    if size > _MOST_MEL_BYTES:
        hours, most = n_samples / sample_rate / 3600, _MOST_MEL_BYTES >> 20
        return f"too long: {hours:.1f} hours are {size >> 20} MiB of mel spectrogram, and {most} fit; cut it in pieces"
    return ""
