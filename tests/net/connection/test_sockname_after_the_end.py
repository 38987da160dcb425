"""The address of a connection is told after its end, whatever became of the descriptor."""

from __future__ import annotations

import asyncio
import os
import socket

import runtime
from tests.net.transport_tools import Run


async def connection(
    sock: socket.socket | None = None,
) -> tuple[asyncio.Transport, tuple[str, int]]:
    """Return a transport, and its own address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    if sock is None:
        transport, _ = await loop.create_connection(asyncio.Protocol, *address)
    else:
        sock.setblocking(False)
        await loop.sock_connect(sock, address)
        transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    server.close()
    own: tuple[str, int] = transport.get_extra_info("socket").getsockname()
    return transport, own


def test_the_number_means_another_socket(run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        transport, own = await connection()
        transport.pause_reading()
        with socket.create_server(("127.0.0.1", 0)) as other:
            kept = os.dup(fd := transport.get_extra_info("socket").fileno())
            os.dup2(other.fileno(), fd)
            transport.abort()
            await asyncio.sleep(0.01)
            os.close(kept)
            assert transport.get_extra_info("sockname") == own

    run(main())


def test_its_owner_closed_the_socket(run: Run) -> None:
    async def main() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda *_: None)
        sock = socket.socket()
        transport, own = await connection(sock)
        transport.pause_reading()
        sock.close()
        transport.abort()
        await asyncio.sleep(0.01)
        assert transport.get_extra_info("sockname") == own

    run(main())


def test_nobody_asked_before() -> None:
    async def main() -> None:
        transport, own = await connection()
        transport.abort()
        assert transport.get_extra_info("sockname") == own
        assert transport.get_extra_info("socket").fileno() == -1
        # Libraries look into this, under asyncio's name.
        assert not vars(type(transport))["_extra"]

    runtime.run(main())
