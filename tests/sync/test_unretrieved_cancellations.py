"""Cancellations that were never retrieved are not failures: gather() does not log them."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import collect_reports, never, turns

Gather = Callable[..., Any]

both = pytest.mark.parametrize("gather", [runtime.gather, asyncio.gather])


async def cancelled_twice(gather: Gather) -> None:
    async def parent() -> None:
        await gather(clean_up_slowly(), never())

    async def clean_up_slowly() -> None:
        try:
            await never()
        finally:
            await turns(5)

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    task.cancel()
    await turns(2)
    task.cancel()
    await turns(2)
    assert task.cancelled() or not task.done()
    await wait_all_tasks_blocked()
    assert task.cancelled()


async def whose_child_is_cancelled_and_whose_task_too(gather: Gather) -> None:
    child = runtime.create_task(never())

    async def parent() -> None:
        await gather(child)

    task = runtime.create_task(parent())
    await wait_all_tasks_blocked()
    child.cancel()
    await turns(1)
    task.cancel()
    await wait_all_tasks_blocked()
    assert task.cancelled()


async def that_is_never_awaited(gather: Gather) -> None:
    gathering = gather(never(), never())
    await wait_all_tasks_blocked()
    gathering.cancel()
    await wait_all_tasks_blocked()
    assert gathering.done()


async def whose_child_is_cancelled_and_that_is_never_awaited(gather: Gather) -> None:
    child = runtime.create_task(never())
    gathering = gather(child, never())
    await wait_all_tasks_blocked()
    child.cancel()
    await wait_all_tasks_blocked()
    assert gathering.done()


async def in_a_group_that_aborts_at_the_deadline_of_a_child(gather: Gather) -> None:
    async def with_deadline() -> None:
        async with runtime.timeout(0):
            await gather(never(), never())

    with pytest.raises(ExceptionGroup):
        async with runtime.TaskGroup() as group:
            group.create_task(with_deadline())
            group.create_task(with_deadline())
            group.create_task(never())


async def a_future_that_ends_with_it(gather: Gather) -> None:
    future = runtime.get_running_loop().create_future()
    future.set_exception(runtime.CancelledError())
    foreign: asyncio.Future[None] = asyncio.Future()
    foreign.set_exception(runtime.CancelledError())


async def a_task_that_ends_with_a_group_of_them(gather: Gather) -> None:
    async def fail() -> None:
        inner = BaseExceptionGroup("inner", [runtime.CancelledError(), runtime.CancelledError()])
        raise BaseExceptionGroup("outer", [inner, runtime.CancelledError()])

    runtime.create_task(fail())
    await wait_all_tasks_blocked()


SCENARIOS: list[Callable[[Gather], Awaitable[None]]] = [
    cancelled_twice,
    whose_child_is_cancelled_and_whose_task_too,
    that_is_never_awaited,
    whose_child_is_cancelled_and_that_is_never_awaited,
    in_a_group_that_aborts_at_the_deadline_of_a_child,
    a_future_that_ends_with_it,
    a_task_that_ends_with_a_group_of_them,
]


@both
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_nothing_is_reported(scenario: Callable[[Gather], Awaitable[None]], gather: Gather) -> None:
    async def main() -> None:
        reports = collect_reports()
        await scenario(gather)
        await wait_all_tasks_blocked()
        gc.collect()
        await wait_all_tasks_blocked()
        assert reports == []

    runtime.run(main())


@both
async def test_a_failure_beside_it_is_reported(gather: Gather) -> None:

    reports = collect_reports()

    async def fail() -> None:
        raise BaseExceptionGroup("both", [runtime.CancelledError(), ZeroDivisionError()])

    async def fail_when_cancelled() -> None:
        try:
            await never()
        except runtime.CancelledError:
            raise ZeroDivisionError from None

    runtime.create_task(fail())
    gathering = gather(fail_when_cancelled())
    await wait_all_tasks_blocked()
    gathering.cancel()
    await wait_all_tasks_blocked()
    del gathering
    gc.collect()
    await wait_all_tasks_blocked()
    assert [type(report["exception"]) for report in reports] == [
        BaseExceptionGroup,
        ZeroDivisionError,
    ]
