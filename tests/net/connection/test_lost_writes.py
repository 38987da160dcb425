"""Writes after the end of a connection: a few warnings, at growing intervals."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL
from tests.net.datagram_tools import Recorder as DatagramRecorder
from tests.net.tls_tools import protocols
from tests.net.tools import stream_pair
from tests.net.transport_tools import talking
from tests.support.certificates import Certificates

Write = Callable[[bytes], object]
Subject = Callable[[Callable[[Write], None]], Awaitable[None]]

INTERNALS = ("Core", "End ", "StreamSocket", "Layer", "Queue")


async def of_a_stream(write_on: Callable[[Write], None]) -> None:
    async with stream_pair() as (_, writer, peer):
        peer.close()
        writer.abort()
        write_on(writer.write)


async def of_a_transport(write_on: Callable[[Write], None]) -> None:
    async with talking(kind="tcp") as (transport, protocol, _):
        transport.abort()
        await protocol.until_lost()
        write_on(transport.write)


async def of_a_unix_transport(write_on: Callable[[Write], None]) -> None:
    async with talking(kind="unix") as (transport, _, _peer):
        transport.close()
        write_on(lambda data: transport.writelines([data, data]))


async def of_a_datagram_transport(write_on: Callable[[Write], None]) -> None:
    transport: Any
    transport, protocol = await runtime.get_running_loop().create_datagram_endpoint(
        DatagramRecorder, LOCAL
    )
    transport.close()
    write_on(lambda data: transport.sendto(data, LOCAL))
    await protocol.until_lost()


async def of_a_datagram_transport_that_is_gone(write_on: Callable[[Write], None]) -> None:
    transport: Any
    transport, protocol = await runtime.get_running_loop().create_datagram_endpoint(
        DatagramRecorder, LOCAL
    )
    transport.abort()
    await protocol.until_lost()
    write_on(lambda data: transport.sendto(data, LOCAL))


async def closed_pipe() -> Any:
    reading, writing = os.pipe()
    os.close(reading)
    pipe = open(writing, "wb")  # noqa: SIM115 - the transport closes it
    loop = runtime.get_running_loop()
    transport, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, pipe)
    transport.close()
    return transport


async def of_a_pipe(write_on: Callable[[Write], None]) -> None:
    write_on((await closed_pipe()).write)


async def of_a_pipe_that_is_gone(write_on: Callable[[Write], None]) -> None:
    transport = await closed_pipe()
    await runtime.sleep(0.001)
    write_on(transport.write)


async def of_a_process(write_on: Callable[[Write], None]) -> None:
    process = await runtime.create_subprocess_exec("true", stdin=asyncio.subprocess.PIPE)
    await process.wait()
    assert process.stdin is not None
    process.stdin.close()
    write_on(process.stdin.write)


SUBJECTS: list[Subject] = [
    of_a_stream,
    of_a_transport,
    of_a_unix_transport,
    of_a_datagram_transport,
    of_a_datagram_transport_that_is_gone,
    of_a_pipe,
    of_a_pipe_that_is_gone,
    of_a_process,
]


def check(records: list[logging.LogRecord], counts: list[int]) -> None:
    lines = [record.getMessage() for record in records]
    told = [int(line.rpartition("(")[2].removesuffix(" times so far)")) for line in lines]
    assert told == counts
    for line in lines:
        assert "that is closed: <" in line
        assert not any(name in line for name in INTERNALS)


@pytest.mark.parametrize("subject", SUBJECTS)
def test_two_thousand_writes(subject: Subject, caplog: pytest.LogCaptureFixture) -> None:
    def write_on(write: Write) -> None:
        for number in range(2000):
            write(b"lost")
            if number < 5:
                assert len(caplog.records) == number // 4

    with caplog.at_level(logging.WARNING, "asyncio"):
        runtime.run(subject(write_on))
    check(caplog.records, [5, 10, 20, 40, 80, 160, 320, 640, 1280])


def test_over_tls(certificates: Certificates, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        async with protocols(certificates) as (client, server):
            client.transport.close()
            for _ in range(50):
                client.transport.write(b"lost")
            client.transport.abort()
            await client.ended()
            await server.ended()

    with caplog.at_level(logging.WARNING, "asyncio"):
        runtime.run(main())
    check(caplog.records, [5, 10, 20, 40])
