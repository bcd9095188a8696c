"""Manifests against the published example field by field, class numbers, the CSV list of images."""

import csv
import io
import json
from datetime import datetime

from mimii.images.manifests import Labelled, classes_document, images_document, manifest

PUBLISHED = {
    "source-ref": "s3://custom-labels-bucket/images/IMG_1186.png",
    "machine-state": 1,
    "machine-state-metadata": {
        "confidence": 1,
        "job-name": "labeling-job/machine-state",
        "class-name": "Sunrise",
        "human-annotated": "yes",
        "creation-date": "2020-03-06T17:46:39.176",
        "type": "groundtruth/image-classification",
    },
}
"""The example of the Developer Guide, with our attribute."""


def entries(*images):
    return [json.loads(line) for line in manifest(images).splitlines()]


def test_a_line_has_the_fields_and_types_of_the_published_example():
    [entry] = entries(Labelled("s3://bucket/a.png", 0, 1583516799.176))
    assert entry.keys() == PUBLISHED.keys()
    about, published = entry["machine-state-metadata"], PUBLISHED["machine-state-metadata"]
    assert {name: type(value) for name, value in about.items()} == {name: type(v) for name, v in published.items()}
    for name in ("confidence", "job-name", "human-annotated", "type", "creation-date"):
        assert about[name] == published[name]


def test_the_date_is_in_utc():
    [entry] = entries(Labelled("s3://bucket/a.png", 0, 86_400.0))
    assert datetime.fromisoformat(entry["machine-state-metadata"]["creation-date"]) == datetime(1970, 1, 2)  # noqa: DTZ001


def test_classes_have_the_numbers_of_an_image_folder():
    normal, abnormal = entries(Labelled("s3://b/a.png", 0, 0), Labelled("s3://b/b.png", 1, 0))
    assert (normal["machine-state"], normal["machine-state-metadata"]["class-name"]) == (1, "normal")
    assert (abnormal["machine-state"], abnormal["machine-state-metadata"]["class-name"]) == (0, "abnormal")
    classes = json.loads(classes_document())
    assert classes["class_to_idx"] == {name: index for index, name in enumerate(sorted(("normal", "abnormal")))}
    assert "opposite" in classes["note"]


def test_a_manifest_has_one_line_per_image_and_no_blank_one():
    text = manifest([Labelled(f"s3://b/{index}.png", 0, 0) for index in range(5)])
    assert len(text.splitlines()) == text.count(b"\n") == 5
    assert all(line.strip() for line in text.splitlines())
    assert manifest([]) == b""


def test_the_list_can_be_read_back_with_quotes_and_line_breaks():
    rows = [{"file": "a,b.png", "path": 'with "quotes"\nand a line', "status": "ok"}, {"path": "b", "status": "bad"}]
    found = list(csv.DictReader(io.StringIO(images_document(rows).decode(), newline="")))
    assert [(row["file"], row["path"], row["status"]) for row in found] == [
        ("a,b.png", 'with "quotes"\nand a line', "ok"),
        ("", "b", "bad"),
    ]
