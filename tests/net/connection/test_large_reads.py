"""Large reads: their bytes are received straight into the result."""

from __future__ import annotations

import contextlib
import random
import socket
import threading
from collections.abc import AsyncIterator, Callable, Coroutine

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.tls_tools import streams as tls_streams
from tests.net.tools import stream_pair
from tests.support.certificates import Certificates

LARGE = 300_000
DATA = random.Random(1).randbytes(3 * LARGE)
HUGE = 17 * 1024 * 1024
Pair = tuple[
    runtime.StreamReader, Callable[[bytes], Coroutine[None, None, None]], Callable[[], None]
]
"""A reader, a function that sends to it, and a function that ends its input."""


async def send_from_thread(peer: socket.socket, data: bytes) -> None:
    await runtime.to_thread(peer.sendall, data)


@contextlib.asynccontextmanager
async def pair_of(kind: str, certificates: Certificates) -> AsyncIterator[Pair]:
    if kind == "plain":
        async with stream_pair() as (reader, _, peer):
            yield (
                reader,
                lambda data: send_from_thread(peer, data),
                lambda: peer.shutdown(socket.SHUT_WR),
            )
    else:
        async with tls_streams(*contexts(certificates)) as ((reader, _), (_, writer)):

            async def send(data: bytes) -> None:
                writer.write(data)
                await writer.drain()

            yield reader, send, writer.close


@pytest.fixture(params=["plain", "TLS"])
def pair(
    request: pytest.FixtureRequest, certificates: Certificates
) -> contextlib.AbstractAsyncContextManager[Pair]:
    return pair_of(request.param, certificates)


async def test_several_messages(
    pair: contextlib.AbstractAsyncContextManager[Pair],
) -> None:
    async with pair as (reader, send, _):
        sizes = [LARGE, 1, 131_072, 200_000, 131_071]
        sending = runtime.create_task(send(DATA))
        position = 0
        for size in sizes:
            assert await reader.readexactly(size) == DATA[position : position + size]
            position += size
        rest = len(DATA) - position
        assert await reader.readexactly(rest) == DATA[position:]
        await sending


async def test_a_read_that_is_too_large_for_a_receive_target(
    pair: contextlib.AbstractAsyncContextManager[Pair],
) -> None:
    async with pair as (reader, send, _):
        data = bytes(1000) + DATA * (HUGE // len(DATA) + 1)
        sending = runtime.create_task(send(data))
        assert await reader.readexactly(HUGE) == data[:HUGE]
        assert await reader.readexactly(len(data) - HUGE) == data[HUGE:]
        await sending


async def test_the_end_comes_during_a_large_read(
    pair: contextlib.AbstractAsyncContextManager[Pair],
) -> None:
    async with pair as (reader, send, end):
        reading = runtime.create_task(reader.readexactly(LARGE))
        await send(DATA[: LARGE - 1])
        end()
        with pytest.raises(runtime.IncompleteReadError) as caught:
            await reading
        assert caught.value.partial == DATA[: LARGE - 1]
        assert caught.value.expected == LARGE
        assert await reader.read() == b""
        assert reader.at_eof()


@pytest.mark.parametrize("then", ["read", "readline", "readexactly", "read to the end"])
async def test_a_cancelled_large_read_loses_nothing(
    pair: contextlib.AbstractAsyncContextManager[Pair], then: str
) -> None:
    data = DATA[:200_000].replace(b"\n", b" ") + b"\n" + DATA

    async with pair as (reader, send, end):
        reading = runtime.create_task(reader.readexactly(LARGE))
        await send(data[:200_000])
        for _ in range(10):  # A part is received; its size does not matter.
            await runtime.sleep(0)
        reading.cancel()
        if then == "read":
            # Read at once, before the cancelled task has run.
            received = await reader.read(10)
            assert received == data[:10][: len(received)]
        elif then == "readline":
            with pytest.raises(ValueError, match="limit"):
                await reader.readline()
            received = b""
        elif then == "readexactly":
            received = await reader.readexactly(150_000)
            assert received == data[:150_000]
        else:
            received = b""
        with pytest.raises(runtime.CancelledError):
            await reading
        if then == "readline":
            return
        sending = runtime.create_task(send(data[200_000:]))
        wanted = len(data) - len(received)
        if then == "read to the end":
            rest = runtime.create_task(reader.read())
            await sending
            end()
            assert await rest == data
        else:
            assert await reader.readexactly(wanted) == data[len(received) :]
            await sending


async def test_a_second_reader_is_refused(
    pair: contextlib.AbstractAsyncContextManager[Pair],
) -> None:
    async with pair as (reader, send, _):
        reading = runtime.create_task(reader.readexactly(LARGE))
        await runtime.sleep(0)
        await send(DATA[:100_000])
        with pytest.raises(RuntimeError, match="another task waits"):
            await reader.read(1)
        await send(DATA[100_000:LARGE])
        assert await reading == DATA[:LARGE]


async def test_returned_bytes_never_change(
    pair: contextlib.AbstractAsyncContextManager[Pair],
) -> None:
    async with pair as (reader, send, _):
        sending = runtime.create_task(send(DATA))
        messages = [await reader.readexactly(LARGE) for _ in range(3)]
        await sending
        assert b"".join(messages) == DATA
        assert len({hash(message) for message in messages}) == 3


async def test_a_waiting_large_read_does_not_pause_receiving() -> None:
    # The limit applies only to bytes that no reader has asked for.

    async with stream_pair(limit=1000) as (reader, _, peer):
        sender = threading.Thread(target=peer.sendall, args=(DATA,))
        sender.start()
        for number in range(3):
            message = await reader.readexactly(LARGE)
            assert message == DATA[number * LARGE :][:LARGE]
        sender.join()
