"""Waits that are refused, since a generator holds a scope at a ``yield``: nothing gets lost.

The task is unsubscribed from the future that it awaits, and a RuntimeError is raised in its next
step. The future is still pending then, or was given its result meanwhile. The same primitives are
also left by tasks that are destroyed after their loop was closed: they must wake none then.
"""

from __future__ import annotations

import contextlib
import gc
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest

import runtime
from runtime.sync.as_completed import as_completed
from runtime.sync.barrier import Barrier
from runtime.sync.channels import open_channel
from runtime.sync.limiter import CapacityLimiter
from runtime.sync.locks import Condition, Lock, Semaphore
from runtime.sync.queues import Queue
from runtime.testing import wait_all_tasks_blocked

Wait = Callable[[], Coroutine[Any, Any, object]]


async def holding() -> AsyncIterator[int]:
    with runtime.CancelScope():
        yield 1
        yield 2


async def refused(wait: Wait) -> None:
    """Wait while a generator holds a scope."""
    generator = holding()
    await anext(generator)
    with pytest.raises(RuntimeError, match="held across the 'yield'"):
        await wait()
    await generator.aclose()  # type: ignore[attr-defined]


async def a_lock() -> tuple[Wait, Callable[[], object]]:
    lock = Lock()
    await lock.acquire()
    return lock.acquire, lock.release


async def a_semaphore() -> tuple[Wait, Callable[[], object]]:
    semaphore = Semaphore(1)
    await semaphore.acquire()
    return semaphore.acquire, semaphore.release


async def a_notification() -> tuple[Wait, Callable[[], object]]:
    condition = Condition()

    async def wait() -> None:
        async with condition:
            await condition.wait()

    def notify() -> None:
        run_through(condition.acquire())
        condition.notify()
        condition.release()

    return wait, notify


def run_through(coroutine: Coroutine[Any, Any, object]) -> None:
    """Run a coroutine that does not suspend."""
    with pytest.raises(StopIteration):
        coroutine.send(None)


async def an_item() -> tuple[Wait, Callable[[], object]]:
    queue = Queue[int]()
    return queue.get, lambda: queue.put_nowait(1)


async def room() -> tuple[Wait, Callable[[], object]]:
    queue = Queue[int](1)
    queue.put_nowait(1)
    return lambda: queue.put(2), queue.get_nowait


async def a_token() -> tuple[Wait, Callable[[], object]]:
    limiter = CapacityLimiter(1)
    await limiter.acquire("first")
    return limiter.acquire, lambda: limiter.release("first")


async def a_sent_item() -> tuple[Wait, Callable[[], object]]:
    send, receive = open_channel[int](1)
    return receive.receive, lambda: send.send_nowait(1)


async def an_ended_future() -> tuple[Wait, Callable[[], object]]:
    futures = [runtime.get_running_loop().create_future() for _ in range(3)]
    iterator = as_completed(futures)
    return iterator.__anext__, lambda: iterator._ends._on_done(futures[0])


@pytest.mark.parametrize("when", ["before its step", "after its step"])
@pytest.mark.parametrize(
    "make",
    [a_lock, a_semaphore, a_notification, an_item, room, a_token, a_sent_item, an_ended_future],
)
async def test_the_next_task_gets_what_a_refused_one_was_given(make: Any, when: str) -> None:
    wait, signal = await make()
    bad = runtime.create_task(refused(wait))
    good = runtime.create_task(wait())
    await runtime.sleep(0)
    if when == "after its step":
        await bad
    signal()
    await wait_all_tasks_blocked()
    await bad
    if not good.done():
        good.cancel()
        pytest.fail(f"{good!r} waits for ever")
    await good


async def test_a_barrier_counts_no_refused_task() -> None:
    barrier = Barrier(2)
    bad = runtime.create_task(refused(barrier.wait))
    await bad
    assert barrier.n_waiting == 0
    assert sorted(await runtime.gather(barrier.wait(), barrier.wait())) == [0, 1]


async def test_a_semaphore_gains_no_permit_by_a_cancelled_wait_that_is_pending() -> None:
    semaphore = Semaphore(1)
    await semaphore.acquire()

    async def wait() -> None:
        async for _ in holding():
            task = runtime.current_task()
            assert task is not None
            task.cancel()
            await semaphore.acquire()

    await runtime.wait([runtime.create_task(wait())])
    assert semaphore.locked()
    assert repr(semaphore).endswith("[locked]>")
    semaphore.release()
    assert "[unlocked, value:1]" in repr(semaphore)


@pytest.mark.parametrize("number", [1, 2, 3])
async def test_the_lock_of_a_condition_is_held_after_waits_that_are_refused(number: int) -> None:
    condition, owner = Condition(), ""
    held = []

    async def wait() -> None:
        async with contextlib.AsyncExitStack() as stack:
            for _ in range(number):
                generator = holding()
                await anext(generator)
                stack.push_async_callback(generator.aclose)  # type: ignore[attr-defined]
            with runtime.CancelScope(), pytest.raises(RuntimeError, match="held across"):
                try:
                    await condition.wait()
                finally:
                    held.append(condition.locked() and owner)

    async def bad() -> None:
        nonlocal owner
        async with condition:
            owner = "bad"
            await wait()

    async def other() -> None:
        nonlocal owner
        async with condition:
            owner = "other"
            await runtime.sleep(0)
            await runtime.sleep(0)
            owner = "nobody"
        held.append("released")

    tasks = [runtime.create_task(bad()), runtime.create_task(other())]
    await runtime.gather(*tasks)
    assert held == ["released", "nobody"]
    assert not condition.locked()


async def test_the_lock_of_a_condition_cannot_be_acquired_in_another_way() -> None:
    class Broken(Lock):
        failing = False

        async def acquire(self) -> Any:
            if self.failing:
                raise RuntimeError("broken")
            return await super().acquire()

    lock = Broken()
    condition = Condition(lock)
    await condition.acquire()
    lock.failing = True
    task = runtime.create_task(condition.wait())
    await wait_all_tasks_blocked()
    task.cancel()
    with pytest.raises(RuntimeError, match="broken"):
        await task


@pytest.mark.parametrize(
    "make",
    [
        a_lock,
        a_semaphore,
        a_notification,
        an_item,
        room,
        a_token,
        a_sent_item,
        an_ended_future,
    ],
)
def test_tasks_that_are_destroyed_after_the_loop_was_closed_wake_none(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    unraisable: list[object] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda report: unraisable.append(report.exc_value))
    loop = runtime.new_event_loop()
    loop.set_exception_handler(lambda _loop, _report: None)

    async def main() -> None:
        wait, signal = await make()
        for _ in range(3):
            loop.create_task(wait() if make is not a_token else wait(object()))
        await runtime.sleep(0)
        signal()
        loop.stop()

    loop.create_task(main())
    loop.run_forever()
    loop.close()
    gc.collect()
    assert unraisable == []
