"""What the commands print before and after the work: the plan, the summary, the list of bad clips."""

import argparse
import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import islice

from jobs.command import BAD_CLIPS, OK, fail
from jobs.words import be, format_bytes, format_table, numbered
from mimii.engine import Output, Run, look, read_records
from mimii.recordings import LABEL_NAMES, TEST, TRAIN, UNKNOWN, Catalogue, Clip, Identity, Recordings, read_layout
from mimii.storage import is_remote, printable

_MOST_BAD_A_REASON = 10
_MOST_MACHINES = 10
_MOST_SHOWN = 10
_GONE = ("removed", "replaced")
"""What is no fault: the status of clips that --prune took out, or that came anew with another length."""


@dataclass(frozen=True, slots=True)
class Planned:
    """What a job is about to do: its name and options, the clips found, which can be used, and the output.

    Of a table that grows the clips are all that it will have: `is_named` says which were found now, and `is_read` which
    of them are new or have changed.
    """

    name: str
    options: argparse.Namespace
    clips: Recordings
    catalogue: Catalogue
    output: Output
    is_named: Callable[[int], bool] = lambda _: True
    is_read: Callable[[int], bool] = lambda _: True

    def bad_paths(self, run: Run | None = None) -> dict[str, str]:
        """Return the paths of clips that cannot be used, in order, and why; those of a recording together."""
        bad, clips = sorted(self.bad(run).items()), self.catalogue.clips
        reasons = defaultdict[str, list[str]](list)
        for clip, reason in bad:
            reasons[clips[clip].path].append(reason)
        whole = {path: len(of_one) for path, of_one in reasons.items() if len(of_one) > 1 and len({*of_one}) == 1}
        paths = {path: f"{path}, {numbered(count, 'clip')}" for path, count in whole.items()}
        return {paths.get(clips[clip].path, self.catalogue.name(clip)): reason for clip, reason in bad}

    def bad(self, run: Run | None = None) -> dict[int, str]:
        """Return the clips that are named and cannot be used, and why; also those that turned out so in a run."""
        return {clip: problem for clip, problem in self.all_bad(run).items() if self.is_named(clip)}

    def all_bad(self, run: Run | None = None) -> dict[int, str]:
        """Return the same of all clips that the output has."""
        known = {clip: problem for clip, problem in enumerate(self.catalogue.problems) if problem}
        return {**known, **(run.bad if run else {})}


def print_plan(planned: Planned, special: Mapping[str, str]) -> None:
    """Print what would be done: clips by machine, label and SNR, what is special about the job, bytes in."""
    catalogue = planned.catalogue
    n_bytes = _n_bytes(clip for index, clip in enumerate(catalogue.clips) if planned.is_read(index))
    common = {
        **_machines(planned),
        "split": _split(catalogue),
        **planned.clips.remarks.describe(),
        "headers": _headers(planned.clips),
        "reads": format_bytes(n_bytes),
    }
    shown = [*_show_layout(planned), *_show_left_out(planned.clips), *describe_bad(planned.bad_paths())]
    print("\n".join([*_count_clips(catalogue), "", *_pairs({**common, **special}), *shown]))
    print(f"output    {planned.options.output}, {_fate(planned)}")


def print_run(planned: Planned, run: Run, seconds: float, special: Mapping[str, str]) -> None:
    """Print what was done."""
    computed = {clip for task in run.computed for clip in planned.output.clips_of(task) if planned.is_read(clip)}
    before = {
        "clips": _count_good(planned, run),
        **_machines(planned),
        "split": _split(planned.catalogue),
        **planned.clips.remarks.describe(),
    }
    after = {
        "headers": _headers(planned.clips),
        "read": format_bytes(_n_bytes(planned.catalogue.clips[clip] for clip in computed)),
        "output": f"{planned.options.output}, {format_bytes(run.n_bytes)}",
        "time": f"{seconds:.1f} s, {_speed(run, len(computed), seconds)}",
    }
    print("\n".join([*_pairs({**before, **special, **after}), *describe_bad(planned.bad_paths(run))]))


def _count_good(planned: Planned, run: Run) -> str:
    """Count all clips, the good ones, those that are named and bad, and the entries of a grown table without rows."""
    n_clips, bad, all_bad = len(planned.catalogue.clips), planned.bad(run), planned.all_bad(run)
    others = Counter(why if why in _GONE else "bad before" for clip, why in all_bad.items() if clip not in bad)
    counts = {"good": n_clips - len(all_bad), "bad": len(bad), **dict(sorted(others.items()))}
    return f"{n_clips:,}: {', '.join(f'{count:,} {what}' for what, count in counts.items())}"


def _n_bytes(clips: Iterable[Clip]) -> int:
    """Add up the bytes of recordings, each once, however many clips it gives."""
    return sum({str(clip.place): clip.place.fetched for clip in clips}.values())


def print_use(planned: Planned, run: Run, hint: str) -> None:
    """Print how to use what is there; where no clip could be used, that there is nothing."""
    nothing = "no clip could be used: the output has nothing but the reasons"
    print(f"\n{hint if len(planned.bad(run)) < len(planned.catalogue.clips) else nothing}")


def conclude(planned: Planned, run: Run) -> int:
    """Return the exit status: whether more clips are bad than --max-bad admits."""
    n_bad, n_clips = len(planned.bad(run)), len(planned.catalogue.clips)
    if n_bad <= planned.options.max_bad(n_clips):
        return OK
    clips = numbered(n_clips, "clip")
    return fail(planned.name, BAD_CLIPS, f"{n_bad:,} of {clips} cannot be used, more than --max-bad allows")


def _fate(planned: Planned) -> str:
    output = planned.output
    existing = look(output.objects, output.head)
    try:
        if not is_remote(output.objects.root):  # on S3, only a request that writes would tell
            output.objects.check()
    except OSError as error:
        return f"which cannot be written: {error}"
    if existing is None:
        return "where nothing is yet"
    if output.differences(existing):
        fate = "would be replaced" if planned.options.overwrite else "would be refused without --overwrite"
        return f"which holds another {existing.kind}: {fate}"
    output = output.at(existing)
    n_done = len(read_records(output))
    return f"where {n_done:,} of {numbered(output.n_tasks, output.noun)} {be(output.n_tasks)} there already"


def describe_bad(reasons: Mapping[str, str]) -> list[str]:
    """List bad clips, from path to reason, the commonest reason first."""
    by_reason = defaultdict(list)
    for path, reason in reasons.items():
        by_reason[reason].append(path)
    lines = ["", "bad clips"] if reasons else []
    for reason, paths in sorted(by_reason.items(), key=lambda item: (-len(item[1]), item[0])):
        lines.append(f"  {len(paths):,}: {printable(reason)}")
        lines += [f"      {printable(path)}" for path in paths[:_MOST_BAD_A_REASON]]
        if len(paths) > _MOST_BAD_A_REASON:
            lines.append(f"      and {len(paths) - _MOST_BAD_A_REASON:,} more; all are in the output's column 'status'")
    return lines


def _count_clips(catalogue: Catalogue) -> list[str]:
    machines = Counter((_machine(clip.identity), clip.identity.label) for clip in catalogue.clips)
    names = sorted({machine for machine, _ in machines})
    labels = sorted({label for _, label in machines}, key=(0, 1, -1).index)
    rows = [(name, *(f"{machines[name, label]:,}" for label in labels)) for name in names]
    totals = [f"{sum(machines[name, label] for name in names):,}" for label in labels]
    return format_table(("clips", *(LABEL_NAMES[label] for label in labels)), [*rows, ("all", *totals)])


def _machine(who: Identity) -> str:
    snr = "" if math.isnan(who.snr_db) else f"{who.snr_db:g} dB"
    return " ".join(filter(None, (who.machine_type, who.machine_id, snr))) or "unknown machine"


def _machines(planned: Planned) -> dict[str, str]:
    """Name the machines where the names of folders are taken for some of them."""
    who = {_machine(clip.identity): clip.identity for clip in planned.catalogue.clips}
    by_folder = planned.clips.remarks.by_folder
    folders = sorted(name for name, one in who.items() if not one.machine_type and one.machine_id in by_folder)
    others = sorted(set(who) - set(folders))
    said = [f"{_cut(folders)} (by folder)", *([_cut(others)] if others else [])]
    return {"machines": f"{len(who):,}: {'; '.join(said)}"} if folders else {}


def _cut(names: Sequence[str]) -> str:
    more = f" and {len(names) - _MOST_MACHINES:,} more" if len(names) > _MOST_MACHINES else ""
    return ", ".join(map(printable, names[:_MOST_MACHINES])) + more


def _show_layout(planned: Planned) -> list[str]:
    """Show what --layout makes of the first recordings."""
    if not planned.options.layout:
        return []
    n_parts = read_layout(planned.options.layout).n_parts
    named = (clip for index, clip in enumerate(planned.catalogue.clips) if planned.is_named(index))
    first = list(islice(named, _MOST_SHOWN))
    described = [_describe(clip.identity) for clip in first]
    names = list(dict.fromkeys(name for texts in described for name in texts))
    paths = (printable("/".join(clip.path.split("/")[-n_parts:])) for clip in first)
    rows = [(path, *(texts.get(name, "") for name in names)) for path, texts in zip(paths, described, strict=True)]
    return ["", *format_table(("path", *names), rows)]


def _describe(who: Identity) -> dict[str, str]:
    """Return what is known of a recording, as text."""
    time = "" if math.isnan(who.recorded_at) else datetime.fromtimestamp(who.recorded_at, UTC).isoformat()
    texts = {
        "machine_type": who.machine_type,
        "machine_id": who.machine_id,
        "number": str(who.number) if who.number >= 0 else "",
        "snr_db": "" if math.isnan(who.snr_db) else f"{who.snr_db:g}",
        "label": "" if who.label == UNKNOWN else LABEL_NAMES[who.label],
        "split": who.split,
        "domain": who.domain,
        "attributes": who.attributes,
        "recorded_at": time.removesuffix("+00:00") + "Z" * bool(time),
        **dict(who.columns),
    }
    return {name: printable(text) for name, text in texts.items() if text}


def _show_left_out(clips: Recordings) -> list[str]:
    paths = clips.remarks.left_out
    more = [f"  and {len(paths) - _MOST_SHOWN:,} more"] if len(paths) > _MOST_SHOWN else []
    return ["", "left out", *(f"  {printable(path)}" for path in paths[:_MOST_SHOWN]), *more] if paths else []


def _speed(run: Run, n_clips: int, seconds: float) -> str:
    if run.computed:
        return f"{n_clips / seconds:,.0f} clips/s, start-up included"
    return "there was nothing to compute" if run.records else "no clip could be used"


def _headers(clips: Recordings) -> str:
    requests = f", {numbered(clips.n_requests, 'request')} to S3" if clips.n_requests else ""
    return f"{clips.n_headers:,} of {len({clip.recording for clip in clips}):,} read{requests}"


def _split(catalogue: Catalogue) -> str:
    n_train, n_test = catalogue.splits.count(TRAIN), catalogue.splits.count(TEST)
    return f"{n_train:,} train, {n_test:,} test, {len(catalogue.splits) - n_train - n_test:,} neither"


def _pairs(values: Mapping[str, str]) -> list[str]:
    width = max(map(len, values))
    return [f"{name.ljust(width)}  {value}" for name, value in values.items()]
