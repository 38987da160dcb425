"""Streams on a real socket."""

from __future__ import annotations

import asyncio
import gc
import socket
import threading
import warnings
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from tests.net.tools import connected, echo, receive_all, reset, serving, stream_pair, until


async def test_read_returns_the_received_bytes() -> None:
    async with stream_pair() as (reader, _, peer):
        peer.sendall(b"hello")
        assert await reader.read(3) == b"hel"
        assert await reader.read(100) == b"lo"
        assert await reader.read(0) == b""
        peer.sendall(b"tail")
        peer.close()
        assert await reader.read() == b"tail"
        assert await reader.read() == b""
        assert await reader.read(10) == b""
        assert reader.at_eof()


async def test_readline_and_iteration() -> None:
    async with stream_pair() as (reader, _, peer):
        peer.sendall(b"one\ntwo\nthree\nlast")
        peer.shutdown(socket.SHUT_WR)
        assert await reader.readline() == b"one\n"
        assert [line async for line in reader] == [b"two\n", b"three\n", b"last"]
        assert await reader.readline() == b""


async def test_readexactly() -> None:
    async with stream_pair() as (reader, _, peer):
        assert await reader.readexactly(0) == b""
        with pytest.raises(ValueError, match="less than zero"):
            await reader.readexactly(-1)
        peer.sendall(b"abcdef")
        assert await reader.readexactly(4) == b"abcd"
        peer.close()
        with pytest.raises(runtime.IncompleteReadError) as caught:
            await reader.readexactly(4)
        assert (caught.value.partial, caught.value.expected) == (b"ef", 4)


async def test_readexactly_of_far_more_than_the_limit() -> None:
    payload = bytes(range(256)) * 8192

    async with stream_pair(limit=1024) as (reader, _, peer):
        sender = threading.Thread(target=peer.sendall, args=(payload,))
        sender.start()
        assert await reader.readexactly(len(payload)) == payload
        await runtime.to_thread(sender.join)


async def test_readuntil() -> None:
    async with stream_pair() as (reader, _, peer):
        peer.sendall(b"key: value\r\n\r\nbody")
        assert await reader.readuntil(b"\r\n\r\n") == b"key: value\r\n\r\n"
        peer.sendall(b"|rest;end|")
        assert await reader.readuntil((b";", b"|")) == b"body|"
        assert await reader.readuntil((b"|", b";")) == b"rest;"
        for bad in (b"", (), (b"x", b"")):
            with pytest.raises(ValueError, match="[Ss]eparator"):
                await reader.readuntil(bad)
        peer.close()
        with pytest.raises(runtime.IncompleteReadError) as caught:
            await reader.readuntil(b"\n")
        assert caught.value.partial == b"end|"


async def test_separator_found_past_the_limit_leaves_the_data() -> None:
    async with stream_pair(limit=10) as (reader, _, peer):
        peer.sendall(b"x" * 20 + b"\nafter\n")
        with pytest.raises(runtime.LimitOverrunError, match="found") as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed == 20
        assert await reader.readexactly(21) == b"x" * 20 + b"\n"
        assert await reader.readline() == b"after\n"


async def test_separator_not_found_within_the_limit() -> None:
    async with stream_pair(limit=10) as (reader, _, peer):
        peer.sendall(b"x" * 20)
        with pytest.raises(runtime.LimitOverrunError, match="not found"):
            await reader.readuntil(b"\n")
        peer.sendall(b"y\n")
        assert await reader.readexactly(22) == b"x" * 20 + b"y\n"


async def test_a_line_over_the_limit_is_removed() -> None:
    async with stream_pair(limit=10) as (reader, _, peer):
        peer.sendall(b"x" * 20 + b"\nafter\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
        assert await reader.readline() == b"after\n"


async def test_a_second_reader_is_refused() -> None:
    async with stream_pair() as (reader, _, peer):
        first = runtime.create_task(reader.read(1))
        await runtime.sleep(0)
        with pytest.raises(RuntimeError, match="another task waits"):
            await reader.readline()
        peer.sendall(b"a")
        assert await first == b"a"


async def test_a_cancelled_read_loses_nothing() -> None:
    async with stream_pair() as (reader, _, peer):
        reads: list[Callable[[], Coroutine[Any, Any, bytes]]] = [
            lambda: reader.readexactly(100),
            lambda: reader.readuntil(b"--"),
            reader.readline,
            reader.read,
        ]
        for read in reads:
            task = runtime.create_task(read())
            await runtime.sleep(0)
            peer.sendall(b"ab")
            await until(lambda: reader._adapter.unread.size)
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task
            assert await reader.readexactly(2) == b"ab"


async def test_write_sends_at_once() -> None:
    async with stream_pair() as (_, writer, peer):
        writer.write(b"now")
        assert peer.recv(10) == b"now"
        writer.writelines([b"a", bytearray(b"b"), memoryview(b"c")])
        assert peer.recv(10) == b"abc"
        writer.write(b"")
        writer.write(memoryview(b"abcd")[::1].cast("H"))
        assert peer.recv(10) == b"abcd"


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview])
async def test_a_large_write_arrives_whole_and_drain_waits(make: Any) -> None:
    payload = bytes(range(256)) * 20_000

    async with stream_pair() as (_, writer, peer):
        data = make(payload)
        writer.write(data)
        if make is bytearray:
            data[:] = bytes(len(data))  # The caller may change its data after write().
        writer.write(b"end")
        drain = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        assert not drain.done()
        received: list[bytes] = []
        reading = threading.Thread(target=lambda: received.append(receive_all(peer)))
        reading.start()
        await drain
        writer.close()
        await writer.wait_closed()
        await runtime.to_thread(reading.join)
        assert received == [payload + b"end"]


async def test_writing_an_object_that_is_not_bytes_raises_at_once() -> None:
    async with stream_pair() as (_, writer, _peer):
        wrong: list[Any] = ["text", 5, None]
        for backlog in (b"", b"x" * 5_000_000):
            writer.write(backlog)
            unsent = writer._adapter.lower.unsent_size()
            for data in wrong:
                with pytest.raises(TypeError, match="must be a bytes-like object"):
                    writer.write(data)
            assert writer._adapter.lower.unsent_size() == unsent
        writer.abort()
        with pytest.raises(TypeError, match="must be a bytes-like object"):
            writer.write(wrong[0])


@pytest.mark.parametrize("ending", ["close", "abort", "reset"])
async def test_addresses_are_known_after_the_end(ending: str) -> None:
    made: list[tuple[runtime.StreamReader, runtime.StreamWriter]] = []
    async with serving(lambda *streams: made.append(streams)) as address:
        with connected(address) as peer:
            names = peer.getpeername(), peer.getsockname()
            await until(lambda: made)
            reader, writer = made[0]
            if ending == "reset":
                reset(peer)
                with pytest.raises(ConnectionResetError):
                    await reader.read()
            else:
                getattr(writer, ending)()
                await writer.wait_closed()
            assert writer.get_extra_info("sockname") == names[0]
            assert writer.get_extra_info("peername") == names[1]


async def test_close_sends_everything_first() -> None:
    payload = b"q" * 3_000_000

    async with stream_pair() as (reader, writer, peer):
        writer.write(payload)
        writer.close()
        assert writer.is_closing()
        assert await reader.read() == b""
        received = runtime.create_task(runtime.to_thread(receive_all, peer))
        await writer.wait_closed()
        assert await received == payload
        writer.close()
        writer.abort()


async def test_half_close() -> None:
    async with serving() as address:
        reader, writer = await runtime.open_connection(*address)
        payload = b"z" * 2_000_000
        writer.write(payload)
        assert writer.can_write_eof()
        writer.write_eof()
        writer.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            writer.write(b"more")
        assert await reader.read() == payload
        writer.close()
        await writer.wait_closed()


async def test_a_reader_is_paused_when_too_much_is_unread() -> None:
    async with stream_pair(limit=1000) as (reader, _, peer):
        peer.setblocking(False)
        sent = 0
        loop = runtime.get_running_loop()
        quiet = 0
        while quiet < 20:
            try:
                sent += peer.send(b"x" * 65536)
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await runtime.sleep(0)
        assert reader._adapter.unread.size <= 2000 + 65536
        peer.setblocking(True)
        peer.close()
        assert len(await reader.read()) == sent
        assert loop is runtime.get_running_loop()


async def test_a_cancelled_read_to_the_end_leaves_the_limit_in_force() -> None:
    async with stream_pair(limit=1000) as (reader, _, peer):
        reads: list[Callable[[], Coroutine[Any, Any, bytes]]] = [
            reader.read,
            lambda: reader.readexactly(10**9),
        ]
        for read in reads:
            task = runtime.create_task(read())
            await runtime.sleep(0)
            task.cancel()
            with pytest.raises(runtime.CancelledError):
                await task
        peer.setblocking(False)
        quiet = 0
        while quiet < 20:
            try:
                peer.send(b"x" * 65536)
                quiet = 0
            except BlockingIOError:
                quiet += 1
            await runtime.sleep(0)
        assert reader._adapter.unread.size <= 2000 + 65536


async def test_a_reset_is_raised_after_the_bytes_before_it() -> None:
    keep: list[tuple[runtime.StreamReader, runtime.StreamWriter]] = []
    async with serving(lambda reader, writer: keep.append((reader, writer))) as address:
        sock = socket.create_connection(address)
        sock.sendall(b"before")
        await until(lambda: keep and keep[0][0]._adapter.unread.size)
        reader, writer = keep[0]
        reset(sock)
        await until(lambda: reader.exception() is not None)
        assert await reader.read(100) == b"before"
        for read in (reader.read, reader.readline, lambda: reader.readexactly(1)):
            with pytest.raises(ConnectionResetError):
                await read()
        with pytest.raises(ConnectionResetError):
            await writer.drain()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()


async def test_a_waiting_drain_raises_when_the_connection_is_lost() -> None:
    async with stream_pair() as (_, writer, peer):
        writer.write(b"x" * 5_000_000)
        drains = [runtime.create_task(writer.drain()) for _ in range(3)]
        await runtime.sleep(0)
        peer.close()
        for drain in drains:
            with pytest.raises(ConnectionError):
                await drain
        with pytest.raises(ConnectionError):
            await writer.wait_closed()


async def test_abort_drops_unsent_data() -> None:
    async with stream_pair() as (reader, writer, _peer):
        writer.write(b"x" * 5_000_000)
        drain = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        writer.abort()
        with pytest.raises(ConnectionError):
            await drain
        assert await reader.read() == b""
        await writer.wait_closed()


async def test_drain_after_close_raises() -> None:
    async with stream_pair() as (_, writer, _peer):
        await writer.drain()
        writer.close()
        with pytest.raises(ConnectionResetError, match="lost"):
            await writer.drain()


async def test_extra_info_is_the_sockets_own() -> None:
    async with serving() as address:
        _, writer = await runtime.open_connection(*address)
        sock = writer.get_extra_info("socket")
        assert writer.get_extra_info("peername") == sock.getpeername() == address
        assert writer.get_extra_info("sockname") == sock.getsockname()
        assert writer.get_extra_info("cipher", "none") == "none"
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        writer.close()
        await writer.wait_closed()
        assert writer.get_extra_info("socket").fileno() == -1


async def test_write_buffer_limits() -> None:
    async with stream_pair() as (_, writer, peer):
        writer.set_write_buffer_limits(high=0)
        writer.write(b"x" * 5_000_000)
        drain = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        assert not drain.done()
        receiving = runtime.create_task(runtime.to_thread(_receive, peer, 5_000_000))
        await drain
        assert writer._adapter.lower.unsent_size() == 0
        await receiving
        writer.set_write_buffer_limits(low=10)
        assert writer._adapter.lower.water_marks() == (10, 40)
        writer.set_write_buffer_limits()
        with pytest.raises(ValueError, match="high"):
            writer.set_write_buffer_limits(high=1, low=2)


def _receive(peer: socket.socket, size: int) -> None:
    while size:
        size -= len(peer.recv(size))


async def test_streams_that_are_dropped_warn_and_close() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.settimeout(30)
        streams = await runtime.open_connection(sock=ours)
        with pytest.warns(ResourceWarning, match="unclosed stream"):
            del streams
            gc.collect()
        assert theirs.recv(1) == b""


def test_closed_streams_are_freed_without_the_garbage_collector() -> None:
    async def main() -> None:
        async with stream_pair() as (reader, writer, peer):
            waiting = runtime.create_task(reader.read())
            await runtime.sleep(0)
            peer.shutdown(socket.SHUT_WR)
            await waiting
            writer.write(b"x")

    gc.collect()
    gc.disable()
    try:
        runtime.run(main())
        left = [obj for obj in gc.get_objects() if isinstance(obj, runtime.StreamReader)]
        assert left == []
    finally:
        gc.enable()


async def test_open_connection_checks_its_arguments() -> None:
    with pytest.raises(ValueError, match="Neither host/port nor sock"):
        await runtime.open_connection()
    with pytest.raises(ValueError, match="limit"):
        await runtime.open_connection("127.0.0.1", 1, limit=0)
    with socket.socket() as sock, pytest.raises(ValueError, match="at the same time"):
        await runtime.open_connection("127.0.0.1", 1, sock=sock)
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    with datagrams, pytest.raises(ValueError, match="Stream Socket"):
        await runtime.open_connection(sock=datagrams)


async def test_the_repr_shows_the_state() -> None:
    async with stream_pair(limit=7) as (reader, writer, peer):
        peer.sendall(b"abc")
        await until(lambda: reader._adapter.unread.size == 3)
        peer.close()
        await until(lambda: reader._adapter.eof)
        assert "3 bytes eof limit=7" in repr(reader)
        assert "0 bytes unsent" in repr(writer)
        assert "open" in repr(writer)
        await reader.read()
        writer.close()
        assert "closed" in repr(reader)


def test_asyncio_streams_talk_to_ours() -> None:
    async def main() -> None:
        async with serving(echo) as address:

            def client() -> bytes:
                async def talk() -> bytes:
                    reader, writer = await asyncio.open_connection(*address)
                    writer.write(b"ping" * 100_000)
                    writer.write_eof()
                    data = await reader.read()
                    writer.close()
                    await writer.wait_closed()
                    return data

                return asyncio.run(talk())

            assert await runtime.to_thread(client) == b"ping" * 100_000

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runtime.run(main())
