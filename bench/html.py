"""The report as one HTML file with its plots embedded. The page loads nothing from elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from bench import markdown, svg
from bench.catalogue import SECONDS
from bench.record import Record, Recorded
from bench.report import amount

QUANTILES = (("p50", 0.5), ("p75", 0.75), ("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999))
STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 sans-serif; max-width: 60em; margin: 2em auto; padding: 0 1em }
h3 { margin: 1.6em 0 .3em } p { margin: .3em 0 } .doubt { color: #c33 }
table { border-collapse: collapse } td, th { padding: .15em .8em; text-align: left }
svg { max-width: 100%; height: auto }
"""


def case_bars(record: Record, case: Recorded) -> str:
    """Return the bars of a case: each contender's cost of an operation, with the quartiles."""
    rows = []
    for name, one in case.contenders.items():
        text = amount(one.cost.median, case.unit)
        if one.ratio is not None and name != record.baseline:
            text += f"  {one.ratio.median:.2f}x"
        rows.append(svg.Bar(name, one.cost.low, one.cost.median, one.cost.high, text))
    return svg.bars(f"{case.name}: {case.operation}", rows)


def latency_curves(case: Recorded) -> str:
    """Return a plot of the latencies of a case by quantile, or an empty string if there are none.

    The horizontal scale is logarithmic in the share of slower requests: the step from 50% to 10% is
    as wide as the step from 10% to 2%.
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
    return svg.curves(
        f"{case.name}: latency by quantile",
        lines,
        lambda x: words[x],
        lambda y: amount(y, SECONDS),
        ticks=tuple(words),
    )


def growth_curves(record: Record) -> Iterator[tuple[str, str]]:
    """Yield the name of each quantity that grows, with curves of the cost of an operation."""
    for what in dict.fromkeys(fit.what for fit in record.growth):
        lines = [svg.Curve(fit.contender, fit.costs) for fit in record.growth if fit.what == what]
        ticks = sorted({x for line in lines for x, _ in line.points})
        yield (
            what,
            svg.curves(
                f"Cost of an operation, by {what}",
                lines,
                lambda x: f"{x:,.0f}",
                lambda y: amount(y, SECONDS),
                ticks=ticks,
            ),
        )


def _sections(record: Record) -> Iterator[str]:
    for heading in markdown.HEADINGS:
        cases = [case for case in record.cases.values() if markdown.subject(case.name) == heading]
        if cases:
            yield f"<h2>{heading}</h2>"
        for case in cases:
            yield f'<h3 id="{escape(case.name)}">{escape(case.name)}</h3>'
            yield f"<p>{escape(case.operation)}</p>{case_bars(record, case)}"
            yield latency_curves(case)
            yield from (f'<p class="doubt">{escape(text)}</p>' for text in case.warnings)
    grown = list(growth_curves(record))
    if grown:
        yield "<h2>Growth</h2>"
    for what, plot in grown:
        yield f"<h3>{escape(what)}</h3>{plot}"
        exponents = ", ".join(
            f"{fit.contender} n^{fit.exponent:.2f}" for fit in record.growth if fit.what == what
        )
        yield f"<p>The cost of an operation grows as: {escape(exponents)}</p>"
    lost = [escape(line.removeprefix("- ").replace("`", "")) for line in markdown.losses(record)]
    yield "<h2>Losses</h2><ul>"
    yield from (f"<li>{line}</li>" for line in lost or ["none"])
    yield "</ul>"


def page(record: Record) -> str:
    """Return the whole page."""
    machine = record.machine
    versions = "".join(
        f"<tr><td>{escape(name)}</td><td>{escape(version)}</td></tr>"
        for name, version in record.versions.items()
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8">'
        f"<title>Benchmarks, {record.day}</title><style>{STYLE}</style>"
        f"<h1>Benchmarks, {record.day}</h1>"
        f"<p>{escape(', '.join(map(str, machine.values())))}; {record.rounds} rounds of "
        f"{record.seconds:g} s. Bars are medians, red lines reach from one quartile to the other; "
        f"less is better. Factors compare to {escape(record.baseline)}; more is better.</p>"
        f"<table>{versions}</table>{''.join(_sections(record))}</html>\n"
    )
