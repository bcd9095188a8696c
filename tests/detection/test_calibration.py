"""Calibration: no clip is scored by a detector that has learned from it; what is left out together, and how often."""

import math
from dataclasses import replace

import numpy as np
import pytest

from mimii.detection import KINDS, Detector, Training, calibration
from mimii.detection.calibration import calibrate, choose_parts
from mimii.detection.detectors import fit, score, score_windows
from mimii.detection.machines import Machine
from mimii.detection.pooling import ClipFeatures
from mimii.detection.thresholds import choose_peak_threshold, choose_threshold, verdict
from tests.helpers.detection import examples_of, features_of, spectrograms

NETWORKS = [name for name, kind in KINDS.items() if kind.is_network]
OTHERS = [name for name in KINDS if name not in NETWORKS]
TRAINING = Training(epochs=1)


def machine_of(recordings, domains=(), *, is_assumed=False):
    n = len(recordings)
    of_clips = (tuple(range(n)), tuple(recordings), tuple(domains) or ("",) * n)
    return Machine("fan", "fan", "", math.nan, 0, *of_clips, (), (), is_assumed=is_assumed)


def run(kind, recordings, training=TRAINING, *, is_assumed=False):
    """Calibrate a machine of short clips; of each, its place is known."""
    clips = spectrograms(len(recordings), n_frames=20)
    examples = examples_of(clips)

    def read(place, *, with_frames):
        found = features_of(clips[place])
        return found if with_frames else ClipFeatures(found.statistics)

    return calibrate(kind, examples, machine_of(recordings, is_assumed=is_assumed), training, read), clips


@pytest.fixture
def learned(monkeypatch):
    """Note from which clips each detector learns, and which of them scores which clip."""
    fits, scored = [], []

    def spied_fit(kind, examples, training):
        arrays = fit(kind, examples, training)
        fits.append((arrays, examples))
        return arrays

    def spied(function):
        def spy(clip, detector, pooling):
            [examples] = [one for arrays, one in fits if arrays is detector.arrays]
            scored.append((clip.statistics, examples))
            return function(clip, detector, pooling)

        return spy

    monkeypatch.setattr(calibration, "fit", spied_fit)
    monkeypatch.setattr(calibration, "score", spied(score))
    monkeypatch.setattr(calibration, "score_windows", spied(score_windows))
    return fits, scored


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("n_clips", [2, 3, 19, 20, 45])
def test_no_clip_is_scored_by_a_detector_that_has_learned_from_it(kind, n_clips, learned):
    found, clips = run(kind, range(n_clips))
    fits, scored = learned
    assert len(scored) == 2 * len(found.places) > 0
    for statistics, examples in scored:
        assert not (examples.statistics == statistics).all(axis=(1, 2)).any()
        assert len(examples.places) == len(examples.statistics) == len(examples.windows) == len(examples.domains)
    [last] = [examples for arrays, examples in fits if arrays is found.detector.arrays]
    is_held_back = kind in NETWORKS and n_clips >= 40
    assert len(last.places) == (n_clips - 10 if is_held_back else n_clips)
    assert {*last.places}.isdisjoint(found.places) == is_held_back
    assert len(clips) == n_clips


@pytest.mark.parametrize("kind", OTHERS)
def test_below_20_each_clip_is_left_out_by_itself_and_then_a_tenth_of_them(kind, learned):
    fits, _ = learned
    for n_clips, sizes in ((2, [1] * 2), (19, [18] * 19), (20, [18] * 10), (47, [42] * 7 + [43] * 3)):
        fits.clear()
        found, _ = run(kind, range(n_clips))
        assert sorted(len(examples.places) for _, examples in fits) == [*sizes, n_clips]
        assert found.places == tuple(range(n_clips))


@pytest.mark.parametrize("kind", NETWORKS)
def test_a_network_is_trained_for_five_parts_and_from_40_clips_on_once(kind, learned):
    fits, _ = learned
    for n_clips, n_fits, n_scored in ((3, 4, 3), (20, 6, 20), (39, 6, 39), (40, 1, 10), (150, 1, 15)):
        fits.clear()
        found, _ = run(kind, range(n_clips))
        assert (len(fits), len(found.places)) == (n_fits, n_scored)


@pytest.mark.parametrize("kind", NETWORKS)
def test_of_clips_taken_for_normal_each_has_a_score(kind):
    found, _ = run(kind, range(45), is_assumed=True)
    assert found.places == tuple(range(45))


@pytest.mark.parametrize("kind", KINDS)
def test_clips_of_a_recording_are_left_out_together(kind, learned):
    recordings = [0, 0, 1, 2, 1, 3, 3, 3, 4, 5, 5] * 5
    recordings = [one + 6 * (index // 11) for index, one in enumerate(recordings)]
    run(kind, recordings)
    fits, _ = learned
    for _, examples in fits:
        learned_from = {recordings[place] for place in examples.places}
        assert sum(one in learned_from for one in recordings) == len(examples.places)


def test_clips_of_one_recording_alone_are_left_out_by_neighbours(learned):
    run("neighbours", [3] * 40)
    fits, _ = learned
    left_out = [sorted({*range(40)} - {*examples.places}) for _, examples in fits[:-1]]
    assert left_out == [list(range(start, start + 4)) for start in range(0, 40, 4)]


@pytest.mark.parametrize("n_groups", [2, 3, 19, 20, 21, 99, 1000])
@pytest.mark.parametrize("kind", ["neighbours", "autoencoder"])
def test_parts_are_of_about_the_same_size_and_have_each_clip_once(kind, n_groups):
    parts, is_held_back = choose_parts(kind, range(n_groups))
    if is_held_back:
        [part] = parts
        assert (len(part), part[0], part[-1]) == (max(10, round(n_groups / 10)), 0, n_groups - 1)
        assert max(np.diff(part)) - min(np.diff(part)) <= 1
        return
    assert sorted(clip for part in parts for clip in part) == list(range(n_groups))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", ["sigma 3", "quantile 0.5", "gamma 0.9"])
def test_thresholds_are_of_the_scores_of_clips_that_were_left_out(kind, rule):
    training = Training(epochs=1, threshold=rule)
    found, clips = run(kind, range(8), training)
    examples, scores, moments = examples_of(clips), [], []
    for part in choose_parts(kind, range(8))[0]:
        one = Detector(kind, fit(kind, examples.select(sorted({*range(8)} - {*part})), training))
        scores += [score(features_of(clips[place]), one, examples.pooling) for place in part]
        moments += [score_windows(features_of(clips[place]), one, examples.pooling) for place in part]
    assert found.scores == tuple(scores)
    assert found.detector.normal_scores == tuple(sorted(scores))
    assert found.detector.threshold == choose_threshold(training.rule, scores)
    assert found.detector.peak_threshold == choose_peak_threshold(np.concatenate(moments))
    whole = fit(kind, examples, training)
    assert all(np.array_equal(found.detector.arrays[name], whole[name]) for name in whole)


@pytest.mark.parametrize("kind", KINDS)
def test_of_one_clip_there_is_a_detector_and_no_threshold(kind):
    found, clips = run(kind, [0])
    assert (found.places, found.scores, found.detector.normal_scores) == ((), (), ())
    assert found.detector.threshold == found.detector.peak_threshold == math.inf
    value = score(features_of(clips[0]), found.detector, examples_of(clips).pooling)
    assert verdict(value, found.detector.threshold) == "unknown"


def test_a_value_is_the_threshold_even_of_one_clip():
    assert run("neighbours", [0], Training(threshold="1.5"))[0].detector.threshold == 1.5


def test_frames_are_read_only_where_they_are_needed():
    clips, asked = spectrograms(6), []
    examples = examples_of(clips).select(range(6))
    object.__setattr__(examples, "windows", (examples.windows[0], None, None, examples.windows[3], None, None))

    def read(place, *, with_frames):
        asked.append((place, with_frames))
        return features_of(clips[place]) if with_frames else ClipFeatures(features_of(clips[place]).statistics)

    calibrate("neighbours", examples, machine_of(range(6)), TRAINING, read)
    assert asked == [(place, place in (0, 3)) for place in range(6)]


@pytest.mark.parametrize(("overlap", "n_beside"), [(0.0, 0), (5.0, 1), (8.0, 4)])
def test_segments_that_overlap_with_what_is_left_out_are_not_learned_from(overlap, n_beside):
    examples = examples_of(spectrograms(30, n_frames=20))
    spec = examples.pooling.spec.changed(segment=10.0, overlap=overlap)
    one_recording = replace(examples, recordings=(0,) * 30, pooling=replace(examples.pooling, spec=spec))
    learned_from = calibration._rest(one_recording, [10, 11])
    assert learned_from == [*range(10 - n_beside), *range(12 + n_beside, 30)]
    several = replace(one_recording, recordings=tuple(range(30)))
    assert calibration._rest(several, [10, 11]) == [*range(10), *range(12, 30)]
