"""A peer's first data is not delivered before the client has its transport and protocol.

Clients often finish setting up a protocol after ``await loop.create_connection(...)``. Data that is
delivered before that would be lost, or handled by a protocol that is not ready. In all these tests
the data has arrived, or arrives with the end of the handshake, while the connection is being made.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from tests.net.transport_tools import (
    LOCAL,
    PATIENCE,
    BufferedRecorder,
    Recorder,
    Run,
    on_asyncio,
    talking,
)
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context, server_context

if sys.platform == "win32":
    pytest.skip("Unix sockets", allow_module_level=True)

GREETING = b"220 ready\r\n"
Connect = Callable[[Callable[[], Any]], Coroutine[Any, Any, tuple[Any, Any]]]


class Greeter:
    """Listening socket that sends a greeting to each connection."""

    def __init__(self, family: int, address: Any) -> None:
        self.listening = socket.socket(family)
        self.listening.bind(address)
        self.listening.listen()
        self.listening.setblocking(False)
        self.peers: list[socket.socket] = []

    async def greet(self) -> None:
        """Send the greeting to one connection as soon as it is established."""
        peer, _ = await asyncio.get_running_loop().sock_accept(self.listening)
        self.peers.append(peer)
        peer.sendall(GREETING)

    def close(self) -> None:
        for sock in (self.listening, *self.peers):
            sock.close()


def greeted_pair(given: list[socket.socket]) -> socket.socket:
    """Return a connected socket that holds the greeting; append its peer to ``given``."""
    ours, peer = socket.socketpair()
    given.append(peer)
    peer.sendall(GREETING)
    ours.setblocking(False)
    return ours


@pytest.mark.parametrize("made", [Recorder, BufferedRecorder], ids=["bytes", "buffers"])
@pytest.mark.parametrize("kind", ["tcp", "unix", "sock", "unix sock", "accepted"])
def test_a_greeting_comes_after_the_await(run: Run, kind: str, made: Any, tmp_path: Path) -> None:
    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        closing: list[Any] = []
        greeting: Any = None
        if kind in ("tcp", "unix"):
            address = LOCAL if kind == "tcp" else str(tmp_path / "socket")
            greeter = Greeter(socket.AF_INET if kind == "tcp" else socket.AF_UNIX, address)
            closing.append(greeter)
            greeting = asyncio.ensure_future(greeter.greet())
            if kind == "tcp":
                connecting = loop.create_connection(made, *greeter.listening.getsockname())
            else:
                connecting = loop.create_unix_connection(made, address)
        elif kind == "sock":
            connecting = loop.create_connection(made, sock=greeted_pair(closing))
        elif kind == "unix sock":
            connecting = loop.create_unix_connection(made, sock=greeted_pair(closing))
        else:
            connecting = loop.connect_accepted_socket(made, greeted_pair(closing))
        transport, protocol = await connecting
        assert protocol.calls == ["connection_made"]
        if greeting is not None:
            await greeting
        await protocol.until_received(len(GREETING))
        assert protocol.received == GREETING
        transport.abort()
        await protocol.until_lost()
        for thing in closing:
            thing.close()

    run(main())


def test_a_protocol_that_is_set_after_the_await_receives_all(run: Run) -> None:
    async def main() -> None:
        peers: list[socket.socket] = []
        first, second = Recorder(), Recorder()
        transport, _ = await asyncio.get_running_loop().create_connection(
            lambda: first, sock=greeted_pair(peers)
        )
        transport.set_protocol(second)
        await second.until_received(len(GREETING))
        assert second.received == GREETING
        assert first.calls == ["connection_made"]
        transport.abort()
        await second.until_lost()
        peers[0].close()

    run(main())


def test_an_end_comes_after_the_await(run: Run) -> None:
    async def main() -> None:
        ours, peer = socket.socketpair()
        peer.close()
        transport, protocol = await asyncio.get_running_loop().create_connection(
            Recorder, sock=ours
        )
        assert protocol.calls == ["connection_made"]
        await protocol.until_lost()
        assert protocol.calls == ["connection_made", "eof_received", "connection_lost"]
        assert transport.is_closing()

    run(main())


def test_a_pause_before_or_after_the_await_stays_in_force(run: Run) -> None:
    """The loop does not resume a transport that its user has paused."""

    class Pausing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()

    async def main(pauses: bool) -> None:
        peers: list[socket.socket] = []
        transport, protocol = await asyncio.get_running_loop().create_connection(
            Pausing if pauses else Recorder, sock=greeted_pair(peers)
        )
        if not pauses:
            transport.pause_reading()
        await all_tasks_blocked()
        assert not transport.is_reading()
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.until_received(len(GREETING))
        transport.abort()
        await protocol.until_lost()
        peers[0].close()

    run(main(True))
    run(main(False))


def test_pausing_and_resuming_in_connection_made_changes_nothing(run: Run) -> None:
    class Changing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.pause_reading()
            transport.resume_reading()

    async def main() -> None:
        peers: list[socket.socket] = []
        transport, protocol = await asyncio.get_running_loop().create_connection(
            Changing, sock=greeted_pair(peers)
        )
        assert protocol.calls == ["connection_made"]
        await protocol.until_received(len(GREETING))
        transport.abort()
        await protocol.until_lost()
        peers[0].close()

    run(main())


# -- TLS -------------------------------------------------------------------------------------------


class HandMadeTLS:
    """TLS peer that sends its greeting in one piece with its last bytes of the handshake."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, *, server_side: bool) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=server_side,
            server_hostname=None if server_side else NAME,
        )

    async def greet(self) -> None:
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            while True:
                try:
                    self._tls.do_handshake()
                except ssl.SSLWantReadError:
                    await loop.sock_sendall(self._sock, self._outgoing.read())
                    self._incoming.write(await loop.sock_recv(self._sock, 1 << 16))
                else:
                    break
            self._tls.write(GREETING)
            await loop.sock_sendall(self._sock, self._outgoing.read())


@pytest.mark.parametrize("made", [Recorder, BufferedRecorder], ids=["bytes", "buffers"])
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize("kind", ["client", "accepted", "upgraded client", "upgraded server"])
def test_a_greeting_in_tls_comes_after_the_await(
    run: Run,
    kind: str,
    version: ssl.TLSVersion,
    made: Any,
    certificates: Certificates,
    request: pytest.FixtureRequest,
) -> None:
    """The last flight of the handshake is read together with the data that follows it.

    The client sends that flight in TLS 1.3, and the server in TLS 1.2.
    """
    if on_asyncio(request):
        pytest.skip("asyncio hands over at once what came along with the end of the handshake")

    async def main() -> None:
        loop: Any = asyncio.get_running_loop()
        is_server = kind in ("accepted", "upgraded server")
        server = server_context(certificates, minimum=version, maximum=version)
        client = client_context(certificates)
        ours, theirs = socket.socketpair()
        peer = HandMadeTLS(theirs, client if is_server else server, server_side=not is_server)
        greeting = asyncio.ensure_future(peer.greet())
        name = {} if is_server else {"server_hostname": NAME}
        protocol: Any
        if kind == "client":
            transport, protocol = await loop.create_connection(made, sock=ours, ssl=client, **name)
        elif kind == "accepted":
            transport, protocol = await loop.connect_accepted_socket(made, ours, ssl=server)
        else:
            # Data that is received before the upgrade would go to the plain protocol.
            bare, protocol = await loop.connect_accepted_socket(made, ours)
            transport = await loop.start_tls(
                bare, protocol, server if is_server else client, server_side=is_server, **name
            )
        assert protocol.calls == ["connection_made"]
        await protocol.until_received(len(GREETING))
        assert protocol.received == GREETING
        await greeting
        transport.abort()
        await protocol.until_lost()
        theirs.close()

    run(main())


async def test_a_pause_in_tls_outlasts_the_await(certificates: Certificates) -> None:
    loop: Any = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    peer = HandMadeTLS(theirs, client_context(certificates), server_side=False)
    greeting = asyncio.ensure_future(peer.greet())
    transport, protocol = await loop.connect_accepted_socket(
        Recorder, ours, ssl=server_context(certificates)
    )
    transport.pause_reading()
    await greeting
    await all_tasks_blocked()
    assert protocol.calls == ["connection_made"]
    transport.resume_reading()
    await protocol.until_received(len(GREETING))
    transport.abort()
    await protocol.until_lost()
    theirs.close()


# -- Datagrams -------------------------------------------------------------------------------------


class Datagrams(asyncio.DatagramProtocol):
    """Protocol that records its calls, and finishes a future that the test awaits."""

    def __init__(self) -> None:
        self.received: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.calls: list[str] = []

    def connection_made(self, transport: Any) -> None:
        self.calls.append("connection_made")

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.calls.append("datagram_received")
        self.received.set_result(data)


def test_a_datagram_comes_after_the_await(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as ours:
            ours.bind(LOCAL)
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as peer:
                peer.sendto(GREETING, ours.getsockname())
            transport, protocol = await loop.create_datagram_endpoint(Datagrams, sock=ours)
            assert protocol.calls == ["connection_made"]
            async with asyncio.timeout(PATIENCE):
                assert await protocol.received == GREETING
            transport.close()
            await all_tasks_blocked()

    run(main())


# -- The server's side -----------------------------------------------------------------------------


def test_accepted_connections_are_read_from_at_once(run: Run) -> None:
    """A server sets its protocol up in ``connection_made``: no caller awaits the connection."""

    async def main() -> None:
        async with talking(kind="server") as (_, protocol, peer):
            peer.sendall(GREETING)
            await protocol.until_received(len(GREETING))
            assert protocol.calls == ["connection_made", "data_received"]

    run(main())
