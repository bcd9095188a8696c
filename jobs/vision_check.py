"""``--check`` of `jobs.render`: images and manifests against the limits of a vision service."""

from collections.abc import Iterator, Sequence
from itertools import islice

from jobs.words import numbered
from mimii.images import (
    MANIFESTS,
    Album,
    Image,
    Picture,
    Violation,
    check_images,
    check_manifests,
    check_sets,
    image_url,
    measure_image,
)
from mimii.recordings import LABEL_NAMES, UNKNOWN
from mimii.storage import Objects, printable

_IMAGES_AT_ONCE = 256
_MOST_BREAKERS = 10


def check_plan(album: Album) -> list[Violation]:
    """Check the images that there would be, if all recordings turn out to be good."""
    images = [
        _image(album, clip, picture, (album.style.format.upper(), *album.size(picture)), 0)
        for clip, picture in _pictures(album, album.catalogue.problems)
    ]
    return [*check_images(images), *check_sets(images)]


def check_output(album: Album, problems: Sequence[str], output: Objects) -> list[Violation]:
    """Read and check all images and manifests at an output."""
    pictures, images, unusable = _pictures(album, problems), list[Image](), list[str]()
    while batch := list(islice(pictures, _IMAGES_AT_ONCE)):
        files = output.get_all([picture.key for _, picture in batch])
        for clip, picture in batch:
            data = files.get(picture.key, b"")
            try:
                images.append(_image(album, clip, picture, measure_image(data), len(data)))
            except ValueError as error:
                unusable.append(f"{picture.key}: {error}")
    keys = sorted(output.sizes(MANIFESTS))
    manifests = {key[len(MANIFESTS) + 1 :].partition(".")[0]: data for key, data in output.get_all(keys).items()}
    urls = (image_url(album, image.name) for image in images)
    missing = "an image that is missing or damaged: render it again, with --overwrite"
    broken = [Violation(missing, tuple(unusable))] if unusable else []
    return [*broken, *check_images(images), *check_sets(images), *check_manifests(manifests, urls)]


def describe_check(violations: Sequence[Violation], *, has_manifests: bool) -> str:
    """Say which limits are broken, and by what."""
    if not violations:
        what = "images and manifests keep" if has_manifests else "images keep"
        return f"check: the {what} to the limits of Amazon Rekognition Custom Labels"
    lines = ["check: Amazon Rekognition Custom Labels would not take all of this"]
    for violation in violations:
        count = f"{len(violation.breakers):,}: " if violation.breakers else ""
        lines.append(f"  {count}{printable(violation.limit)}")
        lines += [f"      {printable(breaker)}" for breaker in violation.breakers[:_MOST_BREAKERS]]
        if len(violation.breakers) > _MOST_BREAKERS:
            lines.append(f"      and {numbered(len(violation.breakers) - _MOST_BREAKERS, 'other')}")
    return "\n".join(lines)


def _pictures(album: Album, problems: Sequence[str]) -> Iterator[tuple[int, Picture]]:
    for clip, problem in enumerate(problems):
        if not problem:
            for picture in album.pictures(clip):
                yield clip, picture


def _image(album: Album, clip: int, picture: Picture, measured: tuple[str, int, int], size: int) -> Image:
    name = "" if picture.label == UNKNOWN else LABEL_NAMES[picture.label]
    kind, width, height = measured
    return Image(picture.key, name, album.catalogue.splits[clip], width, height, size, kind)
