"""``sock_sendfile``: the bytes that arrive, and the position of the file afterwards."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from runtime.net.sockets import sendfile
from tests.net.tools import receive_all, until

CONTENT = bytes(range(256)) * 8_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture(params=["sendfile", "reading"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Send by ``os.sendfile``, or without it."""
    if request.param == "reading":
        monkeypatch.delattr(os, "sendfile", raising=False)
    elif not hasattr(os, "sendfile"):
        pytest.skip("this system has no sendfile")
    return str(request.param)


@contextlib.contextmanager
def connected_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    one, two = socket.socketpair()
    one.setblocking(False)
    with one, two:
        yield one, two


async def sent_by(file: Any, *args: Any, **options: Any) -> tuple[int, bytes]:
    """Return the result of ``sock_sendfile``, and the bytes that arrived."""
    loop = runtime.get_running_loop()
    with connected_pair() as (one, two):
        receiving = runtime.create_task(runtime.to_thread(receive_all, two))
        try:
            sent = await loop.sock_sendfile(one, file, *args, **options)
        finally:
            one.close()
            received = await receiving
        return sent, received


@pytest.mark.parametrize(
    ("offset", "count"),
    [
        (0, None),
        (0, 10),
        (1000, None),
        (1000, 100),
        (1000, len(CONTENT)),
        (len(CONTENT) - 5, 5),
        (0, len(CONTENT)),
        (3, len(CONTENT) - 4),
    ],
)
async def test_the_bytes_arrive(way: str, path: Path, offset: int, count: int | None) -> None:
    expected = CONTENT[offset:][:count]
    with path.open("rb") as file:
        assert await sent_by(file, offset, count) == (len(expected), expected)
        assert file.tell() == offset + len(expected)


@pytest.mark.parametrize("offset", [len(CONTENT), len(CONTENT) + 10])
async def test_an_offset_at_or_behind_the_end(way: str, path: Path, offset: int) -> None:
    with path.open("rb") as file:
        assert await sent_by(file, offset) == (0, b"")
    path.write_bytes(b"")
    with path.open("rb") as file:
        assert await sent_by(file) == (0, b"")
        assert file.tell() == 0


async def test_the_position_before_has_no_effect(way: str, path: Path) -> None:
    with path.open("rb") as file:
        assert file.read(10) == CONTENT[:10]
        assert await sent_by(file, 0, 100) == (100, CONTENT[:100])
        assert file.tell() == 100
        assert file.read(10) == CONTENT[100:110]


async def test_a_file_that_grows_is_sent_to_its_end(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.sendfile
    calls: list[int] = []

    def grow(out: int, source: int, position: int, most: int) -> int:
        if not calls:
            with path.open("ab") as more:
                more.write(b"and more")
        calls.append(position)
        return real(out, source, position, most)

    monkeypatch.setattr(os, "sendfile", grow)

    with path.open("rb") as file:
        assert await sent_by(file, len(CONTENT) - 1) == (9, CONTENT[-1:] + b"and more")


async def test_it_waits_while_the_socket_is_full(path: Path) -> None:
    loop = runtime.get_running_loop()
    with connected_pair() as (one, two), path.open("rb") as file:
        with pytest.raises(BlockingIOError):
            while True:
                one.send(bytes(1000))
        task = runtime.create_task(loop.sock_sendfile(one, file, 0, 10))
        await runtime.sleep(0)
        assert not task.done()
        while not task.done():
            two.recv(4096)
            await runtime.sleep(0)
        assert await task == 10


async def test_it_does_not_wait_after_the_last_byte(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file may fill the socket, and the peer may answer before it receives."""

    def writable(*_: Any) -> Any:
        pytest.fail("nothing is left to be sent")

    monkeypatch.setattr(sendfile, "writable", writable)
    path.write_bytes(b"small")

    with path.open("rb") as file:
        assert await sent_by(file) == (5, b"small")
        assert await sent_by(file, 1, 2) == (2, b"ma")


@pytest.mark.skipif(not os.path.exists("/proc/self/maps"), reason="no such file system")
async def test_a_file_of_unknown_size(way: str) -> None:
    with open("/proc/self/status", "rb") as file:
        sent, received = await sent_by(file)
        assert sent == len(received) > 0
        assert received.startswith(b"Name:")


async def test_a_file_that_is_not_regular_is_read() -> None:
    for offset, count in ((0, None), (10, 20)):
        file = io.BytesIO(CONTENT)
        expected = CONTENT[offset:][:count]
        assert await sent_by(file, offset, count) == (len(expected), expected)
        assert file.tell() == offset + len(expected)
    with pytest.raises(runtime.SendfileNotAvailableError, match="not a regular file"):
        await sent_by(io.BytesIO(CONTENT), fallback=False)


async def test_a_pipe_has_no_position() -> None:
    receiver, sender = os.pipe()
    os.write(sender, b"through a pipe")
    os.close(sender)
    with os.fdopen(receiver, "rb") as file:
        assert await sent_by(file) == (14, b"through a pipe")
        with pytest.raises(OSError, match="not seekable|Illegal seek"):
            await sent_by(file, 1)


async def test_minimal_file_objects(path: Path) -> None:
    """Objects that have only ``fileno`` or only ``readinto``, with or without a position."""

    class OnlyReads:
        def __init__(self) -> None:
            self.readinto = io.BytesIO(CONTENT).readinto

    class OnlyHasDescriptor:
        def __init__(self, fd: int) -> None:
            self.fd = fd

        def fileno(self) -> int:
            return self.fd

    assert await sent_by(OnlyReads(), 0, 10) == (10, CONTENT[:10])
    with path.open("rb", buffering=0) as file:
        assert await sent_by(OnlyHasDescriptor(file.fileno()), 5, 10) == (10, CONTENT[5:15])
        assert file.tell() == 15


async def test_without_sendfile(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with path.open("rb") as file:
        for error in (OSError(22, "Invalid argument"), OSError(38, "Not implemented")):

            def refuse(*_: Any, error: OSError = error) -> int:
                raise error

            monkeypatch.setattr(os, "sendfile", refuse)
            assert await sent_by(file, 0, 10) == (10, CONTENT[:10])
            with pytest.raises(runtime.SendfileNotAvailableError):
                await sent_by(file, fallback=False)
        monkeypatch.delattr(os, "sendfile")
        with pytest.raises(runtime.SendfileNotAvailableError, match="not available"):
            await sent_by(file, fallback=False)


async def test_cancelled_in_the_middle(way: str, path: Path) -> None:
    loop = runtime.get_running_loop()
    with connected_pair() as (one, two), path.open("rb", buffering=0) as file:
        two.setblocking(False)
        task = runtime.create_task(loop.sock_sendfile(one, file))
        await runtime.wait_readable(two)
        # The loop watches the socket once it is full.
        await until(lambda: loop._poller.watcher(one.fileno()) is not None)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task
        one.close()
        received = b""
        while part := await loop.sock_recv(two, 1 << 20):
            received += part
        assert CONTENT.startswith(received)
        assert 0 < len(received) < len(CONTENT)
        if way == "sendfile":
            assert file.tell() == len(received)


async def test_a_peer_that_disconnects(way: str, path: Path) -> None:
    loop = runtime.get_running_loop()
    for receive in (0, 1000):
        one, two = socket.socketpair()
        one.setblocking(False)
        with one, path.open("rb") as file:
            task = runtime.create_task(loop.sock_sendfile(one, file))
            if receive:
                await runtime.wait_readable(two)
                two.recv(receive)
            two.close()
            with pytest.raises(ConnectionError):
                await task


async def test_a_connection_that_is_lost_in_the_middle(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[int] = []

    def lose_connection(*_: Any) -> int:
        if sent:
            raise OSError(errno.ENOTCONN, "Transport endpoint is not connected")
        sent.append(100)
        return 100

    monkeypatch.setattr(os, "sendfile", lose_connection)

    with path.open("rb") as file:
        with pytest.raises(ConnectionError, match="not connected"):
            await sent_by(file, 10)
        assert file.tell() == 110


async def test_bad_requests(path: Path) -> None:
    loop = runtime.get_running_loop()
    with path.open("rb") as file, connected_pair() as (one, _):
        with path.open() as text, pytest.raises(ValueError, match="binary mode"):
            await loop.sock_sendfile(one, text)
        for count in (0, -1):
            with pytest.raises(ValueError, match="count must be a positive"):
                await loop.sock_sendfile(one, file, 0, count)
        with pytest.raises(ValueError, match="offset must be a non-negative"):
            await loop.sock_sendfile(one, file, -1)
        wrong: Any = "1"
        with pytest.raises(TypeError, match="count must be"):
            await loop.sock_sendfile(one, file, 0, wrong)
        with pytest.raises(TypeError, match="offset must be"):
            await loop.sock_sendfile(one, file, wrong)
        one.setblocking(True)
        loop.set_debug(True)
        with pytest.raises(ValueError, match="non-blocking"):
            await loop.sock_sendfile(one, file)
        loop.set_debug(False)
        with socket.socket(type=socket.SOCK_DGRAM) as datagrams:
            datagrams.setblocking(False)
            with pytest.raises(ValueError, match="SOCK_STREAM"):
                await loop.sock_sendfile(datagrams, file)
