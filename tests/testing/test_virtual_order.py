"""Random sleeps, timeouts and timers on the virtual clock, compared with a model.

Delays are multiples of a quarter of a second, so that sums are exact, and deadlines often equal.
"""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Generator
from dataclasses import dataclass
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

import runtime
from runtime.testing import run

Log = list[tuple[float, int, str]]


@dataclass(frozen=True)
class Step:
    """Next operation of a task."""

    kind: str
    delay: float
    limit: float = 0.0


delays = st.integers(1, 12).map(lambda quarters: quarters / 4)
steps = st.one_of(
    st.builds(Step, st.sampled_from(["sleep", "asyncio.sleep", "call_later"]), delays),
    st.builds(Step, st.sampled_from(["timeout", "asyncio.timeout", "wait_for"]), delays, delays),
)
programs = st.lists(st.lists(steps, max_size=6), min_size=1, max_size=6)


async def take(step: Step, number: int, log: Log) -> str:
    loop = runtime.get_running_loop()
    match step.kind:
        case "sleep":
            await runtime.sleep(step.delay)
        case "asyncio.sleep":
            await asyncio.sleep(step.delay)
        case "call_later":
            loop.call_later(step.delay, lambda: log.append((loop.time(), number, "called")))
        case "wait_for":
            await runtime.wait_for(runtime.sleep(step.delay), step.limit)
        case _:
            limit = runtime.timeout if step.kind == "timeout" else asyncio.timeout
            async with limit(step.limit):
                await runtime.sleep(step.delay)
    return step.kind


async def perform(program: list[list[Step]]) -> Log:
    log: Log = []
    loop = runtime.get_running_loop()

    async def work(number: int, steps: list[Step]) -> None:
        for step in steps:
            try:
                word = await take(step, number, log)
            except TimeoutError:
                word = "timed out"
            log.append((loop.time(), number, word))

    async with runtime.TaskGroup() as group:
        for number, each in enumerate(program):
            group.create_task(work(number, each))
    await runtime.sleep(1000)
    return log


def model(program: list[list[Step]]) -> Log:
    """Simulate the program with a heap of timers and the task that each timer wakes."""
    log: Log = []
    now = 0.0
    sequence = itertools.count()
    timers: list[tuple[float, int, Any]] = []

    def work(number: int, steps: list[Step]) -> Generator[tuple[float, str], None, None]:
        for step in steps:
            if step.kind == "call_later":
                heapq.heappush(timers, (now + step.delay, next(sequence), number))
                word = step.kind
            elif step.limit and step.limit <= step.delay:
                # The deadline was set before the sleep began, so that it comes first.
                yield step.limit, (word := "timed out")
            else:
                yield step.delay, (word := step.kind)
            log.append((now, number, word))

    def resume(task: Generator[tuple[float, str], None, None]) -> None:
        for delay, _ in task:
            heapq.heappush(timers, (now + delay, next(sequence), task))
            break

    for number, each in enumerate(program):
        resume(work(number, each))
    while timers:
        now = timers[0][0]
        woken = []
        while timers and timers[0][0] == now:
            _, _, due = heapq.heappop(timers)
            if isinstance(due, int):
                log.append((now, due, "called"))
            else:
                woken.append(due)
        for task in woken:
            resume(task)
    return log


@given(programs)
def test_events_and_times_match_the_model(program: list[list[Step]]) -> None:
    assert run(perform(program)) == model(program)
