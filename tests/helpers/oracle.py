"""What librosa computes of a part of a recording: the rows that a table must have."""

from pathlib import Path

import librosa
import numpy as np
import xarray

from mimii.features import FeatureSpec

EPSILON = np.finfo(float).eps
SCALES = {
    "ref_max": lambda mel, _: librosa.power_to_db(mel, ref=np.max),
    "add_eps": lambda mel, power: 20 / power * np.log10(mel + EPSILON),
    "max_eps": lambda mel, power: 20 / power * np.log10(np.maximum(mel, EPSILON)),
}


def load(path: Path, rate: int, channel: int, start_s: float = 0.0, duration_s: float | None = None) -> np.ndarray:
    """Return a channel, -1 for the mean of all, of a segment, as librosa loads and resamples it."""
    samples, native = librosa.load(path, sr=None, mono=False, offset=start_s, duration=duration_s)
    samples = np.atleast_2d(samples)
    one = librosa.to_mono(samples) if channel == -1 else samples[channel]
    return librosa.resample(one, orig_sr=native, target_sr=rate)


def decibel(samples: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return the log-mel spectrogram, shape (n_frames, n_mels)."""
    mel = librosa.feature.melspectrogram(
        y=samples,
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        win_length=spec.win_length,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        power=spec.power,
    )
    return SCALES[spec.scale](mel, spec.power).T


def stack(decibels: np.ndarray, spec: FeatureSpec) -> np.ndarray:
    """Return rows of frames."""
    firsts = range(0, len(decibels) - spec.frames + 1, spec.stride)
    return np.array([decibels[first : first + spec.frames].ravel() for first in firsts]).reshape(-1, spec.n_features)


def check_table(table: xarray.Dataset, spec: FeatureSpec, atol: float = 1e-3) -> int:
    """Compare every clip that could be used with librosa; return how many there are."""
    n_checked = 0
    for clip in np.flatnonzero(table.status.values == "ok").tolist():
        one = table.isel(clip=clip)
        where = (float(one.start_s), float(one.duration_s)) if spec.segment is not None else (0.0, None)
        decibels = decibel(load(Path(str(one.path.values)), spec.sample_rate, int(one.channel), *where), spec)
        first, rows = int(one.first_row), stack(decibels, spec)
        found = table.features.values[first : first + int(one.n_rows)].astype(np.float32)
        np.testing.assert_allclose(found, rows, rtol=0, atol=atol, err_msg=f"clip {clip}")
        statistics = [one.mel_mean.values, one.mel_std.values, one.mel_max.values]
        expected = [decibels.mean(axis=0), decibels.std(axis=0), decibels.max(axis=0)]
        np.testing.assert_allclose(statistics, expected, rtol=0, atol=1e-3, err_msg=f"clip {clip}")
        n_checked += 1
    return n_checked
