"""TLS for asyncio protocols: the methods of the transport, and the order of the events."""

from __future__ import annotations

import array
import asyncio
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from tests.net.tls_tools import (
    Echo,
    InBuffers,
    Recorder,
    Run,
    both_versions,
    contexts,
    listening,
    on_both_loops,
    protocols,
    until,
)
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context
from tests.support.tls_peer import TlsPeer, tls_server

MEGABYTE = bytes(range(256)) * 4096


@both_versions
@on_both_loops
def test_an_echo(certificates: Certificates, run: Run, version: str) -> None:
    async def main() -> None:
        async with protocols(certificates, server=Echo, version=version) as (client, server):
            client.transport.write(bytearray(b"one "))
            client.transport.writelines([b"", b"two ", memoryview(b"three")])
            await until(lambda: len(client.received) == 13)
            assert client.received == b"one two three"
            client.transport.close()
            assert await client.ended() is None
            assert await server.ended() is None
            # asyncio calls eof_received for the peer's answer to our close_notify, too.
            assert client.events[:2] == ["made", "data"]
            assert client.events[-1] == "lost"
            assert server.events == ["made", "data", "eof", "lost"]

    run(main())


async def test_bytes_like_objects_are_sent(certificates: Certificates) -> None:
    async with protocols(certificates) as (client, server):
        gaps = memoryview(b"0.1.2.3.4.")[::2]
        client.transport.write(gaps)
        client.transport.write(array.array("H", [0x3635, 0x3837]))
        client.transport.writelines([gaps, b"5", bytearray(b"6")])
        await until(lambda: len(server.received) == 16)
        assert server.received == b"0123456780123456"
        for wrong in ("text", None, 5):
            with pytest.raises(TypeError, match="bytes-like object, such as bytes"):
                client.transport.write(wrong)
            with pytest.raises(TypeError, match="bytes-like object, such as bytes"):
                client.transport.writelines([b"never sent", wrong])


@on_both_loops
def test_the_extra_info_of_a_transport(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        async with protocols(certificates) as (client, server):
            info = client.transport.get_extra_info
            assert info("peercert")["subjectAltName"]
            assert info("cipher")[1].startswith("TLSv1.")
            assert isinstance(info("ssl_object"), ssl.SSLObject)
            assert isinstance(info("sslcontext"), ssl.SSLContext)
            assert info("peername") == server.transport.get_extra_info("sockname")
            assert info("nothing", 1) == 1
            assert client.transport.can_write_eof() is False
            with pytest.raises(NotImplementedError):
                client.transport.write_eof()
            with pytest.raises(TypeError):
                client.transport.write("text")
            assert client.transport.is_reading()
            assert client.transport.get_protocol() is client
            client.transport.set_protocol(other := Recorder())
            assert client.transport.get_protocol() is other
            server.transport.write(b"for the other")
            other.events.append("set")
            await until(lambda: other.received == b"for the other")
            client.transport.abort()
            await other.ended()
            client.connection_lost(None)

    run(main())


@on_both_loops
def test_large_data_both_ways_at_once(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        async with protocols(certificates) as (client, server):
            for each in (client, server):
                each.transport.write(MEGABYTE)
                each.transport.writelines([MEGABYTE[:100_000], MEGABYTE])
            whole = MEGABYTE + MEGABYTE[:100_000] + MEGABYTE
            await until(lambda: len(client.received) == len(server.received) == len(whole))
            assert client.received == server.received == whole

    run(main())


# -- Reading ---------------------------------------------------------------------------------------


async def test_a_pause_holds_back_decrypted_records(certificates: Certificates) -> None:
    """The loop of asyncio would deliver the records that it has decrypted."""

    class Pausing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async with protocols(certificates, client=Pausing) as (client, server):
        # Several records, which arrive together.
        server.transport.writelines([MEGABYTE[:16384], MEGABYTE[16384:50_000]])
        sizes = []
        while len(client.received) < 50_000:
            before = len(client.received)
            await until(partial(lambda size: len(client.received) > size, before))
            sizes.append(len(client.received) - before)
            await all_tasks_blocked()
            assert len(client.received) == before + sizes[-1]
            assert not client.transport.is_reading()
            client.transport.resume_reading()
        assert client.received == MEGABYTE[:50_000]
        assert len(sizes) > 1


async def test_a_pause_holds_back_the_end_too(certificates: Certificates) -> None:
    async with protocols(certificates) as (client, server):
        client.transport.pause_reading()
        client.transport.pause_reading()
        server.transport.write(b"last words")
        server.transport.close()
        for _ in range(20):
            await asyncio.sleep(0.001)
        assert client.events == ["made"]
        client.transport.resume_reading()
        assert await client.ended() is None
        assert client.events == ["made", "data", "eof", "lost"]
        assert client.received == b"last words"


async def test_nothing_is_received_after_close(certificates: Certificates) -> None:
    class Closing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.close()

    async with protocols(certificates, client=Closing) as (client, server):
        server.transport.write(MEGABYTE[:60_000])
        assert await client.ended() is None
        assert len(client.received) <= 16384
        assert client.events == ["made", "data", "lost"]
        assert await server.ended() is None


@pytest.mark.parametrize("size", [1, 1000, 20_000])
async def test_buffers(certificates: Certificates, size: int) -> None:
    """The loop of asyncio loses bytes if the buffer is small."""
    data = MEGABYTE[: 100 * size]
    async with protocols(certificates, client=lambda: InBuffers(size)) as (client, server):
        server.transport.write(data)
        await until(lambda: len(client.received) == len(data))
        assert client.received == data
        assert max(client.sizes) <= size
        server.transport.close()
        assert await client.ended() is None


@pytest.mark.parametrize("method", ["pause_reading", "close", "abort"])
async def test_a_buffer_is_not_filled_again_after(certificates: Certificates, method: str) -> None:
    class Stopping(InBuffers):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            getattr(self.transport, method)()

    async with protocols(certificates, client=lambda: Stopping(1000)) as (client, server):
        server.transport.write(MEGABYTE[:5000])
        await until(lambda: client.sizes)
        await all_tasks_blocked()
        assert client.sizes == [1000]
        if method == "pause_reading":
            for times in range(2, 6):
                client.transport.resume_reading()
                await until(partial(lambda count: len(client.sizes) == count, times))
            assert client.received == MEGABYTE[:5000]


async def test_a_buffer_may_be_replaced_by_bytes_and_back(certificates: Certificates) -> None:
    class Changing(InBuffers):
        def buffer_updated(self, nbytes: int) -> None:
            super().buffer_updated(nbytes)
            if len(self.sizes) == 3:
                self.transport.set_protocol(other)
                other.transport = self.transport
                other.events.append("set")

    other: Any = None

    other = Recorder()
    async with protocols(certificates, client=lambda: Changing(10)) as (client, server):
        server.transport.write(MEGABYTE[:100])
        await until(lambda: len(other.received) == 70)
        assert client.received + other.received == MEGABYTE[:100]
        other.transport.abort()
        await other.ended()
        client.lost.set_result(None)


@pytest.mark.parametrize("kind", [Recorder, lambda: InBuffers(10)], ids=["bytes", "buffers"])
async def test_a_protocol_may_be_replaced_in_get_buffer(
    certificates: Certificates, kind: Callable[[], Recorder]
) -> None:
    class Changing(InBuffers):
        def get_buffer(self, sizehint: int) -> bytearray:
            if others:
                self.transport.set_protocol(others[0])
            return self.buffer

    others: list[Any] = []

    # With TLS 1.3, get_buffer is also called when the tickets come after the handshake.
    made = protocols(certificates, client=lambda: Changing(10), version="TLSv1_2")
    async with made as (client, server):
        others.append(other := kind())
        other.events.append("set")
        other.transport = client.transport
        server.transport.write(MEGABYTE[:1000])
        await until(lambda: len(other.received) == 1000)
        assert other.received == MEGABYTE[:1000]
        client.transport.abort()
        await other.ended()
        client.lost.set_result(None)


@pytest.mark.parametrize(
    ("buffer", "error"), [(bytearray(), RuntimeError), (b"read only", (TypeError, BufferError))]
)
async def test_get_buffer_returns_an_invalid_buffer(
    certificates: Certificates, buffer: Any, error: Any
) -> None:
    class Wrong(InBuffers):
        def get_buffer(self, sizehint: int) -> bytearray:
            made: bytearray = buffer
            return made

    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, each: reports.append(each))
    async with protocols(certificates, client=lambda: Wrong(1)) as (client, server):
        server.transport.write(b"data")
        assert isinstance(await client.ended(), error)
        assert [each["exception"] for each in reports] == [client.lost.result()]


@pytest.mark.parametrize("method", ["connection_made", "data_received", "eof_received"])
async def test_exceptions_of_a_protocol_are_reported(
    certificates: Certificates, method: str
) -> None:
    class Broken(Recorder):
        pass

    def fail(self: Recorder, *args: Any) -> None:
        if method == "connection_made":
            self.transport = args[0]
        raise LookupError(method)

    setattr(Broken, method, fail)

    reports: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, each: reports.append(each))
    async with protocols(certificates, server=Broken) as (client, server):
        client.transport.write(b"data")
        client.transport.close()
        assert isinstance(await server.ended(), LookupError)
        assert [str(each["exception"]) for each in reports] == [method]


# -- Writing ---------------------------------------------------------------------------------------


@on_both_loops
def test_writing_is_paused(certificates: Certificates, run: Run) -> None:
    async def main() -> None:
        async with protocols(certificates) as (client, server):
            server.transport.pause_reading()
            transport = client.transport
            transport.set_write_buffer_limits(high=200_000, low=1000)
            assert transport.get_write_buffer_limits() == (1000, 200_000)
            with pytest.raises(ValueError, match="must be >="):
                transport.set_write_buffer_limits(high=1, low=2)
            written = 0
            while "pause" not in client.events:
                transport.write(MEGABYTE)
                written += len(MEGABYTE)
                await asyncio.sleep(0)
            assert transport.get_write_buffer_size() > 200_000
            server.transport.resume_reading()
            await until(lambda: "resume" in client.events)
            assert transport.get_write_buffer_size() <= 1000
            await until(lambda: len(server.received) == written)
            assert client.events.count("pause") == client.events.count("resume")

    run(main())


async def test_writing_and_closing_in_pause_writing(certificates: Certificates) -> None:
    class Interrupting(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            if self.events.count("pause") == 1:
                self.transport.write(b"and then")
                self.transport.close()

    async with protocols(certificates, client=Interrupting) as (client, server):
        client.transport.set_write_buffer_limits(high=0)
        client.transport.write(8 * MEGABYTE)
        assert await server.ended() is None
        assert server.received == 8 * MEGABYTE + b"and then"
        assert await client.ended() is None


@on_both_loops
def test_write_and_close_in_connection_made(certificates: Certificates, run: Run) -> None:
    class Hasty(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(MEGABYTE)
            transport.close()

    async def main() -> None:
        async with protocols(certificates, server=Hasty) as (client, server):
            assert await client.ended() is None
            assert client.received == MEGABYTE
            assert await server.ended() is None

    run(main())


async def test_abort_in_connection_made(certificates: Certificates) -> None:
    class Hasty(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"lost")
            transport.abort()

    server_side, client_side = contexts(certificates)
    async with listening(Hasty, server_side) as address:
        loop = asyncio.get_running_loop()
        _, client = await loop.create_connection(
            Recorder, *address, ssl=client_side, server_hostname=NAME
        )
        await client.ended()
        _, client = await loop.create_connection(
            Hasty, *address, ssl=client_side, server_hostname=NAME
        )
        assert await client.ended() is None


async def test_a_transport_that_is_closed(
    certificates: Certificates, caplog: pytest.LogCaptureFixture
) -> None:
    async with protocols(certificates) as (client, server):
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        client.transport.pause_reading()
        client.transport.resume_reading()
        assert await client.ended() is None
        for _ in range(10):
            client.transport.write(b"lost")
        client.transport.abort()
        assert client.transport.get_extra_info("peername")
        await server.ended()
        assert server.received == b""
    assert "write() to a connection that is closed" in caplog.text


async def test_the_handshake_fails_a_connection(certificates: Certificates) -> None:
    made: list[Recorder] = []

    def factory() -> Recorder:
        made.append(Recorder())
        return made[-1]

    def behave(peer: TlsPeer) -> None:
        peer.receive_raw()
        peer.send_raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        peer.receive_raw_until_end()

    with (
        tls_server(contexts(certificates)[0], behave) as server,
        pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"),
    ):
        await asyncio.get_running_loop().create_connection(
            factory, *server.address, ssl=client_context(certificates), server_hostname=NAME
        )
    assert made[0].events == []
