"""The benchmark of detectors, on a small table: all of it, and what its numbers are."""

import re

import numpy as np
import pytest

import mimii
from jobs import synthesize
from jobs.benchmark.detectors import auc_by_draw, default_draws
from mimii.detection import KINDS, LearningError, Trial, find_machines, try_detectors
from mimii.storage import DEFAULT_ACCESS
from mimii.table import open_store, read_columns
from tests.helpers.commands import featurize_here, run_here
from tests.helpers.recordings import write_clip


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bench") / "raw"
    arguments = ("--clips", "48", "--seconds", "1", "--machines", "fan", "pump")
    assert synthesize.main([str(folder), *arguments]) == 0
    return folder


@pytest.fixture(scope="module")
def table(raw):
    return make_table(raw, "--preset", "mimii-baseline")


def make_table(raw, *arguments):
    output = raw.parent / f"{arguments[-1]}.zarr"
    assert featurize_here(raw, "--output", output, *arguments) == 0
    return output


def lines(text):
    """Return the cells of each line by the first of them."""
    cells = [re.split(r"  +", line.strip()) for line in text.splitlines()]
    return [line for line in cells if len(line) > 1]


def test_all_detectors_are_compared_with_the_draws_that_the_table_names(table):
    done = run_here("benchmark", "--job", "detect", table, "--learn", 3, "--draws", 2, "--epochs", 2)
    assert done.returncode == 0, done.stderr
    assert "4 machines, 36 normal clips and 12 others" in done.stdout
    found = lines(done.stdout)
    assert [line[0] for line in found] == ["detector", *KINDS, "mean AUC by type of machine", *KINDS]
    for name, n_draws, auc, *seconds in found[1 : 1 + len(KINDS)]:
        assert n_draws == "2", name
        assert 0 <= float(auc) <= 1
        assert all(float(one) >= 0 for one in seconds)
    of_types = {line[0]: [float(auc) for auc in line[1:]] for line in found[2 + len(KINDS) :]}
    for name, _, auc, *_ in found[1 : 1 + len(KINDS)]:
        assert abs(np.mean(of_types[name]) - float(auc)) < 2e-3  # two machines of each type; all are rounded


def test_the_default_detector_finds_easy_faults(table):
    done = run_here("benchmark", "--job", "detect", table, "--model", "neighbours")
    *_, of_types = lines(done.stdout)
    assert of_types[0] == "neighbours"
    assert min(map(float, of_types[1:])) > 0.9


def test_labels_that_mean_nothing_have_an_auc_of_a_half(raw, tmp_path):
    rng = np.random.default_rng(0)
    clips = mimii.find_recordings(raw)
    labels = rng.permutation([clip.identity.label for clip in clips]).tolist()
    for index, (clip, label) in enumerate(zip(clips, labels, strict=True)):
        folder = tmp_path / "raw" / clip.identity.machine_type / ("normal", "abnormal")[label]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.wav").hardlink_to(clip.place.url)
    mimii.featurize(mimii.plan_table(mimii.find_recordings(tmp_path / "raw")), tmp_path / "t")
    aucs = auc_by_draw(list(try_detectors(tmp_path / "t", {"neighbours": 30}, n_learn=8)))
    assert abs(aucs.mean() - 0.5) < 0.15


@pytest.mark.parametrize("kind", ["neighbours", "pca"])
def test_a_draw_has_the_same_clips_and_scores_each_time_and_none_is_learned_from_and_scored(table, kind):
    first, second = (list(try_detectors(table, {kind: 3}, n_learn=4)) for _ in range(2))
    assert [trial.auc for trial in first] == [trial.auc for trial in second]
    assert {trial.n_learned for trial in first} == {4}
    assert {(len(trial.machine.train), len(trial.machine.test)) for trial in first} == {(9, 3)}
    assert len({id(trial.machine) for trial in first}) == 4
    assert auc_by_draw(first).shape == (3,)


def test_segments_of_a_recording_are_learned_from_together(raw):
    trials = list(try_detectors(make_table(raw, "--segment", 0.5), {"neighbours": 2}, n_learn=3))
    assert {trial.n_learned for trial in trials} == {6}


def test_the_mean_of_a_draw_is_over_machines(table):
    machine, *_ = find_machines(read_columns(open_store(str(table), DEFAULT_ACCESS)))
    trials = [Trial(machine, "neighbours", draw, 5, auc, 0.0, 0.0) for draw, auc in [(0, 0.5), (1, 1.0), (0, 0.7)]]
    np.testing.assert_allclose(auc_by_draw(trials), [0.6, 1.0])


def test_all_normal_clips_but_one_can_be_learned_from(table):
    assert len(list(try_detectors(table, {"neighbours": 1}, n_learn=8))) == 4
    with pytest.raises(LearningError, match="more than 9 normal"):
        next(try_detectors(table, {"neighbours": 1}, n_learn=9))


def test_a_machine_without_abnormal_clips_is_left_out_with_a_warning(raw, tmp_path, caplog):
    for number in range(6):
        write_clip(tmp_path / "more" / "press7" / "normal" / f"{number}.wav", number)
    clips = mimii.find_recordings(raw, tmp_path / "more")
    mimii.featurize(mimii.plan_table(clips, mimii.FeatureSpec.preset("mimii-baseline")), tmp_path / "t")
    trials = list(try_detectors(tmp_path / "t", {"neighbours": 1}, n_learn=3))
    assert len(trials) == 4
    assert "press7" in caplog.text


@pytest.mark.parametrize(
    ("arguments", "what"),
    [(("--model", "nonsense"), "no kind of detector 'nonsense'"), (("--learn", 50), "more than 50 normal")],
)
def test_what_cannot_be_tried_is_refused(table, arguments, what):
    done = run_here("benchmark", "--job", "detect", table, *arguments)
    assert done.returncode == 2
    assert what in done.stderr


def test_what_is_no_table_is_refused(tmp_path):
    done = run_here("benchmark", "--job", "detect", tmp_path / "none")
    assert done.returncode == 2
    assert "there is no table of features" in done.stderr


def test_slow_detectors_are_drawn_less_often():
    assert default_draws("neighbours") > default_draws("pca") == default_draws("autoencoder") > 1
