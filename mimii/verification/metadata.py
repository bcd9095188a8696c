"""Whether a finished store is whole and right, as far as its metadata and its columns tell: pure functions to findings.

What its shards tell is in `mimii.verification.shard_check`, what the recordings tell in
`mimii.verification.comparison`.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import record_key
from mimii.features import FeatureSpec
from mimii.recordings import LABEL_NAMES, TEST, TRAIN
from mimii.storage import PARTIAL
from mimii.table import (
    COLUMNS,
    DIGESTS,
    FEATURES,
    RECORDS,
    ROW_CLIP,
    SCHEMA,
    Layout,
    Sums,
    digest_column,
    fingerprint,
    make_plan,
    mean_and_std,
    row_clip_key,
    shard_key,
)

GOOD = "ok"
"""The status of a clip that could be used."""

MOST_STATISTICS_DB = 1e-4
"""How far means and standard deviations may be from those that are computed anew."""

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
        "statistics": "sum",
        "recordings": "shard",
        "librosa": "clip",
        "published": "machine",
    }
)
"""All checks, in order, and what each looks at."""

_GROUP = "zarr.json"
_KNOWN: Mapping[str, frozenset[Any]] = MappingProxyType(
    {"label": frozenset(LABEL_NAMES), "split": frozenset(("", TRAIN, TEST))}
)


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that is not as it should be.

    Attributes
    ----------
    check : str
        Which of `CHECKS` found it.
    where : str
        The key of an object, or what else it is about.
    problem : str
        What is wrong, for people.
    shard, clip : int or None
        Which, where it is about one.
    delete : str
        The key of the object that has to be deleted so that ``jobs.featurize``, run again, mends it; empty where that
        is not needed, or does not help.

    """

    check: str
    where: str
    problem: str
    shard: int | None = None
    clip: int | None = None
    delete: str = ""


@dataclass(frozen=True, slots=True)
class Checked:
    """What came of one check, or of a part of it.

    Attributes
    ----------
    check : str
        Which of `CHECKS`.
    n : int
        How many things were looked at.
    findings : tuple of Finding
        In order; empty where all is right.

    """

    check: str
    n: int
    findings: tuple[Finding, ...] = ()


@dataclass(frozen=True, slots=True)
class Described:
    """What a store says of itself.

    Attributes
    ----------
    attributes : mapping
        Of the group.
    consolidated : mapping of str to mapping
        The metadata of the arrays as the group has it.
    own : mapping of str to mapping
        The metadata of the arrays as they have it themselves; what is missing or no JSON is left out.

    """

    attributes: Mapping[str, Any]
    consolidated: Mapping[str, Any]
    own: Mapping[str, Any]


def merge(parts: Iterable[Checked]) -> dict[str, Checked]:
    """Add up what came of checks."""
    merged: dict[str, Checked] = {}
    for part in parts:
        before = merged.get(part.check, Checked(part.check, 0))
        merged[part.check] = Checked(part.check, before.n + part.n, (*before.findings, *part.findings))
    return {name: merged[name] for name in CHECKS if name in merged}


def describe_store(documents: Mapping[str, bytes]) -> Described:
    """Read the metadata of a store."""
    group = json.loads(documents[_GROUP])
    own = {name: _parse(documents.get(metadata_key(name), b"")) for name in SCHEMA}
    consolidated = (group.get("consolidated_metadata") or {}).get("metadata") or {}
    return Described(group["attributes"], consolidated, {name: value for name, value in own.items() if value})


def metadata_key(name: str) -> str:
    """Return the key of the metadata of an array."""
    return f"{name}/{_GROUP}"


def read_layout(described: Described) -> Layout | None:
    """Read how the rows are cut up."""
    try:
        features = described.own[FEATURES]
        shard_rows, n_features = _chunk_shape(features)
        chunk_rows, _ = features["codecs"][0]["configuration"]["chunk_shape"]
        layout = Layout(int(n_features), int(chunk_rows), int(shard_rows))
    except (KeyError, IndexError, TypeError, ValueError):
        return None
    is_whole = layout.chunk_rows > 0 and layout.shard_rows > 0 and layout.shard_rows % layout.chunk_rows == 0
    return layout if is_whole else None


def read_spec(described: Described) -> FeatureSpec | None:
    """Read what was computed; None where that makes no sense."""
    try:
        return FeatureSpec(**described.attributes["spec"])
    except (KeyError, TypeError, ValueError):
        return None


def count_rows(described: Described) -> int:
    """Return how many rows the store says that it has; 0 where that makes no sense."""
    try:
        return int(described.own[FEATURES]["shape"][0])
    except (KeyError, IndexError, TypeError, ValueError):
        return 0


def check_metadata(described: Described) -> Checked:
    """Hold the metadata of the group, of its arrays and of their consolidated copies against each other."""
    problems = {name: _array_problem(described, name) for name in SCHEMA}
    found = [
        Finding("metadata", metadata_key(name), problem, delete=metadata_key(name))
        for name, problem in problems.items()
        if problem
    ]
    others = sorted(described.consolidated.keys() - SCHEMA.keys() - described.own.keys())
    found += [Finding("metadata", name, "an array that is no part of a table") for name in others]
    if not found and (problem := _group_problem(described)):
        found.append(Finding("metadata", _GROUP, problem, delete=metadata_key(FEATURES)))
    return Checked("metadata", 1 + len(SCHEMA), tuple(found))


def _parse(document: bytes) -> dict[str, Any]:
    try:
        parsed = json.loads(document)
    except ValueError:
        return {}
    return parsed if isinstance(parsed, dict) else {}


def _array_problem(described: Described, name: str) -> str:
    own = described.own.get(name)
    if own is None:
        return "is not there, or is no JSON"
    consolidated = described.consolidated.get(name)
    if own != consolidated:
        keys = sorted(key for key in own.keys() | (consolidated or {}).keys() if not _same(own, consolidated, key))
        return f"is not what the consolidated metadata in {_GROUP} says: {', '.join(keys)}"
    dimensions, data_type = SCHEMA[name]
    if (own.get("dimension_names"), own.get("data_type")) != (list(dimensions), data_type):
        there = f"{own.get('data_type')} over {own.get('dimension_names')}"
        return f"is of {there}, and has to be of {data_type} over {list(dimensions)}"
    if any(len(lengths) != len(dimensions) for lengths in (own.get("shape") or (), _chunk_shape(own))):
        return f"has no shape or no chunks over {list(dimensions)}"
    return ""


def _chunk_shape(metadata: Mapping[str, Any]) -> Sequence[int]:
    shape: Sequence[int] = metadata.get("chunk_grid", {}).get("configuration", {}).get("chunk_shape", ())
    return shape


def _same(own: Mapping[str, Any], consolidated: Mapping[str, Any] | None, key: str) -> bool:
    missing = object()
    return bool(own.get(key, missing) == (consolidated or {}).get(key, missing))


def _group_problem(described: Described) -> str:
    spec, layout, attributes = read_spec(described), read_layout(described), described.attributes
    if spec is None:
        return "the attribute spec is missing or makes no sense"
    if layout is None:
        return "the shards of the features are not cut into whole chunks"
    digest = fingerprint(spec, layout, str(attributes.get("clips_digest")), attributes.get("format", 0))
    if attributes.get("fingerprint") != digest:
        return "the fingerprint is not that of spec, layout and clips_digest: one of these was changed"
    return _shape_problem(described, spec, layout)


def _shape_problem(described: Described, spec: FeatureSpec, layout: Layout) -> str:
    sizes = _dimension_sizes(described)
    if uneven := sorted(name for name, lengths in sizes.items() if len(lengths) > 1):
        return f"the arrays do not agree on how long the dimension {uneven[0]} is"
    if sizes["feature"] != {spec.n_features} or layout.n_features != spec.n_features:
        return f"the spec has {spec.n_features} features, the arrays have others"
    if described.attributes.get("shard_rows") != layout.shard_rows or _row_clip_chunk(described) != layout.shard_rows:
        return "shard_rows, the shards of the features and the chunks of row_clip do not agree"
    return ""


def _dimension_sizes(described: Described) -> dict[str, set[int]]:
    sizes: dict[str, set[int]] = {"row": set(), "clip": set(), "feature": set()}
    for name, (dimensions, _) in SCHEMA.items():
        for dimension, size in zip(dimensions, described.own[name]["shape"], strict=False):
            sizes[dimension].add(size)
    return sizes


def _row_clip_chunk(described: Described) -> int:
    return _chunk_shape(described.own[ROW_CLIP])[0]


def check_objects(described: Described, layout: Layout, sizes: Mapping[str, int]) -> Checked:
    """Say which objects are missing or too many."""
    n_shards = -(-count_rows(described) // layout.shard_rows)
    by_task = {f(shard) for shard in range(n_shards) for f in (shard_key, row_clip_key, _record_key)}
    small = {key for name in COLUMNS for key in _column_keys(name, described.own[name])}
    expected = by_task | small | {_GROUP, *map(metadata_key, SCHEMA)}
    ours = {key for key in sizes if key.partition("/")[0] in SCHEMA}
    missing = [Finding("objects", key, "is not there") for key in sorted(small - sizes.keys())]
    surplus = [Finding("objects", key, "is too many", delete=key) for key in sorted(ours - expected)]
    return Checked("objects", len(expected | ours), (*missing, *surplus))


def find_strangers(names: Iterable[str]) -> list[str]:
    """Name what is at the top of a store and no part of a table."""
    return sorted(set(names) - SCHEMA.keys() - {_GROUP, PARTIAL})


def _record_key(shard: int) -> str:
    return record_key(RECORDS, shard)


def _column_keys(name: str, metadata: Mapping[str, Any]) -> list[str]:
    [length], [chunk] = metadata["shape"], _chunk_shape(metadata)
    return [f"{name}/c.{index}" for index in range(-(-length // chunk))]


def check_columns(columns: Mapping[str, NDArray[Any] | str], described: Described) -> Checked:
    """Check that columns can be read, have values that exist, and have not changed since they were written."""
    digests = described.attributes.get(DIGESTS) or {}
    found = []
    for name, values in columns.items():
        if problem := values if isinstance(values, str) else _column_problem(name, values, digests.get(name)):
            found.append(Finding("columns", name, problem, delete=f"{name}/c.0"))
    return Checked("columns", len(columns), tuple(found))


def _column_problem(name: str, values: NDArray[Any], digest: str | None) -> str:
    known = _KNOWN.get(name)
    strange = sorted(set(values.tolist()) - known) if known else []
    if strange:
        return f"there is no {name} {strange[0]!r}, such as that of clip {values.tolist().index(strange[0])}"
    if name == "status" and (values == "").any():
        return f"clip {int(np.flatnonzero(values == '')[0])} has no status"
    if digest is not None and digest != digest_column(values):
        return "has other values than when the store was finished"
    return ""


def check_plan(columns: Mapping[str, NDArray[Any]], layout: Layout, total_rows: int) -> Checked:
    """Check that rows and clips agree, as far as the columns tell."""
    n_rows, status = columns["n_rows"], columns["status"]
    plan = make_plan(n_rows, layout)
    wrong = {
        "has fewer than no rows": n_rows < 0,
        "begins at another row (first_row) than the rows of those before it tell": plan.first_row
        != columns["first_row"],
        "is good, but has no rows": (n_rows == 0) & (status == GOOD),
    }
    found = [
        Finding("plan", f"clip {clip}", problem, clip=int(clip), delete="n_rows/c.0")
        for problem, where in wrong.items()
        for clip in np.flatnonzero(where)
    ]
    if plan.total_rows != total_rows:
        problem = f"the clips have {plan.total_rows} rows, the features {total_rows}"
        found.append(Finding("plan", "n_rows", problem, delete="n_rows/c.0"))
    return Checked("plan", len(n_rows), tuple(found))


def check_statistics(columns: Mapping[str, NDArray[Any]], sums: Sums) -> Checked:
    """Hold the means and standard deviations of a store against those of its rows."""
    found = []
    for name, expected in zip(("feature_mean", "feature_std"), mean_and_std(sums), strict=True):
        off = np.abs(columns[name] - expected)
        same = (off <= MOST_STATISTICS_DB) | (np.isnan(columns[name]) & np.isnan(expected))
        if not same.all():
            at = int(np.flatnonzero(~same)[0])
            problem = f"feature {at} has {columns[name][at]:.6g} dB, its rows tell {expected[at]:.6g} dB"
            found.append(Finding("statistics", name, problem, delete=f"{name}/c.0"))
    return Checked("statistics", 2, tuple(found))
