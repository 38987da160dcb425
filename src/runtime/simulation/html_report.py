"""The page of a failed run: lanes as a picture, and the table of steps, in one HTML file."""

from __future__ import annotations

import html
from collections.abc import Sequence

from runtime.simulation.watching import Step

_ROW = 22
_COLUMN = 190
_LEFT = 120

_STYLE = """
:root { color-scheme: light dark; --line: #bbb; --task: #3b76c4; --odd: #c4493b; --other: #888; }
body { font: 14px/1.5 system-ui, sans-serif; margin: 2rem; }
code { overflow-wrap: anywhere; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.picture { overflow-x: auto; border: 1px solid var(--line); }
table { border-collapse: collapse; margin-top: 1rem; }
th, td { text-align: left; padding: 2px 12px 2px 0; vertical-align: top; }
td.number { text-align: right; }
td:nth-child(4) { white-space: nowrap; }
tr.odd { color: var(--odd); }
"""


_LEGEND = (
    "Time runs downwards. Steps out of the usual order of the loop are red; point at one to see "
    "why the order is possible."
)


def page(failure: str, token: str, steps: Sequence[Step], outside: Sequence[str]) -> str:
    """Return the page. ``failure`` is the description of the exception."""
    lanes = list(dict.fromkeys((step.host, step.lane) for step in steps))
    parts = [
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">',
        f"<title>{_text(failure)}</title><style>{_STYLE}</style></head><body>",
        f"<h1>{_text(failure)}</h1>",
        f"<p>Token: <code id='token'>{_text(token)}</code></p>",
        f"<p>{len(steps)} steps in {len(lanes)} lanes. {_LEGEND}</p>",
        f"<div class='picture'>{_picture(steps, lanes)}</div>",
        _table(steps),
    ]
    if outside:
        items = "".join(f"<li>{_text(line)}</li>" for line in outside)
        parts.append(f"<h2>Outside of the simulation</h2><ul>{items}</ul>")
    parts.append("</body></html>\n")
    return "\n".join(parts)


def _picture(steps: Sequence[Step], lanes: Sequence[tuple[str, str]]) -> str:
    width = _LEFT + _COLUMN * len(lanes)
    height = _ROW * (len(steps) + 3)
    parts = [f"<svg width='{width}' height='{height}' role='img' aria-label='lanes'>"]
    for number, (host, lane) in enumerate(lanes):
        x = _LEFT + _COLUMN * number + 20
        name = f"{host}: {lane}" if host else lane
        parts.append(f"<text x='{x - 10}' y='18'>{_text(name[:26])}</text>")
        parts.append(f"<line x1='{x}' y1='26' x2='{x}' y2='{height}' stroke='var(--line)'></line>")
    last = ""
    for row, step in enumerate(steps):
        y = _ROW * (row + 2)
        x = _LEFT + _COLUMN * lanes.index((step.host, step.lane)) + 20
        time = f"{step.time:g} s"
        if time != last:
            parts.append(f"<text x='8' y='{y + 4}'>{time}</text>")
            last = time
        odd = bool(step.overtaken or step.notes) or step.kind == "held"
        color = "odd" if odd else "task" if step.kind == "task" else "other"
        fill = "none" if step.kind in ("held", "follows") else f"var(--{color})"
        reasons = [step.rule] if step.rule else []
        reasons += step.notes
        tip = " - ".join([f"step {step.number}", step.place, *reasons])
        parts.append(
            f"<circle cx='{x}' cy='{y}' r='6' fill='{fill}' stroke='var(--{color})' class='step'>"
            f"<title>{_text(tip)}</title></circle>"
        )
        label = step.place or step.kind
        parts.append(f"<text x='{x + 12}' y='{y + 4}'>{_text(label[:24])}</text>")
    parts.append("</svg>")
    return "".join(parts)


def _table(steps: Sequence[Step]) -> str:
    head = "".join(
        f"<th>{name}</th>"
        for name in ("step", "time", "host", "lane", "at", "then waits for", "order")
    )
    rows = []
    for step in steps:
        order = f"overtakes {', '.join(step.overtaken)}: " if step.overtaken else ""
        if step.kind == "held":
            order = "held back until nothing else is ready: "
        if step.kind == "follows":
            order = "does not run yet: "
        order += "; ".join([*([step.rule] if step.rule else []), *step.notes])
        cells = (f"{step.function} {step.place}", step.waits, order)
        rows.append(
            f"<tr{' class=odd' if order else ''}><td class='number'>{step.number}</td>"
            f"<td class='number'>{step.time:g}</td><td>{_text(step.host)}</td>"
            f"<td>{_text(step.lane)}</td>"
            + "".join(f"<td>{_text(each)}</td>" for each in cells)
            + "</tr>"
        )
    return f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>"


def _text(value: str) -> str:
    return html.escape(value)
