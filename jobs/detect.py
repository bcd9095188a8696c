"""Find machines that sound unlike themselves, from the features of a table.

For each machine (type, id and SNR), detectors learn what its normal clips sound like, and score its other clips.
Results: models, scores, thresholds, AUCs where there are labels, and a page with pictures and sound. jobs.score applies
the models to new recordings.
"""

from __future__ import annotations

import argparse
import math
import os
import shlex
import sys
from collections.abc import Sequence

import mimii
from jobs import score
from jobs.command import FAILED, OK, run_command
from jobs.given import NoEffect, add_old_name, check_effects, read_options
from jobs.options import (
    CLUSTER_RULES,
    STORAGE_RULES,
    add_cluster_options,
    add_storage_options,
    count,
    is_number,
    location,
    open_output,
    output_access,
    scheduler_of,
    source_access,
    split_words,
)
from jobs.process import INTERRUPTED
from jobs.version import add_version
from mimii import detection, engine, storage

DEFAULT_TABLE, DEFAULT_OUTPUT = "data/processed/features.zarr", "data/processed/detect"
_EPILOG = f"""
exit status: {OK} done; {FAILED} failed; 2 wrong usage; {INTERRUPTED}.

examples:
  python -m jobs.detect                                   the table of jobs.featurize to data/processed/detect
  python -m jobs.detect my.zarr --model neighbours autoencoder --output my_results
  python -m jobs.detect s3://bucket/features.zarr --output s3://bucket/detect --scheduler cluster.yaml
  python -m jobs.detect dcase.zarr --official dcase2023   the challenge's scores and result files
  python -m jobs.score data/processed/detect new_recordings > scores.csv
"""


def _learn_otherwise(options: argparse.Namespace, what: str) -> bool:
    """Say whether no kind that is named is such; a name that is no kind is refused later."""
    kinds = [detection.KINDS.get(name) for name in options.model]
    return all(kind is not None and not getattr(kind, what) for kind in kinds)


def _kinds(what: str) -> str:
    return ", ".join(name for name, kind in detection.KINDS.items() if getattr(kind, what))


_RULES = (
    *STORAGE_RULES,
    NoEffect(
        "epochs",
        lambda options: _learn_otherwise(options, "is_network"),
        f"only networks are trained in epochs: --model {_kinds('is_network')}",
    ),
    *(
        NoEffect(
            name,
            lambda options: _learn_otherwise(options, "reads_rows"),
            f"has an effect on detectors that learn from rows only: --model {_kinds('reads_rows')}",
        )
        for name in ("training_seed", "normalize")
    ),
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.detect",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places",
        nargs="*",
        type=location,
        metavar="STORE",
        help=f"a table of jobs.featurize, a folder or s3://bucket/prefix; default: {DEFAULT_TABLE}",
    )
    parser.add_argument(
        "--output", type=location, metavar="URL", help=f"where the results go; default: {DEFAULT_OUTPUT}"
    )
    parser.add_argument(
        "--official",
        choices=detection.YEARS,
        metavar="YEAR",
        help="also write the scores that the evaluator of this year's DCASE challenge computes, and its result files: "
        f"{detection.YEARS[0]} to {detection.YEARS[-1]}",
    )
    parser.add_argument("--score-only", type=location, metavar="MODELS", help=argparse.SUPPRESS)
    _add_training_options(parser)
    add_version(parser)
    group = parser.add_argument_group("running")
    group.add_argument("--overwrite", action="store_true", help="replace other results that are at the output")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_cluster_options(parser)
    add_storage_options(parser, others="the table")
    return parser


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("learning")
    group.add_argument(
        "--model",
        nargs="+",
        metavar="NAME",
        default=[detection.DEFAULT_KIND],
        help="one kind of detector or several, to be compared; the first one gives the verdicts. A clip is scored by "
        "its distance from normal clips, or, by the last four, by how well its rows fit those of normal clips. "
        + "; ".join(f"{name}: {kind.summary}" for name, kind in detection.KINDS.items())
        + f". Default: {detection.DEFAULT_KIND}",
    )
    _add_threshold_option(group)
    group.add_argument(
        "--epochs",
        type=count,
        metavar="N",
        default=50,
        help="training epochs of networks: how often they see all rows; default: %(default)s",
    )
    seed = group.add_argument(
        "--training-seed",
        type=int,
        metavar="N",
        default=0,
        help="random seed of detectors that learn from rows: weights of networks, and which rows they see; default: 0",
    )
    add_old_name(group, seed, "--seed")
    group.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="scale each feature of a row to mean 0 and standard deviation 1 over the machine's training clips; the "
        "baseline published with MIMII does not. Default: --normalize",
    )


def _add_threshold_option(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--threshold",
        nargs="+",
        metavar="RULE",
        default=[],
        help="above which score a clip is abnormal, from the scores of normal clips that were not learned from: sigma "
        "K, as seldom as K standard deviations above the mean of a normal distribution; quantile Q; gamma Q, of a "
        f"gamma distribution, as in DCASE; or a number. Default: {detection.DEFAULT_RULE}",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = read_options(parser, arguments, CLUSTER_RULES)
    options.model, more = split_words(options.model, lambda word: word in detection.KINDS or not _may_be_table(word))
    options.threshold, others = split_words(options.threshold, is_number)
    options.places += [*more, *others]
    if options.score_only:
        return _score(options, parser)
    if len(options.places) > 1:
        parser.error(f"one table at a time, not {len(options.places)}: {' '.join(options.places)}")
    options.output = options.output or DEFAULT_OUTPUT
    options.places = options.places or [DEFAULT_TABLE]
    check_effects(parser, options, _RULES)
    return run_command("detect", options, _detect)


def _may_be_table(word: str) -> bool:
    return "/" in word or os.path.exists(word)


def _detect(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress

    where = scheduler_of(options)
    rule = " ".join(options.threshold) or detection.DEFAULT_RULE
    training = mimii.Training(options.model, options.epochs, options.training_seed, options.normalize, rule)
    engine.look(open_output(options, storage.SHORT_TIMEOUT), detection.FINDINGS_HEAD)  # a refusal comes first
    if where.scheduler == "local":
        engine.start_early()
    report = mimii.detect(
        options.places[0],
        options.output,
        training=training,
        client=where,
        overwrite=options.overwrite,
        access=source_access(options),
        output_access=output_access(options),
        progress=show_progress("machine", quiet=options.quiet),
    )
    if not options.quiet:
        _print_report(report)
    if options.official:
        official = detection.write_official(report, options.official, output_access(options))
        if not options.quiet:
            _print_official(official, report)
    return OK


def _print_report(report: mimii.Report) -> None:
    if few := detection.untrusted(report.results):
        print(f"thresholds not to be trusted, from too few normal clips: {', '.join(few)}\n")
    kinds = detection.averages(report.results)
    has_labels = any(label >= 0 for _, outcome in report.results for label in outcome.labels)
    print("\n".join(_tabulate(report) if has_labels else _tabulate_alarms(report)))
    if len(kinds) > 1:
        print("\n" + "\n".join(_compare(kinds)))
    _print_what_next(report, has_labels=has_labels)


def _tabulate(report: mimii.Report) -> list[str]:
    """Return a line for each machine, with how well its clips are separated, and the average."""
    from jobs.words import format_table

    header = ("machine", "learned", "alarms", "normal", "abnormal", "AUC", "95 %", "pAUC", "published", "precision")
    mean = next(iter(detection.averages(report.results).values()))
    last = ("average", "", "", "", "", _number(mean["auc"]), "", _number(mean["partial_auc"]), "")
    shares = map(_number, (mean["precision"], mean["recall"], mean["f1"]))
    rows = [_row(machine, outcome) for machine, outcome in report.results]
    return format_table((*header, "recall", "F1"), [*rows, (*last, *shares)])


def _tabulate_alarms(report: mimii.Report) -> list[str]:
    """Return a line for each machine where no clip has a label to compare with."""
    from jobs.words import format_table

    rows = [(machine.name, f"{one.n_learned:,}", _alarms(one.scores)) for machine, one in report.results]
    return format_table(("machine", "learned", "alarms"), rows)


def _print_what_next(report: mimii.Report, *, has_labels: bool) -> None:
    n_learned = len(report.run.computed)
    print(f"\nmachines  {n_learned:,} learned, {len(report.results) - n_learned:,} there already")
    for best in detection.best_channels(report.results):
        auc = f"AUC {best.auc:.3f}, lowest {best.lowest_auc:.3f}"
        print(f"channels  {best.machine}: {best.channel} separates best, {auc}")
    print(f"look at   {report.output}/{detection.REPORT}")
    print(f"use       python -m jobs.score {shlex.quote(report.output)} FOLDER")
    if has_labels and any(not math.isnan(_published(machine)) for machine, _ in report.results):
        print("published: the AUC of the baseline that came with MIMII, to compare with on the clips of MIMII only")


def _compare(kinds: dict[str, dict[str, float]]) -> list[str]:
    """Compare detectors by their averages over machines; say which would have been best."""
    from jobs.words import format_table

    names = ("auc", "partial_auc", "precision", "recall", "f1")
    rows = [(kind, *(_number(mean[name]) for name in names)) for kind, mean in kinds.items()]
    lines = format_table(("detector", "AUC", "pAUC", "precision", "recall", "F1"), rows)
    known = {kind: mean["auc"] for kind, mean in kinds.items() if not math.isnan(mean["auc"])}
    if known:
        first = next(iter(kinds))
        lines.append(
            f"by these labels, {max(known, key=known.__getitem__)} separates best; the verdicts are those of {first}"
        )
    return lines


def _row(machine: detection.Machine, outcome: detection.Outcome) -> tuple[str, ...]:
    one, scores = outcome.evaluation(), outcome.scores
    low, high = scores.auc_interval
    counts = tuple(f"{count:,}" if count else "-" for count in (one.n_normal, one.n_abnormal))
    return (
        *(machine.name, f"{outcome.n_learned:,}", _alarms(scores), *counts, _number(one.auc)),
        *("-" if math.isnan(low) else f"{low:.2f}-{high:.2f}", _number(one.partial_auc), _number(_published(machine))),
        *map(_number, (one.precision, one.recall, one.f1)),
    )


def _alarms(scores: detection.Scores) -> str:
    """Count the clips above the threshold, also normal ones that were not learned from."""
    if math.isinf(scores.threshold):
        return "-"
    every = (*scores.normal, *scores.clips)
    return f"{sum(score > scores.threshold for score in every):,} of {len(every):,}"


def _published(machine: detection.Machine) -> float:
    return detection.published_auc(machine.machine_type, machine.machine_id, machine.snr_db)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _print_official(official: detection.Official, report: mimii.Report) -> None:
    from jobs.words import format_table, numbered

    rows = [
        (line.machine_type, line.section, line.domain or "all", _number(line.rates.auc), _number(line.rates.p_auc))
        for line in official.sections
    ]
    print("\n" + "\n".join(format_table((official.year, "section", "domain", "AUC", "pAUC"), rows)))
    left_out = f" ({numbered(official.n_missing, 'value')} unknown and left out)" if official.n_missing else ""
    print(f"official score {_number(official.total)}{left_out}")
    print(f"written   {report.output}/{detection.OFFICIAL}/{official.year}")


def _score(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    """Do what jobs.score does, and say so."""
    if not options.places:
        parser.error("--score-only: name the recordings, such as a folder")
    print("detect: --score-only is python -m jobs.score MODELS SOURCE ... now, which can do more", file=sys.stderr)
    known = score.make_parser().parse_args([])
    for name in vars(known).keys() & vars(options).keys():
        setattr(known, name, getattr(options, name))
    known.models, known.sources = options.score_only, options.places
    return score.run(known)


if __name__ == "__main__":
    sys.exit(main())
