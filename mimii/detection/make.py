"""Learn the machines of a table: the front door to this room, for the command and for Python; `score` has the rest."""

import hashlib
import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from mimii.detection.documents import OFFICIAL
from mimii.detection.machines import Machine, find_machines, has_bad_normal_tests
from mimii.detection.official import (
    Official,
    Section,
    official_document,
    official_scores,
    result_files,
)
from mimii.detection.published import YEARS
from mimii.detection.results import CLIP_COLUMNS, Results, describe_clips, describe_machines
from mimii.detection.store import FindingsOutput, digest_machine
from mimii.detection.study import Outcome, Study
from mimii.detection.thresholds import LEAST_CLIPS
from mimii.detection.training import Training
from mimii.engine import SILENT, Progress, Run, Scheduler, StoreError, digest_written, run
from mimii.features import ALL
from mimii.recordings import NORMAL, TEST, Meaning
from mimii.storage import (
    DEFAULT_ACCESS,
    SHORT_TIMEOUT,
    Access,
    Location,
    Objects,
    as_path,
    be,
    have,
    numbered,
    open_objects,
    with_timeout,
)
from mimii.table import RECORDS, Columns, open_store, read_columns, read_origins

if TYPE_CHECKING:
    import pandas as pd

_DEAF = (
    "%s: its features do not say how loud a clip is (scale %s), so a machine that is only louder or quieter than usual "
    "counts as normal. Features of --preset mimii-baseline or dcase do"
)
_ODD = 25.0
_ODD_CLIPS = (
    "%s: of its clips taken for normal, %d of %d %s unlike the others, such as %s: what is not normal makes the "
    "threshold too high, so leave such clips out, or label them abnormal"
)
_NAMELESS = (
    "%s of no known machine %s taken for one machine, which is called all; name machines by --layout or --list of "
    "featurize"
)
_NO_NORMAL_TESTS = (
    "%s: no normal clip for testing can be used (see the column status), so there are no AUC and precision"
)
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
        return f"<Report: {numbered(len(self.results), 'machine')}, {self.output}/report.html>"

    @property
    def machines(self) -> "pd.DataFrame":
        """A line for each machine and detector: how well abnormal clips are separated, and the threshold."""
        import pandas as pd

        return pd.DataFrame(describe_machines(self.results))

    @property
    def clips(self) -> "pd.DataFrame":
        """A line for each clip with a score: what it is, score, threshold, rank, verdict; the highest score first.

        Training clips are scored by a detector that has not learned from them (``is_training``).
        """
        import pandas as pd

        lines = describe_clips(self.results, self.columns)
        frame = pd.DataFrame(lines, columns=None if lines else list(CLIP_COLUMNS))
        frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], unit="s")
        return frame.sort_values("score", ascending=False, ignore_index=True, kind="stable")


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
        The kinds of detectors, how they are trained, how thresholds are made; `neighbours` where it is left out.
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
        If the table is not finished, has no normal clip to learn from, or other results are at the output.
    WorkError
        If the work cannot be finished.
    OSError
        If something cannot be read or written.

    """
    table = as_path(table)
    output = as_path(output) or _beside(table)
    training = training or Training()
    objects = open_store(table, access)
    columns = read_columns(with_timeout(objects, SHORT_TIMEOUT))
    machines = _learnable(columns, table)
    if columns.spec.is_deaf_to_level:
        _log.warning(_DEAF, table, columns.spec.scale)
    study = _study(columns, objects, open_objects(output, output_access or access), training)
    digests = _digest_machines(machines, study, columns)
    study = replace(study, fingerprint=_digest_all(digests, columns))
    findings = FindingsOutput(study, tuple(machines), columns, digests, table, access)
    done = run(findings, client, overwrite=overwrite, progress=progress)
    results = findings.results(done.records)
    _warn_of_odd_clips(results, columns)
    return Report(output, results, columns, done)


def write_official(report: Report, year: str, access: Access = DEFAULT_ACCESS) -> Official:
    """Write what a year's evaluator of DCASE task 2 computes, and its result files, to the output; return the scores.

    Raises
    ------
    StoreError
        If the table has segments, or several machines are of one type and section.
    ValueError
        If there is no such year.

    """
    spec = report.columns.spec
    if spec.segment is not None or spec.channel == ALL:
        msg = (
            f"{report.output}: the challenge scores whole recordings; make a table of one channel and without segments"
        )
        raise StoreError(msg)
    sections = [_section(machine, outcome, report.columns) for machine, outcome in report.results]
    try:
        official, files = official_scores(sections, year), result_files(sections, year)
    except ValueError as error:
        if year not in YEARS:
            raise
        msg = f"{report.output}: {error}"
        raise StoreError(msg) from error
    objects = open_objects(report.output, access)
    objects.put_all({f"{OFFICIAL}/{year}/{name}": data for name, data in files.items()})
    objects.put(f"{OFFICIAL}/{year}/official.csv", official_document(official))
    return official


def _section(machine: Machine, outcome: Outcome, columns: Columns) -> Section:
    """Return the clips for testing, and not what was recorded besides; where none is for testing, all."""
    every = range(len(outcome.clips))
    tested = [place for place in every if columns.split[outcome.clips[place]] == TEST] or every
    clips = [outcome.clips[place] for place in tested]
    labels = tuple(outcome.labels[place] for place in tested)
    scores = tuple(outcome.scores.clips[place] for place in tested)
    domains, paths = (tuple(map(str, values[clips].tolist())) for values in (columns.domain, columns.path))
    return Section(machine.machine_type, machine.machine_id, labels, scores, domains, paths, outcome.scores.threshold)


def _beside(table: str) -> str:
    """Return the folder detect beside a table."""
    folder, slash, _ = table.rstrip("/").rpartition("/")
    if folder in ("s3:", "s3:/"):
        msg = f"{table}: the table is a whole bucket, so no results can be beside it; name an output"
        raise ValueError(msg)
    return f"{folder}{slash}detect"


def _learnable(columns: Columns, table: str) -> list[Machine]:
    """Return the machines that can be learned; warn of the others, and of what is assumed."""
    machines = find_machines(columns)
    if without := [machine.name for machine in machines if not machine.train]:
        n = len(without)
        what = f"{numbered(n, 'machine')} {have(n)} no normal clip to learn from and {be(n)} skipped"
        _log.warning("%s: %s", what, ", ".join(without))
    if nameless := sum(machine.n_clips for machine in machines if not (machine.machine_type or machine.machine_id)):
        _log.warning(_NAMELESS, numbered(nameless, "clip"), be(nameless))
    if assumed := [machine.name for machine in machines if machine.is_assumed]:
        whose = "its" if len(assumed) == 1 else "their"
        _log.warning("%s: none of %s clips has a label, so all are taken for normal", _name_some(assumed), whose)
    if untested := [machine.name for machine in machines if machine.train and has_bad_normal_tests(machine, columns)]:
        _log.warning(_NO_NORMAL_TESTS, _name_some(untested))
    if learnable := [machine for machine in machines if machine.train]:
        return learnable
    msg = f"{table}: no normal clip to learn from. {_why_none(machines)}"
    raise StoreError(msg)


def _why_none(machines: Sequence[Machine]) -> str:
    """Say why no machine of a table can be learned, and what to do."""
    if n_tests := sum(machine.labels.count(NORMAL) for machine in machines):
        return (
            f"Its normal clips ({n_tests:,}) are all for testing: add more normal recordings of each machine than "
            "abnormal ones, or featurize with --split none to learn from all that are normal"
        )
    return (
        "Add normal recordings, or label those that are normal: by a folder named normal, the column label of --list, "
        "or --assume normal of featurize"
    )


def _name_some(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{numbered(len(names), 'machine')}, such as {names[0]}"


def _warn_of_odd_clips(results: Results, columns: Columns) -> None:
    """Warn of training clips that are far from all others of their machine: they make its threshold too high."""
    for machine, outcome in results:
        scores = np.array(outcome.scores.normal)
        median = np.median(scores) if len(scores) else math.nan
        spread = np.median(np.abs(scores - median)) if len(scores) else math.nan
        odd = np.flatnonzero(scores > median + _ODD * spread)
        if len(odd) and len(scores) >= LEAST_CLIPS and spread > 0:
            worst = outcome.scores.normal_clips[int(odd[np.argmax(scores[odd])])]
            _log.warning(_ODD_CLIPS, machine.name, len(odd), len(scores), be(len(odd)), columns.path[worst])


def _digest_machines(machines: Sequence[Machine], study: Study, columns: Columns) -> tuple[str, ...]:
    """Digest what decides what comes of each machine: where none of it has changed, it is not learned again."""
    origins = read_origins(study.table, columns.parts)
    content = "" if origins.version.any() else digest_written(study.table, RECORDS)  # as earlier versions made tables
    return tuple(digest_machine(machine, study, origins.version, content) for machine in machines)


def _digest_all(digests: Sequence[str], columns: Columns) -> str:
    """Digest what all documents are made of: the machines, and what is said of clips besides."""
    shown = (columns.recorded_at.tobytes(), columns.number.tobytes(), columns.label.tobytes())
    return hashlib.sha256(b" ".join([*(one.encode() for one in digests), *shown])).hexdigest()[:16]


def _study(columns: Columns, table: Objects, output: Objects, training: Training) -> Study:
    meaning = Meaning(*(str(columns.attributes.get(name, "")) for name in Meaning._fields))
    return Study(table, output, columns.spec, columns.shard_rows, training, meaning)
