"""Turn machine-sound recordings into spectrogram images for an image classifier.

Each recording becomes an image of its log-mel spectrogram, in folders that torchvision, Keras and Amazon Rekognition
take as they are: train/normal, train/abnormal, test/normal, test/abnormal. Stop this command whenever you like, in
whatever way; run it again and it does what is missing.
"""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence

from jobs.options import (
    add_run_options,
    add_source_options,
    add_spec_options,
    add_split_options,
    add_storage_options,
    location,
    read_options_of,
)
from jobs.report import Run
from jobs.run import EXIT_STATUS, OK, Job, run_command, run_job
from jobs.survey import source_names
from jobs.vision_check import check_output, check_plan, describe_check
from mimii.engine import Record, read_records
from mimii.images import (
    Album,
    Style,
    Violation,
    album_store,
    colour_table,
    make_album,
    make_contact_sheet,
    render_batch,
    render_task,
)
from mimii.recordings import TRAIN, Catalogue
from mimii.storage import Objects, is_remote

LIMITS_BROKEN = 4
DEFAULT_OUTPUT = "data/processed/images"
_DEFAULT_COLORMAP = "viridis"
_EPILOG = f"""
{EXIT_STATUS} With --check: 4 a limit is broken.

examples:
  python -m jobs.render                                  data/raw to data/processed/images
  python -m jobs.render data/raw/6_dB_fan.zip --style colormap --cmap magma --size 224x224
  python -m jobs.render recordings --window 10 --output my_images --check
  python -m jobs.render --output s3://bucket/images      with manifests for Amazon Rekognition
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
    add_split_options(add_source_options(parser), "stratified")
    add_spec_options(parser)
    parser.set_defaults(frames=1)  # an image stacks none
    _add_style_options(parser)
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
        help="in the end, hold images and manifests against the limits of Amazon Rekognition Custom Labels, and say "
        "which image breaks which; with --dry-run, before there are any",
    )
    add_run_options(parser)
    add_storage_options(parser)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.split == "baseline":
        parser.error(
            "argument --split: baseline trains on normal sound alone, and a classifier has to see both: take "
            "stratified, or none"
        )
    if options.cmap and options.style != "colormap":
        parser.error("argument --cmap: needs --style colormap")
    return run_command(_JOB.name, options, lambda: run_job(_JOB, options))


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
        "--size", type=_size, metavar="WxH", help="in pixels, such as 224x224; default: a pixel each frame and mel band"
    )
    group.add_argument(
        "--resample",
        choices=("nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"),
        default="bilinear",
        help="the filter with which to come to --size; default: %(default)s",
    )
    group.add_argument(
        "--window", type=float, metavar="S", help="cut long recordings: an image each S seconds; default: one a clip"
    )
    group.add_argument("--format", choices=("png", "jpeg"), default="png", help="of the files; default: png")


def _plan(options: argparse.Namespace, catalogue: Catalogue) -> Album:
    name = (options.cmap or _DEFAULT_COLORMAP) if options.style == "colormap" else "gray"
    colours = colour_table(name) if options.style == "colormap" else b""
    db_range = tuple(options.db_range) if options.db_range else None
    style = Style(name, colours, db_range, options.size, options.resample, options.format)
    base = options.manifest_base or (options.output if is_remote(options.output) else "")
    return make_album(catalogue, style, options.window, base)


def _finish(options: argparse.Namespace, output: Objects, album: Album) -> dict[int, Record]:
    problems = album_store.problems_of(album, read_records(output, album))
    overview = make_contact_sheet(album, problems, read_options_of(options))
    return album_store.finish(output, album, source_names(options), overview)


def _plan_lines(album: Album) -> dict[str, str]:
    spec, style = album.catalogue.spec, album.style
    images = [picture for clip in range(len(album.names)) for picture in album.pictures(clip)]
    sizes = Counter(map(album.size, images)).most_common(1)
    size = f", most of them {sizes[0][0][0]} x {sizes[0][0][1]} pixels" if sizes else ""
    shown = {name: value for name, value in spec.as_dict().items() if name != "frames"}
    return {
        "spectrogram": ", ".join(f"{name} {value}" for name, value in shown.items()),
        "images": f"{len(images):,} {style.format.upper()}{size}",
        "batches": f"{album.n_tasks:,}, a task each",
    }


def _run_lines(album: Album, run: Run) -> dict[str, str]:
    n_images = sum(len(album.pictures(clip)) for clip in range(len(album.names)) if clip not in run.bad)
    return {
        "images": f"{n_images:,} {album.style.format.upper()}",
        "batches": f"{run.n_computed:,} rendered, {run.n_kept:,} there already",
    }


def _opening(album: Album, output: str) -> str:
    lines = [f"look at   {output}/{album_store.OVERVIEW}"]
    if TRAIN in album.catalogue.splits:
        folder = f"{output}/{TRAIN}"
        lines.append(f"train on  {folder}, such as with torchvision.datasets.ImageFolder({folder!r})")
    if album.base:
        lines.append(f"import    {output}/{album_store.MANIFESTS} into Amazon Rekognition")
    return "\n".join(lines)


def _check_plan(options: argparse.Namespace, album: Album) -> int:
    return _report(check_plan(album), has_manifests=False) if options.check else OK


def _check(options: argparse.Namespace, album: Album, output: Objects, done: Mapping[int, Record]) -> int:
    if not options.check:
        return OK
    violations = check_output(album, album_store.problems_of(album, done), output)
    return _report(violations, has_manifests=bool(album.base))


def _report(violations: Sequence[Violation], *, has_manifests: bool) -> int:
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
    if not is_remote(location(text)):
        msg = f"must be s3://bucket/prefix, not {text!r}"
        raise argparse.ArgumentTypeError(msg)
    return text


_JOB = Job(
    name="render",
    things="batch",
    kernel=render_batch,
    plan=_plan,
    task=render_task,
    storage=album_store,
    finish=_finish,
    plan_lines=_plan_lines,
    run_lines=_run_lines,
    opening=_opening,
    check_plan=_check_plan,
    check=_check,
)


if __name__ == "__main__":
    sys.exit(main())
