"""Datagrams over the simulated network: endpoints, plain sockets, and the faults of UDP."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import pytest

import runtime
from runtime import simulation
from runtime.simulation import Conditions


def run(main: Any, seed: int | None = None) -> Any:
    return simulation.run(main, seed=seed)


async def exchanged(conditions: Conditions, count: int) -> list[int]:
    """Send numbered datagrams between two hosts; return the numbers that arrive, in order."""
    world = simulation.current_world()
    world.network.set(conditions)
    with world.host("receiver").entered():
        receiver = await runtime.open_datagram(local_addr=("receiver", 53))
    sender = await runtime.open_datagram(remote_addr=("receiver", 53))
    for number in range(count):
        sender.send(bytes([number]))
    arrived = []
    try:
        async with asyncio.timeout(10):
            while True:
                data, _ = await receiver.receive()
                arrived.append(data[0])
    except TimeoutError:
        pass
    for endpoint in (sender, receiver):
        endpoint.close()
    return arrived


def test_datagrams_arrive_in_order_in_a_perfect_network() -> None:
    assert run(lambda: exchanged(Conditions(), 20), 1) == list(range(20))


def test_datagrams_are_lost() -> None:
    arrived = run(lambda: exchanged(Conditions(loss=0.5), 50), 1)
    assert 0 < len(arrived) < 50
    assert arrived == sorted(arrived)


def test_datagrams_are_duplicated() -> None:
    arrived = run(lambda: exchanged(Conditions(duplication=0.5), 50), 1)
    assert len(arrived) > 50
    assert set(arrived) == set(range(50))


def test_datagrams_are_reordered() -> None:
    arrived = run(lambda: exchanged(Conditions(reordering=0.5), 50), 1)
    assert arrived != sorted(arrived)
    assert sorted(arrived) == list(range(50))


def test_a_partition_loses_datagrams() -> None:
    async def main() -> list[int]:
        world = simulation.current_world()
        world.host("receiver")
        world.network.partition("main", "receiver", one_way=True)
        return await exchanged(Conditions(), 5)

    assert run(main) == []


def test_asyncios_endpoint_answers() -> None:
    class Echo(asyncio.DatagramProtocol):
        def connection_made(self, transport: Any) -> None:
            self.transport = transport

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.transport.sendto(data.upper(), addr)

    class Client(asyncio.DatagramProtocol):
        def __init__(self) -> None:
            self.answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()

        def datagram_received(self, data: bytes, addr: Any) -> None:
            self.answer.set_result((data, addr))

    async def main() -> Any:
        loop = asyncio.get_running_loop()
        with simulation.current_world().host("echo").entered():
            served, _ = await loop.create_datagram_endpoint(Echo, local_addr=("0.0.0.0", 7))
        transport, client = await loop.create_datagram_endpoint(Client, remote_addr=("echo", 7))
        transport.sendto(b"hello")
        answer = await client.answer
        transport.close()
        served.close()
        return answer

    assert run(main) == (b"HELLO", ("10.0.0.2", 7))


def test_a_closed_port_is_refused_to_a_connected_socket() -> None:
    async def main() -> None:
        endpoint = await runtime.open_datagram(remote_addr=("127.0.0.1", 9))
        endpoint.send(b"x")
        with pytest.raises(ConnectionRefusedError):
            await endpoint.receive()
        endpoint.close()

    run(main)


def test_plain_sockets() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        kind = socket.SOCK_DGRAM
        with socket.socket(type=kind) as one, socket.socket(type=kind) as other:
            for sock in (one, other):
                sock.setblocking(False)
            one.bind(("127.0.0.1", 0))
            assert await loop.sock_sendto(other, b"to one", one.getsockname()) == 6
            data, address = await loop.sock_recvfrom(one, 100)
            assert (data, address) == (b"to one", ("127.0.0.1", other.getsockname()[1]))
            other.connect(one.getsockname())
            assert other.getpeername() == one.getsockname()
            with pytest.raises(BlockingIOError):
                other.recv(1)
            with pytest.raises(OSError, match="too long"):
                other.send(bytes(70_000))

    run(main)


def test_unix_datagrams_wait_for_a_full_receiver() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            count = 0
            with pytest.raises(BlockingIOError):
                while True:
                    one.send(b"x")
                    count += 1
            sending = asyncio.ensure_future(loop.sock_sendall(one, b"y"))
            await asyncio.sleep(1)
            assert not sending.done()
            for _ in range(count):
                assert await loop.sock_recv(other, 10) == b"x"
            await sending
            assert await loop.sock_recv(other, 10) == b"y"

    run(main)
