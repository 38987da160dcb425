"""Other code closes the socket of a datagram transport: no datagram reaches a wrong socket."""

from __future__ import annotations

import os
import socket
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL, Recorder, bound_socket


async def endpoint(*args: Any, **options: Any) -> tuple[Any, Recorder]:
    return await runtime.get_running_loop().create_datagram_endpoint(Recorder, *args, **options)


def assert_aborted(protocol: Recorder) -> None:
    [error] = protocol.lost
    assert isinstance(error, ConnectionAbortedError)
    assert "closed while its transport was open" in str(error)


async def test_a_closed_socket_is_noticed_when_a_datagram_is_sent() -> None:
    sock = bound_socket()
    transport, protocol = await endpoint(sock=sock)
    sock.close()
    with bound_socket() as other:
        transport.sendto(b"into the void", other.getsockname())
        assert transport.is_closing()
        await protocol.until_lost()
    assert_aborted(protocol)
    assert protocol.errors == []


async def test_a_closed_socket_is_noticed_when_it_is_watched_anew() -> None:
    sock = bound_socket()
    transport, protocol = await endpoint(sock=sock)
    transport.pause_reading()
    sock.close()
    transport.resume_reading()
    await protocol.until_lost()
    assert_aborted(protocol)


async def test_a_detached_socket_is_noticed_when_a_datagram_arrives() -> None:
    sock = bound_socket()
    address = sock.getsockname()
    _, protocol = await endpoint(sock=sock)
    with socket.socket(fileno=sock.detach()) as owner, bound_socket() as peer:
        peer.sendto(b"for the new owner", address)
        await protocol.until_lost()
        owner.setblocking(True)
        assert owner.recv(100) == b"for the new owner"
    assert_aborted(protocol)


async def test_the_transport_of_a_closed_socket_can_be_closed() -> None:
    sock = bound_socket()
    transport, protocol = await endpoint(sock=sock)
    sock.close()
    transport.close()
    await protocol.until_lost()
    assert protocol.lost == [None]


@pytest.mark.parametrize("rudely", [False, True], ids=["close()", "os.close()"])
async def test_the_new_owner_of_the_descriptor_is_left_alone(rudely: bool) -> None:
    sock = bound_socket()
    number = sock.fileno()
    first, lost = await endpoint(sock=sock)
    if rudely:
        os.close(number)
    else:
        sock.close()
    heir = bound_socket()
    assert heir.fileno() == number
    second, protocol = await endpoint(sock=heir)
    await lost.until_lost()
    assert_aborted(lost)
    first.sendto(b"too late", heir.getsockname())
    first.abort()
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        peer.sendto(b"for the heir", heir.getsockname())
    await protocol.until(lambda: protocol.received)
    assert protocol.received == [b"for the heir"]
    assert lost.received == []
    second.close()
    await protocol.until_lost()
    assert protocol.lost == [None]
    sock.close()


async def test_descriptors_reused_under_load_are_not_confused() -> None:
    heard, seen = await endpoint(LOCAL)
    address = heard.get_extra_info("sockname")
    numbers = set()
    for number in range(200):
        sock = bound_socket()
        sock.connect(address)
        numbers.add(sock.fileno())
        one, gone = await endpoint(sock=sock)
        one.sendto(b"%d" % number)
        sock.close()
        with bound_socket() as innocent:
            name = innocent.getsockname()
            one.sendto(b"astray")
            await gone.until_lost()
            innocent.setblocking(False)
            with pytest.raises(BlockingIOError):
                innocent.recv(100)
            assert innocent.getsockname() == name
        await seen.until_received(number + 1)
    assert len(numbers) < 10
    assert seen.received == [b"%d" % number for number in range(200)]
    heard.close()
    await seen.until_lost()
