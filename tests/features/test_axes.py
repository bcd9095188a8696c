"""Where features are in time and frequency, beside librosa."""

import re

import librosa
import numpy as np
import pytest

import mimii
from mimii.features import describe_axes, describe_feature, feature_frequencies, feature_offsets

SPEC = mimii.FeatureSpec(
    sample_rate=8000, n_fft=400, hop_length=100, n_mels=10, fmin=50.0, fmax=3000.0, frames=3, stride=2
)


def test_each_feature_has_the_time_and_the_frequency_that_librosa_gives():
    centres = librosa.mel_frequencies(12, fmin=50.0, fmax=3000.0)[1:-1]
    times = librosa.frames_to_time(range(3), sr=8000, hop_length=100)
    assert np.allclose(feature_frequencies(SPEC).reshape(3, 10), centres)
    assert np.allclose(feature_offsets(SPEC).reshape(3, 10), times[:, np.newaxis])


@pytest.mark.parametrize(("row", "feature", "frame", "band"), [(0, 0, 0, 0), (0, 19, 1, 9), (7, 24, 16, 4)])
def test_a_tone_is_where_its_feature_is_said_to_be(row, feature, frame, band):
    where = describe_feature(row, feature, SPEC)
    seconds, hz = (float(number) for number in re.fullmatch(r"([\d.]+) s, (\d+) Hz", where).groups())
    assert seconds == pytest.approx(frame / 80, abs=5e-4)
    tone = np.sin(2 * np.pi * hz * np.arange(8000) / 8000).astype(np.float32)
    decibel = mimii.log_mel(tone, SPEC, sample_rate=8000)
    assert decibel.mean(axis=0).argmax() == band


def test_parameters_are_said_in_seconds_and_hz():
    assert describe_axes(SPEC) == {
        "sample_rate": "8,000 Hz",
        "segment": "whole recordings",
        "overlap": "0 s",
        "n_fft": "400 samples: 50 ms, bins 20 Hz apart",
        "win_length": "as n_fft",
        "hop_length": "100 samples: a frame each 12.5 ms",
        "n_mels": "10 bands from 50 to 3,000 Hz",
        "fmin": "50 Hz",
        "fmax": "3,000 Hz",
        "frames": "3 in a row: 75 ms of sound",
        "stride": "2: a row each 25 ms",
    }
    shown = SPEC.changed(win_length=200)._repr_html_()
    assert ">200 samples: 25 ms<" in shown
    assert shown.count("<tr>") == len(SPEC.as_dict())
