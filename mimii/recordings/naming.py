"""Names of images from what is known of their clips: unique, and valid on every file system and on S3."""

import hashlib
import math
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from mimii.features import FeatureSpec
from mimii.recordings.clips import LABEL_NAMES, UNKNOWN, Clip, Identity
from mimii.recordings.segments import part_name

UNLABELLED, ALL = "unlabelled", "all"
"""Folders of clips without a label, and of labelled ones that are not split."""

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_MOST_CHARACTERS = 80
_HASH_CHARACTERS = 8


def image_names(clips: Sequence[Clip], splits: Sequence[str], spec: FeatureSpec) -> list[str]:
    """Return the name of the image of each clip, with its folder, without a suffix.

    Examples
    --------
    >>> from mimii.recordings.paths import identify
    >>> from mimii.storage.places import Place
    >>> path = "-6_dB/valve/id_06/abnormal/00000008.wav"
    >>> image_names([Clip(path, Place(path), identify(path))], ["train"], FeatureSpec())
    ['train/abnormal/abnormal-valve-id_06-min6dB-00000008']

    """
    recordings = list({clip.recording: clip for clip in clips}.values())
    stems = _unique([_stem(clip) for clip in recordings], [clip.path for clip in recordings])
    stems = _unique(stems, [str(clip.place) for clip in recordings])
    by_recording = {clip.recording: stem for clip, stem in zip(recordings, stems, strict=True)}
    return [
        "-".join(
            filter(None, (_folder_of(clip.identity.label, split) + by_recording[clip.recording], part_name(clip, spec)))
        )
        for clip, split in zip(clips, splits, strict=True)
    ]


def labelled_name(name: str, label: int, split: str) -> str:
    """Return the name of an image that shows part of a clip, and has a label of its own.

    `name` is that of the image of the same clip without a label: it tells recordings apart, whatever their labels.

    Examples
    --------
    >>> labelled_name("unlabelled/unknown-fan-id_00-00000008-1ab2c3d4", 0, "train")
    'train/normal/normal-fan-id_00-00000008-1ab2c3d4'

    """
    return _folder_of(label, split) + LABEL_NAMES[label] + name.removeprefix(_folder_of(UNKNOWN) + LABEL_NAMES[UNKNOWN])


def machine_name(identity: Identity) -> str:
    """Return the name of a machine, as far as it is known.

    Examples
    --------
    >>> machine_name(Identity("valve", "id_06", snr_db=-6.0))
    'valve-id_06-min6dB'

    """
    parts = (identity.machine_type, identity.machine_id, _snr(identity))
    name = "-".join(filter(None, parts))
    if name == _safe(name) and not any("-" in part for part in parts):
        return name
    return f"{_safe(name)}-{_hash(repr(parts))}"


def _unique(stems: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Append a hash of the key to each stem that is there several times."""
    counts = Counter(stem.casefold() for stem in stems)
    return [
        f"{stem}-{_hash(key)}" if counts[stem.casefold()] > 1 else stem for stem, key in zip(stems, keys, strict=True)
    ]


def _stem(clip: Clip) -> str:
    identity = clip.identity
    known = (LABEL_NAMES[identity.label], identity.machine_type, identity.machine_id, _snr(identity))
    if all(known) and identity.number >= 0 and identity.label != UNKNOWN:
        return _safe("-".join((*known, f"{identity.number:08d}")))
    return f"{_safe('-'.join(filter(None, (*known, PurePosixPath(clip.path).stem))))}-{_hash(clip.path)}"


def _snr(identity: Identity) -> str:
    if math.isnan(identity.snr_db):
        return ""
    return f"{'min' if identity.snr_db < 0 else ''}{abs(identity.snr_db):g}dB"


def _safe(text: str) -> str:
    return _UNSAFE.sub("_", text)[:_MOST_CHARACTERS]


def _hash(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:_HASH_CHARACTERS]


def _folder_of(label: int, split: str = "") -> str:
    return f"{UNLABELLED}/" if label == UNKNOWN else f"{split or ALL}/{LABEL_NAMES[label]}/"
