"""Writes of one turn, which a connection sends together after it has written twice in a turn.

The system counts the segments that a socket receives: see ``tests.support.segments``. A pipe in
packet mode gives each write to one read.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import select
import signal
import socket
import ssl
import struct
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import pytest

import runtime
from runtime.kernel.joined_writes import HOLD_MOST, WARY_TIMES
from runtime.net.connection import stream_socket
from tests.net.tls_tools import contexts
from tests.net.tools import received_by
from tests.support.certificates import NAME, Certificates
from tests.support.segments import segments
from tests.support.tls_peer import corrupted

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="it counts segments as Linux does"),
    pytest.mark.usefixtures("no_leaks"),
]

HEAD, BODY = b"head;", b"body;"

T = TypeVar("T")


class Peer:
    """The other end of a TCP connection: a socket that is read without blocking the loop."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.sock.setblocking(False)
        self.counted = segments(sock)

    async def receive(self, size: int) -> bytes:
        """Receive ``size`` bytes."""
        loop = asyncio.get_running_loop()
        data = b""
        while len(data) < size:
            part = await loop.sock_recv(self.sock, size - len(data))
            assert part
            data += part
        return data

    def new_segments(self) -> int:
        """Return the number of segments received since the last call."""
        before, self.counted = self.counted, segments(self.sock)
        return self.counted - before


class Remembering(asyncio.Protocol):
    """A protocol that remembers its events."""

    def __init__(self) -> None:
        self.transport: Any = None
        self.events: list[object] = []

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def pause_writing(self) -> None:
        self.events.append("paused")

    def resume_writing(self) -> None:
        self.events.append("resumed")

    def connection_lost(self, exc: Exception | None) -> None:
        self.events.append(exc)


@contextlib.asynccontextmanager
async def peer_of(connecting: Callable[[Any], Awaitable[T]]) -> AsyncIterator[tuple[T, Peer]]:
    """Connect to a listener; yield the result of ``connecting(address)``, and the other end.

    The connection is made by address: one for a given socket does not join writes, because other
    code has the socket.
    """
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        result = await connecting(listener.getsockname())
        sock, _ = await asyncio.get_running_loop().sock_accept(listener)
    with sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        yield result, Peer(sock)


@contextlib.asynccontextmanager
async def transport_and_peer(
    protocol: Callable[[], asyncio.Protocol] = Remembering,
) -> AsyncIterator[tuple[Any, Peer]]:
    loop = asyncio.get_running_loop()
    async with peer_of(lambda address: loop.create_connection(protocol, *address)) as (made, peer):
        transport = made[0]
        try:
            yield transport, peer
        finally:
            transport.abort()
            await runtime.sleep(0.001)


@contextlib.asynccontextmanager
async def stream_and_peer() -> AsyncIterator[tuple[Any, Peer]]:
    connecting = peer_of(lambda address: runtime.open_connection(*address))
    async with connecting as ((_, writer), peer), writer:
        yield writer, peer


@contextlib.asynccontextmanager
async def asyncio_stream_and_peer() -> AsyncIterator[tuple[Any, Peer]]:
    async with peer_of(lambda address: asyncio.open_connection(*address)) as ((_, writer), peer):
        try:
            yield writer, peer
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


PAIRS = [transport_and_peer, stream_and_peer, asyncio_stream_and_peer]
Pair = Callable[[], contextlib.AbstractAsyncContextManager[tuple[Any, Peer]]]
each_pair = pytest.mark.parametrize("pair", PAIRS)


def run(main: Awaitable[None]) -> None:
    runtime.run(main)


async def become_joining(writer: Any, peer: Peer) -> None:
    """Write twice in one step, both sent at once: the writer joins its writes from then on."""
    await runtime.sleep(0)
    writer.write(HEAD)
    writer.write(BODY)
    assert await peer.receive(10) == HEAD + BODY
    assert peer.new_segments() >= 2  # More if the system repeats one, on a busy machine.
    await runtime.sleep(0)  # Receiving did not wait: this begins another step.


def write_twice(writer: Any) -> None:
    writer.write(HEAD)
    writer.write(BODY)


@each_pair
async def test_head_and_body_of_each_further_step_are_sent_together(pair: Pair) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        for _ in range(5):
            writer.write(HEAD)
            writer.write(BODY)
            assert await peer.receive(10) == HEAD + BODY
            assert peer.new_segments() == 1


@each_pair
async def test_ten_small_writes_of_a_step_are_sent_together(pair: Pair) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        for part in range(10):
            writer.write(b"%d" % part)
        assert await peer.receive(10) == b"0123456789"
        assert peer.new_segments() == 1


@each_pair
async def test_a_lone_write_is_sent_at_once(pair: Pair) -> None:
    async with pair() as (writer, peer):
        for _ in range(5):
            await runtime.sleep(0)
            writer.write(BODY)
            # The peer is read inside the step: nothing waits for its end.
            assert peer.sock.recv(100) == BODY


@each_pair
async def test_a_step_with_one_write_ends_the_joining(pair: Pair) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        writer.write(BODY)
        assert await peer.receive(5) == BODY
        await runtime.sleep(0)
        writer.write(BODY)
        assert peer.sock.recv(100) == BODY


@each_pair
def test_the_data_is_sent_when_the_step_ends(pair: Pair) -> None:
    received = []

    async def main() -> None:
        async with pair() as (writer, peer):
            await become_joining(writer, peer)
            runtime.get_running_loop().call_soon(lambda: received.append(peer.sock.recv(100)))
            writer.write(HEAD)
            writer.write(BODY)
            await runtime.sleep(0)
            assert received == [HEAD + BODY]

    run(main())


@each_pair
async def test_the_writes_of_several_callbacks_in_a_turn_are_sent_together(pair: Pair) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        loop = runtime.get_running_loop()
        times: list[float] = []

        def look() -> None:
            times.append(time.monotonic())

        for callback in (look, lambda: write_twice(writer), look, lambda: writer.write(HEAD), look):
            loop.call_soon(callback)
        assert await peer.receive(15) == HEAD + BODY + HEAD
        assert peer.new_segments() == 1 or times[-1] - times[0] >= HOLD_MOST


@each_pair
async def test_connections_that_answer_in_one_turn_send_when_it_ends(pair: Pair) -> None:
    async with pair() as (first, one), pair() as (second, two):
        await become_joining(first, one)
        await become_joining(second, two)
        loop = runtime.get_running_loop()
        seen: list[tuple[bytes, bytes]] = []
        times: list[float] = []

        def look() -> None:
            seen.append((received_by(one.sock), received_by(two.sock)))
            times.append(time.monotonic())

        for callback in (look, lambda: write_twice(first), look, lambda: write_twice(second), look):
            loop.call_soon(callback)
        await runtime.sleep(0)
        assert seen == 3 * [(b"", b"")] or times[-1] - times[0] >= HOLD_MOST
        await runtime.sleep(0)
        assert received_by(one.sock) == received_by(two.sock) == HEAD + BODY


@pytest.mark.parametrize("debug", [False, True])
def test_collected_data_waits_for_one_long_step_at_most(debug: bool) -> None:
    async def main() -> None:
        async with stream_and_peer() as (writer, peer):
            await become_joining(writer, peer)
            loop = runtime.get_running_loop()
            seen: list[bytes] = []

            def look() -> None:
                seen.append(received_by(peer.sock))

            for callback in (lambda: write_twice(writer), look, lambda: time.sleep(0.003), look):
                loop.call_soon(callback)
            await runtime.sleep(0)
            assert seen == [b"", HEAD + BODY]

    runtime.run(main(), debug=debug)


def test_after_a_long_step_the_data_is_sent_when_the_step_ends() -> None:
    async def main() -> None:
        async with stream_and_peer() as (writer, peer):
            await become_joining(writer, peer)
            loop = runtime.get_running_loop()
            seen: list[bytes] = []
            began = time.monotonic()
            for callback in (
                lambda: write_twice(writer),
                lambda: time.sleep(0.003),
                lambda: seen.append(received_by(peer.sock)),
            ):
                loop.call_soon(callback)
            await runtime.sleep(0)
            assert seen == [HEAD + BODY]
            loop.call_soon(write_twice, writer)
            loop.call_soon(lambda: seen.append(received_by(peer.sock)))
            await runtime.sleep(0)
            if time.monotonic() - began < WARY_TIMES * 0.003:
                assert seen[1:] == [HEAD + BODY]
            await runtime.sleep(0)

    runtime.run(main())


class WritesInFinalizer:
    """An object that writes twice when it is deallocated."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer
        self.itself: WritesInFinalizer | None = None

    def be_called(self) -> None:
        pass

    def __del__(self) -> None:
        write_twice(self._writer)


@each_pair
@pytest.mark.parametrize("debug", [False, True])
def test_the_finalizer_of_the_last_callback_of_a_turn_may_write(pair: Pair, debug: bool) -> None:
    """The loop drops the last reference when the turn ends, and then has nothing to do but wait."""

    async def main() -> None:
        async with pair() as (writer, peer), runtime.timeout(10):
            await become_joining(writer, peer)
            runtime.get_running_loop().call_soon(WritesInFinalizer(writer).be_called)
            assert await peer.receive(10) == HEAD + BODY

    runtime.run(main(), debug=debug)


@each_pair
async def test_a_finalizer_may_write_when_the_idle_loop_collects_garbage(pair: Pair) -> None:
    async with pair() as (writer, peer), runtime.timeout(10):
        await become_joining(writer, peer)
        loop = runtime.get_running_loop()
        loop.collect_when_idle()
        try:
            garbage = WritesInFinalizer(writer)
            garbage.itself = garbage
            del garbage
            # So many allocations that a collection is due.
            allocated: list[list[int]] = [[] for _ in range(5000)]
            assert await peer.receive(10) == HEAD + BODY
            del allocated
        finally:
            loop.collect_when_idle(False)


@each_pair
@pytest.mark.parametrize("size", [70_000, 1_000_000])
async def test_a_large_write_is_sent_with_the_collected_data(pair: Pair, size: int) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        body = bytearray(os.urandom(size))
        copy = bytes(body)
        writer.write(HEAD)
        writer.write(body)
        body[:] = bytes(size)  # The caller may change it at once.
        writer.write(BODY)
        assert await peer.receive(5 + size + 5) == HEAD + copy + BODY


@each_pair
async def test_the_caller_may_change_a_buffer_that_it_wrote(pair: Pair) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        buffer = bytearray(HEAD)
        writer.write(buffer)
        buffer[:] = BODY
        writer.write(memoryview(buffer))
        buffer[:] = b"other"
        assert await peer.receive(10) == HEAD + BODY


async def by_drain(writer: Any) -> None:
    await writer.drain()


async def by_size(writer: Any) -> None:
    transport = getattr(writer, "transport", writer)
    assert transport.get_write_buffer_size() == 0


async def by_limits(writer: Any) -> None:
    getattr(writer, "transport", writer).set_write_buffer_limits(high=0)


async def by_eof(writer: Any) -> None:
    writer.write_eof()


async def by_pausing(writer: Any) -> None:
    getattr(writer, "transport", writer).pause_reading()


async def by_closing(writer: Any) -> None:
    writer.close()


async def by_aborting(writer: Any) -> None:
    getattr(writer, "transport", writer).abort()


WAYS = [by_size, by_limits, by_eof, by_pausing, by_closing, by_aborting]


@each_pair
@pytest.mark.parametrize("way", WAYS)
async def test_the_data_is_sent_before_the_step_ends(
    pair: Pair, way: Callable[[Any], Awaitable[None]]
) -> None:
    async with pair() as (writer, peer):
        await become_joining(writer, peer)
        writer.write(HEAD)
        writer.write(BODY)
        await way(writer)
        assert peer.sock.recv(100) == HEAD + BODY


async def test_drain_sends_the_data() -> None:
    async with stream_and_peer() as (writer, peer):
        await become_joining(writer, peer)
        writer.write(HEAD)
        writer.write(BODY)
        await writer.drain()
        assert peer.sock.recv(100) == HEAD + BODY


def test_sendfile_follows_the_data(tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"content")

    async def main() -> None:
        async with stream_and_peer() as (writer, peer):
            await become_joining(writer, peer)
            with open(tmp_path / "file", "rb") as file:
                writer.write(HEAD)
                writer.write(BODY)
                await writer.sendfile(file)
                writer.write(BODY)
            assert await peer.receive(22) == HEAD + BODY + b"content" + BODY

    run(main())


async def test_the_socket_itself_ends_the_joining() -> None:
    async with stream_and_peer() as (writer, peer):
        await become_joining(writer, peer)
        writer.write(HEAD)
        sock = writer.get_extra_info("socket")
        sock.send(BODY)
        writer.write(HEAD)
        sock.send(BODY)
        assert peer.sock.recv(100) == HEAD + BODY + HEAD + BODY


@pytest.mark.parametrize("high", [0, 8, 1000])
async def test_writing_is_paused_for_the_same_write_as_without_joining(high: int) -> None:
    """The peer reads nothing, and the system's buffers are full."""
    async with transport_and_peer() as (transport, peer):
        protocol = transport.get_protocol()
        await become_joining(transport, peer)
        transport.set_write_buffer_limits(high=high)
        while not transport.get_write_buffer_size():
            transport.write(bytes(100_000))
        while transport.get_write_buffer_size():
            # Make room for the rest of the large write, and keep the system's buffers full.
            peer.sock.recv(1000)
            await runtime.sleep(0)
        assert protocol.events == ["paused", "resumed"]
        protocol.events.clear()
        with contextlib.suppress(BlockingIOError):
            while True:
                os.write(transport.get_extra_info("socket").fileno(), bytes(1000))
        await runtime.sleep(0)
        written = 0
        while not protocol.events:
            assert written <= high
            transport.write(b"12345")
            written += 5
        assert protocol.events == ["paused"]
        assert transport.get_write_buffer_size() == written


async def test_a_failure_is_reported_at_the_end_of_the_step() -> None:
    async with transport_and_peer() as (transport, peer):
        protocol = transport.get_protocol()
        await become_joining(transport, peer)
        transport.pause_reading()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        await runtime.sleep(0)
        transport.write(HEAD)
        transport.write(BODY)
        await runtime.sleep(0)
        assert transport.is_closing()
        await runtime.sleep(0)
        assert [type(event) for event in protocol.events] in (
            [ConnectionResetError],
            [BrokenPipeError],
        )


def test_an_exception_that_leaves_the_loop_loses_nothing() -> None:
    with runtime.Runner() as runner, contextlib.ExitStack() as ends:
        loop = runner.get_loop()

        async def prepare() -> tuple[Any, socket.socket]:
            connecting = transport_and_peer()
            transport, peer = await connecting.__aenter__()
            await become_joining(transport, peer)
            ends.callback(runner.run, connecting.__aexit__(None, None, None))
            return transport, peer.sock

        transport, right = runner.run(prepare())

        def write_and_exit() -> None:
            transport.write(HEAD)
            transport.write(BODY)
            raise SystemExit

        loop.call_soon(write_and_exit)
        with pytest.raises(SystemExit):
            loop.run_forever()
        assert right.recv(100) == HEAD + BODY
        # The loop does not run: everything is sent at once.
        transport.write(HEAD)
        assert right.recv(100) == HEAD


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_the_child_of_a_fork_sends_nothing() -> None:
    async with transport_and_peer() as (transport, peer):
        await become_joining(transport, peer)
        transport.write(HEAD)
        child = os.fork()
        if not child:
            try:
                transport.abort()
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        transport.write(BODY)
        assert await peer.receive(10) == HEAD + BODY
        with pytest.raises(BlockingIOError):
            peer.sock.recv(100)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
async def test_the_child_of_a_fork_can_write_at_once() -> None:
    async with transport_and_peer() as (transport, peer):
        await become_joining(transport, peer)
        child = os.fork()
        if not child:
            try:
                transport.write(HEAD)
                transport.write(BODY)
            finally:
                os._exit(0)
        os.waitpid(child, 0)
        assert peer.sock.recv(100) == HEAD + BODY


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there are no forks")
@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_the_child_of_a_fork_in_another_thread_sends_nothing() -> None:
    def fork(transport: Any) -> None:
        child = os.fork()
        if not child:
            try:
                transport.abort()
            finally:
                os._exit(0)
        os.waitpid(child, 0)

    async def main() -> None:
        async with transport_and_peer() as (transport, peer):
            await become_joining(transport, peer)
            transport.write(HEAD)
            transport.write(BODY)
            forking = threading.Thread(target=fork, args=(transport,))
            forking.start()
            forking.join()
            await runtime.sleep(0)
            assert peer.sock.recv(100) == HEAD + BODY

    run(main())


@pytest.mark.parametrize("way", ["start_tls", "sendfile"])
def test_a_reset_that_the_data_discovers(way: str, tmp_path: Any) -> None:
    (tmp_path / "file").write_bytes(b"content")

    async def main() -> None:
        async with peer_of(lambda address: runtime.open_connection(*address)) as (made, peer):
            _, writer = made
            await become_joining(writer, peer)
            peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.sock.close()
            writer.write(HEAD)
            writer.write(BODY)
            async with runtime.timeout(10):
                if way == "start_tls":
                    with pytest.raises(ConnectionResetError, match="closed"):
                        await writer.start_tls(ssl.create_default_context(), server_hostname=NAME)
                else:
                    with (
                        open(tmp_path / "file", "rb") as file,
                        pytest.raises(RuntimeError, match="closing"),
                    ):
                        await writer.sendfile(file)

    run(main())


async def test_an_abort_reports_that_the_data_could_not_be_sent() -> None:
    async with transport_and_peer() as (transport, peer):
        await become_joining(transport, peer)
        protocol = transport.get_protocol()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        transport.write(HEAD)
        transport.write(BODY)
        transport.abort()
        await runtime.sleep(0.001)
        [error] = protocol.events
        assert isinstance(error, ConnectionError)


async def test_the_socket_of_a_transport_is_shut_down_behind_the_data() -> None:
    async with transport_and_peer() as (transport, peer):
        sock = transport.get_extra_info("socket")
        await become_joining(transport, peer)
        transport.write(HEAD)
        transport.write(BODY)
        sock.shutdown(socket.SHUT_WR)
        assert await peer.receive(10) == HEAD + BODY
        assert transport.get_protocol().events == []


async def test_the_descriptor_is_given_out_behind_the_data() -> None:
    async with transport_and_peer() as (transport, peer):
        sock = transport.get_extra_info("socket")
        await become_joining(transport, peer)
        transport.write(HEAD)
        os.write(sock.fileno(), BODY)
        transport.write(HEAD)
        with sock.dup() as duplicate:
            duplicate.send(BODY)
        assert await peer.receive(20) == 2 * (HEAD + BODY)


class LastWords(Remembering):
    """A protocol that writes once more when its transport, which is being closed, is resumed."""

    def resume_writing(self) -> None:
        self.transport.write(BODY)


async def test_a_write_in_resume_writing_of_a_closing_connection() -> None:
    async with transport_and_peer(LastWords) as (transport, peer):
        await become_joining(transport, peer)
        transport.set_write_buffer_limits(high=64 * 1024, low=0)
        size = 8_000_000
        transport.write(bytes(size))
        transport.close()
        received = await peer.receive(size + len(BODY))
        assert received.endswith(b"\0" + BODY)


@pytest.mark.skipif(runtime.compiled, reason="it replaces a function of a module")
def test_an_interrupted_end_of_a_step_does_not_stop_the_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupted(fd: int, data: bytes) -> int:
        monkeypatch.undo()
        raise KeyboardInterrupt

    async def write(transport: Any) -> None:
        transport.write(HEAD)
        transport.write(BODY)
        await runtime.sleep(0)

    async def write_and_interrupt(transport: Any) -> None:
        monkeypatch.setattr(stream_socket, "_send", interrupted)
        await write(transport)

    loop = runtime.new_event_loop()
    pair = transport_and_peer()
    transport, peer = loop.run_until_complete(pair.__aenter__())
    loop.run_until_complete(become_joining(transport, peer))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(write_and_interrupt(transport))
    loop.run_until_complete(write(transport))
    assert peer.sock.recv(100) == HEAD + BODY
    loop.run_until_complete(pair.__aexit__(None, None, None))
    loop.close()


async def test_two_connections_in_one_step() -> None:
    async with stream_and_peer() as (first, one), stream_and_peer() as (second, two):
        await become_joining(first, one)
        await become_joining(second, two)
        for writer in (first, second, first, second):
            writer.write(HEAD)
        for peer in (one, two):
            assert await peer.receive(10) == HEAD + HEAD
            assert peer.new_segments() == 1


def test_in_debug_mode() -> None:
    async def main() -> None:
        async with stream_and_peer() as (writer, peer):
            await become_joining(writer, peer)
            writer.write(HEAD)
            writer.write(BODY)
            assert await peer.receive(10) == HEAD + BODY
            assert peer.new_segments() == 1

    runtime.run(main(), debug=True)


class Responding(asyncio.Protocol):
    """A server that answers each message with a head and a body, in the event itself."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(HEAD)
        self.transport.write(data)


@pytest.mark.parametrize("debug", [False, True])
def test_the_event_of_a_descriptor_is_a_step(debug: bool) -> None:
    async def main() -> None:
        async with transport_and_peer(Responding) as (_, peer):
            sent = []
            for _ in range(4):
                peer.sock.send(BODY)
                assert await peer.receive(10) == HEAD + BODY
                sent.append(peer.new_segments())
            assert sent == [2, 1, 1, 1]

    runtime.run(main(), debug=debug)


# -- TLS -------------------------------------------------------------------------------------------


def records(data: bytes) -> list[int]:
    """Return the sizes of the TLS records in ``data``."""
    sizes = []
    while data:
        size = 5 + int.from_bytes(data[3:5], "big")
        sizes.append(size)
        data = data[size:]
    return sizes


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_head_and_body_are_one_record_and_one_segment(
    certificates: Certificates, version: ssl.TLSVersion
) -> None:
    server_side, client_side = contexts(certificates)
    client_side.minimum_version = client_side.maximum_version = version
    loop = asyncio.get_running_loop()

    async def connect(address: Any) -> runtime.Task[Any]:
        connecting = loop.create_connection(
            Remembering, *address, ssl=client_side, server_hostname=NAME
        )
        return runtime.create_task(connecting)

    async with peer_of(connect) as (connecting, peer):
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = server_side.wrap_bio(incoming, outgoing, server_side=True)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(peer.sock, outgoing.read())
                incoming.write(await loop.sock_recv(peer.sock, 100_000))
        await loop.sock_sendall(peer.sock, outgoing.read())
        transport, _ = await connecting
        await runtime.sleep(0)
        sent = []
        for _ in range(4):
            peer.new_segments()
            transport.write(HEAD)
            transport.write(BODY)
            await runtime.sleep(0)
            encrypted = peer.sock.recv(100_000)
            sent.append((len(records(encrypted)), peer.new_segments()))
            incoming.write(encrypted)
            data = b""
            while len(data) < 10:
                data += tls.read(100)
            assert data == HEAD + BODY
        # The system may repeat one of two segments, on a busy machine.
        assert sent[0][0] == 2 <= sent[0][1]
        assert sent[1:] == 3 * [(1, 1)]
        transport.write(HEAD)
        transport.write(BODY)
        transport.abort()
        incoming.write(await loop.sock_recv(peer.sock, 100_000))
        assert tls.read(100) == HEAD + BODY
        await runtime.sleep(0.001)


class TlsPeer:
    """The other end of a TLS connection, with control over every record."""

    def __init__(self, context: ssl.SSLContext, sock: socket.socket) -> None:
        self.sock = sock
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)

    async def handshake(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                self.tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                await loop.sock_sendall(self.sock, self.outgoing.read())
                self.incoming.write(await loop.sock_recv(self.sock, 100_000))
        await loop.sock_sendall(self.sock, self.outgoing.read())

    def record(self, data: bytes) -> bytes:
        self.tls.write(data)
        return self.outgoing.read()

    async def receive_until(self, end: bytes) -> bytes:
        """Receive until the data ends with ``end``; return all of it since the last call."""
        loop = asyncio.get_running_loop()
        data = b""
        async with runtime.timeout(10):
            while not data.endswith(end):
                try:
                    data += self.tls.read(100_000)
                except ssl.SSLWantReadError:
                    self.incoming.write(await loop.sock_recv(self.sock, 100_000))
        return data


@contextlib.asynccontextmanager
async def joining_tls_and_peer(
    certificates: Certificates, protocol: Callable[[], Remembering]
) -> AsyncIterator[tuple[Any, TlsPeer]]:
    server_side, client_side = contexts(certificates)
    loop = asyncio.get_running_loop()

    async def connect(address: Any) -> runtime.Task[Any]:
        connecting = loop.create_connection(
            protocol, *address, ssl=client_side, server_hostname=NAME
        )
        return runtime.create_task(connecting)

    async with peer_of(connect) as (connecting, plain_peer):
        peer = TlsPeer(server_side, plain_peer.sock)
        await peer.handshake()
        transport, _ = await connecting
        for _ in range(2):
            transport.write(HEAD)
            transport.write(BODY)
            await runtime.sleep(0)
        assert await peer.receive_until(2 * (HEAD + BODY)) == 2 * (HEAD + BODY)
        await runtime.sleep(0)
        try:
            yield transport, peer
        finally:
            transport.abort()
            await runtime.sleep(0.001)


class Answering(Remembering):
    """A protocol that writes two answers to all that it receives."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(HEAD)
        self.transport.write(BODY)


async def test_an_answer_is_sent_although_the_next_record_is_corrupt(
    certificates: Certificates,
) -> None:
    async with joining_tls_and_peer(certificates, Answering) as (_, peer):
        good, bad = peer.record(b"good"), peer.record(b"bad")
        peer.sock.send(good + corrupted(bad))
        assert await peer.receive_until(BODY) == HEAD + BODY


async def test_a_connection_that_is_lost_in_close_stays_closed(certificates: Certificates) -> None:
    async with joining_tls_and_peer(certificates, Remembering) as (transport, peer):
        protocol = transport.get_protocol()
        peer.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        peer.sock.close()
        transport.write(HEAD)
        transport.write(BODY)
        transport.close()
        assert transport.lower.is_closed()
        await runtime.sleep(0.001)
        [error] = protocol.events
        assert isinstance(error, ConnectionError)


class WritingWhenPaused(Remembering):
    """A protocol that writes once more in ``pause_writing``."""

    def pause_writing(self) -> None:
        super().pause_writing()
        self.transport.write(b"end")


async def test_tls_pauses_within_the_write_and_sends_what_is_written_then(
    certificates: Certificates,
) -> None:
    async with joining_tls_and_peer(certificates, WritingWhenPaused) as (transport, peer):
        transport.set_write_buffer_limits(high=40_000, low=0)
        events = transport.get_protocol().events
        while not events:
            for _ in range(2):
                transport.write(bytes(2500))
            before = list(events)
            await runtime.sleep(0)
            assert events == before
        assert (await peer.receive_until(b"end")).endswith(b"end")


async def test_the_socket_itself_ends_the_joining_of_tls(certificates: Certificates) -> None:
    async with joining_tls_and_peer(certificates, Remembering) as (transport, peer):
        sock = transport.lower.info("socket")
        transport.write(HEAD)
        transport.write(BODY)
        sock.shutdown(socket.SHUT_WR)
        assert await peer.receive_until(BODY) == HEAD + BODY


# -- Pipes -----------------------------------------------------------------------------------------


@contextlib.asynccontextmanager
async def write_pipe() -> AsyncIterator[tuple[Any, int, int]]:
    """Yield the transport of a pipe, and the descriptors of both ends."""
    read_end, write_end = os.pipe()
    pipe = os.fdopen(write_end, "wb", buffering=0)
    transport, _ = await asyncio.get_running_loop().connect_write_pipe(Remembering, pipe)
    try:
        yield transport, read_end, write_end
        transport.abort()
        await runtime.sleep(0.001)
    finally:
        os.close(read_end)


def make_packets(write_end: int) -> None:
    """Make each write to a pipe a packet, which one read returns."""
    flags = fcntl.fcntl(write_end, fcntl.F_GETFL)
    fcntl.fcntl(write_end, fcntl.F_SETFL, flags | os.O_DIRECT)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="pipes have no packet mode")
async def test_a_pipe() -> None:
    async with write_pipe() as (transport, read_end, write_end):
        transport.write(HEAD)
        transport.write(BODY)
        assert os.read(read_end, 100) == HEAD + BODY
        # From here on each write is a packet; before, writes would not have become joined.
        make_packets(write_end)
        received = []
        for _ in range(2):
            await runtime.sleep(0)
            transport.write(HEAD)
            transport.write(BODY)
            await runtime.sleep(0)
            received.append(os.read(read_end, 100))
        assert received == [HEAD + BODY, HEAD + BODY]
        transport.write(HEAD)
        transport.write(BODY)
        assert transport.get_write_buffer_size() == 0
        assert os.read(read_end, 100) == HEAD + BODY
        transport.write(HEAD)
        transport.writelines([BODY, bytes(70_000)])
        assert os.read(read_end, 100) == HEAD
        assert os.read(read_end, 5) == BODY


class WritingToPipe(asyncio.Protocol):
    """A protocol that writes twice to the transport of a pipe for all that it receives."""

    def __init__(self, pipe: Any) -> None:
        self.pipe = pipe

    def data_received(self, data: bytes) -> None:
        write_twice(self.pipe)


async def test_data_for_a_reader_that_is_gone_is_lost_with_an_error() -> None:
    """The loop learns that the reader is gone in the turn in which the data was written."""
    loop = asyncio.get_running_loop()
    read_end, write_end = os.pipe()
    protocol = Remembering()
    pipe = os.fdopen(write_end, "wb", buffering=0)
    transport, _ = await loop.connect_write_pipe(lambda: protocol, pipe)
    write_twice(transport)
    await runtime.sleep(0)
    ours, theirs = socket.socketpair()
    with theirs:
        source, _ = await loop.create_connection(lambda: WritingToPipe(transport), sock=ours)
        theirs.send(b"x")
        os.close(read_end)
        async with runtime.timeout(10):
            while not protocol.events:
                await runtime.sleep(0)
        source.abort()
        await runtime.sleep(0.001)
    [error] = protocol.events
    assert isinstance(error, BrokenPipeError)


def packet_pipe() -> tuple[Any, Any]:
    read_end, write_end = os.pipe2(os.O_DIRECT | os.O_NONBLOCK)
    return os.fdopen(read_end, "rb", buffering=0), os.fdopen(write_end, "wb", buffering=0)


def packet_sockets() -> tuple[Any, Any]:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    left.setblocking(False)
    return left, right


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="pipes have no packet mode")
@pytest.mark.parametrize("make", [packet_pipe, packet_sockets])
async def test_messages_are_not_joined(make: Callable[[], tuple[Any, Any]]) -> None:
    read_end, write_end = make()
    with read_end:
        transport, _ = await asyncio.get_running_loop().connect_write_pipe(Remembering, write_end)
        for _ in range(3):
            transport.write(HEAD)
            transport.write(BODY)
            await runtime.sleep(0)
        assert [os.read(read_end.fileno(), 100) for _ in range(6)] == [HEAD, BODY] * 3
        transport.abort()
        await runtime.sleep(0.001)


@pytest.mark.skipif(not hasattr(os, "O_DIRECT"), reason="pipes have no packet mode")
async def test_joined_writes_to_a_pipe_arrive_undivided() -> None:
    async with write_pipe() as (transport, read_end, write_end):
        transport.write(HEAD)
        transport.write(BODY)
        await runtime.sleep(0)
        os.read(read_end, 100)
        make_packets(write_end)
        part = bytes(select.PIPE_BUF // 2)
        for _ in range(3):
            transport.write(part)
        await runtime.sleep(0)
        assert [len(os.read(read_end, 100_000)) for _ in range(2)] == [2 * len(part), len(part)]


ANSWERS_A_SIGNAL = """
import os, signal
os.set_blocking(0, False)
signal.signal(signal.SIGUSR1, lambda *_: os.write(1, b"[" + os.read(0, 100) + b"]"))
os.write(1, b"ready")
while True:
    signal.pause()
"""


async def test_a_process_can_read_what_was_written_before_a_signal() -> None:
    process = await runtime.create_subprocess_exec(
        sys.executable, "-c", ANSWERS_A_SIGNAL, stdin=runtime.PIPE, stdout=runtime.PIPE
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        await process.stdout.readexactly(5)
        for _ in range(2):
            process.stdin.write(HEAD)
            process.stdin.write(BODY)
            await runtime.sleep(0)
        process.send_signal(signal.SIGUSR1)
        assert await process.stdout.readexactly(22) == b"[" + 2 * (HEAD + BODY) + b"]"
        process.stdin.write(HEAD)
        process.stdin.write(BODY)
        process.send_signal(signal.SIGUSR1)
        time.sleep(0.1)  # The step continues while the process answers.
        assert await process.stdout.readexactly(12) == b"[" + HEAD + BODY + b"]"
    finally:
        process.kill()
        await process.wait()
