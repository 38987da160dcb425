"""Helpers of the transport tests: recording protocols, and connections of several kinds."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import runtime

Run = Callable[[Coroutine[Any, Any, None]], None]

LOCAL = ("127.0.0.1", 0)
PATIENCE = 30.0


def new_asyncio_loop() -> asyncio.AbstractEventLoop:
    """Return a new event loop of asyncio."""
    return asyncio.SelectorEventLoop()


LOOPS: tuple[Callable[[], asyncio.AbstractEventLoop], ...] = (
    new_asyncio_loop,
    runtime.new_event_loop,
)


def on_asyncio(request: pytest.FixtureRequest) -> bool:
    """Return whether a test with the fixture ``run`` runs on asyncio's own loop."""
    return new_asyncio_loop in request.node.callspec.params.values()


kinds = pytest.mark.parametrize(
    "kind", ["tcp", "unix", "sock", "accepted", "server", "unix server"]
)
"""The ways to make a connection, for ``talking``."""


class Calls:
    """Record of the calls of a protocol."""

    def __init__(self, keep_open: bool | None = None) -> None:
        self.calls: list[str] = []
        self.received = bytearray()
        self.lost: list[BaseException | None] = []
        self.transport: Any = None
        self.keep_open = keep_open
        self._changed = asyncio.Event()

    def note(self, call: str) -> None:
        """Record a call; consecutive calls that receive data are recorded as one."""
        if call != "data_received" or self.calls[-1:] != [call]:
            self.calls.append(call)
        self._changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.note("connection_made")

    def eof_received(self) -> bool | None:
        self.note("eof_received")
        return self.keep_open

    def pause_writing(self) -> None:
        self.note("pause_writing")

    def resume_writing(self) -> None:
        self.note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self.note("connection_lost")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds, checking it after each call; fail if it never does."""
        async with asyncio.timeout(PATIENCE):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, count: int) -> None:
        """Wait until ``count`` bytes were received in total."""
        await self.until(lambda: len(self.received) >= count)

    async def until_lost(self) -> None:
        """Wait for ``connection_lost``."""
        await self.until(lambda: self.lost)


class Recorder(Calls, asyncio.Protocol):
    """Recording protocol that receives bytes."""

    def data_received(self, data: bytes) -> None:
        assert type(data) is bytes
        assert data
        self.received += data
        self.note("data_received")


class BufferedRecorder(Calls, asyncio.BufferedProtocol):
    """Recording protocol that receives into a buffer, which can be very small."""

    size = 7

    def get_buffer(self, sizehint: int) -> Any:
        self.buffer = bytearray(self.size)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        assert 0 < nbytes <= self.size
        self.received += self.buffer[:nbytes]
        self.note("data_received")


Talk = tuple[Any, Any, socket.socket]
"""A transport, its protocol, and the peer, which is a blocking socket."""

Factory = Callable[[], Any]


async def _connected(kind: str, factory: Factory, folder: Path) -> Talk:
    loop = asyncio.get_running_loop()
    if kind in ("tcp", "unix"):
        listening = socket.socket(socket.AF_INET if kind == "tcp" else socket.AF_UNIX)
        with listening:
            listening.bind(LOCAL if kind == "tcp" else str(folder / "socket"))
            listening.listen()
            if kind == "tcp":
                made = await loop.create_connection(factory, *listening.getsockname())
            else:
                made = await loop.create_unix_connection(factory, str(folder / "socket"))
            return *made, listening.accept()[0]
    if kind == "accepted":
        with socket.create_server(LOCAL) as listening:
            peer = socket.create_connection(listening.getsockname())
            accepted = listening.accept()[0]
        return *await loop.connect_accepted_socket(factory, accepted), peer
    ours, peer = socket.socketpair()
    return *await loop.create_connection(factory, sock=ours), peer


async def _served(kind: str, factory: Factory, folder: Path) -> tuple[Any, Talk]:
    loop = asyncio.get_running_loop()
    made = []

    def remembering() -> Any:
        made.append(factory())
        return made[-1]

    server: Any
    if kind == "server":
        server = await loop.create_server(remembering, *LOCAL)
        peer = socket.create_connection(server.sockets[0].getsockname())
    else:
        path = str(folder / "socket")
        server = await loop.create_unix_server(remembering, path)
        peer = socket.socket(socket.AF_UNIX)
        peer.connect(path)
    async with asyncio.timeout(PATIENCE):
        while not (made and made[0].calls):
            await asyncio.sleep(0)
    return server, (made[0].transport, made[0], peer)


@contextlib.asynccontextmanager
async def talking(factory: Factory = Recorder, kind: str = "sock") -> AsyncIterator[Talk]:
    """Yield a connection that was made in the way ``kind``; abort it at the end."""
    with tempfile.TemporaryDirectory() as folder:
        server: Any = None
        if kind.endswith("server"):
            server, talk = await _served(kind, factory, Path(folder))
        else:
            talk = await _connected(kind, factory, Path(folder))
        transport, protocol, peer = talk
        peer.settimeout(PATIENCE)
        try:
            yield talk
        finally:
            if not transport.is_closing():
                transport.abort()
            peer.close()
            await protocol.until_lost()
            if server is not None:
                server.close()
                await server.wait_closed()


def small_buffers(transport: Any, peer: socket.socket) -> None:
    """Make the buffers of the system small, so that few bytes fill them and the write buffer."""
    sock = transport.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    if peer.family == socket.AF_UNIX:
        # Not for TCP, which a small window would make slow.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)


def fill(transport: Any, size: int = 1000) -> int:
    """Write until bytes are in the write buffer; return the number of bytes written."""
    written = 0
    while not transport.get_write_buffer_size():
        transport.write(bytes(size))
        written += size
    return written


def collect_reports() -> list[dict[str, Any]]:
    """Return a list to which the loop's exception handler appends its reports."""
    reports: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context))
    return reports


async def turns(count: int = 3) -> None:
    """Wait for ``count`` turns of the loop."""
    for _ in range(count):
        await asyncio.sleep(0)
