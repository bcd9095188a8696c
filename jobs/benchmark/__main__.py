"""Compare this project with the plain way, side by side, on your machine and your recordings.

Timed in one run and on the same clips, each as a separate process, start-up included: a loop over librosa that stacks
and pickles; the same over a pool of processes; and python -m jobs.featurize. All have one thread for each numerical
library, which is faster for each of them. Then what jobs.featurize takes around its tasks, and the cost of a clip when
all is warm: in a plain process, in Dask workers, and with --floor in a program in C that does no more than it must.

With --job scale: what a job costs by its number of clips. See docs/scale.md. With --job train: how fast a table, the
SOURCE, is read for training. See docs/train.md. With --job detect: how well each detector tells the abnormal clips of a
table from its normal ones, from few clips to learn from, and what that costs.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jobs.detect import DEFAULT_TABLE
from jobs.given import NoEffect, add_old_name, read_options
from jobs.options import (
    DEFAULT_SOURCE,
    STORAGE_RULES,
    add_fetch_option,
    add_storage_option,
    count,
    location,
    source_access,
)
from jobs.process import conclude, raise_interrupts, status_of
from jobs.version import add_version
from mimii import detection, engine, recordings, storage

OK, FAILED, USAGE = 0, 1, 2
_LEAST_CLIPS = 32
_OF_FILES = ("render", "parts")
_WITHOUT_CLIPS = ("scale", "train", "detect")
_SAMPLE_RATE = 16_000
_RULES = (
    *STORAGE_RULES,
    NoEffect(
        "storage_option",
        lambda options: options.job == "train",
        "--job train connects to S3 as AWS's environment variables say; leave the option out",
    ),
    *(
        NoEffect(name, lambda options: options.job != "detect", "has an effect with --job detect only")
        for name in ("model", "learn", "draws", "epochs")
    ),
    *(
        NoEffect(name, lambda options: options.job != "featurize", "has an effect with --job featurize only")
        for name in ("floor", "fetch_window", "output")
    ),
    NoEffect("clips", lambda options: options.job in ("train", "detect"), "--job {job} takes all clips of the table"),
    NoEffect("rounds", lambda options: options.job == "detect", "--job detect repeats by --draws"),
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add(
        "sources",
        nargs="*",
        type=location,
        metavar="SOURCE",
        help=f"recordings at 16 kHz: folders, or zip archives, or s3://bucket/prefix; default: {DEFAULT_SOURCE}. With "
        f"--job detect or train: tables of jobs.featurize; default of detect: {DEFAULT_TABLE}",
    )
    add("--source", type=location, action="append", default=[], metavar="SOURCE", help="the same as SOURCE")
    add(
        "--job",
        choices=("featurize", "render", "parts", "scale", "detect", "train"),
        default="featurize",
        help="parts: recordings that are resampled, all of their channels, and their segments; scale: what a job costs "
        "by its number of clips, with nothing to compute where no SOURCE is named; train: reading a table; "
        "default: featurize",
    )
    _add_run_options(parser)
    _add_detect_options(parser)
    add_version(parser)
    add_storage_option(parser)
    return parser


def _add_run_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--clips",
        type=count,
        nargs="+",
        metavar="N",
        help="use the first N clips; default: all. With --job scale: the numbers of clips to try",
    )
    add("--workers", type=count, metavar="N", help="how many worker processes; default: one a core")
    add("--floor", metavar="BINARY", help="a program to compare with, called as: BINARY MEL.f32 OUTDIR FILE...")
    add(
        "--rounds", type=count, metavar="N", default=3, help="how often the warm part is repeated; default: %(default)s"
    )
    add_old_name(parser, add_fetch_option(parser), "--window")
    add(
        "--output",
        type=location,
        metavar="URL",
        help="where temporary results go when recordings are on S3: a folder, or s3://bucket/prefix; default: "
        "--scratch",
    )
    add("--scratch", metavar="DIR", help="folder for temporary results; default: that of the system")


def _add_detect_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument_group("detect").add_argument
    add("--model", nargs="+", metavar="NAME", default=list(detection.KINDS), help="which detectors; default: all")
    add("--learn", type=count, metavar="N", default=5, help="learn from N normal clips a machine; default: %(default)s")
    add(
        "--draws",
        type=count,
        metavar="N",
        help="how often these clips are drawn at random; default: 30, and 10 for detectors that learn from rows",
    )
    add("--epochs", type=count, metavar="N", default=50, help="training epochs of networks; default: %(default)s")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, _RULES)
    if options.job != "scale" and len(options.clips or ()) > 1:
        parser.error("--clips takes more than one number with --job scale only")
    raise_interrupts()
    try:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            _run(options, Path(scratch))
    except KeyboardInterrupt as interrupt:
        conclude(status := status_of(interrupt))
        print("benchmark: interrupted", file=sys.stderr)
        return status
    except (recordings.SourceError, detection.LearningError, engine.StoreError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return USAGE
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return FAILED
    return OK


def _run(options: argparse.Namespace, scratch: Path) -> None:
    """Run the benchmark that fits to the job, and to where the recordings are."""
    from jobs.benchmark.timing import compile_librosa

    n_workers = options.workers or engine.default_workers()
    sources = [*options.sources, *options.source]
    if options.job in _WITHOUT_CLIPS:
        return _run_without_clips(options, sources, n_workers, scratch)
    most = options.clips and options.clips[0]
    clips = _find(sources or [DEFAULT_SOURCE], source_access(options), most)
    is_remote = any(storage.is_remote(clip.place.url) for clip in clips)
    is_packed = any(clip.place.member for clip in clips)
    if options.job in _OF_FILES and (is_remote or is_packed):
        msg = f"--job {options.job} compares single files on a disk: name a folder of them"
        raise recordings.SourceError(msg)
    compile_librosa(scratch)
    if options.job in _OF_FILES:
        return _compare_of_files(options, clips, n_workers, scratch)
    if is_remote:
        from jobs.benchmark.remote import compare_remote

        read_options = storage.ReadOptions(source_access(options), options.fetch_window)
        return compare_remote(clips, read_options, n_workers, options.output, scratch)
    if is_packed:
        from jobs.benchmark.archives import compare_archives

        return compare_archives(clips, n_workers, options.rounds, scratch)
    from jobs.benchmark.files import compare_files

    return compare_files(clips, n_workers, options.rounds, options.floor, scratch)


def _run_without_clips(options: argparse.Namespace, sources: Sequence[str], n_workers: int, scratch: Path) -> None:
    if options.job == "detect":
        return _compare_detectors(options, sources or [DEFAULT_TABLE])
    if options.job == "train":
        from jobs.benchmark.train import compare_train

        if len(sources) != 1:
            msg = f"--job train reads one table of jobs.featurize: name it as SOURCE, such as {DEFAULT_TABLE}"
            raise recordings.SourceError(msg)
        return compare_train(sources[0], n_workers, options.rounds)
    from jobs.benchmark.scale import compare_real, compare_simulated

    if sources:
        return compare_real(sources, options.clips, n_workers, options.rounds, scratch)
    return compare_simulated(options.clips, n_workers, scratch)


def _compare_detectors(options: argparse.Namespace, tables: Sequence[str]) -> None:
    from jobs.benchmark.detectors import compare_detectors

    draws = (options.learn, options.draws, options.epochs)
    compare_detectors(tables, options.model, *draws, source_access(options))


def _compare_of_files(
    options: argparse.Namespace, clips: Sequence[recordings.Clip], n_workers: int, scratch: Path
) -> None:
    if options.job == "parts":
        from jobs.benchmark.parts import compare_parts

        return compare_parts(clips, n_workers, scratch)
    from jobs.benchmark.images import compare_images

    return compare_images(clips, n_workers, options.rounds, scratch)


def _find(sources: Sequence[str], access: storage.Access, most: int | None) -> list[recordings.Clip]:
    """Find the first clips that all candidates, also the floor, can read; those on S3 are all taken."""
    if most is not None and most < _LEAST_CLIPS:
        msg = f"--clips {most}: at least {_LEAST_CLIPS} are needed"
        raise recordings.SourceError(msg)
    clips = recordings.find_recordings(*sources, access=access)
    usable = [clip for clip in clips if storage.is_remote(clip.place.url) or _is_usable(clip)]
    if len(usable) < _LEAST_CLIPS:
        where = ", ".join(sources)
        msg = f"{where}: fewer than {_LEAST_CLIPS} 16-bit WAV clips at 16 kHz; python -m jobs.synthesize makes some"
        raise recordings.SourceError(msg)
    return usable[:most]


def _is_usable(clip: recordings.Clip) -> bool:
    header = clip.header
    return header is not None and header.pcm16_offset >= 0 and header.sample_rate == _SAMPLE_RATE


if __name__ == "__main__":
    sys.exit(main())
