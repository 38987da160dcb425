"""KeyboardInterrupt from a protocol's method: the connection continues where it was interrupted.

Some events are not repeated by the system, so that an interrupt must not lose them: TLS records
that were received together, the end of the input, the end of the output.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import runtime
from tests.support.certificates import Certificates, client_context, server_context


class Interrupted(asyncio.Protocol):
    """Protocol that raises KeyboardInterrupt in the first call of one method."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.received = b""
        self.lost: list[Any] = []

    def _interrupt(self, method: str) -> None:
        if method == self.method:
            self.method = ""
            raise KeyboardInterrupt

    def data_received(self, data: bytes) -> None:
        self.received += data
        self._interrupt("data_received")

    def eof_received(self) -> None:
        self._interrupt("eof_received")

    def resume_writing(self) -> None:
        self._interrupt("resume_writing")

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)
        self._interrupt("connection_lost")


class InterruptedBuffer(Interrupted, asyncio.BufferedProtocol):
    """The same for a protocol that receives into a buffer."""

    def get_buffer(self, sizehint: int) -> bytearray:
        self.buffer = bytearray(16)
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.data_received(bytes(self.buffer[:nbytes]))


@pytest.fixture
def loop() -> Iterator[runtime.Loop]:
    one = runtime.new_event_loop()
    yield one
    one.close()


async def until(condition: Any) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await runtime.sleep(0)


@pytest.mark.parametrize("kind", [Interrupted, InterruptedBuffer])
def test_records_that_were_received_together(
    loop: runtime.Loop, certificates: Certificates, kind: type[Interrupted]
) -> None:
    server_side: list[Any] = []

    class Sender(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            server_side.append(transport)

    async def connect() -> tuple[Any, Any, Any]:
        inside = server_context(certificates)
        server = await loop.create_server(Sender, "127.0.0.1", 0, ssl=inside)
        transport, protocol = await loop.create_connection(
            lambda: kind("data_received"),
            *server.sockets[0].getsockname(),
            ssl=client_context(certificates),
            server_hostname="localhost",
        )
        await until(lambda: server_side)
        return server, transport, protocol

    def send() -> None:
        for number in range(5):
            server_side[0].write(b"%02d, " % number * 8)

    server, transport, protocol = loop.run_until_complete(connect())
    loop.call_soon(send)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(runtime.sleep(30))
    wanted = b"".join(b"%02d, " % number * 8 for number in range(5))
    assert len(protocol.received) < len(wanted)
    loop.run_until_complete(until(lambda: len(protocol.received) >= len(wanted)))
    assert protocol.received == wanted
    transport.abort()
    server_side[0].abort()
    server.close()
    loop.run_until_complete(server.wait_closed())


@pytest.mark.parametrize("tls", [False, True])
def test_the_end_of_the_input(loop: runtime.Loop, certificates: Certificates, tls: bool) -> None:
    """``eof_received`` is called once; the connection is closed as if it had returned None."""
    server_side: list[Any] = []

    class Ends(asyncio.Protocol):
        def connection_made(self, transport: Any) -> None:
            server_side.append(transport)

        def data_received(self, data: bytes) -> None:
            server_side[0].close()

    async def connect() -> tuple[Any, Any, Any]:
        inside = server_context(certificates) if tls else None
        server = await loop.create_server(Ends, "127.0.0.1", 0, ssl=inside)
        transport, protocol = await loop.create_connection(
            lambda: Interrupted("eof_received"),
            *server.sockets[0].getsockname(),
            ssl=client_context(certificates) if tls else None,
            server_hostname="localhost" if tls else None,
        )
        return server, transport, protocol

    server, transport, protocol = loop.run_until_complete(connect())
    loop.call_soon(transport.write, b"x")
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(runtime.sleep(30))
    loop.run_until_complete(until(lambda: protocol.lost))
    assert protocol.lost == [None]
    server.close()
    loop.run_until_complete(server.wait_closed())


@pytest.mark.parametrize("end", ["close", "write_eof"])
def test_the_end_of_the_output(loop: runtime.Loop, end: str) -> None:
    """A close or ``write_eof`` that waits for the write buffer is done after the interrupt."""
    one, two = socket.socketpair()
    one.setblocking(False)
    connect = loop.create_connection(lambda: Interrupted("resume_writing"), sock=one)
    transport: Any
    transport, protocol = loop.run_until_complete(connect)
    transport.set_write_buffer_limits(0)
    sent = 4_000_000
    transport.write(b"x" * sent)
    getattr(transport, end)()
    received = 0

    def receive() -> None:
        nonlocal received
        received += len(two.recv(1 << 20))

    two.setblocking(False)
    loop.add_reader(two, receive)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(runtime.sleep(30))
    loop.run_until_complete(until(lambda: received == sent))
    loop.remove_reader(two)
    two.setblocking(True)
    two.settimeout(30)
    loop.run_until_complete(until(lambda: protocol.lost or end == "write_eof"))
    loop.run_until_complete(runtime.sleep(0.01))
    assert two.recv(1) == b""
    two.close()
    transport.abort()
    loop.run_until_complete(until(lambda: protocol.lost))


def test_the_end_of_the_connection(loop: runtime.Loop) -> None:
    """``connection_lost`` is called once, and the connection is closed all the same."""
    one, two = socket.socketpair()
    one.setblocking(False)
    connect = loop.create_connection(lambda: Interrupted("connection_lost"), sock=one)
    _, protocol = loop.run_until_complete(connect)
    loop.call_soon(two.close)
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(runtime.sleep(30))
    loop.run_until_complete(runtime.sleep(0.01))
    assert protocol.lost == [None]
    assert one.fileno() == -1
