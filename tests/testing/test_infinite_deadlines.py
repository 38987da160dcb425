"""Infinite deadlines, which never come, on the virtual clock and on the real one."""

from __future__ import annotations

import asyncio
import math
import socket
from collections.abc import Callable, Coroutine
from decimal import Decimal
from typing import Any

import pytest

import runtime
from runtime.testing import VirtualClock, run

INFINITE: list[Any] = [math.inf, Decimal("inf"), 1e308 * 10]

Wait = Callable[[Any], Coroutine[Any, Any, Any]]


async def never() -> None:
    await runtime.get_running_loop().create_future()


async def timeout(delay: Any) -> None:
    async with runtime.timeout(delay) as limit:
        assert limit.when() == math.inf
        await never()


async def timeout_at(when: Any) -> None:
    async with runtime.timeout_at(when):
        await never()


async def reschedule(when: Any) -> None:
    async with runtime.timeout(1) as limit:
        limit.reschedule(when)
        await never()


async def timeout_of_asyncio(delay: Any) -> None:
    async with asyncio.timeout(float(delay)):
        await never()


async def wait_for(delay: Any) -> None:
    await runtime.wait_for(never(), delay)


async def wait_for_of_asyncio(delay: Any) -> None:
    await asyncio.wait_for(never(), float(delay))


async def wait(delay: Any) -> None:
    task = runtime.create_task(never())
    try:
        await runtime.wait([task], timeout=delay)
    finally:
        task.cancel()


async def as_completed(delay: Any) -> None:
    async for _ in runtime.as_completed([never()], timeout=delay):
        pass


async def call_later(delay: Any) -> None:
    future = runtime.get_running_loop().create_future()
    runtime.get_running_loop().call_later(delay, future.set_result, None)
    await future


async def call_at(when: Any) -> None:
    future = runtime.get_running_loop().create_future()
    runtime.get_running_loop().call_at(when, future.set_result, None)
    await future


WAITS: list[Wait] = [
    runtime.sleep,
    asyncio.sleep,
    timeout,
    timeout_at,
    reschedule,
    timeout_of_asyncio,
    wait_for,
    wait_for_of_asyncio,
    wait,
    as_completed,
    call_later,
    call_at,
]


@pytest.mark.parametrize("infinite", INFINITE, ids=repr)
@pytest.mark.parametrize("wait", WAITS)
def test_it_outlasts_every_finite_one(wait: Wait, infinite: Any) -> None:
    async def main() -> float:
        loop = runtime.get_running_loop()
        task = runtime.create_task(wait(infinite))
        await runtime.sleep(1e12)
        assert not task.done()
        before = loop.time()
        task.cancel()
        await runtime.wait([task])
        assert task.cancelled()
        assert loop.time() == before
        return loop.time()

    assert math.isfinite(run(main()))


@pytest.mark.parametrize("wait", WAITS)
def test_with_nothing_else_it_is_a_deadlock(wait: Wait) -> None:
    clock = VirtualClock()
    with pytest.raises(runtime.DeadlockError):
        run(wait(math.inf), clock=clock)
    assert math.isfinite(clock())


@pytest.mark.parametrize("wait", WAITS)
def test_it_keeps_no_run_going(wait: Wait) -> None:
    async def main() -> None:
        runtime.create_task(wait(math.inf))

    runtime.run(main(), until="idle")


NO_COROUTINE_LEFT = [
    each for each in WAITS if each not in (wait_for, wait_for_of_asyncio, as_completed)
]


@pytest.mark.parametrize("wait", NO_COROUTINE_LEFT)
def test_not_a_number_is_refused(wait: Wait) -> None:
    with pytest.raises(ValueError, match="NaN"):
        run(wait(math.nan))


def test_a_cancelled_handle_counts_nowhere() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        handles = [loop.call_later(math.inf, print) for _ in range(1000)]
        assert loop._timers.size() == 0
        assert handles[0].when() == math.inf
        assert "when=inf" in repr(handles[0])
        for handle in handles:
            handle.cancel()
            assert handle.cancelled()
        called = loop.create_future()
        loop.call_later(1, called.set_result, None)
        loop.call_later(2, print).cancel()
        await called

    run(main())


@pytest.mark.parametrize("start", [math.inf, -math.inf, math.nan])
def test_a_clock_begins_at_a_finite_time(start: float) -> None:
    with pytest.raises(ValueError, match="start"):
        VirtualClock(start)


@pytest.mark.parametrize("patience", [math.nan, -math.inf])
def test_patience_is_no_nan(patience: float) -> None:
    with pytest.raises(ValueError, match="patience"):
        VirtualClock(patience=patience)


def test_infinite_patience_waits_for_descriptors() -> None:
    async def main() -> bytes:
        loop = runtime.get_running_loop()
        reader, writer = await runtime.open_connection(sock=one)
        loop.call_later(3600, print)
        with other:
            other.send(b"x")
            found = await reader.readexactly(1)
        writer.close()
        await writer.wait_closed()
        return found

    one, other = socket.socketpair()
    assert run(main(), real_io="wait", patience=math.inf) == b"x"


async def test_a_slow_callback_watch_of_infinite_length() -> None:
    loop = runtime.get_running_loop()
    loop.watch_slow_callbacks(math.inf)
    await runtime.sleep(0)
    loop.watch_slow_callbacks(None)
