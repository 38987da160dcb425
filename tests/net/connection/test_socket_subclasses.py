"""Connections on sockets of a subclass: the methods of the subclass are called."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.transport_tools import BufferedRecorder, Recorder, Run
from tests.support.certificates import NAME, Certificates

LARGE = 4_000_000


class Counting(socket.socket):
    """Socket that counts the calls of its methods, and encrypts with Caesar's cipher."""

    received = 0
    sent = 0
    accepted = 0

    def recv(self, *args: Any) -> bytes:
        data = super().recv(*args)
        self.received += len(data)
        return bytes(data)

    def recv_into(self, buffer: Any, *args: Any) -> int:
        size = super().recv_into(buffer, *args)
        self.received += size
        return size

    def send(self, data: Any, *args: Any) -> int:
        size = super().send(data, *args)
        self.sent += size
        return size

    def sendmsg(self, buffers: Any, *args: Any) -> int:
        size = super().sendmsg(buffers, *args)
        self.sent += size
        return size

    def accept(self) -> tuple[Counting, Any]:
        sock, address = super().accept()
        self.accepted += 1
        return Counting(sock.family, sock.type, fileno=sock.detach()), address


def counting_pair() -> tuple[Counting, socket.socket]:
    ours, theirs = socket.socketpair()
    theirs.settimeout(30)
    return Counting(ours.family, ours.type, fileno=ours.detach()), theirs


def receive(sock: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += sock.recv(1 << 16)
    return bytes(data)


@pytest.mark.parametrize("kind", ["connection", "accepted"])
@pytest.mark.parametrize("recorder", [Recorder, BufferedRecorder])
def test_a_transport(run: Run, kind: str, recorder: Callable[[], Any]) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        sock, peer = counting_pair()
        with peer:
            transport: Any
            if kind == "connection":
                transport, protocol = await loop.create_connection(recorder, sock=sock)
            else:
                transport, protocol = await loop.connect_accepted_socket(recorder, sock)
            peer.sendall(b"hello")
            await protocol.until(lambda: protocol.received == b"hello")
            transport.write(b"some")
            transport.writelines([b"", b"and", memoryview(b"more")])
            assert receive(peer, 11) == b"someandmore"
            transport.writelines([bytes(LARGE), bytearray(LARGE)])
            transport.write(b"the end")
            assert (
                await asyncio.to_thread(receive, peer, 2 * LARGE + 7)
                == bytes(2 * LARGE) + b"the end"
            )
            assert sock.received == 5
            assert sock.sent == 11 + 2 * LARGE + 7
            transport.close()
            await protocol.until_lost()

    run(main())


async def test_streams() -> None:
    sock, peer = counting_pair()
    with peer:
        reader, writer = await runtime.open_unix_connection(sock=sock)
        peer.sendall(b"a line\n" + bytes(200_000))
        assert await reader.readline() == b"a line\n"
        assert await reader.readexactly(200_000) == bytes(200_000)
        writer.write(b"answer")
        writer.write_eof()
        assert await runtime.to_thread(peer.recv, 100) == b"answer"
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read() == b""
        assert (sock.received, sock.sent) == (200_007, 6)
        writer.close()
        await writer.wait_closed()


async def test_tls(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)

    async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.readexactly(5))

    async with await runtime.start_server(echo, "127.0.0.1", 0, ssl=server_side) as server:
        sock = Counting()
        sock.connect(server.sockets[0].getsockname())
        reader, writer = await runtime.open_connection(
            sock=sock, ssl=client_side, server_hostname=NAME
        )
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
    assert sock.received > 500
    assert sock.sent > 200


@pytest.mark.parametrize("listener", ["protocol", "streams"])
async def test_a_server(listener: str) -> None:
    """The socket that the subclass's ``accept`` returns is the connection's socket."""
    loop = runtime.get_running_loop()
    listening = Counting()
    listening.bind(("127.0.0.1", 0))
    made: list[Any] = []

    def factory() -> Recorder:
        protocol = Recorder()
        made.append(protocol)
        return protocol

    async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        made.append(writer.get_extra_info("socket"))
        writer.write(await reader.readexactly(5))

    if listener == "protocol":
        server = await loop.create_server(factory, sock=listening)
    else:
        server = await runtime.start_server(echo, sock=listening)
    async with server:
        reader, writer = await runtime.open_connection(*listening.getsockname())
        writer.write(b"hello")
        if listener == "protocol":
            while not made:
                await runtime.sleep(0)
            await made[0].until(lambda: made[0].received == b"hello")
        else:
            assert await reader.readexactly(5) == b"hello"
            assert isinstance(made[0], Counting)
            assert (made[0].received, made[0].sent) == (5, 5)
        writer.close()
    assert listening.accepted == 1


class Failing(Counting):
    def recv(self, *args: Any) -> bytes:
        raise TimeoutError("mine")

    def send(self, data: Any, *args: Any) -> int:
        raise TimeoutError("mine")


@pytest.mark.parametrize("what", ["recv", "send"])
async def test_an_exception_of_a_method_ends_the_connection(what: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        sock = Failing(ours.family, ours.type, fileno=ours.detach())
        transport, protocol = await runtime.get_running_loop().create_connection(
            Recorder, sock=sock
        )
        if what == "recv":
            theirs.send(b"data")
        else:
            transport.write(b"data")
        await protocol.until_lost()
        assert str(protocol.lost[0]) == "mine"
