"""Plan a table and make it: the front door to this room, for the command and for Python."""

import logging
import os
from collections.abc import Sequence

from mimii.engine import SILENT, Progress, Run, Scheduler, run
from mimii.features import FeatureSpec
from mimii.recordings import TRAIN, UNKNOWN, Clip, SourceError, choose_spec, make_catalogue, split_clips
from mimii.storage import DEFAULT_ACCESS, DEFAULT_READS, Access, Location, ReadOptions, expect, open_objects
from mimii.table.store import TableOutput
from mimii.table.table import SHARD_BYTES, TablePlan, make_table_plan

_log = logging.getLogger(__name__)


def plan_table(
    clips: Sequence[Clip],
    spec: FeatureSpec | None = None,
    *,
    split: str = "baseline",
    train_fraction: float = 0.8,
    seed: int = 0,
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
    shard_bytes : int
        The uncompressed size of a shard, which is what one task writes.

    Returns
    -------
    TablePlan
        The same for the same clips, always; its repr says how many clips, rows, shards and bytes there will be.

    """
    spec = choose_spec(clips, spec)
    splits = split_clips(clips, split, train_fraction, seed)
    if split != "none" and TRAIN not in splits:
        _log.warning("%s; the statistics are of all rows", _why_no_training(clips, split))
    return make_table_plan(make_catalogue(clips, splits, spec), shard_bytes, getattr(clips, "sources", ()))


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
    if not plan.catalogue.clips:
        msg = "the plan has no clips: mimii.find_recordings has found none; give it the folder that has the recordings"
        raise SourceError(msg)
    table = TableOutput(plan, open_objects(os.fspath(output), access), read_options)
    return run(table, client, overwrite=overwrite, progress=progress)
