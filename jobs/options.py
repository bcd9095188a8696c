"""Options that jobs over recordings share, and what becomes of them: a spec, a list of clips, a catalogue."""

import argparse
import logging
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from jobs.cluster import SCHEDULERS, default_workers
from mimii.catalogue import Catalogue, commonest_sample_rate, make_catalogue, probe_clip
from mimii.clips import Clip
from mimii.features import count_empty_bands
from mimii.sources import SourceError, find_clips, read_list
from mimii.spec import PRESETS, FeatureSpec
from mimii.splits import TRAIN, baseline_split, no_split, stratified_split

DEFAULT_SOURCE = "data/raw"
_log = logging.getLogger(__name__)
SPLITS: Mapping[str, Callable[[Sequence[Clip]], list[str]]] = MappingProxyType(
    {"baseline": baseline_split, "stratified": stratified_split, "none": no_split}
)
_NO_CLIPS = """{where}: no recordings there. Either
  make some:      python -m jobs.synthesize {source}
  or get MIMII:   unpack an archive of https://zenodo.org/records/3384388 into {source}/6_dB_fan (0_dB_fan, ...)
  or use yours:   python -m jobs.featurize FOLDER, or --list FILE.csv"""


def count(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"must be a whole number of at least 1, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def location(text: str) -> str:
    """Read a path or a ``file://`` URL, for argparse."""
    scheme, separator, path = text.partition("://")
    if not text:
        msg = "must not be empty"
        raise argparse.ArgumentTypeError(msg)
    if not separator:
        return text
    if scheme != "file":
        msg = f"{text}: only folders of this machine can be used, not {scheme}://"
        raise argparse.ArgumentTypeError(msg)
    return path


def add_source_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which recordings to use."""
    group = parser.add_argument_group("recordings")
    group.add_argument(
        "sources",
        nargs="*",
        type=location,
        metavar="SOURCE",
        help=f"folders to search for recordings (WAV, FLAC, OGG, AIFF, ...), or single ones; default: {DEFAULT_SOURCE}",
    )
    group.add_argument(
        "--list",
        metavar="FILE",
        help="a CSV list of your own recordings: a column 'path', and any of machine_type, machine_id, number, snr_db, "
        "label (normal or abnormal) and split (train or test)",
    )
    group.add_argument(
        "--split",
        choices=tuple(SPLITS),
        default="baseline",
        help="which clips are for training. baseline: test = all abnormal clips and as many normal ones, train = the "
        "other normal ones; stratified: 80 %% of either label; none. Default: baseline",
    )


def add_spec_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what to compute."""
    group = parser.add_argument_group("features", "a preset, and what you want to have otherwise")
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        default="explore",
        help="explore: n_fft 2048, dB below the clip's maximum; autoencoder: the same with n_fft 1024; mimii-baseline "
        "and dcase2020: absolute dB as in these publications. Default: explore",
    )
    group.add_argument("--n-fft", type=int, metavar="N", help="samples in the Fourier transform")
    group.add_argument("--hop-length", type=int, metavar="N", help="samples from one frame to the next")
    group.add_argument("--n-mels", type=int, metavar="N", help="mel bands")
    group.add_argument("--frames", type=int, metavar="N", help="frames stacked into one row")
    group.add_argument("--power", type=float, metavar="P", help="exponent of the magnitude: 1 magnitude, 2 power")
    group.add_argument("--channel", type=int, metavar="C", help="which microphone, counted from 0; default: 0")
    group.add_argument(
        "--sample-rate",
        type=int,
        metavar="N",
        help="Hz; clips with another rate cannot be used. Default: the rate of most clips",
    )


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where and how to run."""
    group = parser.add_argument_group("running")
    group.add_argument(
        "--scheduler",
        choices=SCHEDULERS,
        default="local",
        help="local: a process for each core of this machine; threads: of this process; sync: one task after the "
        "other, for debugging. Default: local",
    )
    group.add_argument(
        "--workers",
        type=count,
        metavar="N",
        default=default_workers(),
        help="how many; default: one a core (%(default)s)",
    )
    group.add_argument(
        "--max-bad",
        type=bad_limit,
        metavar="N|P%",
        default="0",
        help="so many clips, or so many in a hundred, may be unusable without exit status 3. Default: 0",
    )
    group.add_argument("--overwrite", action="store_true", help="delete another table that is at the output first")
    group.add_argument("--dry-run", action="store_true", help="print what would be done, and do nothing")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")


def bad_limit(text: str) -> Callable[[int], float]:
    """Read ``N`` or ``P%``, for argparse: a function from the number of clips to how many may be bad."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text)
    if not match:
        msg = f"must be a number of clips such as 3, or a share such as 0.5%, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    if match[1]:
        return lambda _: int(match[1])
    return lambda n_clips: n_clips * float(match[2]) / 100


def list_clips(options: argparse.Namespace) -> list[Clip]:
    """Find the recordings that the options name.

    Raises
    ------
    SourceError
        If a source is not there or there are no recordings; the message says how to get some.

    """
    listed = read_list(options.list) if options.list else []
    sources = options.sources or ([] if options.list else [DEFAULT_SOURCE])
    if sources == [DEFAULT_SOURCE] and not os.path.exists(DEFAULT_SOURCE):
        raise SourceError(_NO_CLIPS.format(where=DEFAULT_SOURCE, source=DEFAULT_SOURCE))
    clips = {clip.location: clip for clip in [*find_clips(sources), *listed]}
    if not clips:
        where = ", ".join([*sources, *filter(None, [options.list])])
        raise SourceError(_NO_CLIPS.format(where=where, source=sources[0] if sources else DEFAULT_SOURCE))
    return sorted(clips.values(), key=lambda clip: clip.path)


def source_names(options: argparse.Namespace) -> list[str]:
    """Name the sources, for the attributes of a store."""
    default = [] if options.list else [DEFAULT_SOURCE]
    return sorted([*(options.sources or default), *filter(None, [options.list])])


def read_spec(options: argparse.Namespace) -> FeatureSpec:
    """Make a spec of the preset and the options that change it.

    Raises
    ------
    SpecError
        If a value makes no sense.

    """
    names = ("n_fft", "hop_length", "n_mels", "frames", "power", "channel", "sample_rate")
    changed = {name: getattr(options, name) for name in names if getattr(options, name) is not None}
    return replace(PRESETS[options.preset], **changed)


def read_catalogue(options: argparse.Namespace) -> Catalogue:
    """Find the recordings, look at their headers, and decide which can be used.

    Raises
    ------
    SourceError, SpecError
        If the options cannot be followed; the message says why.

    """
    spec = read_spec(options)
    clips = list_clips(options)
    probes = [probe_clip(clip) for clip in clips]
    if options.sample_rate is None:
        spec = replace(spec, sample_rate=commonest_sample_rate(probes) or spec.sample_rate)
    if empty := count_empty_bands(spec):
        _log.warning(
            "%d of %d mel bands hold no frequency bin at n_fft %d: fewer --n-mels, or a larger --n-fft",
            empty,
            spec.n_mels,
            spec.n_fft,
        )
    splits = SPLITS[options.split](clips)
    if options.split != "none" and TRAIN not in splits:
        _log.warning(
            "no clip is for training: --split %s leaves none over. The statistics are of all rows", options.split
        )
    return make_catalogue(clips, probes, splits, spec)
