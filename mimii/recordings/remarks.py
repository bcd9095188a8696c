"""What was assumed when recordings were found, and what was left out: said in warnings and in summaries."""

import logging
import math
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, replace

from mimii.recordings.clips import NORMAL, UNKNOWN, Clip
from mimii.recordings.layouts import Layout
from mimii.recordings.paths import MachineFolder, is_label_hidden, machine_folder_of, own_folder
from mimii.recordings.sources import is_archive, kind_left_out
from mimii.storage import printable

_MOST_NAMED = 3
_APART = (
    "--layout '{machine_type}/{machine_id}/{label}/*' (layout= in Python), or one like your folders, keeps them apart"
)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Remarks:
    """What was assumed, and what was left out.

    Attributes
    ----------
    by_folder : frozenset of str
        The ids of machines that are names of folders in no known layout.
    n_assumed, n_hidden : int
        How many recordings without label are assumed to be normal, and of how many that is not assumed.
    left_out : tuple of str
        The paths of recordings and archives of formats that are not read.

    """

    by_folder: frozenset[str] = frozenset()
    n_assumed: int = 0
    n_hidden: int = 0
    left_out: tuple[str, ...] = ()

    def describe(self) -> dict[str, str]:
        """Return what a summary says of labels and of files that were left out."""
        said = {}
        if self.n_assumed or self.n_hidden:
            hidden = f", {self.n_hidden:,} left unknown" if self.n_hidden else ""
            said["labels"] = f"{self.n_assumed:,} without label assumed normal{hidden}"
        if self.left_out:
            said["left out"] = _count_left_out(self.left_out)
        return said


NO_REMARKS = Remarks()


def machine_folders(clips: Iterable[Clip]) -> dict[str, MachineFolder]:
    """Return by place the folder that says of which machine each recording is, of those of which one does."""
    by_place = {str(clip.place): machine_folder_of(str(clip.place), clip.identity) for clip in clips}
    return {place: home for place, home in by_place.items() if home.path}


def assume_normal(clips: Sequence[Clip], layout: Layout | None) -> tuple[list[Clip], dict[str, MachineFolder]]:
    """Return the clips, normal where they had no label, and the folders of those that are named after theirs.

    Nothing is assumed of DCASE's recordings whose label is hidden, and of those that do not match the layout.
    """
    assumed, by_place = list(clips), {}
    for index, clip in enumerate(clips):
        place, who = str(clip.place), clip.identity
        if who.label != UNKNOWN or is_label_hidden(place) or (layout and not layout.match(place)):
            continue
        if not (layout or who.machine_type or who.machine_id):
            by_place[place] = own_folder(place)
            who = replace(who, machine_id=by_place[place].machine_id)
        assumed[index] = replace(clip, identity=replace(who, label=NORMAL))
    return assumed, by_place


def warn_of_merged(clips: Iterable[Clip], by_place: dict[str, MachineFolder]) -> None:
    """Warn where recordings of one machine are in different folders, which may be different machines.

    Those of known layouts that have an SNR are of MIMII: there, copies are warned of.
    """
    folders = defaultdict[tuple[str, str, str], dict[str, None]](dict)
    for clip in clips:
        home, who = by_place.get(str(clip.place)), clip.identity
        if home and home.path and (home.is_its_name or math.isnan(who.snr_db)):
            folders[who.machine_type, who.machine_id, f"{who.snr_db:g}"][home.path] = None
    merged = {machine: list(paths) for machine, paths in folders.items() if len(paths) > 1}
    if merged:
        (machine_type, machine_id, _), (one, other, *_) = next(iter(merged.items()))
        more = f", and {len(merged) - 1:,} more such machines" if len(merged) > 1 else ""
        name = " ".join(filter(None, (machine_type, machine_id)))
        _log.warning(
            "different folders count as one machine: %s in %s and %s%s; %s",
            *(*map(printable, (name, one, other)), more, _APART),
        )


def warn_of_merged_columns(layout: Layout, clips: Iterable[Clip]) -> None:
    """Warn where a layout takes folders for columns, such as ``{site}``, and several of them have one machine."""
    folders = layout.folder_names
    said = defaultdict[tuple[str, str, str], dict[tuple[tuple[str, str], ...], None]](dict)
    for clip in clips:
        who = clip.identity
        if who.machine_id and (columns := tuple(one for one in who.columns if one[0] in folders)):
            said[who.machine_type, who.machine_id, f"{who.snr_db:g}"][columns] = None
    merged = {machine: list(values) for machine, values in said.items() if len(values) > 1}
    if merged:
        (_, machine_id, _), (one, other, *_) = next(iter(merged.items()))
        names = ["/".join(printable(text) for _, text in columns) for columns in (one, other)]
        _log.warning(
            "different folders count as one machine: %s of %s and of %s; %s",
            *(printable(machine_id), *names, "name that folder {machine_type} in --layout to keep them apart"),
        )


def warn_of_unmatched(layout: Layout, clips: Iterable[Clip], listed: Collection[str]) -> None:
    """Warn of recordings that do not match a layout; those in lists may be anywhere."""
    places = [(str(clip.place), clip.path) for clip in clips]
    paths = [path for place, path in places if place not in listed and not layout.match(place)]
    if paths:
        named = ", ".join(map(printable, paths[:_MOST_NAMED]))
        _log.warning(
            "recordings that do not match the layout %s: %d of %d, such as %s; their machine and label stay unknown",
            *(layout.pattern, len(paths), len(places), named),
        )


def warn_of_left_out(remarks: Remarks) -> None:
    """Warn of files that were left out, where no summary says so."""
    if remarks.left_out:
        _log.warning("left out: %s", remarks.describe()["left out"])


def _count_left_out(paths: Sequence[str]) -> str:
    """Count recordings and archives that are not read by suffix, with what to do; zip archives are within another."""
    kinds = Counter(map(kind_left_out, paths))
    advice = {False: "convert them to WAV or FLAC, such as with ffmpeg -i", True: "unpack them"}
    said = []
    for archives, what in advice.items():
        counts = [f"{n:,} {kind}" for kind, n in sorted(kinds.items()) if is_archive(kind) == archives]
        if counts:
            said.append(f"{', '.join(counts).replace('.zip', '.zip within another archive')}: {what}")
    return "; ".join(said)
