"""What images are compared with: ``python -m jobs.benchmark.image_baselines NAME LISTED.json FOLDER [once]``.

Specshow is what librosa's documentation shows: a figure of each clip, saved. Pillow is the loop that users of this data
set copy: librosa, min-max to 8 bits, save. The kernel is this project's own, without Dask. Each runs twice and prints
what a clip cost the second time, in seconds of a core; with ``once`` it runs once.
"""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np

from jobs.benchmark.baselines import librosa_decibel


def run_specshow(paths: Sequence[str], output: Path) -> None:
    """Save a figure of each clip."""
    import librosa.display
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    for index, path in enumerate(paths):
        decibel, sample_rate = librosa_decibel(path)
        figure = Figure()
        FigureCanvasAgg(figure)
        librosa.display.specshow(decibel, sr=sample_rate, x_axis="time", y_axis="mel", ax=figure.subplots())
        figure.savefig(output / f"{index}.png")


def run_pillow(paths: Sequence[str], output: Path) -> None:
    """Scale each spectrogram to 8 bits and save it, low frequencies at the bottom and loud black."""
    from PIL import Image

    for index, path in enumerate(paths):
        decibel, _ = librosa_decibel(path)
        scaled = (decibel - decibel.min()) / (decibel.max() - decibel.min()) * 255
        Image.fromarray(255 - np.flip(scaled.astype(np.uint8), axis=0)).save(output / f"{index}.png")


def run_kernel(paths: Sequence[str], output: Path) -> None:
    """Render the images of all clips in this process."""
    import mimii
    from jobs.benchmark.plain import run_plain
    from mimii.images import AlbumOutput
    from mimii.storage import DiskObjects

    album = AlbumOutput(mimii.plan_images(mimii.find_recordings(*paths)), DiskObjects(str(output)))
    run_plain(album, range(album.n_tasks))


_BASELINES: Mapping[str, Callable[[Sequence[str], Path], None]] = {
    "specshow": run_specshow,
    "pillow": run_pillow,
    "kernel": run_kernel,
}


def main(arguments: Sequence[str]) -> None:
    """Run the baseline that is named."""
    name, listed, folder, *once = arguments
    paths, output = json.loads(Path(listed).read_bytes()), Path(folder)
    output.mkdir(exist_ok=True)
    if once:
        _BASELINES[name](paths, output)
    else:
        print(_seconds_a_clip(_BASELINES[name], paths, output))


def _seconds_a_clip(run: Callable[[Sequence[str], Path], None], paths: Sequence[str], output: Path) -> float:
    from jobs.benchmark.timing import usage

    for folder in (first := output / "first", every := output / "all"):
        folder.mkdir()
    run(paths[:2], first)  # imports what it needs
    before, _ = usage()
    run(paths, every)
    after, _ = usage()
    return (after - before) / len(paths)


if __name__ == "__main__":
    main(sys.argv[1:])
