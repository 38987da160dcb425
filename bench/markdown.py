"""Tables of docs/performance.md, generated from a report so that no figure is typed by hand."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench import grid
from bench.cases.memory import MEMORY_CASES
from bench.cases.scheduler import SCHEDULER_CASES
from bench.catalogue import CASES, GRID, START_CASES
from bench.ranking import COMPILED, INTERPRETED, ahead, first, is_peer, standing
from bench.record import Record, Recorded
from bench.report import amount
from bench.statistics import Spread

BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
GRID_BEGIN, GRID_END = "<!-- grid: begin -->", "<!-- grid: end -->"
COMMAND = "python -m bench --markdown docs/performance.md"
GRID_COMMAND = "python -m bench grid --markdown docs/performance.md"
AHEAD = """\
Where a peer was ahead. Within the spread means that it was behind in a quarter of the rounds."""
NOISE = """\
The best other is the peer that comes closest to the compiled build, or that is the furthest ahead.
Noise means that the quartiles of the rounds disagree about which of the two is ahead."""
MARKS = f"{BEGIN}\n{END}\n{GRID_BEGIN}\n{GRID_END}\n"
SUMMARY_BEGIN = "<!-- CPython {version}: begin -->"
"""Mark of a summary table for a Python other than the one of the page's main figures."""
SUMMARY_END = "<!-- CPython {version}: end -->"
COMPARISONS = (("runtime-compiled", "uvloop"), ("runtime-pure", "asyncio"))
"""Pairs of contenders that the tables of the grid compare."""

HEADINGS = ("The scheduler", "The network", "Starting", "Memory")


def subject(case: str) -> str:
    """Return the heading that a case belongs to."""
    if case in SCHEDULER_CASES:
        return "The scheduler"
    if case in MEMORY_CASES:
        return "Memory"
    return "Starting" if case in {one.name for one in START_CASES} else "The network"


def _row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _factor(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f}x"


def _table(record: Record, cases: Sequence[Recorded]) -> Iterator[str]:
    names = [name for name in record.versions if any(name in case.contenders for case in cases)]
    yield _row(["case", *names, "compiled to uvloop", "interpreted to asyncio", "first"])
    yield _row(["---", *["---:"] * (len(names) + 2), "---"])
    for case in cases:
        cells = [f"`{case.name}`"]
        for name in names:
            one = case.contenders.get(name)
            cells.append("" if one is None else amount(one.cost.median, case.unit))
        cells.append(_factor(ahead(case, COMPILED, "uvloop")))
        cells.append(_factor(ahead(case, INTERPRETED, "asyncio")))
        yield _row([*cells, first(case)])


OTHERS = {
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    INTERPRETED: "interpreted",
    COMPILED: "compiled",
    "runtime-asyncio": "compiled, asyncio's API",
}
"""Contenders with a column in the table of one Python, and the headings of these columns."""


def ranking_table(record: Record) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the heading of the table of one Python, and a row for each case after its name.

    The table has the best of the peers in a column, and the contender that is first.
    """
    shown = [name for name in OTHERS if name in record.versions]
    heading = [*(OTHERS[name] for name in shown), "best other", "compiled to it", "first"]
    rows = []
    for case in record.cases.values():
        cells = [
            amount(case.contenders[name].cost.median, case.unit) if name in case.contenders else ""
            for name in shown
        ]
        found = standing(case, COMPILED)
        if found is None:
            cells += ["", ""]
        else:
            cost = amount(case.contenders[found.peer].cost.median, case.unit)
            doubt = " (noise)" if found.is_within_noise else ""
            cells += [f"{found.peer} {cost}", f"{found.factor.median:.2f}x{doubt}"]
        rows.append((case.name, [*cells, first(case)]))
    return heading, rows


def _ranking_rows(record: Record) -> Iterator[str]:
    heading, rows = ranking_table(record)
    yield _row(["case", *heading])
    yield _row(["---", *["---:"] * (len(heading) - 1), "---"])
    yield from (_row([f"`{name}`", *cells]) for name, cells in rows)


def losses(record: Record) -> Iterator[str]:
    """Yield each case in which a peer beats the compiled build, or asyncio the interpreted one."""
    for case in record.cases.values():
        peers = [name for name in record.versions if is_peer(name)]
        for ours, others in ((COMPILED, peers), (INTERPRETED, ["asyncio"])):
            behind = [
                f"{_factor(factor)} {peer}" + (", within the spread" if factor.high > 1 else "")
                for peer in others
                if (factor := ahead(case, ours, peer)) is not None and factor.median < 1
            ]
            if behind:
                yield f"- `{case.name}`, {ours}: {'; '.join(behind)}"


def _origin(record: Record, command: str) -> str:
    machine = record.machine
    rounds = f"{record.rounds} round{'s' if record.rounds > 1 else ''} of {record.seconds:g} s"
    return (
        f"Made by `{command}` on {record.day}: {rounds}; {machine['python']}, {machine['system']},"
        f"\n{machine['processor']}, {machine['cores']} cores."
    )


def grid_figures(record: Record) -> str:
    """Return the part of the page that a report on the grid provides."""
    origin = _origin(record, GRID_COMMAND)
    return "\n".join([f"{origin} Medians of the rounds' own factors.", *_grid_tables(record)])


def _grid_tables(record: Record) -> Iterator[str]:
    for ours, peer in COMPARISONS:
        if {ours, peer} <= record.versions.keys():
            yield from ("", f"{ours} to {peer}, by the number of connections:", "")
            yield _row(["server", "bytes", *(f"{number:,}" for number in grid.CONNECTIONS)])
            yield _row(["---", *["---:"] * (len(grid.CONNECTIONS) + 1)])
            yield from _grid_rows(record, ours, peer)


def _grid_rows(record: Record, ours: str, peer: str) -> Iterator[str]:
    for prefix, server in grid.SERVERS.items():
        for word, size in grid.SIZES.items():
            names = [grid.name(prefix, word, number) for number in grid.CONNECTIONS]
            cases = [record.cases.get(name) for name in names]
            factors = [None if case is None else ahead(case, ours, peer) for case in cases]
            yield _row([server, f"{size:,}", *map(_factor, factors)])


def summary(record: Record) -> str:
    """Return the figures of a report without headings: one table, and the losses."""
    cases = list(record.cases.values())
    lines = [*_introduction(record), "", *_ranking_rows(record), "", NOISE, "", AHEAD, ""]
    lines += list(losses(record)) or ["- none"]
    if any(case.warnings for case in cases):
        lines += ["", "Left out, and reasons for doubt:", "", *_doubts(record)]
    return "\n".join(lines)


def _introduction(record: Record) -> Iterator[str]:
    yield f"{_origin(record, COMMAND)} Medians of one operation; a factor"
    yield "is the median of the rounds' own; above 1 means that `runtime` was faster, or smaller."
    yield ""
    yield "| contender | version |"
    yield "| --- | --- |"
    for name, version in record.versions.items():
        yield _row([name, version])


def figures(record: Record) -> str:
    """Return the part of the page that a report provides."""
    lines = [*_introduction(record)]
    for heading in HEADINGS:
        cases = [case for case in record.cases.values() if subject(case.name) == heading]
        if cases:
            lines += ["", f"### {heading}", "", *_table(record, cases), ""]
            lines += (f"- `{case.name}`: {case.operation}" for case in cases)
    lines += ["", "### Losses", "", AHEAD, ""]
    lines += list(losses(record)) or ["- none"]
    if any(case.warnings for case in record.cases.values()):
        lines += ["", "### Left out, and reasons for doubt", "", *_doubts(record)]
    if record.growth:
        lines += ["", "### Growth", "", *_growth(record)]
    return "\n".join(lines)


def _doubts(record: Record) -> Iterator[str]:
    """Yield each warning once, with the names of the cases that have it."""
    cases: dict[str, list[str]] = {}
    for case in record.cases.values():
        for text in case.warnings:
            cases.setdefault(text, []).append(f"`{case.name}`")
    for text, names in cases.items():
        yield f"- {', '.join(names)}: {text}"


def _growth(record: Record) -> Iterator[str]:
    yield (
        "The exponent of the size with which the cost of one operation grows: 0 means that it is "
        "the same at every size."
    )
    yield ""
    names = [one for one in record.versions if any(fit.contender == one for fit in record.growth)]
    yield _row(["with", *names])
    yield _row(["---", *["---:"] * len(names)])
    for what in dict.fromkeys(fit.what for fit in record.growth):
        found = {fit.contender: fit.exponent for fit in record.growth if fit.what == what}
        yield _row([what, *(f"{found[one]:.2f}" if one in found else "" for one in names)])


def lacks(page: str) -> list[str]:
    """Return the missing parts of a page's figures: a date, versions, cases, the losses."""
    text = page.partition(BEGIN)[2].partition(END)[0]
    missing = [] if BEGIN in page and END in page else ["the marks"]
    if not re.search(rf"{re.escape(COMMAND)}` on \d{{4}}-\d\d-\d\d: \d+ rounds? of", text):
        missing.append("the command, the date and the rounds")
    if not re.search(r"CPython \d+\.\d+\.\d+", text):
        missing.append("the version of Python")
    missing += (
        f"the version of {name}"
        for name in ("asyncio", "uvloop", "runtime-pure", "runtime-compiled")
        if not re.search(rf"^\| {name} \| \S", text, re.MULTILINE)
    )
    missing += (f"the case {name}" for name in CASES if f"| `{name}` | " not in text)
    missing += (
        f"the grid, {ours} to {peer}"
        for ours, peer in COMPARISONS
        if f"\n{ours} to {peer}, by the number of connections:\n" not in page
    )
    if not re.search(rf"^### Losses\n\n{re.escape(AHEAD)}\n\n- ", text, re.MULTILINE):
        missing.append("the losses")
    return missing


def replaced(page: str, record: Record) -> str:
    """Return the page with the figures of ``record`` between its marks.

    A page that has marks for the Python of the record gets a summary there. Raises ValueError if
    the page has no marks.
    """
    own = {name: case for name, case in record.cases.items() if name in CASES}
    version = record.machine["python"].removeprefix("CPython ").rpartition(".")[0]
    begin = SUMMARY_BEGIN.format(version=version)
    if begin in page:
        text = summary(dataclasses.replace(record, cases=own))
        return _with(page, begin, text, SUMMARY_END.format(version=version))
    if own.keys() - GRID.keys():
        text = figures(dataclasses.replace(record, cases=own))
        page = _with(page, BEGIN, text, END)
    if record.cases.keys() - CASES.keys():
        page = _with(page, GRID_BEGIN, grid_figures(record), GRID_END)
    return page


def _with(page: str, begin: str, text: str, end: str) -> str:
    head, has_begin, rest = page.partition(begin)
    _, has_end, tail = rest.partition(end)
    if not has_begin or not has_end:
        raise ValueError(f"The page lacks the marks for the figures: {begin} and {end}.")
    return f"{head}{begin}\n\n{text}\n\n{end}{tail}"


def write(path: Path, record: Record) -> None:
    """Put the figures into a page, which is created if it does not exist."""
    page = path.read_text() if path.exists() else MARKS
    path.write_text(replaced(page, record))
