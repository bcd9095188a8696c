"""Detectors: rows reconstructed as by scikit-learn and loops, scores by the formula, files read back bit for bit."""

import io
import itertools
import json
import zipfile

import numpy as np
import pytest
from sklearn.decomposition import PCA
from sklearn.neural_network import MLPRegressor

from mimii.detection.detectors import (
    Detector,
    DetectorError,
    from_bytes,
    reconstruct,
    score_clip,
    score_rows,
    to_bytes,
)
from mimii.detection.kinds import KINDS
from mimii.features.spec import PRESETS, FeatureSpec

N_FEATURES = 20


ZEROS, ONES = np.zeros(N_FEATURES, "f4"), np.ones(N_FEATURES, "f4")


def some_rows(seed, n_rows=300):
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).standard_normal((5, N_FEATURES))
    return (rng.standard_normal((n_rows, 5)) @ mixing + 0.1 * rng.standard_normal((n_rows, N_FEATURES))).astype("f4")


def some_network(sizes=(N_FEATURES, 8, 3, N_FEATURES), seed=0):
    rng = np.random.default_rng(seed)
    arrays = {}
    for index, (n_in, n_out) in enumerate(itertools.pairwise(sizes)):
        arrays[f"weights_{index}"] = rng.standard_normal((n_in, n_out)).astype("f4")
        arrays[f"biases_{index}"] = rng.standard_normal(n_out).astype("f4")
    return arrays


def some_detector(kind="autoencoder", arrays=None, **how):
    shift = np.linspace(-50, -10, N_FEATURES, dtype="f4")
    scale = np.linspace(1, 5, N_FEATURES, dtype="f4")
    return Detector(kind, some_network() if arrays is None else arrays, shift, scale, FeatureSpec(), "fan-id_00", **how)


def test_a_network_reconstructs_as_scikit_learn_does():
    rows = some_rows(1)
    network = MLPRegressor(hidden_layer_sizes=(8, 3, 8), max_iter=3, random_state=0)
    with pytest.warns(match="optimization"):  # three epochs are few
        network.fit(rows, rows)
    arrays = {f"weights_{index}": weights for index, weights in enumerate(network.coefs_)}
    arrays |= {f"biases_{index}": biases for index, biases in enumerate(network.intercepts_)}
    np.testing.assert_allclose(
        reconstruct(some_rows(2), "autoencoder", arrays), network.predict(some_rows(2)), rtol=1e-5
    )


def test_components_reconstruct_as_scikit_learn_does():
    analysis = PCA(4).fit(some_rows(1))
    arrays = {"mean": analysis.mean_, "components": analysis.components_}
    expected = analysis.inverse_transform(analysis.transform(some_rows(2)))
    np.testing.assert_allclose(reconstruct(some_rows(2), "pca", arrays), expected, rtol=1e-4, atol=1e-4)


def test_the_nearest_row_is_found_as_a_loop_finds_it():
    known, rows = some_rows(1, 50), some_rows(2, 40)
    found = reconstruct(rows, "knn", {"rows": known})
    for row, nearest in zip(rows, found, strict=True):
        distances = [float(((row - other) ** 2).sum()) for other in known]
        assert np.array_equal(nearest, known[int(np.argmin(distances))])


@pytest.mark.parametrize("n_rows", [1, 4096, 4097, 9000])
def test_a_score_is_the_mean_squared_error_of_scaled_rows(n_rows):
    rows = (40 * np.random.default_rng(n_rows).standard_normal((n_rows, N_FEATURES)) - 30).astype("f4")
    detector = some_detector("pca", {"mean": ZEROS, "components": ZEROS[np.newaxis]})
    expected = [np.mean(((row - detector.shift) / detector.scale) ** 2) for row in rows.astype(float)]
    np.testing.assert_allclose(score_rows(rows, detector), expected, rtol=1e-5)
    assert score_clip(rows, detector) == pytest.approx(np.mean(expected), rel=1e-5)


def test_known_rows_score_0_and_others_by_their_distance():
    known = some_rows(3)
    detector = Detector("knn", {"rows": known}, ZEROS, ONES, FeatureSpec())
    assert score_clip(known, detector) == 0
    assert 0 < score_clip(known + 0.01, detector) < score_clip(known + 5, detector)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("threshold", [0.25, np.inf])
def test_a_detector_is_read_back_bit_for_bit(kind, threshold):
    rng = np.random.default_rng(1)
    arrays = {
        "autoencoder": some_network(),
        "pca": {"mean": rng.random(N_FEATURES, "f4"), "components": rng.random((3, N_FEATURES), "f4")},
        "knn": {"rows": rng.random((7, N_FEATURES), "f4")},
    }[kind]
    detector = some_detector(kind, arrays, threshold=threshold)
    found = from_bytes(to_bytes(detector))
    assert (found.kind, found.spec, found.machine, found.threshold) == (kind, FeatureSpec(), "fan-id_00", threshold)
    assert np.array_equal(score_rows(some_rows(5), found), score_rows(some_rows(5), detector))
    assert to_bytes(found) == to_bytes(detector)


@pytest.mark.parametrize("preset", PRESETS)
def test_a_file_keeps_the_spec_of_its_rows(preset):
    detector = Detector("knn", {"rows": np.zeros((1, 1), "f4")}, np.zeros(1, "f4"), np.ones(1, "f4"), PRESETS[preset])
    assert from_bytes(to_bytes(detector)).spec == PRESETS[preset]


def test_a_file_is_read_by_numpy_alone_and_without_pickle():
    with np.load(io.BytesIO(to_bytes(some_detector())), allow_pickle=False) as file:
        assert json.loads(str(file["about"]))["machine"] == "fan-id_00"
        assert file["array.weights_0"].shape == (N_FEATURES, 8)


def pickled():
    file = io.BytesIO()
    np.savez(file, about=np.array({"an": "object"}, dtype=object))
    return file.getvalue()


def altered(**values):
    file = io.BytesIO(to_bytes(some_detector()))
    with np.load(file, allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    arrays["about"] = np.array(json.dumps(json.loads(str(arrays["about"])) | values))
    changed = io.BytesIO()
    np.savez(changed, **arrays)
    return changed.getvalue()


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"text", bytes(100), to_bytes(some_detector())[:-50], to_bytes(some_detector())[:200], pickled()),
        *(altered(format=2), altered(kind="oracle"), altered(spec={"n_mels": 0}), altered(spec={"colour": 1})),
    ],
    ids=["empty", "text", "zeros", "end missing", "start alone", "pickle", "format", "kind", "spec", "parameter"],
)
def test_other_files_are_refused(data):
    with pytest.raises(DetectorError, match=r"not a model of jobs\.detect"):
        from_bytes(data)


def test_a_damaged_array_is_refused():
    data = bytearray(to_bytes(some_detector()))
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        place = archive.getinfo("array.weights_0.npy").header_offset + 200
    data[place] ^= 1
    with pytest.raises(DetectorError):
        from_bytes(bytes(data))
