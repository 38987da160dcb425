"""Methods assigned to a protocol at any time: each event calls the method of that moment.

Libraries do so to change the parser, as in ``self.data_received = parser.feed``, in
``connection_made`` or in the middle of a connection; or to observe the events of a protocol.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import contexts
from tests.net.transport_tools import (
    LOCAL,
    PATIENCE,
    BufferedRecorder,
    Recorder,
    Run,
    fill,
    small_buffers,
    talking,
)
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates


class Feeding(Recorder):
    """Protocol that assigns ``data_received`` in ``connection_made``."""

    def __init__(self) -> None:
        super().__init__()
        self.fed: list[bytes] = []

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.data_received = self.feed  # type: ignore[method-assign]

    def feed(self, data: bytes) -> None:
        self.fed.append(data)
        self.note("fed")


@pytest.mark.parametrize("kind", ["tcp", "unix", "sock", "accepted", "server", "unix server"])
def test_data_goes_to_the_method_that_connection_made_assigned(run: Run, kind: str) -> None:
    async def main() -> None:
        async with talking(Feeding, kind) as (_, protocol, peer):
            peer.sendall(b"hello")
            await protocol.until(lambda: protocol.fed)
            assert protocol.fed == [b"hello"]
            assert not protocol.received

    run(main())


def test_data_goes_to_the_method_that_was_assigned_last(run: Run) -> None:
    async def main() -> None:
        async with talking() as (_, protocol, peer):
            peer.sendall(b"one")
            await protocol.until_received(3)
            later: list[bytes] = []

            def feed(data: bytes) -> None:
                later.append(data)
                protocol.note("fed")

            protocol.data_received = feed
            peer.sendall(b"two")
            await protocol.until(lambda: later)
            assert (bytes(protocol.received), later) == (b"one", [b"two"])
            del protocol.data_received
            peer.sendall(b"six")
            await protocol.until_received(6)
            assert protocol.received == b"onesix"

    run(main())


def test_data_goes_to_a_method_that_was_assigned_to_the_class(run: Run) -> None:
    class Changing(Recorder):
        pass

    def feed(self: Changing, data: bytes) -> None:
        self.note(f"fed {data!r}")

    async def main() -> None:
        async with talking(Changing) as (_, protocol, peer):
            Changing.data_received = feed  # type: ignore[method-assign,assignment]
            peer.sendall(b"x")
            await protocol.until(lambda: len(protocol.calls) > 1)
            assert protocol.calls[1] == "fed b'x'"

    run(main())


def test_a_method_that_assigns_another_one_is_not_called_again(run: Run) -> None:
    """A parser may pass the rest to another one after the head of a message."""

    class Handing(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.data_received = self.body  # type: ignore[method-assign]

        def body(self, data: bytes) -> None:
            self.note(f"body {data!r}")

    async def main() -> None:
        async with talking(Handing) as (_, protocol, peer):
            peer.sendall(b"head")
            await protocol.until_received(4)
            peer.sendall(b"rest")
            await protocol.until(lambda: "body b'rest'" in protocol.calls)
            assert protocol.received == b"head"

    run(main())


def test_buffers_come_from_an_assigned_get_buffer(run: Run) -> None:
    async def main() -> None:
        async with talking(BufferedRecorder) as (_, protocol, peer):
            peer.sendall(b"abc")
            await protocol.until_received(3)
            mine = bytearray(5)
            taken = bytearray()

            def buffer_updated(size: int) -> None:
                taken.extend(mine[:size])
                protocol.note("taken")

            protocol.get_buffer = lambda _hint: mine
            protocol.buffer_updated = buffer_updated
            peer.sendall(b"0123456789")
            await protocol.until(lambda: len(taken) == 10)
            assert (bytes(protocol.received), bytes(taken)) == (b"abc", b"0123456789")

    run(main())


def test_a_get_buffer_that_assigns_another_one_is_called_once(run: Run) -> None:
    """The buffer that it returned is received into."""

    class Handing(BufferedRecorder):
        def get_buffer(self, sizehint: int) -> Any:
            self.buffer = bytearray(self.size)
            self.get_buffer = self.refuse  # type: ignore[method-assign]
            return self.buffer

        def refuse(self, sizehint: int) -> Any:
            del self.get_buffer
            self.note("asked again")
            return self.get_buffer(sizehint)

    async def main() -> None:
        async with talking(Handing) as (_, protocol, peer):
            peer.sendall(b"one")
            await protocol.until_received(3)
            assert "asked again" not in protocol.calls
            peer.sendall(b"two")
            await protocol.until_received(6)
            assert "asked again" in protocol.calls
            assert protocol.received == b"onetwo"

    run(main())


def test_the_other_events_call_assigned_methods_too(run: Run) -> None:
    async def main() -> None:
        async with talking() as (transport, protocol, peer):
            small_buffers(transport, peer)
            told: list[str] = []

            def telling(name: str) -> Callable[..., None]:
                before = getattr(protocol, name)

                def tell(*args: Any) -> None:
                    told.append(name)
                    before(*args)

                return tell

            for name in ("pause_writing", "resume_writing", "eof_received", "connection_lost"):
                setattr(protocol, name, telling(name))
            transport.set_write_buffer_limits(high=0)
            written = fill(transport)
            loop = asyncio.get_running_loop()
            peer.setblocking(False)
            async with asyncio.timeout(PATIENCE):
                while written:
                    written -= len(await loop.sock_recv(peer, 1 << 16))
            await protocol.until(lambda: "resume_writing" in told)
            peer.close()
            await protocol.until_lost()
            assert told == ["pause_writing", "resume_writing", "eof_received", "connection_lost"]

    run(main())


def test_data_over_tls_goes_to_an_assigned_method(run: Run, certificates: Certificates) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        server_context, client_context = contexts(certificates)
        ours, theirs = socket.socketpair()
        accepting = asyncio.ensure_future(
            loop.connect_accepted_socket(Feeding, ours, ssl=server_context)
        )
        client, _ = await loop.create_connection(
            Recorder, sock=theirs, ssl=client_context, server_hostname=NAME
        )
        server, protocol = await accepting
        client.write(b"hello")
        await protocol.until(lambda: protocol.fed)
        assert protocol.fed == [b"hello"]
        client.abort()
        server.abort()
        await protocol.until_lost()

    run(main())


def test_datagrams_go_to_an_assigned_method(run: Run) -> None:
    class Datagrams(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.first: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
            self.second: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.first.set_result(data)

        def other(self, data: bytes, addr: Any) -> None:
            self.second.set_result(data)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Datagrams, local_addr=LOCAL)
        transport.sendto(b"one", transport.get_extra_info("sockname"))
        assert await protocol.first == b"one"
        protocol.datagram_received = protocol.other  # type: ignore[method-assign]
        transport.sendto(b"two", transport.get_extra_info("sockname"))
        assert await protocol.second == b"two"
        transport.close()
        await all_tasks_blocked()

    run(main())


async def test_a_missing_method_ends_the_connection_with_a_report() -> None:
    class Mute(asyncio.BaseProtocol):
        def __init__(self) -> None:
            self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def connection_lost(self, exc: BaseException | None) -> None:
            self.lost.set_result(exc)

    reports: list[dict[str, Any]] = []
    loop = runtime.get_running_loop()
    loop.set_exception_handler(lambda _loop, context: reports.append(context))
    ours, peer = socket.socketpair()
    with peer:
        _, protocol = await loop.create_connection(Mute, sock=ours)
        peer.sendall(b"x")
        error = await protocol.lost
    assert isinstance(error, AttributeError)
    assert [report["exception"] for report in reports] == [error]
