"""Which images are at an output already, of which recordings: what records say, and which of it an album can keep.

A task that writes images replaces its record. Before that, what the old record says of images that stay is set aside,
and what it says of images that will be written anew is dropped: whenever a run is killed, all that is said is true.
"""

import hashlib
import re
from collections.abc import Iterable, Iterator, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field, replace
from typing import Any

from mimii.engine import Record, Written, make_stamp, read_each, to_json
from mimii.features import Fault
from mimii.images.album import (
    EARLIER_FORMAT,
    FORMER,
    RECORDS,
    Album,
    Origin,
    Picture,
    RenderTask,
    album_origins,
    describe_images,
    fingerprint_of,
)
from mimii.images.pixels import SUFFIXES
from mimii.recordings import ABNORMAL, ALL, LABEL_NAMES, NORMAL, TEST, TRAIN, UNKNOWN, UNLABELLED
from mimii.storage import Objects

_LABELLED = rf"(?:{TRAIN}|{TEST}|{ALL})/(?P<label>{LABEL_NAMES[NORMAL]}|{LABEL_NAMES[ABNORMAL]})/(?P=label)-"
_SUFFIX = "|".join(map(re.escape, SUFFIXES.values()))
_IMAGE = re.compile(rf"(?:{_LABELLED}|{UNLABELLED}/{LABEL_NAMES[UNKNOWN]}-)[^/]+(?:{_SUFFIX})")

Shown = tuple[int, int, int, int]
"""What an image shows: place and version of its recording, its first frame, and the frame behind its last one."""


@dataclass(frozen=True, slots=True)
class There:
    """What is at an output.

    Attributes
    ----------
    images : mapping of str to Written
        By key, as they were written; those that have another size now are left out.
    shown : mapping of str to tuple of int
        What each of them shows.
    keys : mapping of tuple of int to str
        The same the other way round.
    bad : mapping of tuple of int to str
        Why recordings could not be read, by origin.
    taken : frozenset of str
        Which of the images have a name that one of the album has: it may be written while others are read.

    """

    images: Mapping[str, Written] = field(default_factory=dict)
    shown: Mapping[str, Shown] = field(default_factory=dict)
    keys: Mapping[Shown, str] = field(default_factory=dict)
    bad: Mapping[tuple[int, ...], str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()

    def find(self, origin: Origin, picture: Picture) -> tuple[str, Written] | None:
        """Return by which key an image is there, perhaps by another name, and its size; None where there is none."""
        shown = (origin.place, origin.version, picture.start, picture.stop)
        key = picture.key if self.shown.get(picture.key) == shown else self.keys.get(shown)
        if key is None or (key != picture.key and key in self.taken):
            return None
        return key, self.images[key]

    @property
    def versions(self) -> dict[int, int]:
        """The version of which there are images, of each place."""
        return {place: version for place, version, _, _ in self.shown.values()}


NOTHING = There()


def keep_images(task: RenderTask, there: There) -> RenderTask:
    """Return a task that does not read clips whose images are all there, or that are known to be unreadable."""
    kept, inputs, faults = dict[str, tuple[str, Written]](), [], {}
    for one, origin, pictures in zip(task.inputs, task.origins, task.pictures, strict=True):
        found = {picture.key: there.find(origin, picture) for picture in pictures}
        is_kept = None not in found.values()
        inputs.append(replace(one, is_kept=is_kept))
        if is_kept:
            kept |= {key: image for key, image in found.items() if image}
        elif problem := there.bad.get(origin):
            faults[one.clip] = Fault(problem)
    return replace(task, inputs=tuple(inputs), kept=kept, faults=faults)


def find_there(album: Album, records: Iterable[Record], sizes: Mapping[str, int]) -> There:
    """Gather what records say of images, and which of their names the album has."""
    there = collect_there(records, sizes, album.made)
    if not there.images:
        return there
    keys = (picture.key for clip in range(len(album.names)) for picture in album.pictures(clip))
    return replace(there, taken=frozenset(key for key in keys if key in there.images))


def collect_there(records: Iterable[Record], sizes: Mapping[str, int], made: str) -> There:
    """Gather what records say of images that are in place and made in one way."""
    images, shown, bad = dict[str, Written](), dict[str, Shown](), dict[tuple[int, ...], str]()
    for record in records:
        if record.result.get("made") != made:
            continue
        clips, about = _clips_of(record), _shown_of(record)
        there = {key: one for key, one in record.written.items() if sizes.get(key) == one.size and key in about}
        images |= there
        shown |= {key: about[key] for key in there}
        bad |= {clips[clip]: why for clip, why in record.bad.items() if clip in clips and clip not in record.unread}
    return There(images, shown, {one: key for key, one in shown.items()}, bad)


def read_said(album: Album, objects: Objects, keys: Iterable[str]) -> dict[str, Record]:
    """Read records by key; those of an earlier format are brought into this one, where they are of this album."""
    found = dict[str, Record]()
    for key, said in read_each(objects, keys):
        record = _from_earlier(album, said) if said and "made" not in said.result else said
        if record and _is_readable(record):
            found[key] = record
    return found


def set_aside(
    objects: Objects, said: Mapping[str, Record], keys: AbstractSet[str], rewritten: AbstractSet[str]
) -> None:
    """Move what records say to where no task writes, but for what is said of images that will be written anew.

    `keys` are those of all records that tasks will replace, also of such as say nothing.
    """
    aside = {}
    for record in said.values():
        left = replace(record, written={key: one for key, one in record.written.items() if key not in rewritten})
        if left.written or left.bad:
            data = to_json(left)
            aside[f"{FORMER}/{hashlib.sha256(data).hexdigest()[:16]}.json"] = data
    objects.put_all(aside)
    for key in sorted(keys - aside.keys()):
        objects.delete(key)


def said_keys(sizes: Mapping[str, int]) -> list[str]:
    """Return the keys of all records, and of what was set aside."""
    return [key for key in sizes if key.startswith((f"{RECORDS}/", f"{FORMER}/"))]


def is_surplus(key: str) -> bool:
    """Say whether an object that no record names is of those that albums delete: images, records, what was set aside.

    Images are known by folder and name; other files that lie among them stay.
    """
    return key.startswith((f"{RECORDS}/", f"{FORMER}/")) or bool(_IMAGE.fullmatch(key))


def _clips_of(record: Record) -> dict[int, tuple[int, ...]]:
    return {clip: tuple(origin) for clip, *origin in _rows(record.result["clips"])}


def _shown_of(record: Record) -> dict[str, Shown]:
    clips = _clips_of(record)
    said = ((key, *map(int, values)) for key, values in record.result["images"].items())
    return {key: (clips[clip][0], clips[clip][1], start, stop) for key, clip, start, stop in said}


def _rows(values: Any) -> Iterator[list[int]]:  # noqa: ANN401  a list or an array
    return ([int(value) for value in row] for row in values)


def _is_readable(record: Record) -> bool:
    """Say whether a record can be used; one that was damaged has no say."""
    try:
        _shown_of(record)
        return all(len(clip) == len(Origin._fields) for clip in _clips_of(record).values())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError):
        return False


def _from_earlier(album: Album, record: Record) -> Record | None:
    """Return a record of format 1 as one of today: it is known which clips it is of where the album is the same."""
    task = record.stamp.task
    if not 0 <= task < album.n_tasks:
        return None
    clips = album.clips_of(task)
    places = [album.catalogue.clips[clip].place for clip in clips]
    if record.stamp != make_stamp(fingerprint_of(album, EARLIER_FORMAT), task, places):
        return None
    pictures = {clip: album.pictures(clip) for clip in clips}
    return replace(record, result=describe_images(album.made, clips, album_origins(album, clips), pictures))
