"""Clients that misbehave: the others are served, and nothing is left of them."""

from __future__ import annotations

import gc
import os
import resource
import socket
import subprocess
import sys
import threading
from typing import Any

import pytest

import runtime
from runtime.net.connection.streams import DEFAULT_LIMIT, make_streams
from tests.net.tools import connected, echo, receive_all, reset, serving, stream_pair, until
from tests.support.blocked import all_tasks_blocked


async def test_resets_half_closes_and_silence_do_not_disturb_the_others() -> None:
    async with serving() as address:
        reader, writer = await runtime.open_connection(*address)
        silent = [socket.create_connection(address) for _ in range(20)]
        for number in range(60):
            sock = socket.create_connection(address)
            sock.sendall(b"partial request")
            if number % 3 == 0:
                reset(sock)
            elif number % 3 == 1:
                sock.shutdown(socket.SHUT_WR)
                assert await runtime.to_thread(receive_all, sock) == b"partial request"
                sock.close()
            else:
                sock.close()
            writer.write(b"%03d" % number)
            assert await reader.readexactly(3) == b"%03d" % number
        for sock in silent:
            sock.close()
        writer.close()
        await writer.wait_closed()


async def test_a_reset_in_the_middle_of_a_message_reaches_the_handler() -> None:
    seen: list[BaseException] = []

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        try:
            await reader.readexactly(1000)
        except ConnectionResetError as error:
            seen.append(error)
        writer.close()

    async with serving(handler) as address:
        sock = socket.create_connection(address)
        sock.sendall(b"half")
        await runtime.sleep(0.001)
        reset(sock)
        await until(lambda: seen)


async def test_a_client_that_never_reads_delays_only_itself() -> None:
    high_water = 256 * 1024

    async def pour(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await reader.readexactly(1)
        writer.set_write_buffer_limits(high=high_water)
        try:
            while True:
                writer.write(b"x" * 65536)
                held.append(writer._adapter.lower.unsent_size())
                await writer.drain()
        except ConnectionError:
            ended.append(True)
        writer.close()

    held: list[int] = []
    ended: list[bool] = []

    async with serving(pour) as slow, serving(echo) as fast:
        with connected(slow) as sock:
            sock.sendall(b"g")
            await until(lambda: held and held[-1] > high_water)
            reader, writer = await runtime.open_connection(*fast)
            for _ in range(200):
                writer.write(b"y" * 1000)
                assert await reader.readexactly(1000) == b"y" * 1000
            writer.close()
            assert max(held) <= high_water + 65536
        await until(lambda: ended)


async def test_the_socket_closed_under_the_connection_is_detected() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await runtime.open_connection(sock=ours)
        waiting = runtime.create_task(reader.read(1))
        await runtime.sleep(0)
        number = ours.fileno()
        ours.close()
        other, far = socket.socketpair()
        with other, far:
            reused = number in (other.fileno(), far.fileno())
            writer.write(b"secret of the old connection")
            far.setblocking(False)
            other.setblocking(False)
            for end in (other, far):
                with pytest.raises(BlockingIOError):
                    end.recv(100)
            assert reused
            with pytest.raises(ConnectionAbortedError, match="closed while"):
                await waiting
            with pytest.raises(ConnectionAbortedError):
                await writer.drain()
            # The descriptor belongs to another socket now, and stays open.
            far.send(b"alive") if other.fileno() == number else other.send(b"alive")


async def test_a_descriptor_taken_over_by_a_new_connection() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, _writer = await runtime.open_connection(sock=ours)
        number = ours.fileno()
        ours.close()
        one, two = socket.socketpair()
        new = one if one.fileno() == number else two
        far = two if new is one else one
        with far:
            assert new.fileno() == number
            new_reader, new_writer = await runtime.open_connection(sock=new)
            assert isinstance(reader.exception(), ConnectionAbortedError)
            far.sendall(b"for the new one")
            assert await new_reader.readexactly(15) == b"for the new one"
            new_writer.close()
            assert far.recv(1) == b""


async def test_write_eof_to_a_peer_that_has_reset() -> None:
    loop = runtime.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        reader, writer = await runtime.open_connection(*listening.getsockname())
        peer, _ = listening.accept()
        writer.write(b"unread")
        reset(peer)
        # The reset has arrived, and no call has noticed it yet.
        writer.write_eof()
        with pytest.raises(ConnectionResetError):
            await reader.read()
        with pytest.raises(ConnectionResetError):
            await writer.wait_closed()
        assert len(loop._poller.watchers()) == 1


IDLE_CLIENTS = """
import resource, socket, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[3]),) * 2)
address = ("127.0.0.1", int(sys.argv[1]))
socks = [socket.create_connection(address) for _ in range(int(sys.argv[2]))]
print("connected", flush=True)
sys.stdin.readline()
for sock in socks[::2]:
    sock.sendall(b"x")
    assert sock.recv(1) == b"x"
for sock in socks:
    sock.close()
print("closed", flush=True)
"""


@pytest.mark.slow
def test_ten_thousand_idle_connections_leave_nothing_behind() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 10_000
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard - 500)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted + 500), hard))
    blocks: list[int] = []

    async def one_round(count: int) -> None:
        async with serving(backlog=1000) as (_, port):
            with subprocess.Popen(
                [sys.executable, "-c", IDLE_CLIENTS, str(port), str(count), str(wanted + 500)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
            ) as clients:
                assert clients.stdout is not None
                assert clients.stdin is not None
                assert await runtime.to_thread(clients.stdout.readline) == b"connected\n"
                await until(lambda: len(runtime.all_tasks()) > count)
                clients.stdin.write(b"\n")
                clients.stdin.flush()
                assert await runtime.to_thread(clients.stdout.readline) == b"closed\n"
                await until(lambda: len(runtime.all_tasks()) == 1)
        # The last handlers have ended; their done callbacks run in a later turn.
        await all_tasks_blocked()
        assert len(runtime.get_running_loop()._poller.watchers()) == 1

    async def main() -> None:
        await one_round(100)
        for count in (wanted, 100):
            await one_round(count)
            gc.collect()
            blocks.append(sys.getallocatedblocks())

    try:
        runtime.run(main())
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert blocks[1] - blocks[0] < 1000


def test_short_connections_need_no_garbage_collector() -> None:
    async def one() -> None:
        reader, writer = await runtime.open_connection(*address)
        writer.write(b"ping")
        assert await reader.readexactly(4) == b"ping"
        writer.close()
        await writer.wait_closed()

    def readers() -> int:
        return sum(type(obj).__name__ == "StreamReader" for obj in gc.get_objects())

    address: tuple[str, int]
    counts: list[int] = []

    async def main() -> None:
        nonlocal address
        async with serving() as address:
            for _ in range(4):
                for _ in range(100):
                    await one()
                await until(lambda: len(runtime.all_tasks()) == 1)
                await all_tasks_blocked()
                counts.append(readers() - before)

    gc.collect()
    # The traceback of an earlier test that has failed may hold some.
    before = readers()
    gc.disable()
    try:
        runtime.run(main())
    finally:
        gc.enable()
    assert counts == [0, 0, 0, 0]


async def test_cancelled_clients_in_every_state() -> None:
    async def client(address: tuple[str, int]) -> None:
        reader, writer = await runtime.open_connection(*address)
        try:
            while True:
                writer.write(b"x" * 100_000)
                await writer.drain()
                await reader.readexactly(100_000)
        finally:
            writer.abort()

    async with serving() as address:
        tasks = [runtime.create_task(client(address)) for _ in range(30)]
        for number, task in enumerate(tasks):
            for _ in range(number):
                await runtime.sleep(0)
            task.cancel()
        results = await runtime.gather(*tasks, return_exceptions=True)
        assert all(isinstance(result, runtime.CancelledError) for result in results)


async def test_closing_and_aborting_from_within_callbacks() -> None:
    """A task that is woken by the end may close, abort and write again, in any order."""
    async with stream_pair() as (reader, writer, peer):
        writer.write(b"x" * 5_000_000)
        calls: list[Any] = []

        def again(_: Any) -> None:
            writer.close()
            writer.abort()
            writer.write(b"more")
            writer.write_eof()
            calls.append(reader.at_eof())

        drain = runtime.create_task(writer.drain())
        await runtime.sleep(0)
        drain.add_done_callback(again)
        peer.close()
        with pytest.raises(ConnectionError):
            await drain
        await until(lambda: calls)
        assert calls == [True]


async def test_many_threads_of_clients() -> None:
    def talk(address: tuple[str, int], number: int) -> None:
        payload = bytes([number]) * 5000
        with connected(address) as sock:
            for _ in range(20):
                sock.sendall(payload)
                received = b""
                while len(received) < len(payload):
                    received += sock.recv(len(payload))
                good.append(received == payload)

    good: list[bool] = []

    async with serving() as address:
        threads = [threading.Thread(target=talk, args=(address, n)) for n in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            await runtime.to_thread(thread.join)
    assert good == [True] * 320


async def test_write_eof_to_a_socket_that_other_code_has_closed() -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        _, writer = await runtime.open_connection(sock=ours)
        ours.close()
        writer.write_eof()
        with pytest.raises(ConnectionAbortedError, match="closed while"):
            await runtime.wait_for(writer.wait_closed(), 30)


async def test_write_eof_to_a_descriptor_that_other_code_has_closed() -> None:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    with theirs:
        reader, writer, _ = make_streams(runtime.get_running_loop(), ours, DEFAULT_LIMIT, None)
        os.close(ours.fileno())
        writer.write_eof()
        with pytest.raises(OSError, match="Bad file descriptor"):
            await runtime.wait_for(writer.wait_closed(), 30)
        assert reader.at_eof()
