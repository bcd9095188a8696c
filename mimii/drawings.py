"""What matplotlib is needed for: its tables of colours, and the contact sheet. The only file that knows it.

It is imported where it is used, and never its pyplot, which keeps figures in global state.
"""

import io
import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mimii.features import FloatArray, mel_frequencies
from mimii.images import Style
from mimii.spec import FeatureSpec, SpecError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize

_TICKS_HZ = (62, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
_LEAST_TICK_DISTANCE = 0.11
_COLUMNS = 4
_CELL_WIDTH, _CELL_HEIGHT = 3.0, 1.8
_LEFT, _RIGHT, _BOTTOM, _TOP, _LINE = 0.7, 0.95, 0.45, 0.4, 0.16
_CHARACTERS_A_COLUMN = 55
_DPI = 80


@dataclass(frozen=True, slots=True)
class Panel:
    """One clip of a contact sheet.

    Attributes
    ----------
    title : str
        What it is.
    decibel : ndarray of float32, shape (n_frames, n_mels), or None
        dB; None where there is no such clip, but its title.

    """

    title: str
    decibel: FloatArray | None


def colour_table(name: str) -> bytes:
    """Look up a colormap of matplotlib.

    Parameters
    ----------
    name : str
        Such as ``viridis``.

    Returns
    -------
    bytes
        Red, green and blue of each colour, from low to high: mostly 256 of them.

    Raises
    ------
    SpecError
        If there is no such colormap.

    """
    import matplotlib as mpl

    if name not in mpl.colormaps:
        msg = f"there is no colormap {name!r} in matplotlib; some are: viridis, magma, inferno, cividis, gray, jet"
        raise SpecError(msg)
    colours = mpl.colormaps[name]
    return bytes(colours(np.arange(colours.N), bytes=True)[:, :3].tobytes())


def draw_overview(pairs: Sequence[tuple[Panel, Panel]], spec: FeatureSpec, style: Style, caption: str) -> bytes:
    """Draw a contact sheet: pairs of clips side by side, one above the other, with axes in seconds and Hz.

    Parameters
    ----------
    pairs : sequence of (Panel, Panel)
        Above and below; at least one clip in all.
    spec : FeatureSpec
        Of the spectrograms.
    style : Style
        Uses colours and db_range; without that, one scale for all from the smallest to the largest dB.
    caption : str
        What this is.

    Returns
    -------
    bytes
        Of a PNG file; the same for the same input, always.

    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(pairs))
    rows = 2 * math.ceil(len(pairs) / columns)
    lines = textwrap.wrap(caption, _CHARACTERS_A_COLUMN * columns)
    top_margin = _TOP + _LINE * len(lines)
    width, height = _LEFT + _CELL_WIDTH * columns + _RIGHT, top_margin + _CELL_HEIGHT * rows + _BOTTOM
    figure = Figure(figsize=(width, height))
    FigureCanvasAgg(figure)
    # Margins of fixed size: it takes matplotlib longer to work them out than to draw.
    left, right, bottom, top = _LEFT / width, 1 - _RIGHT / width, _BOTTOM / height, 1 - top_margin / height
    margins = {"left": left, "right": right, "bottom": bottom, "top": top, "wspace": 0.07, "hspace": 0.6}
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, gridspec_kw=margins)
    colours = ScalarMappable(_scale(pairs, style), _colormap(style))
    for axes in grid.flat:
        axes.set_axis_off()
    for index, pair in enumerate(pairs):
        for offset, panel in enumerate(pair):
            _draw(grid[2 * (index // columns) + offset, index % columns], panel, spec, colours)
    for axes in grid[:, 0]:
        axes.set_ylabel("frequency (Hz)", fontsize=8)
    bar = figure.add_axes((right + 0.15 / width, bottom, 0.15 / width, top - bottom))
    figure.colorbar(colours, cax=bar, label="dB")
    figure.suptitle("\n".join(lines), fontsize=9, y=1 - 0.12 / height, verticalalignment="top")
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=_DPI, metadata={"Software": None})
    return file.getvalue()


def _scale(pairs: Sequence[tuple[Panel, Panel]], style: Style) -> "Normalize":
    from matplotlib.colors import Normalize

    clips = [panel.decibel for pair in pairs for panel in pair if panel.decibel is not None]
    low, high = style.db_range or (min(clip.min() for clip in clips), max(clip.max() for clip in clips))
    return Normalize(float(low), float(max(high, low + 1e-3)))


def _colormap(style: Style) -> "Colormap | str":
    from matplotlib.colors import ListedColormap

    if not style.colours:
        return "gray_r"
    return ListedColormap(np.frombuffer(style.colours, np.uint8).reshape(-1, 3) / 255)


def _draw(axes: "Axes", panel: Panel, spec: FeatureSpec, colours: "ScalarMappable") -> None:
    """Draw one clip: time to the right in seconds, mel bands upwards, labelled in Hz."""
    if panel.decibel is None:
        axes.text(0.5, 0.5, panel.title, ha="center", va="center", transform=axes.transAxes, fontsize=9)
        return
    decibel = panel.decibel
    axes.set_axis_on()
    axes.set_title(panel.title, fontsize=9)
    axes.set_xlabel("time (s)", fontsize=8, labelpad=1)
    ticks = _ticks(mel_frequencies(spec.n_mels + 2, spec.sample_rate)[1:-1])
    axes.set_yticks([place for _, place in ticks], [f"{hz:,}" for hz, _ in ticks])
    axes.tick_params(labelsize=8)
    extent = (0, len(decibel) * spec.hop_length / spec.sample_rate, 0, spec.n_mels)
    low, high = colours.get_clim()
    image = axes.imshow(decibel.T, colours.cmap, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
    image.set_clim(low, high)


def _ticks(centres: np.ndarray[Any, np.dtype[np.float64]]) -> list[tuple[int, float]]:
    """Choose frequencies to label, far enough from each other, and where they are."""
    chosen: list[tuple[int, float]] = []
    for hz in reversed(_TICKS_HZ):
        place = float(np.interp(hz, centres, np.arange(len(centres)) + 0.5))
        too_near = chosen and chosen[-1][1] - place < _LEAST_TICK_DISTANCE * len(centres)
        if centres[0] <= hz <= centres[-1] * 1.05 and not too_near:
            chosen.append((hz, place))
    return chosen
