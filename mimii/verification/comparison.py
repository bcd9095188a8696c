"""Rows of a store compared with those that librosa computes from the recordings, and records with both."""

import os
import random
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from tempfile import NamedTemporaryFile
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from mimii.engine import digest_version, record_key
from mimii.features import (
    MIXED,
    SCALES,
    UNKNOWN_LENGTH,
    FeatureSpec,
    Segment,
    describe_feature,
    is_seekable,
    logged_messages,
    read_channels,
    read_header,
    read_segment,
    repaired,
)
from mimii.recordings import GOOD, Part
from mimii.storage import Place, ReadOptions, StorageError, as_unicode, is_remote, numbered, open_all
from mimii.table import FEATURES, RECORDS, RowSpan, shard_key
from mimii.verification.contents import Contents, Store
from mimii.verification.matching import BY_PATH, Matches
from mimii.verification.metadata import Checked, Finding
from mimii.verification.rounding import rounding_of
from mimii.verification.shard_check import ShardReport

MOST_DIFFERENCE_DB = 1e-3
"""How far a value may be from librosa's."""


@dataclass(frozen=True, slots=True)
class ClipCheck:
    """All that a worker needs to compare one clip.

    Attributes
    ----------
    path : str
        Where the clip was, as the store names it.
    place : Place
        Where its recording is now.
    part : Part
        Which part of the recording.
    span : RowSpan
        All of its rows.

    """

    store: Store
    read_options: ReadOptions
    path: str
    place: Place
    part: Part
    span: RowSpan

    def __str__(self) -> str:
        """Name the clip, for messages."""
        return f"clip {self.span.clip}, {self.place}"

    def result(self, decibel: float, where: str, problem: str = "", row: int = 0) -> "Difference":
        """Return a difference, with a finding where there is a problem in a row of the clip."""
        record = record_key(RECORDS, shard := (self.span.row + row) // self.store.layout.shard_rows)
        finding = Finding("librosa", self.path, problem, shard, self.span.clip, delete=record)
        return Difference((Checked("librosa", 1, (finding,) if problem else ()),), decibel, where)


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a clip is from what librosa computes.

    Attributes
    ----------
    checked : tuple of Checked
        One, with a finding where the clip is too far, or cannot be compared.
    decibel : float
        The largest difference in dB; NaN where it cannot be compared.
    where : str
        The clip, row and feature that have it.

    """

    checked: tuple[Checked, ...]
    decibel: float
    where: str


def draw_sample(columns: Mapping[str, NDArray[Any]], matched: Sequence[int], n: int, seed: int) -> list[int]:
    """Draw good clips at random from those that have a recording."""
    good = [clip for clip in sorted(matched) if columns["status"][clip] == GOOD and columns["n_rows"][clip] > 0]
    return sorted(random.Random(seed).sample(good, min(n, len(good))))  # noqa: S311  no secret


def clip_check(contents: Contents, matches: Matches, clip: int, read_options: ReadOptions) -> ClipCheck:
    """Gather what a worker needs to compare one clip."""
    path, first_row, n_rows = (contents.columns[name][clip] for name in ("path", "first_row", "n_rows"))
    span = RowSpan(clip, 0, int(n_rows), int(first_row))
    part = Part(*(contents.columns[name][clip].item() for name in ("channel", "start_s", "duration_s")))
    return ClipCheck(contents.store, read_options, str(path), matches.recordings[clip].place, part, span)


def check_recordings(report: ShardReport, clips: Sequence[int], matches: Matches) -> Checked | None:
    """Check that the recordings of a shard are those that were read for it; None where that is not known."""
    if not report.versions or any(clip not in matches.recordings for clip in clips):
        return None
    places = {clip: matches.recordings[clip].place for clip in clips}
    changed = [clip for clip, place in places.items() if digest_version(place) != report.versions.get(clip)]
    if not changed:
        return Checked("recordings", 1)
    if any(matches.ways[clip] != BY_PATH for clip in changed):
        return None
    problem = f"is stale: of its {len(places)} recordings, {len(changed)} changed since, first {places[changed[0]]}"
    finding = Finding("recordings", record_key(RECORDS, report.shard), problem, report.shard)
    return Checked("recordings", 1, (finding,))


def compare_clip(task: ClipCheck) -> Difference:
    """Compute the rows of a clip with librosa and compare."""
    first, stop, shard_rows = task.span.row, task.span.row + task.span.n_rows, task.store.layout.shard_rows
    keys = map(shard_key, range(first // shard_rows, (stop - 1) // shard_rows + 1))
    array = task.store.open_array(FEATURES, task.store.objects.get_all(keys))
    try:
        there = np.asarray(array[first:stop], np.float32)
    except Exception as error:  # noqa: BLE001  zarr and its codecs raise many types over damaged bytes
        return task.result(np.nan, task.path, f"its rows cannot be read: {error}")
    try:
        expected = compute_rows(task.place, task.part, task.store.spec, task.read_options)
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001  librosa and what it builds on raise many types
        reason = str(error) or type(error).__name__
        return task.result(np.nan, task.path, f"{task.place} cannot be read with librosa: {reason}")
    if there.shape != expected.shape:
        return task.result(np.nan, task.path, f"it has {len(there)} rows, and {len(expected)} with librosa")
    return _compare(task, there, expected)


def compute_rows(place: Place, part: Part, spec: FeatureSpec, read_options: ReadOptions) -> NDArray[np.floating]:
    """Compute the rows of a clip with librosa; shape (n_rows, n_features)."""
    import librosa  # noqa: PLC0415  heavy, and only this needs it

    mel = librosa.feature.melspectrogram(
        y=_load(place, part, spec, read_options),
        sr=spec.sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        win_length=spec.win_length,
        n_mels=spec.n_mels,
        fmin=spec.fmin,
        fmax=spec.fmax,
        power=spec.power,
    )
    decibel = SCALES[spec.scale].published(mel, spec.power)
    firsts = range(0, decibel.shape[1] - spec.frames + 1, spec.stride)
    rows = [decibel[:, first : first + spec.frames].T.ravel() for first in firsts]
    return np.array(rows).reshape(len(rows), spec.n_features)


def _load(place: Place, part: Part, spec: FeatureSpec, read_options: ReadOptions) -> NDArray[np.floating]:
    """Return the samples of a clip as librosa loads and resamples them.

    They are decoded as we do it where librosa cannot, or where only decoding tells how many there are.
    """
    import librosa  # noqa: PLC0415  see above

    with next(open_all([place], read_options))() as file:
        header = read_header(file)
        channels = range(header.n_channels)
        # Of an unknown length, libsndfile guesses one, and librosa stops there or fails.
        is_ours = header.n_samples == UNKNOWN_LENGTH or not is_seekable(repaired(file))
        if spec.segment is not None and (is_ours or not header.can_seek):
            start = int(part.start_s * header.sample_rate)
            segment = Segment(start, int(part.duration_s * header.sample_rate))
            samples = read_segment(file, header, channels, segment)
        elif is_ours:
            samples = read_channels(file, channels)[1]
        else:
            samples = _load_with_librosa(place, file, part, spec)
    if not samples.size:
        msg = f"the recording has no samples from {part.start_s:g} s on; it is shorter than when the table was made"
        raise ValueError(msg)
    if part.channel >= len(samples):
        msg = f"{numbered(len(samples), 'channel')}; expected is channel {part.channel}"
        raise ValueError(msg)
    one = samples.mean(axis=0) if part.channel == MIXED else samples[part.channel]
    return np.asarray(librosa.resample(one, orig_sr=header.sample_rate, target_sr=spec.sample_rate))


def _load_with_librosa(place: Place, file: BinaryIO, part: Part, spec: FeatureSpec) -> NDArray[np.float32]:
    """Return all channels, shape (n_channels, n_samples)."""
    import librosa  # noqa: PLC0415  see above

    offset, duration = (0.0, None) if spec.segment is None else (part.start_s, part.duration_s)
    with logged_messages(str(place)), _named(place, file) as path:
        loaded, _ = librosa.load(path, sr=None, mono=False, offset=offset, duration=duration)
    return np.atleast_2d(loaded)


@contextmanager
def _named(place: Place, file: BinaryIO) -> Iterator[str]:
    """Return the name of a file with the recording.

    It is that of a copy, where the recording is elsewhere, librosa needs it repaired, or its name is not UTF-8: such a
    file librosa cannot open.
    """
    view = repaired(file)
    is_here = place.member is None and not is_remote(place.url)
    if view is file and is_here and as_unicode(place.url) == place.url:
        yield place.url
        return
    with NamedTemporaryFile(suffix=os.path.splitext(str(place))[1].lower()) as copy:
        view.seek(0)
        shutil.copyfileobj(view, copy)
        copy.flush()
        yield copy.name


def _compare(task: ClipCheck, there: NDArray[np.float32], expected: NDArray[np.floating]) -> Difference:
    difference = np.abs(there - expected)
    rounding = np.abs(expected) * rounding_of(task.store.spec)
    row, feature = divmod(int(np.argmax(np.nan_to_num(difference, nan=np.inf))), task.store.spec.n_features)
    largest, most = float(difference[row, feature]), MOST_DIFFERENCE_DB + float(np.max(rounding, initial=0))
    where = f"{describe_feature(row, feature, task.store.spec)} (row {row} of the clip, feature {feature})"
    values = f"{there[row, feature]:.6g} dB there, {expected[row, feature]:.6g} dB with librosa"
    problem = "" if largest <= most else f"differs by up to {largest:.3g} dB: at {where}, {values}"
    return task.result(largest, f"{task.path}, {where}", problem, row)
