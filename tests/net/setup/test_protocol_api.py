"""Making connections and servers for protocols, on asyncio's own loop and on ours."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.net.tools import receive_all
from tests.net.transport_tools import (
    LOCAL,
    Recorder,
    Run,
    collect_reports,
    on_asyncio,
    talking,
)
from tests.support.blocked import all_tasks_blocked


@contextlib.asynccontextmanager
async def serving(
    *args: Any, factory: Callable[[], Any] = Recorder, **options: Any
) -> AsyncIterator[tuple[Any, list[Any]]]:
    """Yield a server, and the list of the protocols that it made."""
    made: list[Any] = []

    def remembering() -> Any:
        made.append(factory())
        return made[-1]

    loop = asyncio.get_running_loop()
    server = await loop.create_server(remembering, *args, **options)
    try:
        yield server, made
    finally:
        server.close()
        for protocol in made:
            if not protocol.lost:
                protocol.transport.close()
        for protocol in made:
            await protocol.until_lost()
        await server.wait_closed()


async def connect(*args: Any, **options: Any) -> tuple[Any, Recorder]:
    return await asyncio.get_running_loop().create_connection(Recorder, *args, **options)


async def end(transport: Any, protocol: Recorder) -> None:
    transport.close()
    await protocol.until_lost()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not condition():
            await asyncio.sleep(0)


# -- Servers ---------------------------------------------------------------------------------------


def test_serving_may_start_later(run: Run) -> None:
    async def main() -> None:
        async with serving(*LOCAL, start_serving=False) as (server, made):
            assert not server.is_serving()
            address = server.sockets[0].getsockname()
            with pytest.raises(ConnectionRefusedError):
                await connect(*address)
            await server.start_serving()
            await server.start_serving()
            assert server.is_serving()
            transport, protocol = await connect(*address)
            await until(lambda: made)
            await end(transport, protocol)
            server.close()
            assert not server.is_serving()
            assert not server.sockets
            server.close()

    run(main())


def test_several_hosts_and_dual_stack(run: Run) -> None:
    hosts = ["127.0.0.1", "127.0.0.2"]
    if socket.has_ipv6:
        with contextlib.suppress(OSError), socket.create_server(("::1", 0), family=socket.AF_INET6):
            hosts.append("::1")

    async def main() -> None:
        async with serving(hosts, 0) as (server, made):
            addresses = [sock.getsockname() for sock in server.sockets]
            assert {address[0] for address in addresses} == set(hosts)  # asyncio loses the order.
            for address in addresses:
                transport, protocol = await connect(*address[:2])
                assert transport.get_extra_info("peername")[:2] == address[:2]
                await end(transport, protocol)
            await until(lambda: len(made) == len(hosts))

    run(main())


@pytest.mark.parametrize("host", [None, ""])
def test_all_interfaces(run: Run, host: str | None) -> None:
    async def main() -> None:
        async with serving(host, 0) as (server, made):
            [port] = {
                sock.getsockname()[1] for sock in server.sockets if sock.family == socket.AF_INET
            }
            await end(*await connect("127.0.0.1", port))
            await until(lambda: made)

    run(main())


def test_a_port_can_be_shared(run: Run) -> None:
    async def main() -> None:
        async with serving(*LOCAL, reuse_port=True) as (one, made):
            address = one.sockets[0].getsockname()
            with pytest.raises(OSError, match="bind on address") as caught:
                async with serving(*address):
                    pass
            assert caught.value.errno == errno.EADDRINUSE
            async with serving(*address, reuse_port=True) as (_, also_made):
                ends = [await connect(*address) for _ in range(20)]
                await until(lambda: len(made) + len(also_made) == 20)
                for transport, protocol in ends:
                    await end(transport, protocol)

    run(main())


def test_a_given_socket(run: Run) -> None:
    async def main() -> None:
        sock = socket.socket()
        sock.bind(LOCAL)
        async with serving(sock=sock) as (server, made):
            assert server.sockets[0].fileno() == sock.fileno()
            with socket.create_connection(sock.getsockname()) as client:
                client.sendall(b"x")
                await until(lambda: made and made[0].received)

    run(main())


def test_a_unix_server(run: Run, tmp_path: Path) -> None:
    async def main() -> None:
        made: list[Recorder] = []

        def factory() -> Recorder:
            made.append(Recorder())
            return made[-1]

        path = tmp_path / "socket"
        loop = asyncio.get_running_loop()
        for _ in range(2):
            made.clear()
            server = await loop.create_unix_server(factory, path)
            transport, protocol = await loop.create_unix_connection(Recorder, str(path))
            transport.write(b"x")
            await until(lambda: made and made[0].received)
            assert transport.get_extra_info("peername") == str(path)
            await end(transport, protocol)
            await made[0].until_lost()
            server.close()
            await server.wait_closed()

    run(main())


def test_an_exception_of_the_factory_is_reported(run: Run, request: pytest.FixtureRequest) -> None:
    if on_asyncio(request):
        pytest.skip("asyncio leaves the accepted socket to its finalizer")
    good: list[Recorder] = []

    def factory() -> Recorder:
        if not reports:
            raise ZeroDivisionError("factory")
        good.append(Recorder())
        return good[-1]

    reports: list[dict[str, Any]] = []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        server = await loop.create_server(factory, *LOCAL)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address, 30) as refused:
            assert await asyncio.to_thread(receive_all, refused) == b""
        with socket.create_connection(address, 30) as client:
            client.shutdown(socket.SHUT_WR)
            assert await asyncio.to_thread(receive_all, client) == b""
        await good[0].until_lost()
        server.close()
        await server.wait_closed()
        assert [str(report["exception"]) for report in reports] == ["factory"]

    run(main())


def test_a_server_that_is_closed_by_the_first_of_many_clients(run: Run) -> None:
    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            servers[0].close()

    servers: list[Any] = []

    async def main() -> None:
        reports = collect_reports()
        async with serving(*LOCAL, factory=Closing, start_serving=False) as (server, made):
            address = server.sockets[0].getsockname()
            servers.append(server)
            await server.start_serving()
            clients = [socket.create_connection(address) for _ in range(20)]
            await until(lambda: made and made[0].calls)
            await all_tasks_blocked()
            for client in clients:
                client.close()
        assert reports == []

    run(main())


def test_a_server_that_is_closed_in_the_middle_of_a_burst(run: Run) -> None:
    """By then the server accepts several connections for one event."""

    class Closing(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            accepted.append(self)
            if len(accepted) == 12:
                servers[0].close()

    servers: list[Any] = []
    accepted: list[Recorder] = []

    async def main() -> None:
        reports = collect_reports()
        async with serving(*LOCAL, factory=Closing) as (server, _):
            servers.append(server)
            address = server.sockets[0].getsockname()
            clients = [socket.create_connection(address) for _ in range(60)]
            await until(lambda: not server.is_serving())
            await all_tasks_blocked()
            for client in clients:
                client.close()
        assert reports == []

    run(main())


# -- Clients ---------------------------------------------------------------------------------------


def test_a_local_address(run: Run) -> None:
    async def main() -> None:
        async with serving(*LOCAL) as (server, made):
            address = server.sockets[0].getsockname()
            transport, protocol = await connect(*address, local_addr=("127.0.0.3", 0))
            assert transport.get_extra_info("sockname")[0] == "127.0.0.3"
            await until(lambda: made)
            await end(transport, protocol)
            with pytest.raises(OSError, match="192.0.2.1"):
                await connect(*address, local_addr=("192.0.2.1", 0))

    run(main())


def test_refused(run: Run) -> None:
    async def main() -> None:
        with socket.create_server(LOCAL) as listening:
            address = listening.getsockname()
        with pytest.raises(ConnectionRefusedError):
            await asyncio.get_running_loop().create_connection(pytest.fail, *address)

    run(main())


def test_an_exception_of_the_factory_of_a_client(run: Run) -> None:
    def factory() -> Recorder:
        raise ZeroDivisionError

    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs, pytest.raises(ZeroDivisionError):
            await asyncio.get_running_loop().create_connection(factory, sock=ours)

    run(main())


@pytest.mark.parametrize("ending", ["close", "abort"])
def test_a_connection_may_be_ended_in_connection_made(run: Run, ending: str) -> None:
    class Brief(Recorder):
        def connection_made(self, transport: Any) -> None:
            super().connection_made(transport)
            transport.write(b"goodbye")
            getattr(transport, ending)()

    async def main() -> None:
        for kind in ("sock", "accepted", "server"):
            async with talking(Brief, kind) as (transport, protocol, peer):
                assert transport.is_closing()
                await protocol.until_lost()
                assert protocol.calls == ["connection_made", "connection_lost"]
                assert await asyncio.to_thread(receive_all, peer) == b"goodbye"

    run(main())


async def no_arguments(loop: Any) -> None:
    await loop.create_connection(Recorder)


async def host_and_sock(loop: Any) -> None:
    with socket.socket() as sock:
        await loop.create_connection(Recorder, "127.0.0.1", 1, sock=sock)


async def a_datagram_socket(loop: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        await loop.create_connection(Recorder, sock=sock)


async def a_host_name_without_tls(loop: Any) -> None:
    await loop.create_connection(Recorder, "127.0.0.1", 1, server_hostname="name")


async def times_without_tls(loop: Any) -> None:
    await loop.create_connection(Recorder, "127.0.0.1", 1, ssl_handshake_timeout=1.0)


async def tls_without_a_name(loop: Any) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        await loop.create_connection(Recorder, sock=ours, ssl=ssl.create_default_context())


async def a_server_without_arguments(loop: Any) -> None:
    await loop.create_server(Recorder)


async def a_server_with_host_and_sock(loop: Any) -> None:
    with socket.socket() as sock:
        await loop.create_server(Recorder, "127.0.0.1", 0, sock=sock)


async def a_server_on_datagrams(loop: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        await loop.create_server(Recorder, sock=sock)


async def a_server_with_a_yes_for_tls(loop: Any) -> None:
    await loop.create_server(Recorder, *LOCAL, ssl=True)


async def a_server_with_times_without_tls(loop: Any) -> None:
    await loop.create_server(Recorder, *LOCAL, ssl_handshake_timeout=1.0)


async def no_path(loop: Any) -> None:
    await loop.create_unix_connection(Recorder)


async def path_and_sock(loop: Any) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        await loop.create_unix_connection(Recorder, "/nowhere", sock=sock)


async def an_internet_socket_for_a_unix_one(loop: Any) -> None:
    with socket.socket() as sock:
        await loop.create_unix_connection(Recorder, sock=sock)


async def unix_tls_without_a_name(loop: Any) -> None:
    await loop.create_unix_connection(Recorder, "/nowhere", ssl=ssl.create_default_context())


async def a_unix_server_without_a_path(loop: Any) -> None:
    await loop.create_unix_server(Recorder)


async def a_unix_server_with_path_and_sock(loop: Any) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        await loop.create_unix_server(Recorder, "/nowhere", sock=sock)


async def an_accepted_datagram_socket(loop: Any) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        await loop.connect_accepted_socket(Recorder, sock)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        (no_arguments, ValueError),
        (host_and_sock, ValueError),
        (a_datagram_socket, ValueError),
        (a_host_name_without_tls, ValueError),
        (times_without_tls, ValueError),
        (tls_without_a_name, ValueError),
        (a_server_without_arguments, ValueError),
        (a_server_with_host_and_sock, ValueError),
        (a_server_on_datagrams, ValueError),
        (a_server_with_a_yes_for_tls, TypeError),
        (a_server_with_times_without_tls, ValueError),
        (no_path, ValueError),
        (path_and_sock, ValueError),
        (an_internet_socket_for_a_unix_one, ValueError),
        (unix_tls_without_a_name, ValueError),
        (a_unix_server_without_a_path, ValueError),
        (a_unix_server_with_path_and_sock, ValueError),
        (an_accepted_datagram_socket, ValueError),
    ],
    ids=lambda value: value.__name__,
)
def test_arguments_that_do_not_go_together(
    run: Run, call: Callable[[Any], Any], error: type[Exception]
) -> None:
    async def main() -> None:
        with pytest.raises(error):
            await call(asyncio.get_running_loop())

    run(main())
