"""The last steps of a partition of images: windows of each clip in dB -> images -> a record.

Images that are there already stay as they are, or are copied to another name; their clips are not read.
"""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from mimii.engine import Record, Written, describe, make_record, record_key, to_json, withdraw
from mimii.features import ClipResult
from mimii.images.album import RECORDS, Picture, RenderTask, describe_images
from mimii.images.pixels import render_image

_IMAGES_A_BATCH = 128


class ImageError(OSError):
    """An image that was to be copied to another name, and is not as it was written; the message says which."""


def cut_windows(clip: ClipResult) -> list[ClipResult]:
    """Cut a mel spectrogram into what each image shows: dB are then relative to the image.

    A fault stays one, and so does a clip whose images are there.
    """
    if clip.fault or clip.input.is_kept:
        return [clip]
    return [replace(clip, value=clip.value[one.start : one.stop], part=one) for one in _pictures(clip)]


def write_images(partition: Iterable[ClipResult]) -> list[Record]:
    """Render and write the images of a partition, then their record; return the record.

    Images of clips that cannot be read any more are left to the end of the run: the list may still name them.
    """
    written, faults, task = dict[str, Written](), list[ClipResult](), None
    for batch in _batches(partition):
        task = task or _begin(batch[0].task)
        images = {key: data for window in batch for key, data in _images(window)}
        task.output.put_all(images)
        written |= describe(images)
        faults += [clip for clip in batch if clip.fault]
    assert task is not None  # a partition has at least one clip
    record = _make_record(task, written, faults)
    task.output.put(record_key(RECORDS, task.stamp.task), to_json(record))
    return [record]


def _batches(windows: Iterable[ClipResult]) -> Iterator[list[ClipResult]]:
    """Yield windows as many at a time as images are written together."""
    windows = iter(windows)
    while batch := list(islice(windows, _IMAGES_A_BATCH)):
        yield batch


def _begin(task: RenderTask) -> RenderTask:
    withdraw(task.output, record_key(RECORDS, task.stamp.task), task.stamp)
    return task


def _images(window: ClipResult) -> Iterator[tuple[str, bytes]]:
    """Yield the images that are to be written of a window, or of a clip that has its images by other names."""
    if window.input.is_kept:
        kept = window.task.kept
        moved = [picture.key for picture in _pictures(window) if kept[picture.key][0] != picture.key]
        yield from ((key, _read_back(window.task, *kept[key])) for key in moved)
    elif not window.fault:
        yield window.part.key, render_image(window.value, window.task.style)


def _read_back(task: RenderTask, key: str, written: Written) -> bytes:
    data = task.output.get(key)
    if data is None or hashlib.sha256(data).hexdigest() != written.sha256:
        what = "this image is damaged; delete it and run" if data else "this image is not there any more; run"
        msg = f"{task.output.root}/{key}: {what} the same command again, and it is rendered from its recording"
        raise ImageError(msg)
    return data


def _make_record(task: RenderTask, written: dict[str, Written], faults: list[ClipResult]) -> Record:
    """Return the record of a task: the images of all clips that could be read, in the order of the album."""
    bad, clips = {clip.input.clip for clip in faults}, [one.clip for one in task.inputs]
    pictures = {clip: some for clip, some in zip(clips, task.pictures, strict=True) if clip not in bad}
    there = {key: one for key, (_, one) in task.kept.items()} | written
    images = {picture.key: there[picture.key] for some in pictures.values() for picture in some}
    result = describe_images(task.made, clips, task.origins, pictures)
    return make_record(task.stamp, images, faults, result)


def _pictures(clip: ClipResult) -> tuple[Picture, ...]:
    task: RenderTask = clip.task
    return task.pictures[task.inputs.index(clip.input)]
