"""A number that is not a port is refused: the system would use it modulo 65536."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime

HOST = "127.0.0.1"
Call = Callable[[Any], Awaitable[object]]


async def connect_socket(port: Any) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, (HOST, port))


async def send_datagram(port: Any) -> None:
    async with await runtime.open_datagram((HOST, 0)) as endpoint:
        endpoint.send(b"x", (HOST, port))


async def send_on_socket(port: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_sendto(sock, b"x", (HOST, port))


async def send_by_transport(port: Any) -> None:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=(HOST, 0)
    )
    try:
        transport.sendto(b"x", (HOST, port))
    finally:
        transport.close()
        await asyncio.sleep(0)


NUMBERS: dict[str, Call] = {
    "sock_connect": connect_socket,
    "send": send_datagram,
    "sock_sendto": send_on_socket,
    "sendto": send_by_transport,
}
NAMES: dict[str, Call] = {
    "open_connection": lambda port: runtime.open_connection(HOST, port),
    "asyncio.open_connection": lambda port: asyncio.open_connection(HOST, port),
    "local_addr": lambda port: runtime.open_connection(HOST, 2, local_addr=(HOST, port)),
    "start_server": lambda port: runtime.start_server(lambda *_: None, HOST, port),
    "asyncio.start_server": lambda port: asyncio.start_server(lambda *_: None, None, port),
    "open_datagram": lambda port: runtime.open_datagram((HOST, port)),
    "open_datagram, remote": lambda port: runtime.open_datagram(remote_addr=(HOST, port)),
}


@pytest.mark.parametrize("port", [65536, 70_000, 105_659, -1, 1 << 40, -(1 << 40)])
@pytest.mark.parametrize("name", NUMBERS | NAMES)
def test_a_number_that_is_no_port(name: str, port: int) -> None:
    with pytest.raises(OverflowError, match=r"port must be 0-65535"):
        runtime.run(awaited((NUMBERS | NAMES)[name], port))


@pytest.mark.parametrize("port", ["65536", "-1", b"70000", " 70000"])
@pytest.mark.parametrize("name", NAMES)
def test_a_text_that_is_no_port(name: str, port: str) -> None:
    with pytest.raises(OverflowError, match=r"port must be 0-65535, got .*(70000|65536|-1)"):
        runtime.run(awaited(NAMES[name], port))


async def awaited(call: Call, port: object) -> None:
    opened = await call(port)
    if isinstance(opened, asyncio.AbstractServer):
        opened.close()
        await opened.wait_closed()


@pytest.mark.parametrize("name", NAMES)
def test_the_name_of_a_service_is_not_refused(name: str) -> None:
    with contextlib.suppress(OSError):  # No server listens there, or binding is not allowed.
        runtime.run(awaited(NAMES[name], "tcpmux"))
