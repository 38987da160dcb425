"""Arguments of wrong types: refused at the call, before a name is looked up or a socket is used."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net.connection.test_tls_start_tls import plain_protocols
from tests.net.tls_tools import contexts
from tests.support.certificates import NAME, Certificates

HOST = "runtime.invalid"
"""A name without an address: a lookup of it raises OSError."""

OPENERS: list[Callable[..., Awaitable[object]]] = [
    lambda **options: runtime.open_connection(HOST, 80, **options),
    lambda **options: asyncio.get_running_loop().create_connection(
        asyncio.Protocol, HOST, 80, **options
    ),
]
WRONG: list[tuple[str, Any, str]] = [
    ("happy_eyeballs_delay", "1", "happy_eyeballs_delay expected a number of seconds, got '1'"),
    ("interleave", "1", "interleave must be a whole number of addresses, got '1'"),
    ("interleave", 1.5, "interleave must be a whole number of addresses, got 1.5"),
    ("local_addr", "127.0.0.1", "local_addr must be a pair of host and port, got '127.0.0.1'"),
    ("local_addr", 80, "local_addr must be a pair of host and port, got 80"),
    ("local_addr", ("127.0.0.1",), "local_addr must be a pair of host and port, got"),
]


@pytest.mark.parametrize("opener", OPENERS, ids=["streams", "protocol"])
@pytest.mark.parametrize(("name", "value", "text"), WRONG)
async def test_an_option_of_a_connection(opener: Any, name: str, value: Any, text: str) -> None:
    with pytest.raises(TypeError) as caught:
        await opener(**{name: value})
    assert str(caught.value).startswith(text)


@pytest.mark.parametrize("opener", OPENERS, ids=["streams", "protocol"])
async def test_the_name_of_a_server(opener: Any, certificates: Certificates) -> None:
    with pytest.raises(TypeError, match="server_hostname must be a str or None, got 5"):
        await opener(ssl=contexts(certificates)[1], server_hostname=5)


async def test_a_local_address_may_be_longer_or_a_list() -> None:
    """As in asyncio: the result of ``getsockname()`` of an IPv6 socket has four elements."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        for local_addr in (("127.0.0.1", 0, 0, 0), ["127.0.0.1", 0]):
            options: Any = {"local_addr": local_addr}
            _, writer = await runtime.open_connection(*server.getsockname(), **options)
            assert writer.get_extra_info("sockname")[0] == "127.0.0.1"
            writer.abort()


@pytest.mark.parametrize("port", [1.5, [80], ("http",)])
async def test_a_port(port: Any) -> None:
    for call in (
        runtime.open_connection("127.0.0.1", port),
        runtime.open_connection(HOST, port),
        runtime.start_server(lambda *_: None, "127.0.0.1", port),
        runtime.open_datagram(("127.0.0.1", port)),
    ):
        with pytest.raises(TypeError, match="port must be an int, str, bytes or None, got"):
            await call


async def test_a_factory_of_protocols_before_a_socket_is_used() -> None:
    loop: Any = asyncio.get_running_loop()
    one, two = socket.socketpair()
    with one, two:
        for call in (
            loop.create_connection(None, HOST, 80),
            loop.create_connection(None, sock=one),
            loop.create_unix_connection(None, "/nonexistent"),
            loop.create_unix_connection(None, sock=one),
            loop.connect_accepted_socket(None, one),
            loop.create_datagram_endpoint(None, (HOST, 80)),
        ):
            with pytest.raises(TypeError, match="protocol_factory must be callable, got None"):
                await call
        assert one.send(b"still open") == 10


async def test_the_protocol_of_start_tls(certificates: Certificates) -> None:
    loop: Any = asyncio.get_running_loop()
    async with plain_protocols() as (client, server):
        for no_protocol in (None, type, "protocol"):
            with pytest.raises(TypeError, match=r"start_tls\(\) expected a protocol, got"):
                await loop.start_tls(
                    client.transport,
                    no_protocol,
                    contexts(certificates)[1],
                    server_hostname=NAME,
                )
        client.transport.write(b"still plain")
        async with runtime.timeout(30):
            while server.received != b"still plain":
                await runtime.sleep(0)
