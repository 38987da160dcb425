"""The functions and methods that are replaced during a simulated run, and restored after it."""

from __future__ import annotations

import asyncio
import errno
import gc
import os
import select
import socket
import threading
from typing import Any

import pytest

from runtime import simulation

REPLACED: list[tuple[Any, str]] = [
    *((socket.socket, name) for name in ("__init__", "_accept", "_real_close", "detach", "recv")),
    *((socket.socket, name) for name in ("connect", "send", "sendto", "getsockopt", "bind")),
    *((socket, name) for name in ("getaddrinfo", "gethostname", "socketpair", "dup", "close")),
    *((os, name) for name in ("close", "dup", "dup2", "sendfile")),
    *((select, name) for name in ("poll", "select")),
]


def test_everything_is_restored_whatever_happens() -> None:
    before = [getattr(owner, name) for owner, name in REPLACED]
    own = set(vars(socket.socket))

    async def fail() -> None:
        assert [getattr(owner, name) for owner, name in REPLACED] != before
        raise ValueError("the program fails")

    with pytest.raises(ValueError, match="the program fails"):
        simulation.run(fail)
    assert [getattr(owner, name) for owner, name in REPLACED] == before
    assert set(vars(socket.socket)) == own


def test_functions_that_a_module_keeps_from_a_run_are_the_original_ones_after_it() -> None:
    kept: list[Any] = []

    async def main() -> None:
        kept[:] = [socket.gethostname, socket.socketpair, socket.getaddrinfo, select.select]
        assert kept[0]() == "main"

    name = socket.gethostname()
    for _ in range(2):
        simulation.run(main)
        gethostname, socketpair, getaddrinfo, kept_select = kept
        assert gethostname() == name
        assert getaddrinfo("127.0.0.1", 1)[0][4] == ("127.0.0.1", 1)
        one, other = socketpair()
        with one, other:
            one.send(b"x")
            assert kept_select([other], [], [], 1) == ([other], [], [])
            assert os.read(other.fileno(), 10) == b"x"


def test_a_socket_that_is_left_open_is_a_leftover() -> None:
    left: list[socket.socket] = []

    async def main() -> None:
        left.append(socket.create_server(("127.0.0.1", 80)))

    with pytest.raises(simulation.LeftoverError, match="open socket"):
        simulation.run(main, leftovers=True)
    simulation.run(main)
    for sock in left:
        sock.close()


def test_sockets_are_of_the_ordinary_class() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            assert type(one) is socket.socket

    simulation.run(main)


def test_a_socket_that_is_dropped_is_closed() -> None:
    async def main() -> bytes:
        one, other = socket.socketpair()
        one.setblocking(False)
        with pytest.warns(ResourceWarning):
            del other
            gc.collect()
        with one:
            return await asyncio.get_running_loop().sock_recv(one, 1)

    assert simulation.run(main) == b""


def test_a_duplicate_keeps_the_connection_open() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        one, other = socket.socketpair()
        for sock in (one, other):
            sock.setblocking(False)
        copy = other.dup()
        copy.setblocking(False)
        other.close()
        await loop.sock_sendall(copy, b"still here")
        assert await loop.sock_recv(one, 100) == b"still here"
        again = socket.socket(fileno=copy.detach())
        again.setblocking(False)
        assert again.family == socket.AF_UNIX
        await loop.sock_sendall(again, b"and here")
        assert await loop.sock_recv(one, 100) == b"and here"
        os.close(again.detach())
        assert await loop.sock_recv(one, 100) == b""
        one.close()

    simulation.run(main)


def test_a_descriptor_that_is_replaced_belongs_to_the_other_socket() -> None:
    async def main() -> None:
        one, far = socket.socketpair()
        other, far_other = socket.socketpair()
        with one, other, far, far_other:
            os.dup2(one.fileno(), other.fileno())
            assert far_other.recv(1) == b""
            far.send(b"ab")
            assert (one.recv(1), other.recv(1)) == (b"a", b"b")
            one.close()
            other.send(b"c")
            assert far.recv(1) == b"c"
            with open(os.devnull, "rb") as file:
                os.dup2(file.fileno(), other.fileno())
            assert far.recv(1) == b""
            with pytest.raises(OSError, match="non-socket"):
                other.recv(1)
            os.dup2(far.fileno(), far.fileno())
            number = os.dup(far.fileno())
            far.close()
            with socket.socket(fileno=number) as last:
                assert last.recv(1) == b""

    simulation.run(main, leftovers=True)


def test_messages_of_several_parts() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            assert one.sendmsg([b"ab", b"cd", b"ef"]) == 6
            assert other.recv(2, socket.MSG_PEEK) == b"ab"
            buffers = [bytearray(3), bytearray(2)]
            assert other.recvmsg_into(buffers)[0] == 5
            assert buffers == [b"abc", b"de"]
            assert other.recvmsg(10) == (b"f", [], 0, None)

    simulation.run(main)


def test_descriptors_are_passed() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            one.setblocking(False)
            other.setblocking(False)
            first, second = socket.socketpair()
            with first, second:
                one.send(b"before")
                socket.send_fds(one, [b"with"], [first.fileno()])
                one.send(b"after")
                second.send(b"through")
            assert socket.recv_fds(other, 100, 1)[:2] == (b"before", [])
            data, fds, flags, _ = socket.recv_fds(other, 2, 1)
            assert (data, flags) == (b"wi", 0)
            with socket.socket(fileno=fds[0]) as passed:
                assert passed.recv(100) == b"through"
            assert other.recv(100) == b"thafter"
            with pytest.raises(OSError, match="Bad file descriptor"):
                socket.send_fds(one, [b"x"], [1 << 20])
            socket.send_fds(one, [b"x"], [0, 1])
            with pytest.raises(OSError, match="Unix stream sockets"), socket.socket() as tcp:
                socket.send_fds(tcp, [b"x"], [0])

    simulation.run(main)


def test_blocking_calls_let_the_time_of_the_network_pass() -> None:
    async def main() -> float:
        world = simulation.current_world()
        slow = simulation.Conditions(latency=1.0)
        world.network.set(slow, within=slow)
        with socket.create_server(("127.0.0.1", 80)) as listener:
            client = socket.create_connection(("127.0.0.1", 80))
            served, _ = listener.accept()
            with client, served:
                client.sendall(b"data")
                assert served.recv(10) == b"data"
                client.settimeout(5)
                with pytest.raises(TimeoutError):
                    client.recv(10)
                client.settimeout(None)
                with pytest.raises(BlockingIOError, match="would block for ever"):
                    client.recv(10)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", 80))
        return asyncio.get_running_loop().time()

    assert simulation.run(main) >= 8.0


def test_a_blocking_call_that_can_never_return_is_an_error() -> None:
    async def main() -> None:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("/listener")
            listener.listen(0)
            clients = [socket.socket(socket.AF_UNIX) for _ in range(2)]
            clients[0].connect("/listener")
            with pytest.raises(BlockingIOError, match="would block for ever"):
                clients[1].connect("/listener")
            for client in clients:
                client.close()

    simulation.run(main)


def test_select_and_poll() -> None:
    async def main() -> None:
        one, other = socket.socketpair()
        with one, other:
            assert select.select([one, other], [one], [], 0) == ([], [one], [])
            poll = select.poll()
            poll.register(one)
            poll.register(other, select.POLLIN)
            assert poll.poll(0) == [(one.fileno(), select.POLLOUT)]
            one.send(b"x")
            assert poll.poll(0) == [(one.fileno(), select.POLLOUT), (other.fileno(), select.POLLIN)]
            poll.modify(one, select.POLLIN)
            assert poll.poll() == [(other.fileno(), select.POLLIN)]
            poll.unregister(other)
            assert poll.poll(0) == []
            assert select.select([other], [], [], 10) == ([other], [], [])

    simulation.run(main)


def test_sockets_of_other_threads_and_from_before_are_real() -> None:
    one, other = socket.socketpair()
    found: list[Any] = []

    def in_thread() -> None:
        with (
            socket.create_server(("127.0.0.1", 0)) as listener,
            socket.create_connection(listener.getsockname()) as client,
        ):
            found.append(client.getpeername() == listener.getsockname())
        found.append(os.read(other.fileno(), 10))

    async def main() -> None:
        one.sendall(b"real")
        thread = threading.Thread(target=in_thread)
        thread.start()
        thread.join()

    with one, other:
        simulation.run(main, outside="allow")
        assert found == [True, b"real"]


def test_unknown_families_are_refused() -> None:
    async def main() -> None:
        with pytest.raises(OSError, match="Unix sockets only") as raised:
            socket.socket(socket.AF_PACKET)
        assert raised.value.errno == errno.EAFNOSUPPORT
        with pytest.raises(OSError, match="datagram sockets only"):
            socket.socket(socket.AF_INET, socket.SOCK_RAW)
        with socket.socket(socket.AF_UNIX) as sock, pytest.raises(OSError, match="too long"):
            sock.bind("x" * 200)

    simulation.run(main)
