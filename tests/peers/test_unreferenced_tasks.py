"""Garbage collection of a suspended task to which the program holds no reference.

In asyncio, such a task can be collected before it has finished.

See https://github.com/python/cpython/issues/91887.
"""

from __future__ import annotations

import asyncio
import gc
from typing import Any

import runtime
from tests.support.blocked import all_tasks_blocked


async def test_a_chain_that_only_refers_to_itself_survives_the_collector() -> None:
    finished: list[str] = []

    class Link:
        """A future and the task that waits for it, which refer only to each other."""

        def __init__(self, name: str) -> None:
            self.name = name
            self.future: runtime.Future[None] = runtime.get_running_loop().create_future()
            self.task = runtime.create_task(self.wait())

        async def wait(self) -> None:
            await self.future
            finished.append(self.name)

    async def waits_for_asyncio(future: Any) -> None:
        await future
        finished.append("asyncio")

    loop: Any = runtime.get_running_loop()
    futures: list[Any] = [Link(name).future for name in ("one", "two", "three")]
    theirs: Any = asyncio.Future(loop=loop)
    runtime.create_task(waits_for_asyncio(theirs))
    await runtime.sleep(0)
    for _ in range(3):
        gc.collect()
    assert len(runtime.all_tasks()) == 5
    for future in (*futures, theirs):
        future.set_result(None)
    await all_tasks_blocked()
    assert sorted(finished) == ["asyncio", "one", "three", "two"]


def test_a_task_whose_future_is_unreferenced_survives() -> None:
    """Nothing can finish such a task; it still exists, and is cancelled at the end of the run."""
    cleaned: list[str] = []

    async def lost() -> None:
        try:
            await runtime.get_running_loop().create_future()
        finally:
            cleaned.append("in order")

    async def main() -> None:
        runtime.create_task(lost())
        await runtime.sleep(0)
        gc.collect()
        assert cleaned == []

    runtime.run(main())
    assert cleaned == ["in order"]
