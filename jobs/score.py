"""Score recordings by the models of jobs.detect: which machine sounds unlike itself, when, and how sure it is.

Each recording is scored by the model of its machine, which its path tells as it did for the table that the models were
learned from. An alarm is a score above the machine's threshold, or moments above the threshold for moments: events.
Without --output, the scores are printed as CSV. For a job that runs every few minutes: --output and --update.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import mimii
from jobs.command import ALARM, BAD_CLIPS, OK, fail, run_command
from jobs.given import NoEffect, check_effects, read_options
from jobs.options import (
    CLUSTER_RULES,
    STORAGE_RULES,
    add_cluster_options,
    add_fetch_option,
    add_meaning_options,
    add_segment_options,
    add_storage_options,
    is_number,
    location,
    output_access,
    scheduler_of,
    source_access,
    split_words,
)
from jobs.process import INTERRUPTED
from jobs.version import add_version
from mimii import detection

_MOST_ALARMS = 20
_RULES = (
    *CLUSTER_RULES,
    NoEffect("update", lambda options: not options.output, "needs --output"),
    NoEffect("overwrite", lambda options: not options.output, "needs --output"),
    NoEffect(
        "overwrite", lambda options: options.update, "not with --update, which keeps what is there; use one of them"
    ),
)
_EPILOG = f"""
exit status: {OK} no alarm; 1 failed; 2 wrong usage; {BAD_CLIPS} no alarm, and some recordings could not be scored;
{ALARM} an alarm; {INTERRUPTED}.

examples:
  python -m jobs.score data/processed/detect new_recordings > scores.csv
  python -m jobs.score data/processed/detect incoming --output scores --update --quiet     every few minutes, by cron
  python -m jobs.score data/processed/detect/models/press7.npz an_hour.wav --segment 10
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.score",
        usage="%(prog)s MODELS SOURCE ... [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places",
        nargs="*",
        type=location,
        metavar="MODELS|SOURCE",
        help="first an --output of jobs.detect, or one .npz file of it, which then scores all recordings; then "
        "folders, archives and recordings, or s3://bucket/prefix",
    )
    group = parser.add_argument_group("recordings")
    add_meaning_options(group)
    add_segment_options(group, "as in the table")
    _add_output_options(parser)
    add_version(parser)
    add_cluster_options(parser)
    add_storage_options(parser)
    return parser


def _add_output_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scores")
    group.add_argument(
        "--output", type=location, metavar="URL", help="where scores.csv and events.csv go; default: standard output"
    )
    group.add_argument(
        "--update",
        action="store_true",
        help="score only recordings that are not there yet, or have changed, and add them",
    )
    group.add_argument("--overwrite", action="store_true", help="replace scores that are there")
    group.add_argument(
        "--threshold",
        nargs="+",
        metavar="RULE",
        default=[],
        help="as for jobs.detect, such as quantile 0.99; default: as the models were learned",
    )
    group.add_argument("--json", action="store_true", help="print a line of JSON for each clip")
    group.add_argument("--quiet", action="store_true", help="print nothing but alarms and errors")
    add_fetch_option(group)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, _RULES)
    options.threshold, more = split_words(options.threshold, is_number)
    options.models, *options.sources = [*options.places, *more] or [""]
    if not options.models or (not options.sources and not options.list):
        parser.error("name the models, and the recordings: a folder, an archive, a recording, or --list FILE.csv")
    check_effects(parser, options, STORAGE_RULES)
    return run(options)


def run(options: argparse.Namespace) -> int:
    """Score what options name; return the exit status."""
    return run_command("score", options, _score)


def _score(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress

    access = source_access(options)
    report = mimii.score(
        options.sources,
        options.models,
        lists=options.list,
        layout=options.layout or "",
        assume=options.assume or "",
        segment=options.segment,
        overlap=options.overlap,
        threshold=" ".join(options.threshold),
        output=options.output or "",
        update=options.update,
        overwrite=options.overwrite,
        client=scheduler_of(options),
        access=access,
        output_access=output_access(options),
        fetch_window=options.fetch_window,
        progress=show_progress("batch", quiet=options.quiet),
    )
    _print_report(options, report)
    return _conclude(report)


def _print_report(options: argparse.Namespace, report: mimii.ScoreReport) -> None:
    """Print lines of JSON, a summary of what was written, alarms alone, or the scores as CSV."""
    alarms = [_describe_alarm(line, report) for line in report.lines if line["alarm"]]
    if options.json:
        sys.stdout.writelines(f"{json.dumps(one)}\n" for one in _as_json(report))
    elif options.quiet:
        sys.stdout.writelines(f"{alarm}\n" for alarm in alarms)
    elif options.output:
        print("\n".join([*_describe_trust(report), *alarms[:_MOST_ALARMS], *_more(alarms), *_summary(options, report)]))
    else:
        sys.stdout.write(report.to_csv())


def _conclude(report: mimii.ScoreReport) -> int:
    from jobs.report import describe_bad
    from jobs.words import numbered

    bad = {_name(line, report): line["status"] for line in report.lines if line["status"] != "ok"}
    if bad:
        print("\n".join(describe_bad(bad)), file=sys.stderr)
        fail("score", BAD_CLIPS, f"{len(bad):,} of {numbered(len(report.lines), 'clip')} could not be scored")
    if any(line["alarm"] for line in report.lines):
        return ALARM
    return BAD_CLIPS if bad else OK


def _summary(options: argparse.Namespace, report: mimii.ScoreReport) -> list[str]:
    from jobs.words import numbered

    machines = {line["machine"] for line in report.lines if line["alarm"]}
    n_alarms = sum(line["alarm"] for line in report.lines)
    on = f" on {numbered(len(machines), 'machine')}" if machines else ""
    return [
        f"scored   {numbered(len(report.lines), 'clip')} now",
        f"alarms   {n_alarms:,}{on}",
        f"events   {len(report.event_lines):,}",
        f"output   {options.output}/{detection.SCORES}, {detection.EVENTS}",
    ]


def _more(alarms: Sequence[str]) -> list[str]:
    more = len(alarms) - _MOST_ALARMS
    return [f"and {more:,} more"] if more > 0 else []


def _describe_trust(report: mimii.ScoreReport) -> list[str]:
    from jobs.words import numbered

    few = {line["machine"]: line["n_normal"] for line in report.lines if line["status"] == "ok"}
    named = [f"{machine} ({n})" for machine, n in few.items() if n < detection.LEAST_CLIPS]
    n_short = sum(line["status"] == "ok" and math.isnan(line["score"]) for line in report.lines)
    too_short = f"{numbered(n_short, 'clip')} without a score: much shorter than the clips that were learned from"
    short = [too_short] if n_short else []
    what = "thresholds not to be trusted, from too few normal clips"
    return [*short, *([f"{what}: {', '.join(named)}"] if named else [])]


def _describe_alarm(line: dict[str, Any], report: mimii.ScoreReport) -> str:
    """Say which machine, when, and how sure it is."""
    from jobs.words import numbered

    said = []
    if line["verdict"] == detection.ABNORMAL_VERDICT:
        above = f", higher than {_share(line['rank'], line['n_normal'])}" if line["n_normal"] else ""
        said.append(f"score {line['score']:.3g} (threshold {line['threshold']:.3g}){above}")
    if line["n_events"]:
        said.append(
            f"{numbered(line['n_events'], 'event')}, peak {line['peak']:.3g} (threshold for moments "
            f"{line['peak_threshold']:.3g})"
        )
    return f"ALARM {line['machine']}  {_name(line, report)}: {', '.join(said)}; {_describe_peak(line)}"


def _name(line: dict[str, Any], report: mimii.ScoreReport) -> str:
    """Return the path of a clip, and which part of the recording it is, where others are clips, too."""
    is_one_of_several = any(other["channel"] > 0 for other in report.lines) and line["channel"] >= 0
    channel = f" channel {line['channel']}" if is_one_of_several else ""
    return f"{line['path']}{channel}{' from {:g} s'.format(line['start_s']) if line['start_s'] else ''}"


def _share(rank: float, n_normal: int) -> str:
    return f"all {n_normal:,} normal clips" if rank == 1 else f"{rank:.1%} of {n_normal:,} normal clips"


def _describe_peak(line: dict[str, Any]) -> str:
    when = f"least normal at {line['peak_s']:.1f} s"
    if math.isnan(line["peak_hz"]):
        return when
    louder = "louder" if line["peak_db"] > 0 else "quieter"
    return f"{when}, {line['peak_hz']:.0f} Hz {abs(line['peak_db']):.0f} dB {louder}"


def _as_json(report: mimii.ScoreReport) -> list[dict[str, Any]]:
    """Return a line for each clip with its events; what is not known is null, as JSON has no NaN."""
    events: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for event in report.event_lines:
        events.setdefault((event["recording"], event["channel"]), []).append(event)
    return [{**_nulls(line), "events": _within(line, events)} for line in report.lines]


def _within(line: dict[str, Any], events: dict[tuple[str, int], list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Return the events of a recording that are in a clip of it, or in part."""
    stop_s = line["start_s"] + (math.inf if math.isnan(line["duration_s"]) else line["duration_s"])
    of_recording = events.get((line["path"], line["channel"]), [])
    return [_nulls(one) for one in of_recording if line["start_s"] < one["stop_s"] and one["start_s"] < stop_s]


def _nulls(values: dict[str, Any]) -> dict[str, Any]:
    plain = {
        name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in values.items()
    }
    if plain.get("recorded_at") is not None:
        plain["recorded_at"] = datetime.fromtimestamp(values["recorded_at"], UTC).isoformat()
    return plain


if __name__ == "__main__":
    sys.exit(main())
