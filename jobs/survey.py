"""From the options to a catalogue: find the recordings, look at their headers, decide which can be used."""

import argparse
import logging
import math
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from jobs.options import DEFAULT_SOURCE, SHORT_TIMEOUT, source_access
from mimii.features import PRESETS, FeatureSpec, count_empty_bands
from mimii.recordings import (
    Catalogue,
    Clip,
    Identity,
    SourceError,
    baseline_split,
    commonest_sample_rate,
    find_clips,
    make_catalogue,
    no_split,
    probe_alike,
    probe_all,
    read_list,
    stratified_split,
)
from mimii.storage import printable, s3

_PROBES = {"auto": probe_alike, "all": probe_all}
_log = logging.getLogger(__name__)
_NO_CLIPS = """{where}: no recordings there. Either
  make some:      python -m jobs.synthesize {source}
  or get MIMII:   python -m jobs.fetch 6_dB_fan --dest {source}
  or use yours:   name a FOLDER, or --list FILE.csv"""


@dataclass(frozen=True, slots=True)
class Survey:
    """What is known of the recordings before the work.

    Attributes
    ----------
    catalogue : Catalogue
        The recordings.
    n_headers : int
        How many of their headers were read.
    n_requests : int
        How many requests to S3 it took.

    """

    catalogue: Catalogue
    n_headers: int
    n_requests: int


def list_clips(options: argparse.Namespace) -> list[Clip]:
    """Find the recordings that the options name."""
    access = source_access(options, SHORT_TIMEOUT)
    listed = read_list(options.list, access) if options.list else []
    sources = options.sources or ([] if options.list else [DEFAULT_SOURCE])
    if sources == [DEFAULT_SOURCE] and not os.path.exists(DEFAULT_SOURCE):
        raise SourceError(_NO_CLIPS.format(where=DEFAULT_SOURCE, source=DEFAULT_SOURCE))
    clips = arrange_clips([*find_clips(sources, access), *listed])
    if not clips:
        where = ", ".join([*sources, *filter(None, [options.list])])
        raise SourceError(_NO_CLIPS.format(where=where, source=sources[0] if sources else DEFAULT_SOURCE))
    return clips


def arrange_clips(clips: Iterable[Clip]) -> list[Clip]:
    """Take each place once, and sort by path; warn where clips are there twice by what they are."""
    by_place = {str(clip.place): clip for clip in clips}
    _warn_of_copies(by_place.values())
    return sorted(by_place.values(), key=lambda clip: clip.path)


def source_names(options: argparse.Namespace) -> list[str]:
    """Name the sources, for the attributes of a store."""
    default = [] if options.list else [DEFAULT_SOURCE]
    return sorted([*(options.sources or default), *filter(None, [options.list])])


def read_spec(options: argparse.Namespace) -> FeatureSpec:
    """Make a spec of the preset and the options that change it."""
    names = ("n_fft", "hop_length", "n_mels", "frames", "power", "channel", "sample_rate")
    changed = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(PRESETS[options.preset], **changed)


def read_survey(options: argparse.Namespace) -> Survey:
    """Find the recordings, look at their headers, and decide which can be used."""
    before = s3.count_requests()
    spec = read_spec(options)
    clips = list_clips(options)
    probes = _PROBES[options.probe](clips, source_access(options, SHORT_TIMEOUT))
    if options.sample_rate is None:
        spec = replace(spec, sample_rate=commonest_sample_rate(probes.of_clips) or spec.sample_rate)
    _warn_of_empty_bands(spec)
    catalogue = make_catalogue(clips, probes.of_clips, split_clips(options, clips), spec)
    return Survey(catalogue, probes.n_read, s3.count_requests() - before)


def split_clips(options: argparse.Namespace, clips: Sequence[Clip]) -> list[str]:
    """Say which clips are for training."""
    if options.split == "stratified":
        return stratified_split(clips, options.train_fraction, options.seed)
    return no_split(clips) if options.split == "none" else baseline_split(clips)


def _warn_of_empty_bands(spec: FeatureSpec) -> None:
    if empty := count_empty_bands(spec):
        _log.warning(
            "%d of %d mel bands hold no frequency bin at n_fft %d: fewer --n-mels, or a larger --n-fft",
            empty,
            spec.n_mels,
            spec.n_fft,
        )


def _warn_of_copies(clips: Iterable[Clip]) -> None:
    """Warn where clips are there twice, as when an archive lies beside what was unpacked from it."""
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
