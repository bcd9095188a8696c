"""The arrays of a table: which there are, and all but those of the rows in memory."""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.recordings import Clip, Identity, as_number

SCHEMA: Mapping[str, tuple[tuple[str, ...], str]] = MappingProxyType(
    {
        "features": (("row", "feature"), "float32"),
        "row_clip": (("row",), "int32"),
        "path": (("clip",), "string"),
        "channel": (("clip",), "int16"),
        "start_s": (("clip",), "float64"),
        "duration_s": (("clip",), "float64"),
        "machine_type": (("clip",), "string"),
        "machine_id": (("clip",), "string"),
        "number": (("clip",), "int32"),
        "snr_db": (("clip",), "float32"),
        "domain": (("clip",), "string"),
        "attributes": (("clip",), "string"),
        "recorded_at": (("clip",), "float64"),
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
"""The arrays of a table: dimensions and data type of each, by name. Those of a list come on top, see `schema_of`."""

OTHER_COLUMNS = "other_columns"
"""The attribute that has the columns of lists and layouts, with the type of each."""

ARRAY_ATTRIBUTES: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "features": {"units": "dB"},
        **{name: {"units": "dB"} for name in ("mel_mean", "mel_std", "mel_max")},
        "recorded_at": {"units": "seconds since 1970-01-01", "calendar": "proleptic_gregorian"},
    }
)
"""What else is said of an array, as xarray reads it: times become datetime64."""

MEL_STATISTICS = ("mel_mean", "mel_std", "mel_max")
"""The arrays of statistics of each clip, in the order in which tasks write them."""

COLUMNS = tuple(name for name, (sizes, _) in SCHEMA.items() if "row" not in sizes and name not in MEL_STATISTICS)
"""The arrays that are small: one value a clip, feature or mel band; not those of a list."""


def schema_of(dtype: str, others: Mapping[str, str]) -> dict[str, tuple[tuple[str, ...], str]]:
    """Return the arrays of a table with features of this type, and with other columns by name."""
    of_lists = {name: (("clip",), data_type) for name, data_type in others.items()}
    return {**SCHEMA, "features": (SCHEMA["features"][0], dtype), **of_lists}


def choose_types(columns: Iterable[Iterable[tuple[str, str]]]) -> dict[str, str]:
    """Return the type of each column of lists: float64 where all of its values are numbers, else string."""
    types: dict[str, str] = {}
    for name, text in chain.from_iterable(columns):
        is_string = types.get(name) == "string" or (text and as_number(text) is None)
        types[name] = "string" if is_string else "float64"
    return dict(sorted(types.items()))


def with_plain_columns(clips: Iterable[Clip], types: Mapping[str, str]) -> tuple[Clip, ...]:
    """Return clips whose columns of lists are as when they are read back: ``5`` is ``5.0``, and nothing is empty."""
    return tuple(
        replace(clip, identity=replace(clip.identity, columns=plain_columns(clip.identity, types)))
        if clip.identity.columns
        else clip
        for clip in clips
    )


def plain_columns(who: Identity, types: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    """Return the columns of lists of one clip in this way."""
    there = ((name, text) for name, text in who.columns if text)
    return tuple((name, repr(float(text)) if types[name] == "float64" else text) for name, text in there)


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
    channel : ndarray of int16, shape (n_clips,)
        Counted from 0; -1 for the mean of all.
    start_s, duration_s : ndarray of float64, shape (n_clips,)
        Which segment of its recording a clip is; NaN where unknown.
    number : ndarray of int32, shape (n_clips,)
        The clip's number; -1 where unknown.
    snr_db : ndarray of float32, shape (n_clips,)
        dB; NaN where unknown.
    domain : ndarray of str, shape (n_clips,)
        ``source``, ``target``, or empty.
    recorded_at : ndarray of float64, shape (n_clips,)
        Seconds since 1970-01-01; NaN where unknown.
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
    channel: NDArray[np.int16]
    start_s: NDArray[np.float64]
    duration_s: NDArray[np.float64]
    machine_type: NDArray[Any]
    machine_id: NDArray[Any]
    split: NDArray[Any]
    status: NDArray[Any]
    number: NDArray[np.int32]
    snr_db: NDArray[np.float32]
    domain: NDArray[Any]
    recorded_at: NDArray[np.float64]
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
    def parts(self) -> list[tuple[str, int, float]]:
        """Which part of which recording each clip is: path, channel and start in s."""
        paths = map(str, self.path)
        return list(zip(paths, self.channel.tolist(), self.start_s.tolist(), strict=True))

    @property
    def shard_rows(self) -> int:
        """Rows in a shard."""
        return int(self.attributes["shard_rows"])


def digest_column(values: NDArray[Any]) -> str:
    """Digest the values of an array: the same for all chunks and codecs that they may be stored with."""
    is_number = values.dtype.kind in "iuf"
    data = values.astype(values.dtype.newbyteorder("<")).tobytes() if is_number else "\0".join(values).encode()
    return hashlib.sha256(data).hexdigest()[:16]
