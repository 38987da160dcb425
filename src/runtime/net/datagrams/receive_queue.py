"""Receive queue of a datagram endpoint: received datagrams, and the tasks that wait for them.

The queue is the protocol of a ``DatagramSocket``. When it holds ``size`` datagrams, it pauses the
socket until half of them are taken. The system keeps datagrams that arrive in the meantime, up to
the size of the socket's receive buffer, and drops the rest. So there is only one place where
datagrams are lost.

At most one error is kept, the first, and it is raised once: the same as the system does with the
error of a socket.

Each datagram wakes one waiting task, which looks at the queue again when it runs. If a task is
cancelled after it was woken, it wakes the next one, so that no datagram stays in the queue while a
task waits.

This module is compiled in the compiled build. The object that users have is interpreted:
``runtime.net.datagrams.endpoint``.
"""

from __future__ import annotations

from collections import deque
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future
from runtime.net.datagrams.datagram_socket import DatagramSocket

_CLOSED: Final = "the datagram endpoint was closed"

_SWEEP_MINIMUM: Final = 32
"""Minimum number of cancelled receivers for which a sweep, which visits all, is worth it."""


class DatagramQueue:
    """Received datagrams of one endpoint, and the futures of the tasks that wait for it."""

    __slots__ = (
        "_cancelled",
        "_closed_waiters",
        "_core",
        "_datagrams",
        "_drainers",
        "_error",
        "_loop",
        "_receivers",
        "_size",
        "closed",
        "failure",
        "finished",
        "paused",
    )

    def __init__(self, loop: LoopCore, size: int) -> None:
        self._loop = loop
        self._size = size
        self._core: DatagramSocket | None = None
        self._datagrams: deque[tuple[bytes, Any]] = deque()
        # The receivers, and how many of them are cancelled: to remove one from the middle of a
        # deque takes a search, so that they stay until they are the majority, or their turn comes.
        self._receivers: deque[FutureCore] = deque()
        self._cancelled = 0
        # Dictionaries without values, from which any waiter is removed without a search.
        self._drainers: dict[FutureCore, None] = {}
        self._closed_waiters: dict[FutureCore, None] = {}
        # The error to raise next.
        self._error: OSError | None = None
        # Whether the write buffer is so full that a sender should wait.
        self.paused = False
        # Whether nothing will be received any more; whether the socket is closed; and the failure
        # that closed it.
        self.finished = False
        self.closed = False
        self.failure: BaseException | None = None

    # -- For the socket ----------------------------------------------------------------------------

    def connection_made(self, core: DatagramSocket) -> None:
        """Set the socket to pause while the queue is full."""
        self._core = core

    def datagram_received(self, data: bytes, address: Any) -> None:
        """Append a datagram, and wake a receiver."""
        self._datagrams.append((data, address))
        if len(self._datagrams) >= self._size and self._core is not None:
            self._core.pause_reading()
        if self._receivers:
            self._wake_receiver()

    def error_received(self, error: OSError) -> None:
        """Keep an error for the next call that raises it, unless there is one already."""
        if self._error is None:
            self._error = error
        if self._receivers:
            self._wake_receiver()

    def pause_writing(self) -> None:
        """Make ``drain`` wait."""
        self.paused = True

    def resume_writing(self) -> None:
        """Wake the tasks in ``drain``."""
        self.paused = False
        _wake_all(self._drainers)

    def connection_lost(self, error: BaseException | None) -> None:
        """Wake all waiting tasks: the socket is closed."""
        self.closed = True
        self.failure = error
        self._core = None
        self.finish()
        _wake_all(self._drainers)
        _wake_all(self._closed_waiters)

    # -- For the endpoint --------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._datagrams)

    def take(self) -> tuple[bytes, Any] | None:
        """Remove and return the first datagram, or None. Raises the kept error if there is one."""
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
        """Raise the kept error, if there is one."""
        error = self._error
        if error is not None:
            self._error = None
            raise error

    def finish(self) -> None:
        """Wake all receivers: nothing will be received any more. Datagrams stay in the queue."""
        self.finished = True
        while self._receivers:
            self._wake_receiver()

    def arrival(self) -> FutureCore:
        """Return a future that finishes when a datagram or an error arrives, or at the end."""
        waiter = self._loop.create_future()
        self._receivers.append(waiter)
        return waiter

    def leave(self, waiter: FutureCore) -> None:
        """Remove the future of a cancelled receiver, or pass on its wake-up to the next one."""
        if waiter.cancelled():
            self._cancelled += 1
            if self._cancelled > _SWEEP_MINIMUM and self._cancelled * 2 > len(self._receivers):
                self._receivers = deque([each for each in self._receivers if not each.done()])
                self._cancelled = 0
        elif waiter in self._receivers:
            self._receivers.remove(waiter)  # The coroutine was closed: its future is pending.
        elif self._datagrams or self._error is not None:
            self._wake_receiver()

    def _wake_receiver(self) -> None:
        """Wake the receiver that waits longest, if there is one."""
        receivers = self._receivers
        while receivers:
            receiver = receivers.popleft()
            if not receiver.done():
                finish_future(receiver, None)
                return
            self._cancelled -= 1

    def drained(self) -> FutureCore:
        """Return a future that finishes when the write buffer is small enough, or at the end."""
        waiter = self._loop.create_future()
        self._drainers[waiter] = None
        return waiter

    def leave_drain(self, waiter: FutureCore) -> None:
        """Remove the future of a sender that has ended its wait."""
        self._drainers.pop(waiter, None)

    def closing(self) -> FutureCore:
        """Return a future that finishes when the socket is closed."""
        waiter = self._loop.create_future()
        self._closed_waiters[waiter] = None
        return waiter

    def leave_closing(self, waiter: FutureCore) -> None:
        """Remove the future of a task that waits no longer for the end of the socket."""
        self._closed_waiters.pop(waiter, None)

    def over(self) -> BaseException:
        """Return the exception for the use of a closed endpoint."""
        error = ConnectionAbortedError(
            _CLOSED if self.failure is None else str(self.failure.args[0])
        )
        error.__cause__ = self.failure
        return error


def _wake_all(waiters: dict[FutureCore, None]) -> None:
    """Finish the futures that are not done yet, and remove all of them."""
    removed = list(waiters)
    waiters.clear()
    for waiter in removed:
        if not waiter.done():
            finish_future(waiter, None)
