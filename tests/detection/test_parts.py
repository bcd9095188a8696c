"""Detection over channels and segments: a model for each channel of a machine, and which of them hears it best."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

import mimii
from mimii.detection import best_channels
from mimii.recordings import wav_bytes
from tests.helpers.recordings import noise

pytestmark = pytest.mark.usefixtures("drawn_once")
SPEC = mimii.FeatureSpec.preset("dcase", channel="all", n_mels=32)


def clip(seed, label):
    """Make a second of two microphones, of which the second hears the fault, and the first hardly does."""
    samples = noise(seed, n_channels=2).astype(float)
    samples *= 1000 / samples.std(axis=0)
    if label == "abnormal":
        tone = np.sin(2 * np.pi * 3000 / 16_000 * np.arange(16_000))
        samples += np.stack([5 * tone, 3000 * tone], axis=1)
    return wav_bytes(np.clip(samples, -32768, 32767).astype(np.int16), 16_000)


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    raw = tmp_path_factory.mktemp("microphones") / "raw"
    for machine in ("press7", "pump3"):
        for seed in range(16):
            label = "abnormal" if seed % 4 == 3 else "normal"
            path = raw / machine / label / f"{seed:08d}.wav"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(clip(seed + 100 * len(machine), label))
    return raw


@pytest.fixture(scope="module")
def report(raw):
    table = str(raw.parent / "t.zarr")
    mimii.featurize(mimii.plan_table(mimii.find_recordings(raw), SPEC), table)
    return mimii.detect(table, training=mimii.Training("pca"))


def test_each_channel_of_a_machine_has_a_model(report):
    assert report.machines.machine.tolist() == ["press7-ch0", "press7-ch1", "pump3-ch0", "pump3-ch1"]
    assert report.machines.channel.tolist() == [0, 1, 0, 1]
    assert report.machines.n_normal.tolist() == [4] * 4
    assert set(zip(report.clips.machine, report.clips.channel, strict=True)) == {
        (f"{machine}-ch{channel}", channel) for machine in ("press7", "pump3") for channel in (0, 1)
    }


def test_the_channel_that_hears_it_best_is_named(report):
    best = best_channels(report.results)
    assert [(one.machine, one.channel) for one in best] == [("press7", 1), ("pump3", 1)]
    auc = dict(zip(report.machines.machine, report.machines.auc, strict=True))
    expected = [(auc[f"{machine}-ch1"], auc[f"{machine}-ch0"]) for machine in ("press7", "pump3")]
    assert [(one.auc, one.lowest_auc) for one in best] == expected
    page = Path(report.output, "report.html").read_text(encoding="utf-8")
    assert "press7 channel 1 (AUC 1.000" in page


def test_new_recordings_are_scored_by_the_model_of_their_channel_and_folder(report, tmp_path):
    for name, label in (("a", "normal"), ("b", "abnormal")):
        path = tmp_path / "night" / "press7" / "2026-11-26" / f"{name}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(clip(900 + len(label), label))
    scores = mimii.score(tmp_path / "night", report)
    assert scores.channel.tolist() == [0, 1, 0, 1]
    assert scores.model.tolist() == ["press7-ch0", "press7-ch1"] * 2
    assert scores.verdict.tolist()[3] == "abnormal"
    assert scores.score[3] > 2 * scores.score[1]
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "c.wav").write_bytes(clip(5, "normal"))
    assert set(mimii.score(tmp_path / "other", report).status) != {"ok"}


def test_recordings_of_another_rate_are_resampled_to_the_rate_of_the_models(report, tmp_path):
    path = tmp_path / "night" / "press7" / "a.flac"
    path.parent.mkdir(parents=True)
    rng = np.random.default_rng(3)
    soundfile.write(path, rng.uniform(-0.1, 0.1, (48_000, 2)), 48_000)
    scores = mimii.score(path, report)
    assert scores.status.tolist() == ["ok", "ok"]


def test_scores_of_segments_say_where_they_are(raw, tmp_path):
    spec = mimii.FeatureSpec.preset("dcase", n_mels=32, segment=0.5)
    mimii.featurize(mimii.plan_table(mimii.find_recordings(raw), spec), tmp_path / "t.zarr")
    report = mimii.detect(tmp_path / "t.zarr", training=mimii.Training("pca"))
    scores = mimii.score(raw / "press7" / "abnormal", report)
    assert scores.start_s.tolist() == [0.0, 0.5] * 4
    assert set(scores.status) == {"ok"}
    assert report.clips.start_s.isin([0.0, 0.5]).all()


def test_a_table_deaf_to_level_is_warned_of(raw, tmp_path, caplog):
    mimii.featurize(mimii.plan_table(mimii.find_recordings(raw)), tmp_path / "t.zarr")
    mimii.detect(tmp_path / "t.zarr", training=mimii.Training("pca"))
    assert "do not say how loud a clip is (scale ref_max)" in caplog.text
