"""A closed connection is freed at once: none of its parts is in a reference cycle."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
import weakref
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.net.connection.protocol_adapter import ProtocolAdapter
from runtime.net.connection.stream_adapter import StreamAdapter
from runtime.net.connection.stream_socket import StreamSocket
from tests.net.tools import connected, reset, until
from tests.net.transport_tools import (
    LOCAL,
    BufferedRecorder,
    Recorder,
    kinds,
    talking,
    turns,
)
from tests.support.blocked import all_tasks_blocked

pytestmark = pytest.mark.usefixtures("no_collector")

PARTS = (
    StreamSocket,
    StreamAdapter,
    ProtocolAdapter,
    Recorder,
    BufferedRecorder,
    asyncio.Transport,
    runtime.StreamReader,
    runtime.StreamWriter,
    socket.socket,
)


def parts() -> list[Any]:
    """Return all parts of connections that the garbage collector tracks."""
    return [found for found in gc.get_objects() if isinstance(found, PARTS)]


def ignore_reports() -> None:
    """Drop reported exceptions, which would keep frames and their variables."""
    runtime.get_running_loop().set_exception_handler(lambda _, context: None)


Scenario = Callable[[], Coroutine[Any, Any, Any]]


def leaves_nothing(scenario: Scenario) -> None:
    """Run a scenario three times, and check that no part of a connection is left."""

    async def main() -> None:
        await scenario()  # The first run makes lasting objects, such as a resolver's thread.
        await all_tasks_blocked()
        before = {id(part) for part in parts()}
        for _ in range(3):
            await scenario()
        # The done callbacks of tasks run in a later turn.
        await all_tasks_blocked()
        assert [part for part in parts() if id(part) not in before] == []

    runtime.run(main())


# -- Protocols -------------------------------------------------------------------------------------


@kinds
@pytest.mark.parametrize("ending", ["close", "abort", "eof", "reset", "failure"])
@pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])
def test_a_transport_and_its_protocol_are_freed(kind: str, ending: str, factory: Any) -> None:
    class Failing(factory):  # type: ignore[misc]
        def eof_received(self) -> bool:
            raise ZeroDivisionError

    async def scenario() -> None:
        ignore_reports()
        made = Failing if ending == "failure" else factory
        async with talking(made, kind) as (transport, protocol, peer):
            transport.get_extra_info("socket")
            transport.write(b"x" * 1_000_000)
            peer.sendall(b"x")
            await protocol.until_received(1)
            gone.extend(weakref.ref(part) for part in (transport, protocol))
            if ending == "close":
                transport.abort()
                transport.write(b"too late")
            elif ending == "abort":
                transport.close()
                transport.abort()
            elif ending == "reset":
                reset(peer)
            else:
                peer.close()
            await protocol.until_lost()

    gone: list[weakref.ref[Any]] = []
    leaves_nothing(scenario)
    assert [ref() for ref in gone] == [None] * len(gone)


def test_a_returned_transport_is_freed_when_it_is_dropped() -> None:
    async def scenario() -> None:
        async with talking() as (transport, protocol, _):
            transport.close()
            await protocol.until_lost()
            await all_tasks_blocked()
            del protocol
            kept.append(transport)

    kept: list[Any] = []

    async def scenario_and_drop() -> None:
        await scenario()
        ref = weakref.ref(kept.pop())
        assert ref() is None

    leaves_nothing(scenario_and_drop)


def test_refused_clients_leave_nothing() -> None:
    with socket.create_server(LOCAL) as listening:
        address = listening.getsockname()

    async def scenario() -> None:
        loop = runtime.get_running_loop()
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, *address)
        with contextlib.suppress(ConnectionRefusedError):
            await runtime.open_connection(*address)

    leaves_nothing(scenario)


def test_a_failing_factory_leaves_nothing() -> None:
    def factory() -> Recorder:
        raise ZeroDivisionError

    async def scenario() -> None:
        ignore_reports()
        loop = runtime.get_running_loop()
        ours, peer = socket.socketpair()
        with peer, contextlib.suppress(ZeroDivisionError):
            await loop.create_connection(factory, sock=ours)
        server = await loop.create_server(factory, *LOCAL)
        with connected(server.sockets[0].getsockname()) as client:
            assert await runtime.to_thread(client.recv, 1) == b""
        server.close()

    leaves_nothing(scenario)


async def open_streams(sock: socket.socket) -> Any:
    return await runtime.open_connection(sock=sock)


async def open_protocol(sock: socket.socket) -> Any:
    return await runtime.get_running_loop().create_connection(Recorder, sock=sock)


@pytest.mark.parametrize("connect", [open_streams, open_protocol])
@pytest.mark.parametrize("after", [0, 1])
@pytest.mark.parametrize("how", ["closed", "aborted", "cancelled"])
def test_a_connection_that_ends_while_it_is_made_leaves_nothing(
    connect: Callable[[socket.socket], Any], after: int, how: str
) -> None:
    async def scenario() -> None:
        ignore_reports()
        ours, peer = socket.socketpair()
        with peer:
            connecting = runtime.create_task(connect(ours))
            await turns(after)
            if how == "closed":
                ours.close()
            elif how == "cancelled":
                connecting.cancel()
            else:
                for part in parts():
                    if isinstance(part, (ProtocolAdapter, StreamAdapter)):
                        part.abort()
                part = None
            await runtime.wait([connecting])
            if not connecting.cancelled() and not connecting.exception():
                for part in connecting.result():
                    if isinstance(part, (asyncio.Transport, runtime.StreamWriter)):
                        part.abort()
            ours.close()

    leaves_nothing(scenario)


@pytest.mark.parametrize("after", [0, 1, 2, 3])
def test_a_cancelled_connection_leaves_nothing(after: int) -> None:
    async def scenario() -> None:
        with socket.create_server(LOCAL) as listening:
            for connect in (
                runtime.get_running_loop().create_connection(Recorder, *listening.getsockname()),
                runtime.open_connection(*listening.getsockname()),
            ):
                connecting: runtime.Task[Any] = runtime.create_task(connect)
                await turns(after)
                connecting.cancel()
                await runtime.wait([connecting])
                if not connecting.cancelled():
                    for part in connecting.result():
                        if isinstance(part, (asyncio.Transport, runtime.StreamWriter)):
                            part.abort()
                await all_tasks_blocked()

    leaves_nothing(scenario)


# -- Streams ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["close", "abort", "eof", "reset", "cancelled", "dropped"])
def test_streams_are_freed(ending: str, tmp_path: Path) -> None:
    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        gone.extend(weakref.ref(part) for part in (reader, writer))
        writer.write(await reader.readexactly(1))
        tasks.append(runtime.current_task())
        with contextlib.suppress(ConnectionError):
            await reader.read()
            await writer.drain()
        if ending == "abort":
            writer.abort()
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()

    async def scenario() -> None:
        tasks.clear()
        async with await runtime.start_server(handler, *LOCAL) as server:
            client = socket.create_connection(server.sockets[0].getsockname())
            client.sendall(b"x")
            await until(lambda: tasks)
            if ending == "cancelled":
                tasks[0].cancel()
            (reset if ending == "reset" else socket.socket.close)(client)
            del client
            await runtime.wait(tasks)
            tasks.clear()
            server.close()
            await server.wait_closed()

    gone: list[weakref.ref[Any]] = []
    tasks: list[Any] = []
    leaves_nothing(scenario)
    assert [ref() for ref in gone] == [None] * len(gone)


def test_a_failed_read_leaves_nothing() -> None:
    async def scenario() -> None:
        ours, peer = socket.socketpair()
        reader, writer = await runtime.open_connection(sock=ours)
        gone.extend(weakref.ref(part) for part in (reader, writer))
        writer.write(b"not read: so that the peer resets it")
        writer.write(b"x" * 1_000_000)
        draining: runtime.Task[Any] = runtime.create_task(writer.drain())
        reading: runtime.Task[Any] = runtime.create_task(reader.read(10))
        await all_tasks_blocked()
        reset(peer)
        await runtime.wait([draining, reading])
        for task in (draining, reading):
            assert isinstance(task.exception(), ConnectionError)
        for _ in range(2):
            with contextlib.suppress(ConnectionError):
                await reader.read()
            with contextlib.suppress(ConnectionError):
                await writer.drain()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
        assert isinstance(reader.exception(), ConnectionError)

    gone: list[weakref.ref[Any]] = []
    leaves_nothing(scenario)
    assert [ref() for ref in gone] == [None] * len(gone)


def test_a_server_is_freed() -> None:
    async def scenario() -> None:
        loop = runtime.get_running_loop()
        server: Any = await loop.create_server(Recorder, *LOCAL)
        with connected(server.sockets[0].getsockname()):
            await until(lambda: server._clients)
            await server.shutdown(0)
        gone.append(weakref.ref(server))

    gone: list[weakref.ref[Any]] = []
    leaves_nothing(scenario)
    assert [ref() for ref in gone] == [None] * len(gone)


def test_an_unfinished_server_is_freed_with_its_loop() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        server = await loop.create_server(Recorder, *LOCAL)
        gone.append(weakref.ref(server))
        server.close()

    gone: list[weakref.ref[Any]] = []
    runtime.run(main())
    assert [ref() for ref in gone] == [None]
