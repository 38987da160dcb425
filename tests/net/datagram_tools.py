"""Helpers of the datagram tests: a recording protocol, sockets and addresses."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

LOCAL = ("127.0.0.1", 0)


class Recorder(asyncio.DatagramProtocol):
    """Protocol that records its calls, and lets a test wait for them."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.received: list[bytes] = []
        self.senders: list[Any] = []
        self.errors: list[Exception] = []
        self.lost: list[Exception | None] = []
        self.transport: Any = None
        self._changed = asyncio.Event()

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self._changed.set()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self._note("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.received.append(data)
        self.senders.append(addr)
        self._note("datagram_received")

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)
        self._note("error_received")

    def pause_writing(self) -> None:
        self._note("pause_writing")

    def resume_writing(self) -> None:
        self._note("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._note("connection_lost")

    async def until(self, condition: Callable[[], object]) -> None:
        """Wait until ``condition`` holds, checking it after each call; fail if it never does."""
        async with asyncio.timeout(30):
            while not condition():
                self._changed.clear()
                await self._changed.wait()

    async def until_received(self, count: int) -> None:
        """Wait for ``count`` datagrams."""
        await self.until(lambda: len(self.received) >= count)

    async def until_lost(self) -> None:
        """Wait for ``connection_lost``."""
        await self.until(lambda: self.lost)


def bound_socket(path: Path | str | None = None) -> socket.socket:
    """Return a blocking datagram socket on loopback, or at a path."""
    if path is None:
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.bind(LOCAL)
    else:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(str(path))
    sock.settimeout(30)
    return sock


def silent_address() -> Any:
    """Return a loopback address at which no socket listens."""
    with bound_socket() as sock:
        return sock.getsockname()


def fill(transport: Any) -> list[bytes]:
    """Send numbered datagrams until some are in the write buffer; return all of them."""
    sent: list[bytes] = []
    while not transport.get_write_buffer_size():
        sent.append(b"%06d" % len(sent))
        transport.sendto(sent[-1])
    return sent
