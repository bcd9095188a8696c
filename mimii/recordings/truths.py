"""The truth of DCASE's evaluation sets: CSV files without header that say which recordings are anomalous."""

import logging
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from os.path import basename, dirname
from typing import NamedTuple

from mimii.recordings.clips import LABEL_NAMES, LABEL_WORDS, UNKNOWN, Clip, Identity
from mimii.recordings.dcase import identify_dcase
from mimii.recordings.lists import Line
from mimii.recordings.sources import AUDIO_SUFFIXES, SourceError
from mimii.storage import printable

_FILE = re.compile(r"ground_truth_(?P<machine>.+?)(_section_\d+|_id_\d+)?(_test)?\.csv", re.IGNORECASE)
_DECISIONS = ("decision_result_", "anomaly_score_")
_LABELS = {"0": 0, "1": 1, **LABEL_WORDS}
_log = logging.getLogger(__name__)


class Truth(NamedTuple):
    """What a line says of a recording: its machine type (empty for any), its file, what it is; and which line."""

    machine_type: str
    name: str
    who: Identity
    where: str


def is_truth(lines: Sequence[Line]) -> bool:
    """Return whether a list is one of truth: it has no header, and recordings with something behind them."""
    first = [line.cells for line in lines if any(line.cells)][:2]
    if first and sum(map(bool, first[0])) == 1:  # the machine type
        del first[0]
    return bool(first) and _is_recording(first[0][0]) and any(first[0][1:])


def read_truths(path: str, lines: Sequence[Line]) -> list[Truth]:
    """Return what the lines of a list of truth say.

    Lines are ``section_00_0000.wav,1`` (1 for anomalous, 0 for normal; in a folder ``ground_truth_domain`` 0 for source
    and 1 for target) or ``section_00_0000.wav,section_00_source_test_normal_0000_vel_15``, or both; a line of one word
    says the machine type of those below, and the name ``ground_truth_fan_section_00_test.csv`` that of all.
    """
    if basename(path).lower().startswith(_DECISIONS):
        msg = f"{path}: the results of a system are no truth; name files such as ground_truth_fan_section_00_test.csv"
        raise SourceError(msg)
    return list(_read(path, lines))


def tell_truths(clips: Sequence[Clip], path: str, truths: Sequence[Truth]) -> list[Clip]:
    """Return the clips with what a list of truth says of them; SourceError where it is not clear of which."""
    by_name = defaultdict(list)
    for index, clip in enumerate(clips):
        by_name[basename(str(clip.place)).casefold()].append(index)
    told, missing = list(clips), []
    for truth in truths:
        found = [index for index in by_name[basename(truth.name).casefold()] if _is_of(clips[index], truth)]
        if len(found) > 1:
            first, second = (printable(clips[index].path) for index in found[:2])
            msg = f"{truth.where}: {truth.name} may be {first} or {second}; name the sources of one machine at a time"
            raise SourceError(msg)
        if found:
            told[found[0]] = _told(told[found[0]], truth)
        else:
            missing.append(truth)
    _say_missing(path, missing, len(truths))
    return told


def _read(path: str, lines: Sequence[Line]) -> Iterator[Truth]:
    named = _FILE.fullmatch(basename(path))
    machine_type = named["machine"] if named else ""
    is_of_domain = basename(dirname(path)).lower() == "ground_truth_domain"
    for number, cells in lines:
        said = [cell for cell in cells if cell]
        if len(said) == 1 and not _is_recording(said[0]):
            machine_type = said[0]
        elif said:
            where = f"{path}, line {number}"
            yield Truth(machine_type, said[0], _parse(said, where, is_of_domain=is_of_domain), where)


def _parse(cells: Sequence[str], where: str, *, is_of_domain: bool) -> Identity:
    """Return what the cells behind the name of a recording say."""
    who = Identity()
    for cell in cells[1:]:
        value = _LABELS.get(cell.lower())
        renamed = identify_dcase("", cell.removesuffix(".wav"))
        if value is not None and is_of_domain:
            who = replace(who, domain=("source", "target")[value])
        elif (value is None and renamed is None) or not _is_recording(cells[0]):
            msg = f"{where}: must be a recording and 0, 1 or its name with a label, not {','.join(cells)!r}"
            raise SourceError(msg)
        else:
            who = _agreed(who, renamed or Identity(label=UNKNOWN if value is None else value), where)
    return who


def _agreed(who: Identity, said: Identity, where: str) -> Identity:
    """Return what is known of a recording with what is said of it; SourceError where the labels differ."""
    if UNKNOWN not in (who.label, said.label) and who.label != said.label:
        msg = f"{where}: says {LABEL_NAMES[said.label]} of a recording that is {LABEL_NAMES[who.label]} by its name"
        raise SourceError(msg)
    return replace(
        who,
        label=who.label if said.label == UNKNOWN else said.label,
        domain=said.domain or who.domain,
        attributes=said.attributes or who.attributes,
    )


def _told(clip: Clip, truth: Truth) -> Clip:
    return replace(clip, identity=_agreed(clip.identity, truth.who, truth.where))


def _is_recording(name: str) -> bool:
    return name.lower().endswith(tuple(AUDIO_SUFFIXES))


def _is_of(clip: Clip, truth: Truth) -> bool:
    """Return whether a clip is of the machine type of a line, or, where it has none, in a folder of that name."""
    machine_type, *folders = (clip.identity.machine_type or str(clip.place)).casefold().split("/")
    return not truth.machine_type or truth.machine_type.casefold() in (machine_type, *folders)


def _say_missing(path: str, missing: Sequence[Truth], n_truths: int) -> None:
    if not missing:
        return
    said = " ".join(filter(None, (missing[0].machine_type, missing[0].name)))
    if len(missing) == n_truths:
        msg = (
            f"{path}: none of its {n_truths:,} recordings is in the sources, such as {said}; name their folder, or, "
            "where it is a list of recordings, name its columns in the first line, one of them 'path'"
        )
        raise SourceError(msg)
    _log.warning(
        "%s: %d of its %d recordings are not in the sources, such as %s", path, len(missing), n_truths, printable(said)
    )
