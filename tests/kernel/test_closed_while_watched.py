"""Descriptors that are closed while they are watched, with a duplicate that keeps the file open.

epoll then keeps reporting the file under the old number and refuses to remove it, because the
number is closed or means another file. A loop must not spin on such events, and must not pass them
to watchers of the number's new file. Watchers of the old file are notified once.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import gc
import os
import select
import selectors
import socket
import sys
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import pytest

import runtime

if not hasattr(select, "epoll"):
    pytest.skip("needs epoll", allow_module_level=True)

MOST_TURNS = 5000
"""Turns after which a loop that still has events is spinning; it takes some hundred to notice."""


def epoll_of(loop: runtime.Loop) -> int:
    """Return the descriptor of the loop's epoll."""
    selector = loop._poller.selector
    assert isinstance(selector, selectors.EpollSelector)
    return selector.fileno()


def has_events(loop: runtime.Loop) -> bool:
    """Return whether epoll has events to report: its own descriptor is readable then."""
    return bool(select.select([epoll_of(loop)], [], [], 0)[0])


async def until_quiet() -> None:
    """Run the loop until epoll reports no events any more."""
    loop = runtime.get_running_loop()
    for _ in range(MOST_TURNS):
        if not has_events(loop):
            return
        await asyncio.sleep(0)
    pytest.fail("The loop spins.")


@contextlib.contextmanager
def kept_alive(fd: int) -> Iterator[int]:
    """Keep the file of a descriptor open with a duplicate."""
    duplicate = os.dup(fd)
    try:
        yield duplicate
    finally:
        os.close(duplicate)


def collect_reports() -> list[dict[str, Any]]:
    reports: list[dict[str, Any]] = []
    runtime.get_running_loop().set_exception_handler(lambda _loop, context: reports.append(context))
    return reports


def readable_pipe() -> tuple[int, int]:
    """Return the ends of a pipe with a byte in it."""
    read_end, write_end = os.pipe()
    os.write(write_end, b"x")
    return read_end, write_end


# -- Callbacks -------------------------------------------------------------------------------------


async def test_a_reader_that_goes_on_is_dropped_and_reported_once() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = readable_pipe()
    with kept_alive(read_end):
        calls: list[None] = []
        loop.add_reader(read_end, calls.append, None)
        os.close(read_end)
        await until_quiet()
        assert len(calls) < 1000
        assert len(reports) == 1
        assert f"File descriptor {read_end} was closed" in reports[0]["message"]
        assert not loop.remove_reader(read_end)
    os.close(write_end)


async def test_a_writer_that_goes_on_is_dropped_and_reported_once() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = os.pipe()
    with kept_alive(write_end):
        loop.add_writer(write_end, lambda: None)
        os.close(write_end)
        await until_quiet()
        assert len(reports) == 1
    os.close(read_end)


async def test_a_reader_that_is_removed_too_late_is_no_error() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = readable_pipe()
    with kept_alive(read_end):
        loop.add_reader(read_end, lambda: None)
        os.close(read_end)
        assert loop.remove_reader(read_end)
        await until_quiet()
        assert reports == []
    os.close(write_end)


async def test_the_new_file_of_a_number_is_not_given_the_events_of_the_old_one() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = readable_pipe()
    new_read_end, new_write_end = os.pipe()
    with kept_alive(read_end):
        loop.add_reader(read_end, lambda: None)
        # The number now means another pipe, which is empty.
        os.dup2(new_read_end, read_end)
        calls: list[None] = []
        loop.add_reader(read_end, calls.append, None)
        await until_quiet()
        spurious = len(calls)
        assert spurious < 1000
        os.write(new_write_end, b"y")
        async with asyncio.timeout(30):
            while len(calls) == spurious:
                await asyncio.sleep(0)
        loop.remove_reader(read_end)
        assert reports == []
    for fd in (read_end, write_end, new_read_end, new_write_end):
        os.close(fd)


async def test_a_reused_number_whose_new_file_is_not_watched() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = readable_pipe()
    with kept_alive(read_end):
        loop.add_reader(read_end, lambda: None)
        os.close(read_end)
        other = os.dup(write_end)
        assert other == read_end
        await until_quiet()
        assert len(reports) == 1
        os.close(other)
    os.close(write_end)


# -- Other watchers --------------------------------------------------------------------------------


async def test_other_watchers_are_not_affected() -> None:
    """Callbacks, tasks, connections and other threads keep working when epoll is replaced."""

    async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        while data := await reader.read(100):
            writer.write(data)
        writer.close()

    loop = runtime.get_running_loop()
    read_end, write_end = readable_pipe()
    ours, peer = socket.socketpair()
    ours.setblocking(False)
    idle, idle_peer = socket.socketpair()
    idle.setblocking(False)
    watched, watched_peer = socket.socketpair()
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
    with kept_alive(read_end), ours, peer, idle, idle_peer, watched, watched_peer:
        seen = asyncio.Event()
        loop.add_reader(watched, seen.set)
        receiving = asyncio.ensure_future(loop.sock_recv(ours, 100))
        # A watcher whose registration exists and is disarmed.
        idle_peer.send(b"1")
        assert await loop.sock_recv(idle, 100) == b"1"
        again = asyncio.ensure_future(loop.sock_recv(idle, 100))
        await asyncio.sleep(0)
        again.cancel()
        await asyncio.sleep(0)
        loop.add_reader(read_end, lambda: None)
        os.close(read_end)
        loop.remove_reader(read_end)
        await until_quiet()
        peer.send(b"hello")
        assert await receiving == b"hello"
        idle_peer.send(b"2")
        assert await loop.sock_recv(idle, 100) == b"2"
        watched_peer.send(b"!")
        await seen.wait()
        loop.remove_reader(watched)
        writer.write(b"echo")
        assert await reader.readexactly(4) == b"echo"
        assert await asyncio.to_thread(lambda: 42) == 42
    writer.close()
    await server.shutdown(5)
    os.close(write_end)


async def test_no_descriptor_is_left_of_the_old_epoll() -> None:
    loop = runtime.get_running_loop()
    gc.collect()
    before = set(os.listdir("/proc/self/fd")) if sys.platform == "linux" else set()
    number = epoll_of(loop)
    for _ in range(3):
        read_end, write_end = readable_pipe()
        with kept_alive(read_end):
            loop.add_reader(read_end, lambda: None)
            os.close(read_end)
            loop.remove_reader(read_end)
            await until_quiet()
        os.close(write_end)
    assert loop._poller.selector.fileno() == number  # type: ignore[attr-defined]
    assert len(os.listdir("/proc/self/fd")) == len(before)


async def test_a_busy_descriptor_is_not_taken_for_a_closed_one() -> None:
    """The test produces more events than arrive between two checks."""
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = os.pipe()
    os.set_blocking(read_end, False)
    calls = 0

    def take() -> None:
        nonlocal calls
        calls += 1
        with contextlib.suppress(BlockingIOError):
            os.read(read_end, 100)

    loop.add_reader(read_end, take)
    for expected in range(1, 600):
        os.write(write_end, b"x")
        while calls < expected:
            await asyncio.sleep(0)
    loop.remove_reader(read_end)
    os.close(read_end)
    os.close(write_end)
    assert reports == []


# -- Transports, endpoints and servers -------------------------------------------------------------


class Protocol(asyncio.Protocol, asyncio.DatagramProtocol):
    def __init__(self) -> None:
        self.lost: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.errors: list[Exception] = []

    def error_received(self, exc: Exception) -> None:
        self.errors.append(exc)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(exc)


Make = Callable[[runtime.Loop, socket.socket], Any]

TRANSPORTS: dict[str, tuple[socket.SocketKind, Make]] = {
    "connection": (
        socket.SOCK_STREAM,
        lambda loop, sock: loop.create_connection(Protocol, sock=sock),
    ),
    "datagrams": (
        socket.SOCK_DGRAM,
        lambda loop, sock: loop.create_datagram_endpoint(Protocol, sock=sock),
    ),
    "pipe": (socket.SOCK_STREAM, lambda loop, sock: loop.connect_read_pipe(Protocol, sock)),
}


@pytest.mark.parametrize("behind", [False, True], ids=["closed", "closed behind its back"])
@pytest.mark.parametrize("kind", TRANSPORTS)
async def test_a_transport_fails_once(kind: str, behind: bool) -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    number, make = TRANSPORTS[kind]
    sock, peer = socket.socketpair(socket.AF_UNIX, number)
    with peer, kept_alive(sock.fileno()):
        transport, protocol = await make(loop, sock)
        os.close(sock.fileno()) if behind else sock.close()
        peer.send(b"x")
        async with asyncio.timeout(30):
            error = await protocol.lost
        await until_quiet()
        assert isinstance(error, OSError)
        assert protocol.errors == []
        assert transport.is_closing()
        # The end of a pipe is reported as well, and so is the failure to close the pipe.
        assert len(reports) == (1 + behind if kind == "pipe" else 0)
        if behind:
            with contextlib.suppress(OSError):
                sock.detach()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_UNIX], ids=["tcp", "unix"])
@pytest.mark.parametrize("behind", [False, True], ids=["closed", "closed behind its back"])
async def test_a_listener_is_reported_once(family: int, behind: bool, tmp_path: Any) -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    sock = socket.socket(family)
    sock.bind(("127.0.0.1", 0) if family == socket.AF_INET else str(tmp_path / "socket"))
    address = sock.getsockname()
    serve: Any = loop.create_server if family == socket.AF_INET else loop.create_unix_server
    server = await serve(Protocol, sock=sock)
    with kept_alive(sock.fileno()), socket.socket(family) as client:
        os.close(sock.fileno()) if behind else sock.close()
        client.connect(address)
        await until_quiet()
        server.close()
        await until_quiet()
        await server.wait_closed()
    assert len(reports) == 1
    assert "A listening socket was closed" in reports[0]["message"]


async def test_a_listener_whose_number_means_another_socket_is_reported_once() -> None:
    reports = collect_reports()
    sock = socket.create_server(("127.0.0.1", 0))
    address = sock.getsockname()
    server = await runtime.get_running_loop().create_server(Protocol, sock=sock)
    number = sock.fileno()
    with kept_alive(number):
        os.close(number)
        with socket.socket() as client:
            assert client.fileno() == number
            client.connect(address)
            await until_quiet()
    server.close()
    await server.wait_closed()
    assert len(reports) == 1
    assert "A listening socket was closed" in reports[0]["message"]


async def test_a_listener_that_is_shut_down_is_reported_once() -> None:
    loop = runtime.get_running_loop()
    reports = collect_reports()
    with socket.create_server(("127.0.0.1", 0)) as sock:
        server = await loop.create_server(Protocol, sock=sock.dup())
        address = sock.getsockname()
        sock.shutdown(socket.SHUT_RDWR)
        await until_quiet()
    server.close()
    await server.wait_closed()
    assert len(reports) == 1
    assert "A listening socket was shut down" in reports[0]["message"]
    with pytest.raises(ConnectionRefusedError):
        await runtime.open_connection(*address)


# -- Other selectors -------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(selectors, "PollSelector"), reason="there is no poll()")
def test_poll_reports_a_closed_descriptor_only_for_a_while() -> None:
    """poll() reports a closed descriptor as an event for ever."""

    async def main() -> None:
        loop = runtime.get_running_loop()
        reports = collect_reports()
        read_end, write_end = os.pipe()
        loop.add_reader(read_end, lambda: None)
        os.close(read_end)
        for _ in range(MOST_TURNS):
            await asyncio.sleep(0)
            if reports:
                break
        assert len(reports) == 1
        assert not loop.remove_reader(read_end)
        os.close(write_end)

    with asyncio.Runner(loop_factory=lambda: runtime.Loop(selectors.PollSelector())) as runner:
        runner.run(main())


async def test_there_is_no_descriptor_left_for_a_new_epoll(monkeypatch: pytest.MonkeyPatch) -> None:
    """The loop continues with the old one, and gets rid of the stale registration later."""

    def epoll() -> NoReturn:
        failures.append(OSError(errno.EMFILE, "Too many open files"))
        raise failures[-1]

    failures: list[OSError] = []
    loop = runtime.get_running_loop()
    reports = collect_reports()
    read_end, write_end = readable_pipe()
    with kept_alive(read_end):
        loop.add_reader(read_end, lambda: None)
        os.close(read_end)
        loop.remove_reader(read_end)
        with monkeypatch.context() as patch:
            patch.setattr(select, "epoll", epoll)
            for _ in range(MOST_TURNS):
                if len(failures) > 1:
                    break
                await asyncio.sleep(0)
        assert len(failures) > 1
        await until_quiet()
    os.close(write_end)
    assert reports == []
