"""The same programs on trio, from which the semantics of scopes come: the outcome is the same."""

from __future__ import annotations

import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support.examples import examples
from tests.sync.scope_programs import (
    AnyScope,
    Event,
    Node,
    execute,
    expected,
    random_program,
    size_of,
)
from tests.sync.test_scopes_model import BITS, events_of

trio = pytest.importorskip("trio")
trio_testing = pytest.importorskip("trio.testing")

pytestmark = pytest.mark.once


class TrioApi:
    """Executes a program with trio."""

    cancelled: type[BaseException] = trio.Cancelled

    def __init__(self, nursery: Any) -> None:
        self._nursery = nursery

    def now(self) -> float:
        now: float = trio.current_time()
        return now

    async def sleep(self, delay: float) -> None:
        await trio.sleep(delay)

    def scope(self, deadline: float, shield: bool) -> Any:
        return trio.CancelScope(deadline=deadline, shield=shield)

    async def group(
        self, tasks: list[Callable[[], Awaitable[None]]], body: Callable[[AnyScope], Any]
    ) -> None:
        async def run(task: Callable[[], Awaitable[None]]) -> None:
            try:
                await task()
            except trio.Cancelled:
                pass  # A group of this package does not raise that a task of it was cancelled.

        ended = math.inf
        try:
            async with trio.open_nursery() as nursery:
                for task in tasks:
                    nursery.start_soon(run, task)
                await body(nursery.cancel_scope)
                ended = trio.current_time()
            if trio.current_time() > ended:
                # A group of this package, like asyncio's, raises CancelledError if it was cancelled
                # while it waited for its tasks, even if none of these was.
                await trio.lowlevel.checkpoint_if_cancelled()
        except BaseExceptionGroup as group:
            # A group of this package raises a cancellation as it is.
            cancelled: BaseException = group
            while isinstance(cancelled, BaseExceptionGroup):
                cancelled = cancelled.exceptions[0]
            raise cancelled from None

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        async def wait() -> None:
            await trio.sleep_until(when)
            callback()

        if when <= self.now():
            callback()
        elif math.isfinite(when):
            self._nursery.start_soon(wait)

    def requests(self) -> int:
        return 0


def events_on_trio(program: list[Node]) -> list[Event]:
    async def main() -> list[Event]:
        async with trio.open_nursery() as nursery:
            events = await execute(program, TrioApi(nursery))
            nursery.cancel_scope.cancel()
        return events

    events: list[Event] = trio.run(main, clock=trio_testing.MockClock(autojump_threshold=0))
    return events


def test_trio_and_runtime_have_the_same_events() -> None:
    for seed in range(examples(500)):
        program = random_program(random.Random(seed))
        if size_of(program) <= BITS:
            events = events_of(program)
            assert events == expected(program), f"seed {seed}: {program}"
            assert events_on_trio(program) == events, f"seed {seed}: {program}"
