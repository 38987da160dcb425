"""Addresses reported by a datagram endpoint, which must be those of its socket.

See https://github.com/MagicStack/uvloop/issues/85.
"""

from __future__ import annotations

import asyncio
import socket
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL, bound_socket


async def check(**options: Any) -> Any:
    """Create an endpoint, compare its addresses with those of its socket; return its address."""
    loop = runtime.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, **options)
    sock = transport.get_extra_info("socket")
    try:
        assert transport.get_extra_info("sockname") == sock.getsockname()
        try:
            peername = sock.getpeername()
        except OSError:
            peername = None
        assert transport.get_extra_info("peername") == peername
        if options.get("family") != socket.AF_UNIX:
            with bound_socket() as peer:
                transport.sendto(b"x", None if peername else peer.getsockname())
        assert transport.get_extra_info("sockname") == sock.getsockname()
        return sock.getsockname()
    finally:
        transport.close()


@pytest.mark.parametrize("bound", [False, True])
@pytest.mark.parametrize("connected", [False, True])
async def test_the_addresses_are_those_of_the_socket(bound: bool, connected: bool) -> None:
    with bound_socket() as peer:
        name = await check(
            family=socket.AF_INET,
            local_addr=LOCAL if bound else None,
            remote_addr=peer.getsockname() if connected else None,
        )
    if bound or connected:
        assert name[0] == "127.0.0.1"
    assert name[1] != 0


async def test_the_addresses_of_unix_sockets(tmp_path: Path) -> None:
    path = str(tmp_path / "peer")
    with bound_socket(path):
        assert await check(family=socket.AF_UNIX, remote_addr=path) == ""
        ours = str(tmp_path / "ours")
        name = await check(family=socket.AF_UNIX, local_addr=ours, remote_addr=path)
        assert name == ours


async def test_the_addresses_of_a_given_socket() -> None:
    with bound_socket() as peer:
        sock = bound_socket()
        sock.connect(peer.getsockname())
        name = sock.getsockname()
        assert await check(sock=sock) == name


async def test_runtime_endpoints_report_the_same() -> None:
    with bound_socket() as peer:
        async with await runtime.open_datagram(remote_addr=peer.getsockname()) as endpoint:
            sock = endpoint.get_extra_info("socket")
            assert endpoint.get_extra_info("sockname") == sock.getsockname()
            assert endpoint.get_extra_info("peername") == peer.getsockname()
