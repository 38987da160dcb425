"""Finalizers that cancel or set timers whenever the garbage collector happens to run."""

from __future__ import annotations

import contextlib
import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import runtime
from runtime.kernel.timers import TimerHeap
from tests.kernel.tools import turn

MOMENTS = range(-30, 130)
"""Allocations before the collector runs; negative values make up for deallocated objects."""


class Cycle:
    """Calls ``finish()`` when the collector finds it."""

    def __init__(self, finish: Callable[[], object]) -> None:
        self.finish = finish
        self.itself = self

    def __del__(self) -> None:
        self.finish()


@contextlib.contextmanager
def collecting_after(allocations: int, finish: Callable[[], object]) -> Iterator[None]:
    """Have the collector run, and call ``finish``, after ``allocations`` tracked objects."""
    threshold = gc.get_threshold()
    gc.collect()
    # These are more lists than the interpreter keeps for reuse: reused ones are not counted.
    _counted = [[number] for number in range(300)]
    Cycle(finish)
    gc.set_threshold(gc.get_count()[0] + allocations)
    try:
        yield
    finally:
        gc.set_threshold(*threshold)
        gc.collect()


def exact(timers: TimerHeap) -> None:
    """Assert that the heap's count of its cancelled timers is exact."""
    assert timers._cancelled == timers.size() - len(timers.pending())


@pytest.mark.parametrize("are_many", [False, True])
def test_a_finalizer_that_cancels_takes_no_other_timer_along(
    loop: runtime.Loop, are_many: bool
) -> None:
    count = 100 if are_many else 20
    for allocations in MOMENTS:
        ran: list[int] = []
        far = [loop.call_later(1000 + number, print) for number in range(200)]
        turn(loop)
        victims = [loop.call_later(0, print) for _ in range(40)]
        for number in range(count):
            loop.call_later(0, ran.append, number)
        for handle in far[50:150]:
            handle.cancel()

        def finish(victims: list[runtime.TimerHandle] = victims) -> None:
            for handle in victims:
                handle.cancel()

        with collecting_after(allocations, finish):
            loop._timers.merge()
            loop._timers.pop_due(loop.time() + 1, loop._ready_append)
        turn(loop, 3)
        assert ran == list(range(count)), allocations
        for handle in far:
            handle.cancel()
        assert 0 <= loop._timers._cancelled <= loop._timers.size()
        turn(loop, 3)


def test_a_finalizer_cancels_the_latest_of_the_heap_while_it_is_sorted(loop: runtime.Loop) -> None:
    for allocations in MOMENTS:
        ran: list[int] = []
        kept = [loop.call_later(50 + number, print) for number in range(20)]
        latest = loop.call_later(100, print)
        loop._timers.merge()
        for number in range(100):
            loop.call_later(0, ran.append, number)
        with collecting_after(allocations, latest.cancel):
            loop._timers.merge()
        exact(loop._timers)
        turn(loop, 3)
        assert ran == list(range(100))
        assert not any(handle.cancelled() for handle in kept)
        for handle in kept:
            handle.cancel()


@pytest.mark.parametrize("count", [20, 100])
def test_a_finalizer_that_sets_a_timer_has_it_run(loop: runtime.Loop, count: int) -> None:
    for allocations in MOMENTS:
        ran: list[int] = []
        for number in range(count):
            loop.call_later(0, ran.append, number)

        def finish(ran: list[int] = ran) -> None:
            loop.call_later(0, ran.append, -1)

        with collecting_after(allocations, finish):
            loop._timers.merge()
            loop._timers.pop_due(loop.time() + 1, loop._ready_append)
        turn(loop, 3)
        assert sorted(ran) == list(range(-1, count))
        exact(loop._timers)


def test_a_timer_that_goes_when_others_are_swept_may_cancel_more(loop: runtime.Loop) -> None:
    handles = [loop.call_later(1000 + number, print) for number in range(200)]
    turn(loop)

    class Owner:
        def __init__(self, owned: runtime.TimerHandle) -> None:
            self.owned = owned

        def call(self) -> None: ...

        def __del__(self) -> None:
            self.owned.cancel()

    owners = [loop.call_later(2000, Owner(handle).call) for handle in handles[:90]]
    turn(loop)
    for owner in owners:
        owner.cancel()
    for handle in handles[90:180]:
        handle.cancel()
    assert 0 <= loop._timers._cancelled <= loop._timers.size()
    assert len(loop._timers.pending()) == 20
    turn(loop)


def test_a_timer_set_while_many_are_due_waits_for_the_next_turn(loop: runtime.Loop) -> None:
    ran: list[str] = []
    for _ in range(100):
        loop.call_later(0, ran.append, "due")
        loop._timers.merge()

    def queue(timed: Any) -> None:
        if not loop._ready:
            loop.call_later(-1, ran.append, "fresh")
        loop._ready_append(timed)

    loop._timers.pop_due(loop.time() + 1, queue)
    assert len(loop._ready) == 100
    assert len(loop._timers.fresh) == 1
    turn(loop, 3)
    assert ran == ["due"] * 100 + ["fresh"]
