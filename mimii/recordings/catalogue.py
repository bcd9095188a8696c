"""Recordings and their headers to a catalogue: which clips have how many rows, and which cannot be used, and why."""

import hashlib
import logging
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from mimii.features import (
    SPEC_EXPECTED,
    FeatureSpec,
    Header,
    Input,
    Segment,
    count_empty_bands,
    n_frames,
    n_resampled,
    n_rows,
)
from mimii.recordings.clips import Clip
from mimii.recordings.segments import NO_RESTS, Rests, clip_name, cut_recordings
from mimii.recordings.splits import Split, split_clips
from mimii.storage import as_unicode, expect, have, is_remote, missing_channel, numbered

GOOD = "ok"
"""The status of a clip that can be used."""

_MOST_MEL_BYTES = 128 << 20
_NO_HEADER, _NO_SAMPLES = Header(0, 0, 0), Segment(0, 0)
_log = logging.getLogger(__name__)


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
        Samples at the rate of the spec; 0 where unknown.
    n_rows : ndarray of int32, shape (n_clips,)
        Rows; 0 where the clip cannot be used.
    problems : tuple of str
        Why a clip cannot be used; empty where it can.
    rests : Rests
        What was left at the ends of recordings that were cut.

    """

    spec: FeatureSpec
    clips: tuple[Clip, ...]
    splits: tuple[str, ...]
    n_samples: NDArray[np.int64]
    n_rows: NDArray[np.int32]
    problems: tuple[str, ...]
    rests: Rests = NO_RESTS

    def name(self, clip: int) -> str:
        """Return the path of a clip, and which part of the recording it is, where others may be clips, too."""
        return clip_name(self.clips[clip], self.spec)

    def input(self, clip: int, *, is_kept: bool = False) -> Input:
        """Return what a task has to know of a clip, which can be used or is kept."""
        one = self.clips[clip]
        return Input(clip, one.place, one.header or _NO_HEADER, one.channel, one.segment or _NO_SAMPLES, is_kept)

    @property
    def is_remote(self) -> bool:
        """Whether a recording is on S3."""
        return any(is_remote(clip.place.url) for clip in self.clips)


def commonest_sample_rate(clips: Iterable[Clip]) -> int | None:
    """Return the sample rate of most clips in Hz; of two that are equally common the higher; None without any."""
    counts = Counter(clip.header.sample_rate for clip in clips if clip.header)
    return max(counts, key=lambda rate: (counts[rate], rate), default=None)


def choose_spec(clips: Sequence[Clip], spec: FeatureSpec | None, *, resample: bool) -> FeatureSpec:
    """Return the spec, or the preset explore at the sample rate of most clips; warn of one that hardly fits."""
    for clip in [clips] if isinstance(clips, str | os.PathLike) else clips:
        expect(clip, Clip, "clips must be what mimii.find_recordings returns")
    rate = commonest_sample_rate(clips)
    if spec is None:
        spec = replace(FeatureSpec(), sample_rate=rate or FeatureSpec().sample_rate)
    expect(spec, FeatureSpec, SPEC_EXPECTED)
    if not resample:
        _warn_of_rates(clips, spec)
    if empty := count_empty_bands(spec):
        _log.warning(
            "of %d mel bands, %d have no frequency bin at n_fft %d and are always silent; use fewer n_mels, or a "
            "larger n_fft",
            *(spec.n_mels, empty, spec.n_fft),
        )
    return spec


def _warn_of_rates(clips: Sequence[Clip], spec: FeatureSpec) -> None:
    counts = Counter(clip.header.sample_rate for clip in clips if clip.header)
    if not counts.keys() <= {spec.sample_rate}:
        found = ", ".join(f"{count:,} {have(count)} {rate} Hz" for rate, count in counts.most_common())
        _log.warning(
            "the features are for %d Hz, and of the recordings, %s: those at other rates become bad clips. Resample "
            "them "
            "with --sample-rate %d (sample_rate=%d in Python), or make a table for each rate",
            *(spec.sample_rate, found, spec.sample_rate, spec.sample_rate),
        )


def catalogue_recordings(
    recordings: Sequence[Clip], spec: FeatureSpec | None, by: Split, *, resample: bool
) -> Catalogue:
    """Choose the spec where none is given, split recordings, and make a catalogue of their clips."""
    spec = choose_spec(recordings, spec, resample=resample)
    return make_catalogue(recordings, split_clips(recordings, *by), spec, resample=resample)


def make_catalogue(
    recordings: Sequence[Clip], splits: Sequence[str], spec: FeatureSpec, *, resample: bool = False
) -> Catalogue:
    """Cut recordings into the clips that a spec asks for, and decide which of these can be used, with how many rows.

    One that cannot has a problem and no rows. All clips of a recording have its split.
    """
    by_recording = {recording.recording: split for recording, split in zip(recordings, splits, strict=True)}
    clips, rests = cut_recordings(recordings, spec)
    n_samples = np.array([_n_samples(clip, spec) for clip in clips], np.int64)
    problems = [_problem(clip, int(n), spec, resample=resample) for clip, n in zip(clips, n_samples, strict=True)]
    rows = [0 if bad else n_rows(int(n), spec) for n, bad in zip(n_samples, problems, strict=True)]
    of_clips = tuple(by_recording[clip.recording] for clip in clips)
    return Catalogue(spec, tuple(clips), of_clips, n_samples, np.array(rows, np.int32), tuple(problems), rests)


def _n_samples(clip: Clip, spec: FeatureSpec) -> int:
    if clip.header is None or clip.segment is None:
        return 0
    return n_resampled(clip.segment.n_samples, clip.header.sample_rate, spec.sample_rate)


def digest_clips(catalogue: Catalogue, recordings: Iterable[object] | None = None) -> str:
    """Digest the list of clips: recordings by place and length, or what stands for them, identities, splits, rows."""
    digest, lengths = hashlib.sha256(), catalogue.n_samples
    by_place = (
        f"{clip.place} {clip.channel} {clip.start_s!r} {n_samples}"
        for clip, n_samples in zip(catalogue.clips, lengths, strict=True)
    )
    where = by_place if recordings is None else recordings
    for clip, place, split, count in zip(catalogue.clips, where, catalogue.splits, catalogue.n_rows, strict=True):
        who = clip.identity
        values = (
            str(place),
            as_unicode(who.machine_type),
            as_unicode(who.machine_id),
            who.number,
            str(np.float32(who.snr_db)),
            who.label,
            split,
            *(who.domain, as_unicode(who.attributes), str(who.recorded_at)),
            tuple((as_unicode(name), as_unicode(text)) for name, text in who.columns),
        )
        digest.update(f"{values!r} {count}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()[:16]


def _problem(clip: Clip, n_samples: int, spec: FeatureSpec, *, resample: bool) -> str:
    header = clip.header
    if clip.problem or header is None:
        return clip.problem or "its header was not read"
    if header.sample_rate != spec.sample_rate and not resample:
        return (
            f"its sample rate is {header.sample_rate} Hz, and the features are for {spec.sample_rate} Hz; "
            "--sample-rate resamples"
        )
    if clip.channel >= header.n_channels:
        return missing_channel(clip.channel, header.n_channels)
    return _bad_length(n_samples, spec)


def _bad_length(n_samples: int, spec: FeatureSpec) -> str:
    frames = n_frames(n_samples, spec)
    size = 4 * frames * spec.n_mels
    if not frames:
        return "no samples"
    if frames < spec.frames:
        samples = numbered(n_samples, "sample")
        return f"too short: {frames} of the {spec.frames} frames that a row takes, from {samples}"
    if size > _MOST_MEL_BYTES:
        hours, most = n_samples / spec.sample_rate / 3600, _MOST_MEL_BYTES >> 20
        return (
            f"too long: {hours:.1f} hours are {size >> 20} MiB of mel spectrogram, and {most} fit; "
            f"{'a shorter --segment' if spec.segment else '--segment 10'} makes more clips of it"
        )
    return ""
