"""``CapacityLimiter``, and limits of threads."""

from __future__ import annotations

import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from fractions import Fraction
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled
from tests.sync.tools import Log, assert_cancelled, turns


async def test_a_block_borrows_a_token() -> None:
    limiter = runtime.CapacityLimiter(2)
    async with limiter:
        assert (limiter.borrowed, limiter.available, limiter.total) == (1, 1, 2)
        assert limiter.statistics() == (1, 2, (runtime.current_task(),), 0)
    assert limiter.borrowed == 0
    assert repr(limiter) == "<CapacityLimiter borrowed=0 total=2>"


async def test_no_more_than_the_total_at_a_time() -> None:
    limiter = runtime.CapacityLimiter(3)
    most = 0

    async def work() -> None:
        nonlocal most
        async with limiter:
            most = max(most, limiter.borrowed)
            await turns(2)

    await runtime.gather(*[work() for _ in range(10)])
    assert most == 3


async def test_totals_beyond_floats() -> None:
    for total in (10**400, Fraction(10**400)):
        limiter = runtime.CapacityLimiter(total)
        async with limiter:
            assert limiter.available > 10**300
        with pytest.raises(ValueError, match="total must not be negative"):
            limiter.total = -total


async def test_tasks_get_their_tokens_in_order() -> None:
    limiter = runtime.CapacityLimiter(1)
    log = Log()

    async def work(number: int) -> None:
        async with limiter:
            log.add(number)

    async with limiter:
        tasks = [runtime.create_task(work(number)) for number in range(3)]
        await wait_all_tasks_blocked()
        assert limiter.statistics().waiting == 3
    # The next task in line has the token already.
    late = runtime.create_task(work(3))
    await runtime.gather(*tasks, late)
    assert log == ["0", "1", "2", "3"]


async def test_misuse() -> None:
    limiter = runtime.CapacityLimiter(2)
    with pytest.raises(RuntimeError, match="has not borrowed a token of <CapacityLimiter"):
        limiter.release()
    async with limiter:
        with pytest.raises(RuntimeError, match="borrows a second token"):
            await limiter.acquire()
    await limiter.acquire("a name")
    limiter.release("a name")
    plain: Any = limiter
    with pytest.raises(TypeError, match="write 'async with'"):
        plain.__enter__()
    wrong: Any
    for wrong in ("1", None, []):
        with pytest.raises(TypeError, match="total must be a number of tokens"):
            runtime.CapacityLimiter(wrong)
    for wrong in (-1, math.nan, 1.5, -math.inf):
        with pytest.raises(ValueError, match="total must"):
            runtime.CapacityLimiter(wrong)
    assert runtime.CapacityLimiter(math.inf).available == math.inf
    assert runtime.CapacityLimiter(2.0).total == 2


async def test_the_total_is_changed() -> None:
    limiter = runtime.CapacityLimiter(0)
    tasks = [runtime.create_task(limiter.acquire(number)) for number in range(3)]
    await wait_all_tasks_blocked()
    assert limiter.statistics().borrowers == ()
    limiter.total = 2
    await wait_all_tasks_blocked()
    assert limiter.statistics().borrowers == (0, 1)
    limiter.total = 1
    assert limiter.available == 0
    limiter.release(0)
    await wait_all_tasks_blocked()
    assert limiter.statistics() == (1, 1, (1,), 1)
    limiter.release(1)
    await runtime.gather(*tasks)
    assert limiter.statistics().borrowers == (2,)


async def test_a_task_that_is_cancelled_has_no_token() -> None:
    limiter = runtime.CapacityLimiter(1)
    await limiter.acquire()
    waiting = runtime.create_task(limiter.acquire("first"))
    woken = runtime.create_task(limiter.acquire("second"))
    await wait_all_tasks_blocked()
    waiting.cancel()
    await assert_cancelled(waiting)
    limiter.release()
    woken.cancel()
    await assert_cancelled(woken)
    assert limiter.borrowed == 0


async def test_a_token_that_was_given_back_before_its_task_is_cancelled() -> None:
    limiter = runtime.CapacityLimiter(1)
    await limiter.acquire("first")
    woken = runtime.create_task(limiter.acquire("second"))
    await wait_all_tasks_blocked()
    limiter.release("first")
    limiter.release("second")
    woken.cancel()
    await assert_cancelled(woken)
    assert limiter.statistics() == (0, 1, (), 0)


async def test_a_borrower_that_waits_is_compared_with_few_others() -> None:
    """The time that a call takes must not grow with the number of tasks that wait."""
    compared = 0

    class Borrower:
        def __hash__(self) -> int:
            return id(self) % (1 << 60)

        def __eq__(self, other: object) -> bool:
            nonlocal compared
            compared += 1
            return self is other

    limiter = runtime.CapacityLimiter(0)
    tasks = [runtime.create_task(limiter.acquire(Borrower())) for _ in range(100)]
    await wait_all_tasks_blocked()
    limiter.total = 100
    await runtime.gather(*tasks)
    assert compared < 100
    late = [runtime.create_task(limiter.acquire(Borrower())) for _ in range(100)]
    await wait_all_tasks_blocked()
    for task in reversed(late):
        task.cancel()
    await runtime.wait(late)
    assert compared < 200
    assert limiter.statistics().waiting == 0


def test_cancelled_anywhere() -> None:
    async def scenario(point: CancelPoint) -> None:
        limiter = runtime.CapacityLimiter(1)

        async def work() -> None:
            async with limiter:
                await runtime.sleep(0)

        await settled(runtime.create_task(work()), point.start(work()), runtime.create_task(work()))
        assert limiter.borrowed == 0

    assert cancel_everywhere(scenario) >= 2


# -- Threads ---------------------------------------------------------------------------------------


async def test_calls_in_threads_are_limited() -> None:
    limiter = runtime.CapacityLimiter(1)
    running, most = 0, 0

    def work(number: int) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        running -= 1
        return number

    calls = [runtime.to_thread(work, number, limiter=limiter) for number in range(20)]
    assert await runtime.gather(*calls) == [*range(20)]
    assert most == 1
    assert limiter.borrowed == 0


MOST_THREADS = 32 + (os.cpu_count() or 1)
"""A number of calls that is larger than the number of threads of any default executor."""


async def meet(limiter: runtime.CapacityLimiter | None, number: int) -> None:
    """Return when ``number`` calls in threads run at the same time."""
    barrier = threading.Barrier(number)
    arguments: Any = {} if limiter is None else {"limiter": limiter}
    await runtime.gather(*[runtime.to_thread(barrier.wait, 60, **arguments) for _ in range(number)])


async def test_the_limiter_alone_limits_the_calls_in_threads() -> None:
    await meet(runtime.CapacityLimiter(MOST_THREADS), MOST_THREADS)
    await meet(runtime.CapacityLimiter(math.inf), MOST_THREADS)


async def test_a_total_of_the_default_limiter_replaces_the_limit_of_the_executor() -> None:
    limiter = runtime.current_default_thread_limiter()
    assert await runtime.to_thread(lambda: threading.current_thread().name) == "asyncio_0"
    limiter.total = MOST_THREADS
    await meet(None, MOST_THREADS)


async def test_limited_calls_run_in_an_executor_that_the_program_has_set() -> None:
    runtime.get_running_loop().set_default_executor(ThreadPoolExecutor(2, "of_the_program"))
    limiter = runtime.CapacityLimiter(3)
    await meet(limiter, 2)
    running, most = 0, 0
    lock = threading.Lock()

    def work() -> str:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        time.sleep(0.001)
        with lock:
            running -= 1
        return threading.current_thread().name

    names = await runtime.gather(*[runtime.to_thread(work, limiter=limiter) for _ in range(9)])
    assert most <= 2
    assert set(names) <= {"of_the_program_0", "of_the_program_1"}


def test_the_threads_of_limited_calls_end_with_the_run() -> None:
    async def main() -> threading.Thread:
        limiter = runtime.CapacityLimiter(1)
        return await runtime.to_thread(threading.current_thread, limiter=limiter)

    assert not runtime.run(main()).is_alive()


async def test_a_call_that_goes_on_keeps_its_token() -> None:
    limiter = runtime.CapacityLimiter(1)
    begun, go_on = threading.Event(), threading.Event()

    def block() -> None:
        begun.set()
        go_on.wait()

    task = runtime.create_task(runtime.to_thread(block, limiter=limiter))
    await runtime.to_thread(begun.wait)
    task.cancel()
    await assert_cancelled(task)
    assert limiter.borrowed == 1
    go_on.set()
    await limiter.acquire("next")
    assert limiter.statistics().borrowers == ("next",)


async def test_a_call_that_fails_gives_its_token_back() -> None:
    limiter = runtime.CapacityLimiter(1)

    def fail() -> None:
        raise LookupError

    with pytest.raises(LookupError):
        await runtime.to_thread(fail, limiter=limiter)
    assert limiter.borrowed == 0


async def test_a_call_that_cannot_begin_gives_its_token_back() -> None:
    limiter = runtime.CapacityLimiter(1)
    loop = runtime.get_running_loop()
    await loop.shutdown_default_executor()
    with pytest.raises(RuntimeError):
        await runtime.to_thread(print, limiter=limiter)
    assert limiter.borrowed == 0


async def test_the_default_limiter() -> None:
    limiter = runtime.current_default_thread_limiter()
    assert limiter is runtime.current_default_thread_limiter()
    assert limiter.total == math.inf
    limiter.total = 0
    task = runtime.create_task(runtime.to_thread(sum, [1, 2]))
    await turns()
    assert limiter.statistics().waiting == 1
    limiter.total = 1
    assert await task == 3
    assert limiter.borrowed == 0


async def test_a_limiter_of_the_functions_own() -> None:
    def work(*, limiter: int) -> int:
        return limiter

    assert await runtime.to_thread(work, limiter=7) == 7
