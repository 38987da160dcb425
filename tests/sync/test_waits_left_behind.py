"""Long-lived futures, which release the waits that were abandoned."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import collect_reports, fail, never, turns

Wait = Callable[[Any], Awaitable[None]]


async def async_for(future: Any) -> None:
    async for _ in runtime.as_completed([future, turns(1)]):
        break


async def plain_for(future: Any) -> None:
    for step in runtime.as_completed([future, turns(1)]):
        await step
        break


async def not_begun(future: Any) -> None:
    runtime.as_completed([future], timeout=3600)


async def cancelled(future: Any) -> None:
    async def wait() -> None:
        async for _ in runtime.as_completed([future], timeout=3600):
            pass

    task = runtime.create_task(wait())
    await wait_all_tasks_blocked()
    task.cancel()
    await wait_all_tasks_blocked()


async def timed_out(future: Any) -> None:
    with pytest.raises(TimeoutError):
        async for _ in runtime.as_completed([future], timeout=0):
            pass


async def in_a_thread(future: Any) -> None:
    """Drop the iteration in another thread."""
    held = [runtime.as_completed([future])]
    await runtime.to_thread(held.clear)


async def in_a_cycle(future: Any) -> None:
    iteration: Any = runtime.as_completed([future])
    iteration.itself = iteration
    del iteration
    gc.collect()


async def gathered(future: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        await runtime.gather(future, fail(ZeroDivisionError()))


async def gathered_twice_over(future: Any) -> None:
    with pytest.raises(ZeroDivisionError):
        await runtime.gather(future, fail(ZeroDivisionError()), future)


async def shielded(future: Any) -> None:
    task = runtime.create_task(runtime.wait_for(runtime.shield(future), 3600))
    await wait_all_tasks_blocked()
    task.cancel()
    await wait_all_tasks_blocked()


async def waited_for(future: Any) -> None:
    await runtime.wait([future, runtime.create_task(turns(1))], return_when="FIRST_COMPLETED")


WAITS: list[Wait] = [
    async_for,
    plain_for,
    not_begun,
    cancelled,
    timed_out,
    in_a_thread,
    in_a_cycle,
    gathered,
    gathered_twice_over,
    shielded,
    waited_for,
]


@pytest.mark.parametrize("wait", WAITS)
async def test_a_future_keeps_no_more_of_many_than_of_one(wait: Wait) -> None:
    loop = runtime.get_running_loop()
    future = loop.create_future()
    for _ in range(20):
        await wait(future)
    await wait_all_tasks_blocked()
    assert len(future._list_subscribers()) <= 2
    assert loop._timers.pending() == []
    future.set_result(None)
    await wait_all_tasks_blocked()


@pytest.mark.parametrize("end", ["fails", "is cancelled"])
async def test_a_task_that_outlives_gather_still_ends_silently(end: str) -> None:
    reports = collect_reports()
    future = runtime.get_running_loop().create_future()
    for _ in range(3):
        await gathered(future)
    if end == "fails":
        future.set_exception(ValueError())
    else:
        future.cancel()
    await wait_all_tasks_blocked()
    del future
    gc.collect()
    assert reports == []


async def test_a_gathering_that_failed_goes_before_its_children() -> None:
    future = runtime.get_running_loop().create_future()
    gathering = runtime.gather(future, fail(ZeroDivisionError()))
    gone = weakref.ref(gathering)
    await wait_all_tasks_blocked()
    assert isinstance(gathering.exception(), ZeroDivisionError)
    del gathering
    gc.collect()
    assert gone() is None
    assert "gather() that has ended" in repr(future)


def test_an_iteration_that_outlives_its_loop_is_let_go() -> None:
    async def main() -> Any:
        return runtime.as_completed([runtime.create_task(never())])

    left = runtime.run(main())
    del left
    gc.collect()


def test_an_iteration_may_be_dropped_while_the_loop_does_not_run() -> None:
    async def begin() -> Any:
        return runtime.as_completed([future])

    loop = runtime.new_event_loop()
    future = loop.create_future()
    iteration = loop.run_until_complete(begin())
    assert len(future._list_subscribers()) == 1
    del iteration
    assert future._list_subscribers() == []
    loop.close()
