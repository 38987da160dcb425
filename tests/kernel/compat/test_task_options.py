"""Options of ``create_task``, task factories, and eager starts that fail."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

import runtime

aio: Any = asyncio

Create = Callable[..., Any]


async def nothing() -> None:
    pass


async def in_a_group(coro: Any, **options: Any) -> Any:
    async with runtime.TaskGroup() as group:
        return group.create_task(coro, **options)


CREATORS: dict[str, Create] = {
    "runtime.create_task": runtime.create_task,
    "loop.create_task": lambda *args, **options: runtime.get_running_loop().create_task(
        *args, **options
    ),
}


@pytest.fixture(params=CREATORS)
def create(request: pytest.FixtureRequest) -> Create:
    return CREATORS[request.param]


class Factory:
    """A task factory that records the keywords it receives."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []

    def __call__(self, loop: Any, coro: Any, **options: Any) -> Any:
        self.calls.append(dict(options))
        options.pop("anything", None)
        return runtime.Task(coro, loop=loop, **options)


def run_with(factory: Any, main: Callable[[], Any]) -> Any:
    with runtime.Runner() as runner:
        runner.get_loop().set_task_factory(factory)
        return runner.run(main())


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"name": "named"},
        {"name": None},
        {"context": None},
        {"eager_start": False},
        {"eager_start": True},
        {"anything": 7},
        {"name": "n", "context": None, "eager_start": None, "anything": 7},
    ],
    ids=str,
)
def test_a_factory_receives_the_keywords_of_the_caller(
    create: Create, options: dict[str, Any]
) -> None:
    factory = Factory()

    async def main() -> None:
        factory.calls.clear()
        task = create(nothing(), **options)
        assert factory.calls == [options]
        if options.get("name"):
            assert task.get_name() == options["name"]
        await task
        factory.calls.clear()
        await (await in_a_group(nothing(), **options))
        assert factory.calls == [options]

    run_with(factory, main)


async def test_a_factory_of_old_is_named_afterwards(create: Create) -> None:
    def bare(loop: Any, coro: Any) -> Any:
        return runtime.Task(coro, loop=loop)

    def with_context(loop: Any, coro: Any, context: Any = None) -> Any:
        return runtime.Task(coro, loop=loop, context=context)

    for factory in (bare, with_context):
        runtime.get_running_loop().set_task_factory(factory)
        named = create(nothing(), name="named", context=None)
        unnamed = create(nothing(), name=None)
        assert named.get_name() == "named"
        assert unnamed.get_name().startswith("Task-")
        await runtime.gather(named, unnamed)


async def test_without_a_factory_other_keywords_are_an_error(create: Create) -> None:
    coro = nothing()
    with pytest.raises(TypeError, match="unexpected keyword argument 'anything'"):
        create(coro, anything=7)
    coro.close()
    assert len(runtime.all_tasks()) == 1


@pytest.mark.parametrize("eager", [False, True])
async def test_a_context_that_is_none_is_refused_at_the_call(create: Create, eager: bool) -> None:
    coro = nothing()
    with pytest.raises(TypeError, match=r"a contextvars\.Context was expected, got 'text'"):
        create(coro, context="text", eager_start=eager)
    coro.close()
    assert len(runtime.all_tasks()) == 1
    await runtime.sleep(0)


async def test_an_eager_start_in_a_context_that_is_entered_fails_at_the_call(
    create: Create,
) -> None:
    context = contextvars.copy_context()
    coro = nothing()

    def inside() -> None:
        with pytest.raises(RuntimeError, match="cannot enter context"):
            create(coro, context=context, eager_start=True)

    me = runtime.current_task()
    context.run(inside)
    coro.close()
    assert runtime.all_tasks() == {me}
    assert runtime.current_task() is me
    await runtime.sleep(0)


def test_a_task_in_a_context_that_is_entered_fails(create: Create) -> None:
    """Asyncio reports the error and never ends the task; here the task ends with the error."""

    async def main() -> None:
        coro = nothing()
        task = create(coro, context=context)
        with pytest.raises(RuntimeError, match="cannot enter context"):
            await task
        coro.close()

    context = contextvars.copy_context()
    with runtime.Runner() as runner:
        # The whole run is inside the context, so that no task of the run can enter it again.
        context.run(runner.run, main(), context=contextvars.Context())


def test_an_eager_start_from_a_foreign_thread_is_refused() -> None:
    errors: list[BaseException] = []
    ran_in: list[int] = []

    async def note() -> None:
        ran_in.append(threading.get_ident())

    def start(loop: runtime.Loop) -> None:
        for create in (loop.create_task, lambda *args, **options: runtime.Task(*args, **options)):
            coro = note()
            options: dict[str, Any] = {} if create == loop.create_task else {"loop": loop}
            try:
                create(coro, eager_start=True, **options)
            except RuntimeError as error:
                errors.append(error)
            coro.close()

    async def main() -> None:
        loop = runtime.get_running_loop()
        me = runtime.current_task()
        await runtime.to_thread(start, loop)
        assert runtime.all_tasks() == {me}
        assert runtime.current_task() is me

    runtime.run(main(), debug=False)
    assert len(errors) == 2
    assert all("Non-thread-safe operation" in str(error) for error in errors)
    assert ran_in == []


@pytest.mark.parametrize("waits", [False, True])
async def test_an_eager_child_cancels_its_parent(create: Create, waits: bool) -> None:
    """The parent is cancelled once, at its next await, whatever the child does afterwards."""

    async def child(parent: runtime.Task[Any]) -> str:
        parent.cancel("by the child")
        if waits:
            await runtime.sleep(0)
        return "ended"

    async def parent() -> str:
        me = runtime.current_task()
        assert me is not None
        task = create(child(me), eager_start=True)
        assert task.done() is not waits
        assert runtime.current_task() is me
        with pytest.raises(runtime.CancelledError) as caught:
            await runtime.sleep(3600)
        assert caught.value.args == ("by the child",)
        assert me.uncancel() == 0
        await runtime.sleep(0)
        result: str = await task
        return result

    assert await create(parent()) == "ended"


@pytest.mark.skipif(sys.version_info < (3, 14), reason="since Python 3.14")
def test_asyncio_s_create_task_passes_everything_on() -> None:
    """From Python 3.14 on, ``asyncio.create_task`` and its groups accept any keyword."""
    factory = Factory()

    async def main() -> None:
        factory.calls.clear()
        await aio.create_task(nothing(), name="named", context=None)
        async with asyncio.TaskGroup() as group:
            group.create_task(nothing(), name="named")
        assert [call.get("name") for call in factory.calls] == ["named", "named"]

    run_with(factory, main)
