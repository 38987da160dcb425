"""``observe.tasks``: the tasks of a live loop, and which task waits for which."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import threading
import time
from collections.abc import Generator
from typing import Any

import pytest

import runtime
from runtime.observe import TaskInfo, tasks
from runtime.observe.task_info import each_task


def by_name() -> dict[str, TaskInfo]:
    return {task.name: task for task in tasks()}


async def wait_for_it(event: runtime.Event) -> None:
    await event.wait()


async def test_tasks_come_in_the_order_of_their_creation() -> None:
    event = runtime.Event()
    created = [runtime.create_task(wait_for_it(event), name=name) for name in ("z", "a", "m", "b")]
    await runtime.sleep(0)
    del created[1]
    assert [task.name for task in tasks()][-4:] == ["z", "a", "m", "b"]
    event.set()
    await runtime.sleep(0)


async def test_a_task_is_described_by_its_state_its_age_and_the_lines_where_it_is() -> None:
    event = runtime.Event()
    waiting = runtime.create_task(wait_for_it(event), name="waiting")
    await runtime.sleep(0.05)
    ready = runtime.create_task(wait_for_it(event), name="ready")
    found = by_name()
    assert (found["waiting"].state, found["ready"].state) == ("waiting", "ready")
    assert found["waiting"].coroutine == "wait_for_it"
    (place,) = found["waiting"].stack
    assert (place.function, place.line) == (
        "wait_for_it",
        wait_for_it.__code__.co_firstlineno + 1,
    )
    assert place.file == __file__
    assert str(place) == f"wait_for_it() at {__file__}:{place.line}"
    assert found["waiting"].waits_for.endswith("[unset, waiters:1]>, in Event.wait()")
    assert found["ready"].waits_for == ""
    age = found["waiting"].age
    assert age is not None
    assert 0.03 <= age < 60
    assert [task.state for task in found.values()].count("running") == 1
    waiting.cancel()
    assert by_name()["waiting"].cancelling == 1
    event.set()
    await runtime.wait([waiting, ready])


async def test_a_stack_goes_down_through_coroutines_and_generators() -> None:
    event = runtime.Event()

    class Awaitable:
        def __await__(self) -> Generator[Any, None, None]:
            yield from event.wait().__await__()

    async def inner() -> None:
        await Awaitable()

    async def outer() -> None:
        async with contextlib.AsyncExitStack():
            await inner()

    task = runtime.create_task(outer(), name="outer")
    await runtime.sleep(0)
    stack = by_name()["outer"].stack
    assert [place.function.rpartition(".")[2] for place in stack] == ["outer", "inner", "__await__"]
    event.set()
    await task


async def test_tasks_name_those_that_they_wait_for() -> None:
    event = runtime.Event()

    async def group() -> None:
        async with runtime.TaskGroup() as members:
            members.create_task(wait_for_it(event), name="one")
            members.create_task(wait_for_it(event), name="two")

    async def gather() -> None:
        await runtime.gather(group_task)

    group_task = runtime.create_task(group(), name="group")
    gathering = runtime.create_task(gather(), name="gathering")
    await runtime.sleep(0)
    await runtime.sleep(0)
    found = by_name()
    assert found["gathering"].awaits == (found["group"].id,)
    assert found["group"].awaits == (found["one"].id, found["two"].id)
    assert found["one"].awaits == ()
    event.set()
    await gathering


@pytest.mark.parametrize("kind", [runtime.Lock, runtime.Semaphore, asyncio.Lock])
async def test_the_holder_of_a_lock_is_found(kind: type[Any]) -> None:
    lock, other, event = kind(), kind(), runtime.Event()

    async def hold() -> None:
        async with other, lock:
            await event.wait()

    async def want() -> None:
        async with lock:
            pass

    holding = runtime.create_task(hold(), name="holding")
    await runtime.sleep(0)
    wanting = [runtime.create_task(want(), name=name) for name in ("first", "second")]
    await runtime.sleep(0)
    found = by_name()
    if kind is not asyncio.Lock:
        assert found["first"].held_by == (found["holding"].id,)
        assert found["second"].held_by == (found["holding"].id,)
    assert found["holding"].held_by == ()
    event.set()
    await runtime.wait([holding, *wanting])


async def test_a_task_that_waits_for_a_lock_that_it_holds_is_its_holder() -> None:
    lock = runtime.Lock()

    async def twice() -> None:
        async with lock, lock:
            pass

    task = runtime.create_task(twice(), name="twice")
    await runtime.sleep(0)
    found = by_name()
    assert found["twice"].held_by == (found["twice"].id,)
    task.cancel()
    await runtime.wait([task])


async def test_tasks_of_asyncio_are_shown_too() -> None:
    event = asyncio.Event()
    task = asyncio.Task(event.wait(), loop=asyncio.get_running_loop(), name="asyncio's")
    await runtime.sleep(0)
    found = by_name()["asyncio's"]
    assert (found.state, found.age) == ("waiting", None)
    event.set()
    await task


async def test_tasks_can_be_read_in_another_thread_while_the_loop_runs() -> None:
    loop = runtime.get_running_loop()
    event = runtime.Event()
    waiting = [runtime.create_task(wait_for_it(event)) for _ in range(50)]
    found: list[list[TaskInfo]] = []
    done = threading.Event()

    def read() -> None:
        found.extend(tasks(loop, pause=lambda: time.sleep(0)) for _ in range(4))
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    while not done.is_set():
        await runtime.gather(*(runtime.sleep(0) for _ in range(10)))
    thread.join()
    assert all(len(each) >= 50 for each in found)
    event.set()
    await runtime.wait(waiting)


def test_a_loop_that_does_not_run_has_tasks_without_an_age() -> None:
    loop = runtime.new_event_loop()
    task = loop.create_task(runtime.sleep(0), name="queued")
    (found,) = tasks(loop)
    assert (found.name, found.state, found.age) == ("queued", "ready", None)
    loop.run_until_complete(task)
    assert tasks(loop) == []
    loop.close()
    with pytest.raises(RuntimeError, match="no running event loop"):
        tasks()


async def test_looking_at_many_tasks_keeps_few_objects() -> None:
    """Else the garbage collector would examine the whole heap: the program stops meanwhile."""
    lock = runtime.Lock()

    async def hold() -> None:
        async with lock:
            await runtime.sleep_forever()

    made = [runtime.create_task(hold()) for _ in range(1000)]
    await runtime.sleep(0)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        descriptions = each_task(runtime.get_running_loop())
        for _ in range(990):
            next(descriptions)
        # That is the frame of each task, which Python keeps once it was looked at, and a tuple.
        assert len(gc.get_objects()) - before < 2500
        assert len(list(descriptions)) == 11
    finally:
        gc.enable()
    for task in made:
        task.cancel()
    await runtime.wait(made)


async def test_a_task_tells_the_object_that_it_waits_for() -> None:
    lock, queue, future = runtime.Lock(), runtime.Queue[int](), runtime.Future[int]()
    theirs: Any = asyncio.Future()

    async def get() -> None:
        await queue.get()

    async def acquire() -> None:
        async with lock:
            pass

    async def wait_for(awaitable: Any) -> None:
        await awaitable

    async with lock:
        getting = runtime.create_task(get())
        assert getting.waits_for is None  # It is ready to run.
        waiting: dict[runtime.Task[None], Any] = {
            getting: queue,
            runtime.create_task(acquire()): lock,
            runtime.create_task(wait_for(future)): future,
            runtime.create_task(wait_for(theirs)): theirs,
            runtime.create_task(wait_for(getting)): getting,
        }
        await runtime.sleep(0)
        assert {task: task.waits_for for task in waiting} == waiting
        current = runtime.current_task()
        assert current is not None
        assert current.waits_for is None
    queue.put_nowait(1)
    future.set_result(2)
    theirs.set_result(3)
    await runtime.wait(waiting)
    assert {task.waits_for for task in waiting} == {None}
