"""Find machines that sound unlike themselves, from the features of a table.

For each machine (type, id and SNR), a model learns what its normal training clips sound like; a test clip's score is
how badly the model reconstructs it. Results: models, scores, AUCs, and a page with pictures and sound. With
--score-only, models that were learned before score new recordings.
"""

from __future__ import annotations

import argparse
import math
import shlex
import sys
from collections.abc import Sequence

import mimii
from jobs.command import BAD_CLIPS, FAILED, OK, fail, run_command
from jobs.options import (
    add_cluster_options,
    add_storage_options,
    count,
    location,
    open_output,
    output_access,
    scheduler_of,
    source_access,
)
from jobs.process import INTERRUPTED
from jobs.version import add_version
from mimii import detection, engine, storage

DEFAULT_TABLE, DEFAULT_OUTPUT = "data/processed/features.zarr", "data/processed/detect"
_EPILOG = f"""
exit status: {OK} done; {FAILED} failed; 2 wrong usage; 3 with --score-only, some recordings could not be read;
{INTERRUPTED} interrupted.

examples:
  python -m jobs.detect                                   the table of jobs.featurize to data/processed/detect
  python -m jobs.detect my.zarr --model pca --output my_results
  python -m jobs.detect s3://bucket/features.zarr --output s3://bucket/detect --scheduler cluster.yaml
  python -m jobs.detect --score-only data/processed/detect new_recordings > scores.csv
"""


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m jobs.detect",
        usage="%(prog)s [STORE] [--output URL] [--model NAME] [option ...]\n"
        "       %(prog)s --score-only MODEL SOURCE ... [option ...]",
        description=__doc__,
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "places",
        nargs="*",
        type=location,
        metavar="STORE|SOURCE",
        help=f"a table of jobs.featurize, a folder or s3://bucket/prefix; default: {DEFAULT_TABLE}. With --score-only, "
        "folders, archives and recordings",
    )
    parser.add_argument(
        "--output", type=location, metavar="URL", help=f"where the results go; default: {DEFAULT_OUTPUT}"
    )
    parser.add_argument(
        "--score-only",
        type=location,
        metavar="MODEL",
        help="do not learn: score recordings by a model (an .npz file), or by the models of an earlier --output, each "
        "machine by its own; CSV goes to the standard output, or to --output",
    )
    _add_training_options(parser)
    add_version(parser)
    group = parser.add_argument_group("running")
    group.add_argument("--overwrite", action="store_true", help="delete other results that are at the output first")
    group.add_argument("--quiet", action="store_true", help="print nothing but errors")
    add_cluster_options(parser)
    add_storage_options(parser)
    return parser


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("learning")
    group.add_argument(
        "--model",
        choices=tuple(detection.KINDS),
        default="autoencoder",
        help="what a row is reconstructed from. "
        + "; ".join(f"{kind}: {what}" for kind, what in detection.KINDS.items())
        + ". Default: %(default)s",
    )
    group.add_argument(
        "--epochs",
        type=count,
        metavar="N",
        default=50,
        help="how often the network sees all rows; default: %(default)s",
    )
    group.add_argument("--seed", type=int, metavar="N", default=0, help="another one gives other weights; default: 0")
    group.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="bring each feature to mean 0 and standard deviation 1 first, by the statistics in the table; the "
        "baseline published with MIMII does not. Default: --normalize",
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return its exit status."""
    parser = make_parser()
    options = parser.parse_args(arguments)
    if options.score_only:
        if not options.places:
            parser.error("--score-only: name the recordings, such as a folder")
        return run_command("detect", options, _score)
    if len(options.places) > 1:
        parser.error(f"one table at a time, not {len(options.places)}")
    options.output = options.output or DEFAULT_OUTPUT
    options.places = options.places or [DEFAULT_TABLE]
    return run_command("detect", options, _detect)


def _detect(options: argparse.Namespace) -> int:
    from jobs.progress import show_progress

    where = scheduler_of(options)
    engine.look(open_output(options, storage.SHORT_TIMEOUT), detection.FINDINGS_HEAD)  # a refusal comes first
    if where.scheduler == "local":
        engine.start_early()
    report = mimii.detect(
        options.places[0],
        options.output,
        training=mimii.Training(options.model, options.epochs, options.seed, options.normalize),
        client=where,
        overwrite=options.overwrite,
        access=source_access(options),
        output_access=output_access(options),
        progress=show_progress("machine", quiet=options.quiet),
    )
    if not options.quiet:
        _print_report(report)
    return OK


def _print_report(report: mimii.Report) -> None:
    from jobs.words import format_table

    header = ("machine", "normal", "abnormal", "AUC", "pAUC", "published", "precision", "recall", "F1")
    mean = detection.averages(report.results)
    last = ("average", "", "", *map(_number, (mean["auc"], mean["partial_auc"])), "")
    last += tuple(_number(mean[name]) for name in ("precision", "recall", "f1"))
    print("\n".join(format_table(header, [*(_row(machine, outcome) for machine, outcome in report.results), last])))
    n_learned = len(report.run.computed)
    print(f"\nmachines  {n_learned:,} learned, {len(report.results) - n_learned:,} there already")
    for best in detection.best_channels(report.results):
        auc = f"AUC {best.auc:.3f}, lowest {best.lowest_auc:.3f}"
        print(f"channels  {best.machine}: {best.channel} separates best, {auc}")
    print(f"look at   {report.output}/{detection.REPORT}")
    print(f"use       python -m jobs.detect --score-only {shlex.quote(report.output)} FOLDER")
    if any(not math.isnan(_published(machine)) for machine, _ in report.results):
        print("published is of the baseline that came with MIMII, for the clips of MIMII alone")


def _row(machine: detection.Machine, outcome: detection.Outcome) -> tuple[str, ...]:
    one = outcome.evaluation
    counts = (f"{one.n_normal:,}", f"{one.n_abnormal:,}")
    return (
        *(machine.name, *counts, _number(one.auc), _number(one.partial_auc), _number(_published(machine))),
        *map(_number, (one.precision, one.recall, one.f1)),
    )


def _published(machine: detection.Machine) -> float:
    return detection.published_auc(machine.machine_type, machine.machine_id, machine.snr_db)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


def _score(options: argparse.Namespace) -> int:
    """Score new recordings by models that were learned before; CSV goes to the standard output, or to --output."""
    from jobs.progress import show_progress
    from jobs.words import numbered

    where = scheduler_of(options)
    if options.output:
        output = open_output(options, storage.SHORT_TIMEOUT)
        detection.check_free(output, overwrite=options.overwrite)
        output.check()
    progress = show_progress("batch", quiet=options.quiet)
    scores = mimii.score(
        options.places, options.score_only, client=where, access=source_access(options), progress=progress
    )
    text = scores.to_csv(index=False, lineterminator="\n")
    if options.output:
        open_output(options).put(detection.SCORES, text.encode("utf-8", "backslashreplace"))
    else:
        sys.stdout.write(text)
    bad = scores[scores.status != "ok"]
    if bad.empty:
        return OK
    _print_bad(dict(zip(bad.path, bad.status, strict=True)))
    return fail("detect", BAD_CLIPS, f"{len(bad):,} of {numbered(len(scores), 'clip')} could not be scored")


def _print_bad(reasons: dict[str, str]) -> None:
    from jobs.report import describe_bad

    print("\n".join(describe_bad(reasons)), file=sys.stderr)


if __name__ == "__main__":
    sys.exit(main())
