"""Plots as SVG: bars and curves, written without a library and readable by any browser."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

WIDTH = 760
BAR, GAP = 18, 6
LABELS = 170
"""Width in pixels of the column for the names of bars."""

FIGURES = 110
"""Width in pixels of the column for the figures after the bars."""

COLOURS = {
    "asyncio": "#7f7f7f",
    "uvloop": "#e6913a",
    "rloop": "#b5563c",
    "trio": "#8c6bb1",
    "curio": "#c2a5cf",
    "runtime-pure": "#74add1",
    "runtime-pure-asyncio": "#abd9e9",
    "runtime-accelerator": "#4393c3",
    "runtime-compiled": "#1a5fa8",
    "runtime-asyncio": "#4477aa",
    "C": "#222222",
}


@dataclass(frozen=True)
class Bar:
    """A bar: its name, its length with the ends of the spread, and the text after it."""

    name: str
    low: float
    value: float
    high: float
    text: str


@dataclass(frozen=True)
class Curve:
    """A line through points with positive coordinates."""

    name: str
    points: tuple[tuple[float, float], ...]


def colour(name: str) -> str:
    """Return the colour of a contender, the same in every plot."""
    return COLOURS.get(name, "#55a868")


def _svg(width: float, height: float, parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:g} {height:g}" '
        f'width="{width:g}" height="{height:g}" font-family="sans-serif" font-size="12" role="img">'
        f"<title>{escape(title)}</title>{''.join(parts)}</svg>"
    )


def _text(x: float, y: float, text: str, anchor: str = "start") -> str:
    # With currentColor, the page chooses a colour that suits its light or dark background.
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="currentColor">'
        f"{escape(text)}</text>"
    )


def bars(title: str, rows: Sequence[Bar]) -> str:
    """Return horizontal bars, one below another, on a scale from 0; whiskers show the spread."""
    longest = max((max(row.high, row.value) for row in rows), default=0) or 1
    scale = (WIDTH - LABELS - FIGURES) / longest
    parts = []
    for number, row in enumerate(rows):
        top = number * (BAR + GAP)
        middle = top + BAR / 2
        start, end = LABELS + row.low * scale, LABELS + row.high * scale
        box = f'x="{LABELS}" y="{top}" width="{row.value * scale:.1f}" height="{BAR}"'
        whisker = f'd="M{start:.1f} {middle}H{end:.1f}" stroke="#d33" stroke-width="2"'
        parts += [
            _text(LABELS - 8, middle + 4, row.name, "end"),
            f'<rect {box} fill="{colour(row.name)}"/>',
            f"<path {whisker}/>",
            _text(LABELS + max(row.high, row.value) * scale + 6, middle + 4, row.text),
        ]
    return _svg(WIDTH, max(1, len(rows)) * (BAR + GAP), parts, title)


class _Scale:
    """Maps the logarithms of values to pixels."""

    def __init__(self, values: Sequence[float], start: float, end: float) -> None:
        self._low, high = math.log10(min(values)), math.log10(max(values))
        self._start = start
        self._factor = (end - start) / ((high - self._low) or 1)
        self.decades = [10.0**power for power in range(math.ceil(self._low), math.floor(high) + 1)]

    def __call__(self, value: float) -> float:
        return self._start + (math.log10(value) - self._low) * self._factor


def curves(
    title: str,
    lines: Sequence[Curve],
    label_x: Callable[[float], str],
    label_y: Callable[[float], str],
    *,
    ticks: Sequence[float] = (),
) -> str:
    """Return curves on logarithmic scales with a legend; ``ticks`` belong to the horizontal axis.

    Raises ValueError if there are no points.
    """
    points = [point for line in lines for point in line.points]
    if not points:
        raise ValueError(f"There is nothing to draw: {title}.")
    left, right, top, bottom = 80.0, WIDTH - 190.0, 10.0, 260.0
    across = _Scale([x for x, _ in points], left, right)
    up = _Scale([y for _, y in points], bottom, top)
    parts = [f'<path d="M{left} {top}V{bottom}H{right}" fill="none" stroke="currentColor"/>']
    parts += (
        _text(across(tick), bottom + 16, label_x(tick), "middle")
        for tick in ticks or across.decades
    )
    for decade in up.decades or [min(y for _, y in points)]:
        y = up(decade)
        parts.append(f'<path d="M{left} {y:.1f}H{right}" stroke="currentColor" opacity=".2"/>')
        parts.append(_text(left - 6, y + 4, label_y(decade), "end"))
    for number, line in enumerate(lines):
        path = "L".join(f"{across(x):.1f} {up(y):.1f}" for x, y in line.points)
        shade = colour(line.name)
        parts.append(f'<path d="M{path}" fill="none" stroke="{shade}" stroke-width="2"/>')
        y = top + 14 + number * 18
        parts.append(f'<rect x="{right + 14}" y="{y - 9}" width="12" height="10" fill="{shade}"/>')
        parts.append(_text(right + 32, y, line.name))
    return _svg(WIDTH, max(bottom + 30, 20 + 18 * len(lines)), parts, title)
