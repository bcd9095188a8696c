"""What the benchmark of images compares with, each a process: ``python -m jobs.benchmark.image_baselines NAME ...``.

Specshow is what librosa's documentation shows: a figure of each clip, saved. Pillow is the loop that users of this data
set copy: librosa, min-max to 8 bits, save. The kernel is this project's own, without Dask.
"""

import argparse
import json
import os
import resource
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec
from mimii.images import Style, make_album, render_batch, render_task
from mimii.recordings import find_clips, make_catalogue, probe_all, stratified_split
from mimii.storage import DiskObjects

OK = 0


def librosa_decibel(path: str) -> tuple[NDArray[np.float32], float]:
    """Compute the log-mel spectrogram of one clip (preset `explore`) the plain way."""
    import librosa

    samples, sample_rate = librosa.load(path, sr=None, mono=False)
    samples = samples if samples.ndim == 1 else samples[0]
    mel = librosa.feature.melspectrogram(y=samples, sr=sample_rate, n_fft=2048, hop_length=512, n_mels=64)
    return librosa.power_to_db(mel, ref=np.max), sample_rate


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
    clips = find_clips(paths)
    catalogue = make_catalogue(clips, probe_all(clips).of_clips, stratified_split(clips), FeatureSpec(frames=1))
    album = make_album(catalogue, Style())
    for task in range(album.n_tasks):
        render_batch(render_task(album, task, DiskObjects(str(output))))


_BASELINES: dict[str, Callable[[Sequence[str], Path], None]] = {
    "specshow": run_specshow,
    "pillow": run_pillow,
    "kernel": run_kernel,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of them twice, and print what a clip cost the second time, in seconds of a core."""
    parser = argparse.ArgumentParser(prog="python -m jobs.benchmark.image_baselines", description=__doc__)
    parser.add_argument("baseline", choices=tuple(_BASELINES))
    parser.add_argument("listed", help="a JSON file of recordings")
    parser.add_argument("output", help="a folder for the images")
    parser.add_argument("--once", action="store_true", help="run it over all once, and print nothing")
    options = parser.parse_args(arguments)
    paths, run = json.loads(Path(options.listed).read_bytes()), _BASELINES[options.baseline]
    if options.once:
        run(paths, Path(options.output))
        return OK
    run(paths[:2], _folder(options.output, "first"))  # pays for what is imported
    before = resource.getrusage(resource.RUSAGE_SELF)
    run(paths, _folder(options.output, "all"))
    after = resource.getrusage(resource.RUSAGE_SELF)
    print((after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / len(paths))
    return OK


def _folder(*parts: str) -> Path:
    folder = Path(*parts)
    os.makedirs(folder, exist_ok=True)
    return folder


if __name__ == "__main__":
    sys.exit(main())
