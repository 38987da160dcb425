"""``Transport``, the class that protocols are given; how a protocol and a socket come together."""

from __future__ import annotations

import asyncio
import socket
import warnings
from collections.abc import Callable, Iterable, Mapping
from contextvars import Context
from types import MappingProxyType
from typing import Any

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.net.connection.layers import Lower
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.tls_options import TLSOptions


class Transport(Uncopyable, asyncio.Transport):
    """A connection, for a protocol. Made by ``loop.create_connection`` and its relatives.

    ``write`` is the very method of the part below, without a detour.

    Source: "Transports" in the standard library's documentation of asyncio.
    """

    __slots__ = ("__dict__", "__weakref__", "_is_paused", "_socket", "adapter", "lower", "write")

    # A slot over the inherited method: each instance has the bound method of its lower part.
    write: Callable[[Buffer], None]  # type: ignore[assignment]
    # Libraries look into asyncio's, under this name; here there is nothing, and no dictionary idle
    # in every connection.
    _extra: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, adapter: ProtocolAdapter, lower: Lower) -> None:
        # Without asyncio's, which makes ``_extra``.
        self.adapter = adapter
        self.lower = lower
        self.write = lower.write
        self._is_paused = False
        # What is told of the socket: the same object every time.
        self._socket: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return what is known under ``name``, or ``default``.

        ``socket``, ``sockname`` and ``peername``; with TLS also ``sslcontext``, ``ssl_object``,
        ``peercert``, ``cipher``, ``compression`` and ``truncated``: whether the peer's end came
        without the announcement that TLS asks for, so that bytes may be missing. When the
        connection has ended the addresses are told as before, and the socket is closed.
        """
        if name == "socket":
            if self._socket is None:
                self._socket = self.lower.info("transport_socket")
            return self._socket
        found = self.lower.info(name)
        return default if found is None else found

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        return self.lower.is_closing()

    def close(self) -> None:
        """Send what was written, then close. ``connection_lost`` tells when.

        A peer that never takes what was written keeps the connection open: ``abort()`` ends it.
        """
        self.lower.close()

    def abort(self) -> None:
        """Close now; what was not sent is dropped."""
        self.lower.fail(None)

    def _force_close(self, exc: BaseException | None) -> None:
        """Close now because of ``exc``: asyncio's ``SSLProtocol`` calls it under this name."""
        self.lower.fail(exc)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Tell ``protocol``, and no other, of what happens from now on."""
        self.adapter.set_protocol(protocol)

    def get_protocol(self) -> Any:
        """Return the protocol; None once it was told that the connection is lost."""
        return self.adapter.protocol

    def is_reading(self) -> bool:
        """Return whether the protocol is given what is received."""
        return not self._is_paused and not self.lower.is_closing()

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``. Calling it twice is fine."""
        if not self._is_paused and not self.lower.is_closing():
            self._is_paused = True
            self.lower.pause_reading()

    def resume_reading(self) -> None:
        """Receive again. Calling it twice is fine."""
        if self._is_paused and not self.lower.is_closing():
            self._is_paused = False
            self.lower.resume_reading()

    def writelines(self, list_of_data: Iterable[Buffer]) -> None:
        """Send several bytes-like objects, in order, in as few system calls as it takes."""
        parts = list(list_of_data)
        if parts:
            self.lower.write_many(parts)

    def write_eof(self) -> None:
        """Announce the end to the peer once everything written was sent; receiving goes on.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether one direction can be ended alone: with TCP it can, with TLS it cannot."""
        return self.lower.can_write_eof()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the unsent bytes above which ``pause_writing`` is called, and ``resume_writing``.

        Defaults: 64 KiB and a quarter. Raises ValueError unless ``high >= low >= 0``.
        """
        self.lower.set_water_marks(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self.lower.water_marks()

    def get_write_buffer_size(self) -> int:
        """Return how many bytes were written and not sent yet."""
        return self.lower.unsent_size()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lower!r}>"

    def __del__(self) -> None:
        # After start_tls() another transport has the connection.
        if self.lower.is_closing() or self.adapter.transport is not self:
            return
        sock = self.lower.info("socket")
        warnings.warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
        sock.close()


class SSLTransport(Transport):
    """A transport over TLS. Tools for asyncio tell it by its name."""

    __slots__ = ()


class ProtocolConnection:
    """A protocol, its transport, and what they stand on, from the making to the first event."""

    __slots__ = ("adapter", "lower", "transport")

    def __init__(
        self,
        loop: LoopCore,
        sock: socket.socket,
        peername: object,
        protocol: asyncio.BaseProtocol,
        context: Context,
        tls: TLSOptions | None,
        *,
        shared: bool = False,
    ) -> None:
        self.adapter = ProtocolAdapter(loop, protocol, context)
        bottom = StreamSocket(loop, sock, self.adapter, peername)
        if shared:
            bottom.mark_shared()
        self.lower: Lower = bottom
        if tls is not None:
            self.lower = tls.layer(loop, bottom, self.adapter)
            self.adapter.allow_half_open = False
        made = Transport if tls is None else SSLTransport
        self.transport = made(self.adapter, self.lower)
        self.adapter.transport = self.transport
        self.adapter.lower = self.lower
