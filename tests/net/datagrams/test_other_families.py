"""IPv4 addresses given to an IPv6 socket, and the reverse."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.net.datagram_tools import Recorder, bound_socket
from tests.net.transport_tools import Run

pytestmark = pytest.mark.skipif(not socket.has_ipv6, reason="Needs IPv6.")


async def sender_of_a_datagram(host: str, family: int) -> Any:
    """Return the tuple that was received as a sender's address."""
    transport: Any
    transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
        Recorder, (host, 0)
    )
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"", transport.get_extra_info("sockname"))
        await protocol.until_received(1)
    transport.close()
    await protocol.until_lost()
    return protocol.senders[0]


def test_an_ipv4_address_is_refused_by_an_ipv6_socket(run: Run) -> None:
    """Both a tuple that was received and an equal one are refused."""

    async def main() -> None:
        with bound_socket() as receiver:
            receiver.setblocking(False)
            known = await sender_of_a_datagram("127.0.0.1", socket.AF_INET)
            transport: Any
            transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
                Recorder, family=socket.AF_INET6
            )
            for address in (known, (*known,)):
                transport.sendto(b"data", address)
            assert [type(error) for error in protocol.errors] == [socket.gaierror] * 2
            transport.close()
            await protocol.until_lost()

    run(main())


def test_an_ipv6_address_is_refused_by_an_ipv4_socket(run: Run) -> None:
    async def main() -> None:
        known = await sender_of_a_datagram("::1", socket.AF_INET6)
        transport: Any
        transport, protocol = await asyncio.get_running_loop().create_datagram_endpoint(
            Recorder, family=socket.AF_INET
        )
        for address in (known, (*known,)):
            try:
                transport.sendto(b"data", address)
            except TypeError as error:
                protocol.errors.append(error)
        transport.close()
        await protocol.until_lost()
        # asyncio closes the endpoint at the first error.
        told = [type(error) for error in [*protocol.errors, *protocol.lost] if error is not None]
        assert set(told) == {TypeError}

    run(main())
