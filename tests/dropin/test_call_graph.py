"""The call graph of Python 3.14: the tasks and futures that wait for one another."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest

import runtime
from tests.support.blocked import all_tasks_blocked


def awaited_by(future: Any) -> set[Any]:
    return future._asyncio_awaited_by or set()


async def wait_for(future: Any) -> Any:
    return await future


async def test_a_future_knows_the_tasks_that_wait_for_it() -> None:
    future = runtime.get_running_loop().create_future()
    assert future._asyncio_awaited_by is None
    tasks = {runtime.create_task(wait_for(future)) for _ in range(3)}
    await all_tasks_blocked()
    assert awaited_by(future) == tasks
    chained = runtime.create_task(wait_for(next(iter(tasks))))
    await all_tasks_blocked()
    assert [awaited_by(task) for task in tasks].count({chained}) == 1
    future.set_result(None)
    await chained
    assert not awaited_by(future)


async def test_through_gather_and_groups() -> None:
    gate = runtime.Event()
    me = runtime.current_task()
    gathered = [runtime.create_task(gate.wait()) for _ in range(2)]

    async def in_a_gather() -> None:
        await runtime.gather(*gathered)

    outer = runtime.create_task(in_a_gather())
    await all_tasks_blocked()
    (gathering,) = awaited_by(gathered[0])
    assert awaited_by(gathered[1]) == {gathering}
    assert awaited_by(gathering) == {outer}
    async with runtime.TaskGroup() as group:
        child = group.create_task(gate.wait())
        assert awaited_by(child) == {me}
        gate.set()
    await outer


async def test_callbacks_are_no_waiters() -> None:
    future = runtime.get_running_loop().create_future()
    ended: list[object] = []
    future.add_done_callback(ended.append)
    future.add_done_callback(lambda _: None)
    assert future._asyncio_awaited_by is None
    future.cancel()


@pytest.mark.skipif(not hasattr(asyncio, "capture_call_graph"), reason="since Python 3.14")
def test_asyncio_s_call_graph() -> None:
    api: Any = asyncio

    async def leaf(gate: runtime.Event) -> None:
        await gate.wait()

    async def trunk(gate: runtime.Event) -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(leaf(gate), name="leaf")

    async def main() -> str:
        gate = runtime.Event()
        task = runtime.create_task(trunk(gate), name="trunk")
        await all_tasks_blocked()
        (found,) = [each for each in runtime.all_tasks() if each.get_name() == "leaf"]
        graph = api.capture_call_graph(found)
        assert [parent.future for parent in graph.awaited_by] == [task]
        text = io.StringIO()
        api.print_call_graph(found, file=text)
        api.print_call_graph(file=text)
        gate.set()
        await task
        return text.getvalue()

    printed = runtime.run(main())
    assert "leaf" in printed
    assert "trunk" in printed
    assert "main" in printed
