"""``writer.transport`` and ``reader.feed_eof``, for code written for asyncio's streams."""

from __future__ import annotations

import asyncio
import gc
import weakref
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.tools import echo, receive_all, received_by, serving, stream_pair, until
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates


async def test_it_is_an_asyncio_transport_and_always_the_same_object() -> None:
    async with stream_pair() as (_, writer, _peer):
        assert not hasattr(writer, "_transport")  # It is made at the first access.
        transport = writer.transport
        assert isinstance(transport, asyncio.Transport)
        assert writer.transport is transport
        assert weakref.ref(transport)() is transport
        assert repr(transport).startswith("<StreamTransport <Connection open fd=")


async def test_its_writes_are_those_of_the_writer() -> None:
    async with stream_pair() as (_, writer, peer):
        transport = writer.transport
        transport.write(b"one ")
        writer.write(b"two ")
        transport.writelines([bytearray(b"three "), memoryview(b"four")])
        transport.writelines([])
        assert transport.can_write_eof()
        transport.write_eof()
        with pytest.raises(RuntimeError, match="write_eof"):
            writer.write(b"too late")
        assert await runtime.to_thread(receive_all, peer) == b"one two three four"


async def test_its_water_marks_are_the_writer_s() -> None:
    async with stream_pair() as (_, writer, peer):
        transport = writer.transport
        assert transport.get_write_buffer_limits() == (16384, 65536)
        transport.set_write_buffer_limits(high=1000, low=10)
        assert transport.get_write_buffer_limits() == (10, 1000)
        with pytest.raises(ValueError, match="high"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.write(b"x" * 2_000_000)
        assert transport.get_write_buffer_size() > 1000
        draining = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        assert not draining.done()
        received = 0
        while received < 2_000_000:
            received += len(peer.recv(1 << 20))
            await runtime.sleep(0)
        await draining
        assert transport.get_write_buffer_size() == 0


async def test_extra_info_is_the_writer_s() -> None:
    async with serving() as address:
        _, writer = await runtime.open_connection(*address)
        transport = writer.transport
        for name in ("socket", "sockname", "peername"):
            assert transport.get_extra_info(name) is writer.get_extra_info(name)
        assert transport.get_extra_info("peername") == address
        assert transport.get_extra_info("cipher", "none") == "none"
        writer.close()
        await writer.wait_closed()
        assert transport.get_extra_info("peername") == address


async def test_reading_is_paused_and_goes_on() -> None:
    async with stream_pair() as (reader, writer, peer):
        transport = writer.transport
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendall(b"hello")
        reading = runtime.create_task(reader.read(100))
        await all_tasks_blocked()
        assert not reading.done()
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await reading == b"hello"


async def test_a_pause_by_the_user_outlasts_a_full_buffer() -> None:
    async with stream_pair(limit=1000) as (reader, writer, peer):
        transport = writer.transport
        peer.sendall(b"x" * 3000)
        await until(lambda: not transport.is_reading())
        transport.pause_reading()
        assert await reader.readexactly(3000) == b"x" * 3000
        peer.sendall(b"more")
        reading = runtime.create_task(reader.read(100))
        await all_tasks_blocked()
        assert not reading.done()
        transport.resume_reading()
        assert await reading == b"more"


async def test_resume_reading_does_not_override_a_full_buffer() -> None:
    async with stream_pair(limit=1000) as (reader, writer, peer):
        transport = writer.transport
        peer.sendall(b"x" * 3000)
        await until(lambda: not transport.is_reading())
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        peer.sendall(b"more")
        await all_tasks_blocked()
        assert reader._adapter.unread.size == 3000
        assert await reader.readexactly(3004) == b"x" * 3000 + b"more"


@pytest.mark.parametrize("ending", ["close", "abort"])
async def test_it_ends_the_connection(ending: str) -> None:
    async with stream_pair() as (reader, writer, peer):
        transport = writer.transport
        getattr(transport, ending)()
        assert transport.is_closing()
        assert writer.is_closing()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        await writer.wait_closed()
        assert await reader.read() == b""
        assert peer.recv(1) == b""


async def test_a_reference_to_the_transport_keeps_the_connection() -> None:
    async with serving() as address:
        reader, writer = await runtime.open_connection(*address)
        transport = writer.transport
        gone = weakref.ref(writer)
        del reader, writer
        gc.collect()
        assert gone() is None
        assert not transport.is_closing()
        with pytest.warns(ResourceWarning, match="unclosed stream"):
            del transport


async def test_there_is_no_protocol() -> None:
    async with stream_pair() as (_, writer, _peer):
        with pytest.raises(NotImplementedError, match="create_connection"):
            writer.transport.set_protocol(asyncio.Protocol())
        with pytest.raises(NotImplementedError, match="create_connection"):
            writer.transport.get_protocol()


async def test_the_loop_sends_files_through_it(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"0123456789" * 100_000)

    loop = runtime.get_running_loop()
    async with stream_pair() as (_, writer, peer):
        with path.open("rb") as file:
            writer.write(b"before ")
            receiving = runtime.create_task(runtime.to_thread(receive_all, peer))
            assert await loop.sendfile(writer.transport, file, 5) == 999_995
            writer.close()
            assert await receiving == b"before 56789" + b"0123456789" * 99_999
            with pytest.raises(RuntimeError, match="closing"):
                await loop.sendfile(writer.transport, file)


async def test_tls_is_begun_by_the_writer(certificates: Certificates) -> None:
    server_side, client_side = contexts(certificates)

    async def upgrading(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.readline() == b"STARTTLS\n"
        await writer.start_tls(server_side)
        await echo(reader, writer)

    loop: Any = runtime.get_running_loop()
    async with serving(upgrading) as address:
        reader, writer = await runtime.open_connection(*address)
        transport = writer.transport
        with pytest.raises(TypeError, match="the writer's start_tls"):
            await loop.start_tls(transport, asyncio.Protocol(), client_side)
        transport.write(b"STARTTLS\n")
        transport.pause_reading()
        await writer.start_tls(client_side, server_hostname=NAME)
        assert writer.transport is transport
        assert transport.is_reading()
        assert transport.get_extra_info("cipher") is not None
        assert not transport.can_write_eof()
        with pytest.raises(NotImplementedError):
            transport.write_eof()
        transport.write(b"secret")
        assert await reader.readexactly(6) == b"secret"
        transport.pause_reading()
        writer.write(b"more")
        reading = runtime.create_task(reader.read(100))
        await runtime.sleep(0)
        transport.resume_reading()
        assert await reading == b"more"
        writer.close()
        await writer.wait_closed()


async def test_feed_eof() -> None:
    async with stream_pair() as (reader, writer, peer):
        peer.sendall(b"here")
        await until(lambda: reader._adapter.unread.size)
        waiting = runtime.create_task(reader.readexactly(100))
        await runtime.sleep(0)
        reader.feed_eof()
        reader.feed_eof()
        with pytest.raises(runtime.IncompleteReadError) as caught:
            await waiting
        assert caught.value.partial == b"here"
        assert reader.at_eof()
        peer.sendall(b"not received any more")
        assert await reader.read() == b""
        writer.write(b"writing goes on")
        assert peer.recv(100) == b"writing goes on"


async def test_drain_sends_the_lines_of_the_transport() -> None:
    async with stream_pair() as (_, writer, peer):
        peer.setblocking(False)
        writer.write(b"0;")
        writer.write(b"1;")
        await writer.drain()
        await runtime.sleep(0)
        # From the second turn on, the writes of a turn are joined.
        for number in (2, 3):
            writer.transport.writelines([b"%d" % number, b";"])
        await writer.drain()
        # No other task has run, and the turn has not ended.
        assert received_by(peer) == b"0;1;2;3;"
