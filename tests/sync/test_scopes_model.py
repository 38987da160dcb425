"""Random trees of scopes, shields, deadlines, groups and cancellations, compared with a model."""

from __future__ import annotations

import math
import os
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import runtime
from runtime.testing import VirtualClock
from tests.support.examples import examples
from tests.sync.scope_programs import (
    AnyScope,
    Event,
    Node,
    execute,
    expected,
    programs,
    random_program,
    size_of,
)

MOST = int(os.environ.get("RUNTIME_TESTS_SCOPE_TREES", "0")) or examples(1000)
"""Number of trees. A long run: RUNTIME_TESTS_SCOPE_TREES=300000."""

BITS = 46
"""Largest number of binary fractions whose sums are exact."""


class RuntimeApi:
    """Executes a program with this package."""

    cancelled = runtime.CancelledError

    def now(self) -> float:
        return runtime.get_running_loop().time()

    async def sleep(self, delay: float) -> None:
        await runtime.sleep(delay)

    def scope(self, deadline: float, shield: bool) -> runtime.CancelScope:
        return runtime.CancelScope(deadline=deadline, shield=shield)

    async def group(
        self, tasks: list[Callable[[], Awaitable[None]]], body: Callable[[AnyScope], Any]
    ) -> None:
        async def run(task: Callable[[], Awaitable[None]]) -> None:
            await task()

        async with runtime.TaskGroup() as group:
            for task in tasks:
                group.create_task(run(task))
            await body(group.cancel_scope)

    def call_at(self, when: float, callback: Callable[[], object]) -> None:
        if when <= self.now():
            callback()
        elif math.isfinite(when):
            runtime.get_running_loop().call_at(when, callback)

    def requests(self) -> int:
        task = runtime.current_task()
        assert task is not None
        return task.cancelling()


def events_of(program: list[Node], request: float = math.inf) -> list[Event]:
    clock = VirtualClock()
    events: list[Event] = []

    async def main() -> None:
        task = runtime.current_task()
        assert task is not None
        runtime.get_running_loop().call_at(request, task.cancel)
        events.extend(await execute(program, RuntimeApi()))

    with runtime.Runner(loop_factory=clock.new_event_loop) as runner:
        runner.run(main())
    return events


SETTINGS = settings(
    deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow]
)


@SETTINGS
@given(programs())
def test_a_tree_of_scopes_behaves_as_the_model(program: list[Node]) -> None:
    assume(size_of(program) <= BITS)
    assert events_of(program) == expected(program)


@SETTINGS
@given(programs(groups=False), st.integers(0, 12))
def test_a_request_from_outside_is_neither_lost_nor_doubled(
    program: list[Node], second: int
) -> None:
    assume(size_of(program) <= BITS)
    request = second + 2.0 ** -(BITS + 2)
    assert events_of(program, request) == expected(program, request)


def test_thousands_of_trees() -> None:
    for seed in range(MOST):
        program = random_program(random.Random(seed))
        if size_of(program) <= BITS:
            assert events_of(program) == expected(program), f"seed {seed}: {program}"


def test_thousands_of_trees_with_requests_from_outside() -> None:
    for seed in range(MOST):
        chance = random.Random(seed)
        program = random_program(chance, groups=False)
        request = chance.randint(0, 12) + 2.0 ** -(BITS + 2)
        if size_of(program) <= BITS:
            found = events_of(program, request)
            assert found == expected(program, request), f"seed {seed}, {request}: {program}"


@pytest.mark.once
def test_the_model_expects_more_than_one_kind_of_event() -> None:
    """There are programs in which scopes are cancelled, left and shielded."""
    kinds: set[str] = set()

    for seed in range(20):
        kinds.update(event[2] for event in expected(random_program(random.Random(seed))))
    assert kinds == {"done", "cancelled", "caught"}
