"""Datagram endpoints for protocols: ``loop.create_datagram_endpoint`` and its transport.

Source: "Datagram Transports" and "Datagram Protocols" in the standard library's documentation of
asyncio, as of Python 3.13.
"""

from __future__ import annotations

import asyncio
import socket
import warnings
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, TypeVar, cast

from runtime.kernel.arguments.buffers import Buffer
from runtime.kernel.arguments.callables import check_factory, make_protocol
from runtime.kernel.arguments.refusals import Uncopyable
from runtime.kernel.arguments.sizes import Size
from runtime.kernel.core import LoopCore
from runtime.kernel.public_types import Future
from runtime.net.datagrams.datagram_socket import DatagramReceiver, DatagramSocket
from runtime.net.datagrams.socket_setup import Address, datagram_socket

P = TypeVar("P", bound=asyncio.BaseProtocol)


class DatagramTransport(Uncopyable, asyncio.DatagramTransport, asyncio.Transport):
    """Transport of a datagram endpoint. Made by ``loop.create_datagram_endpoint``.

    Its methods call those of a ``DatagramSocket``. ``sendto`` is the bound method of that object
    itself, which saves a call for each datagram.
    """

    __slots__ = ("__dict__", "__weakref__", "_core", "sendto")

    if TYPE_CHECKING:

        def sendto(self, data: Buffer, addr: Any = None) -> None:
            """See ``DatagramSocket.sendto``."""

    def __init__(self, core: DatagramSocket, sock: socket.socket) -> None:
        super().__init__(
            {
                "socket": TransportSocket(sock),
                "sockname": core.sockname(),
                "peername": core.peername,
            }
        )
        self._core = core
        self.sendto = core.sendto  # type: ignore[method-assign]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """Return ``socket``, ``sockname`` or ``peername``; ``default`` for any other name.

        The addresses are as the socket reports them: ``sockname`` changes if the system chooses a
        port at the first ``sendto``.
        """
        if name == "sockname":
            return self._core.sockname()
        return super().get_extra_info(name, default)

    def get_protocol(self) -> Any:
        """Return the protocol; None once the transport is closed."""
        return self._core.get_protocol()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Call another protocol from now on."""
        self._core.set_protocol(cast(DatagramReceiver, protocol))

    def get_write_buffer_size(self) -> int:
        """Return the number of unsent bytes, with 8 added for each datagram."""
        return self._core.unsent

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Return the low and the high mark, in bytes."""
        return self._core.water_marks()

    def set_write_buffer_limits(self, high: Size | None = None, low: Size | None = None) -> None:
        """Set the sizes of the write buffer for the calls of the protocol's flow control.

        ``pause_writing`` is called above ``high`` bytes, and ``resume_writing`` at ``low``.
        ``high`` is 64 KiB by default, and ``low`` a quarter of ``high``. Raises ValueError unless
        ``high >= low >= 0``.
        """
        self._core.set_water_marks(high, low)

    def is_reading(self) -> bool:
        """Return whether datagrams are received."""
        return self._core.is_reading()

    def pause_reading(self) -> None:
        """Receive nothing until ``resume_reading``.

        The system keeps arriving datagrams until the socket's receive buffer is full, and then
        drops them.
        """
        self._core.pause_reading()

    def resume_reading(self) -> None:
        """Receive again after ``pause_reading``."""
        self._core.resume_reading()

    def is_closing(self) -> bool:
        """Return whether the transport is closed or being closed."""
        return self._core.closing

    def close(self) -> None:
        """Stop receiving, send the write buffer, then call ``connection_lost(None)``."""
        self._core.close()

    def abort(self) -> None:
        """Drop unsent datagrams and call ``connection_lost(None)``."""
        self._core.abort()

    def _force_close(self, exc: BaseException | None) -> None:
        """Close now because of ``exc``. asyncio's transports have this method too."""
        self._core.fail(exc)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._core.state()}>"

    def __del__(self) -> None:
        core = self._core
        if core.sock is None:
            return
        message = f"unclosed transport {self!r}"
        core.release()
        warnings.warn(message, ResourceWarning, stacklevel=2, source=self)


async def create_datagram_endpoint(
    loop: LoopCore,
    protocol_factory: Callable[[], P],
    local_addr: Address | None = None,
    remote_addr: Address | None = None,
    *,
    family: int = 0,
    proto: int = 0,
    flags: int = 0,
    reuse_port: bool | None = None,
    allow_broadcast: bool | None = None,
    sock: socket.socket | None = None,
) -> tuple[DatagramTransport, P]:
    """Return the transport and the protocol of a new endpoint.

    See ``Loop.create_datagram_endpoint``. Cancellation safe: an unfinished transport is closed.
    """
    check_factory(protocol_factory)
    bound, target = await datagram_socket(
        loop,
        local_addr,
        remote_addr,
        family=family,
        proto=proto,
        flags=flags,
        reuse_port=reuse_port,
        allow_broadcast=allow_broadcast,
        sock=sock,
    )
    try:
        protocol = make_protocol(protocol_factory)
        core = DatagramSocket(loop, bound, cast(DatagramReceiver, protocol), target, copy_context())
        transport = DatagramTransport(core, bound)
    except BaseException:
        if sock is None:
            bound.close()
        raise
    waiter: Future[None] = loop.create_future()
    core.schedule_connection_made(transport, waiter)
    try:
        await waiter
        core.start_receiving()
    except BaseException:
        transport.close()
        raise
    return transport, protocol
