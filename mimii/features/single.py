"""The whole way from one recording, or from samples, to its log-mel spectrogram: for one clip at a time."""

import os

import numpy as np
from numpy.typing import ArrayLike

from mimii.features.decode import read_channel
from mimii.features.mel import FloatArray, mel_spectrogram, power_to_db
from mimii.features.spec import SPEC_EXPECTED, FeatureSpec
from mimii.storage import (
    DEFAULT_ACCESS,
    ArchiveError,
    AudioError,
    Location,
    Place,
    archive_of,
    expect,
    is_remote,
    open_archive,
    open_part,
    s3,
    zips,
)


def log_mel(
    recording: Location | ArrayLike, spec: FeatureSpec | None = None, sample_rate: int | None = None
) -> FloatArray:
    """Compute the log-mel spectrogram of a clip, as a table's rows are made of.

    Parameters
    ----------
    recording : path or array_like, shape (n_samples,)
        A file, ``s3://bucket/key``, or one in a zip archive, as in ``archive.zip/a.wav``; or samples, full scale is 1.
    spec : FeatureSpec
        What to compute; the preset ``explore`` where it is left out.
    sample_rate : int
        Of samples, in Hz; where it is given, it must be that of the spec.

    Returns
    -------
    ndarray of float32, shape (n_frames, n_mels)
        dB.

    Raises
    ------
    OSError
        If the file cannot be read.
    TypeError
        If the spec is not a FeatureSpec.
    AudioError
        If it is not audio, or its sample rate is not that of the spec.

    """
    spec = spec or FeatureSpec()
    expect(spec, FeatureSpec, SPEC_EXPECTED)
    if isinstance(recording, str | os.PathLike):
        with open_part(_find(os.fspath(recording)), DEFAULT_ACCESS) as file:
            header, samples = read_channel(file, spec.channel)
        sample_rate = header.sample_rate
    else:
        samples = np.ascontiguousarray(recording, np.float32)
    if sample_rate not in (None, spec.sample_rate):
        msg = f"sample rate {sample_rate} Hz, the spec has {spec.sample_rate} Hz"
        raise AudioError(msg)
    return power_to_db(mel_spectrogram(samples, spec), spec)


def _find(path: str) -> Place:
    """Return where a recording is; of one in an archive, from the archive's directory."""
    if (archive := archive_of(path)) and not os.path.exists(path):
        return _find_member(_find(archive), path.removeprefix(f"{archive}/"))
    if not is_remote(path):
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
        raise AudioError(problem)
    return place
