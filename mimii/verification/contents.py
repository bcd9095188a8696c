"""A finished store but for its shards: read, and checked on the way."""

import math
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

import mimii.images
from mimii.engine import StoreError, look
from mimii.features import FeatureSpec
from mimii.recordings import GOOD, TRAIN
from mimii.storage import SHORT_TIMEOUT, Objects, is_remote, with_timeout
from mimii.table import (
    FEATURES,
    FORMAT,
    HEAD,
    RECORDS,
    REMOVED,
    REPLACED,
    ROW_CLIP,
    Layout,
    RowPlan,
    digest_made,
    metadata_key,
    open_array,
    plan_rows,
    read_array_by_zarr,
)
from mimii.verification.metadata import (
    ALL_COLUMNS,
    Checked,
    Finding,
    array_names,
    check_columns,
    check_metadata,
    check_objects,
    check_plan,
    find_grown,
    read_metadata,
)


@dataclass(frozen=True, slots=True)
class Store:
    """What workers need to read a store: its objects, the metadata of its rows by key, and what they must be."""

    objects: Objects
    documents: Mapping[str, bytes]
    layout: Layout
    spec: FeatureSpec

    @property
    def made(self) -> str:
        """Digest of how rows are made and cut up."""
        return digest_made(self.spec, self.layout)

    def open_array(self, name: str, objects: Mapping[str, bytes]) -> Any:  # noqa: ANN401  a zarr.Array
        """Open features or row_clip, of which some shards or chunks are in memory."""
        return open_array({**self.documents, **objects}, name)


@dataclass(frozen=True, slots=True)
class Contents:
    """All of a finished store but its shards; its metadata is correct.

    Attributes
    ----------
    n_rows : int
        Rows of the features.
    columns : mapping of str to ndarray
        Those that can be read, by name.
    rows : RowPlan or None
        Where each clip's rows are; None where the columns do not say.
    bad, is_train : ndarray of bool, shape (n_clips,)
        Which clips could not be used, and which are for training; empty where `rows` is None.

    """

    store: Store
    attributes: Mapping[str, Any]
    n_rows: int
    columns: Mapping[str, NDArray[Any]]
    rows: RowPlan | None = None
    bad: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))
    is_train: NDArray[np.bool_] = field(default_factory=lambda: np.empty(0, bool))

    def is_out(self, clip: int) -> bool:
        """Say whether a clip was taken out of the table, or its recording became another."""
        return self.columns["status"][clip] in (REMOVED, REPLACED)

    @property
    def n_shards(self) -> int:
        """How many shards there are."""
        return math.ceil(self.n_rows / self.store.layout.shard_rows)

    @property
    def n_clips(self) -> int:
        """How many clips there are."""
        return max((len(self.columns[name]) for name in ("path", "n_rows") if name in self.columns), default=0)


def read_contents(objects: Objects) -> tuple[Contents | None, list[Checked]]:
    """Read and check all but the shards of a store; None where the checks that failed allow no more.

    Raises StoreError where there is no table.
    """
    quick = with_timeout(objects, SHORT_TIMEOUT)
    if finding := _look(quick):
        return None, [Checked(finding.check, 1, (finding,))]
    head = quick.get(HEAD.key) or b"{}"
    documents = {HEAD.key: head, **quick.get_all(list(map(metadata_key, array_names(head))))}
    metadata = read_metadata(documents)
    if isinstance(found := metadata.attributes.get("format"), int) and found < FORMAT:
        msg = (
            f"{objects.root}: made by an earlier version, in format {found}: it can be read as before, but this one "
            f"checks format {FORMAT}. Make it again with --overwrite, or check it with the version that made it"
        )
        raise StoreError(msg)
    if grown := find_grown(metadata):
        problem = f"{grown} is longer than the table: an update is not finished; run the same command again"
        return None, [Checked("finished", 1, (Finding("finished", objects.root, problem, delete=ALL_COLUMNS),))]
    layout, spec = metadata.layout, metadata.spec
    checked = [Checked("finished", 1), check_metadata(metadata)]
    if checked[-1].findings or layout is None or spec is None:
        return None, checked
    columns = {name: _read_column(quick, name, documents) for name in metadata.columns}
    readable = {name: values for name, values in columns.items() if not isinstance(values, str)}
    checked += [check_objects(metadata, layout, quick.sizes()), check_columns(columns, metadata)]
    of_rows = {key: documents[key] for key in map(metadata_key, (FEATURES, ROW_CLIP))}
    store = Store(objects, of_rows, layout, spec)
    contents = Contents(store, metadata.attributes, metadata.n_rows, readable)
    if len(readable) == len(columns):
        checked.append(check_plan(readable, layout, metadata.n_rows))
        if not checked[-1].findings:
            rows, is_train = plan_rows(readable["n_rows"], layout), readable["split"] == TRAIN
            contents = replace(contents, rows=rows, bad=readable["status"] != GOOD, is_train=is_train)
    return contents, checked


def _look(objects: Objects) -> Finding | None:
    """Return what is wrong where nothing else can be checked."""
    try:
        existing = look(objects, HEAD)
    except StoreError:
        return _look_for_records(objects)
    if existing is None:
        msg = f"{objects.root}: there is nothing there. Make a table first: python -m jobs.featurize --output URL"
        raise StoreError(msg)
    if existing.finished:
        return None
    problem = (
        f"is not finished, shards done so far: {len(objects.sizes(RECORDS))}. To resume, run the python -m "
        "jobs.featurize command that began it again"
    )
    return Finding("finished", objects.root, problem)


def _look_for_records(objects: Objects) -> Finding:
    """Return what is wrong with a table whose head is lost."""
    if not objects.sizes(RECORDS):
        raise StoreError(_describe_other(objects))
    command = "aws s3 rm --recursive" if is_remote(objects.root) else "rm -r"
    problem = (
        "is missing, or is not that of a table, though there are records of one: it cannot be fixed. Delete the whole "
        f"store first: {command} {shlex.quote(objects.root)}"
    )
    return Finding("metadata", HEAD.key, problem)


def _describe_other(objects: Objects) -> str:
    try:
        is_album = look(objects, mimii.images.ALBUM_HEAD) is not None
    except StoreError:
        is_album = False
    if is_album:
        return f"{objects.root}: this is a set of images; run python -m jobs.render with the same options and --check"
    return f"{objects.root}: what is there is no table of features; name the --output of python -m jobs.featurize"


def _read_column(objects: Objects, name: str, documents: Mapping[str, bytes]) -> NDArray[Any] | str:
    try:
        return read_array_by_zarr(objects, name, documents)
    except OSError:
        raise
    except Exception as error:  # noqa: BLE001  zarr and its codecs raise many types over damaged bytes
        return f"cannot be read: {str(error).strip() or type(error).__name__}"
