"""Samples of other rates are what librosa makes of them, however they come in blocks."""

import librosa
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mimii.features import FeatureSpec, SampleBlocks, mel_spectrogram, n_resampled, power_to_db, resample
from mimii.storage import AudioError
from tests.helpers import oracle
from tests.helpers.recordings import noise

RATES = (8000, 11_025, 16_000, 22_050, 44_100, 48_000, 96_000)


def sweep(rate, seconds=3.0):
    times = np.arange(int(rate * seconds)) / rate
    return librosa.chirp(fmin=30, fmax=rate * 0.45, sr=rate, duration=seconds)[: len(times)].astype(np.float32)


def in_blocks(samples, length):
    blocks = [samples[start : start + length] for start in range(0, len(samples), length)]
    return SampleBlocks(len(samples), blocks)


def joined(blocks):
    samples = np.concatenate([np.empty(0, np.float32), *blocks.blocks])
    assert len(samples) == blocks.n_samples
    return samples


@pytest.mark.parametrize("signal", ["sweep", "noise"])
@pytest.mark.parametrize("preset", ["dcase", "mimii-baseline"])
@pytest.mark.parametrize("rate", RATES)
def test_features_of_another_rate_are_librosas(rate, preset, signal):
    samples = sweep(rate) if signal == "sweep" else noise(rate, 2 * rate + 17)[:, 0] / np.float32(32768)
    spec = FeatureSpec.preset(preset)
    expected = oracle.decibel(librosa.resample(samples, orig_sr=rate, target_sr=16_000), spec)
    for length in (len(samples), 4096):
        mel = mel_spectrogram(resample(in_blocks(samples, length), rate, 16_000), spec)
        np.testing.assert_allclose(power_to_db(mel, spec), expected, rtol=0, atol=1e-3)


@pytest.mark.recordings
@pytest.mark.parametrize("rate", [r for r in RATES if r != 16_000])
def test_real_clips_of_another_rate_are_librosas(real_recordings, rate):
    path = sorted(real_recordings.rglob("*.wav"))[rate % 30]
    clip, _ = librosa.load(path, sr=rate)
    spec = FeatureSpec.preset("dcase")
    expected = oracle.decibel(librosa.resample(clip, orig_sr=rate, target_sr=16_000), spec)
    mel = mel_spectrogram(resample(in_blocks(clip, 10_000), rate, 16_000), spec)
    np.testing.assert_allclose(power_to_db(mel, spec), expected, rtol=0, atol=1e-3)


@settings(max_examples=40)
@given(
    rate=st.sampled_from([7999, *RATES]),
    wanted=st.sampled_from([8000, 16_000, 22_050]),
    n_samples=st.integers(0, 3000),
    length=st.integers(1, 1000),
)
def test_the_number_of_samples_is_librosas_and_blocks_change_nothing(rate, wanted, n_samples, length):
    samples = noise(n_samples, n_samples + 1)[:n_samples, 0] / np.float32(32768)
    found = joined(resample(in_blocks(samples, length), rate, wanted))
    assert len(found) == n_resampled(n_samples, rate, wanted)
    if n_samples:
        expected = librosa.resample(samples, orig_sr=rate, target_sr=wanted)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_same_rate_changes_nothing():
    blocks = SampleBlocks(3, [np.ones(3, np.float32)])
    assert resample(blocks, 16_000, 16_000) is blocks


def test_a_reason_may_come_with_a_block():
    def broken():
        yield np.zeros(100, np.float32)
        msg = "damaged"
        raise AudioError(msg)

    blocks = resample(SampleBlocks(200, broken()), 8000, 16_000).blocks
    with pytest.raises(AudioError, match="damaged"):
        list(blocks)
