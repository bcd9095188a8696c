"""One machine: learned from the right clips alone, scored as its model scores, done when its outcome is there."""

import functools
import math
import shutil
from dataclasses import asdict, replace

import numpy as np
import pytest

import mimii
import mimii.detection.study
from mimii.detection import KINDS, Outcome, Scores, Training, find_machines
from mimii.detection.calibration import choose_parts
from mimii.detection.detectors import from_bytes, score
from mimii.detection.documents import model_key, outcome_key
from mimii.detection.evaluation import bootstrap
from mimii.detection.pooling import pool
from mimii.detection.store import FindingsOutput, digest_machine
from mimii.detection.study import MachineReader, MachineTask, Study, learn_machine, read_outcome
from mimii.detection.thresholds import choose_threshold
from mimii.engine import Record, Stamp, from_json, read_records, to_json
from mimii.features import FeatureSpec
from mimii.recordings.find import Meaning
from mimii.storage import DiskObjects
from mimii.table import read_columns
from tests.helpers.commands import build, contents, open_table, plan_table
from tests.helpers.recordings import write_clip, write_machines

N_CLIPS = 40
SHORT = FeatureSpec(n_fft=256, hop_length=40, n_mels=16, scale="add_eps")
"""Makes 397 rows of 320 bytes of a second of sound: with shards of 1 MiB, 8 clips a shard."""

opened = functools.cache(open_table)
"""Takes a tenth of a second."""

STAMP = Stamp("some fingerprint", 0)
ROW_KINDS = [name for name, kind in KINDS.items() if kind.reads_rows]


@pytest.fixture(scope="module")
def table(tmp_path_factory):
    folder = tmp_path_factory.mktemp("detection")
    write_machines(folder / "raw", N_CLIPS)
    return build(plan_table(folder / "raw", SHORT), folder / "features.zarr")


def columns_of(table):
    return read_columns(DiskObjects(str(table)))


def study(table, output, kinds="knn", **how):
    columns, training = columns_of(table), Training(kinds, **{"epochs": 2} | how)
    where = DiskObjects(str(table)), DiskObjects(str(output))
    return Study(*where, columns.spec, columns.shard_rows, training, fingerprint=str(table))


def machines(table):
    return find_machines(columns_of(table))


def machine_of(table, n_train=8):
    """Make a machine of clips of both: some for training, with shards between them, and others for testing."""
    trained, tested = machines(table)
    labels = tuple(index % 2 for index in range(6))
    chosen = {"train": trained.train[::2][:n_train], "recordings": tuple(range(n_train)), "domains": ("",) * n_train}
    return replace(trained, name="fan-id_00", test=tested.test[:6], labels=labels, **chosen)


def learn(table, output, machine, kinds="knn", **how):
    what = study(table, output, kinds, **how)
    record = learn_machine(MachineTask(7, machine, what, STAMP))
    assert (record.stamp, record.bad) == (STAMP, {})
    assert list(record.written) == [model_key(machine.name)]
    written = from_json(what.output.get(outcome_key(machine.name)))
    assert repr(read_outcome(written)) == repr(read_outcome(record))  # NaN where there is no AUC
    return read_outcome(record), from_bytes(what.output.get(model_key(machine.name)))


def decibel_of(table, span):
    path = str(opened(table).path.values[span.clip])
    return mimii.log_mel(path, SHORT)


def rows_of(table, spans):
    features = opened(table).features.values
    return np.concatenate([features[span.row : span.row + span.n_rows] for span in spans])


def test_the_table_has_what_these_tests_want(table):
    found = machines(table)
    assert [(len(machine.train), len(machine.test)) for machine in found] == [(20, 0), (0, 20)]
    assert opened(table).attrs["shard_rows"] < 20 * 397


def test_it_learns_from_the_rows_of_its_clips_for_training_alone(table, tmp_path):
    machine = machine_of(table)
    outcome, model = learn(table, tmp_path, machine, normalize=False)
    known = np.unique(model.detectors[0].arrays["known"], axis=0)
    assert np.array_equal(known, np.unique(rows_of(table, machine.train), axis=0))
    assert outcome.n_learned == 8


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_its_model_on_the_sound_of_the_clips(table, tmp_path, kind):
    machine = machine_of(table)
    outcome, model = learn(table, tmp_path, machine, kind)
    [detector], scores = model.detectors, outcome.scores
    pooled = [pool(decibel_of(table, span), model.pooling) for span in machine.test]
    assert list(scores.clips) == [score(clip, detector, model.pooling) for clip in pooled]
    assert outcome.clips == tuple(span.clip for span in machine.test)
    assert outcome.labels == machine.labels
    assert scores.normal_clips == tuple(span.clip for span in machine.train)
    assert sorted(scores.normal) == list(detector.normal_scores)
    assert scores.threshold == detector.threshold == choose_threshold(Training().rule, scores.normal)
    assert scores.peak_threshold == detector.peak_threshold < math.inf
    assert (scores.auc_interval, scores.partial_auc_interval) == bootstrap(machine.labels, scores.clips)


@pytest.mark.parametrize("kind", KINDS)
def test_training_clips_are_scored_by_what_the_others_say(table, tmp_path, kind):
    machine = machine_of(table)
    outcome, _ = learn(table, tmp_path / "all", machine, kind)
    part = choose_parts(kind, machine.recordings)[0][1]
    rest = [place for place in range(8) if place not in part]
    without = {
        name: tuple(getattr(machine, name)[place] for place in rest) for name in ("train", "recordings", "domains")
    }
    left_out = tuple(machine.train[place] for place in part)
    other, _ = learn(
        table, tmp_path / "rest", replace(machine, test=left_out, labels=(0,) * len(part), **without), kind
    )
    expected = [outcome.scores.normal[place] for place in part]
    np.testing.assert_allclose(other.scores.clips, expected, rtol=1e-6)


def test_the_model_says_what_it_was_learned_from(table, tmp_path):
    machine = machine_of(table)
    what = replace(study(table, tmp_path), meaning=Meaning("{site}/*.wav", "normal"))
    learn_machine(MachineTask(0, machine, what, STAMP))
    model = from_bytes(what.output.get(model_key(machine.name)))
    assert (model.machine, model.spec, model.meaning) == ("fan-id_00", SHORT, what.meaning)
    assert model.pooling.most_frames == 401
    frames = np.concatenate([decibel_of(table, span) for span in machine.train])
    assert model.pooling.level == pytest.approx(frames.mean(dtype=float), abs=1e-4)


def test_several_detectors_score_the_same_clips(table, tmp_path):
    machine = machine_of(table)
    together, model = learn(table, tmp_path / "both", machine, ["pca", "neighbours"])
    assert list(together.detectors) == ["pca", "neighbours"]
    assert together.scores is together.detectors["pca"]
    for index, kind in enumerate(("pca", "neighbours")):
        alone, of_kind = learn(table, tmp_path / kind, machine, kind)
        assert alone.scores == together.detectors[kind]
        assert of_kind.detectors[0].arrays.keys() == model.detectors[index].arrays.keys()


def test_the_same_task_writes_the_same_bytes(table, tmp_path):
    for name in ("one", "other"):
        learn(table, tmp_path / name, machine_of(table), list(KINDS))
    assert contents(tmp_path / "one") == contents(tmp_path / "other")


def test_a_machine_that_does_not_fit_in_memory_is_learned_all_the_same(table, tmp_path, monkeypatch):
    machine = machine_of(table, n_train=10)
    learn(table, tmp_path / "whole", machine, list(KINDS))
    monkeypatch.setattr("mimii.detection.study._BYTES_KEPT", 0)
    learn(table, tmp_path / "bit by bit", machine, list(KINDS))
    assert contents(tmp_path / "whole") == contents(tmp_path / "bit by bit")


def count_reads(monkeypatch):
    reads = []

    def counted(objects, index, read=mimii.detection.study.read_shard):
        reads.append(index)
        return read(objects, index)

    monkeypatch.setattr("mimii.detection.study.read_shard", counted)
    return reads


def test_detectors_of_clips_read_few_shards_and_those_of_rows_each_once(table, tmp_path, monkeypatch):
    reads, machine = count_reads(monkeypatch), machines(table)[0]
    machine = replace(machine, test=machines(table)[1].test, labels=(0,) * 20)
    learn(table, tmp_path / "clips", machine, ["neighbours", "mahalanobis"])
    n_shards = math.ceil(len(opened(table).row) / opened(table).attrs["shard_rows"])
    assert len(reads) == len(set(reads)) < n_shards
    reads.clear()
    learn(table, tmp_path / "rows", machine, ["pca", "knn"])
    assert sorted(reads) == list(range(n_shards))


def test_windows_come_from_some_training_clips_of_few_shards(table, tmp_path, monkeypatch):
    machine = machines(table)[0]
    monkeypatch.setattr("mimii.detection.study._MOST_SAMPLED", 6)
    monkeypatch.setattr("mimii.detection.study._SHARDS_SAMPLED", 2)
    reads = count_reads(monkeypatch)
    windows = MachineReader(machine, study(table, tmp_path)).examples.windows
    assert len(windows) == 20
    known = [place for place, one in enumerate(windows) if one is not None]
    assert 2 <= len(known) <= 6
    assert len(set(reads)) <= 4  # a clip may straddle two
    for place in known:
        frames = decibel_of(table, machine.train[place])
        assert windows[place].shape == (2, 2, 16)  # 401 frames, 200 a window
        np.testing.assert_allclose(windows[place][0, 0], frames[:200].mean(axis=0, dtype=float), rtol=1e-5)
        np.testing.assert_allclose(windows[place][1, 1], frames[200:].max(axis=0))


def test_rows_of_all_training_clips_come_once_in_another_order_each_epoch(table, tmp_path):
    machine = machines(table)[0]
    examples = MachineReader(machine, study(table, tmp_path)).examples
    chosen = [0, 3, 4, 9, 17]
    first, again, second = (np.concatenate(list(examples.read(chosen, epoch))) for epoch in (0, 0, 5))
    expected = rows_of(table, [machine.train[place] for place in chosen])
    for rows in (first, second):
        np.testing.assert_array_equal(*(one[np.lexsort(one.T)] for one in (rows, expected)))
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, second)


@pytest.mark.parametrize("kind", ["neighbours", "pca"])
def test_a_table_of_an_earlier_version_without_statistics_gives_the_same_scores(table, tmp_path, monkeypatch, kind):
    learn(table, tmp_path / "now", machine_of(table), kind)

    def none(_objects, _chunk):
        raise KeyError

    monkeypatch.setattr("mimii.detection.study.read_mel_statistics", none)
    what = replace(study(table, tmp_path / "earlier", kind), fingerprint="earlier")
    learn_machine(MachineTask(7, machine_of(table), what, STAMP))
    assert contents(tmp_path / "now") == contents(tmp_path / "earlier")


def scores_of(**changes):
    values = {"normal_clips": (7, 8), "normal": (0.1, 1 / 3), "threshold": math.inf, "peak_threshold": 2.5}
    intervals = {"auc_interval": (0.25, 0.75), "partial_auc_interval": (0.5, 1 / 7)}
    return Scores(**{**values, "clips": (1e-300, 2.5), **intervals} | changes)


some_outcome = Outcome("fan", 5, (3, 4), (0, -1), {"neighbours": scores_of(), "pca": scores_of(threshold=0.1)})
no_test = {"clips": (), "normal": (), "normal_clips": ()}
empty_outcome = Outcome("valve", 1, (), (), {"neighbours": scores_of(**no_test)})


def record_of(outcome, **changes):
    return Record(Stamp("f", 1234), {}, result=asdict(outcome) | changes)


@pytest.mark.parametrize("outcome", [some_outcome, empty_outcome], ids=["some", "empty"])
def test_an_outcome_survives_json_bit_for_bit(outcome):
    assert read_outcome(record_of(outcome)) == outcome
    found = read_outcome(from_json(to_json(record_of(outcome))))
    assert found == outcome
    assert [type(value) for value in found.clips] == [int] * len(outcome.clips)
    assert list(found.detectors) == list(outcome.detectors)


def test_an_outcome_without_an_auc_survives_json():
    nothing = replace(some_outcome, detectors={"pca": scores_of(auc_interval=(math.nan, math.nan))})
    found = read_outcome(from_json(to_json(record_of(nothing))))
    assert repr(found) == repr(nothing)


@pytest.mark.parametrize("name", ["name", "n_learned", "clips", "labels", "detectors"])
def test_what_lacks_something_is_no_outcome(name):
    values = asdict(some_outcome)
    del values[name]
    assert read_outcome(Record(Stamp("f", 1234), {}, result=values)) is None


@pytest.mark.parametrize("name", list(asdict(scores_of())))
def test_scores_that_lack_something_are_no_outcome(name):
    values = asdict(some_outcome)
    del values["detectors"]["pca"][name]
    assert read_outcome(Record(Stamp("f", 1234), {}, result=values)) is None


@pytest.mark.parametrize(
    "changes",
    [
        *(
            {"clips": 1},
            {"clips": (1,)},
            {"detectors": {}},
            {"detectors": None},
            {"labels": [[1], [2, 3]]},
            {"more": 1},
        ),
        *(
            {"detectors": {"pca": asdict(scores_of(clips=(1.0,)))}},
            {"detectors": {"pca": asdict(scores_of(normal=(1.0,)))}},
        ),
    ],
    ids=str,
)
def test_what_makes_no_sense_is_no_outcome(changes):
    assert read_outcome(record_of(some_outcome, **changes)) is None


def outcomes(table, output, machine, wanted="some fingerprint"):
    """Return the outcomes that are valid where only one machine is learned."""
    findings = FindingsOutput(study(table, output), (machine,), columns_of(table), (wanted,), "the table")
    return {task: read_outcome(record) for task, record in read_records(findings).items()}


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
    base, machine = study(table, tmp_path), machine_of(table)
    versions = np.arange(1000, 1000 + opened(table).sizes["clip"])
    of_machine = [span.clip for span in (*machine.train, *machine.test)]
    digest = digest_machine(machine, base, versions, "")
    trainings = [
        *(Training("pca"), Training("knn", seed=1), Training("knn", normalize=False), Training("knn", threshold="2")),
        *(Training("knn", threshold="quantile 0.9999991"), Training("knn", threshold="quantile 0.9999993")),
        *(Training(["knn", "pca"]), Training(["pca", "knn"]), Training("autoencoder", 2), Training("autoencoder", 3)),
    ]
    others = [digest_machine(machine, replace(base, training=training), versions, "") for training in trainings]
    others += [
        digest_machine(machine, replace(base, **changes), versions, "")
        for changes in ({"meaning": Meaning("", "normal")}, {"spec": SHORT.changed(scale="max_eps")})
    ]
    others += [
        digest_machine(replace(machine, **changes), base, versions, "")
        for changes in (
            {"labels": (1, *machine.labels[1:])},
            {"domains": ("target", *machine.domains[1:])},
            {"recordings": (5, *machine.recordings[1:])},
            {"train": machine.train[1:], "recordings": machine.recordings[1:], "domains": machine.domains[1:]},
            {"test": machine.test[1:], "labels": machine.labels[1:]},
            {"name": "another"},
            {"is_assumed": True},
        )
    ]
    for clip in (of_machine[0], of_machine[-1]):
        others.append(digest_machine(machine, base, np.where(np.arange(len(versions)) == clip, 7, versions), ""))
    others.append(digest_machine(machine, base, versions, "another table of an earlier version"))
    assert len({digest, *others}) == 1 + len(others)
    elsewhere = np.where(np.isin(np.arange(len(versions)), of_machine), versions, 7)
    same = replace(base, fingerprint="another", output=DiskObjects(str(tmp_path / "elsewhere")))
    assert digest_machine(machine, same, elsewhere, "") == digest


def test_what_does_not_matter_to_a_kind_does_not_change_the_digest(table, tmp_path):
    machine, versions = machine_of(table), np.zeros(N_CLIPS, np.int64)

    def digest(*arguments, **how):
        return digest_machine(
            machine, replace(study(table, tmp_path), training=Training(*arguments, **how)), versions, ""
        )

    plain = digest("neighbours")
    assert plain == digest("neighbours", epochs=7, seed=3, normalize=False, threshold="sigma 3.0")
    assert digest("pca", epochs=7) == digest("pca") != digest("pca", seed=3)
    assert digest(["neighbours", "pca"]) != digest(["neighbours", "pca"], normalize=False)


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


def grow(source, output, *machines_there):
    """Add the recordings of machines to a table, as they come."""
    clips = mimii.find_recordings(*(source / name for name in machines_there))
    plan = mimii.plan_table(clips, SHORT, split="stratified", shard_bytes=1 << 20)
    mimii.featurize(plan, output, update=True)


def test_a_model_depends_on_the_clips_of_its_machine_alone(tmp_path):
    for index, name in enumerate(("press7", "press8", "fan1")):
        for seed in range(8):
            label = "abnormal" if seed % 4 == 3 else "normal"
            write_clip(tmp_path / "raw" / name / label / f"{seed}.wav", 100 * index + seed, 8000)
    found = {}
    for there in (("press7",), ("press7", "press8", "fan1")):
        grow(tmp_path / "raw", tmp_path / "table", *there)
        machine = next(one for one in machines(tmp_path / "table") if one.name == "press7")
        what = study(tmp_path / "table", tmp_path / str(len(there)), list(KINDS))
        learn_machine(MachineTask(0, machine, replace(what, fingerprint=str(there)), STAMP))
        found[there] = contents(tmp_path / str(len(there)))
        versions = np.zeros(30, np.int64)
        found[there] |= {"digest": digest_machine(machine, what, versions, "")}
    one, other = found.values()
    assert one == other


def test_a_model_of_detectors_of_clips_does_not_depend_on_where_these_are_in_a_table(tmp_path):
    for index, name in enumerate(("a1", "press7")):
        for seed in range(8):
            write_clip(tmp_path / "raw" / name / "normal" / f"{seed}.wav", 100 * index + seed, 8000)
    models = []
    for there in (("press7",), ("a1", "press7")):
        grow(tmp_path / "raw", tmp_path / "-".join(there), *there)
        machine = next(one for one in machines(tmp_path / "-".join(there)) if one.name == "press7")
        what = study(tmp_path / "-".join(there), tmp_path / "out", ["neighbours", "mahalanobis"])
        learn_machine(MachineTask(0, machine, what, STAMP))
        models.append(what.output.get(model_key("press7")))
    assert models[0] == models[1]
