"""What a table will be: its clips, their rows, its fingerprint; and what each task of it needs to know."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Head, Stamp, make_stamp
from mimii.features import Fault, FeatureSpec, Input
from mimii.recordings import TRAIN, Catalogue, digest_clips
from mimii.storage import DEFAULT_READS, Objects, ReadOptions
from mimii.table.plan import Layout, RowPlan, RowSpan, choose_layout, plan_rows

SHARD_BYTES = 32 << 20
"""The uncompressed size of a shard where nothing else is asked for."""

_OF_SEVERAL_VALUES = ("spec", "sources", "software", "kernels", "column_digests")

FORMAT = 1
"""Goes into the fingerprint: counts changes of the store's format or of the kernels' results."""


def write_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as they are stored: those of several values are JSON, since netCDF has none of that kind."""
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()}


def read_attributes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored attributes as values; earlier versions stored them as they are."""
    stored = dict(stored)  # a TypeError where it is none
    is_json = {name for name in _OF_SEVERAL_VALUES if isinstance(stored.get(name), str)}
    return {name: json.loads(value) if name in is_json else value for name, value in stored.items()}


def _read_head(group: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    return read_attributes(group["attributes"]), bool(group.get("consolidated_metadata"))


def _unfinish(group: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**group, "consolidated_metadata": None}


HEAD = Head("zarr.json", "Stacked log-mel features of machine sound", "table of features", _read_head, _unfinish)
"""The group's metadata: with the consolidated metadata of its arrays, the table is finished."""


@dataclass(frozen=True, slots=True, repr=False)
class TablePlan:
    """All that is known of a table before any of it is computed.

    Attributes
    ----------
    catalogue : Catalogue
        Its clips.
    rows : RowPlan
        Their rows.
    counted : ndarray of bool, shape (n_clips,)
        Which clips count for the statistics: those for training, or all where none of these can be used.
    fingerprint : str
        Of the spec, the clips and the layout: two tables with the same fingerprint have the same rows.
    sources : tuple of str
        Where the recordings were found, for the table's attributes.

    """

    catalogue: Catalogue
    rows: RowPlan
    counted: NDArray[np.bool_]
    fingerprint: str
    sources: tuple[str, ...] = ()

    def __repr__(self) -> str:
        n_clips, rows = len(self.catalogue.clips), self.rows
        n_bad = sum(map(bool, self.catalogue.problems))
        megabytes = rows.total_rows * rows.layout.row_bytes / 1e6
        return (
            f"<TablePlan: {n_clips:,} clips ({n_bad:,} cannot be used), {rows.total_rows:,} rows of "
            f"{rows.layout.n_features} values, {rows.n_shards:,} shards, {megabytes:,.1f} MB uncompressed>"
        )


@dataclass(frozen=True, slots=True)
class ShardTask:
    """All that a worker needs to compute and write one shard.

    Attributes
    ----------
    output : Objects
        The store.
    read_options : ReadOptions
        How to fetch the recordings.
    spec : FeatureSpec
        What to compute.
    layout : Layout
        Rows of chunk and shard.
    stamp : Stamp
        For the record; it says which shard.
    inputs : tuple of Input
        The recordings.
    spans : tuple of RowSpan
        The rows of each of them that are in the shard; together they are all of its rows.
    counted : tuple of bool
        Whether they count for the table's statistics.
    faults : mapping of int to Fault
        Clips that are known not to be readable.

    """

    output: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    layout: Layout
    stamp: Stamp
    inputs: tuple[Input, ...]
    spans: tuple[RowSpan, ...]
    counted: tuple[bool, ...]
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the shard and its recordings, for messages."""
        return f"shard {self.stamp.task}, recordings {self.inputs[0].place} to {self.inputs[-1].place}"


def make_table_plan(catalogue: Catalogue, shard_bytes: int = SHARD_BYTES, sources: Sequence[str] = ()) -> TablePlan:
    """Plan a table: the same for the same clips, always."""
    layout = choose_layout(catalogue.n_rows, catalogue.spec.n_features, shard_bytes)
    return TablePlan(
        catalogue,
        plan_rows(catalogue.n_rows, layout),
        count_for_statistics(catalogue.n_rows, catalogue.splits),
        fingerprint(catalogue.spec, layout, digest_clips(catalogue)),
        tuple(sources),
    )


def count_for_statistics(n_rows: NDArray[np.integer], splits: Sequence[str]) -> NDArray[np.bool_]:
    """Say which clips count for the statistics of a table: those for training, or all where none of these has rows."""
    is_train: NDArray[np.bool_] = (n_rows > 0) & np.array([split == TRAIN for split in splits], bool)
    return is_train if is_train.any() else ~is_train


def fingerprint(spec: FeatureSpec, layout: Layout, clips_digest: str, counter: int = FORMAT) -> str:
    """Digest all that decides what is in a table: the same for the same table, always."""
    values = (counter, spec.as_dict(), layout.chunk_rows, layout.shard_rows, clips_digest)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def shard_stamp(plan: TablePlan, shard: int) -> Stamp:
    """Return what the record of a shard must bear."""
    places = [plan.catalogue.clips[clip].place for clip in plan.rows.clips_of(shard)]
    return make_stamp(plan.fingerprint, shard, places)


def shard_task(plan: TablePlan, shard: int, output: Objects, read_options: ReadOptions = DEFAULT_READS) -> ShardTask:
    """Gather what a worker needs to know of one shard: some kilobytes."""
    catalogue, spans = plan.catalogue, plan.rows.spans(shard)
    return ShardTask(
        output,
        read_options,
        catalogue.spec,
        plan.rows.layout,
        shard_stamp(plan, shard),
        inputs=tuple(
            Input(span.clip, catalogue.clips[span.clip].place, int(catalogue.n_samples[span.clip])) for span in spans
        ),
        spans=spans,
        counted=tuple(bool(plan.counted[span.clip]) for span in spans),
    )
