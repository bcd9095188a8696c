"""Samples of one rate to another, as librosa does by default: with soxr, high quality."""

import math
from collections.abc import Iterator

import numpy as np
import soxr

from mimii.features.mel import FloatArray, SampleBlocks
from mimii.storage import AudioError

_QUALITY = "HQ"


def n_resampled(n_samples: int, rate: int, wanted: int) -> int:
    """Count the samples after resampling: ``ceil(n_samples * wanted / rate)``, as librosa does.

    Examples
    --------
    >>> n_resampled(441_000, 44_100, 16_000)
    160000

    """
    return n_samples if rate == wanted else math.ceil(n_samples * (float(wanted) / rate))


def resample(samples: SampleBlocks, rate: int, wanted: int) -> SampleBlocks:
    """Resample one channel, block by block: the same as of all samples at once.

    Parameters
    ----------
    samples : SampleBlocks
        At `rate`.
    rate, wanted : int
        Hz.

    Returns
    -------
    SampleBlocks
        At `wanted`, with `n_resampled` samples: those of ``librosa.resample(y, orig_sr=rate, target_sr=wanted)``, which
        is soxr's high quality: a steep low-pass filter that keeps what is below 0.45 of the lower rate.

    Raises
    ------
    AudioError
        If soxr does not take these rates.

    """
    if rate == wanted:
        return samples
    try:
        stream = soxr.ResampleStream(rate, wanted, 1, dtype="float32", quality=_QUALITY)
    except (ValueError, RuntimeError) as error:
        msg = f"cannot be resampled from {rate} to {wanted} Hz: {error}"
        raise AudioError(msg) from error
    count = n_resampled(samples.n_samples, rate, wanted)
    return SampleBlocks(count, _resampled(samples, stream, count))


def _resampled(samples: SampleBlocks, stream: soxr.ResampleStream, count: int) -> Iterator[FloatArray]:
    left = count
    for block in samples.blocks:
        out = stream.resample_chunk(np.ascontiguousarray(block))[:left]
        left -= len(out)
        yield out
    out = stream.resample_chunk(np.empty(0, np.float32), last=True)[:left]
    yield np.pad(out, (0, left - len(out)))
