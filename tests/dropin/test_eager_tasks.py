"""Eager tasks: asyncio's factories on a ``runtime.Loop``, and runtime's own, on every Python."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from typing import Any

import pytest

import runtime

FACTORIES: dict[str, Any] = {
    "runtime's": runtime.eager_task_factory,
    "runtime's, made": runtime.create_eager_task_factory(runtime.Task),
}
if hasattr(asyncio, "eager_task_factory"):
    FACTORIES["its own"] = asyncio.eager_task_factory
    make: Any = vars(asyncio)["create_eager_task_factory"]
    FACTORIES["its own, of our tasks"] = make(runtime.Task)


@pytest.fixture(params=FACTORIES)
def run(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    def run_eagerly(main: Any) -> Any:
        with runtime.Runner() as runner:
            runner.get_loop().set_task_factory(FACTORIES[request.param])
            return runner.run(main)

    return run_eagerly


Run = Callable[[Any], Any]


def test_a_coroutine_without_suspensions_ends_at_once(run: Run) -> None:
    async def answer() -> int:
        return 42

    async def fail() -> None:
        raise LookupError

    async def main() -> None:
        task = asyncio.create_task(answer())
        assert task.done()
        assert task not in asyncio.all_tasks()
        assert await task == 42
        failed = asyncio.create_task(fail())
        assert failed.done()
        with pytest.raises(LookupError):
            await failed

    run(main())


def test_a_coroutine_that_suspends_continues_as_any_other_task(run: Run) -> None:
    async def work(order: list[str], gate: asyncio.Event) -> str:
        order.append("begun")
        await gate.wait()
        order.append("ended")
        return "result"

    async def main() -> None:
        order: list[str] = []
        gate = asyncio.Event()
        task = asyncio.create_task(work(order, gate))
        order.append("created")
        assert not task.done()
        assert task in asyncio.all_tasks()
        gate.set()
        assert await task == "result"
        assert order == ["begun", "created", "ended"]

    run(main())


def test_the_current_task_is_the_eager_one_and_then_its_creator_again(run: Run) -> None:
    async def who() -> Any:
        return asyncio.current_task()

    async def main() -> None:
        me = asyncio.current_task()
        task = asyncio.create_task(who())
        assert asyncio.current_task() is me
        assert await task is task
        inner = [asyncio.create_task(who()) for _ in range(3)]
        await asyncio.sleep(0)
        assert asyncio.current_task() is me
        assert [await each for each in inner] == inner

    run(main())


def test_it_runs_in_a_context_of_its_own(run: Run) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def change() -> str:
        before = variable.get()
        variable.set("changed")
        return before

    async def main() -> None:
        variable.set("outer")
        assert await asyncio.create_task(change()) == "outer"
        assert variable.get() == "outer"
        context = contextvars.Context()
        assert await asyncio.create_task(change(), context=context) == "unset"
        assert context[variable] == "changed"

    run(main())


def test_cancellation(run: Run) -> None:
    async def wait(stopped: list[str]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            stopped.append("stopped")

    async def main() -> None:
        stopped: list[str] = []
        task = asyncio.create_task(wait(stopped))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert task.cancelled()
        assert stopped == ["stopped"]

    run(main())


def test_groups_gather_and_timeouts(run: Run) -> None:
    async def double(number: int) -> int:
        if number % 2:
            await asyncio.sleep(0)
        return 2 * number

    async def main() -> None:
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            tasks = [group.create_task(double(number), name=f"n{number}") for number in range(4)]
        assert [task.result() for task in tasks] == [0, 2, 4, 6]
        assert [task.get_name() for task in tasks] == ["n0", "n1", "n2", "n3"]
        assert await asyncio.gather(*map(double, range(4))) == [0, 2, 4, 6]
        assert await runtime.gather(*map(double, range(4))) == [0, 2, 4, 6]
        async with runtime.TaskGroup() as ours:
            mixed = [ours.create_task(double(number)) for number in range(4)]
        assert [task.result() for task in mixed] == [0, 2, 4, 6]
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(asyncio.sleep(3600), 0.001)

    run(main())


def test_an_eager_task_in_an_eager_task(run: Run) -> None:
    async def nest(depth: int) -> int:
        if depth == 0:
            await asyncio.sleep(0)
            return 0
        return 1 + await asyncio.create_task(nest(depth - 1))

    assert run(nest(20)) == 20


def test_outside_a_running_loop_a_task_is_queued() -> None:
    async def answer() -> int:
        return 42

    loop = runtime.new_event_loop()
    loop.set_task_factory(runtime.eager_task_factory)
    task = loop.create_task(answer())
    assert not task.done()
    assert loop.run_until_complete(task) == 42
    loop.close()


async def test_create_task_may_ask_for_an_exception() -> None:
    async def answer() -> int:
        return 42

    runtime.get_running_loop().set_task_factory(runtime.eager_task_factory)
    assert runtime.create_task(answer()).done()
    queued = runtime.create_task(answer(), eager_start=False)
    assert not queued.done()
    assert await queued == 42


def test_a_constructor_of_one_s_own() -> None:
    class Named(runtime.Task[Any]):
        pass

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.set_task_factory(runtime.create_eager_task_factory(Named))
        assert type(runtime.create_task(runtime.sleep(0))) is Named

    runtime.run(main())
    with pytest.raises(TypeError, match="custom_task_constructor must be callable"):
        runtime.create_eager_task_factory(None)  # type: ignore[arg-type]
