"""Iteration over the loop's containers while callbacks of the program change them."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.compat import registry
from tests.kernel.tools import turn

Handler = Callable[[Any, dict[str, Any]], object]


def creates_a_task(loop: runtime.Loop, report: dict[str, Any]) -> None:
    loop.create_task(runtime.sleep(1))


def closes_the_loop(loop: runtime.Loop, report: dict[str, Any]) -> None:
    loop.close()


def cancels_all_tasks(loop: runtime.Loop, report: dict[str, Any]) -> None:
    for task in [*loop._tasks]:
        task.cancel()
    report["task"].cancel()


def calls_back(loop: runtime.Loop, report: dict[str, Any]) -> None:
    loop.call_later(1, print)


def raises(loop: runtime.Loop, report: dict[str, Any]) -> None:
    raise ZeroDivisionError


HANDLERS: list[Handler] = [
    creates_a_task,
    closes_the_loop,
    cancels_all_tasks,
    calls_back,
    raises,
]


@pytest.mark.parametrize("handler", HANDLERS)
def test_an_exception_handler_cannot_keep_a_loop_from_closing(handler: Handler) -> None:
    reported: list[str] = []

    def handle(loop: runtime.Loop, report: dict[str, Any]) -> None:
        if "task" in report:
            reported.append(report["task"].get_name())
            handler(loop, report)

    loop = runtime.new_event_loop()
    loop.set_exception_handler(handle)
    for number in range(5):
        loop.create_task(runtime.sleep(3600), name=str(number))
    turn(loop)
    loop.close()
    assert loop.is_closed()
    assert sorted(reported) == ["0", "1", "2", "3", "4"]
    assert not loop._tasks
    loop.close()


@pytest.mark.parametrize("fatal", [SystemExit, KeyboardInterrupt])
def test_a_loop_is_closed_when_its_exception_handler_ends_the_program(
    fatal: type[BaseException],
) -> None:
    def handle(loop: runtime.Loop, report: dict[str, Any]) -> None:
        raise fatal

    loop = runtime.new_event_loop()
    loop.set_exception_handler(handle)
    for _ in range(2):
        loop.create_task(runtime.sleep(3600))
    turn(loop)
    with pytest.raises(fatal):
        loop.close()
    assert loop.is_closed()
    loop.close()


def test_a_repr_may_add_a_callback_to_the_future_that_calls_it(loop: runtime.Loop) -> None:
    class Callback:
        def __call__(self, future: object) -> None:
            """Serve as a callback."""

        def __repr__(self) -> str:
            future.add_done_callback(Callback())
            return "Callback()"

    future = loop.create_future()
    future.add_done_callback(Callback())
    for number in (1, 2, 4):
        assert repr(future).count("Callback()") <= number


class Changing(set[Any]):
    """A set of loops that gains and loses loops during an iteration."""

    def __iter__(self) -> Iterator[Any]:
        raise RuntimeError("Set changed size during iteration")


def test_other_threads_may_make_loops_meanwhile(
    loop: runtime.Loop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The iteration uses a copy, which is made in one step."""
    loops = Changing([weakref.ref(loop)])
    monkeypatch.setattr(registry, "_loops", loops)
    task = loop.create_task(runtime.sleep(0))
    assert len(registry._EveryTask()) == 1
    assert task in registry._EveryTask()
    every: set[Any] = asyncio.all_tasks(loop)
    assert every == {task}
    loop.run_until_complete(task)
