"""The top of a connection that an asyncio protocol is told of.

::

    made --> connection_made --> data_received / get_buffer, buffer_updated --> connection_lost
                                 pause_writing, resume_writing                  (through call_soon)
                                 eof_received, once

The protocol's methods are looked up anew for each event, as asyncio does: protocols assign to them,
``self.data_received = parser.feed``. They run in the context that the connection was made in, as
asyncio's do. What one of them raises is reported to the loop's exception handler, and ends the
connection.

Source: "Transports and Protocols" in the standard library's documentation of asyncio.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any, Final

from runtime.kernel.core import LoopCore
from runtime.kernel.native import accelerator
from runtime.net.connection.layers import Lower, Top

_run_in: Final = Context.run
_call: Final[Callable[[Context, str, object, object], Any]] = accelerator.call


class ProtocolAdapter(Top):
    """Tells ``protocol`` of one connection, which it knows by its ``transport``."""

    __slots__ = (
        "_context",
        "_is_made",
        "_loop",
        "allow_half_open",
        "lower",
        "protocol",
        "transport",
    )

    def __init__(self, loop: LoopCore, protocol: Any, context: Context) -> None:
        Top.__init__(self)
        # It is told by the eof_received that does not come. With an error in connection_lost,
        # asyncio's StreamReader would raise it before what it holds was read.
        self.truncation_is_error = False
        self.use_large_reads()
        # Every event needs these two: they lie side by side.
        self._context = context
        self.protocol: Any = None
        self._loop = loop
        self._is_made = False
        # Whether the connection may go on in one direction when the peer has ended the other.
        self.allow_half_open = True
        self.lower: Lower | None = None
        self.transport: Any = None
        self.set_protocol(protocol)

    def set_protocol(self, protocol: Any) -> None:
        """Tell ``protocol`` from now on, and no other."""
        self.protocol = protocol
        self.wants_buffer = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> object:
        return self.protocol

    def was_made(self) -> None:
        """Take note that the protocol was told already: it stays with an upgraded connection."""
        self._is_made = True

    # -- What the lower part tells -----------------------------------------------------------------

    def connected(self) -> None:
        if not self._is_made:
            self._is_made = True
            try:
                _run_in(self._context, self.protocol.connection_made, self.transport)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as error:
                self._failed(error, "connection_made")
        self.pass_on_connected()

    def hold_reading(self) -> None:
        """Have nothing received until ``release_reading``."""
        if self.lower is not None and not self.lower.is_closing():
            self.lower.pause_reading()

    def release_reading(self) -> None:
        """Have everything received from now on, unless the protocol has paused its transport."""
        if self.lower is not None and self.transport is not None and self.transport.is_reading():
            self.lower.resume_reading()

    def received(self, data: bytes) -> None:
        if self.wants_buffer:
            self._copy_to_buffers(data)
            return
        try:
            _call(self._context, "data_received", self.protocol, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "data_received")

    def get_buffer(self) -> Any:
        return self._buffer_for(-1)

    def buffer_updated(self, size: int) -> None:
        try:
            _call(self._context, "buffer_updated", self.protocol, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "buffer_updated")

    def refused_buffer(self, error: Exception) -> None:
        self._failed(error, "get_buffer")

    def _buffer_for(self, size: int) -> Any:
        """Return the protocol's buffer for about ``size`` bytes.

        None when it gave none, or when it was replaced in the course of asking.
        """
        protocol = self.protocol
        try:
            buffer = _call(self._context, "get_buffer", protocol, size)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "get_buffer")
            return None
        return buffer if self.protocol is protocol else None

    def _copy_to_buffers(self, data: bytes) -> None:
        """Hand over bytes that are here already, in as many buffers as it takes."""
        rest = memoryview(data)
        while rest and self.wants_buffer:
            protocol = self.protocol
            buffer = self._buffer_for(len(rest))
            if self.protocol is not protocol:
                continue
            if buffer is None:
                return
            size = min(len(buffer), len(rest))
            try:
                memoryview(buffer)[:size] = rest[:size]
            except Exception as error:
                self.refused_buffer(error)
                return
            rest = rest[size:]
            self.buffer_updated(size)
        if rest:
            # The protocol was replaced half-way by one that takes bytes.
            self.received(bytes(rest))

    def ended(self) -> bool:
        try:
            keep_open = _run_in(self._context, self.protocol.eof_received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "eof_received")
            return True  # It is closed already.
        return bool(keep_open) and self.allow_half_open

    def pause_writing(self) -> None:
        self.writing_paused = True
        # Called by whoever writes, usually the protocol itself, which is in its context already.
        try:
            self.protocol.pause_writing()
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, "protocol.pause_writing() failed")

    def resume_writing(self) -> None:
        self.writing_paused = False
        if self._drain_waiters is not None:
            self.wake_drainers(None)
        try:
            _run_in(self._context, self.protocol.resume_writing)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._report(error, "protocol.resume_writing() failed")

    def lost(self, error: BaseException | None) -> None:
        self.error = error
        if self._drain_waiters is not None:
            self.wake_drainers(error or ConnectionAbortedError("The connection was aborted."))
        if self._loop.is_closed():
            # No turn comes any more: a finalizer ended the connection, or the program itself.
            self._let_go()
        else:
            self._loop.call_soon(self._tell_lost, error, context=self._context)

    def _tell_lost(self, error: BaseException | None) -> None:
        """Call ``connection_lost``, and let go of everything."""
        protocol = self.protocol
        try:
            if self._is_made:
                protocol.connection_lost(error)
        finally:
            self._let_go()

    def _let_go(self) -> None:
        """Let go of everything: nothing is left that is circular."""
        self.protocol = None
        self.transport = None
        self.pass_on_lost()

    # -- For the server ----------------------------------------------------------------------------

    def close(self) -> None:
        """Send what was written, then close."""
        if self.lower is not None:
            self.lower.close()

    def abort(self) -> None:
        """Close now."""
        if self.lower is not None:
            self.lower.fail(None)

    def peername(self) -> object:
        """Return the peer's address, or None."""
        return None if self.lower is None else self.lower.info("peername")

    def _failed(self, error: BaseException, method: str) -> None:
        self._report(error, f"Fatal error: protocol.{method}() call failed.")
        if self.lower is not None:
            self.lower.fail(error)

    def _report(self, error: BaseException, message: str) -> None:
        self._loop.call_exception_handler(
            {
                "message": message,
                "exception": error,
                "transport": self.transport,
                "protocol": self.protocol,
            }
        )
