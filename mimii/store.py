"""The table as a Zarr v3 group. The only file that knows Zarr.

zarr writes all small things, metadata and the columns of the clips, into memory; from there they go to the store as
whole objects. Shards are written by tasks (`mimii.extract`). The last object of all is the group's metadata with the
consolidated metadata of its arrays: a store that has it is finished.

zarr is imported where it is used: workers come past here when they start, and do not need its quarter of a second.
"""

import json
import platform
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

import numpy as np
from numpy.typing import NDArray

from mimii import __version__
from mimii.disk import PARTIAL
from mimii.keys import FEATURES, RECORDS, ROW_CLIP, record_key, row_clip_key, shard_key
from mimii.objects import Objects
from mimii.records import Record, add_sums, from_json, mean_and_std
from mimii.shards import ZSTD_LEVEL
from mimii.table import FORMAT, Table, digest_clips, shard_archives, shard_inputs

if TYPE_CHECKING:
    import zarr

_CLIPS_A_CHUNK = 1 << 16
_GROUP = "zarr.json"
_CODECS: Any = ({"name": "zstd", "configuration": {"level": ZSTD_LEVEL, "checksum": False}}, {"name": "crc32c"})
_CHUNK_KEYS: Any = {"name": "default", "separator": "."}
_ARRAYS = (
    *("features", "row_clip", "path", "machine_type", "machine_id", "number", "snr_db", "label", "split"),
    *("first_row", "n_rows", "status", "feature_mean", "feature_std"),
)
_TITLE = "Stacked log-mel features of machine sound"
_LICENSE = "The features are derived from the recordings and come under their licence; MIMII is CC BY-SA 4.0."
_ATTRIBUTION = (
    "Where the recordings are of MIMII: Purohit, Tanabe, Ichige, Endo, Nikaido, Suefusa, Kawaguchi: MIMII Dataset, "
    "Hitachi, Ltd., doi:10.5281/zenodo.3384388"
)
_ROWS = "row t of a clip: frames t, t+1, ..., t+frames-1, each n_mels long; values in dB"
_SOFTWARE = ("numpy", "scipy", "soundfile", "numcodecs", "zarr")


class StoreError(RuntimeError):
    """A store that is not ours to write, or that holds another table; the message says what to do."""


class UnfinishedError(RuntimeError):
    """A store that lacks shards when it is to be finished; the message says which."""


@dataclass(frozen=True, slots=True)
class Existing:
    """What is at the output before a run.

    Attributes
    ----------
    attributes : mapping
        Of the group.
    finished : bool
        Whether it is whole.

    """

    attributes: Mapping[str, Any]
    finished: bool


def look(objects: Objects) -> Existing | None:
    """Look at what is at the output.

    Parameters
    ----------
    objects : Objects
        Of the store.

    Returns
    -------
    Existing or None
        None where there is nothing yet.

    Raises
    ------
    StoreError
        If something else is there.

    """
    data = objects.get(_GROUP)
    try:
        if data is None and all(name == PARTIAL for name in objects.names()):
            return None
        group = json.loads(data or b"")
        attributes = group["attributes"]
        if attributes["title"] == _TITLE and attributes["fingerprint"]:
            return Existing(attributes, bool(group.get("consolidated_metadata")))
    except (ValueError, KeyError, TypeError, NotADirectoryError):
        pass
    msg = (
        f"{objects.root}: there is something that is not a table of features; it is left alone. Choose another --output"
    )
    raise StoreError(msg)


def differences(existing: Existing, table: Table, objects: Objects) -> list[str]:
    """Say how the table in a store differs from another.

    Parameters
    ----------
    existing : Existing
        What is in the store.
    table : Table
        What is to be there.
    objects : Objects
        Of the store.

    Returns
    -------
    list of str
        For people; empty where they are the same.

    """
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

    Parameters
    ----------
    objects : Objects
        Of the store.
    table : Table
        What will be there.
    sources : sequence of str
        Where the recordings are, for the attributes.

    """
    documents = _documents(table, sources)
    objects.put(_GROUP, documents.pop(_GROUP))
    objects.put_all(documents)


def finish(objects: Objects, table: Table, sources: Sequence[str]) -> dict[int, Record]:
    """Write the results, and consolidated metadata last.

    Parameters
    ----------
    objects : Objects
        Of the store.
    table : Table
        What is there.
    sources : sequence of str
        Where the recordings are, for the attributes.

    Returns
    -------
    dict of int to Record
        All of them, by shard.

    Raises
    ------
    UnfinishedError
        If a shard is not done.

    """
    done = read_records(objects, table)
    if missing := [index for index in range(table.plan.n_shards) if index not in done]:
        msg = f"{objects.root}: {len(missing)} of {table.plan.n_shards} shards are not done, the first is {missing[0]}"
        raise UnfinishedError(msg)
    documents = _final_documents(table, sources, done)
    group = documents.pop(_GROUP)
    objects.put_all(documents)
    objects.delete_partial()
    objects.put(_GROUP, group)
    objects.delete_partial()
    return done


def is_finished(objects: Objects, existing: Existing | None, table: Table, done: Mapping[int, Record]) -> bool:
    """Say whether a store is whole, down to its smallest object.

    Parameters
    ----------
    objects : Objects
        Of the store.
    existing : Existing or None
        What `look` saw there.
    table : Table
        What is to be there.
    done : mapping of int to Record
        The records that are there.

    Returns
    -------
    bool
        False also where there is nothing yet.

    """
    if existing is None or not existing.finished or len(done) < table.plan.n_shards:
        return False
    return objects.sizes().keys() >= _final_documents(table, [], done).keys()


def read_records(objects: Objects, table: Table) -> dict[int, Record]:
    """Read the records that are valid: of this table, of these recordings, with their shard in place.

    Parameters
    ----------
    objects : Objects
        Of the store.
    table : Table
        What is to be there.

    Returns
    -------
    dict of int to Record
        By shard, in order. A shard that is not in it is not done.

    """
    sizes = objects.sizes(FEATURES) | objects.sizes(ROW_CLIP)
    written = {record_key(index): index for index in range(table.plan.n_shards) if row_clip_key(index) in sizes}
    documents = objects.get_all(key for key in written if key in sizes)
    records = {written[key]: from_json(data) for key, data in documents.items()}
    return {index: record for index, record in records.items() if record and _is_valid(record, index, table, sizes)}


def erase(objects: Objects) -> None:
    """Delete what is in a store; records first and the group's metadata last, so that half of one is known for a store.

    Parameters
    ----------
    objects : Objects
        Of the store. The folder stays, and whatever else somebody has put there.

    """
    if group := objects.get(_GROUP):
        objects.put(_GROUP, json.dumps(json.loads(group) | {"consolidated_metadata": None}).encode())
    objects.delete_below(RECORDS)
    for name in _ARRAYS:
        objects.delete_below(name)
    objects.delete_partial()
    objects.delete(_GROUP)


def _is_valid(record: Record, index: int, table: Table, sizes: Mapping[str, int]) -> bool:
    return (
        record.shard == index
        and record.fingerprint == table.fingerprint
        and record.size == sizes.get(shard_key(index))
        and record.inputs == shard_inputs(table, index)
        and (not record.bad or record.archives == shard_archives(table, index))
    )


def _clip_differences(objects: Objects, table: Table) -> str:
    new = [_printable(clip.path) for clip in table.catalogue.clips]
    try:
        old = [str(path) for path in _read(objects, "path")]
    except (KeyError, ValueError, OSError):
        return f"clips: others there than the {len(new)} now"
    gone, come = sorted(set(old) - set(new)), sorted(set(new) - set(old))
    changes = [f"{len(some)} {what}, first {some[0]}" for some, what in ((gone, "gone"), (come, "new")) if some]
    details = "; ".join(changes) or "the same paths, but places, lengths, labels or splits have changed"
    return f"clips: {len(old)} there, {len(new)} now ({details})"


def _read(objects: Objects, name: str) -> NDArray[Any]:
    import zarr
    from zarr.core.buffer import default_buffer_prototype

    buffer = default_buffer_prototype().buffer
    documents = objects.get_all(objects.sizes(name))
    memory = zarr.storage.MemoryStore({key: buffer.from_bytes(data) for key, data in documents.items()})
    return np.asarray(zarr.open_array(memory, path=name, mode="r")[:])


def _printable(path: str) -> str:
    """Replace bytes of a path that are not UTF-8: Zarr strings cannot hold them."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _final_documents(table: Table, sources: Sequence[str], done: Mapping[int, Record]) -> dict[str, bytes]:
    problems = list(table.catalogue.problems)
    for record in done.values():
        for clip, problem in record.bad.items():
            problems[clip] = problem
    sums = add_sums((record.sums for record in done.values()), table.catalogue.spec.n_features)
    return _documents(table, sources, [problem or "ok" for problem in problems], mean_and_std(sums))


def _without_credentials(source: str) -> str:
    url = urlsplit(source)
    if not url.scheme:
        return source
    return urlunsplit((url.scheme, url.netloc.rpartition("@")[2], url.path, "", ""))


def _documents(
    table: Table,
    sources: Sequence[str],
    status: Sequence[str] | None = None,
    statistics: tuple[NDArray[np.float64], NDArray[np.float64]] | None = None,
) -> dict[str, bytes]:
    """Write the whole group but its shards in memory; with results, also consolidated metadata."""
    import zarr

    written: dict[str, Any] = {}
    memory = zarr.storage.MemoryStore(written)
    with warnings.catch_warnings():
        # Variable-length strings and consolidated metadata are not yet in the core of the Zarr v3 specification.
        warnings.filterwarnings("ignore", category=UserWarning, module="zarr")
        warnings.filterwarnings("ignore", category=FutureWarning, module="zarr")
        group = zarr.create_group(memory, attributes=_attributes(table, sources))
        _create_rows(group, table)
        for name, values in _clip_columns(table, status).items():
            _create_column(group, name, values, "clip")
        for name, values in zip(("feature_mean", "feature_std"), statistics or _no_statistics(table), strict=True):
            _create_column(group, name, values, "feature")
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
        "sources": [_without_credentials(_printable(source)) for source in sources],
        "software": {"sound-features": __version__, "python": platform.python_version()}
        | {name: version(name) for name in _SOFTWARE},
        "license": _LICENSE,
        "attribution": _ATTRIBUTION,
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
    return np.array([_printable(value) for value in values], np.dtypes.StringDType())


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
