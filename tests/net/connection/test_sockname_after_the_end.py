"""The address of a connection is known after its end, even if its descriptor was closed."""

from __future__ import annotations

import asyncio
import os
import socket

from tests.net.transport_tools import Run


async def connection(
    sock: socket.socket | None = None,
) -> tuple[asyncio.Transport, tuple[str, int]]:
    """Return a transport and its own address."""
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


def test_the_descriptor_belongs_to_another_socket(run: Run) -> None:
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


def test_the_program_closed_the_socket(run: Run) -> None:
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


async def test_the_address_was_not_asked_for_before_the_end() -> None:
    transport, own = await connection()
    transport.abort()
    assert transport.get_extra_info("sockname") == own
    assert transport.get_extra_info("socket").fileno() == -1
    # Libraries read this private attribute of asyncio's transports.
    assert not vars(type(transport))["_extra"]
