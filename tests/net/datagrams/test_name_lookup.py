"""Datagrams to host names: a lookup does not block the loop."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import runtime
from runtime.net.resolver import needs_lookup
from tests.net.datagram_tools import LOCAL, Recorder, bound_socket

PORT = 4321
NAMED = ("name.invalid", PORT)
IPV6 = socket.has_ipv6


class Resolver:
    """Replacement of the loop's ``getaddrinfo`` that answers when the test says so."""

    def __init__(self, address: Any, family: int = socket.AF_INET) -> None:
        self.asked: list[Any] = []
        self._info = (family, socket.SOCK_DGRAM, 17, "", address)
        self._answers: list[runtime.Future[Any]] = []
        runtime.get_running_loop().getaddrinfo = self._look_up  # type: ignore[method-assign]

    async def _look_up(self, host: Any, port: Any, **options: Any) -> Any:
        self.asked.append((host, port))
        answer = runtime.get_running_loop().create_future()
        self._answers.append(answer)
        return await answer

    async def answer(self, error: Exception | None = None) -> None:
        """Answer the first open lookup, waiting for one."""
        async with runtime.timeout(30):
            while not self._answers:
                await runtime.sleep(0)
        if error is None:
            self._answers.pop(0).set_result([self._info])
        else:
            self._answers.pop(0).set_exception(error)


def received(sock: socket.socket, count: int) -> list[bytes]:
    return [sock.recv(65536) for _ in range(count)]


@pytest.fixture
async def endpoint() -> AsyncIterator[tuple[Any, Recorder]]:
    """Yield a transport and its protocol, which must end without an error."""
    transport, protocol = await runtime.get_running_loop().create_datagram_endpoint(Recorder, LOCAL)
    yield transport, protocol
    transport.close()
    await protocol.until_lost()
    assert protocol.lost == [None]


@pytest.fixture
def transport(endpoint: tuple[Any, Recorder]) -> Any:
    return endpoint[0]


@pytest.fixture
def protocol(endpoint: tuple[Any, Recorder]) -> Recorder:
    return endpoint[1]


@pytest.fixture
def peer() -> Iterator[socket.socket]:
    with bound_socket() as sock:
        yield sock


@pytest.fixture
async def names(peer: socket.socket) -> Resolver:
    """Replace the loop's resolver by one that knows the address of the peer."""
    return Resolver(peer.getsockname())


async def test_datagrams_are_sent_in_order_after_the_lookup(
    transport: Any, peer: socket.socket, names: Resolver
) -> None:
    data = bytearray(b"0")
    transport.sendto(data, NAMED)
    data[:] = b"X"
    transport.sendto(b"1", NAMED)
    transport.sendto(b"at once", peer.getsockname())
    assert received(peer, 1) == [b"at once"]
    await runtime.sleep(0)
    transport.sendto(b"2", NAMED)
    assert transport.get_write_buffer_size() == 3 * (1 + 8)
    await names.answer()
    assert await runtime.to_thread(received, peer, 3) == [b"0", b"1", b"2"]
    assert transport.get_write_buffer_size() == 0
    assert names.asked == [NAMED]


async def test_each_name_has_its_own_lookup(
    transport: Any, peer: socket.socket, names: Resolver
) -> None:
    transport.sendto(b"1", NAMED)
    transport.sendto(b"2", ("other.invalid", PORT))
    transport.sendto(b"3", (b"name.invalid", PORT))
    transport.sendto(b"4", (bytearray(b"name.invalid"), PORT))
    for _ in range(3):
        await names.answer()
    assert sorted(await runtime.to_thread(received, peer, 4)) == [b"1", b"2", b"3", b"4"]
    assert len(names.asked) == 3
    transport.sendto(b"5", NAMED)
    await names.answer()
    assert await runtime.to_thread(received, peer, 1) == [b"5"]
    assert len(names.asked) == 4


async def test_a_failed_lookup_is_reported_to_the_protocol(
    transport: Any, protocol: Recorder, peer: socket.socket, names: Resolver
) -> None:
    transport.sendto(b"lost", NAMED)
    transport.sendto(b"lost", NAMED)
    await names.answer(socket.gaierror(socket.EAI_NONAME, "Name or service not known"))
    await protocol.until(lambda: protocol.errors)
    [error] = protocol.errors
    assert isinstance(error, socket.gaierror)
    assert "name.invalid" in str(error)
    assert transport.get_write_buffer_size() == 0
    transport.sendto(b"found", NAMED)
    await names.answer()
    assert await runtime.to_thread(received, peer, 1) == [b"found"]


async def test_a_failure_to_send_after_the_lookup_is_reported_to_the_protocol(
    transport: Any, protocol: Recorder, peer: socket.socket, names: Resolver
) -> None:
    transport.sendto(bytes(1 << 17), NAMED)  # Larger than any datagram of IP.
    transport.sendto(b"small", NAMED)
    await names.answer()
    assert await runtime.to_thread(received, peer, 1) == [b"small"]
    assert len(protocol.errors) == 1


async def test_datagrams_that_wait_for_a_lookup_pause_the_protocol(
    transport: Any, protocol: Recorder, peer: socket.socket, names: Resolver
) -> None:
    transport.set_write_buffer_limits(high=100)
    transport.sendto(bytes(90), NAMED)
    assert protocol.calls == ["connection_made"]
    transport.sendto(b"more", NAMED)
    assert protocol.calls == ["connection_made", "pause_writing"]
    await names.answer()
    await runtime.to_thread(received, peer, 2)
    assert protocol.calls == ["connection_made", "pause_writing", "resume_writing"]


async def test_close_waits_for_the_lookup(
    transport: Any, protocol: Recorder, peer: socket.socket, names: Resolver
) -> None:
    transport.sendto(b"last", NAMED)
    transport.close()
    await runtime.sleep(0)
    assert protocol.lost == []
    await names.answer()
    assert await runtime.to_thread(received, peer, 1) == [b"last"]
    await protocol.until_lost()


async def test_close_waits_for_a_lookup_that_fails(
    transport: Any, protocol: Recorder, names: Resolver
) -> None:
    transport.sendto(b"last", NAMED)
    transport.close()
    await names.answer(OSError("nobody answers"))
    await protocol.until_lost()
    assert protocol.calls == ["connection_made", "error_received", "connection_lost"]


async def test_abort_cancels_the_lookup(
    transport: Any, protocol: Recorder, names: Resolver
) -> None:
    before = runtime.all_tasks()
    transport.sendto(b"dropped", NAMED)
    await runtime.sleep(0)
    transport.abort()
    await protocol.until_lost()
    assert protocol.errors == []
    assert runtime.all_tasks() == before


async def test_the_protocol_may_abort_in_error_received(
    transport: Any, protocol: Recorder, names: Resolver
) -> None:
    protocol.error_received = lambda exc: transport.abort()  # type: ignore[method-assign]
    transport.sendto(b"dropped", NAMED)
    transport.sendto(b"dropped", ("other.invalid", PORT))
    await names.answer(OSError("nobody answers"))
    await protocol.until_lost()


async def test_a_cancelled_lookup_is_reported(
    transport: Any, protocol: Recorder, names: Resolver
) -> None:
    """Lookups that are in progress at the end of ``run`` are cancelled."""
    before = runtime.all_tasks()
    transport.sendto(b"dropped", NAMED)
    await runtime.sleep(0)
    [look_up] = runtime.all_tasks() - before
    look_up.cancel()
    await protocol.until(lambda: protocol.errors)
    assert isinstance(protocol.errors[0], ConnectionAbortedError)
    assert "name.invalid" in str(protocol.errors[0])


async def test_other_exceptions_of_the_lookup_are_reported(transport: Any, names: Resolver) -> None:
    reports: list[dict[str, Any]] = []

    runtime.get_running_loop().set_exception_handler(lambda _, told: reports.append(told))
    transport.sendto(b"dropped", NAMED)
    await names.answer(ValueError("mine"))
    while not reports:
        await runtime.sleep(0)
    assert str(reports[0]["exception"]) == "mine"
    assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize(
    ("address", "error"),
    [
        (("name.invalid", 65536), OverflowError),
        (("name.invalid", -1), OverflowError),
        (("name.invalid", "80"), TypeError),
        (("name.invalid", 80, 0, 0), TypeError),
        (("name.invalid",), TypeError),
        (("name\0.invalid", 80), TypeError),
        ((None, 80), TypeError),
    ],
)
async def test_a_malformed_address_is_an_error_at_the_call(
    address: Any, error: type[Exception], transport: Any, names: Resolver
) -> None:
    with pytest.raises(error):
        transport.sendto(b"", address)
    with pytest.raises(error), bound_socket() as sock:
        sock.setblocking(False)
        await runtime.get_running_loop().sock_sendto(sock, b"", address)
    assert names.asked == []


async def test_an_endpoint_raises_the_error_of_the_lookup() -> None:
    async with await runtime.open_datagram(LOCAL) as endpoint:
        names = Resolver(endpoint.get_extra_info("sockname"))
        endpoint.send(b"lost", NAMED)
        await names.answer(socket.gaierror(socket.EAI_NONAME, "unknown"))
        with pytest.raises(socket.gaierror, match=r"name\.invalid"):
            await endpoint.receive()
        endpoint.send(b"to myself", NAMED)
        await names.answer()
        assert (await endpoint.receive())[0] == b"to myself"


async def test_the_drain_of_an_endpoint_waits_for_the_lookup() -> None:
    async with await runtime.open_datagram(LOCAL) as endpoint:
        names = Resolver(endpoint.get_extra_info("sockname"))
        endpoint.set_write_buffer_limits(high=0)
        endpoint.send(b"1", NAMED)
        drained = runtime.create_task(endpoint.drain())
        await runtime.sleep(0)
        assert not drained.done()
        await names.answer()
        await drained
        assert (await endpoint.receive())[0] == b"1"
        endpoint.send(b"2", NAMED)
        endpoint.close()
        await names.answer()
        await endpoint.wait_closed()


async def test_the_abort_of_an_endpoint_cancels_the_lookup() -> None:
    endpoint = await runtime.open_datagram(LOCAL)
    Resolver(endpoint.get_extra_info("sockname"))
    endpoint.send(b"dropped", NAMED)
    endpoint.abort()
    await endpoint.wait_closed()


async def test_sock_sendto_looks_a_name_up_in_a_thread() -> None:
    loop = runtime.get_running_loop()
    with bound_socket() as sock, bound_socket() as peer:
        sock.setblocking(False)
        names = Resolver(peer.getsockname())
        sending = runtime.create_task(loop.sock_sendto(sock, b"hello", NAMED))
        await names.answer()
        assert await sending == 5
        assert peer.recv(10) == b"hello"
        assert names.asked == [NAMED]


@pytest.mark.skipif(not IPV6, reason="Needs IPv6.")
async def test_a_given_flow_label_and_scope_are_kept() -> None:
    loop = runtime.get_running_loop()
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.bind(("::1", 0))
        names = Resolver(("::1", peer.getsockname()[1], 0, 0), socket.AF_INET6)
        transport: Any
        transport, protocol = await loop.create_datagram_endpoint(Recorder, family=socket.AF_INET6)
        transport.sendto(b"1", (*NAMED, 0, 0))
        await names.answer()
        assert await runtime.to_thread(peer.recv, 10) == b"1"
        transport.sendto(b"2", (*NAMED, 1 << 20, 0))  # An impossible flow label.
        told: list[Any] = []
        loop.set_exception_handler(lambda _, context: told.append(context["exception"]))
        await names.answer()
        while not told:
            await runtime.sleep(0)
        assert isinstance(told[0], OverflowError)
        transport.close()
        await protocol.until_lost()


@pytest.mark.parametrize(
    "host",
    [
        *("127.0.0.1", "127.1", "0x7f.1", "2130706433", "::1", "::ffff:1.2.3.4", "fe80::1%lo"),
        *("", "<broadcast>", b"127.0.0.1", bytearray(b"::1"), None, 5),
    ],
)
@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6])
def test_a_number_needs_no_lookup(host: Any, family: int) -> None:
    assert not needs_lookup(family, (host, 80))


@pytest.mark.parametrize("host", ["localhost", b"localhost", "1.2.3.4.5", "a.b", "host1", "bücher"])
def test_a_name_needs_a_lookup(host: Any) -> None:
    assert needs_lookup(socket.AF_INET, (host, 80))
    assert needs_lookup(socket.AF_INET6, (host, 80, 0, 0))
    assert not needs_lookup(socket.AF_UNIX, (host, 80))


async def test_the_name_of_the_local_host() -> None:
    """The lookup uses the real resolver."""
    loop = runtime.get_running_loop()
    transport: Any
    transport, protocol = await loop.create_datagram_endpoint(Recorder, LOCAL)
    with bound_socket() as peer:
        transport.sendto(b"hello", ("localhost", peer.getsockname()[1]))
        transport.close()
        await protocol.until_lost()
        assert peer.recv(10) == b"hello"
