"""Transports: writing and flow control, tested on asyncio's own loop and on ours."""

from __future__ import annotations

import array
import asyncio
import contextlib
import logging
import os
import socket
import sys
from typing import Any

import pytest

from tests.net.tools import receive_all
from tests.net.transport_tools import (
    Calls,
    Recorder,
    Run,
    collect_reports,
    fill,
    kinds,
    on_asyncio,
    small_buffers,
    talking,
)
from tests.support.blocked import all_tasks_blocked

MEBIBYTE = 1 << 20


async def receive(peer: socket.socket, size: int) -> bytes:
    """Receive exactly ``size`` bytes, in a thread."""

    def call() -> bytes:
        parts = []
        left = size
        while left and (part := peer.recv(min(left, MEBIBYTE))):
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    return await asyncio.to_thread(call)


async def receive_between_turns(peer: socket.socket) -> bytes:
    """Receive until the end, never while the loop writes, so that its writes fill the socket."""
    peer.setblocking(False)
    parts: list[bytes] = []
    while True:
        await asyncio.sleep(0)
        with contextlib.suppress(BlockingIOError):
            if not (part := peer.recv(MEBIBYTE)):
                return b"".join(parts)
            parts.append(part)


@kinds
@pytest.mark.parametrize("size", [1, 1000, 70_000, 3 * MEBIBYTE])
def test_everything_arrives_in_order(run: Run, kind: str, size: int) -> None:
    data = os.urandom(size)

    async def main() -> None:
        async with talking(kind=kind) as (transport, _, peer):
            transport.write(data)
            transport.writelines([data, b"", data[:10]])
            transport.write(data)
            transport.write_eof()
            assert await asyncio.to_thread(receive_all, peer) == 2 * data + data[:10] + data

    run(main())


@pytest.mark.parametrize("with_unsent", [False, True])
@pytest.mark.parametrize("size", [10, 300_000])
def test_written_data_may_be_changed_afterwards(
    run: Run, size: int, with_unsent: bool, request: pytest.FixtureRequest
) -> None:
    if on_asyncio(request) and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps the very buffers")

    async def main() -> None:
        async with talking() as (transport, _, peer):
            small_buffers(transport, peer)
            before = fill(transport) if with_unsent else 0
            data = bytearray(b"a" * size)
            transport.write(data)
            data[:] = b"b" * size
            parts = [bytearray(b"c" * size) for _ in range(3)]
            transport.writelines(parts)
            for part in parts:
                part[:] = b"d" * size
                part.clear()
            received = await receive(peer, before + 4 * size)
            assert received[before:] == b"a" * size + b"c" * 3 * size

    run(main())


VIEWS = {
    "bytes": b"0123456789",
    "bytearray": bytearray(b"0123456789"),
    "view": memoryview(b"..0123456789..")[2:-2],
    "view of shorts": memoryview(array.array("H", b"0123456789")),
    "matrix": memoryview(b"0123456789").cast("B", (2, 5)),
}


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("with_unsent", [False, True])
def test_anything_bytes_like_is_sent(run: Run, name: str, with_unsent: bool) -> None:
    data: Any = VIEWS[name]

    async def main() -> None:
        async with talking() as (transport, _, peer):
            small_buffers(transport, peer)
            before = fill(transport) if with_unsent else 0
            transport.write(data)
            assert (await receive(peer, before + 10))[before:] == b"0123456789"

    run(main())


@pytest.mark.parametrize("with_unsent", [False, True])
@pytest.mark.parametrize("lines", [0, 1, 2, 70_000])
def test_a_view_that_is_not_contiguous_is_sent(
    run: Run, with_unsent: bool, lines: int, request: pytest.FixtureRequest
) -> None:
    if on_asyncio(request):
        pytest.skip("asyncio fails, or ends the connection")
    gaps = memoryview(b"0.1.2.3.4.")[::2]

    async def main() -> None:
        async with talking() as (transport, _, peer):
            small_buffers(transport, peer)
            before = fill(transport) if with_unsent else 0
            if lines:
                transport.writelines([gaps] * lines)
            else:
                transport.write(gaps)
            expected = b"01234" * (lines or 1)
            assert (await receive(peer, before + len(expected)))[before:] == expected

    run(main())


@pytest.mark.parametrize("bad", ["text", 7, None, [b"x"], object()], ids=repr)
def test_an_object_that_is_not_bytes_like_is_refused(
    run: Run, request: pytest.FixtureRequest, bad: Any
) -> None:
    # From 3.14 on, asyncio's writelines() skips any false object, of any type. In 3.15 it keeps the
    # parts before the wrong one.
    differs = on_asyncio(request) and sys.version_info >= (3, 14)

    async def main() -> None:
        async with talking() as (transport, _, peer):
            with pytest.raises(TypeError):
                transport.write(bad)
            if not differs:
                with pytest.raises(TypeError):
                    transport.writelines([b"never sent", bad])
            with pytest.raises(TypeError):
                transport.writelines(7)
            assert not transport.is_closing()
            transport.write(b"still open")
            assert peer.recv(100) == b"still open"

    run(main())


def test_a_buffer_may_be_changed_when_write_calls_back_or_has_raised(
    run: Run, request: pytest.FixtureRequest
) -> None:
    if on_asyncio(request) and sys.version_info >= (3, 12):
        pytest.skip("asyncio keeps a view of the buffer: it cannot be resized meanwhile")
    buffer = bytearray(10 * MEBIBYTE)

    class Emptying(Recorder):
        def pause_writing(self) -> None:
            super().pause_writing()
            buffer.clear()

    async def main() -> None:
        for with_unsent in (False, True):
            buffer[:] = bytes(10 * MEBIBYTE)
            async with talking(Emptying) as (transport, _, _peer):
                transport.set_write_buffer_limits(high=5 * MEBIBYTE)
                if with_unsent:
                    fill(transport, MEBIBYTE)
                transport.write(buffer)
                assert not buffer
                assert transport.get_write_buffer_size() > 5 * MEBIBYTE
                transport.write_eof()
                small = bytearray(b"refused")
                with pytest.raises(RuntimeError) as refused:
                    transport.write(small)
                small.clear()
                assert refused.value.__traceback__ is not None

    run(main())


def test_writing_nothing(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, _, peer):
            transport.write(b"")
            transport.write(bytearray())
            transport.writelines([])
            transport.writelines([b"", b""])
            transport.writelines(iter([b"x"]))
            fill(transport)
            size = transport.get_write_buffer_size()
            transport.write(b"")
            transport.writelines([b"", b""])
            assert transport.get_write_buffer_size() == size
            assert peer.recv(1) == b"x"

    run(main())


@pytest.mark.parametrize(
    ("count", "size"), [(5000, 1), (5000, 100), (3000, 3000), (65, 70_000), (3, MEBIBYTE)]
)
@pytest.mark.parametrize("with_unsent", [False, True])
def test_many_parts(run: Run, count: int, size: int, with_unsent: bool) -> None:
    parts = [(b"%08d" % number * (size // 8 + 1))[:size] for number in range(count)]

    async def main() -> None:
        async with talking() as (transport, _, peer):
            before = fill(transport, 100_000) if with_unsent else 0
            transport.writelines(parts)
            transport.close()
            received = await asyncio.to_thread(receive_all, peer)
            assert received[before:] == b"".join(parts)

    run(main())


def test_many_small_writes_while_bytes_are_unsent(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, _, peer):
            small_buffers(transport, peer)
            before = fill(transport)
            pieces = [b"%d," % number for number in range(20_000)]
            for number, piece in enumerate(pieces):
                transport.write(piece)
                if number % 1000 == 0:
                    before_turn = await receive(peer, 1)
                    assert before_turn
            transport.close()
            received = await asyncio.to_thread(receive_all, peer)
            assert received[before - 20 :] == b"".join(pieces)

    run(main())


# -- The water marks -------------------------------------------------------------------------------


def test_the_water_marks(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, _, _peer):
            limits = transport.get_write_buffer_limits
            assert limits() == (16 * 1024, 64 * 1024)
            transport.set_write_buffer_limits(high=1000)
            assert limits() == (250, 1000)
            transport.set_write_buffer_limits(low=100)
            assert limits() == (100, 400)
            transport.set_write_buffer_limits(high=10, low=10)
            assert limits() == (10, 10)
            transport.set_write_buffer_limits(high=0)
            assert limits() == (0, 0)
            transport.set_write_buffer_limits(low=0)
            assert limits() == (0, 0)
            for high, low in ((1, 2), (-1, None), (None, -1), (10, -1)):
                with pytest.raises(ValueError, match="must be >="):
                    transport.set_write_buffer_limits(high=high, low=low)
            assert limits() == (0, 0)
            transport.set_write_buffer_limits()
            assert limits() == (16 * 1024, 64 * 1024)

    run(main())


def crossings(protocol: Calls) -> list[str]:
    return [call for call in protocol.calls if call.endswith("_writing")]


@kinds
def test_writing_is_paused_and_resumed_once_for_each_crossing(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(kind=kind) as (transport, protocol, peer):
            small_buffers(transport, peer)
            transport.set_write_buffer_limits(high=100_000, low=1000)
            expected: list[str] = []
            for _ in range(3):
                written = fill(transport)
                while transport.get_write_buffer_size() <= 100_000:
                    assert crossings(protocol) == expected
                    transport.write(b"x" * 10_000)
                    written += 10_000
                expected.append("pause_writing")
                assert crossings(protocol) == expected
                transport.write(b"x" * 10_000)
                assert crossings(protocol) == expected
                received = await receive(peer, written + 10_000)
                assert len(received) == written + 10_000
                expected.append("resume_writing")
                await protocol.until(lambda: crossings(protocol) == expected)

    run(main())


def test_lower_marks_pause_at_once(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, peer):
            small_buffers(transport, peer)
            written = fill(transport, 20_000)
            assert crossings(protocol) == []
            transport.set_write_buffer_limits(high=1)
            assert crossings(protocol) == ["pause_writing"]
            transport.set_write_buffer_limits(high=2)
            assert crossings(protocol) == ["pause_writing"]
            await receive(peer, written)
            await protocol.until(lambda: crossings(protocol) == ["pause_writing", "resume_writing"])

    run(main())


class Refilling(Recorder):
    """Protocol that writes small pieces until it is paused."""

    total = 0
    most = 500_000

    def pour(self) -> None:
        while not self.paused and self.total < self.most:
            self.transport.write(b"%04d" % (self.total // 1000 % 10_000) * 250)
            self.total += 1000
        if self.total == self.most:
            self.transport.close()

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.paused = False
        transport.set_write_buffer_limits(high=0)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.paused = True

    def resume_writing(self) -> None:
        super().resume_writing()
        self.paused = False
        self.pour()


def test_data_written_in_resume_writing_arrives(run: Run, request: pytest.FixtureRequest) -> None:
    """The write buffer is empty then; bytes that the socket does not accept begin a new one."""

    async def main() -> None:
        reports = collect_reports()
        async with talking(Refilling) as (transport, protocol, peer):
            small_buffers(transport, peer)
            protocol.pour()
            received = await receive_between_turns(peer)
            assert received == b"".join(b"%04d" % number * 250 for number in range(500))
            await protocol.until_lost()
            names = crossings(protocol)
            assert names == ["pause_writing", "resume_writing"] * (len(names) // 2)
            assert len(names) > 2
        # asyncio reports an error if a connection is closed inside resume_writing.
        assert reports == [] or on_asyncio(request)

    run(main())


@pytest.mark.parametrize("method", ["pause_writing", "resume_writing"])
@pytest.mark.parametrize("ending", ["close", "abort", "write_eof", "set_protocol"])
def test_ending_inside_flow_control(
    run: Run, ending: str, method: str, request: pytest.FixtureRequest
) -> None:
    after = Recorder()

    class Ending(Recorder):
        def end(self) -> None:
            if ending == "set_protocol":
                self.transport.set_protocol(after)
            else:
                getattr(self.transport, ending)()

        def pause_writing(self) -> None:
            super().pause_writing()
            if method == "pause_writing":
                self.end()

        def resume_writing(self) -> None:
            super().resume_writing()
            if method == "resume_writing":
                self.end()

    async def main() -> None:
        reports = collect_reports()
        async with talking(Ending) as (transport, protocol, peer):
            transport.write(b"x" * 3_000_000)
            reading = asyncio.create_task(asyncio.to_thread(receive_all, peer))
            if ending in ("close", "abort"):
                await protocol.until_lost()
                assert protocol.lost == [None]
                assert protocol.calls[-1] == "connection_lost"
            elif ending == "set_protocol":
                await protocol.until(lambda: method in protocol.calls)
                transport.close()
                await after.until_lost()
                if method == "pause_writing":
                    assert after.calls == ["resume_writing", "connection_lost"]
                protocol.lost.append(None)
            received = await reading
            assert ending == "abort" or len(received) == 3_000_000
        assert reports == [] or on_asyncio(request)

    run(main())


# -- The end of writing ----------------------------------------------------------------------------


@kinds
def test_write_eof_comes_after_the_unsent_bytes(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(lambda: Recorder(keep_open=True), kind) as (transport, protocol, peer):
            assert transport.can_write_eof()
            transport.write(b"x" * 3_000_000)
            transport.write_eof()
            transport.write_eof()
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.write(b"more")
            with pytest.raises(RuntimeError, match="write_eof"):
                transport.writelines([b"more"])
            assert not transport.is_closing()
            assert len(await asyncio.to_thread(receive_all, peer)) == 3_000_000
            peer.sendall(b"answer")
            await protocol.until_received(6)
            peer.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof_received" in protocol.calls)
            assert protocol.lost == []

    run(main())


def test_write_eof_and_close(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, peer):
            transport.write(b"x" * 3_000_000)
            transport.write_eof()
            transport.close()
            transport.write_eof()
            assert len(await asyncio.to_thread(receive_all, peer)) == 3_000_000
            await protocol.until_lost()
            assert protocol.lost == [None]

    run(main())


def test_data_written_while_closing_is_sent(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, _, peer):
            transport.write(b"x" * 3_000_000)
            transport.close()
            transport.write(b"y" * 1000)
            assert (await asyncio.to_thread(receive_all, peer))[3_000_000:] == b"y" * 1000

    run(main())


@kinds
@pytest.mark.parametrize("ending", ["close", "abort", "reset"])
def test_writes_after_the_end_are_warned_about(
    run: Run,
    kind: str,
    ending: str,
    caplog: pytest.LogCaptureFixture,
    request: pytest.FixtureRequest,
) -> None:
    async def main() -> None:
        reports = collect_reports()
        async with talking(kind=kind) as (transport, protocol, peer):
            if ending == "reset":
                peer.close()
                while not transport.is_closing():
                    transport.write(b"the system notices after a while")
                    await asyncio.sleep(0)
            else:
                getattr(transport, ending)()
            await protocol.until_lost()
            for _ in range(4):
                transport.write(b"into the void")
            transport.write(b"into the void")
            if not on_asyncio(request):  # asyncio raises AttributeError since Python 3.12.
                transport.writelines([b"into", b"the void"])
            transport.write_eof()
            transport.pause_reading()
            transport.resume_reading()
            transport.set_write_buffer_limits(high=10)
            assert transport.get_write_buffer_size() == 0
            assert transport.is_closing()
            transport.close()
            await all_tasks_blocked()
            assert len(protocol.lost) == 1
        assert reports == []

    with caplog.at_level(logging.WARNING, "asyncio"):
        run(main())
    assert caplog.records
    assert all(record.levelno == logging.WARNING for record in caplog.records)


def test_an_event_may_end_the_connection_by_writing(run: Run) -> None:
    """The peer has disconnected when ``data_received`` writes the answer."""

    class Answering(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            for _ in range(3):
                self.transport.write(b"answer" * 100_000)

    async def main() -> None:
        reports = collect_reports()
        async with talking(Answering) as (transport, protocol, peer):
            peer.sendall(b"question")
            peer.close()
            await protocol.until_lost()
            [error] = protocol.lost
            assert isinstance(error, (ConnectionError, type(None)))
            assert transport.is_closing()
        assert reports == []

    run(main())


def test_both_directions_at_once(run: Run) -> None:
    def echo(peer: socket.socket) -> None:
        with contextlib.suppress(ConnectionError):
            while data := peer.recv(MEBIBYTE):
                peer.sendall(data)

    class Steady(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            if len(self.received) < 8 * MEBIBYTE:
                self.transport.write(data)

    async def main() -> None:
        async with talking(Steady) as (transport, protocol, peer):
            message = os.urandom(MEBIBYTE)
            transport.write(message)
            echoing = asyncio.create_task(asyncio.to_thread(echo, peer))
            await protocol.until_received(8 * MEBIBYTE)
            assert protocol.received[: 8 * MEBIBYTE] == message * 8
            transport.abort()
            await echoing

    run(main())
