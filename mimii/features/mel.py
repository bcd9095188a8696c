"""The kernels: samples to mel power spectrogram to dB to rows of stacked frames.

All follow librosa's conventions (periodic Hann window, centred frames with zero padding, Slaney mel scale with area
normalisation) and agree with it within 1e-3 dB. librosa multiplies by a float64 window and so transforms in float64;
here a transform is float32, half the work, wherever that is exact enough, and float64 where it is not.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided, sliding_window_view
from numpy.typing import NDArray

from mimii.features.fourier import rfft
from mimii.features.scales import SCALES
from mimii.features.spec import FeatureSpec, n_frames
from mimii.storage import AudioError

FloatArray = NDArray[np.float32]

_BLOCK_FRAMES = 80
_MOST_WEIGHTS_A_GROUP = 1024
_QUIET = 1e-5

_MEL_HZ, _LOG_HZ, _LOG_STEP = 200.0 / 3, 1000.0, np.log(6.4) / 27.0


def hz_to_mel(hz: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Convert Hz to mel on Slaney's scale: linear below 1 kHz (3 mel per 200 Hz), logarithmic above.

    Parameters
    ----------
    hz : float or ndarray
        Frequencies in Hz, not negative.

    Returns
    -------
    ndarray
        Mel; 1 kHz is 15 mel. The same as ``librosa.hz_to_mel(hz, htk=False)``.

    """
    hz = np.asarray(hz, np.float64)
    log_part = _LOG_HZ / _MEL_HZ + np.log(np.maximum(hz, _LOG_HZ) / _LOG_HZ) / _LOG_STEP
    return np.where(hz >= _LOG_HZ, log_part, hz / _MEL_HZ)


def mel_to_hz(mel: NDArray[np.float64] | float) -> NDArray[np.float64]:
    """Convert mel on Slaney's scale to Hz, the inverse of `hz_to_mel`.

    Parameters
    ----------
    mel : float or ndarray
        Mel, not negative.

    Returns
    -------
    ndarray
        Hz. The same as ``librosa.mel_to_hz(mel, htk=False)``.

    """
    mel = np.asarray(mel, np.float64)
    log_part = _LOG_HZ * np.exp(_LOG_STEP * (mel - _LOG_HZ / _MEL_HZ))
    return np.where(mel >= _LOG_HZ / _MEL_HZ, log_part, _MEL_HZ * mel)


def mel_frequencies(n: int, fmin: float, fmax: float) -> NDArray[np.float64]:
    """Return `n` frequencies, equally spaced in mel, from `fmin` to `fmax`.

    Parameters
    ----------
    n : int
        How many.
    fmin, fmax : float
        Hz.

    Returns
    -------
    ndarray of float64, shape (n,)
        Hz.

    """
    return mel_to_hz(np.linspace(hz_to_mel(fmin), hz_to_mel(fmax), n))


def band_centres(spec: FeatureSpec) -> NDArray[np.float64]:
    """Return the centre of each mel band in Hz, shape (n_mels,)."""
    return mel_frequencies(spec.n_mels + 2, spec.fmin, spec.highest_frequency)[1:-1]


def mel_filter_bank(spec: FeatureSpec) -> FloatArray:
    """Build triangular filters, equally spaced in mel, each with an area of 1 Hz.

    Computed here and not by ``librosa.filters.mel``, whose values it has bit for bit (a test holds the two side by
    side), because importing librosa costs a second of every run and 150 MB of every worker.

    Parameters
    ----------
    spec : FeatureSpec
        Uses sample_rate, n_fft, n_mels, fmin and fmax.

    Returns
    -------
    ndarray of float32, shape (n_mels, 1 + n_fft // 2)
        The weight of each frequency bin in each band.

    Examples
    --------
    >>> mel_filter_bank(FeatureSpec()).shape
    (64, 1025)

    """
    bins = np.fft.rfftfreq(spec.n_fft, 1 / spec.sample_rate)
    edges = mel_frequencies(spec.n_mels + 2, spec.fmin, spec.highest_frequency)
    widths = np.diff(edges)
    ramps = np.subtract.outer(edges, bins)
    lower = -ramps[:-2] / widths[:-1, np.newaxis]
    upper = ramps[2:] / widths[1:, np.newaxis]
    filters: FloatArray = np.maximum(0, np.minimum(lower, upper)).astype(np.float32)
    filters *= (2.0 / (edges[2:] - edges[:-2]))[:, np.newaxis]
    return filters


def count_empty_bands(spec: FeatureSpec) -> int:
    """Count the mel bands so narrow that they hold no frequency bin: their power is 0 always.

    Parameters
    ----------
    spec : FeatureSpec
        Uses sample_rate, n_fft, n_mels, fmin and fmax.

    Returns
    -------
    int
        0 for sensible parameters.

    """
    return int((~mel_filter_bank(spec).any(axis=1)).sum())


@dataclass(frozen=True, slots=True)
class _Group:
    """Neighbouring mel bands, the range of bins that they cover, and their weights, shape (bins, bands).

    Most of a filter bank is zeros: a few small products are several times faster than one with the whole matrix.
    """

    bands: slice
    bins: slice
    weights: NDArray[np.floating]


@dataclass(frozen=True, slots=True)
class _Constants:
    """What depends on the spec alone. In ``pairs`` each bin is two: the squares of its real and imaginary part."""

    window: FloatArray
    exact_window: NDArray[np.float64]
    groups: tuple[_Group, ...]
    pairs: tuple[_Group, ...]
    ones: FloatArray
    quiet: FloatArray


@lru_cache(maxsize=8)
def _constants(spec: FeatureSpec) -> _Constants:
    filters = mel_filter_bank(spec)
    window = _window(spec.win_length or spec.n_fft, spec.n_fft)
    n_bins = filters.shape[1]
    return _Constants(
        window=window.astype(np.float32),
        exact_window=window,
        groups=tuple(_groups(filters)),
        pairs=tuple(_groups(np.repeat(filters, 2, axis=1))),
        ones=np.ones((2 * n_bins, 1), np.float32),
        quiet=filters.sum(axis=1) * np.float32(_QUIET / n_bins),
    )


def _window(length: int, n_fft: int) -> NDArray[np.float64]:
    """Return a periodic Hann window in the middle of `n_fft` samples."""
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(length) / length)
    before = (n_fft - length) // 2
    return np.pad(window, (before, n_fft - length - before))


def _groups(filters: FloatArray) -> Iterator[_Group]:
    start = 0
    while start < len(filters):
        stop, bins = start + 1, _used(filters[start : start + 1])
        while stop < len(filters):
            wider = _used(filters[start : stop + 1])
            if (wider.stop - wider.start) * (stop + 1 - start) > _MOST_WEIGHTS_A_GROUP:
                break
            stop, bins = stop + 1, wider
        yield _Group(slice(start, stop), bins, np.ascontiguousarray(filters[start:stop, bins].T))
        start = stop


def _used(filters: FloatArray) -> slice:
    used = np.flatnonzero(filters.any(axis=0))
    return slice(int(used[0]), int(used[-1]) + 1) if len(used) else slice(0, 1)


@dataclass(frozen=True, slots=True)
class SampleBlocks:
    """Samples of one channel that come block by block, so that a long recording need not fit in memory.

    Attributes
    ----------
    n_samples : int
        Samples in all.
    blocks : iterable of ndarray of float32, shape (any,)
        In order; can be read once.

    """

    n_samples: int
    blocks: Iterable[FloatArray]


def mel_spectrogram(samples: FloatArray | SampleBlocks, spec: FeatureSpec) -> FloatArray:
    """Compute the mel spectrogram ``M[t, m] = sum_k W[m, k] * |X[t, k]| ** power``.

    ``X[t]`` is the Fourier transform of the Hann-windowed frame centred on sample ``t * hop_length``, with zeros
    beyond both ends, and ``W`` is `mel_filter_bank`.

    Parameters
    ----------
    samples : ndarray of float32, shape (n_samples,), or SampleBlocks
        One channel, full scale is 1. Of blocks, one at a time is in memory.
    spec : FeatureSpec
        Uses sample_rate, n_fft, win_length, hop_length, n_mels, fmin, fmax and power.

    Returns
    -------
    ndarray of float32, shape (n_frames, n_mels)
        As ``librosa.feature.melspectrogram(y=samples, ...).T``.

    Raises
    ------
    AudioError
        If the samples are so large that the power is not finite, or if reading the next block fails.

    """
    if isinstance(samples, np.ndarray):
        samples = SampleBlocks(len(samples), [samples])
    constants = _constants(spec)
    mel = np.empty((n_frames(samples.n_samples, spec), spec.n_mels), np.float32)
    done = 0
    with np.errstate(over="ignore", invalid="ignore"):
        for framed in _frame_blocks(samples, spec):
            mel[done : done + len(framed)] = _mel(framed, constants, spec.power)
            done += len(framed)
    if not np.isfinite(mel).all():
        msg = "samples so large that their power is not a finite number"
        raise AudioError(msg)
    return mel


def _frame_blocks(samples: SampleBlocks, spec: FeatureSpec) -> Iterator[FloatArray]:
    """View padded samples as frames, shape (any, n_fft); what a frame still lacks waits for the next block."""
    padding = np.zeros(spec.n_fft // 2, np.float32)
    waiting, skip, left = padding, 0, samples.n_samples
    for block in samples.blocks:
        left -= len(block)
        joined = np.concatenate([waiting, block, padding] if left == 0 else [waiting, block])
        if len(block) and len(joined) - skip >= spec.n_fft:
            framed = sliding_window_view(joined[skip:], spec.n_fft)[:: spec.hop_length]
            yield framed
            skip += len(framed) * spec.hop_length
        # A hop may lead beyond what has come so far.
        waiting, skip = joined[skip:], max(0, skip - len(joined))


def _mel(framed: FloatArray, constants: _Constants, power: float) -> FloatArray:
    """Compute the mel spectrogram in float32, and in float64 where that is not exact enough."""
    if power != 2:
        return _exact_mel(framed, np.arange(len(framed)), constants, power)
    mel, exact_enough = _fast_mel(framed, constants)
    if not exact_enough.all():
        mel[~exact_enough] = _exact_mel(framed, np.flatnonzero(~exact_enough), constants, power)
    return mel


def _fast_mel(framed: FloatArray, constants: _Constants) -> tuple[FloatArray, NDArray[np.bool_]]:
    """Compute mel power in float32; say for each frame whether that was exact enough.

    The rounding errors of a float32 transform are spread evenly over its bins, some 140 dB below their mean power: a
    mel band more than 50 dB below the mean may be off by 1e-3 dB.
    """
    mel = np.empty((len(framed), len(constants.quiet)), np.float32)
    total = np.empty((len(framed), 1), np.float32)
    windowed = np.empty((_BLOCK_FRAMES, framed.shape[1]), np.float32)
    for start in range(0, len(framed), _BLOCK_FRAMES):
        block = slice(start, min(start + _BLOCK_FRAMES, len(framed)))
        pairs = _power_pairs(framed[block], constants.window, windowed[: block.stop - start])
        _sum_bands(pairs, constants.pairs, mel[block])
        np.matmul(pairs, constants.ones, out=total[block])
        del pairs  # before the next are made: both would not fit in the cache
    return mel, np.all(mel >= constants.quiet * total, axis=1)


def _power_pairs(framed: FloatArray, window: FloatArray, windowed: FloatArray) -> FloatArray:
    """Compute the squares of the real and the imaginary parts of a block's spectrum, shape (n_frames, n_fft + 2)."""
    np.einsum("tn,n->tn", framed, window, out=windowed)
    pairs: FloatArray = rfft(windowed).view(np.float32)
    return np.multiply(pairs, pairs, out=pairs)


def _exact_mel(framed: FloatArray, which: NDArray[np.intp], constants: _Constants, power: float) -> FloatArray:
    mel = np.empty((len(which), len(constants.quiet)), np.float32)
    for start in range(0, len(which), _BLOCK_FRAMES):
        block = slice(start, start + _BLOCK_FRAMES)
        spectrum = rfft(framed[which[block]] * constants.exact_window)
        _sum_bands(np.abs(spectrum) ** power, constants.groups, mel[block])
    return mel


def _sum_bands(power: NDArray[np.floating], groups: tuple[_Group, ...], out: FloatArray) -> None:
    for group in groups:
        np.matmul(power[:, group.bins], group.weights, out=out[:, group.bands])


def power_to_db(mel: FloatArray, spec: FeatureSpec) -> FloatArray:
    """Convert a mel spectrogram to dB; the formulas are in `mimii.features.scales`.

    Parameters
    ----------
    mel : ndarray of float32, shape (n_frames, n_mels)
        A whole clip: the reference may be its maximum.
    spec : FeatureSpec
        Uses scale and power.

    Returns
    -------
    ndarray of float32, shape (n_frames, n_mels)
        dB.

    """
    return SCALES[spec.scale].kernel(mel, spec.power)


def mel_statistics(decibel: FloatArray) -> FloatArray:
    """Compute the mean, the standard deviation and the maximum of each mel band over the frames of a clip.

    Parameters
    ----------
    decibel : ndarray of float32, shape (n_frames, n_mels)
        dB; at least one frame.

    Returns
    -------
    ndarray of float32, shape (3, n_mels)
        dB: ``mean(x)``, ``sqrt(mean((x - mean(x))**2))``, ``max(x)``, computed in float64.

    """
    values, weights = decibel.astype(np.float64), np.full(len(decibel), 1 / len(decibel))
    mean = weights @ values  # a third of the time of np.mean over the frames
    values -= mean
    values *= values
    return np.stack([mean, np.sqrt(weights @ values), decibel.max(axis=0)]).astype(np.float32)


def stack_frames(decibel: FloatArray, frames: int, stride: int = 1) -> FloatArray:
    """Stack successive frames into rows: row t begins with frame ``t * stride`` and has `frames` of them, oldest first.

    Parameters
    ----------
    decibel : ndarray of float32, shape (n_frames, n_mels)
        C-contiguous.
    frames : int
        Frames in a row.
    stride : int
        Frames from one row to the next.

    Returns
    -------
    ndarray of float32, shape (max(0, (n_frames - frames) // stride + 1), frames * n_mels)
        A read-only view: nothing is copied, since a row begins ``stride * n_mels`` after the one before.

    Examples
    --------
    >>> stack_frames(np.arange(8, dtype=np.float32).reshape(4, 2), 3)
    array([[0., 1., 2., 3., 4., 5.],
           [2., 3., 4., 5., 6., 7.]], dtype=float32)

    """
    decibel = np.ascontiguousarray(decibel)
    count, n_mels = decibel.shape
    shape = (max(0, (count - frames) // stride + 1), frames * n_mels)
    strides = (stride * n_mels * decibel.itemsize, decibel.itemsize)
    return as_strided(decibel, shape, strides, writeable=False)


def unstack_rows(rows: FloatArray, frames: int, stride: int = 1) -> FloatArray:
    """Recover the frames that rows are made of: what `stack_frames` was given, but for frames that are in no row.

    Parameters
    ----------
    rows : ndarray of float32, shape (n_rows, frames * n_mels)
        Successive rows of one clip, at least one.
    frames : int
        Frames in a row.
    stride : int
        Frames from one row to the next.

    Returns
    -------
    ndarray of float32, shape ((n_rows - 1) * stride + frames, n_mels)
        dB; NaN where frames between two rows are in neither.

    Examples
    --------
    >>> unstack_rows(stack_frames(np.arange(8, dtype=np.float32).reshape(4, 2), 3), 3)
    array([[0., 1.],
           [2., 3.],
           [4., 5.],
           [6., 7.]], dtype=float32)

    """
    n_rows, n_mels = len(rows), rows.shape[1] // frames
    new = min(stride, frames)
    decibel = np.full((n_rows * stride, n_mels), np.nan, rows.dtype)
    decibel.reshape(n_rows, stride, n_mels)[:, :new] = rows[:, : new * n_mels].reshape(n_rows, new, n_mels)
    last = rows[-1].reshape(frames, n_mels)
    return np.concatenate([decibel[: (n_rows - 1) * stride], last])
