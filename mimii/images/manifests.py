"""What vision pipelines read beside the images: manifests, the numbers of the classes, a list of all images.

References
----------
Amazon Rekognition Custom Labels Developer Guide, "Importing image-level labels in manifest files".

"""

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from mimii.recordings import LABEL_NAMES

LABEL_ATTRIBUTE = "machine-state"
CLASSES = {"abnormal": 0, "normal": 1}
"""Numbers of the classes as an ImageFolder gives them, in the order of the alphabet."""

TYPE = "groundtruth/image-classification"
_CLASSES_NOTE = (
    "ImageFolder numbers the folders in the order of the alphabet: abnormal is 0 and normal is 1, the opposite of the "
    "column 'label' in a table of features, where 0 is normal and 1 abnormal"
)
_COLUMNS = (
    *("file", "path", "machine_type", "machine_id", "snr_db", "label", "number"),
    *("split", "status", "width", "height", "start_s", "stop_s"),
)


@dataclass(frozen=True, slots=True)
class Labelled:
    """An image with its label.

    Attributes
    ----------
    url : str
        ``s3://bucket/key``.
    label : int
        0 normal, 1 abnormal.
    modified : float
        When the recording was last changed, in seconds since 1970: its label is as old.

    """

    url: str
    label: int
    modified: float


def manifest(images: Iterable[Labelled]) -> bytes:
    """Write a manifest: SageMaker Ground Truth's for image classification, one JSON object a line."""
    return b"".join(json.dumps(_entry(image)).encode() + b"\n" for image in images)


def classes_document() -> bytes:
    """Write the numbers of the classes, as JSON."""
    return json.dumps({"class_to_idx": CLASSES, "note": _CLASSES_NOTE}, indent=2).encode() + b"\n"


def images_document(rows: Iterable[Mapping[str, object]]) -> bytes:
    """Write the list of all images as CSV, UTF-8."""
    text = io.StringIO()
    table = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace")


def _entry(image: Labelled) -> dict[str, Any]:
    name = LABEL_NAMES[image.label]
    created = datetime.fromtimestamp(image.modified, UTC).replace(tzinfo=None)
    return {
        "source-ref": image.url,
        LABEL_ATTRIBUTE: CLASSES[name],
        f"{LABEL_ATTRIBUTE}-metadata": {
            "confidence": 1,
            "job-name": f"labeling-job/{LABEL_ATTRIBUTE}",
            "class-name": name,
            "human-annotated": "yes",
            "creation-date": created.isoformat(timespec="milliseconds"),
            "type": TYPE,
        },
    }
