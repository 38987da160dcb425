"""The catalogue: every case, by its name, with what is needed to measure it."""

from __future__ import annotations

import fnmatch
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass

from bench import native
from bench.cases.memory import MEMORY_CASES, MemoryCase
from bench.cases.scheduler import SCHEDULER_CASES, SchedulerCase
from bench.contenders import LIMIT, Contender, Entry
from bench.probes import EchoProbe, MemoryProbe, Probe, SchedulerProbe

SECONDS, BYTES = "s", "B"


def _nothing_missing() -> str:
    return ""


@dataclass(frozen=True)
class Case:
    """A case, and how it is measured."""

    name: str
    operation: str
    """What is done once."""

    unit: str
    """Of the cost of one operation: SECONDS or BYTES."""

    open_probe: Callable[[Entry], Probe]
    has_limit: bool = False
    """Whether the programs in C can do it too."""

    most_rounds: int | None = None
    """More tell nothing new, since the figures hardly vary."""

    why_not: Callable[[], str] = _nothing_missing
    """Returns why it cannot be measured on this machine, or an empty string."""

    def admits(self, contender: Contender) -> bool:
        """Return whether a contender can do it."""
        return self.has_limit or contender is not LIMIT


def _scheduler(case: SchedulerCase) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return SchedulerProbe(entry, case.name)

    return Case(case.name, case.operation, SECONDS, open_probe)


def _echo(kind: str, size_name: str, size: int, connections: int) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return EchoProbe(entry, kind, size, connections)

    plural = "s" if connections > 1 else ""
    return Case(
        f"echo_{size_name}_x{connections}",
        f"{size:,} bytes are echoed, {connections} connection{plural}, {kind}",
        SECONDS,
        open_probe,
        has_limit=True,
        why_not=native.why_not,
    )


def _memory(case: MemoryCase) -> Case:
    def open_probe(entry: Entry) -> Probe:
        return MemoryProbe(entry, case)

    def why_not() -> str:
        if not sys.platform.startswith("linux"):
            return "the resident set is read from /proc, which is Linux's"
        return native.why_not() if case.peer == "server" else ""

    return Case(case.name, case.operation, BYTES, open_probe, most_rounds=3, why_not=why_not)


CASES: dict[str, Case] = {
    case.name: case
    for case in (
        *map(_scheduler, SCHEDULER_CASES.values()),
        _echo("streams", "1k", 1024, 10),
        _echo("streams", "1m", 1 << 20, 1),
        _echo("streams", "1m", 1 << 20, 4),
        *map(_memory, MEMORY_CASES.values()),
    )
}


def select(words: Iterable[str]) -> list[Case]:
    """Return the cases that words mean, in the order of the catalogue; all for no words.

    A word is a case's name, a pattern (``echo_*``), or how several names begin (``memory``).
    Raises ValueError for one that means nothing.
    """
    chosen: set[str] = set()
    for word in words:
        matching = {word} & CASES.keys() or set(fnmatch.filter(CASES, word))
        matching = matching or {name for name in CASES if name.startswith(f"{word}_")}
        if not matching:
            raise ValueError(f"There is no case {word!r}: --list shows them all.")
        chosen |= matching
    return [case for case in CASES.values() if not chosen or case.name in chosen]
