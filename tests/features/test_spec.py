"""What can be asked for, and how many frames and rows come of it."""

import dataclasses
import json
import math

import librosa
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mimii.features.spec import PRESETS, FeatureSpec, SpecError, n_frames, n_rows

PRESET_TABLE = {
    "explore": (64, 5, 2048, 512, 2, "ref_max"),
    "autoencoder": (64, 5, 1024, 512, 2, "ref_max"),
    "mimii-baseline": (64, 5, 1024, 512, 2, "add_eps"),
    "dcase": (128, 5, 1024, 512, 2, "max_eps"),
    **{f"dcase{year}": (128, 5, 1024, 512, 2, "max_eps") for year in range(2020, 2027)},
    "mobilenet": (128, 64, 1024, 512, 2, "max_eps"),
}


def test_presets_are_those_of_the_design():
    found = {
        name: (spec.n_mels, spec.frames, spec.n_fft, spec.hop_length, spec.power, spec.scale)
        for name, spec in PRESETS.items()
    }
    assert found == PRESET_TABLE


@pytest.mark.parametrize("name", PRESET_TABLE)
def test_presets_are_for_the_first_microphone_at_16_khz(name):
    assert (PRESETS[name].sample_rate, PRESETS[name].channel) == (16_000, 0)


def test_the_default_is_explore():
    assert FeatureSpec() == PRESETS["explore"]


def test_a_preset_cannot_be_changed_in_place():
    with pytest.raises(dataclasses.FrozenInstanceError):
        PRESETS["explore"].n_mels = 3
    with pytest.raises(TypeError):
        PRESETS["explore"] = FeatureSpec(n_mels=3)


@pytest.mark.parametrize("name", PRESET_TABLE)
def test_a_preset_has_a_name(name):
    assert FeatureSpec.preset(name) == PRESETS[name]


def test_a_preset_is_taken_with_changes():
    spec = FeatureSpec.preset("dcase2020", n_mels=64, sample_rate=48_000, power=1.0, scale="add_eps", channel=3)
    assert spec == FeatureSpec(48_000, 3, n_fft=1024, hop_length=512, n_mels=64, frames=5, power=1.0, scale="add_eps")
    assert FeatureSpec.preset("dcase2020") == PRESETS["dcase2020"]


def test_an_unknown_preset_is_refused_with_those_there_are():
    with pytest.raises(
        SpecError, match="no preset 'dcase2019'; there are explore, autoencoder, mimii-baseline, dcase, "
    ):
        FeatureSpec.preset("dcase2019")


@pytest.mark.parametrize("unknown", ["mels", "n_features", "as_dict", ""])
def test_an_unknown_parameter_is_refused_with_those_there_are(unknown):
    with pytest.raises(
        SpecError, match=f"no parameter '{unknown}'; there are sample_rate, channel, segment, "
    ) as caught:
        FeatureSpec.preset("explore", **{unknown: 3})
    assert all(field.name in str(caught.value) for field in dataclasses.fields(FeatureSpec))


@pytest.mark.parametrize("change", [{"hop_length": 0}, {"scale": "decibel"}, {"power": math.nan}], ids=str)
def test_a_change_that_makes_no_sense_is_refused(change):
    [name] = change
    with pytest.raises(SpecError, match=name):
        FeatureSpec.preset("autoencoder", **change)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("sample_rate", 0),
        ("sample_rate", -16_000),
        ("channel", -1),
        ("n_fft", 1),
        ("n_fft", 0),
        ("hop_length", 0),
        ("hop_length", -512),
        ("n_mels", 0),
        ("frames", 0),
        ("power", 0.0),
        ("power", -2.0),
        ("power", math.nan),
        ("power", math.inf),
        ("scale", "decibel"),
        ("scale", ""),
    ],
)
def test_a_parameter_out_of_range_is_refused_by_name_and_value(name, value):
    with pytest.raises(SpecError) as caught:
        FeatureSpec(**{name: value})
    assert name in str(caught.value)
    assert str(value) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value"),
    [("sample_rate", 1), ("channel", 0), ("n_fft", 2), ("hop_length", 1), ("n_mels", 1), ("frames", 1)],
)
def test_the_least_value_of_a_parameter_is_accepted(name, value):
    assert getattr(FeatureSpec(**{name: value}), name) == value


def test_a_change_to_a_preset_is_checked_too():
    with pytest.raises(SpecError, match="hop_length"):
        dataclasses.replace(PRESETS["dcase2020"], hop_length=0)


def test_a_row_has_as_many_values_as_frames_times_bands():
    assert FeatureSpec().n_features == 320
    assert PRESETS["dcase2020"].n_features == 640


@pytest.mark.parametrize("name", PRESET_TABLE)
def test_a_spec_survives_json(name):
    text = json.dumps(PRESETS[name].as_dict())
    assert FeatureSpec(**json.loads(text)) == PRESETS[name]


@given(n_samples=st.integers(1, 20_000), hop_length=st.integers(1, 3000), n_fft=st.integers(2, 1200))
def test_frames_are_as_many_as_librosa_computes(n_samples, hop_length, n_fft):
    padded = np.zeros(n_samples + 2 * (n_fft // 2), np.float32)
    framed = librosa.util.frame(padded, frame_length=n_fft, hop_length=hop_length)
    assert n_frames(n_samples, FeatureSpec(n_fft=n_fft, hop_length=hop_length)) == framed.shape[1]


@pytest.mark.parametrize(("n_samples", "n_fft", "hop_length"), [(600, 512, 160), (512, 512, 512), (4097, 1023, 333)])
def test_frames_are_as_many_as_the_columns_of_librosa_stft(n_samples, n_fft, hop_length):
    spectrum = librosa.stft(np.ones(n_samples, np.float32), n_fft=n_fft, hop_length=hop_length, pad_mode="constant")
    assert n_frames(n_samples, FeatureSpec(n_fft=n_fft, hop_length=hop_length)) == spectrum.shape[1]


def test_no_samples_have_no_frames_and_no_rows():
    assert n_frames(0, FeatureSpec()) == 0
    assert n_rows(0, FeatureSpec(frames=1)) == 0


@pytest.mark.parametrize("name", PRESET_TABLE)
def test_ten_seconds_of_mimii_are_309_rows(name):
    assert n_frames(160_000, PRESETS[name]) == 313
    assert n_rows(160_000, PRESETS[name]) == (32 if name == "mobilenet" else 309)


@given(
    n_samples=st.integers(0, 5000),
    hop_length=st.integers(1, 700),
    frames=st.integers(1, 12),
    stride=st.integers(1, 15),
)
def test_rows_are_the_positions_of_a_window_of_frames(n_samples, hop_length, frames, stride):
    spec = FeatureSpec(hop_length=hop_length, frames=frames, stride=stride)
    count = n_frames(n_samples, spec)
    positions = [start for start in range(0, count, stride) if start + frames <= count]
    assert n_rows(n_samples, spec) == len(positions)
