"""One task: some clips -> load -> mel -> dB -> images -> write -> record."""

from collections.abc import Iterator
from itertools import islice

from mimii.engine import Done, Record, Written, describe, record_key, to_json, withdraw
from mimii.features import FloatArray, load_all, power_to_db
from mimii.images.album import RECORDS, Part, RenderTask
from mimii.images.pixels import render_image

_IMAGES_A_BATCH = 128


def render_batch(task: RenderTask) -> Done:
    """Render the images of some clips and write them, then their record.

    The same task writes the same bytes, always, so it may be done twice, or by two workers at once.
    """
    clips = list(zip(task.parts, load_all(task), strict=True))
    key = record_key(RECORDS, task.stamp.task)
    withdraw(task.output, key, task.stamp)
    for part in (part for part, clip in clips if clip.mel is None):
        _delete_images(task, part)
    written = _write(task, (image for part, clip in clips for image in render_clip(part, clip.mel, task)))
    bad = {part.clip: clip.problem for part, clip in clips if clip.problem}
    record = Record(task.stamp, written, bad, tuple(part.clip for part, clip in clips if clip.unread))
    task.output.put(key, to_json(record))
    return Done(task.stamp.task, len(task.parts), record.size, bad)


def render_clip(part: Part, mel: FloatArray | None, task: RenderTask) -> Iterator[tuple[str, bytes]]:
    """Render the images of one clip, each as if the frames that it shows were all of the clip."""
    if mel is not None:
        for picture in part.pictures:
            decibel = power_to_db(mel[picture.start : picture.stop], task.spec)
            yield picture.key, render_image(decibel, task.style)


def _write(task: RenderTask, images: Iterator[tuple[str, bytes]]) -> dict[str, Written]:
    """Write images, many at a time; return what was written."""
    written: dict[str, Written] = {}
    while batch := dict(islice(images, _IMAGES_A_BATCH)):
        task.output.put_all(batch)
        written |= describe(batch)
    return written


def _delete_images(task: RenderTask, part: Part) -> None:
    """Delete the images of a recording that was good once and cannot be read any more."""
    for picture in part.pictures:
        task.output.delete(picture.key)
