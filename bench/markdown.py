"""Figures in pages of documentation, generated from reports so that none is typed by hand.

A page has marks for the parts that it shows, each for one Python, such as
``<!-- overview, CPython 3.14: begin -->`` and the same with ``end``. ``write`` puts that part of a
report of that Python between them.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench import grid, overview
from bench.cases.memory import MEMORY_CASES
from bench.cases.scheduler import SCHEDULER_CASES
from bench.catalogue import CASES, GRID, START_CASES
from bench.overview import LATENCY, best_other, head, row
from bench.ranking import COMPILED, INTERPRETED, ahead, first, is_peer, standing
from bench.record import Record, Recorded
from bench.report import amount
from bench.statistics import Spread
from bench.titles import title

COMMAND = "make bench"
GRID_COMMAND = "make bench ARGS=grid"
AHEAD = """\
Where a peer was ahead. Within the spread means that it was behind in a quarter of the rounds."""
NOISE = """\
The best other is the peer that comes closest to the compiled build, or that is the furthest ahead.
Noise means that the quartiles of the rounds disagree about which of the two is ahead."""
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


def _factor(value: Spread | None) -> str:
    return "" if value is None else f"{value.median:.2f}x"


def _table(record: Record, cases: Sequence[Recorded]) -> Iterator[str]:
    names = [name for name in record.versions if any(name in case.contenders for case in cases)]
    yield row(["case", *names, "compiled to uvloop", "interpreted to asyncio", "first"])
    yield row(["---", *["---:"] * (len(names) + 2), "---"])
    for case in cases:
        cells = [f"`{case.name}`"]
        for name in names:
            one = case.contenders.get(name)
            cells.append("" if one is None else amount(one.cost.median, case.unit))
        cells.append(_factor(ahead(case, COMPILED, "uvloop")))
        cells.append(_factor(ahead(case, INTERPRETED, "asyncio")))
        yield row([*cells, first(case)])


def ranking_table(record: Record) -> tuple[list[str], list[tuple[str, list[str]]]]:
    """Return the heading of the table of one Python, and a row for each case after its name.

    The table has the best of the peers in a column, and the contender that is first.
    """
    shown = overview.shown(record)
    heading = [*(overview.COLUMNS[name] for name in shown), "best other", "compiled to it", "first"]
    rows = []
    for case in record.cases.values():
        cells = [
            amount(case.contenders[name].cost.median, case.unit) if name in case.contenders else ""
            for name in shown
        ]
        rows.append((case.name, [*cells, *best_other(case, standing(case, COMPILED)), first(case)]))
    return heading, rows


def _ranking_rows(record: Record) -> Iterator[str]:
    heading, rows = ranking_table(record)
    yield row(["case", *heading])
    yield row(["---", *["---:"] * (len(heading) - 1), "---"])
    yield from (row([f"`{name}`", *cells]) for name, cells in rows)


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
            yield from head(["server", "bytes", *(f"{n:,}" for n in grid.CONNECTIONS)])
            yield from _grid_rows(record, ours, peer)


def _grid_rows(record: Record, ours: str, peer: str) -> Iterator[str]:
    for prefix, server in grid.SERVERS.items():
        for word, size in grid.SIZES.items():
            names = [grid.name(prefix, word, number) for number in grid.CONNECTIONS]
            cases = [record.cases.get(name) for name in names]
            factors = [None if case is None else ahead(case, ours, peer) for case in cases]
            yield row([server, f"{size:,}", *map(_factor, factors)])


def summary(record: Record) -> str:
    """Return the figures of a report without headings: one table, and the losses."""
    lines = [*_introduction(record), "", *_ranking_rows(record), "", NOISE, "", AHEAD, ""]
    lines += list(losses(record)) or ["- none"]
    if any(case.warnings for case in record.cases.values()):
        lines += ["", "Left out, and reasons for doubt:", "", *_doubts(record)]
    return "\n".join(lines)


def _introduction(record: Record) -> Iterator[str]:
    yield f"{_origin(record, COMMAND)} Medians of one operation; a factor"
    yield "is the median of the rounds' own; above 1 means that `runtime` was faster, or smaller."
    yield ""
    yield "| contender | version |"
    yield "| --- | --- |"
    for name, version in record.versions.items():
        yield row([name, version])


def _overview(record: Record) -> str:
    origin = f"{_origin(record, COMMAND)} Medians of one operation. {NOISE}"
    return "\n".join([origin, *overview.overview(record)])


def _latencies(record: Record) -> str:
    return "\n".join([_origin(record, COMMAND), "", *overview.latencies(record)])


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
    yield from head(["with", *names])
    for what in dict.fromkeys(fit.what for fit in record.growth):
        found = {fit.contender: fit.exponent for fit in record.growth if fit.what == what}
        yield row([what, *(f"{found[one]:.2f}" if one in found else "" for one in names)])


# -- Pages -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Part:
    """A part of a page: its text, and the cases of a report that belong to it."""

    text: Callable[[Record], str]
    belongs: Callable[[str], bool]
    """Whether a case belongs to the part."""

    is_in_demand: Callable[[Record], bool] = lambda record: bool(record.cases)
    """Whether a report, reduced to these cases, has enough of them to replace the part."""


def _is_usual(case: str) -> bool:
    return case in CASES


def _is_on_grid(case: str) -> bool:
    return case in GRID


def _has_more_than_the_grid(record: Record) -> bool:
    return bool(record.cases.keys() - GRID.keys())


def _has_more_than_the_catalogue(record: Record) -> bool:
    return bool(record.cases.keys() - CASES.keys())


PARTS = {
    "facts": Part(overview.facts, _is_usual, _has_more_than_the_grid),
    "overview": Part(_overview, _is_usual, _has_more_than_the_grid),
    "latency": Part(_latencies, lambda case: case.startswith(LATENCY)),
    "figures": Part(figures, _is_usual, _has_more_than_the_grid),
    "summary": Part(summary, _is_usual, _has_more_than_the_grid),
    "grid": Part(grid_figures, _is_on_grid, _has_more_than_the_catalogue),
}
"""The parts of pages, by the name in their marks."""

_BEGIN = re.compile(rf"<!-- ({'|'.join(PARTS)}), CPython (\d+\.\d+): begin -->")


def marks(part: str, version: str) -> tuple[str, str]:
    """Return the marks around a part that shows the figures of a version of Python."""
    return f"<!-- {part}, CPython {version}: begin -->", f"<!-- {part}, CPython {version}: end -->"


def empty_page(version: str) -> str:
    """Return a page with the marks of every figure of a version of Python."""
    return "".join(f"{line}\n" for part in ("figures", "grid") for line in marks(part, version))


def text_of(page: str, part: str, version: str) -> str | None:
    """Return the text of a part, or None if the page has no marks for it."""
    begin, end = marks(part, version)
    _, has_begin, rest = page.partition(begin)
    text, has_end, _ = rest.partition(end)
    return text.strip() if has_begin and has_end else None


def lacks(page: str, part: str, version: str) -> list[str]:
    """Return the missing figures of a part: a date, versions, cases, the losses."""
    text = text_of(page, part, version)
    if text is None:
        return ["the marks"]
    missing = []
    if part == "facts":
        if f"CPython {version}." not in text:
            missing.append("the version of Python")
        return missing
    command = GRID_COMMAND if part == "grid" else COMMAND
    origin = rf"Made by `{re.escape(command)}` on \d{{4}}-\d\d-\d\d: \d+ rounds? of"
    if not re.search(origin, text):
        missing.append("the command, the date and the rounds")
    if f"CPython {version}." not in text:
        missing.append("the version of Python")
    wanted = _wanted(part)
    return missing + [one for one, there in wanted if not re.search(there, text, re.MULTILINE)]


def _wanted(part: str) -> Iterator[tuple[str, str]]:
    """Yield the figures that a part must have: their names, and the patterns of their texts."""
    if part in {"figures", "summary"}:
        for name in ("asyncio", "uvloop", INTERPRETED, COMPILED):
            yield f"the version of {name}", rf"^\| {name} \| \S"
        for name in CASES:
            yield f"the case {name}", rf"^\| `{name}` \| "
        yield "the losses", rf"{re.escape(AHEAD)}\n\n- "
    elif part == "overview":
        for names in overview.SELECTION.values():
            for name in names:
                yield f"the case {name}", rf"^\| {re.escape(title(name))} \| "
        yield "the losses", r"^The compiled build is ahead of every other loop in \d+ of \d+ cases"
    elif part == "latency":
        for name in CASES:
            if name.startswith(LATENCY):
                operation = re.escape(CASES[name].operation.removeprefix("p99 of "))
                yield f"the case {name}", rf"^\| {operation} \| "
    elif part == "grid":
        for ours, peer in COMPARISONS:
            yield f"{ours} to {peer}", rf"^{ours} to {peer}, by the number of connections:$"


def replaced(page: str, record: Record) -> str:
    """Return the page with the figures of ``record`` between the marks for its Python.

    Parts whose cases were not measured stay as they are.
    """
    version = record.version
    for name, part in PARTS.items():
        if text_of(page, name, version) is None:
            continue
        own = {name: case for name, case in record.cases.items() if part.belongs(name)}
        reduced = dataclasses.replace(record, cases=own)
        if part.is_in_demand(reduced):
            begin, end = marks(name, version)
            before, _, rest = page.partition(begin)
            page = f"{before}{begin}\n\n{part.text(reduced)}\n\n{end}{rest.partition(end)[2]}"
    return page


def write(path: Path, records: Sequence[Record]) -> None:
    """Put the figures into a page, which is created if it does not exist.

    Raises ValueError if the page has no marks for the Python of any of the records, or if a part
    of it cannot be made from them.
    """
    versions = [
        one.machine["python"].removeprefix("CPython ").rpartition(".")[0] for one in records
    ]
    page = path.read_text() if path.exists() else "".join(map(empty_page, versions))
    if not {version for _, version in _BEGIN.findall(page)} & set(versions):
        begin, end = marks("overview", versions[0])
        raise ValueError(f"The page lacks marks for the figures, such as {begin} and {end}.")
    for record in records:
        page = replaced(page, record)
    path.write_text(page)
