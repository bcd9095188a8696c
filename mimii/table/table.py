"""A catalogue and a plan make a table; here is its fingerprint, and what each task of it needs to know."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Stamp, make_stamp
from mimii.features import FeatureSpec, Loaded
from mimii.recordings import TRAIN, Catalogue, digest_clips
from mimii.storage import DEFAULT_READS, Objects, Place, ReadOptions
from mimii.table.keys import RECORDS
from mimii.table.plan import Layout, Plan, choose_layout, make_plan

FORMAT = 1
"""Goes into the fingerprint: counts changes of the store's format or of the kernels' results."""


@dataclass(frozen=True, slots=True)
class Table:
    """All that is known of a table before any of it is computed.

    Attributes
    ----------
    catalogue : Catalogue
        Its clips.
    plan : Plan
        Their rows.
    counts : ndarray of bool, shape (n_clips,)
        Which clips count for the statistics: those for training, or all where none of these can be used.
    fingerprint : str
        Of the spec, the clips and the layout: two tables with the same fingerprint have the same rows.

    """

    catalogue: Catalogue
    plan: Plan
    counts: NDArray[np.bool_]
    fingerprint: str

    @property
    def records(self) -> str:
        """Below which prefix the records are: one that Zarr knows for an array's, and does not list."""
        return RECORDS

    @property
    def n_tasks(self) -> int:
        """How many shards there are: a task each."""
        return self.plan.n_shards

    def clips_of(self, task: int) -> list[int]:
        """Say of which clips a shard holds rows."""
        clips: list[int] = self.plan.clips_of(task).tolist()
        return clips

    def n_ended(self, task: int) -> int:
        """Count the clips whose last row is in a shard."""
        return self.plan.n_ended(task)


@dataclass(frozen=True, slots=True)
class Part:
    """The rows of one clip that a task computes.

    Attributes
    ----------
    clip : int
        Which clip of the table.
    place : Place
        Where its bytes are.
    n_samples : int
        Samples of one channel, as planned.
    start, stop : int
        Which of the clip's rows.
    counts : bool
        Whether they count for the table's statistics.

    """

    clip: int
    place: Place
    n_samples: int
    start: int
    stop: int
    counts: bool


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
        For the record.
    shard : int
        Which shard.
    parts : tuple of Part
        In order; together they are all rows of the shard.
    n_ended : int
        Clips whose last row it holds.
    faults : mapping of int to Loaded
        Clips that are known not to be readable.

    """

    output: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    layout: Layout
    stamp: Stamp
    shard: int
    parts: tuple[Part, ...]
    n_ended: int
    faults: Mapping[int, Loaded] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the shard and its recordings, for messages."""
        return f"shard {self.shard}, recordings {self.parts[0].place} to {self.parts[-1].place}"


def make_table(catalogue: Catalogue, shard_bytes: int) -> Table:
    """Plan a table."""
    layout = choose_layout(catalogue.n_rows, catalogue.spec.n_features, shard_bytes)
    counts = count_for_statistics(catalogue.n_rows, catalogue.splits)
    return Table(
        catalogue,
        make_plan(catalogue.n_rows, layout),
        counts,
        fingerprint(catalogue.spec, layout, digest_clips(catalogue)),
    )


def count_for_statistics(n_rows: NDArray[np.integer], splits: Sequence[str]) -> NDArray[np.bool_]:
    """Say which clips count for the statistics of a table."""
    is_train: NDArray[np.bool_] = (n_rows > 0) & np.array([split == TRAIN for split in splits], bool)
    return is_train if is_train.any() else ~is_train


def fingerprint(spec: FeatureSpec, layout: Layout, clips_digest: str, counter: int = FORMAT) -> str:
    """Digest all that decides what is in a table."""
    values = (counter, spec.as_dict(), layout.chunk_rows, layout.shard_rows, clips_digest)
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def shard_task(table: Table, index: int, output: Objects, read_options: ReadOptions = DEFAULT_READS) -> ShardTask:
    """Gather what a worker needs to know for one shard."""
    catalogue = table.catalogue
    parts = tuple(
        Part(
            clip=piece.clip,
            place=catalogue.clips[piece.clip].place,
            n_samples=int(catalogue.n_samples[piece.clip]),
            start=piece.start,
            stop=piece.stop,
            counts=bool(table.counts[piece.clip]),
        )
        for piece in table.plan.shard(index).pieces
    )
    return ShardTask(
        output,
        read_options,
        catalogue.spec,
        table.plan.layout,
        make_stamp(table, index),
        index,
        parts,
        table.n_ended(index),
    )
