"""The arrays of a table: which there are, and all but those of the rows in memory."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec

SCHEMA: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "features": (("row", "feature"), "float32"),
        "row_clip": (("row",), "int32"),
        "path": (("clip",), "string"),
        "machine_type": (("clip",), "string"),
        "machine_id": (("clip",), "string"),
        "number": (("clip",), "int32"),
        "snr_db": (("clip",), "float32"),
        "label": (("clip",), "int8"),
        "split": (("clip",), "string"),
        "first_row": (("clip",), "int64"),
        "n_rows": (("clip",), "int32"),
        "status": (("clip",), "string"),
        "mel_mean": (("clip", "mel"), "float32"),
        "mel_std": (("clip", "mel"), "float32"),
        "mel_max": (("clip", "mel"), "float32"),
        "feature_mean": (("feature",), "float64"),
        "feature_std": (("feature",), "float64"),
        "mel_frequency": (("mel",), "float64"),
    }
)
"""The arrays of a table: dimensions and data type of each, by name."""

MEL_STATISTICS = ("mel_mean", "mel_std", "mel_max")
"""The arrays of statistics of each clip, in the order in which tasks write them."""

COLUMNS = tuple(name for name, (sizes, _) in SCHEMA.items() if "row" not in sizes and name not in MEL_STATISTICS)
"""The arrays that are small: one value a clip, feature or mel band."""

CLIPS_A_CHUNK = 1 << 14
"""Clips in a chunk of a column: the same for all tables, so that one that grows stays readable meanwhile."""

MEL_CHUNKS = "mel_chunks"
"""The attribute that says what each chunk of the mel statistics was collected from."""

DIGESTS = "column_digests"
"""The attribute that holds the digests of the columns of a finished store, by name."""


@dataclass(frozen=True, slots=True)
class Columns:
    """All of a table but its rows; docs/store.md says what each column is.

    Attributes
    ----------
    attributes : mapping
        Of the group.
    path, machine_type, machine_id, split, status : ndarray of str, shape (n_clips,)
        What each clip is.
    number : ndarray of int32, shape (n_clips,)
        The clip's number; -1 where unknown.
    snr_db : ndarray of float32, shape (n_clips,)
        dB; NaN where unknown.
    label : ndarray of int8, shape (n_clips,)
        0 normal, 1 abnormal, -1 unknown.
    first_row : ndarray of int64, shape (n_clips,)
        Each clip's first row.
    n_rows : ndarray of int32, shape (n_clips,)
        How many rows each clip has.
    feature_mean, feature_std : ndarray of float64, shape (n_features,)
        Over the rows for training.

    """

    attributes: Mapping[str, Any]
    path: NDArray[Any]
    machine_type: NDArray[Any]
    machine_id: NDArray[Any]
    split: NDArray[Any]
    status: NDArray[Any]
    number: NDArray[np.int32]
    snr_db: NDArray[np.float32]
    label: NDArray[np.int8]
    first_row: NDArray[np.int64]
    n_rows: NDArray[np.int32]
    feature_mean: NDArray[np.float64]
    feature_std: NDArray[np.float64]

    @property
    def spec(self) -> FeatureSpec:
        """What the rows are."""
        return FeatureSpec(**self.attributes["spec"])

    @property
    def shard_rows(self) -> int:
        """Rows in a shard."""
        return int(self.attributes["shard_rows"])


def digest_column(values: NDArray[Any]) -> str:
    """Digest the values of an array: the same for all chunks and codecs that they may be stored with."""
    is_number = values.dtype.kind in "iuf"
    data = values.astype(values.dtype.newbyteorder("<")).tobytes() if is_number else "\0".join(values).encode()
    return hashlib.sha256(data).hexdigest()[:16]
