"""The table as a Zarr v3 group: what is written beside the shards.

The metadata and the columns of the clips are made in memory and written as whole objects. Shards are written by tasks
(`mimii.table.shards`). The last object of all is the group's metadata with the consolidated metadata of its arrays: a
store that has it is finished.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import partial
from itertools import zip_longest
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from mimii.engine import (
    ChangedError,
    Existing,
    Head,
    Pipeline,
    Record,
    Stamp,
    StoreError,
    changed,
    clips_to_partitions,
    provenance,
    record_key,
)
from mimii.features import band_centres, complete_spec
from mimii.recordings import GOOD, Identity
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, RenamedObjects, as_unicode, is_remote, numbered
from mimii.table import statistics
from mimii.table.columns import (
    CLIPS_A_CHUNK,
    COLUMNS,
    DIGESTS,
    MEL_CHUNKS,
    MEL_STATISTICS,
    OTHER_COLUMNS,
    SCHEMA,
    digest_column,
    schema_of,
)
from mimii.table.encoding import encode_chunk, encode_column
from mimii.table.growth import clip_differences
from mimii.table.keys import FEATURES, MEL, RECORDS, ROW_CLIP, intent_key, mel_key, metadata_key, shard_key
from mimii.table.mel_columns import collect_chunk, describe_chunks, mel_chunk_key
from mimii.table.metadata import STRING, Array, array_metadata, group_metadata, is_column, to_document
from mimii.table.second_keys import by_keys, delete_others, find_others, stored_objects
from mimii.table.shards import read_record_of, write_shard
from mimii.table.spans import FORMAT
from mimii.table.table import (
    HAS_SECOND_KEYS,
    HEAD,
    ShardTask,
    TablePlan,
    digest_table_clips,
    shard_stamp,
    shard_task,
    write_attributes,
)

_GROUP = HEAD.key
_ROWS = "row t of a clip: {frames} frames, {n_mels} bands each, the first is frame {stride} * t; values in dB"
_SOFTWARE = ("numpy", "scipy", "soundfile", "soxr", "numcodecs", "zarr")
_SUM_GROUPS = (statistics.TRAIN, statistics.OTHER)


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
    columns_there : tuple of str
        Columns of lists that the table there has.

    """

    plan: TablePlan
    objects: Objects
    read_options: ReadOptions = DEFAULT_READS
    columns_there: tuple[str, ...] = ()
    head: ClassVar[Head] = HEAD
    replaced: ClassVar[tuple[str, ...]] = ()
    ahead: ClassVar[tuple[str, ...]] = ("split",)
    """What becomes of a split depends on the label before: an update that is resumed must not find the new one."""
    noun: ClassVar[str] = "shard"
    pipeline: ClassVar[Pipeline] = Pipeline("load-mel-db-shard", partial(clips_to_partitions, write=write_shard))

    @property
    def parts(self) -> tuple[str, ...]:
        """What is deleted with a table."""
        return (RECORDS, *SCHEMA, *self.columns_there)

    @property
    def purpose(self) -> str:
        """Digest of the table and of the versions of its recordings."""
        versions = self.plan.origins.version.tobytes()
        return hashlib.sha256(self.plan.fingerprint.encode() + versions).hexdigest()[:16]

    def at(self, existing: Existing | None) -> "TableOutput":
        """Return this output with the keys of the table that is there.

        Raises ChangedError where that is not there any more.
        """
        if existing is None and self.plan.has_grown:
            raise self._has_changed()
        second = bool(existing and existing.attributes[HAS_SECOND_KEYS])
        return replace(self, objects=by_keys(self.objects, second=second), columns_there=_columns_of(existing))

    def beside(self, existing: Existing) -> "TableOutput":
        """Return this output with those keys that the table that is there has not."""
        objects = by_keys(self.objects, second=not existing.attributes[HAS_SECOND_KEYS])
        return replace(self, objects=objects, columns_there=_columns_of(existing))

    def find_replaced(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the keys of another table, which this one has replaced, or which was not finished."""
        arrays = (*SCHEMA, *self.plan.columns)
        if isinstance(self.objects, RenamedObjects):
            return find_others(self.objects.stored.sizes(), arrays, self._is_column, second=True)
        return find_others(sizes, arrays, self._is_column, second=False)

    def _is_column(self, name: str) -> bool:
        """Say whether an array is stored as columns of lists are; without metadata, it is what was left of one."""
        document = stored_objects(self.objects).get(metadata_key(name))
        try:
            array = json.loads(document or b"{}")
        except ValueError:
            return False
        return not document or (is_column(array) and array.get("dimension_names") == ["clip"])

    def delete_replaced(self, keys: Iterable[str]) -> None:
        """Delete objects of another table."""
        delete_others(stored_objects(self.objects), keys)

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
        return bool(_sums_of(record))

    def can_retry(self, record: Record) -> bool:
        """Say whether there are clips to be read again."""
        return any(self.plan.is_readable[clip] for clip in record.unread)

    def bad_clips(self, record: Record) -> list[int]:
        """Return the clips that turned out to be bad, but for those that were taken out."""
        return [clip for clip in record.bad if not self.plan.catalogue.problems[clip]]

    def former(self, task: int, record: Record | None, sizes: Mapping[str, int]) -> Record | None:
        """Return the record of the shard that is there, though another one is wanted.

        Raises StoreError where rows would be lost that cannot be computed again: no record is of them, or one of a
        version that made rows in another way.
        """
        if intent_key(task) in sizes:
            record = read_record_of(self.objects, task, self.objects.get(shard_key(task)) or b"")
        written = record.written.get(shard_key(task)) if record else None
        if record and written and sizes.get(shard_key(task)) == written.size:
            if record.result.get("made") != self.plan.made:
                self._check_readable(
                    task, "it was made by another version", ", or make the table again with --overwrite"
                )
            return record
        if self.plan.keeps_rows and shard_key(task) in sizes:
            self._check_readable(task, "no record is of this shard", "; to give their rows up, delete this object")
        return None

    def _check_readable(self, task: int, why: str, otherwise: str) -> None:
        problems, is_readable = self.plan.catalogue.problems, self.plan.is_readable
        lost = [clip for clip in self.clips_of(task) if not is_readable[clip] and not problems[clip]]
        if lost:
            msg = (
                f"{self.objects.root}/{shard_key(task)}: {why}, so its rows cannot be kept, and "
                f"{numbered(len(lost), 'recording')} of it {'was' if len(lost) == 1 else 'were'} not named, the "
                f"first is {self.plan.catalogue.clips[lost[0]].path}. Name them, too{otherwise}"
            )
            raise StoreError(msg)

    def recall(self, _todo: Sequence[int], _sizes: Mapping[str, int]) -> "TableOutput":
        """Return itself: the record of a shard says what it may keep, and tasks write in an order that loses none."""
        return self

    def task(self, task: int, former: Record | None = None) -> ShardTask:
        """Return all that a worker needs to know of a shard."""
        return shard_task(self.plan, task, self.objects, self.read_options, former)

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips that have rows in a shard."""
        clips: list[int] = self.plan.rows.clips_of(task).tolist()
        return clips

    def n_clips(self, task: int) -> int:
        """Count the clips whose last row is in a shard."""
        return self.plan.rows.n_finished(task)

    def differences(self, existing: Existing) -> list[str]:
        """Say how the table in the store differs.

        Raises ChangedError where this is an update of another one.
        """
        there, plan = existing.attributes, self.plan
        if there["fingerprint"] == plan.fingerprint:
            return []
        if plan.grown_from:
            if there["fingerprint"] != plan.grown_from:
                raise self._has_changed()
            return []
        found = changed(complete_spec(there.get("spec", {})), plan.catalogue.spec.as_dict()) + changed(
            there, {"format": FORMAT}
        )
        if not found and there.get("clips_digest") != _digest(plan):
            objects = by_keys(self.objects, second=existing.attributes[HAS_SECOND_KEYS])
            found += clip_differences(objects, existing, plan)
        shard_rows = there.get("shard_rows")
        return found or [f"layout: shards of {shard_rows} rows there, {plan.rows.layout.shard_rows} now"]

    def _has_changed(self) -> ChangedError:
        return ChangedError(f"{self.objects.root}: another run has changed it since this one was planned; run it again")

    def first_documents(self) -> dict[str, bytes]:
        """Return the group and its arrays: only shards and results are missing."""
        return _documents(self.plan)

    def collect(
        self, existing: Existing | None, records: Mapping[int, Record], sizes: Mapping[str, int]
    ) -> Iterator[dict[str, bytes]]:
        """Yield the chunks of the mel statistics that have changed, from what tasks have left, one after the other."""
        there = existing.attributes.get(MEL_CHUNKS, []) if existing else []
        fingerprints, rows, spec = _fingerprints(records), self.plan.rows, self.plan.catalogue.spec
        for chunk, (wanted, former) in enumerate(zip_longest(self._describe_chunks(records), there)):
            keys = [mel_chunk_key(name, chunk) for name in MEL_STATISTICS]
            if wanted and (wanted != former or not sizes.keys() >= set(keys)):
                values = collect_chunk(self.objects, rows, spec, chunk, fingerprints)
                yield {key: encode_chunk(one) for key, one in zip(keys, values, strict=True)}

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return the same with each clip's status, with statistics and with consolidated metadata."""
        problems = list(self.plan.catalogue.problems)
        groups = {name: statistics.no_sums(self.plan.catalogue.spec.n_features) for name in _SUM_GROUPS}
        for record in records.values():
            for clip, problem in record.bad.items():
                problems[clip] = problem
            for name, part in (_sums_of(record) or {}).items():
                groups[name] = statistics.add_sums((groups[name], part), part.total.size)
        sums = statistics.choose_sums(groups, self.plan.catalogue.spec.n_features)
        kernels = sorted({record.kernels for record in records.values() if record.kernels})
        chunks = self._describe_chunks(records)
        found = {"kernels": kernels, MEL_CHUNKS: list(chunks)}
        return _documents(self.plan, [one or GOOD for one in problems], statistics.mean_and_std(sums), found)

    def is_whole(self, existing: Existing, records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether the table that is there is this one, with all small objects."""
        is_this = existing.attributes["fingerprint"] == self.plan.fingerprint
        chunks = list(self._describe_chunks(records))
        is_collected = existing.attributes.get(MEL_CHUNKS) == chunks
        is_clean = not self.surplus(records, sizes) and not self.find_replaced(sizes)
        return is_this and is_collected and is_clean and sizes.keys() >= _small_keys(self.plan)

    def _describe_chunks(self, records: Mapping[int, Record]) -> Iterator[str]:
        left = {task: digest_left(record) for task, record in records.items()}
        return describe_chunks(self.plan.rows, self.plan.catalogue.spec.n_mels, left)

    def surplus(self, records: Mapping[int, Record], sizes: Mapping[str, int]) -> set[str]:
        """Return what killed writers have left behind."""
        mel = {mel_key(task, record.stamp.fingerprint) for task, record in records.items()}
        intents = {intent_key(task) for task in records} & sizes.keys()
        return intents | {key for key in sizes if key.startswith(f"{MEL}/")} - mel


def _columns_of(existing: Existing | None) -> tuple[str, ...]:
    return tuple(existing.attributes.get(OTHER_COLUMNS, ())) if existing else ()


def _sums_of(record: Record) -> dict[str, statistics.Sums] | None:
    """Return the sums of the groups of clips in a shard; None where there are none, or damaged ones."""
    groups = {name: statistics.from_values(record.result[name]) for name in _SUM_GROUPS if name in record.result}
    good = {name: sums for name, sums in groups.items() if sums}
    return good if good and len(good) == len(groups) else None


def digest_left(record: Record) -> str:
    """Return the SHA-256 of the mel statistics that a task has left; empty where its record names none."""
    written = record.written.get(mel_key(record.stamp.task, record.stamp.fingerprint))
    return written.sha256 if written else ""


def _fingerprints(records: Mapping[int, Record]) -> dict[int, str]:
    return {task: record.stamp.fingerprint for task, record in records.items()}


def _digest(plan: TablePlan) -> str:
    return digest_table_clips(plan.catalogue, plan.origins, plan.columns)


def _small_keys(plan: TablePlan) -> set[str]:
    """Name all objects of a finished store but its shards and records, and what goes with these."""
    arrays = schema_of(plan.catalogue.spec.dtype, plan.columns)
    of_clips = range(math.ceil(len(plan.catalogue.clips) / CLIPS_A_CHUNK))
    names = (*COLUMNS, *plan.columns)
    n_chunks = {name: len(of_clips) if arrays[name][0] == ("clip",) else 1 for name in names}
    chunks = {f"{name}/c.{chunk}" for name, count in n_chunks.items() for chunk in range(count)}
    chunks |= {mel_chunk_key(name, chunk) for name in MEL_STATISTICS for chunk in of_clips}
    return {_GROUP} | {f"{name}/{_GROUP}" for name in arrays} | chunks


def _documents(
    plan: TablePlan,
    status: Sequence[str] | None = None,
    mean_and_std: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
    found: Mapping[str, Any] = MappingProxyType({}),
) -> dict[str, bytes]:
    """Return the whole group but its shards; with results, also their digests and consolidated metadata."""
    columns = _clip_columns(plan, status) | dict(
        zip(("feature_mean", "feature_std"), mean_and_std or _no_statistics(plan), strict=True)
    )
    columns["mel_frequency"] = band_centres(plan.catalogue.spec)
    digests = {} if status is None else {DIGESTS: {name: digest_column(values) for name, values in columns.items()}}
    arrays = [*_arrays_of_rows(plan), *_arrays_of_statistics(plan)]
    chunks: dict[str, bytes] = {}
    schema = schema_of(plan.catalogue.spec.dtype, plan.columns)
    for name, values in columns.items():
        dimensions, _ = schema[name]
        length = CLIPS_A_CHUNK if dimensions == ("clip",) else len(values)
        arrays.append(_array_of_column(name, values, length, dimensions))
        chunks |= {f"{name}/c.{number}": chunk for number, chunk in enumerate(encode_column(values, length))}
    metadata = {array.name: array_metadata(array) for array in arrays}
    attributes = write_attributes(_attributes(plan) | dict(found) | digests)
    group = group_metadata(attributes, {} if status is None else metadata)
    documents = {_GROUP: group} | {metadata_key(name): of_array for name, of_array in metadata.items()}
    return {**{key: to_document(document) for key, document in documents.items()}, **chunks}


def _no_statistics(plan: TablePlan) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    unknown = np.full(plan.catalogue.spec.n_features, np.nan)
    return unknown, unknown


def _attributes(plan: TablePlan) -> dict[str, Any]:
    return {
        "title": HEAD.title,
        "rows": _ROWS.format(**plan.catalogue.spec.as_dict()),
        "spec": plan.catalogue.spec.as_dict(),
        "format": FORMAT,
        "fingerprint": plan.fingerprint,
        "clips_digest": _digest(plan),
        "shard_rows": plan.rows.layout.shard_rows,
        "split": list(plan.split),
        "resamples": int(plan.resamples),
        **plan.meaning._asdict(),
        OTHER_COLUMNS: dict(plan.columns),
        **provenance(plan.sources, "features", _SOFTWARE),
    }


def _clip_columns(plan: TablePlan, status: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    catalogue = plan.catalogue
    who = [clip.identity for clip in catalogue.clips]
    known = {field.name for field in fields(Identity)}
    columns = {name: _column([getattr(one, name) for one in who], SCHEMA[name][1]) for name in SCHEMA if name in known}
    of_lists = [dict(one.columns) for one in who]
    columns |= {
        "path": _strings(clip.path for clip in catalogue.clips),
        "channel": np.array([clip.channel for clip in catalogue.clips], np.int16),
        "start_s": np.array([clip.start_s for clip in catalogue.clips]),
        "duration_s": np.array([clip.duration_s for clip in catalogue.clips]),
        "split": _strings(catalogue.splits),
        "first_row": plan.rows.first_row,
        "n_rows": plan.rows.n_rows,
        "status": _strings(status or [""] * len(who)),
    }
    columns |= {
        name: _list_column([one.get(name, "") for one in of_lists], plan.columns[name]) for name in plan.columns
    }
    return {name: columns[name] for name in (*SCHEMA, *plan.columns) if name in columns}


def _list_column(texts: Sequence[str], data_type: str) -> NDArray[Any]:
    if data_type == "string":
        return _strings(texts)
    return np.array([math.nan if not text else float(text) for text in texts])


def _column(values: Sequence[Any], data_type: str) -> NDArray[Any]:
    return _strings(values) if data_type == "string" else np.array(values, data_type)


def _strings(values: Iterable[str]) -> NDArray[Any]:
    return np.array([as_unicode(value) for value in values], np.dtypes.StringDType())


def _arrays_of_rows(plan: TablePlan) -> list[Array]:
    layout, total = plan.rows.layout, plan.rows.total_rows
    shape, chunks, shards = ((n_rows, layout.n_features) for n_rows in (total, layout.chunk_rows, layout.shard_rows))
    return [
        Array(FEATURES, shape, chunks, layout.dtype, math.nan, SCHEMA[FEATURES][0], shards),
        Array(ROW_CLIP, (total,), (layout.shard_rows,), "int32", -1, SCHEMA[ROW_CLIP][0]),
    ]


def _arrays_of_statistics(plan: TablePlan) -> list[Array]:
    n_mels = plan.catalogue.spec.n_mels
    shape, chunks = (len(plan.catalogue.clips), n_mels), (CLIPS_A_CHUNK, n_mels)
    return [Array(name, shape, chunks, "float32", math.nan, SCHEMA[name][0]) for name in MEL_STATISTICS]


def _array_of_column(name: str, values: NDArray[Any], length: int, dimensions: tuple[str, ...]) -> Array:
    data_type = STRING if values.dtype.kind == "T" else str(values.dtype)
    fill_value = math.nan if values.dtype.kind == "f" else None
    return Array(name, values.shape, (length,), data_type, fill_value, dimensions)
