"""``Server.wait_closed``, which in asyncio hangs for ever or returns at once, depending on version.

Here it returns once the server is closed and its last connection has ended, on every Python.
``shutdown(timeout)`` returns in time whatever the clients do.

See https://github.com/python/cpython/issues/104344 and
https://github.com/python/cpython/issues/120866.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest

import runtime
from runtime.net.setup.server import Server
from tests.net.tools import connected, receive_all, until
from tests.net.transport_tools import LOCAL, Recorder, collect_reports, fill
from tests.support.blocked import all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled

PATIENCE = 30.0


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the wait for unsent data, which cannot be sent in these tests."""
    monkeypatch.setattr("runtime.net.setup.server._LAST_GRACE", 0.01)


class Idle(Recorder):
    """Does nothing, and keeps the connection when the peer has ended."""

    def __init__(self) -> None:
        super().__init__(keep_open=True)


class Stuck(Idle):
    """Has written more than its peer will ever read."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.write(b"x" * 20_000_000)


class Deaf(Stuck):
    """Does not notice when its peer goes away."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.pause_reading()


class Closing(Stuck):
    """Is already closing."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.close()


class Failing(Idle):
    """Raises an exception in ``connection_lost``."""

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        raise ZeroDivisionError


class Clinging(Idle):
    """Keeps writing in ``resume_writing`` and in ``connection_lost``."""

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        fill(transport, 1_000_000)

    def resume_writing(self) -> None:
        fill(self.transport, 1_000_000)

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.write(b"more")
        self.transport.close()
        super().connection_lost(exc)


KINDS = [Idle, Stuck, Deaf, Closing, Failing, Clinging]


async def idle_streams(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    await reader.read()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def stuck_streams(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while True:
            writer.write(b"x" * 100_000)
            await writer.drain()


async def serve(kind: Any) -> Server:
    if isinstance(kind, type):
        return await runtime.get_running_loop().create_server(kind, *LOCAL)
    return await runtime.start_server(kind, *LOCAL)


@contextlib.asynccontextmanager
async def clients(server: Server, count: int = 3) -> AsyncIterator[list[socket.socket]]:
    """Yield connected, blocking sockets whose connections the server has accepted."""
    address = server.sockets[0].getsockname()
    with contextlib.ExitStack() as stack:
        socks = [stack.enter_context(connected(address)) for _ in range(count)]
        await until(lambda: len(server._clients) == count)
        yield socks


@pytest.mark.parametrize("kind", [*KINDS, idle_streams, stuck_streams], ids=lambda k: k.__name__)
@pytest.mark.parametrize("timeout", [0, 0.01, -1])
async def test_shutdown_ends_despite_any_client(kind: Any, timeout: float) -> None:
    collect_reports()
    server = await serve(kind)
    async with clients(server):
        await runtime.wait_for(server.shutdown(timeout), PATIENCE)
        assert not server.is_serving()
        assert not server._clients
        # The second call has nothing to do.
        await runtime.wait_for(server.shutdown(timeout), PATIENCE)
        await runtime.wait_for(server.wait_closed(), PATIENCE)


async def test_shutdown_waits_for_connections_to_end() -> None:
    server = await serve(Idle)
    async with clients(server, 1) as [sock]:
        ending = runtime.create_task(server.shutdown())
        await all_tasks_blocked()
        assert not ending.done()
        assert not server.is_serving()
        [end] = server._clients
        end.transport.write(b"the last word")  # type: ignore[attr-defined]
        end.close()
        assert await runtime.to_thread(receive_all, sock) == b"the last word"
        await runtime.wait_for(ending, PATIENCE)


async def test_shutdown_sends_written_data() -> None:
    server = await serve(Stuck)
    async with clients(server, 1) as [sock]:
        receiving = runtime.create_task(runtime.to_thread(receive_all, sock))
        await runtime.wait_for(server.shutdown(0), PATIENCE)
        sizes = len(await receiving)
        assert 0 < sizes <= 20_000_000


async def test_shutdown_from_inside_a_handler_and_from_many_tasks() -> None:
    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await servers[0].shutdown(0.01)
        ended.append(True)

    servers: list[Server] = []
    ended: list[bool] = []

    servers.append(await serve(handler))
    address = servers[0].sockets[0].getsockname()
    with connected(address), connected(address):
        await until(lambda: not servers[0].is_serving())
        await runtime.gather(*[servers[0].shutdown(0.01) for _ in range(3)])
        await until(lambda: ended)
    assert not servers[0]._clients


def test_shutdown_can_be_cancelled_and_begun_again() -> None:
    async def scenario(point: CancelPoint) -> None:
        server = await serve(Stuck)
        async with clients(server):
            await settled(point.start(server.shutdown(0.01)))
            await runtime.wait_for(server.shutdown(0), PATIENCE)
            assert not server._clients
            assert not server._closed_waiters

    assert cancel_everywhere(scenario) >= 2


@pytest.mark.parametrize("closed_first", [False, True])
@pytest.mark.parametrize("kind", [Idle, idle_streams], ids=lambda k: k.__name__)
async def test_wait_closed_waits_for_the_close_and_for_the_last_connection(
    kind: Any, closed_first: bool
) -> None:
    server = await serve(kind)
    async with clients(server, 2):
        if closed_first:
            server.close()
        waiting = [runtime.create_task(server.wait_closed()) for _ in range(3)]
        await all_tasks_blocked()
        server.close()
        assert not any(task.done() for task in waiting)
        [one, other] = server._clients
        one.abort()
        await all_tasks_blocked()
        assert not any(task.done() for task in waiting)
        other.abort()
        await runtime.wait_for(runtime.gather(*waiting), PATIENCE)
        await server.wait_closed()


async def test_wait_closed_without_connections() -> None:
    loop = runtime.get_running_loop()
    server = await loop.create_server(Idle, *LOCAL, start_serving=False)
    waiting = runtime.create_task(server.wait_closed())
    await all_tasks_blocked()
    assert not waiting.done(), "it was not closed"
    server.close()
    await runtime.wait_for(waiting, PATIENCE)
    await server.wait_closed()


async def test_connection_lost_was_called_when_wait_closed_returns() -> None:
    protocols: list[Recorder] = []

    def factory() -> Recorder:
        protocols.append(Idle())
        return protocols[-1]

    server = await runtime.get_running_loop().create_server(factory, *LOCAL)
    async with clients(server):
        server.close()
        server.abort_clients()
        await runtime.wait_for(server.wait_closed(), PATIENCE)
        assert [protocol.lost for protocol in protocols] == [[None]] * 3


@pytest.mark.parametrize("end", ["close_clients", "abort_clients"])
async def test_connections_that_ended_by_themselves_are_not_waited_for(end: str) -> None:
    server = await serve(Recorder)
    async with clients(server) as socks:
        for sock in socks:
            sock.close()
        await until(lambda: not server._clients)
        getattr(server, end)()
    async with server:
        pass
    assert not server.is_serving()


async def test_asyncio_start_server_behaves_the_same() -> None:
    """``asyncio.start_server`` on a runtime loop creates the same kind of server."""
    made: list[Callable[[], None]] = []

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        made.append(writer.close)
        await reader.read()

    server: object = await asyncio.start_server(handler, *LOCAL)
    assert isinstance(server, Server)
    with connected(server.sockets[0].getsockname()):
        await until(lambda: made)
        server.close()
        waiting = runtime.create_task(server.wait_closed())
        await all_tasks_blocked()
        assert not waiting.done()
        made[0]()
        await runtime.wait_for(waiting, PATIENCE)
