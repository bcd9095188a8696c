"""Train or test: policies that depend on what a clip is, never on the order of clips or the number of workers."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from mimii.recordings.clips import ABNORMAL, NORMAL, UNKNOWN, Clip

TRAIN, TEST = "train", "test"
SPLITS = ("baseline", "stratified", "none")
"""How clips may be split for training and testing, see `mimii.recordings.split_clips`."""


class Split(NamedTuple):
    """How clips are split, see `mimii.recordings.split_clips`."""

    policy: str
    train_fraction: float = 0.8
    seed: int = 0


NO_SPLIT = Split("none")


def split_clips(clips: Sequence[Clip], split: str, train_fraction: float = 0.8, seed: int = 0) -> list[str]:
    """Return the split of each clip: train, test or empty.

    `split` is ``"baseline"`` (train on normal sound, as the baseline published with MIMII), ``"stratified"`` (a
    share of each label) or ``"none"``. A split that the recordings bring along is kept by the first two. All clips of a
    recording have the same.
    """
    if split not in SPLITS:
        msg = f"split must be one of {', '.join(SPLITS)}, not {split!r}"
        raise ValueError(msg)
    if not 0 <= train_fraction <= 1:
        msg = f"train_fraction must be from 0 to 1, not {train_fraction}"
        raise ValueError(msg)
    if split == "none":
        return no_split(clips)
    recordings = list({clip.recording: clip for clip in clips}.values())
    splits = stratified_split(recordings, train_fraction, seed) if split == "stratified" else baseline_split(recordings)
    by_recording = {clip.recording: one for clip, one in zip(recordings, splits, strict=True)}
    return [by_recording[clip.recording] for clip in clips]


def baseline_split(clips: Sequence[Clip]) -> list[str]:
    """Split as the baseline published with MIMII does: train on normal sound only.

    Within each machine type, id and SNR, the test clips are all abnormal ones and as many normal ones, the first in
    sorted order; the other normal ones are for training.
    """
    n_to_test = Counter(_machine(clip) for clip in clips if clip.identity.label == ABNORMAL)
    splits = [TEST if clip.identity.label == ABNORMAL else "" for clip in clips]
    for index in sorted(range(len(clips)), key=lambda index: clips[index].path):
        if clips[index].identity.label == NORMAL:
            machine = _machine(clips[index])
            splits[index] = TEST if n_to_test[machine] > 0 else TRAIN
            n_to_test[machine] -= 1
    return [clip.identity.split or split for clip, split in zip(clips, splits, strict=True)]


def stratified_split(clips: Sequence[Clip], train_fraction: float = 0.8, seed: int = 0) -> list[str]:
    """Split each machine type, id and label in the same proportion.

    A clip is for training if a hash of the seed and of its identity without the SNR, as a fraction of the largest
    hash, is below `train_fraction`. So copies of a clip at several SNRs are on one side, and new clips move no other.
    """
    return [clip.identity.split or _hashed(clip, train_fraction, seed) for clip in clips]


def no_split(clips: Sequence[Clip]) -> list[str]:
    """Return no split for any clip."""
    return [""] * len(clips)


def _machine(clip: Clip) -> tuple[str, str, str]:
    return clip.identity.machine_type, clip.identity.machine_id, str(clip.identity.snr_db)


def _hashed(clip: Clip, train_fraction: float, seed: int) -> str:
    identity = clip.identity
    if identity.label == UNKNOWN:
        return ""
    name = str(identity.number) if identity.number >= 0 else PurePosixPath(clip.path).stem
    text = "\0".join((str(seed), identity.machine_type, identity.machine_id, str(identity.label), name))
    digest = hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()
    return TRAIN if int.from_bytes(digest[:8], "big") < train_fraction * 2**64 else TEST
