"""Score recordings by models that were learned before: the front door to this, for the command and for Python."""

import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, cast

from mimii.detection.new_recordings import (
    ScoreReport,
    Scoring,
    find_for_models,
    read_models,
    read_rule_of,
    score_found,
    segmented,
)
from mimii.detection.score_log import open_log, score_anew, score_into
from mimii.engine import SILENT, Progress, Scheduler
from mimii.recordings import Clip, SourceError
from mimii.storage import DEFAULT_ACCESS, DEFAULT_READS, Access, Location, ReadOptions, as_path, as_paths, open_objects

if TYPE_CHECKING:
    from mimii.detection.make import Report


def score(  # noqa: PLR0913  each is a choice that users have
    recordings: Location | Sequence[Location] | Sequence[Clip],
    models: "Report | Location",
    *,
    lists: Location | Sequence[Location] = (),
    layout: str = "",
    assume: str = "",
    segment: float | None = None,
    overlap: float | None = None,
    threshold: str = "",
    output: Location = "",
    update: bool = False,
    overwrite: bool = False,
    client: Scheduler = None,
    access: Access = DEFAULT_ACCESS,
    models_access: Access | None = None,
    output_access: Access | None = None,
    fetch_window: int = DEFAULT_READS.window,
    progress: Progress = SILENT,
) -> ScoreReport:
    """Score recordings by models that were learned before, each by the model of its machine.

    Parameters
    ----------
    recordings : str or path, sequence of these, or sequence of Clip
        A source, several, or what `find_recordings` returns.
    models : Report, str or path
        From `detect`; or its output; or one model, an ``.npz`` file.
    lists, layout, assume
        What recordings are, as for `find_recordings`; where layout or assume are left out, those of the table that the
        models were learned from.
    segment, overlap : float
        Seconds of the segments that recordings are cut into, each with a score of its own; those of the table where
        they are left out.
    threshold : str
        How thresholds are made of the scores of normal clips, as in `Training`; as when the models were learned where
        it is left out.
    output : str or path
        Where ``scores.csv`` and ``events.csv`` go; nothing is written where it is left out.
    update : bool
        Score only what the output does not have, by path and version, and add it.
    overwrite : bool
        Replace what is at the output; else it is refused.
    client : distributed.Client, Where, or None
        Where recordings are scored; None is this process.
    access, models_access, output_access : Access
        How to access recordings on S3, and the models and the output where these differ.
    fetch_window : int
        How many recordings on S3 a worker fetches at a time.
    progress : Progress
        What is shown meanwhile.

    Returns
    -------
    ScoreReport
        Of what was scored now: ``clips`` and ``events`` are DataFrames.

    Raises
    ------
    SourceError
        If there are no recordings; with `update`, there may be none.
    StoreError
        If there are no models, or something else is at the output.
    ValueError
        If the threshold is none, or options exclude each other.
    WorkError
        If the work cannot be finished.

    """
    _check_output(as_path(output), update=update, overwrite=overwrite)
    how = Scoring(read_rule_of(threshold), client, ReadOptions(access, fetch_window), progress)
    place = as_path(models) if isinstance(models, str | os.PathLike) else models.output
    found_models = read_models(place, models_access or access)
    clips = find_for_models(recordings, found_models, lists=lists, layout=layout, assume=assume, access=access)
    if not clips and not update:
        where = ", ".join(as_paths(cast("Iterable[Location]", recordings), lists))  # no clip is among them
        msg = f"{where or 'no source'}: no recordings there; name a folder, an archive, a recording, or a list"
        raise SourceError(msg)
    spec = segmented(found_models.first.spec, segment, overlap)
    if not as_path(output):
        return score_found(clips, found_models, spec, how)
    objects = open_objects(as_path(output), output_access or access)
    with open_log(objects, update=update, overwrite=overwrite) as log:
        scoring = score_anew if overwrite else score_into
        return scoring(log, clips, found_models, spec, how)


def _check_output(output: str, *, update: bool, overwrite: bool) -> None:
    if (update or overwrite) and not output:
        msg = "update and overwrite need an output"
        raise ValueError(msg)
    if update and overwrite:
        msg = "update keeps what is there, and overwrite replaces it: use one of them"
        raise ValueError(msg)
