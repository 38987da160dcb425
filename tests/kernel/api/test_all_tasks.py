"""``all_tasks()`` is a set, over which an iteration goes in the order of creation."""

from __future__ import annotations

import asyncio
from typing import Any

import runtime


async def test_tasks_are_in_the_order_of_their_creation() -> None:
    tasks = [runtime.create_task(runtime.sleep_forever(), name=f"{n % 7}") for n in range(100)]
    found = runtime.all_tasks()
    assert isinstance(found, set)
    assert list(found)[1:] == tasks
    assert next(iter(found)) is runtime.current_task()
    found.discard(tasks[3])
    assert list(found)[1:] == tasks[:3] + tasks[4:]
    assert found == {runtime.current_task(), *tasks} - {tasks[3]}
    assert found - set(tasks) == {runtime.current_task()}
    for task in tasks:
        task.cancel()
    await runtime.wait(tasks)
    assert runtime.all_tasks() == {runtime.current_task()}


async def test_tasks_of_asyncio_come_last() -> None:
    loop: Any = runtime.get_running_loop()
    theirs = asyncio.Task(asyncio.sleep(0), loop=loop)
    ours = runtime.create_task(runtime.sleep(0))
    found: list[Any] = list(runtime.all_tasks())
    assert found == [runtime.current_task(), ours, theirs]
    await theirs
    await ours


async def test_so_do_tasks_of_a_class_with_a_number_of_its_own() -> None:
    class Numbered(asyncio.Task[None]):
        _number = "first"

    loop: Any = runtime.get_running_loop()
    theirs = Numbered(asyncio.sleep(0), loop=loop)
    assert list(runtime.all_tasks()) == [runtime.current_task(), theirs]
    await theirs


async def test_it_looks_like_a_set() -> None:
    task = runtime.create_task(runtime.sleep_forever(), name="another")
    found = runtime.all_tasks()
    assert repr(found) == f"{{{runtime.current_task()!r}, {task!r}}}"
    found.clear()
    assert repr(found) == "set()"
    task.cancel()
    await runtime.wait([task])
