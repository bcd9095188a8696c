"""Files that vision pipelines read beside the images: manifests, class numbers, a CSV list of all images.

Manifests: Amazon Rekognition Custom Labels Developer Guide, "Importing image-level labels in manifest files".
"""

import csv
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mimii.images.album import Album
from mimii.recordings import GOOD, LABEL_NAMES
from mimii.storage import as_unicode

IMAGES = "images.csv"
LABEL_ATTRIBUTE = "machine-state"
CLASSES = {"abnormal": 0, "normal": 1}
"""Class numbers as torchvision's ImageFolder gives them: folders in alphabetical order."""

TYPE = "groundtruth/image-classification"
_CLASSES_NOTE = (
    "ImageFolder numbers the folders in the order of the alphabet: abnormal is 0 and normal is 1, the opposite of the "
    "column 'label' in a table of features, where 0 is normal and 1 abnormal"
)
_COLUMNS = (
    *("file", "path", "channel", "clip_start_s", "machine_type", "machine_id", "snr_db", "label", "number"),
    *("split", "status", "width", "height", "start_s", "stop_s"),
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image at an ``s3://`` URL, its label, and when its recording was modified (seconds since 1970).

    `is_human` says whether people gave the label, not a detector.
    """

    url: str
    label: int
    modified: float
    is_human: bool = True


def manifest(images: Iterable[Labelled]) -> bytes:
    """Return a manifest for image classification as SageMaker Ground Truth writes it: one JSON object a line."""
    return b"".join(json.dumps(_entry(image)).encode() + b"\n" for image in images)


def classes_document() -> bytes:
    """Return the class numbers as JSON."""
    return json.dumps({"class_to_idx": CLASSES, "note": _CLASSES_NOTE}, indent=2).encode() + b"\n"


def images_document(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Return the list of all images as CSV."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def image_rows(album: Album, problems: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Yield the lines of the list: one an image, and one for each clip that has none."""
    catalogue = album.catalogue
    for index, clip in enumerate(catalogue.clips):
        who = clip.identity
        common = {
            "path": as_unicode(clip.path),
            "channel": clip.channel,
            "clip_start_s": repr(clip.start_s),
            "machine_type": who.machine_type,
            "machine_id": who.machine_id,
            "snr_db": "" if math.isnan(who.snr_db) else f"{who.snr_db:g}",
            "label": LABEL_NAMES[who.label],
            "number": "" if who.number < 0 else who.number,
            "split": catalogue.splits[index],
            "status": problems[index] or GOOD,
        }
        if problems[index]:
            yield common
            continue
        for picture in album.pictures(index):
            width, height = album.size(picture)
            start_s, stop_s = album.times(index, picture.start, picture.stop)
            shown = {"label": LABEL_NAMES[picture.label], "width": width, "height": height}
            yield {"file": picture.key, **common, **shown, "start_s": f"{start_s:.3f}", "stop_s": f"{stop_s:.3f}"}


def _entry(image: Labelled) -> dict[str, Any]:
    name = LABEL_NAMES[image.label]
    created = datetime.fromtimestamp(image.modified, UTC).replace(tzinfo=None)  # the format has no time zone
    return {
        "source-ref": image.url,
        LABEL_ATTRIBUTE: CLASSES[name],
        f"{LABEL_ATTRIBUTE}-metadata": {
            "confidence": 1,
            "job-name": f"labeling-job/{LABEL_ATTRIBUTE}",
            "class-name": name,
            "human-annotated": "yes" if image.is_human else "no",
            "creation-date": created.isoformat(timespec="milliseconds"),
            "type": TYPE,
        },
    }
