"""Compare this project with the plain way, side by side, on your machine and your recordings.

Timed in one run and on the same clips, each as a process of its own, start-up included: a loop over librosa that stacks
and pickles; the same over a pool of processes; and python -m jobs.featurize. All have one thread for each numerical
library, which is faster for each of them. Then the cost of a clip when all is warm, in a plain process and in Dask
workers, and with --floor that of a program in C that does no more than it must.

With --job scale: what a job costs by its number of clips. See docs/scale.md.
"""

import argparse
import csv
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from jobs.benchmark.archives import compare_archives
from jobs.benchmark.baselines import Cost, make_benchmark_table
from jobs.benchmark.images import compare_images
from jobs.benchmark.remote import compare_remote
from jobs.benchmark.scale import compare_scale
from jobs.benchmark.timing import Steady, Timing, steady, time_process, time_workers
from jobs.options import DEFAULT_SOURCE, add_storage_option, count, location, source_access
from jobs.report import format_bytes, format_table, numbered
from mimii.engine import ONE_THREAD, WORKER_ENVIRONMENT, default_workers
from mimii.features import FeatureSpec, mel_filter_bank
from mimii.recordings import Clip, SourceError, find_clips, probe_clip
from mimii.storage import is_remote

OK, FAILED, USAGE = 0, 1, 2
_LEAST_CLIPS = 32

_BASELINES = "jobs.benchmark.baselines"


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.benchmark", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "sources",
        nargs="*",
        type=location,
        metavar="SOURCE",
        help=f"recordings at 16 kHz: folders, or zip archives, or s3://bucket/prefix; default: {DEFAULT_SOURCE}",
    )
    parser.add_argument("--source", type=location, action="append", default=[], metavar="SOURCE", help="the same")
    parser.add_argument(
        "--job",
        choices=("featurize", "render", "scale"),
        default="featurize",
        help="scale: what a job costs by its number of clips, with nothing to compute where no SOURCE is named; "
        "default: featurize",
    )
    parser.add_argument(
        "--clips", type=count, nargs="+", metavar="N", help="use the first N; default: all. Of scale: each size to try"
    )
    parser.add_argument("--workers", type=count, metavar="N", default=default_workers(), help="default: one a core")
    parser.add_argument("--floor", metavar="BINARY", help="a program called as: BINARY MEL.f32 OUTDIR FILE...")
    parser.add_argument(
        "--rounds", type=count, metavar="N", default=3, help="repeat the warm part; default: %(default)s"
    )
    parser.add_argument(
        "--window", type=count, metavar="N", default=16, help="fetches a worker, from S3; default: %(default)s"
    )
    parser.add_argument("--output", type=location, metavar="URL", help="where results from S3 go for the time being")
    parser.add_argument("--scratch", metavar="DIR", help="where results go for the time being; default: the system's")
    add_storage_option(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.job != "scale" and len(options.clips or ()) > 1:
        parser.error("--clips takes more than one number with --job scale only")
    sources = [*options.sources, *options.source]
    try:
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            if options.job == "scale":
                compare_scale(sources, options, Path(scratch))
            else:
                _compare(sources or [DEFAULT_SOURCE], options, Path(scratch))
    except SourceError as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return USAGE
    except (subprocess.CalledProcessError, OSError) as error:
        print(f"benchmark: {error}", file=sys.stderr)
        return FAILED
    return OK


def _compare(sources: Sequence[str], options: argparse.Namespace, scratch: Path) -> None:
    clips = find_clips(sources, source_access(options))
    most = options.clips[0] if options.clips else None
    _choose(clips, options.job)(_usable(clips, sources)[:most], options, scratch)


def _choose(clips: Sequence[Clip], job: str) -> Callable[[Sequence[Clip], argparse.Namespace, Path], None]:
    """Choose what there is to compare with, by where the recordings are."""
    if job == "render":
        return _compare_images
    if any(is_remote(clip.place.url) for clip in clips):
        return compare_remote
    if any(clip.place.member for clip in clips):
        return compare_archives
    return _compare_files


def _compare_images(clips: Sequence[Clip], options: argparse.Namespace, scratch: Path) -> None:
    if any(is_remote(clip.place.url) or clip.place.member for clip in clips):
        msg = "--job render compares images of single files on a disk: name a folder of them"
        raise SourceError(msg)
    compare_images(clips, options, scratch)


def _compare_files(clips: Sequence[Clip], options: argparse.Namespace, scratch: Path) -> None:
    size = sum(_read_whole(clip.path) for clip in clips)
    print(f"{len(clips):,} clips, {format_bytes(size)}, in the page cache; {options.workers} workers\n")
    listed = scratch / "paths.json"
    listed.write_text(json.dumps([clip.place.url for clip in clips]))
    print("\n".join(_end_to_end(clips, size, listed, options.workers)), flush=True)
    print(f"\nwhen all is warm, the median of {numbered(options.rounds, 'round')}")
    print("\n".join(_warm(clips, listed, options)))


def _end_to_end(clips: Sequence[Clip], size: int, listed: Path, n_workers: int) -> list[str]:
    """Time the whole commands, and tabulate."""
    scratch = listed.parent
    table = listed.with_suffix(".csv")
    with table.open("w", newline="") as file:
        csv.writer(file).writerows([["path"], *([clip.place.url] for clip in clips)])
    python, workers = (sys.executable, "-m"), ("--workers", str(n_workers))
    commands = {
        "librosa loop, 1 process": (
            *python,
            _BASELINES,
            "loop",
            str(listed),
            str(scratch / "loop.pkl"),
        ),
        f"the same, {n_workers} processes": (
            *(*python, _BASELINES, "pool", str(listed), str(scratch / "pool.pkl")),
            *workers,
        ),
        "jobs.featurize": (
            *(*python, "jobs.featurize", "--list", str(table), "--output", str(scratch / "features.zarr")),
            *("--quiet", *workers),
        ),
    }
    timings = {}
    for name, command in commands.items():
        timings[name] = time_process(command, ONE_THREAD)
        for pickled in scratch.glob("*.pkl"):
            pickled.unlink()
    loop = next(iter(timings.values())).wall_seconds
    rows = [_end_to_end_row(name, timing, len(clips), size, loop) for name, timing in timings.items()]
    return format_table(("start to end", "s", "clips/s", "MB/s", "CPU ms/clip", "peak MB", "times the loop"), rows)


def _end_to_end_row(name: str, timing: Timing, n_clips: int, size: int, loop_seconds: float) -> tuple[str, ...]:
    return (
        name,
        f"{timing.wall_seconds:.1f}",
        f"{n_clips / timing.wall_seconds:.0f}",
        f"{size / timing.wall_seconds / 1e6:.0f}",
        f"{timing.cpu_seconds / n_clips * 1e3:.2f}",
        f"{timing.peak_bytes / 1e6:.0f}",
        f"{loop_seconds / timing.wall_seconds:.2f}",
    )


def _warm(clips: Sequence[Clip], listed: Path, options: argparse.Namespace) -> list[str]:
    """Measure the cost of a clip in turns, so that a machine whose speed drifts treats all alike, and tabulate."""
    scratch = listed.parent
    table = make_benchmark_table(clips)
    rounds: dict[str, list[Steady]] = {}
    for _ in range(options.rounds):
        if options.floor:
            rounds.setdefault("floor", []).append(_time_floor(options.floor, clips, scratch))
        rounds.setdefault("plain process", []).append(_time_kernel(listed))
        for n_workers in dict.fromkeys((1, options.workers)):
            rounds.setdefault(numbered(n_workers, "Dask worker"), []).append(time_workers(table, n_workers, scratch))
    medians = {name: _median(measured) for name, measured in rounds.items()}
    base = next(iter(medians.values()))
    first = next(iter(medians))
    header = ("warm", "clips/s", "CPU ms/clip", "page faults/clip", f"CPU to {first}", f"clips/s to {first}")
    return format_table(header, [_warm_row(name, steady, base) for name, steady in medians.items()])


def _warm_row(name: str, steady: Steady, base: Steady) -> tuple[str, ...]:
    return (
        name,
        f"{steady.clips_a_second:.0f}",
        f"{steady.cpu_seconds * 1e3:.2f}",
        f"{steady.page_faults:.1f}",
        f"{steady.cpu_seconds / base.cpu_seconds:.2f}",
        f"{steady.clips_a_second / base.clips_a_second:.2f}",
    )


def _time_floor(binary: str, clips: Sequence[Clip], scratch: Path) -> Steady:
    spec = FeatureSpec()
    mel, output = scratch / "mel.f32", scratch / "floor"
    mel.write_bytes(mel_filter_bank(spec.sample_rate, spec.n_fft, spec.n_mels).tobytes())
    output.mkdir(exist_ok=True)
    timing = time_process((binary, str(mel), str(output), *(clip.path for clip in clips)))
    return Steady(timing.cpu_seconds / len(clips), 0.0, len(clips) / timing.wall_seconds)


def _time_kernel(listed: Path) -> Steady:
    output = tempfile.mkdtemp(dir=listed.parent)
    command = (sys.executable, "-m", _BASELINES, "kernel", str(listed), output)
    costs = [Cost(**cost) for cost in json.loads(time_process(command, WORKER_ENVIRONMENT).output)]
    return steady(costs, sum(cost.wall_seconds for cost in costs[1:]), 1)


def _median(measured: Sequence[Steady]) -> Steady:
    return Steady(
        statistics.median(steady.cpu_seconds for steady in measured),
        statistics.median(steady.page_faults for steady in measured),
        statistics.median(steady.clips_a_second for steady in measured),
    )


def _usable(clips: Sequence[Clip], sources: Sequence[str]) -> list[Clip]:
    """Choose the clips that all candidates, also the floor, can read; on S3, nobody looks into each."""
    usable = [clip for clip in clips if is_remote(clip.place.url) or _is_usable(clip)]
    if len(usable) < _LEAST_CLIPS:
        where = ", ".join(sources)
        msg = f"{where}: fewer than {_LEAST_CLIPS} 16-bit WAV clips at 16 kHz; python -m jobs.synthesize makes some"
        raise SourceError(msg)
    return usable


def _is_usable(clip: Clip) -> bool:
    header = probe_clip(clip).header
    return header is not None and header.pcm16_offset >= 0 and header.sample_rate == FeatureSpec().sample_rate


def _read_whole(path: str) -> int:
    """Bring a file to the page cache; return its size."""
    return len(Path(path).read_bytes())


if __name__ == "__main__":
    sys.exit(main())
