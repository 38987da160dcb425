"""Figures that readers ask for first: a selection of the cases in words, latencies, three facts."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from bench.ranking import COMPILED, INTERPRETED, Standing, ahead, is_peer, standing
from bench.record import Measured, Record, Recorded
from bench.report import amount
from bench.summary import behind, standings_of
from bench.titles import title

SELECTION = {
    "Servers": (
        *("http_uvicorn_httptools_x10", "http_uvicorn_h11_x10", "http_aiohttp_x10"),
        *("asyncpg_select_x10", "echo_1k_x10", "echo_1k_x10000", "protocol_1k_x10"),
        *("sock_1k_x10", "tls_1k_x10", "accept_close_x10"),
    ),
    "Tasks, callbacks and timers": (
        *("switch", "spawn", "gather_100", "task_group_100", "queue", "lock", "call_soon"),
        *("timer_cancel", "timers_1k", "to_thread"),
    ),
    "Memory and starting": (
        *("memory_task", "memory_sleeper", "memory_protocol", "memory_stream_server"),
        *("start_import", "start_run"),
    ),
}
"""Cases of the overview, by subject; the page of details has all of them."""

LATENCY = "latency_"
"""Beginning of the names of the cases whose cost is a latency."""

QUANTILES = ("p50", "p99", "p99.9")

COLUMNS = {
    "asyncio": "asyncio",
    "uvloop": "uvloop",
    INTERPRETED: "interpreted",
    COMPILED: "compiled",
    "runtime-asyncio": "compiled, asyncio's API",
}
"""Contenders with a column in the table of one Python, and the headings of these columns."""


def row(cells: Sequence[str]) -> str:
    """Return a line of a table."""
    return f"| {' | '.join(cells)} |"


def head(cells: Sequence[str]) -> Iterator[str]:
    """Yield the heading of a table, whose first column is text and whose others are numbers."""
    yield row(cells)
    yield row(["---", *["---:"] * (len(cells) - 1)])


def shown(record: Record) -> list[str]:
    """Return the contenders with a column of their own."""
    return [name for name in COLUMNS if name in record.versions]


def best_other(case: Recorded, found: Standing | None) -> list[str]:
    """Return two cells: the best of the peers with its cost, and the compiled build to it."""
    if found is None:
        return ["", ""]
    cost = amount(case.contenders[found.peer].cost.median, case.unit)
    doubt = " (noise)" if found.is_within_noise else ""
    return [f"{found.peer} {cost}", f"{found.factor.median:.2f}x{doubt}"]


def overview(record: Record) -> Iterator[str]:
    """Yield a table for each subject, and the cases in which another loop is ahead."""
    columns = shown(record)
    words = [COLUMNS[name] for name in columns]
    for subject, names in SELECTION.items():
        cases = [record.cases[name] for name in names if name in record.cases]
        if cases:
            yield from ("", f"**{subject}**", "")
            yield from head([subject, *words, "best other", "compiled to it"])
            for case in cases:
                cells = [_cost(case, name) for name in columns]
                yield row([title(case.name), *cells, *best_other(case, standing(case, COMPILED))])
    yield from _losses(record)


def _cost(case: Recorded, name: str) -> str:
    one = case.contenders.get(name)
    return "" if one is None else amount(one.cost.median, case.unit)


def _losses(record: Record) -> Iterator[str]:
    for ours, words, others in (
        (COMPILED, "The compiled build", "every other loop"),
        (INTERPRETED, "The interpreted build", "asyncio"),
    ):
        found = standings_of(record, ours)
        if not found:
            continue
        lost = behind(found)
        won = f"{words} is ahead of {others} in {len(found) - len(lost)} of {len(found)} cases"
        yield from ("", f"{won}{', and behind in:' if lost else '.'}", "")
        for one in lost:
            doubt = ", within the noise" if one.is_within_noise else ""
            yield f"- {title(one.case.name)}: {one.factor.median:.2f}x {one.peer}{doubt}"


def latencies(record: Record) -> Iterator[str]:
    """Yield a table of the latencies by quantile, in milliseconds."""
    cases = [case for name, case in record.cases.items() if name.startswith(LATENCY)]
    columns = shown(record)
    yield from head(["echoes of", *(COLUMNS[name] for name in columns), "best other"])
    for case in cases:
        cells = [_quantiles(case.contenders.get(name)) for name in columns]
        peers = [name for name in case.contenders if is_peer(name)]
        best = min(peers, key=lambda name: case.contenders[name].cost.median, default="")
        cells.append(f"{best} {_quantiles(case.contenders.get(best))}".strip())
        yield row([case.operation.removeprefix("p99 of "), *cells])


def _quantiles(one: Measured | None) -> str:
    if one is None:
        return ""
    return " / ".join(f"{one.more[name] * 1e3:.2f}" for name in QUANTILES)


# -- Facts -----------------------------------------------------------------------------------------


class Figures:
    """Figures of a record in the words of a sentence. Raises KeyError for one that is missing."""

    def __init__(self, record: Record) -> None:
        self._record = record

    def cost(self, case: str, contender: str) -> str:
        """Return a time in microseconds, or a size in kilobytes."""
        found = self._record.cases[case]
        value = found.contenders[contender].cost.median
        return f"{value / 1000:.1f} KB" if found.unit == "B" else f"{value * 1e6:.1f} µs"

    def costs(self, case: str) -> str:
        """Return the cost of the compiled build, with those of uvloop and asyncio in brackets."""
        ours, uvloop, asyncio = (self.cost(case, name) for name in (COMPILED, "uvloop", "asyncio"))
        return f"{ours} (uvloop {uvloop}, asyncio {asyncio})"

    def times(self, case: str, ours: str, peer: str) -> str:
        """Return how many times better we are, as the median of the rounds."""
        factor = ahead(self._record.cases[case], ours, peer)
        if factor is None:
            raise KeyError(case)
        return f"{factor.median:.1f} times"


def facts(record: Record) -> str:
    """Return the three facts of the README, and the origin of their figures.

    Raises ValueError if a case or a contender that they need is missing.
    """
    machine, versions = record.machine, record.versions
    figures = Figures(record)
    try:
        few, many = (
            figures.times(case, COMPILED, "uvloop") for case in ("echo_1k_x10", "echo_1k_x10000")
        )
        switch, echo = (
            figures.times(case, INTERPRETED, "asyncio") for case in ("switch", "echo_1k_x10")
        )
        speed = f"""
- **Tasks and streams are faster than on uvloop.** Starting and awaiting a task takes
{figures.costs("spawn")}. A stream server echoes 1 KiB on 10 connections {few} as fast as with
uvloop, and on 10,000 connections {many} as fast."""
        memory = f"""
- **It needs less memory.** An open stream connection whose handler waits takes
{figures.costs("memory_stream_server")}."""
        source = f"""
- **It does not depend on compiled code.** The same source runs interpreted. Interpreted, and with
no C code at all, it switches between tasks {switch} as fast as asyncio with its C accelerator, and
echoes 1 KiB {echo} as fast."""
        origin = f"""
These are medians measured with {record.python} and uvloop {versions["uvloop"]} on {record.day}, on
a {machine["system"].partition(" ")[0]} machine with {machine["cores"]} cores.
[Performance](docs/performance.md) has more figures, the method, and every case in which another
loop is ahead."""
    except KeyError as error:
        raise ValueError(f"The facts need a figure that is missing: {error}.") from None
    return "\n".join([*map(_filled, (speed, memory, source)), "", _filled(origin)])


def _filled(text: str) -> str:
    words = " ".join(text.split())
    indent = "  " if words.startswith("- ") else ""
    return textwrap.fill(words, 105, subsequent_indent=indent, break_on_hyphens=False)
