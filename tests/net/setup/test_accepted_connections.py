"""Accepted connections: their contexts, their end, and faults in accepting.

Source: python/cpython#123720, #140947, #127529 and #128916.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import errno
import selectors
import socket
import ssl
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

import runtime
from tests.net.tools import receive_all
from tests.net.transport_tools import LOCAL, PATIENCE, Recorder, collect_reports
from tests.support.asyncio_reference import FIXED, MakeLoop, on_both_loops, run, unless_faulty
from tests.support.blocked import all_tasks_blocked
from tests.support.certificates import NAME, Certificates, client_context, server_context
from tests.support.leaks import open_descriptors

Serve = Callable[..., Any]
"""Function that starts a server of one kind, with a protocol factory or a stream handler."""

KINDS = ("tcp", "unix", "tls")


@contextlib.asynccontextmanager
async def serving(
    serve_tcp: Serve,
    serve_unix: Serve,
    kind: str,
    certificates: Certificates,
    **options: Any,
) -> AsyncIterator[tuple[Any, Callable[[], socket.socket]]]:
    """Start a server; yield it, and a function that connects a blocking socket to it."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "unix":
            server = await serve_unix(str(Path(folder, "socket")), **options)
        else:
            context = server_context(certificates) if kind == "tls" else None
            server = await serve_tcp(*LOCAL, ssl=context, **options)
        address = server.sockets[0].getsockname()

        def connect() -> socket.socket:
            sock = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
            sock.settimeout(PATIENCE)
            try:
                sock.connect(address)
                if kind != "tls":
                    return sock
                return client_context(certificates).wrap_socket(sock, server_hostname=NAME)
            except BaseException:
                sock.close()
                raise

        try:
            yield server, connect
        finally:
            server.close()


def receive_to_the_end(sock: socket.socket) -> bytes:
    """Receive until the peer has closed; with TLS, answer its close_notify."""
    with contextlib.suppress(OSError):
        received = receive_all(sock)
        if isinstance(sock, ssl.SSLSocket):
            sock.unwrap().close()
        return received
    return b""


# -- The end of serve_forever ----------------------------------------------------------------------


class Handler:
    """Stream handler that reads until its silent connection ends."""

    def __init__(self) -> None:
        self.begun = 0
        self.ended: list[bytes] = []

    async def handle(self, reader: Any, writer: Any) -> None:
        self.begun += 1
        self.ended.append(await reader.read())
        writer.close()


class Waiting(Recorder):
    """Protocol that records the same as ``Handler``."""

    def __init__(self, handler: Handler) -> None:
        super().__init__()
        self.handler = handler

    def connection_made(self, transport: Any) -> None:
        super().connection_made(transport)
        self.handler.begun += 1

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self.handler.ended.append(bytes(self.received))


def servers(handler: Handler, api: str) -> tuple[Serve, Serve]:
    """Return the functions of ``api`` that serve ``handler``, on TCP and on Unix sockets."""
    if api == "protocols":
        loop = asyncio.get_running_loop()
        return (
            lambda *args, **options: loop.create_server(lambda: Waiting(handler), *args, **options),
            lambda *args, **options: loop.create_unix_server(
                lambda: Waiting(handler), *args, **options
            ),
        )
    module: Any = runtime if api == "runtime" else asyncio
    return (
        lambda *args, **options: module.start_server(handler.handle, *args, **options),
        lambda *args, **options: module.start_unix_server(handler.handle, *args, **options),
    )


serving_forever = pytest.mark.parametrize(
    ("make_loop", "api"),
    [
        unless_faulty(asyncio.SelectorEventLoop, "protocols", name="asyncio-protocols"),
        unless_faulty(asyncio.SelectorEventLoop, "asyncio", name="asyncio-streams"),
        pytest.param(runtime.new_event_loop, "protocols", id="protocols"),
        pytest.param(runtime.new_event_loop, "asyncio", id="streams of asyncio"),
        pytest.param(runtime.new_event_loop, "runtime", id="streams"),
    ],
)


@serving_forever
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("ending", ["cancel", "close"])
def test_the_end_of_serve_forever_ends_its_connections(
    make_loop: MakeLoop, api: str, kind: str, ending: str, certificates: Certificates
) -> None:
    """Also if the server is closed, which cancels ``serve_forever``."""

    async def main() -> None:
        handler = Handler()
        async with serving(*servers(handler, api), kind, certificates) as (server, connect):
            serving_forever = asyncio.ensure_future(server.serve_forever())
            with contextlib.ExitStack() as open_sockets:
                receiving = []
                for _ in range(3):
                    sock = open_sockets.enter_context(await asyncio.to_thread(connect))
                    receiving.append(asyncio.to_thread(receive_to_the_end, sock))
                async with asyncio.timeout(PATIENCE):
                    while handler.begun < 3:
                        await asyncio.sleep(0)
                all_received = asyncio.gather(*receiving)
                if ending == "cancel":
                    serving_forever.cancel()
                else:
                    server.close()
                await asyncio.wait([serving_forever], timeout=PATIENCE / 6)
                ended = serving_forever.done()
                server.abort_clients()
                assert await all_received == [b"", b"", b""]
                assert ended, "it waits for its clients"
            assert serving_forever.cancelled()
            assert not server.is_serving()
            await all_tasks_blocked()
            assert handler.ended == [b"", b"", b""]

    run(make_loop, main())


# -- Contexts --------------------------------------------------------------------------------------

name_of: contextvars.ContextVar[str] = contextvars.ContextVar("name_of", default="unset")

in_contexts = pytest.mark.parametrize(
    ("make_loop", "api"),
    [
        unless_faulty(
            asyncio.SelectorEventLoop,
            "protocols",
            name="asyncio-protocols",
            works=FIXED and sys.version_info >= (3, 15),
        ),
        unless_faulty(
            asyncio.SelectorEventLoop,
            "asyncio",
            name="asyncio-streams",
            works=FIXED and sys.version_info >= (3, 15),
        ),
        pytest.param(runtime.new_event_loop, "protocols", id="protocols"),
        pytest.param(runtime.new_event_loop, "asyncio", id="streams of asyncio"),
        pytest.param(runtime.new_event_loop, "runtime", id="streams"),
    ],
)


class Named(asyncio.Protocol):
    """Protocol that sets a context variable to each received line, and answers "?" with it."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.write(name_of.get().encode() + b"\n")

    def data_received(self, data: bytes) -> None:
        for line in data.splitlines():
            if line == b"?":
                self.transport.write(name_of.get().encode() + b"\n")
            else:
                name_of.set(line.decode())


async def name_itself(reader: Any, writer: Any) -> None:
    """Do the same as ``Named``, with streams."""
    writer.write(name_of.get().encode() + b"\n")
    while line := await reader.readline():
        if line == b"?\n":
            writer.write(name_of.get().encode() + b"\n")
        else:
            name_of.set(line.decode().strip())
    writer.close()


def named_servers(api: str) -> tuple[Serve, Serve]:
    if api == "protocols":
        loop = asyncio.get_running_loop()
        return (
            lambda *args, **options: loop.create_server(Named, *args, **options),
            lambda *args, **options: loop.create_unix_server(Named, *args, **options),
        )
    module: Any = runtime if api == "runtime" else asyncio
    return (
        lambda *args, **options: module.start_server(name_itself, *args, **options),
        lambda *args, **options: module.start_unix_server(name_itself, *args, **options),
    )


@in_contexts
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("start_serving", [True, False])
def test_each_connection_has_a_copy_of_the_context_that_the_server_was_made_in(
    make_loop: MakeLoop, api: str, kind: str, start_serving: bool, certificates: Certificates
) -> None:
    def converse(connect: Callable[[], socket.socket]) -> list[str]:
        """Return the values of the variable in two connections, before and after both set it."""
        with connect() as one, connect() as two:
            said = [sock.recv(100).decode() for sock in (one, two)]
            for sock, name in ((one, b"one\n"), (two, b"two\n")):
                sock.sendall(name)
            # Both connections have set their names when this one has answered.
            for sock in (two, one, two):
                sock.sendall(b"?\n")
                said.append(sock.recv(100).decode())
            for sock in (one, two):
                sock.close()
        return said

    async def main() -> None:
        name_of.set("the maker")
        serve = named_servers(api)
        async with serving(*serve, kind, certificates, start_serving=False) as (server, connect):
            name_of.set("the caller")
            if start_serving:
                await server.start_serving()
                serving_forever = None
            else:
                serving_forever = asyncio.ensure_future(server.serve_forever())
                await all_tasks_blocked()
            said = await asyncio.to_thread(converse, connect)
            assert said == ["the maker\n", "the maker\n", "two\n", "one\n", "two\n"]
            server.close()
            if serving_forever is not None:
                await asyncio.wait([serving_forever])
        await all_tasks_blocked()
        assert name_of.get() == "the caller"

    run(make_loop, main())


# -- Faults in accepting ---------------------------------------------------------------------------


class Disturbed(socket.socket):
    """Listening socket that reports some connections as aborted before they are accepted."""

    aborted: frozenset[int] = frozenset()
    turn = 0

    def listen_with(self, aborted: frozenset[int]) -> None:
        self.bind(LOCAL)
        self.listen()
        self.setblocking(False)
        self.aborted = aborted
        self.calls: list[int] = []

    def accept(self) -> tuple[socket.socket, Any]:
        number = len(self.calls)
        self.calls.append(self.turn)
        if number in self.aborted:
            raise ConnectionAbortedError(errno.ECONNABORTED, "aborted")
        return super().accept()


@on_both_loops()
@pytest.mark.parametrize("aborted", [{0}, {4}, {0, 1, 2}, {3, 5, 6}], ids=str)
def test_an_aborted_connection_does_not_keep_others_waiting(
    make_loop: MakeLoop, aborted: set[int]
) -> None:
    """In a batch of several, the next one is accepted in the same turn of the loop."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        reports = collect_reports()
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        with Disturbed() as listener, contextlib.ExitStack() as clients:
            listener.listen_with(frozenset(aborted))
            for _ in range(10):
                clients.enter_context(socket.create_connection(listener.getsockname()))

            def count() -> None:
                listener.turn += 1
                if not over:
                    loop.call_soon(count)

            over = False
            count()
            server = await loop.create_server(factory, sock=listener)
            async with asyncio.timeout(PATIENCE):
                while len(made) < 10 or not all(each.transport for each in made):
                    await asyncio.sleep(0)
            over = True
            calls = listener.calls
            # The first of a batch may be its last; our batches of one and two come first.
            for number in aborted - {0, 1, 2, 6}:
                assert calls[number] == calls[number + 1]
            for each in made:
                each.transport.close()
            server.close()
            await server.wait_closed()
        assert reports == []

    run(make_loop, main())


def test_a_burst_of_connections_leaves_turns_to_the_others() -> None:
    """A turn that accepted the whole burst would delay the requests of existing connections."""

    async def main() -> list[int]:
        loop = runtime.get_running_loop()
        accepted = [0]

        def factory() -> Recorder:
            accepted[-1] += 1
            return Recorder()

        def begin_turn() -> None:
            accepted.append(0)
            if sum(accepted) < 30:
                loop.call_soon(begin_turn)

        with socket.create_server(LOCAL, backlog=30) as listener, contextlib.ExitStack() as clients:
            for _ in range(30):
                clients.enter_context(socket.create_connection(listener.getsockname()))
            server = await loop.create_server(factory, sock=listener, backlog=30)
            begin_turn()
            async with runtime.timeout(PATIENCE):
                while sum(accepted) < 30:
                    await runtime.sleep(0)
            await server.shutdown(0)
        return accepted

    accepted = runtime.run(main())
    assert sum(accepted) == 30
    assert max(accepted) <= 4


class Refusing(selectors.DefaultSelector):
    """Selector that can be told to refuse further registrations."""

    refusal: BaseException | None = None

    def register(self, fileobj: Any, events: int, data: Any = None) -> selectors.SelectorKey:
        if self.refusal is not None:
            raise self.refusal
        return super().register(fileobj, events, data)


@pytest.mark.parametrize("api", ["protocols", "asyncio", "runtime"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("refusal", [OSError("refused"), RuntimeError("refused")], ids=repr)
def test_an_accepted_socket_that_cannot_be_watched_is_closed(
    api: str, kind: str, refusal: Exception, certificates: Certificates
) -> None:
    selector = Refusing()

    async def main() -> None:
        collect_reports()
        handler = Handler()
        async with serving(*servers(handler, api), kind, certificates) as (server, _):
            before = open_descriptors()
            selector.refusal = refusal
            with socket.socket(server.sockets[0].family) as client:
                client.connect(server.sockets[0].getsockname())
                await all_tasks_blocked()
                selector.refusal = None
                await all_tasks_blocked()
                assert open_descriptors() - before == {client.fileno()}
            server.close()
            async with asyncio.timeout(PATIENCE):
                await server.wait_closed()

    run(lambda: runtime.Loop(selector), main())


# -- Sharing a port --------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(socket, "SO_REUSEPORT"), reason="ports cannot be shared here")
@pytest.mark.parametrize(
    ("make_loop", "api"),
    [
        unless_faulty(asyncio.SelectorEventLoop, "protocols", name="asyncio"),
        pytest.param(runtime.new_event_loop, "protocols", id="protocols"),
        pytest.param(runtime.new_event_loop, "asyncio", id="streams of asyncio"),
        pytest.param(runtime.new_event_loop, "runtime", id="streams"),
    ],
)
def test_a_port_is_shared_for_families_with_ports(
    make_loop: MakeLoop, api: str, tmp_path: Path
) -> None:
    """Linux refuses SO_REUSEPORT for other families since version 6.12.9."""

    async def main() -> None:
        loop = asyncio.get_running_loop()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder, "socket"))

            async def getaddrinfo(*_args: object, **_options: object) -> list[Any]:
                return [
                    (socket.AF_INET, socket.SOCK_STREAM, 6, "", LOCAL),
                    (socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path),
                ]

            loop.getaddrinfo = getaddrinfo  # type: ignore[method-assign]
            serve, _ = servers(Handler(), api)
            server = await serve("a.name", 1, reuse_port=True)
            shared = {
                sock.family: sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT)
                for sock in server.sockets
            }
            assert shared == {socket.AF_INET: 1, socket.AF_UNIX: 0}
            server.close()

    run(make_loop, main())
