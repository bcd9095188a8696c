"""All figures, and matplotlib's tables of colours. Only this module imports matplotlib.

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
_DPI, _FINE_DPI = 80, 130
_INK = "#123456"  # becomes the colour of the text around an SVG, see _svg
_SMALL = (4.2, 3.0)
# Margins of fixed size: matplotlib takes longer to lay a figure out than to draw it.
_CHART = {"left": 0.13, "right": 0.98, "bottom": 0.16, "top": 0.9}
_SPECTROGRAM = {"left": 0.16, "right": 0.83, "bottom": 0.14, "top": 0.97}
_BAR = (0.855, 0.14, 0.03, 0.83)
_BINS = 30

NORMAL_COLOUR, ABNORMAL_COLOUR = "#3a87c8", "#d9622b"
"""Of normal and abnormal clips in all figures: safe for colour-blind readers, visible on white and on black."""


@dataclass(frozen=True, slots=True)
class Panel:
    """One clip of an overview: title and dB, shape (n_frames, n_mels); None shows the title in place of the clip."""

    title: str
    decibel: FloatArray | None


def colour_table(name: str) -> bytes:
    """Return the colours of a colormap of matplotlib, three bytes (RGB) each."""
    import matplotlib as mpl

    if name not in mpl.colormaps:
        msg = f"matplotlib has no colormap {name!r}; take one such as viridis, magma, inferno, cividis, gray or jet"
        raise SpecError(msg)
    colours = mpl.colormaps[name]
    return bytes(colours(np.arange(colours.N), bytes=True)[:, :3].tobytes())


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


def draw_roc(false_alarms: NDArray[np.float64], true_alarms: NDArray[np.float64], auc: float) -> str:
    """Draw a receiver operating characteristic as SVG."""
    figure, axes = _small_figure("false alarms (share of normal clips)", "found (share of abnormal clips)")
    axes.plot([0, 1], [0, 1], color=_INK, linewidth=0.8, linestyle=":", label="chance")
    axes.step(false_alarms, true_alarms, ABNORMAL_COLOUR, where="post", linewidth=1.8, label=f"AUC {auc:.3f}", zorder=3)
    axes.set(xlim=(-0.02, 1.02), ylim=(-0.02, 1.05))
    axes.legend(loc="lower right", fontsize=8, frameon=False, labelcolor=_INK)
    return _svg(figure)


def draw_errors(normal: Sequence[float], abnormal: Sequence[float], threshold: float) -> str:
    """Draw histograms of the scores of normal and abnormal clips, and the threshold, as SVG."""
    from matplotlib.ticker import MaxNLocator

    figure, axes = _small_figure("score (mean squared error of the clip's rows)", "clips")
    scores = [*normal, *abnormal, *([threshold] if math.isfinite(threshold) else [])]
    bins = np.linspace(min(scores), max(*scores, min(scores) + 1e-9), _BINS + 1)
    for values, colour, label in ((normal, NORMAL_COLOUR, "normal"), (abnormal, ABNORMAL_COLOUR, "abnormal")):
        axes.hist(values, bins=list(bins), color=colour, alpha=0.75, label=f"{len(values):,} {label}")
    if math.isfinite(threshold):
        axes.axvline(threshold, color=_INK, linewidth=1.2, linestyle="--", label=f"threshold {threshold:.3g}")
    axes.yaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="upper center", ncols=3, fontsize=8, frameon=False, labelcolor=_INK)
    return _svg(figure)


def draw_spectrogram(decibel: FloatArray, spec: FeatureSpec, db_range: tuple[float, float]) -> bytes:
    """Draw the mel spectrogram of one clip as PNG, with axes in seconds and Hz and a bar of dB."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SMALL)
    axes = figure.subplots(gridspec_kw=_SPECTROGRAM)
    colours = ScalarMappable(_scale([decibel], db_range), "magma")
    _draw(axes, Panel("", decibel), spec, colours)
    axes.set_ylabel("frequency (Hz)", fontsize=8)
    bar = figure.colorbar(colours, cax=figure.add_axes(_BAR))
    bar.set_label("dB", fontsize=8)
    bar.ax.tick_params(labelsize=8)
    return _png(figure, _FINE_DPI)


def _small_figure(x_label: str, y_label: str) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SMALL, facecolor="none")
    axes = figure.subplots(gridspec_kw=_CHART)
    axes.set_facecolor("none")
    axes.tick_params(colors=_INK, labelsize=8)
    for side in axes.spines:
        axes.spines[side].set_edgecolor(_INK)
        axes.spines[side].set_visible(side in ("left", "bottom"))
    axes.set_xlabel(x_label, color=_INK, fontsize=9)
    axes.set_ylabel(y_label, color=_INK, fontsize=9)
    return figure, axes


def _svg(figure: "Figure") -> str:
    """Return a figure as an SVG element, in which ink has the colour of the text around it."""
    import matplotlib as mpl

    text = io.StringIO()
    with mpl.rc_context({"svg.hashsalt": "sound-features", "svg.fonttype": "none", "font.family": "sans-serif"}):
        figure.savefig(text, format="svg", metadata={"Date": None, "Creator": None})
    element = text.getvalue()
    return element[element.index("<svg") :].replace(_INK, "currentColor").strip()


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
    ticks = _ticks(band_centres(spec))
    axes.set_yticks([place for _, place in ticks], [f"{hz:,}" for hz, _ in ticks])
    axes.tick_params(labelsize=8)
    extent = (0, len(decibel) * spec.hop_length / spec.sample_rate, 0, spec.n_mels)
    image = axes.imshow(decibel.T, colours.cmap, origin="lower", aspect="auto", interpolation="nearest", extent=extent)
    image.set_norm(colours.norm)


def _ticks(centres: NDArray[np.float64]) -> list[tuple[int, float]]:
    """Return frequencies to label, far enough from each other, and their places among the bands."""
    chosen: list[tuple[int, float]] = []
    for hz in reversed(_TICKS_HZ):
        place = float(np.interp(hz, centres, np.arange(len(centres)) + 0.5))
        too_near = chosen and chosen[-1][1] - place < _LEAST_TICK_DISTANCE * len(centres)
        if centres[0] <= hz <= centres[-1] * 1.05 and not too_near:
            chosen.append((hz, place))
    return chosen
