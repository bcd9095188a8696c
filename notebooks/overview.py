"""Draw the picture in the README: log-mel spectrograms of made recordings, normal above, with a fault below."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from mimii.clips import ABNORMAL, LABEL_NAMES, NORMAL, Identity
from mimii.features import mel_frequencies, mel_spectrogram, power_to_db
from mimii.spec import FeatureSpec
from mimii.synthesis import MACHINES, SAMPLE_RATE, synthesize

SPEC = FeatureSpec()
TICKS_HZ = (125, 500, 2000, 8000)


def draw_clip(axes: Axes, machine: str, label: int) -> AxesImage:
    """Draw the spectrogram of one clip: time in seconds, mel bands labelled in Hz."""
    samples = synthesize(Identity(machine, "id_00", 0, 6.0, label))[:, 0] / np.float32(32768)
    decibel = power_to_db(mel_spectrogram(samples, SPEC), SPEC)
    seconds = len(samples) / SAMPLE_RATE
    image = axes.imshow(
        decibel.T, origin="lower", aspect="auto", cmap="magma", vmin=-50, vmax=0, extent=(0, seconds, 0, SPEC.n_mels)
    )
    axes.set_title(f"{machine}, {LABEL_NAMES[label]}", fontsize=10)
    centres = mel_frequencies(SPEC.n_mels + 2, SAMPLE_RATE)[1:-1]
    axes.set_yticks(np.interp(TICKS_HZ, centres, np.arange(SPEC.n_mels) + 0.5), [f"{hz:,}" for hz in TICKS_HZ])
    return image


def draw() -> Figure:
    """Draw all machines, normal above and abnormal below."""
    figure = Figure(figsize=(12, 4.6), layout="constrained", facecolor="white")
    FigureCanvasAgg(figure)
    grid = figure.subplots(2, len(MACHINES), sharex=True, sharey=True)
    for row, label in zip(grid, (NORMAL, ABNORMAL), strict=True):
        for axes, machine in zip(row, MACHINES, strict=True):
            image = draw_clip(axes, machine, label)
        row[0].set_ylabel("frequency (Hz)")
    for axes in grid[-1]:
        axes.set_xlabel("time (s)")
    figure.colorbar(image, ax=grid, label="dB relative to the loudest", pad=0.01)
    return figure


if __name__ == "__main__":
    draw().savefig(Path(__file__).with_suffix(".png"), dpi=80)
