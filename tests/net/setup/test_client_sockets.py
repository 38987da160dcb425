"""Connecting client sockets, and resolving the names of their hosts."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import runtime
from runtime.net.resolver import literal_address, resolve
from runtime.net.setup import client_sockets
from tests.net.tools import echo, serving


def run_with_loop(function: Any, *args: Any, **kwargs: Any) -> Any:
    async def main() -> Any:
        return await function(runtime.get_running_loop(), *args, **kwargs)

    return runtime.run(main())


@pytest.mark.parametrize(
    ("host", "family", "address"),
    [
        ("127.0.0.1", 0, (socket.AF_INET, ("127.0.0.1", 80))),
        (b"127.0.0.1", socket.AF_INET, (socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", 0, (socket.AF_INET6, ("::1", 80, 0, 0))),
    ],
)
def test_literal_addresses_need_no_resolver(host: Any, family: int, address: Any) -> None:
    found = literal_address(host, 80, family, socket.SOCK_STREAM, 0)
    assert found is not None
    assert (found[0], found[4]) == address
    assert found[2] == socket.IPPROTO_TCP


@pytest.mark.parametrize(
    ("host", "port", "family", "kind", "proto"),
    [
        ("localhost", 80, 0, socket.SOCK_STREAM, 0),
        ("nonsense:x", 80, 0, socket.SOCK_STREAM, 0),
        (None, 80, 0, socket.SOCK_STREAM, 0),
        ("127.0.0.1", "http", 0, socket.SOCK_STREAM, 0),
        ("127.0.0.1", 70000, 0, socket.SOCK_STREAM, 0),
        ("127.0.0.1", 80, socket.AF_INET6, socket.SOCK_STREAM, 0),
        ("fe80::1%lo", 80, 0, socket.SOCK_STREAM, 0),
        ("127.0.0.1", 80, 0, socket.SOCK_STREAM, socket.IPPROTO_UDP),
        ("127.0.0.1", 80, 0, socket.SOCK_RAW, 0),
    ],
)
def test_other_hosts_are_left_to_the_resolver(
    host: Any, port: Any, family: int, kind: int, proto: int
) -> None:
    assert literal_address(host, port, family, kind, proto) is None


def test_datagram_literals() -> None:
    found = literal_address("127.0.0.1", 53, 0, socket.SOCK_DGRAM, 0)
    assert found is not None
    assert found[2] == socket.IPPROTO_UDP


def test_names_are_resolved_in_a_thread() -> None:
    found = run_with_loop(resolve, "localhost", 80)
    assert ("127.0.0.1", 80) in [info[4][:2] for info in found] or found[0][0] == socket.AF_INET6


def test_a_name_without_an_address_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [])
    with pytest.raises(OSError, match="no address"):
        run_with_loop(resolve, "nowhere.invalid", 80)


async def test_connecting_by_name() -> None:
    async with serving() as (_, port):
        reader, writer = await runtime.open_connection("localhost", port, family=socket.AF_INET)
        writer.write(b"hi")
        assert await reader.readexactly(2) == b"hi"
        writer.close()


async def test_ipv6() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this host has no IPv6")
    async with await runtime.start_server(echo, "::1", 0) as server:
        host, port = server.sockets[0].getsockname()[:2]
        reader, writer = await runtime.open_connection(host, port)
        writer.write(b"six")
        assert await reader.readexactly(3) == b"six"
        writer.close()


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


async def test_refused() -> None:
    with pytest.raises(ConnectionRefusedError, match="Connect call failed"):
        await runtime.open_connection("127.0.0.1", free_port())


async def test_the_second_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    async with serving() as (_, port):
        bad = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port()))
        good = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [bad, good])
        _, writer = await runtime.open_connection("two.invalid", port)
        assert writer.get_extra_info("peername") == ("127.0.0.1", port)
        writer.close()
        other = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", free_port()))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *args: [bad, other])
        with pytest.raises(OSError, match="Multiple exceptions"):
            await runtime.open_connection("two.invalid", port)


async def test_local_address() -> None:
    async with serving() as (host, port):
        _, writer = await runtime.open_connection(host, port, local_addr=("127.0.0.2", 0))
        assert writer.get_extra_info("sockname")[0] == "127.0.0.2"
        writer.close()
        with pytest.raises(OSError, match="no matching local address"):
            await runtime.open_connection(host, port, local_addr=("::1", 0))
        with pytest.raises(OSError, match="error while attempting to bind"):
            await runtime.open_connection(host, port, local_addr=("192.0.2.1", 0))


def test_equal_errors_are_raised_as_one() -> None:
    errors = [OSError(1, "same"), OSError(1, "same")]
    assert client_sockets.combine_errors(errors) is errors[0]


async def test_cancelled_while_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    async def never(*args: Any) -> None:
        await runtime.get_running_loop().create_future()

    monkeypatch.setattr(client_sockets, "sock_connect", never)

    task = runtime.create_task(runtime.open_connection("127.0.0.1", 9))
    await runtime.sleep(0)
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
