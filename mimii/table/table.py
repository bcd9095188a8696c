"""What a table will be: its clips, their rows, its fingerprint; and what each task of it needs to know."""

import hashlib
import html
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import ChangedError, Head, Origins, Record, Stamp, find_origins
from mimii.features import Fault, FeatureSpec, Input
from mimii.recordings import NO_SPLIT, PLAIN, TRAIN, Catalogue, Meaning, Split, digest_clips
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, numbered
from mimii.table.columns import OTHER_COLUMNS, choose_types, with_plain_columns
from mimii.table.plan import Layout, RowPlan, choose_layout, plan_rows
from mimii.table.second_keys import has_second_keys
from mimii.table.spans import (
    FORMAT,
    Spans,
    digest_archives,
    digest_made,
    digest_spans,
    digested_spec,
    find_same,
    make_spans,
    spans_from_values,
)

SHARD_BYTES = 32 << 20
"""The uncompressed size of a shard where nothing else is asked for."""

_OF_SEVERAL_VALUES = ("spec", "sources", "software", "kernels", "column_digests", "mel_chunks", "split", OTHER_COLUMNS)

NOTHING = "nothing"
"""What a table has grown from that was not there."""

LOST = "its rows are lost, and its recording was not named: name it, too"
"""The status of a clip whose rows are to stay, and are not there any more."""


def write_attributes(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return attributes as they are stored: those of several values are JSON, since netCDF has none of that kind."""
    return {name: json.dumps(value) if isinstance(value, dict | list) else value for name, value in values.items()}


def read_attributes(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Return stored attributes as values; earlier versions stored them as they are."""
    stored = dict(stored)  # a TypeError where it is none
    is_json = {name for name in _OF_SEVERAL_VALUES if isinstance(stored.get(name), str)}
    return {name: json.loads(value) if name in is_json else value for name, value in stored.items()}


HAS_SECOND_KEYS = "has_second_keys"
"""What is read of a table beside its attributes: by which of two sets of keys its chunks are stored."""


def _read_head(group: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    second = has_second_keys(json.dumps(group).encode())
    return read_attributes(group["attributes"]) | {HAS_SECOND_KEYS: second}, bool(group.get("consolidated_metadata"))


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
        Its clips. One that has rows and a problem was taken out of the table: its rows become NaN.
    rows : RowPlan
        Their rows.
    origins : Origins
        Which recordings they are of.
    is_train : ndarray of bool, shape (n_clips,)
        Which clips are for training.
    is_readable : ndarray of bool, shape (n_clips,)
        Which clips have a recording that can be read now: in a table that grows, those that were found again.
    fingerprint : str
        Of the spec, the clips and the layout: two tables with the same fingerprint have the same rows.
    sources : tuple of str
        Where the recordings were found, for the table's attributes.
    split : Split
        How clips were split, for those that come later.
    columns : mapping of str to str
        Columns of lists and layouts, by name: float64 or string.
    meaning : Meaning
        How the recordings' paths were understood, for those that are scored later.
    resamples : bool
        Whether recordings with another rate are resampled, also those that come later.
    grown_from : str
        The fingerprint of the table that this is an update of, `NOTHING` where there was none yet; empty where it is a
        table of its own.
    keeps_rows : bool
        Whether that table is finished: rows of clips that are not read now must be there, and must not be lost.

    """

    catalogue: Catalogue
    rows: RowPlan
    origins: Origins
    is_train: NDArray[np.bool_]
    is_readable: NDArray[np.bool_]
    fingerprint: str
    sources: tuple[str, ...] = ()
    split: Split = NO_SPLIT
    grown_from: str = ""
    keeps_rows: bool = False
    columns: Mapping[str, str] = field(default_factory=dict)
    resamples: bool = False
    meaning: Meaning = PLAIN

    def __repr__(self) -> str:
        n_clips, rows, dtype = len(self.catalogue.clips), self.rows, self.catalogue.spec.dtype
        n_bad = sum(map(bool, self.catalogue.problems))
        megabytes = rows.total_rows * rows.layout.row_bytes / 1e6
        shards = numbered(rows.n_shards, "shard")
        return (
            f"<TablePlan: {numbered(n_clips, 'clip')} ({n_bad:,} cannot be used), {rows.total_rows:,} rows of "
            f"{rows.layout.n_features} {dtype} values, {shards}, {megabytes:,.1f} MB uncompressed>"
        )

    def _repr_html_(self) -> str:
        """Return the same for notebooks, with the features in s and Hz."""
        return f"<p>{html.escape(repr(self))}</p>{self.catalogue.spec._repr_html_()}"

    @property
    def has_grown(self) -> bool:
        """Whether this is an update of a table that is there."""
        return self.grown_from not in ("", NOTHING)

    @property
    def made(self) -> str:
        """Digest of how rows are made and cut up."""
        return digest_made(self.catalogue.spec, self.rows.layout)

    def spans(self, shard: int) -> Spans:
        """Return what a shard is made of."""
        return make_spans(self.rows, shard, self.origins, self.is_train)


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
    made : str
        Digest of both, for the record.
    stamp : Stamp
        For the record; it says which shard.
    inputs : tuple of Input
        The recordings; those of which the rows are kept are not read.
    spans : ndarray of SPAN
        The rows of each of them that are in the shard; together they are all of its rows.
    faults : mapping of int to Fault
        Clips whose rows are NaN, and why: they are not read, either.
    has_former : bool
        Whether a shard with a record is there: until this one is, that record tells which recordings it is of.

    """

    output: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    layout: Layout
    made: str
    stamp: Stamp
    inputs: tuple[Input, ...]
    spans: Spans
    faults: Mapping[int, Fault] = field(default_factory=dict)
    has_former: bool = False

    def __str__(self) -> str:
        """Name the shard and its recordings, for messages."""
        read = [one.place for one in self.inputs if not one.is_kept] or [one.place for one in self.inputs]
        return f"shard {self.stamp.task}, recordings {read[0]} to {read[-1]}"


def make_table_plan(
    catalogue: Catalogue, shard_bytes: int = SHARD_BYTES, sources: Sequence[str] = (), split: Split = NO_SPLIT
) -> TablePlan:
    """Plan a table: the same for the same clips, always."""
    spec = catalogue.spec
    layout = choose_layout(catalogue.n_rows, spec.n_features, shard_bytes, spec.dtype)
    origins, readable = find_origins(catalogue.clips), np.ones(len(catalogue.clips), bool)
    types = choose_types(clip.identity.columns for clip in catalogue.clips)
    plan = complete_plan(catalogue, layout, origins, readable, types)
    return replace(plan, sources=tuple(sources), split=split)


def complete_plan(
    catalogue: Catalogue,
    layout: Layout,
    origins: Origins,
    is_readable: NDArray[np.bool_],
    columns: Mapping[str, str],
    grown_from: str = "",
) -> TablePlan:
    """Return the plan of these clips, with columns of lists of these types, and with what follows from them."""
    is_train = np.array([one == TRAIN for one in catalogue.splits], bool)
    wanted = fingerprint(catalogue.spec, layout, digest_table_clips(catalogue, origins, columns))
    rows = plan_rows(catalogue.n_rows, layout)
    return TablePlan(
        catalogue, rows, origins, is_train, is_readable, wanted, grown_from=grown_from, columns=dict(columns)
    )


def digest_table_clips(catalogue: Catalogue, origins: Origins, columns: Mapping[str, str]) -> str:
    """Digest the clips of a table, with what lists say of them as the columns of the table have it."""
    plain = replace(catalogue, clips=with_plain_columns(catalogue.clips, columns))
    return digest_clips(plain, origins.place.tolist())


def fingerprint(spec: FeatureSpec, layout: Layout, clips_digest: str, counter: int = FORMAT) -> str:
    """Digest all that decides what is in a table: the same for the same table, always."""
    values = (counter, digested_spec(spec), layout.chunk_rows, layout.shard_rows, clips_digest)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def shard_stamp(plan: TablePlan, shard: int) -> Stamp:
    """Return what the record of a shard must bear: what the shard is made of, and nothing else of the table."""
    spans = plan.spans(shard)
    return Stamp(digest_spans(plan.made, spans), shard, archives=digest_archives(spans))


def shard_task(
    plan: TablePlan,
    shard: int,
    output: Objects,
    read_options: ReadOptions = DEFAULT_READS,
    former: Record | None = None,
) -> ShardTask:
    """Gather what a worker needs to know of one shard: some kilobytes.

    `former` is the record of the shard that is there: rows of it that are wanted are kept.
    """
    catalogue, spans = plan.catalogue, plan.spans(shard)
    is_kept, faults = _keep(plan, spans, former)
    clips = spans["clip"].tolist()
    inputs = tuple(catalogue.input(clip, is_kept=kept) for clip, kept in zip(clips, is_kept, strict=True))
    stamp = Stamp(digest_spans(plan.made, spans), shard, archives=digest_archives(spans))
    layout, made, has_former = plan.rows.layout, plan.made, former is not None
    return ShardTask(output, read_options, catalogue.spec, layout, made, stamp, inputs, spans, faults, has_former)


def _keep(plan: TablePlan, spans: Spans, former: Record | None) -> tuple[list[bool], dict[int, Fault]]:
    """Say of which clips the rows in a former shard are kept, and which clips' rows are NaN for a known reason."""
    there = spans_from_values(former.result) if former and former.result.get("made") == plan.made else None
    same = [-1] * len(spans) if there is None else find_same(spans, there).tolist()
    is_kept, faults = [False] * len(spans), dict[int, Fault]()
    for index, (span, at) in enumerate(zip(spans, same, strict=True)):
        clip = int(span["clip"])
        if problem := plan.catalogue.problems[clip]:
            faults[clip] = Fault(problem)
        elif former and there is not None and at >= 0 and _stays(former, span, there[at]):
            is_kept[index] = clip not in former.bad
            faults |= {clip: Fault(former.bad[clip], clip in former.unread)} if clip in former.bad else {}
        elif not plan.is_readable[clip]:
            _check_version(plan, clip, there)
            faults[clip] = Fault(LOST, unread=True)
    return is_kept, faults


def _check_version(plan: TablePlan, clip: int, there: Spans | None) -> None:
    """Raise ChangedError where a shard has rows of another recording of a clip than when this was planned."""
    planned = plan.origins.version[clip]
    if plan.has_grown and there is not None and planned and (there["version"][there["clip"] == clip] != planned).any():
        msg = "another run has replaced recordings since this one was planned; run it again"
        raise ChangedError(msg)


def _stays(former: Record, span: Any, there: Any) -> bool:  # noqa: ANN401  two of `SPAN`
    """Say whether what became of a clip before is still so."""
    clip = int(span["clip"])
    return clip not in former.unread and (clip not in former.bad or span["archive"] == there["archive"])
