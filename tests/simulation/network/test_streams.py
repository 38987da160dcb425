"""Streams, protocols, TLS and ``sock_*`` of the production code over the simulated network."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
import tempfile
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime import simulation
from tests.support.certificates import Certificates, client_context, server_context

ROUGH = simulation.Conditions(
    latency=(0.0, 0.01),
    splitting=0.3,
    merging=0.2,
    short_writes=0.3,
    full_buffers=0.1,
)
"""Conditions under which streams arrive in any pieces, and are accepted in any pieces."""

SEEDS = [None, *range(8)]


def simulate(main: Callable[[], Awaitable[Any]], seed: int | None = None) -> Any:
    """Run ``main()`` in a simulation; with a seed in a rough network, also inside a host."""

    async def in_network() -> Any:
        if seed is not None:
            simulation.current_world().network.set(ROUGH, within=ROUGH)
        return await main()

    return simulation.run(in_network, seed=seed)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("module", [asyncio, runtime])
def test_streams_echo(module: Any, seed: int | None) -> None:
    async def echo(reader: Any, writer: Any) -> None:
        while data := await reader.read(1000):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def main() -> tuple[bytes, str]:
        with simulation.current_world().host("server").entered():
            server = await module.start_server(echo, "server", 7)
        reader, writer = await module.open_connection("server", 7)
        sent = os.urandom(300_000)
        sending = asyncio.ensure_future(send(writer, sent))
        received = await reader.readexactly(len(sent))
        await sending
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        server.close()
        await server.wait_closed()
        assert received == sent
        return received[:0], writer.get_extra_info("peername")

    async def send(writer: Any, data: bytes) -> None:
        for start in range(0, len(data), 30_000):
            writer.write(data[start : start + 30_000])
            await writer.drain()
        writer.write_eof()

    assert simulate(main, seed) == (b"", ("10.0.0.2", 7))


@pytest.mark.parametrize("seed", SEEDS)
def test_tls(certificates: Certificates, seed: int | None) -> None:
    async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        line = await reader.readline()
        writer.write(line.upper())
        await writer.drain()
        writer.close()

    async def main() -> bytes:
        context = server_context(certificates)
        async with await runtime.start_server(answer, "127.0.0.1", 443, ssl=context) as server:
            assert server.sockets
            reader, writer = await runtime.open_connection(
                "localhost", 443, ssl=client_context(certificates)
            )
            writer.write(b"hello\n")
            line = await reader.readline()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()
            return line

    assert simulate(main, seed) == b"HELLO\n"


@pytest.mark.parametrize("seed", SEEDS)
def test_a_certificate_is_still_checked(certificates: Certificates, seed: int | None) -> None:
    async def main() -> None:
        context = server_context(certificates, certificates.other)
        async with await runtime.start_server(lambda _r, _w: None, "127.0.0.1", 443, ssl=context):
            with pytest.raises(ssl.SSLCertVerificationError):
                await runtime.open_connection("localhost", 443, ssl=client_context(certificates))

    simulate(main, seed)


class Collector(asyncio.Protocol):
    """A protocol that collects what it receives, and whose ``lost`` ends with the connection."""

    def __init__(self) -> None:
        self.data = b""
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def data_received(self, data: bytes) -> None:
        self.data += data

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [None, 100_000])
def test_protocols_and_sendfile(seed: int | None, count: int | None) -> None:
    content = bytes(range(256)) * 2000

    async def main() -> None:
        loop = asyncio.get_running_loop()
        made: list[Collector] = []

        def factory() -> Collector:
            made.append(Collector())
            return made[-1]

        server = await loop.create_server(factory, port=80)
        transport, _ = await loop.create_connection(asyncio.Protocol, "127.0.0.1", 80)
        with tempfile.TemporaryFile() as file:
            file.write(content)
            file.flush()
            transport.write(b"head")
            sent = await loop.sendfile(transport, file, 0, count, fallback=False)
        expected = content if count is None else content[:count]
        assert sent == len(expected)
        transport.close()
        assert await made[0].lost is None
        assert made[0].data == b"head" + expected
        server.close()
        await server.wait_closed()

    simulate(main, seed)


@pytest.mark.parametrize("seed", SEEDS)
def test_sock_methods(seed: int | None) -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener, socket.socket() as client:
            listener.setblocking(False)
            client.setblocking(False)
            listener.bind(("", 0))
            listener.listen()
            connecting = asyncio.ensure_future(
                loop.sock_connect(client, ("localhost", listener.getsockname()[1]))
            )
            served, address = await loop.sock_accept(listener)
            await connecting
            assert address == client.getsockname()
            with served:
                await loop.sock_sendall(client, b"x" * 500)
                client.shutdown(socket.SHUT_WR)
                received = b""
                while part := await loop.sock_recv(served, 100):
                    received += part
                buffer = bytearray(10)
                await loop.sock_sendall(served, b"answer")
                served.close()
                size = 0
                while more := await loop.sock_recv_into(client, memoryview(buffer)[size:]):
                    size += more
                assert buffer[:size] == b"answer"
                return received

    assert simulate(main, seed) == b"x" * 500


def test_add_reader_and_add_writer() -> None:
    async def main() -> bytes:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            received: asyncio.Future[bytes] = loop.create_future()
            writable: asyncio.Future[None] = loop.create_future()

            def read() -> None:
                loop.remove_reader(other)
                received.set_result(other.recv(100))

            def write() -> None:
                loop.remove_writer(one)
                one.send(b"data")
                writable.set_result(None)

            loop.add_reader(other, read)
            loop.add_writer(one, write)
            await writable
            return await received

    assert simulate(main) == b"data"


def test_a_full_buffer_pauses_the_writer_until_the_reader_reads() -> None:
    async def main() -> None:
        ends: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        server = await runtime.start_server(lambda *end: ends.set_result(end), "127.0.0.1", 7)
        _, writer = await runtime.open_connection("127.0.0.1", 7)
        server_reader, server_writer = await ends
        writer.write(bytes(2_000_000))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await writer.drain()
        read = await server_reader.readexactly(2_000_000)
        await writer.drain()
        assert read == bytes(2_000_000)
        for end in (writer, server_writer):
            end.close()
            await end.wait_closed()
        server.close()

    simulate(main)


def test_unix_sockets_are_of_one_host() -> None:
    async def main() -> bytes:
        world = simulation.current_world()

        async def serve() -> None:
            async def answer(_: Any, writer: Any) -> None:
                writer.write(b"unix")
                writer.close()

            server = await asyncio.start_unix_server(answer, "/run/simulated.sock")
            await server.serve_forever()

        host = world.host("a")
        host.start(serve)
        await asyncio.sleep(1)
        with pytest.raises(FileNotFoundError):
            await asyncio.open_unix_connection("/run/simulated.sock")
        with host.entered():
            reader, writer = await asyncio.open_unix_connection("/run/simulated.sock")
        data = await reader.read()
        writer.close()
        return data

    assert simulate(main) == b"unix"
    assert not os.path.exists("/run/simulated.sock")


def test_closing_with_unread_bytes_resets_the_connection() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = await connected()
        await loop.sock_sendall(one, b"unread")
        other.close()
        with pytest.raises(ConnectionResetError):
            await loop.sock_recv(one, 10)
        assert await loop.sock_recv(one, 10) == b""
        with pytest.raises(BrokenPipeError):
            await loop.sock_sendall(one, b"more")
        one.close()

    simulate(main)


async def connected() -> tuple[socket.socket, socket.socket]:
    """Return the two ends of a TCP connection inside the host."""
    loop = asyncio.get_running_loop()
    with socket.socket() as listener:
        listener.setblocking(False)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        client = socket.socket()
        client.setblocking(False)
        await loop.sock_connect(client, listener.getsockname())
        served, _ = await loop.sock_accept(listener)
    return client, served


def test_addresses_and_options() -> None:
    async def main() -> None:
        client, served = await connected()
        with client, served:
            assert client.getpeername() == served.getsockname()
            assert client.family == socket.AF_INET
            assert client.type == socket.SOCK_STREAM
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            assert client.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) == 1
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == socket.SOCK_STREAM
            with pytest.raises(OSError, match="already connected"):
                client.connect(("127.0.0.1", 1))
        with socket.socket() as unbound:
            assert unbound.getsockname() == ("0.0.0.0", 0)
            with pytest.raises(OSError, match="not connected"):
                unbound.getpeername()
            with pytest.raises(OSError, match="assign requested address"):
                unbound.bind(("10.9.9.9", 1))
            unbound.bind(("127.0.0.1", 1))
            with socket.socket() as second, pytest.raises(OSError, match="in use"):
                second.bind(("127.0.0.1", 1))
        with socket.socket() as third:
            third.bind(("127.0.0.1", 1))

    simulate(main)


def test_ipv6() -> None:
    async def main() -> tuple[Any, bytes]:
        async def answer(_: Any, writer: Any) -> None:
            writer.write(b"six")
            writer.close()

        async with await runtime.start_server(answer, "::", 66):
            reader, writer = await runtime.open_connection("main", 66, family=socket.AF_INET6)
            peer = writer.get_extra_info("peername")
            data = await reader.read()
            writer.close()
            return peer, data

    assert simulate(main) == (("fd00::1", 66, 0, 0), b"six")
