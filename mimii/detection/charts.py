"""Charts of a page as SVG elements, without matplotlib: a hundred of them take no time and few bytes.

Lines and words have the colour of the text around a chart; the classes are those of ``report.html.jinja``. What a chart
says is said in words beside it: to screen readers it is one picture.
"""

import base64
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mimii.detection.events import Moments
from mimii.detection.ranking import History
from mimii.features import FeatureSpec, band_centres
from mimii.images import frequency_ticks

Interval = tuple[float, float]
Ticks = Iterable[tuple[float, str]]

_SPARK_WIDTH, _SPARK_HEIGHT, _SPARK_POINTS = 150, 30, 60
_MOST_POINTS, _MOST_STEPS, _BINS = 150, 240, 24
_MARGIN = 0.05
_TWO_DAYS = 2 * 86_400


@dataclass(frozen=True, slots=True)
class Frame:
    """A chart's size in pixels, its margins, and the values at the ends of its axes."""

    x: Interval
    y: Interval
    width: int = 440
    height: int = 150
    left: int = 52
    bottom: int = 34
    top: int = 10
    right: int = 18

    def across(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values are from left to right, in pixels."""
        return self.left + _share(values, self.x) * (self.width - self.left - self.right)

    def down(self, values: ArrayLike) -> NDArray[np.float64]:
        """Return where values are from top to bottom, in pixels."""
        return self.height - self.bottom - _share(values, self.y) * (self.height - self.top - self.bottom)

    def points(self, x: ArrayLike, y: ArrayLike) -> list[tuple[float, float]]:
        """Return where points are, in pixels."""
        return list(zip(self.across(x).tolist(), self.down(y).tolist(), strict=True))

    def draw(self, *elements: str) -> str:
        """Return the chart."""
        size = f'viewBox="0 0 {self.width} {self.height}" width="{self.width}" height="{self.height}"'
        return f'<svg {size} aria-hidden="true" focusable="false">{"".join(elements)}</svg>'

    def axes(self, x_ticks: Ticks, y_ticks: Ticks, x_label: str, y_label: str) -> str:
        """Return axes, with labels in words that need no escaping."""
        left, bottom = self.left, self.height - self.bottom
        middle, centre = (left + self.width - self.right) / 2, (self.top + bottom) / 2
        lines = [f'<path class="axis" d="M{left} {self.top}V{bottom}H{self.width - self.right}"/>']
        for value, text in x_ticks:
            lines.append(
                f'<text x="{_number(self.across(value))}" y="{bottom + 14}" text-anchor="middle">{text}</text>'
            )
        for value, text in y_ticks:
            place = _number(self.down(value) + 4)
            lines.append(f'<text x="{left - 5}" y="{place}" text-anchor="end">{text}</text>')
        lines.append(f'<text x="{middle:g}" y="{self.height - 4}" text-anchor="middle">{x_label}</text>')
        turned = f'transform="rotate(-90 11 {centre:g})"'
        lines.append(f'<text x="11" y="{centre:g}" text-anchor="middle" {turned}>{y_label}</text>')
        return "".join(lines)

    def limit(self, value: float) -> str:
        """Return a dashed line across the chart; nothing where there is no such value."""
        if not math.isfinite(value):
            return ""
        return f'<path class="limit" d="M{self.left} {_number(self.down(value))}H{self.width - self.right}"/>'


def sparkline(history: History, threshold: float) -> str:
    """Draw the scores of a machine's clips over time, the threshold, and a triangle for each alarm."""
    if not len(history.scores):
        return ""
    x, scores = _thin(_when(history), history.scores, _SPARK_POINTS)
    frame = Frame(_ends(x), _ends(scores, threshold), _SPARK_WIDTH, _SPARK_HEIGHT, 5, 4, 6, 5)
    alarms = scores > threshold
    dots = f'<path class="dot" d="{_dots(frame.points(x, scores))}"/>' if len(x) == 1 else ""
    return frame.draw(
        frame.limit(threshold),
        f'<path class="line" d="{_line(frame.points(x, scores))}"/>{dots}',
        f'<path class="alarm" d="{_triangles(frame.points(x[alarms], scores[alarms]))}"/>',
    )


def history_chart(history: History, threshold: float) -> str:
    """Draw the score of each clip of a machine: dots, small ones for training clips, and triangles for alarms."""
    x, scores, training = _when(history), history.scores, history.is_training
    frame = Frame(_ends(x), _ends(scores, threshold), 460, 150)
    elements = [frame.limit(threshold)]
    kinds = (("small dot", training & (scores <= threshold), _dots), ("dot", ~training & (scores <= threshold), _dots))
    for name, chosen, draw in (*kinds, ("alarm", scores > threshold, _triangles)):
        elements.append(
            f'<path class="{name}" d="{draw(frame.points(*_thin(x[chosen], scores[chosen], _MOST_POINTS)))}"/>'
        )
    label = "recorded at (UTC)" if history.is_timed else "clip, in the order of the table"
    ticks = date_ticks(frame.x) if history.is_timed else number_ticks(frame.x, whole=True)
    return frame.draw(frame.axes(ticks, number_ticks(frame.y), label, "score"), *elements)


def moments_chart(moments: Moments, mark: Interval) -> str:
    """Draw the scores over the time of a clip, and the interval that is marked."""
    start_s, stop_s, scores = moments.start_s, moments.stop_s, np.nan_to_num(moments.scores)
    step = math.ceil(len(scores) / _MOST_STEPS)
    first = np.arange(0, len(scores), step)
    highest = np.maximum.reduceat(scores, first)
    frame = Frame((0.0, float(stop_s[-1])), _ends(highest, moments.threshold, 0.0), 440, 110)
    edges = np.repeat(np.append(start_s[first], stop_s[-1]), 2)[1:-1]
    begin, end = frame.across(mark)
    width = _number(max(end - begin, 2))
    band = f'<rect class="mark" x="{_number(begin)}" y="{frame.top}" width="{width}" height="{110 - 44}"/>'
    line = f'<path class="line" d="{_line(frame.points(edges, np.repeat(highest, 2)))}"/>'
    axes = frame.axes(number_ticks(frame.x), number_ticks(frame.y, 3), "time in the clip (s)", "score")
    return frame.draw(band, frame.limit(moments.threshold), line, axes)


def spectrogram(png: bytes, shown_s: Interval, spec: FeatureSpec, mark: Interval | None) -> str:
    """Draw a picture of a mel spectrogram with axes in seconds and Hz, and a box around the interval that is marked."""
    frame = Frame(shown_s, (0.0, float(spec.n_mels)), 440, 210, left=60)
    width, height = frame.width - frame.left - frame.right, frame.height - frame.top - frame.bottom
    place = f'x="{frame.left}" y="{frame.top}" width="{width}" height="{height}"'
    data = base64.b64encode(png).decode()
    image = f'<image {place} preserveAspectRatio="none" href="data:image/png;base64,{data}"/>'
    hz = [(where, f"{value:,}") for value, where in frequency_ticks(band_centres(spec))]
    axes = frame.axes(number_ticks(shown_s), hz, "time in the clip (s)", "frequency (Hz)")
    if mark is None:
        return frame.draw(image, axes)
    begin, end = (float(one) for one in frame.across(np.clip(mark, *shown_s)))
    box = f'x="{_number(begin)}" y="{frame.top}" width="{_number(max(end - begin, 2))}" height="{height}"'
    tips = f"M{_number((begin + end) / 2)} {frame.top}l-6 -9h12z"
    return frame.draw(
        image, f'<rect class="box under" {box}/><rect class="box" {box}/><path class="tip" d="{tips}"/>', axes
    )


def bands_chart(differences: NDArray[np.floating], spec: FeatureSpec) -> str:
    """Draw by how many dB each mel band differs, as bars up for louder and down for quieter."""
    n_mels = len(differences)
    frame = Frame((0.0, float(n_mels)), _ends(differences, 0.0), 440, 140)
    zero, tops = float(frame.down(0.0)), frame.down(differences).tolist()
    lefts = frame.across(np.arange(n_mels)).tolist()
    width = _number((lefts[1] - lefts[0] if n_mels > 1 else 300) * 0.8)
    base = _number(zero)
    bars = "".join(f"M{_number(x)} {base}V{_number(y)}h{width}V{base}z" for x, y in zip(lefts, tops, strict=True))
    hz = [(where, f"{value:,}") for value, where in frequency_ticks(band_centres(spec))]
    line = f'<path class="axis" d="M{frame.left} {base}H{frame.width - frame.right}"/>'
    axes = frame.axes(hz, number_ticks(frame.y), "frequency (Hz)", "difference (dB)")
    return frame.draw(f'<path class="bars" d="{bars}"/>', line, axes)


def roc_chart(false_alarms: NDArray[np.float64], true_alarms: NDArray[np.float64]) -> str:
    """Draw a receiver operating characteristic, and the diagonal of chance."""
    frame = Frame((0.0, 1.0), (0.0, 1.0), 300, 220)
    x, y = np.repeat(false_alarms, 2)[1:], np.repeat(true_alarms, 2)[:-1]
    chance = f'<path class="limit" d="{_line(frame.points([0, 1], [0, 1]))}"/>'
    ticks = [(value, f"{value:g}") for value in (0.0, 0.5, 1.0)]
    axes = frame.axes(ticks, ticks, "false alarms (share of normal clips)", "found (share)")
    return frame.draw(chance, f'<path class="roc" d="{_line(frame.points(x, y))}"/>', axes)


def scores_chart(normal: Sequence[float], abnormal: Sequence[float], threshold: float) -> str:
    """Draw histograms of the scores of normal clips, upwards, and of abnormal clips, downwards, and the threshold."""
    ends = _ends([*normal, *abnormal], threshold)
    edges = np.linspace(*ends, _BINS + 1)
    up, down = (np.histogram(values, edges)[0] for values in (normal, abnormal))
    frame = Frame(ends, (-max(1.0, float(down.max())), max(1.0, float(up.max()))), 300, 220)
    lefts, zero = frame.across(edges).tolist(), _number(frame.down(0.0))
    bars = [_bars(lefts, frame.down(values).tolist(), zero) for values in (up, -down)]
    place = _number(frame.across(threshold)) if math.isfinite(threshold) else "-9"
    limit = f'<path class="limit" d="M{place} {frame.top}V{frame.height - frame.bottom}"/>'
    ticks = [(value, f"{abs(value):g}") for value in (frame.y[0], 0.0, frame.y[1])]
    axes = frame.axes(number_ticks(ends), ticks, "score", "clips")
    return frame.draw(
        f'<path class="normal-bars" d="{bars[0]}"/><path class="abnormal-bars" d="{bars[1]}"/>', limit, axes
    )


def number_ticks(ends: Interval, most: int = 5, *, whole: bool = False) -> list[tuple[float, str]]:
    """Return round numbers between two ends, at most about so many."""
    low, high = ends
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough * 0.999)
    step = max(step, 1.0) if whole else step
    values = np.arange(math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9) + 1) * step
    return [(value, f"{value + 0.0:,.5g}" if abs(value) < 1e5 else f"{value:.3g}") for value in values.tolist()]


def date_ticks(ends: Interval) -> list[tuple[float, str]]:
    """Return times between two ends, and their dates, for clips that are less than two days apart with hours."""
    begin, end = ends
    times = np.linspace(begin + 0.08 * (end - begin), end - 0.08 * (end - begin), 4).tolist()
    is_short = end - begin < _TWO_DAYS
    return [(time, format_time(time)[5:] if is_short else format_time(time)[:10]) for time in times]


def format_time(seconds: float) -> str:
    """Return seconds since 1970-01-01 as date and time, to the minute; ``-`` where unknown."""
    if not math.isfinite(seconds):
        return "-"
    return str(np.datetime_as_string(np.datetime64(math.floor(seconds), "s"), unit="m")).replace("T", " ")


def _when(history: History) -> NDArray[np.float64]:
    """Return where clips are from left to right: when they were recorded, or their places, counted from 1."""
    if not history.is_timed:
        return np.arange(1.0, len(history.scores) + 1)
    return np.nan_to_num(history.times, nan=float(np.nanmin(history.times)))


def _thin(
    x: NDArray[np.float64], scores: NDArray[np.float64], most: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return at most so many points: of neighbours, the one with the highest score."""
    if len(x) <= most:
        return x, scores
    groups = np.array_split(np.arange(len(x)), most)
    kept = np.array([group[np.argmax(scores[group])] for group in groups])
    return x[kept], scores[kept]


def _ends(values: ArrayLike, *others: float) -> Interval:
    """Return ends of an axis on which all finite values are, not at the very ends."""
    known = np.append(np.asarray(values, np.float64), others)
    known = known[np.isfinite(known)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    margin = _MARGIN * (high - low) or abs(low) * _MARGIN or 1.0
    return low - margin, high + margin


def _share(values: ArrayLike, ends: Interval) -> NDArray[np.float64]:
    shares: NDArray[np.float64] = (np.asarray(values, np.float64) - ends[0]) / (ends[1] - ends[0])
    return shares


def _number(value: float | NDArray[np.float64]) -> str:
    return f"{float(value):.1f}".removesuffix(".0")


def _line(points: Iterable[tuple[float, float]]) -> str:
    return "M" + "L".join(f"{_number(x)} {_number(y)}" for x, y in points)


def _dots(points: Iterable[tuple[float, float]]) -> str:
    """Return lines without length: their ends are round."""
    return "".join(f"M{_number(x)} {_number(y)}h0" for x, y in points)


def _triangles(points: Iterable[tuple[float, float]]) -> str:
    return "".join(f"M{_number(x)} {_number(y - 4)}l-3.5 6h7z" for x, y in points)


def _bars(lefts: Sequence[float], tops: Sequence[float], zero: str) -> str:
    return "".join(
        f"M{_number(x)} {zero}V{_number(y)}H{_number(stop - 1)}V{zero}z"
        for x, stop, y in zip(lefts, lefts[1:], tops, strict=False)
        if _number(y) != zero
    )
