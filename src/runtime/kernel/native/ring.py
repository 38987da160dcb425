"""Ring of the flight recorder: the last events of a loop, as records of a fixed size.

The ring has a method for each kind of record that is made often: such a call passes the object that
the record is about, or None, and no number that would first have to become an object. Compiled code
calls a method in C directly if it has one argument, and in several steps if it has none.
``PythonRing`` is the fallback of the accelerator's class ``Ring``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from time import monotonic_ns
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any, Final

RECORD: Final = struct.Struct("=qqQq")
"""A record of a ``Ring``: time in nanoseconds, kind, address of an object, and a number."""

WAKE: Final = 1
STEP: Final = 2
CALL: Final = 3
POLL: Final = 5
TURN: Final = 6
TIMER: Final = 10
TIMER_CANCELLED: Final = 11
"""The kinds of the records that the methods of a ``Ring`` make. ``note`` makes any kind."""

MOST_RECORDS: Final = 1 << 24
"""The largest capacity of a ring."""


class PythonRing:
    """The last ``capacity`` records of events. ``append`` adds an entry to a ready queue.

    All records have a time of ``time.monotonic``: the current one, except that the first ``step``,
    ``call`` or ``poll`` after a ``turn`` has the time of the turn, since nothing ran between them.
    Raises ValueError unless ``capacity`` is from 1 to 2**24.
    """

    __slots__ = ("_append", "_capacity", "_codes", "_count", "_memory", "_turn_time")

    def __init__(self, capacity: int, append: Callable[[Any], object], /) -> None:
        if not 1 <= capacity <= MOST_RECORDS:
            raise ValueError(f"capacity must be from 1 to {MOST_RECORDS} records, got {capacity}")
        self._capacity = capacity
        self._append = append
        self._count = 0
        self._memory = bytearray(RECORD.size * capacity)
        # The time of the turn that was noted last, if nothing has run since; otherwise 0.
        self._turn_time = 0
        self._codes: set[int] = set()

    def _add(self, when: int, kind: int, subject: object, number: int) -> None:
        place = self._count % self._capacity * RECORD.size
        RECORD.pack_into(self._memory, place, when, kind, id(subject), number)
        self._count += 1

    def _begin(self) -> int:
        when = self._turn_time or monotonic_ns()
        self._turn_time = 0
        return when

    def _now(self) -> int:
        self._turn_time = 0
        return monotonic_ns()

    def note(self, kind: int, subject: object, number: int, /) -> None:
        """Add a record."""
        self._add(self._now(), kind, subject, number)

    def poll(self, nothing: None, /) -> None:
        """Add a record of the kind ``POLL``: the loop begins to look or wait for events."""
        self._add(self._begin(), POLL, None, 0)

    def turn(self, nothing: None, /) -> None:
        """Add a record of the kind ``TURN``: the loop begins to run the ready queue."""
        self._turn_time = monotonic_ns()
        self._add(self._turn_time, TURN, None, 0)

    def step(self, task: object, /) -> None:
        """Add a record of the kind ``STEP``: a task begins to run."""
        self._add(self._begin(), STEP, task, 0)

    def call(self, runnable: object, callback: object, /) -> bool:
        """Add a record of the kind ``CALL``, with the number that ``learn(callback)`` returned.

        Returns False, and adds nothing, if ``callback`` was not learned, or was forgotten.
        """
        number = _code_of(callback)
        if number not in self._codes:
            return False
        self._add(self._begin(), CALL, runnable, number)
        return True

    def learn(self, callback: object, /) -> int:
        """Return a number that identifies a function, a method or a type, and remember it.

        It is the address of the code of a Python function, or of the type, which the caller must
        keep alive. Returns 0, and remembers nothing, for any other object.
        """
        number = _code_of(callback)
        if number:
            self._codes.add(number)
        return number

    def wake(self, runnable: Any, /) -> object:
        """Add a record of the kind ``WAKE``, and the entry ``runnable`` to the ready queue."""
        self._add(self._now(), WAKE, runnable, 0)
        return self._append(runnable)

    def fire(self, timer: Any, /) -> object:
        """Add a record of the kind ``TIMER``, and a timer that is due to the ready queue."""
        self._add(self._now(), TIMER, timer, 0)
        return self._append(timer)

    def cancel(self, timer: object, /) -> None:
        """Add a record of the kind ``TIMER_CANCELLED``."""
        self._add(self._now(), TIMER_CANCELLED, timer, 0)

    def dump(self) -> bytes:
        """Return the records, the oldest first."""
        kept = min(self._count, self._capacity)
        first = (self._count - kept) % self._capacity * RECORD.size
        memory = bytes(self._memory)[: kept * RECORD.size]
        return memory[first:] + memory[:first]

    def count(self) -> int:
        """Return the number of records so far, including those that were overwritten."""
        return self._count


def _code_of(callback: object) -> int:
    if isinstance(callback, MethodType):
        callback = callback.__func__
    if isinstance(callback, FunctionType):
        return id(callback.__code__)
    if isinstance(callback, BuiltinFunctionType):
        return hash((callback.__module__, callback.__qualname__))
    return id(callback) if isinstance(callback, type) else 0
