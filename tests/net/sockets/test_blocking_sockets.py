"""``sock_*`` of a socket that is blocking or has a timeout: its calls do not block the loop."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime

TIMEOUTS = [None, 30.0]
DATA = b"0123456789" * 200_000


@pytest.fixture(params=TIMEOUTS, ids=["blocking", "with a timeout"])
def timeout(request: pytest.FixtureRequest) -> float | None:
    found: float | None = request.param
    return found


@pytest.fixture
def pair(timeout: float | None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield the socket to test, and its peer, which is non-blocking."""
    one, two = socket.socketpair()
    one.settimeout(timeout)
    two.setblocking(False)
    with one, two:
        yield one, two


class Turns:
    """Counts the turns of the loop: there is none while a call blocks the loop."""

    def __init__(self) -> None:
        self.number = 0

    async def run(self) -> None:
        while True:
            self.number += 1
            await asyncio.sleep(0)


async def beside(call: asyncio.Task[Any], turns: int = 20) -> None:
    """Check that the loop makes turns while ``call`` waits."""
    counted = Turns()
    counting = asyncio.create_task(counted.run())
    while counted.number < turns:
        await asyncio.sleep(0)
    assert not call.done()
    counting.cancel()


def test_receiving_does_not_block_the_loop(
    pair: tuple[socket.socket, socket.socket], timeout: float | None
) -> None:
    one, two = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        room = bytearray(10)
        calls: list[Callable[[], Coroutine[Any, Any, object]]] = [
            lambda: loop.sock_recv(one, 10),
            lambda: loop.sock_recv_into(one, room),
            lambda: loop.sock_recvfrom(one, 10),
            lambda: loop.sock_recvfrom_into(one, room),
        ]
        found: list[object] = []
        for call in calls:
            task: asyncio.Task[object] = asyncio.create_task(call())
            await beside(task)
            await loop.sock_sendall(two, b"abc")
            found.append(await task)
        assert found == [b"abc", 3, (b"abc", None), (3, None)]

    runtime.run(main(), debug=False)
    assert one.gettimeout() == timeout


def test_sending_more_than_fits(
    pair: tuple[socket.socket, socket.socket], timeout: float | None
) -> None:
    one, two = pair

    async def main() -> None:
        loop = asyncio.get_running_loop()
        task: asyncio.Task[object] = asyncio.create_task(loop.sock_sendall(one, DATA))
        await beside(task)
        received = bytearray()
        while len(received) < len(DATA):
            received += await loop.sock_recv(two, 1 << 20)
        await task
        assert received == DATA

    runtime.run(main(), debug=False)
    assert one.gettimeout() == timeout


def test_accepting_and_connecting(timeout: float | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as listener, socket.socket() as client:
            listener.settimeout(timeout)
            client.settimeout(timeout)
            task = asyncio.create_task(loop.sock_accept(listener))
            await beside(task)
            await loop.sock_connect(client, listener.getsockname())
            connection, address = await task
            with connection:
                assert address == client.getsockname()
                assert connection.gettimeout() == 0
            assert client.gettimeout() == listener.gettimeout() == timeout

    runtime.run(main(), debug=False)


def test_sending_a_file(
    pair: tuple[socket.socket, socket.socket], timeout: float | None, tmp_path: Path
) -> None:
    one, two = pair
    path = tmp_path / "file"
    path.write_bytes(DATA)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with path.open("rb") as file:
            task: asyncio.Task[object] = asyncio.create_task(loop.sock_sendfile(one, file))
            await beside(task)
            received = bytearray()
            while len(received) < len(DATA):
                received += await loop.sock_recv(two, 1 << 20)
            assert await task == len(DATA)
        assert received == DATA
        assert one.gettimeout() == timeout

    runtime.run(main(), debug=False)


def test_datagrams(timeout: float | None) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (
            socket.socket(type=socket.SOCK_DGRAM) as one,
            socket.socket(type=socket.SOCK_DGRAM) as two,
        ):
            for sock in (one, two):
                sock.bind(("127.0.0.1", 0))
                sock.settimeout(timeout)
            task: asyncio.Task[object] = asyncio.create_task(loop.sock_recvfrom(two, 10))
            await beside(task)
            assert await loop.sock_sendto(one, b"ping", two.getsockname()) == 4
            assert await task == (b"ping", one.getsockname())

    runtime.run(main(), debug=False)
