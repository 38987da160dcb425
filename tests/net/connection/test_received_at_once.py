"""The size of one receive: large enough to be fast, small enough not to delay others."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from collections.abc import Iterator

import pytest

import runtime
from tests.net.transport_tools import LOOPS, Run
from tests.support import build
from tests.support.certificates import Certificates
from tests.support.programs import run_program

AT_ONCE = 256 * 1024
"""The receive size of asyncio's loops, in bytes."""


@contextlib.contextmanager
def waiting_data() -> Iterator[tuple[socket.socket, bytes]]:
    """Yield a connected socket, and the data that it holds, more than 256 KiB."""
    ours, peer = socket.socketpair()
    with ours, peer:
        ours.setblocking(False)
        peer.setblocking(False)
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * AT_ONCE)
        data = b""
        with contextlib.suppress(BlockingIOError):
            while True:
                part = os.urandom(60_000)
                data += part[: peer.send(part)]
        if len(data) <= AT_ONCE:
            pytest.skip(f"this system keeps only {len(data)} bytes for a socket")
        yield ours, data


class Chunks(asyncio.Protocol):
    """Protocol that records the received pieces, and the turn of the loop of each."""

    def __init__(self) -> None:
        self.chunks: list[bytes] = []
        self.turns: list[int] = []
        self.turn = 0

    def data_received(self, data: bytes) -> None:
        self.chunks.append(data)
        self.turns.append(self.turn)

    def count(self) -> None:
        """Count the turns of the loop."""
        self.turn += 1
        asyncio.get_running_loop().call_soon(self.count)


@pytest.mark.parametrize("run", LOOPS, indirect=True)
def test_a_protocol_receives_256_kib_in_a_turn(run: Run) -> None:
    async def main() -> None:
        with waiting_data() as (ours, data):
            protocol = Chunks()
            transport, _ = await asyncio.get_running_loop().create_connection(
                lambda: protocol, sock=ours
            )
            protocol.count()
            async with asyncio.timeout(30):
                while sum(map(len, protocol.chunks)) < len(data):
                    await asyncio.sleep(0)
            assert len(protocol.chunks[0]) == AT_ONCE
            assert b"".join(protocol.chunks) == data
            assert len(set(protocol.turns)) == len(protocol.chunks) > 1
            transport.close()
            await asyncio.sleep(0)

    run(main())


async def test_a_stream_receives_64_kib_at_once() -> None:
    with waiting_data() as (ours, data):
        reader, writer = await runtime.open_connection(sock=ours, limit=1000)
        for _ in range(10):
            await runtime.sleep(0)
        assert 0 < reader._adapter.unread.size <= 2000 + 64 * 1024
        assert await reader.readexactly(len(data)) == data
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("size", [64 * 1024, 64 * 1024 + 1, AT_ONCE, AT_ONCE + 1])
async def test_sock_recv_returns_as_much_as_it_was_asked_for(size: int) -> None:
    with waiting_data() as (ours, data):
        loop = runtime.get_running_loop()
        assert await loop.sock_recv(ours, size) == data[:size]
        rest = len(data) - size
        while rest > 0:
            rest -= len(await loop.sock_recv(ours, size))
        assert rest == 0


ECHOES = """
import resource, ssl, sys
import runtime

MESSAGES = 500
authority, certificate = sys.argv[1:]


async def echo(reader, writer):
    while data := await reader.read(1000):
        writer.write(data)
    writer.close()


async def main():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    server = await runtime.start_server(echo, "127.0.0.1", 0, ssl=context)
    reader, writer = await runtime.open_connection(
        *server.sockets[0].getsockname(), ssl=ssl.create_default_context(cafile=authority)
    )
    for number in range(2 * MESSAGES):
        if number == MESSAGES:
            before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        writer.write(b"x" * 100)
        await reader.readexactly(100)
    print((resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / MESSAGES)
    writer.close()
    server.close()


runtime.run(main())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what is told of is glibc's allocator")
@pytest.mark.skipif(
    build.accelerator_kind() == "address", reason="the sanitizer has its own allocator"
)
def test_a_large_receive_size_causes_no_page_faults_for_a_small_message(
    certificates: Certificates,
) -> None:
    done = run_program("-c", ECHOES, certificates.authority, certificates.server)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 0.5
