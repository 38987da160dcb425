"""A traceback leads from where an exception is caught to where it was raised, through all tasks."""

from __future__ import annotations

import asyncio
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime


async def fails() -> None:
    await runtime.sleep(0)
    raise LookupError("deep down")


async def fails_at_once() -> None:
    raise LookupError("deep down")


async def is_cancelled() -> None:
    await runtime.sleep(3600)


def own_frames(error: BaseException) -> list[str]:
    """Return the names of the functions of this file, from where it was caught."""
    return [
        frame.name
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == __file__
    ]


@pytest.mark.parametrize("create_task", [runtime.create_task, asyncio.create_task])
@pytest.mark.parametrize("inner", [fails, fails_at_once, is_cancelled])
def test_through_tasks_that_wait_for_tasks(
    inner: Callable[[], Coroutine[Any, Any, None]], create_task: Callable[..., Any]
) -> None:
    async def outer() -> None:
        task = create_task(inner())
        if inner is is_cancelled:
            await runtime.sleep(0)
            task.cancel()
        await task

    async def main() -> None:
        with pytest.raises((LookupError, runtime.CancelledError)) as caught:
            await create_task(outer())
        assert own_frames(caught.value) == ["main", "outer", inner.__name__]

    runtime.run(main())


def test_of_a_future_that_was_given_an_exception() -> None:
    async def main() -> None:
        future = runtime.get_running_loop().create_future()
        try:
            await fails_at_once()
        except LookupError as error:
            runtime.get_running_loop().call_soon(future.set_exception, error)
        with pytest.raises(LookupError) as caught:
            await future
        assert own_frames(caught.value) == ["main", "main", "fails_at_once"]

    runtime.run(main())
