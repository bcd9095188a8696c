"""Turn machine-sound recordings into spectrogram images for an image classifier.

Each recording becomes an image of its log-mel spectrogram, in folders that torchvision, Keras and Amazon Rekognition
take as they are: train/normal, train/abnormal, test/normal, test/abnormal. The job can be stopped at any
moment, even by kill -9; the same command resumes.
"""

from __future__ import annotations

import argparse
import re
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import mimii
from jobs.command import EXIT_STATUS, OK, run_command
from jobs.given import NoEffect, read_options
from jobs.options import (
    CLUSTER_RULES,
    GROWING_RULES,
    SPLIT_RULES,
    STORAGE_RULES,
    add_growing_options,
    add_run_options,
    add_source_options,
    add_spec_options,
    add_split_options,
    add_storage_options,
    describe_changes,
    location,
    open_output,
    output_access,
    read_options_of,
    scheduler_of,
    source_access,
    spec_of,
)
from jobs.process import began
from jobs.version import add_version
from jobs.words import format_bytes, numbered
from mimii import engine, images, recordings, storage

if TYPE_CHECKING:
    from jobs.report import Planned

LIMITS_BROKEN = 4
DEFAULT_OUTPUT = "data/processed/images"
_DEFAULT_COLORMAP = "viridis"
_RULES = (
    *(*SPLIT_RULES, *GROWING_RULES, *CLUSTER_RULES, *STORAGE_RULES),
    NoEffect("cmap", lambda options: options.style != "colormap", "needs --style colormap"),
    NoEffect("resample", lambda options: options.size is None, "needs --size"),
)
_EPILOG = f"""
{EXIT_STATUS} With --check: 4 a limit is broken.

examples:
  python -m jobs.render                                  data/raw to data/processed/images
  python -m jobs.render data/raw/6_dB_fan.zip --style colormap --cmap magma --size 224x224
  python -m jobs.render recordings --window 10 --output my_images --check
  python -m jobs.render --output s3://bucket/images      with manifests for Amazon Rekognition
  python -m jobs.render recordings --window 10 --label-by scores/events.csv
  python -m jobs.render recordings --update              render what is new or has changed
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.render",
        usage="%(prog)s [SOURCE ...] [--output URL] [--style NAME] [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_version(parser)
    add_split_options(add_source_options(parser), "stratified")
    add_spec_options(parser, "those with another rate are resampled")
    parser.set_defaults(frames=1)  # an image stacks none
    _add_style_options(parser)
    _add_output_options(parser)
    add_run_options(parser)
    _add_growing_options(parser)
    add_storage_options(parser)
    return parser


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    output = parser.add_argument_group("output")
    output.add_argument(
        "--output",
        type=location,
        metavar="URL",
        default=DEFAULT_OUTPUT,
        help="where the images go: a folder, or s3://bucket/prefix; default: %(default)s",
    )
    output.add_argument(
        "--manifest-base",
        type=_s3_location,
        metavar="URL",
        help="where on S3 the images will be, for the manifests; default: --output, where that is on S3; else there "
        "are no manifests",
    )
    output.add_argument(
        "--check",
        action="store_true",
        help="in the end, compare images and manifests with the limits of Amazon Rekognition Custom Labels, and name "
        "the images that break one; with --dry-run, before there are any",
    )


def _add_growing_options(parser: argparse.ArgumentParser) -> None:
    add_growing_options(
        parser,
        "images that keep up with their recordings",
        "bring the images that are there up to date with the recordings that are named: only those of clips that are "
        "new or have changed are rendered. Name all sources; images look as before",
        "delete images of clips that are not among the recordings any more; without it, such an update is refused",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, _RULES)
    if options.split == "baseline":
        parser.error(
            "argument --split: baseline trains on normal sound alone, and a classifier has to see both: take "
            "stratified, or none"
        )
    return run_command("render", options, _render)


def _add_style_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("images")
    group.add_argument(
        "--style",
        choices=("gray", "colormap"),
        default="gray",
        help="gray: loud is black; colormap: see --cmap. Low frequencies are at the bottom. Default: gray",
    )
    group.add_argument("--cmap", metavar="NAME", help=f"any colormap of matplotlib; default: {_DEFAULT_COLORMAP}")
    group.add_argument(
        "--db-range",
        nargs=2,
        type=float,
        metavar=("LOW", "HIGH"),
        help="a scale of dB for all images, such as -80 0; default: each image's own smallest and largest",
    )
    group.add_argument(
        "--size",
        type=_size,
        metavar="WxH",
        help="width and height in pixels, such as 224x224; default: a pixel for each frame and mel band",
    )
    group.add_argument(
        "--resample",
        choices=("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
        default="bilinear",
        help="the filter that scales to --size; default: %(default)s",
    )
    group.add_argument(
        "--window",
        type=float,
        metavar="S",
        help="seconds that an image shows: longer clips get several; default: one image a clip",
    )
    group.add_argument(
        "--format", choices=("png", "jpeg"), default="png", help="format of the image files; default: png"
    )
    _add_label_option(group)


def _add_label_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--label-by",
        type=location,
        metavar="FILE",
        help="label each image by what it shows: an events.csv of jobs.score with the scores.csv beside it, or the "
        "folder of both. One that overlaps an event of its recording and channel is abnormal; any other is normal "
        "where it was scored. Where it was not, images of a normal recording are normal, and parts of an abnormal one "
        "have no label. Default: each has the label of its recording",
    )


def _render(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress
    from jobs.report import conclude, print_run, print_use
    from jobs.sources import find_sources

    started, where = began(), scheduler_of(options)
    existing = engine.look(open_output(options, storage.SHORT_TIMEOUT), images.ALBUM_HEAD)  # a refusal comes first
    if where.scheduler == "local" and not (options.dry_run or (existing and options.update)):
        engine.start_early()
    clips = find_sources(options)
    album = _plan(options, clips)
    output = images.AlbumOutput(album, open_output(options), read_options_of(options), options.update, options.prune)
    changes = images.find_changes(album, output.objects, existing) if existing and options.update else None
    planned = _planned(options, clips, output, changes)
    special = {"update": _count_changes(changes)} if changes else {}
    if options.dry_run:
        _show_plan(planned, output, changes, special)
        return _check_plan(album) if options.check else OK
    run = mimii.render(
        album,
        options.output,
        client=where,
        update=options.update,
        prune=options.prune,
        overwrite=options.overwrite,
        access=output_access(options),
        read_options=read_options_of(options),
        progress=show_progress("batch", len(planned.bad()), quiet=options.quiet),
    )
    if not options.quiet:
        print_run(planned, run, time.monotonic() - started, special | _describe_run(album, run))
        print_use(planned, run, _describe_use(album, options.output))
    status = conclude(planned, run)
    return (_check(output, run) if options.check else OK) or status


def _plan(options: argparse.Namespace, clips: mimii.Recordings) -> images.Album:
    name = (options.cmap or _DEFAULT_COLORMAP) if options.style == "colormap" else "gray"
    colours = images.colour_table(name) if options.style == "colormap" else b""
    db_range = tuple(options.db_range) if options.db_range else None
    return mimii.plan_images(
        clips,
        spec_of(options, recordings.commonest_sample_rate(clips)),
        images.Style(name, colours, db_range, options.size, options.resample, options.format),
        window=options.window,
        split=options.split,
        train_fraction=options.train_fraction,
        seed=options.split_seed,
        manifest_base=options.manifest_base or (options.output if storage.is_remote(options.output) else ""),
        label_by=options.label_by or "",
        access=source_access(options),
    )


def _planned(
    options: argparse.Namespace, clips: mimii.Recordings, output: images.AlbumOutput, changes: images.Changes | None
) -> Planned:
    from jobs.report import Planned

    if changes is None:
        return Planned("render", options, clips, output.album.catalogue, output)
    is_read = changes.to_read.__contains__
    return Planned("render", options, clips, output.album.catalogue, output, is_read=is_read)


def _count_changes(changes: images.Changes) -> str:
    counts = {
        "new": changes.added,
        "replaced": changes.replaced,
        "relabelled": changes.relabelled,
        "gone": changes.gone,
    }
    return describe_changes(counts)


def _show_plan(
    planned: Planned, output: images.AlbumOutput, changes: images.Changes | None, special: dict[str, str]
) -> None:
    from jobs.report import print_plan

    if changes is None:
        print_plan(planned, _describe_plan(output.album))
        return
    n_render, n_copy, n_read = output.count_work()
    work = {
        "renders": f"{numbered(n_render, 'image')}, {n_copy:,} copied to another name",
        "reads": f"{format_bytes(n_read)} of recordings",
    }
    print_plan(planned, special | _describe_plan(output.album) | work)
    if lines := changes.describe():
        print("\n" + "\n".join(lines))
    if changes.gone and not planned.options.prune:
        print("\nwould be refused: " + images.refusal(changes.gone)[-1])


def _describe_plan(album: images.Album) -> dict[str, str]:
    from jobs.described import describe_parts, describe_spec
    from jobs.labels import describe_labels

    spec, style = album.catalogue.spec, album.style
    pictures = [picture for clip in range(len(album.names)) for picture in album.pictures(clip)]
    sizes = Counter(map(album.size, pictures)).most_common(1)
    size = f", most of them {sizes[0][0][0]} x {sizes[0][0][1]} pixels" if sizes else ""
    return {
        **describe_parts(album.catalogue),
        "spectrogram": describe_spec(spec, without=("frames",)),
        "images": f"{len(pictures):,} {style.format.upper()}{size}",
        **describe_labels(album),
        "batches": f"{album.n_tasks:,}, a task each",
    }


def _describe_run(album: images.Album, run: mimii.Run) -> dict[str, str]:
    from jobs.described import describe_parts
    from jobs.labels import describe_labels

    n_images = sum(len(album.pictures(clip)) for clip in range(len(album.names)) if clip not in run.bad)
    return {
        **describe_parts(album.catalogue),
        "images": f"{n_images:,} {album.style.format.upper()}",
        **describe_labels(album, run.bad),
        "batches": f"{len(run.computed):,} rendered, {album.n_tasks - len(run.computed):,} there already",
    }


def _describe_use(album: images.Album, output: str) -> str:
    lines = [f"look at   {output}/{images.OVERVIEW}"]
    if recordings.TRAIN in album.catalogue.splits:
        folder = f"{output}/{recordings.TRAIN}"
        lines.append(f"train on  {folder}, such as with torchvision.datasets.ImageFolder({folder!r})")
    if album.base:
        lines.append(f"import    {output}/{images.MANIFESTS} into Amazon Rekognition")
    return "\n".join(lines)


def _check_plan(album: images.Album) -> int:
    from jobs.vision_check import check_plan

    return _report(check_plan(album), has_manifests=False)


def _check(output: images.AlbumOutput, run: mimii.Run) -> int:
    from jobs.vision_check import check_output

    violations = check_output(output.album, output.problems(run.records), output.objects)
    return _report(violations, has_manifests=bool(output.album.base))


def _report(violations: Sequence[images.Violation], *, has_manifests: bool) -> int:
    from jobs.vision_check import describe_check

    text = describe_check(violations, has_manifests=has_manifests)
    print(f"\n{text}", file=sys.stderr if violations else sys.stdout)
    return LIMITS_BROKEN if violations else OK


def _size(text: str) -> tuple[int, int]:
    """Read ``WxH``, for argparse."""
    match = re.fullmatch(r"(\d{1,5})x(\d{1,5})", text)
    if not match:
        msg = f"must be width x height in pixels, such as 224x224, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return int(match[1]), int(match[2])


def _s3_location(text: str) -> str:
    """Read an ``s3://`` URL, for argparse."""
    if not storage.is_remote(location(text)):
        msg = f"must be s3://bucket/prefix, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


if __name__ == "__main__":
    sys.exit(main())
