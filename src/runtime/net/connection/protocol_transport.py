"""Transports of connections, which protocols get, and the making of a protocol's connection."""

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
from runtime.net.connection.connection_socket import ConnectionSocket
from runtime.net.connection.layers import Lower
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.stream_socket import StreamSocket
from runtime.net.connection.tls_options import TLSOptions


class Transport(Uncopyable, asyncio.Transport):
    """Connection of a protocol. Made by ``loop.create_connection`` and similar methods.

    ``write`` is the bound method of the layer below itself, which saves a call for each write.

    Source: "Transports" in the standard library's documentation of asyncio.
    """

    __slots__ = ("__dict__", "__weakref__", "_is_paused", "_socket", "adapter", "lower", "write")

    # A slot that hides the inherited method: each instance has the bound method of its lower layer.
    write: Callable[[Buffer], None]  # type: ignore[assignment]
    # Some libraries read ``transport._extra``, a dictionary in asyncio. One shared empty mapping
    # serves here, in place of a dictionary in every connection.
    _extra: Mapping[str, Any] = MappingProxyType({})

    def __init__(self, adapter: ProtocolAdapter, lower: Lower) -> None:
        # ``super().__init__`` is not called, because it would make a dictionary ``_extra``.
        self.adapter = adapter
        self.lower = lower
        self.write = lower.write
        self._is_paused = False
        # The result of ``get_extra_info("socket")``: the same object every time.
        self._socket: Any = None

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return the value of ``name``, or ``default`` if it is not known.

        The names are ``socket``, ``sockname`` and ``peername``. With TLS there are also
        ``sslcontext``, ``ssl_object``, ``peercert``, ``cipher``, ``compression`` and ``truncated``,
        which is True if the peer ended the connection without a close_notify, so that bytes may be
        missing. After the connection's end the addresses stay as they were, and the socket is
        closed.
        """
        if name == "socket":
            if self._socket is None:
                sock = self.lower.info("own_socket")
                self._socket = ConnectionSocket(sock, self.lower.send_joined)
            return self._socket
        found = self.lower.info(name)
        return default if found is None else found

    def is_closing(self) -> bool:
        """Return whether the connection is closed, or being closed."""
        return self.lower.is_closing()

    def close(self) -> None:
        """Send the written data, then close and call ``connection_lost`` of the protocol.

        A peer that never reads the data keeps the connection open: ``abort()`` ends it.
        """
        self.lower.close()

    def abort(self) -> None:
        """Close now, and drop unsent data."""
        self.lower.fail(None)

    def _force_close(self, exc: BaseException | None) -> None:
        """Close now because of ``exc``. asyncio's ``SSLProtocol`` calls this method."""
        self.lower.fail(exc)

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call the methods of ``protocol`` from now on."""
        self.adapter.set_protocol(protocol)

    def get_protocol(self) -> Any:
        """Return the protocol; None after its ``connection_lost``."""
        return self.adapter.protocol

    def is_reading(self) -> bool:
        """Return whether received data is passed to the protocol."""
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
        """Send several bytes-like objects, in order, in as few system calls as possible."""
        parts = list(list_of_data)
        if parts:
            self.lower.write_many(parts)

    def write_eof(self) -> None:
        """Send the end of the stream once all written data was sent; receiving continues.

        Raises NotImplementedError where ``can_write_eof()`` is False.
        """
        self.lower.write_eof()

    def can_write_eof(self) -> bool:
        """Return whether ``write_eof`` is supported: with TCP it is, with TLS it is not."""
        return self.lower.can_write_eof()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the sizes of the write buffer for the calls of the protocol's flow control.

        ``pause_writing`` is called above ``high`` bytes, and ``resume_writing`` at ``low``.
        ``high`` is 64 KiB by default, and ``low`` a quarter of ``high``. Raises ValueError unless
        ``high >= low >= 0``.
        """
        self.lower.set_water_marks(high, low)

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self.lower.water_marks()

    def get_write_buffer_size(self) -> int:
        """Return the number of bytes that were written and not sent yet."""
        return self.lower.unsent_size()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.lower!r}>"

    def __del__(self) -> None:
        # After ``start_tls()`` the connection belongs to another transport.
        if self.lower.is_closing() or self.adapter.transport is not self:
            return
        sock = self.lower.info("socket")
        warnings.warn(f"unclosed transport {self!r}", ResourceWarning, stacklevel=2, source=self)
        sock.close()


class SSLTransport(Transport):
    """Transport over TLS. Tools for asyncio recognize it by the name of its class."""

    __slots__ = ()


class ProtocolConnection:
    """The layers of a protocol's new connection, and its transport, until the first event."""

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
            try:
                self.lower = tls.layer(loop, bottom, self.adapter)
            except BaseException:
                bottom.fail(None)
                raise
            self.adapter.allow_half_open = False
        transport_class = Transport if tls is None else SSLTransport
        self.transport = transport_class(self.adapter, self.lower)
        self.adapter.transport = self.transport
        self.adapter.lower = self.lower
