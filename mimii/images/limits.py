"""Limits of Amazon Rekognition Custom Labels on images, data sets and manifests: what exceeds them, what to do then.

Source: its Developer Guide, "Guidelines and quotas" and "Validation rules for manifest files".
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from mimii.images.manifests import LABEL_ATTRIBUTE, TYPE
from mimii.recordings import TEST, TRAIN
from mimii.storage import is_remote, numbered, split_url

FORMATS = ("PNG", "JPEG")
LEAST_SIDE, MOST_SIDE = 64, 4096
MOST_ASPECT = 20
MOST_BYTES = 15 << 20
MOST_IMAGES = 250_000
MOST_TEST_IMAGES_A_LABEL = 1000
MOST_MANIFEST_BYTES = 1 << 30

_TO_LABEL = "add recordings with the other label, in folders named normal and abnormal, or in a --list with labels"
_TO_SPLIT = (
    "pass another --split-seed or --train-fraction, or more recordings; a split that a list or the file names give "
    "does not "
    "change"
)


@dataclass(frozen=True, slots=True)
class Image:
    """What is checked of an image.

    Attributes
    ----------
    label, split : str
        ``normal`` or ``abnormal``, ``train`` or ``test``; empty where unknown.
    width, height : int
        Pixels.
    size : int
        Bytes of the file; 0 where it is not written yet.
    format : str
        As Pillow names it, such as ``PNG``.

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
    """A limit that is exceeded, with what to do, and which images or lines exceed it; none where all together do."""

    limit: str
    breakers: tuple[str, ...] = ()


def check_images(images: Sequence[Image]) -> list[Violation]:
    """Check each image: format, width and height, aspect ratio, bytes."""
    broken: dict[str, list[str]] = defaultdict(list)
    for image in images:
        for limit in _broken(image):
            broken[limit].append(image.name)
    return _violations(broken)


def check_sets(images: Sequence[Image]) -> list[Violation]:
    """Check the images for training and for testing as data sets: both labels, not too many images."""
    sets: dict[str, list[str]] = defaultdict(list)
    for image in images:
        if image.label:
            sets[image.split].append(image.label)
    training = TRAIN if TRAIN in sets or TEST in sets else ""
    has_both = len({label for labels in sets.values() for label in labels}) > 1
    advice = _TO_SPLIT if has_both else _TO_LABEL
    return [*_check_labels(training or "all", sets[training], advice), *_check_counts(sets)]


def check_manifests(manifests: Mapping[str, bytes], urls: Iterable[str]) -> list[Violation]:
    """Check manifests by split: their format, that each lists images of ``urls``, and none twice."""
    broken: dict[str, list[str]] = defaultdict(list)
    entries = [entry for split, text in manifests.items() for entry in _entries(split, text, broken)]
    lines: dict[str, list[str]] = defaultdict(list)
    for line, url in entries:
        lines[url].append(line)
    known = set(urls)
    buckets = Counter(split_url(url)[0] for url in lines)
    return _violations(
        broken
        | {
            "a source-ref where there is no image": [f"{line}: {url}" for line, url in entries if url not in known],
            "an image that is listed more than once, or in train and in test": [
                f"{url}: {', '.join(where)}" for url, where in lines.items() if len(where) > 1
            ],
            "images in more than one bucket": [
                f"{bucket}: {numbered(n, 'image')}" for bucket, n in buckets.items() if len(buckets) > 1
            ],
        }
    )


def _violations(broken: Mapping[str, Sequence[str]]) -> list[Violation]:
    return [Violation(limit, tuple(breakers)) for limit, breakers in broken.items() if breakers]


def _broken(image: Image) -> list[str]:
    """Return the limits that an image exceeds, each with what to do."""
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


def _check_labels(name: str, labels: Sequence[str], advice: str) -> Iterator[Violation]:
    counts = Counter(labels)
    if len(counts) < 2:
        found = ", ".join(f"{count:,} {label}" for label, count in counts.items()) or "none with a label"
        yield Violation(f"{name} needs images of both labels, and has {found}: {advice}")


def _check_counts(sets: Mapping[str, Sequence[str]]) -> Iterator[Violation]:
    for split, labels in sets.items():
        if len(labels) > MOST_IMAGES:
            yield Violation(
                f"{split or 'all'} has {numbered(len(labels), 'image')}, at most {MOST_IMAGES:,}: render fewer sources"
            )
    for label, count in Counter(sets.get(TEST, ())).items():
        if count > MOST_TEST_IMAGES_A_LABEL:
            yield Violation(
                f"test has {numbered(count, f'{label} image')}, at most {MOST_TEST_IMAGES_A_LABEL:,} a label: pass a "
                "larger --train-fraction, or render fewer sources, such as one SNR"
            )


def _entries(split: str, text: bytes, broken: dict[str, list[str]]) -> Iterator[tuple[str, str]]:
    """Yield line and source-ref of each valid entry; add the others to ``broken``."""
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
    """Return what is wrong with a line of a manifest; empty where nothing is."""
    if not line.strip():
        return "a blank line"
    try:
        entry = json.loads(line)
        metadata = entry[f"{LABEL_ATTRIBUTE}-metadata"]
        problems = {
            "a source-ref that is not s3://bucket/key": not is_remote(entry["source-ref"])
            or not all(split_url(entry["source-ref"])),
            f"a {LABEL_ATTRIBUTE} that is no number": not isinstance(entry[LABEL_ATTRIBUTE], int),
            "metadata without a class-name": not metadata["class-name"],
            "a confidence that is not 0 to 1": not 0 <= metadata["confidence"] <= 1,
            "human-annotated that is not yes or no": metadata["human-annotated"] not in ("yes", "no"),
            f"a type that is not {TYPE}": metadata["type"] != TYPE,
            "a creation-date that is not as 2020-03-06T17:46:39.176": not _is_date(metadata["creation-date"]),
        }
    except (ValueError, KeyError, TypeError, AttributeError):
        return f"a line that is not a JSON object with source-ref, {LABEL_ATTRIBUTE} and {LABEL_ATTRIBUTE}-metadata"
    return next((problem for problem, is_wrong in problems.items() if is_wrong), "")


def _is_date(text: str) -> bool:
    try:
        return "T" in text and datetime.fromisoformat(text).tzinfo is None
    except ValueError:
        return False
