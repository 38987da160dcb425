"""Helpers of the TLS tests: recording protocols, and connections of protocols and of streams."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any, cast

import pytest

import runtime
from tests.support.certificates import NAME, Certificates, client_context, server_context

Run = Callable[[Coroutine[Any, Any, None]], None]
Streams = tuple[runtime.StreamReader, runtime.StreamWriter]

PATIENCE = 30.0
"""Seconds after which a test fails; far more than any test takes."""

on_both_loops = pytest.mark.parametrize(
    "run", [asyncio.run, runtime.run], ids=["asyncio", "runtime"]
)
"""Runners for the tests that also run on asyncio's loop, which is the reference."""

both_versions = pytest.mark.parametrize("version", ["TLSv1_2", "TLSv1_3"])


def contexts(
    certificates: Certificates, version: str | None = None
) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return a server's context, and a client's context that trusts it."""
    bound = ssl.TLSVersion[version] if version else None
    return (
        server_context(certificates, minimum=bound, maximum=bound),
        client_context(certificates),
    )


async def until(condition: Callable[[], object]) -> None:
    """Wait until ``condition`` holds, on either loop."""
    async with asyncio.timeout(PATIENCE):
        while not condition():
            await asyncio.sleep(0.001)


class Recorder(asyncio.Protocol):
    """Protocol that records its calls."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.events: list[str] = []
        self.received = bytearray()
        self.lost: asyncio.Future[BaseException | None] = loop.create_future()
        self.transport: Any = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.events.append("made")
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.received += data
        if self.events[-1] != "data":
            self.events.append("data")

    def eof_received(self) -> bool | None:
        self.events.append("eof")
        return None

    def pause_writing(self) -> None:
        self.events.append("pause")

    def resume_writing(self) -> None:
        self.events.append("resume")

    def connection_lost(self, exc: BaseException | None) -> None:
        self.events.append("lost")
        self.lost.set_result(exc)

    async def ended(self) -> BaseException | None:
        """Wait for ``connection_lost``; return its exception."""
        async with asyncio.timeout(PATIENCE):
            return await self.lost


class Echo(Recorder):
    """Protocol that sends all received data back."""

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        self.transport.write(data)


class InBuffers(Recorder, asyncio.BufferedProtocol):
    """Recording protocol that receives into a buffer of ``size`` bytes."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.buffer = bytearray(size)
        self.sizes: list[int] = []

    def get_buffer(self, sizehint: int) -> bytearray:
        return self.buffer

    def buffer_updated(self, nbytes: int) -> None:
        self.sizes.append(nbytes)
        self.data_received(bytes(self.buffer[:nbytes]))


@contextlib.asynccontextmanager
async def listening(
    factory: Callable[[], asyncio.BaseProtocol], context: ssl.SSLContext | None, **options: Any
) -> AsyncIterator[tuple[str, int]]:
    """Run a server of protocols on the running loop, and yield its address."""
    loop = asyncio.get_running_loop()
    server = await loop.create_server(factory, "127.0.0.1", 0, ssl=context, **options)
    try:
        yield server.sockets[0].getsockname()
    finally:
        server.close()


@contextlib.asynccontextmanager
async def protocols(
    certificates: Certificates,
    client: Callable[[], Recorder] = Recorder,
    server: Callable[[], Recorder] = Recorder,
    version: str | None = None,
) -> AsyncIterator[tuple[Any, Any]]:
    """Yield the protocols of a client and a server that are connected by TLS."""
    served: list[Recorder] = []

    def factory() -> Recorder:
        served.append(server())
        return served[-1]

    server_side, client_side = contexts(certificates, version)
    async with listening(factory, server_side) as address:
        loop = asyncio.get_running_loop()
        _, protocol = await loop.create_connection(
            client, *address, ssl=client_side, server_hostname=NAME
        )
        await until(lambda: served and served[0].transport)
        try:
            yield protocol, served[0]
        finally:
            for each in (protocol, served[0]):
                each.transport.abort()
                await each.ended()


@contextlib.asynccontextmanager
async def streams(
    server_side: ssl.SSLContext,
    client_side: ssl.SSLContext,
    *,
    server_options: dict[str, Any] | None = None,
    **client_options: Any,
) -> AsyncIterator[tuple[Streams, Streams]]:
    """Yield the streams of a client and a server that are connected by TLS."""
    accepted: runtime.Future[Streams] = runtime.get_running_loop().create_future()
    server = await runtime.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)),
        "127.0.0.1",
        0,
        ssl=server_side,
        **(server_options or {}),
    )
    writers = []
    try:
        options = {"server_hostname": NAME, **client_options}
        client = await runtime.open_connection(
            *server.sockets[0].getsockname(), ssl=client_side, **options
        )
        writers.append(client[1])
        peer = await runtime.wait_for(accepted, PATIENCE)
        writers.append(peer[1])
        yield client, peer
    finally:
        for writer in writers:
            writer.abort()
        server.close()
        server.abort_clients()
        await runtime.wait_for(server.wait_closed(), PATIENCE)


def tls_of(writer: runtime.StreamWriter) -> ssl.SSLObject:
    """Return the ``ssl_object`` of a stream."""
    return cast("ssl.SSLObject", writer.get_extra_info("ssl_object"))
