"""What the two ends of a pipe in the loop have in common.

``ReadEnd`` gives what arrives, ``WriteEnd`` keeps what is not sent yet. An end is the watcher of
its descriptor, and holds the state of a transport, which is thin, and interpreted: see ``pipes``.
Both go through the same states::

    OPEN ---- the end of the data, a failure, abort(), close() of a read end ----> ENDED
      |                                                                              ^  |
      +-- close() of a write end --> CLOSING, what was written is sent --------------+  |
                                                                                        v
                                           connection_lost() in the next turn -----> RELEASED

Invariants: ``connection_lost`` is scheduled once, when ENDED is reached, and nothing is watched
from then on; ``pipe``, ``protocol`` and ``transport`` are there until RELEASED.

The protocol is called in the context of whoever made the end, except for ``pause_writing``, which
is called within ``write``. What it raises is reported, and the transport goes on.
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
from runtime.kernel.poller import Watcher
from runtime.system.non_blocking import NonBlocking

_logger: Final = logging.getLogger("asyncio")


class Pipe(Protocol):
    """A file or a socket, as far as a transport is concerned."""

    def fileno(self) -> int:
        """Return the descriptor."""

    def close(self) -> None:
        """Close the descriptor."""


class PipeEnd(Watcher):
    """What both ends have in common. ``number`` is the descriptor of ``pipe``."""

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
        # Whoever stands for this end in the eyes of the protocol.
        self.transport: Any = None
        self.closing = False
        self.ended = False
        self.context: Context = copy_context()
        # What is watched instead of ``number`` while another end watches that; -1 for nothing.
        self._duplicate = -1
        self._non_blocking: NonBlocking | None = None

    def make_non_blocking(self) -> None:
        """Make the pipe non-blocking until the end. Others may have the open file, too."""
        self._non_blocking = NonBlocking(self.number)

    def get_protocol(self) -> object:
        """Return the protocol; for the pipe of a process that of the process."""
        of_process = getattr(self.protocol, "protocol_of_process", None)
        return self.protocol if of_process is None else of_process()

    def introduce(self, transport: Any, waiter: FutureCore) -> None:
        """Schedule ``connection_made(transport)``, and ``waiter`` to be finished after that.

        Whoever awaits the waiter is to call ``begin``: the protocol is told nothing more before.
        """
        self.transport = transport
        self.call_soon(self.protocol.connection_made, transport)
        self.call_soon(_finish, waiter)

    def begin(self, transport: Any) -> None:
        """Watch the pipe from now on. Raises what a selector of the program's own does."""
        self.transport = transport
        if not self.ended:
            self.update_watch()

    def call_soon(self, callback: Callable[..., object], *args: Any) -> None:
        """Schedule a callback in the context that this end was made in."""
        self.loop.call_soon(callback, *args, context=self.context)

    # -- Watching ----------------------------------------------------------------------------------

    def wanted(self) -> int:
        """Return the events that are to be watched in the present state."""
        raise NotImplementedError

    def cannot_watch(self, error: OSError) -> None:
        """Handle that the system cannot watch the descriptor."""
        self.fail(error)

    def update_watch(self) -> None:
        """Have exactly the events watched that the state asks for."""
        events = 0 if self.ended else self.wanted()
        try:
            if events and not self.events:
                self._avoid_other_end()
            self.loop._poller.watch(self, events)
        except OSError as error:
            self.cannot_watch(error)

    def _avoid_other_end(self) -> None:
        """Watch a duplicate of the descriptor where another end, alive, watches it already.

        A terminal may be read and written through one descriptor, which has one watcher only.
        """
        other = self.loop._poller.watcher(self.fd)
        if isinstance(other, PipeEnd) and other is not self and other.still_open():
            self._duplicate = self.fd = os.dup(self.number)

    def on_lost(self) -> None:
        """Note that the descriptor was closed by somebody else: not by us, then."""
        self.fail(self._closed_by_others())

    def still_open(self) -> bool:
        """Return whether ``number`` is the pipe's still: its owner may have closed it."""
        pipe = self.pipe
        if pipe is None:
            return False
        try:
            return pipe.fileno() == self.number
        except ValueError:
            return False

    def check_open(self) -> bool:
        """As ``still_open``; if not, the transport fails."""
        if self.still_open():
            return True
        self.fail(self._closed_by_others())
        return False

    def _closed_by_others(self) -> OSError:
        return OSError(
            errno.EBADF,
            f"The pipe with file descriptor {self.number} was closed while its transport was open: "
            "close the transport instead.",
        )

    # -- Ending ------------------------------------------------------------------------------------

    def catch_up(self) -> None:
        """Notice at once what a process at the other end did before it ended."""
        raise NotImplementedError

    def fail(self, error: OSError) -> None:
        """End because of ``error``, which ``connection_lost`` is given."""
        raise NotImplementedError

    def report(self, message: str, error: BaseException) -> None:
        """Tell the loop's exception handler of ``error``."""
        self.loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self.transport,
                "protocol": self.protocol,
            }
        )

    def note(self, message: str, error: OSError) -> None:
        """Log an error that only a debugger wants to know of: the protocol is told anyway."""
        if self.loop._debug:
            _logger.debug("%r: %s", self.transport, message, exc_info=error)

    def end(self, error: BaseException | None) -> None:
        """Watch nothing any more, and schedule ``connection_lost(error)``."""
        if self.ended:
            return
        self.closing = True
        self.ended = True
        # First, for a selector of the program's own may fail at what comes next.
        self.call_soon(self._lose_connection, error)
        self._restore_mode()
        self.update_watch()

    def _lose_connection(self, error: BaseException | None) -> None:
        try:
            self.protocol.connection_lost(error)
        finally:
            self.release()

    def release(self) -> None:
        """Let go of everything, and close the pipe."""
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
