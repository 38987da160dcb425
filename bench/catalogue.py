"""Catalogue of the cases: every case by its name, with the means to measure it."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, replace

from bench import grid, machine, native, postgresql
from bench.cases.memory import MEMORY_CASES, MemoryCase
from bench.cases.scheduler import SCHEDULER_CASES, SchedulerCase
from bench.contenders import LIMIT, Contender, Entry
from bench.loads import HTTP_SERVERS, MIXED, EchoProbe, IdleProbe, Load, WatchProbe
from bench.probes import MemoryProbe, Probe, QueryProbe, SchedulerProbe, StartProbe

SECONDS, BYTES = "s", "B"
KIB, MIB = 1 << 10, 1 << 20
LARGE_GRAIN = 1_000_000
"""Smallest grain of the cases whose runs are so long that few rounds are measured."""

OTHER_DESCRIPTORS = 100
"""Number of descriptors that a process needs besides its connections."""


def _nothing_missing() -> str:
    return ""


@dataclass(frozen=True)
class Case:
    """A case, and the way it is measured."""

    name: str
    operation: str
    """Description of one operation."""

    unit: str
    """Unit of the cost of one operation: SECONDS or BYTES."""

    open_probe: Callable[[Entry], Probe]
    has_limit: bool = False
    """Whether the programs in C can run it too."""

    is_own: bool = False
    """Whether it measures a feature that only this project's contenders have."""

    most_rounds: int | None = None
    """Largest useful number of rounds, for figures that hardly vary; None for no limit."""

    why_not: Callable[[], str] = _nothing_missing
    """Returns the reason why it cannot be measured on this machine, or an empty string."""

    def admits(self, contender: Contender) -> bool:
        """Return whether a contender can run this case."""
        if self.is_own:
            return contender.is_own
        return self.has_limit or contender is not LIMIT


def _scheduler(case: SchedulerCase) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return SchedulerProbe(entry, case)

    most = 3 if case.grain >= LARGE_GRAIN else None
    return Case(case.name, case.operation, SECONDS, open_probe, most_rounds=most)


def _echo(name: str, load: Load, what: str = "") -> Case:
    def open_probe(entry: Entry) -> Probe:
        return EchoProbe(entry, load)

    plural = "s" if load.connections > 1 else ""
    one_line = load.line == load.size
    usual = f"a line of {load.size:,} bytes is" if one_line else f"{load.size:,} bytes are"
    words = [what or f"{usual} echoed", f"{load.connections:,} connection{plural}"]
    words.append("streams" if load.server in MIXED else load.server)
    return Case(
        name,
        ", ".join(words) + (", 4 MiB freed before" if load.freed else ""),
        SECONDS,
        open_probe,
        has_limit=load.has_limit,
        why_not=_obstacle_of(load),
    )


def _obstacle_of(load: Load) -> Callable[[], str]:
    def why_not() -> str:
        if reason := native.why_not_tls() if load.is_tls else native.why_not():
            return reason
        if machine.most_descriptors() < load.connections + OTHER_DESCRIPTORS:
            return f"a process may not open {load.connections:,} connections here (ulimit -n)"
        return ""

    return why_not


def _latency(name: str, load: Load, other_work: str = "") -> Case:
    """Return a case of the latency at a fixed rate, beside other work of the server."""
    measured = f"p99 of {load.size:,} bytes that are echoed, {load.rate:,} times a second"
    beside = f", beside {other_work}" if other_work else ""
    return _echo(f"latency_{name}", load, measured + beside)


LOADED = Load("streams", KIB, 100, rate=5000)
"""Load of the cases that measure the latency beside other work: a small part of a core."""

LATENCY_CASES = (
    _latency("10k", Load("streams", KIB, 100, rate=10_000)),
    _latency(
        "computing",
        replace(LOADED, server="computing"),
        "a task that computes for 2 ms every 20 ms",
    ),
    _latency("slow_readers", replace(LOADED, slow_readers=10), "10 slow readers"),
    _latency(
        "accepts",
        replace(LOADED, burst=100),
        "100 connections that open at once, 10 times a second",
    ),
    _latency("timers", replace(LOADED, server="sleepers"), "10,000 tasks that each sleep for 1 s"),
    _latency("flood", replace(LOADED, floods=1), "a connection that sends as fast as it can"),
    _latency(
        "mixed",
        replace(LOADED, server="mixed", slow_readers=10, burst=100),
        "the computing task, the slow readers, the opening connections, and the sleeping tasks",
    ),
)
"""Cases of the latency that clients feel; the cost is the 99th percentile."""


def _idle(name: str, load: Load) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return IdleProbe(entry, load)

    return Case(
        name,
        f"CPU time of a second in which {load.connections:,} connections are silent",
        SECONDS,
        open_probe,
        has_limit=load.has_limit,
        most_rounds=3,
        why_not=_obstacle_of(load),
    )


def _watched(load: Load) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return WatchProbe(entry, load, replace(load, server="watched"))

    return Case(
        "watch_echo_1k_x10",
        "CPU time of 1,024 bytes that are echoed while slow callbacks are watched for",
        SECONDS,
        open_probe,
        is_own=True,
        why_not=native.why_not,
    )


def _large(name: str, server: str, connections: int) -> tuple[Case, Case]:
    """Return the case in both states of the allocator: see ``free_large_block``."""
    return (
        _echo(name, Load(server, MIB, connections)),
        _echo(f"{name}_freed", Load(server, MIB, connections, freed=True)),
    )


QUERIES = Case(
    "asyncpg_select_x10",
    "SELECT 1 is answered by PostgreSQL, 10 connections, asyncpg",
    SECONDS,
    QueryProbe,
    why_not=postgresql.why_not,
)

NETWORK_CASES = (
    _echo("echo_100_x10", Load("streams", 100, 10)),
    _echo("echo_1k_x1", Load("streams", KIB, 1)),
    _echo("echo_1k_x10", Load("streams", KIB, 10)),
    _echo("echo_1k_x100", Load("streams", KIB, 100)),
    _echo("echo_1k_x1000", Load("streams", KIB, 1000)),
    _echo("echo_1k_x10000", Load("streams", KIB, 10_000)),
    _echo("echo_64k_x10", Load("streams", 64 * KIB, 10)),
    *_large("echo_1m_x1", "streams", 1),
    *_large("echo_1m_x4", "streams", 4),
    _echo("unix_1k_x10", Load("unix", KIB, 10)),
    _echo("readline_x10", Load("lines", 100, 10, line=100)),
    _echo(
        "readline_10_x10",
        Load("lines", 1000, 10, line=100),
        "10 lines of 100 bytes that come together are echoed one by one",
    ),
    _echo(
        "accept_close_x10",
        Load("streams", KIB, 10, short_lived=True),
        "CPU time to accept, echo 1,024 bytes, close",
    ),
    _echo("tls_1k_x10", Load("tls", KIB, 10)),
    *_large("tls_1m_x4", "tls", 4),
    _echo("protocol_100_x10", Load("protocol", 100, 10)),
    _echo("protocol_1k_x1", Load("protocol", KIB, 1)),
    _echo("protocol_1k_x10", Load("protocol", KIB, 10)),
    _echo("protocol_1k_x100", Load("protocol", KIB, 100)),
    _echo("protocol_1k_x1000", Load("protocol", KIB, 1000)),
    _echo("protocol_1k_x10000", Load("protocol", KIB, 10_000)),
    _echo("protocol_64k_x10", Load("protocol", 64 * KIB, 10)),
    _echo("buffered_64k_x10", Load("buffered", 64 * KIB, 10)),
    _echo("sock_1k_x10", Load("sockets", KIB, 10)),
    _echo("datagram_1k_x10", Load("datagrams", KIB, 10)),
    *(
        _echo(f"http_{server}_x10", Load(server, 15, 10), "a GET of a few bytes is answered")
        for server in HTTP_SERVERS
    ),
    QUERIES,
    *LATENCY_CASES,
    _idle("idle_10k", Load("streams", 1, 10_000)),
    _watched(Load("streams", KIB, 10)),
)


def _memory(case: MemoryCase) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return MemoryProbe(entry, case)

    def why_not() -> str:
        if not sys.platform.startswith("linux"):
            return "the resident set is read from /proc, which is Linux's"
        return native.why_not() if case.peer == "server" else ""

    return Case(case.name, case.operation, BYTES, open_probe, most_rounds=3, why_not=why_not)


def _start(name: str, operation: str, what: str) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return StartProbe(entry, what)

    return Case(name, operation, SECONDS, open_probe)


START_CASES = (
    _start("start_import", "the package is imported, in a fresh process", "import"),
    _start("start_run", "a process starts, runs a coroutine that does nothing, and ends", "run"),
)
CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *map(_scheduler, SCHEDULER_CASES.values()),
        *NETWORK_CASES,
        *START_CASES,
        *map(_memory, MEMORY_CASES.values()),
    )
}
GRID: dict[str, Case] = {name: CASES.get(name, _echo(name, load)) for name, load in grid.loads()}
"""Every kind of echo; ``CASES`` holds a selection of them."""

EVERY = {**CASES, **GRID}

QUICK = (
    *("switch", "spawn", "call_soon", "queue", "timers_1k", "echo_1k_x10", "echo_64k_x10"),
    *("echo_1k_x1000", "protocol_1k_x10", "tls_1k_x10", "accept_close_x10", "latency_10k"),
    *("http_uvicorn_httptools_x10", "memory_task", "memory_stream_server"),
)
"""One case of every kind: the group ``quick``."""


def select(words: Iterable[str]) -> list[Case]:
    """Return the cases that ``words`` select, in the order of the catalogue; all for no words.

    A word is the name of a case, a pattern (``echo_*``), the common beginning of several names
    (``memory``), ``quick`` or ``grid``. Words that select nothing in the catalogue are looked up in
    the grid. Raises ValueError for a word that selects nothing in either.
    """
    chosen: set[str] = set()
    for word in words:
        if word in _GROUPS:
            chosen |= set(_GROUPS[word])
            continue
        matching = _matching(word, CASES) or _matching(word, GRID)
        if not matching:
            raise ValueError(f"There is no case {word!r}: --list shows them all.")
        chosen |= matching
    return [case for name, case in EVERY.items() if name in (chosen or CASES)]


_GROUPS: dict[str, Iterable[str]] = {"quick": QUICK, "grid": GRID}


def _matching(word: str, cases: Collection[str]) -> set[str]:
    matching = {word} & set(cases) or set(fnmatch.filter(cases, word))
    return matching or {name for name in cases if name.startswith(f"{word}_")}
