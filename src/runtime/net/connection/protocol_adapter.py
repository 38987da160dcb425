"""Protocol adapter: the top layer of a connection that calls an asyncio protocol.

::

    made --> connection_made --> data_received / get_buffer, buffer_updated --> connection_lost
                                 pause_writing, resume_writing                  (through call_soon)
                                 eof_received, once

The protocol's methods are looked up again for each event, as in asyncio: protocols assign to them,
for example ``self.data_received = parser.feed``. They run in the context in which the connection
was made, also as in asyncio. An exception that one of them raises is reported to the loop's
exception handler. It also ends the connection, and is passed to ``connection_lost``, unless
``pause_writing`` or ``resume_writing`` raised it: no received data is lost then. SystemExit and
KeyboardInterrupt leave the loop instead.

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
    """Calls the methods of ``protocol`` for the events of one connection, ``transport``."""

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
        # A protocol recognizes a truncated TLS connection by ``connection_lost`` without a previous
        # ``eof_received``. An error passed to ``connection_lost`` would make asyncio's StreamReader
        # raise it before the reader has returned the bytes that it holds.
        self.truncation_is_error = False
        self.use_large_reads()
        # Every event uses these two: they are adjacent, so that they share a cache line.
        self._context = context
        self.protocol: Any = None
        self._loop = loop
        self._is_made = False
        # Whether writing may continue after the peer has ended its direction.
        self.allow_half_open = True
        self.lower: Lower | None = None
        self.transport: Any = None
        self.set_protocol(protocol)

    def set_protocol(self, protocol: Any) -> None:
        """Call the methods of ``protocol`` from now on."""
        self.protocol = protocol
        self.wants_buffer = isinstance(protocol, asyncio.BufferedProtocol)

    def get_protocol(self) -> object:
        return self.protocol

    def was_made(self) -> None:
        """Note that ``connection_made`` was called: ``start_tls`` keeps the protocol."""
        self._is_made = True

    # -- Events of the layer below -----------------------------------------------------------------

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
        """Receive nothing until ``release_reading``."""
        if self.lower is not None and not self.lower.is_closing():
            self.lower.pause_reading()

    def release_reading(self) -> None:
        """Receive from now on, unless the protocol has paused its transport."""
        if self.lower is not None and self.transport is not None and self.transport.is_reading():
            self.lower.resume_reading()

    def received(self, data: bytes) -> None:
        try:
            _call(self._context, "data_received", self.protocol, data)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "data_received")

    def get_buffer(self) -> Any:
        protocol = self.protocol
        try:
            buffer = _call(self._context, "get_buffer", protocol, -1)
            if not len(buffer):
                raise RuntimeError("get_buffer() returned an empty buffer")
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "get_buffer")
            return None
        # ``get_buffer`` may have set another protocol.
        return buffer if self.protocol is protocol else None

    def buffer_updated(self, size: int) -> None:
        try:
            _call(self._context, "buffer_updated", self.protocol, size)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "buffer_updated")

    def refused_buffer(self, error: Exception) -> None:
        self._failed(error, "get_buffer")

    def ended(self) -> bool:
        try:
            keep_open = _run_in(self._context, self.protocol.eof_received)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as error:
            self._failed(error, "eof_received")
            return True  # ``_failed`` has closed the connection already.
        return bool(keep_open) and self.allow_half_open

    def pause_writing(self) -> None:
        self.writing_paused = True
        # Not through ``_run_in``: the caller is ``write``, usually called by the protocol itself,
        # so that its context is entered already, and a context cannot be entered twice.
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
            self.wake_drainers(error or ConnectionAbortedError("the connection was aborted"))
        if self._loop.is_closed():
            # The connection is ended by a finalizer, or by the program, after the loop was closed:
            # no turn will come that could call ``connection_lost``.
            self._drop_references()
        else:
            self._loop.call_soon(self._report_lost, error, context=self._context)

    def _report_lost(self, error: BaseException | None) -> None:
        """Call ``connection_lost``, and drop the references to the protocol and the transport."""
        protocol = self.protocol
        try:
            if self._is_made:
                protocol.connection_lost(error)
        finally:
            self._drop_references()

    def _drop_references(self) -> None:
        """Break the reference cycle of the adapter, its protocol and its transport."""
        self.protocol = None
        self.transport = None
        self.pass_on_lost()

    # -- For the server ----------------------------------------------------------------------------

    def close(self) -> None:
        """Send the write buffer, then close."""
        if self.lower is not None:
            self.lower.close()

    def abort(self) -> None:
        """Close now, and drop unsent bytes."""
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
