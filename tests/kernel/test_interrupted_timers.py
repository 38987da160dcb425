"""Interrupts of a loop that moves timers, at every bytecode: each timer fires once, in its turn."""

from __future__ import annotations

import contextlib
import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from contextvars import copy_context
from functools import partial
from types import CodeType
from typing import Any

import pytest

import runtime
from runtime.kernel import core, scheduler, sleep_future, timers
from runtime.kernel.handles import Handle
from tests.kernel.tools import Clock, turn
from tests.support.build import is_compiled
from tests.support.interrupts import Interrupted, interrupted_at_bytecode

pytestmark = [
    pytest.mark.skipif(
        is_compiled(), reason="the handler of a signal cannot raise inside compiled code"
    ),
    pytest.mark.variation,  # The bytecodes are the same with and without the accelerator.
]


@pytest.fixture(autouse=True)
def few_are_sorted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four timers count as many."""
    monkeypatch.setattr(timers, "_SORT_MINIMUM", 4)


class Scene:
    """A loop with a clock that is set, and timers that note when they fire."""

    def __init__(self) -> None:
        self.clock = Clock()
        self.loop = runtime.Loop(clock=self.clock)
        self.loop.set_debug(False)
        self.heap = self.loop._timers
        self.fired: list[tuple[float, int]] = []
        self.expected: list[tuple[float, int]] = []
        self.handles: dict[tuple[float, int], runtime.TimerHandle] = {}

    def add(self, *deadlines: float) -> None:
        """Set a timer for each deadline."""
        for when in deadlines:
            entry = (when, len(self.handles))
            self.handles[entry] = self.loop.call_at(when, self.fired.append, entry)
            self.expected.append(entry)

    def cancel(self, *numbers: int) -> None:
        """Cancel the timers with these numbers."""
        for entry in [entry for entry in self.expected if entry[1] in numbers]:
            self.handles[entry].cancel()
            self.expected.remove(entry)

    def places(self) -> Counter[int]:
        """Return the number of places in which each timer is, by its identity."""
        held: list[Any] = [*self.heap.ordered, *self.heap.new(), *self.heap._due_now]
        held += [*self.loop._ready, *(entry[2] for entry in self.heap.heap)]
        return Counter(id(each) for each in held if not each.cancelled())

    def waiting(self) -> set[int]:
        """Return the identities of the timers that have to fire and have not fired."""
        return {id(self.handles[entry]) for entry in self.expected if entry not in self.fired}

    def is_heap(self) -> bool:
        """Return whether no entry of the heap is before its parent."""
        heap = self.heap.heap
        return all(heap[(child - 1) // 2] < heap[child] for child in range(1, len(heap)))

    def finish(self) -> None:
        """Let all timers fire, and check that each fires once, and in order."""
        self.clock.now = 100.0
        turn(self.loop, 3)
        assert self.fired == sorted(self.expected)
        self.loop.close()


def every_bytecode(
    is_traced: Callable[[CodeType], bool],
    make: Callable[[], Scene],
    work: Callable[[Scene], object],
    error: type[BaseException] = Interrupted,
) -> Iterator[Scene]:
    """Interrupt ``work`` at each bytecode in turn, each time in a new scene, and give the scene."""
    for number in itertools.count(1):
        scene = make()
        came = True
        with contextlib.suppress(error):
            came = interrupted_at_bytecode(number, is_traced, partial(work, scene), error)
        if not came:
            scene.finish()
            assert number > 30
            return
        yield scene


def is_of_timers(code: CodeType) -> bool:
    return code.co_filename == timers.__file__


# -- Timers ----------------------------------------------------------------------------------------


def fresh_ones() -> Scene:
    """Return a scene with fresh timers, of which one is cancelled, beside many in the heap."""
    scene = Scene()
    for when in range(8):
        scene.add(3 + when)
        scene.heap.merge()
    scene.add(2, 9, 2)
    scene.cancel(9)
    assert (len(scene.heap.heap), len(scene.heap.new())) == (8, 3)
    return scene


def everywhere() -> Scene:
    """Return a scene with timers in each place, of which some are cancelled."""
    scene = Scene()
    scene.add(3, 1, 2, 5, 5, 6)
    scene.heap.merge()
    for when in (2, 4, 1):
        scene.add(when)
        scene.heap.merge()
    scene.add(2, 6)
    scene.cancel(2, 7)
    assert (len(scene.heap.ordered), len(scene.heap.heap), scene.heap._cancelled) == (6, 3, 2)
    return scene


def many_fresh_ones() -> Scene:
    """Return a scene in which fresh timers are to be sorted together with all others."""
    scene = everywhere()
    scene.add(7, 2, 4, 4, 1)
    scene.cancel(12, 14)
    return scene


def many_in_the_heap() -> Scene:
    """Return a scene in which the heap has many timers, and is to be sorted when they are due."""
    scene = Scene()
    for when in (5, 1, 3, 3, 2, 4, 6, 1):
        scene.add(when)
        scene.heap.merge()
    scene.cancel(3)
    assert len(scene.heap.heap) == 8
    return scene


def an_uneven_heap() -> Scene:
    """Return a scene in whose heap the fifth entry cannot simply be left out."""
    scene = Scene()
    for when in (1, 2, 20, 3, 4, 21, 22, 5, 6):
        scene.add(when)
        scene.heap.merge()
    return scene


def a_lone_one() -> Scene:
    """Return a scene with a single timer."""
    scene = Scene()
    scene.add(3)
    assert scene.heap.lone is not None
    return scene


def three_new_ones() -> Scene:
    """Return a scene whose timers are all new."""
    scene = a_lone_one()
    scene.add(3, 2)
    return scene


def merge(scene: Scene) -> None:
    scene.heap.merge()


def pop(scene: Scene, now: float) -> None:
    scene.clock.now = now
    scene.heap.pop_due(now, scene.loop._ready_append)


def run_a_turn(scene: Scene) -> None:
    scene.clock.now = 4.0
    turn(scene.loop)


def sweep(scene: Scene) -> None:
    scene.heap._cancelled = timers.SWEEP_MINIMUM + 1  # The next cancellation is one too many.
    scene.cancel(4)


CASES = [
    pytest.param(fresh_ones, merge, id="merge a few"),
    pytest.param(many_fresh_ones, merge, id="merge many"),
    pytest.param(everywhere, partial(pop, now=3), id="pop some"),
    pytest.param(everywhere, partial(pop, now=9), id="pop all"),
    pytest.param(many_in_the_heap, partial(pop, now=3), id="pop some of the heap"),
    pytest.param(many_in_the_heap, partial(pop, now=9), id="pop all of the heap"),
    pytest.param(everywhere, run_a_turn, id="run a turn"),
    pytest.param(a_lone_one, partial(pop, now=3), id="pop the only one"),
    pytest.param(a_lone_one, run_a_turn, id="run a turn of the only one"),
    pytest.param(three_new_ones, partial(pop, now=2), id="pop one of three new ones"),
    pytest.param(three_new_ones, merge, id="merge three new ones"),
    pytest.param(everywhere, sweep, id="sweep"),
    pytest.param(an_uneven_heap, sweep, id="sweep the heap"),
]


@pytest.mark.parametrize(("make", "work"), CASES)
def test_no_timer_is_lost(make: Any, work: Any) -> None:
    for scene in every_bytecode(is_of_timers, make, work):
        if work is sweep:
            scene.cancel(4)  # The interrupted program repeats it.
        assert scene.waiting() <= scene.places().keys()
        assert scene.is_heap()
        was_moving = scene.heap._moving
        scene.heap.recover(scene.loop._ready)
        assert scene.waiting() <= scene.places().keys()
        assert set(scene.places().values()) <= {1}
        assert (scene.heap._due_now, scene.heap._moving) == ([], False)
        if was_moving:
            assert scene.heap._cancelled == scene.heap.size() - len(scene.heap.pending())
        scene.finish()


@pytest.mark.parametrize("make", [fresh_ones, many_fresh_ones])
def test_a_merge_that_is_interrupted_and_repeated_lets_no_timer_fire_twice(make: Any) -> None:
    """Nothing is recovered if the exception does not leave the loop."""
    for scene in every_bytecode(is_of_timers, make, merge):
        scene.heap.merge()
        scene.finish()


def test_a_recovery_that_is_interrupted_is_repeated() -> None:
    pop_all = partial(pop, now=9)
    total = 0
    for scene in every_bytecode(is_of_timers, everywhere, pop_all):
        scene.finish()
        total += 1
    for moment in range(total // 6, total, total // 6):
        for number in itertools.count(1):
            scene = everywhere()
            with pytest.raises(Interrupted):
                interrupted_at_bytecode(moment, is_of_timers, partial(pop_all, scene))
            came = True
            with contextlib.suppress(Interrupted):
                recover = partial(scene.heap.recover, scene.loop._ready)
                came = interrupted_at_bytecode(number, is_of_timers, recover)
            scene.finish()
            if not came:
                break


# -- Turns -----------------------------------------------------------------------------------------


def is_of_turns(code: CodeType) -> bool:
    match code.co_filename:
        case core.__file__:
            return code.co_name in {"_run_turns", "collect", "run_unusual"}
        case sleep_future.__file__:
            return code.co_name in {"_run", "_leave_heap"}
    return is_of_timers(code)


@pytest.mark.parametrize("error", [Interrupted, IndexError])
@pytest.mark.parametrize("is_limited", [False, True])
def test_tasks_that_sleep_wake_up(is_limited: bool, error: type[BaseException]) -> None:
    """The end of the sleep is due, or the deadline of a scope around it."""

    async def sleep() -> str:
        if not is_limited:
            return await runtime.sleep(1, "slept")
        with runtime.move_on_at(1):
            await runtime.sleep_forever()
        return "slept"

    tasks: list[runtime.Task[str]] = []

    def make() -> Scene:
        scene = Scene()
        tasks[:] = [scene.loop.create_task(sleep()) for _ in range(3)]
        turn(scene.loop)
        return scene

    def wake(scene: Scene) -> None:
        scene.clock.now = 2.0
        turn(scene.loop, 2)

    for scene in every_bytecode(is_of_turns, make, wake, error):
        turn(scene.loop, 5)
        assert [task.done() and task.result() for task in tasks] == ["slept"] * 3
        scene.finish()


def test_calls_of_other_threads_are_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "_CROWDED", 3)
    calls: list[int] = []

    def make() -> Scene:
        scene = Scene()
        calls.clear()
        scene.loop._inbound.append(Handle(int, (), scene.loop, copy_context()))
        for number in range(4):
            scene.loop.call_soon_threadsafe(calls.append, number)
        assert len(scene.loop._inbound) == 5
        return scene

    def run(scene: Scene) -> None:
        turn(scene.loop, 3)

    for scene in every_bytecode(lambda code: code.co_name == "_take_inbound", make, run):
        turn(scene.loop, 4)
        assert calls == [0, 1, 2, 3]
        scene.finish()
