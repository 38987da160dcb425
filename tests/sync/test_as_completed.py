from __future__ import annotations

import asyncio
from collections.abc import Awaitable

import pytest

import runtime
from runtime.sync.as_completed import as_completed
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import assert_cancelled, fail, give, never, turns


async def test_for_yields_awaitables_in_the_order_of_completion() -> None:
    results = []
    for awaitable in as_completed([give("c", 6), give("a", 1), give("b", 3)]):
        assert asyncio.iscoroutine(awaitable)
        results.append(await awaitable)
    assert results == ["a", "b", "c"]


async def test_async_for_yields_the_very_tasks() -> None:
    slow, quick = runtime.create_task(give(1, 9)), runtime.create_task(give(2))
    future = runtime.get_running_loop().create_future()
    future.set_result(3)
    yielded = [task async for task in as_completed([slow, quick, future])]
    assert [id(task) for task in yielded] == [id(future), id(quick), id(slow)]


async def test_async_for_makes_tasks_of_coroutines() -> None:
    async for task in as_completed([give(1)]):
        assert isinstance(task, runtime.Task)
        assert task.done()
        assert await task == 1


async def test_coroutines_start_in_the_order_of_the_arguments() -> None:
    started: list[int] = []

    async def start(number: int) -> int:
        started.append(number)
        return number

    ended = [await each for each in as_completed(start(number) for number in range(30))]
    assert started == ended == list(range(30))


async def test_exceptions_come_with_their_task() -> None:
    with pytest.raises(LookupError):
        for awaitable in as_completed([fail(LookupError("failed"))]):
            await awaitable
    async for task in as_completed([fail(LookupError("failed"))]):
        with pytest.raises(LookupError):
            task.result()


async def test_a_repeated_argument_is_yielded_once() -> None:
    coro = give(1)
    task = runtime.create_task(give(2))
    given: list[Awaitable[int]] = [coro, task, coro, task]
    results = [await awaitable for awaitable in as_completed(given)]
    assert sorted(results) == [1, 2]


async def test_any_iterable_will_do() -> None:
    assert sorted([await result for result in as_completed(give(n) for n in range(3))]) == [0, 1, 2]


async def test_nothing_to_complete() -> None:
    nothing: list[runtime.Future[int]] = []
    assert list(as_completed(nothing)) == []
    assert [task async for task in as_completed(nothing, timeout=0)] == []


async def test_the_timeout_raises_for_each_that_is_left() -> None:
    quick, slow = runtime.create_task(give(1)), runtime.create_task(never())
    await quick
    first, second = as_completed([quick, slow], timeout=0.01)
    assert await first == 1
    with pytest.raises(TimeoutError):
        await second
    assert not slow.cancelling()

    iterator = as_completed([quick, slow], timeout=0.01)
    assert await anext(iterator) is quick
    with pytest.raises(TimeoutError):
        await anext(iterator)
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)
    slow.cancel()
    await assert_cancelled(slow)
    await wait_all_tasks_blocked()


async def test_a_task_that_ends_in_the_turn_of_the_timeout_is_too_late() -> None:
    loop = runtime.get_running_loop()
    future = loop.create_future()
    loop.call_later(0, future.set_result, 1)
    iterator = as_completed([future], timeout=0)
    with pytest.raises(TimeoutError):
        await anext(iterator)
    await wait_all_tasks_blocked()
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)
    assert future.result() == 1


async def test_without_the_timeout_no_timer_is_left() -> None:
    loop = runtime.get_running_loop()
    async for _ in as_completed([give(1), give(2)], timeout=3600):
        pass
    assert not loop._timers.pending()


async def test_awaited_in_any_order() -> None:
    later, sooner = as_completed([give("a", 4), give("b", 6)])
    second = runtime.create_task(sooner)
    await turns(2)
    first = runtime.create_task(later)
    assert sorted([await first, await second]) == ["a", "b"]


async def test_a_cancelled_wait_passes_its_turn_on() -> None:
    future = runtime.get_running_loop().create_future()
    other = runtime.get_running_loop().create_future()
    iterator = as_completed([future, other])
    waits = [runtime.create_task(next(iterator)), runtime.create_task(next(iterator))]
    await wait_all_tasks_blocked()
    future.set_result(1)
    await turns(1)
    waits[0].cancel()
    assert await waits[1] == 1
    await assert_cancelled(waits[0])
    other.set_result(2)
    await wait_all_tasks_blocked()


async def test_a_cancelled_step_of_async_for_loses_nothing() -> None:
    future = runtime.get_running_loop().create_future()
    iterator = as_completed([future])
    for _ in range(3):
        step = runtime.create_task(iterator.__anext__())
        await wait_all_tasks_blocked()
        step.cancel()
        await assert_cancelled(step)
    # The step is cancelled when it was woken, and has not run yet.
    step = runtime.create_task(iterator.__anext__())
    await wait_all_tasks_blocked()
    future.set_result(1)
    await turns(1)
    step.cancel()
    await assert_cancelled(step)
    assert await anext(iterator) is future
    with pytest.raises(StopAsyncIteration):
        await anext(iterator)


@pytest.mark.parametrize("number", [50, 100])
async def test_steps_that_gave_up_leave_nothing(number: int) -> None:
    future = runtime.get_running_loop().create_future()
    iterator = as_completed([future])
    for _ in range(number):
        with pytest.raises(TimeoutError):
            async with runtime.timeout(0):
                await anext(iterator)
    assert len(iterator._ends.getters) == 0
    future.set_result(1)
    assert await anext(iterator) is future


async def test_many_steps_that_give_up_in_any_order_leave_the_others() -> None:
    futures = [runtime.get_running_loop().create_future() for _ in range(100)]
    iterator = as_completed(futures)
    steps = [runtime.create_task(iterator.__anext__()) for _ in futures]
    await wait_all_tasks_blocked()
    for step in steps[1::2]:
        step.cancel()
    await runtime.wait(steps[1::2])
    assert len(iterator._ends.getters) == 50
    for future in futures[:50]:
        future.set_result(None)
    assert await runtime.gather(*steps[::2]) == futures[:50]
    assert len(iterator._ends.getters) == 0


async def test_one_future_is_not_several() -> None:
    task = runtime.create_task(give(1))
    coro = give(2)
    for wrong in (task, coro):
        with pytest.raises(TypeError):
            as_completed(wrong)  # type: ignore[arg-type]
    coro.close()
    await task
    with pytest.raises(TypeError):
        as_completed([5])  # type: ignore[arg-type]


def test_it_needs_a_running_loop() -> None:
    coro = give(1)
    with pytest.raises(RuntimeError, match="no running event loop"):
        as_completed([coro])
    coro.close()
