"""Datagram endpoint: a UDP or Unix datagram socket as the system sees it.

A datagram of UDP is lost, delivered twice or overtaken as the conditions of its path say, and lost
if the receiver's buffer is full. A Unix datagram is none of that: the sender has to wait.
"""

from __future__ import annotations

import errno
import functools
from collections import deque
from typing import Any, Final

from runtime.simulation.network.endpoints import UNIX, Endpoint, Notify, blocked, fail, unix_path
from runtime.simulation.network.machine import LOOPBACK, WILDCARD, Machine, is_loopback
from runtime.simulation.network.wire import Path, Wire

_LARGEST: Final = 65507
"""Most bytes of a datagram of UDP over IPv4."""

_RECEIVE_BUFFER: Final = 212_992
"""Bytes of unread datagrams that a UDP socket keeps, as on Linux."""

_QUEUE_LENGTH: Final = 512
"""Unread datagrams that a Unix socket keeps."""

_OVERHEAD: Final = 768
"""Bytes that the system counts for each datagram besides its content."""

_LATE: Final = 0.1
"""Most seconds by which a datagram is late that others overtake."""


class DatagramEndpoint(Endpoint):
    """A socket that sends and receives datagrams."""

    def __init__(
        self, wire: Wire, machine: Machine, family: int, kind: int, proto: int, notify: Notify
    ) -> None:
        super().__init__(wire, machine, family, kind, proto, notify)
        self._inbox: deque[tuple[bytes, Any]] = deque()
        self._inbox_size = 0
        # The other end of a socket pair, or of a connected Unix socket.
        self._peer: DatagramEndpoint | None = None
        # The Unix sockets that wait until this one has space.
        self._blocked: dict[DatagramEndpoint, None] = {}
        self._read_ended = False

    # -- Readiness ---------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return whether a receiving operation would not block."""
        return bool(self._inbox or self.error or self._read_ended)

    def writable(self) -> bool:
        """Return whether a sending operation would not block."""
        peer = self._peer
        return not self.is_blocked() and (peer is None or peer.is_closed or not peer.is_full())

    def is_full(self) -> bool:
        """Return whether a Unix socket keeps no more datagrams."""
        return len(self._inbox) >= _QUEUE_LENGTH

    # -- Connecting --------------------------------------------------------------------------------

    def connect(self, address: Any) -> None:
        """Set the only address to send to and to receive from."""
        self.check_alive()
        if self.family == UNIX:
            self._peer = self._at_path(address)
            self.remote = address
            return
        host, port = self.checked(address)
        if host == WILDCARD[self.family]:
            host = LOOPBACK[self.family]
        self.bind_for(host)
        if self.local[0] == WILDCARD[self.family]:
            self.local = self.full_address(self.source_for(host), self.local[1])
        self.remote = self.full_address(host, port)

    def pair_with(self, peer: DatagramEndpoint) -> None:
        """Connect to the other end of a socket pair."""
        self._peer = peer
        self.remote = ""

    def _at_path(self, address: Any) -> DatagramEndpoint:
        found = self.machine.at_path(unix_path(address))
        if found is None:
            fail(errno.ENOENT)
        if not isinstance(found, DatagramEndpoint):
            fail(errno.EPROTOTYPE)
        return found

    # -- Sending -----------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, address: Any = None) -> int:
        """Send a datagram, to the connected address if ``address`` is None; return its size."""
        self.check_alive()
        self.raise_error()
        if self.family == UNIX:
            return self._send_unix(bytes(data), address)
        if address is None:
            if self.remote is None:
                fail(errno.EDESTADDRREQ)
            host, port = self.remote[:2]
        else:
            host, port = self.checked(address)
        if len(data) > _LARGEST:
            fail(errno.EMSGSIZE)
        if host == WILDCARD[self.family]:
            host = LOOPBACK[self.family]
        self.bind_for(host)
        target = self.machine if is_loopback(host) else self.wire.machine_at(host)
        if target is None:
            return len(data)
        path = self.wire.path(self.machine, target)
        if self.is_full_by_chance(path.effective().full_buffers):
            raise blocked()
        self._transmit(path, bytes(data), host, port)
        return len(data)

    def _transmit(self, path: Path, data: bytes, host: str, port: int) -> None:
        conditions = path.effective()
        choices = self.wire.choices
        if not path.is_open() or choices.chance(conditions.loss, "loss"):
            return
        copies = 1 + choices.chance(conditions.duplication, "duplication")
        own = self.source_for(host) if self.local[0] == WILDCARD[self.family] else self.local[0]
        sender = self.full_address(own, self.local[1])
        for _ in range(copies):
            delay = path.transit(len(data))
            if choices.chance(conditions.reordering, "reordering"):
                delay += choices.real(_LATE / 100, _LATE, "reordering")
            arrive = functools.partial(self._arrive, path, data, sender, host, port)
            if delay > 0:
                self.wire.after(delay, arrive)
            else:
                arrive()

    def _arrive(self, path: Path, data: bytes, sender: Any, host: str, port: int) -> None:
        """Handle the arrival of a datagram at the machine that has the address ``host``."""
        if not path.is_open():
            return
        found = [
            each
            for each in path.target.bound_to(self.family, self.kind, host, port)
            if isinstance(each, DatagramEndpoint) and each.remote in (None, sender)
        ]
        receivers = [each for each in found if each.remote is not None] or found
        if receivers:
            index = self.wire.choices.integer(len(receivers), "receiver")
            receivers[index].receive_datagram(data, sender)
        elif self.remote is not None:
            back = self.wire.path(path.target, path.source)
            self.wire.after(back.transit(0), self._refused)

    def _refused(self) -> None:
        if not self.is_closed:
            self.error = errno.ECONNREFUSED
            self.changed()

    def _send_unix(self, data: bytes, address: Any) -> int:
        peer = self._peer if address is None else self._at_path(address)
        if peer is None:
            fail(errno.ENOTCONN)
        if peer.is_closed:
            fail(errno.ECONNREFUSED)
        if peer.is_full():
            peer.notify_space(self)
            raise blocked()
        peer.receive_datagram(data, self.local or None)
        return len(data)

    def notify_space(self, sender: DatagramEndpoint) -> None:
        """Note that ``sender`` waits until a datagram has been read here."""
        self._blocked[sender] = None

    # -- Receiving ---------------------------------------------------------------------------------

    def receive_datagram(self, data: bytes, sender: Any) -> None:
        """Keep a datagram that has arrived, or drop it if there is no space."""
        size = len(data) + _OVERHEAD
        if self.is_closed or self._read_ended:
            return
        if self.family != UNIX and self._inbox_size + size > _RECEIVE_BUFFER:
            return
        self._inbox.append((data, sender))
        self._inbox_size += size
        self.changed()

    def receive(self, size: int, peek: bool = False) -> tuple[bytes, Any]:
        """Return up to ``size`` bytes of a datagram, and its sender; the rest is lost."""
        self.check_alive()
        if not self._inbox:
            self.raise_error()
            if self._read_ended:
                return b"", None
            raise blocked()
        if peek:
            data, sender = self._inbox[0]
            return data[:size], sender
        data, sender = self._inbox.popleft()
        self._inbox_size -= len(data) + _OVERHEAD
        waiting = list(self._blocked)
        self._blocked.clear()
        for each in waiting:
            each.changed()
        if self._peer is not None:
            self._peer.changed()
        return data[:size], sender

    # -- Ending ------------------------------------------------------------------------------------

    def shutdown(self) -> None:
        """End receiving: a receiving operation returns nothing at once."""
        self.check_alive()
        if self.remote is None:
            fail(errno.ENOTCONN)
        self._read_ended = True
        self.changed()

    def close(self) -> None:
        """Close, and drop what has not been read."""
        if not self.is_closed:
            super().close()
            for each in (*self._blocked, *([self._peer] if self._peer is not None else ())):
                each.changed()
