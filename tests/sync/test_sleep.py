from __future__ import annotations

import inspect
from typing import Any

import pytest

import runtime
import runtime.testing
from runtime.sync.sleep import sleep
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import assert_cancelled


async def test_sleep_returns_its_result_and_none_by_default() -> None:
    assert await sleep(0, "a") == "a"
    assert await sleep(0.001, "b") == "b"
    nothing: object = await sleep(0)  # type: ignore[func-returns-value]
    assert nothing is None


def test_sleepers_wake_in_the_order_of_their_deadlines() -> None:
    now = 0.0

    async def main() -> None:
        nonlocal now
        woken: list[tuple[float, float]] = []

        async def nap(delay: float) -> None:
            await sleep(delay)
            woken.append((now, delay))

        napping = runtime.gather(nap(30), nap(10), nap(20), nap(10))
        await wait_all_tasks_blocked()
        for moment in (9.9, 10.0, 19.9, 20.0, 35.0):
            now = moment
            await wait_all_tasks_blocked()
        await napping
        assert woken == [(10.0, 10), (10.0, 10), (20.0, 20), (35.0, 30)]

    def loop_factory() -> runtime.Loop:
        return runtime.Loop(clock=lambda: now)

    with runtime.Runner(loop_factory=loop_factory) as runner:
        runner.run(main())


@pytest.mark.parametrize("delay", [0, -1, -0.5, float("-inf")])
async def test_zero_delay_lets_every_task_run_exactly_once(delay: float) -> None:
    order: list[str] = []

    async def work(name: str) -> None:
        for step in range(3):
            order.append(f"{name}{step}")
            await sleep(delay)

    await runtime.gather(work("a"), work("b"))
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


async def test_another_task_can_wait_for_the_same_sleep() -> None:
    napping = runtime.create_task(sleep(0.001, "a"))
    await sleep(0)
    coro: Any = napping.get_coro()
    future = coro.cr_await
    assert await future is None
    assert await future is None
    assert await napping == "a"


async def test_every_task_that_waits_for_a_cancelled_sleep_is_cancelled() -> None:
    napping = runtime.create_task(sleep(100))
    await sleep(0)
    coro: Any = napping.get_coro()
    future = coro.cr_await

    async def wait() -> None:
        await future

    waiting = runtime.create_task(wait())
    await sleep(0)
    napping.cancel("enough")
    for task in (napping, waiting):
        with pytest.raises(runtime.CancelledError, match="enough"):
            await task


async def test_a_sleep_that_other_code_resumes_is_not_done() -> None:
    napping = sleep(100)
    napping.send(None)
    with pytest.raises(RuntimeError, match="is not done: await wasn't used with future"):
        napping.send(None)
    task = runtime.create_task(sleep(100))
    await sleep(0)
    coro: Any = task.get_coro()
    with pytest.raises(RuntimeError, match="is not done: await wasn't used with future"):
        coro.send(None)
    task.cancel()
    with pytest.raises((runtime.CancelledError, RuntimeError)):
        await task


async def test_not_a_number_is_refused() -> None:
    with pytest.raises(ValueError, match="NaN|nan"):
        await sleep(float("nan"))


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    loop = runtime.get_running_loop()
    before = loop._timers.size()
    task = runtime.create_task(sleep(3600))
    await wait_all_tasks_blocked()
    task.cancel("enough")
    with pytest.raises(runtime.CancelledError, match="enough"):
        await task
    assert loop._timers.size() == before


async def test_a_sleep_that_was_cancelled_before_it_began_does_not_begin() -> None:
    task = runtime.create_task(sleep(3600))
    task.cancel()
    await assert_cancelled(task)


async def test_sleep_is_a_real_coroutine() -> None:
    coro = sleep(0)
    assert inspect.iscoroutine(coro)
    assert inspect.iscoroutinefunction(sleep)
    await coro


def test_sleeping_forever_ends_with_a_cancellation() -> None:
    async def main() -> bool:
        task = runtime.create_task(runtime.sleep_forever())
        await runtime.sleep(100_000_000)
        assert not task.done()
        task.cancel()
        await runtime.wait([task])
        return task.cancelled()

    assert runtime.testing.run(main())
