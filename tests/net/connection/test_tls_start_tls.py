"""Switching an open connection to TLS: for streams, for protocols, and over TLS itself."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import AsyncIterator
from functools import partial
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import (
    PATIENCE,
    InBuffers,
    Recorder,
    Run,
    contexts,
    on_both_loops,
    streams,
    until,
)
from tests.net.tools import receive_all, serving, stream_pair
from tests.support.certificates import NAME, Certificates, client_context
from tests.support.tls_peer import TlsPeer, tls_server

MEGABYTE = bytes(range(256)) * 4096


@contextlib.asynccontextmanager
async def plain_protocols(
    client: Any = Recorder, server: Any = Recorder
) -> AsyncIterator[tuple[Any, Any]]:
    """Yield two protocols that are connected by a pair of sockets."""
    loop = asyncio.get_running_loop()
    made = []
    for sock, factory in zip(socket.socketpair(), (client, server), strict=True):
        made.append((await loop.create_connection(factory, sock=sock))[1])
    try:
        yield made[0], made[1]
    finally:
        for each in made:
            each.transport.abort()
            await each.ended()


async def upgrade(certificates: Certificates, client: Any, server: Any) -> None:
    """Switch both transports to TLS at the same time."""
    loop = asyncio.get_running_loop()
    server_side, client_side = contexts(certificates)
    client.transport, server.transport = await asyncio.gather(
        loop.start_tls(client.transport, client, client_side, server_hostname=NAME),
        # asyncio ignores a name on the server's side.
        loop.start_tls(
            server.transport, server, server_side, server_side=True, server_hostname="ignored"
        ),
    )


@on_both_loops
def test_protocols(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        async with plain_protocols() as (client, server):
            server.transport.write(b"plain ")
            await until(lambda: client.received == b"plain ")
            await upgrade(certificates, client, server)
            assert client.events == ["made", "data"]
            assert client.transport.get_extra_info("peercert")
            for each in (client, server):
                each.transport.write(MEGABYTE)
            await until(lambda: len(client.received) == 6 + len(MEGABYTE))
            await until(lambda: len(server.received) == len(MEGABYTE))
            assert client.received == b"plain " + MEGABYTE
            assert server.received == MEGABYTE
            client.transport.close()
            assert await client.ended() is None
            assert await server.ended() is None
            assert server.events[-2:] == ["eof", "lost"]

    run(main())


async def test_tls_in_tls_for_protocols(certificates: Certificates) -> None:
    async with plain_protocols(server=lambda: InBuffers(3000)) as (client, server):
        for layers in range(1, 4):
            await upgrade(certificates, client, server)
            for each in (client, server):
                each.received.clear()
                each.transport.write(MEGABYTE[: 50_000 * layers])
            for each in (client, server):
                await until(partial(lambda end, n: len(end.received) == n, each, 50_000 * layers))
            assert client.received == server.received == MEGABYTE[: 50_000 * layers]
        server.transport.write(MEGABYTE)
        server.transport.close()
        assert await client.ended() is None
        assert client.received[50_000 * 3 :] == MEGABYTE
        assert await server.ended() is None


async def test_another_protocol_takes_over(certificates: Certificates) -> None:
    loop = asyncio.get_running_loop()
    async with plain_protocols() as (client, server):
        server_side, client_side = contexts(certificates)
        other: Any = Recorder()
        other.events.append("set")
        other.transport, server.transport = await asyncio.gather(
            loop.start_tls(client.transport, other, client_side, server_hostname=NAME),
            loop.start_tls(server.transport, server, server_side, server_side=True),
        )
        assert other.transport.get_protocol() is other
        server.transport.write(b"for the other")
        await until(lambda: other.received == b"for the other")
        assert client.received == b""
        other.transport.abort()
        await other.ended()
        client.lost.set_result(None)


async def test_streams_with_unsent_plain_bytes(certificates: Certificates) -> None:
    """Plain bytes in the write buffer are sent before TLS, and the streams continue after it."""

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.start_tls(server_side)
        writer.write(await reader.readexactly(len(MEGABYTE)))
        writer.close()

    server_side: Any = None

    server_side, client_side = contexts(certificates)
    async with serving(handler) as address:
        reader, writer = await runtime.open_connection(*address)
        writer.write(b"x" * 60_000 + b"\n")
        assert await reader.readline() == b"x" * 60_000 + b"\n"
        await writer.start_tls(client_side, server_hostname=NAME)
        writer.write(MEGABYTE)
        assert await reader.read() == MEGABYTE
        assert writer.get_extra_info("peercert")
        writer.close()
        await writer.wait_closed()


async def test_tls_in_tls_for_streams(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)
    async with streams(server_side, client_side) as (client, server):
        for _ in range(2):
            await runtime.gather(
                client[1].start_tls(client_side, server_hostname=NAME),
                server[1].start_tls(server_side),
            )
            client[1].write(MEGABYTE)
            server[1].write(await server[0].readexactly(len(MEGABYTE)))
            assert await client[0].readexactly(len(MEGABYTE)) == MEGABYTE
        server[1].write(MEGABYTE)
        server[1].close()
        assert await client[0].read() == MEGABYTE
        client[1].close()
        await client[1].wait_closed()
        await server[1].wait_closed()


async def test_roles_can_be_exchanged(certificates: Certificates) -> None:
    """The end that connected may be the server of TLS, as in FTP with passive mode."""
    server_side, client_side = contexts(certificates)
    async with streams(server_side, client_side) as (client, server):
        await runtime.gather(
            client[1].start_tls(server_side, server_side=True),
            server[1].start_tls(client_side, server_hostname=NAME, server_side=False),
        )
        server[1].write(b"hello")
        assert await client[0].readexactly(5) == b"hello"


@on_both_loops
def test_asyncios_own_streams(certificates: Certificates, run: Run) -> None:
    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(await reader.readline())
        await writer.drain()
        await writer.start_tls(server_side)
        writer.write(await reader.readexactly(len(MEGABYTE)))
        await writer.drain()
        writer.close()

    server_side: Any = None

    async def main() -> None:
        nonlocal server_side
        server_side, client_side = contexts(certificates)
        server = await asyncio.start_server(handler, "127.0.0.1", 0)
        reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
        writer.write(b"in plain text\n")
        assert await reader.readline() == b"in plain text\n"
        await writer.start_tls(client_side, server_hostname=NAME)
        writer.write(MEGABYTE)
        assert await reader.read() == MEGABYTE
        writer.close()
        await writer.wait_closed()
        server.close()

    run(main())


async def test_asyncios_streams_close_with_much_unread(certificates: Certificates) -> None:
    """Their reader may have paused the plain transport: closing must end the connection still."""
    server_side, client_side = contexts(certificates)
    accepted: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda *pair: accepted.set_result(pair), "127.0.0.1", 0, limit=1000
    )
    reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
    theirs, their_writer = await accepted
    await runtime.gather(
        writer.start_tls(client_side, server_hostname=NAME), their_writer.start_tls(server_side)
    )
    writer.write(MEGABYTE)
    await until(lambda: len(theirs._buffer) > 2000)
    their_writer.close()
    assert await reader.read() == b""
    writer.close()
    async with asyncio.timeout(PATIENCE / 2):
        await their_writer.wait_closed()
        await writer.wait_closed()
    server.close()


# -- Failures --------------------------------------------------------------------------------------


async def test_a_handshake_that_fails_closes_the_connection(certificates: Certificates) -> None:
    async with stream_pair() as (reader, writer, peer):
        peer.sendall(b"this is no TLS at all")
        with pytest.raises(OSError, match="WRONG_VERSION_NUMBER"):
            await writer.start_tls(client_context(certificates), server_hostname=NAME)
        assert writer.is_closing()
        for name in ("peercert", "cipher", "compression"):
            assert writer.get_extra_info(name) is None
        with pytest.raises(OSError, match="WRONG_VERSION_NUMBER"):
            await reader.read(1)
        with pytest.raises(ConnectionResetError):
            await writer.start_tls(client_context(certificates), server_hostname=NAME)


async def test_a_connection_that_is_closed(certificates: Certificates) -> None:
    async with plain_protocols() as (client, _):
        client.transport.close()
        with pytest.raises(ConnectionResetError, match="is closed"):
            await asyncio.get_running_loop().start_tls(
                client.transport, client, client_context(certificates), server_hostname=NAME
            )


@pytest.mark.parametrize("moment", ["as it begins", "in the handshake"])
async def test_cancelled(certificates: Certificates, moment: str) -> None:
    loop = asyncio.get_running_loop()
    context = client_context(certificates)
    async with stream_pair() as (_, writer, peer), plain_protocols() as (client, server):
        tasks: list[Any] = [
            runtime.create_task(writer.start_tls(context, server_hostname=NAME)),
            runtime.create_task(
                loop.start_tls(client.transport, client, context, server_hostname=NAME)
            ),
        ]
        await runtime.sleep(0)
        if moment == "in the handshake":
            assert await runtime.to_thread(peer.recv, 10)
            await until(lambda: server.received)
        for task in tasks:
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task
        assert writer.is_closing()
        await client.ended()
        await runtime.to_thread(receive_all, peer)
        await server.ended()


async def test_data_written_during_the_handshake_is_sent_after_it(
    certificates: Certificates,
) -> None:
    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        return peer.receive_all()

    with tls_server(contexts(certificates)[0], behave) as server:
        _, writer = await runtime.open_connection(*server.address)
        task = runtime.create_task(
            writer.start_tls(client_context(certificates), server_hostname=NAME)
        )
        await runtime.sleep(0)
        writer.write(b"")
        for part in (b"written ", bytearray(b"too "), memoryview(b"early")):
            writer.write(part)
        await task
        writer.write(b".")
        writer.close()
        assert await runtime.to_thread(server.result) == b"written too early."
        writer.abort()


async def test_close_in_the_handshake(certificates: Certificates) -> None:
    async with stream_pair() as (_, writer, peer):
        task = runtime.create_task(
            writer.start_tls(client_context(certificates), server_hostname=NAME)
        )
        assert await runtime.to_thread(peer.recv, 65536)
        writer.close()
        with pytest.raises(ConnectionAbortedError):
            await task
        assert await runtime.to_thread(peer.recv, 65536) == b""


async def test_not_after_write_eof(certificates: Certificates) -> None:
    async with stream_pair() as (_, writer, _):
        writer.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            async with runtime.timeout(5):
                await writer.start_tls(client_context(certificates), server_hostname=NAME)


async def test_more_unread_than_the_limit(certificates: Certificates) -> None:
    """A pause because of plain bytes ends, and receiving pauses again when too much is unread."""
    async with stream_pair(limit=1000) as (reader, writer, peer):

        def behave() -> bytes:
            # More than twice the limit, most of it from the handshake.
            hello = tls.flight()
            peer.sendall(hello)
            tls.handshake()
            tls.send(b"y" * 30_000)
            return tls.receive_exactly(2)

        tls = TlsPeer(peer, client_context(certificates), server_side=False, server_hostname=NAME)
        talk = runtime.create_task(runtime.to_thread(behave))
        await until(lambda: reader._adapter.unread.size)
        await writer.start_tls(contexts(certificates)[0], server_side=True)
        assert await reader.readexactly(30_000) == b"y" * 30_000
        writer.write(b"ok")
        assert await talk == b"ok"


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
async def test_streams_whose_peer_has_ended(certificates: Certificates, server_side: bool) -> None:
    server, client = contexts(certificates)
    async with stream_pair() as (reader, writer, peer):
        peer.sendall(b"STARTTLS\r\n")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b"STARTTLS\r\n"
        with pytest.raises(ConnectionResetError, match="in the TLS handshake"):
            await writer.start_tls(
                server if server_side else client,
                server_side=server_side,
                server_hostname=None if server_side else NAME,
                ssl_handshake_timeout=PATIENCE,
            )
        assert writer.is_closing()


@pytest.mark.parametrize("ending", ["close_notify", "end"])
async def test_tls_in_tls_whose_peer_has_ended(certificates: Certificates, ending: str) -> None:
    server_side, client_side = contexts(certificates)
    ended = threading.Event()

    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed_close_notify())
        if ending == "end":
            peer.sock.shutdown(socket.SHUT_WR)
        assert ended.wait(PATIENCE)

    with tls_server(server_side, behave) as running:
        reader, writer = await runtime.open_connection(
            *running.address, ssl=client_side, server_hostname=NAME
        )
        assert await reader.read() == b""
        with pytest.raises(ConnectionResetError, match="in the TLS handshake"):
            await writer.start_tls(
                client_side, server_hostname=NAME, ssl_handshake_timeout=PATIENCE
            )
        ended.set()


async def test_protocols_whose_peer_has_ended(certificates: Certificates) -> None:
    class Open(Recorder):
        def eof_received(self) -> bool:
            super().eof_received()
            return True

    async with plain_protocols(Open, Open) as (client, server):
        server.transport.write_eof()
        await until(lambda: "eof" in client.events)
        with pytest.raises(ConnectionResetError, match="in the TLS handshake"):
            await asyncio.get_running_loop().start_tls(
                client.transport,
                client,
                client_context(certificates),
                server_hostname=NAME,
                ssl_handshake_timeout=PATIENCE,
            )


async def test_the_protocol_stays_if_tls_cannot_begin(certificates: Certificates) -> None:
    async with plain_protocols() as (client, server):
        with pytest.raises(ValueError, match="server_hostname|idna"):
            await asyncio.get_running_loop().start_tls(
                client.transport, Recorder(), client_context(certificates), server_hostname=".name"
            )
        assert client.transport.get_protocol() is client
        server.transport.write(b"for the same protocol")
        await until(lambda: client.received == b"for the same protocol")
