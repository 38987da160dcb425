"""Handles that the compiled build reuses: objects are made while another one is deallocated."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.kernel.tools import turn

Make = Callable[[runtime.Loop, Callable[..., object], Any], Any]

MAKERS: dict[str, Make] = {
    "call_soon": lambda loop, callback, argument: loop.call_soon(callback, argument),
    "call_later": lambda loop, callback, argument: loop.call_later(0, callback, argument),
}


class AtItsEnd:
    """Calls ``then()`` when it is deallocated."""

    def __init__(self, then: Callable[[], object]) -> None:
        self.then = then

    def __del__(self) -> None:
        self.then()


def nothing(*_args: object) -> None:
    pass


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_finalizer_schedules_a_callback_while_a_handle_goes(
    loop: runtime.Loop, make: Make
) -> None:
    ran: list[int] = []
    for number in range(100):
        make(loop, nothing, AtItsEnd(functools.partial(make, loop, ran.append, number)))
    for _ in range(10):
        turn(loop)
    assert sorted(ran) == list(range(100))


@pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)
def test_a_callback_that_is_released_schedules_another(loop: runtime.Loop, make: Make) -> None:
    ran: list[str] = []

    class Callback(AtItsEnd):
        def __call__(self, argument: str) -> None:
            ran.append(argument)

    make(loop, Callback(lambda: make(loop, ran.append, "from the finalizer")), "called")
    for _ in range(3):
        turn(loop)
    assert ran == ["called", "from the finalizer"]


def test_a_new_handle_has_nothing_of_an_earlier_one(loop: runtime.Loop) -> None:
    loop.call_soon(nothing, 1, 2).cancel()
    turn(loop)
    handle = loop.call_soon(nothing)
    assert not handle.cancelled()
    assert "nothing()" in repr(handle)
    timer = loop.call_later(1000, nothing, 1)
    timer.cancel()
    turn(loop)
    del timer
    timer = loop.call_later(2000, nothing)
    assert not timer.cancelled()
    assert timer.when() > loop.time() + 1900
