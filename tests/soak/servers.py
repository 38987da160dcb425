"""Servers of a soak: each echoes all data through another API, plain and with TLS.

Clients send frames: four bytes with the length of the payload, and the payload.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import runtime

HEADER = 4
"""Length of a frame's header in bytes; it holds the length of the payload."""

_CHUNK = 65536
_SHUTDOWN_TIMEOUT = 5.0
"""Seconds that a TLS connection waits for the close_notify of a silent peer."""

Address = tuple[str, int]


async def serve_frames(reader: Any, writer: Any) -> None:
    """Echo frames, each read as a whole, until the connection ends."""
    with contextlib.suppress(OSError, EOFError):
        while True:
            header = await reader.readexactly(HEADER)
            writer.write(header + await reader.readexactly(int.from_bytes(header, "big")))
            await writer.drain()
    await _end(writer)


async def serve_chunks(reader: Any, writer: Any) -> None:
    """Echo bytes as they arrive."""
    with contextlib.suppress(OSError, EOFError):
        while data := await reader.read(_CHUNK):
            writer.write(data)
            await writer.drain()
    await _end(writer)


async def _end(writer: Any) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


class Echo(asyncio.Protocol):
    """Echoes bytes as they arrive, and pauses reading while the peer does not accept data."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


class BufferedEcho(asyncio.BufferedProtocol):
    """The same as ``Echo``, for a protocol with a buffer of its own."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.buffer = bytearray(_CHUNK)

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.transport.write(bytes(self.buffer[:nbytes]))

    def pause_writing(self) -> None:
        self.transport.pause_reading()

    def resume_writing(self) -> None:
        self.transport.resume_reading()


def _start(kind: str, options: dict[str, Any]) -> Awaitable[Any]:
    loop = runtime.get_running_loop()
    starts: dict[str, Callable[..., Awaitable[Any]]] = {
        "frames": lambda **given: runtime.start_server(serve_frames, **given),
        "chunks": lambda **given: runtime.start_server(serve_chunks, **given),
        "asyncio's frames": lambda **given: asyncio.start_server(serve_frames, **given),
        "protocol": lambda **given: loop.create_server(Echo, **given),
        "buffered protocol": lambda **given: loop.create_server(BufferedEcho, **given),
    }
    return starts[kind](host="127.0.0.1", port=0, **options)


KINDS = ("frames", "chunks", "asyncio's frames", "protocol", "buffered protocol")


@contextlib.asynccontextmanager
async def started(context: ssl.SSLContext) -> AsyncIterator[dict[tuple[str, bool], Address]]:
    """Run a server of each kind without TLS and one with TLS; yield their addresses."""
    servers: dict[tuple[str, bool], Any] = {}
    secure = {"ssl": context, "ssl_shutdown_timeout": _SHUTDOWN_TIMEOUT}
    for kind in KINDS:
        servers[kind, False] = await _start(kind, {})
        servers[kind, True] = await _start(kind, secure)
    try:
        yield {name: server.sockets[0].getsockname() for name, server in servers.items()}
    finally:
        for server in servers.values():
            server.close()
        for server in servers.values():
            await server.wait_closed()
