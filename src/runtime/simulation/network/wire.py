"""Wire: the events of the network in their order, the paths between machines, and channels.

A *path* is one direction between two machines, with its conditions. It is open unless the network
is partitioned there, or one of the machines has no power. A *channel* is one direction of one
connection. It delivers its packets in order and exactly once, as TCP does::

    transmit --> on its way --> arrived --> delivered, once all packets before it were
                   ^    |
                   |    | the path is not open
                   |    v
                   +-- lost     sent again when the path opens; the sender fails with ETIMEDOUT
                                after ``retransmission_limit`` seconds

If the conditions have neither a delay nor a fault, a packet is delivered while it is sent, as
between two processes of one machine.
"""

from __future__ import annotations

import errno
import functools
import heapq
import math
from collections import deque
from collections.abc import Callable, Iterable
from typing import Final, Protocol

from runtime.simulation.choices import Choices
from runtime.simulation.conditions import PERFECT, Conditions
from runtime.simulation.network.machine import Machine

RETRANSMISSION_LIMIT: Final = 924.6
"""Seconds after which Linux gives a connection up that does not answer."""

CONNECT_TIMEOUT: Final = 127.0
"""Seconds after which Linux gives an attempt to connect up."""

_MERGING_DELAY: Final = 0.04
"""Seconds for which bytes are held back to arrive together with later ones, as Nagle's rule may."""

Deliver = Callable[[], object]


class Wire:
    """The events of one world's network, and the paths between its machines."""

    def __init__(self, choices: Choices, clock: Callable[[], float]) -> None:
        self.choices = choices
        self.clock = clock
        # The conditions between two machines, and within one, unless a path has its own.
        self.between = PERFECT
        self.within = PERFECT
        self.retransmission_limit = RETRANSMISSION_LIMIT
        self.connect_timeout = CONNECT_TIMEOUT
        self._machines: dict[str, Machine] = {}
        self._events: list[tuple[float, int, Deliver]] = []
        self._sequence = 0
        self._paths: dict[tuple[Machine, Machine], Path] = {}

    # -- Events ------------------------------------------------------------------------------------

    def after(self, delay: float, event: Deliver) -> None:
        """Call ``event()`` after ``delay`` seconds; events of the same time keep their order."""
        self._sequence += 1
        heapq.heappush(self._events, (self.clock() + delay, self._sequence, event))

    def next_event(self) -> float:
        """Return the time of the next event; infinity if there is none."""
        return self._events[0][0] if self._events else math.inf

    def run_due(self) -> None:
        """Run the events whose time has come, and those that they add for the same time."""
        events = self._events
        while events and events[0][0] <= self.clock():
            heapq.heappop(events)[2]()

    # -- Machines and paths ------------------------------------------------------------------------

    def add(self, machine: Machine) -> None:
        """Connect a machine to the network."""
        for address in machine.addresses.values():
            self._machines[address] = machine

    def machine_at(self, address: str) -> Machine | None:
        """Return the machine with an IP address."""
        return self._machines.get(address)

    def path(self, source: Machine, target: Machine) -> Path:
        """Return the path from one machine to another, or to itself."""
        path = self._paths.get((source, target))
        if path is None:
            path = self._paths[source, target] = Path(self, source, target)
        return path

    def set_cut(self, pairs: Iterable[tuple[Machine, Machine]], is_cut: bool) -> None:
        """Partition the network from the first to the second machine of each pair, or heal it."""
        for source, target in pairs:
            path = self.path(source, target)
            path.is_cut = is_cut
            path.retransmit()

    def heal(self) -> None:
        """End all partitions."""
        for path in list(self._paths.values()):
            path.is_cut = False
            path.retransmit()

    def powered(self, machine: Machine) -> None:
        """Send again what was lost on the way to and from a machine that has power again."""
        for path in list(self._paths.values()):
            if machine in (path.source, path.target):
                path.retransmit()


class Path:
    """The way from one machine to another."""

    __slots__ = ("_busy_until", "conditions", "is_cut", "source", "target", "waiting", "wire")

    def __init__(self, wire: Wire, source: Machine, target: Machine) -> None:
        self.wire = wire
        self.source = source
        self.target = target
        # The conditions of this path; None for those of the network.
        self.conditions: Conditions | None = None
        self.is_cut = False
        # The channels that have lost packets, in the order of their first loss.
        self.waiting: dict[Channel, None] = {}
        # The time at which the packets that were sent so far have left, because of the bandwidth.
        self._busy_until = 0.0

    def is_open(self) -> bool:
        """Return whether packets arrive."""
        return not self.is_cut and self.source.is_up and self.target.is_up

    def effective(self) -> Conditions:
        """Return the conditions that apply now."""
        if self.conditions is not None:
            return self.conditions
        return self.wire.within if self.source is self.target else self.wire.between

    def transit(self, size: int) -> float:
        """Return the seconds that the next packet, of ``size`` bytes, travels."""
        conditions = self.effective()
        if conditions is PERFECT:
            return 0.0
        delay = conditions.delay(self.wire.choices)
        if conditions.bandwidth == math.inf:
            return delay
        now = self.wire.clock()
        self._busy_until = max(now, self._busy_until) + size / conditions.bandwidth
        return self._busy_until - now + delay

    def retransmit(self) -> None:
        """Send again what was lost on this path, if it is open now."""
        if self.is_open():
            waiting = list(self.waiting)
            self.waiting.clear()
            for channel in waiting:
                channel.retransmit()


class Sender(Protocol):
    """The interface of the end of a connection that sends through a channel."""

    def fail(self, number: int) -> None:
        """End the connection with the system's error ``number``."""


class _Packet:
    __slots__ = ("deliver", "has_arrived", "size")

    def __init__(self, deliver: Deliver, size: int) -> None:
        self.deliver = deliver
        self.size = size
        self.has_arrived = False


class Channel:
    """One direction of a connection."""

    __slots__ = ("_loss", "_lost", "_queue", "_sender", "path")

    def __init__(self, path: Path, sender: Sender) -> None:
        self.path = path
        self._sender = sender
        self._queue: deque[_Packet] = deque()
        self._lost: list[_Packet] = []
        # The number of the losses so far, so that a timeout knows whether its loss is over.
        self._loss = 0

    def transmit(self, deliver: Deliver, size: int) -> None:
        """Call ``deliver()`` when a packet of ``size`` bytes arrives, after those sent before."""
        packet = _Packet(deliver, size)
        self._queue.append(packet)
        conditions = self.path.effective()
        wire = self.path.wire
        delay = 0.0
        if size and conditions.merging and wire.choices.chance(conditions.merging, "merging"):
            delay = _MERGING_DELAY
        self._send(packet, delay)

    def _send(self, packet: _Packet, delay: float) -> None:
        if not self.path.is_open():
            self._lose(packet)
            return
        delay += self.path.transit(packet.size)
        if delay > 0:
            self.path.wire.after(delay, functools.partial(self._arrive, packet))
        else:
            self._arrive(packet)

    def _arrive(self, packet: _Packet) -> None:
        if not self.path.is_open():
            self._lose(packet)
            return
        packet.has_arrived = True
        queue = self._queue
        while queue and queue[0].has_arrived:
            queue.popleft().deliver()

    def _lose(self, packet: _Packet) -> None:
        self._lost.append(packet)
        if len(self._lost) == 1:
            self._loss += 1
            wire = self.path.wire
            self.path.waiting[self] = None
            wire.after(wire.retransmission_limit, functools.partial(self._time_out, self._loss))

    def retransmit(self) -> None:
        """Send the lost packets again."""
        lost = self._lost
        self._lost = []
        self._loss += 1
        delay = self.path.wire.choices.real(0.0, 1.0, "retransmission") if lost else 0.0
        for packet in lost:
            self._send(packet, delay)

    def _time_out(self, loss: int) -> None:
        if self._lost and self._loss == loss:
            self.path.waiting.pop(self, None)
            self.close()
            self._sender.fail(errno.ETIMEDOUT)

    def close(self) -> None:
        """Drop every packet that has not arrived."""
        self._queue.clear()
        self._lost.clear()
        self.path.waiting.pop(self, None)
