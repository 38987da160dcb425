"""The share of a turn that one connection's handler gets, so that others do not wait for long."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net.tools import stream_pair

MANY = 5000
MOST = 300
"""Consecutive reads: a little more than twice the share."""

READS: dict[str, Callable[[runtime.StreamReader], Awaitable[bytes]]] = {
    "readline": lambda reader: reader.readline(),
    "readuntil": lambda reader: reader.readuntil(b"\n"),
    "readuntil_several": lambda reader: reader.readuntil((b"\n", b"\0")),
    "readexactly": lambda reader: reader.readexactly(1),
    "read": lambda reader: reader.read(1),
    "anext": lambda reader: anext(reader),
}


class Counter:
    """Counts operations in each turn of the loop; ``longest`` is the largest count of a turn."""

    def __init__(self) -> None:
        self.longest = 0
        self._now = 0
        self._ticking: runtime.Task[None] | None = None

    def count(self) -> None:
        self._now += 1
        self.longest = max(self.longest, self._now)

    async def tick(self) -> None:
        """Reset the count in each turn."""
        while True:
            self._now = 0
            await runtime.sleep(0)


async def counted(use: Callable[[Counter], Awaitable[None]]) -> int:
    counter = Counter()
    ticking = runtime.create_task(counter.tick())
    try:
        await use(counter)
    finally:
        ticking.cancel()
    return counter.longest


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("at_eof", [False, True])
async def test_reads_that_need_not_wait(name: str, at_eof: bool) -> None:
    read = READS[name]

    async with stream_pair() as (reader, _, peer):
        peer.sendall(b"\n" * MANY)
        if at_eof:
            peer.close()

        async def use(counter: Counter) -> None:
            for _ in range(MANY):
                assert await read(reader) == b"\n"
                counter.count()

        assert await counted(use) <= MOST


async def test_few_reads_go_on_at_once() -> None:
    """The few reads of one message do not end the turn."""
    loop = runtime.get_running_loop()
    async with stream_pair() as (reader, _, peer):
        for _ in range(50):
            peer.sendall(b"header\n" + bytes(100))
            assert await reader.readline() == b"header\n"
            turn = loop._turns
            for _ in range(100):
                assert await reader.readexactly(1) == b"\0"
            assert loop._turns == turn
            await runtime.sleep(0)


@pytest.mark.parametrize("method", ["write", "writelines"])
async def test_writes_that_need_not_wait(method: str) -> None:
    async with stream_pair() as (_, writer, peer):
        peer.setblocking(False)

        async def use(counter: Counter) -> None:
            for number in range(MANY):
                if method == "write":
                    writer.write(b"x")
                else:
                    writer.writelines([b"x", b""])
                await writer.drain()
                counter.count()
                if number % 100 == 0:
                    peer.recv(1000)  # Keeps space in the socket, so that no write waits.

        assert await counted(use) <= MOST


async def test_a_quiet_client_is_answered_during_a_flood() -> None:
    """The answer comes while the flood is handled, not after it."""
    handled = 0

    async def handle(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        nonlocal handled
        with contextlib.suppress(ConnectionResetError):  # The flood ends by a reset.
            async for line in reader:
                writer.write(line)
                await writer.drain()
                handled += 1

    async with await runtime.start_server(handle, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        _, flood = await runtime.open_connection(*address)
        reader, quiet = await runtime.open_connection(*address)
        flood.write(b"\n" * 60_000)
        quiet.write(b"hello\n")
        assert await reader.readline() == b"hello\n"
        assert handled < 20_000
        flood.abort()
        quiet.close()


async def test_a_cancelled_read_loses_nothing() -> None:
    async with stream_pair() as (reader, _, peer):
        peer.sendall(b"\n" * MANY)
        left = MANY

        async def read() -> None:
            nonlocal left
            while True:
                await reader.readline()
                left -= 1

        while left:
            task = runtime.create_task(read())
            await runtime.sleep(0)
            await runtime.sleep(0)
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task


async def test_a_drain_after_the_loss_raises() -> None:
    async with stream_pair() as (_, writer, peer):
        for _ in range(400):
            writer.write(b"x")
        peer.close()
        errors: list[Any] = []
        for _ in range(10):
            writer.write(b"x")
            try:
                await writer.drain()
            except ConnectionError as error:
                errors.append(error)
            await runtime.sleep(0)
        assert errors
