"""The table as a Zarr v3 group: what is written beside the shards.

zarr writes metadata and the columns of the clips into memory; from there they go to the store as
whole objects. Shards are written by tasks (`mimii.table.shards`). The last object of all is the group's metadata with
the consolidated metadata of its arrays: a store that has it is finished.

zarr is imported where it is used: workers do not need its quarter of a second.
"""

import json
import math
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mimii.engine import (
    Existing,
    Head,
    Pipeline,
    Record,
    Stamp,
    as_unicode,
    changed,
    clips_to_partitions,
    provenance,
    record_key,
)
from mimii.recordings import GOOD, Identity, digest_clips
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, is_remote
from mimii.table import statistics
from mimii.table.columns import COLUMNS, DIGESTS, SCHEMA, digest_column
from mimii.table.encoding import ZSTD_LEVEL
from mimii.table.keys import RECORDS
from mimii.table.reading import read_column
from mimii.table.shards import write_shard
from mimii.table.table import FORMAT, HEAD, ShardTask, TablePlan, shard_stamp, shard_task, write_attributes

if TYPE_CHECKING:
    import zarr

_CLIPS_A_CHUNK = 1 << 16
_GROUP = HEAD.key
_CODECS: Any = ({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"})
_CHUNK_KEYS: Any = {"name": "default", "separator": "."}
_ROWS = "row t of a clip: frames t, t+1, ..., t+frames-1, each n_mels long; values in dB"
_SOFTWARE = ("numpy", "scipy", "soundfile", "numcodecs", "zarr")


@dataclass(frozen=True, slots=True)
class TableOutput:
    """A table at its place; see `mimii.engine.Output` for the methods.

    Attributes
    ----------
    plan : TablePlan
        What the table will be.
    objects : Objects
        The store.
    read_options : ReadOptions
        How workers fetch the recordings.

    """

    plan: TablePlan
    objects: Objects
    read_options: ReadOptions = DEFAULT_READS
    head: ClassVar[Head] = HEAD
    parts: ClassVar[tuple[str, ...]] = (RECORDS, *SCHEMA)
    replaced: ClassVar[tuple[str, ...]] = ()
    noun: ClassVar[str] = "shard"
    pipeline: ClassVar[Pipeline] = Pipeline("load-mel-db-shard", partial(clips_to_partitions, write=write_shard))

    @property
    def n_tasks(self) -> int:
        """How many shards there are."""
        return self.plan.rows.n_shards

    @property
    def is_remote(self) -> bool:
        """Whether tasks wait for S3."""
        return is_remote(self.objects.root) or self.plan.catalogue.is_remote

    def record_key(self, task: int) -> str:
        """Return the key of the record of a shard."""
        return record_key(RECORDS, task)

    def stamp(self, task: int) -> Stamp:
        """Return what the record of a shard must bear."""
        return shard_stamp(self.plan, task)

    def accepts(self, record: Record) -> bool:
        """Say whether a record has the sums of its shard."""
        return statistics.from_values(record.result) is not None

    def task(self, task: int) -> ShardTask:
        """Return all that a worker needs to know of a shard."""
        return shard_task(self.plan, task, self.objects, self.read_options)

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips that have rows in a shard."""
        clips: list[int] = self.plan.rows.clips_of(task).tolist()
        return clips

    def n_clips(self, task: int) -> int:
        """Count the clips whose last row is in a shard."""
        return self.plan.rows.n_finished(task)

    def differences(self, existing: Existing) -> list[str]:
        """Say how the table in the store differs."""
        there, plan = existing.attributes, self.plan
        if there["fingerprint"] == plan.fingerprint:
            return []
        found = changed(there.get("spec", {}), plan.catalogue.spec.as_dict())
        if there.get("clips_digest") != digest_clips(plan.catalogue):
            found.append(_clip_differences(self.objects, plan))
        found += changed(there, {"format": FORMAT})
        shard_rows = there.get("shard_rows")
        return found or [f"layout: shards of {shard_rows} rows there, {plan.rows.layout.shard_rows} now"]

    def first_documents(self) -> dict[str, bytes]:
        """Return the group and its arrays: only shards and results are missing."""
        return _documents(self.plan)

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return the same with each clip's status, with statistics and with consolidated metadata."""
        problems = list(self.plan.catalogue.problems)
        sums = statistics.no_sums(self.plan.catalogue.spec.n_features)
        for record in records.values():
            for clip, problem in record.bad.items():
                problems[clip] = problem
            part = statistics.from_values(record.result)
            sums = statistics.add_sums((sums, part) if part else (sums,), sums.total.size)
        kernels = sorted({record.kernels for record in records.values() if record.kernels})
        results = ([problem or GOOD for problem in problems], statistics.mean_and_std(sums), {"kernels": kernels})
        return _documents(self.plan, *results)

    def is_whole(self, _existing: Existing, _records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether all small objects are there."""
        return sizes.keys() >= _small_keys(self.plan)


def _clip_differences(objects: Objects, plan: TablePlan) -> str:
    new = [as_unicode(clip.path) for clip in plan.catalogue.clips]
    try:
        old = [str(path) for path in read_column(objects, "path")]
    except (KeyError, ValueError, OSError):
        return f"clips: others there than the {len(new)} now"
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    changes = [f"{len(some)} {what}, first {some[0]}" for some, what in ((gone, "gone"), (come, "new")) if some]
    details = "; ".join(changes) or "the same paths, but places, lengths, labels or splits have changed"
    return f"clips: {len(old)} there, {len(new)} now ({details})"


def _small_keys(plan: TablePlan) -> set[str]:
    """Name all objects of a finished store but its shards and records."""
    lengths = {"clip": len(plan.catalogue.clips), "feature": plan.catalogue.spec.n_features}
    n_chunks = {name: math.ceil(lengths[SCHEMA[name][0][0]] / _CLIPS_A_CHUNK) for name in COLUMNS}
    chunks = {f"{name}/c.{chunk}" for name, count in n_chunks.items() for chunk in range(count)}
    return {_GROUP} | {f"{name}/{_GROUP}" for name in SCHEMA} | chunks


def _documents(
    plan: TablePlan,
    status: Sequence[str] | None = None,
    statistics: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    found: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Write the whole group but its shards in memory; with results, also their digests and consolidated metadata."""
    import zarr

    written: dict[str, Any] = {}
    memory = zarr.storage.MemoryStore(written)
    columns = _clip_columns(plan, status) | dict(
        zip(("feature_mean", "feature_std"), statistics or _no_statistics(plan), strict=True)
    )
    digests = {} if status is None else {DIGESTS: {name: digest_column(values) for name, values in columns.items()}}
    with warnings.catch_warnings():
        # Variable-length strings and consolidated metadata are not yet in the core of the Zarr v3 specification.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        group = zarr.create_group(memory, attributes=write_attributes(_attributes(plan) | dict(found) | digests))
        _create_rows(group, plan)
        for name, values in columns.items():
            _create_column(group, name, values, SCHEMA[name][0][0])
        if status is not None:
            zarr.consolidate_metadata(memory)
    return {key: value.to_bytes() for key, value in written.items()} | {_GROUP: _sorted(written[_GROUP].to_bytes())}


def _sorted(document: bytes) -> bytes:
    """Bring consolidated metadata into an order of its own: zarr 3.1.1 lists arrays as they come out of a set."""
    group = json.loads(document)
    if consolidated := group.get("consolidated_metadata"):
        consolidated["metadata"] = dict(sorted(consolidated["metadata"].items()))
    return json.dumps(group, indent=2).encode()


def _no_statistics(plan: TablePlan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    unknown = np.full(plan.catalogue.spec.n_features, np.nan)
    return unknown, unknown


def _attributes(plan: TablePlan) -> dict[str, Any]:
    return {
        "title": HEAD.title,
        "rows": _ROWS,
        "spec": plan.catalogue.spec.as_dict(),
        "format": FORMAT,
        "fingerprint": plan.fingerprint,
        "clips_digest": digest_clips(plan.catalogue),
        "shard_rows": plan.rows.layout.shard_rows,
        **provenance(plan.sources, "features", _SOFTWARE),
    }


def _clip_columns(plan: TablePlan, status: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    catalogue = plan.catalogue
    who = [clip.identity for clip in catalogue.clips]
    known = {field.name for field in fields(Identity)}
    columns = {name: _column([getattr(one, name) for one in who], SCHEMA[name][1]) for name in SCHEMA if name in known}
    columns |= {
        "path": _strings(clip.path for clip in catalogue.clips),
        "split": _strings(catalogue.splits),
        "first_row": plan.rows.first_row,
        "n_rows": plan.rows.n_rows,
        "status": _strings(status or [""] * len(who)),
    }
    return {name: columns[name] for name in SCHEMA if name in columns}


def _column(values: Sequence[Any], data_type: str) -> NDArray[Any]:
    return _strings(values) if data_type == "string" else np.array(values, data_type)


def _strings(values: Iterable[str]) -> NDArray[Any]:
    return np.array([as_unicode(value) for value in values], np.dtypes.StringDType())


def _create_rows(group: "zarr.Group", plan: TablePlan) -> None:
    layout, total = plan.rows.layout, plan.rows.total_rows
    group.create_array(
        "features",
        shape=(total, layout.n_features),
        chunks=(layout.chunk_rows, layout.n_features),
        shards=(layout.shard_rows, layout.n_features),
        dtype="float32",
        compressors=_CODECS,
        fill_value=np.nan,
        dimension_names=("row", "feature"),
        chunk_key_encoding=_CHUNK_KEYS,
        attributes={"units": "dB"},
    )
    group.create_array(
        "row_clip",
        shape=(total,),
        chunks=(layout.shard_rows,),
        dtype="int32",
        compressors=_CODECS,
        fill_value=-1,
        dimension_names=("row",),
        chunk_key_encoding=_CHUNK_KEYS,
    )


def _create_column(group: "zarr.Group", name: str, values: NDArray[Any], dimension: str) -> None:
    array = group.create_array(
        name,
        config={"write_empty_chunks": True},
        shape=values.shape,
        chunks=(max(1, min(len(values), _CLIPS_A_CHUNK)),),
        dtype=str if values.dtype.kind == "T" else values.dtype,
        compressors=_CODECS,
        fill_value=np.nan if values.dtype.kind == "f" else None,
        dimension_names=(dimension,),
        chunk_key_encoding=_CHUNK_KEYS,
    )
    if len(values):
        array[:] = values
