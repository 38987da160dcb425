"""Futures."""

from __future__ import annotations

import asyncio
import contextvars
import gc
import traceback
import weakref
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.future import rearm_future
from tests.kernel.tools import turn


def test_states(loop: runtime.Loop) -> None:
    future: runtime.Future[int] = runtime.Future(loop=loop)
    assert future.get_loop() is loop
    assert not future.done()
    assert repr(future) == "<Future pending>"
    with pytest.raises(runtime.InvalidStateError, match="not set"):
        future.result()
    with pytest.raises(runtime.InvalidStateError, match="not set"):
        future.exception()
    future.set_result(5)
    assert future.done()
    assert not future.cancelled()
    assert future.result() == 5
    assert future.exception() is None
    assert repr(future) == "<Future finished result=5>"
    with pytest.raises(
        runtime.InvalidStateError, match="is already done; its result cannot be set"
    ):
        future.set_result(6)
    with pytest.raises(
        runtime.InvalidStateError, match="is already done; its exception cannot be set"
    ):
        future.set_exception(ValueError())
    assert not future.cancel()


def test_exceptions(loop: runtime.Loop) -> None:
    future = loop.create_future()
    future.set_exception(ValueError)
    assert isinstance(future.exception(), ValueError)
    with pytest.raises(ValueError):  # noqa: PT011
        future.result()
    for wrong in (1, int):
        with pytest.raises(TypeError, match="exception"):
            loop.create_future().set_exception(wrong)  # type: ignore[arg-type]
    future = loop.create_future()
    future.set_exception(StopIteration(3))
    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        future.result()
    assert isinstance(caught.value.__cause__, StopIteration)


async def test_asking_for_an_exception_leaves_its_traceback_as_it_is() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    task = runtime.create_task(fail())
    with pytest.raises(ZeroDivisionError) as caught:
        await task
    raised = traceback.format_exception(caught.value)
    assert task.exception() is caught.value
    assert traceback.format_exception(caught.value) == raised
    assert "await task" in "".join(raised)


def test_cancel(loop: runtime.Loop) -> None:
    future = loop.create_future()
    assert future.cancel("why")
    assert future.cancelled()
    assert future.done()
    assert repr(future) == "<Future cancelled>"
    with pytest.raises(runtime.CancelledError, match="why"):
        future.result()
    with pytest.raises(runtime.CancelledError):
        future.exception()
    assert not future.cancel()
    assert future._state == "CANCELLED"


def test_callbacks_in_the_order_of_subscription(loop: runtime.Loop) -> None:
    calls: list[Any] = []
    future = loop.create_future()

    async def wait(name: str) -> None:
        await future
        calls.append(name)

    one = loop.create_task(wait("first task"))
    turn(loop)
    future.add_done_callback(lambda _: calls.append("callback"))
    two = loop.create_task(wait("second task"))
    turn(loop)
    assert "cb=[wake-up of <Task 'Task-" in repr(future)
    future.set_result(None)
    assert calls == []
    turn(loop)
    assert calls == ["first task", "callback", "second task"]
    assert one.done()
    assert two.done()


def test_a_callback_on_a_finished_future_is_called_in_the_next_turn(loop: runtime.Loop) -> None:
    calls: list[Any] = []
    future = loop.create_future()
    future.set_result(1)
    future.add_done_callback(calls.append)
    assert calls == []
    turn(loop)
    assert calls == [future]


@pytest.mark.parametrize("done", [False, True])
def test_callbacks_that_cannot_be_called(done: bool, loop: runtime.Loop) -> None:
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, report: reports.append(report["exception"]))
    future = loop.create_future()
    if done:
        future.set_result(None)
    wrong: Any = None
    with pytest.raises(TypeError, match="add_done_callback.*callable object, got None"):
        future.add_done_callback(wrong)
    wrong = 5
    future.add_done_callback(wrong)
    if not done:
        future.set_result(None)
    turn(loop)
    assert list(map(type, reports)) == [TypeError]


def test_callbacks_run_in_their_context(loop: runtime.Loop) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)
    context = contextvars.copy_context()
    context.run(variable.set, 1)
    seen: list[int] = []
    future = loop.create_future()
    future.add_done_callback(lambda _: seen.append(variable.get()), context=context)
    future.add_done_callback(lambda _: seen.append(variable.get()))
    future.set_result(None)
    turn(loop)
    assert seen == [1, 0]


def test_remove_done_callback(loop: runtime.Loop) -> None:
    calls: list[Any] = []
    future = loop.create_future()
    assert future.remove_done_callback(calls.append) == 0
    for callback in (calls.append, print, calls.append):
        future.add_done_callback(callback)
    assert future.remove_done_callback(calls.append) == 2
    assert future.remove_done_callback(calls.append) == 0
    assert future.remove_done_callback(print) == 1
    future.set_result(None)
    turn(loop)
    assert calls == []


def test_removing_while_a_comparison_finishes_the_future(loop: runtime.Loop) -> None:
    future = loop.create_future()

    class Evil:
        def __eq__(self, other: object) -> bool:
            if not future.done():
                future.set_result(None)
            return False

        def __hash__(self) -> int:
            return 0

        def __call__(self, _: object) -> None: ...

    future.add_done_callback(Evil())
    assert future.remove_done_callback(Evil()) == 0
    turn(loop)


def test_many_callbacks_are_shown_in_short(loop: runtime.Loop) -> None:
    future = loop.create_future()
    for _ in range(5):
        future.add_done_callback(print)
    assert "<3 more>" in repr(future)


def test_iteration_and_await(loop: runtime.Loop) -> None:
    future = loop.create_future()
    iterator = iter(future)
    assert next(iterator) is future
    with pytest.raises(RuntimeError, match="await wasn.t used with future"):
        next(iterator)
    future.set_result(2)
    with pytest.raises(StopIteration) as caught:
        next(iter(future))
    assert caught.value.value == 2


@pytest.mark.parametrize("value", [None, 2, (1, 2), (), ValueError("not raised"), StopIteration(3)])
def test_the_end_of_an_iteration_has_the_result(loop: runtime.Loop, value: object) -> None:
    async def wait() -> Any:
        return await future

    future: Any = loop.create_future()
    future.set_result(value)
    ends: list[Callable[[], object]] = [
        lambda: next(future.__await__()),
        lambda: future.__await__().__next__(),
        lambda: future.__await__().send(None),
        lambda: iter(future).send(None),
    ]
    for end in ends:
        with pytest.raises(StopIteration) as caught:
            end()
        assert caught.value.value is value
    assert loop.run_until_complete(wait()) is value
    assert list(future) == []


def test_asyncio_knows_it(loop: runtime.Loop) -> None:
    assert asyncio.isfuture(loop.create_future())
    assert runtime.isfuture(loop.create_future())
    assert not runtime.isfuture(1)


def test_an_unretrieved_exception_of_a_plain_future(loop: runtime.Loop) -> None:
    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    future: Any = loop.create_future()
    future.set_exception(ZeroDivisionError())
    del future
    gc.collect()
    (report,) = reports
    assert report["message"] == "Future exception was never retrieved"
    assert report["future"].get_name() == "Future"
    assert report["future"].get_coro() is None
    assert repr(report["future"]) == "<Future finished exception=ZeroDivisionError()>"


def test_debug_mode_shows_where_it_was_made() -> None:
    loop = runtime.new_event_loop()
    loop.set_debug(True)
    future = loop.create_future()
    assert f"created at {__file__}:" in repr(future)
    loop.close()


def test_needs_a_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop: Future"):
        runtime.Future()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="must be one of runtime's"):
            runtime.Future()

    asyncio.run(main())


def test_setting_a_result_after_the_loop_was_closed() -> None:
    loop = runtime.new_event_loop()
    future = loop.create_future()
    future.add_done_callback(print)
    loop.close()
    with pytest.raises(RuntimeError, match="closed"):
        future.set_result(1)


def test_weak_references(loop: runtime.Loop) -> None:
    future: Any = loop.create_future()
    gone: list[bool] = []
    reference = weakref.ref(future, lambda _: gone.append(True))
    assert reference() is future
    del future
    assert reference() is None
    assert gone == [True]


def test_generic_at_run_time() -> None:
    assert runtime.Future[int].__args__ == (int,)  # type: ignore[attr-defined]


def test_rearmed(loop: runtime.Loop) -> None:
    future = loop.create_future()

    async def wait() -> int:
        result: int = await future
        return result

    for number in range(3):
        loop.call_soon(future.set_result, number)
        assert loop.run_until_complete(wait()) == number
        assert rearm_future(future)
        assert not future.done()
        # The task that waited for this future has not resumed.
        assert not rearm_future(future)
    future.cancel()
    assert not rearm_future(future)


def test_a_report_may_be_called_off_as_asyncio_s_subprocesses_do(loop: runtime.Loop) -> None:
    reports: list[Any] = []
    loop.set_exception_handler(lambda _loop, report: reports.append(report))
    future: Any = loop.create_future()
    assert not future._log_traceback
    future.set_exception(LookupError())
    assert future._log_traceback
    with pytest.raises(ValueError, match="False"):
        future._log_traceback = True
    future._log_traceback = False
    assert not future._log_traceback
    del future
    assert reports == []


async def test_initialised_once() -> None:
    async def nothing() -> None:
        pass

    future: runtime.Future[None] = runtime.Future()
    with pytest.raises(RuntimeError, match="Future object is already initialized"):
        future.__init__()  # type: ignore[misc]
    task = runtime.create_task(nothing())
    coro = nothing()
    with pytest.raises(RuntimeError, match="Task object is already initialized"):
        task.__init__(coro)  # type: ignore[misc]
    coro.close()
    await task
