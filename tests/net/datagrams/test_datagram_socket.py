"""The datagram transport: its improvements over asyncio's, and its cost."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import socket
import weakref
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL, Recorder, bound_socket, fill
from tests.net.tools import until
from tests.support.blocked import all_tasks_blocked


async def endpoint(*args: Any, **options: Any) -> tuple[Any, Recorder]:
    return await runtime.get_running_loop().create_datagram_endpoint(Recorder, *args, **options)


def reports() -> list[dict[str, Any]]:
    """Return a list to which the loop's exception handler appends its reports."""
    found: list[dict[str, Any]] = []
    runtime.get_running_loop().set_exception_handler(lambda _, context: found.append(context))
    return found


class CountingSocket(socket.socket):
    """Socket that counts the attempts to receive a datagram, and those that found none."""

    asked = 0
    in_vain = 0

    def recvfrom(self, *args: Any) -> tuple[bytes, Any]:
        CountingSocket.asked += 1
        try:
            return super().recvfrom(*args)
        except BlockingIOError:
            CountingSocket.in_vain += 1
            raise


async def test_it_is_an_asyncio_datagram_transport() -> None:
    transport, _ = await endpoint(LOCAL)
    assert isinstance(transport, asyncio.DatagramTransport)
    assert "open" in repr(transport)
    assert str(transport.get_extra_info("sockname")) in repr(transport)
    transport.close()
    assert "closing" in repr(transport)
    await all_tasks_blocked()
    assert "closed" in repr(transport)
    assert transport.get_protocol() is None


async def test_single_datagrams_rarely_cost_a_vain_attempt() -> None:
    rounds = 300

    CountingSocket.asked = CountingSocket.in_vain = 0
    sock = CountingSocket(type=socket.SOCK_DGRAM)
    sock.bind(LOCAL)
    transport, protocol = await endpoint(sock=sock)
    with socket.socket(type=socket.SOCK_DGRAM) as peer:
        for number in range(rounds):
            peer.sendto(b"ping", sock.getsockname())
            await protocol.until_received(number + 1)
    transport.close()
    assert CountingSocket.in_vain <= 12
    assert CountingSocket.asked == rounds + CountingSocket.in_vain


async def test_a_flood_is_received_in_batches(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    transport, protocol = await endpoint(path, family=socket.AF_UNIX)
    transport.pause_reading()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.setblocking(False)
        count = 0
        with pytest.raises(BlockingIOError):
            while True:
                peer.sendto(b"x", path)
                count += 1
    turns = 0
    transport.resume_reading()
    while len(protocol.received) < count:
        await runtime.sleep(0)
        turns += 1
    assert turns <= 6 + count // 8
    transport.close()


async def test_the_batch_ends_when_the_protocol_pauses_or_closes(tmp_path: Path) -> None:
    class OneMore(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            if data == b"pause":
                self.transport.pause_reading()
            if data == b"close":
                self.transport.close()

    loop = runtime.get_running_loop()
    path = str(tmp_path / "socket")
    transport, protocol = await loop.create_datagram_endpoint(OneMore, path, family=socket.AF_UNIX)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        for data in (b"1", b"2", b"3", b"pause", b"4", b"close", b"never"):
            peer.sendto(data, path)
    await protocol.until(lambda: b"pause" in protocol.received)
    await all_tasks_blocked()
    assert protocol.received[-1] == b"pause"
    transport.resume_reading()
    await protocol.until_lost()
    assert protocol.received[-1] == b"close"


@pytest.mark.parametrize(
    "method",
    ["connection_made", "datagram_received", "error_received", "connection_lost"],
)
async def test_an_exception_of_the_protocol_is_reported_with_its_context(method: str) -> None:
    failure = RuntimeError("the protocol's fault")

    class Failing(Recorder):
        def _note(self, call: str) -> None:
            super()._note(call)
            if call == method:
                raise failure

    found = reports()
    loop = runtime.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Failing, local_addr=LOCAL)
    transport.sendto(b"x" * 100_000, transport.get_extra_info("sockname"))
    transport.sendto(b"to myself", transport.get_extra_info("sockname"))
    await protocol.until(lambda: protocol.received)
    transport.close()
    await protocol.until_lost()
    assert found == [
        {
            "message": f"protocol.{method}() failed",
            "exception": failure,
            "transport": transport,
            "protocol": protocol,
        }
    ]
    await until(lambda: transport.get_protocol() is None)


async def test_pause_and_resume_that_raise_are_reported(tmp_path: Path) -> None:
    class Failing(Recorder):
        def _note(self, call: str) -> None:
            super()._note(call)
            if call in ("pause_writing", "resume_writing"):
                raise RuntimeError(call)

    found = reports()
    loop = runtime.get_running_loop()
    path = str(tmp_path / "socket")
    with bound_socket(path) as peer:
        transport, protocol = await loop.create_datagram_endpoint(
            Failing, remote_addr=path, family=socket.AF_UNIX
        )
        transport.set_write_buffer_limits(0)
        for _ in fill(transport)[:-1]:
            peer.recv(100)
        await protocol.until(lambda: "resume_writing" in protocol.calls)
        transport.close()
        await protocol.until_lost()
    assert [str(report["exception"]) for report in found] == ["pause_writing", "resume_writing"]


def test_a_system_exit_is_not_caught() -> None:
    class Leaving(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.abort()
            raise SystemExit(7)

    async def main() -> None:
        loop = runtime.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(Leaving, local_addr=LOCAL)
        transport.sendto(b"leave", transport.get_extra_info("sockname"))
        await runtime.sleep(30)

    with pytest.raises(SystemExit):
        runtime.run(main())


async def test_a_datagram_without_an_address_is_refused_at_the_call() -> None:
    transport, protocol = await endpoint(LOCAL)
    with pytest.raises(ValueError, match="needs an address"):
        transport.sendto(b"where to?")
    assert not transport.is_closing()
    transport.close()
    await protocol.until_lost()


@pytest.mark.parametrize("address", ["127.0.0.1", ("127.0.0.1",), ("127.0.0.1", "x"), 7])
async def test_a_malformed_address_is_refused_at_the_call(address: Any) -> None:
    transport, protocol = await endpoint(LOCAL)
    with pytest.raises(TypeError):
        transport.sendto(b"where to?", address)
    with pytest.raises(OverflowError):
        transport.sendto(b"where to?", ("127.0.0.1", 65536))
    assert not transport.is_closing()
    transport.close()
    await protocol.until_lost()


async def test_a_malformed_address_among_the_unsent_is_reported_and_the_rest_sent(
    tmp_path: Path,
) -> None:
    found = reports()
    path = str(tmp_path / "socket")
    with bound_socket(path) as peer:
        transport, protocol = await endpoint(family=socket.AF_UNIX)
        sent: list[bytes] = []
        while not transport.get_write_buffer_size():
            sent.append(b"%d" % len(sent))
            transport.sendto(sent[-1], path)
        transport.sendto(b"nowhere", 7)
        transport.sendto(b"nobody", str(tmp_path / "nothing"))
        transport.sendto(b"last", path)
        transport.close()
        arrived = [peer.recv(100) for _ in sent[:-1]]
        await protocol.until_lost()
        arrived += [peer.recv(100), peer.recv(100)]
    assert arrived == [*sent, b"last"]
    assert [type(report["exception"]) for report in found] == [TypeError]
    assert [type(error) for error in protocol.errors] == [FileNotFoundError]


async def test_a_given_connected_socket_sends_to_no_other_address() -> None:
    # asyncio ignores the address and sends to the peer.

    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with theirs:
        transport, protocol = await endpoint(sock=ours)
        transport.sendto(b"hello")
        assert theirs.recv(10) == b"hello"
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"hello", "/somewhere/else")
        transport.close()
        await protocol.until_lost()


@pytest.mark.skipif(not socket.has_ipv6, reason="without IPv6")
async def test_flow_and_scope_may_be_left_out_of_the_address() -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        try:
            peer.bind(("::1", 0))
        except OSError:
            pytest.skip("IPv6 is off on this host")
        peer.settimeout(30)
        address = peer.getsockname()
        transport, protocol = await endpoint(remote_addr=address[:2])
        transport.sendto(b"short", address[:2])
        transport.sendto(b"whole", address)
        assert [peer.recv(10), peer.recv(10)] == [b"short", b"whole"]
        with pytest.raises(ValueError, match="Invalid address"):
            transport.sendto(b"other", ("::1", address[1] ^ 1))
        transport.close()
        await protocol.until_lost()


def test_sending_after_the_end_is_warned_about(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        for options in ({"local_addr": LOCAL}, {"remote_addr": ("127.0.0.1", 9)}):
            transport, protocol = await endpoint(**options)
            transport.close()
            await protocol.until_lost()
            for _ in range(6):
                transport.sendto(b"too late", ("127.0.0.1", 9))
            assert protocol.errors == []

    with caplog.at_level(logging.WARNING, "asyncio"):
        runtime.run(main())
    assert [record.getMessage().split(":")[0] for record in caplog.records] == [
        "sendto() on a transport that is closed"
    ] * 2


async def test_a_factory_that_raises_leaves_no_socket_behind() -> None:
    def factory() -> Recorder:
        raise RuntimeError("no protocol today")

    loop = runtime.get_running_loop()
    with pytest.raises(RuntimeError, match="no protocol today"):
        await loop.create_datagram_endpoint(factory, local_addr=LOCAL)
    with bound_socket() as sock:
        with pytest.raises(RuntimeError, match="no protocol today"):
            await loop.create_datagram_endpoint(factory, sock=sock)
        assert sock.fileno() >= 0


async def test_an_endpoint_whose_making_is_cancelled_is_closed() -> None:
    loop = runtime.get_running_loop()
    protocol = Recorder()
    making = runtime.create_task(loop.create_datagram_endpoint(lambda: protocol, local_addr=LOCAL))
    await runtime.sleep(0)
    making.cancel()
    with pytest.raises(runtime.CancelledError):
        await making
    await protocol.until_lost()
    assert protocol.calls == ["connection_made", "connection_lost"]


async def test_a_socket_belongs_to_one_endpoint() -> None:
    sock = bound_socket()
    transport, protocol = await endpoint(sock=sock)
    with pytest.raises(RuntimeError, match="used by another endpoint"):
        await endpoint(sock=sock)
    transport.close()
    await protocol.until_lost()


def test_a_closed_transport_is_freed_without_the_garbage_collector() -> None:
    marker: ContextVar[object] = ContextVar("marker")

    class Marker:
        pass

    async def main() -> list[weakref.ref[Any]]:
        kept = Marker()
        marker.set(kept)
        transport, protocol = await endpoint(LOCAL)
        transport.sendto(b"to myself", transport.get_extra_info("sockname"))
        await protocol.until(lambda: protocol.received)
        transport.close()
        await protocol.until_lost()
        protocol.transport = None
        return [weakref.ref(transport), weakref.ref(protocol), weakref.ref(kept)]

    gc.collect()
    gc.disable()
    try:
        left = runtime.run(main())
        assert [ref() for ref in left] == [None] * 3
    finally:
        gc.enable()


def test_an_unclosed_transport_is_warned_about() -> None:
    async def main() -> int:
        transport, protocol = await endpoint(LOCAL)
        number: int = transport.get_extra_info("socket").fileno()
        del transport, protocol
        return number

    number = runtime.run(main())
    with pytest.warns(ResourceWarning) as warned:
        gc.collect()
    messages = [str(warning.message) for warning in warned]
    assert any("unclosed transport <DatagramTransport open" in message for message in messages)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(number)


def test_closing_after_the_loop_closes_the_socket() -> None:
    loop = runtime.new_event_loop()
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(Recorder, local_addr=LOCAL)
    )
    sock = transport.get_extra_info("socket")
    loop.close()
    transport.close()
    assert sock.fileno() == -1
    assert protocol.lost == []


async def test_a_protocol_may_close_in_connection_made() -> None:
    class Shy(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.close()

    loop = runtime.get_running_loop()
    transport, protocol = await loop.create_datagram_endpoint(Shy, local_addr=LOCAL)
    assert transport.is_closing()
    await protocol.until_lost()
    assert protocol.calls == ["connection_made", "connection_lost"]


async def test_a_socket_that_cannot_be_watched_is_an_error(tmp_path: Path) -> None:
    class Rude(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            replace(transport.get_extra_info("socket").fileno())

    def replace(number: int) -> None:
        with (tmp_path / "file").open("w") as file:
            os.dup2(file.fileno(), number)

    protocol = Rude()
    loop = runtime.get_running_loop()
    with pytest.raises(PermissionError):
        await loop.create_datagram_endpoint(lambda: protocol, local_addr=LOCAL)
    await protocol.until_lost()
    assert isinstance(protocol.lost[0], PermissionError)
    with bound_socket() as sock:
        replace(sock.fileno())
        with pytest.raises(PermissionError):
            await runtime.open_datagram(sock=sock)


def test_a_path_that_cannot_be_checked_is_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # Not asynchronous, because simulated Unix sockets need no folder for their paths.
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        runtime.run(endpoint(str(tmp_path / "file" / "socket"), family=socket.AF_UNIX))
    assert "Unable to check or remove stale UNIX socket" in caplog.text


async def test_a_system_that_cannot_share_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="reuse_port is not supported"):
        await endpoint(LOCAL, reuse_port=True)
