"""Tracebacks that lead from the ``except`` to the ``raise``, through all tasks."""

from __future__ import annotations

import asyncio
import importlib
import inspect
import os
import pkgutil
import traceback
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime.kernel
import runtime.net
import runtime.sync
import runtime.system
from runtime.kernel.future import FutureCore


async def fails() -> None:
    await runtime.sleep(0)
    raise LookupError("deep down")


async def fails_at_once() -> None:
    raise LookupError("deep down")


async def is_cancelled() -> None:
    await runtime.sleep(3600)


def own_frames(error: BaseException) -> list[str]:
    """Return the names of the functions of this file, in the order of the traceback."""
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


def undefined() -> None:
    FutureCore.__new__(FutureCore).done()


def wrong_type() -> None:
    loop: Any = runtime.new_event_loop()
    try:
        loop._poller.watch(None, 1)
    finally:
        loop.close()


def no_seconds() -> None:
    loop = runtime.new_event_loop()
    try:
        loop.call_later("soon", print)  # type: ignore[arg-type]
    finally:
        loop.close()


def raised_in_a_run() -> None:
    runtime.run(fails())


@pytest.mark.parametrize("failing", [undefined, wrong_type, no_seconds, raised_in_a_run])
def test_every_frame_shows_its_line(failing: Callable[[], None]) -> None:
    """Compiled frames do so too: their source is installed beside the module."""
    with pytest.raises((AttributeError, TypeError, LookupError)) as caught:
        failing()
    frames = traceback.extract_tb(caught.value.__traceback__)
    ours = [frame for frame in frames if "runtime/kernel/" in frame.filename]
    assert ours or failing in (undefined, wrong_type)
    for frame in frames:
        assert os.path.isfile(frame.filename), frame
        assert frame.line
    for entry, _ in traceback.walk_tb(caught.value.__traceback__):
        # pytest and pdb look up the source in this way.
        lines, _ = inspect.findsource(entry.f_code)
        assert lines


def test_every_module_knows_its_file() -> None:
    for package in (runtime.kernel, runtime.net, runtime.sync, runtime.system):
        for found in pkgutil.iter_modules(package.__path__, package.__name__ + "."):
            module = importlib.import_module(found.name)
            assert module.__file__ is not None
            assert os.path.isfile(module.__file__)
            assert module.__spec__ is not None
            assert module.__spec__.origin == module.__file__
