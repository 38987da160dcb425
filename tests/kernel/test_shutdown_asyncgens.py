"""``shutdown_asyncgens()`` beside tasks that iterate the generators."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

import runtime
from runtime import testing
from tests.support.blocked import all_tasks_blocked

LOOPS: dict[str, Callable[[], Any]] = {
    "asyncio": asyncio.SelectorEventLoop,
    "runtime": runtime.new_event_loop,
}

Log = list[str]
Generator = AsyncGenerator[int, None]
Reports = list[dict[str, Any]]


async def numbers(log: Log, turns: int = 0) -> Generator:
    """Yield a number, then wait; take some turns of the loop to clean up."""
    try:
        yield 1
        await asyncio.get_running_loop().create_future()
    finally:
        log.append("cleaning")
        for _ in range(turns):
            await asyncio.sleep(0)
        log.append("clean")


async def iterate(generator: Generator) -> None:
    async for _ in generator:
        pass


async def await_task(generator: Generator) -> None:
    await asyncio.create_task(iterate(generator))


def run(make_loop: Callable[[], Any], body: Callable[[Any], Any]) -> Reports:
    """Run ``body(loop)``; return the reports to the exception handler."""
    reports: Reports = []
    with asyncio.Runner(loop_factory=make_loop) as runner:
        loop = runner.get_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        runner.run(body(loop))
    return reports


@pytest.fixture(params=LOOPS)
def make_loop(request: pytest.FixtureRequest) -> Callable[[], Any]:
    return LOOPS[request.param]


def test_a_generator_is_closed_in_the_next_turn(make_loop: Callable[[], Any]) -> None:
    log: Log = []

    async def body(loop: Any) -> None:
        generator = numbers(log)
        await anext(generator)
        loop.call_soon(log.append, "next turn")
        await loop.shutdown_asyncgens()

    assert run(make_loop, body) == []
    assert log == ["next turn", "cleaning", "clean"]


@pytest.mark.parametrize("work", [iterate, await_task])
def test_a_task_that_was_cancelled_before_ends_its_generator(
    work: Callable[[Generator], Any], make_loop: Callable[[], Any]
) -> None:
    log: Log = []

    async def body(loop: Any) -> None:
        task = asyncio.create_task(work(numbers(log)))
        await all_tasks_blocked()
        task.cancel()
        await loop.shutdown_asyncgens()
        assert log == ["cleaning", "clean"]
        await asyncio.wait([task])

    assert run(make_loop, body) == []


def test_a_task_that_is_cancelled_after_the_call_ends_its_generator(
    make_loop: Callable[[], Any],
) -> None:
    log: Log = []

    async def body(loop: Any) -> None:
        task = asyncio.create_task(iterate(numbers(log)))
        await all_tasks_blocked()
        shutdown = asyncio.create_task(loop.shutdown_asyncgens())
        task.cancel()
        await shutdown
        assert log == ["cleaning", "clean"]
        await asyncio.wait([task])

    assert run(make_loop, body) == []


@pytest.mark.parametrize("work", [iterate, await_task])
def test_a_clean_up_in_a_cancelled_task_is_waited_for(work: Callable[[Generator], Any]) -> None:
    """Asyncio's loop reports that the generator is running already, and returns."""
    log: Log = []

    async def body(loop: Any) -> None:
        task = asyncio.create_task(work(numbers(log, turns=20)))
        await all_tasks_blocked()
        task.cancel()
        await loop.shutdown_asyncgens()
        assert log == ["cleaning", "clean"]
        await asyncio.wait([task])

    assert run(runtime.new_event_loop, body) == []


def test_a_task_that_refuses_to_end_is_not_waited_for_for_ever() -> None:
    async def refuse() -> AsyncGenerator[int, None]:
        try:
            await runtime.sleep_forever()
        except asyncio.CancelledError:
            await runtime.get_running_loop().create_future()
        yield 1

    reports: Reports = []

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(dict(context)))
        task = runtime.create_task(iterate(refuse()))
        await all_tasks_blocked()
        task.cancel()
        await loop.shutdown_asyncgens()
        assert not task.done()
        task.cancel()

    testing.run(main())
    assert ["already running" in str(report["exception"]) for report in reports] == [True]


def test_a_task_that_is_not_cancelled_is_reported_at_once(make_loop: Callable[[], Any]) -> None:
    log: Log = []

    async def body(loop: Any) -> None:
        task = asyncio.create_task(iterate(numbers(log)))
        await all_tasks_blocked()
        await loop.shutdown_asyncgens()
        assert log == []
        task.cancel()
        await asyncio.wait([task])

    (report,) = run(make_loop, body)
    assert "already running" in str(report["exception"])
