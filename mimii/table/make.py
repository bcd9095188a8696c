"""Plan a table and make it: the front door to this room, for the command and for Python."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

from mimii.engine import SILENT, ChangedError, Progress, Run, Scheduler, look, run
from mimii.features import FeatureSpec
from mimii.recordings import (
    PLAIN,
    TRAIN,
    UNKNOWN,
    Clip,
    SourceError,
    Split,
    catalogue_recordings,
    commonest_sample_rate,
)
from mimii.storage import (
    DEFAULT_ACCESS,
    DEFAULT_READS,
    SHORT_TIMEOUT,
    Access,
    Location,
    ReadOptions,
    as_path,
    expect,
    open_objects,
    with_timeout,
)
from mimii.table.growth import Growth, grow, read_state
from mimii.table.keys import RECORDS
from mimii.table.reading import open_store
from mimii.table.store import TableOutput
from mimii.table.table import HEAD, NOTHING, SHARD_BYTES, TablePlan, make_table_plan

_MOST_PLANS = 100
"""Each further one means that another update has finished in between: this many do not come one after the other."""

_Result = TypeVar("_Result")
_log = logging.getLogger(__name__)


def plan_table(  # noqa: PLR0913  each is a choice that users have
    clips: Sequence[Clip],
    spec: FeatureSpec | None = None,
    *,
    split: str = "baseline",
    train_fraction: float = 0.8,
    seed: int = 0,
    sample_rate: int | None = None,
    channel: int | str | None = None,
    segment: float | None = None,
    overlap: float | None = None,
    shard_bytes: int = SHARD_BYTES,
) -> TablePlan:
    """Decide which rows of a table each clip fills, and which shard holds them; nothing is read or written.

    Parameters
    ----------
    clips : sequence of Clip
        From `find_recordings`. One that cannot be used gets a status and no rows.
    spec : FeatureSpec
        What to compute; the preset ``explore`` at the sample rate of most clips where it is left out.
    split : {"baseline", "stratified", "none"}
        Which clips are for training. baseline: test = all abnormal clips and as many normal ones, train = the other
        normal ones; stratified: a share of each label, by a hash of what the clip is; none.
    train_fraction : float
        The share for training of ``split="stratified"``.
    seed : int
        Another one is another ``split="stratified"``.
    sample_rate : int
        Hz, instead of that of the spec; recordings with another one are resampled to it. Where it is left out, these
        are bad clips.
    channel : int, "mean" or "all"
        Which channel, instead of that of the spec; with ``"all"`` each is a clip of its own.
    segment, overlap : float
        Seconds of the segments that recordings are cut into, each a clip of its own, and seconds that a segment shares
        with the one before; instead of those of the spec.
    shard_bytes : int
        The uncompressed size of a shard, which is what one task writes.

    Returns
    -------
    TablePlan
        The same for the same clips, always; its repr says how many clips, rows, shards and bytes there will be.

    """
    by, changes = Split(split, train_fraction, seed), given(channel=channel, segment=segment, overlap=overlap)
    if sample_rate is not None:
        changes["sample_rate"] = sample_rate
    elif spec is None and changes:
        changes["sample_rate"] = commonest_sample_rate(clips) or FeatureSpec().sample_rate
    wanted = (spec or FeatureSpec()).changed(**changes) if changes else spec
    plan = plan_recordings(clips, wanted, by, shard_bytes, resample=sample_rate is not None)
    if split != "none" and TRAIN not in plan.catalogue.splits:
        _log.warning("%s; the statistics are of all rows", _why_no_training(clips, split))
    return plan


def plan_recordings(
    recordings: Sequence[Clip],
    spec: FeatureSpec | None,
    by: Split,
    shard_bytes: int = SHARD_BYTES,
    *,
    resample: bool = False,
) -> TablePlan:
    """Do the same for recordings that need not make a table of their own: it does not matter how many train."""
    catalogue = catalogue_recordings(recordings, spec, by, resample=resample)
    plan = make_table_plan(catalogue, shard_bytes, getattr(recordings, "sources", ()), by)
    return replace(plan, resamples=resample, meaning=getattr(recordings, "meaning", PLAIN))


def plan_update(plan: TablePlan, output: Location, *, prune: bool = False, access: Access = DEFAULT_ACCESS) -> Growth:
    """Decide how a table grows: what is planned is added to what is there.

    Parameters
    ----------
    plan : TablePlan
        From `plan_table`: the recordings that there are now. Those that the table has and the plan does not stay.
    output : str or path
        The table; where there is none yet, everything is new.
    prune : bool
        Whether clips of the table that lie below the sources of the plan, and are not in it, are taken out: their
        status becomes ``removed``, their rows NaN.
    access : Access
        How to connect to S3.

    Returns
    -------
    Growth
        The plan of the table as it will be, and what changes, by name.

    Raises
    ------
    StoreError
        If there is something else at the output, or its features are others.

    """
    objects = with_timeout(open_store(as_path(output), access), SHORT_TIMEOUT)
    existing = look(objects, HEAD)
    if existing is None:
        return Growth(replace(plan, grown_from=NOTHING), added=sorted(clip.path for clip in plan.catalogue.clips))
    if not existing.finished and not objects.sizes(RECORDS):  # stopped before its first shard
        return Growth(replace(plan, grown_from=existing.attributes["fingerprint"]))
    growth = grow(plan, read_state(objects, existing), prune=prune)
    return replace(growth, plan=replace(growth.plan, keeps_rows=existing.finished))


def given(**options: float | str | None) -> dict[str, float | str | None]:
    """Return the options that were given."""
    return {name: value for name, value in options.items() if value is not None}


def _why_no_training(clips: Sequence[Clip], split: str) -> str:
    if all(clip.identity.label == UNKNOWN for clip in clips):
        return "no clip is for training, as none has a label: name folders normal and abnormal, or use a list"
    if split == "baseline":
        return "no clip is for training: the split baseline needs more normal clips of a machine than abnormal ones"
    return f"no clip is for training by the split {split}: it needs more clips with a label, or a larger train_fraction"


def featurize(  # noqa: PLR0913  each is a choice that users have
    plan: TablePlan,
    output: Location,
    *,
    client: Scheduler = None,
    update: bool = False,
    prune: bool = False,
    overwrite: bool = False,
    access: Access = DEFAULT_ACCESS,
    read_options: ReadOptions = DEFAULT_READS,
    progress: Progress = SILENT,
) -> Run:
    """Make a table of features: compute what is missing at the output, write it, and finish it.

    It can be killed at any moment; the same call resumes, to the same bytes.

    Parameters
    ----------
    plan : TablePlan
        From `plan_table`.
    output : str or path
        A folder, or ``s3://bucket/prefix``.
    client : distributed.Client, Where, or None
        Where the shards are computed; None is this process, one after the other.
    update : bool
        Add these clips to the table that is there: what it has already stays, recordings that changed are computed
        again, labels and splits that differ are corrected. Where another update ends just before, it is planned again.
    prune : bool
        With `update`, take clips out whose recordings are gone, see `plan_update`.
    overwrite : bool
        Delete a table of other clips or another spec that is there; else it is refused.
    access : Access
        How to connect to S3 for the output.
    read_options : ReadOptions
        How workers fetch recordings from S3.
    progress : Progress
        What is shown meanwhile; nothing where it is left out.

    Returns
    -------
    Run
        Which shards were computed now, the records of all, bad clips, and how long it took.

    Raises
    ------
    TypeError
        If the plan is not one.
    ValueError
        If `prune` comes without `update`, or `overwrite` with it.
    SourceError
        If the plan has no clips at all. Where it has clips and none can be used, the table says why.
    StoreError
        If there is something else at the output.
    WorkError
        If the work cannot be finished, such as when there is no worker.
    OSError
        If the output cannot be written, or S3 cannot be used.

    """
    expect(plan, TablePlan, "featurize takes a plan: mimii.plan_table(mimii.find_recordings(FOLDER))")
    if prune and not update:
        msg = "prune needs update=True"
        raise ValueError(msg)
    if update and overwrite:
        msg = "update keeps what is there, and overwrite replaces it: use one of them"
        raise ValueError(msg)

    def make(plan: TablePlan) -> Run:
        if not plan.catalogue.clips:
            msg = "the plan has no clips: mimii.find_recordings has found none; give it the folder with the recordings"
            raise SourceError(msg)
        table = TableOutput(plan, open_objects(as_path(output), access), read_options)
        return run(table, client, overwrite=overwrite, progress=progress)

    if not update:
        return make(plan)
    return until_unchanged(lambda: make(plan_update(plan, output, prune=prune, access=access).plan))


def until_unchanged(update: Callable[[], _Result]) -> _Result:
    """Plan and make an update; do it again where another one has come between the plan and the work."""
    for _ in range(_MOST_PLANS - 1):
        try:
            return update()
        except ChangedError as error:
            _log.info("%s", error)
    return update()
