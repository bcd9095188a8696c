"""``--score-only`` of `jobs.detect`: new recordings, scored by models that were learned before."""

import argparse
import csv
import io
import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import PurePosixPath

from jobs.options import SHORT_TIMEOUT, open_output, source_access, where_to_run
from jobs.report import describe_bad, numbered
from jobs.run import BAD_CLIPS, OK, fail
from mimii.detection import (
    MODELS,
    SCORES,
    VERDICTS,
    Detector,
    DetectorError,
    Part,
    Scored,
    ScoreTask,
    check_free,
    read_model,
    score_batch,
)
from mimii.engine import (
    TASKS_FAR_AWAY,
    StoreError,
    as_unicode,
    connect,
    deferred_interrupts,
    run_tasks,
    until_interrupted,
    without_killers,
)
from mimii.recordings import (
    Catalogue,
    Clip,
    SourceError,
    find_clips,
    machine_name,
    make_catalogue,
    no_split,
    probe_alike,
)
from mimii.storage import Objects, ReadOptions, is_remote, open_objects

_CLIPS_A_TASK = 32
_FETCH_WINDOW = 16
_MODEL = ".npz"
_NO_MODEL = "no model of this machine"
_COLUMNS = ("path", "model", "score", "threshold", "verdict", "status")


def score_new(options: argparse.Namespace) -> int:
    """Score recordings; CSV goes to the standard output, or to the output that the options name."""
    if options.output:
        check_free(open_output(options, SHORT_TIMEOUT), overwrite=options.overwrite)
    models, detectors = _read_models(options)
    clips = find_clips(options.places, source_access(options, SHORT_TIMEOUT))
    if not clips:
        msg = f"{', '.join(options.places)}: no recordings there"
        raise SourceError(msg)
    catalogue = _catalogue(clips, next(iter(detectors.values())), options)
    chosen = [_choose_model(clip, detectors) for clip in clips]
    problems = [bad or ("" if key else _NO_MODEL) for key, bad in zip(chosen, catalogue.problems, strict=True)]
    good = [clip for clip, problem in enumerate(problems) if not problem]
    scored = {one.clip: one for one in _score(options, _tasks(options, models, catalogue, chosen, good))}
    for clip, one in scored.items():
        problems[clip] = one.problem
    _write(options, _document(clips, chosen, scored, problems))
    bad = {clip: problem for clip, problem in enumerate(problems) if problem}
    if not bad:
        return OK
    print("\n".join(describe_bad(catalogue, bad)), file=sys.stderr)
    return fail("detect", BAD_CLIPS, f"{len(bad):,} of {numbered(len(clips), 'clip')} could not be scored")


def _read_models(options: argparse.Namespace) -> tuple[Objects, dict[str, Detector]]:
    """Read one model, or all of an output; return where they are, and the detectors by key."""
    folder, _, name = options.score_only.rpartition("/")
    is_one = name.endswith(_MODEL)
    root = (folder or ".") if is_one else options.score_only
    models = open_objects(root, source_access(options, SHORT_TIMEOUT))
    keys = [name] if is_one else [key for key in sorted(models.sizes(MODELS)) if key.endswith(_MODEL)]
    try:
        detectors = {key: read_model(models, key) for key in keys}
    except (DetectorError, FileNotFoundError) as error:
        msg = f"{options.score_only}: {error}"
        raise StoreError(msg) from error
    if not detectors:
        msg = f"{options.score_only}: no model there; name an .npz file, or an --output of jobs.detect"
        raise StoreError(msg)
    return open_objects(root, source_access(options)), detectors


def _catalogue(clips: Sequence[Clip], detector: Detector, options: argparse.Namespace) -> Catalogue:
    probes = probe_alike(clips, source_access(options, SHORT_TIMEOUT))
    return make_catalogue(clips, probes.of_clips, no_split(clips), detector.spec)


def _choose_model(clip: Clip, detectors: Mapping[str, Detector]) -> str:
    """Choose the model of a clip's machine: the only one, that of its SNR, or the only one of this machine."""
    if len(detectors) == 1:
        return next(iter(detectors))
    who = clip.identity
    exact = [key for key, detector in detectors.items() if detector.machine == machine_name(who)]
    name = machine_name(replace(who, snr_db=math.nan))
    near = [key for key, detector in detectors.items() if detector.machine.startswith(f"{name}-")]
    if exact:
        return exact[0]
    return near[0] if len(near) == 1 and math.isnan(who.snr_db) and who.machine_id else ""


def _tasks(
    options: argparse.Namespace, models: Objects, catalogue: Catalogue, chosen: Sequence[str], good: Sequence[int]
) -> list[ScoreTask]:
    read_options = ReadOptions(source_access(options), _FETCH_WINDOW)
    parts = [Part(clip, catalogue.clips[clip].place, int(catalogue.n_samples[clip]), chosen[clip]) for clip in good]
    batches = (tuple(parts[start : start + _CLIPS_A_TASK]) for start in range(0, len(parts), _CLIPS_A_TASK))
    return [ScoreTask(models, read_options, catalogue.spec, batch) for batch in batches]


def _score(options: argparse.Namespace, tasks: Sequence[ScoreTask]) -> Iterator[Scored]:
    if not tasks:
        return
    far = any(is_remote(part.place.url) for task in tasks for part in task.parts)
    where = where_to_run(options, len(tasks), TASKS_FAR_AWAY if far else 1)
    with deferred_interrupts() as interrupts, connect(where) as cluster:
        for batch in until_interrupted(run_tasks(cluster, score_batch, tasks, without_killers), interrupts):
            yield from batch


def _document(
    clips: Sequence[Clip], chosen: Sequence[str], scored: Mapping[int, Scored], problems: Sequence[str]
) -> bytes:
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(_COLUMNS)
    for index, (clip, key, problem) in enumerate(zip(clips, chosen, problems, strict=True)):
        row = ("", "", "")
        if not problem:
            one = scored[index]
            row = (repr(one.score), repr(one.threshold), VERDICTS[one.score > one.threshold])
        table.writerow((as_unicode(clip.path), PurePosixPath(key).stem, *row, problem or "ok"))
    return text.getvalue().encode("utf-8", "backslashreplace")


def _write(options: argparse.Namespace, document: bytes) -> None:
    if options.output:
        open_output(options).put(SCORES, document)
    else:
        sys.stdout.write(document.decode())
