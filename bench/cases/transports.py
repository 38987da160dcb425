"""Echo servers on the loop itself: protocols, datagrams, and bare sockets.

All of them use methods of the loop, which have asyncio's names for every contender.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from typing import cast

from bench.apis import Api
from bench.cases.serving import BACKLOG, CHUNK, LOOPBACK, Address


class Echo(asyncio.Protocol):
    """Echoes bytes as they arrive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Send the bytes back."""
        self._transport.write(data)


class BufferedEcho(asyncio.BufferedProtocol):
    """Echoes bytes as they arrive, received into a buffer of its own."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._buffer = bytearray(CHUNK)
        self._view = memoryview(self._buffer)

    def get_buffer(self, sizehint: int) -> bytearray:
        """Return the buffer."""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """Send back a copy: a transport may keep the data it is given, and the buffer is reused."""
        self._transport.write(bytes(self._view[:nbytes]))


class EchoDatagrams(asyncio.DatagramProtocol):
    """Echoes datagrams."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        """Send the datagram back."""
        self._transport.sendto(data, addr)


@contextlib.asynccontextmanager
async def _serving(api: Api, protocol: type[asyncio.BaseProtocol]) -> AsyncIterator[Address]:
    loop = api.get_running_loop()
    listening = await loop.create_server(protocol, LOOPBACK, 0, backlog=BACKLOG)
    try:
        yield listening.sockets[0].getsockname()[1]
    finally:
        listening.close()


def protocol(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo through a Protocol."""
    return _serving(api, Echo)


def buffered(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo through a BufferedProtocol."""
    return _serving(api, BufferedEcho)


@contextlib.asynccontextmanager
async def datagrams(api: Api, size: int) -> AsyncIterator[Address]:
    """Echo through a DatagramProtocol."""
    loop = api.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(EchoDatagrams, local_addr=(LOOPBACK, 0))
    try:
        yield transport.get_extra_info("sockname")[1]
    finally:
        transport.close()


@contextlib.asynccontextmanager
async def sockets(api: Api, size: int) -> AsyncIterator[Address]:
    """Echo with sock_recv and sock_sendall."""
    loop = api.get_running_loop()

    async def echo(conn: socket.socket) -> None:
        with conn:
            conn.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while data := await loop.sock_recv(conn, CHUNK):
                await loop.sock_sendall(conn, data)

    async def accept(listening: socket.socket) -> None:
        while True:
            conn, _ = await loop.sock_accept(listening)
            echoing.add(task := api.create_task(echo(conn)))
            task.add_done_callback(echoing.discard)

    await _try_sockets(loop)
    echoing: set[asyncio.Task[None]] = set()
    with socket.create_server((LOOPBACK, 0), backlog=BACKLOG) as listening:
        listening.setblocking(False)
        accepting = api.create_task(accept(listening))
        try:
            yield listening.getsockname()[1]
        finally:
            accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await accepting


async def _try_sockets(loop: asyncio.AbstractEventLoop) -> None:
    """Fail at once if the loop lacks these methods: later the error would only reach a task."""
    one, other = socket.socketpair()
    with one, other:
        one.setblocking(False)
        other.setblocking(False)
        await loop.sock_sendall(one, b"x")
        await loop.sock_recv(other, 1)
