"""``PipeEnd``: the common base of the read end and the write end of a pipe.

``ReadEnd`` passes received data to the protocol, ``WriteEnd`` buffers data that is not sent yet. An
end is the watcher of its descriptor, and holds the state of a transport; the transport itself is a
thin, interpreted class: see ``pipes.py``. Both kinds of ends go through the same states::

    OPEN ---- the end of the data, a failure, abort(), close() of a read end ----> ENDED
      |                                                                              ^  |
      +-- close() of a write end --> CLOSING: the write buffer is sent --------------+  |
                                                                                        v
                                           connection_lost() in the next turn -----> RELEASED

Invariants: ``connection_lost`` is scheduled once, when ENDED is reached, and nothing is watched
from then on; ``pipe``, ``protocol`` and ``transport`` are None from RELEASED on, and not before.

The protocol is called in the context in which the end was made, except for ``pause_writing``, which
is called within ``write``. Exceptions of the protocol are reported, and the transport continues.
"""

from __future__ import annotations

import errno
import logging
import os
from collections.abc import Callable
from contextvars import Context, copy_context
from typing import Any, Final, Protocol

from runtime.kernel.core import LoopCore
from runtime.kernel.future import FutureCore, finish_future
from runtime.kernel.watcher import Watcher
from runtime.system.non_blocking import NonBlocking

_logger: Final = logging.getLogger("asyncio")


class Pipe(Protocol):
    """A file or a socket, as far as a transport is concerned."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


class PipeEnd(Watcher):
    """One end of a pipe. ``number`` is the descriptor of ``pipe``."""

    __slots__ = (
        "_duplicate",
        "_non_blocking",
        "closing",
        "context",
        "ended",
        "loop",
        "number",
        "pipe",
        "protocol",
        "transport",
    )

    def __init__(self, loop: LoopCore, pipe: Pipe, protocol: Any) -> None:
        number = pipe.fileno()
        Watcher.__init__(self, number)
        self.loop = loop
        self.number = number
        self.pipe: Pipe | None = pipe
        self.protocol: Any = protocol
        # The transport object that the protocol was given for this end.
        self.transport: Any = None
        self.closing = False
        self.ended = False
        self.context: Context = copy_context()
        # A duplicate of ``number``, which is watched while another end watches ``number``; or -1.
        self._duplicate = -1
        self._non_blocking: NonBlocking | None = None

    def make_non_blocking(self) -> None:
        """Make the pipe non-blocking until the transport ends: see ``non_blocking.py``."""
        self._non_blocking = NonBlocking(self.number)

    def get_protocol(self) -> object:
        """Return the protocol; for a pipe of a subprocess, the protocol of the subprocess."""
        protocol_of_process = getattr(self.protocol, "protocol_of_process", None)
        return self.protocol if protocol_of_process is None else protocol_of_process()

    def schedule_connection_made(self, transport: Any, waiter: FutureCore) -> None:
        """Schedule ``connection_made(transport)``, and ``waiter`` to be finished after that.

        The code that awaits ``waiter`` must call ``begin`` then: the protocol is not called again
        before.
        """
        self.transport = transport
        self.call_soon(self.protocol.connection_made, transport)
        self.call_soon(_finish, waiter)

    def begin(self, transport: Any) -> None:
        """Watch the pipe from now on. Raises the exceptions of a custom selector."""
        self.transport = transport
        if not self.ended:
            self.update_watch()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Schedule a callback in the context that this end was made in."""
        self.loop.call_soon(callback, *args, context=self.context)

    # -- Watching ----------------------------------------------------------------------------------

    def events_to_watch(self) -> int:
        """Return the events to watch in the present state."""
        raise NotImplementedError

    def cannot_watch(self, error: OSError) -> None:
        """Handle that the system cannot watch the descriptor."""
        self.fail(error)

    def update_watch(self) -> None:
        """Watch exactly the events that the present state requires."""
        events = 0 if self.ended else self.events_to_watch()
        try:
            if events and not self.events:
                self._avoid_other_end()
            self.loop._poller.watch(self, events)
        except OSError as error:
            self.cannot_watch(error)

    def _avoid_other_end(self) -> None:
        """Watch a duplicate of the descriptor if another open end watches the descriptor already.

        A terminal may be read and written through one descriptor, which can have one watcher only.
        """
        other = self.loop._poller.watcher(self.fd)
        if isinstance(other, PipeEnd) and other is not self and other.is_open():
            self._duplicate = self.fd = os.dup(self.number)

    def on_lost(self) -> None:
        """Fail, because other code has closed the descriptor."""
        self.fail(self._closed_by_others())

    def is_open(self) -> bool:
        """Return whether ``number`` is still the descriptor of the pipe, and not closed."""
        pipe = self.pipe
        if pipe is None:
            return False
        try:
            return pipe.fileno() == self.number
        except ValueError:
            return False

    def check_open(self) -> bool:
        """Return whether the pipe is still open; if not, the transport fails."""
        if self.is_open():
            return True
        self.fail(self._closed_by_others())
        return False

    def _closed_by_others(self) -> OSError:
        return OSError(
            errno.EBADF,
            f"the pipe with file descriptor {self.number} was closed while its transport was open: "
            "close the transport instead",
        )

    # -- Ending ------------------------------------------------------------------------------------

    def on_process_exit(self) -> None:
        """Handle at once the effects of a process at the other end, which has ended."""
        raise NotImplementedError

    def fail(self, error: OSError) -> None:
        """End because of ``error``, which is passed to ``connection_lost``."""
        raise NotImplementedError

    def report(self, message: str, error: BaseException) -> None:
        """Report ``error`` to the loop's exception handler."""
        self.loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self.transport,
                "protocol": self.protocol,
            }
        )

    def note(self, message: str, error: OSError) -> None:
        """Log an error in debug mode; the protocol is given the error in any case."""
        if self.loop._debug:
            _logger.debug("%r: %s", self.transport, message, exc_info=error)

    def end(self, error: BaseException | None) -> None:
        """Watch nothing any more, and schedule ``connection_lost(error)``."""
        if self.ended:
            return
        self.closing = True
        self.ended = True
        # First, because a custom selector may raise in the following calls.
        self.call_soon(self._lose_connection, error)
        self._restore_mode()
        self.update_watch()

    def _lose_connection(self, error: BaseException | None) -> None:
        try:
            self.protocol.connection_lost(error)
        finally:
            self.release()

    def release(self) -> None:
        """Drop all references, stop watching, and close the pipe."""
        pipe = self.pipe
        if pipe is None:
            return
        self.closing = True
        self.ended = True
        if self.events:
            self.loop._poller.watch(self, 0)
        self.pipe = None
        self.protocol = None
        self.transport = None
        if self._duplicate >= 0:
            os.close(self._duplicate)
            self._duplicate = -1
        self._restore_mode()
        pipe.close()

    def _restore_mode(self) -> None:
        if self._non_blocking is not None:
            self._non_blocking.end()
            self._non_blocking = None

    def __repr__(self) -> str:
        state = "closed" if self.pipe is None else "closing" if self.closing else "open"
        return f"<pipe {state} fd={self.number}>"


def _finish(waiter: FutureCore) -> None:
    if not waiter.done():
        finish_future(waiter, None)
