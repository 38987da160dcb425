"""Ring of the flight recorder: the last events of a loop, as records of a fixed size.

``PythonRing`` is the fallback of the accelerator's class ``Ring``.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from time import monotonic_ns
from typing import Any, Final

RECORD: Final = struct.Struct("=qqQq")
"""A record of a ``Ring``: time in nanoseconds, kind, address of an object, and a number."""

WAKE: Final = 1
"""The kind of the records that ``wake`` makes."""

MOST_RECORDS: Final = 1 << 24
"""The largest capacity of a ring."""


class PythonRing:
    """The last ``capacity`` records of events. ``append`` adds an entry to a ready queue.

    Raises ValueError unless ``capacity`` is from 1 to 2**24.
    """

    __slots__ = ("_append", "_capacity", "_count", "_memory")

    def __init__(self, capacity: int, append: Callable[[Any], object], /) -> None:
        if not 1 <= capacity <= MOST_RECORDS:
            raise ValueError(f"capacity must be from 1 to {MOST_RECORDS} records, got {capacity}")
        self._capacity = capacity
        self._append = append
        self._count = 0
        self._memory = bytearray(RECORD.size * capacity)

    def note(self, kind: int, subject: object, number: int, /) -> None:
        """Add a record with the current time of ``time.monotonic``."""
        place = self._count % self._capacity * RECORD.size
        RECORD.pack_into(self._memory, place, monotonic_ns(), kind, id(subject), number)
        self._count += 1

    def wake(self, runnable: Any, /) -> object:
        """Add a record of the kind ``WAKE``, and the entry ``runnable`` to the ready queue."""
        self.note(WAKE, runnable, 0)
        return self._append(runnable)

    def dump(self) -> bytes:
        """Return the records, the oldest first."""
        kept = min(self._count, self._capacity)
        first = (self._count - kept) % self._capacity * RECORD.size
        memory = bytes(self._memory)[: kept * RECORD.size]
        return memory[first:] + memory[:first]

    def count(self) -> int:
        """Return the number of records so far, including those that were overwritten."""
        return self._count
