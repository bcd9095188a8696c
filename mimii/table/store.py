"""The table as a Zarr v3 group. The only file that knows Zarr.

zarr writes all small things, metadata and the columns of the clips, into memory; from there they go to the store as
whole objects. Shards are written by tasks (`mimii.table.extract`). The last object of all is the group's metadata with
the consolidated metadata of its arrays: a store that has it is finished.

zarr is imported where it is used: workers come past here when they start, and do not need its quarter of a second.
"""

import hashlib
import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Existing, Record, StoreError, UnfinishedError, as_unicode, each_record, provenance
from mimii.recordings import digest_clips
from mimii.storage import PARTIAL, Objects
from mimii.table import statistics
from mimii.table.columns import Columns
from mimii.table.encoding import ZSTD_LEVEL
from mimii.table.keys import FEATURES, RECORDS, shard_key
from mimii.table.statistics import Sums
from mimii.table.table import FORMAT, Table

if TYPE_CHECKING:
    import zarr

DIGESTS = "column_digests"
"""The attribute that holds the digests of the columns of a finished store, by name."""

_CLIPS_A_CHUNK = 1 << 16
_GROUP = "zarr.json"
_CODECS: Any = ({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"})
_CHUNK_KEYS: Any = {"name": "default", "separator": "."}
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
        "feature_mean": (("feature",), "float64"),
        "feature_std": (("feature",), "float64"),
    }
)
"""The arrays of a table: dimensions and data type of each, by name."""

COLUMNS = tuple(name for name, (dimensions, _) in SCHEMA.items() if "row" not in dimensions)
"""The arrays that are small: all but those of the rows."""

_TITLE = "Stacked log-mel features of machine sound"
_ROWS = "row t of a clip: frames t, t+1, ..., t+frames-1, each n_mels long; values in dB"
_SOFTWARE = ("numpy", "scipy", "soundfile", "numcodecs", "zarr")


def look(objects: Objects) -> Existing | None:
    """Look at what is at the output."""
    data = objects.get(_GROUP)
    try:
        if data is None and all(name == PARTIAL for name in objects.names()):
            return None
        group = json.loads(data or objects.get(_GROUP) or b"")  # another run may have begun between the looks
        attributes = group["attributes"]
        if attributes["title"] == _TITLE and attributes["fingerprint"]:
            return Existing("table", attributes, bool(group.get("consolidated_metadata")))
    except (ValueError, KeyError, TypeError, NotADirectoryError):
        pass
    msg = (
        f"{objects.root}: there is something that is not a table of features; it is left alone. Choose another --output"
    )
    raise StoreError(msg)


def differences(existing: Existing, table: Table, objects: Objects) -> list[str]:
    """Say how the table in a store differs from another."""
    attributes = existing.attributes
    if attributes["fingerprint"] == table.fingerprint:
        return []
    spec, old_spec = table.catalogue.spec.as_dict(), attributes.get("spec", {})
    found = [
        f"{name}: {old_spec.get(name)} there, {spec[name]} now" for name in spec if old_spec.get(name) != spec[name]
    ]
    if attributes.get("clips_digest") != digest_clips(table.catalogue):
        found.append(_clip_differences(objects, table))
    if attributes.get("format") != FORMAT:
        found.append(f"format: {attributes.get('format')} there, {FORMAT} now")
    if not found:
        shard_rows = attributes.get("shard_rows")
        found.append(f"layout: shards of {shard_rows} rows there, {table.plan.layout.shard_rows} now")
    return found


def begin(objects: Objects, table: Table, sources: Sequence[str]) -> None:
    """Create the group and its arrays, with all that is known before the work: only shards and results are missing.

    May be done again over an unfinished store of the same table: it writes the same.
    """
    documents = _documents(table, sources)
    objects.put(_GROUP, documents.pop(_GROUP))
    objects.put_all(documents)


def finish(objects: Objects, table: Table, sources: Sequence[str]) -> dict[int, Record]:
    """Write the results, and consolidated metadata last."""
    done, sums = {}, statistics.no_sums(table.catalogue.spec.n_features)
    for index, record, part in _each_with_sums(objects, table):
        done[index] = record
        sums = statistics.add_sums((sums, part), table.catalogue.spec.n_features)
    if missing := [index for index in range(table.plan.n_shards) if index not in done]:
        msg = f"{objects.root}: {len(missing)} of {table.plan.n_shards} shards are not done, the first is {missing[0]}"
        raise UnfinishedError(msg)
    documents = _final_documents(table, sources, done, sums)
    group = documents.pop(_GROUP)
    objects.put_all(documents)
    objects.delete_partial()
    objects.put(_GROUP, group)
    objects.delete_partial()
    return done


def is_finished(objects: Objects, existing: Existing | None, table: Table, done: Mapping[int, Record]) -> bool:
    """Say whether a store is whole, down to its smallest object."""
    if existing is None or not existing.finished or len(done) < table.plan.n_shards:
        return False
    return objects.sizes().keys() >= _small_keys(table)


def read_records(objects: Objects, table: Table) -> dict[int, Record]:
    """Read the records that are valid: of this table, of these recordings, with their shard in place."""
    return {index: record for index, record, _ in _each_with_sums(objects, table)}


def read_columns(objects: Objects) -> Columns:
    """Read all of a finished table but its rows."""
    existing = look(objects)
    if existing is None or not existing.finished:
        what = "there is no table of features" if existing is None else "the table is not finished"
        msg = f"{objects.root}: {what}; run jobs.featurize with this --output first"
        raise StoreError(msg)
    names = [field.name for field in fields(Columns) if field.name != "attributes"]
    try:
        return Columns(existing.attributes, **{name: read_column(objects, name) for name in names})
    except (ValueError, KeyError, RuntimeError, FileNotFoundError) as error:
        msg = f"{objects.root}: a column is damaged or missing: {error}; python -m jobs.verify tells more"
        raise StoreError(msg) from error


def read_shard(objects: Objects, index: int) -> NDArray[np.float32]:
    """Read the rows of one shard, through zarr."""
    array = f"{FEATURES}/{_GROUP}"
    documents = objects.get_all([array, shard_key(index)])
    if shard_key(index) not in documents:
        msg = f"{objects.root}/{shard_key(index)}: this shard is missing"
        raise FileNotFoundError(msg)
    try:
        features = open_array(documents, FEATURES)
        begin = index * features.shards[0]
        return np.asarray(features[begin : begin + features.shards[0]])
    except (ValueError, RuntimeError) as error:
        msg = f"{objects.root}/{shard_key(index)}: damaged: {error}; python -m jobs.verify tells more"
        raise OSError(msg) from error


def read_column(objects: Objects, name: str) -> NDArray[Any]:
    """Read one of the small arrays of a store, through zarr."""
    return np.asarray(open_array(objects.get_all(objects.sizes(name)), name)[:])


def open_array(documents: Mapping[str, bytes], name: str) -> Any:  # noqa: ANN401  a zarr.Array, whose slices have many types
    """Open an array of which some objects are in memory: zarr then checks all checksums of what is read of it."""
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    memory = zarr.storage.MemoryStore({key: buffer.from_bytes(data) for key, data in documents.items()})
    return zarr.open_array(memory, path=name, mode="r")


def digest_column(values: NDArray[Any]) -> str:
    """Digest the values of an array, whatever chunks and codecs they are stored with."""
    is_number = values.dtype.kind in "iuf"
    data = values.astype(values.dtype.newbyteorder("<")).tobytes() if is_number else "\0".join(values).encode()
    return hashlib.sha256(data).hexdigest()[:16]


def erase(objects: Objects) -> None:
    """Delete a store; its group metadata goes last, so that what is left of one is still known as a table."""
    if group := objects.get(_GROUP):
        objects.put(_GROUP, json.dumps(json.loads(group) | {"consolidated_metadata": None}).encode())
    objects.delete_below(RECORDS)
    for name in SCHEMA:
        objects.delete_below(name)
    objects.delete_partial()
    objects.delete(_GROUP)


def _clip_differences(objects: Objects, table: Table) -> str:
    new = [as_unicode(clip.path) for clip in table.catalogue.clips]
    try:
        old = [str(path) for path in read_column(objects, "path")]
    except (KeyError, ValueError, OSError):
        return f"clips: others there than the {len(new)} now"
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    changes = [f"{len(some)} {what}, first {some[0]}" for some, what in ((gone, "gone"), (come, "new")) if some]
    details = "; ".join(changes) or "the same paths, but places, lengths, labels or splits have changed"
    return f"clips: {len(old)} there, {len(new)} now ({details})"


def _each_with_sums(objects: Objects, table: Table) -> Iterator[tuple[int, Record, Sums]]:
    """Read the records that are valid; the sums go apart, so that nobody keeps them all in memory."""
    for index, record in each_record(objects, table):
        if sums := statistics.from_json(record.result):
            yield index, replace(record, result={}), sums


def _small_keys(table: Table) -> set[str]:
    """Name all objects of a finished store but its shards and records."""
    lengths = {"clip": len(table.catalogue.clips), "feature": table.catalogue.spec.n_features}
    n_chunks = {name: math.ceil(lengths[SCHEMA[name][0][0]] / _CLIPS_A_CHUNK) for name in COLUMNS}
    chunks = {f"{name}/c.{chunk}" for name, count in n_chunks.items() for chunk in range(count)}
    return {_GROUP} | {f"{name}/{_GROUP}" for name in SCHEMA} | chunks


def _final_documents(table: Table, sources: Sequence[str], done: Mapping[int, Record], sums: Sums) -> dict[str, bytes]:
    problems = list(table.catalogue.problems)
    for record in done.values():
        for clip, problem in record.bad.items():
            problems[clip] = problem
    return _documents(table, sources, [problem or "ok" for problem in problems], statistics.mean_and_std(sums))


def _documents(
    table: Table,
    sources: Sequence[str],
    status: Sequence[str] | None = None,
    statistics: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> dict[str, bytes]:
    """Write the whole group but its shards in memory; with results, also their digests and consolidated metadata."""
    import zarr

    written: dict[str, Any] = {}
    memory = zarr.storage.MemoryStore(written)
    columns = _clip_columns(table, status) | dict(
        zip(("feature_mean", "feature_std"), statistics or _no_statistics(table), strict=True)
    )
    digests = {} if status is None else {DIGESTS: {name: digest_column(values) for name, values in columns.items()}}
    with warnings.catch_warnings():
        # Variable-length strings and consolidated metadata are not yet in the core of the Zarr v3 specification.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        group = zarr.create_group(memory, attributes=_attributes(table, sources) | digests)
        _create_rows(group, table)
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


def _no_statistics(table: Table) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    unknown = np.full(table.catalogue.spec.n_features, np.nan)
    return unknown, unknown


def _attributes(table: Table, sources: Sequence[str]) -> dict[str, Any]:
    return {
        "title": _TITLE,
        "rows": _ROWS,
        "spec": table.catalogue.spec.as_dict(),
        "format": FORMAT,
        "fingerprint": table.fingerprint,
        "clips_digest": digest_clips(table.catalogue),
        "shard_rows": table.plan.layout.shard_rows,
        **provenance(sources, "features", _SOFTWARE),
    }


def _clip_columns(table: Table, status: Sequence[str] | None) -> dict[str, NDArray[Any]]:
    catalogue = table.catalogue
    who = [clip.identity for clip in catalogue.clips]
    return {
        "path": _strings(clip.path for clip in catalogue.clips),
        "machine_type": _strings(clip.machine_type for clip in who),
        "machine_id": _strings(clip.machine_id for clip in who),
        "number": np.array([clip.number for clip in who], np.int32),
        "snr_db": np.array([clip.snr_db for clip in who], np.float32),
        "label": np.array([clip.label for clip in who], np.int8),
        "split": _strings(catalogue.splits),
        "first_row": table.plan.first_row,
        "n_rows": table.plan.n_rows,
        "status": _strings(status or [""] * len(who)),
    }


def _strings(values: Iterable[str]) -> NDArray[Any]:
    return np.array([as_unicode(value) for value in values], np.dtypes.StringDType())


def _create_rows(group: "zarr.Group", table: Table) -> None:
    layout, total = table.plan.layout, table.plan.total_rows
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
