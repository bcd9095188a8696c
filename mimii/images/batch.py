"""The last steps of a partition of images: windows of each clip in dB -> images -> a record."""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import islice

from mimii.engine import Record, Written, describe, make_record, record_key, to_json, withdraw
from mimii.features import ClipResult
from mimii.images.album import RECORDS, Picture, RenderTask
from mimii.images.pixels import render_image

_IMAGES_A_BATCH = 128


def cut_windows(clip: ClipResult) -> list[ClipResult]:
    """Cut a mel spectrogram into what each image shows: dB are then relative to the image; a fault stays one."""
    if clip.fault:
        return [clip]
    return [replace(clip, value=clip.value[one.start : one.stop], part=one) for one in _pictures(clip)]


def write_images(partition: Iterable[ClipResult]) -> list[Record]:
    """Render and write the images of a partition, then their record; return the record."""
    written, faults, task = dict[str, Written](), list[ClipResult](), None
    for batch in _batches(partition):
        task = task or _begin(batch[0].task)
        images = {window.part.key: render_image(window.value, task.style) for window in batch if not window.fault}
        task.output.put_all(images)
        written |= describe(images)
        faults += [clip for clip in batch if clip.fault]
    assert task is not None  # a partition has at least one clip
    for key in _delete_images(faults):
        written.pop(key, None)
    record = make_record(task.stamp, written, faults)
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


def _delete_images(faults: Iterable[ClipResult]) -> Iterator[str]:
    """Delete the images of recordings that could be read once and cannot any more; yield their keys."""
    for clip in faults:
        for picture in _pictures(clip):
            clip.task.output.delete(picture.key)
            yield picture.key


def _pictures(clip: ClipResult) -> tuple[Picture, ...]:
    task: RenderTask = clip.task
    return task.pictures[task.inputs.index(clip.input)]
