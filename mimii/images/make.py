"""Plan images and render them: the front door to this room, for the command and for Python."""

from collections.abc import Sequence
from dataclasses import replace

from mimii.engine import SILENT, Progress, Run, Scheduler, run
from mimii.features import FeatureSpec
from mimii.images.album import Album, make_album
from mimii.images.pixels import Style
from mimii.images.store import AlbumOutput
from mimii.recordings import Clip, SourceError, Split, catalogue_recordings, choose_spec
from mimii.storage import DEFAULT_ACCESS, DEFAULT_READS, Access, Location, ReadOptions, as_path, expect, open_objects


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
) -> Album:
    """Decide which images there will be of which clips; nothing is read or written.

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

    """
    if split == "baseline":
        msg = "split: baseline trains on normal sound alone, and a classifier has to see both: stratified or none"
        raise ValueError(msg)
    spec = replace(choose_spec(clips, spec, resample=True), frames=1, stride=1)
    catalogue = catalogue_recordings(clips, spec, Split(split, train_fraction, seed), resample=True)
    return make_album(catalogue, style or Style(), window, manifest_base, getattr(clips, "sources", ()))


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
