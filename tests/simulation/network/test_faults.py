"""Faults of the simulated network: by plan and by chance, and what programs see of them."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runtime import simulation
from runtime.simulation import Conditions, Latency

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pair:
    """A connection from the host ``main`` to the host ``server``, with both of its ends."""

    def __init__(self, client: Streams, server: Streams) -> None:
        self.reader, self.writer = client
        self.server_reader, self.server_writer = server


def in_pair(
    body: Callable[[Pair], Awaitable[Any]],
    conditions: Conditions | None = None,
    seed: int | None = None,
) -> Any:
    """Run ``body`` with a connection between two hosts."""

    async def main() -> Any:
        world = simulation.current_world()
        loop = asyncio.get_running_loop()
        accepted: asyncio.Future[Streams] = loop.create_future()
        with world.host("server").entered():
            server = await asyncio.start_server(lambda *ends: accepted.set_result(ends), port=80)
        client = await asyncio.open_connection("server", 80)
        pair = Pair(client, await accepted)
        if conditions is not None:
            world.network.set(conditions)
        try:
            return await body(pair)
        finally:
            world.network.heal()
            pair.writer.transport.abort()
            pair.server_writer.transport.abort()
            server.close()

    return simulation.run(main, seed=seed)


def now() -> float:
    return asyncio.get_running_loop().time()


def test_latency_and_bandwidth_take_time() -> None:
    async def body(pair: Pair) -> float:
        pair.writer.write(bytes(1000))
        await pair.server_reader.readexactly(1000)
        return now()

    assert in_pair(body, Conditions(latency=0.5)) == 0.5
    assert in_pair(body, Conditions(latency=0.5, bandwidth=500)) == 2.5


def test_a_tail_of_the_latency() -> None:
    async def body(pair: Pair) -> float:
        slowest = 0.0
        for _ in range(100):
            begin = now()
            pair.writer.write(b"x")
            await pair.server_reader.readexactly(1)
            slowest = max(slowest, now() - begin)
        return slowest

    tailed = Conditions(latency=Latency(0.001, 0.002, tail=0.1, longest=5.0))
    assert in_pair(body, tailed, seed=1) > 1
    assert in_pair(body, Conditions(latency=(0.001, 0.002)), seed=1) <= 0.0021


def test_packets_do_not_overtake_in_a_connection() -> None:
    async def body(pair: Pair) -> bytes:
        for number in range(50):
            pair.writer.write(bytes([number]))
            await asyncio.sleep(0)
        return await pair.server_reader.readexactly(50)

    for seed in range(5):
        assert in_pair(body, Conditions(latency=(0, 1)), seed) == bytes(range(50))


def test_a_split_read_is_found_by_a_program_that_trusts_one_read() -> None:
    async def body(pair: Pair) -> bytes:
        pair.writer.write(b"one message")
        return await pair.server_reader.read(100)

    rough = Conditions(splitting=0.5)
    assert in_pair(body, rough) == b"one message"
    assert any(in_pair(body, rough, seed) != b"one message" for seed in range(10))


def test_one_direction_is_split() -> None:
    async def body(pair: Pair) -> tuple[bool, bool]:
        network = simulation.current_world().network
        network.set_link("main", "server", Conditions(splitting=1.0), one_way=True)
        pair.writer.write(bytes(100))
        pair.server_writer.write(bytes(100))
        there = len(await pair.server_reader.read(100)) < 100
        back = len(await pair.reader.read(100)) < 100
        return there, back

    assert in_pair(body, seed=3) == (True, False)


def test_merged_writes_arrive_together() -> None:
    async def body(pair: Pair) -> bytes:
        pair.writer.write(b"one")
        await asyncio.sleep(0.01)
        pair.writer.write(b"two")
        await asyncio.sleep(0.1)
        return await pair.server_reader.read(100)

    assert in_pair(body) == b"onetwo"

    async def at_once(pair: Pair) -> bytes:
        reading = asyncio.ensure_future(pair.server_reader.read(100))
        pair.writer.write(b"one")
        await asyncio.sleep(0.01)
        pair.writer.write(b"two")
        return await reading

    assert in_pair(at_once) == b"one"
    assert in_pair(at_once, Conditions(merging=1.0)) == b"one"
    found = {in_pair(at_once, Conditions(merging=0.5), seed) for seed in range(10)}
    assert found == {b"one", b"onetwo"}


def test_a_partition_holds_bytes_back_until_it_is_healed() -> None:
    async def body(pair: Pair) -> tuple[bytes, float]:
        network = simulation.current_world().network
        network.partition("main", "server")
        pair.writer.write(b"held ")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await pair.server_reader.read(100)
        network.heal("main", "server")
        pair.writer.write(b"back")
        return await pair.server_reader.readexactly(9), now()

    assert in_pair(body) == (b"held back", 60.0)


def test_a_one_way_partition_lets_the_other_direction_through() -> None:
    async def body(pair: Pair) -> bytes:
        simulation.current_world().network.partition("main", "server", one_way=True)
        pair.server_writer.write(b"from the server")
        data = await pair.reader.read(100)
        pair.writer.write(b"to the server")
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(60):
                await pair.server_reader.read(100)
        return data

    assert in_pair(body) == b"from the server"


def test_a_long_partition_times_the_sender_out() -> None:
    async def body(pair: Pair) -> float:
        network = simulation.current_world().network
        network.partition("main", "server")
        pair.writer.write(b"lost")
        with pytest.raises(TimeoutError):
            await pair.reader.read(100)
        return now()

    assert in_pair(body) == pytest.approx(924.6)


def test_a_reset_by_plan() -> None:
    async def body(pair: Pair) -> int:
        count = simulation.current_world().network.reset("server", "main")
        for reader in (pair.reader, pair.server_reader):
            with pytest.raises(ConnectionResetError):
                await reader.read(100)
        return count

    assert in_pair(body) == 1


def test_resets_by_chance() -> None:
    async def body(pair: Pair) -> int:
        for count in range(1000):
            pair.writer.write(b"x")
            try:
                await pair.writer.drain()
                await pair.server_reader.readexactly(1)
            except ConnectionResetError:
                return count
        return 1000

    assert in_pair(body, Conditions(resets=0.1)) == 1000
    assert in_pair(body, Conditions(resets=0.1), seed=1) < 1000


def test_a_half_open_connection_is_noticed_by_a_write_only() -> None:
    async def body(pair: Pair) -> None:
        assert simulation.current_world().network.half_open("main", "server") == 1
        with pytest.raises(TimeoutError):
            await pair.reader.read(100)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1000):
                await pair.server_reader.read(100)
        pair.server_writer.write(b"anybody?")
        with pytest.raises(ConnectionResetError):
            await pair.server_reader.read(100)

    in_pair(body)


def test_connecting_is_refused_times_out_and_finds_no_host() -> None:
    async def main() -> list[float]:
        world = simulation.current_world()
        world.host("server")
        times = []
        begin = now()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("server", 80)
        times.append(now() - begin)
        world.network.partition("main", "server")
        begin = now()
        with pytest.raises(TimeoutError):
            await asyncio.open_connection("server", 80)
        times.append(now() - begin)
        begin = now()
        with pytest.raises(OSError, match="No route to host"):
            await asyncio.open_connection("10.1.2.3", 80)
        times.append(now() - begin)
        return times

    assert simulation.run(main) == [0.0, 127.0, 3.0]


def test_an_attempt_to_connect_is_repeated() -> None:
    async def main() -> float:
        world = simulation.current_world()
        with world.host("server").entered():
            server = await asyncio.start_server(lambda _r, writer: writer.close(), port=80)
        world.network.partition("main", "server")
        world.after(5, world.network.heal)
        reader, writer = await asyncio.open_connection("server", 80)
        connected = now()
        assert await reader.read() == b""
        writer.close()
        server.close()
        return connected

    assert simulation.run(main) == 7.0


@pytest.mark.parametrize(
    ("conditions", "error"),
    [
        (Conditions(refusals=0.5), ConnectionRefusedError),
        (Conditions(timeouts=0.5), TimeoutError),
    ],
)
def test_connecting_fails_by_chance(conditions: Conditions, error: type[OSError]) -> None:
    async def main() -> bool:
        world = simulation.current_world()
        world.network.set(conditions)
        with world.host("server").entered():
            server = await asyncio.start_server(lambda _r, writer: writer.close(), port=80)
        try:
            _, writer = await asyncio.open_connection("server", 80)
        except error:
            return False
        finally:
            server.close()
        writer.close()
        return True

    assert simulation.run(main)
    assert {simulation.run(main, seed=seed) for seed in range(10)} == {True, False}


def test_a_full_listen_queue_lets_the_client_try_again() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        with socket.socket() as listener:
            listener.bind(("127.0.0.1", 80))
            listener.listen(0)
            listener.setblocking(False)
            clients = [socket.socket() for _ in range(2)]
            for client in clients:
                client.setblocking(False)
            await loop.sock_connect(clients[0], ("127.0.0.1", 80))
            second = asyncio.ensure_future(loop.sock_connect(clients[1], ("127.0.0.1", 80)))
            await asyncio.sleep(0.5)
            assert not second.done()
            served, _ = await loop.sock_accept(listener)
            await second
            for sock in (*clients, served):
                sock.close()
            return now()

    assert simulation.run(main) == 1.0


def test_descriptors_run_out() -> None:
    async def main() -> tuple[bytes, float]:
        world = simulation.current_world()
        host = world.host("server")
        with host.entered():
            server = await asyncio.start_server(answer, port=80)
            host.descriptor_limit = 1
            with pytest.raises(OSError, match="Too many open files") as raised:
                socket.socket()
        assert raised.value.errno == errno.EMFILE
        reader, writer = await asyncio.open_connection("server", 80)
        world.after(0.5, setattr, host, "descriptor_limit", None)
        data = await reader.read()
        writer.close()
        server.close()
        return data, now()

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"served")
        writer.close()

    with pytest.raises(simulation.UnretrievedError, match="out of system resource"):
        simulation.run(main)


def test_open_fails_by_chance() -> None:
    async def main() -> bool:
        simulation.current_world().host("main").descriptor_failures = 0.3
        try:
            socket.socket().close()
        except OSError as error:
            return error.errno != errno.EMFILE
        return True

    assert simulation.run(main)
    assert {simulation.run(main, seed=seed) for seed in range(20)} == {True, False}


def test_wrong_arguments_are_refused() -> None:
    for wrong in ({"loss": 2}, {"splitting": -0.1}, {"bandwidth": 0}, {"latency": -1.0}):
        with pytest.raises(ValueError, match="must be"):
            Conditions(**wrong)
    with pytest.raises(TypeError, match="latency must be"):
        Conditions(latency="slow")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="high must be"):
        Latency(2.0, 1.0)
    for unfit in ({"loss": "much"}, {"bandwidth": None}, {"latency": ("a", "b")}):
        with pytest.raises(TypeError, match="must be"):
            Conditions(**unfit)
    for delay in (None, "slow"):
        with pytest.raises(TypeError, match="low must be"):
            Latency(delay)  # type: ignore[arg-type]

    async def main() -> None:
        world = simulation.current_world()
        with pytest.raises(ValueError, match="no host 'elsewhere'"):
            world.network.partition("main", "elsewhere")
        with pytest.raises(TypeError, match="two"):
            world.network.heal("main")
        with pytest.raises(ValueError, match="delay must be"):
            world.after(-1, print)

    simulation.run(main)


def test_links_have_conditions_of_their_own() -> None:
    async def body(pair: Pair) -> tuple[float, float]:
        network = simulation.current_world().network
        network.set_link("main", "server", Conditions(latency=1.0), one_way=True)
        begin = now()
        pair.writer.write(b"x")
        await pair.server_reader.readexactly(1)
        there = now() - begin
        pair.server_writer.write(b"x")
        await pair.reader.readexactly(1)
        back = now() - begin - there
        network.set_link("main", "server", None)
        pair.writer.write(b"x")
        await pair.server_reader.readexactly(1)
        assert now() - begin == there + back
        return there, back

    assert in_pair(body) == (1.0, 0.0)
