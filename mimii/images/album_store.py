"""An album at its output: what is there, what comes before the images, and what comes last.

``render.json`` says what the images are, and whether they are all there; it is written before the first and, with
``finished`` set, after all else.
"""

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mimii.engine import Existing, Record, UnfinishedError, as_unicode, find_existing, provenance, read_records
from mimii.images.album import FORMAT, RECORDS, Album, style_as_dict
from mimii.images.manifests import Labelled, classes_document, images_document, manifest
from mimii.recordings import ALL, LABEL_NAMES, TEST, TRAIN, UNKNOWN, UNLABELLED, digest_clips
from mimii.storage import Objects

__all__ = ["begin", "differences", "erase", "finish", "is_finished", "look", "read_records"]

OVERVIEW, IMAGES, CLASSES, MANIFESTS = "overview.png", "images.csv", "classes.json", "manifests"
_ABOUT = "render.json"
_TITLE = "Spectrogram images of machine sound"
_SOFTWARE = ("numpy", "scipy", "soundfile", "pillow")
_FOLDERS = (TRAIN, TEST, ALL, UNLABELLED, MANIFESTS, RECORDS)


def look(objects: Objects) -> Existing | None:
    """Look at what is at the output."""
    return find_existing(objects, _ABOUT, _TITLE, "set of images")


def differences(existing: Existing, album: Album, _objects: Objects) -> list[str]:
    """Say how the images at an output differ from others."""
    there, now = existing.attributes, json.loads(_json(_about(album, [])))
    if there["fingerprint"] == album.fingerprint:
        return []
    found = [
        f"{name}: {there.get(group, {}).get(name)} there, {value} now"
        for group in ("spec", "style")
        for name, value in now[group].items()
        if there.get(group, {}).get(name) != value
    ]
    if there.get("window") != album.window:
        found.append(f"window: {there.get('window')} s there, {album.window} s now")
    if there.get("clips_digest") != now["clips_digest"]:
        same = " with other places, lengths, labels or splits" if there.get("n_clips") == now["n_clips"] else ""
        found.append(f"clips: {there.get('n_clips')} there, {now['n_clips']} now{same}")
    if any(line.startswith("colormap:") for line in found):
        found = [line for line in found if not line.startswith("colours:")]  # which go without saying
    return found or [f"format: {there.get('format')} there, {FORMAT} now"]


def begin(objects: Objects, album: Album, sources: Sequence[str]) -> None:
    """Say what will be at an output. May be done again over unfinished images of the same album."""
    objects.put(_ABOUT, _json(_about(album, sources) | {"finished": False}))


def finish(objects: Objects, album: Album, sources: Sequence[str], overview: bytes | None) -> dict[int, Record]:
    """Write what is handed over with the images, and last that they are all there."""
    done = read_records(objects, album)
    if missing := [task for task in range(album.n_tasks) if task not in done]:
        msg = f"{objects.root}: {len(missing)} of {album.n_tasks} batches are not done, the first is {missing[0]}"
        raise UnfinishedError(msg)
    documents = documents_of(album, done) | ({OVERVIEW: overview} if overview else {})
    for key in objects.sizes(MANIFESTS).keys() - documents.keys():
        objects.delete(key)
    objects.put_all(documents)
    objects.delete_partial()
    objects.put(_ABOUT, _json(_about(album, sources) | {"manifest_base": album.base, "finished": True}))
    objects.delete_partial()
    return done


def is_finished(objects: Objects, existing: Existing | None, album: Album, done: Mapping[int, Record]) -> bool:
    """Say whether an output is whole, down to its smallest object."""
    if existing is None or not existing.finished or len(done) < album.n_tasks:
        return False
    if existing.attributes.get("manifest_base") != album.base:
        return False
    overview = set() if all(problems_of(album, done)) else {OVERVIEW}
    return objects.sizes().keys() >= documents_of(album, done).keys() | overview


def erase(objects: Objects) -> None:
    """Delete the images and all that came with them; what says that they are images goes last."""
    if about := objects.get(_ABOUT):
        objects.put(_ABOUT, _json(json.loads(about) | {"finished": False}))
    objects.delete_below(RECORDS)
    for folder in _FOLDERS:
        objects.delete_below(folder)
    for key in (OVERVIEW, IMAGES, CLASSES):
        objects.delete(key)
    objects.delete_partial()
    objects.delete(_ABOUT)


def documents_of(album: Album, done: Mapping[int, Record]) -> dict[str, bytes]:
    """Make what is handed over with the images."""
    problems = problems_of(album, done)
    documents = {IMAGES: images_document(_rows(album, problems)), CLASSES: classes_document()}
    if not album.base:
        return documents
    splits = sorted({split or ALL for split in album.catalogue.splits} & {TRAIN, TEST, ALL}, reverse=True)
    lines = {split: list(_labelled(album, problems, split)) for split in splits}
    return documents | {manifest_key(split): manifest(images) for split, images in lines.items() if images}


def problems_of(album: Album, done: Mapping[int, Record]) -> list[str]:
    """Say why each clip has no image; empty where it has."""
    problems = list(album.catalogue.problems)
    for record in done.values():
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
            "status": problems[index] or "ok",
        }
        if problems[index]:
            yield common
            continue
        seconds = int(catalogue.n_samples[index]) / catalogue.spec.sample_rate
        for picture in album.pictures(index):
            width, height = album.size(picture)
            times = {"start_s": f"{picture.start * second:.3f}", "stop_s": f"{min(picture.stop * second, seconds):.3f}"}
            yield {"file": picture.key, **common, "width": width, "height": height, **times}


def _about(album: Album, sources: Sequence[str]) -> dict[str, Any]:
    catalogue = album.catalogue
    return {
        "title": _TITLE,
        "spec": {name: value for name, value in catalogue.spec.as_dict().items() if name != "frames"},
        "style": style_as_dict(album.style),
        "window": album.window,
        "format": FORMAT,
        "fingerprint": album.fingerprint,
        "clips_digest": digest_clips(catalogue),
        "n_clips": len(catalogue.clips),
        **provenance(sources, "images", _SOFTWARE),
    }


def _json(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, indent=2).encode() + b"\n"
