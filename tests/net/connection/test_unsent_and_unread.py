"""Bytes that are unsent when a connection ends, or unread when TLS begins.

If a protocol closes in ``resume_writing``, ``connection_lost`` is called once. An empty chunk is
not put into the write buffer, so that nothing waits for it. The bytes that a reader holds when TLS
begins are the beginning of the handshake.

Source: python/cpython#156512, #155888, #142352 and #160520.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net import tls_tools
from tests.net.tools import receive_all
from tests.net.transport_tools import (
    LOCAL,
    PATIENCE,
    Calls,
    Recorder,
    collect_reports,
    fill,
    kinds,
    small_buffers,
    talking,
)
from tests.support.asyncio_reference import MakeLoop, on_both_loops, run, unless_faulty
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context, server_context
from tests.system.tools import make_pipe

# -- Closed from resume_writing --------------------------------------------------------------------


class Ending(Recorder):
    """Protocol that ends its connection in ``resume_writing``."""

    ending = "close"

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        transport.set_write_buffer_limits(high=0)

    def resume_writing(self) -> None:
        super().resume_writing()
        getattr(self.transport, self.ending)()


class Aborting(Ending):
    ending = "abort"


def write_until_paused(transport: Any, protocol: Calls, way: str) -> int:
    """Write in one of two ways until writing is paused; return the number of bytes."""
    written = 0
    while "pause_writing" not in protocol.calls:
        if way == "write":
            transport.write(bytes(1000))
        else:
            transport.writelines([bytes(500), bytes(300), bytes(200)])
        written += 1000
    return written


async def check_that_it_ends_once(protocol: Calls, reports: list[dict[str, Any]]) -> None:
    await protocol.until_lost()
    await all_tasks_blocked()
    assert protocol.lost == [None]
    assert protocol.calls[-1] == "connection_lost"
    assert "resume_writing" in protocol.calls
    assert reports == []


@on_both_loops()
@kinds
@pytest.mark.parametrize("way", ["write", "writelines"])
@pytest.mark.parametrize("factory", [Ending, Aborting])
def test_a_connection_that_is_closed_from_resume_writing_is_lost_once(
    make_loop: MakeLoop, kind: str, way: str, factory: type[Ending]
) -> None:
    async def main() -> None:
        reports = collect_reports()
        async with talking(factory, kind) as (transport, protocol, peer):
            small_buffers(transport, peer)
            written = write_until_paused(transport, protocol, way)
            received = await asyncio.to_thread(receive_all, peer)
            assert len(received) == written
            await check_that_it_ends_once(protocol, reports)

    run(make_loop, main())


@on_both_loops()
@pytest.mark.parametrize("way", ["write", "writelines"])
@pytest.mark.parametrize("factory", [Ending, Aborting])
def test_a_tls_connection_that_is_closed_from_resume_writing_is_lost_once(
    make_loop: MakeLoop, way: str, factory: type[Ending], certificates: Certificates
) -> None:
    async def main() -> None:
        reports = collect_reports()
        loop = asyncio.get_running_loop()
        with socket.create_server(LOCAL) as listener:
            connecting = asyncio.ensure_future(
                loop.create_connection(
                    factory,
                    *listener.getsockname(),
                    ssl=client_context(certificates),
                    server_hostname=NAME,
                )
            )
            await all_tasks_blocked()
            plain = listener.accept()[0]
        plain.settimeout(PATIENCE)
        context = server_context(certificates)
        peer = await asyncio.to_thread(context.wrap_socket, plain, server_side=True)
        with peer:
            transport, protocol = await connecting
            written = write_until_paused(transport, protocol, way)
            received = await asyncio.to_thread(receive_to_any_end, peer)
            if factory is Ending:
                assert len(received) == written
            with contextlib.suppress(OSError):
                (await asyncio.to_thread(peer.unwrap)).close()
            await check_that_it_ends_once(protocol, reports)

    run(make_loop, main())


def receive_to_any_end(peer: ssl.SSLSocket) -> bytes:
    """Receive until the end, which is regular or, after an abort, truncated."""
    received = bytearray()
    with contextlib.suppress(ssl.SSLError, ConnectionError):
        while part := peer.recv(1 << 20):
            received += part
    return bytes(received)


@on_both_loops(works=False)
@pytest.mark.parametrize("way", ["write", "writelines"])
@pytest.mark.parametrize("factory", [Ending, Aborting])
def test_a_pipe_that_is_closed_from_resume_writing_is_lost_once(
    make_loop: MakeLoop, way: str, factory: type[Ending]
) -> None:
    """The loop of asyncio still calls ``connection_lost`` of a pipe twice."""

    async def main() -> None:
        reports = collect_reports()
        loop = asyncio.get_running_loop()
        read_end, write_end = make_pipe()
        with read_end:
            transport, protocol = await loop.connect_write_pipe(factory, write_end)
            written = write_until_paused(transport, protocol, way)
            received = await asyncio.to_thread(read_end.readall)  # type: ignore[attr-defined]
            assert len(received) == written
            await check_that_it_ends_once(protocol, reports)

    run(make_loop, main())


# -- Empty chunks ----------------------------------------------------------------------------------

CHUNKS: list[list[Any]] = [
    [],
    [b""],
    [b"", bytearray(), memoryview(b"")],
    [b"data", b""],
    [b"", b"data"],
    [b"da", b"", b"ta"],
    [b"x" * 300_000, b"", b"y" * 300_000, memoryview(b"")],
]
chunks = pytest.mark.parametrize(
    "parts", CHUNKS, ids=lambda parts: "+".join(str(len(part)) for part in parts) or "none"
)


@on_both_loops()
@kinds
@pytest.mark.parametrize("held_up", [False, True])
@pytest.mark.parametrize("way", ["write", "writelines"])
def test_an_empty_chunk_delays_nothing(
    make_loop: MakeLoop, kind: str, held_up: bool, way: str
) -> None:
    async def main() -> None:
        reports = collect_reports()
        for parts in CHUNKS:
            async with talking(kind=kind) as (transport, protocol, peer):
                before = 0
                if held_up:
                    small_buffers(transport, peer)
                    before = fill(transport)
                write_parts(transport, parts, way)
                receiving = asyncio.create_task(asyncio.to_thread(receive_all, peer))
                transport.close()
                assert (await receiving)[before:] == b"".join(parts)
                await protocol.until_lost()
                assert transport.get_write_buffer_size() == 0
                assert protocol.lost == [None]
        assert reports == []

    run(make_loop, main())


def write_parts(writer: Any, parts: list[Any], way: str) -> None:
    if way == "writelines":
        writer.writelines(parts)
    else:
        for part in parts:
            writer.write(part)


@on_both_loops()
@chunks
@pytest.mark.parametrize("way", ["write", "writelines"])
def test_the_end_of_writing_follows_empty_chunks(
    make_loop: MakeLoop, parts: list[Any], way: str
) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, peer):
            write_parts(transport, parts, way)
            transport.write_eof()
            assert await asyncio.to_thread(receive_all, peer) == b"".join(parts)
            await protocol.until(lambda: not transport.get_write_buffer_size())

    run(make_loop, main())


@on_both_loops()
@chunks
@pytest.mark.parametrize("way", ["write", "writelines"])
def test_tls_keeps_no_empty_chunk(
    make_loop: MakeLoop, parts: list[Any], way: str, certificates: Certificates
) -> None:
    async def main() -> None:
        async with tls_tools.protocols(certificates) as (client, server):
            write_parts(client.transport, parts, way)
            client.transport.close()
            assert await client.ended() is None
            await server.ended()
            assert server.received == b"".join(parts)

    run(make_loop, main())


@on_both_loops()
@chunks
@pytest.mark.parametrize("held_up", [False, True])
@pytest.mark.parametrize("way", ["write", "writelines"])
def test_a_pipe_keeps_no_empty_chunk(
    make_loop: MakeLoop, parts: list[Any], held_up: bool, way: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        read_end, write_end = make_pipe()
        with read_end:
            transport, protocol = await loop.connect_write_pipe(Recorder, write_end)
            before = fill(transport, 10_000) if held_up else 0
            write_parts(transport, parts, way)
            transport.close()
            received = await asyncio.to_thread(read_end.readall)  # type: ignore[attr-defined]
            assert received[before:] == b"".join(parts)
            await protocol.until_lost()

    run(make_loop, main())


STREAMS = [
    unless_faulty(asyncio.SelectorEventLoop, asyncio, name="asyncio"),
    pytest.param(runtime.new_event_loop, asyncio, id="asyncio_on_runtime"),
    pytest.param(runtime.new_event_loop, runtime, id="runtime"),
]
streams = pytest.mark.parametrize(("make_loop", "module"), STREAMS)


@streams
@chunks
@pytest.mark.parametrize("way", ["write", "writelines"])
def test_a_writer_is_drained_and_closed_after_empty_chunks(
    make_loop: MakeLoop, module: Any, parts: list[Any], way: str
) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        peer.settimeout(PATIENCE)
        with peer:
            _, writer = await module.open_connection(sock=ours)
            write_parts(writer, parts, way)
            receiving = asyncio.create_task(asyncio.to_thread(receive_all, peer))
            async with asyncio.timeout(PATIENCE):
                await writer.drain()
                writer.close()
                await writer.wait_closed()
            assert await receiving == b"".join(parts)

    run(make_loop, main())


# -- Received before TLS ---------------------------------------------------------------------------


class Client:
    """Client's side of a TLS connection, which can hold its bytes back."""

    def __init__(self, sock: socket.socket, certificates: Certificates) -> None:
        self.sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._object = client_context(certificates).wrap_bio(
            self._incoming, self._outgoing, server_hostname=NAME
        )

    def hello(self) -> bytes:
        """Return the first message of the handshake, without sending it."""
        with pytest.raises(ssl.SSLWantReadError):
            self._object.do_handshake()
        return self._outgoing.read()

    def _until_done(self, step: Callable[[], Any]) -> Any:
        while True:
            try:
                result = step()
            except ssl.SSLWantReadError:
                self.sock.sendall(self._outgoing.read())
                received = self.sock.recv(1 << 16)
                assert received, "the server gave up"
                self._incoming.write(received)
            else:
                self.sock.sendall(self._outgoing.read())
                return result

    def finish(self, request: bytes) -> bytes:
        """Complete the handshake, send a request, and return the answer."""
        self._until_done(self._object.do_handshake)
        self._until_done(lambda: self._object.write(request))
        answer: bytes = self._until_done(lambda: self._object.read(1 << 16))
        return answer


Handler = Callable[[Any, Any], Awaitable[None]]


@contextlib.asynccontextmanager
async def served(module: Any, handler: Handler) -> AsyncIterator[socket.socket]:
    """Serve one connection with ``handler``; yield the client's socket."""
    ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(reader: Any, writer: Any) -> None:
        try:
            await handler(reader, writer)
        except BaseException as error:
            ended.set_exception(error)
        else:
            ended.set_result(None)
        finally:
            writer.close()

    server = await module.start_server(handle, *LOCAL)
    try:
        with socket.create_connection(server.sockets[0].getsockname(), PATIENCE) as sock:
            yield sock
            async with asyncio.timeout(PATIENCE):
                await ended
    finally:
        server.close()
    await all_tasks_blocked()


@streams
@pytest.mark.parametrize("ahead", ["all", "half", "byte"])
def test_a_handshake_that_began_before_start_tls(
    make_loop: MakeLoop, module: Any, ahead: str, certificates: Certificates
) -> None:
    async def handler(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        await writer.start_tls(server_context(certificates))
        writer.write((await reader.readexactly(7)).upper())
        await writer.drain()

    async def main() -> None:
        async with served(module, handler) as sock:
            client = Client(sock, certificates)
            hello = client.hello()
            size = {"all": len(hello), "half": len(hello) // 2, "byte": 1}[ahead]
            # In one segment, so that the bytes after the line have arrived when it is read.
            sock.sendall(b"STARTTLS\n" + hello[:size])
            await all_tasks_blocked()
            sock.sendall(hello[size:])
            assert await asyncio.to_thread(client.finish, b"request") == b"REQUEST"

    run(make_loop, main())


@streams
def test_plain_text_is_never_read_after_start_tls(
    make_loop: MakeLoop, module: Any, certificates: Certificates
) -> None:
    """An attacker between the two ends may have inserted it."""
    read: list[bytes] = []

    async def handler(reader: Any, writer: Any) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        with pytest.raises(OSError):  # noqa: PT011 - each interface has its own
            await writer.start_tls(server_context(certificates))
        with contextlib.suppress(OSError):
            read.append(await reader.read())

    async def main() -> None:
        async with served(module, handler) as sock:
            client = Client(sock, certificates)
            sock.sendall(b"STARTTLS\n" + b"this was slipped in\n" + client.hello())

    run(make_loop, main())
    assert b"".join(read) == b""


# -- A peer that neither reads nor sends -----------------------------------------------------------


@on_both_loops()
def test_tls_is_closed_in_time_under_a_peer_that_has_ended_and_does_not_read(
    make_loop: MakeLoop, certificates: Certificates
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder(keep_open=True))
            return made[-1]

        server = await loop.create_server(
            factory, *LOCAL, ssl=server_context(certificates), ssl_shutdown_timeout=0.05
        )
        with socket.create_connection(server.sockets[0].getsockname(), PATIENCE) as plain:
            context = client_context(certificates)
            peer = await asyncio.to_thread(context.wrap_socket, plain, server_hostname=NAME)
            with peer:
                while not (made and made[0].transport):
                    await asyncio.sleep(0)
                transport = made[0].transport
                transport.write(os.urandom(8 << 20))
                peer.shutdown(socket.SHUT_WR)
                await all_tasks_blocked()
                transport.close()
                await made[0].until_lost()
                assert isinstance(made[0].lost[0], OSError)
        server.close()

    run(make_loop, main())
