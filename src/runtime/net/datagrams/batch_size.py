"""How many datagrams an event receives.

One, for that is what there usually is, and asking for a second that is not there costs a system
call and an exception. Now and then a second is asked for all the same::

    ONE at a time --- after so many events ---> TWO --- both there ---> 4, 8, ... up to MOST
         ^                                       |                        |
         +---- in vain: twice as many events ----+                        |
         +---- fewer than asked for: the next event tries again ----------+

So a flood costs one poll for many datagrams, and a conversation one attempt in vain for 64 events.

Compiled where a compiler was found.
"""

from __future__ import annotations

from typing import Final

MOST: Final = 32
_RAREST_PROBE: Final = 64


class BatchSize:
    """The size for the next event, which depends on how the last ones went."""

    __slots__ = ("_events", "_interval", "size")

    def __init__(self) -> None:
        self.size = 1
        # While the size is one: events until it is two, and how many there were the last time.
        self._events = 1
        self._interval = 1

    def filled(self) -> None:
        """Note that there were as many as were asked for."""
        if self.size > 1:
            self.size = min(2 * self.size, MOST)
            return
        self._events -= 1
        if self._events <= 0:
            self.size = 2

    def ran_dry(self, received: int) -> None:
        """Note that there were only so many."""
        if received > 1:
            self._interval = 1
        elif received == 1:
            self._interval = min(2 * self._interval, _RAREST_PROBE)
        self.size = 1
        self._events = self._interval
