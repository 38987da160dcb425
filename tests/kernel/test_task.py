"""Tasks: every way in which a coroutine suspends, resumes, is cancelled, and ends."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import io
import types
from collections.abc import Coroutine, Generator
from typing import Any

import pytest

import runtime
from runtime.kernel.public_types import Task
from tests.support.blocked import all_tasks_blocked

pytestmark = pytest.mark.runtime(debug=False)


def run(main: Coroutine[Any, Any, Any]) -> Any:
    return runtime.run(main, debug=False)


def reports_of(loop: runtime.Loop) -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    return reports


def current_task_of_asyncio() -> Any:
    """Return the current task according to asyncio."""
    return asyncio.current_task()


def all_tasks_of_asyncio() -> set[Any]:
    """Return the set of all tasks according to asyncio."""
    return set(asyncio.all_tasks())


@types.coroutine
def bare_yield(value: Any = None) -> Generator[Any, Any, Any]:
    return (yield value)


async def test_awaits_a_value() -> None:
    async def child() -> str:
        await runtime.sleep(0)
        return "value"

    task = runtime.create_task(child())
    assert not task.done()
    assert await task == "value"
    assert task.result() == await task == "value"
    assert task.exception() is None
    assert await task == "value"


async def test_awaits_in_order_of_creation() -> None:
    async def child(number: int) -> None:
        order.append(number)
        await runtime.sleep(0)
        order.append(number + 10)

    order: list[int] = []
    tasks = [runtime.create_task(child(number)) for number in range(3)]
    for task in tasks:
        await task
    assert order == [0, 1, 2, 10, 11, 12]


async def test_exceptions_reach_the_awaiting_task() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("here")

    task = runtime.create_task(fail())
    depths = []
    for _ in range(5):
        with pytest.raises(ZeroDivisionError, match="here") as caught:
            await task
        depths.append(len(caught.traceback))
    assert len(set(depths[1:])) == 1, "the traceback must not grow with each raise"
    assert isinstance(task.exception(), ZeroDivisionError)
    assert "exception=ZeroDivisionError('here')" in repr(task)


@pytest.mark.parametrize("value", [(1, 2), (3,), [4], 5, "text", object])
def test_a_yield_of_anything_else_raises_in_the_coroutine(value: Any) -> None:
    async def child() -> str:
        try:
            await bare_yield(value)
        except RuntimeError as error:
            return str(error)
        return "not refused"

    async def main() -> str:
        return await runtime.create_task(child(), name="odd one")

    text = run(main())
    assert repr(value) in text
    assert "'odd one'" in text


async def test_a_yield_of_a_generator_names_the_missing_yield_from() -> None:
    def generator() -> Generator[None, None, None]:
        yield

    with pytest.raises(RuntimeError, match="yield from"):
        await bare_yield(generator())


async def test_a_future_that_is_yielded_and_not_awaited() -> None:
    future = runtime.get_running_loop().create_future()
    with pytest.raises(RuntimeError, match="await"):
        await bare_yield(future)


async def test_awaiting_itself() -> None:
    task = runtime.current_task()
    assert task is not None
    with pytest.raises(RuntimeError, match="cannot await on itself"):
        await task


def test_a_future_of_another_loop() -> None:
    other = runtime.new_event_loop()
    theirs = asyncio.new_event_loop()

    async def main() -> None:
        for loop in (other, theirs):
            with pytest.raises(RuntimeError, match="attached to a different loop"):
                await loop.create_future()

    run(main())
    other.close()
    theirs.close()


async def test_generator_based_coroutines() -> None:
    @types.coroutine
    def inner() -> Generator[Any, Any, int]:
        yield from runtime.sleep(0).__await__()
        yield
        return 7

    assert await inner() == 7
    assert await runtime.create_task(inner()) == 7


async def test_an_object_that_is_no_coroutine_is_refused() -> None:
    for wrong in (None, 1, len):
        with pytest.raises(TypeError, match="coroutine"):
            runtime.get_running_loop().create_task(wrong)  # type: ignore[arg-type]


async def test_asyncio_futures_are_awaited_cancelled_and_fail() -> None:
    loop = runtime.get_running_loop()
    future: asyncio.Future[int] = asyncio.Future(loop=loop)
    loop.call_soon(future.set_result, 5)
    assert await future == 5
    assert await future == 5
    future = asyncio.Future(loop=loop)
    loop.call_soon(future.set_exception, ZeroDivisionError())
    with pytest.raises(ZeroDivisionError):
        await future
    future = asyncio.Future(loop=loop)

    async def wait() -> None:
        await future

    task = runtime.create_task(wait())
    await runtime.sleep(0)
    assert task._waits_for() is future
    assert "wait_for=<Future" in repr(task)
    task.cancel("why")
    with pytest.raises(runtime.CancelledError):
        await task
    assert future.cancelled()


async def test_current_task_is_the_running_one() -> None:
    async def child() -> None:
        assert runtime.current_task() is current_task_of_asyncio() is children[0]
        await runtime.sleep(0)
        assert runtime.current_task() is children[0]

    def callback() -> None:
        seen.append((runtime.current_task(), current_task_of_asyncio()))

    children: list[Any] = []
    seen: list[Any] = []
    me = runtime.current_task()
    children.append(runtime.create_task(child()))
    runtime.get_running_loop().call_soon(callback)
    assert runtime.all_tasks() == all_tasks_of_asyncio() == {me, children[0]}
    await children[0]
    assert current_task_of_asyncio() is me
    assert runtime.all_tasks() == {me}
    assert seen == [(None, None)]


async def test_cancel_while_waiting() -> None:
    async def child() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError as error:
            seen.append(error.args)
            raise

    seen: list[Any] = []
    task = runtime.create_task(child())
    await runtime.sleep(0)
    assert task.cancel("because")
    assert task.cancelling() == 1
    with pytest.raises(runtime.CancelledError):
        await task
    assert task.cancelled()
    assert not task.cancel()
    with pytest.raises(runtime.CancelledError):
        task.exception()
    assert "cancelled" in repr(task)
    assert seen == [("because",)]


def test_cancel_before_the_first_step() -> None:
    async def child() -> None:
        started.append(True)

    async def main() -> None:
        task = runtime.create_task(child())
        task.cancel()
        assert "cancelling" in repr(task)
        with pytest.raises(runtime.CancelledError):
            await task

    started: list[bool] = []
    run(main())
    assert not started


async def test_cancel_in_the_last_step() -> None:
    async def child() -> str:
        task = runtime.current_task()
        assert task is not None
        task.cancel()
        return "too late"

    task = runtime.create_task(child())
    with pytest.raises(runtime.CancelledError):
        await task


async def test_cancel_after_the_wake_up_and_before_the_step() -> None:
    future: runtime.Future[int] = runtime.get_running_loop().create_future()

    async def child() -> int:
        return await future

    task = runtime.create_task(child())
    await runtime.sleep(0)
    future.set_result(1)
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
    assert future.result() == 1


async def test_swallowed_and_delayed_cancellation() -> None:
    async def stubborn() -> str:
        for _ in range(3):
            try:
                await runtime.sleep(3600)
            except runtime.CancelledError:
                swallowed.append(True)
        await runtime.sleep(0)
        return "finished"

    swallowed: list[bool] = []
    task = runtime.create_task(stubborn())
    for number in range(3):
        await runtime.sleep(0)
        task.cancel()
        assert task.cancelling() == number + 1
        await runtime.sleep(0)
        await runtime.sleep(0)
    assert await task == "finished"
    assert not task.cancelled()
    assert len(swallowed) == 3


async def test_uncancel_takes_back_a_request_that_was_not_raised_yet() -> None:
    async def child() -> str:
        task = runtime.current_task()
        assert task is not None
        task.cancel()
        assert task.uncancel() == 0
        assert task.uncancel() == 0
        await runtime.sleep(0)
        return "not cancelled"

    assert await runtime.create_task(child()) == "not cancelled"


async def test_awaiting_a_cancelled_task_gives_the_original_error_once() -> None:
    async def child() -> None:
        raise runtime.CancelledError("from inside")

    task = runtime.create_task(child())
    with pytest.raises(runtime.CancelledError, match="from inside"):
        await task
    with pytest.raises(runtime.CancelledError):
        await task


async def test_names_contexts_and_coroutines() -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="outer")

    async def child() -> str:
        before = variable.get()
        variable.set("changed")
        await runtime.sleep(0)
        assert variable.get() == "changed"
        return before

    context = contextvars.copy_context()
    context.run(variable.set, "given")
    coro = child()
    task = runtime.create_task(coro, name=5, context=context)
    assert task.get_name() == "5"
    task.set_name(6)
    assert task.get_name() == "6"
    assert task.get_coro() is coro
    assert task.get_context() is context
    assert await task == "given"
    assert context[variable] == "changed"
    assert await runtime.create_task(child()) == "outer"
    assert variable.get() == "outer"
    one, two = runtime.create_task(child()), runtime.create_task(child())
    names = [one.get_name(), two.get_name()]
    assert int(names[1].split("-")[1]) == int(names[0].split("-")[1]) + 1
    await one
    await two


async def test_eager_start() -> None:
    async def quick() -> str:
        order.append("child")
        assert runtime.current_task() is not parent[0]
        return "done"

    async def slow() -> str:
        order.append("begun")
        await runtime.sleep(0)
        return "slow"

    order: list[str] = []
    parent: list[Any] = []
    parent.append(runtime.current_task())
    task = runtime.create_task(quick(), eager_start=True)
    order.append("parent")
    assert task.done()
    assert runtime.current_task() is current_task_of_asyncio() is parent[0]
    assert await task == "done"
    task = runtime.create_task(slow(), eager_start=True)
    assert not task.done()
    assert task in runtime.all_tasks()
    assert await task == "slow"

    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await runtime.create_task(fail(), eager_start=True)
    assert order == ["child", "parent", "begun"]


def test_an_eager_task_without_a_running_loop_is_queued() -> None:
    async def child() -> int:
        return 1

    loop = runtime.new_event_loop()
    task = Task(child(), loop=loop, eager_start=True)
    assert not task.done()
    assert loop.run_until_complete(task) == 1
    loop.close()


def test_an_eager_task_from_a_callback() -> None:
    async def child() -> None:
        seen.append(runtime.current_task())

    async def main() -> None:
        loop = runtime.get_running_loop()

        def callback() -> None:
            loop.create_task(child(), eager_start=True)
            seen.append(runtime.current_task())

        loop.call_soon(callback)
        await all_tasks_blocked()

    seen: list[Any] = []
    run(main())
    assert seen[0] is not None
    assert seen[1] is None


async def test_results_cannot_be_set() -> None:
    task = runtime.current_task()
    assert task is not None
    with pytest.raises(RuntimeError, match="coroutine"):
        task.set_result(1)
    with pytest.raises(RuntimeError, match="coroutine"):
        task.set_exception(ValueError())


async def test_the_stack() -> None:
    async def inner() -> None:
        await runtime.sleep(3600)

    async def child() -> None:
        await inner()

    async def fail() -> None:
        raise ZeroDivisionError("why")

    task = runtime.create_task(child(), name="stack")
    await runtime.sleep(0)
    assert [frame.f_code.co_name for frame in task.get_stack()] == ["child"]
    text = io.StringIO()
    task.print_stack(file=text)
    assert "Stack for <Task pending name='stack'" in text.getvalue()
    assert "await inner()" in text.getvalue()
    me = runtime.current_task()
    assert me is not None
    assert me.get_stack(limit=1)[0].f_code.co_name == "test_the_stack"
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
    text = io.StringIO()
    task.print_stack(file=text)
    assert "No stack for" in text.getvalue()
    failed = runtime.create_task(fail())
    await runtime.wait([failed])
    assert failed.get_stack(limit=5)[-1].f_code.co_name == "fail"
    text = io.StringIO()
    failed.print_stack(file=text)
    assert text.getvalue().startswith("Traceback for")
    assert text.getvalue().endswith("ZeroDivisionError: why\n")
    with pytest.raises(ZeroDivisionError):
        await failed


def test_an_unretrieved_exception_is_reported_once() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("lost")

    async def main() -> list[dict[str, Any]]:
        loop = runtime.get_running_loop()
        reports = reports_of(loop)
        task: Any = runtime.create_task(fail(), name="careless")
        await runtime.wait([task])
        del task
        gc.collect()
        gc.collect()
        return reports

    (report,) = run(main())
    assert report["message"] == "Task exception was never retrieved"
    assert str(report["exception"]) == "lost"
    future = report["future"]
    assert future.get_name() == "careless"
    assert future.get_coro().__name__ == "fail"
    assert future.exception() is report["exception"]
    assert future.done()
    assert not future.cancelled()
    assert isinstance(future.get_loop(), runtime.Loop)
    assert "name='careless'" in repr(future)
    assert "source_traceback" not in report


def test_in_debug_mode_the_report_has_the_creation_site() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("lost")

    async def main() -> list[dict[str, Any]]:
        reports = reports_of(runtime.get_running_loop())
        runtime.create_task(fail())
        await all_tasks_blocked()
        gc.collect()
        return reports

    (report,) = runtime.run(main(), debug=True)
    assert report["source_traceback"][-1].filename == __file__
    assert report["future"].get_name().startswith("Task-")


async def test_retrieved_exceptions_are_not_reported() -> None:
    async def fail() -> None:
        raise ZeroDivisionError("seen")

    reports = reports_of(runtime.get_running_loop())
    task: Any = runtime.create_task(fail())
    await all_tasks_blocked()
    task.exception()
    del task
    gc.collect()
    assert reports == []


@pytest.mark.parametrize("fatal", [KeyboardInterrupt, SystemExit])
def test_fatal_exceptions_leave_the_loop(fatal: type[BaseException]) -> None:
    async def child() -> None:
        raise fatal("now")

    loop = runtime.new_event_loop()
    task = loop.create_task(child())
    with pytest.raises(fatal):
        loop.run_until_complete(task)
    assert isinstance(task.exception(), fatal)
    assert loop.run_until_complete(runtime.sleep(0, "goes on")) == "goes on"
    loop.close()


async def test_subclasses() -> None:
    class Mine(Task[int]):
        def __init__(self, coro: Coroutine[Any, Any, int], **options: Any) -> None:
            super().__init__(coro, **options)
            self.extra = "kept"

    async def child() -> int:
        return 3

    task = Mine(child())
    assert await task == 3
    assert task.extra == "kept"
    assert isinstance(task, runtime.Future)
    assert Task[int].__origin__ is Task  # type: ignore[attr-defined]


def test_a_task_needs_a_loop() -> None:
    async def child() -> None: ...

    coro: Any = child()
    with pytest.raises(RuntimeError, match="no running event loop"):
        Task(coro)
    with pytest.raises(RuntimeError, match="no running event loop"):
        runtime.create_task(coro)
    assert coro.cr_frame is None, "the coroutine must have been closed"
