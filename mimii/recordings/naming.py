"""Clips to the names of their images: what is known of each, unique, and fit for every file system and for S3."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import PurePosixPath

from mimii.recordings.clips import LABEL_NAMES, UNKNOWN, Clip, Identity

UNLABELLED, ALL = "unlabelled", "all"
"""Folders of clips without a label, and of labelled ones that are not split."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_CHARACTERS = 80
_HASH_CHARACTERS = 8


def image_names(clips: Sequence[Clip], splits: Sequence[str]) -> list[str]:
    """Name the image of each clip, without a suffix.

    Examples
    --------
    >>> from mimii.recordings.clips import identify
    >>> from mimii.storage.places import Place
    >>> path = "-6_dB/valve/id_06/abnormal/00000008.wav"
    >>> image_names([Clip(path, Place(path), identify(path))], ["train"])
    ['train/abnormal/abnormal-valve-id_06-min6dB-00000008']

    """
    stems = _told_apart([_stem(clip) for clip in clips], clips, lambda clip: clip.path)
    stems = _told_apart(stems, clips, lambda clip: str(clip.place))
    return [_folder(clip, split) + stem for stem, clip, split in zip(stems, clips, splits, strict=True)]


def machine_name(who: Identity) -> str:
    """Name a machine, as far as it is known.

    Examples
    --------
    >>> machine_name(Identity("valve", "id_06", snr_db=-6.0))
    'valve-id_06-min6dB'

    """
    parts = (who.machine_type, who.machine_id, _snr(who))
    name = "-".join(filter(None, parts))
    if name == _safe(name) and not any("-" in part for part in parts):
        return name
    return f"{_safe(name)}-{_hash(repr(parts))}"


def _told_apart(stems: Sequence[str], clips: Sequence[Clip], by: Callable[[Clip], str]) -> list[str]:
    """Append a hash of something to those that are the same."""
    counts = Counter(stem.casefold() for stem in stems)
    return [
        f"{stem}-{_hash(by(clip))}" if counts[stem.casefold()] > 1 else stem
        for stem, clip in zip(stems, clips, strict=True)
    ]


def _stem(clip: Clip) -> str:
    who = clip.identity
    label = LABEL_NAMES[who.label]
    if who.machine_type and who.machine_id and who.number >= 0 and not math.isnan(who.snr_db) and who.label != UNKNOWN:
        return _safe("-".join((label, who.machine_type, who.machine_id, _snr(who), f"{who.number:08d}")))
    known = filter(None, (label, who.machine_type, who.machine_id, _snr(who), PurePosixPath(clip.path).stem))
    return f"{_safe('-'.join(known))}-{_hash(clip.path)}"


def _snr(who: Identity) -> str:
    if math.isnan(who.snr_db):
        return ""
    return f"{'min' if who.snr_db < 0 else ''}{abs(who.snr_db):g}dB"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)[:_MOST_CHARACTERS]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_CHARACTERS]


def _folder(clip: Clip, split: str) -> str:
    if clip.identity.label == UNKNOWN:
        return f"{UNLABELLED}/"
    return f"{split or ALL}/{LABEL_NAMES[clip.identity.label]}/"
