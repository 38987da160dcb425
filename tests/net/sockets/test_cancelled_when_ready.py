"""Waits for a socket that are cancelled in the turn in which the socket becomes ready.

Such a wait either returns its result, or has no effect, and the next call does the whole operation:
no connection, byte, datagram or descriptor is lost, and none is delivered twice.

The wait is cancelled by a callback that was queued before the event, or by another event of the
same poll. asyncio's own loop is tested with the first only: in the second case it may have received
already, and then drops the bytes.

Source: python/cpython#153761.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import select
import socket
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tools import receive_all
from tests.net.transport_tools import LOCAL, PATIENCE, collect_reports
from tests.support.asyncio_reference import FIXED, MakeLoop, run, unless_faulty
from tests.support.blocked import all_tasks_blocked

READ, WRITE, EXCEPTIONAL = range(3)

MOMENTS = ("first", "early", "late")
"""The moment of the cancellation: a queued callback, or an event before or after the wait's."""

our_moments = pytest.mark.parametrize("moment", MOMENTS)


def moments(*, works: bool = True) -> pytest.MarkDecorator:
    """Run a test with ``make_loop`` and ``moment``; on asyncio's loop only if ``works``."""
    cases = [unless_faulty(asyncio.SelectorEventLoop, "first", name="asyncio-first", works=works)]
    cases += [pytest.param(runtime.new_event_loop, each, id=f"runtime-{each}") for each in MOMENTS]
    return pytest.mark.parametrize(("make_loop", "moment"), cases)


class Cancelled:
    """Result that stands for a cancelled operation."""


async def cancelled_when_ready(
    moment: str,
    operation: Coroutine[Any, Any, Any],
    make_ready: Callable[[], object],
    waited_for: Any,
    event: int = READ,
) -> Any:
    """Run ``operation`` until it waits; make the socket ready, and cancel it in the same turn.

    Returns its result, or ``Cancelled``.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(operation)
    await all_tasks_blocked()
    assert not task.done(), "there is nothing to wait for"
    receiver, sender = socket.socketpair()
    with receiver, sender:

        def cancel() -> None:
            loop.remove_reader(receiver)
            task.cancel()

        if moment == "early":
            loop.add_reader(receiver, cancel)
            sender.send(b"x")
        make_ready()
        until_ready(waited_for, event)
        if moment == "late":
            loop.add_reader(receiver, cancel)
            sender.send(b"x")
        elif moment == "first":
            loop.call_soon(task.cancel)
        async with asyncio.timeout(PATIENCE):
            await asyncio.wait([task])
        loop.remove_reader(receiver)
    assert task.cancelled() or moment != "first"
    return Cancelled if task.cancelled() else task.result()


def until_ready(waited_for: Any, event: int) -> None:
    """Block until the system reports a descriptor as ready."""
    sets: list[list[Any]] = [[], [], []]
    sets[event].append(waited_for)
    assert any(select.select(sets[READ], sets[WRITE], sets[EXCEPTIONAL], PATIENCE))


@contextlib.contextmanager
def listening(family: str) -> Iterator[socket.socket]:
    """Yield a non-blocking listening socket, of the family "tcp" or "unix"."""
    with (
        tempfile.TemporaryDirectory() as folder,
        socket.socket(socket.AF_INET if family == "tcp" else socket.AF_UNIX) as listener,
    ):
        listener.setblocking(False)
        listener.bind(LOCAL if family == "tcp" else str(Path(folder, "listener")))
        listener.listen()
        yield listener


@contextlib.contextmanager
def connected(kind: str) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Yield a non-blocking socket and its blocking peer: "tcp", "unix" or "datagrams"."""
    if kind == "tcp":
        with socket.create_server(LOCAL) as listener:
            theirs = socket.create_connection(listener.getsockname())
            ours = listener.accept()[0]
    else:
        type_ = socket.SOCK_DGRAM if kind == "datagrams" else socket.SOCK_STREAM
        ours, theirs = socket.socketpair(socket.AF_UNIX, type_)
    with ours, theirs:
        ours.setblocking(False)
        theirs.settimeout(PATIENCE)
        yield ours, theirs


def fill(sock: socket.socket, part: bytes) -> int:
    """Send ``part`` until the socket is full; return the number of bytes sent."""
    sent = 0
    with contextlib.suppress(BlockingIOError):
        while True:
            sent += sock.send(part)
    return sent


def drain(sock: socket.socket, size: int) -> None:
    """Receive ``size`` bytes."""
    while size:
        size -= len(sock.recv(min(size, 1 << 20)))


# -- Accepting and connecting ----------------------------------------------------------------------


@moments(works=FIXED)
@pytest.mark.parametrize("family", ["tcp", "unix"])
def test_the_next_call_accepts_the_connection(
    make_loop: MakeLoop, moment: str, family: str
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with listening(family) as listener, socket.socket(listener.family) as client:
            address = listener.getsockname()
            outcome = await cancelled_when_ready(
                moment, loop.sock_accept(listener), lambda: client.connect(address), listener
            )
            if outcome is Cancelled:
                async with asyncio.timeout(PATIENCE):
                    outcome = await loop.sock_accept(listener)
            connection, peer = outcome
            with connection:
                assert peer == client.getsockname()
                client.send(b"accepted")
                assert await loop.sock_recv(connection, 100) == b"accepted"
        assert reports == []

    run(make_loop, main())


@moments(works=FIXED)
def test_two_connections_are_not_lost(make_loop: MakeLoop, moment: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (
            listening("tcp") as listener,
            socket.socket() as one,
            socket.socket() as two,
        ):

            def connect_both() -> None:
                one.connect(listener.getsockname())
                two.connect(listener.getsockname())

            accepting = loop.sock_accept(listener)
            outcome = await cancelled_when_ready(moment, accepting, connect_both, listener)
            accepted = [] if outcome is Cancelled else [outcome]
            async with asyncio.timeout(PATIENCE):
                while len(accepted) < 2:
                    accepted.append(await loop.sock_accept(listener))
            assert [peer for _, peer in accepted] == [one.getsockname(), two.getsockname()]
            for connection, _ in accepted:
                connection.close()

    run(make_loop, main())


@pytest.mark.parametrize(
    "make_loop", [asyncio.SelectorEventLoop, runtime.new_event_loop], ids=["asyncio", "runtime"]
)
def test_a_socket_whose_connecting_was_cancelled_can_be_used(make_loop: MakeLoop) -> None:
    """The system continues connecting; the loop no longer watches the socket."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with listening("tcp") as listener, socket.socket() as client:
            client.setblocking(False)
            connecting = loop.create_task(loop.sock_connect(client, listener.getsockname()))
            # Connecting begins in this turn. The event comes at the beginning of the next turn.
            await asyncio.sleep(0)
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert not loop.remove_writer(client)
            until_ready(client, WRITE)
            assert client.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0
            connection, peer = await loop.sock_accept(listener)
            with connection:
                assert peer == client.getsockname()
                await loop.sock_sendall(client, b"connected")
                assert await loop.sock_recv(connection, 100) == b"connected"
        assert reports == []

    run(make_loop, main())


# -- Receiving -------------------------------------------------------------------------------------


async def by_recv(loop: Any, sock: socket.socket) -> bytes:
    received: bytes = await loop.sock_recv(sock, 100)
    return received


async def by_recv_into(loop: Any, sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: await loop.sock_recv_into(sock, buffer)])


async def by_recvfrom(loop: Any, sock: socket.socket) -> bytes:
    received: bytes = (await loop.sock_recvfrom(sock, 100))[0]
    return received


async def by_recvfrom_into(loop: Any, sock: socket.socket) -> bytes:
    buffer = bytearray(100)
    return bytes(buffer[: (await loop.sock_recvfrom_into(sock, buffer))[0]])


async def by_wait_readable(_loop: Any, sock: socket.socket) -> bytes:
    await runtime.wait_readable(sock)
    return sock.recv(100)


Receive = Callable[[Any, socket.socket], Coroutine[Any, Any, bytes]]

receiving = pytest.mark.parametrize(
    "receive", [by_recv, by_recv_into, by_recvfrom, by_recvfrom_into], ids=lambda by: by.__name__
)


async def check_that_nothing_is_lost(moment: str, receive: Receive, kind: str) -> None:
    loop = asyncio.get_running_loop()
    reports = collect_reports()
    with connected(kind) as (ours, theirs):
        for number in range(3):
            data = b"number %d" % number
            received = await cancelled_when_ready(
                moment, receive(loop, ours), functools.partial(theirs.send, data), ours
            )
            if received is Cancelled:
                async with asyncio.timeout(PATIENCE):
                    received = await receive(loop, ours)
            assert received == data
        with pytest.raises(BlockingIOError):
            ours.recv(100)
    assert reports == []


@moments()
@receiving
@pytest.mark.parametrize("kind", ["tcp", "unix", "datagrams"])
def test_the_next_call_receives(
    make_loop: MakeLoop, moment: str, receive: Receive, kind: str
) -> None:
    run(make_loop, check_that_nothing_is_lost(moment, receive, kind))


@our_moments
@pytest.mark.parametrize("kind", ["tcp", "unix", "datagrams"])
def test_the_next_wait_for_readability_ends_at_once(moment: str, kind: str) -> None:
    run(runtime.new_event_loop, check_that_nothing_is_lost(moment, by_wait_readable, kind))


@our_moments
async def test_urgent_data_ends_the_next_wait(moment: str) -> None:
    with connected("tcp") as (ours, theirs):
        outcome = await cancelled_when_ready(
            moment,
            runtime.wait_exceptional(ours),
            lambda: theirs.send(b"!", socket.MSG_OOB),
            ours,
            EXCEPTIONAL,
        )
        assert outcome in (Cancelled, None)
        await runtime.wait_for(runtime.wait_exceptional(ours), PATIENCE)
        assert ours.recv(1, socket.MSG_OOB) == b"!"


@our_moments
async def test_a_descriptor_is_received_by_the_next_call(moment: str) -> None:
    with connected("unix") as (ours, theirs), open(os.devnull, "rb") as file:
        outcome = await cancelled_when_ready(
            moment,
            runtime.recv_fds(ours, 100, 1),
            lambda: socket.send_fds(theirs, [b"here"], [file.fileno()]),
            ours,
        )
        if outcome is Cancelled:
            outcome = await runtime.wait_for(runtime.recv_fds(ours, 100, 1), PATIENCE)
        data, [fd], _flags, _address = outcome
        assert data == b"here"
        assert os.path.samestat(os.fstat(fd), os.fstat(file.fileno()))
        os.close(fd)


@our_moments
async def test_a_datagram_stays_in_its_endpoint(moment: str) -> None:
    with connected("datagrams") as (ours, theirs):
        async with await runtime.open_datagram(sock=ours) as endpoint:
            outcome = await cancelled_when_ready(
                moment, endpoint.receive(), lambda: theirs.send(b"kept"), ours
            )
            if outcome is Cancelled:
                outcome = await runtime.wait_for(endpoint.receive(), PATIENCE)
            assert outcome[0] == b"kept"


# -- Streams ---------------------------------------------------------------------------------------

READS: dict[str, Callable[[Any], Coroutine[Any, Any, bytes]]] = {
    "read": lambda reader: reader.read(100),
    "readline": lambda reader: reader.readline(),
    "readuntil": lambda reader: reader.readuntil(b"\n"),
    "readexactly": lambda reader: reader.readexactly(5),
}


@pytest.mark.parametrize(
    ("make_loop", "open_connection", "moment"),
    [
        pytest.param(asyncio.SelectorEventLoop, asyncio.open_connection, "first", id="asyncio"),
        *(
            pytest.param(
                runtime.new_event_loop, module.open_connection, moment, id=f"{name}-{moment}"
            )
            for name, module in (("asyncio_on_runtime", asyncio), ("runtime", runtime))
            for moment in MOMENTS
        ),
    ],
)
@pytest.mark.parametrize("name", READS)
def test_the_next_read_has_every_byte(
    make_loop: MakeLoop, open_connection: Any, moment: str, name: str
) -> None:
    read = READS[name]

    async def main() -> None:
        with connected("unix") as (ours, theirs):
            reader, writer = await open_connection(sock=ours)
            for line in (b"this\n", b"that\n"):
                received = await cancelled_when_ready(
                    moment, read(reader), functools.partial(theirs.send, line), ours
                )
                if received is Cancelled:
                    async with asyncio.timeout(PATIENCE):
                        received = await read(reader)
                assert received == line
            writer.close()
            await writer.wait_closed()

    run(make_loop, main())


# -- Sending ---------------------------------------------------------------------------------------


@moments()
def test_bytes_that_were_not_sent_are_never_sent(make_loop: MakeLoop, moment: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        with connected("unix") as (ours, theirs):
            filled = fill(ours, b"f" * 4096)
            outcome = await cancelled_when_ready(
                moment,
                loop.sock_sendall(ours, b"cancelled"),
                functools.partial(drain, theirs, filled),
                ours,
                WRITE,
            )
            await loop.sock_sendall(ours, b"next")
            ours.shutdown(socket.SHUT_WR)
            sent = b"" if outcome is Cancelled else b"cancelled"
            assert receive_all(theirs) == sent + b"next"
        assert reports == []

    run(make_loop, main())


@moments()
def test_a_datagram_that_was_not_sent_is_never_sent(make_loop: MakeLoop, moment: str) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        with (
            tempfile.TemporaryDirectory() as folder,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ours,
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as theirs,
        ):
            address = str(Path(folder, "datagrams"))
            theirs.bind(address)
            theirs.settimeout(PATIENCE)
            ours.setblocking(False)
            ours.connect(address)
            filled = fill(ours, b"f")

            outcome = await cancelled_when_ready(
                moment,
                loop.sock_sendto(ours, b"cancelled", address),
                functools.partial(drain, theirs, filled),
                ours,
                WRITE,
            )
            await loop.sock_sendto(ours, b"next", address)
            if outcome is not Cancelled:
                assert theirs.recv(100) == b"cancelled"
            assert theirs.recv(100) == b"next"

    run(make_loop, main())


@our_moments
async def test_the_next_wait_for_writability_ends_at_once(moment: str) -> None:
    with connected("unix") as (ours, theirs):
        filled = fill(ours, b"f" * 4096)
        outcome = await cancelled_when_ready(
            moment,
            runtime.wait_writable(ours),
            functools.partial(drain, theirs, filled),
            ours,
            WRITE,
        )
        assert outcome in (Cancelled, None)
        await runtime.wait_for(runtime.wait_writable(ours), PATIENCE)
        assert ours.send(b"x") == 1


@our_moments
async def test_a_descriptor_that_was_not_sent_is_never_sent(moment: str) -> None:
    with connected("unix") as (ours, theirs), open(os.devnull, "rb") as file:
        filled = fill(ours, b"f" * 4096)
        outcome = await cancelled_when_ready(
            moment,
            runtime.send_fds(ours, [b"x"], [file]),
            functools.partial(drain, theirs, filled),
            ours,
            WRITE,
        )
        ours.shutdown(socket.SHUT_WR)
        data, fds, _flags, _address = socket.recv_fds(theirs, 100, 1)
        for fd in fds:
            os.close(fd)
        assert (data, len(fds)) == ((b"", 0) if outcome is Cancelled else (b"x", 1))


@our_moments
async def test_a_file_is_positioned_behind_its_sent_part(moment: str, tmp_path: Path) -> None:
    """``os.sendfile`` has sent a part when the socket is full, and sends no more after that."""
    content = bytes(range(256)) * 10_000
    path = tmp_path / "content"
    path.write_bytes(content)

    loop = runtime.get_running_loop()
    with connected("unix") as (ours, theirs), path.open("rb", buffering=0) as file:
        received = bytearray()
        outcome = await cancelled_when_ready(
            moment,
            loop.sock_sendfile(ours, file),
            lambda: received.extend(theirs.recv(1 << 20)),
            ours,
            WRITE,
        )
        assert outcome is Cancelled
        ours.shutdown(socket.SHUT_WR)
        received += receive_all(theirs)
        assert 0 < len(received) < len(content)
        assert file.tell() == len(received)
        assert content.startswith(received)
