"""A clip as detectors take it: statistics of its mel bands, its frames, the windows that scores over time are of.

A maximum over an hour is another number than one over ten seconds. So a recording that is much longer than the clips
that a model was learned from is cut into pieces of their length, and one that is much shorter has no score.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec, FloatArray, mel_statistics

WINDOW_S = 0.5
"""Seconds that a score over time is of, about: a whole number of frames."""

_LONG = 1.5


@dataclass(frozen=True, slots=True)
class Pooling:
    """How clips are made comparable with the training clips of a machine.

    Attributes
    ----------
    spec : FeatureSpec
        Of the frames.
    most_frames : int
        Of a training clip: a clip of more than 1.5 times as many is cut into pieces.
    level : float
        dB, the mean of the means of the bands of the training clips.
    least_frames : int
        Of a training clip: of a clip with fewer than two thirds of them, there is no score.

    """

    spec: FeatureSpec
    most_frames: int
    level: float
    least_frames: int = 0

    def is_short(self, n_frames: int) -> bool:
        """Say whether a clip is too short to be compared."""
        return n_frames * _LONG < self.least_frames

    def is_long(self, n_frames: int) -> bool:
        """Say whether a clip is cut into pieces."""
        return n_frames > _LONG * self.most_frames


@dataclass(frozen=True, slots=True)
class ClipFeatures:
    """What detectors take of a clip.

    Attributes
    ----------
    statistics : ndarray of float32, shape (3, n_mels)
        dB: mean, standard deviation and maximum of each mel band; of a long clip, the means of its pieces'.
    pieces : tuple of ndarray of float32, shape (n_frames, n_mels)
        dB; empty where no detector needs them.
    is_short : bool
        Whether it is too short to be compared.

    """

    statistics: FloatArray
    pieces: tuple[FloatArray, ...] = ()
    is_short: bool = False


def pool(decibel: FloatArray, pooling: Pooling) -> ClipFeatures:
    """Return what detectors take of a clip, from its spectrogram, shape (n_frames, n_mels), in dB."""
    frames = stored_frames(decibel, pooling.spec)
    if pooling.is_long(len(frames)):
        return pool_pieces(frames, pooling)
    return ClipFeatures(mel_statistics(decibel), (frames,), pooling.is_short(len(frames)))


def pool_pieces(frames: FloatArray, pooling: Pooling) -> ClipFeatures:
    """Return what detectors take of a clip that is cut into pieces."""
    pieces = tuple(_cut(frames, pooling))
    statistics = np.stack([mel_statistics(piece) for piece in pieces])
    return ClipFeatures(statistics.mean(axis=0, dtype=np.float64).astype(np.float32), pieces)


def stored_frames(decibel: FloatArray, spec: FeatureSpec) -> FloatArray:
    """Return the frames of a clip as they come back from a table: those that are in a row, as its type rounds them.

    Where rows leave frames out between them, these are as the one before.
    """
    n_rows = (len(decibel) - spec.frames) // spec.stride + 1
    kept = decibel[: (n_rows - 1) * spec.stride + spec.frames]
    if spec.stride > spec.frames:
        kept = fill_frames(kept, np.arange(len(kept)) % spec.stride < spec.frames)
    return kept.astype(spec.dtype).astype(np.float32, copy=False)


def fill_frames(frames: FloatArray, known: NDArray[np.bool_]) -> FloatArray:
    """Return frames with the last known one before it in the place of each that is not known; the first one is."""
    return frames[np.maximum.accumulate(np.where(known, np.arange(len(frames)), 0))]


def window_frames(spec: FeatureSpec) -> int:
    """Return how many frames a window has."""
    return max(1, round(WINDOW_S * spec.sample_rate / spec.hop_length))


def window_starts(n_frames: int, spec: FeatureSpec) -> NDArray[np.intp]:
    """Return the first frame of each window of a piece; the last one is 0.5 to 1.5 windows long."""
    length = window_frames(spec)
    return np.arange(max(1, round(n_frames / length))) * length


def window_times(features: ClipFeatures, spec: FeatureSpec) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return when each window of a clip starts and stops, in seconds from its start."""
    frame_s, begin, starts = spec.hop_length / spec.sample_rate, 0, []
    for piece in features.pieces:
        starts.append(begin + window_starts(len(piece), spec))
        begin += len(piece)
    edges = np.append(np.concatenate(starts), begin) * frame_s
    return edges[:-1], edges[1:]


def window_statistics(features: ClipFeatures, pooling: Pooling) -> FloatArray:
    """Return mean and maximum of each band in each window of a clip, shape (n_windows, 2, n_mels)."""
    return np.concatenate([_window_statistics(piece, pooling.spec) for piece in levelled(features, pooling)])


def levelled(features: ClipFeatures, pooling: Pooling) -> Iterator[FloatArray]:
    """Yield the pieces of a clip; of features that are deaf to level, at the level of the training clips.

    There, dB are relative to the maximum of the clip: one loud moment makes all others quieter.
    """
    for piece in features.pieces:
        is_deaf = pooling.spec.is_deaf_to_level
        yield piece - np.float32(piece.mean(dtype=np.float64) - pooling.level) if is_deaf else piece


def _window_statistics(frames: FloatArray, spec: FeatureSpec) -> FloatArray:
    starts = window_starts(len(frames), spec)
    lengths = np.diff(np.append(starts, len(frames)))
    means = np.add.reduceat(frames, starts, axis=0, dtype=np.float64) / lengths[:, np.newaxis]
    return np.stack([means, np.maximum.reduceat(frames, starts, axis=0)], axis=1).astype(np.float32)


def _cut(frames: FloatArray, pooling: Pooling) -> Iterator[FloatArray]:
    """Yield pieces of about the length of a training clip, each of whole windows but for the last one."""
    n_frames, unit = len(frames), window_frames(pooling.spec)
    wanted = n_frames / max(1, round(n_frames / pooling.most_frames))
    length = max(unit * max(1, round(wanted / unit)), pooling.spec.frames)
    n_pieces = max(1, (n_frames - pooling.spec.frames) // length + 1)
    for start in range(0, n_pieces * length, length):
        piece = frames[start : start + length if start + length < n_pieces * length else None]
        yield piece - piece.max() if pooling.spec.is_deaf_to_level else piece
