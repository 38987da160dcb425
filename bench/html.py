"""The report as one HTML file with its plots embedded. The page loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from bench import markdown, svg
from bench.catalogue import SECONDS
from bench.growth import GROWTHS
from bench.ranking import COMPILED, first, is_peer, standing
from bench.record import Growing, Measured, Record, Recorded
from bench.report import amount
from bench.summary import summary
from bench.titles import title

QUANTILES = (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
h3 { margin: 1.6em 0 .3em } p { margin: .3em 0 } .doubt { color: #c33 }
table { border-collapse: collapse } td, th { padding: .15em .8em; text-align: left }
.ranking { overflow-x: auto } .ranking td + td, .ranking th + th { text-align: right }
.behind { color: #d62839; font-weight: bold } svg { max-width: 100%; height: auto }
"""


def _tick(seconds: float) -> str:
    """Return the time at a tick of an axis: in milliseconds from 1 ms on, in microseconds below."""
    if seconds >= 0.9995e-3:
        return f"{seconds * 1e3:,.4g} ms"
    if seconds >= 0.9995e-6 or not seconds:
        return f"{seconds * 1e6:.4g} us"
    return f"{seconds * 1e9:.4g} ns"


def case_bars(record: Record, case: Recorded) -> str:
    """Return the bars of a case: each contender's cost of an operation, with the quartiles."""
    rows = []
    best, found = first(case), standing(case, COMPILED)
    for name, one in case.contenders.items():
        text = amount(one.cost.median, case.unit)
        if one.ratio is not None and name != record.baseline:
            text += f", {one.ratio.median:.2f}x"
        is_behind = name == COMPILED and found is not None and found.is_behind
        if name == best:
            text += ", first"
        elif is_behind and found is not None:
            text += f", behind {found.peer}"
        cost = one.cost
        rows.append(svg.Bar(name, cost.low, cost.median, cost.high, text, is_behind=is_behind))
    unit = "time of an operation" if case.unit == SECONDS else "bytes for each object"
    return svg.bars(
        f"{title(case.name)}: {case.operation}",
        rows,
        f"{unit}; shorter is better",
        _tick if case.unit == SECONDS else lambda value: amount(value, case.unit),
    )


def latency_curves(case: Recorded, *, headed: bool = False) -> str:
    """Return a plot of the latencies of a case by quantile, or an empty string if there are none.

    The horizontal scale is logarithmic in the share of slower requests: the step from 50% to 10% is
    as wide as the step from 10% to 2%. ``headed`` is for a plot that stands outside a page.
    """
    lines = []
    for name, one in case.contenders.items():
        points = tuple(
            (1 / (1 - part), one.more[word])
            for word, part in QUANTILES
            if one.more.get(word, 0.0) > 0
        )
        if len(points) == len(QUANTILES):
            lines.append(svg.Curve(name, points))
    if not lines:
        return ""
    words = {1 / (1 - part): word for word, part in QUANTILES}
    heading = f"{case.name}: latency by quantile"
    return svg.curves(
        heading,
        lines,
        lambda x: words[x],
        _tick,
        ticks=tuple(words),
        axes=("share of the requests that are answered sooner", "latency; lower is better"),
        heading=LATENCY if headed else "",
    )


LATENCY = "Latency by quantile, at a fixed rate of requests"


def growth_curves(record: Record, *, headed: bool = False) -> Iterator[tuple[str, str]]:
    """Yield the name of each quantity that grows, with curves of the cost of an operation.

    ``headed`` is for plots that stand outside a page.
    """
    for what in dict.fromkeys(fit.what for fit in record.growth):
        lines = [
            svg.Curve(fit.contender, fit.costs, _spreads(record, fit))
            for fit in record.growth
            if fit.what == what
        ]
        ticks = sorted({x for line in lines for x, _ in line.points})
        heading = f"Time of an operation by the number of {what.replace(',', '')}"
        yield (
            what,
            svg.curves(
                heading,
                lines,
                lambda x: f"{x:,.0f}",
                _tick,
                ticks=ticks,
                axes=(f"{what} (logarithmic)", "time of an operation; lower is better"),
                heading=heading if headed else "",
            ),
        )


def _spreads(record: Record, fit: Growing) -> tuple[tuple[float, float], ...]:
    """Return the quartiles at each size of a fit, or nothing if a case is not in the record."""
    names = {size: case for one in GROWTHS if one.what == fit.what for size, case in one.cases}
    found: list[Measured] = []
    for size, _ in fit.costs:
        case = record.cases.get(names.get(int(size), ""))
        if case is None or fit.contender not in case.contenders:
            return ()
        found.append(case.contenders[fit.contender])
    return tuple((one.cost.low, one.cost.high) for one in found)


def _ranking(record: Record) -> Iterator[str]:
    heading, rows = markdown.ranking_table(record)
    cells = "".join(f"<th>{escape(text)}</th>" for text in ("case", *heading))
    yield f'<div class="ranking"><table><tr>{cells}</tr>'
    for name, row in rows:
        texts = "".join(f"<td>{escape(text)}</td>" for text in row[:-1])
        mark = ' class="behind"' if is_peer(row[-1]) else ""
        yield (
            f'<tr><td><a href="#{_anchor(record, name)}">{escape(title(name))}</a></td>{texts}'
            f"<td{mark}>{escape(row[-1])}</td></tr>"
        )
    yield "</table></div>"
    yield f"<p>{escape(markdown.NOISE)}</p>"


def _anchor(record: Record, case: str) -> str:
    """Return the mark of a case, which names the Python: a page can have several."""
    return f"{case}-{record.python.replace(' ', '-')}"


def _sections(record: Record) -> Iterator[str]:
    for heading in markdown.HEADINGS:
        cases = [case for case in record.cases.values() if markdown.subject(case.name) == heading]
        if cases:
            yield f"<h3>{heading}, {record.python}</h3>"
        for case in cases:
            yield f'<h4 id="{_anchor(record, case.name)}">{escape(title(case.name))}</h4>'
            yield f"<p><code>{escape(case.name)}</code>: {escape(case.operation)}</p>"
            yield case_bars(record, case)
            yield latency_curves(case)
            yield from (f'<p class="doubt">{escape(text)}</p>' for text in case.warnings)
    grown = list(growth_curves(record))
    if grown:
        yield f"<h3>Growth, {record.python}</h3>"
    for what, plot in grown:
        yield f"<h4>{escape(what)}</h4>{plot}"
        exponents = ", ".join(
            f"{fit.contender} n^{fit.exponent:.2f}" for fit in record.growth if fit.what == what
        )
        yield f"<p>The cost of an operation grows as: {escape(exponents)}</p>"
    lost = [escape(line.removeprefix("- ").replace("`", "")) for line in markdown.losses(record)]
    yield f"<h3>Losses, {record.python}</h3><ul>"
    yield from (f"<li>{line}</li>" for line in lost or ["none"])
    yield "</ul>"


def _report(record: Record) -> Iterator[str]:
    """Yield the part of the page for one Python: the ranking first, then every case."""
    machine = ", ".join(map(str, record.machine.values()))
    yield f"<h2>{escape(record.python)}</h2>"
    yield (
        f"<p>{escape(machine)}; {record.day}; {record.rounds} rounds of {record.seconds:g} s. Bars "
        "are medians, and the lines at their ends reach from one quartile to the other. Factors "
        f"compare to {escape(record.baseline)}; more is better.</p>"
    )
    yield f"<pre>{escape(summary(record))}</pre>"
    yield from _ranking(record)
    yield "<h3>Versions</h3><table>"
    for name, version in record.versions.items():
        yield f"<tr><td>{escape(name)}</td><td>{escape(version)}</td></tr>"
    yield "</table>"
    yield from _sections(record)


def page(records: Sequence[Record]) -> str:
    """Return the whole page, with the records of one Python after those of another."""
    days = ", ".join(dict.fromkeys(record.day for record in records))
    body = "".join(text for record in records for text in _report(record))
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Benchmarks, {days}</title><style>{STYLE}</style>"
        f"<h1>Benchmarks, {days}</h1>{body}</html>\n"
    )
