"""Find machines that sound unlike themselves, by the features of a table.

Of each machine (type, id and SNR) it is learned what its normal clips for training sound like; each clip for testing
scores by how badly it can be reconstructed from that. What comes out: models, scores, AUCs, and a page to look at and
to listen to. With --score-only, models that were learned before score new recordings.
"""

import argparse
import logging
import math
import shlex
import sys
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from jobs.detect_new import score_new
from jobs.options import (
    SHORT_TIMEOUT,
    add_cluster_options,
    add_storage_options,
    count,
    location,
    open_output,
    source_access,
    where_to_run,
)
from jobs.progress import watch
from jobs.report import format_table, numbered
from jobs.run import FAILED, INTERRUPTED, OK, run_command
from mimii.detection import (
    KINDS,
    Machine,
    MachineTask,
    Outcome,
    Results,
    Study,
    Training,
    count_clips,
    detect_machine,
    find_hardest,
    find_machines,
    findings,
    listen,
    published_auc,
    read_rows,
    write_page,
)
from mimii.engine import (
    Done,
    LostError,
    StoreError,
    UnfinishedError,
    connect,
    deferred_interrupts,
    digest_written,
    run_tasks,
    until_interrupted,
)
from mimii.storage import Objects, open_objects
from mimii.table import RECORDS, Columns, read_columns

DEFAULT_TABLE, DEFAULT_OUTPUT = "data/processed/features.zarr", "data/processed/detect"
_NAME = "detect"
_MOST_IN_VAIN = 3
_log = logging.getLogger(__name__)
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
        choices=KINDS,
        default="autoencoder",
        help="how a row is reconstructed. autoencoder: by a network of layers 64-64-8-64-64; pca: from 8 principal "
        "components; knn: by the nearest of 4,096 rows for training. Default: autoencoder",
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
        return run_command(_NAME, options, partial(score_new, options))
    if len(options.places) > 1:
        parser.error(f"one table at a time, not {len(options.places)}")
    options.output = options.output or DEFAULT_OUTPUT
    options.places = options.places or [DEFAULT_TABLE]
    return run_command(_NAME, options, partial(_detect, options))


def _detect(options: argparse.Namespace) -> int:
    where_to_run(options, 1, 1)  # refuses options that contradict each other
    training = Training(options.model, options.epochs, options.seed, options.normalize)
    output = open_output(options)
    existing = findings.look(open_output(options, SHORT_TIMEOUT))
    table = open_objects(options.places[0], source_access(options))
    columns = read_columns(open_objects(options.places[0], source_access(options, SHORT_TIMEOUT)))
    machines = _find_machines(columns, options.places[0])
    wanted = findings.fingerprint(columns, digest_written(table, RECORDS), training)
    about = findings.describe(columns, training, options.places[0], wanted)
    if existing and (changes := findings.differences(existing, about)):
        _make_way(options, output, changes)
        existing = None
    outcomes = findings.read_outcomes(output, machines, wanted)
    todo = [machine for machine in machines if machine.name not in outcomes]
    if todo or not findings.is_finished(output, existing):
        findings.begin(output, about)
        outcomes |= _learn_all(options, todo, _study(columns, table, output, training, wanted))
        results = [(machine, outcomes[machine.name]) for machine in machines]
        findings.finish(output, about, _documents(options, columns, training, results, table))
    if not options.quiet:
        _tell([(machine, outcomes[machine.name]) for machine in machines], options.output, len(todo))
    return OK


def _find_machines(columns: Columns, table: str) -> list[Machine]:
    """Find the machines that can be learned; tell of the others."""
    machines = find_machines(columns)
    if without := [machine.name for machine in machines if not machine.train]:
        _log.warning("%s of no normal clip for training: %s", numbered(len(without), "machine"), ", ".join(without))
    if learnable := [machine for machine in machines if machine.train]:
        return learnable
    msg = (
        f"{table}: no normal clip is for training (split = train, label = 0). Featurize the recordings with --split "
        "baseline or --split stratified, and more normal clips of a machine than abnormal ones"
    )
    raise StoreError(msg)


def _make_way(options: argparse.Namespace, output: Objects, changes: Sequence[str]) -> None:
    """Delete what is at the output, or refuse to."""
    if not options.overwrite:
        listed = "\n  ".join(changes)
        msg = f"{options.output} holds others; choose another --output, or delete them with --overwrite:\n  {listed}"
        raise StoreError(msg)
    findings.erase(output)


def _study(columns: Columns, table: Objects, output: Objects, training: Training, wanted: str) -> Study:
    spec, n_features = columns.spec, columns.spec.n_features
    shift, scale = np.zeros(n_features, np.float32), np.ones(n_features, np.float32)
    if training.normalize:
        shift = columns.feature_mean.astype(np.float32)
        scale = np.where(columns.feature_std > 0, columns.feature_std, 1).astype(np.float32)
    return Study(table, output, spec, columns.shard_rows, shift, scale, training, wanted)


def _learn_all(options: argparse.Namespace, machines: Sequence[Machine], study: Study) -> dict[str, Outcome]:
    """Learn machines; where the scheduler is lost, connect again and learn those that have no outcome yet."""
    left, n_in_vain = list(machines), 0
    while left:
        try:
            _learn(options, left, study)
            break
        except LostError as error:
            before, left = left, _without_outcome(left, study)
            n_in_vain = n_in_vain + 1 if len(left) == len(before) else 0
            if n_in_vain == _MOST_IN_VAIN:
                raise
            _log.warning("%s; connecting again", error)
    if missing := _without_outcome(machines, study):
        msg = f"{options.output}: {numbered(len(missing), 'machine')} not learned, the first is {missing[0].name}"
        raise UnfinishedError(msg)
    return findings.read_outcomes(study.output, machines, study.fingerprint)


def _without_outcome(machines: Sequence[Machine], study: Study) -> list[Machine]:
    outcomes = findings.read_outcomes(study.output, machines, study.fingerprint)
    return [machine for machine in machines if machine.name not in outcomes]


def _learn(options: argparse.Namespace, machines: Sequence[Machine], study: Study) -> None:
    """Learn machines and score their clips, many at a time."""
    if not machines:
        return
    tasks = (MachineTask(index, machine, study) for index, machine in enumerate(machines))
    with deferred_interrupts() as interrupts, connect(where_to_run(options, len(machines), 1)) as cluster:
        done: Iterator[Done] = until_interrupted(run_tasks(cluster, detect_machine, tasks), interrupts)
        if not options.quiet:
            what, workers = numbered(len(machines), "machine"), numbered(cluster.n_workers, "worker")
            print(f"{what} on {workers}", file=sys.stderr)
            done = watch(done, sum(map(count_clips, machines)))
        for _ in done:
            pass


def _documents(
    options: argparse.Namespace, columns: Columns, training: Training, results: Results, table: Objects
) -> dict[str, bytes]:
    shown = find_hardest(results)
    spans = [hardest.machine.test[place] for hardest in shown for place in hardest.clips]
    sounds = listen([str(columns.path[span.clip]) for span in spans], columns.spec.channel, source_access(options))
    heard = {
        span.clip: (read_rows(table, span, columns.shard_rows), sound)
        for span, sound in zip(spans, sounds, strict=True)
    }
    return {
        findings.SCORES: findings.scores_document(columns, results),
        findings.RESULTS: findings.results_document(results),
        findings.REPORT: write_page(columns, training, results, shown, heard),
    }


def _tell(results: Results, output: str, n_learned: int) -> None:
    header = ("machine", "normal", "abnormal", "AUC", "pAUC", "published", "precision", "recall", "F1")
    mean = findings.averages(results)
    last = ("average", "", "", *map(_number, (mean["auc"], mean["partial_auc"])), "")
    last += tuple(_number(mean[name]) for name in ("precision", "recall", "f1"))
    print("\n".join(format_table(header, [*(_row(machine, outcome) for machine, outcome in results), last])))
    kept = len(results) - n_learned
    print(f"\nmachines  {n_learned:,} learned, {kept:,} there already")
    print(f"look at   {output}/{findings.REPORT}")
    print(f"use       python -m jobs.detect --score-only {shlex.quote(output)} FOLDER")
    if any(not math.isnan(_published(machine)) for machine, _ in results):
        print("published is of the baseline that came with MIMII, for the clips of MIMII alone")


def _row(machine: Machine, outcome: Outcome) -> tuple[str, ...]:
    one = outcome.evaluation
    counts = (f"{one.n_normal:,}", f"{one.n_abnormal:,}")
    return (
        *(machine.name, *counts, _number(one.auc), _number(one.partial_auc), _number(_published(machine))),
        *map(_number, (one.precision, one.recall, one.f1)),
    )


def _published(machine: Machine) -> float:
    return published_auc(machine.machine_type, machine.machine_id, machine.snr_db)


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"


if __name__ == "__main__":
    sys.exit(main())
