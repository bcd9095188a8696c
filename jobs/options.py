"""Options that commands share, and what they mean to the library. Importing it imports nothing heavy."""

import argparse
import dataclasses
import math
import re
from collections.abc import Callable, Mapping, Sequence, Sized
from typing import Any

from jobs.given import NoEffect, add_old_name
from mimii.engine import HERE, SchedulerError, Where, check_scheduler, is_cluster_file
from mimii.engine import TIMEOUT as CLUSTER_TIMEOUT
from mimii.features import ALL_PRESETS, CHANNELS, PRESETS, FeatureSpec
from mimii.recordings import ASSUMPTIONS, SPLITS, LayoutError, read_layout
from mimii.storage import (
    TIMEOUT,
    Access,
    LocationError,
    Objects,
    OptionError,
    Options,
    ReadOptions,
    as_path,
    is_remote,
    open_objects,
    parse_options,
)

DEFAULT_SOURCE = "data/raw"
DEFAULT_PRESET = "explore"
_STRATIFIED = "stratified"
_PLACES = ("sources", "source", "places", "against", "output", "dest", "label_by")


def count(text: str) -> int:
    """Read a whole number of at least 1, for argparse."""
    if not text.isdecimal() or int(text) < 1:
        msg = f"must be a whole number of at least 1, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def split_words(words: Sequence[str], is_value: Callable[[str], bool]) -> tuple[list[str], list[str]]:
    """Split the words behind an option into its values and the places that follow; the first is always a value."""
    n_values = 1 + next((index for index, word in enumerate(words[1:]) if not is_value(word)), len(words[1:]))
    return list(words[:n_values]), list(words[n_values:])


def is_number(text: str) -> bool:
    """Say whether a text is a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def location(text: str) -> str:
    """Read a path, a ``file://`` or an ``s3://`` URL, for argparse."""
    if not text:
        msg = "must not be empty"
        raise argparse.ArgumentTypeError(msg)
    try:
        return as_path(text)
    except LocationError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def layout(text: str) -> str:
    """Read a pattern of paths, for argparse."""
    try:
        return read_layout(text).pattern
    except LayoutError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def fraction(text: str) -> float:
    """Read a number from 0 to 1, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        msg = f"must be a number from 0 to 1, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def add_source_options(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add the options that say which recordings to use; return their group."""
    group = parser.add_argument_group("recordings")
    group.add_argument(
        "sources",
        nargs="*",
        type=location,
        metavar="SOURCE",
        help="folders to search for recordings (WAV, FLAC, OGG, AIFF, ...) and for zip archives of them, single ones "
        f"of these, or s3://bucket/prefix; default: {DEFAULT_SOURCE}",
    )
    add_meaning_options(group)
    group.add_argument(
        "--probe",
        choices=("auto", "all"),
        default="auto",
        help="how to find out how long the clips are. auto: from each file on a disk; in archives and on S3, from one "
        "WAV file of each size in a folder; all: from each. Default: auto",
    )
    return group


def add_meaning_options(group: argparse._ArgumentGroup) -> None:
    """Add the options that say what recordings are."""
    group.add_argument(
        "--list",
        action="append",
        default=[],
        metavar="FILE",
        help="a CSV list of your own recordings: a column 'path', and any of machine_type, machine_id, number, snr_db, "
        "label (normal or abnormal), split (train or test), domain (source or target), attributes, recorded_at (ISO "
        "8601) and columns of your own; or the ground truth of an evaluation set of DCASE, which is among the "
        "sources. May be given several times",
    )
    group.add_argument(
        "--layout",
        type=layout,
        metavar="PATTERN",
        help="a pattern of the ends of paths, which names the columns of lists and any others in braces, such as "
        "'{machine_type}/{machine_id}/{label}/{recorded_at:%%Y%%m%%d-%%H%%M%%S}.wav' or "
        "'{site}/{machine_id}/*_{label}.wav'. Default: as MIMII and DCASE name them; else a folder above normal, "
        "abnormal, ok, ng, good, bad or anomaly is the machine",
    )
    group.add_argument(
        "--assume",
        choices=ASSUMPTIONS,
        help="the label of recordings without one; outside known layouts, their folder names the machine",
    )


def add_split_options(group: argparse._ArgumentGroup, default: str) -> None:
    """Add the options that say which clips are for training."""
    group.add_argument(
        "--split",
        choices=SPLITS,
        default=default,
        help="which clips are for training. baseline: test = all abnormal clips and as many normal ones, train = the "
        "other normal ones; stratified: a share of either label, by a hash of what the clip is; none. "
        f"Default: {default}",
    )
    group.add_argument(
        "--train-fraction",
        type=fraction,
        metavar="F",
        default=0.8,
        help="the share of clips that --split stratified takes for training; default: %(default)s",
    )
    seed = group.add_argument(
        "--split-seed",
        type=int,
        metavar="N",
        default=0,
        help="random seed of --split stratified: another number, other clips for training; default: 0",
    )
    add_old_name(group, seed, "--seed")


def _has_fixed_split(options: argparse.Namespace) -> bool:
    """Say whether no clip is drawn for training; of a table that grows, the table says which split it has."""
    return options.split != _STRATIFIED and not (options.split is None and options.update)


SPLIT_RULES = tuple(
    NoEffect(name, _has_fixed_split, f"has an effect with --split {_STRATIFIED} only")
    for name in ("train_fraction", "split_seed")
)


def add_spec_options(
    parser: argparse.ArgumentParser, other_rates: str = "those with another rate become bad clips"
) -> argparse._ArgumentGroup:
    """Add the options that say what to compute; return their group."""
    group = parser.add_argument_group("features", "a preset, and parameters that differ from it")
    presets = "; ".join(f"{preset.name}: {preset.summary}" for preset in ALL_PRESETS)
    also = "; ".join(f"{one.aliases[0]} to {one.aliases[-1]} are {one.name}" for one in ALL_PRESETS if one.aliases)
    group.add_argument(
        "--preset",
        choices=tuple(PRESETS),
        metavar="NAME",
        help=f"{presets}. {also}. Default: {DEFAULT_PRESET}",
    )
    add = group.add_argument
    add("--n-fft", type=int, metavar="N", help="samples in the Fourier transform")
    add("--win-length", type=int, metavar="N", help="samples in the window; default: as --n-fft")
    add("--hop-length", type=int, metavar="N", help="samples from one frame to the next")
    add("--n-mels", type=int, metavar="N", help="mel bands")
    add("--fmin", type=float, metavar="HZ", help="frequency at which the lowest mel band begins; default: 0")
    add(
        "--fmax",
        type=float,
        metavar="HZ",
        help="frequency at which the highest mel band ends; default: half the sample rate",
    )
    add("--power", type=float, metavar="P", help="exponent of the magnitude: 1 magnitude, 2 power")
    _add_recording_options(group, other_rates)
    add_segment_options(group, "whole recordings")
    return group


def add_segment_options(group: argparse._ArgumentGroup, default: str) -> None:
    """Add the options that say how recordings are cut."""
    group.add_argument(
        "--segment",
        type=seconds,
        metavar="S",
        help=f"cut recordings into segments of so many seconds, each a clip; default: {default}",
    )
    group.add_argument(
        "--overlap", type=float, metavar="S", help="seconds that a segment shares with the one before; default: 0"
    )


def _add_recording_options(group: argparse._ArgumentGroup, other_rates: str) -> None:
    """Add the options that say which clips a recording gives, and at which rate."""
    group.add_argument(
        "--channel",
        type=channel,
        metavar="C",
        help="which microphone, counted from 0; mean: the mean of all; all: each is a clip of its own. Default: 0",
    )
    group.add_argument(
        "--sample-rate",
        type=int,
        metavar="N",
        help="Hz; recordings with another rate are resampled to it. Default: the rate of most recordings; "
        f"{other_rates}",
    )


def channel(text: str) -> int | str:
    """Read which channel, for argparse."""
    if text in CHANNELS:
        return text
    if not text.isdecimal():
        msg = f"must be a number counted from 0, {' or '.join(CHANNELS)}, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(text)


def add_run_options(parser: argparse.ArgumentParser) -> argparse.Action:
    """Add the options that say how to run; return the one of fetching ahead."""
    group = parser.add_argument_group("running")
    group.add_argument(
        "--max-bad",
        type=bad_limit,
        metavar="N|P%",
        default="0",
        help="how many bad clips are accepted, as a number or a share of all; more end in exit status 3. Default: 0",
    )
    fetching = add_fetch_option(group)
    group.add_argument("--overwrite", action="store_true", help="replace other results that are at the output")
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="print what would be done, and whether the output can be written; write nothing",
    )
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_cluster_options(parser)
    return fetching


def add_fetch_option(group: argparse._ActionsContainer) -> argparse.Action:
    """Add the option that says how many recordings are fetched ahead."""
    return group.add_argument(
        "--fetch-window",
        type=count,
        metavar="N",
        default=16,
        help="how many recordings on S3 a worker fetches at a time; default: %(default)s",
    )


def add_cluster_options(parser: argparse.ArgumentParser) -> None:
    """Add the options that say where tasks run."""
    group = parser.add_argument_group("cluster")
    group.add_argument(
        "--scheduler",
        type=scheduler,
        default="local",
        metavar="WHERE",
        help="local: a process for each core of this machine; threads: of this process; sync: one task after the "
        "other, for debugging; tcp://HOST:PORT, tls://HOST:PORT, a scheduler file (*.json) or env "
        "(DASK_SCHEDULER_ADDRESS): a Dask cluster that runs; a YAML file: one to be started, see cluster.yaml. "
        "Default: local",
    )
    group.add_argument("--workers", type=count, metavar="N", help="how many workers to start; default: one a core")
    group.add_argument(
        "--adapt",
        nargs=2,
        type=count,
        metavar=("MIN", "MAX"),
        help="start and stop workers as the work demands, instead of --workers",
    )
    timeout = group.add_argument(
        "--timeout",
        type=seconds,
        metavar="S",
        default=CLUSTER_TIMEOUT,
        help="how many seconds to wait for a scheduler and its first worker; default: %(default)g",
    )
    add_old_name(group, timeout, "--patience")


def _starts_workers(options: argparse.Namespace) -> bool:
    return options.scheduler == "local" or is_cluster_file(options.scheduler)


CLUSTER_RULES = (
    NoEffect(
        "workers",
        lambda options: options.scheduler == "sync",
        "--scheduler sync does one task after the other in this process; leave the option out, or use local or threads",
    ),
    NoEffect(
        "workers",
        lambda options: options.scheduler not in HERE and not _starts_workers(options),
        "{scheduler} has the workers that were started for it; leave the option out",
    ),
    NoEffect("adapt", lambda options: options.workers is not None, "takes the place of --workers; use one of them"),
    NoEffect(
        "adapt",
        lambda options: not _starts_workers(options),
        "workers are started and stopped with --scheduler local or a cluster file only, not with {scheduler}",
    ),
    NoEffect(
        "timeout",
        lambda options: options.scheduler in HERE,
        "with --scheduler {scheduler} there is no scheduler to wait for; leave the option out",
    ),
)


def add_growing_options(parser: argparse.ArgumentParser, title: str, update: str, prune: str) -> None:
    """Add the options of results that are there and have to keep up with their recordings; the texts say how."""
    group = parser.add_argument_group(title)
    once = "Where there is none yet, one is made"
    group.add_argument("--update", action="store_true", help=f"{update}. {once}")
    group.add_argument("--prune", action="store_true", help=f"with --update: {prune}")


GROWING_RULES = (
    NoEffect("prune", lambda options: not options.update, "needs --update"),
    NoEffect(
        "overwrite", lambda options: options.update, "not with --update, which keeps what is there; use one of them"
    ),
)


def describe_changes(counts: Mapping[str, Sized]) -> str:
    """Count what an update changes."""
    return ", ".join(f"{len(clips):,} {what}" for what, clips in counts.items())


def scheduler(text: str) -> str:
    """Read a scheduler, for argparse."""
    try:
        check_scheduler(text)
    except SchedulerError as error:
        raise argparse.ArgumentTypeError(str(error)) from error
    return text


def seconds(text: str) -> float:
    """Read a number of seconds above 0, for argparse."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf:
        msg = f"must be a number of seconds above 0, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return value


def scheduler_of(options: argparse.Namespace) -> Where:
    """Return where tasks run; SchedulerError if --adapt makes no range."""
    if options.adapt and options.adapt[0] > options.adapt[1]:
        msg = f"--adapt {options.adapt[0]} {options.adapt[1]}: MIN must be at most MAX"
        raise SchedulerError(msg)
    adapt = (options.adapt[0], options.adapt[1]) if options.adapt else None
    return Where(options.scheduler, options.workers, adapt=adapt, timeout=options.timeout)


def spec_changes(options: argparse.Namespace) -> dict[str, Any]:
    """Return the parameters that options name."""
    given = {field.name: getattr(options, field.name, None) for field in dataclasses.fields(FeatureSpec)}
    return {name: value for name, value in given.items() if value is not None}


def spec_of(options: argparse.Namespace, commonest_rate: int | None) -> FeatureSpec:
    """Return the preset with the options that change it; without --sample-rate at the rate of most clips."""
    changes = spec_changes(options)
    if options.sample_rate is None and commonest_rate:
        changes["sample_rate"] = commonest_rate
    return FeatureSpec.preset(options.preset or DEFAULT_PRESET, **changes)


def add_storage_options(
    parser: argparse.ArgumentParser, output: str = "the output", others: str = "the recordings"
) -> None:
    """Add the options that say how S3 is accessed."""
    group = add_storage_option(parser)
    group.add_argument(
        "--output-option",
        type=storage_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f"the same for {output} only, where it needs another value than {others}",
    )


def _names_s3(options: argparse.Namespace) -> bool:
    """Say whether anything is on S3; what is in a list may be."""
    named = [getattr(options, name, None) or [] for name in _PLACES]
    places = [place for one in named for place in ([one] if isinstance(one, str) else one)]
    return bool(getattr(options, "list", None)) or any(map(is_remote, places))


STORAGE_RULES = (
    NoEffect(
        "output_option",
        lambda options: not is_remote(options.output or ""),
        "the output is not on S3; for recordings and tables on S3, use --storage-option",
    ),
    NoEffect(
        "storage_option", lambda options: not _names_s3(options), "nothing named here is on S3; leave the option out"
    ),
)


def read_options_of(options: argparse.Namespace) -> ReadOptions:
    """Return how workers fetch the recordings."""
    return ReadOptions(source_access(options), options.fetch_window)


def output_access(options: argparse.Namespace, timeout: float = TIMEOUT) -> Access:
    """Return how to access the output on S3."""
    return Access(sum([*options.storage_option, *options.output_option], ()), timeout)


def open_output(options: argparse.Namespace, timeout: float = TIMEOUT) -> Objects:
    """Return where the results go; nothing is read or written."""
    return open_objects(options.output, output_access(options, timeout))


def bad_limit(text: str) -> Callable[[int], float]:
    """Read ``N`` or ``P%``, for argparse: a function from the number of clips to how many may be bad."""
    match = re.fullmatch(r"(\d+)|(\d+(?:\.\d+)?)%", text)
    if not match:
        msg = f"must be a number of clips such as 3, or a share such as 0.5%, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    if match[1]:
        return lambda _: int(match[1])
    return lambda n_clips: n_clips * float(match[2]) / 100


def storage_option(text: str) -> Options:
    """Read ``KEY=VALUE``, for argparse."""
    try:
        return parse_options([text])
    except OptionError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def add_storage_option(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add ``--storage-option``; return its group."""
    group = parser.add_argument_group(
        "S3", "credentials, region and endpoint come from the environment or a profile, as for the aws command"
    )
    group.add_argument(
        "--storage-option",
        type=storage_option,
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="an argument of s3fs.S3FileSystem, such as anon=true, profile=NAME, endpoint_url=URL or "
        "client_kwargs.region_name=NAME; may be given several times",
    )
    return group


def source_access(options: argparse.Namespace, timeout: float = TIMEOUT) -> Access:
    """Return how to access recordings on S3, from ``--storage-option``."""
    return Access(sum(options.storage_option, ()), timeout)
