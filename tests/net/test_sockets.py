"""The ``sock_*`` methods of the loop."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import runtime
from tests.net.tools import receive_all


def nonblocking(kind: int = socket.SOCK_STREAM) -> socket.socket:
    sock = socket.socket(type=kind)
    sock.setblocking(False)
    return sock


def test_a_whole_conversation() -> None:
    payload = bytes(range(256)) * 20_000

    async def main() -> None:
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

    runtime.run(main())


def test_datagrams() -> None:
    async def main() -> None:
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

    runtime.run(main())


def test_a_host_name_is_resolved() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        with socket.create_server(("127.0.0.1", 0)) as server, nonblocking() as client:
            await loop.sock_connect(client, ("localhost", server.getsockname()[1]))
            accepted, address = server.accept()
            accepted.close()
            assert address == client.getsockname()

    runtime.run(main())


def test_unix_sockets_have_no_host(tmp_path: Any) -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        path = str(tmp_path / "s")
        with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
            server.bind(path)
            server.listen()
            client.setblocking(False)
            await loop.sock_connect(client, path)

    runtime.run(main())


def test_a_refused_connection() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        with nonblocking() as probe:
            probe.bind(("127.0.0.1", 0))
            address = probe.getsockname()
        client = nonblocking()
        with client, pytest.raises(ConnectionRefusedError, match="Connect call failed"):
            await loop.sock_connect(client, address)

    runtime.run(main())


def test_a_blocking_socket_is_refused() -> None:
    async def main() -> None:
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

    runtime.run(main())


def test_cancelled_while_waiting() -> None:
    async def main() -> None:
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

    runtime.run(main())


def test_sendall_to_a_peer_that_goes() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        one, two = socket.socketpair()
        one.setblocking(False)
        with one:
            task = runtime.create_task(loop.sock_sendall(one, b"x" * 10_000_000))
            await runtime.sleep(0)
            two.close()
            with pytest.raises(ConnectionError):
                await task

    runtime.run(main())


def test_large_sendall_to_a_thread() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        one, two = socket.socketpair()
        one.setblocking(False)
        with two:
            receiving = runtime.create_task(runtime.to_thread(receive_all, two))
            with one:
                await loop.sock_sendall(one, b"x" * 10_000_000)
            assert await receiving == b"x" * 10_000_000

    runtime.run(main())
