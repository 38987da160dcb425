"""Stream endpoint: a TCP or Unix stream socket as the system sees it.

::

    NEW -- connect() --> CONNECTING --> CONNECTED -- close(), a reset, a timeout --> DONE
     |                       |  refused, timed out -------------------------------^
     +---- listen() --> LISTENING; accept() returns endpoints that are CONNECTED

Connecting sends an attempt, and sends it again after 1, 3, 7, 15, 31 and 63 seconds, as Linux does,
until it is answered or ``Wire.connect_timeout`` is over.

``unread`` counts the bytes that were sent and that the peer's program has not received yet: they
are on their way, or in the ``inbox`` of the peer. It limits how much a socket accepts.
"""

from __future__ import annotations

import errno
import functools
import os
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any, Final

from runtime.simulation.network.endpoints import (
    BUFFER_SIZE,
    UNIX,
    Endpoint,
    Notify,
    blocked,
    fail,
    unix_path,
)
from runtime.simulation.network.machine import LOOPBACK, WILDCARD, Machine, is_loopback
from runtime.simulation.network.wire import Channel, Path, Wire

NEW: Final = "new"
CONNECTING: Final = "connecting"
CONNECTED: Final = "connected"
LISTENING: Final = "listening"
DONE: Final = "done"

_RETRIES: Final = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0)
"""Seconds between the attempts to connect that are not answered."""

_UNREACHABLE_AFTER: Final = 3.0
"""Seconds after which the system gives up to find a machine with an unknown address."""

_RESET_AT_CLOSE: Final = struct.pack("ii", 1, 0)
"""The value of SO_LINGER with which ``close()`` resets the connection."""

_LINGER: Final = (int(socket.SOL_SOCKET), int(socket.SO_LINGER))


class StreamEndpoint(Endpoint):
    """One end of a stream connection, or a listening socket."""

    def __init__(
        self, wire: Wire, machine: Machine, family: int, kind: int, proto: int, notify: Notify
    ) -> None:
        super().__init__(wire, machine, family, kind, proto, notify)
        self.state = NEW
        self.peer: StreamEndpoint | None = None
        # The direction to the peer, while there is a connection, and the path from it.
        self._channel: Channel | None = None
        self._incoming: Path | None = None
        # The data that has arrived, and whether the end has arrived after it.
        self._inbox: deque[bytes] = deque()
        self._inbox_size = 0
        self._has_ended = False
        # The descriptors that came with a byte, by its number, and those of the last read.
        self._passed: deque[tuple[int, tuple[int, ...]]] = deque()
        self._last_passed: tuple[int, ...] = ()
        self._arrived = 0
        self.unread = 0
        self._write_ended = False
        self._read_ended = False
        # Of a listening socket: the connections that wait to be accepted.
        self._backlog = 0
        self._waiting: deque[StreamEndpoint] = deque()

    # -- Readiness ---------------------------------------------------------------------------------

    def readable(self) -> bool:
        """Return whether a receiving operation would not block."""
        if self.state is CONNECTED:
            return bool(self._inbox_size or self._has_ended or self.error or self._read_ended)
        if self.state is LISTENING:
            return bool(self._waiting)
        return self.state is not CONNECTING

    def writable(self) -> bool:
        """Return whether a sending operation would not block."""
        if self.state is CONNECTED:
            if self.error:
                return True
            return self.unread * 3 <= BUFFER_SIZE * 2 and not self.is_blocked()
        return self.state is NEW or self.state is DONE

    # -- Connecting --------------------------------------------------------------------------------

    def connect(self, address: Any) -> None:
        """Connect at once to a Unix socket; to another, begin to, and raise BlockingIOError."""
        self.check_alive()
        if self.state is CONNECTED:
            fail(errno.EISCONN)
        if self.state is CONNECTING:
            fail(errno.EALREADY)
        if self.state is LISTENING:
            fail(errno.EISCONN)
        if self.family == UNIX:
            self._connect_unix(unix_path(address), address)
            return
        self.raise_error()
        host, port = self.checked(address)
        if host == WILDCARD[self.family]:
            host = LOOPBACK[self.family]
        self.bind_for(host)
        self.remote = self.full_address(host, port)
        self.state = CONNECTING
        target = self._machine_at(host)
        if target is None:
            self.wire.after(
                _UNREACHABLE_AFTER, functools.partial(self._attempt_failed, errno.EHOSTUNREACH)
            )
        else:
            conditions = self.wire.path(self.machine, target).effective()
            choices = self.wire.choices
            if choices.chance(conditions.timeouts, "connect timeout"):
                pass
            elif choices.chance(conditions.refusals, "connect refused"):
                self.wire.after(0.0, functools.partial(self._attempt_failed, errno.ECONNREFUSED))
            else:
                self._attempt(target, 0)
            self.wire.after(
                self.wire.connect_timeout,
                functools.partial(self._attempt_failed, errno.ETIMEDOUT),
            )
        raise BlockingIOError(errno.EINPROGRESS, os.strerror(errno.EINPROGRESS))

    def _machine_at(self, host: str) -> Machine | None:
        return self.machine if is_loopback(host) else self.wire.machine_at(host)

    def _attempt(self, target: Machine, count: int) -> None:
        """Send an attempt to connect, and the next one later unless this one is answered."""
        if self.state is not CONNECTING or self.is_closed:
            return
        path = self.wire.path(self.machine, target)
        if path.is_open():
            self.wire.after(path.transit(0), functools.partial(self._arrive_at, target))
        if count < len(_RETRIES):
            self.wire.after(_RETRIES[count], functools.partial(self._attempt, target, count + 1))

    def _arrive_at(self, target: Machine) -> None:
        """Handle the arrival of an attempt at the machine of the server."""
        back = self.wire.path(target, self.machine)
        if self.state is not CONNECTING or self.is_closed or self.peer is not None:
            return
        if not self.wire.path(self.machine, target).is_open() or not back.is_open():
            return
        listeners = [
            each
            for each in target.bound_to(self.family, self.kind, self.remote[0], self.remote[1])
            if isinstance(each, StreamEndpoint) and each.state is LISTENING
        ]
        if not listeners:
            refused = functools.partial(self._attempt_failed, errno.ECONNREFUSED)
            self.wire.after(back.transit(0), refused)
            return
        listener = listeners[self.wire.choices.integer(len(listeners), "listener")]
        if listener.is_queue_full():
            return  # The system drops the attempt, and the client tries again.
        listener.enqueue(self).answer(self.established)

    def _attempt_failed(self, number: int) -> None:
        if self.state is CONNECTING and not self.is_closed:
            self.fail(number)

    def is_new(self) -> bool:
        """Return whether the endpoint neither is connected nor connects nor listens."""
        return self.state is NEW

    def established(self) -> None:
        """Handle the answer to the attempt: the connection is there."""
        if self.state is CONNECTING and self.peer is not None:
            self.state = CONNECTED
            self.changed()

    def _connect_unix(self, path: bytes, address: Any) -> None:
        listener = self.machine.at_path(path)
        if listener is None:
            fail(errno.ENOENT)
        if not isinstance(listener, StreamEndpoint) or listener.state is not LISTENING:
            fail(errno.ECONNREFUSED)
        if listener.is_queue_full():
            raise blocked()
        self.remote = address
        self.state = CONNECTED
        listener.enqueue(self)

    def join(self, peer: StreamEndpoint) -> None:
        """Connect to an endpoint that does the same: this is one half of a connection."""
        self.peer = peer
        self._channel = Channel(self.wire.path(self.machine, peer.machine), self)
        self._incoming = self.wire.path(peer.machine, self.machine)

    def become_connected(self, peer: StreamEndpoint) -> None:
        """Enter a connection that exists: the end of a socket pair, or of the server."""
        self.join(peer)
        self.state = CONNECTED

    # -- Listening ---------------------------------------------------------------------------------

    def listen(self, backlog: int) -> None:
        """Accept connections from now on."""
        self.check_alive()
        if self.state not in (NEW, LISTENING):
            fail(errno.EINVAL)
        if not self.is_bound():
            if self.family == UNIX:
                fail(errno.EINVAL)
            self.bind(self.full_address(WILDCARD[self.family], 0))
        self._backlog = max(0, backlog)
        self.state = LISTENING

    def is_queue_full(self) -> bool:
        """Return whether no more connections may wait: one more than the backlog, as on Linux."""
        return len(self._waiting) > self._backlog

    def enqueue(self, client: StreamEndpoint) -> StreamEndpoint:
        """Return the server's end of the connection of ``client``, which waits to be accepted."""
        served = StreamEndpoint(
            self.wire, self.machine, self.family, self.kind, self.proto, self.notify
        )
        served.options.update(self.options)
        served.local = self.local if self.family == UNIX else client.remote
        served.remote = client.local
        served.become_connected(client)
        client.join(served)
        self._waiting.append(served)
        self.changed()
        return served

    def answer(self, established: Callable[[], object]) -> None:
        """Call ``established()`` when the answer to the attempt arrives at the client."""
        assert self._channel is not None
        self._channel.transmit(established, 0)

    def first_waiting(self) -> StreamEndpoint:
        """Return the connection to be accepted next. Raises BlockingIOError if there is none."""
        self.check_alive()
        self.raise_error()
        if self.state is not LISTENING:
            fail(errno.EINVAL)
        if not self._waiting:
            raise blocked()
        return self._waiting[0]

    def accepted(self) -> None:
        """Remove the connection that ``first_waiting`` has returned."""
        self._waiting.popleft()

    # -- Sending -----------------------------------------------------------------------------------

    def send(self, data: bytes | memoryview, passed: tuple[int, ...] = ()) -> int:
        """Send a part of ``data``; return its size. Raises BlockingIOError if the buffer is full.

        The other errors are those of ``send(2)``. ``passed`` are descriptors that go with the first
        byte, and belong to the connection then.
        """
        self.check_alive()
        self.raise_error()
        peer = self.peer
        channel = self._channel
        if self.state is CONNECTING:
            raise blocked()
        if self.state is NEW or self.state is LISTENING:
            fail(errno.ENOTCONN)
        if self.state is DONE or self._write_ended or peer is None or channel is None:
            fail(errno.EPIPE)
        if self.family == UNIX and peer.is_closed:
            fail(errno.EPIPE)
        size = min(len(data), BUFFER_SIZE - self.unread)
        if size <= 0:
            if not data:
                return 0
            raise blocked()
        conditions = channel.path.effective()
        choices = self.wire.choices
        if conditions.resets and choices.chance(conditions.resets, "reset"):
            self.reset()
            fail(self.take_error() or errno.ECONNRESET)
        if conditions.full_buffers and self.is_full_by_chance(conditions.full_buffers):
            raise blocked()
        if (
            size > 1
            and conditions.short_writes
            and choices.chance(conditions.short_writes, "short write")
        ):
            size = 1 + choices.integer(size - 1, "short write")
        part = bytes(data[:size])
        self.unread += size
        channel.transmit(functools.partial(peer.receive_bytes, part, passed), size)
        return size

    def end_writing(self) -> None:
        """Send the end of the data, after what was sent before."""
        if not self._write_ended and self._channel is not None and self.peer is not None:
            self._write_ended = True
            self._channel.transmit(self.peer.receive_end, 0)

    def shutdown(self, how: int) -> None:
        """End one direction, or both."""
        self.check_alive()
        if self.state is LISTENING:
            self.fail(errno.EINVAL)
            return
        if self.state is not CONNECTED:
            fail(errno.ENOTCONN)
        if how in (socket.SHUT_RD, socket.SHUT_RDWR):
            self._read_ended = True
            self.changed()
        if how in (socket.SHUT_WR, socket.SHUT_RDWR):
            self.end_writing()

    # -- Receiving ---------------------------------------------------------------------------------

    def receive(self, size: int, peek: bool = False) -> bytes:
        """Return up to ``size`` bytes; ``b""`` at the end.

        Raises BlockingIOError if there are none yet. The other errors are those of ``recv(2)``.
        """
        if self.is_dead or self.is_closed:
            fail(errno.EBADF)
        if not self._inbox_size:
            return self._receive_nothing()
        if size <= 0:
            return b""
        limit = min(size, self._inbox_size)
        if self._passed and not peek:
            limit = self._limit_by_passed(limit)
        incoming = self._incoming
        if limit > 1 and incoming is not None and not peek:
            splitting = incoming.effective().splitting
            choices = self.wire.choices
            if splitting and choices.chance(splitting, "split read"):
                limit = 1 + choices.integer(limit - 1, "split read")
        return self._peek(limit) if peek else self._take(limit)

    def _limit_by_passed(self, limit: int) -> int:
        """Take the descriptors of the next byte; return how many bytes come before others."""
        passed = self._passed
        first = self._arrived - self._inbox_size
        if passed[0][0] == first:
            self._last_passed += passed.popleft()[1]
        return min(limit, passed[0][0] - first) if passed else limit

    def take_passed(self) -> tuple[int, ...]:
        """Return the descriptors that came with what was received last; the caller owns them."""
        passed, self._last_passed = self._last_passed, ()
        return passed

    def _receive_nothing(self) -> bytes:
        if self.state is CONNECTING:
            raise blocked()
        self.raise_error()
        if self._has_ended or self._read_ended or self.state is DONE:
            return b""
        if self.state is not CONNECTED:
            fail(errno.EINVAL if self.family == UNIX else errno.ENOTCONN)
        raise blocked()

    def _take(self, size: int) -> bytes:
        inbox = self._inbox
        self._inbox_size -= size
        if len(inbox[0]) == size:
            data = inbox.popleft()
        else:
            parts = []
            missing = size
            while missing:
                part = inbox.popleft()
                if len(part) > missing:
                    inbox.appendleft(part[missing:])
                    part = part[:missing]
                parts.append(part)
                missing -= len(part)
            data = b"".join(parts)
        peer = self.peer
        if peer is not None:
            was_writable = peer.writable()
            peer.unread -= size
            if not was_writable and peer.writable():
                peer.changed()
        return data

    def _peek(self, size: int) -> bytes:
        return b"".join(self._inbox)[:size]

    # -- What arrives ------------------------------------------------------------------------------

    def receive_bytes(self, data: bytes, passed: tuple[int, ...]) -> None:
        """Handle the arrival of bytes; a closed endpoint answers with a reset."""
        if self.is_closed or self.state is DONE:
            close_all(passed)
            self._answer_with_reset()
            return
        if passed:
            self._passed.append((self._arrived, passed))
        self._arrived += len(data)
        self._inbox.append(data)
        self._inbox_size += len(data)
        self.changed()

    def receive_end(self) -> None:
        """Handle the arrival of the end of the data."""
        if self.is_dead:
            self._answer_with_reset()
        elif not self.is_closed:
            self._has_ended = True
            self.changed()

    def receive_reset(self) -> None:
        """Handle the arrival of a reset."""
        if not self.is_closed:
            self.fail(errno.EPIPE if self._has_ended else errno.ECONNRESET)

    def _answer_with_reset(self) -> None:
        peer = self.peer
        if peer is not None:
            channel = Channel(self.wire.path(self.machine, peer.machine), self)
            channel.transmit(peer.receive_reset, 0)

    # -- Ending ------------------------------------------------------------------------------------

    def fail(self, number: int) -> None:
        """End with an error, which the next operation raises; the peer is not told."""
        if self.state is DONE or self.is_closed:
            return
        self.error = number
        self.state = DONE
        if self._channel is not None:
            self._channel.close()
        self.changed()

    def reset(self) -> None:
        """Reset the connection: both ends fail with ECONNRESET, at once."""
        peer = self.peer
        self.fail(errno.ECONNRESET)
        if peer is not None:
            peer.fail(errno.ECONNRESET)

    def close(self) -> None:
        """Close: send the end; or a reset for unread bytes, or if SO_LINGER asks for it."""
        if self.is_closed:
            return
        for waiting in self._waiting:
            waiting.close_with_reset()
        self._waiting.clear()
        if self.state is CONNECTED:
            if self._inbox_size or self.options.get(_LINGER) == _RESET_AT_CLOSE:
                self._send_reset()
            else:
                self.end_writing()
        elif self.state is CONNECTING:
            self._send_reset()
        self._release_unread()
        super().close()

    def close_with_reset(self) -> None:
        """Close, and reset the connection."""
        self._send_reset()
        super().close()

    def _send_reset(self) -> None:
        if self._channel is not None and self.peer is not None:
            self._channel.close()
            self._channel.transmit(self.peer.receive_reset, 0)

    def _release_unread(self) -> None:
        self._inbox.clear()
        self._inbox_size = 0
        for _, passed in self._passed:
            close_all(passed)
        self._passed.clear()

    def vanish(self) -> None:
        """End without a word to the peer, and so do the connections that wait to be accepted."""
        for waiting in self._waiting:
            waiting.vanish()
        self._waiting.clear()
        if self._channel is not None:
            self._channel.close()
        super().vanish()


def close_all(descriptors: Iterable[int]) -> None:
    """Close descriptors that nothing has received."""
    for fd in descriptors:
        os.close(fd)
