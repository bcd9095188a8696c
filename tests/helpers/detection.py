"""Machines that tests make of frames alone, without recordings: what their clips, windows and rows are, in loops."""

import math
from collections.abc import Sequence

import numpy as np

from mimii.detection.examples import Examples
from mimii.detection.pooling import ClipFeatures, Pooling
from mimii.features import FeatureSpec

SPEC = FeatureSpec(n_fft=256, hop_length=800, n_mels=8, frames=3, scale="max_eps")
"""20 frames a second: a window of half a second has 10."""

WINDOW = 10


def spectrogram(seed: int, n_frames: int = 40, n_mels: int = 8) -> np.ndarray:
    """Return dB that 4 sources make, with a little noise: each seed another clip of one machine."""
    rng, mixing = np.random.default_rng(seed), np.random.default_rng(99).standard_normal((4, n_mels))
    sources = 5 * rng.standard_normal((n_frames, 4)) + rng.standard_normal(4)
    return (sources @ mixing + 0.3 * rng.standard_normal((n_frames, n_mels)) - 50).astype(np.float32)


def spectrograms(n_clips: int, first_seed: int = 0, n_frames: int = 40) -> list[np.ndarray]:
    return [spectrogram(seed, n_frames) for seed in range(first_seed, first_seed + n_clips)]


def statistics_of(decibel: np.ndarray) -> np.ndarray:
    """Return mean, deviation and maximum of each band."""
    values = decibel.astype(np.float64)
    return np.stack([values.mean(axis=0), values.std(axis=0), values.max(axis=0)]).astype(np.float32)


def rows_of(decibel: np.ndarray, spec: FeatureSpec = SPEC) -> np.ndarray:
    firsts = range(0, len(decibel) - spec.frames + 1, spec.stride)
    return np.stack([decibel[first : first + spec.frames].ravel() for first in firsts])


def windows_of(decibel: np.ndarray) -> np.ndarray:
    """Return mean and maximum of each band in windows of half a second, for a whole number of these."""
    parts = [decibel[start : start + WINDOW] for start in range(0, len(decibel), WINDOW)]
    return np.stack([[part.mean(axis=0, dtype=np.float64), part.max(axis=0)] for part in parts]).astype(np.float32)


def features_of(decibel: np.ndarray) -> ClipFeatures:
    return ClipFeatures(statistics_of(decibel), (decibel,))


def examples_of(
    clips: Sequence[np.ndarray],
    domains: Sequence[str] = (),
    spec: FeatureSpec = SPEC,
    block: int = 1000,
    epochs: list[int] | None = None,
) -> Examples:
    """Return normal clips to learn from; rows come in their order, in blocks; epochs notes which were asked for."""

    def read(places: Sequence[int], epoch: int):
        if epochs is not None:
            epochs.append(epoch)
        rows = [rows_of(clips[place], spec) for place in places]
        every = np.concatenate(rows) if rows else np.empty((0, spec.n_features), np.float32)
        return (every[start : start + block] for start in range(0, len(every), block))

    level = float(np.mean([clip.mean(dtype=np.float64) for clip in clips])) if clips else math.nan
    return Examples(
        Pooling(spec, max(map(len, clips), default=0), level),
        np.stack([statistics_of(clip) for clip in clips]) if clips else np.empty((0, 3, spec.n_mels), np.float32),
        tuple(domains) or ("",) * len(clips),
        tuple(range(len(clips))),
        tuple(windows_of(clip) for clip in clips),
        tuple(range(len(clips))),
        read,
    )
