"""Many tasks that wait in one primitive give up: each does so without a search among the others."""

from __future__ import annotations

import functools
import random
import sys
from collections.abc import Awaitable, Callable, Coroutine
from types import FrameType
from typing import Any

import pytest

import runtime
from runtime.sync import barrier, locks, queues, waiters
from runtime.sync.barrier import Barrier
from runtime.sync.locks import Condition, Event, Lock, Semaphore
from runtime.sync.queues import Queue
from runtime.testing import wait_all_tasks_blocked
from tests.support.comparisons import CountedFuture, CountingLoop

FILES = {module.__file__ for module in (barrier, locks, queues, waiters)}

Wait = Callable[[], Coroutine[Any, Any, object]]


async def for_a_lock() -> Wait:
    lock = Lock()
    await lock.acquire()
    return lock.acquire


async def for_an_event() -> Wait:
    return Event().wait


async def for_a_notification() -> Wait:
    condition = Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    return wait


async def for_a_permit() -> Wait:
    return Semaphore(0).acquire


async def for_an_item() -> Wait:
    return Queue[int]().get


async def for_room() -> Wait:
    queue = Queue[int](1)
    await queue.put(0)
    return functools.partial(queue.put, 1)


async def for_the_end_of_the_work() -> Wait:
    queue = Queue[int]()
    await queue.put(0)
    return queue.join


async def for_other_parties() -> Wait:
    return Barrier(1000).wait


async def effort(
    make: Callable[[], Awaitable[Wait]],
    order: Callable[[list[runtime.Task[Any]]], list[runtime.Task[Any]]],
    number: int,
) -> int:
    """Cancel the waits of ``number`` tasks; return how much the primitive did for it.

    The lines of the primitive's module that were executed are counted, and the comparisons of
    futures.
    """
    lines = 0

    def trace(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal lines
        lines += event == "line"
        return trace if frame.f_code.co_filename in FILES else None

    wait = await make()
    tasks: list[runtime.Task[Any]] = [runtime.create_task(wait()) for _ in range(number)]
    await wait_all_tasks_blocked()
    CountedFuture.compared = lines = 0
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        for task in order(tasks):
            task.cancel()
        await runtime.wait(tasks)
    finally:
        sys.settrace(before)
    assert all(task.cancelled() for task in tasks)
    assert lines > number
    return lines + CountedFuture.compared


def oldest_first(tasks: list[runtime.Task[Any]]) -> list[runtime.Task[Any]]:
    return tasks


def newest_first(tasks: list[runtime.Task[Any]]) -> list[runtime.Task[Any]]:
    return tasks[::-1]


def in_any_order(tasks: list[runtime.Task[Any]]) -> list[runtime.Task[Any]]:
    return random.Random(7).sample(tasks, len(tasks))


@pytest.mark.parametrize("order", [oldest_first, newest_first, in_any_order])
@pytest.mark.parametrize(
    "make",
    [
        for_a_lock,
        for_an_event,
        for_a_notification,
        for_a_permit,
        for_an_item,
        for_room,
        for_the_end_of_the_work,
        for_other_parties,
    ],
)
def test_the_effort_does_not_depend_on_the_number_of_others(make: Any, order: Any) -> None:
    async def main() -> tuple[int, int]:
        return await effort(make, order, 100), await effort(make, order, 200)

    few, many = runtime.run(main(), loop_factory=CountingLoop)
    assert many < 2.5 * few
