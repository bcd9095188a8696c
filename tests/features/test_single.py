"""One recording, or samples, to its log-mel spectrogram: what librosa computes, and what a table's rows are made of."""

import os
from pathlib import Path

import librosa
import numpy as np
import pytest
import soundfile

import mimii
from mimii.features import SCALES
from tests.helpers.archives import pack
from tests.helpers.commands import open_table, rows_by_path
from tests.helpers.recordings import write_clip
from tests.helpers.servers import client

SPECS = {
    "explore": mimii.FeatureSpec(),
    "second channel": mimii.FeatureSpec(channel=1, n_fft=1024),
    "mimii-baseline": mimii.FeatureSpec.preset("mimii-baseline", frames=3),
    "dcase2020": mimii.FeatureSpec.preset("dcase2020", hop_length=300),
}


def librosa_db(samples, spec):
    mel = librosa.feature.melspectrogram(
        y=samples, sr=spec.sample_rate, n_fft=spec.n_fft, hop_length=spec.hop_length, n_mels=spec.n_mels,
        pad_mode="constant",
    )  # fmt: skip
    return librosa.power_to_db(mel, ref=np.max).T


@pytest.fixture
def path(tmp_path):
    return write_clip(tmp_path / "press.wav", 5, 30_000, n_channels=2)


def test_a_file_is_what_librosa_computes(path):
    decibel = mimii.log_mel(path)
    assert (decibel.shape, decibel.dtype) == ((59, 64), np.float32)
    samples, _ = librosa.load(path, sr=None, mono=False)
    np.testing.assert_allclose(decibel, librosa_db(samples[0], mimii.FeatureSpec()), rtol=0, atol=1e-3)
    other = mimii.FeatureSpec(channel=1, n_fft=1024, hop_length=300, n_mels=40)
    np.testing.assert_allclose(mimii.log_mel(path, other), librosa_db(samples[1], other), rtol=0, atol=1e-3)


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_may_be_text_or_a_path(path, kind):
    np.testing.assert_array_equal(mimii.log_mel(kind(path)), mimii.log_mel(path))


@pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
def test_a_tables_rows_are_its_frames_side_by_side(tmp_path, spec):
    for seed in range(3):
        write_clip(tmp_path / "raw" / f"{seed}.wav", seed, 20_000 + seed, n_channels=2)
    plan = mimii.plan_table(mimii.find_recordings(str(tmp_path / "raw")), spec, split="none")
    mimii.featurize(plan, str(tmp_path / "out"))
    for name, rows in rows_by_path(open_table(tmp_path / "out")).items():
        decibel = mimii.log_mel(tmp_path / "raw" / name, spec)
        n_rows = len(decibel) - spec.frames + 1
        expected = [decibel[row : row + spec.frames].ravel() for row in range(n_rows)]
        np.testing.assert_array_equal(rows, expected)


@pytest.mark.parametrize("how", [np.asarray, list, lambda samples: samples.astype(float)])
def test_samples_are_as_the_file_that_holds_them(path, how):
    samples, _ = soundfile.read(path, dtype="float32")
    np.testing.assert_array_equal(mimii.log_mel(how(samples[:, 0])), mimii.log_mel(path))
    np.testing.assert_array_equal(mimii.log_mel(how(samples[:, 0]), sample_rate=16_000), mimii.log_mel(path))


@pytest.mark.parametrize("rate", [8000, 11_025, 44_100, 96_000])
def test_samples_and_files_of_another_rate_are_resampled_as_librosa_does(tmp_path, rate):
    path = write_clip(tmp_path / "a.wav", rate, 2 * rate + 123, sample_rate=rate)
    spec = mimii.FeatureSpec.preset("dcase")
    samples, _ = librosa.load(path, sr=16_000)
    mel = librosa.feature.melspectrogram(y=samples, sr=16_000, n_fft=1024, hop_length=512, n_mels=128)
    expected = SCALES["max_eps"].published(mel, 2.0).T
    np.testing.assert_allclose(mimii.log_mel(path, spec), expected, rtol=0, atol=1e-3)
    loaded, _ = librosa.load(path, sr=None)
    np.testing.assert_allclose(mimii.log_mel(loaded, spec, sample_rate=rate), expected, rtol=0, atol=1e-3)
    assert len(mimii.log_mel(path, mimii.FeatureSpec(sample_rate=rate))) == 1 + (2 * rate + 123) // 512


def test_integers_are_scaled_as_soundfile_scales_them(path):
    expected = mimii.log_mel(path)
    for kind in ("int16", "int32", "float64"):
        samples, _ = soundfile.read(path, dtype=kind)
        np.testing.assert_allclose(mimii.log_mel(samples[:, 0]), expected, rtol=0, atol=1e-4)


def test_channels_of_files_and_samples_are_one_or_their_mean_or_all(path):
    samples, _ = soundfile.read(path, dtype="float32")
    one, two = (mimii.log_mel(path, mimii.FeatureSpec(channel=channel)) for channel in (0, 1))
    for recording in (path, samples.T):
        found = mimii.log_mel(recording, mimii.FeatureSpec(channel="all"))
        np.testing.assert_array_equal(found, np.stack([one, two]))
        mixed = mimii.log_mel(recording, mimii.FeatureSpec(channel="mean"))
        expected = librosa_db(librosa.to_mono(samples.T), mimii.FeatureSpec())
        np.testing.assert_allclose(mixed, expected, rtol=0, atol=1e-3)


@pytest.mark.parametrize(
    ("samples", "error", "message"),
    [
        (np.zeros(100, np.uint8), TypeError, "samples must be float32, float64, int16, int32, not uint8"),
        (np.zeros(100, complex), TypeError, "not complex128"),
        (np.zeros((2, 2, 100)), ValueError, r"shape \(n_samples,\) or \(n_channels, n_samples\), not \(2, 2, 100\)"),
        (np.zeros((16_000, 2)), ValueError, "more channels than samples: give the transpose"),
        (np.full(16_000, np.nan), mimii.AudioError, "NaN or infinite samples"),
        (np.zeros((1, 16_000)), mimii.AudioError, "no channel 1: the recording has 1"),
    ],
    ids=["bytes", "complex", "cube", "transpose", "nan", "channel"],
)
def test_samples_of_another_kind_are_refused_with_what_to_give(samples, error, message):
    with pytest.raises(error, match=message):
        mimii.log_mel(samples, mimii.FeatureSpec(channel=1 if samples.shape == (1, 16_000) else 0))


@pytest.mark.parametrize("rate", [0, -1, float("nan"), 44_100.5, "16k"])
def test_a_sample_rate_that_is_none_is_refused(rate):
    with pytest.raises(ValueError, match="sample_rate must be a whole number of Hz, at least 1, not"):
        mimii.log_mel(np.zeros(16_000, np.float32), sample_rate=rate)


def test_what_is_no_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "pipe.wav")
    for path in (tmp_path, tmp_path / "pipe.wav"):
        with pytest.raises(mimii.AudioError, match="not a regular file"):
            mimii.log_mel(path)


def test_what_makes_no_sense_together_is_refused(path):
    with pytest.raises(ValueError, match=r"sample_rate is for samples: .*press\.wav says its own"):
        mimii.log_mel(path, sample_rate=16_000)
    with pytest.raises(ValueError, match="log_mel takes a whole recording"):
        mimii.log_mel(path, mimii.FeatureSpec(segment=1.0))


def test_a_file_that_cannot_be_used_is_refused_with_the_reason(tmp_path, path):
    with pytest.raises(FileNotFoundError):
        mimii.log_mel(tmp_path / "missing.wav")
    (tmp_path / "text.wav").write_text("no sound" * 100)
    with pytest.raises(mimii.AudioError, match="not audio"):
        mimii.log_mel(tmp_path / "text.wav")
    with pytest.raises(mimii.AudioError, match="no channel 2: the recording has 2"):
        mimii.log_mel(path, mimii.FeatureSpec(channel=2))


def test_an_object_on_s3_is_as_a_file(moto, use, path):
    use(moto)
    client(moto).create_bucket(Bucket="single")
    client(moto).put_object(Bucket="single", Key="a b.wav", Body=path.read_bytes())
    np.testing.assert_array_equal(mimii.log_mel("s3://single/a b.wav"), mimii.log_mel(path))
    with pytest.raises(FileNotFoundError, match=r"s3://single/missing\.wav: no such object"):
        mimii.log_mel("s3://single/missing.wav")


def test_one_in_an_archive_is_as_the_file_that_was_packed(moto, use, tmp_path, path):
    archive = pack(tmp_path / "raw.zip", {"press.wav": path.read_bytes()})
    np.testing.assert_array_equal(mimii.log_mel(f"{archive}/press.wav"), mimii.log_mel(path))
    with pytest.raises(FileNotFoundError, match=r"raw\.zip/other\.wav: no such recording in the archive"):
        mimii.log_mel(f"{archive}/other.wav")
    with pytest.raises(FileNotFoundError):
        mimii.log_mel(tmp_path / "missing.zip/press.wav")
    use(moto)
    client(moto).create_bucket(Bucket="packed")
    client(moto).put_object(Bucket="packed", Key="raw.zip", Body=archive.read_bytes())
    np.testing.assert_array_equal(mimii.log_mel("s3://packed/raw.zip/press.wav"), mimii.log_mel(path))
    archive.write_bytes(archive.read_bytes()[:-30])
    with pytest.raises(mimii.AudioError, match=r"raw\.zip: not a whole zip archive"):
        mimii.log_mel(f"{archive}/press.wav")


def test_the_name_of_a_preset_is_refused_with_what_to_give(path):
    with pytest.raises(TypeError, match=r'such as mimii\.FeatureSpec\.preset\("explore"\), not \'explore\''):
        mimii.log_mel(path, "explore")
