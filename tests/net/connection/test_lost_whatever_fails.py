"""A connection ends for its reader, its writer and its server, even if its end is disturbed."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from subprocess import PIPE
from typing import Any, NoReturn

import pytest

import runtime
from runtime.net.connection.layers import new_connection_error
from runtime.net.connection.receive_buffer import ReceiveBuffer
from tests.net.tls_tools import contexts, until
from tests.net.tools import connected, reset, serving, stream_pair
from tests.support.build import is_compiled
from tests.support.certificates import NAME, Certificates
from tests.support.tls_peer import TlsPeer, tls_client, tls_server

LARGE = 300_000
"""Bytes of a ``readexactly`` that are received straight into its result."""

PART = 100_000
PATIENCE = 20.0


class Reports:
    """Record of the reports to the loop's exception handler."""

    def __init__(self) -> None:
        self.exceptions: list[BaseException | None] = []
        runtime.get_running_loop().set_exception_handler(self._take)

    def _take(self, loop: object, context: dict[str, Any]) -> None:
        self.exceptions.append(context.get("exception"))


async def part_of_much(
    reader: runtime.StreamReader, ask: Callable[[], object]
) -> runtime.Task[bytes]:
    """Start a large read, and let it receive a part, which ``ask()`` makes the peer send."""
    reading = runtime.create_task(reader.readexactly(LARGE))
    await runtime.sleep(0)
    ask()
    await until(lambda: reader._adapter._target_filled == PART)
    return reading


# -- A part of a large read, and then the end ------------------------------------------------------


@pytest.mark.parametrize("server_side", [False, True], ids=["client", "server"])
async def test_a_truncated_large_read(certificates: Certificates, server_side: bool) -> None:
    has_room = threading.Event()

    async def use(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        reading = await part_of_much(reader, lambda: writer.write(b"?"))
        has_room.set()
        with pytest.raises(ssl.SSLEOFError):
            await runtime.wait_for(reading, PATIENCE)
        assert await reader.read(PART) == bytes(PART)
        with pytest.raises(ssl.SSLEOFError):
            await writer.wait_closed()

    def behave(peer: TlsPeer) -> None:
        peer.handshake()
        assert peer.receive_exactly(1) == b"?"
        peer.send(bytes(PART))
        assert has_room.wait(PATIENCE)
        peer.truncate()
        peer.receive_raw_until_end()

    reports = Reports()
    server_context, client_context = contexts(certificates)
    if server_side:
        done = runtime.get_running_loop().create_future()

        async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
            await use(reader, writer)
            done.set_result(None)

        server = await runtime.start_server(handler, "127.0.0.1", 0, ssl=server_context)
        address = server.sockets[0].getsockname()
        with tls_client(address, client_context, behave):
            await runtime.wait_for(done, PATIENCE)
        await runtime.wait_for(server.shutdown(), PATIENCE)
    else:
        with tls_server(server_context, behave) as peer:
            await use(
                *await runtime.open_connection(
                    *peer.address, ssl=client_context, server_hostname=NAME
                )
            )
    assert reports.exceptions == []


async def test_a_large_read_is_reset() -> None:
    reports = Reports()
    outcome: list[BaseException] = []

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        reading = await part_of_much(reader, lambda: peer.sendall(bytes(PART)))
        reset(peer)
        try:
            await runtime.wait_for(reading, PATIENCE)
        except BaseException as error:
            outcome.append(error)
        assert await reader.read(PART)

    async with serving(handler) as address:
        with connected(address) as peer:
            await until(lambda: outcome)
    assert isinstance(outcome[0], ConnectionResetError)
    assert reports.exceptions == []


async def test_a_view_of_the_receive_target_is_kept() -> None:
    async with stream_pair() as (reader, writer, peer):
        reading = await part_of_much(reader, lambda: peer.sendall(bytes(PART)))
        view = reader._adapter.get_buffer()
        writer.abort()
        with pytest.raises(runtime.IncompleteReadError) as caught:
            await reading
        assert caught.value.partial == bytes(PART)
        # A change through the view does not change the bytes that were read.
        view[:] = b"x" * len(view)
        assert caught.value.partial == bytes(PART)


# -- The socket cannot be closed -------------------------------------------------------------------


class Unclosable(socket.socket):
    """Socket whose ``close`` raises after it has closed."""

    def close(self) -> None:
        super().close()
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("end", ["close", "abort", "peer"])
async def test_close_fails(end: str) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        reader, writer = await runtime.open_connection(sock=Unclosable(fileno=ours.detach()))
        reading = runtime.create_task(reader.read())
        await runtime.sleep(0)
        if end == "close":
            writer.close()
        elif end == "abort":
            writer.abort()
        else:
            theirs.close()
            await reading
            writer.close()
        with pytest.raises(OSError, match="Input/output error"):
            await runtime.wait_for(writer.wait_closed(), PATIENCE)
        await runtime.gather(reading, return_exceptions=True)


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_descriptor_is_gone(end: str) -> None:
    # The server does not wait for the connection either: ``serving`` has ended.

    accepted = runtime.get_running_loop().create_future()
    async with serving(lambda *streams: accepted.set_result(streams)) as address:
        with connected(address):
            _, writer = await accepted
            os.close(writer._adapter.lower.fd)
            getattr(writer, end)()
            with pytest.raises(OSError, match="Bad file descriptor"):
                await runtime.wait_for(writer.wait_closed(), PATIENCE)


# -- Unexpected exceptions -------------------------------------------------------------------------


class Failing:
    """Callback of an ``SSLContext`` that can be told to raise from then on."""

    def __init__(self) -> None:
        self.active = False

    def __call__(self, *message: object) -> None:
        if self.active:
            raise LookupError("not found")


def failing_context(context: ssl.SSLContext) -> Failing:
    failing = Failing()
    context._msg_callback = failing  # type: ignore[attr-defined]
    return failing


async def test_the_handshake_of_a_client_fails_in_python(certificates: Certificates) -> None:
    server_context, client_context = contexts(certificates)
    failing_context(client_context).active = True
    async with serving(ssl=server_context) as address:
        with pytest.raises(LookupError, match="not found"):
            await runtime.wait_for(
                runtime.open_connection(*address, ssl=client_context, server_hostname=NAME),
                PATIENCE,
            )


async def test_the_handshake_of_a_server_fails_in_python(certificates: Certificates) -> None:
    server_context, client_context = contexts(certificates)
    failing_context(server_context).active = True

    async def talk(address: tuple[str, int]) -> None:
        reader, writer = await runtime.open_connection(
            *address, ssl=client_context, server_hostname=NAME
        )
        try:
            await reader.read()
        finally:
            writer.abort()

    async with serving(ssl=server_context) as address:
        with pytest.raises(OSError, match=r"."):
            await runtime.wait_for(talk(address), PATIENCE)


@pytest.mark.parametrize("what", ["reading", "writing", "closing"])
async def test_tls_fails_in_python(certificates: Certificates, what: str) -> None:
    server_context, client_context = contexts(certificates)
    failing = failing_context(client_context)
    async with serving(ssl=server_context) as address:
        reader, writer = await runtime.open_connection(
            *address, ssl=client_context, server_hostname=NAME
        )
        writer.write(b"?")
        assert await reader.readexactly(1) == b"?"
        if what == "reading":
            writer.write(b"?")
        failing.active = True
        if what == "closing":
            writer.close()
        else:
            if what == "writing":
                writer.write(b"?")
            with pytest.raises(ConnectionError):
                await runtime.wait_for(reader.read(1), PATIENCE)
        await runtime.wait_for(
            runtime.gather(writer.wait_closed(), return_exceptions=True), PATIENCE
        )


class Exhausted(ReceiveBuffer):
    """Receive buffer that raises MemoryError."""

    def append(self, data: bytes) -> NoReturn:
        raise MemoryError


@pytest.mark.skipif(is_compiled(), reason="compiled, it takes no other buffer than its own")
@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_memory_runs_out_in_a_read(certificates: Certificates, tls: bool) -> None:
    """The reader raises: it does not continue as if no bytes were missing."""
    reports = Reports()
    server_context, client_context = contexts(certificates) if tls else (None, None)
    async with serving(ssl=server_context) as address:
        reader, writer = await runtime.open_connection(
            *address, ssl=client_context, server_hostname=NAME if tls else None
        )
        reader._adapter.unread = Exhausted()
        writer.write(b"lost")
        with pytest.raises(ConnectionError) as caught:
            await runtime.wait_for(reader.read(1), PATIENCE)
        assert isinstance(caught.value.__cause__, MemoryError)
    assert [type(each) for each in reports.exceptions] == [MemoryError]


@pytest.mark.skipif(is_compiled(), reason="compiled, it takes no other buffer than its own")
async def test_memory_runs_out_in_a_read_from_a_process() -> None:
    reports = Reports()
    process = await runtime.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdout._adapter.unread = Exhausted()
    process.stdin.write(b"lost")
    with pytest.raises(ConnectionError):
        await runtime.wait_for(process.stdout.read(1), PATIENCE)
    process.stdin.close()
    await process.wait()
    assert [type(each) for each in reports.exceptions] == [MemoryError]


# -- Errors that cannot be copied ------------------------------------------------------------------


class Particular(OSError):
    """Exception that cannot be copied: its constructor takes more than ``args``."""

    def __init__(self, what: str, why: str) -> None:
        super().__init__(f"{what}: {why}")


def test_an_error_that_cannot_be_copied() -> None:
    error = Particular("no", "way")
    for_waiter = new_connection_error(error)
    assert type(for_waiter) is ConnectionResetError
    assert for_waiter.__cause__ is error


# -- A connection without a handler ----------------------------------------------------------------


@pytest.mark.parametrize("tls", [False, True], ids=["plain", "TLS"])
async def test_a_handler_that_cannot_be_started(certificates: Certificates, tls: bool) -> None:
    """If the task factory fails, the connection is closed, and the server has none left."""

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        raise AssertionError("It is never started.")

    def no_tasks(loop: object, coroutine: Coroutine[Any, Any, Any], **options: Any) -> NoReturn:
        coroutine.close()
        raise LookupError("no tasks today")

    loop = runtime.get_running_loop()
    reports = Reports()
    server_context, client_context = contexts(certificates) if tls else (None, None)
    async with serving(handler, ssl=server_context) as address:
        loop.set_task_factory(no_tasks)
        try:
            reader, writer = await runtime.open_connection(
                *address, ssl=client_context, server_hostname=NAME if tls else None
            )
            with contextlib.suppress(ConnectionError):
                while await reader.read(1):
                    pass
        finally:
            loop.set_task_factory(None)
        writer.abort()
    assert [type(each) for each in reports.exceptions] == [LookupError]
