"""The kernels against librosa, against the definition written out, and against what physics says."""

import dataclasses
import math
import warnings

import librosa
import numpy as np
import pytest
import soundfile
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mimii.features.mel import (
    SampleBlocks,
    hz_to_mel,
    mel_filter_bank,
    mel_frequencies,
    mel_spectrogram,
    mel_statistics,
    mel_to_hz,
    power_to_db,
    stack_frames,
)
from mimii.features.spec import PRESETS, FeatureSpec, n_frames
from mimii.recordings.clips import ABNORMAL, NORMAL, Identity
from mimii.recordings.synthesis import MACHINES, synthesize
from mimii.storage.problems import AudioError

TOLERANCE_DB = 1e-3
EPS = np.finfo(float).eps
every_preset = pytest.mark.parametrize("preset", PRESETS)


def librosa_mel(samples, spec):
    """Return librosa's mel spectrogram, shape (n_frames, n_mels)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of clips shorter than n_fft, and of empty filters
        return librosa.feature.melspectrogram(
            y=samples,
            sr=spec.sample_rate,
            n_fft=spec.n_fft,
            hop_length=spec.hop_length,
            n_mels=spec.n_mels,
            power=spec.power,
        ).T


def reference_db(samples, spec):
    """Return what the scripts that the presets are named after compute of a clip."""
    mel = librosa_mel(samples, spec)
    if spec.scale == "ref_max":
        return librosa.power_to_db(mel, ref=np.max)
    if spec.scale == "add_eps":
        return 20 / spec.power * np.log10(mel + EPS)
    return 20 / spec.power * np.log10(np.maximum(mel, EPS))


def our_db(samples, spec):
    return power_to_db(mel_spectrogram(samples, spec), spec)


def assert_as_librosa(samples, spec, name=""):
    found, expected = our_db(samples, spec), reference_db(samples, spec)
    assert found.dtype == np.float32
    assert found.shape == expected.shape, name
    assert np.abs(found - expected).max() < TOLERANCE_DB, name


def tone(hz, n_samples=16_000, amplitude=0.5, sample_rate=16_000):
    return (amplitude * np.sin(2 * np.pi * hz * np.arange(n_samples) / sample_rate + 0.3)).astype(np.float32)


def noise(seed, n_samples=16_000, level=0.1):
    return (level * np.random.default_rng(seed).standard_normal(n_samples)).astype(np.float32)


def chirp(n_samples=32_000):
    seconds = np.arange(n_samples) / 16_000
    return (0.8 * np.sin(2 * np.pi * (20 * seconds + 1990 * seconds**2))).astype(np.float32)


def click(n_samples=20_000, at=7777):
    samples = np.zeros(n_samples, np.float32)
    samples[at] = 1
    return samples


def square(n_samples=16_000):
    return np.where(np.arange(n_samples) // 40 % 2, -1, 1).astype(np.float32)


SIGNALS = {
    "silence": np.zeros(16_000, np.float32),
    "click": click(),
    "click at the first sample": click(at=0),
    "click at the last sample": click(at=-1),
    "full-scale sine": tone(1000, amplitude=1.0),
    "sine between two bins": tone(1003.7, amplitude=1.0),
    "full-scale square": square(),
    "constant": np.full(16_000, 0.7, np.float32),
    "full-scale noise": np.random.default_rng(1).uniform(-1, 1, 16_000).astype(np.float32),
    "chirp": chirp(),
    "quiet tone": tone(440, amplitude=1 / 32768),
    "one bit of noise": np.random.default_rng(2).integers(-1, 2, 16_000).astype(np.float32) / np.float32(32768),
    "tone at half the rate": np.tile(np.float32([1, -1]), 8000),
    "silence, then noise": np.concatenate([np.zeros(9000, np.float32), noise(3, 9000)]),
    "noise, then a faint tone": np.concatenate([noise(4, 9000, 0.3), tone(300, 9000, 1e-4)]),
    "loud hum over faint noise": tone(50, amplitude=1.0) + noise(5, level=1e-5),
    "shorter than a frame": noise(6, 700),
    "two samples": np.float32([0.25, -0.5]),
    "one sample": np.float32([0.5]),
    "one hop exactly": noise(7, 512),
    "one sample more than a hop": noise(8, 513),
}


@pytest.mark.parametrize(
    ("sample_rate", "n_fft", "n_mels"),
    [
        (16_000, 2048, 64),
        (16_000, 1024, 64),
        (16_000, 1024, 128),
        (16_000, 512, 40),
        (8000, 256, 20),
        (22_050, 2048, 128),
        (44_100, 4096, 96),
        (48_000, 1000, 64),
        (96_000, 2048, 1),
        (16_000, 401, 23),
    ],
)
def test_the_filter_bank_is_librosas_bit_for_bit(sample_rate, n_fft, n_mels):
    expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels)
    found = mel_filter_bank(FeatureSpec(sample_rate, n_fft=n_fft, n_mels=n_mels))
    assert found.dtype == expected.dtype == np.float32
    assert found.shape == expected.shape
    assert found.tobytes() == expected.tobytes()


@settings(max_examples=60)
@given(
    sample_rate=st.integers(1000, 192_000),
    n_fft=st.integers(16, 4096),
    n_mels=st.integers(1, 200),
    band=st.lists(st.floats(0, 1), min_size=2, max_size=2, unique=True).map(sorted),
)
def test_any_filter_bank_is_librosas_bit_for_bit(sample_rate, n_fft, n_mels, band):
    fmin, fmax = (share * sample_rate / 2 for share in band)
    assume(fmin < fmax)
    spec = FeatureSpec(sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of empty filters, and of bands of no width
        expected = librosa.filters.mel(sr=sample_rate, n_fft=n_fft, n_mels=n_mels, fmin=fmin, fmax=fmax)
        found = mel_filter_bank(spec)
    assert found.tobytes() == expected.tobytes()


@given(st.floats(0, 100_000))
def test_the_mel_scale_is_librosas_and_can_be_undone(hz):
    assert hz_to_mel(hz) == pytest.approx(librosa.hz_to_mel(hz, htk=False), rel=1e-12)
    assert mel_to_hz(hz_to_mel(hz)) == pytest.approx(hz, rel=1e-9, abs=1e-9)


def test_one_kilohertz_is_15_mel():
    assert hz_to_mel(1000.0) == pytest.approx(15)
    assert mel_to_hz(15.0) == pytest.approx(1000)


def test_mel_frequencies_reach_from_0_to_half_the_sample_rate():
    frequencies = mel_frequencies(66, 0, 8000)
    assert frequencies[0] == 0
    assert frequencies[-1] == pytest.approx(8000)
    assert (np.diff(frequencies) > 0).all()


@every_preset
def test_real_clips_are_within_tolerance_of_librosa(real_recordings, preset):
    paths = sorted(real_recordings.rglob("*.wav"))
    assert paths
    for path in paths:
        samples = soundfile.read(path, dtype="float32", always_2d=True)[0][:, 0].copy()
        assert_as_librosa(samples, PRESETS[preset], str(path))


@every_preset
@pytest.mark.parametrize("machine_type", MACHINES)
@pytest.mark.parametrize("label", [NORMAL, ABNORMAL])
def test_synthesized_clips_are_within_tolerance_of_librosa(preset, machine_type, label):
    who = Identity(machine_type, "id_04", 3, 0.0, label)
    samples = synthesize(who, seconds=2)[:, 5] / np.float32(32768)
    assert_as_librosa(samples, PRESETS[preset])


@every_preset
@pytest.mark.parametrize("name", SIGNALS)
def test_extreme_signals_are_within_tolerance_of_librosa(preset, name):
    assert_as_librosa(SIGNALS[name], PRESETS[preset])


@pytest.mark.parametrize(
    "changes",
    [
        {"power": 1.0},
        {"power": 1.0, "scale": "add_eps"},
        {"power": 1.0, "scale": "max_eps", "n_mels": 128},
        {"power": 1.7},
        {"power": 3.0, "scale": "max_eps"},
        {"hop_length": 333},
        {"hop_length": 1},
        {"hop_length": 4096},
        {"hop_length": 160, "n_fft": 400},
        {"hop_length": 77, "n_fft": 1000, "n_mels": 17},
        {"n_fft": 512, "n_mels": 128},
        {"n_fft": 64, "n_mels": 40},
        {"n_fft": 2, "n_mels": 1},
        {"n_fft": 1023},
        {"n_fft": 401, "hop_length": 160, "scale": "add_eps"},
        {"sample_rate": 44_100, "n_fft": 4096, "n_mels": 96},
        {"n_mels": 1},
    ],
    ids=str,
)
def test_other_parameters_are_within_tolerance_of_librosa(changes):
    spec = FeatureSpec(**changes)
    n_samples = 3001 if spec.hop_length == 1 else 20_001
    assert_as_librosa(noise(9, n_samples) + tone(700, n_samples), spec)


@pytest.mark.parametrize("n_fft", [401, 1023])
def test_an_odd_n_fft_gives_as_many_frames_as_librosa(n_fft):
    spec = FeatureSpec(n_fft=n_fft, hop_length=160)
    assert_as_librosa(noise(10, 16_000), spec)


any_spec = st.builds(
    FeatureSpec,
    n_fft=st.integers(16, 700).map(lambda half: 2 * half),
    hop_length=st.integers(20, 1500),
    n_mels=st.integers(1, 140),
    scale=st.sampled_from(["ref_max", "add_eps", "max_eps"]),
    power=st.sampled_from([1.0, 2.0]),
)


@settings(max_examples=40)
@given(spec=any_spec, seed=st.integers(0, 2**32 - 1), n_samples=st.integers(1, 6000))
def test_any_spec_is_within_tolerance_of_librosa(spec, seed, n_samples):
    assert_as_librosa(noise(seed, n_samples), spec)


def naive_mel_filter(band, hz, edges):
    """Return the height of a triangle over two neighbouring edges whose area is 1."""
    low, centre, high = edges[band : band + 3]
    if low < hz <= centre:
        return (hz - low) / (centre - low) * 2 / (high - low)
    if centre < hz < high:
        return (high - hz) / (high - centre) * 2 / (high - low)
    return 0.0


def naive_mel_edges(spec):
    """Return the edges of the bands: 3 mel are 200 Hz up to 1 kHz; beyond, 27 mel are a factor of 6.4."""
    top = 15 + 27 * math.log(spec.sample_rate / 2 / 1000) / math.log(6.4)
    mels = [top * index / (spec.n_mels + 1) for index in range(spec.n_mels + 2)]
    return [mel * 200 / 3 if mel < 15 else 1000 * 6.4 ** ((mel - 15) / 27) for mel in mels]


def naive_mel_spectrogram(samples, spec):
    """Compute it by the definitions of window, Fourier transform and mel band, one number after the other."""
    edges = naive_mel_edges(spec)
    rows = []
    for frame in range(1 + len(samples) // spec.hop_length):
        first = frame * spec.hop_length - spec.n_fft // 2
        windowed = []
        for n in range(spec.n_fft):
            inside = 0 <= first + n < len(samples)
            hann = math.sin(math.pi * n / spec.n_fft) ** 2
            windowed.append(float(samples[first + n]) * hann if inside else 0.0)
        bands = [0.0] * spec.n_mels
        for k in range(spec.n_fft // 2 + 1):
            real = sum(x * math.cos(2 * math.pi * k * n / spec.n_fft) for n, x in enumerate(windowed))
            imaginary = sum(x * math.sin(2 * math.pi * k * n / spec.n_fft) for n, x in enumerate(windowed))
            power = math.hypot(real, imaginary) ** spec.power
            for band in range(spec.n_mels):
                bands[band] += naive_mel_filter(band, k * spec.sample_rate / spec.n_fft, edges) * power
        rows.append(bands)
    return np.array(rows)


@pytest.mark.parametrize("power", [2.0, 1.0])
@pytest.mark.parametrize("n_samples", [150, 20])
def test_the_mel_spectrogram_is_what_its_definition_says(power, n_samples):
    spec = FeatureSpec(n_fft=64, hop_length=40, n_mels=6, power=power)
    samples = noise(11, n_samples) + tone(2100, n_samples)
    np.testing.assert_allclose(mel_spectrogram(samples, spec), naive_mel_spectrogram(samples, spec), rtol=1e-4)


def test_decibels_are_what_their_definition_says():
    mel = np.float32([[1e-14, 0.5], [4.0, 0.0]])
    relative = [[max(10 * math.log10(max(x, 1e-10) / 4), -80) for x in row] for row in mel.tolist()]
    added = [[10 * math.log10(x + EPS) for x in row] for row in mel.tolist()]
    clipped = [[10 * math.log10(max(x, EPS)) for x in row] for row in mel.tolist()]
    np.testing.assert_allclose(power_to_db(mel, FeatureSpec()), relative, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(power_to_db(mel, FeatureSpec(scale="add_eps")), added, rtol=1e-5)
    np.testing.assert_allclose(power_to_db(mel, FeatureSpec(scale="max_eps")), clipped, rtol=1e-5)
    np.testing.assert_allclose(
        power_to_db(mel, FeatureSpec(scale="max_eps", power=1.0)), np.multiply(clipped, 2), rtol=1e-5
    )


@every_preset
def test_the_input_is_left_as_it_was(preset):
    samples = noise(12)
    mel = mel_spectrogram(samples, PRESETS[preset])
    assert np.array_equal(samples, noise(12))
    kept = mel.copy()
    power_to_db(mel, PRESETS[preset])
    assert np.array_equal(mel, kept)


def test_one_clip_does_not_change_the_next():
    spec = PRESETS["explore"]
    before = our_db(noise(13), spec)
    our_db(noise(14, 5000, 1.0), spec)
    assert our_db(noise(13), spec).tobytes() == before.tobytes()


@every_preset
@pytest.mark.parametrize("band", [0, 3, 10, 31, 50, 63])
def test_a_tone_lands_in_the_band_whose_centre_is_nearest(preset, band):
    spec = PRESETS[preset]
    centres = librosa.mel_frequencies(n_mels=spec.n_mels + 2, fmin=0, fmax=8000)[1:-1]
    mel = mel_spectrogram(tone(centres[band]), spec)
    middle = mel[8:-8].mean(axis=0)
    nearest = int(np.abs(hz_to_mel(centres) - hz_to_mel(centres[band])).argmin())
    bin_hz = spec.sample_rate / spec.n_fft
    width = centres[nearest + 1] - centres[nearest] if nearest + 1 < spec.n_mels else np.inf
    # Where bands are narrower than a bin, the tone's bin decides, not its frequency.
    assert abs(int(middle.argmax()) - nearest) <= (0 if width > 2 * bin_hz else 1)


@pytest.mark.parametrize("preset", ["mimii-baseline", "dcase2020"])
@pytest.mark.parametrize("power", [1.0, 2.0])
def test_twice_the_amplitude_is_6_decibels_more_on_an_absolute_scale(preset, power):
    spec = dataclasses.replace(PRESETS[preset], power=power)
    difference = our_db(2 * noise(15), spec) - our_db(noise(15), spec)
    np.testing.assert_allclose(difference, 20 * math.log10(2), atol=1e-3)


@pytest.mark.parametrize("factor", [2.0, 0.5, 4.0])
def test_another_amplitude_changes_nothing_below_the_maximum_of_a_clip(factor):
    spec = PRESETS["explore"]
    np.testing.assert_allclose(our_db(np.float32(factor) * noise(16), spec), our_db(noise(16), spec), atol=1e-3)


@every_preset
def test_a_shift_by_one_hop_shifts_the_frames_by_one(preset):
    spec = dataclasses.replace(PRESETS[preset], scale="max_eps")
    samples = noise(17)
    shifted = np.concatenate([np.zeros(spec.hop_length, np.float32), samples])
    np.testing.assert_allclose(our_db(shifted, spec)[1:], our_db(samples, spec), atol=1e-4)


@every_preset
def test_a_signal_and_its_negative_have_the_same_features(preset):
    np.testing.assert_allclose(our_db(-noise(18), PRESETS[preset]), our_db(noise(18), PRESETS[preset]), atol=1e-4)


def test_magnitudes_of_power_one_grow_with_the_amplitude_and_those_of_power_two_with_its_square():
    for power in (1.0, 2.0):
        spec = FeatureSpec(power=power)
        ratio = mel_spectrogram(3 * noise(19), spec) / mel_spectrogram(noise(19), spec)
        np.testing.assert_allclose(ratio, 3**power, rtol=1e-4)


def test_the_energy_of_all_bands_is_that_of_the_windowed_frames():
    # Parseval: where the triangles overlap evenly, white noise has in each band its variance times the window's energy.
    spec = FeatureSpec(n_fft=1024, n_mels=16)
    mel = mel_spectrogram(noise(20, 400_000, 0.1), spec)[5:-5].mean(axis=0)
    window = np.sin(np.pi * np.arange(1024) / 1024) ** 2
    weights = mel_filter_bank(spec).sum(axis=1)
    np.testing.assert_allclose(mel, 0.01 * (window**2).sum() * weights, rtol=0.03)


def test_the_loudest_value_below_the_maximum_is_zero_and_nothing_is_below_80_decibels():
    decibel = our_db(SIGNALS["silence, then noise"], PRESETS["explore"])
    assert decibel.max() == 0
    assert decibel.min() == -80


def test_silence_is_zero_decibels_relative_and_the_floor_on_absolute_scales():
    silence = SIGNALS["silence"]
    assert (our_db(silence, PRESETS["explore"]) == 0).all()
    floor = 10 * math.log10(EPS)
    np.testing.assert_allclose(our_db(silence, PRESETS["mimii-baseline"]), floor, rtol=1e-6)
    np.testing.assert_allclose(our_db(silence, PRESETS["dcase2020"]), floor, rtol=1e-6)


@every_preset
def test_no_samples_have_no_frames(preset):
    assert our_db(np.empty(0, np.float32), PRESETS[preset]).shape == (0, PRESETS[preset].n_mels)


@pytest.mark.parametrize("power", [1.0, 2.0, 4.0])
def test_a_power_that_is_no_finite_number_is_refused(power):
    with pytest.raises(AudioError, match="finite"):
        mel_spectrogram(np.full(5000, 3e38, np.float32), FeatureSpec(power=power, n_fft=512, hop_length=256))


def test_large_samples_whose_power_is_finite_are_fine():
    assert_as_librosa(1e15 * noise(21), PRESETS["explore"])


def classic_rows(decibel, frames):
    """Stack as the notebooks do: a loop over rows, an inner loop over frames."""
    n_mels = decibel.shape[1]
    count = max(0, len(decibel) - frames + 1)
    rows = np.zeros((count, frames * n_mels), np.float32)
    for row in range(count):
        for frame in range(frames):
            rows[row, frame * n_mels : (frame + 1) * n_mels] = decibel[row + frame]
    return rows


@given(count=st.integers(0, 30), n_mels=st.integers(1, 9), frames=st.integers(1, 12))
def test_rows_are_stacked_as_by_the_classic_loop(count, n_mels, frames):
    decibel = np.arange(count * n_mels, dtype=np.float32).reshape(count, n_mels)
    found = stack_frames(decibel, frames)
    expected = classic_rows(decibel, frames)
    assert found.shape == expected.shape
    assert np.array_equal(found, expected)


def test_stacking_takes_frames_of_any_memory_order_and_copies_no_rows():
    decibel = np.arange(60, dtype=np.float32).reshape(6, 10)[:, ::2]
    assert np.array_equal(stack_frames(decibel, 2), classic_rows(decibel, 2))
    contiguous = np.ascontiguousarray(decibel)
    rows = stack_frames(contiguous, 2)
    assert np.shares_memory(rows, contiguous)
    with pytest.raises(ValueError, match="read-only"):
        rows[0, 0] = 1


@every_preset
def test_frames_are_as_many_as_planned(preset):
    spec = PRESETS[preset]
    for n_samples in (1, 511, 512, 513, 16_000, 16_384):
        assert len(mel_spectrogram(noise(22, n_samples), spec)) == n_frames(n_samples, spec)


@pytest.mark.parametrize(("n_fft", "hop_length"), [(2048, 512), (1023, 700), (512, 5000), (4096, 1)])
def test_blocks_give_the_same_as_the_whole(n_fft, hop_length):
    spec = FeatureSpec(n_fft=n_fft, hop_length=hop_length)
    samples = noise(31, 6000)
    whole = mel_spectrogram(samples, spec)
    for cuts in ([], [1], [2999, 3000, 3001], [0, 5999], list(range(100, 6000, 100))):
        pieces = np.split(samples, cuts)
        np.testing.assert_allclose(mel_spectrogram(SampleBlocks(len(samples), pieces), spec), whole, rtol=1e-5)


@pytest.mark.parametrize("n_frames", [1, 2, 313])
def test_mel_statistics_are_those_of_the_frames(n_frames):
    decibel = np.random.default_rng(n_frames).normal(-40, 12, (n_frames, 64)).astype(np.float32)
    exact = decibel.astype(np.longdouble)
    expected = [exact.mean(axis=0), exact.std(axis=0), exact.max(axis=0)]
    found = mel_statistics(decibel)
    assert (found.shape, found.dtype) == ((3, 64), np.float32)
    np.testing.assert_allclose(found, np.array(expected, float), rtol=2e-7, atol=1e-12)
