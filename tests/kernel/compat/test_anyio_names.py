"""Private names of asyncio's tasks that anyio reads."""

from __future__ import annotations

import asyncio
from typing import Any

import runtime


async def test_the_awaited_future_of_a_task() -> None:
    loop = runtime.get_running_loop()
    ours, theirs = loop.create_future(), asyncio.Future[None](loop=loop)

    async def wait_for_both() -> None:
        await ours
        await theirs

    task: Any = runtime.create_task(wait_for_both())
    before = task._fut_waiter
    await runtime.sleep(0)
    first = task._fut_waiter
    ours.set_result(None)
    await runtime.sleep(0)
    second = task._fut_waiter
    theirs.set_result(None)
    await task
    assert (before, first is ours, second is theirs, task._fut_waiter) == (None, True, True, None)


async def test_a_task_that_is_about_to_be_resumed_waits_for_a_future_that_is_done() -> None:
    future = runtime.get_running_loop().create_future()

    async def wait() -> None:
        await future

    task: Any = runtime.create_task(wait())
    await runtime.sleep(0)
    future.set_result(None)
    waiter = task._fut_waiter
    await task
    assert (isinstance(waiter, asyncio.Future), waiter.done()) == (True, True)


async def test_the_main_task_is_the_one_that_stops_the_loop() -> None:
    other: Any = runtime.create_task(runtime.sleep(0.01))
    # Two tasks that wait for the future, and a callback, are three subscribers of different
    # kinds.
    waiting = [runtime.create_task(_wait_for(other)) for _ in range(2)]
    other.add_done_callback(print_nothing)
    await runtime.sleep(0)
    task: Any
    found = []
    for task in (runtime.current_task(), other, waiting[0]):
        callbacks = [callback for callback, _ in task._callbacks or ()]
        found.append(asyncio.base_events._run_until_complete_cb in callbacks)  # type: ignore[attr-defined]
    assert [callback for callback, _ in other._callbacks] == [print_nothing]
    await runtime.gather(*waiting)
    assert found == [True, False, False]


async def _wait_for(task: Any) -> None:
    await task


def print_nothing(_: object) -> None:
    """Serve as a callback."""
