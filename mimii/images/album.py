"""Clips and a style make an album: which images there will be, which task renders which. Nothing is read or written."""

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from mimii.engine import Stamp, Written, find_origins, make_stamp
from mimii.features import Fault, FeatureSpec, Input, SpecError
from mimii.images.pixels import SUFFIXES, Style
from mimii.images.scored import Scored
from mimii.recordings import ABNORMAL, UNKNOWN, Catalogue, Clip, digest_clips, image_names, labelled_name
from mimii.storage import DEFAULT_READS, Objects, ReadOptions, numbered

FORMAT = 2
"""Goes into the fingerprint: counts changes of the layout or of the kernels' results."""

EARLIER_FORMAT = 1
"""The format whose images are those of today, and whose records do not say of which recordings they are."""

RECORDS, FORMER = "records", "former"
"""Folders of the records, and of what earlier ones said of images that are still there, until all tasks are done."""

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
    label : int
        That of the clip or, where the album is labelled by moments, of what it shows: 0 normal, 1 abnormal, -1 unknown.

    """

    key: str
    start: int
    stop: int
    label: int


class Origin(NamedTuple):
    """Which recording a clip is of, as digests, see `mimii.engine.Origins`; and how many samples it has."""

    place: int
    version: int
    archive: int
    n_samples: int


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
    usable : ndarray of int64, shape (n_usable,)
        The clips that can be used.
    firsts : ndarray of int64, shape (n_tasks + 1,)
        Of the clips that can be used, the first of each task, and the number of all.
    fingerprint : str
        Of all that decides a pixel or a name.
    sources : tuple of str
        Where the recordings were found.
    scored : tuple of Scored or None
        Of each clip, where it is unlike normal, to label what each image shows; None where it was not scored. Empty
        where images have the labels of their clips.
    label_by : str
        Where that was read.

    """

    catalogue: Catalogue
    style: Style
    window: float | None
    base: str
    names: tuple[str, ...]
    usable: NDArray[np.int64]
    firsts: NDArray[np.int64]
    fingerprint: str
    sources: tuple[str, ...] = ()
    scored: tuple[Scored | None, ...] = ()
    label_by: str = ""

    def __repr__(self) -> str:
        n_images = sum(len(self.pictures(clip)) for clip in range(len(self.names)))
        n_bad = sum(map(bool, self.catalogue.problems))
        about = f", {self.describe(int(self.usable[0]))}" if len(self.usable) else ""
        clips, images = numbered(len(self.names), "clip"), numbered(n_images, "image")
        return f"<Album: {clips} ({n_bad:,} cannot be used), {images}{about}>"

    def describe(self, clip: int) -> str:
        """Say how large the first image of a clip is, and what its axes and its colours stand for."""
        picture = self.pictures(clip)[0]
        spec, (width, height) = self.catalogue.spec, self.size(picture)
        start_s, stop_s = self.times(clip, picture.start, picture.stop)
        bands = f"{spec.n_mels} mel bands from {spec.fmin:,.6g} to {spec.highest_frequency:,.6g} Hz"
        low_high = self.style.db_range
        scale = f"from {low_high[0]:g} to {low_high[1]:g} dB" if low_high else "each on its own dB scale"
        return f"{width} x {height} pixels: {stop_s - start_s:.4g} s to the right, {bands} upwards, {scale}"

    @property
    def n_tasks(self) -> int:
        """How many tasks there are."""
        return len(self.firsts) - 1

    @property
    def made(self) -> str:
        """Digest of how images are made of clips, whichever these are."""
        return _digest((FORMAT, self.catalogue.spec.as_dict(), style_as_dict(self.style), self.window))

    def clips_of(self, task: int) -> list[int]:
        """Say of which clips a task renders the images."""
        clips: list[int] = self.usable[self.firsts[task] : self.firsts[task + 1]].tolist()
        return clips

    def pictures(self, clip: int) -> list[Picture]:
        """Say which images there will be of a clip."""
        suffix, pictures = SUFFIXES[self.style.format], []
        for index, (start, stop) in enumerate(self._blocks(clip)):
            label = self._label(clip, start, stop)
            window = "" if self.window is None else f"-w{index:04d}"
            pictures.append(Picture(f"{self._name(clip, label)}{window}{suffix}", start, stop, label))
        return pictures

    def times(self, clip: int, start: int, stop: int) -> tuple[float, float]:
        """Return from when to when some frames of a clip are, in seconds of its recording."""
        spec, start_s = self.catalogue.spec, self.catalogue.clips[clip].start_s
        end = int(self.catalogue.n_samples[clip]) / spec.sample_rate
        second = spec.hop_length / spec.sample_rate
        return start_s + start * second, start_s + min(stop * second, end)

    def _blocks(self, clip: int) -> list[tuple[int, int]]:
        """Say which frames of a clip each of its images shows."""
        total = int(self.catalogue.n_rows[clip])
        if self.window is None or not total:
            return [(0, total)] if total else []
        hops = self.window * self.catalogue.spec.sample_rate / self.catalogue.spec.hop_length
        count = max(1, math.ceil(int(self.catalogue.n_samples[clip]) / (hops * self.catalogue.spec.hop_length) - 1e-9))
        width = min(round(hops), total)
        starts = sorted({min(round(index * hops), total - width) for index in range(count)})
        return [(start, start + width) for start in starts]

    def _name(self, clip: int, label: int) -> str:
        name = self.names[clip]
        return labelled_name(name, label, self.catalogue.splits[clip]) if self.scored else name

    def _label(self, clip: int, start: int, stop: int) -> int:
        """Return the label of what an image shows.

        Without a score it is the clip's, unless the clip is abnormal and the image shows a part: a recording is normal
        when all of it is, and abnormal when some of it is. So it is where the score finds nothing in an abnormal
        recording: the fault was missed, and may be anywhere.
        """
        own = self.catalogue.clips[clip].identity.label
        scored = self.scored[clip] if self.scored else None
        if scored and (scored.events or own != ABNORMAL):
            found = scored.label(*self.times(clip, start, stop))
            if found != UNKNOWN:
                return found
        return UNKNOWN if self.scored and own == ABNORMAL and self.is_part(clip, start, stop) else own

    def is_part(self, clip: int, start: int, stop: int) -> bool:
        """Say whether some frames of a clip are not all of its recording."""
        one = self.catalogue.clips[clip]
        is_segment = one.header is not None and one.segment is not None and one.segment.n_samples < one.header.n_samples
        return is_segment or stop - start < int(self.catalogue.n_rows[clip])

    def size(self, picture: Picture) -> tuple[int, int]:
        """Return the width and the height of an image in pixels."""
        return self.style.shape(picture.stop - picture.start, self.catalogue.spec.n_mels)


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
        How it becomes images.
    stamp : Stamp
        For the record; it says which task.
    inputs : tuple of Input
        The recordings.
    pictures : tuple of tuple of Picture
        The images of each of them.
    made : str
        Digest of how images are made.
    origins : tuple of Origin
        Which recordings the inputs are, for the record.
    kept : mapping of str to tuple of str and Written
        Of images that are there already, by key: by which key, and as what they were written.
    faults : mapping of int to Fault
        Clips that are known not to be readable.

    """

    output: Objects
    read_options: ReadOptions
    spec: FeatureSpec
    style: Style
    stamp: Stamp
    inputs: tuple[Input, ...]
    pictures: tuple[tuple[Picture, ...], ...]
    made: str
    origins: tuple[Origin, ...]
    kept: Mapping[str, tuple[str, Written]] = field(default_factory=dict)
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __str__(self) -> str:
        """Name the task and its recordings, for messages."""
        return f"batch {self.stamp.task}, recordings {self.inputs[0].place} to {self.inputs[-1].place}"


def make_album(  # noqa: PLR0913  what an album is made of
    catalogue: Catalogue,
    style: Style,
    window: float | None = None,
    base: str = "",
    sources: Sequence[str] = (),
    *,
    scored: Sequence[Scored | None] = (),
    label_by: str = "",
) -> Album:
    """Plan a set of images; SpecError where a window is too short."""
    spec = catalogue.spec
    if window is not None and not math.inf > window * spec.sample_rate >= 2 * spec.hop_length:
        least = 2 * spec.hop_length / spec.sample_rate
        msg = f"a window must be at least two frames, which are {least:g} s, not {window:g} s"
        raise SpecError(msg)
    clips = list(map(_without_label, catalogue.clips)) if scored else catalogue.clips
    names = tuple(image_names(clips, catalogue.splits, spec))
    usable, firsts = np.flatnonzero(catalogue.n_rows), _firsts(catalogue)
    album = Album(catalogue, style, window, base, names, usable, firsts, "", tuple(sources), tuple(scored), label_by)
    return replace(album, fingerprint=fingerprint_of(album, FORMAT))


def fingerprint_of(album: Album, format_: int) -> str:
    """Digest all that decides a pixel or a name, as a version with this format did."""
    spec, style = album.catalogue.spec.as_dict(), style_as_dict(album.style)
    values = (format_, spec, style, album.window, digest_clips(album.catalogue), album.names)
    return _digest((*values, _labels(album)) if album.scored else values)


def _labels(album: Album) -> list[list[int]]:
    return [[picture.label for picture in album.pictures(clip)] for clip in range(len(album.names))]


def _without_label(clip: Clip) -> Clip:
    return replace(clip, identity=replace(clip.identity, label=UNKNOWN))


def digest_recordings(album: Album) -> str:
    """Digest the album and the versions of its recordings: two runs for which it is the same write the same."""
    versions = find_origins(album.catalogue.clips).version.tobytes()
    return hashlib.sha256(album.fingerprint.encode() + versions).hexdigest()[:16]


def _digest(values: object) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]


def describe_images(
    made: str, clips: Sequence[int], origins: Sequence[Origin], pictures: Mapping[int, Sequence[Picture]]
) -> dict[str, Any]:
    """Return what a record says of its clips: which recordings they are, and what each image shows."""
    return {
        "made": made,
        "clips": [[clip, *origin] for clip, origin in zip(clips, origins, strict=True)],
        "images": {
            picture.key: [clip, picture.start, picture.stop] for clip, some in pictures.items() for picture in some
        },
    }


def album_origins(album: Album, clips: Sequence[int]) -> list[Origin]:
    """Return which recordings clips are of, and how long these are."""
    origins = find_origins([album.catalogue.clips[clip] for clip in clips])
    n_samples = album.catalogue.n_samples[list(clips)]
    columns = (origins.place, origins.version, origins.archive, n_samples)
    return [Origin(*one) for one in zip(*(column.tolist() for column in columns), strict=True)]


def render_stamp(album: Album, task: int) -> Stamp:
    """Return what the record of a task must bear."""
    clips = album.clips_of(task)
    origins = [(clip, one.place, one.n_samples) for clip, one in zip(clips, album_origins(album, clips), strict=True)]
    pictures = [[(one.key, one.start, one.stop) for one in album.pictures(clip)] for clip in clips]
    places = [album.catalogue.clips[clip].place for clip in clips]
    return make_stamp(_digest((album.made, origins, pictures)), task, places)


def render_task(album: Album, task: int, output: Objects, read_options: ReadOptions = DEFAULT_READS) -> RenderTask:
    """Gather what a worker needs to know of one task."""
    catalogue, clips = album.catalogue, album.clips_of(task)
    return RenderTask(
        output,
        read_options,
        catalogue.spec,
        album.style,
        render_stamp(album, task),
        inputs=tuple(map(catalogue.input, clips)),
        pictures=tuple(tuple(album.pictures(clip)) for clip in clips),
        made=album.made,
        origins=tuple(album_origins(album, clips)),
    )


def style_as_dict(style: Style) -> dict[str, object]:
    """Return a style by name, as JSON takes it; the table of colours as a digest."""
    colours = hashlib.sha256(style.colours).hexdigest()[:16] if style.colours else ""
    return asdict(style) | {"colours": colours}


def _firsts(catalogue: Catalogue) -> NDArray[np.int64]:
    """Cut the clips where enough frames for a task have come together."""
    frames = catalogue.n_rows[catalogue.n_rows > 0].astype(np.int64)
    batch = (np.cumsum(frames) - frames) // _FRAMES_A_TASK
    changes = np.flatnonzero(np.diff(batch)) + 1
    return np.array([*([0] if len(frames) else []), *changes, len(frames)], np.int64)
