"""Cancellation of a task in every primitive, at each possible point: nothing gets lost."""

from __future__ import annotations

from typing import Any

import pytest

import runtime
from runtime.sync.barrier import Barrier
from runtime.sync.locks import Condition, Event, Lock, Semaphore
from runtime.sync.queues import LifoQueue, PriorityQueue, Queue
from runtime.testing import wait_all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled
from tests.sync.tools import give, turns


async def slow_to_cancel(value: Any) -> Any:
    """Return ``value``; when cancelled, take a while to clean up."""
    try:
        return await give(value, 2)
    finally:
        await turns(2)


async def stubborn(value: Any) -> Any:
    """Swallow the first cancellation and return a value all the same."""
    try:
        return await give(value, 2)
    except runtime.CancelledError:
        await turns(1)
        return value


def test_sleep() -> None:
    async def scenario(point: CancelPoint) -> None:
        loop = runtime.get_running_loop()

        async def work() -> None:
            await runtime.sleep(0)
            await runtime.sleep(0.001)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        pending = loop._timers.pending()
        assert len(pending) <= 1  # the timer of the supervisor

    assert cancel_everywhere(scenario) == 2


@pytest.mark.parametrize("child", [give, slow_to_cancel, stubborn])
@pytest.mark.parametrize("return_exceptions", [False, True])
def test_gather(child: Any, return_exceptions: bool) -> None:
    async def scenario(point: CancelPoint) -> None:
        children = [runtime.create_task(child(number)) for number in range(3)]

        async def work() -> Any:
            return await runtime.gather(*children, return_exceptions=return_exceptions)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert all(child.done() for child in children)
        if not point.reached:
            assert task.result() == [0, 1, 2]

    assert cancel_everywhere(scenario) == 1


def test_shield() -> None:
    async def scenario(point: CancelPoint) -> None:
        inner = runtime.create_task(give("inner"))

        async def work() -> Any:
            return await runtime.shield(inner)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert await inner == "inner"

    assert cancel_everywhere(scenario) == 1


@pytest.mark.parametrize("return_when", [runtime.ALL_COMPLETED, runtime.FIRST_COMPLETED])
def test_wait(return_when: str) -> None:
    async def scenario(point: CancelPoint) -> None:
        children = [runtime.create_task(give(number, number + 1)) for number in range(3)]
        task = point.start(runtime.wait(children, timeout=3600, return_when=return_when))
        await settled(task)
        assert task.cancelled() == point.reached
        assert [await child for child in children] == [0, 1, 2]

    assert cancel_everywhere(scenario) == 1


def test_as_completed() -> None:
    async def scenario(point: CancelPoint) -> None:
        children = [runtime.create_task(give(number, number + 1)) for number in range(3)]
        seen = []

        async def work() -> None:
            async for child in runtime.as_completed(children, timeout=3600):
                seen.append(await child)  # noqa: PERF401  # seen items must survive

        await settled(point.start(work()))
        assert [await child for child in children] == [0, 1, 2]
        assert seen == [0, 1, 2][: len(seen)]
        assert point.reached or len(seen) == 3

    assert cancel_everywhere(scenario) == 3


@pytest.mark.parametrize("timeout", [None, 3600, 0])
@pytest.mark.parametrize("child", [give, slow_to_cancel, stubborn])
@pytest.mark.parametrize("as_task", [False, True])
def test_wait_for(timeout: float | None, child: Any, as_task: bool) -> None:
    """Cancelled at any point it raises CancelledError, or the request still counts."""

    async def scenario(point: CancelPoint) -> None:
        started = []

        async def work() -> object:
            coro = child("value")
            if as_task:
                started.append(runtime.create_task(coro))
                await runtime.sleep(0)
            try:
                result: object = await runtime.wait_for(started[0] if as_task else coro, timeout)
            except TimeoutError:
                assert timeout == 0
                result = "timeout"
            return result

        task = point.start(work())
        await settled(task)
        for child_task in started:
            await settled(child_task)
        refuses = as_task and child is stubborn
        if point.reached:
            assert task.cancelled() or task.cancelling() > 0
        elif timeout == 0 and not refuses:
            assert task.result() == "timeout"
        else:
            assert task.result() == "value"

    assert cancel_everywhere(scenario) >= 1


@pytest.mark.parametrize("delay", [3600, 0.001, 0])
def test_timeout(delay: float) -> None:
    """It raises TimeoutError for its own cancellation only, and takes back no other."""

    async def scenario(point: CancelPoint) -> None:
        async def work() -> str:
            try:
                async with runtime.timeout(delay):
                    await turns(2)
                    await runtime.sleep(0.002 if delay else 3600)
                outcome = "in time"
            except TimeoutError:
                outcome = "expired"
            await turns(1)
            return outcome

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert task.cancelling() == int(point.reached)
        if not point.reached:
            assert task.result() == ("in time" if delay == 3600 else "expired")

    assert cancel_everywhere(scenario) >= 2


def test_nested_timeouts() -> None:
    async def scenario(point: CancelPoint) -> None:
        async def work() -> list[str]:
            outcomes = []
            try:
                async with runtime.timeout(3600) as outer:
                    try:
                        async with runtime.timeout(0):
                            await runtime.sleep(3600)
                    except TimeoutError:
                        outcomes.append("inner")
                    outer.reschedule(0.0)
                    await runtime.sleep(3600)
            except TimeoutError:
                outcomes.append("outer")
            await turns(1)
            return outcomes

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert task.cancelling() == int(point.reached)
        assert point.reached or task.result() == ["inner", "outer"]

    assert cancel_everywhere(scenario) == 3


@pytest.mark.parametrize("child", [give, slow_to_cancel, stubborn])
def test_task_group(child: Any) -> None:
    async def scenario(point: CancelPoint) -> None:
        tasks: list[runtime.Task[Any]] = []

        async def work() -> None:
            async with runtime.TaskGroup() as group:
                tasks.extend(group.create_task(child(number)) for number in range(3))
                await turns(1)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert task.cancelling() == int(point.reached)
        assert all(task.done() for task in tasks)

    assert cancel_everywhere(scenario) >= 2


def test_task_group_with_a_failure() -> None:
    async def scenario(point: CancelPoint) -> None:
        tasks = []

        async def fail() -> None:
            await turns(2)
            raise LookupError

        async def work() -> None:
            try:
                async with runtime.TaskGroup() as group:
                    tasks.append(group.create_task(slow_to_cancel(1)))
                    tasks.append(group.create_task(fail()))
                    await turns(4)
            except* LookupError:
                pass
            await turns(1)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert task.cancelling() == int(point.reached)
        assert all(task.done() for task in tasks)

    assert cancel_everywhere(scenario) >= 3


def test_lock() -> None:
    async def scenario(point: CancelPoint) -> None:
        lock = Lock()
        inside = 0

        async def work() -> None:
            nonlocal inside
            for _ in range(2):
                async with lock:
                    inside += 1
                    assert inside == 1
                    try:
                        await turns(1)
                    finally:
                        inside -= 1

        others = [runtime.create_task(work()) for _ in range(2)]
        task = point.start(work())
        others.append(runtime.create_task(work()))
        await settled(task, *others)
        assert not any(other.cancelled() for other in others)
        assert not lock.locked()
        assert "waiters" not in repr(lock)

    assert cancel_everywhere(scenario) == 4


def test_event() -> None:
    async def scenario(point: CancelPoint) -> None:
        event = Event()
        other = runtime.create_task(event.wait())
        task = point.start(event.wait())
        await wait_all_tasks_blocked()
        event.set()
        await settled(task, other)
        assert other.result()
        event.clear()
        assert "waiters" not in repr(event)

    assert cancel_everywhere(scenario) == 1


@pytest.mark.parametrize("victim_waits_first", [False, True])
def test_condition(victim_waits_first: bool) -> None:
    """Two waiters, two items, one notification for each: both items are taken, or one is left."""

    async def scenario(point: CancelPoint) -> None:
        condition = Condition()
        items: list[int] = []
        taken: list[int] = []

        async def take() -> None:
            async with condition:
                await condition.wait_for(lambda: items)
                taken.append(items.pop())
                await turns(1)

        if victim_waits_first:
            task = point.start(take())
            other = runtime.create_task(take())
        else:
            other = runtime.create_task(take())
            task = point.start(take())
        for number in range(2):
            await wait_all_tasks_blocked()
            async with condition:
                items.append(number)
                condition.notify()
                await turns(1)
        await settled(task, other)
        assert not other.cancelled()
        assert len(items) + len(taken) == 2
        assert not condition.locked()
        assert "waiters" not in repr(condition)

    assert cancel_everywhere(scenario) >= 2


@pytest.mark.parametrize("permits", [1, 2])
def test_semaphore(permits: int) -> None:
    async def scenario(point: CancelPoint) -> None:
        semaphore = Semaphore(permits)
        inside = 0

        async def work() -> None:
            nonlocal inside
            for _ in range(2):
                async with semaphore:
                    inside += 1
                    assert inside <= permits
                    try:
                        await turns(1)
                    finally:
                        inside -= 1

        others = [runtime.create_task(work()) for _ in range(3)]
        task = point.start(work())
        others.append(runtime.create_task(work()))
        await settled(task, *others)
        assert f"[unlocked, value:{permits}]" in repr(semaphore)

    assert cancel_everywhere(scenario) >= 2


def test_barrier() -> None:
    async def scenario(point: CancelPoint) -> None:
        barrier = Barrier(3)
        others = [runtime.create_task(barrier.wait())]
        task = point.start(barrier.wait())
        await wait_all_tasks_blocked()
        others.append(runtime.create_task(barrier.wait()))
        await wait_all_tasks_blocked()
        if task.cancelled() and not others[0].done():
            # this task takes the place of the cancelled one
            others.append(runtime.create_task(barrier.wait()))
        await settled(task, *others)
        indices = [other.result() for other in others]
        if not task.cancelled():
            indices.append(task.result())
        assert len(set(indices)) == len(indices)
        assert set(indices) <= {0, 1, 2}
        assert "[filling, waiters:0/3]" in repr(barrier)

    assert cancel_everywhere(scenario) == 1


def test_barrier_with_a_draining_round() -> None:
    async def scenario(point: CancelPoint) -> None:
        barrier = Barrier(2)

        async def work() -> None:
            for _ in range(3):
                await barrier.wait()

        others = [runtime.create_task(work()) for _ in range(2)]
        task = point.start(work())
        finished = runtime.gather(task, *others, return_exceptions=True)
        await wait_all_tasks_blocked()
        # Nine arrivals for rounds of two: one is missing, or as many as the cancelled one leaves.
        while not finished.done():
            await barrier.wait()
            await wait_all_tasks_blocked()
        await finished
        assert "[filling, waiters:0/2]" in repr(barrier)

    assert cancel_everywhere(scenario) >= 2


@pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue])
def test_queue_get(kind: type[Queue[int]]) -> None:
    async def scenario(point: CancelPoint) -> None:
        queue = kind()
        taken: list[int] = []

        async def consume() -> None:
            for _ in range(2):
                taken.append(await queue.get())
                queue.task_done()

        other = runtime.create_task(consume())
        task = point.start(consume())
        for number in range(4):
            await wait_all_tasks_blocked()
            queue.put_nowait(number)
        await settled(task, other)
        assert not other.cancelled()
        assert sorted(taken + [queue.get_nowait() for _ in range(queue.qsize())]) == [0, 1, 2, 3]
        assert "getters" not in repr(queue)

    assert cancel_everywhere(scenario) == 2


@pytest.mark.parametrize("kind", [Queue, LifoQueue, PriorityQueue])
def test_queue_put(kind: type[Queue[int]]) -> None:
    async def scenario(point: CancelPoint) -> None:
        queue = kind(1)
        put: list[int] = []

        async def produce(start: int) -> None:
            for number in range(start, start + 3):
                await queue.put(number)
                put.append(number)

        other = runtime.create_task(produce(0))
        task = point.start(produce(10))
        taken = []
        while not (task.done() and other.done() and queue.empty()):
            await wait_all_tasks_blocked()
            if not queue.empty():
                taken.append(queue.get_nowait())
        await settled(task, other)
        assert not other.cancelled()
        assert sorted(taken) == sorted(put)
        assert "putters" not in repr(queue)

    assert cancel_everywhere(scenario) >= 2


def test_queue_join() -> None:
    async def scenario(point: CancelPoint) -> None:
        queue: Queue[int] = Queue()
        queue.put_nowait(1)
        other = runtime.create_task(queue.join())
        task = point.start(queue.join())
        await wait_all_tasks_blocked()
        queue.get_nowait()
        queue.task_done()
        await settled(task, other)
        assert not other.cancelled()

    assert cancel_everywhere(scenario) == 1


def test_queue_shutdown() -> None:
    async def scenario(point: CancelPoint) -> None:
        queue: Queue[int] = Queue(1)
        outcomes: list[str] = []

        async def consume() -> None:
            try:
                while True:
                    await queue.get()
                    await turns(1)
            except runtime.QueueShutDown:
                outcomes.append("shut down")

        other = runtime.create_task(consume())
        task = point.start(consume())
        for number in range(3):
            await queue.put(number)
            await turns(1)
        queue.shutdown()
        await settled(task, other)
        assert len(outcomes) == (1 if task.cancelled() else 2)
        assert queue.empty()

    assert cancel_everywhere(scenario) >= 2


def test_to_thread() -> None:
    async def scenario(point: CancelPoint) -> None:
        called: list[int] = []

        async def work() -> None:
            await runtime.to_thread(called.append, 1)

        task = point.start(work())
        await settled(task)
        assert task.cancelled() == point.reached
        assert point.reached or called == [1]

    assert cancel_everywhere(scenario) == 1
