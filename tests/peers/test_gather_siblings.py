"""``gather`` and its siblings after an error, and the tasks that ``as_completed`` yields.

``gather`` leaves the other awaitables running after an error. This is asyncio's documented
behaviour, and runtime's too: the docstring says so, and names the alternative. Before Python 3.13,
asyncio's ``as_completed`` does not tell which awaitable has finished; here, ``async for`` yields
the original tasks on every Python.

See https://github.com/python/cpython/issues/77714.
"""

from __future__ import annotations

import pytest

import runtime


async def suspend(times: int) -> int:
    for _ in range(times):
        await runtime.sleep(0)
    return times


async def succeed(log: list[str]) -> None:
    try:
        await suspend(30)
        log.append("succeeded")
    except runtime.CancelledError:
        log.append("cancelled")
        raise


async def fail() -> None:
    await suspend(1)
    raise LookupError


def test_gather_documents_the_running_siblings_and_the_alternative() -> None:
    words = " ".join((runtime.gather.__doc__ or "").split())
    assert "the others continue" in words
    assert "TaskGroup" in words


async def test_gather_leaves_the_other_tasks_running() -> None:
    log: list[str] = []
    sibling = runtime.create_task(succeed(log))
    with pytest.raises(LookupError):
        await runtime.gather(sibling, fail())
    assert not sibling.done()
    await sibling
    assert log == ["succeeded"]


async def test_a_task_group_leaves_no_task_running() -> None:
    log: list[str] = []
    with pytest.raises(ExceptionGroup):
        async with runtime.TaskGroup() as group:
            sibling = group.create_task(succeed(log))
            group.create_task(fail())
    assert sibling.cancelled()
    assert log == ["cancelled"]
    assert runtime.all_tasks() == {runtime.current_task()}


async def test_as_completed_yields_the_original_tasks() -> None:
    tasks = [runtime.create_task(suspend(times)) for times in (30, 10, 20)]
    ended = [task async for task in runtime.as_completed(tasks)]
    assert [id(task) for task in ended] == [id(tasks[index]) for index in (1, 2, 0)]
