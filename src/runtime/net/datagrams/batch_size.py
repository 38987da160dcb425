"""Batch size: the number of datagrams that a socket tries to receive for one event.

Usually one datagram is waiting, and an attempt to receive a second one wastes a system call and an
exception. In a flood many are waiting, and receiving only one for each event costs a poll for each.
So the size is one, and from time to time a probe asks for two::

    1 --- after _interval events: a probe ---> 2 --- both there ---> 4, 8, ... up to MOST
    ^                                          |                     |
    +--- only one: the interval is doubled ----+                     |
    +--- fewer than the size: the next event is a probe -------------+

A flood then costs one poll for many datagrams, and a conversation one wasted attempt in 64 events.

This module is compiled in the compiled build.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 32
"""The largest batch."""

_RAREST_PROBE: Final = 64
"""Events between two probes at most."""


class BatchSize:
    """The size of the next batch, adapted to the last batches."""

    __slots__ = ("_events", "_interval", "size")

    def __init__(self) -> None:
        self.size = 1
        # While the size is one: the events until the next probe, and those between two probes.
        self._events = 1
        self._interval = 1

    def filled(self) -> None:
        """Note that as many datagrams were received as the size allows."""
        if self.size > 1:
            self.size = min(2 * self.size, MOST)
            return
        self._events -= 1
        if self._events <= 0:
            self.size = 2

    def note_short_batch(self, received: int) -> None:
        """Note that only ``received`` datagrams were there, fewer than the size."""
        if received > 1:
            self._interval = 1
        elif received == 1:
            self._interval = min(2 * self._interval, _RAREST_PROBE)
        self.size = 1
        self._events = self._interval
