"""Length of a run, with time that must pass, and with very many connections."""

from __future__ import annotations

import asyncio
import io
import itertools
import json
import sys
import types
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

from bench import apis, child
from bench.cases.scheduler import FIRST_DELAY, SCHEDULER_CASES
from bench.lines import Usage
from bench.loads import EchoProbe, Load
from bench.probes import CountProbe

pytestmark = pytest.mark.once


async def wait(api: apis.Api, count: int) -> float:
    """Report that a fraction of the run's second was spent waiting."""
    return 0.25


async def wait_for_nothing(api: apis.Api, count: int) -> float:
    """Act as a timer case on a machine so slow that all timers are due when the last one is set."""
    return 0.0


async def do_not_wait(api: apis.Api, count: int) -> None:
    """Act as most cases do: return no waiting time."""


def said_of(
    body: Callable[[apis.Api, int], Coroutine[Any, Any, float | None]],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> dict[str, float]:
    """Return the report of a child on two operations; the clock advances by a second per call."""
    ticks = itertools.count()
    clock = types.SimpleNamespace(perf_counter=lambda: float(next(ticks)))
    monkeypatch.setattr(child, "time", clock)
    monkeypatch.setattr(sys, "stdin", io.StringIO("2\n"))
    api, run = apis.load("asyncio")
    child.run_case(api, run, body)
    said: dict[str, float] = json.loads(capsys.readouterr().out)
    return said


def test_waiting_time_is_reported_separately(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert said_of(wait, monkeypatch, capsys) == {"seconds": 0.375, "waited": 0.125}
    assert said_of(wait_for_nothing, monkeypatch, capsys) == {"seconds": 0.5, "waited": 0.0}
    usual = said_of(do_not_wait, monkeypatch, capsys)
    assert usual.keys() == {"seconds", "user", "kernel", "faults"}
    assert usual["seconds"] == 0.5


class Asked:
    """Substitute for a process: reports a fixed cost of an operation, and records the counts."""

    def __init__(self, **also: float) -> None:
        self.said = {"seconds": 1e-3, **also}
        self.counts: list[int] = []

    def ask(self, line: str) -> dict[str, float]:
        self.counts.append(int(line))
        return self.said.copy()


class ProbeOf(CountProbe):
    """A probe without a process."""

    def __init__(self, asked: Asked) -> None:
        super().__init__(1)
        self._process: Any = asked


def test_the_length_of_a_run_includes_waiting_time() -> None:
    asked = Asked(waited=9e-3)
    with ProbeOf(asked) as probe:
        probe.warm_up(1.0)
        sample = probe.measure(1.0)
    assert asked.counts[-1] == 100
    assert sample.cost == 1e-3
    assert sample.used is None


def test_where_nothing_is_waited_for_the_cpu_time_is_told() -> None:
    with ProbeOf(asked := Asked(user=1e-3, kernel=0.0, faults=0.0)) as probe:
        probe.warm_up(1.0)
        sample = probe.measure(1.0)
    assert asked.counts[-1] == 1000
    assert sample.used is not None
    assert sample.used.user == 1e-3


class Served:
    """Substitute for a server under load: records the length of each load."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def load(self, seconds: float) -> tuple[dict[str, float], Usage]:
        self.seconds.append(seconds)
        counted = {"p50": 1.0, "p99": 1.0, "seconds": seconds, "requests": 1.0}
        return counted, Usage(1.0, 1.0, 0.0)


@pytest.mark.parametrize(
    ("connections", "seconds"), [(1, 0.3), (1000, 0.3), (2000, 0.3), (4000, 0.6), (10_000, 1.5)]
)
def test_very_many_connections_are_loaded_for_longer(
    monkeypatch: pytest.MonkeyPatch, connections: int, seconds: float
) -> None:
    served = Served()
    monkeypatch.setattr(EchoProbe, "serve", lambda *_: served)
    entry: Any = None
    with EchoProbe(entry, Load("streams", 1024, connections)) as probe:
        probe.measure(0.3)
    assert served.seconds == [pytest.approx(seconds)]


def test_timers_are_set_for_the_future_in_an_order_that_is_not_theirs() -> None:
    loop = asyncio.new_event_loop()
    started = loop.time()
    fired: list[float] = []
    whens: list[float] = []
    set_timer = loop.call_at

    def call_at(when: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        def fire() -> None:
            fired.append(when)
            callback()

        whens.append(when)
        return set_timer(when, fire)

    loop.call_at = call_at  # type: ignore[method-assign, assignment]
    api, _ = apis.load("asyncio")
    try:
        waited = loop.run_until_complete(SCHEDULER_CASES["timers_1k"].body(api, 1000))
    finally:
        loop.close()
    assert waited is not None
    assert min(whens) >= started + FIRST_DELAY
    assert fired == sorted(whens)
    assert fired != whens
