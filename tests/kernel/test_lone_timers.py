"""A timer that is set while no other is new: it waits outside of the list of new timers."""

from __future__ import annotations

import itertools
import random
import selectors
import socket
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.kernel.tools import Clock, turn


class CountingSelector(selectors.SelectSelector):
    """Counts its polls."""

    polls = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.polls += 1
        return super().select(timeout)


def set_one_after_another(loop: runtime.Loop, count: int, at_end: Callable[[], object]) -> None:
    """Set a timer that is due at once, which sets the next one, ``count`` times in all."""

    def fire(left: int) -> None:
        if left:
            loop.call_later(0, fire, left - 1)
        else:
            at_end()

    fire(count)


def test_timers_that_are_due_at_once_are_no_reason_to_poll_in_each_turn() -> None:
    selector = CountingSelector()
    loop = runtime.Loop(selector)
    set_one_after_another(loop, 800, loop.stop)
    loop.run_forever()
    assert 800 / 8 <= selector.polls <= 200
    loop.close()


def test_a_descriptor_is_served_beside_timers_that_are_due_at_once(loop: runtime.Loop) -> None:
    one, other = socket.socketpair()
    arrived: list[bytes] = []
    fired = 0

    def receive() -> None:
        arrived.append(one.recv(1))
        loop.stop()

    def fire() -> None:
        nonlocal fired
        fired += 1
        if fired == 100:  # By now the loop polls rarely.
            other.send(b"x")
        loop.call_later(0, fire)

    loop.add_reader(one, receive)
    fire()
    loop.run_forever()
    loop.remove_reader(one)
    assert arrived == [b"x"]
    one.close()
    other.close()


def test_equal_deadlines_keep_their_order_when_the_lone_timer_is_cancelled(
    loop: runtime.Loop,
) -> None:
    ran: list[str] = []
    lone = loop.call_at(0, ran.append, "lone")
    loop.call_at(0, ran.append, "second")
    lone.cancel()
    loop.call_at(0, ran.append, "third")
    turn(loop, 2)
    assert ran == ["second", "third"]


def test_a_cancelled_lone_timer_leaves_no_deadline_behind() -> None:
    clock = Clock()
    loop = runtime.Loop(clock=clock)
    ran: list[str] = []
    loop.call_at(1, ran.append, "soon").cancel()
    later = loop.call_at(5, ran.append, "later")
    clock.now = 2.0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []
    assert loop._timers.pending() == [later]
    clock.now = 6.0
    turn(loop, 2)
    assert ran == ["later"]
    loop.close()


def test_a_cancelled_timer_after_the_lone_one_does_not_make_that_due() -> None:
    clock = Clock()
    loop = runtime.Loop(clock=clock)
    ran: list[str] = []
    loop.call_at(5, ran.append, "later")
    loop.call_at(1, ran.append, "soon").cancel()
    clock.now = 2.0
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert ran == []
    clock.now = 6.0
    turn(loop, 2)
    assert ran == ["later"]
    loop.close()


@pytest.mark.parametrize("seed", range(20))
def test_timers_fire_in_the_order_of_their_deadlines_and_not_before(seed: int) -> None:
    """Few timers, in busy turns: the lone one is set, cancelled, merged and due in every order."""
    numbers = random.Random(seed)
    clock = Clock()
    loop = runtime.Loop(clock=clock)
    ran: list[int] = []
    # The timers that are set, by their number, in the order in which they were set.
    waiting: dict[int, runtime.TimerHandle] = {}
    keys = itertools.count()
    for _ in range(300):
        for _ in range(numbers.choice((0, 1, 1, 2, 3))):
            if waiting and numbers.random() < 0.4:
                waiting.pop(numbers.choice(list(waiting))).cancel()
            else:
                key = next(keys)
                when = clock.now + numbers.choice((0, 0, 1, 2, 5))
                waiting[key] = loop.call_at(when, ran.append, key)
        clock.now += numbers.choice((0, 0, 1, 3))
        due = [key for key, handle in waiting.items() if handle.when() <= clock.now]
        due.sort(key=lambda key: waiting[key].when())
        turn(loop, 2)
        assert ran == due
        ran.clear()
        for key in due:
            del waiting[key]
    loop.close()


def test_a_timer_set_while_the_lone_one_moves_fires_too(loop: runtime.Loop) -> None:
    ran: list[str] = []
    loop.call_at(0, ran.append, "lone")

    def queue(timed: Any) -> None:
        if not ran and not loop._ready:
            loop.call_at(0, ran.append, "new")
        loop._ready_append(timed)

    loop._timers.pop_due(loop.time(), queue)
    turn(loop, 3)
    assert ran == ["lone", "new"]
    assert loop._timers.size() == 0


def test_a_lone_timer_cancelled_while_it_moves_does_not_fire(loop: runtime.Loop) -> None:
    ran: list[str] = []
    lone = loop.call_at(0, ran.append, "lone")
    loop._timers._moving = True  # As while a finalizer runs.
    lone.cancel()
    loop._timers._moving = False
    assert (loop._timers.size(), loop._timers.count()) == (1, 0)
    turn(loop, 2)
    assert ran == []
    assert (loop._timers.size(), loop._timers._cancelled) == (0, 0)
