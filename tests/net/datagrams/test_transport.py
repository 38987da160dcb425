"""``create_datagram_endpoint``: asyncio's promises, tested on its own loop and on ours."""

from __future__ import annotations

import asyncio
import contextvars
import socket
import sys
from asyncio.trsock import TransportSocket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL, Recorder, bound_socket, fill, silent_address

Run = Callable[[Coroutine[Any, Any, None]], None]

# Python 3.13 introduced empty datagrams, and counts a header for each datagram.
RECENT = sys.version_info >= (3, 13)


def new_asyncio_loop() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


@pytest.fixture(params=[new_asyncio_loop, runtime.new_event_loop])
def run(request: pytest.FixtureRequest) -> Iterator[Run]:
    """Return a function that runs a coroutine, on a loop of asyncio or of runtime."""
    loop: asyncio.AbstractEventLoop = request.param()
    yield loop.run_until_complete
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()


def on_asyncio(request: pytest.FixtureRequest) -> bool:
    return new_asyncio_loop in request.node.callspec.params.values()


async def endpoint(*args: Any, **options: Any) -> tuple[Any, Recorder]:
    return await asyncio.get_running_loop().create_datagram_endpoint(Recorder, *args, **options)


async def close(*ends: tuple[Any, Recorder]) -> None:
    for transport, protocol in ends:
        transport.close()
        await protocol.until_lost()


def test_a_question_and_an_answer(run: Run) -> None:
    async def main() -> None:
        server, asked = await endpoint(LOCAL)
        client, answered = await endpoint(remote_addr=server.get_extra_info("sockname"))
        client.sendto(b"question")
        await asked.until(lambda: asked.received)
        assert asked.received == [b"question"]
        assert asked.senders == [client.get_extra_info("sockname")]
        server.sendto(b"answer", asked.senders[0])
        await answered.until(lambda: answered.received)
        assert answered.received == [b"answer"]
        assert answered.senders == [server.get_extra_info("sockname")]
        await close((server, asked), (client, answered))
        assert asked.calls == ["connection_made", "datagram_received", "connection_lost"]
        assert asked.lost == [None]

    run(main())


def test_connection_made_is_called_before_the_transport_is_returned(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(LOCAL)
        assert protocol.calls == ["connection_made"]
        assert protocol.transport is transport
        assert transport.get_protocol() is protocol
        assert isinstance(transport, asyncio.BaseTransport)
        await close((transport, protocol))

    run(main())


def test_connection_lost_is_called_once_and_later(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(LOCAL)
        assert not transport.is_closing()
        transport.close()
        assert transport.is_closing()
        transport.close()
        transport.abort()
        assert protocol.lost == []
        await protocol.until_lost()
        transport.close()
        await asyncio.sleep(0)
        assert protocol.lost == [None]

    run(main())


def test_the_socket_can_be_used_in_connection_lost(run: Run) -> None:
    names: list[Any] = []

    class Curious(Recorder):
        def connection_lost(self, exc: Exception | None) -> None:
            names.append(self.transport.get_extra_info("socket").getsockname())
            super().connection_lost(exc)

    async def main() -> None:
        loop = asyncio.get_running_loop()
        transport, protocol = await loop.create_datagram_endpoint(Curious, local_addr=LOCAL)
        names.append(transport.get_extra_info("sockname"))
        await close((transport, protocol))
        assert transport.get_extra_info("sockname") == names[0]

    run(main())
    assert names[0] == names[1]


@pytest.mark.parametrize("data", [b"bytes", bytearray(b"array"), memoryview(b"view")])
def test_anything_bytes_like_is_sent(run: Run, data: Any) -> None:
    async def main() -> None:
        with bound_socket() as peer:
            transport, protocol = await endpoint(remote_addr=peer.getsockname())
            transport.sendto(data)
            assert peer.recv(100) == bytes(data)
            with pytest.raises(TypeError, match="data argument must be a bytes-like object"):
                transport.sendto("text")
            await close((transport, protocol))

    run(main())


def test_an_empty_datagram_is_a_datagram(run: Run, request: pytest.FixtureRequest) -> None:
    if on_asyncio(request) and not RECENT:
        pytest.skip("asyncio drops it before Python 3.13")

    async def main() -> None:
        server, heard = await endpoint(LOCAL)
        address = server.get_extra_info("sockname")
        connected, _ = one = await endpoint(remote_addr=address)
        unconnected, _ = two = await endpoint(family=socket.AF_INET)
        connected.sendto(b"")
        unconnected.sendto(b"", address)
        connected.sendto(b"end")
        await heard.until(lambda: b"end" in heard.received)
        assert heard.received == [b"", b"", b"end"]
        await close((server, heard), one, two)

    run(main())


def test_a_connected_endpoint_sends_to_no_other_address(run: Run) -> None:
    async def main() -> None:
        with bound_socket() as peer, bound_socket() as other:
            transport, protocol = await endpoint(remote_addr=peer.getsockname())
            transport.sendto(b"1")
            transport.sendto(b"2", peer.getsockname())
            with pytest.raises(ValueError, match="Invalid address"):
                transport.sendto(b"3", other.getsockname())
            transport.sendto(b"4", None)
            assert [peer.recv(10) for _ in range(3)] == [b"1", b"2", b"4"]
            await close((transport, protocol))

    run(main())


def test_with_broadcast_the_remote_address_is_only_a_default(run: Run) -> None:
    async def main() -> None:
        with bound_socket() as peer, bound_socket() as other:
            remote = peer.getsockname()
            transport, protocol = await endpoint(LOCAL, remote, allow_broadcast=True)
            sock = transport.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert transport.get_extra_info("peername") is None
            transport.sendto(b"hello")
            data, sender = peer.recvfrom(10)
            assert data == b"hello"
            assert sender == transport.get_extra_info("sockname")
            other.sendto(b"from another", sender)
            await protocol.until(lambda: protocol.received)
            with pytest.raises(ValueError, match="Invalid address"):
                transport.sendto(b"x", other.getsockname())
            await close((transport, protocol))

    run(main())


def test_a_refused_datagram_is_reported_to_the_protocol(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(remote_addr=silent_address())
        transport.sendto(b"is anybody there?")
        await protocol.until(lambda: protocol.errors)
        assert isinstance(protocol.errors[0], ConnectionRefusedError)
        assert not transport.is_closing()
        await close((transport, protocol))

    run(main())


def test_an_error_of_the_system_is_reported_to_the_protocol(run: Run) -> None:
    async def main() -> None:
        with bound_socket() as peer:
            transport, protocol = await endpoint(LOCAL)
            transport.sendto(b"x" * 100_000, peer.getsockname())
            assert [type(error) for error in protocol.errors] == [OSError]
            transport.sendto(b"y", peer.getsockname())
            assert peer.recv(10) == b"y"
            await close((transport, protocol))

    run(main())


def test_a_protocol_that_raises_is_reported_and_goes_on(run: Run) -> None:
    class Clumsy(Recorder):
        def datagram_received(self, data: bytes, addr: Any) -> None:
            super().datagram_received(data, addr)
            raise RuntimeError(data.decode())

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: reports.append(context))
        transport, protocol = await loop.create_datagram_endpoint(Clumsy, local_addr=LOCAL)
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            for data in (b"one", b"two"):
                peer.sendto(data, transport.get_extra_info("sockname"))
        await protocol.until(lambda: len(protocol.received) == 2)
        await close((transport, protocol))
        assert [str(report["exception"]) for report in reports] == ["one", "two"]

    run(main())


def test_many_datagrams_arrive_in_order(run: Run, tmp_path: Path) -> None:
    # A Unix socket drops nothing and makes the sender wait: most are sent from the write buffer.
    count = 2000

    async def main() -> None:
        path = str(tmp_path / "socket")
        server, heard = await endpoint(path, family=socket.AF_UNIX)
        client, _ = one = await endpoint(remote_addr=path, family=socket.AF_UNIX)
        for number in range(count):
            client.sendto(b"%d" % number)
        await heard.until(lambda: len(heard.received) == count)
        assert heard.received == [b"%d" % number for number in range(count)]
        await close((server, heard), one)

    run(main())


def test_back_pressure_and_flush(run: Run, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    if on_asyncio(request) and RECENT:
        pytest.skip("asyncio 3.13.0 never takes the headers off, and so never resumes")

    async def main() -> None:
        with bound_socket(tmp_path / "peer") as peer:
            transport, protocol = await endpoint(
                remote_addr=str(tmp_path / "peer"), family=socket.AF_UNIX
            )
            transport.set_write_buffer_limits(high=100, low=10)
            assert transport.get_write_buffer_limits() == (10, 100)
            sent = fill(transport)
            assert "pause_writing" not in protocol.calls
            while "pause_writing" not in protocol.calls:
                sent.append(b"x" * 20)
                transport.sendto(sent[-1])
            assert transport.get_write_buffer_size() > 100
            arrived = [peer.recv(100) for _ in range(len(sent) // 2)]
            while "resume_writing" not in protocol.calls:
                arrived.append(await asyncio.to_thread(peer.recv, 100))
            assert protocol.calls.count("pause_writing") == 1
            sent.extend(fill(transport))
            changeable = bytearray(b"last")
            transport.sendto(changeable)
            sent.append(bytes(changeable))
            changeable[:] = b"lost"
            transport.close()
            assert protocol.lost == []
            while len(arrived) < len(sent):
                arrived.append(await asyncio.to_thread(peer.recv, 100))
            await protocol.until_lost()
            assert arrived == sent
            assert transport.get_write_buffer_size() == 0

    run(main())


def test_the_write_buffer_counts_headers(
    run: Run, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    if on_asyncio(request) and not RECENT:
        pytest.skip("asyncio counts the bytes alone before Python 3.13")

    async def main() -> None:
        with bound_socket(tmp_path / "peer"):
            transport, protocol = await endpoint(
                remote_addr=str(tmp_path / "peer"), family=socket.AF_UNIX
            )
            fill(transport)
            before = transport.get_write_buffer_size()
            assert before == 6 + 8
            transport.sendto(b"")
            transport.sendto(bytearray(5))
            assert transport.get_write_buffer_size() == before + 8 + 13
            transport.abort()
            await protocol.until_lost()

    run(main())


def test_abort_drops_unsent_datagrams(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        with bound_socket(tmp_path / "peer") as peer:
            transport, protocol = await endpoint(
                remote_addr=str(tmp_path / "peer"), family=socket.AF_UNIX
            )
            sent = fill(transport)
            transport.abort()
            await protocol.until_lost()
            assert protocol.lost == [None]
            assert [peer.recv(100) for _ in sent[:-1]] == sent[:-1]
            peer.setblocking(False)
            with pytest.raises(BlockingIOError):
                peer.recv(100)

    run(main())


@pytest.mark.parametrize(
    ("high", "low", "marks"),
    [
        (None, None, (16 * 1024, 64 * 1024)),
        (None, 100, (100, 400)),
        (1000, None, (250, 1000)),
        (0, 0, (0, 0)),
    ],
)
def test_water_marks(run: Run, high: int | None, low: int | None, marks: tuple[int, int]) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(LOCAL)
        transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == marks
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        with pytest.raises(ValueError, match="must be >= 0"):
            transport.set_write_buffer_limits(low=-1)
        assert transport.get_write_buffer_limits() == marks
        await close((transport, protocol))

    run(main())


def test_another_protocol_can_take_over(run: Run) -> None:
    async def main() -> None:
        transport, first = await endpoint(LOCAL)
        second = Recorder()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"for the second", transport.get_extra_info("sockname"))
        await second.until(lambda: second.received)
        await close((transport, second))
        assert first.calls == ["connection_made"]

    run(main())


def test_reading_can_be_paused(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(LOCAL)
        other, noticed = await endpoint(LOCAL)
        transport.pause_reading()
        assert not transport.is_reading()
        with socket.socket(type=socket.SOCK_DGRAM) as peer:
            peer.sendto(b"wait", transport.get_extra_info("sockname"))
            peer.sendto(b"go", other.get_extra_info("sockname"))
        await noticed.until(lambda: noticed.received)
        assert protocol.received == []
        transport.resume_reading()
        assert transport.is_reading()
        await protocol.until(lambda: protocol.received)
        await close((transport, protocol), (other, noticed))
        assert not transport.is_reading()

    run(main())


def test_callbacks_run_in_the_context_of_the_endpoint(run: Run) -> None:
    place: contextvars.ContextVar[str] = contextvars.ContextVar("place", default="nowhere")
    seen: list[tuple[str, str]] = []
    ours = False

    class Placed(Recorder):
        def _note(self, call: str) -> None:
            seen.append((call, place.get()))
            super()._note(call)

    async def main() -> None:
        nonlocal ours
        loop = asyncio.get_running_loop()
        ours = isinstance(loop, runtime.Loop)
        place.set("here")
        transport, protocol = await loop.create_datagram_endpoint(Placed, LOCAL, silent_address())
        place.set("elsewhere")
        transport.sendto(b"refused")
        await protocol.until(lambda: protocol.errors)
        transport.close()
        await protocol.until_lost()

    run(main())
    assert seen == [
        ("connection_made", "here"),
        ("error_received", "here"),
        ("connection_lost", "here" if ours else "elsewhere"),
    ]


def test_a_given_socket(run: Run) -> None:
    async def main() -> None:
        with bound_socket() as peer:
            sock = bound_socket()
            sock.connect(peer.getsockname())
            transport, protocol = await endpoint(sock=sock)
            assert sock.gettimeout() == 0
            given = transport.get_extra_info("socket")
            assert isinstance(given, TransportSocket)
            assert given.fileno() == sock.fileno()
            assert transport.get_extra_info("peername") == peer.getsockname()
            assert transport.get_extra_info("compression", "none") == "none"
            transport.sendto(b"hello")
            assert peer.recvfrom(10) == (b"hello", sock.getsockname())
            await close((transport, protocol))
            assert sock.fileno() == -1

    run(main())


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({}, ValueError, "unexpected address family"),
        ({"local_addr": "host"}, TypeError, "2-tuple is expected"),
        ({"local_addr": ("127.0.0.1", 0, 0)}, TypeError, "2-tuple is expected"),
        ({"remote_addr": ["127.0.0.1", 0]}, TypeError, "2-tuple is expected"),
        ({"local_addr": LOCAL, "family": socket.AF_UNIX}, TypeError, "string is expected"),
        ({"remote_addr": b"path", "family": socket.AF_UNIX}, TypeError, "string is expected"),
        ({"local_addr": LOCAL, "remote_addr": ("::1", 9)}, ValueError, "can not get address"),
        ({"local_addr": ("192.0.2.1", 0)}, OSError, "assign"),
        ({"family": socket.AF_INET, "proto": 12345}, OSError, "Errno"),
    ],
)
def test_arguments_that_do_not_go_together(
    run: Run, options: dict[str, Any], error: type[Exception], match: str
) -> None:
    async def main() -> None:
        with pytest.raises(error, match=match):
            await endpoint(**options)

    run(main())


@pytest.mark.parametrize(
    "option",
    [
        {"local_addr": LOCAL},
        {"remote_addr": LOCAL},
        {"family": 1},
        {"proto": 1},
        {"flags": 1},
        {"reuse_port": True},
        {"allow_broadcast": True},
    ],
)
def test_a_given_socket_excludes_other_arguments(run: Run, option: dict[str, Any]) -> None:
    async def main() -> None:
        with bound_socket() as sock:
            with pytest.raises(ValueError, match=f"sock is specified. .{next(iter(option))}="):
                await endpoint(sock=sock, **option)
            assert sock.fileno() != -1

    run(main())


def test_a_stream_socket_is_refused(run: Run) -> None:
    async def main() -> None:
        with socket.socket() as sock, pytest.raises(ValueError, match="ocket was expected, got"):
            await endpoint(sock=sock)

    run(main())


def test_an_address_can_be_shared(run: Run) -> None:
    async def main() -> None:
        one = await endpoint(LOCAL, reuse_port=True)
        address = one[0].get_extra_info("sockname")
        two = await endpoint(address, reuse_port=True)
        assert two[0].get_extra_info("sockname") == address
        with pytest.raises(OSError, match="in use"):
            await endpoint(address)
        await close(one, two)

    run(main())


def test_host_names_are_resolved(run: Run) -> None:
    async def main() -> None:
        transport, protocol = await endpoint(("localhost", 0), family=socket.AF_INET)
        assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
        await close((transport, protocol))

    run(main())


def test_a_socket_left_at_the_path_is_replaced(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        path = tmp_path / "left over"
        bound_socket(path).close()
        assert path.is_socket()
        await close(await endpoint(str(path), family=socket.AF_UNIX))
        other = tmp_path / "file"
        other.write_text("not a socket")
        with pytest.raises(OSError, match="in use"):
            await endpoint(str(other), family=socket.AF_UNIX)
        assert other.read_text() == "not a socket"
        abstract = await endpoint("\0abstract datagram test", family=socket.AF_UNIX)
        assert abstract[0].get_extra_info("sockname") == b"\0abstract datagram test"
        await close(abstract)

    run(main())
