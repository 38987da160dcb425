"""asyncio's ``SSLProtocol`` on a transport of either loop, as programs use it for STARTTLS."""

from __future__ import annotations

import asyncio
import ssl
from asyncio.sslproto import SSLProtocol
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.net.datagram_tools import LOCAL
from tests.net.datagram_tools import Recorder as DatagramRecorder
from tests.net.tls_tools import contexts
from tests.net.transport_tools import PATIENCE, Run
from tests.support.certificates import NAME, Certificates


class Upgrading(asyncio.Protocol):
    """Protocol that switches to TLS when it receives ``STARTTLS``, and then echoes."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self._secure = False
        self.transport: Any = None
        self.plain: Any = None
        self.handshake: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.lost: asyncio.Future[BaseException | None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        if self._secure:
            self.transport.write(b"secure " + data)
            return
        assert data == b"STARTTLS"
        loop = asyncio.get_running_loop()
        self._secure = True
        self.plain = self.transport
        protocol: Any = SSLProtocol(
            loop,
            self,
            self._context,
            self.handshake,
            server_side=True,
        )
        self.plain.set_protocol(protocol)
        protocol.connection_made(self.plain)
        self.plain.write(b"ready")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.lost.set_result(exc)


async def upgraded(
    certificates: Certificates, client: ssl.SSLContext | None
) -> tuple[Upgrading, asyncio.StreamReader, asyncio.StreamWriter, Any]:
    server_side, _ = contexts(certificates)
    made: list[Upgrading] = []

    def factory() -> Upgrading:
        made.append(Upgrading(server_side))
        return made[-1]

    server = await asyncio.get_running_loop().create_server(factory, *LOCAL)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    writer.write(b"STARTTLS")
    assert await reader.readexactly(5) == b"ready"
    if client is not None:
        await writer.start_tls(client, server_hostname=NAME)
    return made[0], reader, writer, server


def within_limits(coro: Coroutine[Any, Any, None]) -> Coroutine[Any, Any, None]:
    return asyncio.wait_for(coro, PATIENCE)


def test_the_connection_goes_on_with_tls(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        _, client = contexts(certificates)
        protocol, reader, writer, server = await upgraded(certificates, client)
        writer.write(b"hello")
        assert await reader.readexactly(12) == b"secure hello"
        writer.close()
        assert await protocol.lost is None
        server.close()

    run(within_limits(main()))


def test_a_handshake_that_fails(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        protocol, reader, writer, server = await upgraded(certificates, None)
        writer.write(b"no TLS at all, and long enough for a record\r\n")
        await reader.read()
        with pytest.raises(ssl.SSLError):
            await protocol.handshake
        assert protocol.plain.is_closing()
        writer.close()
        server.close()

    run(within_limits(main()))


def test_the_connection_can_be_aborted(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        _, client = contexts(certificates)
        protocol, _, writer, server = await upgraded(certificates, client)
        await protocol.handshake
        protocol.transport.abort()
        await protocol.lost
        assert protocol.plain.is_closing()
        writer.transport.abort()
        server.close()

    run(within_limits(main()))


def test_a_transport_is_closed_because_of_an_error(run: Run) -> None:
    class Waiting(asyncio.Protocol):
        def __init__(self) -> None:
            self.lost = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        error = OSError("mine")
        server = await loop.create_server(Waiting, *LOCAL)
        transport: Any
        transport, protocol = await loop.create_connection(
            Waiting, *server.sockets[0].getsockname()
        )
        transport._force_close(error)
        assert transport.is_closing()
        assert await protocol.lost is error
        server.close()
        datagrams: Any
        datagrams, recorder = await loop.create_datagram_endpoint(DatagramRecorder, LOCAL)
        datagrams._force_close(error)
        await recorder.until_lost()
        assert recorder.lost == [error]

    run(within_limits(main()))
