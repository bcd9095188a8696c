"""What a vision service does not take: images, sets of images and manifests beyond its limits, and what to do then.

References
----------
Amazon Rekognition Custom Labels Developer Guide, "Guidelines and quotas" and "Validation rules for manifest files".

"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mimii.images.manifests import LABEL_ATTRIBUTE, TYPE
from mimii.recordings import TEST, TRAIN
from mimii.storage import is_remote, split_url

FORMATS = ("PNG", "JPEG")
LEAST_SIDE, MOST_SIDE = 64, 4096
MOST_ASPECT = 20
MOST_BYTES = 15 << 20
MOST_IMAGES = 250_000
MOST_TEST_IMAGES_A_LABEL = 1000
MOST_MANIFEST_BYTES = 1 << 30


@dataclass(frozen=True, slots=True)
class Image:
    """What a check knows of an image.

    Attributes
    ----------
    name : str
        Its file.
    label : str
        ``normal`` or ``abnormal``, or empty.
    split : str
        ``train``, ``test`` or empty.
    width, height : int
        Pixels.
    size : int
        Bytes of the file; 0 where it is not there yet.
    format : str
        ``PNG``, ``JPEG`` or another; empty where it is no image at all.

    """

    name: str
    label: str
    split: str
    width: int
    height: int
    size: int
    format: str


@dataclass(frozen=True, slots=True)
class Violation:
    """A limit that is broken.

    Attributes
    ----------
    limit : str
        Which one, and what to do.
    breakers : tuple of str
        Which images or lines break it; empty where all do together.

    """

    limit: str
    breakers: tuple[str, ...] = ()


def check_images(images: Sequence[Image]) -> list[Violation]:
    """Hold each image against the limits of a single one: format, pixels a side, ratio of the sides, bytes."""
    broken: dict[str, list[str]] = defaultdict(list)
    for image in images:
        for limit in _broken(image):
            broken[limit].append(image.name)
    return [Violation(limit, tuple(names)) for limit, names in broken.items()]


def check_sets(images: Sequence[Image]) -> list[Violation]:
    """Hold the images for training and for testing against the limits of a set: labels, and how many there are."""
    sets: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.label:
            sets[image.split].append(image.label)
    training = TRAIN if TRAIN in sets or TEST in sets else ""
    return [*_check_labels(training or "all", sets[training]), *_check_counts(sets)]


def check_manifests(manifests: Mapping[str, bytes], urls: Iterable[str]) -> list[Violation]:
    """Hold manifests against the rules of their format, and against each other."""
    broken: dict[str, list[str]] = defaultdict(list)
    listed = {split: list(_entries(split, text, broken)) for split, text in manifests.items()}
    there = set(urls)
    where: dict[str, list[str]] = defaultdict(list)
    for line, url in (entry for entries in listed.values() for entry in entries):
        where[url].append(line)
        if url not in there:
            broken["a source-ref where there is no image"].append(f"{line}: {url}")
    for url, lines in where.items():
        if len(lines) > 1:
            broken["an image that is listed more than once, or in train and in test"].append(
                f"{url}: {', '.join(lines)}"
            )
    buckets = Counter(split_url(url)[0] for url in where)
    if len(buckets) > 1:
        broken["images in more than one bucket"] += [f"{bucket}: {n:,} images" for bucket, n in buckets.items()]
    return [Violation(limit, tuple(breakers)) for limit, breakers in broken.items()]


def _broken(image: Image) -> list[str]:
    """Say which limits an image breaks, and what to do."""
    short, long = sorted((image.width, image.height))
    cut = "--window 10 for an image each 10 s, or --size 224x224"
    limits = {
        "not PNG or JPEG: render it again, with --overwrite": image.format not in FORMATS,
        f"less than {LEAST_SIDE} pixels high: pass --n-mels {LEAST_SIDE}, or --size 224x224": image.height < LEAST_SIDE,
        f"less than {LEAST_SIDE} pixels wide: pass a smaller --hop-length, or --size 224x224": image.width < LEAST_SIDE,
        f"more than {MOST_SIDE} pixels high: pass fewer --n-mels, or --size 224x224": image.height > MOST_SIDE,
        f"more than {MOST_SIDE} pixels wide: pass {cut}": image.width > MOST_SIDE,
        f"one side more than {MOST_ASPECT} times the other: pass {cut}": long > MOST_ASPECT * short,
        f"more than {MOST_BYTES >> 20} MB: pass --format jpeg, or a smaller --size": image.size > MOST_BYTES,
    }
    return [limit for limit, is_broken in limits.items() if is_broken]


def _check_labels(name: str, labels: Sequence[str]) -> Iterator[Violation]:
    counts = Counter(labels)
    if len(counts) < 2:
        there = ", ".join(f"{count:,} {label}" for label, count in counts.items()) or "no image"
        yield Violation(
            f"{name} needs images of both labels, and has {there}: pass another --seed or --train-fraction, or more "
            "recordings; a split that the recordings bring along is kept"
        )


def _check_counts(sets: Mapping[str, Sequence[str]]) -> Iterator[Violation]:
    for split, labels in sets.items():
        if len(labels) > MOST_IMAGES:
            yield Violation(
                f"{split or 'all'} has {len(labels):,} images, and {MOST_IMAGES:,} are admitted: render fewer sources"
            )
    for label, count in Counter(sets.get(TEST, ())).items():
        if count > MOST_TEST_IMAGES_A_LABEL:
            yield Violation(
                f"test has {count:,} {label} images, and {MOST_TEST_IMAGES_A_LABEL:,} a label are admitted: pass a "
                "larger --train-fraction, or render fewer sources, such as one SNR"
            )


def _entries(split: str, text: bytes, broken: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield line and source-ref of what is well-formed, and note what is not."""
    name = f"manifests/{split}.manifest"
    lines = text.removesuffix(b"\n").split(b"\n") if text else []
    if not lines:
        broken["an empty manifest"].append(name)
    if len(lines) > MOST_IMAGES or len(text) > MOST_MANIFEST_BYTES:
        broken[f"more than {MOST_IMAGES:,} lines or 1 GB"].append(f"{name}: {len(lines):,} lines")
    for number, line in enumerate(lines, 1):
        where = f"{name}, line {number}"
        if problem := _problem(line):
            broken[problem].append(where)
        else:
            yield where, json.loads(line)["source-ref"]


def _problem(line: bytes) -> str:
    """Say what is wrong with a line of a manifest."""
    if not line.strip():
        return "a blank line"
    try:
        entry = json.loads(line)
        about = entry[f"{LABEL_ATTRIBUTE}-metadata"]
        wrongs = {
            "a source-ref that is not s3://bucket/key": not is_remote(entry["source-ref"])
            or not all(split_url(entry["source-ref"])),
            f"a {LABEL_ATTRIBUTE} that is no number": not isinstance(entry[LABEL_ATTRIBUTE], int),
            "metadata without a class-name": not about["class-name"],
            "a confidence that is not 0 to 1": not 0 <= about["confidence"] <= 1,
            "human-annotated that is not yes or no": about["human-annotated"] not in ("yes", "no"),
            f"a type that is not {TYPE}": about["type"] != TYPE,
            "a creation-date that is not as 2020-03-06T17:46:39.176": not _is_date(about["creation-date"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"a line that is not a JSON object with source-ref, {LABEL_ATTRIBUTE} and {LABEL_ATTRIBUTE}-metadata"
    return next((wrong for wrong, is_so in wrongs.items() if is_so), "")


def _is_date(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False
