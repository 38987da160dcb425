"""The ``sock_*`` methods of the loop."""

from __future__ import annotations

import array
import asyncio
import inspect
import socket
from typing import Any

import pytest

import runtime
from tests.net.tools import receive_all


def nonblocking(kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(type=kind)
    sock.setblocking(False)
    return sock


async def test_a_whole_conversation() -> None:
    payload = bytes(range(256)) * 20_000

    loop = runtime.get_running_loop()
    with nonblocking() as server, nonblocking() as client:
        server.bind(("127.0.0.1", 0))
        server.listen()
        accepting = runtime.create_task(loop.sock_accept(server))
        await runtime.sleep(0)
        await loop.sock_connect(client, server.getsockname())
        accepted, address = await accepting
        with accepted:
            assert address == client.getsockname()
            sending = runtime.create_task(loop.sock_sendall(client, payload))
            received = b""
            while len(received) < len(payload):
                received += await loop.sock_recv(accepted, 1 << 20)
            await sending
            assert received == payload
            waiting = runtime.create_task(loop.sock_recv(client, 10))
            await runtime.sleep(0)
            await loop.sock_sendall(accepted, memoryview(b"back"))
            assert await waiting == b"back"
            buffer = bytearray(10)
            filling = runtime.create_task(loop.sock_recv_into(client, buffer))
            await runtime.sleep(0)
            await loop.sock_sendall(accepted, bytearray(b"into"))
            assert await filling == 4
            assert buffer[:4] == b"into"
            accepted.shutdown(socket.SHUT_WR)
            assert await loop.sock_recv(client, 10) == b""


async def test_datagrams() -> None:
    loop = runtime.get_running_loop()
    with nonblocking(socket.SOCK_DGRAM) as one, nonblocking(socket.SOCK_DGRAM) as two:
        one.bind(("127.0.0.1", 0))
        two.bind(("127.0.0.1", 0))
        waiting = runtime.create_task(loop.sock_recvfrom(one, 100))
        await runtime.sleep(0)
        assert await loop.sock_sendto(two, b"ping", one.getsockname()) == 4
        assert await waiting == (b"ping", two.getsockname())
        for size in (0, 3):
            buffer = bytearray(10)
            filling = runtime.create_task(loop.sock_recvfrom_into(one, buffer, size))
            await runtime.sleep(0)
            await loop.sock_sendto(two, b"abc", one.getsockname())
            assert await filling == (3, two.getsockname())
            assert buffer[:3] == b"abc"


async def test_an_empty_datagram_is_received() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair(type=socket.SOCK_DGRAM)
    for sock in (one, two):
        sock.setblocking(False)
    with one, two:
        waiting = runtime.create_task(loop.sock_recv(two, 10))
        await runtime.sleep(0)
        await loop.sock_sendall(one, b"")
        assert await waiting == b""


async def test_a_host_name_is_resolved() -> None:
    loop = runtime.get_running_loop()
    with socket.create_server(("127.0.0.1", 0)) as server, nonblocking() as client:
        await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
        accepted, address = server.accept()
        accepted.close()
        assert address == client.getsockname()


async def test_unix_sockets_have_no_host(tmp_path: Any) -> None:
    loop = runtime.get_running_loop()
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
        server.bind(path)
        server.listen()
        client.setblocking(False)
        await loop.sock_connect(client, path)


async def test_a_refused_connection() -> None:
    loop = runtime.get_running_loop()
    with nonblocking() as probe:
        probe.bind(("127.0.0.1", 0))
        address = probe.getsockname()
    client = nonblocking()
    with client, pytest.raises(ConnectionRefusedError, match="Connect call failed"):
        await loop.sock_connect(client, address)


@pytest.mark.runtime(debug=True)
async def test_a_blocking_socket_is_refused_in_debug_mode() -> None:
    loop = runtime.get_running_loop()
    with socket.socket() as sock:
        calls: list[Any] = [
            loop.sock_recv(sock, 1),
            loop.sock_recv_into(sock, bytearray(1)),
            loop.sock_recvfrom(sock, 1),
            loop.sock_recvfrom_into(sock, bytearray(1)),
            loop.sock_sendall(sock, b""),
            loop.sock_sendto(sock, b"", ("127.0.0.1", 1)),
            loop.sock_connect(sock, ("127.0.0.1", 1)),
            loop.sock_accept(sock),
        ]
        for call in calls:
            with pytest.raises(ValueError, match="non-blocking"):
                await call


async def test_cancelled_while_waiting() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two:
        task = runtime.create_task(loop.sock_recv(one, 10))
        await runtime.sleep(0)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task
        two.sendall(b"kept")
        assert await loop.sock_recv(one, 10) == b"kept"


async def test_the_methods_return_coroutines() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    for sock in (one, two):
        sock.setblocking(False)
    with one, two:
        call = loop.sock_sendall(one, b"1234")
        assert inspect.iscoroutine(call)
        await runtime.wait_for(call, 30)
        received = await runtime.gather(*(loop.sock_recv(two, 1) for _ in range(4)))
        assert b"".join(received) == b"1234"
        await asyncio.create_task(loop.sock_sendall(one, b"5"))
        assert await asyncio.wait_for(loop.sock_recv(two, 10), 30) == b"5"


async def test_bytes_beyond_the_number_asked_for_stay() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two:
        task = runtime.create_task(loop.sock_recv(one, 3))
        await runtime.sleep(0)
        two.sendall(b"abcdefgh")
        assert await task == b"abc"
        assert await loop.sock_recv(one, 0) == b""
        assert await loop.sock_recv(one, 1) == b"d"
        # Less than asked for: the loop does not try again in this turn, but waits.
        assert await loop.sock_recv(one, 100) == b"efgh"
        two.sendall(b"ij")
        assert await runtime.wait_for(loop.sock_recv(one, 1 << 20), 30) == b"ij"
        two.close()
        assert await runtime.wait_for(loop.sock_recv(one, 10), 30) == b""
        assert await runtime.wait_for(loop.sock_recv(one, 10), 30) == b""


class Shouting(socket.socket):
    """Socket that changes the bytes that it sends and receives."""

    def recv(self, bufsize: int, flags: int = 0, /) -> bytes:
        return super().recv(bufsize, flags).upper()

    def send(self, data: Any, flags: int = 0, /) -> int:
        return super().send(bytes(data).upper(), flags)


async def test_the_methods_of_a_subclass_are_called() -> None:
    loop = runtime.get_running_loop()
    plain, two = socket.socketpair()
    one = Shouting(fileno=plain.detach())
    for sock in (one, two):
        sock.setblocking(False)
    with one, two:
        waiting = runtime.create_task(loop.sock_recv(one, 10))
        await runtime.sleep(0)
        await loop.sock_sendall(two, b"hush")
        assert await waiting == b"HUSH"
        sending = runtime.create_task(loop.sock_sendall(one, b"y" * 1_000_000))
        received = b""
        while len(received) < 1_000_000:
            received += await loop.sock_recv(two, 1 << 20)
        await sending
        assert received == b"Y" * 1_000_000


async def test_bad_arguments() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    one.setblocking(False)
    with two:
        with one:
            await loop.sock_sendall(one, b"")
            with pytest.raises(ValueError, match="negative"):
                await loop.sock_recv(one, -1)
            with pytest.raises(TypeError):
                await loop.sock_recv(one, "1")  # type: ignore[arg-type]
            with pytest.raises(TypeError):
                await loop.sock_sendall(one, "text")
        for call in (loop.sock_recv(one, 10), loop.sock_sendall(one, b"x")):
            with pytest.raises(OSError, match="Bad file descriptor"):
                await call


async def test_other_buffers_than_bytes() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    for sock in (one, two):
        sock.setblocking(False)
    with one, two:
        values = array.array("i", range(200_000))
        sending = runtime.create_task(loop.sock_sendall(one, values))
        received = b""
        while len(received) < 4 * len(values):
            received += await loop.sock_recv(two, 1 << 20)
        await sending
        assert received == values.tobytes()


async def test_sendall_to_a_peer_that_disconnects() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    one.setblocking(False)
    with one:
        task = runtime.create_task(loop.sock_sendall(one, b"x" * 10_000_000))
        await runtime.sleep(0)
        two.close()
        with pytest.raises(ConnectionError):
            await task


async def test_large_sendall_to_a_thread() -> None:
    loop = runtime.get_running_loop()
    one, two = socket.socketpair()
    one.setblocking(False)
    with two:
        receiving = runtime.create_task(runtime.to_thread(receive_all, two))
        with one:
            await loop.sock_sendall(one, b"x" * 10_000_000)
        assert await receiving == b"x" * 10_000_000


async def test_a_scope_in_the_name_is_kept() -> None:
    """A scope that the caller gives as a number precedes it, unless it is 0."""
    connected_to: list[Any] = []

    class Connecting(socket.socket):
        def connect(self, address: Any, /) -> None:
            connected_to.append(address)

    name, number = socket.if_nameindex()[0][1], socket.if_nameindex()[0][0]

    loop = runtime.get_running_loop()
    with Connecting(socket.AF_INET6) as sock:
        sock.setblocking(False)
        for given in ((), (0,), (0, 0), (7, 0), (0, 9), (7, 9)):
            await loop.sock_connect(sock, (f"fe80::1%{name}", 80, *given))
        await loop.sock_connect(sock, ("fe80::1", 80, 7, 9))
    assert [address[1] for address in connected_to] == [80] * 7
    scoped = [(0, number)] * 3 + [(7, number), (0, 9), (7, 9), (7, 9)]
    assert [address[2:] for address in connected_to] == scoped
