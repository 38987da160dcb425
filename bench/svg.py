"""Plots as SVG: bars, factors and curves, written without a library and readable by any browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 860
BAR, GAP = 16, 8
LABELS = 170
"""Width in pixels of the column for the names of contenders."""

TITLES = 256
"""Width in pixels of the column for the titles of cases."""

FIGURES = 180
"""Width in pixels of the column for the figures after the bars, or for the best other contender."""

ROW = BAR + GAP
AXIS = 44
"""Height in pixels of an axis: the figures at its ticks, and its title."""

COLOURS = {
    "asyncio": "#8a8a8a",
    "uvloop": "#e6913a",
    "rloop": "#8c5a2b",
    "zuvloop": "#2e9e4f",
    "zloop": "#93c47d",
    "rsloop": "#7a8b1e",
    "blazio": "#d4ac0d",
    "loopmini": "#e377c2",
    "veloxloop": "#0f9d8f",
    "trio": "#8c6bb1",
    "curio": "#c2a5cf",
    "runtime-pure": "#74add1",
    "runtime-pure-asyncio": "#a6d4e6",
    "runtime-accelerator": "#4393c3",
    "runtime-compiled": "#1a5fa8",
    "runtime-asyncio": "#5b7fc4",
    "runtime-joined": "#3d5a80",
    "C": "currentColor",
}
"""Colour of each contender in every plot; the limit in C has the colour of the text."""

BEHIND = "#d62839"
"""Colour of the cases in which this project is behind. No contender has it."""

PALE = {BEHIND: "#f0a5ab", COLOURS["runtime-compiled"]: "#9dbbdd"}
"""Colours of noisy bars, by the colours of the others."""


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its length with the ends of the spread, and the text after it."""

    name: str
    low: float
    value: float
    high: float
    text: str
    is_behind: bool = False
    """Whether the text is to be marked, because a peer of this contender is ahead."""


@dataclass(frozen=True)
class Factor:
    """A bar that begins at the factor 1: to the right if better, to the left if worse."""

    title: str
    low: float
    value: float
    high: float
    note: str
    """Text of the right column: the comparison with the best peer."""

    is_behind: bool
    is_noisy: bool


@dataclass(frozen=True)
class Curve:
    """A line through points with positive coordinates."""

    name: str
    points: tuple[tuple[float, float], ...]
    spreads: tuple[tuple[float, float], ...] = ()
    """Ends of the spread of each point, or nothing if it is unknown."""


def colour(name: str) -> str:
    """Return the colour of a contender, the same in every plot."""
    return COLOURS.get(name, "#b0b0b0")


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-size="12" role="img" '
        'font-family="system-ui, Helvetica, Arial, sans-serif">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(
    x: float,
    y: float,
    text: str,
    anchor: str = "start",
    *,
    fill: str = "currentColor",
    weight: str = "normal",
    size: int = 12,
) -> str:
    # With currentColor, the page chooses a colour that suits its light or dark background.
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" '
        f'font-weight="{weight}" font-size="{size}">{escape(text)}</text>'
    )


def _line(x1: float, y1: float, x2: float, y2: float, opacity: float = 1.0) -> str:
    path = f"M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}"
    return f'<path d="{path}" stroke="currentColor" opacity="{opacity:g}"/>'


def _box(x: float, y: float, width: float, height: float, fill: str) -> str:
    return f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:g}" fill="{fill}"/>'


def _whisker(start: float, end: float, middle: float) -> str:
    """Return a line with end marks from one quartile to the other; nothing if they are equal."""
    if end - start < 1:
        return ""
    caps = "".join(f"M{x:.1f} {middle - 4:.1f}v8" for x in (start, end))
    path = f"M{start:.1f} {middle:.1f}H{end:.1f}{caps}"
    return f'<path d="{path}" fill="none" stroke="currentColor" stroke-width="1.5"/>'


def bars(
    title: str, rows: Sequence[Bar], axis: str = "", label: Callable[[float], str] = str
) -> str:
    """Return horizontal bars, one below another, on a scale from 0; whiskers show the spread.

    ``axis`` is the title of the axis, whose ticks are written by ``label``.
    """
    longest = max((max(row.high, row.value) for row in rows), default=0) or 1
    scale = (WIDTH - LABELS - FIGURES) / longest
    bottom = max(1, len(rows)) * ROW
    parts: list[str] = []
    if axis:
        parts += _linear_axis(longest, scale, bottom, axis, label)
    for number, row in enumerate(rows):
        top = number * ROW
        middle = top + BAR / 2
        end = max(row.high, row.value)
        parts += [
            _text(LABELS - 8, middle + 4, row.name, "end"),
            _box(LABELS, top, row.value * scale, BAR, colour(row.name)),
            _whisker(LABELS + row.low * scale, LABELS + row.high * scale, middle),
            _text(
                LABELS + end * scale + 8,
                middle + 4,
                row.text,
                fill=BEHIND if row.is_behind else "currentColor",
                weight="bold" if row.is_behind else "normal",
            ),
        ]
    return _svg(WIDTH, bottom + (AXIS if axis else 0), parts, title)


def _linear_axis(
    longest: float, scale: float, bottom: float, axis: str, label: Callable[[float], str]
) -> Iterator[str]:
    step = 10.0 ** math.floor(math.log10(longest))
    step = next(part for part in (step / 5, step / 2, step, 2 * step) if longest / part <= 6)
    for number in range(int(longest / step) + 1):
        x = LABELS + number * step * scale
        yield _line(x, 0, x, bottom, 0.2)
        yield _text(x, bottom + 14, label(number * step), "middle")
    middle = LABELS + longest * scale / 2
    yield _text(middle, bottom + 34, axis, "middle")


class _Scale:
    """Maps the logarithms of values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, high = math.log10(min(values)), math.log10(max(values))
        self._start = start
        self._factor = (end - start) / ((high - self._low) or 1)
        self.decades = [10.0**power for power in range(math.ceil(self._low), math.floor(high) + 1)]

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) * self._factor


FACTOR_TICKS = (0.1, 0.2, 0.25, 0.33, 0.5, 0.67, 0.8, 1, 1.25, 1.5, 2, 3, 4, 6, 8, 16, 32)


def factors(
    title: str, subtitle: str, groups: Sequence[tuple[str, Sequence[Factor]]], axis: str
) -> str:
    """Return bars on both sides of the factor 1, in groups, with a title, a legend and an axis.

    The scale is logarithmic, so that twice as good and half as good are equally far from 1. Raises
    ValueError if there are no bars.
    """
    rows = [row for _, group in groups for row in group]
    has_headings = sum(bool(group) for _, group in groups) > 1
    if not rows:
        raise ValueError(f"There is nothing to draw: {title}.")
    left, right = float(TITLES), float(WIDTH - FIGURES)
    ends = [end for row in rows for end in (row.low, row.high)]
    # The figure of the longest bar on either side needs room inside the plot.
    across = _Scale([min(*ends, 0.8) / 1.22, max(*ends, 1.25) * 1.35], left, right)
    parts = [_text(0, 16, title, weight="bold", size=16), _text(0, 36, subtitle)]
    parts += _factor_legend(58)
    parts.append(_text(right + 12, 92, "to the best other", weight="bold"))
    top = y = 100.0
    drawn: list[str] = []
    for heading, group in groups:
        if group and has_headings:
            drawn.append(_text(0, y + 13, heading, weight="bold"))
            y += ROW
        for row in group:
            drawn += _factor_row(row, across, y, right)
            y += ROW
    shown = [tick for tick in FACTOR_TICKS if left <= across(tick) <= right]
    last = -math.inf
    for tick in shown:
        x = across(tick)
        parts.append(_line(x, top, x, y, 0.8 if tick == 1 else 0.15))
        if x - last > 34 or tick == 1:
            parts.append(_text(x, y + 14, f"{tick:g}x", "middle"))
            last = x
    parts += [*drawn, _text((left + right) / 2, y + 36, axis, "middle")]
    return _svg(WIDTH, y + AXIS, parts, title)


def _factor_legend(y: float) -> Iterator[str]:
    ahead = colour("runtime-compiled")
    yield _box(0, y - 10, 12, 12, ahead)
    yield _text(18, y, "ahead of every other")
    yield _box(160, y - 10, 12, 12, BEHIND)
    yield _text(178, y, "behind the best other")
    yield _box(322, y - 10, 6, 12, PALE[ahead])
    yield _box(328, y - 10, 6, 12, PALE[BEHIND])
    yield _text(340, y, "pale: noisy, the quartiles are far apart")
    yield _whisker(606, 626, y - 4)
    yield _text(632, y, "half of the rounds")


def _factor_row(row: Factor, across: _Scale, y: float, right: float) -> Iterator[str]:
    shade = BEHIND if row.is_behind else colour("runtime-compiled")
    middle = y + BAR / 2
    start, end = sorted((across(1), across(row.value)))
    yield _text(14, middle + 4, row.title)
    yield _box(start, y, max(end - start, 1.5), BAR, PALE[shade] if row.is_noisy else shade)
    yield _whisker(across(row.low), across(row.high), middle)
    figure = f"{row.value:.2f}x"
    if row.value >= 1:
        yield _text(max(end, across(row.high)) + 6, middle + 4, figure)
    else:
        yield _text(min(start, across(row.low)) - 6, middle + 4, figure, "end")
    weight = "bold" if row.is_behind else "normal"
    fill = BEHIND if row.is_behind else "currentColor"
    yield _text(right + 12, middle + 4, row.note, fill=fill, weight=weight)


def curves(
    title: str,
    lines: Sequence[Curve],
    label_x: Callable[[float], str],
    label_y: Callable[[float], str],
    *,
    ticks: Sequence[float] = (),
    axes: tuple[str, str] = ("", ""),
    heading: str = "",
) -> str:
    """Return curves on logarithmic scales with a legend at their right.

    ``ticks`` belong to the horizontal axis, ``axes`` are the titles of the horizontal and of the
    vertical axis, and ``heading`` is written above. Raises ValueError if there are no points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"There is nothing to draw: {title}.")
    heights = [y for _, y in points] + [
        end for line in lines for ends in line.spreads for end in ends
    ]
    left, right, top = 96.0, WIDTH - 200.0, 36.0 if heading else 12.0
    bottom = top + 280
    across = _Scale([x for x, _ in points], left + 10, right - 10)
    up = _Scale(heights, bottom - 8, top + 8)
    parts = [_text(0, 16, heading, weight="bold", size=16)] if heading else []
    parts.append(f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor"/>')
    parts += (
        _text(across(tick), bottom + 16, label_x(tick), "middle")
        for tick in ticks or across.decades
    )
    for tick in _ticks(min(heights), max(heights)):
        y = up(tick)
        parts.append(_line(left, y, right, y, 0.15))
        parts.append(_text(left - 6, y + 4, label_y(tick), "end"))
    parts.append(_text((left + right) / 2, bottom + 36, axes[0], "middle"))
    parts.append(
        f'<g transform="translate(14 {(top + bottom) / 2:g}) rotate(-90)">'
        f"{_text(0, 0, axes[1], 'middle')}</g>"
    )
    for number, line in enumerate(lines):
        parts += _curve(line, across, up)
        y = top + 14 + number * 20
        width, dashes = _pen(line.name)
        parts.append(
            f'<path d="M{right + 14} {y - 4}h22" stroke="{colour(line.name)}" '
            f'stroke-width="{width}"{dashes}/>'
        )
        parts.append(_text(right + 42, y, line.name))
    return _svg(WIDTH, max(bottom + AXIS, top + 20 + 20 * len(lines)), parts, title)


def _ticks(low: float, high: float) -> list[float]:
    """Return round values between two values: decades, and parts of them if these are few."""
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    for digits in ((1,), (1, 3), (1, 2, 5), (1, 2, 3, 5, 7)):
        every = [digit * 10.0**power for power in range(first, last + 1) for digit in digits]
        shown = [value for value in every if low <= value <= high]
        if len(shown) >= 4:
            return shown
    return [low] if low == high else [low, high]


def _pen(name: str) -> tuple[float, str]:
    """Return the width of a contender's line, and its dashes as an attribute."""
    width = 3 if name == "runtime-compiled" else 1.8
    return width, ' stroke-dasharray="6 4"' if name.endswith("-asyncio") else ""


def _curve(line: Curve, across: _Scale, up: _Scale) -> Iterator[str]:
    shade = colour(line.name)
    width, dashes = _pen(line.name)
    for (x, _), (low, high) in zip(line.points, line.spreads, strict=False):
        path = f"M{across(x):.1f} {up(low):.1f}V{up(high):.1f}"
        yield f'<path d="{path}" stroke="{shade}" stroke-width="5" opacity=".35"/>'
    path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
    yield f'<path d="M{path}" fill="none" stroke="{shade}" stroke-width="{width}"{dashes}/>'
