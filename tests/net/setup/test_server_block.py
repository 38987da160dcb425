"""The ends of ``async with server`` and ``serve_forever``: bounded, or with a log message."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any, NoReturn, cast

import pytest

import runtime
from runtime.net.setup.server import Server
from tests.net.tls_tools import contexts
from tests.net.tools import connected, receive_all, until
from tests.net.transport_tools import LOCAL
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates

PATIENCE = 30.0
MUCH = bytes(16 * 1024 * 1024)


@pytest.fixture(autouse=True)
def short_grace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Shorten the last timeouts of ``shutdown``."""
    monkeypatch.setattr("runtime.net.setup.server._LAST_GRACE", 0.01)


async def wait(reader: Any, writer: Any) -> None:
    """Wait for data that the client does not send, or for the end of the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readexactly(2)
    writer.close()


class Silent(asyncio.Protocol):
    """Protocol that keeps its connection open."""


@contextlib.asynccontextmanager
async def serving(kind: str) -> AsyncIterator[tuple[Server, Callable[[], socket.socket]]]:
    """Yield a server of one kind, and a function that opens a connection to it."""
    loop = runtime.get_running_loop()
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as clients:
        path = str(Path(folder, "socket"))
        server: Any
        if kind == "streams":
            server = await runtime.start_server(wait, *LOCAL)
        elif kind == "Unix streams":
            server = await runtime.start_unix_server(wait, path)
        elif kind == "protocols":
            server = await loop.create_server(Silent, *LOCAL)
        elif kind == "Unix protocols":
            server = await loop.create_unix_server(Silent, path)
        else:
            server = await asyncio.start_server(wait, *LOCAL)

        def client() -> socket.socket:
            if "Unix" in kind:
                sock = clients.enter_context(socket.socket(socket.AF_UNIX))
                sock.connect(path)
            else:
                sock = socket.create_connection(server.sockets[0].getsockname())
                clients.enter_context(sock)
            sock.settimeout(PATIENCE)
            sock.sendall(b"?")
            return sock

        yield server, client


kinds = pytest.mark.parametrize(
    "kind", ["streams", "Unix streams", "protocols", "Unix protocols", "streams of asyncio"]
)


# -- The block ends by an exception ----------------------------------------------------------------


@kinds
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError, SystemExit])
def test_an_exception_is_not_delayed_by_an_open_connection(
    kind: str, error: type[BaseException]
) -> None:
    async def main() -> None:
        async with serving(kind) as (server, client):
            server.shutdown_timeout = 0
            with pytest.raises(error):
                async with server:
                    sock = client()
                    await until(lambda: server._clients)
                    raise error
            assert sock.recv(1) == b""

    runtime.run(runtime.wait_for(main(), PATIENCE))


@kinds
def test_a_cancelled_block_ends(kind: str) -> None:
    async def main() -> None:
        async with serving(kind) as (server, client):
            server.shutdown_timeout = 0

            async def serve() -> None:
                async with server:
                    client()
                    await runtime.Event().wait()

            task = runtime.create_task(serve())
            await until(lambda: server._clients)
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task

    runtime.run(runtime.wait_for(main(), PATIENCE))


@kinds
def test_a_block_that_waits_for_its_connections_is_cancelled(kind: str) -> None:
    async def main() -> None:
        async with serving(kind) as (server, client):
            server.shutdown_timeout = 0

            async def serve() -> None:
                async with server:
                    client()
                    await until(lambda: server._clients)

            task = runtime.create_task(serve())
            await until(lambda: server._closed_waiters)
            await all_tasks_blocked()
            assert not task.done()
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task
            assert not server._clients

    runtime.run(runtime.wait_for(main(), PATIENCE))


async def test_a_started_request_may_take_as_long_as_the_timeout() -> None:
    go_on = runtime.Event()

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        begun.set()
        await go_on.wait()
        writer.write(b"answer")

    begun = runtime.Event()
    server = await runtime.start_server(handler, *LOCAL)
    assert server.shutdown_timeout == 1
    server.shutdown_timeout = PATIENCE

    async def serve() -> NoReturn:
        async with server:
            await begun.wait()
            raise ValueError("in the block")

    with connected(server.sockets[0].getsockname()) as sock:
        task = runtime.create_task(serve())
        await until(lambda: server._shutdown_waiters)
        assert not server.is_serving()
        go_on.set()
        with pytest.raises(ValueError, match="in the block"):
            await runtime.wait_for(task, PATIENCE)
        assert receive_all(sock) == b"answer"


async def test_the_timeout_is_checked() -> None:
    async with await runtime.start_server(wait, *LOCAL) as server:
        with pytest.raises(TypeError, match="shutdown_timeout"):
            server.shutdown_timeout = "1"  # type: ignore[assignment]
        server.shutdown_timeout = -1
        assert server.shutdown_timeout == 0
        server.shutdown_timeout = None
        assert server.shutdown_timeout is None


@kinds
async def test_a_coroutine_that_is_closed_does_not_wait(kind: str) -> None:
    async with serving(kind) as (server, client):

        async def serve() -> None:
            async with server:
                await suspended()

        coroutine = serve()
        coroutine.send(None)
        sock = client()
        await until(lambda: server._clients)
        coroutine.close()
        assert not server.is_serving()
        with contextlib.suppress(ConnectionResetError):
            assert sock.recv(1) == b""
        await runtime.wait_for(server.wait_closed(), PATIENCE)


def suspended() -> Coroutine[None, None, None]:
    """Return a coroutine that is suspended in an ``await``."""

    class Yield:
        def __await__(self) -> Any:
            yield None

    async def wait_once() -> None:
        await Yield()

    return cast("Coroutine[None, None, None]", wait_once())


def test_an_endpoint_of_datagrams_that_cannot_send() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with theirs, pytest.raises(ValueError, match="in the block"):
            async with await runtime.open_datagram(sock=ours) as endpoint:
                for _ in range(2000):  # More than the system keeps for a peer that does not read.
                    endpoint.send(bytes(1000))
                raise ValueError("in the block")

    runtime.run(runtime.wait_for(main(), PATIENCE))


# -- serve_forever ---------------------------------------------------------------------------------


async def write_much(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Write more than the system keeps for a client that does not read."""
    writer.write(MUCH)
    await writer.drain()


async def test_serve_forever_closes_the_connections_of_protocols_as_soon_as_it_is_cancelled() -> (
    None
):
    """No task would learn that the server is shut down: asyncio closes them since Python 3.15."""
    made: asyncio.Future[asyncio.Transport] = asyncio.get_running_loop().create_future()

    class Protocol(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            made.set_result(transport)

    loop = runtime.get_running_loop()
    server = await loop.create_server(Protocol, *LOCAL)
    server.shutdown_timeout = 3600
    serving = runtime.create_task(server.serve_forever())
    await runtime.sleep(0)
    with connected(server.sockets[0].getsockname()):
        transport = await made
        serving.cancel()
        await all_tasks_blocked()
        assert transport.is_closing()
        with pytest.raises(asyncio.CancelledError):
            await serving


def test_serve_forever_ends_with_one_interrupt() -> None:
    ended = []

    async def main() -> None:
        server = await runtime.start_server(write_much, *LOCAL)
        server.shutdown_timeout = 0
        with connected(server.sockets[0].getsockname()):
            runtime.create_task(interrupt(server))
            try:
                async with server:
                    await server.serve_forever()
            finally:
                ended.append(server._clients)

    async def interrupt(server: Server) -> None:
        await until(lambda: server._handlers)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        runtime.run(main())
    assert ended == [set()]


# -- The block ends regularly ----------------------------------------------------------------------


@kinds
async def test_the_connections_that_a_server_waits_for_are_logged(
    kind: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REPORT_AFTER", 0.01)

    async with serving(kind) as (server, client):

        async def serve() -> None:
            async with server:
                await until(lambda: len(server._clients) == 7)

        task = runtime.create_task(serve())
        socks = [client() for _ in range(7)]
        await until(lambda: server._closed_waiters)
        await until(lambda: caplog.records)
        [record] = caplog.records
        assert record.levelno == logging.WARNING
        assert "waiting for 7 connections from " in record.message
        assert "and 2 more" in record.message
        names = [str(sock.getsockname() or "a nameless peer") for sock in socks]
        assert sum(name in record.message for name in names) >= 5
        for sock in socks:
            sock.sendall(b"!")
            sock.close()
        await runtime.wait_for(task, PATIENCE)
        assert server._report_timer is None
        assert len(caplog.records) == 1


async def test_the_handlers_that_a_server_waits_for_are_logged(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REPORT_AFTER", 0.01)

    go_on = runtime.Event()

    async def linger(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.close()
        await go_on.wait()

    server = await runtime.start_server(linger, *LOCAL)
    with connected(server.sockets[0].getsockname()):
        await until(lambda: server._handlers)
    ending = runtime.create_task(server.shutdown())
    await until(lambda: caplog.records)
    assert "waiting for 1 handler: " in caplog.records[0].message
    assert "linger" in caplog.records[0].message
    go_on.set()
    await runtime.wait_for(ending, PATIENCE)


async def test_a_server_that_does_not_wait_logs_nothing() -> None:
    server = await runtime.start_server(wait, *LOCAL)
    waiting = runtime.create_task(server.wait_closed())
    await all_tasks_blocked()
    # The server is open, and waiting for its end may take long.
    assert server._report_timer is None
    server.close()
    await waiting
    async with await runtime.start_server(wait, *LOCAL) as server:
        pass
    assert server._report_timer is None


# -- The end of a handler --------------------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
def test_the_end_of_a_handler_closes_its_connection(certificates: Certificates, tls: bool) -> None:
    kept = []

    async def forgetful(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        kept.append((reader, writer))
        writer.write(MUCH)

    async def main() -> None:
        server_context, client_context = contexts(certificates) if tls else (None, None)
        async with await runtime.start_server(forgetful, *LOCAL, ssl=server_context) as server:
            reader, writer = await runtime.open_connection(
                *server.sockets[0].getsockname(),
                ssl=client_context,
                server_hostname=NAME if tls else None,
            )
            assert await reader.read() == MUCH
            assert kept[0][1].is_closing()
            writer.close()

    runtime.run(runtime.wait_for(main(), PATIENCE))


def test_a_connection_may_outlive_a_plain_callback() -> None:
    async def main() -> None:
        accepted: runtime.Future[runtime.StreamWriter] = runtime.get_running_loop().create_future()

        def hand_over(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
            accepted.set_result(writer)

        async with await runtime.start_server(hand_over, *LOCAL) as server:
            reader, client = await runtime.open_connection(*server.sockets[0].getsockname())
            writer = await accepted
            await all_tasks_blocked()
            writer.write(b"still here")
            assert await reader.readexactly(10) == b"still here"
            client.close()
            writer.close()

    runtime.run(runtime.wait_for(main(), PATIENCE))
