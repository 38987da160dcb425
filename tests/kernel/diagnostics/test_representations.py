"""``repr`` of objects that refer to one another: it ends, it is short, and it raises nothing."""

from __future__ import annotations

import asyncio
import functools
from collections import deque
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.kernel.tools import turn

LONGEST = 1000


class Counting:
    """An object that counts the calls of its ``repr``, which includes the objects it refers to."""

    def __init__(self, *inner: object) -> None:
        self.inner = [*inner]
        self.shown = 0

    def __repr__(self) -> str:
        self.shown += 1
        assert self.shown < 1000, "the number of times grows without bound"
        return f"Counting({self.inner!r})"

    def __call__(self, *_: object) -> None:
        """Serve as a callback."""


class Failing:
    def __repr__(self) -> str:
        raise ZeroDivisionError

    def __call__(self, *_: object) -> None:
        """Serve as a callback."""

    def __getattr__(self, name: str) -> object:
        raise ZeroDivisionError


def stop(tasks: object, _task: object) -> None:
    """Serve as a callback that stops other tasks."""


def with_a_set_of_tasks_as_argument(loop: runtime.Loop, counter: Counting) -> list[object]:
    tasks = {loop.create_task(runtime.sleep(1), name=str(number)) for number in range(6)}
    for task in tasks:
        counter.inner.append(task)
        task.add_done_callback(functools.partial(stop, tasks))
        task.add_done_callback(functools.partial(stop, counter))
    return [*tasks]


def with_callbacks_that_name_it(loop: runtime.Loop, counter: Counting) -> list[object]:
    task = loop.create_task(runtime.sleep(1))
    counter.inner.append(task)
    for _ in range(3):
        task.add_done_callback(functools.partial(stop, task))
        task.add_done_callback(functools.partial(stop, counter))
    return [task]


def with_results_that_hold_each_other(loop: runtime.Loop, counter: Counting) -> list[object]:
    futures = [loop.create_future() for _ in range(6)]
    for future in futures:
        future.set_result([counter, *futures])
    counter.inner += futures
    return [*futures]


def with_exceptions_that_hold_each_other(loop: runtime.Loop, counter: Counting) -> list[object]:
    futures = [loop.create_future() for _ in range(4)]
    for future in futures:
        future.set_exception(ValueError(counter, *futures))
        future.exception()
    counter.inner += futures
    return [*futures]


def with_handles_that_are_their_arguments(loop: runtime.Loop, counter: Counting) -> list[object]:
    handles: list[object] = []
    handles += [loop.call_soon(stop, handles, counter) for _ in range(4)]
    handles += [loop.call_later(1, stop, handles, counter) for _ in range(4)]
    handles += [loop.call_soon_threadsafe(counter) for _ in range(4)]
    counter.inner.append(handles)
    return [*handles]


def with_gatherings(loop: runtime.Loop, counter: Counting) -> list[object]:
    future: runtime.Future[Any] = loop.create_future()
    gatherings: list[runtime.Future[Any]] = [runtime.gather(future, future) for _ in range(4)]
    waiters: list[runtime.Future[Any]] = [*gatherings, future]
    for gathering in waiters:
        gathering.add_done_callback(functools.partial(stop, gatherings))
        gathering.add_done_callback(functools.partial(stop, counter))
        counter.inner.append(gathering)
    return [*waiters]


def with_queues_of_queues(loop: runtime.Loop, counter: Counting) -> list[object]:
    queues: list[runtime.Queue[object]] = [runtime.Queue() for _ in range(4)]
    for queue in queues:
        for other in [*queues, counter]:
            queue.put_nowait(other)
    counter.inner += queues
    return [*queues]


def with_futures_of_asyncio(loop: runtime.Loop, counter: Counting) -> list[object]:
    theirs: list[asyncio.Future[object]] = [asyncio.Future(loop=loop) for _ in range(3)]
    ours = [loop.create_future() for _ in range(3)]
    both: list[Any] = [*theirs, *ours]
    for future in both:
        future.add_done_callback(functools.partial(stop, [*both, counter]))
    counter.inner += ours
    return [*ours]


CYCLES = [
    with_a_set_of_tasks_as_argument,
    with_callbacks_that_name_it,
    with_results_that_hold_each_other,
    with_exceptions_that_hold_each_other,
    with_handles_that_are_their_arguments,
    with_gatherings,
    with_queues_of_queues,
    with_futures_of_asyncio,
]


@pytest.mark.parametrize("make", CYCLES)
def test_an_object_that_refers_to_itself_is_shown_once(
    loop: runtime.Loop, make: Callable[[runtime.Loop, Counting], list[object]]
) -> None:
    counter = Counting()
    made = make(loop, counter)
    for each in made:
        counter.shown = 0
        text = repr(each)
        assert text.startswith("<")
        assert text.endswith(">")
        assert len(text) <= LONGEST
        # The object is in the arguments of a few callbacks, each of which is shown separately.
        assert counter.shown < 50
        assert len(str(each)) <= LONGEST
    discard(loop)


def test_tasks_that_await_one_another_are_shown(loop: runtime.Loop) -> None:
    async def wait_for(number: int) -> None:
        await tasks[number]

    tasks = [loop.create_task(wait_for((number + 1) % 3)) for number in range(3)]
    turn(loop)
    assert "wait_for=<Task pending" in repr(tasks[0])
    assert repr(tasks[0]).count("wait_for=") == 1
    discard(loop)


def test_a_chain_of_tasks_is_shown(loop: runtime.Loop) -> None:
    async def wait_for(task: runtime.Future[None]) -> None:
        await task

    last: runtime.Future[None] = loop.create_future()
    for _ in range(3000):
        last = loop.create_task(wait_for(last))
    turn(loop)
    assert len(repr(last)) <= LONGEST
    discard(loop)


@pytest.mark.parametrize(
    "value", ["x" * 10**6, [["x" * 1000] * 1000] * 1000, 10**5000, ("x" * 100,) * 100], ids=type
)
def test_long_representations_are_shortened(loop: runtime.Loop, value: object) -> None:
    def callback(*_: object, keyword: object = None) -> None:
        """Do nothing."""

    result, error = loop.create_future(), loop.create_future()
    result.set_result(value)
    error.set_exception(ValueError(value))
    error.exception()
    called_back = loop.create_future()
    called_back.add_done_callback(functools.partial(callback, value, keyword=value))
    task = loop.create_task(runtime.sleep(0), name="x" * 10**6)
    handle = loop.call_soon(callback, *[value] * 100)
    queue: runtime.Queue[object] = runtime.Queue()
    queue.put_nowait(value)
    for each in (result, error, called_back, task, handle, queue):
        text = repr(each)
        assert len(text) <= LONGEST
        assert text.startswith("<")
        assert text.endswith(">")
    discard(loop)


def test_a_repr_that_raises_harms_nothing(loop: runtime.Loop) -> None:
    class Error(Exception, Failing):
        __repr__ = Failing.__repr__

    failing: Any = Failing()
    result, error = loop.create_future(), loop.create_future()
    result.set_result(deque([failing]))
    error.set_exception(Error())
    error.exception()
    called_back = loop.create_future()
    called_back.add_done_callback(failing)
    called_back.add_done_callback(functools.partial(stop, failing))
    handle = loop.call_soon(failing, failing)
    queue: runtime.Queue[object] = runtime.Queue()
    queue.put_nowait(failing)
    for each in (result, error, called_back, handle, queue):
        assert repr(each).startswith("<")
    discard(loop)


def test_a_yield_of_an_object_without_repr_is_refused_in_the_coroutine(loop: runtime.Loop) -> None:
    class Odd:
        __repr__ = Failing.__repr__

        def __await__(self) -> Any:
            yield self

    async def child() -> str:
        with pytest.raises(RuntimeError) as caught:
            await Odd()
        return str(caught.value)

    assert "whose repr() raised" in loop.run_until_complete(child())


def test_a_callback_that_fails_and_cannot_be_shown_is_reported(loop: runtime.Loop) -> None:
    class Callback(Failing):
        def __call__(self, *_: object) -> None:
            raise IndexError

    reports: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, report: reports.append(report))
    failing: Any = Callback()
    loop.call_soon(failing, failing)
    turn(loop)
    assert [type(report["exception"]) for report in reports] == [IndexError]


def test_only_within_another_is_it_brief(loop: runtime.Loop) -> None:
    inner = loop.create_future()
    inner.set_result("value")
    outer = loop.create_future()
    outer.set_result([inner])
    assert repr(outer) == "<Future finished result=[<Future finished>]>"
    assert repr(inner) == "<Future finished result='value'>"
    error = loop.create_future()
    error.set_exception(KeyboardInterrupt("as always"))
    assert isinstance(error.exception(), KeyboardInterrupt)
    assert repr([inner, outer]).count("result=") == 2


def discard(loop: runtime.Loop) -> None:
    """Suppress reports about the remaining objects, which are not the subject of the test."""
    loop.set_exception_handler(lambda _loop, _report: None)
    for task in asyncio.all_tasks(loop):
        coro: Any = task.get_coro()
        coro.close()
