"""Clips and a style make an album: which images there will be, which task renders which. Nothing is read or written."""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Stamp, make_stamp
from mimii.features import FeatureSpec, Loaded, SpecError
from mimii.images.pixels import SUFFIXES, Style
from mimii.recordings import Catalogue, digest_clips, image_names
from mimii.storage import DEFAULT_READS, Objects, Place, ReadOptions

FORMAT = 1
"""Goes into the fingerprint: counts changes of the layout or of the kernels' results."""

RECORDS = "records"
_FRAMES_A_TASK = 10_000


@dataclass(frozen=True, slots=True)
class Picture:
    """One image of a clip.

    Attributes
    ----------
    key : str
        Its file, below the output.
    start, stop : int
        Which frames of the clip it shows.

    """

    key: str
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Album:
    """All that is known of a set of images before any of it is rendered.

    Attributes
    ----------
    catalogue : Catalogue
        The clips; each has a row a frame.
    style : Style
        How they look.
    window : float or None
        Seconds that an image shows; None for the whole clip.
    base : str
        Where on S3 the images will be, for manifests; empty where there are to be none.
    names : tuple of str
        The image of each clip, without a suffix.
    firsts : ndarray of int64, shape (n_tasks + 1,)
        Of the clips that can be used, the first of each task, and the number of all.
    fingerprint : str
        Of all that decides a pixel or a name.

    """

    catalogue: Catalogue
    style: Style
    window: float | None
    base: str
    names: tuple[str, ...]
    firsts: NDArray[np.int64]
    fingerprint: str

    @property
    def records(self) -> str:
        """Below which prefix the records are."""
        return RECORDS

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.firsts) - 1

    def clips_of(self, task: int) -> list[int]:
        """Say of which clips a task renders the images."""
        usable = np.flatnonzero(self.catalogue.n_rows)
        clips: list[int] = usable[self.firsts[task] : self.firsts[task + 1]].tolist()
        return clips

    def n_ended(self, task: int) -> int:
        """Count the clips that are finished with a task: no clip is in two."""
        return int(self.firsts[task + 1] - self.firsts[task])

    def pictures(self, clip: int) -> list[Picture]:
        """Say which images there will be of a clip."""
        total, suffix = int(self.catalogue.n_rows[clip]), SUFFIXES[self.style.format]
        if self.window is None or not total:
            return [Picture(self.names[clip] + suffix, 0, total)] if total else []
        hops = self.window * self.catalogue.spec.sample_rate / self.catalogue.spec.hop_length
        count = max(1, math.ceil(int(self.catalogue.n_samples[clip]) / (hops * self.catalogue.spec.hop_length) - 1e-9))
        width = min(round(hops), total)
        starts = sorted({min(round(index * hops), total - width) for index in range(count)})
        return [
            Picture(f"{self.names[clip]}-w{index:04d}{suffix}", start, start + width)
            for index, start in enumerate(starts)
        ]

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the width and the height of an image in pixels."""
        return self.style.shape(picture.stop - picture.start, self.catalogue.spec.n_mels)


@dataclass(frozen=True, slots=True)
class Part:
    """The images of one clip.

    Attributes
    ----------
    clip : int
        Which clip of the album.
    place : Place
        Where its bytes are.
    n_samples : int
        Samples of one channel, as planned.
    pictures : tuple of Picture
        What to render of it.

    """

    clip: int
    place: Place
    n_samples: int
    pictures: tuple[Picture, ...]


@dataclass(frozen=True, slots=True)
class RenderTask:
    """All that a worker needs to render the images of some clips.

    Attributes
    ----------
    output : Objects
        Where the images go.
    read_options : ReadOptions
        How to fetch the recordings.
    spec : FeatureSpec
        What to compute.
    style : Style
        What it is to look like.
    stamp : Stamp
        For the record.
    parts : tuple of Part
        A clip each.
    faults : mapping of int to Loaded
        Clips that are known not to be readable.

    """

    output: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    style: Style
    stamp: Stamp
    parts: tuple[Part, ...]
    faults: Mapping[int, Loaded] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the task and its recordings, for messages."""
        return f"batch {self.stamp.task}, recordings {self.parts[0].place} to {self.parts[-1].place}"


def make_album(catalogue: Catalogue, style: Style, window: float | None = None, base: str = "") -> Album:
    """Plan a set of images."""
    spec = catalogue.spec
    if window is not None and not window * spec.sample_rate >= 2 * spec.hop_length:
        least = 2 * spec.hop_length / spec.sample_rate
        msg = f"a window must be at least two frames, which are {least:g} s, not {window:g} s"
        raise SpecError(msg)
    names = tuple(image_names(catalogue.clips, catalogue.splits))
    values = (FORMAT, spec.as_dict(), style_as_dict(style), window, digest_clips(catalogue), names)
    fingerprint = hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
    return Album(catalogue, style, window, base, names, _firsts(catalogue), fingerprint)


def render_task(album: Album, task: int, output: Objects, read_options: ReadOptions = DEFAULT_READS) -> RenderTask:
    """Gather what a worker needs to know for one task."""
    parts = tuple(_parts(album, album.clips_of(task)))
    return RenderTask(output, read_options, album.catalogue.spec, album.style, make_stamp(album, task), parts)


def style_as_dict(style: Style) -> dict[str, object]:
    """Return a style by name, as JSON takes it; the table of colours as a digest."""
    colours = hashlib.sha256(style.colours).hexdigest()[:16] if style.colours else ""
    return asdict(style) | {"colours": colours}


def _parts(album: Album, clips: Sequence[int]) -> Iterator[Part]:
    catalogue = album.catalogue
    for clip in clips:
        pictures = tuple(album.pictures(clip))
        yield Part(clip, catalogue.clips[clip].place, int(catalogue.n_samples[clip]), pictures)


def _firsts(catalogue: Catalogue) -> NDArray[np.int64]:
    """Cut the clips where enough frames for a task have come together."""
    frames = catalogue.n_rows[catalogue.n_rows > 0].astype(np.int64)
    batch = (np.cumsum(frames) - frames) // _FRAMES_A_TASK
    changes = np.flatnonzero(np.diff(batch)) + 1
    return np.array([*([0] if len(frames) else []), *changes, len(frames)], np.int64)
