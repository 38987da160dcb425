"""What a datagram endpoint has received and nobody has taken yet, and who waits for more.

It is the protocol of a ``DatagramSocket``. When ``size`` datagrams wait, the core stops receiving,
until half of them are taken: what comes meanwhile is kept by the system, up to its own limit, and
then lost, as datagrams are. Thus every loss happens in one place.

An error is kept in a slot, as the system keeps a socket's: one at a time, the first, told once.

Waiters are woken one for each datagram, and look again when they run; one that was cancelled after
it was woken wakes the next, so that no datagram lies there while somebody waits.

Compiled where a compiler was found; ``runtime.net.datagrams.endpoint`` is what users hold.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future
from runtime.net.datagrams.datagram_socket import DatagramSocket

_CLOSED: Final = "The datagram endpoint was closed."


class DatagramQueue:
    """The datagrams of one endpoint, and the tasks that wait for it."""

    __slots__ = (
        "_core",
        "_datagrams",
        "_drainers",
        "_error",
        "_loop",
        "_receivers",
        "_size",
        "closed",
        "closed_waiters",
        "failure",
        "finished",
        "paused",
    )

    def __init__(self, loop: LoopCore, size: int) -> None:
        self._loop = loop
        self._size = size
        self._core: DatagramSocket | None = None
        self._datagrams: deque[tuple[bytes, Any]] = deque()
        self._receivers: deque[FutureCore] = deque()
        self._drainers: list[FutureCore] = []
        self.closed_waiters: list[FutureCore] = []
        # The error that nobody was told yet.
        self._error: OSError | None = None
        # Whether so much is unsent that a sender should wait.
        self.paused = False
        # Whether nothing will be received any more; whether the socket is closed, and why.
        self.finished = False
        self.closed = False
        self.failure: BaseException | None = None

    # -- For the core ------------------------------------------------------------------------------

    def connection_made(self, core: DatagramSocket) -> None:
        """Know whom to hold up when too much waits here."""
        self._core = core

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Keep a datagram, and wake a receiver."""
        self._datagrams.append((data, address))
        if len(self._datagrams) >= self._size and self._core is not None:
            self._core.pause_reading()
        if self._receivers:
            self._wake_receiver()

    def error_received(self, error: OSError) -> None:
        """Keep an error for the next who asks, unless there is one already."""
        if self._error is None:
            self._error = error
        if self._receivers:
            self._wake_receiver()

    def pause_writing(self) -> None:
        """Have senders wait."""
        self.paused = True

    def resume_writing(self) -> None:
        """Let senders go on."""
        self.paused = False
        self._wake_drainers()

    def connection_lost(self, error: BaseException | None) -> None:
        """Tell everybody that it is over."""
        self.closed = True
        self.failure = error
        self._core = None
        self.finish()
        self._wake_drainers()
        waiters = self.closed_waiters
        self.closed_waiters = []
        for waiter in waiters:
            if not waiter.done():
                finish_future(waiter, None)

    # -- For the endpoint --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._datagrams)

    def take(self) -> tuple[bytes, Any] | None:
        """Remove and return the first datagram; None when there is none. Raises a kept error."""
        if self._error is not None:
            self.raise_error()
        datagrams = self._datagrams
        if not datagrams:
            return None
        first = datagrams.popleft()
        core = self._core
        if core is not None and not core.is_reading() and 2 * len(datagrams) <= self._size:
            core.resume_reading()
        return first

    def raise_error(self) -> None:
        """Raise the error that was kept, if there is one."""
        error = self._error
        if error is not None:
            self._error = None
            raise error

    def finish(self) -> None:
        """Note that nothing will be received any more; what was, stays to be taken."""
        self.finished = True
        receivers = self._receivers
        while receivers:
            receiver = receivers.popleft()
            if not receiver.done():
                finish_future(receiver, None)

    def arrival(self) -> FutureCore:
        """Return what to await until there is something to take, or the end."""
        waiter = self._loop.create_future()
        self._receivers.append(waiter)
        return waiter

    def leave(self, waiter: FutureCore) -> None:
        """Note that a receiver waits no longer, because it was cancelled."""
        if waiter in self._receivers:
            self._receivers.remove(waiter)
        elif self._datagrams or self._error is not None:
            self._wake_receiver()

    def _wake_receiver(self) -> None:
        receivers = self._receivers
        while receivers:
            receiver = receivers.popleft()
            if not receiver.done():
                finish_future(receiver, None)
                return

    def drained(self) -> FutureCore:
        """Return what to await until enough was sent, or the end."""
        waiter = self._loop.create_future()
        self._drainers.append(waiter)
        return waiter

    def _wake_drainers(self) -> None:
        drainers = self._drainers
        self._drainers = []
        for drainer in drainers:
            if not drainer.done():
                finish_future(drainer, None)

    def over(self) -> BaseException:
        """Return the exception for one who wants something after the end."""
        error = ConnectionAbortedError(
            _CLOSED if self.failure is None else str(self.failure.args[0])
        )
        error.__cause__ = self.failure
        return error
