"""``start_tls`` after bytes were received already: it must neither lose them nor hang.

The peer's first TLS flight often arrives in one segment with the plain text before it.

See https://github.com/python/cpython/issues/142352 and
https://github.com/MagicStack/uvloop/issues/707.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import PATIENCE, both_versions, contexts
from tests.net.tools import stream_pair
from tests.support.certificates import NAME, Certificates, client_context, server_context
from tests.support.tls_peer import TlsPeer

PROXY_HEADER = b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n"
GREETING = b"220 ready for TLS\r\n"


class ThroughStreams:
    """runtime's own streams."""

    def __init__(self, reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        self.readline = reader.readline
        self.write = writer.write
        self.start_tls = writer.start_tls


class ThroughProtocol:
    """``loop.start_tls`` with the protocol of asyncio's streams, as libraries use it."""

    def __init__(self, reader: asyncio.StreamReader, transport: Any, protocol: Any) -> None:
        self.readline = reader.readline
        self._transport = transport
        self._protocol = protocol

    def write(self, data: bytes) -> None:
        self._transport.write(data)

    async def start_tls(self, context: Any, **options: Any) -> None:
        loop = runtime.get_running_loop()
        self._transport = await loop.start_tls(self._transport, self._protocol, context, **options)


@asynccontextmanager
async def through_streams() -> AsyncIterator[tuple[Any, socket.socket]]:
    async with stream_pair() as (reader, writer, peer):
        yield ThroughStreams(reader, writer), peer


@asynccontextmanager
async def through_protocol() -> AsyncIterator[tuple[Any, socket.socket]]:
    loop = runtime.get_running_loop()
    ours, peer = socket.socketpair()
    reader = asyncio.StreamReader(loop=loop)
    with peer:
        transport, protocol = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=ours
        )
        made = ThroughProtocol(reader, transport, protocol)
        try:
            yield made, peer
        finally:
            made._transport.abort()


def answered(peer: TlsPeer) -> bytes:
    """Do the handshake, send a greeting, and return the answer."""
    peer.handshake()
    peer.send(b"hello\n")
    return peer.receive_exactly(6)


kinds = pytest.mark.parametrize("kind", [through_streams, through_protocol])


@kinds
async def test_a_header_and_the_client_hello_in_one_segment(
    certificates: Certificates, kind: Any
) -> None:
    async with kind() as (end, sock):
        peer = TlsPeer(sock, client_context(certificates), server_side=False, server_hostname=NAME)
        sock.sendall(PROXY_HEADER + peer.flight())

        async with runtime.timeout(PATIENCE):
            assert await end.readline() == PROXY_HEADER
            talking = runtime.create_task(runtime.to_thread(answered, peer))
            await end.start_tls(server_context(certificates), server_side=True)
            end.write(await end.readline())
            assert await talking == b"hello\n"


@kinds
async def test_a_greeting_and_a_hello_in_one_segment(certificates: Certificates, kind: Any) -> None:
    """The side that accepted the connection sends the greeting, and is the TLS client."""
    async with kind() as (end, sock):
        peer = TlsPeer(sock, client_context(certificates), server_side=False, server_hostname=NAME)
        sock.sendall(GREETING + peer.flight())
        async with runtime.timeout(PATIENCE):
            assert await end.readline() == GREETING
            talking = runtime.create_task(runtime.to_thread(answered, peer))
            await end.start_tls(server_context(certificates), server_side=True)
            end.write(await end.readline())
            assert await talking == b"hello\n"


@both_versions
@kinds
async def test_the_end_of_the_handshake_and_a_greeting_in_one_segment(
    certificates: Certificates, kind: Any, version: str
) -> None:
    def greet(peer: TlsPeer) -> bytes:
        peer.send_raw(peer.flight())
        peer.send_raw(peer.flight() + peer.sealed(GREETING))
        return peer.receive_exactly(len(GREETING))

    server_side, client_side = contexts(certificates, version)
    async with kind() as (end, sock):
        sock.sendall(GREETING)
        async with runtime.timeout(PATIENCE):
            assert await end.readline() == GREETING
            peer = TlsPeer(sock, server_side, server_side=True)
            talking = runtime.create_task(runtime.to_thread(greet, peer))
            await end.start_tls(client_side, server_hostname=NAME)
            end.write(await end.readline())
            assert await talking == GREETING
