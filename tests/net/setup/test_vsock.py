"""Sockets of an address family that the package has no functions for, given with ``sock=``.

The family is AF_VSOCK, of virtual machines and their hosts. A machine can connect to itself only
if its kernel has the module ``vsock_loopback``: without it, a server is made and closed, and the
test of a connection is skipped.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

import pytest

import runtime
from tests.net.tools import echo
from tests.net.transport_tools import Recorder

ANY_PORT = 0xFFFFFFFF
LOCAL_CID = 1
"""The numbers of VMADDR_PORT_ANY and VMADDR_CID_LOCAL, the latter of which Python 3.14 names."""

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="AF_VSOCK exists on Linux")


def vsock() -> socket.socket:
    if sys.platform != "linux" or not hasattr(socket, "AF_VSOCK"):
        pytest.skip("this Python has no AF_VSOCK")
    try:
        return socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM)
    except OSError as error:
        pytest.skip(f"the system has no AF_VSOCK: {error}")


@pytest.fixture
def bound() -> Iterator[socket.socket]:
    """Give a socket that is bound to a free port of every address."""
    with vsock() as sock:
        try:
            sock.bind((socket.VMADDR_CID_ANY, ANY_PORT))
        except OSError as error:
            pytest.skip(f"the system has no transport for AF_VSOCK: {error}")
        yield sock


@pytest.fixture
def connected(bound: socket.socket) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Give both ends of a connection."""
    bound.listen()
    bound.settimeout(10)
    with vsock() as client:
        client.settimeout(1)  # A connection within the machine needs no time.
        try:
            client.connect((LOCAL_CID, bound.getsockname()[1]))
        except OSError as error:
            pytest.skip(f"no connection of AF_VSOCK to this machine: {error}")
        accepted, _ = bound.accept()
        with accepted:
            yield client, accepted


async def test_a_server_listens_on_the_socket(bound: socket.socket) -> None:
    async with await runtime.start_server(echo, sock=bound) as server:
        (listening,) = server.sockets
        assert listening.family == socket.AF_VSOCK
        assert listening.getsockname() == bound.getsockname()
        assert listening.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


async def test_a_protocols_server_listens_on_the_socket(bound: socket.socket) -> None:
    server = await runtime.get_running_loop().create_server(Recorder, sock=bound)
    assert bound.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1
    await server.shutdown()
    assert bound.fileno() < 0


async def test_a_socket_without_a_peer_is_an_error(bound: socket.socket) -> None:
    with pytest.raises(OSError, match=r"not connected|endpoint"):
        _, writer = await runtime.open_connection(sock=bound)
        try:
            writer.write(b"question")
            await writer.drain()
            await runtime.sleep(0.01)
            await writer.drain()
        finally:
            writer.transport.abort()


async def test_streams_over_the_socket(connected: tuple[socket.socket, socket.socket]) -> None:
    client, accepted = connected
    reader, writer = await runtime.open_connection(sock=client)
    assert writer.get_extra_info("peername")[0] == LOCAL_CID
    other_reader, other_writer = await runtime.open_connection(sock=accepted)
    writer.write(b"question\n")
    assert await other_reader.readline() == b"question\n"
    other_writer.write(b"answer" * 100_000)
    other_writer.write_eof()
    assert await reader.read() == b"answer" * 100_000
    for each in (writer, other_writer):
        each.close()
        await each.wait_closed()
