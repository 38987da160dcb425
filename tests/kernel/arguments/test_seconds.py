"""Delays and timeouts in seconds: any real number is accepted, and nothing else, in both builds."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from decimal import Decimal
from fractions import Fraction
from typing import Any

import pytest

import runtime
from tests.sync.tools import never


class Index:
    def __index__(self) -> int:
        return 0


class Real(float):
    pass


NUMBERS: list[Any] = [0, False, 0.001, Decimal("0.001"), Fraction(1, 1000), Real(0.001), Index()]
NO_NUMBERS: list[Any] = ["0.1", b"1", [1], object(), 1j]
BEYOND_FLOATS: list[Any] = [10**400, -(10**400), 10**5000, Fraction(10**400)]
NANS: list[Any] = [float("nan"), Decimal("nan")]


def loop() -> runtime.Loop:
    return runtime.get_running_loop()


async def call_later(delay: Any) -> None:
    called = loop().create_future()
    loop().call_later(delay, called.set_result, None)
    await called


async def call_at(delay: Any) -> None:
    called = loop().create_future()
    handle = loop().call_at(delay, called.set_result, None)
    assert type(handle.when()) is float
    await called


async def timeout(delay: Any) -> None:
    with pytest.raises(TimeoutError):
        async with runtime.timeout(delay):
            await never()


async def timeout_at(when: Any) -> None:
    with pytest.raises(TimeoutError):
        async with runtime.timeout_at(when):
            await never()


async def reschedule(when: Any) -> None:
    with pytest.raises(TimeoutError):
        async with runtime.timeout(None) as limit:
            limit.reschedule(when)
            await never()


async def move_on_after(delay: Any) -> None:
    with runtime.move_on_after(delay) as scope:
        await never()
    assert scope.cancelled_caught


async def move_on_at(when: Any) -> None:
    with runtime.move_on_at(when):
        await never()


async def fail_after(delay: Any) -> None:
    with pytest.raises(TimeoutError), runtime.fail_after(delay):
        await never()


async def fail_at(when: Any) -> None:
    with pytest.raises(TimeoutError), runtime.fail_at(when):
        await never()


async def scope(deadline: Any) -> None:
    with runtime.CancelScope(deadline=deadline):
        await never()


async def scope_deadline(deadline: Any) -> None:
    with runtime.CancelScope() as scope:
        scope.deadline = deadline
        await never()


async def wait_for(delay: Any) -> None:
    with pytest.raises(TimeoutError):
        await runtime.wait_for(runtime.create_task(never()), delay)


async def wait(delay: Any) -> None:
    task = runtime.create_task(never())
    try:
        done, pending = await runtime.wait([task], timeout=delay)
        assert (done, pending) == (set(), {task})
    finally:
        task.cancel()


async def as_completed(delay: Any) -> None:
    task = runtime.create_task(never())
    try:
        with pytest.raises(TimeoutError):
            async for _ in runtime.as_completed([task], timeout=delay):
                pass
    finally:
        task.cancel()


async def shut_server_down(delay: Any) -> None:
    async def handle(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await runtime.start_server(handle, "127.0.0.1", 0)
    reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
    try:
        await server.shutdown(delay)
        assert await reader.read() == b""
    finally:
        writer.close()
        server.close()
        await server.wait_closed()


async def slow_callback_duration(duration: Any) -> None:
    loop().slow_callback_duration = duration
    assert type(loop().slow_callback_duration) is float


async def sleep(delay: Any) -> None:
    assert await runtime.sleep(delay, "result") == "result"


TAKERS: list[Callable[[Any], Awaitable[None]]] = [
    sleep,
    call_later,
    call_at,
    timeout,
    timeout_at,
    reschedule,
    move_on_after,
    move_on_at,
    fail_after,
    fail_at,
    scope,
    scope_deadline,
    wait_for,
    wait,
    as_completed,
    shut_server_down,
    slow_callback_duration,
]


@pytest.mark.parametrize("number", NUMBERS, ids=repr)
@pytest.mark.parametrize("take", TAKERS)
def test_any_real_number(take: Callable[[Any], Any], number: Any) -> None:
    runtime.run(take(number))


def test_a_subclass_of_int_says_how_many_seconds_it_is() -> None:
    class Milliseconds(int):
        def __float__(self) -> float:
            return int(self) / 1000

    loop = runtime.new_event_loop()
    assert loop.call_at(Milliseconds(5000), print).when() == 5.0
    loop.close()


@pytest.mark.parametrize("bad", NO_NUMBERS, ids=repr)
@pytest.mark.parametrize("take", TAKERS)
def test_nothing_else(take: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises(TypeError, match="expected a number of seconds, got"):
        runtime.run(take(bad))


@pytest.mark.parametrize("nan", NANS, ids=repr)
@pytest.mark.parametrize("take", TAKERS)
def test_no_nan(take: Callable[[Any], Any], nan: Any) -> None:
    with pytest.raises(ValueError, match="expected a number of seconds, got NaN"):
        runtime.run(take(nan))


@pytest.mark.parametrize("number", BEYOND_FLOATS, ids=["int", "negative", "long", "Fraction"])
@pytest.mark.parametrize("take", [each for each in TAKERS if each is not sleep])
def test_no_number_beyond_floats(take: Callable[[Any], Any], number: Any) -> None:
    with pytest.raises(OverflowError, match="expected a number of seconds that a float can hold"):
        runtime.run(take(number))


def test_sleep_takes_no_number_beyond_floats() -> None:
    for number in (10**400, 10**5000, Fraction(10**400)):
        with pytest.raises(OverflowError, match=r"^sleep\(\) expected .* use math.inf"):
            runtime.run(runtime.sleep(number))


@pytest.mark.parametrize("take", [wait, as_completed, wait_for, timeout, move_on_after])
def test_the_error_names_the_function(take: Callable[[Any], Any]) -> None:
    for number, error in (("1", TypeError), (10**400, OverflowError), (math.nan, ValueError)):
        with pytest.raises(error, match=rf"^{take.__name__}\(\) expected"):
            runtime.run(take(number))


def test_call_later_and_call_at_take_no_none() -> None:
    event_loop = runtime.new_event_loop()
    for call in (event_loop.call_later, event_loop.call_at):
        with pytest.raises(TypeError, match="expected a number of seconds, got None"):
            call(None, print)  # type: ignore[arg-type]
    event_loop.close()


def test_a_threshold_for_slow_callbacks() -> None:
    event_loop = runtime.new_event_loop()
    event_loop.watch_slow_callbacks(Decimal(60))
    event_loop.watch_slow_callbacks(None)
    with pytest.raises(TypeError, match="expected a number of seconds"):
        event_loop.watch_slow_callbacks("1")  # type: ignore[arg-type]
    event_loop.close()


def test_the_error_names_the_attribute() -> None:
    event_loop = runtime.new_event_loop()
    for number, error in (("1", TypeError), (10**400, OverflowError), (math.nan, ValueError)):
        with pytest.raises(error, match=r"^Loop\.slow_callback_duration expected"):
            event_loop.slow_callback_duration = number  # type: ignore[assignment]
    assert event_loop.slow_callback_duration == 0.1
    event_loop.close()
