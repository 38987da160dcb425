from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

import pytest

import runtime
from tests.sync.tools import assert_cancelled, turns

variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")


async def test_a_function_runs_in_another_thread() -> None:
    def call(first: int, *, second: int) -> tuple[int, int]:
        return first + second, threading.get_ident()

    total, thread = await runtime.to_thread(call, 1, second=2)
    assert total == 3
    assert thread != threading.get_ident()


async def test_the_context_goes_along_and_stays_apart() -> None:
    variable.set("here")

    def call() -> str:
        seen = variable.get()
        variable.set("there")
        return seen

    assert await runtime.to_thread(call) == "here"
    assert variable.get() == "here"


async def test_exceptions_of_the_function_are_raised() -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        await runtime.to_thread(int, "x")


async def test_a_call_that_has_started_goes_on_when_the_wait_is_cancelled() -> None:
    started, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def call() -> None:
        started.set()
        go_on.wait(60)
        ended.set()

    task = runtime.create_task(runtime.to_thread(call))
    while not started.is_set():
        await turns(1)
    task.cancel()
    await assert_cancelled(task)
    assert not ended.is_set()
    go_on.set()
    assert await runtime.to_thread(ended.wait, 60)


@pytest.mark.parametrize("make_loop", [runtime.Loop, asyncio.SelectorEventLoop])
def test_the_threads_have_the_names_that_asyncio_gives_them(
    make_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def main() -> list[str]:
        names = [await asyncio.to_thread(lambda: threading.current_thread().name)]
        loop = asyncio.get_running_loop()
        return [*names, await loop.run_in_executor(None, lambda: threading.current_thread().name)]

    with asyncio.Runner(loop_factory=make_loop) as runner:
        assert runner.run(main()) == ["asyncio_0", "asyncio_0"]
