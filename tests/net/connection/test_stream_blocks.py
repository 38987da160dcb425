"""``async with`` a writer, a reader or the pair: the connection is closed at the end."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.tools import connected, echo, reset, serving, stream_pair
from tests.support.certificates import NAME, Certificates

BLOCKS: dict[str, Callable[[Any, Any], Any]] = {
    "writer": lambda reader, writer: writer,
    "reader": lambda reader, writer: reader,
}


@pytest.mark.parametrize("block", BLOCKS)
async def test_the_connection_is_closed_at_the_end(block: str) -> None:
    async with stream_pair() as (reader, writer, peer):
        subject = BLOCKS[block](reader, writer)
        async with subject as entered:
            assert entered is subject
            writer.write(b"x" * 5_000_000)
            receiving = runtime.create_task(runtime.to_thread(receive_all, peer))
        assert writer.is_closing()
        await writer.wait_closed()
        assert len(await receiving) == 5_000_000


def receive_all(sock: Any) -> bytes:
    received = bytearray()
    while data := sock.recv(1 << 20):
        received += data
    return bytes(received)


async def test_a_pair() -> None:
    async with serving(echo) as address:
        async with await runtime.open_connection(*address) as (reader, writer):
            writer.write(b"hello\n")
            assert await reader.readline() == b"hello\n"
        assert writer.is_closing()
        streams = await runtime.open_connection(*address)
        assert isinstance(streams, tuple)
        reader, writer = streams
        assert streams == (reader, writer)
        async with streams as entered:
            assert entered is streams


async def test_a_pair_over_tls(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)
    async with (
        serving(echo, ssl=server_side) as address,
        await runtime.open_connection(*address, ssl=client_side, server_hostname=NAME) as (
            reader,
            writer,
        ),
    ):
        writer.write(b"hello\n")
        assert await reader.readline() == b"hello\n"


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("error", [ValueError, asyncio.CancelledError])
async def test_an_exception_aborts_the_connection(block: str, error: type[BaseException]) -> None:
    """The peer reads nothing, so that waiting for the unsent data would never end."""
    async with stream_pair() as (reader, writer, _):
        with pytest.raises(error, match="mine"):
            async with BLOCKS[block](reader, writer):
                writer.write(b"x" * 5_000_000)
                raise error("mine")
        await writer.wait_closed()


async def test_a_cancelled_block() -> None:
    async with stream_pair() as (reader, writer, _):

        async def read() -> None:
            async with writer:
                await reader.read()

        task = runtime.create_task(read())
        await runtime.sleep(0)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task
        await writer.wait_closed()


async def test_the_connection_may_be_closed_inside_the_block() -> None:
    for end in ("close", "abort"):
        async with stream_pair() as (_, writer, _peer), writer:
            getattr(writer, end)()


async def test_the_failure_of_the_connection_is_raised() -> None:
    async with stream_pair() as (_, writer, peer):
        with pytest.raises(ConnectionError):
            async with writer:
                writer.write(b"x" * 5_000_000)
                peer.close()


async def test_the_exception_of_the_block_is_raised() -> None:
    async with stream_pair() as (_, writer, peer):
        with pytest.raises(ZeroDivisionError):
            async with writer:
                writer.write(b"x" * 5_000_000)
                peer.close()
                await runtime.sleep(0.001)
                raise ZeroDivisionError


async def test_the_coroutine_is_dropped_inside_the_block() -> None:
    async with stream_pair() as (_, writer, _peer):

        async def use() -> None:
            async with writer:
                await runtime.sleep(3600)

        coro = use()
        coro.send(None)
        coro.close()
        assert writer.is_closing()


async def test_in_a_handler() -> None:
    async def handle(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        async with writer:
            writer.write(await reader.readline())

    async with serving(handle) as address:
        with connected(address) as sock:
            sock.sendall(b"hello\n")
            assert await runtime.to_thread(receive_all, sock) == b"hello\n"
        with connected(address) as sock:
            reset(sock)


async def test_the_pipe_to_a_process() -> None:
    process = await runtime.create_subprocess_exec(
        "cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    async with process.stdin as stdin:
        stdin.write(b"hello")
    assert await process.stdout.read() == b"hello"
    assert await process.wait() == 0


async def test_the_error_of_a_plain_with_suggests_async_with() -> None:
    wrong: Any
    async with stream_pair() as (*both, _):
        for wrong in both:
            with pytest.raises(TypeError, match="'async with'"), wrong:
                pass
    async with serving(echo) as address, await runtime.open_connection(*address) as wrong:
        with pytest.raises(TypeError, match="'async with'"), wrong:
            pass


def test_nothing_is_left_behind() -> None:
    async def main() -> None:
        async with serving(echo) as address:
            for _ in range(3):
                async with await runtime.open_connection(*address) as (_, writer):
                    writer.write(b"hello")

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime.run(main())
