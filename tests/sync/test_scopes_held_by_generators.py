"""Waits that are refused because an asynchronous generator holds a scope at a ``yield``.

The task gets a RuntimeError where it waits. What it waits in must be left as after any other error.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any

import pytest

import runtime
from tests.sync.tools import turns

pytestmark = pytest.mark.runtime(clock="virtual")


async def hold_a_scope() -> AsyncIterator[int]:
    with runtime.CancelScope():
        yield 1
        yield 2


async def while_scopes_are_held(body: Callable[[], Coroutine[Any, Any, None]], count: int) -> None:
    """Run ``body`` while generators hold ``count`` scopes."""
    async with AsyncExitStack() as stack:
        for _ in range(count):
            generator: Any = hold_a_scope()
            stack.push_async_callback(generator.aclose)
            await anext(generator)
        await body()


async def refusal_of(body: Callable[[], Coroutine[Any, Any, None]], count: int = 1) -> None:
    """Check that ``body`` is refused; its error may be in an exception group."""
    try:
        await while_scopes_are_held(body, count)
    except* RuntimeError as group:
        (error,) = group.exceptions
        assert "held across the 'yield'" in str(error)
    else:
        pytest.fail("the wait was not refused")


@pytest.mark.parametrize("cancelled", [False, True])
@pytest.mark.parametrize("count", [1, 2])
async def test_a_group_waits_for_its_tasks(count: int, cancelled: bool) -> None:
    ended: list[str] = []

    async def child() -> None:
        try:
            await runtime.sleep(1)
        except runtime.CancelledError:
            ended.append("cancelled")
        await runtime.sleep(1)
        ended.append("cleaned up")

    async def body() -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(child())
            if cancelled:
                outer.cancel()

    with runtime.CancelScope() as outer:
        await refusal_of(body, count)
    assert ended[0] == "cancelled"
    assert cancelled or ended == ["cancelled", "cleaned up"]


async def test_tasks_of_a_group_that_was_not_left_outlive_a_cancelled_scope() -> None:
    """A coroutine that is closed while it waits for its group leaves the tasks running."""
    ended: list[str] = []

    async def child() -> None:
        for _ in range(9):
            with contextlib.suppress(runtime.CancelledError):
                await runtime.sleep(1)
        ended.append("child")

    async def body() -> None:
        with runtime.CancelScope() as scope:
            async with runtime.TaskGroup() as group:
                group.create_task(child())
                scope.cancel()

    task = runtime.create_task(body())
    await turns(3)
    coro: Any = task.get_coro()
    coro.close()
    with pytest.raises(RuntimeError, match="already awaited"):
        await task
    await runtime.sleep(9)
    assert ended == ["child"]


async def test_a_condition_takes_its_lock_again() -> None:
    condition = runtime.Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    async def hold() -> None:
        async with condition:
            await runtime.sleep(1)
            assert condition.locked()

    waiting = runtime.create_task(refusal_of(wait, 2))
    await turns(1)
    await hold()
    await waiting
    assert not condition.locked()


async def test_a_starting_task_is_cancelled() -> None:
    cancelled: list[bool] = []

    async def serve(started: runtime.Started[None]) -> None:
        try:
            await runtime.sleep(1)
        except runtime.CancelledError:
            cancelled.append(True)
            raise

    async with runtime.TaskGroup() as group:

        async def body() -> None:
            await group.start(serve)

        await refusal_of(body)
        assert cancelled == [True]
