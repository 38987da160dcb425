"""Scopes that are entered or left wrongly: a clear error, and the other scopes work."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest

import runtime
from tests.sync.tools import Log, collect_reports, never, turns

HERE = __file__


def no_scope_is_left() -> bool:
    task: Any = runtime.current_task()
    return task._scope is None and task._cancel_state == 0 and task.cancelling() == 0


async def test_arguments() -> None:
    for wrong in ("1", None, object()):
        with pytest.raises(TypeError, match="expected a number of seconds"):
            runtime.CancelScope(deadline=wrong)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="expected a number of seconds"):
            runtime.move_on_after(wrong)  # type: ignore[arg-type]
    for function in (
        runtime.move_on_after,
        runtime.move_on_at,
        runtime.fail_after,
        runtime.fail_at,
    ):
        with pytest.raises(ValueError, match="NaN"):
            function(float("nan"))
        assert function(Decimal(3)).deadline >= 3
    for shield in (1, 0, None, "yes"):
        with pytest.raises(TypeError, match="shield must be True or False"):
            runtime.CancelScope(shield=shield)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="shield must be True or False"):
            runtime.CancelScope().shield = shield  # type: ignore[assignment]
    with pytest.raises(TypeError, match="a text or a CancelReason as reason, got 3"):
        runtime.CancelScope(reason=3)  # type: ignore[arg-type]
    scope = runtime.CancelScope(deadline=7, shield=True)
    with pytest.raises(TypeError, match="a text or a CancelReason as reason, got 3"):
        scope.cancel(3)  # type: ignore[arg-type]
    assert not scope.cancel_called
    with pytest.raises(TypeError, match="expected a number of seconds"):
        scope.deadline = "soon"  # type: ignore[assignment]
    assert repr(scope) == "<CancelScope created deadline=7.0 shield>"
    with pytest.raises(TypeError):
        runtime.CancelScope(7)  # type: ignore[call-arg]


def test_outside_of_a_task() -> None:
    with pytest.raises(RuntimeError, match="can only be entered in a task"):
        runtime.CancelScope().__enter__()
    for function in (runtime.move_on_after, runtime.fail_after):
        with pytest.raises(RuntimeError):
            function(1)
    with pytest.raises(RuntimeError):
        runtime.current_effective_deadline()


async def test_in_a_callback() -> None:
    errors = []

    def callback() -> None:
        with pytest.raises(RuntimeError) as caught:
            runtime.CancelScope().__enter__()
        errors.append(str(caught.value))

    runtime.get_running_loop().call_soon(callback)
    await runtime.sleep(0)
    assert "can only be entered in a task" in errors[0]


async def test_entered_twice() -> None:
    with (
        runtime.CancelScope() as scope,
        pytest.raises(RuntimeError, match=r"was entered before, at .*test_entered_twice"),
    ):
        scope.__enter__()
    with pytest.raises(RuntimeError, match="a scope is entered once"):
        scope.__enter__()
    assert no_scope_is_left()


async def test_left_without_having_been_entered() -> None:
    with pytest.raises(RuntimeError, match="was never entered"):
        runtime.CancelScope().__exit__(None, None, None)
    with runtime.CancelScope() as scope:
        pass
    with pytest.raises(RuntimeError, match="had been left before"):
        scope.__exit__(None, None, None)


async def test_left_in_the_wrong_order() -> None:
    outer, inner = runtime.CancelScope(), runtime.CancelScope()
    outer.__enter__()
    inner.__enter__()
    with pytest.raises(RuntimeError) as caught:
        outer.__exit__(None, None, None)
    message = str(caught.value)
    assert message.count(f"{HERE}:") == 3
    assert message.endswith("scopes are left in the reverse order")
    outer.cancel()
    await runtime.sleep(0)
    inner.cancel()
    with pytest.raises(runtime.CancelledError) as cancelled:
        await runtime.sleep(0)
    assert inner.__exit__(runtime.CancelledError, cancelled.value, None)
    assert no_scope_is_left()


async def test_a_cancelled_scope_that_is_left_in_the_wrong_order_ends() -> None:
    outer, inner = runtime.CancelScope(), runtime.CancelScope()
    outer.__enter__()
    inner.__enter__()
    outer.cancel()
    with pytest.raises(RuntimeError, match="reverse order"):
        outer.__exit__(None, None, None)
    await runtime.sleep(0)
    assert not inner.__exit__(None, None, None)
    assert no_scope_is_left()


@pytest.mark.runtime(clock="virtual")
async def test_a_shield_left_in_the_wrong_order_makes_the_request_that_waits_for_it() -> None:
    log = Log()

    async def work() -> None:
        shield = runtime.CancelScope(shield=True)
        shield.__enter__()
        with runtime.CancelScope():
            await runtime.sleep(2)
            with pytest.raises(RuntimeError, match="reverse order"):
                shield.__exit__(None, None, None)
            try:
                await never()
            finally:
                log.add("interrupted")

    async def fail() -> None:
        await runtime.sleep(1)
        raise LookupError

    with pytest.raises(ExceptionGroup):
        async with runtime.TaskGroup() as group:
            group.create_task(work())
            group.create_task(fail())
    assert log == ["interrupted"]
    assert runtime.get_running_loop().time() == 2


async def test_left_in_another_task() -> None:
    scope = runtime.CancelScope()

    async def enter() -> None:
        scope.__enter__()
        await turns(3)
        assert no_scope_is_left()

    async def leave() -> str:
        assert no_scope_is_left()
        with pytest.raises(RuntimeError) as caught:
            scope.__exit__(None, None, None)
        assert no_scope_is_left()
        return str(caught.value)

    entered = runtime.create_task(enter(), name="the first task")
    await runtime.sleep(0)
    message = await runtime.create_task(leave(), name="the second task")
    assert "in the first task, was left at" in message
    assert "in the second task: a scope is left in the task that has entered it" in message
    assert message.count(f"{HERE}:") == 2
    await entered


async def ticks() -> AsyncIterator[int]:
    with runtime.CancelScope() as scope:
        yield 1
        scope.cancel()
        yield 2


async def test_held_across_a_yield_of_an_asynchronous_generator() -> None:
    with pytest.raises(RuntimeError) as caught:
        async for number in ticks():
            assert number == 1
            await runtime.sleep(0)
    message = str(caught.value)
    assert message.count(f"{HERE}:") == 2
    assert "held across the 'yield' at line" in message
    assert "in ticks()" in message
    assert no_scope_is_left()
    gc.collect()
    await turns()


async def test_held_across_a_yield_while_a_future_is_awaited() -> None:
    loop: Any = runtime.get_running_loop()
    futures: list[Any] = [loop.create_future(), asyncio.Future(loop=loop)]
    for future in futures:
        generator = ticks()
        await anext(generator)
        with pytest.raises(RuntimeError, match="held across the 'yield'"):
            await future
        assert no_scope_is_left()
        await generator.aclose()  # type: ignore[attr-defined]


async def test_a_generator_may_wait_in_a_scope_and_yield_outside_of_it() -> None:
    async def generate() -> AsyncIterator[bool]:
        for _ in range(2):
            with runtime.move_on_after(0) as scope:
                await runtime.sleep(1)
            yield scope.cancelled_caught

    found = []
    async for caught in generate():
        await runtime.sleep(0)
        found.append(caught)
    assert found == [True, True]
    assert no_scope_is_left()


async def test_a_generator_that_uses_the_sent_value_or_delegates() -> None:
    async def generate() -> AsyncGenerator[int, int]:
        with runtime.CancelScope():
            number = yield 1
            while number:
                await runtime.sleep(0)
                number = (yield number) + (yield number)

    for sends in ([], [2], [2, 3]):
        generator = generate()
        await anext(generator)
        for number in sends:
            assert await generator.asend(number) > 0
        with pytest.raises(RuntimeError, match="held across the 'yield'"):
            await runtime.sleep(0)
        await generator.aclose()
    assert no_scope_is_left()


async def test_context_managers_may_hold_a_scope() -> None:
    @contextlib.asynccontextmanager
    async def asynchronous() -> AsyncIterator[runtime.CancelScope]:
        await runtime.sleep(0)
        with runtime.CancelScope() as scope:
            yield scope

    @contextlib.contextmanager
    def synchronous() -> Iterator[runtime.CancelScope]:
        with runtime.CancelScope() as scope:
            yield scope

    class Own:
        async def __aenter__(self) -> runtime.CancelScope:
            return runtime.CancelScope().__enter__()

        async def __aexit__(self, *_: object) -> None:
            pass

    async with asynchronous() as scope:
        await runtime.sleep(0)
        scope.cancel()
        await never()
    assert scope.cancelled_caught
    with synchronous() as scope:
        await runtime.sleep(0)
        scope.cancel()
        await never()
    assert scope.cancelled_caught
    async with contextlib.AsyncExitStack() as stack:
        scope = await stack.enter_async_context(asynchronous())
        stack.enter_context(runtime.CancelScope())
        await runtime.sleep(0)
    assert no_scope_is_left()


async def test_a_context_manager_in_a_generator_holds_it_across_the_yield() -> None:
    @contextlib.contextmanager
    def limit() -> Iterator[None]:
        with runtime.CancelScope():
            yield

    @contextlib.asynccontextmanager
    async def limit_too() -> AsyncIterator[None]:
        with runtime.CancelScope():
            yield

    async def generate() -> AsyncIterator[int]:
        with limit():
            yield 1

    async def generate_too() -> AsyncIterator[int]:
        async with limit_too():
            yield 1

    for generator in (generate(), generate_too()):
        await anext(generator)
        with pytest.raises(RuntimeError, match=r"entered at .* in test_.*generate(_too)?\(\)"):
            await runtime.sleep(0)
        await generator.aclose()  # type: ignore[attr-defined]
    assert no_scope_is_left()


async def test_a_generator_that_is_closed_by_the_collector_in_another_task() -> None:
    """The scope leaves its task's chain, and nothing is reported."""
    reports = collect_reports()

    async def iterate() -> None:
        generator = ticks()
        await anext(generator)

    await runtime.create_task(iterate())
    gc.collect()
    await turns()
    assert reports == []


async def test_a_coroutine_that_is_closed() -> None:
    entered = []

    async def wait() -> None:
        with runtime.CancelScope():
            entered.append(True)
            await never()

    coro = wait()
    task = runtime.create_task(coro)
    await runtime.sleep(0)
    coro.close()
    assert entered
    task.cancel()
    with pytest.raises((RuntimeError, runtime.CancelledError)):
        await task
