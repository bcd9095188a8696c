"""Overviews of albums, and matplotlib's tables of colours. Only this module imports matplotlib.

It does so inside functions: workers render images without it. Never pyplot, which keeps figures in global state.
"""

import io
import math
import textwrap
import warnings
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from mimii.features import FeatureSpec, FloatArray, SpecError, band_centres
from mimii.images.pixels import Style

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Colormap, Normalize
    from matplotlib.figure import Figure

_TICKS_HZ = (62, 125, 250, 500, 1000, 2000, 4000, 8000, 16_000, 32_000)
_LEAST_TICK_DISTANCE = 0.11  # as a share of the axis
_COLUMNS = 4
_CELL_WIDTH, _CELL_HEIGHT = 3.0, 1.8
_LEFT, _RIGHT, _BOTTOM, _TOP, _LINE = 0.7, 0.95, 0.45, 0.4, 0.16
_CHARACTERS_A_COLUMN = 55
_DPI = 80


NORMAL_COLOUR, ABNORMAL_COLOUR = "#3a87c8", "#d9622b"
"""Of normal and abnormal clips in figures: safe for colour-blind readers, visible on white and on black."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One clip of an overview: title, dB, shape (n_frames, n_mels), and at how many seconds of the clip they begin.

    Without dB, the title is in place of the clip.
    """

    title: str
    decibel: FloatArray | None
    start_s: float = 0.0


def colour_table(name: str) -> bytes:
    """Return the colours of a colormap of matplotlib, three bytes (RGB) each."""
    import matplotlib as mpl

    if name not in mpl.colormaps:
        msg = f"matplotlib has no colormap {name!r}; take one such as viridis, magma, inferno, cividis, gray or jet"
        raise SpecError(msg)
    colours = mpl.colormaps[name]
    return bytes(colours(np.arange(colours.N), bytes=True)[:, :3].tobytes())


def frequency_ticks(centres: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return frequencies to label, far enough from each other, and their places among the bands."""
    chosen: list[tuple[int, float]] = []
    for hz in reversed(_TICKS_HZ):
        place = float(np.interp(hz, centres, np.arange(len(centres)) + 0.5))
        too_near = chosen and chosen[-1][1] - place < _LEAST_TICK_DISTANCE * len(centres)
        if centres[0] <= hz <= centres[-1] * 1.05 and not too_near:
            chosen.append((hz, place))
    return chosen


def draw_overview(pairs: Sequence[tuple[Panel, Panel]], spec: FeatureSpec, style: Style, caption: str) -> bytes:
    """Draw an overview as PNG: pairs of clips in columns, the first above the second, with axes in seconds and Hz."""
    import matplotlib as mpl

    with mpl.rc_context({"font.family": _families([panel.title for pair in pairs for panel in pair])}):
        return _draw_overview(pairs, spec, style, caption)


def _families(texts: Sequence[str]) -> list[str]:
    """Return families of fonts that together have all signs of some texts, if any has; matplotlib's own first."""
    from matplotlib.font_manager import findfont, fontManager, get_font

    own = "DejaVu Sans"
    families = [own]
    missing = set(map(ord, "".join(texts))) - set(get_font(findfont(own)).get_charmap())
    plain_first = sorted(fontManager.ttflist, key=lambda font: (font.style != "normal", font.weight != 400, font.name))
    for font in plain_first:
        if not missing:
            break
        with suppress(OSError, RuntimeError):  # one that cannot be read
            if not font.name.startswith("Last Resort") and (found := missing & set(get_font(font.fname).get_charmap())):
                families.append(font.name)
                missing -= found
    return families


def _draw_overview(pairs: Sequence[tuple[Panel, Panel]], spec: FeatureSpec, style: Style, caption: str) -> bytes:
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(pairs))
    rows = 2 * math.ceil(len(pairs) / columns)
    lines = textwrap.wrap(caption, _CHARACTERS_A_COLUMN * columns)
    top_margin = _TOP + _LINE * len(lines)
    width, height = _LEFT + _CELL_WIDTH * columns + _RIGHT, top_margin + _CELL_HEIGHT * rows + _BOTTOM
    figure = Figure(figsize=(width, height))
    left, right, bottom, top = _LEFT / width, 1 - _RIGHT / width, _BOTTOM / height, 1 - top_margin / height
    margins = {"left": left, "right": right, "bottom": bottom, "top": top, "wspace": 0.12, "hspace": 0.6}
    grid = figure.subplots(rows, columns, squeeze=False, sharey=True, gridspec_kw=margins)
    clips = [panel.decibel for pair in pairs for panel in pair if panel.decibel is not None]
    colours = ScalarMappable(_scale(clips, style.db_range), _colormap(style))
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
    return _png(figure, _DPI)


def _png(figure: "Figure", dpi: int) -> bytes:
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing from")  # no installed font has it
        figure.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    return file.getvalue()


def _scale(clips: Sequence[FloatArray], db_range: tuple[float, float] | None) -> "Normalize":
    from matplotlib.colors import Normalize

    low, high = db_range or (min(clip.min() for clip in clips), max(clip.max() for clip in clips))
    return Normalize(float(low), float(max(high, low + 1e-3)))


def _colormap(style: Style) -> "Colormap | str":
    from matplotlib.colors import ListedColormap

    if not style.colours:
        return "gray_r"
    return ListedColormap(np.frombuffer(style.colours, np.uint8).reshape(-1, 3) / 255)


def _draw(axes: "Axes", panel: Panel, spec: FeatureSpec, colours: "ScalarMappable") -> None:
    """Draw one clip: time to the right in seconds, mel bands upwards, labelled in Hz."""
    decibel = panel.decibel
    if decibel is None:
        axes.text(
            0.5, 0.5, panel.title, ha="center", va="center", transform=axes.transAxes, fontsize=9, parse_math=False
        )
        return
    axes.set_axis_on()
    axes.set_title(panel.title, fontsize=9, parse_math=False)
    axes.set_xlabel("time (s)", fontsize=8, labelpad=1)
    ticks = frequency_ticks(band_centres(spec))
    axes.set_yticks([place for _, place in ticks], [f"{hz:,}" for hz, _ in ticks])
    axes.tick_params(labelsize=8)
    seconds = len(decibel) * spec.hop_length / spec.sample_rate
    extent = (panel.start_s, panel.start_s + seconds, 0, spec.n_mels)
    image = axes.imshow(decibel.T, colours.cmap, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
    image.set_norm(colours.norm)
