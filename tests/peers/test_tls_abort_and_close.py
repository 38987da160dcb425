"""Closing and aborting a TLS connection without waiting for the peer's answer.

See https://github.com/sanic-org/sanic/issues/2190.
"""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import PATIENCE, Recorder, contexts
from tests.support.certificates import NAME, Certificates
from tests.support.tls_peer import TlsPeer, tls_server

MUCH = bytes(16 * 1024 * 1024)


@pytest.mark.parametrize("written", [b"", MUCH], ids=["nothing", "much"])
@pytest.mark.parametrize("first_close", [False, True])
async def test_abort_frees_the_socket_in_the_same_turn(
    certificates: Certificates, written: bytes, first_close: bool
) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        over.wait(PATIENCE)

    over = threading.Event()
    server_side, client_side = contexts(certificates)
    loop = asyncio.get_running_loop()
    with tls_server(server_side, behave) as server:
        transport, protocol = await loop.create_connection(
            Recorder, *server.address, ssl=client_side, server_hostname=NAME
        )
        sock: Any = transport.get_extra_info("socket")
        transport.write(written)
        if first_close:
            transport.close()
        assert sock.fileno() >= 0
        transport.abort()
        assert sock.fileno() == -1
        assert await protocol.ended() is None
        over.set()


@pytest.mark.parametrize("written", [b"", MUCH], ids=["nothing", "much"])
async def test_close_waits_no_longer_than_its_timeout(
    certificates: Certificates, written: bytes
) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        over.wait(PATIENCE)

    over = threading.Event()
    server_side, client_side = contexts(certificates)
    with tls_server(server_side, behave) as server:
        _, writer = await runtime.open_connection(
            *server.address, ssl=client_side, server_hostname=NAME, ssl_shutdown_timeout=0.05
        )
        sock: socket.socket = writer.get_extra_info("socket")
        writer.write(written)
        writer.close()
        with pytest.raises(TimeoutError, match="SSL shutdown timed out after 0.05 seconds"):
            await runtime.wait_for(writer.wait_closed(), PATIENCE)
        assert sock.fileno() == -1
        over.set()


@pytest.mark.parametrize("server_timeout", [0.05])
async def test_the_close_of_a_server_does_not_wait_either(
    certificates: Certificates, server_timeout: float
) -> None:
    ended: list[BaseException | None] = []

    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.close()

        def connection_lost(self, exc: BaseException | None) -> None:
            ended.append(exc)

    server_side, client_side = contexts(certificates)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        Closing, "127.0.0.1", 0, ssl=server_side, ssl_shutdown_timeout=server_timeout
    )
    reader, writer = await runtime.open_connection(
        *server.sockets[0].getsockname(), ssl=client_side, server_hostname=NAME
    )
    assert await reader.read() == b""
    # The peer has received the end, and does not answer it.
    server.close()
    await runtime.wait_for(server.wait_closed(), PATIENCE)
    assert [type(each) for each in ended] == [TimeoutError]
    writer.abort()
