"""The current task, as seen by finalizers that run while it changes."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

import runtime


class ReadsCurrentTaskInFinalizer(Exception):
    """An exception whose finalizer reads the current task."""

    def __init__(self, seen: list[Any]) -> None:
        self.seen = seen

    def __del__(self) -> None:
        task: Any = asyncio.current_task()
        self.seen.append(None if task is None else task.get_name())


@pytest.mark.parametrize("then", ["a task", "a callback", "nothing"])
def test_a_failed_task_that_goes_with_the_next_step(then: str) -> None:
    """The exception is reported and released once nothing else refers to the task."""
    seen: list[Any] = []
    reports: list[Any] = []

    def on_report(loop: Any, context: dict[str, Any]) -> None:
        reports.append(asyncio.current_task())

    async def fail() -> None:
        raise ReadsCurrentTaskInFinalizer(seen)

    async def nothing() -> None:
        pass

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_exception_handler(on_report)
        for number in range(50):
            runtime.create_task(fail(), name=f"failing {number}")
            if then == "a task":
                runtime.create_task(nothing(), name="the next")
            elif then == "a callback":
                loop.call_soon(int)
            await runtime.sleep(0)
        await runtime.sleep(0)

    runtime.run(main())
    assert len(reports) == len(seen) == 50
    assert not any(str(name).startswith("failing") for name in seen)


def test_a_log_record_names_the_current_task(caplog: pytest.LogCaptureFixture) -> None:
    """Since Python 3.12 each log record has the name of the task, including records of reports."""

    async def fail() -> None:
        raise LookupError("never retrieved")

    async def main() -> None:
        for _ in range(10):
            runtime.create_task(fail())
            await runtime.sleep(0)
        await runtime.sleep(0)

    with caplog.at_level(logging.ERROR):
        runtime.run(main())
    assert len(caplog.records) == 10


async def test_a_task_that_has_ended_is_not_the_current_one_of_a_callback() -> None:
    found: list[object] = []

    async def end() -> None:
        pass

    task = runtime.create_task(end())
    runtime.get_running_loop().call_soon(lambda: found.append(asyncio.current_task()))
    await task
    assert found == [None]
