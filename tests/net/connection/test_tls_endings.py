"""Ends of a TLS connection: regular, half-closed, truncated and invalid. No data is lost."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from tests.net.tls_tools import (
    PATIENCE,
    Recorder,
    both_versions,
    contexts,
    listening,
    protocols,
    streams,
    until,
)
from tests.net.tools import serving
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context
from tests.support.tls_peer import (
    HTTP_ANSWER,
    TlsPeer,
    corrupted,
    overlong_record,
    tls_client,
    tls_server,
)
from tests.support.tls_records import ALERT, APPLICATION_DATA, CLOSE_NOTIFY

MEGABYTE = bytes(range(256)) * 4096


def run_client(
    certificates: Certificates,
    behave: Callable[[TlsPeer], Any],
    use: Callable[[runtime.StreamReader, runtime.StreamWriter], Any],
    version: str | None = None,
    *,
    by_hand: bool = False,
    **options: Any,
) -> Any:
    """Call ``use`` with streams to a server that runs ``behave``; return the result of that."""

    async def main() -> Any:
        server_side, client_side = contexts(certificates, version)
        with tls_server(server_side, behave, by_hand=by_hand) as server:
            reader, writer = await runtime.open_connection(
                *server.address, ssl=client_side, server_hostname=NAME, **options
            )
            try:
                async with runtime.timeout(PATIENCE):
                    await use(reader, writer)
            finally:
                writer.abort()
            return await runtime.to_thread(server.result)

    return runtime.run(main())


async def close(writer: runtime.StreamWriter) -> None:
    writer.close()
    await writer.wait_closed()


# -- Regular ends ----------------------------------------------------------------------------------


@both_versions
def test_data_written_before_close_arrives(certificates: Certificates, version: str) -> None:
    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        received = peer.receive(1)
        # A slow peer, which sends data in between.
        for _ in range(5):
            time.sleep(0.01)
            received += peer.receive(1000)
            peer.send(b"late")
        received += peer.receive_all()
        peer.send_raw(peer.sealed_close_notify())
        return received

    async def use(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        for _part in range(4):
            writer.write(MEGABYTE)
        await close(writer)

    assert run_client(certificates, behave, use, version) == 4 * MEGABYTE


def test_a_slow_peer_may_take_longer_than_the_shutdown_timeout(certificates: Certificates) -> None:
    """The timeout is for a peer that does nothing, not for one that reads."""

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        received = b""
        while len(received) < len(MEGABYTE):
            time.sleep(0.002)
            received += peer.receive(16384)
        return received + peer.receive_all()

    async def use(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        raw = writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        writer.write(MEGABYTE)
        await close(writer)

    assert run_client(certificates, behave, use, ssl_shutdown_timeout=0.05) == MEGABYTE


@both_versions
def test_data_before_the_close_notify_is_read(certificates: Certificates, version: str) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        # Data and the close_notify in one segment.
        peer.send_raw(peer.sealed(b"first ") + peer.sealed(b"last") + peer.sealed_close_notify())
        assert peer.receive_all() == b"answer"

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.read() == b"first last"
        assert reader.at_eof()
        assert writer.get_extra_info("truncated") is False
        assert not writer.is_closing()
        writer.write(b"answer")
        await close(writer)

    run_client(certificates, behave, use, version)


def test_writing_goes_on_after_the_peers_close_notify(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        peer.send_raw(peer.sealed_close_notify())
        return peer.receive_all()

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.read() == b""
        for _ in range(3):
            writer.write(MEGABYTE)
            await writer.drain()
        await close(writer)

    assert run_client(certificates, behave, use, "TLSv1_3") == 3 * MEGABYTE


async def test_a_close_notify_while_much_data_is_unsent(certificates: Certificates) -> None:
    """It closes the connection of a protocol once all written data was sent."""

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        assert peer.receive_exactly(1) == MEGABYTE[:1]
        # Sealed by hand: OpenSSL sends no close_notify while received records are unread.
        peer.send_raw(peer.sealer().seal(ALERT, CLOSE_NOTIFY))
        return peer.receive_all()

    server_side, client_side = contexts(certificates)
    loop = asyncio.get_running_loop()
    with tls_server(server_side, behave, by_hand=True) as server:
        transport, protocol = await loop.create_connection(
            Recorder, *server.address, ssl=client_side, server_hostname=NAME
        )
        transport.write(8 * MEGABYTE)
        assert await protocol.ended() is None
        assert "eof" in protocol.events
        assert protocol.events[-1] == "lost"
        assert await runtime.to_thread(server.result) == (8 * MEGABYTE)[1:]


def test_data_after_a_close_notify_is_ignored(certificates: Certificates) -> None:
    """It does not fill the memory either while our side continues writing."""

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        sealer = peer.sealer()
        for kind, body in (
            (ALERT, CLOSE_NOTIFY),
            (ALERT, CLOSE_NOTIFY),
            (APPLICATION_DATA, b"what nobody may see"),
        ):
            peer.send_raw(sealer.seal(kind, body))
        for _ in range(20):
            peer.send_raw(MEGABYTE)
        sent.set()
        return peer.receive_all()

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.read() == b""
        await until(sent.is_set)
        layer: Any = reader._adapter.lower
        assert layer._incoming.pending < len(MEGABYTE)
        writer.write(b"still here")
        await close(writer)

    sent = threading.Event()
    assert run_client(certificates, behave, use, by_hand=True) == b"still here"


@both_versions
async def test_both_close_at_once(certificates: Certificates, version: str) -> None:
    async with streams(*contexts(certificates, version)) as (client, server):
        for _, writer in (client, server):
            writer.write(MEGABYTE)
            writer.close()
        await runtime.gather(client[1].wait_closed(), server[1].wait_closed())


async def test_closing_with_much_unread_data(certificates: Certificates) -> None:
    """Unread data is dropped, and written data arrives all the same."""
    async with streams(*contexts(certificates)) as (client, server):
        client[1].write(4 * MEGABYTE)
        await until(lambda: server[0]._adapter.unread.size > 2 * 65536)
        server[1].write(b"the answer")
        server[1].close()
        assert await client[0].read() == b"the answer"
        # The number of dropped bytes is bounded: later bytes of the client are refused.
        with contextlib.suppress(ConnectionError):
            await close(client[1])
        await server[1].wait_closed()


async def test_closing_with_records_that_are_not_decrypted(certificates: Certificates) -> None:
    """OpenSSL would send an alert if it found them while it makes the close_notify."""

    class Paused(Recorder):
        def data_received(self, data: bytes) -> None:
            super().data_received(data)
            self.transport.pause_reading()

    server_side, client_side = contexts(certificates)
    made: list[Any] = []

    def factory() -> Recorder:
        made.append(paused := Paused())
        return paused

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        peer.send_raw(peer.sealed(b"1") + peer.sealed(b"2") + peer.sealed(b"3"))
        answer = peer.receive_all()
        # The client sent nothing after its close_notify, in particular no alert.
        peer.send_raw(peer.sealed(b"ignored") + peer.sealed_close_notify())
        assert peer.receive_raw() == b""
        return answer

    async with listening(factory, server_side) as address:
        with tls_client(address, client_side, behave) as client:
            await until(lambda: made and made[0].received)
            made[0].transport.write(MEGABYTE)
            made[0].transport.close()
            assert await made[0].ended() is None
            assert await runtime.to_thread(client.result) == MEGABYTE
    assert made[0].received == b"1"


# -- The peer does not answer ----------------------------------------------------------------------


def test_a_peer_that_never_answers(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        # It continues sending instead.
        with contextlib.suppress(OSError):
            while True:
                peer.send(b"x" * 16384)

    async def use(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.close()
        with pytest.raises(TimeoutError, match="SSL shutdown timed out after 0.05 seconds"):
            await writer.wait_closed()

    run_client(certificates, behave, use, ssl_shutdown_timeout=0.05)


def test_a_peer_that_never_reads(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        done.acquire()

    async def use(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(16 * MEGABYTE)
        writer.close()
        with pytest.raises(TimeoutError, match="SSL shutdown"):
            await writer.wait_closed()
        done.release()

    done = threading.Semaphore(0)
    run_client(certificates, behave, use, ssl_shutdown_timeout=0.05)


def test_a_peer_that_ends_without_an_answer(certificates: Certificates) -> None:
    """Many peers do. It is not an error after our close_notify, since no data is missing."""

    def behave(peer: TlsPeer) -> bytes:
        peer.handshake()
        return peer.receive_all()

    async def use(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(MEGABYTE)
        await close(writer)

    assert run_client(certificates, behave, use) == MEGABYTE


# -- Truncated and invalid data --------------------------------------------------------------------


@both_versions
@pytest.mark.parametrize("cut", [0, 10])
def test_truncation(certificates: Certificates, version: str, cut: int) -> None:
    """All received data is read, then the reader raises that data may be missing."""

    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send_raw(peer.sealed(b"all of this") + peer.sealed(b"and that")[: -cut or None])
        peer.truncate()
        # The peer gets no alert either, which it would report as a failure.
        assert peer.receive_raw_until_end() == b""

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        expected = b"all of this" + (b"" if cut else b"and that")
        assert await reader.readexactly(len(expected) - 2) == expected[:-2]
        with pytest.raises(ssl.SSLEOFError, match="data may be missing") as caught:
            await reader.read()
        assert isinstance(caught.value, ConnectionError)
        assert writer.get_extra_info("truncated") is True
        assert await reader.read(100) == expected[-2:]
        for reading in (reader.read(1), reader.readline(), reader.readexactly(1)):
            with pytest.raises(ssl.SSLEOFError):
                await reading
        with pytest.raises(ssl.SSLEOFError):
            await writer.drain()
        with pytest.raises(ssl.SSLEOFError):
            await writer.wait_closed()
        assert isinstance(reader.exception(), ssl.SSLEOFError)

    run_client(certificates, behave, use, version)


async def test_a_protocol_recognizes_truncation_by_the_missing_eof_received(
    certificates: Certificates,
) -> None:
    for in_order in (True, False):

        def behave(peer: TlsPeer, in_order: bool = in_order) -> None:
            peer.handshake()
            peer.send_raw(peer.sealed(b"data"))
            if in_order:
                peer.send_raw(peer.sealed_close_notify())
            peer.truncate()
            peer.receive_raw_until_end()

        server_side, client_side = contexts(certificates)
        with tls_server(server_side, behave) as server:
            transport, protocol = await asyncio.get_running_loop().create_connection(
                Recorder, *server.address, ssl=client_side, server_hostname=NAME
            )
            assert await protocol.ended() is None
        assert ("eof" in protocol.events) is in_order
        assert protocol.received == b"data"
        assert transport.get_extra_info("truncated") is not in_order


def test_truncation_is_raised_after_the_unread_data(certificates: Certificates) -> None:
    """Also if reading is paused when the end comes."""

    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send(MEGABYTE)
        peer.truncate()

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await until(lambda: reader._adapter._paused)
        received = b""
        with pytest.raises(ssl.SSLEOFError):
            while True:
                received += await reader.read(10_000)
        assert received == MEGABYTE

    run_client(certificates, behave, use, limit=1000)


@both_versions
@pytest.mark.parametrize("kind", ["corrupted", "overlong", "plain text"])
def test_invalid_records_in_the_middle_of_the_stream(
    certificates: Certificates, kind: str, version: str
) -> None:
    def behave(peer: TlsPeer) -> str:
        peer.handshake()
        in_order = peer.sealed(b"in order")
        nonsense = {
            "corrupted": corrupted(peer.sealed(b"never accepted")),
            "overlong": overlong_record(),
            "plain text": HTTP_ANSWER,
        }
        peer.send_raw(in_order + nonsense[kind])
        with pytest.raises(ssl.SSLError) as caught:
            peer.receive()
        return str(caught.value.reason)

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.readexactly(8) == b"in order"
        with pytest.raises(ssl.SSLError) as caught:
            await reader.read(1)
        assert not isinstance(caught.value, ssl.SSLEOFError)
        assert caught.value.reason
        assert writer.is_closing()
        assert writer.get_extra_info("truncated") is False

    assert "ALERT" in run_client(certificates, behave, use, version)


def test_a_reset(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        peer.send(b"data")
        peer.receive_exactly(1)
        peer.reset()

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        assert await reader.readexactly(4) == b"data"
        writer.write(b"!")
        with pytest.raises(ConnectionResetError):
            await reader.read(1)
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()
        assert writer.get_extra_info("truncated") is False

    run_client(certificates, behave, use)


@pytest.mark.parametrize(
    "hello", [b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff", b"\0"]
)
def test_a_server_receives_another_protocol(certificates: Certificates, hello: bytes) -> None:
    called: list[object] = []

    async def main() -> None:
        server_side, client_side = contexts(certificates)

        def behave(peer: TlsPeer) -> bytes:
            peer.send_raw(hello)
            peer.truncate()
            return peer.receive_raw_until_end()

        async with serving(lambda *pair: called.append(pair), ssl=server_side) as address:
            with tls_client(address, client_side, behave) as client:
                answer = await runtime.to_thread(client.result)
            assert b"HTTP" not in answer

    runtime.run(main())
    assert called == []


async def test_a_client_receives_plain_text(certificates: Certificates) -> None:
    def behave(peer: TlsPeer) -> None:
        peer.receive_raw()
        peer.send_raw(HTTP_ANSWER)
        peer.receive_raw_until_end()

    with (
        tls_server(contexts(certificates)[0], behave) as server,
        pytest.raises(ssl.SSLError, match="WRONG_VERSION_NUMBER"),
    ):
        await runtime.open_connection(
            *server.address, ssl=client_context(certificates), server_hostname=NAME
        )


# -- Abort -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["open", "much unsent", "closing", "paused", "truncated"])
async def test_abort_in_every_state(certificates: Certificates, state: str) -> None:
    async with protocols(certificates) as (client, server):
        if state == "much unsent":
            server.transport.pause_reading()
            client.transport.write(8 * MEGABYTE)
        elif state == "closing":
            client.transport.close()
        elif state == "paused":
            client.transport.pause_reading()
        elif state == "truncated":
            server.transport.abort()
            await asyncio.sleep(0)
        sock = client.transport.get_extra_info("socket")
        client.transport.abort()
        assert sock.fileno() == -1
        assert await client.ended() is None
        assert client.transport.is_closing()
        server.transport.resume_reading()
        await server.ended()


async def test_a_lost_connection_has_no_unsent_bytes(certificates: Certificates) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await runtime.open_connection(sock=ours)
        upgrading = runtime.create_task(
            writer.start_tls(contexts(certificates)[1], server_hostname=NAME)
        )
        await all_tasks_blocked()
        writer.write(b"x" * 1000)  # It waits for the end of the handshake.
        assert writer.transport.get_write_buffer_size() >= 1000
        writer.transport.abort()
        with pytest.raises(ConnectionAbortedError):
            await upgrading
        assert writer.transport.get_write_buffer_size() == 0


async def test_closing_a_connection_whose_socket_was_closed(certificates: Certificates) -> None:
    async with streams(*contexts(certificates)) as ((_, writer), _peer):
        writer.get_extra_info("socket").close()
        writer.close()
        with pytest.raises(ConnectionAbortedError, match="closed while"):
            await runtime.wait_for(writer.wait_closed(), PATIENCE)
