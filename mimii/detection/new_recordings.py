"""Score recordings by models that were learned before, each by the model of its machine."""

import math
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from operator import itemgetter
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from mimii.detection.detectors import DetectorError, Model
from mimii.detection.documents import MODELS, write_csv
from mimii.detection.events import GAP_S
from mimii.detection.machines import NAMELESS, channel_suffix
from mimii.detection.scoring import ClipScore, DetectorScore, ScoreTask, read_model, score_clips
from mimii.detection.thresholds import (
    ABNORMAL_VERDICT,
    Rule,
    RuleError,
    choose_threshold,
    rank,
    read_rule,
    verdict,
)
from mimii.detection.training import LearningError
from mimii.engine import (
    HERE,
    SILENT,
    Pipeline,
    Progress,
    Scheduler,
    StoreError,
    Where,
    Work,
    clips_to_partitions,
    digest_version,
    do_tasks,
)
from mimii.features import FeatureSpec
from mimii.recordings import (
    GOOD,
    Catalogue,
    Clip,
    Identity,
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
    numbered,
    open_objects,
    with_timeout,
)

if TYPE_CHECKING:
    import pandas as pd

_CLIPS_A_TASK, _SECONDS_A_TASK = 32, 600.0
_MODEL = ".npz"
_SNR = re.compile(r"-(min)?[0-9.e+]+dB(-ch[0-9]+)?")
NO_MODEL = "no model of this machine"
_SCORE = Pipeline("load-mel-db-score", partial(clips_to_partitions, write=score_clips))


@dataclass(frozen=True, slots=True)
class Models:
    """The models at a place.

    Attributes
    ----------
    root : Objects
        Where they are.
    keys : dict of str to str
        The key of the model of each machine, by its name.
    first : Model
        One of them: all were learned from features of one kind, by the same detectors.
    is_one : bool
        Whether it is a single model, named to score whatever comes.

    """

    root: Objects
    keys: dict[str, str]
    first: Model
    is_one: bool = False


@dataclass(frozen=True, slots=True)
class ScoreReport:
    """What was found in recordings.

    Attributes
    ----------
    lines : tuple of dict
        One for each clip, in the order of the recordings.
    event_lines : tuple of dict
        One for each event.
    retried : frozenset of int
        The places among the lines of clips that could not be read now, and may be another time.

    """

    lines: tuple[dict[str, Any], ...]
    event_lines: tuple[dict[str, Any], ...]
    retried: frozenset[int] = frozenset()

    def __repr__(self) -> str:
        alarms = numbered(sum(line["alarm"] for line in self.lines), "alarm")
        events = numbered(len(self.event_lines), "event")
        return f"<ScoreReport: {numbered(len(self.lines), 'clip')}, {alarms}, {events}>"

    @property
    def clips(self) -> "pd.DataFrame":
        """A line for each clip: machine, score, threshold, rank, verdict, peak, alarm, and status (``ok``, or why not).

        ``rank`` is the share of the machine's normal clips that score lower; ``peak_s`` is when the clip is least
        normal, in seconds of its recording; ``peak_hz`` and ``peak_db`` say which band differs most there, and by how
        much. An ``alarm`` is a verdict abnormal or an event.
        """
        import pandas as pd

        frame = pd.DataFrame(list(self.lines), columns=None if self.lines else list(CLIP_COLUMNS))
        frame["recorded_at"] = pd.to_datetime(frame["recorded_at"], unit="s")
        return frame

    def to_csv(self) -> str:
        """Return the lines of clips as CSV; scores keep every bit."""
        return write_csv(self.lines, () if self.lines else CLIP_COLUMNS).decode("utf-8")

    @property
    def events(self) -> "pd.DataFrame":
        """A line for each interval above the threshold for moments, see `EVENT_COLUMNS`; in seconds of recordings."""
        import pandas as pd

        return pd.DataFrame(list(self.event_lines), columns=list(EVENT_COLUMNS))


_OF_KIND = ("score", "threshold", "rank", "verdict", "peak", "peak_threshold", "peak_s")
CLIP_COLUMNS = (
    *("path", "channel", "start_s", "duration_s", "recorded_at", "machine", *_OF_KIND),
    *("peak_hz", "peak_db", "n_events", "n_normal", "alarm", "status", "version"),
)
"""Of one detector; those of others come with its name in front."""

EVENT_COLUMNS = ("recording", "machine", "channel", "start_s", "stop_s", "peak", "peak_s")
_WHERE = EVENT_COLUMNS[:3]


def segmented(spec: FeatureSpec, segment: float | None, overlap: float | None) -> FeatureSpec:
    """Return a spec that cuts recordings into segments where that is asked for."""
    if segment is None:
        return spec if overlap is None else spec.changed(overlap=overlap)
    return spec.changed(segment=segment, overlap=overlap or 0.0)


def find_for_models(
    recordings: Location | Sequence[Location] | Sequence[Clip],
    models: Models,
    *,
    lists: Location | Sequence[Location] = (),
    layout: str = "",
    assume: str = "",
    access: Access = DEFAULT_ACCESS,
) -> list[Clip]:
    """Find recordings, and what they are, as for the table that the models were learned from."""
    given = [recordings] if isinstance(recordings, str | os.PathLike) else list(recordings)
    sources = as_paths(one for one in given if not isinstance(one, Clip))
    found = find_recordings(
        *sources,
        lists=lists,
        layout=layout or models.first.meaning.layout,
        assume=assume or models.first.meaning.assume,
        access=replace(access, timeout=SHORT_TIMEOUT),
    )
    warn_of_left_out(found.remarks)
    return [*(one for one in given if isinstance(one, Clip)), *found]


@dataclass(frozen=True, slots=True)
class Scoring:
    """How recordings are scored.

    Attributes
    ----------
    rule : Rule or None
        How thresholds are made; as when the models were learned for None.
    client : Scheduler
        Where they are scored.
    read_options : ReadOptions
        How they are fetched.
    progress : Progress
        What is shown meanwhile.

    """

    rule: Rule | None = None
    client: Scheduler = None
    read_options: ReadOptions = DEFAULT_READS
    progress: Progress = SILENT


def score_found(clips: Sequence[Clip], models: Models, spec: FeatureSpec, how: Scoring) -> ScoreReport:
    """Score clips that were found before."""
    catalogue = make_catalogue(clips, no_split(clips), spec, resample=True)
    chosen = [choose_model(clip, models, spec) for clip in catalogue.clips]
    problems = [bad or ("" if key else NO_MODEL) for key, bad in zip(chosen, catalogue.problems, strict=True)]
    tasks = list(_tasks(models, how.read_options, catalogue, chosen, problems))
    is_local = isinstance(how.client, Where) and how.client.scheduler in HERE
    work = Work(tasks.__getitem__, _SCORE, catalogue.is_remote, lambda task: len(tasks[task].inputs), _bad_clips)
    where = None if len(tasks) <= 1 and is_local else how.client  # one task is done before workers are there
    found = {one.clip: one for _, scores in do_tasks(work, range(len(tasks)), where, how.progress) for one in scores}
    scores = [found.get(index, ClipScore(index, problem=problem)) for index, problem in enumerate(problems)]
    names = [PurePosixPath(key).stem for key in chosen]
    whole = list(zip(catalogue.clips, names, scores, strict=True))
    kinds = [one.kind for one in models.first.detectors]
    lines = tuple(_describe_clip(clip, name, one, kinds, how.rule) for clip, name, one in whole)
    events = _join_events(line for clip, name, one in whole for line in _describe_events(clip, name, one))
    return ScoreReport(lines, tuple(events), frozenset(one.clip for one in scores if one.unread))


def read_models(place: str, access: Access = DEFAULT_ACCESS) -> Models:
    """List the models at a place: one, or all of an output of `detect`; StoreError where there is none."""
    folder, _, name = place.rpartition("/")
    is_one = name.endswith(_MODEL)
    root = open_objects((folder or ".") if is_one else place, access)
    near = with_timeout(root, SHORT_TIMEOUT)
    keys = [name] if is_one else [key for key in sorted(near.sizes(MODELS)) if key.endswith(_MODEL)]
    if not keys:
        msg = f"{place}: no model there; name an .npz file, or an --output of jobs.detect"
        raise StoreError(msg)
    first = _read_first(near, keys)
    return Models(root, {PurePosixPath(key).stem: key for key in keys}, first, is_one)


def _read_first(models: Objects, keys: Sequence[str]) -> Model:
    """Read the first model that is not damaged; StoreError where all are."""
    for key in keys:
        try:
            return read_model(models, key)
        except (DetectorError, FileNotFoundError) as error:
            problem = error
    raise StoreError(str(problem)) from problem


def choose_model(clip: Clip, models: Models, spec: FeatureSpec) -> str:
    """Return the key of a single model, or of that of the clip's machine; empty where there is none.

    The machine is that of the clip, with its SNR or, where the clip has none and only one model is of the machine,
    without. Where the clip's is unknown, it is the one that folders above are named after, else the one without a name.
    Where each channel has a model, it is that of its own.
    """
    who, channel = clip.identity, channel_suffix(clip.channel, spec)
    is_known = bool(who.machine_id) and not models.first.meaning.assume  # else its id may be that of a day's folder
    keys = {name: key for name, key in models.keys.items() if name.endswith(channel)}
    if len(models.keys) == 1 and (models.is_one or not is_known):
        return next(iter(keys.values()), "")
    candidates = [who] if is_known else [who, *_by_folders(clip.path)]
    found = (keys.get(machine_name(one) + channel) or _only_snr(one, keys) for one in candidates)
    return next(filter(None, found), "" if machine_name(who) else keys.get(f"{NAMELESS}{channel}", ""))


def _only_snr(who: Identity, keys: Mapping[str, str]) -> str:
    """Return the key of the only model of a machine of unknown SNR."""
    near = [key for name, key in keys.items() if _SNR.fullmatch(name.removeprefix(machine_name(who)))]
    return near[0] if len(near) == 1 and math.isnan(who.snr_db) else ""


def _by_folders(path: str) -> Iterator[Identity]:
    """Yield the machines that the folders above a recording may be named after: type and id, or id; nearest first."""
    folders = path.split("/")[:-1]
    for index in range(len(folders) - 1, -1, -1):
        if index:
            yield Identity(folders[index - 1], folders[index])
        yield Identity(machine_id=folders[index])


def _tasks(
    models: Models, read_options: ReadOptions, catalogue: Catalogue, chosen: Sequence[str], problems: Sequence[str]
) -> Iterator[ScoreTask]:
    """Yield tasks of some clips each, and of some minutes: so that progress shows."""
    good = [clip for clip, problem in enumerate(problems) if not problem]
    kinds = tuple(one.kind for one in models.first.detectors)
    for batch in _batches(good, [clip.duration_s for clip in catalogue.clips]):
        inputs, keys = tuple(map(catalogue.input, batch)), tuple(chosen[clip] for clip in batch)
        yield ScoreTask(models.root, read_options, catalogue.spec, inputs, keys, kinds)


def _batches(clips: Sequence[int], durations: Sequence[float]) -> Iterator[list[int]]:
    batch, seconds = list[int](), 0.0
    for clip in clips:
        if batch and (len(batch) == _CLIPS_A_TASK or seconds + durations[clip] > _SECONDS_A_TASK):
            yield batch
            batch, seconds = [], 0.0
        batch.append(clip)
        seconds += durations[clip]
    if batch:
        yield batch


def _bad_clips(scores: Sequence[ClipScore]) -> list[int]:
    return [one.clip for one in scores if one.problem]


def read_rule_of(threshold: str) -> Rule | None:
    """Read how thresholds are made; None for an empty text, LearningError for any other that is no rule."""
    try:
        return read_rule(threshold) if threshold else None
    except RuleError as error:
        raise LearningError(str(error)) from error


def _describe_clip(clip: Clip, machine: str, one: ClipScore, kinds: Sequence[str], rule: Rule | None) -> dict[str, Any]:
    who, start_s = clip.identity, clip.start_s
    line: dict[str, Any] = {
        "path": as_unicode(clip.path),
        "channel": clip.channel,
        "start_s": start_s,
        "duration_s": clip.duration_s,
        "recorded_at": who.recorded_at,
        "machine": machine,
    }
    for index, kind in enumerate(kinds):
        line |= _describe_detector(one.detectors.get(kind), start_s, rule, f"{kind}_" if index else "")
    is_alarm = bool(one.events) or line["verdict"] == ABNORMAL_VERDICT
    return line | {
        "peak_hz": one.peak_hz,
        "peak_db": one.peak_db,
        "n_events": len(one.events),
        "n_normal": len(next(iter(one.detectors.values())).normal_scores) if one.detectors else 0,
        "alarm": is_alarm,
        "status": one.problem or GOOD,
        "version": version_of(clip),
    }


def version_of(clip: Clip) -> str:
    """Return what changes when a recording changes."""
    return f"{digest_version(clip.place):016x}"


def _describe_detector(one: DetectorScore | None, start_s: float, rule: Rule | None, prefix: str) -> dict[str, Any]:
    values: dict[str, Any] = dict.fromkeys(_OF_KIND, math.nan)
    values["verdict"] = ""
    if one:
        threshold = choose_threshold(rule, one.normal_scores) if rule else one.threshold
        values["score"], values["threshold"] = one.score, threshold
        values["rank"] = math.nan if math.isnan(one.score) else rank(one.score, one.normal_scores)
        values["verdict"] = verdict(one.score, threshold)
        values["peak"], values["peak_threshold"], values["peak_s"] = one.peak, one.peak_threshold, start_s + one.peak_s
    return {f"{prefix}{name}": value for name, value in values.items()}


def _join_events(lines: Iterable[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Yield events in the order of time; those that continue in the next segment of a recording are one."""
    last: dict[str, Any] = {}
    for line in sorted(lines, key=itemgetter(*_WHERE, "start_s")):
        is_same = bool(last) and all(last[name] == line[name] for name in _WHERE)
        if is_same and line["start_s"] - last["stop_s"] < GAP_S:
            higher = max(last, line, key=itemgetter("peak"))
            last |= {"stop_s": max(last["stop_s"], line["stop_s"]), "peak": higher["peak"], "peak_s": higher["peak_s"]}
            continue
        if last:
            yield last
        last = line
    if last:
        yield last


def _describe_events(clip: Clip, machine: str, one: ClipScore) -> Iterator[dict[str, Any]]:
    for event in one.events:
        values = (as_unicode(clip.path), machine, clip.channel)
        stop_s = event.stop_s if math.isnan(clip.duration_s) else min(event.stop_s, clip.duration_s)
        times = (clip.start_s + event.start_s, clip.start_s + stop_s, event.peak, clip.start_s + event.peak_s)
        yield dict(zip(EVENT_COLUMNS, (*values, *times), strict=True))
