"""Rows of a store held against those that librosa itself computes from the recordings, and records against both."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from sys import float_info
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mimii.engine import digest_inputs, record_key
from mimii.features import TOP_DB, FeatureSpec
from mimii.storage import Objects, Place, ReadOptions, StorageError, open_all
from mimii.table import FEATURES, RECORDS, open_array, shard_key
from mimii.verification.matching import BY_PATH, Matches
from mimii.verification.metadata import GOOD, Checked, Finding, metadata_key
from mimii.verification.shard_check import ShardReport, Stored

MOST_DIFFERENCE_DB = 1e-3
"""How far a value may be from librosa's."""


@dataclass(frozen=True, slots=True)
class ClipCheck:
    """All that a worker needs to know to compare one clip.

    Attributes
    ----------
    objects : Objects
        The store.
    metadata : bytes
        Of the features.
    read_options : ReadOptions
        How to fetch the recording.
    spec : FeatureSpec
        What was computed.
    clip : int
        Which clip.
    path : str
        Where it was, as the store names it.
    place : Place
        Where its recording is now.
    first_row, n_rows : int
        Its rows.
    shard_rows : int
        Rows of a shard.

    """

    objects: Objects
    metadata: bytes
    read_options: ReadOptions
    spec: FeatureSpec
    clip: int
    path: str
    place: Place
    first_row: int
    n_rows: int
    shard_rows: int

    @property
    def shards(self) -> range:
        """Which shards hold them."""
        return range(self.first_row // self.shard_rows, (self.first_row + self.n_rows - 1) // self.shard_rows + 1)

    def __str__(self) -> str:
        """Name the clip, for messages."""
        return f"clip {self.clip}, {self.place}"


@dataclass(frozen=True, slots=True)
class Difference:
    """How far a clip is from what librosa computes.

    Attributes
    ----------
    checked : Checked
        With a finding where it is too far, or cannot be compared.
    decibel : float
        The largest difference; NaN where it cannot be told.
    where : str
        The clip, row and feature that have it.

    """

    checked: Checked
    decibel: float
    where: str


def draw_sample(columns: Mapping[str, NDArray[Any]], known: Sequence[int], n: int, seed: int) -> list[int]:
    """Draw good clips at random."""
    good = [clip for clip in sorted(known) if columns["status"][clip] == GOOD and columns["n_rows"][clip] > 0]
    return sorted(random.Random(seed).sample(good, min(n, len(good))))  # noqa: S311  no secret


def plan_comparison(
    stored: Stored, matches: Matches, chosen: Sequence[int], read_options: ReadOptions
) -> list[ClipCheck]:
    """Gather what workers need to know to compare clips."""
    return [
        ClipCheck(
            objects=stored.objects,
            metadata=stored.documents[metadata_key(FEATURES)],
            read_options=read_options,
            spec=stored.spec,
            clip=clip,
            path=str(stored.columns["path"][clip]),
            place=matches.recordings[clip].place,
            first_row=int(stored.columns["first_row"][clip]),
            n_rows=int(stored.columns["n_rows"][clip]),
            shard_rows=stored.layout.shard_rows,
        )
        for clip in chosen
    ]


def check_recordings(report: ShardReport, clips: Sequence[int], matches: Matches) -> Checked | None:
    """Say whether the recordings of a shard are still those that were read for it."""
    if not report.inputs or any(clip not in matches.recordings for clip in clips):
        return None
    places = [matches.recordings[clip].place for clip in clips]
    if digest_inputs(places) == report.inputs:
        return Checked("recordings", 1)
    if any(matches.ways[clip] != BY_PATH for clip in clips):
        return None
    key = record_key(RECORDS, report.shard)
    problem = (
        f"is stale: one of its {len(places)} recordings, {places[0]} to {places[-1]}, has another size, or was written "
        "again since"
    )
    return Checked("recordings", 1, (Finding("recordings", key, problem, report.shard),))


def compare_clip(task: ClipCheck) -> Difference:
    """Compute the rows of a clip with librosa and compare."""
    keys = {shard: shard_key(shard) for shard in task.shards}
    documents = task.objects.get_all(keys.values())
    array = open_array({**documents, metadata_key(FEATURES): task.metadata}, FEATURES)
    try:
        there = np.asarray(array[task.first_row : task.first_row + task.n_rows])
    except Exception as error:  # noqa: BLE001  whatever zarr and its codecs raise over damaged bytes
        return _incomparable(task, f"its rows cannot be read: {error}")
    try:
        expected = compute_rows(task.place, task.spec, task.read_options)
    except StorageError:
        raise
    except Exception as error:  # noqa: BLE001  whatever librosa and what it builds on raise
        return _incomparable(task, f"{task.place} cannot be read with librosa: {str(error) or type(error).__name__}")
    if there.shape != expected.shape:
        return _incomparable(task, f"it has {len(there)} rows, and {len(expected)} with librosa")
    return _compare(task, there, expected)


def compute_rows(place: Place, spec: FeatureSpec, read_options: ReadOptions) -> NDArray[np.floating]:
    """Compute the rows of a recording the plain way, with librosa."""
    import librosa  # noqa: PLC0415  heavy, and only this needs it

    with next(open_all([place], read_options))() as file:
        samples, sample_rate = librosa.load(file, sr=None, mono=False)
    samples = np.atleast_2d(samples)
    if sample_rate != spec.sample_rate or spec.channel >= len(samples):
        msg = (
            f"{len(samples)} channels at {sample_rate} Hz; wanted are channel {spec.channel} and {spec.sample_rate} Hz"
        )
        raise ValueError(msg)
    mel = librosa.feature.melspectrogram(
        y=samples[spec.channel],
        sr=sample_rate,
        n_fft=spec.n_fft,
        hop_length=spec.hop_length,
        n_mels=spec.n_mels,
        power=spec.power,
    )
    decibel = _to_db(mel, spec)
    n_rows = max(0, decibel.shape[1] - spec.frames + 1)
    rows = [decibel[:, row : row + spec.frames].T.ravel() for row in range(n_rows)]
    return np.array(rows).reshape(n_rows, spec.n_features)


def _to_db(mel: NDArray[np.floating], spec: FeatureSpec) -> NDArray[np.floating]:
    """Convert to dB as librosa does, or by the formula of the publication."""
    import librosa  # noqa: PLC0415  see above

    if spec.scale == "ref_max":
        decibel: NDArray[np.floating] = librosa.power_to_db(mel, ref=np.max, top_db=TOP_DB)
        return decibel
    power = mel + float_info.epsilon if spec.scale == "add_eps" else np.maximum(mel, float_info.epsilon)
    return np.asarray(20.0 / spec.power * np.log10(power))


def _compare(task: ClipCheck, there: NDArray[np.float32], expected: NDArray[np.floating]) -> Difference:
    off = np.abs(there - expected)
    at = int(np.argmax(np.nan_to_num(off, nan=np.inf)))
    row, feature = divmod(at, task.spec.n_features)
    largest = float(off[row, feature])
    where = f"{task.path}, row {row} of the clip, feature {feature}"
    if largest <= MOST_DIFFERENCE_DB:
        return Difference(Checked("librosa", 1), largest, where)
    values = f"{there[row, feature]:.6g} dB there, {expected[row, feature]:.6g} dB with librosa"
    problem = f"off by up to {largest:.3g} dB: in row {row} of the clip, feature {feature}, {values}"
    finding = _finding(task, problem, (task.first_row + row) // task.shard_rows)
    return Difference(Checked("librosa", 1, (finding,)), largest, where)


def _incomparable(task: ClipCheck, problem: str) -> Difference:
    finding = _finding(task, problem, task.shards[0])
    return Difference(Checked("librosa", 1, (finding,)), float("nan"), task.path)


def _finding(task: ClipCheck, problem: str, shard: int) -> Finding:
    return Finding("librosa", task.path, problem, shard, task.clip, delete=record_key(RECORDS, shard))
