"""What the metadata and the columns of a finished store say: pure functions to findings.

The shards are checked in `mimii.verification.shard_check`, the recordings in `mimii.verification.comparison`.
"""

import json
import math
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import LEASE, record_key
from mimii.features import FeatureSpec
from mimii.recordings import GOOD, LABEL_NAMES, TEST, TRAIN
from mimii.storage import PARTIAL
from mimii.table import (
    COLUMNS,
    DIGESTS,
    FEATURES,
    HEAD,
    MEL,
    MEL_STATISTICS,
    OTHER_COLUMNS,
    RECORDS,
    ROW_CLIP,
    SCHEMA,
    Layout,
    Sums,
    digest_column,
    fingerprint,
    mean_and_std,
    metadata_key,
    plan_rows,
    read_attributes,
    row_clip_key,
    schema_of,
    shard_key,
)

MOST_STATISTICS_DB = 1e-4
"""How far means and standard deviations may be from those that are computed again."""

CHECKS: Mapping[str, str] = MappingProxyType(
    {
        "finished": "store",
        "metadata": "document",
        "objects": "object",
        "columns": "column",
        "plan": "clip",
        "records": "record",
        "bytes": "object",
        "chunks": "chunk",
        "row_clip": "row",
        "status": "clip",
        "nan": "row",
        "range": "row",
        "frames": "row",
        "mel": "clip",
        "statistics": "sum",
        "recordings": "shard",
        "librosa": "clip",
        "published": "machine",
    }
)
"""All checks, in order, and what each counts."""

ALL_COLUMNS = "mel_frequency/c.0"
"""What is deleted to have all columns written again: it follows from the spec, and no recording is needed for it."""

_DERIVED = ("first_row", "feature_mean", "feature_std", "mel_frequency")
_KNOWN: Mapping[str, frozenset[Any]] = MappingProxyType(
    {"label": frozenset(LABEL_NAMES), "split": frozenset(("", TRAIN, TEST))}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is wrong.

    Attributes
    ----------
    check : str
        Which of `CHECKS` found it.
    where : str
        The key of an object, or a clip, or a machine.
    problem : str
        What is wrong, in words that follow `where`.
    shard, clip : int or None
        Which, where it is about one.
    delete : str
        The key of the object to delete so that ``jobs.featurize``, run again, fixes it; empty where none has to be.

    """

    check: str
    where: str
    problem: str
    shard: int | None = None
    clip: int | None = None
    delete: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found, or a part of it: which check, how many objects, rows or clips it covers, and findings."""

    check: str
    n: int
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a store says of itself.

    Attributes
    ----------
    attributes : mapping
        Of the group.
    consolidated : mapping of str to mapping
        The metadata of the arrays as the group has it.
    own : mapping of str to mapping
        The metadata of the arrays as they have it themselves; what is missing or not JSON is left out.

    """

    attributes: Mapping[str, Any]
    consolidated: Mapping[str, Any]
    own: Mapping[str, Any]

    @property
    def layout(self) -> Layout | None:
        """How the rows are cut up; None where the metadata does not say."""
        try:
            features = self.own[FEATURES]
            shard_rows, n_features = _chunk_shape(features)
            chunk_rows, _ = features["codecs"][0]["configuration"]["chunk_shape"]
            layout = Layout(int(n_features), int(chunk_rows), int(shard_rows), str(features["data_type"]))
        except (KeyError, IndexError, TypeError, ValueError):
            return None
        is_whole = layout.chunk_rows > 0 and layout.shard_rows > 0 and layout.shard_rows % layout.chunk_rows == 0
        return layout if is_whole else None

    @property
    def spec(self) -> FeatureSpec | None:
        """What was computed; None where the attribute is missing or wrong."""
        try:
            return FeatureSpec(**self.attributes["spec"])
        except (KeyError, TypeError, ValueError):
            return None

    @property
    def schema(self) -> Mapping[str, tuple[tuple[str, ...], str]]:
        """The arrays that the table must have: dimensions and data type of each."""
        others = self.attributes.get(OTHER_COLUMNS)
        return schema_of(self.spec.dtype if self.spec else "float32", others if isinstance(others, dict) else {})

    @property
    def columns(self) -> list[str]:
        """The names of the arrays that are small, those of lists among them."""
        return [*COLUMNS, *(name for name in self.schema if name not in SCHEMA)]

    @property
    def n_rows(self) -> int:
        """Rows of the features; 0 where the metadata does not say."""
        try:
            return int(self.own[FEATURES]["shape"][0])
        except (KeyError, IndexError, TypeError, ValueError):
            return 0


def merge(parts: Iterable[Checked]) -> dict[str, Checked]:
    """Add up the parts of each check, in the order of the checks."""
    merged: dict[str, Checked] = {}
    for part in parts:
        before = merged.get(part.check, Checked(part.check, 0))
        merged[part.check] = Checked(part.check, before.n + part.n, (*before.findings, *part.findings))
    return {name: merged[name] for name in CHECKS if name in merged}


def read_metadata(documents: Mapping[str, bytes]) -> Metadata:
    """Read the metadata of a store."""
    group = json.loads(documents[HEAD.key])
    own = {name: _parse(documents.get(metadata_key(name), b"")) for name in array_names(documents[HEAD.key])}
    consolidated = (group.get("consolidated_metadata") or {}).get("metadata") or {}
    return Metadata(
        read_attributes(group["attributes"]), consolidated, {name: value for name, value in own.items() if value}
    )


def array_names(head: bytes) -> list[str]:
    """Return the names of the arrays that a table must have, from its group."""
    others = read_attributes(json.loads(head)["attributes"]).get(OTHER_COLUMNS)
    return [*SCHEMA, *(others if isinstance(others, dict) else ())]


def check_metadata(metadata: Metadata) -> Checked:
    """Compare the metadata of the group, of its arrays, and the group's copies of these."""
    problems = {name: _array_problem(metadata, name) for name in metadata.schema}
    found = [
        Finding("metadata", metadata_key(name), problem, delete=metadata_key(name))
        for name, problem in problems.items()
        if problem
    ]
    others = sorted(metadata.consolidated.keys() - metadata.schema.keys() - metadata.own.keys())
    found += [Finding("metadata", name, "is not an array of a table") for name in others]
    if not found and (problem := _group_problem(metadata)):
        found.append(Finding("metadata", HEAD.key, problem, delete=metadata_key(FEATURES)))
    return Checked("metadata", 1 + len(metadata.schema), tuple(found))


def find_grown(metadata: Metadata) -> str:
    """Return the name of an array that an update, which is not finished, has made longer; empty where there is none."""
    for name, own in metadata.own.items():
        copy = metadata.consolidated.get(name) or {}
        if own.get("shape", []) > copy.get("shape", [sys.maxsize]) and {**own, "shape": copy["shape"]} == copy:
            return name
    return ""


def _parse(document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _array_problem(metadata: Metadata, name: str) -> str:
    own, copy = metadata.own.get(name), metadata.consolidated.get(name)
    if own is None:
        return "is missing, or is not JSON"
    if own != copy:
        missing, others = object(), copy or {}
        keys = sorted(key for key in own | others if own.get(key, missing) != others.get(key, missing))
        return f"differs from the consolidated metadata in {HEAD.key}: {', '.join(keys)}"
    dimensions, data_type = metadata.schema[name]
    if (own.get("dimension_names"), own.get("data_type")) != (list(dimensions), data_type):
        there = f"{own.get('data_type')} over {own.get('dimension_names')}"
        return f"is {there}, and must be {data_type} over {list(dimensions)}"
    if any(len(lengths) != len(dimensions) for lengths in (own.get("shape") or (), _chunk_shape(own))):
        return f"has no shape or no chunks over {list(dimensions)}"
    return ""


def _chunk_shape(array: Mapping[str, Any]) -> Sequence[int]:
    shape: Sequence[int] = array.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", ())
    return shape


def _group_problem(metadata: Metadata) -> str:
    spec, layout, attributes = metadata.spec, metadata.layout, metadata.attributes
    if spec is None:
        return "the attribute spec is missing or wrong"
    if layout is None:
        return "the shards of the features are not cut into whole chunks"
    digest = fingerprint(spec, layout, str(attributes.get("clips_digest")), attributes.get("format", 0))
    if attributes.get("fingerprint") != digest:
        return "the fingerprint is not that of spec, layout and clips_digest: one of these was changed"
    return _shape_problem(metadata, spec, layout)


def _shape_problem(metadata: Metadata, spec: FeatureSpec, layout: Layout) -> str:
    sizes = {dimension: set[int]() for dimension in ("row", "clip", "feature", "mel")}
    for name, (dimensions, _) in metadata.schema.items():
        for dimension, size in zip(dimensions, metadata.own[name]["shape"], strict=False):
            sizes[dimension].add(size)
    if uneven := sorted(name for name, lengths in sizes.items() if len(lengths) > 1):
        return f"arrays have different lengths of the dimension {uneven[0]}"
    if sizes["feature"] != {spec.n_features} or layout.n_features != spec.n_features:
        return f"the spec has {spec.n_features} features, the arrays have another number"
    if sizes["mel"] != {spec.n_mels}:
        return f"the spec has {spec.n_mels} mel bands, the arrays have another number"
    if not metadata.attributes.get("shard_rows") == _chunk_shape(metadata.own[ROW_CLIP])[0] == layout.shard_rows:
        return "shard_rows, the shards of the features and the chunks of row_clip differ"
    return ""


def check_objects(metadata: Metadata, layout: Layout, sizes: Mapping[str, int]) -> Checked:
    """Find objects of columns that are missing, and objects that are not of the table."""
    shards = range(math.ceil(metadata.n_rows / layout.shard_rows))
    by_task = {key for shard in shards for key in (*shard_keys(shard), record_key(RECORDS, shard))}
    names, schema = (*metadata.columns, *MEL_STATISTICS), metadata.schema
    small = {key for name in names for key in _column_keys(name, metadata.own[name])}
    expected = by_task | small | {HEAD.key, *map(metadata_key, schema)}
    ours = {key for key in sizes if key.partition("/")[0] in schema and not _is_of_shard(key, shards)}
    missing = [Finding("objects", key, "is missing") for key in sorted(small - sizes.keys())]
    surplus = [Finding("objects", key, "is not part of this table", delete=key) for key in sorted(ours - expected)]
    return Checked("objects", len(expected | ours), (*missing, *surplus))


def _is_of_shard(key: str, shards: range) -> bool:
    """Say whether a key may be that of a shard's mel statistics, which its record names, or of an intent."""
    folder, _, name = key.rpartition("/")
    number = name.partition("-")[0] if folder == MEL else name.removesuffix(".next.json")
    return number.isdigit() and int(number) in shards and (folder, number != name) in ((MEL, True), (RECORDS, True))


def find_foreign(names: Iterable[str], arrays: Iterable[str]) -> list[str]:
    """Return the names at the top of a store that are not of a table with these arrays."""
    others = set(names) - {*arrays, HEAD.key, PARTIAL}
    return sorted(name for name in others if not name.startswith(LEASE))


def shard_keys(shard: int) -> tuple[str, str]:
    """Return the keys of what a task writes: the shard, and its chunk of row_clip."""
    return shard_key(shard), row_clip_key(shard)


def _column_keys(name: str, array: Mapping[str, Any]) -> list[str]:
    (length, *others), (chunk, *_) = array["shape"], _chunk_shape(array)
    return [f"{name}/c.{index}{'.0' * len(others)}" for index in range(math.ceil(length / chunk))]


def check_columns(columns: Mapping[str, NDArray[Any] | str], metadata: Metadata) -> Checked:
    """Check that columns can be read, have known values, and have not changed since they were written."""
    digests = metadata.attributes.get(DIGESTS) or {}
    problems = {
        name: values if isinstance(values, str) else _column_problem(name, values, digests.get(name))
        for name, values in columns.items()
    }
    found = [Finding("columns", name, text, delete=delete_for(name)) for name, text in problems.items() if text]
    return Checked("columns", len(columns), tuple(found))


def delete_for(name: str) -> str:
    """Return what to delete so that a column is written again: itself only where nothing is lost with it."""
    return f"{name}/c.0" if name in _DERIVED else ALL_COLUMNS


def _column_problem(name: str, values: NDArray[Any], digest: str | None) -> str:
    known = _KNOWN.get(name)
    unknown = sorted(set(values.tolist()) - known) if known else []
    if unknown:
        return f"clip {values.tolist().index(unknown[0])} has {unknown[0]!r}, which is no {name}"
    if name == "status" and (values == "").any():
        return f"clip {int(np.flatnonzero(values == '')[0])} has no status"
    if digest is not None and digest != digest_column(values):
        return "has other values than when the store was finished: they were changed, or an update is not finished"
    return ""


def check_plan(columns: Mapping[str, NDArray[Any]], layout: Layout, total_rows: int) -> Checked:
    """Check that n_rows, first_row and status agree with each other and with the rows of the table."""
    n_rows = columns["n_rows"]
    plan = plan_rows(n_rows, layout)
    wrong = {
        ("n_rows", "has a negative n_rows"): n_rows < 0,
        ("first_row", "has a first_row that is not the number of rows before it"): plan.first_row
        != columns["first_row"],
        ("n_rows", "is good, but has no rows"): (n_rows == 0) & (columns["status"] == GOOD),
    }
    found = [
        Finding("plan", f"clip {clip}", problem, clip=int(clip), delete=delete_for(column))
        for (column, problem), where in wrong.items()
        for clip in np.flatnonzero(where)
    ]
    if plan.total_rows != total_rows:
        problem = f"the clips have {plan.total_rows} rows, the features {total_rows}"
        found.append(Finding("plan", "n_rows", problem, delete=ALL_COLUMNS))
    return Checked("plan", len(n_rows), tuple(found))


def check_statistics(columns: Mapping[str, NDArray[Any]], sums: Sums) -> Checked:
    """Compare the means and standard deviations of a store with those of its rows."""
    found = []
    for name, expected in zip(("feature_mean", "feature_std"), mean_and_std(sums), strict=True):
        differences = np.abs(columns[name] - expected)
        same = (differences <= MOST_STATISTICS_DB) | (np.isnan(columns[name]) & np.isnan(expected))
        if not same.all():
            at = int(np.flatnonzero(~same)[0])
            problem = f"feature {at} has {columns[name][at]:.6g} dB, computed from the rows {expected[at]:.6g} dB"
            found.append(Finding("statistics", name, problem, delete=f"{name}/c.0"))
    return Checked("statistics", 2, tuple(found))
