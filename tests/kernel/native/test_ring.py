"""The ring of records, in native memory and its fallback, that the flight recorder writes."""

from __future__ import annotations

import time
from typing import Any

import pytest

from runtime.kernel.native import accelerator
from runtime.kernel.native.ring import (
    CALL,
    POLL,
    RECORD,
    STEP,
    TIMER,
    TIMER_CANCELLED,
    TURN,
    WAKE,
    PythonRing,
)

RINGS = {"fallback": PythonRing, "used": accelerator.Ring}


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_a_ring_keeps_the_last_records(ring: Any) -> None:
    queue: list[object] = []
    kept = ring(3, queue.append)
    assert (kept.dump(), kept.count()) == (b"", 0)
    before = time.monotonic_ns()
    entry = object()
    kept.note(5, entry, -7)
    kept.wake(entry)
    assert queue == [entry]
    for number in range(4):
        kept.note(2, None, number)
    records = list(RECORD.iter_unpack(kept.dump()))
    assert [record[3] for record in records] == [1, 2, 3]
    assert before <= records[0][0] <= records[-1][0] <= time.monotonic_ns()
    assert kept.count() == 6
    kept = ring(8, queue.append)
    kept.note(5, entry, -7)
    kept.wake(entry)
    assert [record[1:] for record in RECORD.iter_unpack(kept.dump())] == [
        (5, id(entry), -7),
        (WAKE, id(entry), 0),
    ]
    for wrong in (0, -1, 2**24 + 1):
        with pytest.raises(ValueError, match="1 to 16777216 records"):
            ring(wrong, queue.append)


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_a_ring_has_a_method_for_each_usual_record(ring: Any) -> None:
    queue: list[object] = []
    kept = ring(16, queue.append)
    entry, timer = object(), object()
    kept.poll(None)
    kept.fire(timer)
    kept.turn(None)
    kept.step(entry)
    kept.cancel(timer)
    kept.poll(None)
    assert queue == [timer]
    records = list(RECORD.iter_unpack(kept.dump()))
    assert [record[1:] for record in records] == [
        (POLL, id(None), 0),
        (TIMER, id(timer), 0),
        (TURN, id(None), 0),
        (STEP, id(entry), 0),
        (TIMER_CANCELLED, id(timer), 0),
        (POLL, id(None), 0),
    ]
    times = [record[0] for record in records]
    assert times == sorted(times)
    assert times[2] == times[3]  # Nothing ran between the turn and its first step.
    assert times[3] < times[5]


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_a_ring_notes_the_calls_that_it_has_learned(ring: Any) -> None:
    def function() -> None:
        pass

    class Owner:
        def method(self) -> None:
            pass

    kept = ring(16, [].append)
    entry = object()
    callbacks: list[Any] = [function, Owner().method, Owner, print, [].append]
    numbers: list[int] = []
    for callback in callbacks:
        # Called at once: one learned later may take the place of this one, which is then forgotten.
        numbers.append(kept.learn(callback))
        assert kept.call(entry, callback)
    assert len(set(numbers)) == len(callbacks)
    assert 0 not in numbers
    assert numbers[:3] == [id(function.__code__), id(Owner.method.__code__), id(Owner)]
    assert kept.learn(Owner().method) == numbers[1]
    assert kept.call(entry, Owner().method)  # Another object, the same code.
    assert kept.learn(object()) == 0
    for unknown in (object(), None, len, lambda: None):
        assert not kept.call(entry, unknown)
    records = [record[1:] for record in RECORD.iter_unpack(kept.dump())]
    assert records == [(CALL, id(entry), number) for number in [*numbers, numbers[1]]]


@pytest.mark.parametrize("ring", RINGS.values(), ids=RINGS)
def test_an_error_of_the_ready_queue_is_raised(ring: Any) -> None:
    def refuse(entry: object) -> None:
        raise RuntimeError("closed")

    kept = ring(16, refuse)
    for method in (kept.wake, kept.fire):
        with pytest.raises(RuntimeError, match="closed"):
            method(object())
