"""An album at its output: what is there, what comes before the images, and what comes last.

``render.json`` says what the images are, and whether they are all there; it is written before the first and, with
``finished`` set, after all else.
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, ClassVar

from mimii.engine import (
    Existing,
    Head,
    InPlace,
    Pipeline,
    Record,
    Stamp,
    changed,
    compare,
    find_tasks,
    head_document,
    is_valid,
    look,
    provenance,
    record_key,
    windows_to_partitions,
)
from mimii.features import complete_spec
from mimii.images.album import (
    EARLIER_FORMAT,
    FORMAT,
    FORMER,
    RECORDS,
    Album,
    RenderTask,
    digest_recordings,
    fingerprint_of,
    render_stamp,
    render_task,
    style_as_dict,
)
from mimii.images.batch import cut_windows, write_images
from mimii.images.changes import clip_differences, find_gone, refusal
from mimii.images.contact_sheet import digest_contact_sheet, make_contact_sheet
from mimii.images.manifests import IMAGES, Labelled, classes_document, image_rows, images_document, manifest
from mimii.images.there import NOTHING, There, find_there, is_surplus, keep_images, read_said, said_keys, set_aside
from mimii.recordings import ABNORMAL, ALL, LABEL_NAMES, NORMAL, TEST, TRAIN, UNKNOWN, UNLABELLED, digest_clips
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, is_remote

OVERVIEW, CLASSES, MANIFESTS = "overview.png", "classes.json", "manifests"
ALBUM_HEAD = Head("render.json", "Spectrogram images of machine sound", "set of images")
_OF_EARLIER_FORMAT = (
    "its records do not say of which recordings its images are. Run this once for the recordings that it was made of: "
    "nothing is rendered then, and from then on it takes --update"
)
_LABELS = (LABEL_NAMES[NORMAL], LABEL_NAMES[ABNORMAL])
_FOLDERS = (
    *(f"{split}/{label}" for split in (TRAIN, TEST, ALL) for label in _LABELS),
    *(TRAIN, TEST, ALL, UNLABELLED, FORMER),
)
_SOFTWARE = ("numpy", "scipy", "soundfile", "soxr", "pillow")


@dataclass(frozen=True, slots=True)
class AlbumOutput(InPlace):
    """An album at its place; see `mimii.engine.Output` for the methods.

    Attributes
    ----------
    album : Album
        Which images there will be.
    objects : Objects
        Where they go.
    read_options : ReadOptions
        How workers fetch the recordings.
    is_update : bool
        Whether an album of other clips that is there becomes this one.
    prune : bool
        Whether, then, images of clips are deleted that are not in this one.
    existing : Existing or None
        What the head at the output says.
    there : There
        Which images are there already.

    """

    album: Album
    objects: Objects
    read_options: ReadOptions = DEFAULT_READS
    is_update: bool = False
    prune: bool = False
    existing: Existing | None = None
    there: There = NOTHING
    head: ClassVar[Head] = ALBUM_HEAD
    parts: ClassVar[tuple[str, ...]] = (
        *(RECORDS, FORMER, TRAIN, TEST, ALL, UNLABELLED, MANIFESTS),
        *(OVERVIEW, IMAGES, CLASSES),
    )
    replaced: ClassVar[tuple[str, ...]] = (MANIFESTS,)
    noun: ClassVar[str] = "batch"
    pipeline: ClassVar[Pipeline] = Pipeline(
        "load-mel-db-images", partial(windows_to_partitions, cut=cut_windows, write=write_images)
    )

    @property
    def purpose(self) -> str:
        """Digest of the album and of the versions of its recordings."""
        return digest_recordings(self.album)

    def at(self, existing: Existing | None) -> "AlbumOutput":
        """Return this output, knowing what is there."""
        return replace(self, existing=existing)

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return self.album.n_tasks

    @property
    def is_remote(self) -> bool:
        """Whether tasks wait for S3."""
        return is_remote(self.objects.root) or self.album.catalogue.is_remote

    def record_key(self, task: int) -> str:
        """Return the key of the record of a task."""
        return record_key(RECORDS, task)

    def stamp(self, task: int) -> Stamp:
        """Return what the record of a task must bear."""
        return render_stamp(self.album, task)

    def accepts(self, record: Record) -> bool:
        """Accept every valid record."""
        return bool(record)

    def recall(self, todo: Sequence[int], sizes: Mapping[str, int]) -> "AlbumOutput":
        """Return the same output with the images that are there, having set aside what records say of them."""
        said = self._read_said(todo, sizes)
        output = replace(self, there=find_there(self.album, said.values(), sizes))
        keys = {key for key in self._said_keys(todo, sizes) if not self._is_done(key, said.get(key), sizes)}
        set_aside(self.objects, {key: said[key] for key in said.keys() & keys}, keys, output.rewritten(todo))
        return output

    def with_there(self, todo: Sequence[int], sizes: Mapping[str, int]) -> "AlbumOutput":
        """Return the same output with the images that are there; nothing is written."""
        return replace(self, there=find_there(self.album, self._read_said(todo, sizes).values(), sizes))

    def count_work(self) -> tuple[int, int, int]:
        """Count images to be rendered, images to be copied to another name, and bytes of recordings to be read."""
        existing = look(self.objects, self.head)
        found, _ = compare(self, existing if existing and not self._other_look(existing) else None)
        todo = find_tasks(self, found.records)
        tasks = list(map(self.with_there(todo, found.sizes).task, todo))
        read = [
            (one, pictures)
            for task in tasks
            for one, pictures in zip(task.inputs, task.pictures, strict=True)
            if not one.is_kept and one.clip not in task.faults
        ]
        n_copied = sum(key != there for task in tasks for key, (there, _) in task.kept.items())
        return sum(len(pictures) for _, pictures in read), n_copied, sum(one.place.fetched for one, _ in read)

    def rewritten(self, todo: Iterable[int]) -> set[str]:
        """Return the keys of all images that tasks will write."""
        keys = set()
        for task in map(self.task, todo):
            every = (picture.key for pictures in task.pictures for picture in pictures)
            keys |= {key for key in every if task.kept.get(key, ("",))[0] != key}
        return keys

    def _said_keys(self, todo: Sequence[int], sizes: Mapping[str, int]) -> list[str]:
        """Name the records that are not those of tasks that are done, and what was set aside."""
        done = set(map(self.record_key, set(range(self.n_tasks)).difference(todo)))
        return [key for key in said_keys(sizes) if key not in done]

    def _read_said(self, todo: Sequence[int], sizes: Mapping[str, int]) -> dict[str, Record]:
        return read_said(self.album, self.objects, self._said_keys(todo, sizes))

    def _is_done(self, key: str, record: Record | None, sizes: Mapping[str, int]) -> bool:
        """Say whether another run of this album has written a record since it was found to be missing."""
        task = record.stamp.task if record else -1
        if record is None or not 0 <= task < self.n_tasks or key != self.record_key(task):
            return False
        return is_valid(record, self.stamp(task), sizes) and not record.unread

    def task(self, task: int, _former: Record | None = None) -> RenderTask:
        """Return all that a worker needs to know of a task."""
        return keep_images(render_task(self.album, task, self.objects, self.read_options), self.there)

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips whose images a task renders."""
        return self.album.clips_of(task)

    def n_clips(self, task: int) -> int:
        """Count the clips of a task: no clip is in two."""
        return int(self.album.firsts[task + 1] - self.album.firsts[task])

    def differences(self, existing: Existing) -> list[str]:
        """Say how the images at the output differ."""
        if existing.attributes["fingerprint"] in self._fingerprints:
            return []
        return self._other_look(existing) or self._other_clips(existing)

    @property
    def _fingerprints(self) -> tuple[str, str]:
        """The fingerprint of the album, and that by which an earlier version knew it."""
        return self.album.fingerprint, fingerprint_of(self.album, EARLIER_FORMAT)

    def _other_look(self, existing: Existing) -> list[str]:
        """Say how the images that are there differ, whichever clips they are of."""
        there, now = existing.attributes, json.loads(json.dumps(_about(self.album)))
        found = changed(complete_spec(there.get("spec", {})), now["spec"]) + changed(
            there.get("style", {}), now["style"]
        )
        if there.get("window") != self.album.window:
            found.append(f"window: {_seconds(there.get('window'))} there, {_seconds(self.album.window)} now")
        if any(line.startswith("colormap:") for line in found):
            found = [line for line in found if not line.startswith("colours:")]  # which follow from it
        if not found and there.get("format") != FORMAT and there["fingerprint"] not in self._fingerprints:
            found = [f"format: {there.get('format')} there, {FORMAT} now; {_OF_EARLIER_FORMAT}"]
        return found

    def _other_clips(self, existing: Existing) -> list[str]:
        """Say by name how the clips of the album that is there differ, and what would make them the same."""
        if self.is_update:
            return [] if self.prune else refusal(find_gone(self.album, self.objects, existing))
        return clip_differences(self.album, self.objects, existing)

    def first_documents(self) -> dict[str, bytes]:
        """Return what says which images there will be."""
        return {self.head.key: head_document(_about(self.album) | {"finished": False})}

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return what is handed over with the images: an overview, lists, manifests."""
        lists, overview = self.lists(records), self._draw_overview(records)
        drawn = {"of": digest_contact_sheet(self.album, self.problems(records)), "sha256": _sha256(overview or b"")}
        found = {"lists": _digest_lists(lists), "overview": drawn}
        about = _about(self.album) | {"manifest_base": self.album.base, **found, "finished": True}
        documents = lists | ({OVERVIEW: overview} if overview else {})
        return documents | {self.head.key: head_document(about)}

    def _draw_overview(self, records: Mapping[int, Record]) -> bytes | None:
        """Return the overview that is there, where it shows what it would show now; else draw one."""
        drawn = (self.existing.attributes if self.existing else {}).get("overview", {})
        if drawn.get("of") == digest_contact_sheet(self.album, self.problems(records)):
            there = self.objects.get(OVERVIEW)
            if there and _sha256(there) == drawn.get("sha256"):
                return there
        return make_contact_sheet(self.album, self.problems(records), self.read_options)

    def surplus(self, records: Mapping[int, Record], sizes: Mapping[str, int]) -> set[str]:
        """Return what is of clips, labels and splits that the album has not any more, and what was set aside."""
        ours = {key for task, record in records.items() for key in (self.record_key(task), *record.written)}
        overview = {OVERVIEW} if all(self.problems(records)) else set()
        return {key for key in sizes.keys() - ours if is_surplus(key)} | (overview & sizes.keys())

    def find_replaced(self, sizes: Mapping[str, int]) -> list[str]:
        """Return the folders for images that have none: a run that was killed may have left empty ones."""
        if is_remote(self.objects.root):  # there are no folders
            return []
        used = {key.rpartition("/")[0] for key in sizes}
        return [folder for folder in _FOLDERS if not any(f"{one}/".startswith(f"{folder}/") for one in used)]

    def delete_replaced(self, keys: Iterable[str]) -> None:
        """Delete such folders."""
        for key in keys:
            self.objects.delete_below(key)

    def is_whole(self, existing: Existing, records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether all documents are there, with manifests for the same place."""
        lists, about = self.lists(records), _about(self.album)
        wanted = {name: about[name] for name in ("fingerprint", "recordings")}
        wanted |= {"manifest_base": self.album.base, "lists": _digest_lists(lists)}
        overview = set() if all(self.problems(records)) else {OVERVIEW}
        is_same = all(existing.attributes.get(name) == value for name, value in wanted.items())
        return is_same and sizes.keys() >= lists.keys() | overview and not self.surplus(records, sizes)

    def lists(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return the list of images, the classes and the manifests."""
        album, problems = self.album, self.problems(records)
        documents = {IMAGES: images_document(image_rows(album, problems)), CLASSES: classes_document()}
        if not album.base:
            return documents
        splits = sorted({split or ALL for split in album.catalogue.splits} & {TRAIN, TEST, ALL}, reverse=True)
        lines = {split: list(_labelled(album, problems, split)) for split in splits}
        return documents | {manifest_key(split): manifest(images) for split, images in lines.items() if images}

    def problems(self, records: Mapping[int, Record]) -> list[str]:
        """Return why each clip has no image; empty where it has."""
        problems = list(self.album.catalogue.problems)
        for record in records.values():
            for clip, problem in record.bad.items():
                problems[clip] = problem
        return problems


def manifest_key(split: str) -> str:
    """Return the key of the manifest of a split."""
    return f"{MANIFESTS}/{split}.manifest"


def image_url(album: Album, key: str) -> str:
    """Return where on S3 an image is, or will be."""
    return f"{album.base.rstrip('/')}/{key}"


def _labelled(album: Album, problems: Sequence[str], split: str) -> Iterator[Labelled]:
    for index, (clip, problem) in enumerate(zip(album.catalogue.clips, problems, strict=True)):
        if not problem and (album.catalogue.splits[index] or ALL) == split:
            is_human = not (album.scored and album.scored[index])
            for picture in album.pictures(index):
                if picture.label != UNKNOWN:
                    yield Labelled(image_url(album, picture.key), picture.label, clip.place.modified, is_human)


def _digest_lists(documents: Mapping[str, bytes]) -> str:
    return _sha256(b"".join(key.encode() + data for key, data in sorted(documents.items())))[:16]


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _seconds(length: float | None) -> str:
    return "none" if length is None else f"{length:g} s"


def _about(album: Album) -> dict[str, Any]:
    catalogue = album.catalogue
    return {
        "title": ALBUM_HEAD.title,
        "spec": {name: value for name, value in catalogue.spec.as_dict().items() if name != "frames"},
        "style": style_as_dict(album.style),
        "window": album.window,
        **({"label_by": album.label_by} if album.label_by else {}),
        "format": FORMAT,
        "fingerprint": album.fingerprint,
        "clips_digest": digest_clips(catalogue),
        "recordings": digest_recordings(album),
        "n_clips": len(catalogue.clips),
        **provenance(album.sources, "images", _SOFTWARE),
    }
