"""Each kind of detector against loops and scikit-learn; moments by hand; models read back bit for bit."""

import io
import json
import math
import zipfile
from dataclasses import replace

import numpy as np
import pytest
from sklearn.covariance import LedoitWolf
from sklearn.decomposition import PCA
from sklearn.neighbors import NearestNeighbors
from sklearn.neural_network import MLPRegressor

from mimii.detection import KINDS, Detector, DetectorError, LearningError, Model, Training, autoencoder, neighbours
from mimii.detection.detectors import fit, from_bytes, score, score_windows, to_bytes
from mimii.detection.pooling import ClipFeatures, Pooling, pool
from mimii.features.spec import PRESETS
from mimii.recordings.find import Meaning
from tests.helpers.detection import (
    SPEC,
    WINDOW,
    examples_of,
    features_of,
    rows_of,
    spectrogram,
    spectrograms,
    statistics_of,
    windows_of,
)

ROW_KINDS = [name for name, kind in KINDS.items() if kind.reads_rows]
NETWORKS = [name for name, kind in KINDS.items() if kind.is_network]
CLIP_KINDS = [name for name in KINDS if name not in ROW_KINDS]
QUICK = Training(epochs=3, normalize=False)
POOLING = Pooling(SPEC, 40, -50.0)


def learn(kind, clips, domains=(), training=QUICK, **how):
    return Detector(kind, fit(kind, examples_of(clips, domains, **how), training))


def score_of(detector, decibel):
    return score(features_of(decibel), detector, POOLING)


def scaled(clips):
    """Return the statistics of clips in deviations over the clips, and these."""
    values = np.stack([statistics_of(clip).ravel() for clip in clips]).astype(float)
    scale = values.std(axis=0) + 0.3
    return values / scale, scale


def root_mean_square(difference):
    return math.sqrt(sum(float(value) ** 2 for value in difference) / len(difference))


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("domains", [(), ("source",) * 40 + ("target",) * 8], ids=["one domain", "two domains"])
def test_clips_like_the_training_clips_score_less_than_others(kind, domains):
    training = Training(epochs=40 if kind in NETWORKS else 1)
    detector = learn(kind, spectrograms(48), domains, training)
    like = [score_of(detector, decibel) for decibel in spectrograms(5, 1000)]
    unlike = [np.random.default_rng(seed).permuted(spectrogram(seed), axis=1) for seed in range(2000, 2005)]
    assert max(like) < min(score_of(detector, decibel) for decibel in unlike)


@pytest.mark.parametrize("n_clips", [1, 2, 5, 31])
def test_of_few_clips_the_score_is_the_distance_to_the_nearest(n_clips):
    clips, decibel = spectrograms(n_clips), spectrogram(500)
    known, scale = scaled(clips)
    x = statistics_of(decibel).ravel() / scale
    expected = min(root_mean_square(x - one) for one in known)
    assert score_of(learn("neighbours", clips), decibel) == pytest.approx(expected, rel=1e-5)


def around(known):
    """Return the mean distance of each clip to its four nearest others."""
    distances, _ = NearestNeighbors(n_neighbors=5).fit(known).kneighbors(known)
    return distances[:, 1:].mean(axis=1) / math.sqrt(known.shape[1])


@pytest.mark.parametrize("n_clips", [128, 160])
def test_of_many_clips_the_distance_is_relative_to_those_around_the_nearest(n_clips):
    clips, decibel = spectrograms(n_clips), spectrogram(501)
    known, scale = scaled(clips)
    x = statistics_of(decibel).ravel() / scale
    distances = [root_mean_square(x - one) for one in known]
    nearest = int(np.argmin(distances))
    expected = distances[nearest] / (around(known)[nearest] / np.median(around(known)))
    assert score_of(learn("neighbours", clips), decibel) == pytest.approx(expected, rel=1e-5)


def test_with_domains_it_is_the_least_of_the_relative_distances_to_the_nearest_of_each():
    clips, domains = spectrograms(140), ("source",) * 134 + ("target",) * 6
    known, scale = scaled(clips)
    detector = learn("neighbours", clips, domains)
    density = [around(known[:134]), around(known[134:])]
    middle = np.median(np.concatenate(density))
    for seed in range(600, 610):
        x, relative = statistics_of(spectrogram(seed)).ravel() / scale, []
        for of_domain, about in zip((known[:134], known[134:]), density, strict=True):
            distances = [root_mean_square(x - one) for one in of_domain]
            relative.append(min(distances) / (about[int(np.argmin(distances))] / middle))
        assert score_of(detector, spectrogram(seed)) == pytest.approx(min(relative), rel=1e-4)


@pytest.mark.parametrize("kind", CLIP_KINDS)
@pytest.mark.parametrize("n_clips", [2, 40])
def test_clips_that_are_all_the_same_give_numbers(kind, n_clips):
    detector = learn(kind, [spectrogram(1)] * n_clips)
    assert score_of(detector, spectrogram(1)) == pytest.approx(0, abs=1e-4)
    assert 0 < score_of(detector, spectrogram(2)) < math.inf


def test_the_nearest_training_clip_is_known():
    clips = spectrograms(20)
    arrays = learn("neighbours", clips).arrays
    assert [neighbours.nearest_clip(statistics_of(clip), arrays) for clip in clips] == list(range(20))


@pytest.mark.parametrize("n_clips", [3, 10, 60])
def test_the_mahalanobis_distance_is_that_of_scikit_learn(n_clips):
    clips, decibel = spectrograms(n_clips), spectrogram(500)
    known, scale = scaled(clips)
    x = statistics_of(decibel).ravel()[np.newaxis] / scale
    expected = LedoitWolf().fit(known).mahalanobis(x)[0] / known.shape[1]
    assert score_of(learn("mahalanobis", clips), decibel) == pytest.approx(expected, rel=1e-3)


def test_of_one_clip_the_mahalanobis_distance_is_that_in_tenths_of_db():
    expected = np.mean(((statistics_of(spectrogram(2)) - statistics_of(spectrogram(1))) / 0.3) ** 2)
    assert score_of(learn("mahalanobis", [spectrogram(1)]), spectrogram(2)) == pytest.approx(expected, rel=1e-4)


def test_of_two_clips_all_directions_count_alike():
    clips, decibel = spectrograms(2), spectrogram(500)
    known, scale = scaled(clips)
    x = statistics_of(decibel).ravel() / scale
    expected = np.mean((x - known.mean(axis=0)) ** 2) / np.mean(known.var(axis=0))
    assert score_of(learn("mahalanobis", clips), decibel) == pytest.approx(expected, rel=1e-4)


def test_components_reconstruct_as_scikit_learn_does():
    rows = np.concatenate([rows_of(clip) for clip in spectrograms(12)])
    analysis, decibel = PCA(8).fit(rows), spectrogram(500)
    errors = rows_of(decibel) - analysis.inverse_transform(analysis.transform(rows_of(decibel)))
    assert score_of(learn("pca", spectrograms(12)), decibel) == pytest.approx(np.mean(errors**2), rel=1e-3)


def test_components_from_blocks_span_about_the_same_space():
    small, large = (learn("pca", spectrograms(20), block=size) for size in (90, 5000))
    rows = np.concatenate([rows_of(clip) for clip in spectrograms(20)])
    np.testing.assert_allclose(small.arrays["mean"], rows.mean(axis=0), atol=1e-3)
    assert score_of(small, spectrogram(500)) == pytest.approx(score_of(large, spectrogram(500)), rel=0.1)


def test_few_rows_have_fewer_components():
    assert learn("pca", [spectrogram(1, 5)]).arrays["components"].shape == (3, SPEC.n_features)
    assert learn("pca", spectrograms(3, n_frames=36), block=101).arrays["components"].shape == (8, SPEC.n_features)


def test_the_nearest_row_is_found_as_loops_find_it():
    known = np.concatenate([rows_of(clip) for clip in spectrograms(3)])
    decibel = spectrogram(500)
    expected = [min(np.mean((row - other) ** 2) for other in known) for row in rows_of(decibel).astype(float)]
    detector = learn("knn", spectrograms(3))
    assert score_of(detector, decibel) == pytest.approx(np.mean(expected), rel=1e-5)
    assert score_of(detector, spectrogram(2)) == 0


def test_many_rows_are_drawn_with_the_same_probability():
    clips = [np.repeat(np.arange(start, start + 1024, dtype="f4")[:, np.newaxis], 8, axis=1) for start in (0, 1024)]
    clips = [clip + 2048 * part for part in range(6) for clip in clips]
    drawn = learn("knn", clips, block=3000).arrays["known"][:, 0]
    assert len(drawn) == len(set(drawn.tolist())) == 4096
    # Each sixth of all 12,264 rows has about a sixth of the drawn ones (hypergeometric: 683, deviation 19.5).
    counts = np.histogram(drawn, bins=6, range=(0, 12_288))[0]
    assert (abs(counts - 4096 / 6) < 5 * 19.5).all()


def test_a_network_reconstructs_as_scikit_learn_does():
    rows, others = rows_of(spectrogram(1, 200)), rows_of(spectrogram(2))
    network = MLPRegressor(hidden_layer_sizes=(8, 3, 8), max_iter=3, random_state=0)
    with pytest.warns(match="optimization"):  # three epochs are few
        network.fit(rows, rows)
    arrays = {f"weights_{index}": weights for index, weights in enumerate(network.coefs_)}
    arrays |= {f"biases_{index}": biases for index, biases in enumerate(network.intercepts_)}
    np.testing.assert_allclose(autoencoder.reconstruct(others, arrays), network.predict(others), rtol=1e-4, atol=1e-4)


def errors_of(detector, decibel):
    return (rows_of(decibel) - autoencoder.reconstruct(rows_of(decibel), detector.arrays)).astype(float)


def test_the_score_of_a_network_is_the_mean_squared_error():
    detector, decibel = learn("autoencoder", spectrograms(4)), spectrogram(500)
    assert score_of(detector, decibel) == pytest.approx(np.mean(errors_of(detector, decibel) ** 2), rel=1e-5)


@pytest.mark.parametrize("domains", [("",) * 9, ("source",) * 6 + ("target",) * 3], ids=["one domain", "two domains"])
def test_errors_weighted_by_their_covariance_in_each_domain_are_those_of_scikit_learn(domains):
    clips, decibel = spectrograms(9), spectrogram(500)
    detector = learn("autoencoder-mahalanobis", clips, domains)
    plain = learn("autoencoder", clips)
    assert all(np.array_equal(detector.arrays[name], plain.arrays[name]) for name in plain.arrays)
    means = []
    for domain in dict.fromkeys(domains):
        of_domain = [clip for clip, one in zip(clips, domains, strict=True) if one == domain]
        errors = np.concatenate([errors_of(plain, clip) for clip in of_domain])
        covariance = LedoitWolf(assume_centered=True).fit(errors).covariance_
        distances = [error @ np.linalg.solve(covariance, error) / len(error) for error in errors_of(plain, decibel)]
        means.append(np.mean(distances))
    assert score_of(detector, decibel) == pytest.approx(min(means), rel=1e-3)
    assert len(set(means)) == len(means)


@pytest.mark.parametrize("kind", NETWORKS)
def test_the_network_has_the_published_layout(kind):
    arrays, n = learn(kind, spectrograms(3)).arrays, SPEC.n_features
    shapes = [arrays[f"weights_{index}"].shape for index in range(6)]
    assert shapes == [(n, 64), (64, 64), (64, 8), (8, 64), (64, 64), (64, n)]
    assert [arrays[f"biases_{index}"].shape for index in range(6)] == [(n_out,) for _, n_out in shapes]


def test_more_epochs_learn_more():
    short, long = (learn("autoencoder", spectrograms(20), training=Training(epochs=n)) for n in (2, 40))
    assert score_of(long, spectrogram(500)) < 0.7 * score_of(short, spectrogram(500))


@pytest.mark.parametrize("kind", KINDS)
def test_all_arrays_are_float32(kind):
    assert {array.dtype for array in learn(kind, spectrograms(40)).arrays.values()} == {np.dtype("f4")}


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_what_is_learned(kind):
    clips = spectrograms(2, n_frames=3000)
    one, again, other = (learn(kind, clips, training=Training(epochs=1, seed=seed)).arrays for seed in (3, 3, 4))
    assert all(np.array_equal(one[name], again[name]) for name in one)
    assert (kind not in (*NETWORKS, "knn")) == all(np.array_equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_each_epoch_asks_for_its_rows(kind):
    epochs = []
    learn(kind, spectrograms(3), epochs=epochs)
    expected = {"autoencoder": [0, 1, 2], "autoencoder-mahalanobis": [0, 1, 2, 0]}
    assert epochs == expected.get(kind, [0])


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_training_without_rows_is_an_error(kind):
    examples = replace(examples_of(spectrograms(2)), read=lambda _places, _epoch: iter(()))
    with pytest.raises(LearningError, match="no row"):
        fit(kind, examples, QUICK)


@pytest.mark.parametrize("kind", NETWORKS)
def test_fewer_rows_than_a_step_raise_no_warning(kind, recwarn):
    learn(kind, spectrograms(1))
    assert not recwarn.list


@pytest.mark.parametrize("kind", ROW_KINDS)
def test_rows_are_scaled_by_mean_and_deviation_of_the_training_clips_where_asked(kind):
    clips = spectrograms(6)
    frames = np.concatenate(clips).astype(float)
    arrays = learn(kind, clips, training=Training(epochs=1)).arrays
    np.testing.assert_allclose(arrays["shift"], np.tile(frames.mean(axis=0), SPEC.frames), rtol=1e-5)
    np.testing.assert_allclose(arrays["scale"], np.tile(frames.std(axis=0), SPEC.frames), rtol=1e-4)
    plain = learn(kind, clips).arrays
    assert (set(plain["shift"].tolist()), set(plain["scale"].tolist())) == ({0}, {1})


def test_a_scaled_score_is_that_of_scaled_rows():
    clips, decibel = spectrograms(3), spectrogram(500)
    frames = np.concatenate(clips).astype(float)
    shift, scale = frames.mean(axis=0), frames.std(axis=0)
    known = np.concatenate([rows_of((clip - shift) / scale) for clip in clips])
    expected = [min(np.mean((row - known) ** 2, axis=1)) for row in rows_of((decibel - shift) / scale)]
    detector = learn("knn", clips, training=Training())
    assert score_of(detector, decibel) == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_band_that_is_always_the_same_is_not_scaled():
    clips = [np.where(np.arange(8) == 3, np.float32(-80), clip) for clip in spectrograms(3)]
    detector = learn("pca", clips, training=Training())
    assert np.isfinite(detector.arrays["scale"]).all()
    assert math.isfinite(score_of(detector, spectrogram(500)))


@pytest.mark.parametrize("kind", ROW_KINDS)
@pytest.mark.parametrize("n_frames", [3, 4098, 9000])
def test_a_clip_of_any_length_is_scored_by_all_of_its_rows(kind, n_frames):
    detector, decibel = learn(kind, spectrograms(3)), spectrogram(500, n_frames)
    each = [score_of(detector, decibel[row : row + 3]) for row in range(0, n_frames - 2, 97)]
    assert score_of(detector, decibel[: 3 + 97 * (len(each) - 1)]) > 0
    if n_frames == 3:
        assert score_of(detector, decibel) == pytest.approx(each[0])
    halves = [decibel[: n_frames // 2 + 1], decibel[n_frames // 2 - 1 :]]
    if n_frames > 3 and kind != "autoencoder-mahalanobis":
        counts = [len(half) - 2 for half in halves]
        means = [score_of(detector, half) for half in halves]
        assert score_of(detector, decibel) == pytest.approx(np.average(means, weights=counts), rel=1e-5)


@pytest.mark.parametrize("kind", ["neighbours", "knn"])
def test_the_score_of_a_long_clip_is_the_median_of_its_pieces(kind):
    detector, decibel = learn(kind, spectrograms(3)), spectrogram(500, 100)
    pieces = (decibel[:30], decibel[30:60], decibel[60:])
    scores = [score_of(detector, piece) for piece in pieces]
    assert score(ClipFeatures(statistics_of(decibel), pieces), detector, POOLING) == np.median(scores)


@pytest.mark.parametrize("kind", ["neighbours", "knn"])
def test_a_clip_that_is_too_short_has_no_score(kind):
    detector, decibel = learn(kind, spectrograms(3)), spectrogram(500, 100)
    pooling = replace(POOLING, most_frames=200, least_frames=151)
    assert math.isnan(score(pool(decibel, pooling), detector, pooling))
    enough = replace(pooling, least_frames=150)
    assert score(pool(decibel, enough), detector, enough) == score_of(detector, decibel)


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_a_moment_is_scored_by_the_band_that_is_farthest_from_normal(kind):
    clips, decibel = spectrograms(6), spectrogram(500, 50)
    windows = np.concatenate([windows_of(clip) for clip in clips]).astype(float)
    mean, scale = windows.mean(axis=0), windows.std(axis=0) + 0.3
    expected = []
    for of_mean, of_max in (windows_of(decibel) - mean) / scale:
        expected.append(max(*map(abs, of_mean), *of_max))
    found = score_windows(features_of(decibel), learn(kind, clips), POOLING)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_silence_a_click_and_a_tone_are_all_far_from_normal(kind):
    detector = learn(kind, spectrograms(10))
    normal = score_windows(features_of(spectrogram(500, 60)), detector, POOLING)
    for fault, where in (("silence", slice(20, 30)), ("click", slice(23, 24)), ("tone", slice(20, 30))):
        decibel = spectrogram(500, 60)
        decibel[where] = -90 if fault == "silence" else decibel[where]
        decibel[where, 3 if fault == "tone" else slice(None)] += 0 if fault == "silence" else 60
        found = score_windows(features_of(decibel), detector, POOLING)
        assert np.argmax(found) == 2, fault
        assert found[2] > 1.5 * normal.max(), fault


@pytest.mark.parametrize("kind", CLIP_KINDS)
def test_without_windows_of_training_clips_no_moment_has_a_score(kind):
    examples = replace(examples_of(spectrograms(4)), windows=(None,) * 4)
    detector = Detector(kind, fit(kind, examples, QUICK))
    assert np.isnan(score_windows(features_of(spectrogram(9)), detector, POOLING)).all()


@pytest.mark.parametrize("n_frames", [3, 8, 40, 44, 45, 57])
def test_a_moment_of_a_detector_of_rows_is_the_mean_over_rows_in_its_middle(n_frames):
    detector, decibel = learn("knn", spectrograms(3)), spectrogram(500, n_frames)
    of_row = [score_of(detector, decibel[row : row + 3]) for row in range(n_frames - 2)]
    n_windows = max(1, round(n_frames / WINDOW))
    groups = [[] for _ in range(n_windows)]
    for row, value in enumerate(of_row):
        groups[min((row + 1) // WINDOW, n_windows - 1)].append(value)
    found = score_windows(features_of(decibel), detector, POOLING)
    np.testing.assert_allclose(found, [np.mean(group) for group in groups], rtol=1e-5)


def test_a_moment_in_which_no_row_has_its_middle_is_as_the_nearest():
    spec = SPEC.changed(stride=30)
    clips = [spectrogram(seed, 100) for seed in range(3)]
    detector = Detector("knn", fit("knn", examples_of(clips, spec=spec), QUICK))
    decibel = spectrogram(500, 93)
    found = score_windows(features_of(decibel), detector, Pooling(spec, 100, 0.0))
    rows = [
        score(features_of(decibel[start : start + 3]), detector, Pooling(spec, 100, 0.0)) for start in (0, 30, 60, 90)
    ]
    np.testing.assert_allclose(found, [rows[index] for index in (0, 0, 1, 1, 1, 2, 2, 2, 3)], rtol=1e-5)


def test_of_two_domains_the_one_in_which_a_moment_is_less_abnormal_counts():
    clips, domains = spectrograms(9), ("source",) * 6 + ("target",) * 3
    detector, decibel = learn("autoencoder-mahalanobis", clips, domains), spectrogram(500)
    each = []
    for factor in detector.arrays["factors"]:
        of_one = replace(detector, arrays=dict(detector.arrays) | {"factors": factor[np.newaxis]})
        each.append(score_windows(features_of(decibel), of_one, POOLING))
    found = score_windows(features_of(decibel), detector, POOLING)
    np.testing.assert_allclose(found, np.minimum(*each), rtol=1e-6)
    assert (each[0] < each[1]).any()


def some_model(kinds=("autoencoder-mahalanobis", "neighbours"), spec=SPEC, **how):
    clips = spectrograms(4)
    detectors = tuple(
        replace(learn(kind, clips), threshold=1 / 3 + index, peak_threshold=math.pi, normal_scores=(0.1, 1 / 3))
        for index, kind in enumerate(kinds)
    )
    return Model("fan-id_00-6dB", Pooling(spec, 313, -51.3), detectors, **how)


@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_read_back_bit_for_bit(kind):
    model = some_model((kind,), meaning=Meaning("{site}/*.wav", "normal"))
    found = from_bytes(to_bytes(model))
    assert replace(found, detectors=()) == replace(model, detectors=())
    [one], [other] = found.detectors, model.detectors
    assert replace(one, arrays={}) == replace(other, arrays={})
    assert one.arrays.keys() == other.arrays.keys()
    for name, array in other.arrays.items():
        np.testing.assert_array_equal(one.arrays[name], array, strict=True)
    assert score_of(one, spectrogram(7)) == score_of(other, spectrogram(7))


def test_thresholds_that_are_none_and_several_detectors_are_read_back():
    model = some_model(("pca", "knn", "mahalanobis"))
    endless = replace(model.detectors[0], threshold=math.inf, peak_threshold=math.inf, normal_scores=())
    found = from_bytes(to_bytes(replace(model, detectors=(endless, *model.detectors[1:]))))
    assert [one.kind for one in found.detectors] == ["pca", "knn", "mahalanobis"]
    assert [one.threshold for one in found.detectors] == [math.inf, 1 / 3 + 1, 1 / 3 + 2]
    assert found.detectors[0].normal_scores == ()
    assert set(found.detectors[1].arrays) == {"known", "shift", "scale"}


@pytest.mark.parametrize("preset", PRESETS)
def test_the_spec_of_a_model_is_read_back(preset):
    assert from_bytes(to_bytes(some_model(("neighbours",), spec=PRESETS[preset]))).spec == PRESETS[preset]


def test_the_same_model_is_the_same_bytes():
    assert to_bytes(some_model()) == to_bytes(some_model())


def test_a_file_is_read_by_numpy_alone_and_without_pickle():
    with np.load(io.BytesIO(to_bytes(some_model())), allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["machine"] == "fan-id_00-6dB"
        assert file["autoencoder-mahalanobis.weights_0"].shape == (SPEC.n_features, 64)


def pickled():
    file = io.BytesIO()
    np.savez(file, about=np.array({"an": "object"}, dtype=object))
    return file.getvalue()


def altered(**values):
    with np.load(io.BytesIO(to_bytes(some_model())), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    arrays["about"] = np.array(json.dumps(json.loads(str(arrays["about"])) | values))
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    return changed.getvalue()


OTHER_DETECTOR = [{"kind": "oracle", "threshold": 1.0, "peak_threshold": 1.0}]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"text", bytes(100), to_bytes(some_model())[:-50], to_bytes(some_model())[:200], pickled()),
        *(altered(format=1), altered(detectors=OTHER_DETECTOR), altered(spec={"n_mels": 0})),
        *(altered(spec={"colour": 1}), altered(detectors=[{"kind": "pca"}]), altered(most_frames="many")),
    ],
    ids=[
        *("empty", "text", "zeros", "end missing", "start alone", "pickle", "format", "kind", "spec", "parameter"),
        *("no threshold", "no number"),
    ],
)
def test_other_files_are_refused(data):
    with pytest.raises(DetectorError, match=r"not a model of jobs\.detect"):
        from_bytes(data)


def test_a_model_of_no_detectors_is_refused():
    with pytest.raises(DetectorError, match=r"not a model of jobs\.detect"):
        from_bytes(altered(detectors=[]))


def test_a_damaged_array_is_refused():
    data = bytearray(to_bytes(some_model()))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = archive.getinfo("autoencoder-mahalanobis.weights_0.npy").header_offset + 300
    data[place] ^= 1
    with pytest.raises(DetectorError):
        from_bytes(bytes(data))


@pytest.mark.parametrize("n_rows", [1, 2, 5])
def test_weights_of_errors_that_are_all_the_same_are_numbers(n_rows):
    detector = learn("autoencoder-mahalanobis", [np.full((n_rows + 2, 8), -80, np.float32)])
    assert np.isfinite(detector.arrays["factors"]).all()
    assert 0 < score_of(detector, spectrogram(2)) < math.inf
