"""Checks and words by which code written for asyncio recognizes futures, tasks and loops."""

from __future__ import annotations

import asyncio
import gc
import re
import socket
import sys
from collections.abc import Generator
from contextvars import ContextVar, copy_context
from types import GenericAlias
from typing import Any

import pytest

import runtime


async def test_a_future_is_an_instance_of_asyncios_class() -> None:
    future: object = runtime.get_running_loop().create_future()
    kinds = [kind for kind in (asyncio.Future, runtime.Future) if isinstance(future, kind)]
    assert len(kinds) == 2
    assert not isinstance(future, asyncio.Task)
    assert type(future) is runtime.Future


async def test_a_task_is_an_instance_of_asyncios_classes() -> None:
    async def nothing() -> None:
        pass

    task = runtime.create_task(nothing())
    kinds: list[type] = [asyncio.Task, asyncio.Future, runtime.Task, runtime.Future]
    assert [kind for kind in kinds if isinstance(task, kind)] == kinds
    await task


async def test_a_task_that_ends_in_its_eager_start_has_no_coroutine() -> None:
    async def nothing() -> None:
        pass

    eager = runtime.create_task(nothing(), name="at once", eager_start=True)
    later = runtime.create_task(nothing())
    await later
    assert eager.get_coro() is None
    assert repr(eager).startswith("<Task finished name='at once' result=None")
    assert eager.get_stack() == []
    coro = later.get_coro()
    assert coro is not None
    assert coro is later.get_coro()


def test_subclasses_are_subscribed_as_asyncios_are() -> None:
    class Special(runtime.Future[Any]):
        pass

    for alias in (runtime.Future[int], runtime.Task[int], Special[int]):  # type: ignore[misc]
        assert isinstance(alias, GenericAlias)
        assert alias.__args__ == (int,)


def test_debug_mode_has_the_origins_of_coroutines_noted() -> None:
    outside = sys.get_coroutine_origin_tracking_depth()
    depths: list[int] = []

    async def main() -> None:
        loop = runtime.get_running_loop()
        for debug in (True, False, True):
            loop.set_debug(debug)
            await runtime.sleep(0)
            depths.append(sys.get_coroutine_origin_tracking_depth())

    runtime.run(main(), debug=False)
    assert [depth > outside for depth in depths] == [True, False, True]
    assert sys.get_coroutine_origin_tracking_depth() == outside


def test_a_stopped_loop_names_the_future_in_a_note() -> None:
    loop = runtime.new_event_loop()
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError) as caught:
        loop.run_until_complete(future)
    assert str(caught.value) == "Event loop stopped before Future completed."
    (note,) = caught.value.__notes__
    assert note.startswith("It is <Future pending")
    loop.close()


async def test_a_task_that_was_asked_to_end_is_described_as_cancelling() -> None:
    async def stubborn() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            await runtime.sleep(3600)

    task = runtime.create_task(stubborn())
    await runtime.sleep(0)
    task.cancel()
    await runtime.sleep(0)
    asked = repr(task)
    task.uncancel()
    taken_back = repr(task)
    task.cancel()
    assert asked.startswith("<Task cancelling ")
    assert taken_back.startswith("<Task pending ")


async def test_a_future_without_get_loop_can_be_awaited() -> None:
    class Old:
        _asyncio_future_blocking = False

        def __init__(self, loop: runtime.Loop) -> None:
            self._loop = loop
            self._inner = loop.create_future()

        def add_done_callback(self, callback: Any, context: Any = None) -> None:
            self._inner.add_done_callback(lambda _: callback(self), context=context)

        def result(self) -> Any:
            return self._inner.result()

        def __await__(self) -> Generator[Any, None, Any]:
            self._asyncio_future_blocking = True
            yield self
            return self.result()

    loop = runtime.get_running_loop()
    old = Old(loop)
    loop.call_soon(old._inner.set_result, "done")
    result: str = await old
    assert result == "done"


def test_a_plain_generator_is_run_as_a_coroutine_where_asyncio_does() -> None:
    def generator() -> Generator[Any, None, str]:
        yield
        return "end"

    async def main() -> str:
        return await runtime.create_task(generator())

    if sys.version_info < (3, 12):
        assert runtime.run(main()) == "end"
    else:
        with pytest.raises(TypeError, match="a coroutine was expected"):
            runtime.run(main())


_place: ContextVar[str] = ContextVar("_place", default="outside")


async def test_an_exception_handler_runs_in_the_context_of_the_failed_callback() -> None:
    seen: list[tuple[str, str]] = []

    def handler(loop: object, context: dict[str, Any]) -> None:
        seen.append((context["message"].split()[0], _place.get()))

    def fail() -> None:
        raise ZeroDivisionError

    async def in_task() -> None:
        _place.set("task")
        raise ZeroDivisionError

    loop = runtime.get_running_loop()
    loop.set_exception_handler(handler)
    inside = copy_context()
    inside.run(_place.set, "callback")
    loop.call_soon(fail, context=inside)
    await runtime.wait([loop.create_task(in_task())])
    gc.collect()
    loop.call_exception_handler({"message": "other"})
    assert sorted(seen) == [("Exception", "callback"), ("Task", "task"), ("other", "outside")]


async def test_an_exception_handler_may_run_while_the_context_is_entered() -> None:
    seen: list[str] = []

    async def fail() -> None:
        raise ZeroDivisionError

    loop = runtime.get_running_loop()
    loop.set_exception_handler(lambda loop, context: seen.append(_place.get()))
    shared = copy_context()

    async def share() -> None:
        _place.set("shared")
        await runtime.wait([loop.create_task(fail(), context=shared)])
        gc.collect()

    await loop.create_task(share(), context=shared)
    assert seen == ["shared"]


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("call_soon", "a callable object"),
        ("set_exception_handler", "A callable object or None"),
        ("set_task_factory", "task factory must be a callable or None"),
        ("create_task", "a coroutine was expected, got 1"),
    ],
)
def test_refusals_have_the_words_that_asyncios_have(method: str, words: str) -> None:
    loop = runtime.new_event_loop()
    try:
        with pytest.raises(TypeError, match=re.escape(words)):
            getattr(loop, method)(1)
    finally:
        loop.close()


def test_a_future_of_another_loop_is_refused_in_asyncios_words() -> None:
    other = runtime.new_event_loop()
    future = other.create_future()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="Task .* got Future .* attached to a different"):
            await future

    runtime.run(main())
    other.close()


@pytest.mark.parametrize("method", ["add_reader", "remove_reader", "add_writer", "remove_writer"])
async def test_the_descriptor_of_a_transport_is_left_to_it(method: str) -> None:
    loop = runtime.get_running_loop()
    ours, theirs = socket.socketpair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    arguments = [print] if method.startswith("add") else []
    with pytest.raises(RuntimeError, match="File descriptor .* is used by transport"):
        getattr(loop, method)(ours.fileno(), *arguments)
    transport.abort()
    theirs.close()
    await runtime.sleep(0)


def test_coroutines_are_no_callbacks() -> None:
    async def nothing() -> None:
        pass

    loop = runtime.new_event_loop()
    loop.set_debug(True)
    wrong: Any
    for wrong in (nothing, nothing()):
        with pytest.raises(TypeError, match=r"coroutines cannot be used with call_soon\(\)"):
            loop.call_soon(wrong)
    loop.close()
