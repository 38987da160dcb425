"""The selector of a simulated world: time, deadlocks, the order of events, the outside."""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
from collections.abc import Callable
from typing import Any

import pytest

import runtime
from runtime import simulation
from runtime.testing import wait_all_tasks_blocked


def test_a_task_that_waits_for_a_silent_peer_is_in_a_deadlock() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            await asyncio.get_running_loop().sock_recv(one, 1)

    with pytest.raises(runtime.DeadlockError, match="on its way in the network"):
        simulation.run(main)


def test_a_packet_on_its_way_is_no_deadlock() -> None:
    async def main() -> float:
        world = simulation.current_world()
        slow = simulation.Conditions(latency=3600.0)
        world.network.set(slow, within=slow)
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.send(b"x")
            await asyncio.get_running_loop().sock_recv(one, 1)
        return asyncio.get_running_loop().time()

    assert simulation.run(main) == 3600.0


async def order_of_events() -> str:
    """Return the order in which four readable sockets are served."""
    loop = asyncio.get_running_loop()
    served: list[str] = []
    pairs = [socket.socketpair() for _ in range(4)]
    done = asyncio.Event()

    def read(index: int) -> None:
        loop.remove_reader(pairs[index][0])
        served.append(str(index))
        if len(served) == len(pairs):
            done.set()

    for index, (one, other) in enumerate(pairs):
        one.setblocking(False)
        loop.add_reader(one, read, index)
        other.setblocking(False)
    for index in (2, 0, 3, 1):
        pairs[index][1].send(b"x")
    await done.wait()
    for one, other in pairs:
        one.close()
        other.close()
    return "".join(served)


def test_ready_descriptors_come_in_the_order_in_which_they_became_ready() -> None:
    assert simulation.run(order_of_events) == "2031"


def test_ready_descriptors_come_in_any_order_with_a_seed() -> None:
    orders = {simulation.run(order_of_events, seed=seed) for seed in range(60)}
    assert len(orders) > 12


def test_a_pipe_is_outside() -> None:
    read_end, write_end = os.pipe()

    async def main() -> None:
        await runtime.wait_readable(read_end)

    try:
        os.write(write_end, b"x")
        with pytest.raises(simulation.OutsideError, match=r"pipe.*not of the simulated world"):
            simulation.run(main)
        simulation.run(main, outside="allow")
    finally:
        os.close(read_end)
        os.close(write_end)


def test_a_socket_from_before_is_outside() -> None:
    one, other = socket.socketpair()

    async def main() -> None:
        await asyncio.get_running_loop().sock_recv(one, 1)

    with one, other:
        one.setblocking(False)
        with pytest.raises(simulation.OutsideError):
            simulation.run(main)


def test_the_clock_stands_still_while_a_test_waits_for_blocked_tasks() -> None:
    async def main() -> float:
        sleeper = asyncio.ensure_future(asyncio.sleep(3600))
        await wait_all_tasks_blocked()
        sleeper.cancel()
        return asyncio.get_running_loop().time()

    assert simulation.run(main) == 0.0


def test_a_run_is_repeated_exactly() -> None:
    async def main() -> list[Any]:
        world = simulation.current_world()
        world.network.set(simulation.Conditions(latency=(0.0, 1.0), splitting=0.5, merging=0.2))
        trace: list[Any] = []

        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(100):
                trace.append((asyncio.get_running_loop().time(), data))
                writer.write(data)
            writer.close()

        with world.host("server").entered():
            server = await asyncio.start_server(echo, port=7)

        async def client(number: int) -> None:
            reader, writer = await asyncio.open_connection("server", 7)
            writer.write(bytes([number]) * 20)
            writer.write_eof()
            trace.append((asyncio.get_running_loop().time(), await reader.read()))
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(client, range(5)))
        server.close()
        return trace

    for seed in range(5):
        assert simulation.run(main, seed=seed) == simulation.run(main, seed=seed)
    assert simulation.run(main, seed=1) != simulation.run(main, seed=2)


class Answering(asyncio.Protocol):
    """A protocol that writes twice, and calls ``note``, for all that it receives."""

    def __init__(self, note: Callable[[], object]) -> None:
        self.note = note
        self.transport: Any = None

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def data_received(self, data: bytes) -> None:
        self.transport.write(b"head;")
        self.transport.write(data)
        self.note()


def test_joined_writes_are_sent_before_the_next_event() -> None:
    """Otherwise a run would depend on the real time that its events take."""

    async def main() -> list[list[bytes]]:
        loop = asyncio.get_running_loop()
        clients: list[socket.socket] = []
        noted: list[bytes] = []

        def note() -> None:
            received = b""
            for client in clients:
                with contextlib.suppress(BlockingIOError):
                    received += client.recv(100)
            noted.append(received)

        server = await loop.create_server(lambda: Answering(note), port=80)
        for _ in range(3):
            client = socket.socket()
            client.setblocking(False)
            await loop.sock_connect(client, ("127.0.0.1", 80))
            clients.append(client)
        rounds: list[list[bytes]] = []
        for _ in range(2):
            for number, client in enumerate(clients):
                client.send(b"%d" % number)
            await asyncio.sleep(1)
            note()
            rounds.append(list(noted))
            noted.clear()
        server.close()
        for client in clients:
            client.close()
        return rounds

    sent_at_once, joined = simulation.run(main)
    assert sent_at_once == [b"head;0", b"head;1", b"head;2", b""]
    assert joined == [b"", b"head;0", b"head;1", b"head;2"]
