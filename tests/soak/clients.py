"""Conversations of a soak: the data that a client sends, and the ways in which it misbehaves.

If the client behaves and the connection holds, the server must return the data that was sent. Any
other conversation only has to end, with no other error than that of a broken connection.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import runtime
from tests.soak.servers import HEADER, Address
from tests.support.certificates import NAME

_SIZES = (10, 1024, 20_000, 150_000, 300_000)
"""Sizes of a frame in bytes; large frames are received directly into a buffer of their size."""

_BROKEN = (OSError, EOFError)
_SHUTDOWN_TIMEOUT = 5.0


class Manner(enum.Enum):
    """Behaviour of a client."""

    WELL = "it sends, receives, and closes"
    CANCELS = "its task is cancelled at some moment"
    ABORTS = "it aborts while something is on its way"
    RESETS = "it resets the connection while something is on its way"
    LEAVES = "it closes while something is on its way"
    ENDS = "it ends what it writes, and then receives the answer"


_MANNERS = (*[Manner.WELL] * 4, *[Manner.CANCELS] * 3, *Manner)


class _Stream:
    """A client's connection through streams, runtime's or asyncio's."""

    def __init__(self, reader: Any, writer: Any) -> None:
        self._reader = reader
        self._writer = writer
        self.transport: Any = writer if hasattr(writer, "abort") else writer.transport

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def receive(self, size: int) -> bytes:
        data: bytes = await self._reader.readexactly(size)
        return data

    def end(self) -> None:
        self._writer.write_eof()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(OSError):
            await self._writer.wait_closed()


class _Receiver(asyncio.Protocol):
    """A client's connection through a protocol."""

    def __init__(self) -> None:
        self._received = bytearray()
        self._changed = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self._lost = False
        self._ended = False
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._changed.set()

    def eof_received(self) -> None:
        self._ended = True
        self._changed.set()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def connection_lost(self, exc: BaseException | None) -> None:
        self._lost = self._ended = True
        self._changed.set()
        self._writable.set()

    async def send(self, data: bytes) -> None:
        self.transport.write(data)
        await self._writable.wait()

    async def receive(self, size: int) -> bytes:
        while len(self._received) < size:
            if self._ended:
                raise EOFError
            self._changed.clear()
            await self._changed.wait()
        data = bytes(self._received[:size])
        del self._received[:size]
        return data

    def end(self) -> None:
        self.transport.write_eof()

    async def close(self) -> None:
        self.transport.close()
        while not self._lost:
            self._changed.clear()
            await self._changed.wait()


_Connection = _Stream | _Receiver


async def _by_streams(*address: Any, **options: Any) -> _Connection:
    return _Stream(*await runtime.open_connection(*address, **options))


async def _by_asyncios_streams(*address: Any, **options: Any) -> _Connection:
    return _Stream(*await asyncio.open_connection(*address, **options))


async def _by_protocol(*address: Any, **options: Any) -> _Connection:
    loop = runtime.get_running_loop()
    return (await loop.create_connection(_Receiver, *address, **options))[1]


_OPENERS: tuple[Callable[..., Awaitable[_Connection]], ...] = (
    _by_streams,
    _by_asyncios_streams,
    _by_protocol,
)


@dataclass(frozen=True)
class Conversation:
    """A conversation with the server at ``address``; random choices depend on ``seed``."""

    address: Address
    context: ssl.SSLContext | None
    seed: int
    holds: bool
    """Whether nothing on the path breaks the connection."""

    async def hold(self) -> Manner:
        """Run the conversation; return the client's behaviour.

        Raises AssertionError for a wrong byte.
        """
        chance = random.Random(self.seed)
        manner: Manner = chance.choice(_MANNERS)
        if manner is Manner.ENDS and self.context is not None:
            manner = Manner.WELL  # TLS has no half-close.
        if manner is Manner.CANCELS:
            await self._cancelled(chance)
            return manner
        try:
            await self._talk(manner, chance)
        except _BROKEN:
            if self.holds and manner in (Manner.WELL, Manner.ENDS):
                raise
        return manner

    async def _cancelled(self, chance: random.Random) -> None:
        task = runtime.create_task(self._talk(Manner.CANCELS, chance))
        await runtime.sleep(chance.choice((0, 0, 0.0005, 0.002, 0.01, 0.05)) * chance.random())
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError, *_BROKEN):
            await task

    async def _talk(self, manner: Manner, chance: random.Random) -> None:
        options: dict[str, Any] = {}
        if self.context is not None:
            options = {
                "ssl": self.context,
                "server_hostname": NAME,
                "ssl_shutdown_timeout": _SHUTDOWN_TIMEOUT,
            }
        connection = await chance.choice(_OPENERS)(*self.address, **options)
        try:
            for left in reversed(range(chance.randint(1, 4))):
                await self._exchange(connection, manner, chance, is_last=left == 0)
        finally:
            await connection.close()

    async def _exchange(
        self, connection: _Connection, manner: Manner, chance: random.Random, *, is_last: bool
    ) -> None:
        size = chance.choice(_SIZES)
        frame = (
            size.to_bytes(HEADER, "big") + chance.randbytes(64) * (size // 64) + bytes(size % 64)
        )
        if not is_last or manner in (Manner.WELL, Manner.CANCELS):
            answer = await _answer(connection, frame)
            assert answer == frame, f"something else came back in {self}"
            return
        sent = frame[: chance.randint(1, len(frame))]
        await connection.send(frame if manner is Manner.ENDS else sent)
        if manner is Manner.ENDS:
            connection.end()
            assert await connection.receive(len(frame)) == frame, f"another answer in {self}"
        elif manner is Manner.RESETS:
            _reset(connection.transport)
        elif manner is Manner.ABORTS:
            connection.transport.abort()


async def _answer(connection: _Connection, frame: bytes) -> bytes:
    """Send a frame, and receive the same number of bytes at the same time."""
    sending = runtime.create_task(connection.send(frame))
    try:
        return await connection.receive(len(frame))
    finally:
        sending.cancel()
        await runtime.wait([sending])
        if not sending.cancelled():
            sending.exception()  # the receiving side reports the error that broke the connection


def _reset(transport: Any) -> None:
    """End the connection with a reset."""
    sock = transport.get_extra_info("socket")
    if sock is not None and sock.fileno() >= 0:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
