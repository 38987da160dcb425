"""A factory that does not return a protocol: an error at the call, as on asyncio's loop."""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL
from tests.net.transport_tools import Run

Opener = Callable[[Any], Coroutine[Any, Any, Any]]


async def connection(factory: Any) -> None:
    with socket.create_server(LOCAL) as server:
        await asyncio.get_running_loop().create_connection(factory, *server.getsockname())


async def accepted(factory: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await asyncio.get_running_loop().connect_accepted_socket(factory, ours)


async def unix_connection(factory: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await asyncio.get_running_loop().create_unix_connection(factory, sock=ours)


async def datagrams(factory: Any) -> None:
    await asyncio.get_running_loop().create_datagram_endpoint(factory, LOCAL)


async def read_pipe(factory: Any) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb") as pipe, open(writing, "wb"):
        await asyncio.get_running_loop().connect_read_pipe(factory, pipe)


async def write_pipe(factory: Any) -> None:
    reading, writing = os.pipe()
    with open(reading, "rb"), open(writing, "wb") as pipe:
        await asyncio.get_running_loop().connect_write_pipe(factory, pipe)


async def process(factory: Any) -> None:
    await asyncio.get_running_loop().subprocess_exec(factory, "true")


OPENERS: list[Opener] = [
    connection,
    accepted,
    unix_connection,
    datagrams,
    read_pipe,
    write_pipe,
    process,
]


class NoProtocol:
    """Object with no method of a protocol except ``connection_lost``."""

    def connection_lost(self, exc: Exception | None) -> None:
        """Do nothing."""


@pytest.mark.parametrize("opener", OPENERS)
def test_the_error_names_the_class(opener: Opener) -> None:
    """The error of asyncio does too, but asyncio leaves the transport open."""
    with pytest.raises(AttributeError, match="'NoProtocol' object has no .*: is it a protocol"):
        runtime.run(opener(NoProtocol))
    with pytest.raises(AttributeError, match="'NoneType' object.*: does protocol_factory return"):
        runtime.run(opener(lambda: None))


async def server(factory: Any) -> None:
    made = await asyncio.get_running_loop().create_server(factory, *LOCAL)
    made.close()


async def unix_server(factory: Any) -> None:
    path = f"\0runtime-no-protocol-{os.getpid()}"
    made = await asyncio.get_running_loop().create_unix_server(factory, path)
    made.close()


@pytest.mark.parametrize("opener", [*OPENERS, server, unix_server])
def test_a_protocol_in_the_place_of_its_factory(opener: Opener) -> None:
    with pytest.raises(TypeError, match="protocol_factory must be callable, got <asyncio"):
        runtime.run(opener(asyncio.Protocol()))


async def test_the_factory_of_a_server_is_reported() -> None:
    """The loop of asyncio reports it in debug mode only."""
    loop = asyncio.get_running_loop()
    told: asyncio.Future[dict[str, Any]] = loop.create_future()
    loop.set_exception_handler(lambda _, context: note(told, context))
    made = await loop.create_server(lambda: None, *LOCAL)  # type: ignore[arg-type, return-value]
    with socket.create_connection(made.sockets[0].getsockname()):
        error = (await asyncio.wait_for(told, 30))["exception"]
    assert "'NoneType' object has no attribute 'connection_made'" in str(error)
    made.close()
    await asyncio.sleep(0)


def note(told: asyncio.Future[dict[str, Any]], context: dict[str, Any]) -> None:
    if not told.done():
        told.set_result(context)


class WithoutData(asyncio.BaseProtocol):
    """Protocol without ``data_received``."""


def test_a_protocol_without_data_received_is_named(run: Run) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        told: asyncio.Future[dict[str, Any]] = loop.create_future()
        loop.set_exception_handler(lambda _, context: note(told, context))
        ours, theirs = socket.socketpair()
        with theirs:
            theirs.send(b"data")
            transport, _ = await loop.connect_accepted_socket(WithoutData, ours)
            error = (await asyncio.wait_for(told, 30))["exception"]
        assert str(error) == "'WithoutData' object has no attribute 'data_received'"
        transport.close()
        await asyncio.sleep(0.01)

    run(main())
