"""An album at its output: what is there, what comes before the images, and what comes last.

``render.json`` says what the images are, and whether they are all there; it is written before the first and, with
``finished`` set, after all else.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

from mimii.engine import (
    Existing,
    Head,
    InPlace,
    Pipeline,
    Record,
    Stamp,
    as_unicode,
    changed,
    head_document,
    provenance,
    record_key,
    windows_to_partitions,
)
from mimii.images.album import FORMAT, RECORDS, Album, RenderTask, render_stamp, render_task, style_as_dict
from mimii.images.batch import cut_windows, write_images
from mimii.images.contact_sheet import make_contact_sheet
from mimii.images.manifests import Labelled, classes_document, images_document, manifest
from mimii.recordings import ALL, GOOD, LABEL_NAMES, TEST, TRAIN, UNKNOWN, UNLABELLED, digest_clips
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, is_remote

OVERVIEW, IMAGES, CLASSES, MANIFESTS = "overview.png", "images.csv", "classes.json", "manifests"
ALBUM_HEAD = Head("render.json", "Spectrogram images of machine sound", "set of images")
_SOFTWARE = ("numpy", "scipy", "soundfile", "pillow")


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

    """

    album: Album
    objects: Objects
    read_options: ReadOptions = DEFAULT_READS
    head: ClassVar[Head] = ALBUM_HEAD
    parts: ClassVar[tuple[str, ...]] = (
        *(RECORDS, TRAIN, TEST, ALL, UNLABELLED, MANIFESTS),
        *(OVERVIEW, IMAGES, CLASSES),
    )
    replaced: ClassVar[tuple[str, ...]] = (MANIFESTS,)
    noun: ClassVar[str] = "batch"
    pipeline: ClassVar[Pipeline] = Pipeline(
        "load-mel-db-images", partial(windows_to_partitions, cut=cut_windows, write=write_images)
    )

    @property
    def purpose(self) -> str:
        """The fingerprint of the album."""
        return self.album.fingerprint

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

    def task(self, task: int, _former: Record | None = None) -> RenderTask:
        """Return all that a worker needs to know of a task."""
        return render_task(self.album, task, self.objects, self.read_options)

    def clips_of(self, task: int) -> Sequence[int]:
        """Return the clips whose images a task renders."""
        return self.album.clips_of(task)

    def n_clips(self, task: int) -> int:
        """Count the clips of a task: no clip is in two."""
        return int(self.album.firsts[task + 1] - self.album.firsts[task])

    def differences(self, existing: Existing) -> list[str]:
        """Say how the images at the output differ."""
        there, now = existing.attributes, json.loads(json.dumps(_about(self.album)))
        if there["fingerprint"] == self.album.fingerprint:
            return []
        found = [line for group in ("spec", "style") for line in changed(there.get(group, {}), now[group])]
        if there.get("window") != self.album.window:
            found.append(f"window: {there.get('window')} s there, {self.album.window} s now")
        if there.get("clips_digest") != now["clips_digest"]:
            same = " with other places, lengths, labels or splits" if there.get("n_clips") == now["n_clips"] else ""
            found.append(f"clips: {there.get('n_clips')} there, {now['n_clips']} now{same}")
        if any(line.startswith("colormap:") for line in found):
            found = [line for line in found if not line.startswith("colours:")]  # which follow from it
        return found or [f"format: {there.get('format')} there, {FORMAT} now"]

    def first_documents(self) -> dict[str, bytes]:
        """Return what says which images there will be."""
        return {self.head.key: head_document(_about(self.album) | {"finished": False})}

    def last_documents(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return what is handed over with the images: an overview, lists, manifests."""
        overview = make_contact_sheet(self.album, self.problems(records), self.read_options)
        about = _about(self.album) | {"manifest_base": self.album.base, "finished": True}
        documents = self.lists(records) | ({OVERVIEW: overview} if overview else {})
        return documents | {self.head.key: head_document(about)}

    def is_whole(self, existing: Existing, records: Mapping[int, Record], sizes: Mapping[str, int]) -> bool:
        """Say whether all documents are there, with manifests for the same place."""
        if existing.attributes.get("manifest_base") != self.album.base:
            return False
        overview = set() if all(self.problems(records)) else {OVERVIEW}
        return sizes.keys() >= self.lists(records).keys() | overview

    def lists(self, records: Mapping[int, Record]) -> dict[str, bytes]:
        """Return the list of images, the classes and the manifests."""
        album, problems = self.album, self.problems(records)
        documents = {IMAGES: images_document(_rows(album, problems)), CLASSES: classes_document()}
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
        label = clip.identity.label
        if not problem and label != UNKNOWN and (album.catalogue.splits[index] or ALL) == split:
            for picture in album.pictures(index):
                yield Labelled(image_url(album, picture.key), label, clip.place.modified)


def _rows(album: Album, problems: Sequence[str]) -> Iterator[Mapping[str, object]]:
    """Yield the lines of the list: one an image, and one for each clip that has none."""
    catalogue = album.catalogue
    second = catalogue.spec.hop_length / catalogue.spec.sample_rate
    for index, clip in enumerate(catalogue.clips):
        who = clip.identity
        common = {
            "path": as_unicode(clip.path),
            "machine_type": who.machine_type,
            "machine_id": who.machine_id,
            "snr_db": "" if math.isnan(who.snr_db) else f"{who.snr_db:g}",
            "label": LABEL_NAMES[who.label],
            "number": "" if who.number < 0 else who.number,
            "split": catalogue.splits[index],
            "status": problems[index] or GOOD,
        }
        if problems[index]:
            yield common
            continue
        seconds = int(catalogue.n_samples[index]) / catalogue.spec.sample_rate
        for picture in album.pictures(index):
            width, height = album.size(picture)
            times = {"start_s": f"{picture.start * second:.3f}", "stop_s": f"{min(picture.stop * second, seconds):.3f}"}
            yield {"file": picture.key, **common, "width": width, "height": height, **times}


def _about(album: Album) -> dict[str, Any]:
    catalogue = album.catalogue
    return {
        "title": ALBUM_HEAD.title,
        "spec": {name: value for name, value in catalogue.spec.as_dict().items() if name != "frames"},
        "style": style_as_dict(album.style),
        "window": album.window,
        "format": FORMAT,
        "fingerprint": album.fingerprint,
        "clips_digest": digest_clips(catalogue),
        "n_clips": len(catalogue.clips),
        **provenance(album.sources, "images", _SOFTWARE),
    }
