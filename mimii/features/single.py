"""The whole way from one recording, or from samples, to its log-mel spectrogram: for one clip at a time."""

import os
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimii.features.decode import MIXED, check_finite, read_channels, read_header
from mimii.features.mel import FloatArray, SampleBlocks, mel_spectrogram, power_to_db
from mimii.features.resampling import resample
from mimii.features.spec import ALL, MEAN, SPEC_EXPECTED, FeatureSpec
from mimii.storage import (
    DEFAULT_ACCESS,
    ArchiveError,
    AudioError,
    Location,
    Place,
    archive_of,
    as_path,
    expect,
    is_remote,
    missing_channel,
    open_archive,
    open_part,
    s3,
    zips,
)

_FULL_SCALES: Mapping[str, float] = MappingProxyType(
    {"float32": 1.0, "float64": 1.0, "int16": 2.0**15, "int32": 2.0**31}
)
_MOST_CHANNELS = 1024


def log_mel(
    recording: Location | ArrayLike, spec: FeatureSpec | None = None, sample_rate: int | None = None
) -> FloatArray:
    """Compute the log-mel spectrogram of a clip, as a table's rows are made of.

    Parameters
    ----------
    recording : path or array_like, shape (n_samples,) or (n_channels, n_samples)
        A file, ``s3://bucket/key``, or one in a zip archive, as in ``archive.zip/a.wav``; or samples: float32 and
        float64 with a full scale of 1, int16 and int32 with theirs. The channels of a file, or of samples that have
        several, are chosen by ``spec.channel``.
    spec : FeatureSpec
        What to compute; the preset ``explore`` where it is left out. Of a recording with another rate, the samples are
        resampled to ``spec.sample_rate``.
    sample_rate : int
        Of samples, in Hz; that of the spec where it is left out.

    Returns
    -------
    ndarray of float32, shape (n_frames, n_mels)
        dB. With ``spec.channel="all"``, of each channel: shape (n_channels, n_frames, n_mels).

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If the spec is not a FeatureSpec, or the samples are of another type.
    ValueError
        If the samples have another shape, the sample rate is none, a file comes with one, or the spec cuts recordings
        into segments.
    AudioError
        If it is not audio, or has no such channel.

    """
    spec = spec or FeatureSpec()
    expect(spec, FeatureSpec, SPEC_EXPECTED)
    if spec.segment is not None:
        msg = "log_mel takes a whole recording: use spec.changed(segment=None, overlap=0), or cut the samples"
        raise ValueError(msg)
    if sample_rate is not None and (not isinstance(sample_rate, int | np.integer) or sample_rate < 1):
        msg = f"sample_rate must be a whole number of Hz, at least 1, not {sample_rate!r}"
        raise ValueError(msg)
    if not isinstance(recording, str | os.PathLike):
        samples, rate = _samples_of(np.asarray(recording), spec.channel), int(sample_rate or spec.sample_rate)
    elif sample_rate is None:
        rate, samples = _read(as_path(recording), spec.channel)
    else:
        msg = f"sample_rate is for samples: {as_path(recording)} says its own; what it is resampled to, spec says"
        raise ValueError(msg)
    decibel = [_log_mel(channel, rate, spec) for channel in samples]
    return np.stack(decibel) if spec.channel == ALL else decibel[0]


def channels_of(channel: int | str, n_channels: int) -> list[int]:
    """Return the channels of the clips that a recording gives, see `FeatureSpec`."""
    if isinstance(channel, int):
        return [channel]
    return [MIXED] if channel == MEAN else list(range(n_channels))


def _log_mel(samples: FloatArray, rate: int, spec: FeatureSpec) -> FloatArray:
    resampled = resample(SampleBlocks(len(samples), [samples]), rate, spec.sample_rate)
    return power_to_db(mel_spectrogram(resampled, spec), spec)


def _read(path: str, channel: int | str) -> tuple[int, FloatArray]:
    with open_part(_find(path), DEFAULT_ACCESS) as file:
        try:
            channels = channels_of(channel, read_header(file).n_channels)
            header, samples = read_channels(file, channels)
            return header.sample_rate, check_finite(samples)
        except AudioError as error:
            msg = f"{path}: {error}"
            raise AudioError(msg) from error


def _samples_of(values: NDArray[Any], channel: int | str) -> FloatArray:
    """Return samples as float32 with a full scale of 1, shape (channels, n_samples), as soundfile scales them."""
    if values.dtype.name not in _FULL_SCALES:
        msg = f"samples must be {', '.join(_FULL_SCALES)}, not {values.dtype.name}"
        raise TypeError(msg)
    if values.ndim not in (1, 2):
        msg = f"samples must have the shape (n_samples,) or (n_channels, n_samples), not {values.shape}"
        raise ValueError(msg)
    channels = values if values.ndim == 2 else values[np.newaxis]
    if len(channels) > _MOST_CHANNELS:
        msg = f"the shape {channels.shape} has more channels than samples: give the transpose, (n_channels, n_samples)"
        raise ValueError(msg)
    wanted = channels_of(channel if values.ndim == 2 else 0, len(channels))
    if max(wanted) >= len(channels):
        raise AudioError(missing_channel(max(wanted), len(channels)))
    scaled = (channels / _FULL_SCALES[values.dtype.name]).astype(np.float32)
    return check_finite(scaled.mean(axis=0, keepdims=True) if wanted == [MIXED] else scaled[wanted])


def _find(path: str) -> Place:
    """Return where a recording is; of one in an archive, from the archive's directory."""
    if (archive := archive_of(path)) and not os.path.exists(path):
        return _find_member(_find(archive), path.removeprefix(f"{archive}/"))
    if not is_remote(path):
        if os.path.exists(path) and not os.path.isfile(path):
            msg = f"{path}: not a regular file"
            raise AudioError(msg)
        return Place(path)
    found = s3.describe(path, DEFAULT_ACCESS)
    if found is None:
        msg = f"{path}: no such object"
        raise FileNotFoundError(msg)
    return Place(path, found.size, found.version)


def _find_member(archive: Place, name: str) -> Place:
    try:
        with open_archive(archive.url, archive.size, DEFAULT_ACCESS) as file:
            members = {
                place.member.name: (place, bad) for place, bad in zips.list_members(file, archive) if place.member
            }
    except ArchiveError as error:
        msg = f"{archive}: {error}"
        raise AudioError(msg) from error
    if name not in members:
        msg = f"{archive}/{name}: no such recording in the archive"
        raise FileNotFoundError(msg)
    place, problem = members[name]
    if problem:
        msg = f"{archive}/{name}: {problem}"
        raise AudioError(msg)
    return place
