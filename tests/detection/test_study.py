"""One machine: learned from the right rows alone, scored as its detector scores, done when its outcome is there."""

import math
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

from mimii.detection.detectors import from_bytes, score_clip
from mimii.detection.evaluation import choose_threshold
from mimii.detection.learning import Training
from mimii.detection.machines import find_machines
from mimii.detection.store import FindingsOutput, digest_machine
from mimii.detection.study import (
    MachineTask,
    Outcome,
    Study,
    hold_out,
    learn_machine,
    model_key,
    outcome_key,
    read_outcome,
    read_rows,
)
from mimii.engine import Record, Stamp, from_json, read_records, to_json
from mimii.features import FeatureSpec
from mimii.storage import DiskObjects
from mimii.table import RowSpan, read_columns
from tests.helpers.commands import build, contents, open_table, plan_table
from tests.helpers.recordings import write_machines

N_CLIPS = 40
SHORT = FeatureSpec(n_fft=256, hop_length=40, n_mels=16)
"""Makes 397 rows of 320 bytes of a second of sound: with shards of 1 MiB, 8 clips a shard."""


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection")
    write_machines(folder / "raw", N_CLIPS)
    return build(plan_table(folder / "raw", SHORT), folder / "features.zarr")


def study(table, output, kind="knn", **how):
    columns = read_columns(DiskObjects(str(table)))
    plain = np.zeros(80, np.float32), np.ones(80, np.float32)
    training = Training(kind, **how)
    where = DiskObjects(str(table)), DiskObjects(str(output))
    return Study(*where, columns.spec, columns.shard_rows, *plain, training)


STAMP = Stamp("some fingerprint", 0)


def machines(table):
    return find_machines(read_columns(DiskObjects(str(table))))


def learn(table, output, machine, kind="knn", **how):
    what = study(table, output, kind, **how)
    record = learn_machine(MachineTask(7, machine, what, STAMP))
    assert (record.stamp, record.bad) == (STAMP, {})
    assert list(record.written) == [model_key(machine.name)]
    assert read_outcome(from_json(what.output.get(outcome_key(machine.name)))) == read_outcome(record)
    return read_outcome(record), from_bytes(what.output.get(model_key(machine.name)))


def rows_of(table, spans):
    features = open_table(table).features.values
    return np.concatenate([features[span.row : span.row + span.n_rows] for span in spans])


def span_of(clip, first_row, n_rows):
    return RowSpan(clip, 0, n_rows, first_row)


def test_the_table_has_what_these_tests_want(table):
    found = machines(table)
    assert [(len(machine.train), len(machine.test)) for machine in found] == [(20, 0), (0, 20)]
    assert open_table(table).attrs["shard_rows"] < 20 * 397


@pytest.mark.parametrize("n_clips", [6, 7, 29, 30, 45, 100])
def test_one_in_ten_clips_and_at_least_three_are_not_learned_from(n_clips):
    spans = [span_of(index, 10 * index, 10) for index in range(n_clips)]
    learned, held_out = hold_out(spans)
    assert sorted([*learned, *held_out], key=lambda span: span.clip) == spans
    assert len(held_out) == max(3, n_clips // 10)
    assert (held_out[0], held_out[-1]) == (spans[0], spans[-1])


@pytest.mark.parametrize("n_clips", [1, 2, 5])
def test_of_few_clips_all_are_learned_from(n_clips):
    spans = [span_of(index, index, 1) for index in range(n_clips)]
    assert hold_out(spans) == (spans, spans)


def machine_of(table, n_train=8):
    """Make a machine of clips of both: some for training, with shards between them, and others for testing."""
    trained, tested = machines(table)
    labels = tuple(index % 2 for index in range(6))
    return replace(trained, name="fan-id_00", train=trained.train[::2][:n_train], test=tested.test[:6], labels=labels)


def test_it_learns_from_the_rows_of_its_clips_for_training_alone(table, tmp_path):
    machine = machine_of(table)
    outcome, detector = learn(table, tmp_path, machine)
    learned, _ = hold_out(machine.train)
    known = np.unique(detector.arrays["rows"], axis=0)
    assert np.array_equal(known, np.unique(rows_of(table, learned), axis=0))
    assert outcome.n_learned == len(learned) == 5


def test_scores_are_those_of_its_model_on_the_rows_of_the_table(table, tmp_path):
    machine = machine_of(table)
    outcome, detector = learn(table, tmp_path, machine)
    assert list(outcome.scores) == [score_clip(rows_of(table, [span]), detector) for span in machine.test]
    assert outcome.clips == tuple(span.clip for span in machine.test)
    assert outcome.labels == machine.labels
    _, held_out = hold_out(machine.train)
    assert list(outcome.held_out) == [score_clip(rows_of(table, [span]), detector) for span in held_out]
    assert outcome.threshold == detector.threshold == choose_threshold(outcome.held_out)
    assert detector.spec == read_columns(DiskObjects(str(table))).spec


def test_rows_are_shifted_and_scaled_before_they_are_learned(table, tmp_path):
    machine = machine_of(table)
    what = study(table, tmp_path)
    shift, scale = np.linspace(-40, 0, 80, dtype="f4"), np.linspace(1, 9, 80, dtype="f4")
    learn_machine(MachineTask(0, machine, replace(what, shift=shift, scale=scale), STAMP))
    detector = from_bytes(what.output.get(model_key(machine.name)))
    expected = (rows_of(table, hold_out(machine.train)[0]) - shift) / scale
    assert np.array_equal(np.unique(detector.arrays["rows"], axis=0), np.unique(expected, axis=0))
    assert np.array_equal(detector.shift, shift)


@pytest.mark.parametrize("kind", ["autoencoder", "pca", "knn"])
def test_the_same_task_writes_the_same_bytes(table, tmp_path, kind):
    for name in ("one", "other"):
        learn(table, tmp_path / name, machine_of(table), kind, epochs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_machine_that_does_not_fit_in_memory_is_learned_all_the_same(table, tmp_path, monkeypatch):
    machine = machine_of(table, n_train=10)
    whole, _ = learn(table, tmp_path / "whole", machine, "autoencoder", epochs=2)
    monkeypatch.setattr("mimii.detection.study._BYTES_KEPT", 0)
    bit_by_bit, _ = learn(table, tmp_path / "bit by bit", machine, "autoencoder", epochs=2)
    assert bit_by_bit == whole


def test_the_rows_of_a_clip_that_straddles_shards_are_all_read(table):
    columns = read_columns(DiskObjects(str(table)))
    straddling = span_of(0, columns.shard_rows - 5, 12)
    found = read_rows(DiskObjects(str(table)), straddling, columns.shard_rows)
    assert np.array_equal(found, open_table(table).features.values[columns.shard_rows - 5 : columns.shard_rows + 7])


some_outcome = Outcome("fan", 5, (0.1, 1 / 3), math.inf, (3, 4), (0, 1), (1e-300, 2.5))
empty_outcome = Outcome("valve", 1, (), 0.5, (), (), ())


def record_of(outcome, **changes):
    return Record(Stamp("f", 1234), {}, result=asdict(outcome) | changes)


@pytest.mark.parametrize("outcome", [some_outcome, empty_outcome])
def test_an_outcome_survives_json_bit_for_bit(outcome):
    assert read_outcome(record_of(outcome)) == outcome
    found = read_outcome(from_json(to_json(record_of(outcome))))
    assert found == outcome
    assert [type(value) for value in found.clips] == [int] * len(outcome.clips)


@pytest.mark.parametrize("name", ["name", "n_learned", "held_out", "threshold", "clips", "labels", "scores"])
def test_what_lacks_something_is_no_outcome(name):
    values = asdict(some_outcome)
    del values[name]
    assert read_outcome(Record(Stamp("f", 1234), {}, result=values)) is None


@pytest.mark.parametrize("changes", [{"clips": 1}, {"scores": None}, {"labels": [[1], [2, 3]]}, {"more": 1}], ids=str)
def test_what_makes_no_sense_is_no_outcome(changes):
    assert read_outcome(record_of(some_outcome, **changes)) is None


def outcomes(table, output, machine, wanted="some fingerprint"):
    """Return the outcomes that are valid where only one machine is learned."""
    columns = read_columns(DiskObjects(str(table)))
    findings = FindingsOutput(study(table, output), (machine,), columns, (wanted,), "the table")
    return {task: read_outcome(record) for task, record in read_records(findings, findings.objects.sizes()).items()}


def test_a_machine_is_done_when_its_outcome_says_so_and_its_model_is_there(table, tmp_path):
    machine, objects = machine_of(table), DiskObjects(str(tmp_path))
    record = learn_machine(MachineTask(0, machine, study(table, tmp_path), STAMP))
    assert outcomes(table, tmp_path, machine) == {0: read_outcome(record)}
    assert outcomes(table, tmp_path, machine, "another") == {}
    objects.put(outcome_key(machine.name), to_json(replace(record, result={"clips": [1]})))
    assert outcomes(table, tmp_path, machine) == {}
    objects.put(outcome_key(machine.name), to_json(record))
    model = objects.get(model_key(machine.name))
    objects.put(model_key(machine.name), model[:-1])
    assert outcomes(table, tmp_path, machine) == {}
    objects.delete(model_key(machine.name))
    assert outcomes(table, tmp_path, machine) == {}


def test_what_decides_what_comes_of_a_machine_changes_its_digest_and_nothing_else(table, tmp_path):
    base, [machine, *_] = study(table, tmp_path), machines(table)
    versions = np.arange(1000, 1000 + open_table(table).sizes["clip"])
    of_machine = [span.clip for span in (*machine.train, *machine.test)]
    digest = digest_machine(machine, base, versions, "")
    trainings = [Training("pca"), Training("knn", seed=1)]
    others = [digest_machine(machine, replace(base, training=training), versions, "") for training in trainings]
    others.append(digest_machine(machine, replace(base, shift=base.shift + np.float32(1e-6)), versions, ""))
    others.append(digest_machine(machine, base, np.where(np.arange(len(versions)) == of_machine[0], 7, versions), ""))
    others.append(digest_machine(replace(machine, train=machine.train[1:]), base, versions, ""))
    others.append(digest_machine(machine, base, versions, "another table of an earlier version"))
    assert len({digest, *others}) == 1 + len(others)
    elsewhere = np.where(np.isin(np.arange(len(versions)), of_machine), versions, 7)
    assert digest_machine(machine, base, elsewhere, "") == digest


def test_a_damaged_shard_is_named(table, tmp_path):
    copied = tmp_path / "table"
    shutil.copytree(table, copied)
    shard = copied / "features/c.1.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    machine = machine_of(copied, n_train=10)
    with pytest.raises(OSError, match=r"features/c\.1\.0: damaged: .*jobs\.verify says more"):
        learn_machine(MachineTask(0, machine, study(copied, tmp_path / "out"), STAMP))
