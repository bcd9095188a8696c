"""Where features are, in seconds and Hz."""

import numpy as np
from numpy.typing import NDArray

from mimii.features.mel import band_centres
from mimii.features.spec import FeatureSpec, frame_seconds


def feature_offsets(spec: FeatureSpec) -> NDArray[np.float64]:
    """Return how long after the first frame of its row each feature is, in s, shape (n_features,)."""
    return np.repeat(np.arange(spec.frames) * frame_seconds(spec), spec.n_mels)


def feature_frequencies(spec: FeatureSpec) -> NDArray[np.float64]:
    """Return the centre of the mel band of each feature in Hz, shape (n_features,)."""
    return np.tile(band_centres(spec), spec.frames)


def describe_feature(row: int, feature: int, spec: FeatureSpec) -> str:
    """Say where in a clip a feature of a row is: ``0.096 s, 234 Hz``; the time is the centre of its frame."""
    frame, band = row * spec.stride + feature // spec.n_mels, feature % spec.n_mels
    return f"{frame * frame_seconds(spec):.3f} s, {band_centres(spec)[band]:.0f} Hz"
