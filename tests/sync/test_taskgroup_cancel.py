"""``TaskGroup.cancel``: the group and its body end, and nothing is raised."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import runtime
from runtime.testing import wait_all_tasks_blocked
from tests.sync.tools import give, never

# asyncio's group has the method from 3.15 on; with runtime's tasks it must behave the same.
GROUPS: list[Any] = [runtime.TaskGroup]
if sys.version_info >= (3, 15):
    GROUPS.append(pytest.param(asyncio.TaskGroup, id="asyncio"))
each_group = pytest.mark.parametrize("new_group", GROUPS)


def no_request_left() -> bool:
    task = runtime.current_task()
    assert task is not None
    return task.cancelling() == 0


@each_group
async def test_the_tasks_and_the_body_are_cancelled_and_nothing_is_raised(new_group: Any) -> None:
    after = False
    async with new_group() as group:
        tasks = [group.create_task(never()) for _ in range(3)]
        await wait_all_tasks_blocked()
        group.cancel()
        await runtime.sleep(0)
        after = True
    assert not after
    assert all(task.cancelled() for task in tasks)
    assert no_request_left()
    await runtime.sleep(0)


@each_group
async def test_a_body_without_another_await_is_left_at_once(new_group: Any) -> None:
    async with new_group() as group:
        task = group.create_task(never())
        group.cancel()
        group.cancel()
    assert task.cancelled()
    assert no_request_left()
    await runtime.sleep(0)


@each_group
async def test_an_empty_group(new_group: Any) -> None:
    async with new_group() as group:
        group.cancel()
        with pytest.raises(runtime.CancelledError):
            await runtime.sleep(0)
    assert no_request_left()


@each_group
async def test_before_it_is_entered(new_group: Any) -> None:
    group = new_group()
    group.cancel()
    begun = ended = False
    async with group:
        begun = True
        await runtime.sleep(0)
        ended = True
    assert (begun, ended) == (True, False)
    assert no_request_left()


@each_group
async def test_after_it_was_left_it_does_nothing(new_group: Any) -> None:
    async with new_group() as group:
        group.create_task(give(1))
    group.cancel()
    assert no_request_left()
    await runtime.sleep(0)


def test_after_the_run_it_does_nothing() -> None:
    async def main() -> runtime.TaskGroup:
        async with runtime.TaskGroup() as group:
            return group

    runtime.run(main()).cancel()


@each_group
async def test_by_one_of_its_tasks(new_group: Any) -> None:
    async def stop(group: Any) -> None:
        await wait_all_tasks_blocked()
        group.cancel()
        await never()

    async with new_group() as group:
        tasks = [group.create_task(stop(group)), group.create_task(never())]
        await never()
    assert all(task.cancelled() for task in tasks)
    assert no_request_left()


async def test_a_task_in_two_shields_is_cancelled_when_it_has_left_both() -> None:
    left: list[str] = []

    async def work(group: runtime.TaskGroup) -> None:
        with runtime.CancelScope(shield=True) as outer:
            with runtime.CancelScope(shield=True):
                group.cancel()
                outer.shield = False
                await runtime.sleep(0)
                left.append("inner")
            await runtime.sleep(0)
            left.append("outer")

    async with runtime.TaskGroup() as group:
        group.create_task(work(group))
    assert left == ["inner"]


async def test_the_scope_of_a_group_is_entered_by_the_group_only() -> None:
    group = runtime.TaskGroup()
    with group.cancel_scope, pytest.raises(RuntimeError, match="was entered before"):
        await group.__aenter__()


@each_group
async def test_by_another_task_while_it_waits_for_its_tasks(new_group: Any) -> None:
    groups: list[Any] = []

    async def inside() -> str:
        async with new_group() as group:
            groups.append(group)
            group.create_task(never())
        return "left"

    task = runtime.create_task(inside())
    await wait_all_tasks_blocked()
    groups[0].cancel()
    assert await task == "left"
    assert not task.cancelled()


@each_group
async def test_by_the_first_step_of_an_eager_task(new_group: Any) -> None:
    async def child(group: Any) -> None:
        group.cancel()
        await never()

    async with new_group() as group:
        task = group.create_task(child(group), eager_start=True)
    assert task.cancelled()
    assert no_request_left()


@each_group
async def test_a_failure_in_answer_to_it_is_raised(new_group: Any) -> None:
    async def refuse() -> None:
        try:
            await never()
        finally:
            raise LookupError("clean-up failed")

    with pytest.raises(ExceptionGroup) as caught:
        async with new_group() as group:
            group.create_task(refuse())
            await wait_all_tasks_blocked()
            group.cancel()
            await never()
    assert [type(error) for error in caught.value.exceptions] == [LookupError]
    assert no_request_left()


@each_group
@pytest.mark.parametrize("when", ["before", "after"])
async def test_a_cancellation_from_outside_is_raised(new_group: Any, when: str) -> None:
    cleaning, release = runtime.Event(), runtime.Event()

    async def child() -> None:
        try:
            await never()
        finally:
            cleaning.set()
            await release.wait()

    async def body() -> None:
        async with new_group() as group:
            group.create_task(child())
            await wait_all_tasks_blocked()
            group.cancel()
            if when == "before":
                await never()

    task = runtime.create_task(body())
    await cleaning.wait()
    task.cancel("from outside")
    release.set()
    with pytest.raises(runtime.CancelledError) as caught:
        await task
    assert when == "before" or caught.value.args == ("from outside",)


@each_group
async def test_groups_inside_one_another(new_group: Any) -> None:
    order = []
    async with new_group() as outer:
        async with new_group() as inner:
            inner.create_task(never())
            await wait_all_tasks_blocked()
            inner.cancel()
            await never()
        order.append("inner left")
        outer.cancel()
        await runtime.sleep(0)
        order.append("not reached")
    order.append("outer left")
    assert order == ["inner left", "outer left"]
    assert no_request_left()
