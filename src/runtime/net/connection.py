"""A stream socket in the loop: what arrives waits to be read, what is written waits to be sent.

The two directions are independent::

    reading:  OPEN <--> PAUSED (too much unread)           writing:  OPEN --> ENDING --> ENDED
                |                                                      |  write_eof()   (FIN sent)
                +--> ENDED (the peer's FIN, or a failure)              |
                                                                       v
    both:     OPEN --- close(): what was written is sent first ---> CLOSED
                |                                                      ^
                +------ abort(), or a failure: nothing more is sent ---+

``Connection`` is compiled where a compiler was found. The streams that users hold are thin, and
interpreted: ``runtime.net.streams``.
"""

from __future__ import annotations

import contextlib
import logging
import socket
from collections import deque
from collections.abc import Callable
from typing import Any, Final

from runtime.kernel import leaf
from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future, rearm_future
from runtime.kernel.poller import READ, WRITE, Watcher
from runtime.net.receive_buffer import ReceiveBuffer

HIGH_WATER: Final = 64 * 1024
"""Bytes not sent yet above which ``drain`` waits, until a quarter of them is left."""

_IOV_MAX: Final = 64
_WARN_AFTER: Final = 5
_recv: Final[Callable[[int], bytes | None]] = leaf.recv
_send: Final[Callable[[int, Any], int]] = leaf.send
_logger: Final = logging.getLogger("asyncio")


class Connection(Watcher):
    """One connected stream socket, which it owns. ``limit`` is the reader's limit, in bytes."""

    __slots__ = (
        "_backlog",
        "_drain_waiters",
        "_eof_sent",
        "_eof_wanted",
        "_guarded",
        "_high_water",
        "_limit",
        "_loop",
        "_low_water",
        "_on_closed",
        "_reader",
        "_reading",
        "_sock",
        "_wanted",
        "_writes_lost",
        "closed_waiter",
        "closing",
        "eof",
        "error",
        "peername",
        "received",
        "unsent",
    )

    def __init__(
        self,
        loop: LoopCore,
        sock: socket.socket,
        limit: int,
        peername: object,
        on_closed: Callable[[Connection], object] | None,
    ) -> None:
        Watcher.__init__(self, sock.fileno())
        self._loop = loop
        self._sock: socket.socket | None = sock
        # Somebody else may close the socket object when it was given to us: look before each use.
        self._guarded = False
        self._limit = limit
        self._on_closed = on_closed
        self.peername = peername
        # Reading.
        self.received = ReceiveBuffer()
        self._reading = False
        # How many bytes the waiting reader needs; 0 when anything will do, or nobody waits.
        self._wanted = 0
        self._reader: FutureCore | None = None
        self.eof = False
        # Writing: what the socket did not take, and its size.
        self._backlog: deque[Any] | None = None
        self.unsent = 0
        self._high_water = HIGH_WATER
        self._low_water = HIGH_WATER // 4
        self._drain_waiters: list[FutureCore] | None = None
        self._eof_wanted = False
        self._eof_sent = False
        self._writes_lost = 0
        # Ending.
        self.closing = False
        self.error: BaseException | None = None
        self.closed_waiter: FutureCore | None = None

    def start(self) -> None:
        """Begin to read."""
        self._reading = True
        self._loop.poller.watch(self, READ)

    def guard(self) -> None:
        """Expect that the socket object, which the user made, may be closed under us."""
        self._guarded = True

    @property
    def sock(self) -> socket.socket | None:
        """The socket; None once the connection is closed."""
        return self._sock

    @property
    def closed(self) -> bool:
        """Whether the socket was given back."""
        return self._sock is None

    # -- Reading -----------------------------------------------------------------------------------

    def on_readable(self) -> None:
        """Receive once, and wake the reader."""
        if self._guarded and not self._still_ours():
            return
        received = self.received
        try:
            data = _recv(self.fd)
        except OSError as error:
            self.fail(error)
            return
        if data is None:
            return
        if data:
            received.append(data)
            if received.size < self._wanted and self._reader_waits():
                return
            if received.size > 2 * self._limit:
                self._reading = False
                self._watch()
        else:
            self.eof = True
            self._reading = False
            self._watch()
        self._wake_reader()

    def _reader_waits(self) -> bool:
        """Return whether somebody is still waiting: a read that was cancelled wants nothing."""
        return self._reader is not None and not self._reader.done()

    def _wake_reader(self) -> None:
        self._wanted = 0
        reader = self._reader
        if reader is not None and not reader.done():
            finish_future(reader, None)

    def readable(self, reader_name: str, wanted: int = 0) -> FutureCore:
        """Return what to await until there is more to read, the end, or a failure.

        ``wanted`` is how many bytes there must be for the reader to be woken before the end.
        Raises RuntimeError when another task waits here already.
        """
        reader = self._reader
        if reader is None:
            reader = self._reader = self._loop.create_future()
        elif not reader.done():
            raise RuntimeError(
                f"{reader_name}() called while another task waits for data from the same stream: "
                "let one task read it."
            )
        else:
            rearm_future(reader)
        self._wanted = wanted
        if not self._reading and not self.eof and self._sock is not None:
            self._reading = True
            self._watch()
        return reader

    def resume_reading(self) -> None:
        """Read on after a pause, when what is left unread is under the limit."""
        if (
            not self._reading
            and not self.eof
            and self._sock is not None
            and self.received.size <= self._limit
        ):
            self._reading = True
            self._watch()

    def take(self, most: int) -> bytes:
        """Remove and return up to ``most`` received bytes."""
        data = self.received.take(most)
        if not self._reading:
            self.resume_reading()
        return data

    def take_some(self, most: int) -> bytes | None:
        """As ``take``; ``b""`` at the end, and None when there is nothing yet.

        Raises what the connection failed with, once everything before that was taken.
        """
        if self.received.size:
            return self.take(most)
        if most == 0:
            return b""
        return self.take_rest() if self.eof else None

    def take_rest(self) -> bytes:
        """Remove and return everything, at the end.

        Raises what the connection failed with: what was received before that stays to be read.
        """
        if self.error is not None:
            raise lost(self.error)
        return self.received.take_all()

    def _watch(self) -> None:
        """Have exactly the events watched that the state asks for."""
        events = 0
        if self._reading:
            events = READ
        if self.unsent:
            events |= WRITE
        self._loop.poller.watch(self, events)

    # -- Writing -----------------------------------------------------------------------------------

    def write(self, data: Any) -> None:
        """Send ``data``, a bytes-like object: at once what the socket takes, the rest later."""
        if self._eof_wanted:
            raise RuntimeError("Cannot write after write_eof(): the end was announced already.")
        if self._sock is None:
            self._count_lost_write()
            return
        if self.unsent:
            self._keep(data if isinstance(data, bytes) else memoryview(data).tobytes())
            return
        if self._guarded and not self._still_ours():
            return
        size = len(data) if isinstance(data, bytes) else memoryview(data).nbytes
        if size == 0:
            return
        try:
            sent = _send(self.fd, data)
        except OSError as error:
            self.fail(error)
            return
        if sent == size:
            return
        if isinstance(data, bytes):
            self._keep(memoryview(data)[sent:])
        else:
            # The caller may change it as soon as this returns.
            self._keep(bytes(memoryview(data).cast("B")[sent:]))
        self._watch()

    def write_many(self, parts: list[Any]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as it takes."""
        self.write(parts[0] if len(parts) == 1 else b"".join(parts))

    def _keep(self, data: Any) -> None:
        size = len(data)
        if size:
            if self._backlog is None:
                self._backlog = deque()
            self._backlog.append(data)
            self.unsent += size

    def _count_lost_write(self) -> None:
        self._writes_lost += 1
        if self._writes_lost >= _WARN_AFTER:
            _logger.warning("write() to a connection that is closed: %r", self)

    def on_writable(self) -> None:
        """Send from the backlog; wake the writers, announce the end or close when it is empty."""
        sock = self._sock
        backlog = self._backlog
        if sock is None or backlog is None:
            return
        if self._guarded and not self._still_ours():
            return
        try:
            if len(backlog) == 1:
                sent = _send(self.fd, backlog[0])
            else:
                sent = sock.sendmsg([backlog[i] for i in range(min(len(backlog), _IOV_MAX))])
        except BlockingIOError:
            return
        except OSError as error:
            self.fail(error)
            return
        self.unsent -= sent
        while sent:
            first = backlog[0]
            if sent < len(first):
                backlog[0] = memoryview(first)[sent:]
                break
            sent -= len(first)
            backlog.popleft()
        if self.unsent <= self._low_water and self._drain_waiters is not None:
            self._wake_drainers()
        if not self.unsent:
            self._backlog = None
            if self.closing:
                self._close(None)
                return
            self._watch()
            if self._eof_wanted:
                self._send_eof()

    def must_drain(self) -> bool:
        """Return whether so much is unsent that a writer should wait."""
        return self.unsent > self._high_water

    def drained(self) -> FutureCore:
        """Return what to await until enough was sent; it fails when the connection does."""
        waiter = self._loop.create_future()
        if self._drain_waiters is None:
            self._drain_waiters = []
        self._drain_waiters.append(waiter)
        return waiter

    def _wake_drainers(self) -> None:
        waiters = self._drain_waiters
        self._drain_waiters = None
        for waiter in waiters or ():
            if waiter.done():
                continue
            if self._sock is None and self.error is None and self.unsent:
                waiter.set_exception(ConnectionAbortedError("The connection was aborted."))
            elif self.error is not None:
                waiter.set_exception(lost(self.error))
            else:
                finish_future(waiter, None)

    def set_water_marks(self, high: int | None, low: int | None) -> None:
        """Set the unsent bytes above which writers wait, and those at which they go on.

        Raises ValueError unless ``high >= low >= 0``.
        """
        if high is None:
            high = HIGH_WATER if low is None else 4 * low
        if low is None:
            low = high // 4
        if not high >= low >= 0:
            raise ValueError(f"high ({high!r}) must be >= low ({low!r}) must be >= 0")
        self._high_water = high
        self._low_water = low

    def water_marks(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._low_water, self._high_water

    def write_eof(self) -> None:
        """Announce the end once everything written was sent; reading goes on."""
        if self._eof_wanted or self.closing:
            return
        self._eof_wanted = True
        if not self.unsent:
            self._send_eof()

    def _send_eof(self) -> None:
        if self._eof_sent or self._sock is None:
            return
        self._eof_sent = True
        try:
            self._sock.shutdown(socket.SHUT_WR)
        except OSError as error:
            self.fail(error)

    # -- Ending ------------------------------------------------------------------------------------

    def close(self) -> None:
        """Stop reading, send what was written, then close the socket."""
        if self.closing:
            return
        self.closing = True
        self._reading = False
        if not self.unsent:
            self._close(None)
            return
        self._watch()
        self.eof = True
        self._wake_reader()

    def abort(self) -> None:
        """Close the socket now; what was not sent is dropped."""
        self._close(None)

    def fail(self, error: BaseException) -> None:
        """Close the socket because of ``error``, which the reader and the writers are given."""
        self._close(error)

    def on_lost(self) -> None:
        """Note that the descriptor was closed by somebody else: not by us, then."""
        self.fail(_closed_by_others(self.fd))

    def _still_ours(self) -> bool:
        sock = self._sock
        if sock is not None and sock.fileno() == self.fd:
            return True
        self.fail(_closed_by_others(self.fd))
        return False

    def _close(self, error: BaseException | None) -> None:
        sock = self._sock
        if sock is None:
            return
        self._sock = None
        self.closing = True
        self.error = error
        self.eof = True
        self._reading = False
        self._loop.poller.watch(self, 0)
        self._backlog = None
        if sock.fileno() == self.fd:
            sock.close()
        self._wake_reader()
        if self._drain_waiters is not None:
            self._wake_drainers()
        waiter = self.closed_waiter
        if waiter is not None and not waiter.done():
            finish_future(waiter, None)
        on_closed = self._on_closed
        if on_closed is not None:
            self._on_closed = None
            on_closed(self)

    def closed_future(self) -> FutureCore:
        """Return what to await until the socket is closed."""
        waiter = self.closed_waiter
        if waiter is None:
            waiter = self.closed_waiter = self._loop.create_future()
            if self._sock is None:
                finish_future(waiter, None)
        return waiter

    def __repr__(self) -> str:
        state = "closed" if self._sock is None else "closing" if self.closing else "open"
        return f"<Connection {state} fd={self.fd} peername={self.peername!r}>"


def lost(error: BaseException) -> BaseException:
    """Return the exception for one more of those that a connection's failure is told to."""
    if isinstance(error, ConnectionError):
        again = type(error)(*error.args)
    else:
        again = ConnectionResetError("Connection lost")
    again.__cause__ = error
    return again


def _closed_by_others(fd: int) -> OSError:
    return ConnectionAbortedError(
        f"The socket with file descriptor {fd} was closed while its connection was open: "
        "close the connection instead."
    )


def set_no_delay(sock: socket.socket) -> None:
    """Have small writes on a TCP socket sent at once."""
    if sock.family in (socket.AF_INET, socket.AF_INET6) and sock.type == socket.SOCK_STREAM:
        # It fails when the peer is gone already; the first read will tell.
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
