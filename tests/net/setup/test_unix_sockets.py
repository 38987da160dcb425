"""Unix sockets: paths, abstract names, full listen queues, and descriptor passing."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import stat
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.net.setup.unix_sockets import bind_unix, connect_unix, socket_file
from tests.support.cancel_everywhere import CancelPoint, cancel_everywhere, settled
from tests.support.leaks import open_descriptors

only_linux = pytest.mark.skipif(sys.platform != "linux", reason="abstract names are Linux's")


def abstract_name() -> str:
    return f"\0runtime-test-{os.getpid()}"


def talk(server: socket.socket, path: Any) -> None:
    """Connect to a bound socket, and check that bytes arrive."""

    async def main() -> None:
        server.listen()
        with await connect_unix(runtime.get_running_loop(), path) as client:
            assert client.gettimeout() == 0
            accepted, _ = server.accept()
            with accepted:
                accepted.sendall(b"hello")
                assert client.recv(100) == b"hello"

    runtime.run(main())


# -- Binding


@pytest.mark.parametrize("kind", [str, os.fsencode, Path])
def test_paths(kind: Callable[[Any], Any], tmp_path: Path) -> None:
    path = kind(tmp_path / "socket")
    with bind_unix(path) as server:
        assert server.gettimeout() == 0
        assert not server.get_inheritable()
        talk(server, path)


@only_linux
@pytest.mark.parametrize("kind", [str, os.fsencode])
def test_abstract_names(kind: Callable[[Any], Any]) -> None:
    name = kind(abstract_name())
    with bind_unix(name) as server:
        assert socket_file(server) is None
        talk(server, name)
        with pytest.raises(OSError, match="runtime-test.* is already in use") as caught:
            bind_unix(name)
        assert caught.value.errno == errno.EADDRINUSE
        with pytest.raises(ValueError, match="it is not a file"):
            bind_unix(name, mode=0o600)


def test_an_existing_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind_unix(path) as first, bind_unix(path) as second:
        first.listen()
        talk(second, path)


def test_a_file_that_is_no_socket_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "precious"
    path.write_text("data")
    with pytest.raises(OSError, match=f"Address {str(path)!r} is already in use") as caught:
        bind_unix(path)
    assert caught.value.errno == errno.EADDRINUSE
    assert path.read_text() == "data"


def test_a_socket_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    path = tmp_path / "socket"
    bind_unix(path).close()
    monkeypatch.setattr(os, "remove", refuse)
    with pytest.raises(OSError, match="already in use"):
        bind_unix(path)
    assert "Unable to check or remove stale UNIX socket" in caplog.text


def test_permissions(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind_unix(path, mode=0o666):
        assert stat.S_IMODE(path.stat().st_mode) == 0o666
    with bind_unix(path, mode=0o600) as server:
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        talk(server, path)


async def test_paths_that_do_not_work(tmp_path: Path) -> None:
    long = str(tmp_path / ("x" * 200))
    missing = str(tmp_path / "missing" / "socket")

    for path, kind in ((long, OSError), (missing, FileNotFoundError)):
        with pytest.raises(kind) as caught:
            bind_unix(path)
        assert caught.value.filename == path
        with pytest.raises(kind) as caught:
            await connect_unix(runtime.get_running_loop(), path)
        assert caught.value.filename == path
    for empty in ("", b""):
        with pytest.raises(ValueError, match="empty"):
            bind_unix(empty)
        with pytest.raises(ValueError, match="empty"):
            await connect_unix(runtime.get_running_loop(), empty)
    with pytest.raises(TypeError):
        bind_unix(7)  # type: ignore[arg-type]


# -- Removing the file


def test_the_file_is_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with bind_unix("socket") as server:
        file = socket_file(server)
        assert file is not None
        assert file.path == str(tmp_path / "socket")
        monkeypatch.chdir("/")
        file.remove()
        assert not (tmp_path / "socket").exists()
        file.remove()


def test_the_file_of_another_server_is_kept(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind_unix(path) as first:
        file = socket_file(first)
        assert file is not None
        with bind_unix(path) as second:
            file.remove()
            talk(second, path)


def test_the_file_is_missing_when_the_server_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with bind_unix(path) as server:
        path.unlink()
        assert socket_file(server) is None
    one, two = socket.socketpair()
    with one, two:
        assert socket_file(one) is None


def test_a_file_that_cannot_be_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(path: object) -> None:
        raise PermissionError(errno.EACCES, "no")

    with bind_unix(tmp_path / "socket") as server:
        file = socket_file(server)
        assert file is not None
        monkeypatch.setattr(os, "unlink", refuse)
        file.remove()
    assert "Unable to clean up listening UNIX socket" in caplog.text


# -- Connecting


async def test_no_server_listens(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    with bind_unix(path), pytest.raises(ConnectionRefusedError) as caught:
        await connect_unix(runtime.get_running_loop(), path)
    assert caught.value.filename == str(path)


@contextlib.contextmanager
def full_server(path: Path) -> Iterator[socket.socket]:
    """Yield a server whose listen queue is full."""
    with bind_unix(path) as server, contextlib.ExitStack() as clients:
        server.listen(0)
        while True:
            client = clients.enter_context(socket.socket(socket.AF_UNIX))
            client.setblocking(False)
            try:
                client.connect(str(path))
            except BlockingIOError:
                break
        yield server


@only_linux
async def test_connecting_waits_while_the_listen_queue_is_full(tmp_path: Path) -> None:
    path = tmp_path / "socket"

    async def by_hand(loop: runtime.Loop) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX)
        sock.setblocking(False)
        await loop.sock_connect(sock, str(path))
        return sock

    loop = runtime.get_running_loop()
    with full_server(path) as server:
        waiting = [runtime.create_task(connect_unix(loop, path)) for _ in range(5)]
        waiting.append(runtime.create_task(by_hand(loop)))
        done, _ = await runtime.wait(waiting, timeout=0.02)
        assert not done
        while len(done) < len(waiting):
            with contextlib.suppress(BlockingIOError):
                server.accept()[0].close()
            done, _ = await runtime.wait(waiting, timeout=0.001)
        for task in waiting:
            with task.result() as client:
                assert client.getpeername() == str(path)


@only_linux
def test_cancelled_while_the_listen_queue_is_full(tmp_path: Path) -> None:
    async def scenario(point: CancelPoint) -> None:
        path = tmp_path / "socket"
        with full_server(path) as server:
            before = open_descriptors()
            connecting = point.start(connect_unix(runtime.get_running_loop(), path))
            await runtime.sleep(0)
            server.accept()[0].close()
            await settled(connecting)
            if not connecting.cancelled():
                connecting.result().close()
            assert open_descriptors() == before

    assert cancel_everywhere(scenario) >= 1


# -- Passing descriptors


@contextlib.contextmanager
def unix_pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair(socket.AF_UNIX, kind)
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        yield one, two


def same_file(one: int, two: int) -> bool:
    return os.path.sameopenfile(one, two)


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
async def test_descriptors_arrive(kind: int) -> None:
    with unix_pair(kind) as (one, two), unix_pair() as (first, second):
        receiving = runtime.create_task(runtime.recv_fds(two, 100, 5))
        await runtime.sleep(0)
        assert not receiving.done()
        sent = await runtime.send_fds(one, [b"ab", bytearray(b"c")], [first, second.fileno()])
        assert sent == 3
        data, fds, flags, _ = await receiving
        try:
            assert data == b"abc"
            assert not flags & socket.MSG_CTRUNC
            assert len(fds) == 2
            assert same_file(fds[0], first.fileno())
            assert same_file(fds[1], second.fileno())
            assert not any(map(os.get_inheritable, fds))
        finally:
            for fd in fds:
                os.close(fd)


async def test_bytes_without_descriptors_and_the_end() -> None:
    with unix_pair() as (one, two):
        assert await runtime.send_fds(one, [b"just bytes"], []) == 10
        assert (await runtime.recv_fds(two, 100, 5))[:2] == (b"just bytes", [])
        one.close()
        assert (await runtime.recv_fds(two, 100, 5))[:2] == (b"", [])


@pytest.mark.parametrize("room", [0, 1, 2])
async def test_descriptors_beyond_the_maximum_are_closed(room: int) -> None:
    with unix_pair() as (one, two), unix_pair() as (first, second):
        before = open_descriptors()
        await runtime.send_fds(one, [b"x"], [first, second, first])
        data, fds, flags, _ = await runtime.recv_fds(two, 100, room)
        assert data == b"x"
        assert len(fds) == room
        assert flags & socket.MSG_CTRUNC
        for fd in fds:
            os.close(fd)
        assert open_descriptors() == before


async def test_descriptors_are_not_inheritable_on_a_system_without_the_flag(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.net.sockets.descriptor_passing._CLOSE_ON_EXEC", 0)

    with unix_pair() as (one, two):
        await runtime.send_fds(one, [b"x"], [one])
        _, fds, _, _ = await runtime.recv_fds(two, 1, 1)
        assert not os.get_inheritable(fds[0])
        os.close(fds[0])


def fill(sock: socket.socket) -> int:
    """Send until the socket is full; return the number of bytes sent."""
    size = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            size += sock.send(bytes(1 << 16))
    return size


async def test_sending_waits_while_the_socket_is_full() -> None:
    with unix_pair() as (one, two):
        size = fill(one)
        sending = runtime.create_task(runtime.send_fds(one, [b"last"], [one]))
        await runtime.sleep(0)
        assert not sending.done()
        while size:
            data, fds, _, _ = await runtime.recv_fds(two, size, 1)
            assert not fds
            size -= len(data)
        assert await sending == 4
        data, fds, _, _ = await runtime.recv_fds(two, 100, 1)
        assert data == b"last"
        os.close(fds[0])


async def test_a_descriptor_that_is_closed_while_it_waits_is_not_sent() -> None:
    with unix_pair() as (one, two):
        fill(one)
        passed = socket.socket()
        sending = runtime.create_task(runtime.send_fds(one, [b"x"], [passed]))
        await runtime.sleep(0)
        passed.close()
        two.recv(1 << 20)
        with pytest.raises(ValueError, match="closed"):
            await sending


def test_a_cancelled_receiver_loses_no_descriptor() -> None:
    async def scenario(point: CancelPoint) -> None:
        with unix_pair() as (one, two):
            before = open_descriptors()
            receiving = point.start(runtime.recv_fds(two, 100, 1))
            await runtime.sleep(0)
            await runtime.send_fds(one, [b"x"], [one])
            await settled(receiving)
            if receiving.cancelled():
                data, fds, _, _ = await runtime.recv_fds(two, 100, 1)
            else:
                data, fds, _, _ = receiving.result()
            assert data == b"x"
            os.close(*fds)
            assert open_descriptors() == before

    assert cancel_everywhere(scenario) >= 1


def test_a_cancelled_sender_sends_nothing() -> None:
    async def scenario(point: CancelPoint) -> None:
        with unix_pair() as (one, two):
            size = fill(one)
            sending = point.start(runtime.send_fds(one, [b"x"], [one]))
            await runtime.sleep(0)
            while size:
                size -= len(two.recv(size))
            await settled(sending)
            if sending.cancelled():
                with pytest.raises(BlockingIOError):
                    two.recv(1)
            else:
                assert sending.result() == 1
                _, fds, _, _ = await runtime.recv_fds(two, 100, 1)
                os.close(*fds)

    assert cancel_everywhere(scenario) >= 1


async def test_wrong_arguments_are_refused() -> None:
    with unix_pair() as (one, two), socket.socket() as tcp:
        tcp.setblocking(False)
        with pytest.raises(ValueError, match="Unix socket"):
            await runtime.send_fds(tcp, [b"x"], [0])
        with pytest.raises(ValueError, match="Unix socket"):
            await runtime.recv_fds(tcp, 1, 1)
        with pytest.raises(ValueError, match="at least one byte"):
            await runtime.send_fds(one, [b"", b""], [0])
        with pytest.raises(ValueError, match="negative"):
            await runtime.recv_fds(two, 1, -1)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await runtime.send_fds(one, [b"x"], [1 << 20])
        one.setblocking(True)
        with pytest.raises(ValueError, match="non-blocking"):
            await runtime.send_fds(one, [b"x"], [0])
        with pytest.raises(ValueError, match="non-blocking"):
            await runtime.recv_fds(one, 1, 1)
