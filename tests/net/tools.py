"""Helpers of the network tests: servers, stream pairs and blocking sockets."""

from __future__ import annotations

import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import runtime
from runtime.net.connection.streams import DEFAULT_LIMIT, make_streams

Handler = Callable[[runtime.StreamReader, runtime.StreamWriter], Awaitable[None] | None]


async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Send all received data back, and close at the end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    writer.close()


def received_by(sock: socket.socket) -> bytes:
    """Return what a socket has received, without waiting; nothing after the end of the stream."""
    try:
        return sock.recv(100)
    except BlockingIOError:
        return b""


@contextlib.asynccontextmanager
async def serving(handler: Handler = echo, **options: Any) -> AsyncIterator[tuple[str, int]]:
    """Run a server on loopback, and yield its address."""
    server = await runtime.start_server(handler, "127.0.0.1", 0, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()
        server.close_clients()
        await runtime.wait_for(server.wait_closed(), 30)


@contextlib.asynccontextmanager
async def stream_pair(
    limit: int = DEFAULT_LIMIT,
) -> AsyncIterator[tuple[runtime.StreamReader, runtime.StreamWriter, socket.socket]]:
    """Yield the streams of one socket of a pair, and the other as a blocking socket."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.settimeout(30)
    reader, writer, end = make_streams(runtime.get_running_loop(), ours, limit, None)
    end.lower.start()
    try:
        yield reader, writer, theirs
    finally:
        writer.abort()
        theirs.close()


@contextlib.contextmanager
def connected(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Yield a blocking socket that is connected to ``address``."""
    with socket.create_connection(address, timeout=30) as sock:
        yield sock


def reset(sock: socket.socket) -> None:
    """Close a socket with a reset, instead of a regular end."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


async def until(condition: Callable[[], object], patience: float = 30.0) -> None:
    """Wait until ``condition`` holds; fail after ``patience`` seconds."""
    async with runtime.timeout(patience):
        while not condition():
            await runtime.sleep(0.001)


def receive_all(sock: socket.socket) -> bytes:
    """Receive until the end."""
    parts = []
    while part := sock.recv(1 << 20):
        parts.append(part)
    return b"".join(parts)
