"""How the clips of an album differ from those of one that is at an output: which are new, changed, relabelled, gone."""

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from mimii.engine import Existing, StoreError, digest_part, digest_version, name_changes, name_some
from mimii.images.album import Album, digest_recordings
from mimii.images.manifests import IMAGES, image_rows
from mimii.images.there import There, collect_there, read_said, said_keys
from mimii.recordings import Clip, clip_name
from mimii.storage import Objects, Place, absolute, as_unicode

_IDENTITY = ("machine_type", "machine_id", "snr_db", "number", "label", "split")
_TO_UPDATE = (
    "--update renders what is new or has changed and keeps the other images, --prune deletes those of clips gone"
)
_TO_PRUNE = (
    "clips that are gone are not among the recordings named now: name their sources, too, or delete their images by "
    "--prune"
)

_Key = tuple[str, str, str]
"""Which clip a line of the list is about: path, channel and start."""

_Rows = Mapping[_Key, Mapping[str, str]]
"""What the list says of each clip: its first line, with the labels of all of its images."""


@dataclass(frozen=True, slots=True)
class Changes:
    """How an album differs from what is there: paths of clips, with a label before and after.

    Attributes
    ----------
    added, replaced, gone : sequence of str
        Clips that are new; whose recordings have changed; that are not in the album any more.
    relabelled : mapping of str to str
        What changes of each clip: ``"label normal -> abnormal"``.
    to_read : frozenset of int
        The clips of the album that are new or have changed.

    """

    added: Sequence[str] = ()
    replaced: Sequence[str] = ()
    gone: Sequence[str] = ()
    relabelled: Mapping[str, str] = field(default_factory=dict)
    to_read: frozenset[int] = frozenset()

    def describe(self) -> list[str]:
        """Write what changes: a line for each kind, and below it the first clips by name."""
        return name_changes(self.added, self.replaced, self.gone, self.relabelled)


def find_changes(album: Album, objects: Objects, existing: Existing | None) -> Changes:
    """Return how an album differs from the one that is at an output.

    Raises StoreError where the list of images there cannot be read.
    """
    if existing and existing.finished and existing.attributes.get("recordings") == digest_recordings(album):
        return Changes()
    rows = _read_rows(objects, existing)
    there = _read_there(album, objects)
    match, versions = _match(album, rows, there), there.versions
    clips = album.catalogue.clips
    names = [as_unicode(album.catalogue.name(clip)) for clip in range(len(clips))]
    added = [clip for clip in range(len(clips)) if clip not in match]
    current = {clip: (_digest(clips[clip]), digest_version(clips[clip].place)) for clip in match}
    replaced = [clip for clip, (place, version) in current.items() if versions.get(place, version) != version]
    now = _by_clip({name: str(value) for name, value in row.items()} for row in _rows_of(album))
    said = {names[clip]: _relabelled(rows[key], now[_key_of(clips[clip])]) for clip, key in match.items()}
    return Changes(
        sorted(names[clip] for clip in added),
        sorted(names[clip] for clip in replaced),
        _names(album, rows.keys() - set(match.values())),
        dict(sorted((path, change) for path, change in said.items() if change)),
        frozenset([*added, *replaced]),
    )


def find_gone(album: Album, objects: Objects, existing: Existing) -> list[str]:
    """Return the clips at an output that are not in an album, by path."""
    rows = _read_rows(objects, existing)
    if rows.keys() <= {_key_of(clip) for clip in album.catalogue.clips}:
        return []
    return _names(album, rows.keys() - set(_match(album, rows, _read_there(album, objects)).values()))


def refusal(gone: Sequence[str]) -> list[str]:
    """Say why an album is not updated, where clips are gone."""
    return [*name_some("gone", gone), _TO_PRUNE] if gone else []


def clip_differences(album: Album, objects: Objects, existing: Existing) -> list[str]:
    """Say by name how the clips at an output differ from those of an album, and what would make them the same.

    Raises StoreError where the list of images there cannot be read.
    """
    n_there, n_now = existing.attributes.get("n_clips", 0), len(album.names)
    lines = find_changes(album, objects, existing).describe()
    counts = [f"clips: {n_there:,} there, {n_now:,} now"] if n_there != n_now else []
    return [*counts, *(lines or ["the same clips, with other lengths"]), _TO_UPDATE]


def _read_rows(objects: Objects, existing: Existing | None) -> _Rows:
    """Read the list of images; empty where none has been written yet.

    Raises StoreError where that of a finished album is missing or damaged.
    """
    data = objects.get(IMAGES) if existing else None
    if data is None and not (existing and existing.finished):
        return {}
    try:
        rows = list(csv.DictReader(io.StringIO((data or b"").decode(), newline="")))
        found = _by_clip(rows)
    except (ValueError, KeyError, csv.Error):
        found = {}
    if not found:
        msg = (
            f"{objects.root}/{IMAGES}: is missing or damaged, so it is not known which clips the images are of. Run "
            "the command once for the recordings that they were made of, or replace all with --overwrite"
        )
        raise StoreError(msg)
    return found


def _rows_of(album: Album) -> Iterator[Mapping[str, object]]:
    """Yield the lines of the list that there will be; a clip without an image has no file."""
    return ({"file": "", **row} for row in image_rows(album, album.catalogue.problems))


def _by_clip(rows: Iterable[Mapping[str, str]]) -> dict[_Key, dict[str, str]]:
    found, labels = dict[_Key, dict[str, str]](), defaultdict[_Key, list[str]](list)
    for row in rows:
        found.setdefault(_key(row), {name: row[name] for name in (*_IDENTITY, "file")})
        labels[_key(row)].append(row["label"])
    said = {key: {"label": _count_labels(of_one), "labels": " ".join(of_one)} for key, of_one in labels.items()}
    return {key: one | said[key] for key, one in found.items()}


def _count_labels(labels: Sequence[str]) -> str:
    counts = sorted(Counter(labels).items())
    return labels[0] if len(counts) == 1 else " and ".join(f"{count:,} {label}" for label, count in counts)


def _read_there(album: Album, objects: Objects) -> There:
    sizes = objects.sizes()
    return collect_there(read_said(album, objects, said_keys(sizes)).values(), sizes, album.made)


def _match(album: Album, rows: _Rows, there: There) -> dict[int, _Key]:
    """Return the line in the list of each clip of an album that is in it: by the path, else by where that leads."""
    places = {there.shown[row["file"]][0]: key for key, row in rows.items() if row["file"] in there.shown}
    by_place = {digest_part(absolute(key[0]), int(key[1]), float(key[2])): key for key in rows} | places
    match = {}
    for index, clip in enumerate(album.catalogue.clips):
        key = _key_of(clip)
        found = key if key in rows else by_place.get(_digest(clip))
        if found is not None:
            match[index] = found
    return match


def _key(row: Mapping[str, object]) -> _Key:
    """Return which clip a line is about; lists of earlier versions are of whole recordings."""
    return str(row["path"]), str(row.get("channel", 0)), str(row.get("clip_start_s", 0.0))


def _key_of(clip: Clip) -> _Key:
    return as_unicode(clip.path), str(clip.channel), repr(clip.start_s)


def _digest(clip: Clip) -> int:
    return digest_part(str(clip.place), clip.channel, clip.start_s)


def _names(album: Album, keys: Iterable[_Key]) -> list[str]:
    """Return the names of clips that are in a list."""
    clips = (Clip(path, Place(path), channel=int(channel), start_s=float(start)) for path, channel, start in keys)
    return sorted(clip_name(clip, album.catalogue.spec) for clip in clips)


def _relabelled(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """Say what a clip is now, and what it was; empty where it is the same."""
    pairs = ((name, before[name], now[name]) for name in _IDENTITY)
    said = [f"{name} {old or 'none'} -> {new or 'none'}" for name, old, new in pairs if old != new]
    if before["label"] == now["label"] and before["labels"] != now["labels"]:
        said.append(f"label {now['label']}, of other images than before")
    return ", ".join(said)
