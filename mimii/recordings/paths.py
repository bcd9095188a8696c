"""What the path of a recording says about it where no list and no layout does: known layouts, and folders."""

import math
import re
from functools import lru_cache
from posixpath import splitext
from typing import NamedTuple

from mimii.recordings.clips import LABEL_WORDS, UNKNOWN, Identity, number_of, snr_of
from mimii.recordings.dcase import FOLDS, identify_dcase, is_dcase, machine_folder_of_dcase

_MOST_LEVELS = 3
_MACHINE_ID = re.compile(r"id_\w+", re.IGNORECASE)


class MachineFolder(NamedTuple):
    """A folder whose recordings are of one machine.

    Attributes
    ----------
    path : str
        Of the folder; empty where none is known.
    machine_type, machine_id : str
        Which machine that is.
    is_its_name : bool
        Whether the folder's name is taken for the machine's, in no known layout.

    """

    path: str = ""
    machine_type: str = ""
    machine_id: str = ""
    is_its_name: bool = False


class _Folder(NamedTuple):
    """What the folder of a recording says about it."""

    home: MachineFolder
    snr_db: float
    label: int
    split: str


def identify(path: str) -> Identity:
    """Return what a path says about a recording.

    Known layouts are MIMII (``6_dB_fan/fan/id_00/normal/00000000.wav``, the SNR also as ``min6dB`` or ``-6_dB``) and
    the DCASE tasks of all years (``fan/train/normal_id_00_00000000.wav``,
    ``fan/test/section_00_source_test_anomaly_0000_....wav``). In any other layout, the folder above one that is named
    like a label (normal, abnormal, anomaly, ok, ng, good, bad) is the machine; up to two folders may be below that.

    Examples
    --------
    >>> who = identify("-6_dB/valve/id_06/abnormal/00000008.wav")
    >>> who.machine_type, who.machine_id, who.number, who.snr_db, who.label
    ('valve', 'id_06', 8, -6.0, 1)
    >>> identify("site/press7/OK/2026-05-01/a.wav").machine_id
    'press7'

    """
    folder, _, name = path.rpartition("/")
    seen, stem = _look_at(folder), splitext(name)[0]
    dcase = identify_dcase(folder, stem)
    if dcase and (dcase.label != UNKNOWN or seen.label == UNKNOWN):
        return dcase
    return Identity(seen.home.machine_type, seen.home.machine_id, number_of(stem), seen.snr_db, seen.label, seen.split)


def is_label_hidden(path: str) -> bool:
    """Return whether a recording without label is one of DCASE: of an evaluation set, or supplemental."""
    folder, _, name = path.rpartition("/")
    return is_dcase(folder, splitext(name)[0])


def machine_folder_of(path: str, who: Identity) -> MachineFolder:
    """Return the folder whose recordings are of this one's machine; empty where the path does not name it."""
    folder = path.rpartition("/")[0]
    home = _look_at(folder).home
    if (home.machine_type, home.machine_id) == (who.machine_type, who.machine_id):
        return home
    machine_type, above = machine_folder_of_dcase(folder)
    if machine_type == who.machine_type and is_label_hidden(path):
        return MachineFolder(above, machine_type, who.machine_id)
    return MachineFolder()


def own_folder(path: str) -> MachineFolder:
    """Return the folder of a recording as that of a machine."""
    return _machine_folder(path.rpartition("/")[0])


@lru_cache(maxsize=4096)
def _look_at(folder: str) -> _Folder:
    labelled, label = _labelled_folder(folder)
    if label == UNKNOWN:
        return _Folder(MachineFolder(), snr_of(folder), label, "")
    above = labelled.rpartition("/")[0]
    parts = above.split("/")
    if len(parts) > 1 and _MACHINE_ID.fullmatch(parts[-1]):
        return _Folder(MachineFolder(above, parts[-2], parts[-1]), snr_of(folder), label, "")
    return _Folder(_machine_folder(above), snr_of(folder), label, FOLDS.get(parts[-1].lower(), ""))


def _labelled_folder(folder: str) -> tuple[str, int]:
    """Return the folder that is named like a label, and the label: this one, or one above folders of days or shifts."""
    for _ in range(_MOST_LEVELS):
        above, _, name = folder.rpartition("/")
        if (label := LABEL_WORDS.get(name.lower(), UNKNOWN)) != UNKNOWN:
            return folder, label
        folder = above
    return "", UNKNOWN


@lru_cache(maxsize=4096)
def _machine_folder(folder: str) -> MachineFolder:
    """Return a folder as that of a machine, or the one above where it is that of a split; none of an SNR."""
    above, _, name = folder.rpartition("/")
    if name.lower() in FOLDS:
        return _machine_folder(above)
    is_machine = name and not name.endswith(":") and math.isnan(snr_of(name))
    return MachineFolder(folder, "", name.removesuffix(".zip"), is_its_name=True) if is_machine else MachineFolder()
