"""Small charts as inline SVG: colours come from the page's style sheet, so that they follow light, dark and print.

Every text passes through Markup.format, which escapes it. The size is that of the view box; the page scales it.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from markupsafe import Markup

from fcn4dist.errors import shorten_name

WIDTH, HEIGHT = 520.0, 230.0
LEFT, RIGHT, TOP, BOTTOM = 54.0, 10.0, 10.0, 34.0  # LEFT is the least: long numbers beside the y axis take more
LETTER, DOT = 9.6, 4.8  # widths at the largest size that style.css gives to .t, 15, in the widest common font
NUM_COLOURS = 8
MOST_POINTS = 400  # of one line
MOST_VALUES = 4  # that are written beside marks beyond an axis
MEDIAN_POINTS = 9  # of a running median
NUM_COLUMNS = 80  # of a chart, each with its values on hover

clean = shorten_name  # every text of a run goes through it on its way to the page

Points = Sequence[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """One line of a chart."""

    name: str
    points: Points  # in the order of x, all finite
    colour: int | str = 0  # number of a colour of the page, or a class such as "muted"
    kind: Literal["line", "faint", "dots", "step"] = "line"

    @property
    def css(self) -> str:
        """The class that gives the colour."""
        return f"c{self.colour % NUM_COLOURS}" if isinstance(self.colour, int) else self.colour


@dataclass(frozen=True)
class Chart:
    """A picture with its heading and its key."""

    title: str
    svg: Markup
    series: tuple[Series, ...] = ()
    caption: str = ""

    @property
    def key(self) -> tuple[Series, ...]:
        """What the key lists; a single line needs none."""
        named = tuple(series for series in self.series if series.name)
        return named if len(named) > 1 else ()


@dataclass(frozen=True)
class Axis:
    """One axis: from where to where, with round numbers between."""

    low: float
    high: float
    ticks: tuple[float, ...]

    @classmethod
    def over(
        cls,
        values: Sequence[float],
        *,
        zero: bool = False,
        limits: tuple[float, float] | None = None,
        whole: bool = False,
    ) -> Axis:
        """Return an axis that holds `values`, and 0 where `zero`; or exactly `limits`; `whole`: no ticks between integers."""
        low, high = limits or (min(values), max(values))
        if zero and limits is None:
            low, high = min(low, 0.0), max(high, 0.0)
        if high - low < 1e-12 * max(1.0, abs(high)):
            margin = abs(high) * 0.1 or 1.0
            low, high = (low if zero and low == 0 else low - margin), high + margin
        step = _round_step((high - low) / 4)
        if whole:
            step = 2.0 if step == 2.5 else max(1.0, step)
        if limits is None:
            low, high = math.floor(low / step + 1e-9) * step, math.ceil(high / step - 1e-9) * step
        first = math.ceil(low / step - 1e-9)
        count = math.floor(high / step + 1e-9) - first + 1
        return cls(low, high, tuple((first + i) * step for i in range(max(0, min(count, 50)))))

    @property
    def labels(self) -> tuple[str, ...]:
        """The numbers at the ticks, with so many digits that each says where its tick is."""
        step = min((b - a for a, b in zip(self.ticks, self.ticks[1:], strict=False)), default=abs(self.high - self.low))

        def is_exact(digits: int) -> bool:
            return all(abs(float(f"{tick:.{digits}g}") - tick) <= step / 100 for tick in self.ticks)

        digits = next((digits for digits in range(4, 17) if is_exact(digits)), 17)
        return tuple(format_tick(tick, digits) for tick in self.ticks)

    def place(self, value: float, start: float, end: float) -> float:
        """Return where `value` stands between the ends of the axis."""
        return start + (value - self.low) / (self.high - self.low) * (end - start)


def _round_step(wanted: float) -> float:
    power: float = 10.0 ** math.floor(math.log10(wanted))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= wanted * 0.999)


def format_tick(value: float, digits: int = 4) -> str:
    """Return a short number: 0.25, 1500, 20k, 3M, 1e-05."""
    if value == 0 or abs(value) < 1e-12:
        return "0"
    if abs(value) >= 1e4 or abs(value) < 1e-3:
        for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
            if size <= abs(value) < size * 1000:
                return f"{value / size:.{digits}g}{letter}"
    return f"{value:.{digits}g}"


def line_chart(
    title: str,
    series: Sequence[Series],
    x_label: str,
    y_label: str = "",
    *,
    zero: bool = False,
    x_limits: tuple[float, float] | None = None,
    y_limits: tuple[float, float] | None = None,
    y_most: float | None = None,
    caption: str = "",
) -> Chart | None:
    """Return a chart of lines; None where there is no point to draw.

    `y_most`: the y axis ends about there; points above it have a mark at its end, the highest ones with their values.
    """
    drawn = tuple(one for one in series if one.points)
    if not drawn:
        return None
    xs = [x for one in drawn for x, _ in one.points]
    whole = x_limits is None and all(x == round(x) for x in xs)
    x_axis = Axis.over(xs, limits=x_limits or _ends(drawn), whole=whole)
    ys = [y for one in drawn for _, y in one.points]
    y_axis = Axis.over(ys if y_most is None else [min(y, y_most) for y in ys], zero=zero, limits=y_limits)
    left = _left_of(y_axis)
    parts = _frame(x_axis, y_axis, left, x_label, y_label)
    parts += [_draw(one, x_axis, y_axis, left) for one in drawn if one.kind != "dots"]
    parts += _values_on_hover(title, drawn, x_axis, left, x_label)
    parts += [_draw(one, x_axis, y_axis, left, x_label) for one in drawn if one.kind == "dots"]
    if y_most is not None:
        beyond = [(x, y) for one in drawn for x, y in one.points if y > y_axis.high]
        parts += _mark(beyond, x_axis, left, title, x_label)
    return Chart(title, _svg(title, parts), drawn, caption)


def _ends(drawn: Sequence[Series]) -> tuple[float, float] | None:
    xs = [x for one in drawn for x in (one.points[0][0], one.points[-1][0])]
    return (min(xs), max(xs)) if max(xs) > min(xs) else None


def _svg(title: str, parts: Sequence[Markup], width: float = WIDTH, height: float = HEIGHT) -> Markup:
    head = Markup('<svg viewBox="0 0 {0:g} {1:g}" width="{0:g}" height="{1:g}" role="img"><title>{2}</title>')
    head = head.format(width, height, title)
    return Markup("").join([head, *parts, Markup("</svg>")])


def _left_of(y_axis: Axis) -> float:
    """Return where the y axis stands, so that its numbers fit between it and the turned label at the edge."""
    widths = (sum(DOT if letter == "." else LETTER for letter in label) for label in y_axis.labels)
    return max(LEFT, 26 + max(widths, default=0.0))


def _frame(x_axis: Axis, y_axis: Axis, left: float, x_label: str, y_label: str) -> list[Markup]:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    parts = []
    for tick, label in zip(y_axis.ticks, y_axis.labels, strict=True):
        y = y_axis.place(tick, bottom, TOP)
        parts.append(Markup('<path class="grid" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, y, right))
        parts.append(_text(left - 6, y + 4, label, "end"))
    for tick, label in zip(x_axis.ticks, x_axis.labels, strict=True):
        x = x_axis.place(tick, left, right)
        parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}v4"/>').format(x, bottom))
        parts.append(_text(x, bottom + 16, label, "end" if x > right - 12 else "middle"))
    parts.append(Markup('<path class="axis" d="M{:.1f} {:.1f}H{:.1f}"/>').format(left, bottom, right))
    parts.append(_text((left + right) / 2, HEIGHT - 4, x_label, "middle"))
    if y_label:
        middle = (TOP + bottom) / 2
        turned = Markup('<text class="t" text-anchor="middle" transform="translate(14 {:.1f}) rotate(-90)">{}</text>')
        parts.append(turned.format(middle, y_label))
    return parts


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text class="t" x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text)


def _values_on_hover(title: str, drawn: Sequence[Series], x_axis: Axis, left: float, x_label: str) -> list[Markup]:
    """Return unseen columns over a chart; each says under the mouse what the named lines are there, from low to high."""
    named = [one for one in drawn if one.kind != "dots" and one.css != "grid" and (one.name or len(drawn) == 1)]
    right = WIDTH - RIGHT
    columns: dict[int, dict[int, list[tuple[float, float]]]] = {}
    for number, one in enumerate(named):
        for x, y in one.points:
            column = math.floor(x_axis.place(x, 0, NUM_COLUMNS))
            columns.setdefault(min(max(column, 0), NUM_COLUMNS - 1), {}).setdefault(number, []).append((x, y))
    starts, found = sorted(columns), []
    middles = [(a + b + 1) / 2 for a, b in itertools.pairwise(starts)]  # an empty column belongs to the next
    for column, begin, end in zip(starts, [0.0, *middles], [*middles, float(NUM_COLUMNS)], strict=True):
        here = columns[column]
        xs = [x for points in here.values() for x, _ in points]
        lines = [f"{x_label} {_span(xs)}"]
        lines += [f"{named[i].name or title}: {_span([y for _, y in points])}" for i, points in here.items()]
        rect = Markup('<rect class="hover" x="{:.1f}" y="{:g}" width="{:.1f}" height="{:g}"><title>{}</title></rect>')
        wide = (right - left) / NUM_COLUMNS
        found.append(
            rect.format(left + begin * wide, TOP, (end - begin) * wide, HEIGHT - TOP - BOTTOM, "\n".join(lines))
        )
    return found


def _span(values: Sequence[float]) -> str:
    low, high = (f"{value:.6g}" for value in (min(values), max(values)))
    return low if low == high else f"{low} to {high}"


def _mark(points: Points, x_axis: Axis, left: float, title: str, x_label: str) -> list[Markup]:
    """Return marks at the upper end of the y axis where points are above it, the highest ones with their values."""
    found: list[Markup] = []
    texts: list[float] = []  # where values stand, which must not run into each other
    marks: set[int] = set()
    for x, y in sorted(points, key=lambda point: -point[1]):
        place = x_axis.place(x, left, WIDTH - RIGHT)
        if round(place) not in marks:
            mark = Markup('<path class="beyond" d="M{:.1f} {:g}l4 7h-8z"><title>{} at {} {:.6g}: {:.6g}</title></path>')
            found.append(mark.format(place, TOP - 8, title, x_label, x, y))
            marks.add(round(place))
        if len(texts) < MOST_VALUES and all(abs(place - other) > 70 for other in texts):
            anchor = "end" if place > WIDTH / 2 else "start"
            found.append(_text(place + (-8 if anchor == "end" else 8), TOP + 4, format_tick(y), anchor))
            texts.append(place)
    return found


def without_spikes(points: Points) -> float | None:
    """Return where a y axis may end that spikes would flatten; None where there are none: it then holds all points.

    A spike is more than twice as high as the highest running median, so the high losses of a run's first steps are none.
    """
    if len(points) < 2 * MEDIAN_POINTS:
        return None
    ys = [y for _, y in points]
    windows = (ys[max(0, i - MEDIAN_POINTS // 2) : i + MEDIAN_POINTS // 2 + 1] for i in range(len(ys)))
    most = 1.5 * max(statistics.median(window) for window in windows)
    return most if max(ys) > 2 * most > 0 else None


def _draw(series: Series, x_axis: Axis, y_axis: Axis, left: float, x_label: str = "") -> Markup:
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x, y = point
        return x_axis.place(x, left, right), min(max(y_axis.place(y, bottom, TOP), TOP - 2), bottom + 2)

    if series.kind == "dots" or len(series.points) == 1:
        apart = {
            tuple(map(round, place(point))): point for point in series.points
        }.values()  # of those in one place, one
        dot = Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.6"><title>{}{} {:.6g}: {:.6g}</title></circle>')
        head = f"{series.name}, " if series.name else ""
        dots = Markup("").join(dot.format(*place(point), head, x_label, *point) for point in apart)
        return Markup('<g class="dots {}">{}</g>').format(series.css, dots)
    places = [place(point) for point in series.points]
    return Markup('<path class="{} {}" d="{}"/>').format(series.kind, series.css, path_of(places, series.kind))


def path_of(places: Points, kind: str = "line") -> str:
    """Return the `d` of a path through places of the view box."""
    texts = [(f"{x:.1f}", f"{y:.1f}") for x, y in places]
    words = [f"M{texts[0][0]} {texts[0][1]}"]
    for (before, level), (x, y) in itertools.pairwise(texts):
        if kind == "step" or x == before or y == level:
            words.append((f"H{x}" if x != before else "") + (f"V{y}" if y != level else ""))
        else:
            words.append(f"L{x} {y}")
    return "".join(words)


def thin(points: Points, most: int = MOST_POINTS) -> list[tuple[float, float]]:
    """Return at most about `most` points: of each stretch of x the lowest and the highest, so that no spike is lost."""
    if len(points) <= most:
        return list(points)
    size = -(-len(points) * 2 // most)
    kept: list[tuple[float, float]] = []
    for start in range(0, len(points), size):
        stretch = range(start, min(start + size, len(points)))
        ends = {min(stretch, key=lambda i: points[i][1]), max(stretch, key=lambda i: points[i][1])}
        ends |= {0, len(points) - 1} & set(stretch)  # a level line goes on to its end
        kept += [points[i] for i in sorted(ends)]
    return kept


def smooth(points: Points, share: float = 0.05) -> list[tuple[float, float]]:
    """Return the centred moving average over `share` of the points, at most MOST_POINTS of it."""
    half = max(1, round(len(points) * share / 2))
    sums = [0.0]
    for _, y in points:
        sums.append(sums[-1] + y)
    stride = max(1, len(points) // MOST_POINTS)
    found = []
    for i in [*range(0, len(points), stride), len(points) - 1]:
        start, end = max(0, i - half), min(len(points), i + half + 1)
        found.append((points[i][0], (sums[end] - sums[start]) / (end - start)))
    return found


@dataclass(frozen=True)
class Bar:
    """One row of stacked parts."""

    name: str
    parts: tuple[float, ...]


def bar_chart(title: str, bars: Sequence[Bar], part_names: Sequence[str], unit: str) -> Chart | None:
    """Return rows of stacked bars, one colour a part; None without any length."""
    longest = max((sum(bar.parts) for bar in bars), default=0.0)
    if longest <= 0:
        return None
    row, left = 22.0, 84.0
    height = TOP + row * len(bars) + BOTTOM
    axis = Axis.over([0.0, longest], zero=True, limits=(0.0, longest))
    right, bottom = WIDTH - RIGHT, height - BOTTOM
    parts = []
    for tick, label in zip(axis.ticks, axis.labels, strict=True):
        x = axis.place(tick, left, right)
        parts.append(Markup('<path class="grid" d="M{:.1f} {:.1f}V{:.1f}"/>').format(x, TOP, bottom))
        parts.append(_text(x, bottom + 16, label, "end" if x > right - 12 else "middle"))
    parts.append(_text((left + right) / 2, height - 4, unit, "middle"))
    for i, bar in enumerate(bars):
        y, x = TOP + row * i, left
        parts.append(_text(left - 6, y + 15, bar.name, "end"))
        for number, length in enumerate(bar.parts):
            wide = axis.place(length, 0.0, right - left)
            rect = Markup(
                '<rect class="fill c{}" x="{:.2f}" y="{:.1f}" width="{:.2f}" height="{:g}"><title>{}</title></rect>'
            )
            text = f"{bar.name}, {part_names[number]}: {length:.6g}"
            parts.append(rect.format(number % NUM_COLOURS, x, y + 3, wide, row - 6, text))
            x += wide
    key = tuple(Series(name, ((0.0, 0.0),), i) for i, name in enumerate(part_names))
    return Chart(title, _svg(title, parts, height=height), key)


def matrix_chart(title: str, names: Sequence[str], cells: Sequence[Sequence[float]], caption: str = "") -> Chart | None:
    """Return a square of shaded cells, rows by columns, each 0 to 1, with its names beside and above."""
    if not names:
        return None
    size = max(14.0, min(30.0, 320.0 / len(names)))
    longest = max(len(name) for name in names)
    margin = min(8.0 + 6.2 * longest, 110.0)
    side = margin + size * len(names) + 4
    parts = []
    for i, name in enumerate(names):
        short = name if len(name) <= 17 else name[:16] + "…"
        place = margin + size * (i + 0.5) + 4
        parts.append(_text(margin - 4, place, short, "end"))
        turned = Markup('<text class="t" transform="translate({:.1f} {:.1f}) rotate(-90)">{}</text>')
        parts.append(turned.format(place, margin - 4, short))
    for i, row in enumerate(cells):
        for j, value in enumerate(row):
            if value < 0.005:
                continue
            cell = Markup(
                '<rect class="cell{0}" x="{1:.1f}" y="{2:.1f}" width="{3:.1f}" height="{3:.1f}" fill-opacity="{4:.2f}">'
                "<title>{5}</title></rect>"
            )
            css, text = " own" if i == j else "", f"{names[i]} → {names[j]}: {value:.0%}"
            parts.append(cell.format(css, margin + size * j, margin + size * i, size - 1, value, text))
    frame = Markup('<rect class="frame" x="{0:.0f}" y="{0:.0f}" width="{1:.0f}" height="{1:.0f}"/>')
    parts.append(frame.format(margin, size * len(names)))
    return Chart(title, _svg(title, parts, side, side), (), caption)


def spark(points: Points, css: str = "c0", *, diagonal: bool = False, title: str = "") -> Markup:
    """Return a square of 64 with a curve from (0, 0) to (1, 1) in it."""
    places = [(2 + 60 * min(max(x, 0), 1), 62 - 60 * min(max(y, 0), 1)) for x, y in points]
    parts = [Markup('<rect class="frame" x="2" y="2" width="60" height="60"/>')]
    if diagonal:
        parts.append(Markup('<path class="grid" d="M2 62L62 2"/>'))
    parts.append(Markup('<path class="line {}" d="{}"/>').format(css, path_of(places)))
    return _svg(title, parts, 64, 64)


def histogram(negatives: Sequence[float], positives: Sequence[float], title: str = "") -> Markup:
    """Return two histograms, each as shares of its own sum: negatives upwards, positives downwards, 0 to 1 from left to right."""
    top = max([*negatives, *positives, 1e-9])
    wide = 116 / max(1, len(negatives))
    parts = [Markup('<path class="axis" d="M2 32H118"/>')]
    for i, (low, high) in enumerate(zip(negatives, positives, strict=True)):
        for share, css, up in ((low, "muted-fill", True), (high, "fill c1", False)):
            tall = 29 * share / top
            if tall > 0.05:
                rect = Markup('<rect class="{}" x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}"/>')
                parts.append(rect.format(css, 2 + wide * i, 32 - tall if up else 32, wide - 0.6, tall))
    return _svg(title, parts, 120, 64)
