"""One machine: learned from the right rows alone, scored as its detector scores, done when its outcome is there."""

import math
import shutil
from dataclasses import replace

import numpy as np
import pytest
from mimii.detection.detection import (
    MachineTask,
    Outcome,
    Study,
    detect_machine,
    from_json,
    hold_back,
    model_key,
    outcome_key,
    read_rows,
    to_json,
)

from mimii.detection import findings
from mimii.detection.detectors import from_bytes, score_clip
from mimii.detection.evaluation import choose_threshold
from mimii.detection.learning import Training
from mimii.detection.machines import Span, find_machines
from mimii.features.spec import FeatureSpec
from mimii.storage.disk import DiskObjects
from mimii.table.store import read_columns
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
    return Study(*where, columns.spec, columns.shard_rows, *plain, training, "some fingerprint")


def machines(table):
    return find_machines(read_columns(DiskObjects(str(table))))


def detect(table, output, machine, kind="knn", **how):
    what = study(table, output, kind, **how)
    done = detect_machine(MachineTask(7, machine, what))
    outcome, model = what.output.get(outcome_key(machine.name)), what.output.get(model_key(machine.name))
    assert (done.task, done.n_clips, done.bad) == (7, len(machine.train) + len(machine.test), {})
    return from_json(outcome), from_bytes(model)


def rows_of(table, spans):
    features = open_table(table).features.values
    return np.concatenate([features[span.first : span.stop] for span in spans])


def test_the_table_has_what_these_tests_want(table):
    found = machines(table)
    assert [(len(machine.train), len(machine.test)) for machine in found] == [(20, 0), (0, 20)]
    assert open_table(table).attrs["shard_rows"] < 20 * 397


@pytest.mark.parametrize("n_clips", [6, 7, 29, 30, 45, 100])
def test_one_in_ten_clips_and_at_least_three_are_held_back(n_clips):
    spans = [Span(index, 10 * index, 10 * index + 10) for index in range(n_clips)]
    learned, held_back = hold_back(spans)
    assert sorted([*learned, *held_back], key=lambda span: span.clip) == spans
    assert len(held_back) == max(3, n_clips // 10)
    assert (held_back[0], held_back[-1]) == (spans[0], spans[-1])


@pytest.mark.parametrize("n_clips", [1, 2, 5])
def test_of_few_clips_none_is_spared(n_clips):
    spans = [Span(index, index, index + 1) for index in range(n_clips)]
    assert hold_back(spans) == (spans, spans)


def machine_of(table, n_train=8):
    """Make a machine of clips of both: some for training, with shards between them, and others for testing."""
    trained, tested = machines(table)
    labels = tuple(index % 2 for index in range(6))
    return replace(trained, name="fan-id_00", train=trained.train[::2][:n_train], test=tested.test[:6], labels=labels)


def test_it_learns_from_the_rows_of_its_clips_for_training_alone(table, tmp_path):
    machine = machine_of(table)
    outcome, detector = detect(table, tmp_path, machine)
    learned, _ = hold_back(machine.train)
    known = np.unique(detector.arrays["rows"], axis=0)
    assert np.array_equal(known, np.unique(rows_of(table, learned), axis=0))
    assert outcome.n_learned == len(learned) == 5


def test_scores_are_those_of_its_model_on_the_rows_of_the_table(table, tmp_path):
    machine = machine_of(table)
    outcome, detector = detect(table, tmp_path, machine)
    assert list(outcome.scores) == [score_clip(rows_of(table, [span]), detector) for span in machine.test]
    assert outcome.clips == tuple(span.clip for span in machine.test)
    assert outcome.labels == machine.labels
    _, held_back = hold_back(machine.train)
    assert list(outcome.held_back) == [score_clip(rows_of(table, [span]), detector) for span in held_back]
    assert outcome.threshold == detector.threshold == choose_threshold(outcome.held_back)
    assert detector.spec == read_columns(DiskObjects(str(table))).spec


def test_rows_are_shifted_and_scaled_before_they_are_learned(table, tmp_path):
    machine = machine_of(table)
    what = study(table, tmp_path)
    shift, scale = np.linspace(-40, 0, 80, dtype="f4"), np.linspace(1, 9, 80, dtype="f4")
    detect_machine(MachineTask(0, machine, replace(what, shift=shift, scale=scale)))
    detector = from_bytes(what.output.get(model_key(machine.name)))
    expected = (rows_of(table, hold_back(machine.train)[0]) - shift) / scale
    assert np.array_equal(np.unique(detector.arrays["rows"], axis=0), np.unique(expected, axis=0))
    assert np.array_equal(detector.shift, shift)


@pytest.mark.parametrize("kind", ["autoencoder", "pca", "knn"])
def test_the_same_task_writes_the_same_bytes(table, tmp_path, kind):
    for name in ("one", "other"):
        detect(table, tmp_path / name, machine_of(table), kind, epochs=2)
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_machine_that_does_not_fit_in_memory_is_learned_all_the_same(table, tmp_path, monkeypatch):
    machine = machine_of(table, n_train=10)
    whole, _ = detect(table, tmp_path / "whole", machine, "autoencoder", epochs=2)
    monkeypatch.setattr("mimii.detection.detection._BYTES_KEPT", 0)
    bit_by_bit, _ = detect(table, tmp_path / "bit by bit", machine, "autoencoder", epochs=2)
    assert bit_by_bit == whole


def test_the_rows_of_a_clip_that_straddles_shards_are_all_read(table):
    columns = read_columns(DiskObjects(str(table)))
    straddling = Span(0, columns.shard_rows - 5, columns.shard_rows + 7)
    found = read_rows(DiskObjects(str(table)), straddling, columns.shard_rows)
    assert np.array_equal(found, open_table(table).features.values[columns.shard_rows - 5 : columns.shard_rows + 7])


some_outcome = Outcome("f", "fan", 1234, 5, (0.1, 1 / 3), math.inf, (3, 4), (0, 1), (1e-300, 2.5))


def test_an_outcome_survives_json_bit_for_bit():
    assert from_json(to_json(some_outcome)) == some_outcome


@pytest.mark.parametrize("data", [b"", b"{}", b"[]", b"null", to_json(some_outcome)[:-9], b'{"clips": 1}'])
def test_what_is_no_outcome_is_none(data):
    assert from_json(data) is None


def test_a_machine_is_done_when_its_outcome_says_so_and_its_model_is_there(table, tmp_path):
    machine, objects = machine_of(table), DiskObjects(str(tmp_path))
    outcome, _ = detect(table, tmp_path, machine)
    assert findings.read_outcomes(objects, [machine], "some fingerprint") == {machine.name: outcome}
    assert findings.read_outcomes(objects, [machine], "another") == {}
    model = objects.get(model_key(machine.name))
    objects.put(model_key(machine.name), model[:-1])
    assert findings.read_outcomes(objects, [machine], "some fingerprint") == {}
    objects.delete(model_key(machine.name))
    assert findings.read_outcomes(objects, [machine], "some fingerprint") == {}


def test_what_changes_the_results_changes_the_fingerprint(table):
    columns = read_columns(DiskObjects(str(table)))
    base = findings.fingerprint(columns, "content", Training())
    others = [Training("pca"), Training(epochs=3), Training(seed=1), Training(normalize=True)]
    assert base not in {findings.fingerprint(columns, "content", training) for training in others}
    assert base != findings.fingerprint(columns, "other content", Training())
    changed = replace(columns, feature_mean=columns.feature_mean + 1e-9)
    assert base != findings.fingerprint(changed, "content", Training())
    one, other = (findings.fingerprint(columns, "content", Training("pca", epochs)) for epochs in (3, 4))
    assert one == other


def test_a_damaged_shard_is_named(table, tmp_path):
    copied = tmp_path / "table"
    shutil.copytree(table, copied)
    shard = copied / "features/c.1.0"
    data = bytearray(shard.read_bytes())
    data[1000] ^= 1
    shard.write_bytes(data)
    machine = machine_of(copied, n_train=10)
    with pytest.raises(OSError, match=r"features/c\.1\.0: damaged: .*jobs\.verify tells more"):
        detect_machine(MachineTask(0, machine, study(copied, tmp_path / "out")))
