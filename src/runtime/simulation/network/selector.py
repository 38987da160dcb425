"""Selector of a world: the order of its events, and the end of every wait.

It takes the place of epoll below the production poller, level-triggered like it. When nothing is
ready, the next event of the world happens, such as the arrival of a packet, or the clock jumps to
the loop's next timer, whichever is earlier::

    the loop is about to wait --> is anything ready? --yes--> its events, in a chosen order
          ^                           | no
          |                       is a packet or a fault due before the next timer?
          |                           | yes: the clock jumps there,      | no
          +---------------------------+ and it happens                   |
                                                                         v
                      the clock jumps to the timer; without one, the tasks are in a deadlock

Several ready descriptors may be reported in any order, as epoll does not promise one. The usual is
the order in which they became ready, which is epoll's. With ``order="events"``, an event may also
be reported later than it happens, while the loop has other entries to run: packets take time.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
from collections.abc import Callable, Mapping
from typing import Any, Final, cast

from runtime.kernel.diagnostics.deadlock import deadlock_error
from runtime.loop import Loop
from runtime.simulation.choices import Choices
from runtime.simulation.clock import SimulatedClock
from runtime.simulation.errors import OutsideError
from runtime.simulation.network.sockets import Descriptors
from runtime.simulation.network.wire import Wire
from runtime.testing.descriptor_names import describe_descriptor

_READ: Final = selectors.EVENT_READ
_WRITE: Final = selectors.EVENT_WRITE

_LOOK_OUTSIDE: Final = 64
"""Polls after which real descriptors are polled too, although the world is busy."""

_LATE: Final = 0.1
"""Probability with which a random run reports an event only in the next poll."""

_SITUATION: Final = "Nothing is ready, no timer is set, and nothing is on its way in the network."


class SimulatedSelector(selectors.BaseSelector):
    """The selector of one loop of a world."""

    def __init__(
        self,
        wire: Wire,
        descriptors: Descriptors,
        choices: Choices,
        clock: SimulatedClock,
        *,
        outside: bool,
        late_events: bool = False,
        latest: Callable[[], float] | None = None,
    ) -> None:
        self._wire = wire
        self._descriptors = descriptors
        self._choices = choices
        self._clock = clock
        self._allows_outside = outside
        self._late_events = late_events
        # Returns the time at which a wait ends at the latest.
        self._latest = latest
        self._keys: dict[int, selectors.SelectorKey] = {}
        # The simulated descriptors that may be ready, in the order in which they became so.
        self._candidates: dict[int, None] = {}
        # The real descriptors. The first is the loop's own, by which other threads wake it.
        self._real = selectors.DefaultSelector()
        self._has_wakeup = False
        self._polls = 0
        # Whether select() returns at once, without a jump of the clock.
        self.clock_stands_still = False
        descriptors.watchers.append(self._changed)

    # -- Registration ------------------------------------------------------------------------------

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Watch a descriptor. Raises OutsideError for one that is not of the world."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if self._descriptors.find(fd) is None:
            if self._has_wakeup and not self._allows_outside:
                raise OutsideError(
                    f"{describe_descriptor(fd)} is not of the simulated world, which cannot "
                    "control when it is ready: make sockets inside the run, or pass "
                    'outside="allow", and give up that a run can be repeated'
                )
            self._has_wakeup = True
            return self._real.register(fileobj, events, data)
        if fd in self._keys:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered")
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self._changed(fd)
        return key

    def modify(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        """Change the watched events of a descriptor."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        if fd not in self._keys:
            return self._real.modify(fileobj, events, data)
        key = self._keys[fd] = selectors.SelectorKey(fileobj, fd, events, data)
        self._changed(fd)
        return key

    def unregister(self, fileobj: Any) -> selectors.SelectorKey:
        """Stop watching a descriptor."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        self._candidates.pop(fd, None)
        key = self._keys.pop(fd, None)
        return self._real.unregister(fileobj) if key is None else key

    def get_map(self) -> Mapping[Any, selectors.SelectorKey]:
        """Return the watched descriptors."""
        return {**self._real.get_map(), **self._keys}

    def close(self) -> None:
        """Release everything."""
        if self._changed in self._descriptors.watchers:
            self._descriptors.watchers.remove(self._changed)
        self._keys.clear()
        self._candidates.clear()
        self._real.close()

    def _changed(self, fd: int) -> None:
        if fd in self._keys and fd not in self._candidates and self._mask(self._keys[fd]):
            self._candidates[fd] = None

    # -- Waiting -----------------------------------------------------------------------------------

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the events; advance the world and its clock until there is one, or a timer."""
        wire = self._wire
        while True:
            if wire.next_event() <= self._clock():
                wire.run_due()
                if timeout != 0 and self._has_work():
                    timeout = 0  # An event, such as the restart of a host, has made a task.
            ready = self._ready()
            if ready and self._late_events and timeout == 0 and self._is_busy():
                ready = [each for each in ready if not self._is_late(each[0].fd)]
            self._polls += 1
            if self._polls % _LOOK_OUTSIDE == 0 or not (ready or timeout == 0):
                ready += self._real.select(0)
            if ready or timeout == 0 or self.clock_stands_still:
                return ready
            outcome = self._advance()
            if outcome is not None:
                return outcome

    def _is_late(self, fd: int) -> bool:
        """Return whether an event is not reported yet; what Unix sockets send is there at once."""
        endpoint = self._descriptors.find(fd)
        if endpoint is None or endpoint.family == socket.AF_UNIX:
            return False
        return self._choices.chance(_LATE, "late event")

    def _is_busy(self) -> bool:
        """Return whether the loop has entries to run, so that they can run before an event."""
        return bool(cast(Loop, asyncio.get_running_loop())._ready)

    def _has_work(self) -> bool:
        loop = cast(Loop, asyncio.get_running_loop())
        return bool(loop._ready or loop._has_inbound or loop._timers.new() or loop._stopping)

    def _advance(self) -> list[tuple[selectors.SelectorKey, int]] | None:
        """Let the next thing happen; return the events of real descriptors, or None to look again.

        An empty list ends the wait: it is the time of the next timer.
        """
        loop = cast(Loop, asyncio.get_running_loop())
        if loop._external_work or (self._allows_outside and len(self._real.get_map()) > 1):
            events = self._real.select(None if loop._external_work else 0.05)
            if events or loop._external_work:
                return events
        event = self._wire.next_event()
        timer = math.inf
        if loop._timers.heap or loop._timers.ordered:
            timer = loop._timers.next_due()
        if self._latest is not None:
            timer = min(timer, self._latest())
        if event <= timer and event < math.inf:
            self._clock.advance(event)
            return None
        if timer < math.inf:
            self._clock.advance(timer)
            return []
        raise deadlock_error(asyncio.all_tasks(cast(Any, loop)), _SITUATION)

    def _ready(self) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready descriptors in the chosen order."""
        ready = []
        for fd in list(self._candidates):
            key = self._keys[fd]
            mask = self._mask(key)
            if mask:
                ready.append((key, mask))
            else:
                del self._candidates[fd]
        if len(ready) > 1:
            return self._in_chosen_order(ready)
        return ready

    def _mask(self, key: selectors.SelectorKey) -> int:
        """Return the events of a descriptor that are watched and there."""
        endpoint = self._descriptors.find(key.fd)
        mask = 0
        if endpoint is not None:
            if key.events & _READ and endpoint.readable():
                mask = _READ
            if key.events & _WRITE and endpoint.writable():
                mask |= _WRITE
        return mask

    def _in_chosen_order(
        self, ready: list[tuple[selectors.SelectorKey, int]]
    ) -> list[tuple[selectors.SelectorKey, int]]:
        ordered = []
        while len(ready) > 1:
            ordered.append(ready.pop(self._choices.integer(len(ready), "ready descriptor")))
        return ordered + ready
