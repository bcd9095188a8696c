"""Each limit of a vision service: images at the limit pass, images beyond it are named, with what to do."""

import json

import pytest

from mimii.images import limits
from mimii.images.limits import Image, Violation, check_images, check_manifests, check_sets
from mimii.images.manifests import Labelled, manifest

GOOD = Image("train/normal/a.png", "normal", "train", 313, 64, 14_000, "PNG")


def image(**how):
    values = {name: getattr(GOOD, name) for name in Image.__slots__}
    return Image(**(values | how))


@pytest.mark.parametrize(
    "how",
    [
        {"width": 64},
        {"width": 1280},
        {"width": 4096, "height": 205},
        {"height": 4096},
        {"size": 15 << 20},
        {"format": "JPEG"},
    ],
    ids=str,
)
def test_an_image_at_a_limit_passes(how):
    assert check_images([image(**how)]) == []


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"format": "GIF"}, "not PNG or JPEG"),
        ({"height": 63}, "less than 64 pixels high: pass --n-mels 64, or --size"),
        ({"width": 63}, "less than 64 pixels wide: pass a smaller --hop-length, or --size"),
        ({"width": 4097, "height": 500}, "more than 4096 pixels wide: pass --window 10"),
        ({"height": 4097}, "more than 4096 pixels high: pass fewer --n-mels"),
        ({"width": 1281}, "one side more than 20 times the other: pass --window 10"),
        ({"width": 64, "height": 1281}, "one side more than 20 times the other"),
        ({"size": (15 << 20) + 1}, "more than 15 MB: pass --format jpeg"),
    ],
    ids=str,
)
def test_an_image_beyond_a_limit_is_named_with_what_to_do(how, message):
    broken = image(name="test/normal/broken.png", **how)
    [violation] = check_images([GOOD, broken, GOOD])
    assert violation.limit.startswith(message)
    assert violation.breakers == ("test/normal/broken.png",)


def test_an_image_beyond_three_limits_is_named_for_each():
    assert len(check_images([image(width=5000, height=32)])) == 3


def images_of(**counts):
    """Return images by split and label: ``train_normal=3``."""
    return [
        image(name=f"{name}/{index}", split=name.partition("_")[0], label=name.partition("_")[2])
        for name, count in counts.items()
        for index in range(count)
    ]


@pytest.mark.parametrize(
    "counts",
    [
        {"train_normal": 1, "train_abnormal": 1},
        {"train_normal": 3, "train_abnormal": 1, "test_normal": 1000, "test_abnormal": 1000},
        {"_normal": 1, "_abnormal": 1},
    ],
    ids=str,
)
def test_sets_at_the_limits_pass(counts):
    assert check_sets([*images_of(**counts), image(label="", split="")]) == []


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        ({"train_normal": 5, "test_abnormal": 5}, "train needs images of both labels, and has 5 normal: pass"),
        ({"test_normal": 5, "test_abnormal": 5}, "train needs images of both labels, and has none with a label: pass"),
        ({"_normal": 5}, "all needs images of both labels, and has 5 normal: add recordings with the other label"),
        ({}, "all needs images of both labels, and has none with a label: add recordings"),
        (
            {"train_normal": 1, "train_abnormal": 1, "test_normal": 1001},
            "test has 1,001 normal images, at most 1,000 a label:",
        ),
    ],
    ids=str,
)
def test_sets_beyond_a_limit_are_named_with_what_to_do(counts, message):
    [violation] = check_sets(images_of(**counts))
    assert violation.limit.startswith(message)
    assert violation.breakers == ()


def test_a_set_of_too_many_images_is_named(monkeypatch):
    monkeypatch.setattr(limits, "MOST_IMAGES", 4)
    assert check_sets(images_of(train_normal=3, train_abnormal=1)) == []
    [violation] = check_sets(images_of(train_normal=3, train_abnormal=2))
    assert violation.limit.startswith("train has 5 images, at most 4:")


URLS = [f"s3://factory/images/{name}" for name in ("a.png", "b.png", "c.png", "d.png")]
TRAIN = manifest([Labelled(URLS[0], 0, 1e9), Labelled(URLS[1], 1, 1e9)])
TEST = manifest([Labelled(URLS[2], 0, 1e9), Labelled(URLS[3], 1, 1e9)])


def check(train=TRAIN, test=TEST, urls=URLS):
    return check_manifests({"train": train, "test": test}, urls)


def test_manifests_as_written_follow_the_rules():
    assert check() == []
    assert check_manifests({}, URLS) == []


def changed(line=0, **how):
    """Return the training manifest with some values of a line changed, or removed where None."""
    lines = [json.loads(text) for text in TRAIN.splitlines()]
    for name, value in how.items():
        entry = lines[line]["machine-state-metadata"] if name in lines[line]["machine-state-metadata"] else lines[line]
        entry[name] = value
        if value is None:
            del entry[name]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


@pytest.mark.parametrize(
    ("train", "message"),
    [
        (TRAIN.replace(b"\n", b"\n\n", 1), "a blank line"),
        (TRAIN + b"\n", "a blank line"),
        (TRAIN + b"   \n", "a blank line"),
        (TRAIN + b"{]\n", "a line that is not a JSON object"),
        (TRAIN + b"[1]\n", "a line that is not a JSON object"),
        (TRAIN + b"\xff\n", "a line that is not a JSON object"),
        (changed(**{"source-ref": None}), "a line that is not a JSON object with source-ref"),
        (changed(**{"machine-state-metadata": None}), "a line that is not a JSON object with"),
        (changed(**{"source-ref": "a.png"}), "a source-ref that is not s3://bucket/key"),
        (changed(**{"source-ref": "s3://factory/"}), "a source-ref that is not s3://bucket/key"),
        (changed(**{"source-ref": "s3://factory/images/z.png"}), "a source-ref where there is no image"),
        (changed(**{"machine-state": "normal"}), "a machine-state that is no number"),
        (changed(**{"class-name": ""}), "metadata without a class-name"),
        (changed(confidence=2), "a confidence that is not 0 to 1"),
        (changed(**{"human-annotated": "perhaps"}), "human-annotated that is not yes or no"),
        (changed(type="groundtruth/object-detection"), "a type that is not groundtruth/image-classification"),
        (changed(**{"creation-date": "yesterday"}), "a creation-date that is not as"),
        (changed(**{"creation-date": "2020-03-06T17:46:39+02:00"}), "a creation-date that is not as"),
        (TRAIN + TRAIN.splitlines(keepends=True)[0], "an image that is listed more than once"),
        (TRAIN + TEST.splitlines(keepends=True)[1], "an image that is listed more than once, or in train and in test"),
        (b"", "an empty manifest"),
    ],
)
def test_a_manifest_that_breaks_a_rule_is_named_with_its_line(train, message):
    violations = check(train)
    assert [violation.limit[: len(message)] for violation in violations] == [message]
    assert all("manifests/train.manifest" in breaker for breaker in violations[0].breakers)


def test_the_line_that_breaks_a_rule_is_counted_from_1():
    assert check(TRAIN.replace(b"\n", b"\n\n", 1)) == [Violation("a blank line", ("manifests/train.manifest, line 2",))]


def test_images_in_two_buckets_are_named():
    urls = ["s3://other/images/c.png", *URLS]
    [violation] = check(test=manifest([Labelled(urls[0], 0, 1e9)]), urls=urls)
    assert violation == Violation("images in more than one bucket", ("factory: 2 images", "other: 1 image"))


def test_a_manifest_of_too_many_lines_is_named(monkeypatch):
    monkeypatch.setattr(limits, "MOST_IMAGES", 1)
    assert {violation.limit for violation in check()} == {"more than 1 lines or 1 GB"}
