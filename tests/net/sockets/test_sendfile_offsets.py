"""The part of a file that is sent, and the file's position afterwards, in each way of sending.

The part begins at ``offset``, also if that is 0, and does not depend on the file's position before.
It ends after ``count`` bytes, or at the file's end. The position is then behind the last byte sent.

Source: python/cpython#150107 and the standard library's documentation of ``loop.sendfile``.
"""

from __future__ import annotations

import asyncio
import io
import os
import socket
import tempfile
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.transport_tools import LOCAL, PATIENCE, Recorder, collect_reports
from tests.support.asyncio_reference import FIXED, MakeLoop, run, unless_faulty
from tests.support.certificates import NAME, Certificates, client_context, server_context

CONTENT = bytes(range(251)) * 1_200
"""Longer than one read of the fallback, and not a multiple of its size."""

SIZE = len(CONTENT)

Send = Callable[..., Coroutine[Any, Any, int]]
"""Function of a file, an offset and a count that returns the number of bytes sent."""


@dataclass(frozen=True)
class Channel:
    """Connection to a server on TCP or on a Unix socket, perhaps with TLS."""

    loop: Any
    address: Any
    tls: dict[str, Any]

    @property
    def is_unix(self) -> bool:
        return isinstance(self.address, str)

    async def transport(self) -> Any:
        if self.is_unix:
            return (
                await self.loop.create_unix_connection(asyncio.Protocol, self.address, **self.tls)
            )[0]
        return (await self.loop.create_connection(asyncio.Protocol, *self.address, **self.tls))[0]

    async def writer(self, module: Any) -> Any:
        if self.is_unix:
            return (await module.open_unix_connection(self.address, **self.tls))[1]
        return (await module.open_connection(*self.address, **self.tls))[1]


async def by_transport(channel: Channel, *request: Any) -> int:
    transport = await channel.transport()
    try:
        sent: int = await channel.loop.sendfile(transport, *request)
    finally:
        transport.close()
    return sent


async def by_writer(channel: Channel, *request: Any) -> int:
    writer = await channel.writer(runtime)
    try:
        sent: int = await writer.sendfile(*request)
    finally:
        writer.close()
        await writer.wait_closed()
    return sent


async def by_transport_of_writer(channel: Channel, *request: Any) -> int:
    writer = await channel.writer(runtime)
    try:
        sent: int = await channel.loop.sendfile(writer.transport, *request)
    finally:
        writer.close()
        await writer.wait_closed()
    return sent


async def by_transport_of_asyncio_s_writer(channel: Channel, *request: Any) -> int:
    writer = await channel.writer(asyncio)
    try:
        sent: int = await channel.loop.sendfile(writer.transport, *request)
    finally:
        writer.close()
        await writer.wait_closed()
    return sent


async def by_socket(channel: Channel, *request: Any) -> int:
    with socket.socket(socket.AF_UNIX if channel.is_unix else socket.AF_INET) as sock:
        sock.setblocking(False)
        await channel.loop.sock_connect(sock, channel.address)
        sent: int = await channel.loop.sock_sendfile(sock, *request)
        return sent


OURS = [
    by_transport,
    by_writer,
    by_transport_of_writer,
    by_transport_of_asyncio_s_writer,
    by_socket,
]
MAIN = [by_transport, by_writer, by_socket]
"""The ways that do not end in another one."""


def ways(*of_asyncio: Send, works: bool = FIXED) -> pytest.MarkDecorator:
    """Run a test with ``make_loop``, ``send`` and ``kind``: a raw socket has no TLS."""
    cases = []
    for kind in ("tcp", "unix", "tls"):
        for send in OURS:
            if send is by_socket and kind == "tls":
                continue
            name = f"{send.__name__}-{kind}"
            marks = () if send in MAIN and kind != "unix" else pytest.mark.variation
            ours = runtime.new_event_loop
            cases.append(pytest.param(ours, send, kind, id=name, marks=marks))
            if send in of_asyncio:
                loop = asyncio.SelectorEventLoop
                cases.append(unless_faulty(loop, send, kind, name=f"asyncio-{name}", works=works))
    return pytest.mark.parametrize(("make_loop", "send", "kind"), cases)


each_file = pytest.mark.parametrize("opened", ["buffered", "unbuffered", "read", "in memory"])


@dataclass(frozen=True)
class Sending:
    """A way of sending a file: on a loop, with a function, to a server of a kind."""

    make_loop: MakeLoop
    send: Send
    kind: str
    opened: str
    """How the file is opened, of which "read" means without ``os.sendfile``."""

    path: Path
    certificates: Certificates

    @property
    def out_of_step(self) -> bool:
        """Whether the position is wrong on asyncio's loop.

        After ``os.sendfile``, asyncio moves the position of the descriptor, but not that of the
        file object, which computes its own from its buffer.
        """
        return self.make_loop is asyncio.SelectorEventLoop and self.opened == "buffered"

    def run(self, check: Callable[[Any], Coroutine[Any, Any, None]]) -> None:
        """Run ``check`` with the open file."""
        with self._open() as file:
            run(self.make_loop, check(file))

    def _open(self) -> Any:
        if self.opened == "in memory":
            return io.BytesIO(CONTENT)
        return self.path.open("rb", buffering=0 if self.opened == "unbuffered" else -1)

    async def sent(self, *request: Any) -> tuple[int, bytes]:
        """Send to a server; return the call's result and the bytes that arrived."""
        loop = asyncio.get_running_loop()
        served: list[Recorder] = []

        def factory() -> Recorder:
            served.append(Recorder())
            return served[-1]

        tls: dict[str, Any] = {}
        server: Any
        with tempfile.TemporaryDirectory() as folder:
            if self.kind == "unix":
                server = await loop.create_unix_server(factory, str(Path(folder, "socket")))
            else:
                context = server_context(self.certificates) if self.kind == "tls" else None
                server = await loop.create_server(factory, *LOCAL, ssl=context)
            if self.kind == "tls":
                tls = {"ssl": client_context(self.certificates), "server_hostname": NAME}
            try:
                channel = Channel(loop, server.sockets[0].getsockname(), tls)
                async with asyncio.timeout(PATIENCE):
                    sent = await self.send(channel, *request)
                while not served:
                    await asyncio.sleep(0)
                await served[0].until_lost()
            finally:
                server.close()
        return sent, bytes(served[0].received)


@pytest.fixture
def sending(
    make_loop: MakeLoop,
    send: Send,
    kind: str,
    opened: str,
    tmp_path: Path,
    certificates: Certificates,
    monkeypatch: pytest.MonkeyPatch,
) -> Sending:
    """Return a way of sending, after ``os.sendfile`` was removed if it is not to be used."""
    if opened == "read":
        monkeypatch.delattr(os, "sendfile", raising=False)
    elif not hasattr(os, "sendfile"):
        pytest.skip("this system has no sendfile")
    path = tmp_path / "content"
    path.write_bytes(CONTENT)
    return Sending(make_loop, send, kind, opened, path, certificates)


PARTS = [
    (0, None),
    (0, 1),
    (0, SIZE),
    (0, SIZE + 1),
    (7, None),
    (7, SIZE - 7),
    (7, SIZE),
    (SIZE - 1, 1),
    (SIZE - 1, None),
]
"""Pairs of an offset and a count."""


@ways(by_transport, by_socket)
@each_file
def test_the_part_that_is_asked_for_is_sent(sending: Sending) -> None:
    async def check(file: Any) -> None:
        reports = collect_reports()
        for offset, count in PARTS:
            file.seek(100)
            expected = CONTENT[offset:][:count]
            assert await sending.sent(file, offset, count) == (len(expected), expected)
            if not sending.out_of_step:
                assert file.tell() == offset + len(expected)
                assert file.read(10) == CONTENT[offset:][len(expected) :][:10]
        assert reports == []

    sending.run(check)


@ways(by_transport, by_socket)
@each_file
def test_the_default_offset_is_the_beginning(sending: Sending) -> None:
    async def check(file: Any) -> None:
        for move, size in (("read", 1000), ("seek", 1000), ("seek", SIZE)):
            getattr(file, move)(size)
            assert await sending.sent(file) == (SIZE, CONTENT)
            if not sending.out_of_step:
                assert file.tell() == SIZE

    sending.run(check)


@ways(by_transport, by_socket)
@pytest.mark.parametrize("opened", ["unbuffered", "read", "in memory"])
def test_an_offset_behind_the_end_sends_nothing(sending: Sending) -> None:
    async def check(file: Any) -> None:
        for offset in (SIZE, SIZE + 1000):
            file.seek(100)
            assert await sending.sent(file, offset) == (0, b"")
            assert file.tell() == offset

    sending.run(check)


@ways(by_transport, by_socket)
@each_file
def test_a_file_may_be_sent_part_by_part(sending: Sending) -> None:
    async def check(file: Any) -> None:
        received = b""
        while len(received) < SIZE:
            sent, part = await sending.sent(file, file.tell(), SIZE // 3 + 1)
            assert sent == len(part)
            received += part
        assert received == CONTENT
        assert await sending.sent(file, 0, 10) == (10, CONTENT[:10])
        assert file.tell() == 10

    sending.run(check)


BAD: list[tuple[Any, Any, type[Exception]]] = [
    (-1, None, ValueError),
    ("1", None, TypeError),
    (1.0, None, TypeError),
    (0, 0, ValueError),
    (0, -1, ValueError),
    (0, "1", TypeError),
    (0, 1.0, TypeError),
]


@ways(by_socket, works=True)
@pytest.mark.parametrize("opened", ["unbuffered"])
def test_bad_offsets_and_counts_are_refused(sending: Sending) -> None:
    """The loop of asyncio does not check them if it reads the file."""

    async def check(file: Any) -> None:
        file.seek(100)
        for offset, count, error in BAD:
            with pytest.raises(error, match="integer"):
                await sending.sent(file, offset, count)
            assert file.tell() == 100

    sending.run(check)
