"""Learn the machines of a table, and score recordings: the front door to this room, for the command and for Python."""

import hashlib
import logging
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import numpy as np

from mimii.detection.detectors import Detector, DetectorError
from mimii.detection.evaluation import published_auc
from mimii.detection.learning import Training
from mimii.detection.machines import Machine, channel_suffix, find_machines
from mimii.detection.results import VERDICTS, Results
from mimii.detection.scoring import Score, ScoreTask, read_model, score_clips
from mimii.detection.store import FindingsOutput, digest_machine
from mimii.detection.study import MODELS, Outcome, Study
from mimii.engine import (
    SILENT,
    Pipeline,
    Progress,
    Run,
    Scheduler,
    StoreError,
    Work,
    clips_to_partitions,
    digest_written,
    do_tasks,
    run,
)
from mimii.features import ALL, FeatureSpec
from mimii.recordings import (
    GOOD,
    LABEL_NAMES,
    Catalogue,
    Clip,
    Identity,
    SourceError,
    find_recordings,
    machine_name,
    make_catalogue,
    no_split,
    warn_of_left_out,
)
from mimii.storage import (
    DEFAULT_ACCESS,
    DEFAULT_READS,
    SHORT_TIMEOUT,
    Access,
    Location,
    Objects,
    ReadOptions,
    as_paths,
    as_unicode,
    open_objects,
    with_timeout,
)
from mimii.table import RECORDS, Columns, open_store, read_columns, read_origins

if TYPE_CHECKING:
    import pandas as pd

_CLIPS_A_TASK = 32
_PART = ("path", "channel", "start_s")
_DEAF = (
    "%s: its features do not say how loud a clip is (scale %s), so a machine that is only louder or quieter than usual "
    "counts as normal. Features of --preset mimii-baseline or dcase do"
)
_MODEL = ".npz"
_NO_MODEL = "no model of this machine"
_SCORE = Pipeline("load-mel-db-score", partial(clips_to_partitions, write=score_clips))
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Report:
    """What detection found.

    Attributes
    ----------
    output : str or path
        Where models, scores and the page ``report.html`` are.
    results : sequence of (Machine, Outcome)
        The machines of the table and what came of each.
    columns : Columns
        Of the table.
    run : Run
        What was learned now.

    """

    output: str
    results: Results
    columns: Columns
    run: Run

    def __repr__(self) -> str:
        return f"<Report: {len(self.results):,} machines, {self.output}/report.html>"

    @property
    def machines(self) -> "pd.DataFrame":
        """A line for each machine: how well abnormal clips are separated, and the threshold."""
        import pandas as pd

        return pd.DataFrame([_describe_machine(machine, outcome) for machine, outcome in self.results])

    @property
    def clips(self) -> "pd.DataFrame":
        """A line for each test clip: path, machine, label, score, threshold, verdict; the highest score first."""
        import pandas as pd

        lines = [line for machine, outcome in self.results for line in _describe_clips(machine, outcome, self.columns)]
        frame = pd.DataFrame(lines, columns=[*_PART, "machine", "label", "score", "threshold", "verdict"])
        return frame.sort_values("score", ascending=False, ignore_index=True)


def detect(  # noqa: PLR0913  each is a choice that users have
    table: Location,
    output: Location = "",
    *,
    training: Training | None = None,
    client: Scheduler = None,
    overwrite: bool = False,
    access: Access = DEFAULT_ACCESS,
    output_access: Access | None = None,
    progress: Progress = SILENT,
) -> Report:
    """Learn what each machine of a table normally sounds like, and score its test clips.

    Parameters
    ----------
    table : str or path
        A table of features: a folder, or ``s3://bucket/prefix``.
    output : str or path
        Where models and results go; the folder ``detect`` beside the table where it is left out.
    training : Training
        The kind of detector and how it is trained; an autoencoder where it is left out.
    client : distributed.Client, Where, or None
        Where machines are learned; None is this process, one after the other.
    overwrite : bool
        Delete other results that are at the output; else they are refused.
    access, output_access : Access
        How to access the table and recordings on S3, and the output where that differs.
    progress : Progress
        What is shown meanwhile.

    Returns
    -------
    Report
        ``machines`` and ``clips`` are DataFrames; `score` takes it for its models.

    Raises
    ------
    StoreError
        If the table is not finished, has no normal clip for training, or other results are at the output.
    WorkError
        If the work cannot be finished.
    OSError
        If something cannot be read or written.

    """
    table = os.fspath(table)
    output = os.fspath(output) or _beside(table)
    training = training or Training()
    objects = open_store(table, access)
    columns = read_columns(with_timeout(objects, SHORT_TIMEOUT))
    machines = _learnable(columns, table)
    if columns.spec.is_deaf_to_level:
        _log.warning(_DEAF, table, columns.spec.scale)
    study = _study(columns, objects, open_objects(output, output_access or access), training)
    digests = _digest_machines(machines, study, columns)
    study = replace(study, fingerprint=hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16])
    findings = FindingsOutput(study, tuple(machines), columns, digests, table, access)
    done = run(findings, client, overwrite=overwrite, progress=progress)
    return Report(output, findings.results(done.records), columns, done)


def score(
    recordings: Location | Sequence[Location] | Sequence[Clip],
    models: Report | Location,
    *,
    client: Scheduler = None,
    access: Access = DEFAULT_ACCESS,
    models_access: Access | None = None,
    progress: Progress = SILENT,
) -> "pd.DataFrame":
    """Score recordings by models that were learned before, each by the model of its machine.

    Parameters
    ----------
    recordings : str or path, sequence of these, or sequence of Clip
        A source, several, or what `find_recordings` returns.
    models : Report, str or path
        From `detect`; or its output; or one model, an ``.npz`` file.
    client : distributed.Client, Where, or None
        Where recordings are scored; None is this process.
    access, models_access : Access
        How to access recordings on S3, and the models where that differs.
    progress : Progress
        What is shown meanwhile.

    Returns
    -------
    pandas.DataFrame
        A line for each recording, in the order of the recordings: path, model, score, threshold, verdict (normal or
        abnormal), status (``ok``, or why there is no score).

    Raises
    ------
    SourceError
        If there are no recordings.
    StoreError
        If there are no models.
    WorkError
        If the work cannot be finished.

    """
    import pandas as pd

    root, detectors = read_models(
        models.output if isinstance(models, Report) else os.fspath(models), models_access or access
    )
    found = _find(recordings, access)
    catalogue = make_catalogue(found, no_split(found), next(iter(detectors.values())).spec, resample=True)
    chosen = [_choose_model(clip, detectors, catalogue.spec) for clip in catalogue.clips]
    problems = [bad or ("" if key else _NO_MODEL) for key, bad in zip(chosen, catalogue.problems, strict=True)]
    tasks = _tasks(root, ReadOptions(access, DEFAULT_READS.window), catalogue, chosen, problems)
    work = Work(tasks.__getitem__, _SCORE, catalogue.is_remote, lambda task: len(tasks[task].inputs), _bad_scores)
    results = do_tasks(work, range(len(tasks)), client, progress)
    scores = {one.clip: one for _, found in results for one in found}
    lines = [
        _describe_score(clip, key, scores.get(index), problems[index])
        for index, (clip, key) in enumerate(zip(catalogue.clips, chosen, strict=True))
    ]
    parts = ["channel"] * (catalogue.spec.channel == ALL) + ["start_s"] * (catalogue.spec.segment is not None)
    return pd.DataFrame(lines, columns=["path", *parts, "model", "score", "threshold", "verdict", "status"])


def read_models(place: str, access: Access = DEFAULT_ACCESS) -> tuple[Objects, dict[str, Detector]]:
    """Read one model, or all of an output of `detect`; return where they are, and the detectors by key."""
    folder, _, name = place.rpartition("/")
    is_one = name.endswith(_MODEL)
    root = open_objects((folder or ".") if is_one else place, access)
    near = with_timeout(root, SHORT_TIMEOUT)
    keys = [name] if is_one else [key for key in sorted(near.sizes(MODELS)) if key.endswith(_MODEL)]
    try:
        detectors = {key: read_model(near, key) for key in keys}
    except (DetectorError, FileNotFoundError) as error:
        msg = f"{place}: {error}"
        raise StoreError(msg) from error
    if not detectors:
        msg = f"{place}: no model there; name an .npz file, or an --output of jobs.detect"
        raise StoreError(msg)
    return root, detectors


def _beside(table: str) -> str:
    """Return the folder detect beside a table."""
    folder, slash, _ = table.rstrip("/").rpartition("/")
    if folder in ("s3:", "s3:/"):
        msg = f"{table}: nothing can be beside a bucket; name an output"
        raise ValueError(msg)
    return f"{folder}{slash}detect"


def _find(recordings: Location | Sequence[Location] | Sequence[Clip], access: Access) -> Sequence[Clip]:
    given = [recordings] if isinstance(recordings, str | os.PathLike) else list(recordings)
    sources = as_paths(one for one in given if not isinstance(one, Clip))
    found = find_recordings(*sources, access=replace(access, timeout=SHORT_TIMEOUT))
    warn_of_left_out(found.remarks)
    if not (clips := [*(one for one in given if isinstance(one, Clip)), *found]):
        msg = f"{', '.join(sources) or 'an empty list'}: no recordings there"
        raise SourceError(msg)
    return clips


def _learnable(columns: Columns, table: str) -> list[Machine]:
    """Return the machines that can be learned; warn of the others."""
    machines = find_machines(columns)
    if without := [machine.name for machine in machines if not machine.train]:
        plural = "" if len(without) == 1 else "s"
        _log.warning("%d machine%s without a normal clip for training: %s", len(without), plural, ", ".join(without))
    if learnable := [machine for machine in machines if machine.train]:
        return learnable
    msg = (
        f"{table}: no normal clip is for training (split = train, label = 0). Featurize the recordings with --split "
        "baseline or --split stratified, and more normal clips of a machine than abnormal ones"
    )
    raise StoreError(msg)


def _digest_machines(machines: Sequence[Machine], study: Study, columns: Columns) -> tuple[str, ...]:
    """Digest what decides what comes of each machine: where none of it has changed, it is not learned again."""
    origins = read_origins(study.table, columns.parts)
    content = "" if origins.version.any() else digest_written(study.table, RECORDS)  # as earlier versions made tables
    return tuple(digest_machine(machine, study, origins.version, content) for machine in machines)


def _study(columns: Columns, table: Objects, output: Objects, training: Training) -> Study:
    spec, n_features = columns.spec, columns.spec.n_features
    shift, scale = np.zeros(n_features, np.float32), np.ones(n_features, np.float32)
    if training.normalize:
        shift = columns.feature_mean.astype(np.float32)
        scale = np.where(columns.feature_std > 0, columns.feature_std, 1).astype(np.float32)
    return Study(table, output, spec, columns.shard_rows, shift, scale, training)


def _choose_model(clip: Clip, detectors: Mapping[str, Detector], spec: FeatureSpec) -> str:
    """Return the key of the only model, of the model of this machine and SNR, or of the only one of this machine.

    Where each channel has a model, of that of its own.
    """
    who, channel = clip.identity, channel_suffix(clip.channel, spec)
    if len(detectors) == 1:
        return next(iter(detectors))
    detectors = {key: one for key, one in detectors.items() if one.machine.endswith(channel)}
    exact = [key for key, detector in detectors.items() if detector.machine == machine_name(who) + channel]
    name = machine_name(replace(who, snr_db=math.nan))
    near = [key for key, detector in detectors.items() if detector.machine.startswith(f"{name}-")]
    if exact:
        return exact[0]
    if not who.machine_id:
        return _by_folder(clip.path, {one.machine: key for key, one in detectors.items()}, channel)
    return near[0] if len(near) == 1 and math.isnan(who.snr_db) else ""


def _by_folder(path: str, keys: Mapping[str, str], channel: str) -> str:
    """Return the key of the model of the machine that a folder above is named after, the nearest first."""
    folders = reversed(path.split("/")[:-1])
    names = (machine_name(Identity(machine_id=folder)) + channel for folder in folders)
    return next((keys[name] for name in names if name in keys), "")


def _tasks(
    models: Objects, read_options: ReadOptions, catalogue: Catalogue, chosen: Sequence[str], problems: Sequence[str]
) -> list[ScoreTask]:
    good = [clip for clip, problem in enumerate(problems) if not problem]
    batches = (good[start : start + _CLIPS_A_TASK] for start in range(0, len(good), _CLIPS_A_TASK))
    return [
        ScoreTask(
            models,
            read_options,
            catalogue.spec,
            tuple(map(catalogue.input, batch)),
            tuple(chosen[clip] for clip in batch),
        )
        for batch in batches
    ]


def _bad_scores(scores: Sequence[Score]) -> list[int]:
    return [one.clip for one in scores if one.problem]


def _describe_score(clip: Clip, key: str, score: Score | None, problem: str) -> dict[str, Any]:
    problem = problem or (score.problem if score else "")
    known = score is not None and not problem
    return {
        "path": as_unicode(clip.path),
        "channel": clip.channel,
        "start_s": clip.start_s,
        "model": PurePosixPath(key).stem,
        "score": score.score if score and known else math.nan,
        "threshold": score.threshold if score and known else math.nan,
        "verdict": VERDICTS[score.score > score.threshold] if score and known else "",
        "status": problem or GOOD,
    }


def _describe_machine(machine: Machine, outcome: Outcome) -> dict[str, Any]:
    one = outcome.evaluation
    return {
        "machine": machine.name,
        "machine_type": machine.machine_type,
        "machine_id": machine.machine_id,
        "snr_db": machine.snr_db,
        "channel": machine.channel,
        "n_learned": outcome.n_learned,
        "n_normal": one.n_normal,
        "n_abnormal": one.n_abnormal,
        "auc": one.auc,
        "partial_auc": one.partial_auc,
        "published_auc": published_auc(machine.machine_type, machine.machine_id, machine.snr_db),
        "threshold": one.threshold,
        "precision": one.precision,
        "recall": one.recall,
        "f1": one.f1,
    }


def _describe_clips(machine: Machine, outcome: Outcome, columns: Columns) -> Iterator[dict[str, Any]]:
    for clip, label, score in zip(outcome.clips, outcome.labels, outcome.scores, strict=True):
        yield {
            "path": str(columns.path[clip]),
            "channel": int(columns.channel[clip]),
            "start_s": float(columns.start_s[clip]),
            "machine": machine.name,
            "label": LABEL_NAMES[label],
            "score": score,
            "threshold": outcome.threshold,
            "verdict": VERDICTS[score > outcome.threshold],
        }
