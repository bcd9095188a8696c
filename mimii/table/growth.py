"""A table that grows: what is in it, and what its sources have now, make the plan of what it will be.

Clips that are in the table keep their index and their rows for ever; new ones come behind them. Nothing is read here
but the table's columns and records, and nothing is written.
"""

import logging
import math
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import (
    Existing,
    Origins,
    Record,
    StoreError,
    changed,
    digest,
    digest_part,
    find_origins,
    name_changes,
    name_some,
    read_each,
    record_key,
)
from mimii.features import ALL, FeatureSpec
from mimii.recordings import (
    ABNORMAL,
    GOOD,
    LABEL_NAMES,
    PLAIN,
    TEST,
    TRAIN,
    UNKNOWN,
    Catalogue,
    Clip,
    Identity,
    Meaning,
    as_number,
    clip_name,
    split_clips,
)
from mimii.storage import Objects, Place, absolute, as_unicode, is_unreadable, path_to_text
from mimii.table.clip_places import Parts, find_places, find_unrecorded
from mimii.table.columns import OTHER_COLUMNS, plain_columns
from mimii.table.keys import FEATURES, RECORDS, intent_key, metadata_key, shard_key
from mimii.table.plan import Layout
from mimii.table.reading import DAMAGED, check_version, damaged_column, read_array, read_layout, read_metadata
from mimii.table.shards import read_record_of
from mimii.table.spans import FORMAT, spans_from_values
from mimii.table.table import TablePlan, complete_plan

REMOVED, REPLACED = "removed", "replaced"
"""The status of a clip that was taken out of a table, and of one whose recording became another of another length."""

_log = logging.getLogger(__name__)

_IDENTITY = ("machine_type", "machine_id", "number", "snr_db", "label", "domain", "attributes", "recorded_at")
_SAID_NOTHING: Mapping[str, str] = MappingProxyType({})
_PART = ("channel", "start_s", "duration_s")
_READ = ("path", *_PART, *_IDENTITY, "split", "n_rows", "status")


@dataclass(frozen=True, slots=True)
class State:
    """What is in a table: its columns as lists by name, and which recordings its clips are of."""

    root: str
    fingerprint: str
    spec: FeatureSpec
    layout: Layout
    columns: Mapping[str, list[Any]]
    origins: Origins
    sources: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    resamples: bool = False
    of_lists: Sequence[Mapping[str, str]] = ()
    meaning: Meaning = PLAIN

    @property
    def paths(self) -> list[str]:
        """The path of each clip."""
        return self.columns["path"]

    def name(self, clip: int) -> str:
        """Return the path of a clip, and which part of the recording it is, where others may be clips, too."""
        path = self.paths[clip]
        if self.spec.channel != ALL and self.spec.segment is None:  # of a million clips, mostly
            return path
        channel, start_s = (self.columns[name][clip] for name in ("channel", "start_s"))
        return clip_name(Clip(path, Place(path), channel=channel, start_s=start_s), self.spec)

    def clip(self, clip: int) -> Clip:
        """Return a clip as the table has it; its recording is not looked for."""
        path, columns = self.paths[clip], self.columns
        who = Identity(**{name: columns[name][clip] for name in _IDENTITY}, columns=_sorted(self.of_lists[clip]))
        part = {name: columns[name][clip] for name in _PART}
        return Clip(path, Place(path), who, **part)


@dataclass(frozen=True, slots=True)
class Growth:
    """A plan for a table that grows, and how it differs from what is there: paths, with a label before and after.

    Attributes
    ----------
    plan : TablePlan
        What the table will be.
    added, replaced, gone : sequence of str
        Clips that are new; whose recordings have changed; that are taken out.
    relabelled : mapping of str to str
        What changes of each clip: ``"label normal -> abnormal"``.
    missing : sequence of str
        Clips below the sources that are not there any more, and stay: they are taken out only where that is asked for.
    unnamed : sequence of str
        Clips that are not among the recordings named now, and stay as they are.
    named : frozenset of int
        The clips, by their index in the plan, that are new or were found again, if only to be bad.
    to_read : frozenset of int
        The clips, by their index in the plan, whose recordings are new or have changed: no other is read.

    """

    plan: TablePlan
    added: Sequence[str] = ()
    replaced: Sequence[str] = ()
    gone: Sequence[str] = ()
    relabelled: Mapping[str, str] = field(default_factory=dict)
    missing: Sequence[str] = ()
    unnamed: Sequence[str] = ()
    to_read: frozenset[int] = frozenset()
    named: frozenset[int] = frozenset()

    def describe(self) -> list[str]:
        """Write what changes: a line for each kind, and below it the first clips by name."""
        return name_changes(self.added, self.replaced, self.gone, self.relabelled)


def read_state(objects: Objects, existing: Existing) -> State:
    """Read what is in a table.

    Raises StoreError where it is of another format, or a column or its metadata cannot be read.
    """
    there = existing.attributes
    check_version(objects.root, there)
    if there.get("format") != FORMAT:
        msg = (
            f"{objects.root} was made by an earlier version, in a format that cannot grow: it can be read as before. "
            "To have one that grows, make it again with --overwrite"
        )
        raise StoreError(msg)
    try:
        metadata = _metadata_of(objects, existing)
        types = there.get(OTHER_COLUMNS, {})
        columns = {name: _as_list(read_array(objects, name, metadata)) for name in (*_READ, *types)}
        columns = _same_length(columns)
        layout = read_layout(metadata[metadata_key(FEATURES)])
    except DAMAGED as error:
        msg = (
            f"{damaged_column(objects, error)}. The command that made a table fixes it, without --update; one that has "
            "grown since is made again by --overwrite, from the recordings that are named"
        )
        raise StoreError(msg) from error
    origins = read_origins(objects, zip(*(columns[name] for name in ("path", "channel", "start_s")), strict=True))
    of_lists = _by_clip(types, columns)
    sources = tuple(there.get("sources", ()))
    return State(
        objects.root,
        there["fingerprint"],
        FeatureSpec(**there["spec"]),
        layout,
        columns,
        origins,
        sources,
        types,
        bool(there.get("resamples")),
        of_lists,
        Meaning(*(str(there.get(name, "")) for name in Meaning._fields)),
    )


def _by_clip(types: Mapping[str, str], columns: Mapping[str, list[Any]]) -> Sequence[Mapping[str, str]]:
    """Return what the columns of lists say of each clip, as a list says it; without those that say nothing."""
    by_clip = dict[int, dict[str, str]]()
    for name, data_type in types.items():
        for clip, value in enumerate(columns[name]):
            text = value if data_type == "string" else "" if math.isnan(value) else repr(value)
            if text:
                by_clip.setdefault(clip, {})[name] = text
    return [by_clip.get(clip, _SAID_NOTHING) for clip in range(len(columns["path"]))]


def _sorted(of_list: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(of_list.items()))


def _as_list(column: NDArray[Any]) -> list[Any]:
    """Return a column as a list, in which equal strings are one: there may be millions."""
    if column.dtype.kind != "T":
        return column.tolist()  # type: ignore[no-any-return]  # of one dimension
    seen: dict[str, str] = {}
    return [seen.setdefault(value, value) for value in column.tolist()]


def _metadata_of(objects: Objects, existing: Existing) -> dict[str, bytes]:
    """Return the metadata of the arrays: of a finished table by its group, which an update replaces last of all."""
    if of_group := read_metadata(objects):  # `existing` may have been read by other keys
        return of_group
    names = (FEATURES, *_READ, *existing.attributes.get(OTHER_COLUMNS, {}))
    return objects.get_all([metadata_key(name) for name in names])


def _same_length(columns: Mapping[str, list[Any]]) -> dict[str, list[Any]]:
    """Return the entries that all columns have: an update that was stopped may have added to some."""
    n_clips = min(map(len, columns.values()))
    return {name: values[:n_clips] for name, values in columns.items()}


def read_origins(objects: Objects, parts: Iterable[tuple[str, int, float]]) -> Origins:
    """Read from the records which recordings clips are of; where none says so, path, channel and start say it.

    The version is 0 where it is unknown, or an update was stopped when it had replaced only some of a clip's rows.
    """
    parts = list(parts)
    found = np.zeros((3, len(parts)), np.int64)
    for record in _each_record(objects):
        spans = spans_from_values(record.result) if record else None
        if spans is not None:
            spans = spans[spans["clip"] < len(parts)]
            clips, version = spans["clip"], spans["version"].copy()
            version[(found[0, clips] != 0) & (found[1, clips] != version)] = 0
            found[:, clips] = spans["place"], version, spans["archive"]
    for clip in np.flatnonzero(found[0] == 0).tolist():
        path, channel, start_s = parts[clip]
        found[0, clip] = digest_part(absolute(path), channel, start_s)
    return Origins(*found)


def _each_record(objects: Objects) -> Iterator[Record | None]:
    """Yield the records of the shards that are there: of a shard that was about to be replaced, one of two."""
    listed = objects.sizes(RECORDS).keys()
    begun = {task for task in map(_task_of_intent, listed) if task is not None}
    keys = sorted(listed - {key for task in begun for key in (intent_key(task), record_key(RECORDS, task))})
    yield from (record for _, record in read_each(objects, keys))
    for task in sorted(begun):
        yield read_record_of(objects, task, objects.get(shard_key(task)) or b"")


def _task_of_intent(key: str) -> int | None:
    number = key.removeprefix(f"{RECORDS}/").removesuffix(".next.json")
    return int(number) if number.isdecimal() and key == intent_key(int(number)) else None


def grow(plan: TablePlan, state: State, *, prune: bool = False) -> Growth:
    """Return the plan of a table with these recordings added, replaced and relabelled.

    Raises StoreError where its features are others.
    """
    if different := changed(state.spec.as_dict(), plan.catalogue.spec.as_dict()):
        msg = (
            f"{state.root}: its clips have other features ({'; '.join(different)}): leave these options out, or choose "
            "another --output"
        )
        raise StoreError(msg)
    state = _with_bad_ones(plan, state)
    match = _match(plan, state)
    added = [clip for clip in range(len(plan.catalogue.clips)) if clip not in match.there]
    missing = _find_gone(plan, state, match)
    gone = missing if prune else []
    out = dict.fromkeys(match.outgrown, REPLACED) | dict.fromkeys(gone, REMOVED) | _find_lost(plan, state, match)
    growth = _describe(plan, state, match, added, out, _grown_plan(plan, state, match, added, out))
    return growth if prune else _with_missing(growth, [state.name(clip) for clip in missing if clip not in out])


def _with_missing(growth: Growth, missing: Sequence[str]) -> Growth:
    others = set(missing)
    return replace(growth, missing=sorted(missing), unnamed=[name for name in growth.unnamed if name not in others])


def _types(plan: TablePlan, state: State) -> dict[str, str]:
    """Return the types of the columns of lists: those that are there stay, for readers of the table meanwhile."""
    for clip in plan.catalogue.clips:
        for name, text in clip.identity.columns:
            if text and state.types.get(name) == "float64" and as_number(text) is None:
                msg = (
                    f"{clip.path}: {name} is {text!r}, and the table's column {name} has numbers. Correct it, give the "
                    "column another name, or make the table again with --overwrite"
                )
                raise StoreError(msg)
    return dict(sorted({**plan.columns, **state.types}.items()))


@dataclass(frozen=True, slots=True)
class _Match:
    """Which found clips are which of the table, by index; which of the table become clips of another length.

    Those that are `absent` are named, as by a list, and cannot be read now: only their labels are of interest. `places`
    says where the recording of each clip of the table is; empty where that is not known.
    """

    there: Mapping[int, int]
    outgrown: frozenset[int]
    absent: frozenset[int]
    places: Sequence[str]

    @property
    def found(self) -> dict[int, int]:
        """The found clip of each clip of the table that has one."""
        return {there: found for found, there in self.there.items()}

    @property
    def readable(self) -> dict[int, int]:
        """Those of them that can be read now, or are known to be bad."""
        return {there: found for there, found in self.found.items() if there not in self.absent}


def _match(plan: TablePlan, state: State) -> _Match:
    status, n_rows, places = state.columns["status"], state.columns["n_rows"], state.origins.place.tolist()
    live = {place: clip for clip, place in enumerate(places) if status[clip] not in (REMOVED, REPLACED)}
    removed = {place: clip for clip, place in enumerate(places) if status[clip] == REMOVED}
    there, outgrown, absent = {}, set(), set()
    for found, place in enumerate(plan.origins.place.tolist()):
        rows_now, clip = int(plan.catalogue.n_rows[found]), live.get(place)
        if clip is not None:
            if rows_now in (0, n_rows[clip]):
                there[found] = clip
                absent |= {clip} if n_rows[clip] and is_unreadable(plan.catalogue.problems[found]) else set()
            else:
                outgrown.add(clip)
        elif (clip := removed.get(place)) is not None and rows_now == n_rows[clip]:
            there[found] = clip
    places = _find_places(plan, state, outgrown.union(there.values()))
    return _Match(there, frozenset(outgrown), frozenset(absent), places)


def _parts(state: State) -> Parts:
    """Return which parts the clips are; those without rows have no record that says where they are."""
    pairs = zip(state.origins.place.tolist(), state.columns["n_rows"], strict=True)
    digests = [place if n_rows else 0 for place, n_rows in pairs]
    return Parts(state.paths, state.columns["channel"], state.columns["start_s"], digests)


def _places_now(plan: TablePlan) -> dict[int, str]:
    return dict(zip(plan.origins.place.tolist(), (str(clip.place) for clip in plan.catalogue.clips), strict=True))


def _find_places(plan: TablePlan, state: State, known: Collection[int]) -> list[str]:
    """Return where the recordings of all clips are; some are known to be among those that were found."""
    now, parts = _places_now(plan), _parts(state)
    pairs = enumerate(zip(state.origins.place.tolist(), parts.digests, strict=True))
    found = [now.get(place, "") if digest or clip in known else "" for clip, (place, digest) in pairs]
    return find_places(parts, found, plan.sources)


def _with_bad_ones(plan: TablePlan, state: State) -> State:
    """Say of recordings that no record is of, being bad, that they are those of their paths that were found now."""
    now, parts = _places_now(plan), _parts(state)
    live = {digest for clip, digest in enumerate(parts.digests) if not _is_out(state, clip)}
    place = state.origins.place.copy()
    bad = find_unrecorded(parts, [now.get(one, "") for one in parts.digests], now.keys() - live)
    for clip in bad:
        if state.columns["status"][clip] != REPLACED:
            place[clip] = bad[clip]
    return replace(state, origins=replace(state.origins, place=place))


def _find_gone(plan: TablePlan, state: State, match: _Match) -> list[int]:
    """Return the clips below the sources that are not there any more."""
    roots = [path_to_text(absolute(source)).rstrip("/") for source in plan.sources]
    status, taken, uncut = state.columns["status"], set(match.there.values()) | match.outgrown, _uncut(plan)
    return [
        clip
        for clip, place in enumerate(match.places)
        if place
        and clip not in taken
        and place not in uncut
        and status[clip] not in (REMOVED, REPLACED)
        and any(place == root or place.startswith(f"{root}/") for root in roots)
    ]


def _find_lost(plan: TablePlan, state: State, match: _Match) -> dict[int, str]:
    """Return the parts that recordings have no more, being shorter or bad as a whole now, and their new status."""
    if state.spec.channel != ALL and state.spec.segment is None:
        return {}
    cut = {str(clip.place): REPLACED for clip in plan.catalogue.clips if clip.segment is not None}
    now = cut | {path: problem for path, problem in _uncut(plan).items() if not is_unreadable(problem)}
    taken, status = set(match.there.values()) | match.outgrown, state.columns["status"]
    return {
        clip: now[place]
        for clip, place in enumerate(match.places)
        if place in now and clip not in taken and status[clip] not in (REMOVED, REPLACED)
    }


def _uncut(plan: TablePlan) -> dict[str, str]:
    """Return the recordings of which it is not known now which parts they have, and why."""
    pairs = zip(plan.catalogue.clips, plan.catalogue.problems, strict=True)
    return {str(clip.place): problem for clip, problem in pairs if clip.segment is None}


def _grown_plan(
    plan: TablePlan, state: State, match: _Match, added: Sequence[int], out: Mapping[int, str]
) -> TablePlan:
    found, readable, n_there = match.found, match.readable, len(state.paths)
    old = [_old_clip(plan, state, clip, found.get(clip)) for clip in range(n_there)]
    new = [plan.catalogue.clips[clip] for clip in added]
    problems = [out.get(clip, _old_problem(plan, state, clip, readable.get(clip))) for clip in range(n_there)]
    problems += [plan.catalogue.problems[clip] for clip in added]
    n_rows = np.array([*state.columns["n_rows"], *plan.catalogue.n_rows[list(added)].tolist()], np.int32)
    n_samples = [int(plan.catalogue.n_samples[found[clip]]) if clip in found else 0 for clip in range(n_there)]
    n_samples += [int(plan.catalogue.n_samples[clip]) for clip in added]
    types = _types(plan, state)
    clips = (*old, *new)
    splits = tuple(_splits(plan, state, match.places, clips))
    lengths, rests = np.array(n_samples, np.int64), plan.catalogue.rests
    catalogue = Catalogue(state.spec, clips, splits, lengths, n_rows, tuple(problems), rests)
    is_readable = np.array([*(clip in readable for clip in range(n_there)), *(True for _ in added)], bool)
    origins = _origins(plan, state, match, out) + find_origins(new)
    sources = tuple(sorted({*state.sources, *plan.sources}))
    grown = complete_plan(catalogue, state.layout, origins, is_readable, types, state.fingerprint)
    meaning = Meaning(*(new or old for new, old in zip(plan.meaning, state.meaning, strict=True)))
    resamples = plan.resamples or state.resamples
    return replace(grown, sources=sources, split=plan.split, resamples=resamples, meaning=meaning)


def _old_clip(plan: TablePlan, state: State, clip: int, found: int | None) -> Clip:
    """Return a clip of the table, with what is known of it now: what is unknown now replaces nothing."""
    path, columns = state.paths[clip], state.columns
    if found is None:
        return state.clip(clip)
    now = plan.catalogue.clips[found]
    known = {name: columns[name][clip] for name in _IDENTITY if _is_unknown(getattr(now.identity, name))}
    if of_list := {**state.of_lists[clip], **{name: text for name, text in now.identity.columns if text}}:
        known["columns"] = _sorted(of_list)
    part = {} if now.segment else {name: columns[name][clip] for name in _PART}
    if not known and path == now.path:
        return now
    return replace(now, path=path, identity=replace(now.identity, **known), **part)


def _is_unknown(value: Any) -> bool:  # noqa: ANN401  a value of any column
    return value in ("", -1) or value != value  # noqa: PLR0124  NaN


def _old_problem(plan: TablePlan, state: State, clip: int, found: int | None) -> str:
    """Return why a clip that was in the table cannot be used; empty where its rows are there or can be computed."""
    status, has_rows = state.columns["status"][clip], state.columns["n_rows"][clip] > 0
    if found is not None:
        is_same = state.origins.version[clip] == plan.origins.version[found]
        return "" if has_rows and is_same else plan.catalogue.problems[found]
    return status if status in (REMOVED, REPLACED) or not (has_rows or status in ("", GOOD)) else ""


def _origins(plan: TablePlan, state: State, match: _Match, out: Mapping[int, str]) -> Origins:
    origins = Origins(state.origins.place.copy(), state.origins.version.copy(), state.origins.archive.copy())
    clips, sources = list(match.readable), list(match.readable.values())
    for name in ("version", "archive"):
        getattr(origins, name)[clips] = getattr(plan.origins, name)[sources]
    now = {clip.recording[1]: index for index, clip in enumerate(plan.catalogue.clips) if clip.segment is None}
    for clip, status in out.items():
        index = None if status in (REMOVED, REPLACED) else now[match.places[clip]]
        origins.version[clip] = digest(status) if index is None else plan.origins.version[index]
    return origins


def _splits(plan: TablePlan, state: State, places: Sequence[str], clips: Sequence[Clip]) -> list[str]:
    """Return the splits: those that are there stay; clips that are new, or labelled only now, are split by themselves.

    New parts of a recording that is there have its split. A clip that turns out to be abnormal is for training no
    more. One that was so before stays where it is: it was put there by a list, or by a policy that trains on both.
    """
    n_there = len(state.paths)
    labels, splits = state.columns["label"], state.columns["split"]
    is_new = [not splits[clip] and labels[clip] == UNKNOWN for clip in range(n_there)] + [True] * (len(clips) - n_there)
    by_place = {places[clip]: splits[clip] for clip in range(n_there) if not is_new[clip]}
    by_policy = iter(split_clips([clip for clip, new in zip(clips, is_new, strict=True) if new], *plan.split))
    kept = [*zip(splits, labels, strict=True), *[("", UNKNOWN)] * (len(clips) - n_there)]
    chosen = [
        next(by_policy) if new else _keep_split(clip, *before, plan.split.policy)
        for clip, before, new in zip(clips, kept, is_new, strict=True)
    ]
    by_place |= {places[clip]: chosen[clip] for clip in range(n_there) if not is_new[clip]}
    of_recording = [by_place.get(str(clip.place)) for clip in clips]  # all parts of a recording are on one side
    return [one if new is None else new for one, new in zip(chosen, of_recording, strict=True)]


def _keep_split(clip: Clip, split: str, label: int, policy: str) -> str:
    if clip.identity.split and policy != "none":
        return clip.identity.split
    return TEST if clip.identity.label == ABNORMAL != label and split == TRAIN else split


def _describe(
    plan: TablePlan, state: State, match: _Match, added: Sequence[int], out: Mapping[int, str], grown: TablePlan
) -> Growth:
    n_there = len(state.paths)
    before, now = state.origins.version, grown.origins.version
    found = np.fromiter(match.found, np.int64)
    is_changed = found[(before[found] != 0) & (before[found] != now[found])].tolist()
    gone = [clip for clip, status in out.items() if status == REMOVED]
    lost = [clip for clip, status in out.items() if status not in (REMOVED, REPLACED)]
    replaced = sorted(state.name(clip) for clip in {*is_changed, *(out.keys() - set(gone))})
    new = sorted(as_unicode(plan.catalogue.name(clip)) for clip in added)
    renewed = {state.name(clip) for clip in match.outgrown}
    relabelled = {state.name(clip): change for clip in match.found if (change := _relabelled(state, grown, clip))}
    taken = {*match.found, *match.outgrown, *out}
    left = [clip for clip in range(n_there) if clip not in taken and not _is_out(state, clip)]
    return Growth(
        grown,
        [path for path in new if path not in renewed],
        replaced,
        sorted(state.name(clip) for clip in gone),
        dict(sorted(relabelled.items())),
        unnamed=sorted(state.name(clip) for clip in left),
        to_read=frozenset([*is_changed, *range(n_there, n_there + len(added))]),
        named=frozenset([*match.found, *lost, *range(n_there, n_there + len(added))]),
    )


def _is_out(state: State, clip: int) -> bool:
    return state.columns["status"][clip] in (REMOVED, REPLACED)


def _relabelled(state: State, grown: TablePlan, clip: int) -> str:
    """Say what a clip is now, and what it was; empty where it is the same."""
    who = grown.catalogue.clips[clip].identity
    values = [(name, state.columns[name][clip], getattr(who, name)) for name in _IDENTITY]
    values.append(("split", state.columns["split"][clip], grown.catalogue.splits[clip]))
    if grown.columns:
        before, now = state.of_lists[clip], dict(plain_columns(who, grown.columns))
        values += [(name, before.get(name, ""), now.get(name, "")) for name in grown.columns]
    if all(before == now or (before != before and now != now) for _, before, now in values):  # noqa: PLR0124  NaN
        return ""
    said = [(name, _say(name, before), _say(name, now)) for name, before, now in values]
    return ", ".join(f"{name} {before} -> {now}" for name, before, now in said if before != now)


def _say(name: str, value: Any) -> str:  # noqa: ANN401  a value of any column
    if name == "snr_db":
        return f"{np.float32(value):g}"
    if name == "recorded_at":
        return "none" if math.isnan(value) else datetime.fromtimestamp(value, UTC).isoformat()
    return LABEL_NAMES[int(value)] if name == "label" else as_unicode(str(value)) or "none"


def clip_differences(objects: Objects, existing: Existing, plan: TablePlan) -> list[str]:
    """Say by name how the clips of a table differ from those of a plan, and what would make them the same."""
    try:
        state = read_state(objects, existing)
        growth = grow(plan, state, prune=False)
    except (StoreError, OSError) as error:
        _log.info("the clips there cannot be compared with those that are named: %s", error)
        return [f"clips: not the {len(plan.catalogue.clips):,} that are named now"]
    lines = growth.describe() + name_some("not named now", sorted([*growth.unnamed, *growth.missing]))
    lines += name_some("in another split", _other_splits(plan, state))
    lines = lines or ["clips: the same recordings, in another order"]
    hint = "--update adds, replaces and relabels them in the table that is there, --prune takes out those that are gone"
    return [*lines, hint]


def _other_splits(plan: TablePlan, state: State) -> list[str]:
    splits = state.columns["split"]
    there = _match(plan, state).there.items()
    pairs = [(clip, splits[clip], plan.catalogue.splits[found]) for found, clip in there]
    return [
        f"{state.name(clip)}: {before or 'none'} -> {now or 'none'}" for clip, before, now in pairs if before != now
    ]
