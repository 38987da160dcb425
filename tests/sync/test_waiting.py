from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from runtime.sync.waiting import ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION, wait, wait_for
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import assert_cancelled, fail, give, never, turns


def test_the_constants_are_identical_to_asyncio_s() -> None:
    assert ALL_COMPLETED == asyncio.ALL_COMPLETED
    assert FIRST_COMPLETED == asyncio.FIRST_COMPLETED
    assert FIRST_EXCEPTION == asyncio.FIRST_EXCEPTION


async def test_wait_for_all() -> None:
    tasks = [runtime.create_task(give(number)) for number in range(3)]
    done, pending = await wait(tasks)
    assert (done, pending) == (set(tasks), set())
    assert sorted(task.result() for task in done) == [0, 1, 2]


async def test_wait_for_the_first() -> None:
    quick, slow = runtime.create_task(give(1)), runtime.create_task(never())
    assert await wait([quick, slow], return_when=FIRST_COMPLETED) == ({quick}, {slow})
    slow.cancel()
    await assert_cancelled(slow)


async def test_wait_for_the_first_exception() -> None:
    quick = runtime.create_task(give(1))
    cancelled = runtime.create_task(never())
    failing = runtime.create_task(fail(LookupError("failed"), 5))
    slow = runtime.create_task(never())
    cancelled.cancel()
    done, pending = await wait([quick, cancelled, failing, slow], return_when=FIRST_EXCEPTION)
    assert (done, pending) == ({quick, cancelled, failing}, {slow})
    slow.cancel()
    await assert_cancelled(slow)
    assert isinstance(failing.exception(), LookupError)


async def test_wait_for_the_first_exception_without_any_waits_for_all() -> None:
    tasks = {runtime.create_task(give(number)) for number in range(3)}
    assert await wait(tasks, return_when=FIRST_EXCEPTION) == (tasks, set())


@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
async def test_wait_for_a_done_future(return_when: str) -> None:
    done = runtime.get_running_loop().create_future()
    done.set_exception(LookupError())
    pending = runtime.get_running_loop().create_future()
    futures = [done] if return_when == ALL_COMPLETED else [done, pending]
    assert await wait(futures, return_when=return_when) == ({done}, set(futures) - {done})
    assert done.exception() is not None


@pytest.mark.parametrize("return_when", [ALL_COMPLETED, FIRST_COMPLETED, FIRST_EXCEPTION])
async def test_wait_for_done_futures_lets_other_tasks_run(return_when: str) -> None:
    done = runtime.get_running_loop().create_future()
    done.set_exception(LookupError())
    task = runtime.create_task(give(1, 5))
    for _ in range(10):
        await wait([done], return_when=return_when)
    assert task.done()
    assert done.exception() is not None


async def test_a_wait_for_a_done_future_can_be_cancelled() -> None:
    done = runtime.get_running_loop().create_future()
    done.set_result(None)

    async def wait_again_and_again() -> None:
        while True:
            await wait([done])

    task = runtime.create_task(wait_again_and_again())
    await turns(3)
    task.cancel()
    await assert_cancelled(task)


async def test_wait_gives_up_after_a_timeout_and_raises_nothing() -> None:
    loop = runtime.get_running_loop()
    quick, slow = runtime.create_task(give(1)), runtime.create_task(never())
    await quick
    assert await wait([quick, slow], timeout=0.01) == ({quick}, {slow})
    assert not slow.cancelling()
    assert await wait([slow], timeout=0) == (set(), {slow})
    slow.cancel()
    await assert_cancelled(slow)
    assert await wait([slow], timeout=3600) == ({slow}, set())
    assert not [timed for timed in loop._timers.pending() if timed._due() > loop.time() + 1000]


async def test_wait_takes_any_iterable_and_futures_of_asyncio() -> None:
    foreign: asyncio.Future[int] = asyncio.Future()
    task = runtime.create_task(give(1))

    def futures() -> Iterator[Any]:
        yield foreign
        yield task

    foreign.get_loop().call_soon(foreign.set_result, 2)
    assert await wait(futures()) == ({foreign, task}, set())


async def test_wait_leaves_no_callback_behind() -> None:
    future = runtime.get_running_loop().create_future()
    for _ in range(3):
        await wait([future], timeout=0)
    assert "cb=" not in repr(future)


async def test_a_cancelled_wait_leaves_the_tasks_alone() -> None:
    task = runtime.create_task(give(1, 20))
    waiting = runtime.create_task(wait([task], timeout=3600))
    await turns(2)
    waiting.cancel()
    await assert_cancelled(waiting)
    assert await task == 1


async def test_wait_refuses_other_objects() -> None:
    coro = give(1)
    task = runtime.create_task(give(2))
    for wrong in ([coro], [task, coro], coro, task):
        with pytest.raises(TypeError):
            await wait(wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await wait([5])  # type: ignore[type-var]
    with pytest.raises(ValueError, match="empty"):
        await wait([])
    with pytest.raises(ValueError, match="SOMETIMES"):
        await wait([task], return_when="SOMETIMES")
    coro.close()
    await task


async def test_wait_for_gives_the_result_or_raises() -> None:
    assert await wait_for(give(1), 3600) == 1
    assert await wait_for(give(1), None) == 1
    assert await wait_for(runtime.create_task(give(2)), 3600) == 2
    with pytest.raises(LookupError):
        await wait_for(fail(LookupError("failed")), 3600)


async def test_wait_for_cancels_after_the_timeout() -> None:
    cleaned = []

    async def slow() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)
            cleaned.append(1)

    with pytest.raises(TimeoutError):
        await wait_for(slow(), 0.001)
    task = runtime.create_task(slow())
    with pytest.raises(TimeoutError):
        await wait_for(task, 0.001)
    assert task.cancelled()
    assert cleaned == [1, 1]
    current = runtime.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_wait_for_returns_the_result_of_a_task_that_swallows_the_cancellation() -> None:
    async def stubborn() -> str:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            return "anyway"
        raise AssertionError("unreachable")

    assert await wait_for(runtime.create_task(stubborn()), 0.001) == "anyway"
    assert await wait_for(stubborn(), 0.001) == "anyway"


async def test_wait_for_raises_an_exception_of_the_clean_up() -> None:
    async def breaks() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise LookupError("in clean-up")

    for timeout in (0.001, 0):
        task = runtime.create_task(breaks())
        await wait_all_tasks_blocked()
        with pytest.raises(LookupError, match="in clean-up"):
            await wait_for(task, timeout)


@pytest.mark.parametrize("timeout", [0, -1])
async def test_wait_for_with_zero_timeout_accepts_only_a_done_future(timeout: float) -> None:
    started = []

    async def work() -> None:
        started.append(1)

    with pytest.raises(TimeoutError) as caught:
        await wait_for(work(), timeout)
    assert isinstance(caught.value.__cause__, runtime.CancelledError)
    assert started == []
    done = runtime.get_running_loop().create_future()
    done.set_result(1)
    assert await wait_for(done, timeout) == 1
    task = runtime.create_task(never())
    await wait_all_tasks_blocked()
    with pytest.raises(TimeoutError):
        await wait_for(task, timeout)
    assert task.cancelled()


async def test_cancelling_wait_for_cancels_the_awaited_task() -> None:
    for timeout in (3600, None, 0):
        task = runtime.create_task(never())
        waiting: runtime.Task[Any] = runtime.create_task(wait_for(task, timeout))
        await turns(1)
        waiting.cancel()
        await assert_cancelled(waiting)
        assert task.cancelled() or task.cancelling()
        await assert_cancelled(task)
