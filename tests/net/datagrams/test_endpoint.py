"""``open_datagram``: datagrams for tasks."""

from __future__ import annotations

import asyncio
import gc
import socket
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.datagram_tools import LOCAL, bound_socket, silent_address
from tests.net.tools import until
from tests.support.blocked import all_tasks_blocked
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled


def fill(endpoint: runtime.DatagramEndpoint, size: int = 20) -> list[bytes]:
    """Send to a Unix socket until ``drain`` would wait; return the datagrams."""
    sent: list[bytes] = []
    while not endpoint._queue.paused:
        sent.append(b"%d " % len(sent) + b"x" * size)
        endpoint.send(sent[-1])
    return sent


async def test_a_question_and_an_answer() -> None:
    async with await runtime.open_datagram(LOCAL) as server:
        address = server.get_extra_info("sockname")
        async with await runtime.open_datagram(remote_addr=address) as client:
            client.send(b"question")
            data, sender = await server.receive()
            assert (data, sender) == (b"question", client.get_extra_info("sockname"))
            server.send(b"answer", sender)
            assert await client.receive() == (b"answer", address)
            assert client.get_extra_info("peername") == address
            assert server.get_extra_info("peername", "nobody") == "nobody"
            assert server.get_extra_info("nothing", 1) == 1
            assert "open" in repr(client)
        assert "closed" in repr(client)
        assert client.get_extra_info("socket") is None


async def test_a_loop_over_an_endpoint_ends_when_it_is_closed() -> None:
    endpoint = await runtime.open_datagram(LOCAL)
    address = endpoint.get_extra_info("sockname")
    seen = []

    async def read() -> None:
        async for data, sender in endpoint:
            seen.append(data)
            assert sender == address

    reader = runtime.create_task(read())
    for data in (b"1", b"", b"3"):
        endpoint.send(data, address)
    await until(lambda: len(seen) == 3)
    endpoint.close()
    await reader
    await endpoint.wait_closed()
    assert seen == [b"1", b"", b"3"]


async def test_datagrams_received_before_the_end_can_still_be_taken() -> None:
    endpoint = await runtime.open_datagram(LOCAL)
    address = endpoint.get_extra_info("sockname")
    for data in (b"1", b"2"):
        endpoint.send(data, address)
    await until(lambda: len(endpoint._queue) == 2)
    endpoint.close()
    assert endpoint.is_closing()
    await endpoint.wait_closed()
    assert (await endpoint.receive())[0] == b"1"
    assert [data async for data, _ in endpoint] == [b"2"]
    with pytest.raises(ConnectionAbortedError, match="endpoint was closed"):
        await endpoint.receive()
    with pytest.raises(ConnectionAbortedError, match="endpoint was closed"):
        endpoint.send(b"x", address)
    with pytest.raises(ConnectionAbortedError, match="endpoint was closed"):
        await endpoint.drain()


async def test_a_waiting_receive_raises_at_the_end() -> None:
    endpoint = await runtime.open_datagram(LOCAL)
    receivers = [runtime.create_task(endpoint.receive()) for _ in range(3)]
    await runtime.sleep(0)
    endpoint.abort()
    for receiver in receivers:
        with pytest.raises(ConnectionAbortedError):
            await receiver
    await endpoint.wait_closed()
    await endpoint.wait_closed()


async def test_a_refusal_is_raised_by_receive_and_the_endpoint_goes_on() -> None:
    address = silent_address()
    async with await runtime.open_datagram(remote_addr=address) as client:
        client.send(b"is anybody there?")
        with pytest.raises(ConnectionRefusedError):
            await client.receive()
        client.send(b"still nobody?")
        with pytest.raises(ConnectionRefusedError):
            async for _ in client:
                pass
        async with await runtime.open_datagram(address) as server:
            client.send(b"hello")
            assert (await server.receive())[0] == b"hello"


async def test_drain_raises_an_error_too_and_only_once() -> None:
    async with await runtime.open_datagram(remote_addr=silent_address()) as client:
        client.send(b"is anybody there?")
        await until(lambda: client._queue._error)
        with pytest.raises(ConnectionRefusedError):
            await client.drain()
        await client.drain()
        receiver = runtime.create_task(client.receive())
        await runtime.sleep(0)
        assert not receiver.done()
        receiver.cancel()


async def test_a_datagram_that_cannot_be_sent_is_refused_at_the_call() -> None:
    with bound_socket() as peer:
        address = peer.getsockname()
        async with await runtime.open_datagram(LOCAL) as endpoint:
            with pytest.raises(OSError, match="too long"):
                endpoint.send(b"x" * 100_000, address)
            with pytest.raises(TypeError, match="bytes-like"):
                endpoint.send("text", address)  # type: ignore[arg-type]
            with pytest.raises(ValueError, match="needs an address"):
                endpoint.send(b"where to?")
            endpoint.send(bytearray(b"fine"), address)
            assert peer.recv(10) == b"fine"
        async with await runtime.open_datagram(remote_addr=address) as endpoint:
            with pytest.raises(ValueError, match="Invalid address"):
                endpoint.send(b"elsewhere", ("127.0.0.1", address[1] ^ 1))


async def test_back_pressure(tmp_path: Path) -> None:
    path = str(tmp_path / "peer")
    with bound_socket(path) as peer:
        endpoint = await runtime.open_datagram(remote_addr=path, family=socket.AF_UNIX)
        endpoint.set_write_buffer_limits(high=1000, low=100)
        await endpoint.drain()
        sent = fill(endpoint)
        drainers = [runtime.create_task(endpoint.drain()) for _ in range(2)]
        drainers[0].cancel()
        await runtime.wait(drainers, timeout=0)
        assert not drainers[1].done()
        arrived = []
        while not drainers[1].done():
            arrived.append(await runtime.to_thread(peer.recv, 100))
        await drainers[1]
        sent.extend(fill(endpoint))
        endpoint.close()
        while len(arrived) < len(sent):
            arrived.append(await runtime.to_thread(peer.recv, 100))
        await endpoint.wait_closed()
        assert arrived == sent


async def test_a_waiting_drain_raises_after_an_abort(tmp_path: Path) -> None:
    path = str(tmp_path / "peer")
    with bound_socket(path):
        endpoint = await runtime.open_datagram(remote_addr=path, family=socket.AF_UNIX)
        fill(endpoint, 2000)
        drainer = runtime.create_task(endpoint.drain())
        await runtime.sleep(0)
        endpoint.abort()
        with pytest.raises(ConnectionAbortedError):
            await drainer
        await endpoint.wait_closed()


async def test_a_full_queue_leaves_the_rest_to_the_system(tmp_path: Path) -> None:
    size = 8

    path = str(tmp_path / "ours")
    async with await runtime.open_datagram(
        path, family=socket.AF_UNIX, queue_size=size
    ) as endpoint:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
            peer.setblocking(False)
            sent = 0
            with pytest.raises(BlockingIOError):
                while True:
                    peer.sendto(b"%d" % sent, path)
                    sent += 1
            await until(lambda: len(endpoint._queue) == size)
            await all_tasks_blocked()
            assert len(endpoint._queue) == size
            for number in range(sent):
                assert (await endpoint.receive())[0] == b"%d" % number
                assert len(endpoint._queue) <= size
            peer.sendto(b"go on", path)
            assert (await endpoint.receive())[0] == b"go on"


async def test_several_tasks_can_receive() -> None:
    count = 100

    seen: list[bytes] = []

    async def work(endpoint: runtime.DatagramEndpoint) -> None:
        async for data, _ in endpoint:
            seen.append(data)
            await runtime.sleep(0)

    async with (
        runtime.TaskGroup() as workers,
        await runtime.open_datagram(LOCAL) as endpoint,
    ):
        for _ in range(4):
            workers.create_task(work(endpoint))
        for number in range(count):
            endpoint.send(b"%d" % number, endpoint.get_extra_info("sockname"))
            await runtime.sleep(0)
        await until(lambda: len(seen) == count)
    assert sorted(seen, key=int) == [b"%d" % number for number in range(count)]


def test_receive_is_cancellation_safe() -> None:
    async def scenario(point: CancelPoint) -> None:
        async with await runtime.open_datagram(LOCAL) as endpoint:
            address = endpoint.get_extra_info("sockname")
            seen: list[bytes] = []

            async def receive() -> None:
                for _ in range(2):
                    data, _ = await endpoint.receive()
                    seen.append(data)

            cancelled = point.start(receive())
            await runtime.sleep(0)
            other = runtime.create_task(receive())
            for data in (b"1", b"2", b"3", b"4"):
                endpoint.send(data, address)
                await runtime.sleep(0)
            await runtime.wait([cancelled])
            await other
            while len(seen) < 4:
                seen.append((await endpoint.receive())[0])
            await settled(cancelled, other)
            assert sorted(seen) == [b"1", b"2", b"3", b"4"]

    assert cancel_everywhere(scenario) >= 1


def test_opening_and_closing_are_cancellation_safe() -> None:
    async def scenario(point: CancelPoint) -> None:
        async def use() -> None:
            async with await runtime.open_datagram(("localhost", 0), family=socket.AF_INET):
                await runtime.sleep(0)

        await settled(point.start(use()))
        await all_tasks_blocked()

    assert cancel_everywhere(scenario) >= 3


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({}, "unexpected address family"),
        ({"local_addr": LOCAL, "queue_size": 0}, "queue_size must be"),
        ({"local_addr": LOCAL, "remote_addr": ("::1", 9)}, "can not get address"),
    ],
)
async def test_arguments_that_do_not_go_together(options: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        await runtime.open_datagram(**options)
    with bound_socket() as sock, pytest.raises(ValueError, match="sock is specified"):
        await runtime.open_datagram(LOCAL, sock=sock)


async def test_a_given_socket_is_closed_by_the_program() -> None:
    sock = bound_socket()
    address = sock.getsockname()
    endpoint = await runtime.open_datagram(sock=sock)
    receiver = runtime.create_task(endpoint.receive())
    await runtime.sleep(0)
    sock.close()
    with pytest.raises(ConnectionAbortedError):
        endpoint.send(b"astray", address)
    with pytest.raises(ConnectionAbortedError, match="closed while its transport was open"):
        await receiver
    with pytest.raises(ConnectionAbortedError):
        await endpoint.wait_closed()
    with pytest.raises(ConnectionAbortedError):
        async for _ in endpoint:
            pass


async def test_broadcast_is_allowed_on_demand() -> None:
    with bound_socket() as peer:
        async with await runtime.open_datagram(
            LOCAL, peer.getsockname(), allow_broadcast=True, reuse_port=True
        ) as endpoint:
            sock = endpoint.get_extra_info("socket")
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST)
            assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
            endpoint.send(b"by default")
            assert peer.recv(20) == b"by default"


async def test_an_unclosed_endpoint_is_warned_about_and_closed() -> None:
    endpoint = await runtime.open_datagram(LOCAL)
    sock = endpoint.get_extra_info("socket")
    with pytest.warns(ResourceWarning, match="unclosed endpoint <DatagramEndpoint 0 waiting"):
        del endpoint
        gc.collect()
    await until(lambda: sock.fileno() == -1)


def test_another_loop_is_refused() -> None:
    with pytest.raises(RuntimeError, match="must be one of runtime's"):
        asyncio.run(runtime.open_datagram(LOCAL))
