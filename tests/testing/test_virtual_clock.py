"""The virtual clock: the conditions, the lengths and the order of its jumps."""

from __future__ import annotations

import asyncio
import contextlib
import math
import socket
import threading
import time
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import runtime
from runtime.testing import VirtualClock, run

HOUR = 3600.0


async def sleeps() -> None:
    await runtime.sleep(HOUR)


async def sleeps_with_asyncio() -> None:
    await asyncio.sleep(HOUR)


async def is_called_later() -> None:
    called = runtime.Event()
    runtime.get_running_loop().call_later(HOUR, called.set)
    await called.wait()


async def is_called_at() -> None:
    called = runtime.Event()
    loop = runtime.get_running_loop()
    loop.call_at(loop.time() + HOUR, called.set)
    await called.wait()


async def times_out() -> None:
    with pytest.raises(TimeoutError):
        async with runtime.timeout(HOUR):
            await runtime.Event().wait()


async def times_out_at() -> None:
    with pytest.raises(TimeoutError):
        async with runtime.timeout_at(runtime.get_running_loop().time() + HOUR):
            await runtime.sleep(2 * HOUR)


async def waits_for() -> None:
    with pytest.raises(TimeoutError):
        await runtime.wait_for(runtime.Queue[int]().get(), HOUR)


async def waits_for_with_asyncio() -> None:
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.sleep(2 * HOUR), HOUR)


async def waits() -> None:
    _, pending = await runtime.wait([runtime.create_task(runtime.sleep(2 * HOUR))], timeout=HOUR)
    assert len(pending) == 1


async def times_out_with_asyncio() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(HOUR):
            await asyncio.Event().wait()


async def suspends() -> None:
    loop = runtime.get_running_loop()
    return await runtime.suspend(lambda resume: loop.call_later(HOUR, resume, None).cancel)


WAITS = [
    sleeps,
    sleeps_with_asyncio,
    is_called_later,
    is_called_at,
    times_out,
    times_out_at,
    waits_for,
    waits_for_with_asyncio,
    waits,
    times_out_with_asyncio,
    suspends,
]


@pytest.mark.parametrize("wait", WAITS)
@pytest.mark.parametrize("debug", [False, True])
def test_an_hour_takes_no_time(wait: Callable[[], Awaitable[None]], debug: bool) -> None:
    async def main() -> float:
        await wait()
        return runtime.get_running_loop().time()

    started = time.monotonic()
    assert run(main(), debug=debug) == HOUR
    assert time.monotonic() - started < HOUR


def test_a_year_of_seconds_is_exact() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        for seconds in (0.1, 1e-9, 365 * 86400.0, 0.1 + 0.2, 1e12 / 3):
            deadline = loop.time() + seconds
            await runtime.sleep(seconds)
            assert loop.time() == deadline

    run(main())


def test_time_stands_still_while_something_can_run() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        timer = loop.call_later(1e-9, pytest.fail, "not yet")
        for _ in range(1000):
            await runtime.sleep(0)
        queue: runtime.Queue[int] = runtime.Queue(1)

        async def put() -> None:
            for number in range(100):
                await queue.put(number)

        task = runtime.create_task(put())
        assert [await queue.get() for _ in range(100)] == list(range(100))
        await task
        timer.cancel()
        assert loop.time() == 0

    run(main())


def test_equal_deadlines_come_in_the_order_in_which_they_were_set() -> None:
    async def main() -> list[int]:
        order: list[int] = []

        async def sleep(number: int, *pauses: float) -> None:
            for pause in pauses:
                await runtime.sleep(pause)
            order.append(number)

        async with runtime.TaskGroup() as group:
            group.create_task(sleep(1, 5, 5))
            group.create_task(sleep(2, 10))
            group.create_task(sleep(3, 4, 6))
            group.create_task(sleep(4, 9.5))
        return order

    # The timer that is due at ten was set at zero by 2, at four by 3, and at five by 1.
    assert run(main()) == [4, 2, 3, 1]


def test_the_clock_can_be_kept_and_begins_where_one_says() -> None:
    clock = VirtualClock(1000.0)
    assert clock() == 1000
    run(runtime.sleep(5), clock=clock)
    assert clock() == 1005
    run(runtime.sleep(5), clock=clock)
    assert clock() == 1010
    assert "1010.0" in repr(clock)
    assert "refuse" in repr(clock)


def test_the_loop_can_be_created_by_public_means() -> None:
    clock = VirtualClock()
    for loop in (runtime.Loop(clock.selector(), clock), clock.new_event_loop()):
        loop.run_until_complete(runtime.sleep(HOUR))
        loop.close()
    assert clock() == 2 * HOUR
    with asyncio.Runner(loop_factory=clock.new_event_loop) as runner:
        runner.run(asyncio.sleep(HOUR))
    runtime.run(runtime.sleep(HOUR), loop_factory=clock.new_event_loop)
    assert clock() == 4 * HOUR


def test_until_idle() -> None:
    log: list[float] = []

    async def main() -> str:
        loop = runtime.get_running_loop()
        for delay in (2, 1, 3):
            loop.call_later(delay, lambda: log.append(loop.time()))
        return "done"

    assert run(main(), until="idle") == "done"
    assert log == [1, 2, 3]


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_a_deadlock_is_reported_without_debug_mode(clock: Any) -> None:
    async def main() -> None:
        await runtime.sleep(0.001)
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError, match="Event"):
        run(main(), clock=clock)


def test_the_real_clock_takes_its_time() -> None:
    async def main() -> float:
        started = time.monotonic()
        await runtime.sleep(0.01)
        return time.monotonic() - started

    assert run(main(), clock="real") >= 0.009


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clock": "fast"}, "virtual"),
        ({"real_io": "hope"}, "refuse"),
        ({"patience": -1.0}, "patience"),
        ({"patience": float("nan")}, "patience"),
        ({"clock": "real", "real_io": "wait"}, "virtual clock"),
        ({"clock": VirtualClock(), "patience": 1.0}, "virtual clock"),
    ],
)
def test_bad_arguments_are_refused(options: dict[str, Any], message: str) -> None:
    coro: Any = runtime.sleep(0)
    with pytest.raises(ValueError, match=message):
        run(coro, **options)
    assert coro.cr_frame is None


@pytest.mark.parametrize("patience", [Decimal("0.01"), Fraction(1, 100), 1e7, 10**9, math.inf])
def test_any_real_number_is_a_patience(patience: Any) -> None:
    async def main() -> bytes:
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            loop = runtime.get_running_loop()
            with contextlib.suppress(TimeoutError):
                if patience < 1:
                    async with asyncio.timeout(1):
                        await loop.sock_recv(one, 1)
            threading.Timer(0.01, two.send, (b"1",)).start()
            async with asyncio.timeout(None if patience < 1 else 1):
                return await loop.sock_recv(one, 1)

    assert run(main(), real_io="wait", patience=patience) == b"1"


def test_a_patience_that_is_no_number_is_refused() -> None:
    with pytest.raises(TypeError, match="patience"):
        VirtualClock(patience="1")  # type: ignore[arg-type]


# -- Threads ---------------------------------------------------------------------------------------


def test_time_stands_still_while_a_thread_works() -> None:
    async def main() -> list[str]:
        loop = runtime.get_running_loop()
        order: list[str] = []
        release = threading.Event()

        def work() -> str:
            order.append("works")
            release.wait(60)
            return "worked"

        async def sleep() -> None:
            await runtime.sleep(HOUR)
            order.append("slept")

        task = runtime.create_task(sleep())
        other = threading.Timer(0.05, release.set)
        other.start()
        order.append(await runtime.to_thread(work))
        assert loop.time() == 0
        await task
        assert loop.time() == HOUR
        return order

    assert run(main()) == ["works", "worked", "slept"]


def test_time_stands_still_while_a_thread_works_whose_caller_was_cancelled() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        release, begun = threading.Event(), threading.Event()

        def work() -> None:
            begun.set()
            release.wait(60)

        task = runtime.create_task(runtime.to_thread(work))
        await runtime.to_thread(begun.wait)
        task.cancel()
        await runtime.wait([task])
        threading.Timer(0.02, release.set).start()
        moment = loop.time()
        await runtime.sleep(HOUR)
        assert release.is_set()
        assert loop.time() == moment + HOUR

    run(main())


def test_the_end_of_a_run_waits_for_threads() -> None:
    ended: list[bool] = []

    async def main() -> None:
        def work() -> None:
            begun.set()
            time.sleep(0.02)
            ended.append(True)

        begun = threading.Event()
        runtime.get_running_loop().run_in_executor(None, work)
        await runtime.to_thread(begun.wait)

    run(main())
    assert ended == [True]


def test_a_thread_of_the_program_s_own_can_wake_the_loop() -> None:
    async def main() -> str:
        loop = runtime.get_running_loop()
        future: runtime.Future[str] = loop.create_future()
        thread = threading.Timer(0.02, loop.call_soon_threadsafe, (future.set_result, "woken"))
        thread.start()
        return await future

    assert run(main()) == "woken"
