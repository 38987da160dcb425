"""Row 17: gather leaves siblings running after an error; as_completed can't tell who ended.

The first is asyncio's documented behaviour, and so is ours: it is said in the docstring, together
with what to use instead. The second is mended on every Python: ``async for`` yields the very tasks.
"""

from __future__ import annotations

import pytest

import runtime


async def succeed(log: list[str]) -> None:
    try:
        await runtime.sleep(0.005)
        log.append("succeeded")
    except runtime.CancelledError:
        log.append("cancelled")
        raise


async def fail() -> None:
    await runtime.sleep(0)
    raise LookupError


def test_gather_says_that_the_others_go_on_and_what_to_use_instead() -> None:
    words = " ".join((runtime.gather.__doc__ or "").split())
    assert "the others go on running" in words
    assert "TaskGroup" in words


def test_gather_lets_the_others_go_on() -> None:
    async def main() -> None:
        log: list[str] = []
        sibling = runtime.create_task(succeed(log))
        with pytest.raises(LookupError):
            await runtime.gather(sibling, fail())
        assert not sibling.done()
        await sibling
        assert log == ["succeeded"]

    runtime.run(main())


def test_a_task_group_leaves_nobody_running() -> None:
    async def main() -> None:
        log: list[str] = []
        with pytest.raises(ExceptionGroup):
            async with runtime.TaskGroup() as group:
                sibling = group.create_task(succeed(log))
                group.create_task(fail())
        assert sibling.cancelled()
        assert log == ["cancelled"]
        assert runtime.all_tasks() == {runtime.current_task()}

    runtime.run(main())


def test_as_completed_yields_the_very_tasks() -> None:
    async def main() -> None:
        names = {
            runtime.create_task(runtime.sleep(delay), name=f"after {delay}"): delay
            for delay in (0.006, 0.002, 0.004)
        }
        ended = [names[task] async for task in runtime.as_completed(names)]  # type: ignore[index]
        assert ended == [0.002, 0.004, 0.006]

    runtime.run(main())
