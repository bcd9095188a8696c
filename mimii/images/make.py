"""Plan images and render them: the front door to this room, for the command and for Python."""

import logging
from collections.abc import Container, Sequence
from dataclasses import replace
from itertools import product

from mimii.engine import SILENT, Progress, Run, Scheduler, run
from mimii.features import FeatureSpec
from mimii.images.album import Album, make_album
from mimii.images.matching import find_scored, scored_channels
from mimii.images.pixels import Style
from mimii.images.scored import read_scored
from mimii.images.store import AlbumOutput
from mimii.recordings import (
    LABEL_NAMES,
    NORMAL,
    UNKNOWN,
    Catalogue,
    Clip,
    SourceError,
    Split,
    catalogue_recordings,
    choose_spec,
    make_catalogue,
    split_clips,
)
from mimii.storage import DEFAULT_ACCESS, DEFAULT_READS, Access, Location, ReadOptions, as_path, expect, open_objects

_log = logging.getLogger(__name__)


def plan_images(  # noqa: PLR0913  each is a choice that users have
    clips: Sequence[Clip],
    spec: FeatureSpec | None = None,
    style: Style | None = None,
    *,
    window: float | None = None,
    split: str = "stratified",
    train_fraction: float = 0.8,
    seed: int = 0,
    manifest_base: str = "",
    label_by: Location = "",
    access: Access = DEFAULT_ACCESS,
) -> Album:
    """Decide which images there will be of which clips; nothing is written, and nothing read but `label_by`.

    Parameters
    ----------
    clips : sequence of Clip
        From `find_recordings`.
    spec : FeatureSpec
        What to compute; the preset ``explore`` at the sample rate of most clips where it is left out. Recordings with
        another rate are resampled. An image stacks no frames: `frames` and `stride` have no effect.
    style : Style
        Colours, size and format; gray PNG with a pixel for each frame and mel band where it is left out.
    window : float
        Seconds that an image shows; the whole clip where it is left out.
    split : {"stratified", "none"}
        Which clips are for training: a share of each label, or none.
    train_fraction, seed : float, int
        The share for training, and another seed for another choice.
    manifest_base : str
        Where on S3 the images will be, for manifests; no manifests where it is empty.
    label_by : str or path
        An ``events.csv`` that `mimii.score` wrote, with ``scores.csv`` beside it, or the folder of both: each image is
        labelled by what it shows. One that overlaps an event of its recording and channel is abnormal; another is
        normal where its recording was scored. Where it was not, a recording that is normal has normal images, and one
        that is abnormal has images without a label if each shows a part of it. Clips that have no label and were scored
        are split, too.
    access : Access
        How to access `label_by` on S3.

    Returns
    -------
    Album
        The same for the same clips, always.

    Raises
    ------
    SpecError
        If a window is shorter than two frames.
    ValueError
        If the split is not one of these.
    SourceError
        If `label_by` is not an ``events.csv``, or is of none of the clips.

    """
    if split == "baseline":
        msg = "split: baseline trains on normal sound alone, and a classifier has to see both: stratified or none"
        raise ValueError(msg)
    spec = replace(choose_spec(clips, spec, resample=True), frames=1, stride=1)
    by, sources = Split(split, train_fraction, seed), getattr(clips, "sources", ())
    if not as_path(label_by):
        catalogue = catalogue_recordings(clips, spec, by, resample=True)
        _warn_of_missing_labels(catalogue)
        return make_album(catalogue, style or Style(), window, manifest_base, sources)
    scored = read_scored(as_path(label_by), access)
    found = find_scored(clips, scored)
    splits = split_clips([_with_label(clip, found) for clip in clips], *by)
    catalogue = make_catalogue(clips, splits, spec, resample=True)
    of_clips = list(scored_channels(catalogue.clips, found, scored.place))
    return make_album(
        catalogue, style or Style(), window, manifest_base, sources, scored=of_clips, label_by=scored.place
    )


def _warn_of_missing_labels(catalogue: Catalogue) -> None:
    """Warn where train or test has no recording of a label that the other one has: with few, a hash may choose so.

    Recordings that bring their split along are not counted: no other choice would move them.
    """
    every = zip(catalogue.splits, catalogue.clips, catalogue.problems, strict=True)
    chosen = [(split, clip.identity) for split, clip, bad in every if not (bad or clip.identity.split)]
    there = {(split, who.label) for split, who in chosen if split and who.label != UNKNOWN}
    every_pair = product({split for split, _ in there}, {label for _, label in there})
    for split, label in sorted({*every_pair} - there):
        _log.warning(
            "no recording in %s is %s: take another --split-seed (seed in Python), another --train-fraction, or more "
            "recordings",
            *(split, LABEL_NAMES[label]),
        )


def _with_label(clip: Clip, found: Container[tuple[str, str]]) -> Clip:
    """Return a clip as it is split: one without a label as a normal one, where it was scored and its images have some.

    So it is on the same side whatever its events are.
    """
    if clip.identity.label != UNKNOWN or clip.recording not in found:
        return clip
    return replace(clip, identity=replace(clip.identity, label=NORMAL))


def render(  # noqa: PLR0913  as `featurize`
    album: Album,
    output: Location,
    *,
    client: Scheduler = None,
    update: bool = False,
    prune: bool = False,
    overwrite: bool = False,
    access: Access = DEFAULT_ACCESS,
    read_options: ReadOptions = DEFAULT_READS,
    progress: Progress = SILENT,
) -> Run:
    """Render images: those that are missing at the output, an overview, lists and manifests.

    It can be killed at any moment; the same call resumes, to the same bytes.

    Parameters
    ----------
    album : Album
        From `plan_images`.
    update : bool
        Make this album of the one that is there, whose clips may be others: only images of clips that are new or have
        changed are rendered.
    prune : bool
        With `update`, delete the images of clips that are not in this album; else it is refused.
    output, client, overwrite, access, read_options, progress
        As for `mimii.featurize`.

    Returns
    -------
    Run
        Which batches were rendered now, the records of all, bad clips, and how long it took.

    Raises
    ------
    TypeError
        If the album is not one.
    SourceError
        If it has no clips at all.
    StoreError
        If there is something else at the output.
    WorkError
        If the work cannot be finished, such as when there is no worker.
    OSError
        If the output cannot be written, or S3 cannot be used.

    """
    expect(album, Album, "render takes an album: mimii.plan_images(mimii.find_recordings(FOLDER))")
    if not album.names:
        msg = "the album has no clips: mimii.find_recordings has found none; give it the folder that has the recordings"
        raise SourceError(msg)
    images = AlbumOutput(album, open_objects(as_path(output), access), read_options, update, prune)
    return run(images, client, overwrite=overwrite, progress=progress)
