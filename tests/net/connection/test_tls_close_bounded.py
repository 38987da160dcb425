"""After ``close()`` of a TLS connection, received data is bounded, and written data arrives."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import sys

import pytest

import runtime
from runtime.net.sockets.checks import undelivered_size
from tests.net.tls_tools import PATIENCE, Recorder, contexts, listening, until
from tests.net.tools import connected, serving
from tests.support.certificates import NAME, Certificates
from tests.support.tls_peer import TlsPeer, tls_client, tls_server

ANSWER = bytes(range(256)) * 256
SMALL = 16 * 1024
"""Size of the sockets' buffers, in bytes: larger ones would hide how much is read."""

BOUND = 2 * 1024 * 1024
"""Bytes: more than a bounded close and all buffers accept, and a small part of the flood."""

MUCH = 64 * 1024 * 1024


def flood(peer: TlsPeer) -> tuple[int, bytes]:
    """Send until the connection breaks; return the number of bytes sent, and the received data."""
    peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL)
    peer.handshake()
    peer.send(b"?")
    sent = 0
    chunk = bytes(16384)
    with contextlib.suppress(ConnectionError):
        while sent < MUCH:
            peer.send(chunk)
            sent += len(chunk)
    return sent, peer.receive_all()


@pytest.mark.parametrize("reading", [False, True], ids=["unread", "reading"])
async def test_a_client_that_leaves_much_data_unread(
    certificates: Certificates, reading: bool
) -> None:
    server_side, client_side = contexts(certificates)
    with tls_server(server_side, flood) as server:
        reader, writer = await runtime.open_connection(
            *server.address,
            ssl=client_side,
            server_hostname=NAME,
            ssl_shutdown_timeout=PATIENCE,
        )
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
        assert await reader.readexactly(1) == b"?"
        if not reading:
            await until(lambda: not reader._adapter.is_reading())
        writer.write(ANSWER)
        writer.close()
        await writer.wait_closed()
        sent, answer = await runtime.to_thread(server.result)
    assert sent < BOUND
    assert answer == ANSWER


async def test_a_server_that_refuses_an_upload(certificates: Certificates) -> None:
    class Refusing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            raw = self.transport.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SMALL)
            self.transport.write(ANSWER)
            self.transport.close()

    server_side, client_side = contexts(certificates)
    made: list[Refusing] = []

    def factory() -> Refusing:
        made.append(refusing := Refusing())
        return refusing

    async with listening(factory, server_side, ssl_shutdown_timeout=PATIENCE) as address:
        with tls_client(address, client_side, flood) as client:
            sent, answer = await runtime.to_thread(client.result)
            assert await made[0].ended() is None
    assert sent < BOUND
    assert answer == ANSWER


async def test_a_peer_that_reads_only_after_it_has_written(certificates: Certificates) -> None:
    """The layer reads on, with pauses, until all written data has arrived."""
    upload = bytes(512 * 1024)
    answer = 16 * ANSWER

    def behave(peer: TlsPeer) -> bytes:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            peer.sock.setsockopt(socket.SOL_SOCKET, option, SMALL)
        peer.handshake()
        peer.send(upload)
        return peer.receive_all()

    async def refuse(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            raw.setsockopt(socket.SOL_SOCKET, option, SMALL)
        await reader.read(1)
        writer.write(answer)
        writer.close()

    server_side, client_side = contexts(certificates)
    async with serving(refuse, ssl=server_side, ssl_shutdown_timeout=PATIENCE) as address:
        with tls_client(address, client_side, behave) as client:
            assert await runtime.to_thread(client.result) == answer


@pytest.mark.skipif(sys.platform not in {"linux", "darwin"}, reason="the system does not tell")
def test_undelivered_size() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        connected(listener.getsockname()) as sock,
        listener.accept()[0] as peer,
    ):
        assert undelivered_size(sock) == 0
        sock.setblocking(False)
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                sent += sock.send(ANSWER)
        assert 0 < undelivered_size(sock) < sent
        peer.settimeout(PATIENCE)
        while sent:
            sent -= len(peer.recv(sent))

        async def main() -> None:
            await until(lambda: undelivered_size(sock) == 0)

        asyncio.run(main())


def test_undelivered_to_a_unix_socket() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.send(ANSWER)
        assert undelivered_size(ours) == 0
