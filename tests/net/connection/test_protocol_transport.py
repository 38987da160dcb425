"""Transports: asyncio's promises to protocols, tested on its own loop and on ours.

This file tests the order of events, reading and ending. ``test_protocol_transport_writing`` tests
writing, and ``test_protocol_transport_failures`` the exceptions and the contexts of protocols.
"""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

from tests.net.tools import receive_all, reset
from tests.net.transport_tools import (
    BufferedRecorder,
    Recorder,
    Run,
    collect_reports,
    kinds,
    on_asyncio,
    talking,
)
from tests.support.blocked import all_tasks_blocked

protocols = pytest.mark.parametrize("factory", [Recorder, BufferedRecorder])


# -- The order of events ---------------------------------------------------------------------------


@kinds
@protocols
def test_events_come_in_order(run: Run, kind: str, factory: Any) -> None:
    async def main() -> None:
        async with talking(factory, kind) as (transport, protocol, peer):
            assert protocol.calls == ["connection_made"]
            assert protocol.transport is transport
            assert transport.get_protocol() is protocol
            transport.write(b"question")
            assert peer.recv(100) == b"question"
            peer.sendall(b"an answer of some length")
            await protocol.until_received(24)
            peer.shutdown(socket.SHUT_WR)
            await protocol.until_lost()
            await all_tasks_blocked()
            assert protocol.received == b"an answer of some length"
            assert protocol.calls == [
                "connection_made",
                "data_received",
                "eof_received",
                "connection_lost",
            ]
            assert protocol.lost == [None]
            assert peer.recv(1) == b""

    run(main())


@kinds
def test_half_close(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(lambda: Recorder(keep_open=True), kind) as (transport, protocol, peer):
            peer.sendall(b"all there is")
            peer.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof_received" in protocol.calls)
            assert not transport.is_closing()
            transport.write(b"go on")
            assert peer.recv(100) == b"go on"
            assert transport.can_write_eof()
            transport.write_eof()
            assert peer.recv(100) == b""
            await all_tasks_blocked()
            assert protocol.lost == []
            transport.close()
            await protocol.until_lost()
            assert protocol.calls[-2:] == ["eof_received", "connection_lost"]

    run(main())


@kinds
def test_a_reset_is_reported_once(run: Run, kind: str) -> None:
    async def main() -> None:
        reports = collect_reports()
        async with talking(kind=kind) as (transport, protocol, peer):
            transport.write(b"not read: a Unix socket gives a reset for it")
            reset(peer)
            await protocol.until_lost()
            await all_tasks_blocked()
            [error] = protocol.lost
            assert isinstance(error, ConnectionResetError)
            assert protocol.calls[-1] == "connection_lost"
            assert transport.is_closing()
        assert reports == []

    run(main())


def test_eof_is_reported_once_with_paused_reading(run: Run, request: pytest.FixtureRequest) -> None:
    if on_asyncio(request):
        pytest.skip("asyncio tells it for every resume_reading()")

    async def main() -> None:
        async with talking(lambda: Recorder(keep_open=True)) as (transport, protocol, peer):
            peer.shutdown(socket.SHUT_WR)
            await protocol.until(lambda: "eof_received" in protocol.calls)
            for _ in range(3):
                transport.pause_reading()
                transport.resume_reading()
                await all_tasks_blocked()
            assert protocol.calls.count("eof_received") == 1

    run(main())


# -- Ending ----------------------------------------------------------------------------------------


@kinds
def test_close_sends_everything_first(run: Run, kind: str, request: pytest.FixtureRequest) -> None:
    async def main() -> None:
        async with talking(kind=kind) as (transport, protocol, peer):
            transport.write(b"x" * 5_000_000)
            transport.close()
            assert transport.is_closing()
            assert protocol.lost == []
            received = await asyncio.to_thread(receive_all, peer)
            assert len(received) == 5_000_000
            await protocol.until_lost()
            assert protocol.lost == [None]
            transport.close()
            if not on_asyncio(request):
                transport.abort()  # asyncio raises AttributeError.
            await all_tasks_blocked()
            assert protocol.lost == [None]

    run(main())


@kinds
def test_abort_drops_unsent_data(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(kind=kind) as (transport, protocol, peer):
            transport.write(b"x" * 5_000_000)
            transport.abort()
            assert transport.is_closing()
            assert protocol.lost == [], "it is told in another turn"
            assert transport.get_write_buffer_size() == 0
            await protocol.until_lost()
            assert protocol.lost == [None]
            assert len(await asyncio.to_thread(receive_all, peer)) < 5_000_000

    run(main())


def test_abort_while_closing(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, _peer):
            transport.write(b"x" * 5_000_000)
            transport.close()
            await all_tasks_blocked()
            assert protocol.lost == []
            transport.abort()
            await protocol.until_lost()
            assert protocol.lost == [None]

    run(main())


def test_nothing_is_received_after_close(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, peer):
            transport.write(b"x" * 5_000_000)
            transport.close()
            peer.sendall(b"too late")
            await all_tasks_blocked()
            assert protocol.received == b""
            transport.abort()
            await protocol.until_lost()
            assert protocol.received == b""
            assert "eof_received" not in protocol.calls

    run(main())


def test_the_reference_to_the_protocol_is_dropped(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, _peer):
            transport.close()
            await protocol.until_lost()
            await all_tasks_blocked()
            assert transport.get_protocol() is None

    run(main())


def test_extra_info_before_and_after_the_end(run: Run) -> None:
    async def main() -> None:
        async with talking(kind="tcp") as (transport, protocol, peer):
            sock = transport.get_extra_info("socket")
            assert sock is transport.get_extra_info("socket")
            assert sock.getsockname() == transport.get_extra_info("sockname") == peer.getpeername()
            assert sock.getpeername() == transport.get_extra_info("peername") == peer.getsockname()
            assert sock.family == socket.AF_INET
            assert transport.get_extra_info("none of these") is None
            assert transport.get_extra_info("none of these", 7) == 7
            assert transport.get_extra_info("sslcontext") is None
            transport.abort()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            await protocol.until_lost()
            await all_tasks_blocked()
            assert transport.get_extra_info("sockname") == peer.getpeername()
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("socket") is sock
            assert sock.fileno() == -1

    run(main())


@pytest.mark.parametrize("ending", ["close", "abort", "reset"])
def test_connection_lost_finds_the_addresses_and_a_closed_socket(
    run: Run, ending: str, request: pytest.FixtureRequest
) -> None:
    class Asking(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            info = self.transport.get_extra_info
            found.extend((info("sockname"), info("peername"), info("socket").fileno()))
            super().connection_lost(exc)

    found: list[Any] = []

    async def main() -> None:
        async with talking(Asking, "tcp") as (transport, protocol, peer):
            expected = [peer.getpeername(), peer.getsockname()]
            if ending == "reset":
                reset(peer)
            else:
                getattr(transport, ending)()
            await protocol.until_lost()
            assert found[:2] == expected
            if not on_asyncio(request):  # asyncio closes the socket after connection_lost.
                assert found[2] == -1

    run(main())


def test_small_packets_are_not_held_back(run: Run) -> None:
    async def main() -> None:
        async with talking(kind="server") as (transport, _protocol, _peer):
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)

    run(main())


# -- Reading ---------------------------------------------------------------------------------------


@protocols
def test_pause_and_resume_reading(run: Run, factory: Any) -> None:
    async def main() -> None:
        async with talking(factory) as (transport, protocol, peer):
            assert transport.is_reading()
            transport.pause_reading()
            transport.pause_reading()
            assert not transport.is_reading()
            peer.sendall(b"kept in the system")
            await all_tasks_blocked()
            assert protocol.received == b""
            transport.resume_reading()
            transport.resume_reading()
            assert transport.is_reading()
            await protocol.until_received(18)
            assert protocol.received == b"kept in the system"
            transport.close()
            assert not transport.is_reading()
            transport.pause_reading()
            transport.resume_reading()
            assert not transport.is_reading()

    run(main())


@kinds
def test_reading_may_be_paused_from_the_beginning(run: Run, kind: str) -> None:
    class Shy(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()
            super().connection_made(transport)

    async def main() -> None:
        async with talking(Shy, kind) as (transport, protocol, peer):
            assert not transport.is_reading()
            peer.sendall(b"early")
            await all_tasks_blocked()
            assert protocol.received == b""
            transport.resume_reading()
            await protocol.until_received(5)

    run(main())


def test_reading_may_be_paused_and_resumed_at_the_beginning(run: Run) -> None:
    class Undecided(Recorder):
        def connection_made(self, transport: Any) -> None:
            transport.pause_reading()
            transport.resume_reading()
            super().connection_made(transport)

    async def main() -> None:
        async with talking(Undecided) as (_transport, protocol, peer):
            peer.sendall(b"early")
            await protocol.until_received(5)

    run(main())


def test_pausing_inside_data_received(run: Run) -> None:
    class Slow(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    async def main() -> None:
        async with talking(Slow) as (transport, protocol, peer):
            peer.sendall(b"a")
            await protocol.until_received(1)
            peer.sendall(b"b")
            peer.shutdown(socket.SHUT_WR)
            await all_tasks_blocked()
            assert protocol.received == b"a"
            transport.resume_reading()
            await protocol.until_received(2)
            await all_tasks_blocked()
            assert "eof_received" not in protocol.calls
            transport.resume_reading()
            await protocol.until_lost()

    run(main())


# -- Buffered protocols, and protocols that are replaced -------------------------------------------


def test_a_buffer_that_is_smaller_than_the_data(run: Run) -> None:
    message = bytes(range(256)) * 50

    async def main() -> None:
        async with talking(BufferedRecorder) as (_transport, protocol, peer):
            peer.sendall(message)
            await protocol.until_received(len(message))
            assert protocol.received == message

    run(main())


class BadBuffer(BufferedRecorder):
    """Protocol whose ``get_buffer`` returns an invalid object."""

    def __init__(self, given: Any) -> None:
        super().__init__()
        self.given = given

    def get_buffer(self, sizehint: int) -> Any:
        if isinstance(self.given, Exception):
            raise self.given
        return self.given


@pytest.mark.parametrize(
    "given", [ZeroDivisionError("no"), bytearray(), b"read-only", None, "text", 7], ids=repr
)
def test_a_bad_buffer_ends_the_connection(run: Run, given: Any) -> None:
    async def main() -> None:
        reports = collect_reports()
        async with talking(lambda: BadBuffer(given)) as (transport, protocol, peer):
            peer.sendall(b"data")
            await protocol.until_lost()
            await all_tasks_blocked()
            [report] = reports
            assert protocol.lost == [report["exception"]]
            assert report["protocol"] is protocol
            assert report["transport"] is transport
            assert transport.is_closing()

    run(main())


@pytest.mark.parametrize("kind", ["sock", "server"])
def test_the_protocol_is_replaced_in_the_middle_of_the_stream(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(kind=kind) as (transport, first, peer):
            peer.sendall(b"one")
            await first.until_received(3)
            second = BufferedRecorder()
            transport.set_protocol(second)
            assert transport.get_protocol() is second
            peer.sendall(b"two, longer than the buffer")
            await second.until_received(27)
            third = Recorder()
            transport.set_protocol(third)
            peer.sendall(b"three")
            await third.until_received(5)
            transport.close()
            await third.until_lost()
            assert (first.received, second.received) == (b"one", b"two, longer than the buffer")
            assert first.calls == ["connection_made", "data_received"]
            assert second.calls == ["data_received"]
            assert third.calls == ["data_received", "connection_lost"]
            first.lost.append(None)

    run(main())


def test_the_protocol_is_replaced_inside_an_event(run: Run) -> None:
    later: list[Any] = []

    class First(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            later.append(BufferedRecorder())
            self.transport.set_protocol(later[0])

    async def main() -> None:
        async with talking(First) as (transport, first, peer):
            peer.sendall(b"1")
            await first.until_received(1)
            peer.sendall(b"22")
            await later[0].until_received(2)
            assert first.received == b"1"
            transport.abort()
            await later[0].until_lost()
            assert first.lost == []
            first.lost.append(None)

    run(main())


@pytest.mark.parametrize("successor", [Recorder, BufferedRecorder])
def test_the_protocol_is_replaced_in_get_buffer(
    run: Run, request: pytest.FixtureRequest, successor: Any
) -> None:
    if on_asyncio(request):
        pytest.skip("asyncio tells the new protocol of the old one's buffer")
    later: list[Any] = []

    class First(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            later.append(successor())
            self.transport.set_protocol(later[0])
            self.note("get_buffer")
            return super().get_buffer(sizehint)

    async def main() -> None:
        async with talking(First) as (_transport, first, peer):
            peer.sendall(b"for the new one")
            await first.until(lambda: later)
            await later[0].until_received(15)
            assert first.received == b""
            first.lost.append(None)

    run(main())
