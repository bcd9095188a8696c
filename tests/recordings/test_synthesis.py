"""Synthetic sound: like MIMII's in file and level, the same for the same seed, and faulty where labelled so."""

import io
import itertools
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

from mimii.features.decode import read_header
from mimii.features.mel import mel_spectrogram, power_to_db
from mimii.features.spec import PRESETS
from mimii.recordings.clips import ABNORMAL, NORMAL, Identity
from mimii.recordings.paths import identify
from mimii.recordings.synthesis import MACHINES, list_recordings, synthesize, wav_bytes
from mimii.recordings.zenodo import MACHINE_TYPES
from tests.helpers.recordings import noise

every_machine = pytest.mark.parametrize("machine_type", MACHINES)


def who(machine_type="fan", number=0, label=NORMAL, snr_db=6.0, machine_id="id_00"):
    return Identity(machine_type, machine_id, number, snr_db, label)


def test_there_are_the_machines_of_mimii():
    assert tuple(MACHINES) == MACHINE_TYPES == ("fan", "pump", "slider", "valve")


@every_machine
@pytest.mark.parametrize("label", [NORMAL, ABNORMAL])
def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(machine_type, label):
    first = synthesize(who(machine_type, label=label), 0.5, seed=7)
    assert np.array_equal(first, synthesize(who(machine_type, label=label), 0.5, seed=7))
    assert not np.array_equal(first, synthesize(who(machine_type, label=label), 0.5, seed=8))


def test_the_same_seed_gives_the_same_bytes_in_another_process():
    script = (
        "import hashlib; from mimii.recordings.clips import Identity; "
        "from mimii.recordings.synthesis import synthesize; "
        "print(hashlib.sha256(synthesize(Identity('valve', 'id_02', 5, 0.0, 1), 0.5).tobytes()).hexdigest())"
    )
    root = Path(__file__).parents[2]
    digests = {
        subprocess.run([sys.executable, "-c", script], cwd=root, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    }
    assert len(digests) == 1


@pytest.mark.parametrize("seconds", [10.0, 1.0, 0.25, 40.0])
def test_a_clip_is_as_long_as_asked_and_has_eight_microphones(seconds):
    samples = synthesize(who("pump"), seconds)
    assert samples.shape == (round(16_000 * seconds), 8)
    assert samples.dtype == np.int16


def test_a_clip_of_ten_seconds_is_a_file_of_2560080_bytes_with_its_samples_at_byte_80():
    samples = synthesize(who())
    data = wav_bytes(samples)
    assert len(data) == 2_560_080
    assert data[80:] == samples.astype("<i2").tobytes()
    header = read_header(io.BytesIO(data))
    assert (header.sample_rate, header.n_channels, header.n_samples, header.pcm16_offset) == (16_000, 8, 160_000, 80)
    info = soundfile.info(io.BytesIO(data))
    assert (info.format, info.subtype) == ("WAVEX", "PCM_16")


def test_the_header_of_a_real_recording_is_ours_byte_for_byte(real_recordings):
    paths = sorted(real_recordings.rglob("*.wav"))
    assert paths
    ours = wav_bytes(np.zeros((160_000, 8), np.int16))
    for path in paths:
        real = path.read_bytes()
        assert len(real) == len(ours)
        assert real[:80] == ours[:80], path


@pytest.mark.parametrize(("n_channels", "sample_rate"), [(1, 16_000), (2, 44_100), (8, 16_000), (8, 48_000)])
def test_any_samples_are_read_back_from_a_file(n_channels, sample_rate):
    samples = noise(3, 321, n_channels)
    found, rate = soundfile.read(io.BytesIO(wav_bytes(samples, sample_rate)), dtype="int16", always_2d=True)
    assert rate == sample_rate
    assert np.array_equal(found, samples)


@every_machine
@pytest.mark.parametrize("label", [NORMAL, ABNORMAL])
@pytest.mark.parametrize("snr_db", [-6.0, 0.0, 6.0])
def test_levels_are_those_of_mimii_and_nothing_clips(machine_type, label, snr_db):
    for number in range(2):
        samples = synthesize(who(machine_type, number, label, snr_db), 10.0 if number else 2.0) / 32768
        rms = np.sqrt((samples**2).mean(axis=0))
        assert ((rms > 0.003) & (rms < 0.02)).all()
        assert np.abs(samples).max() < 0.99


@every_machine
def test_channels_differ(machine_type):
    samples = synthesize(who(machine_type), 2.0).astype(float)
    for one, other in itertools.combinations(range(8), 2):
        assert not np.array_equal(samples[:, one], samples[:, other])


@every_machine
def test_a_higher_snr_means_less_noise_beside_the_machine(machine_type):
    def noise_level(snr_db):
        samples = synthesize(who(machine_type, snr_db=snr_db), 2.0).astype(float)
        return np.sqrt((samples**2).mean())

    assert noise_level(-6.0) > noise_level(0.0) > noise_level(6.0)


def spectral_shape(identity):
    """Return the mean log-mel spectrum of a clip without its level, in which clips differ on purpose."""
    samples = synthesize(identity)[:, 0] / np.float32(32768)
    spec = PRESETS["mimii-baseline"]
    spectrum = power_to_db(mel_spectrogram(samples, spec), spec).mean(axis=0)
    return spectrum - spectrum.mean()


@every_machine
@pytest.mark.parametrize("machine_id", ["id_00", "id_02"])
def test_a_faulty_machine_differs_clearly_from_a_normal_one(machine_type, machine_id):
    def shapes(numbers, label):
        return np.array([spectral_shape(who(machine_type, n, label, machine_id=machine_id)) for n in numbers])

    known = shapes(range(6), NORMAL).mean(axis=0)
    normal = np.sqrt(((shapes(range(6, 12), NORMAL) - known) ** 2).mean(axis=1))
    faulty = np.sqrt(((shapes(range(6), ABNORMAL) - known) ** 2).mean(axis=1))
    assert faulty.mean() > 1.5 * normal.mean()
    assert faulty.min() > normal.max()


def test_all_clips_of_a_list_differ_in_sound_and_path():
    recordings = list(list_recordings(64))
    assert len({recording.path for recording in recordings}) == 64
    assert len({synthesize(recording.identity, 0.1).tobytes() for recording in recordings}) == 64


def test_paths_say_what_the_clips_are():
    for recording in list_recordings(48, snr_db=-6):
        assert repr(identify(f"/data/{recording.path}")) == repr(recording.identity)  # NaN equals nothing


def test_machines_take_turns_with_three_normal_clips_and_then_an_abnormal_one():
    recordings = list(list_recordings(24, ("fan", "valve"), (4,)))
    assert [recording.identity.machine_type for recording in recordings] == ["fan", "valve"] * 12
    fans = [recording.identity for recording in recordings[::2]]
    assert [one.label for one in fans] == [NORMAL, NORMAL, NORMAL, ABNORMAL] * 3
    assert [one.number for one in fans if one.label == NORMAL] == list(range(9))
    assert [one.number for one in fans if one.label == ABNORMAL] == list(range(3))
    assert {one.machine_id for one in fans} == {"id_04"}


def test_the_first_clips_of_a_longer_list_are_those_of_a_shorter_one():
    assert list(list_recordings(50))[:13] == list(list_recordings(13))


def test_an_unknown_machine_is_refused():
    with pytest.raises(KeyError):
        synthesize(who("teapot"), 0.1)
