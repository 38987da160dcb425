"""Cancellation that races with the completion of the awaited operation.

A task that is cancelled while in ``wait_for`` or ``timeout`` must learn of it: by a CancelledError
or, if the result was already available, by ``cancelling() > 0``. If both are lost, the task cannot
be stopped.

See https://github.com/python/cpython/issues/86296.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled


async def with_timeout(awaitable: Awaitable[Any], delay: float | None) -> Any:
    async with runtime.timeout(delay):
        return await awaitable


LIMITS: list[Callable[[Awaitable[Any], float | None], Awaitable[Any]]] = [
    runtime.wait_for,
    with_timeout,
]
KINDS = ["future", "task", "coroutine", "swallowing task", "swallowing coroutine"]


def make_awaitable(kind: str, completes: runtime.Future[str]) -> Awaitable[str]:
    async def plainly() -> str:
        return await runtime.shield(completes)

    async def swallowing() -> str:
        try:
            return await runtime.shield(completes)
        except runtime.CancelledError:
            return "swallowed"

    if kind == "future":
        return completes
    coro = swallowing() if kind.startswith("swallowing") else plainly()
    return runtime.create_task(coro) if kind.endswith("task") else coro


def complete(future: runtime.Future[str]) -> None:
    if not future.done():
        future.set_result("result")


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [None, 3600])
@pytest.mark.parametrize("order", ["complete first", "cancel first"])
async def test_completed_and_cancelled_in_the_same_turn(
    limit: Callable[..., Awaitable[Any]], kind: str, delay: float | None, order: str
) -> None:
    loop = runtime.get_running_loop()
    completes: runtime.Future[str] = loop.create_future()
    awaitable = make_awaitable(kind, completes)
    learned = []

    async def waiter() -> None:
        try:
            await limit(awaitable, delay)
        except runtime.CancelledError:
            learned.append("raised")
            raise
        task = runtime.current_task()
        assert task is not None
        if task.cancelling():
            learned.append("counted")

    task = runtime.create_task(waiter())
    await all_tasks_blocked()
    if order == "complete first":
        completes.set_result("result")
        task.cancel()
    else:
        task.cancel()
        complete(completes)
    await settled(task)
    assert learned


@pytest.mark.parametrize("limit", LIMITS)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("delay", [None, 3600, 0.001, 0])
def test_cancelled_at_every_step(
    limit: Callable[..., Awaitable[Any]], kind: str, delay: float | None
) -> None:
    async def scenario(point: CancelPoint) -> None:
        loop = runtime.get_running_loop()
        completes: runtime.Future[str] = loop.create_future()
        timer = loop.call_later(0.002, complete, completes)
        learned = []

        async def waiter() -> None:
            task = runtime.current_task()
            assert task is not None
            try:
                await limit(make_awaitable(kind, completes), delay)
            except TimeoutError:
                assert delay is not None
                assert not point.reached or task.cancelling()
            except runtime.CancelledError:
                learned.append("raised")
                assert task.cancelling()
                raise
            if task.cancelling():
                learned.append("counted")

        await settled(point.start(waiter()))
        timer.cancel()
        completes.cancel()
        assert bool(learned) == point.reached

    assert cancel_everywhere(scenario) >= (0 if delay == 0 else 1)


async def test_a_worker_can_always_be_stopped() -> None:
    """The common form of the problem is a loop around a timed wait, cancelled to shut down."""
    loop = runtime.get_running_loop()
    for delay in range(20):
        current: runtime.Future[None] = loop.create_future()

        async def worker() -> None:
            nonlocal current
            while True:
                try:
                    await runtime.wait_for(current, 3600)
                except TimeoutError:
                    continue
                current = loop.create_future()

        task = runtime.create_task(worker())
        for step in range(20):
            await runtime.sleep(0)
            if not current.done():
                current.set_result(None)
            if step == delay:
                task.cancel()
        done, _ = await runtime.wait([task], timeout=30)
        assert done
        assert task.cancelled()
