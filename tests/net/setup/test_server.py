"""Servers of streams: serving, closing, and faults in accepting."""

from __future__ import annotations

import errno
import os
import socket
from asyncio.trsock import TransportSocket
from functools import partial
from typing import Any

import pytest

import runtime
from runtime.net.setup.server import Server
from tests.net.tools import connected, echo, receive_all, serving, until

Streams = tuple[runtime.StreamReader, runtime.StreamWriter]


def collect_errors() -> list[dict[str, Any]]:
    errors: list[dict[str, Any]] = []
    runtime.get_running_loop().set_exception_handler(lambda _, context: errors.append(context))
    return errors


async def test_several_hosts_and_dual_stack() -> None:
    server = await runtime.start_server(echo, ["127.0.0.1", "127.0.0.2"], 0)
    async with server:
        addresses = [sock.getsockname() for sock in server.sockets]
        assert [address[0] for address in addresses] == ["127.0.0.1", "127.0.0.2"]
        for address in addresses:
            _, writer = await runtime.open_connection(*address)
            writer.close()
        server.close_clients()


async def test_serve_forever_closes_the_connections_when_it_is_cancelled() -> None:
    """A client that stays connected does not delay its end, as it does in asyncio up to 3.14.6."""
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    task = runtime.create_task(server.serve_forever())
    reader, writer = await runtime.open_connection(*address)
    writer.write(b"hello\n")
    assert await reader.readline() == b"hello\n"
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
    assert await reader.read() == b""
    writer.close()


async def test_start_serving_later() -> None:
    server = await runtime.start_server(echo, "127.0.0.1", 0, start_serving=False)
    assert not server.is_serving()
    address = server.sockets[0].getsockname()
    with pytest.raises(ConnectionRefusedError):
        await runtime.open_connection(*address)
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    assert server.get_loop() is runtime.get_running_loop()
    _, writer = await runtime.open_connection(*address)
    writer.close()
    server.close()
    server.close()
    await server.wait_closed()
    assert not server.is_serving()
    assert server.sockets == ()
    with pytest.raises(RuntimeError, match="closed"):
        await server.start_serving()


async def test_serve_forever_ends_with_its_task() -> None:
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    task = runtime.create_task(server.serve_forever())
    await runtime.sleep(0)
    with pytest.raises(RuntimeError, match="already"):
        await server.serve_forever()
    task.cancel()
    with pytest.raises(runtime.CancelledError):
        await task
    assert not server.is_serving()
    again = await runtime.start_server(echo, "127.0.0.1", 0)
    task = runtime.create_task(again.serve_forever())
    await runtime.sleep(0)
    again.close()
    with pytest.raises(runtime.CancelledError):
        await task


async def test_wait_closed_waits_for_the_last_connection() -> None:
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
    writer.write(b"x")
    assert await reader.read(1) == b"x"
    waiters = [runtime.create_task(server.wait_closed()) for _ in range(2)]
    await runtime.sleep(0)
    server.close()
    await runtime.sleep(0.01)
    assert not any(waiter.done() for waiter in waiters)
    cancelled = runtime.create_task(server.wait_closed())
    await runtime.sleep(0)
    cancelled.cancel()
    writer.write(b"still served")
    assert await reader.readexactly(12) == b"still served"
    writer.close()
    await runtime.wait_for(runtime.gather(*waiters), 30)
    await server.wait_closed()
    assert cancelled.cancelled()


@pytest.mark.parametrize("abort", [False, True])
async def test_clients_can_be_closed_and_aborted(abort: bool) -> None:
    kept: list[Streams] = []
    server = await runtime.start_server(lambda *streams: kept.append(streams), "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    with connected(address) as one, connected(address) as two:
        await until(lambda: len(kept) == 2)
        for _, writer in kept:
            writer.write(b"m" * 30_000_000)
        server.close()
        (server.abort_clients if abort else server.close_clients)()
        sizes = [len(await runtime.to_thread(receive_all, sock)) for sock in (one, two)]
        assert all((size == 30_000_000) is not abort for size in sizes)
        await runtime.wait_for(server.wait_closed(), 30)


async def test_a_failing_callback_is_reported_and_its_connection_closed() -> None:
    async def fail_later(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        await runtime.sleep(0)
        raise ZeroDivisionError("later")

    def fail_now(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        raise ZeroDivisionError("now")

    errors = collect_errors()
    for callback in (fail_later, fail_now):
        async with serving(callback) as address:
            with connected(address) as sock:
                assert await runtime.to_thread(receive_all, sock) == b""
    assert [str(error["exception"]) for error in errors] == ["later", "now"]
    for error, name in zip(errors, ("fail_later", "fail_now"), strict=True):
        words = f"client_connected_cb {name}(), for the client ('127.0.0.1', "
        assert words in error["message"]
    assert "fail_later" in repr(errors[0]["task"])


async def test_a_cancelled_callback_closes_its_connection() -> None:
    tasks: list[Any] = []

    async def wait(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        tasks.append(runtime.current_task())
        await reader.read()

    async with serving(wait) as address:
        with connected(address) as sock:
            await until(lambda: tasks)
            tasks[0].cancel()
            assert await runtime.to_thread(receive_all, sock) == b""


async def test_the_callback_may_return_any_awaitable() -> None:
    served = []

    class Later:
        def __await__(self) -> Any:
            yield from runtime.sleep(0).__await__()
            served.append(True)

    def callback(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> Any:
        writer.close()
        return Later()

    async with serving(callback) as address:
        with connected(address) as sock:
            assert await runtime.to_thread(receive_all, sock) == b""
        await until(lambda: served)


async def test_a_given_socket_and_bad_arguments() -> None:
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await runtime.start_server(echo, sock=sock)
    (listening,) = server.sockets
    assert isinstance(listening, TransportSocket)  # It has no method close().
    assert listening.fileno() == sock.fileno()
    assert "127.0.0.1" in repr(server)
    with pytest.raises(ValueError, match="same time"):
        await runtime.start_server(echo, "127.0.0.1", sock=sock)
    with pytest.raises(ValueError, match="Neither host/port nor sock"):
        await runtime.start_server(echo)
    with pytest.raises(TypeError, match="callable"):
        await runtime.start_server(None, "127.0.0.1", 0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="limit"):
        await runtime.start_server(echo, "127.0.0.1", 0, limit=-1)
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    with datagrams, pytest.raises(ValueError, match="Stream Socket"):
        await runtime.start_server(echo, sock=datagrams)
    with pytest.raises(OSError, match="bind on address") as caught:
        await runtime.start_server(echo, *sock.getsockname()[:2])
    assert caught.value.errno == errno.EADDRINUSE
    server.close()


async def test_socket_options() -> None:
    options: dict[str, Any] = {"reuse_port": True, "keep_alive": True, "reuse_address": True}
    async with await runtime.start_server(echo, "127.0.0.1", 0, **options) as server:
        sock = server.sockets[0]
        for option in (socket.SO_REUSEPORT, socket.SO_KEEPALIVE, socket.SO_REUSEADDR):
            assert sock.getsockopt(socket.SOL_SOCKET, option)
        port = sock.getsockname()[1]
        async with await runtime.start_server(echo, "127.0.0.1", port, reuse_port=True):
            pass


class FakeListener:
    """Listening socket whose ``accept`` fails in ways that are rare in a real system."""

    def __init__(self, sock: socket.socket, failures: list[int]) -> None:
        self._sock = sock
        self.failures = failures

    def accept(self) -> tuple[socket.socket, Any]:
        if self.failures:
            code = self.failures.pop(0)
            raise OSError(code, errno.errorcode[code])
        return self._sock.accept()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


def fake(server: Server, failures: list[int]) -> None:
    assert server._listeners is not None
    for listener in server._listeners:
        listener.sock = FakeListener(listener.sock, failures)  # type: ignore[assignment]
        listener._by_accelerator = False


async def test_accepting_goes_on_after_an_aborted_connection() -> None:
    async with await runtime.start_server(echo, "127.0.0.1", 0) as server:
        fake(server, [errno.ECONNABORTED])
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        writer.write(b"served")
        assert await reader.readexactly(6) == b"served"
        writer.close()


@pytest.mark.parametrize("code", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
async def test_without_descriptors_a_listener_rests_and_recovers(
    code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REST", 0.01)

    errors = collect_errors()
    async with await runtime.start_server(echo, "127.0.0.1", 0) as server:
        fake(server, [code, code])
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        writer.write(b"served")
        assert await reader.readexactly(6) == b"served"
        writer.close()
    assert [error["exception"].errno for error in errors] == [code, code]


async def test_a_resting_listener_can_be_closed() -> None:
    errors = collect_errors()
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    fake(server, [errno.EMFILE])
    with connected(server.sockets[0].getsockname()):
        await until(lambda: errors)
        server.close()
        await server.wait_closed()


async def test_an_unknown_failure_of_accept_is_reported() -> None:
    errors = collect_errors()
    async with await runtime.start_server(echo, "127.0.0.1", 0) as server:
        fake(server, [errno.EPERM])
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        writer.write(b"x")
        assert await reader.readexactly(1) == b"x"
        writer.close()
    assert isinstance(errors[0]["exception"], PermissionError)


async def test_a_burst_of_connections_is_accepted() -> None:
    async with serving(echo) as address:
        pairs = await runtime.gather(*[runtime.open_connection(*address) for _ in range(90)])
        for number, (_, writer) in enumerate(pairs):
            writer.write(b"%04d" % number)
        for number, (reader, writer) in enumerate(pairs):
            assert await reader.readexactly(4) == b"%04d" % number
            writer.close()


async def test_a_resting_listener_whose_server_is_closed_by_the_exception_handler(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REST", 0.01)
    loop = runtime.get_running_loop()
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    assert server._listeners is not None
    (listener,) = server._listeners
    loop.set_exception_handler(lambda _, __: server.close())
    fake(server, [errno.EMFILE])
    with connected(server.sockets[0].getsockname()):
        await server.wait_closed()
        assert listener._resumption is None
        await runtime.sleep(0.02)
        assert not listener.events


@pytest.mark.parametrize("by_number", [False, True], ids=["by its object", "by its number"])
async def test_a_resting_listener_whose_socket_is_closed(
    monkeypatch: pytest.MonkeyPatch, by_number: bool
) -> None:
    monkeypatch.setattr("runtime.net.setup.server._REST", 0.01)
    errors = collect_errors()
    server = await runtime.start_server(echo, "127.0.0.1", 0)
    assert server._listeners is not None
    (listener,) = server._listeners
    sock = listener.sock
    fake(server, [errno.EMFILE])
    with connected(server.sockets[0].getsockname()):
        await until(lambda: errors)
        listener.sock = sock
        if by_number:
            os.close(sock.fileno())
        else:
            sock.close()
        one, two = socket.socketpair()
        ours, theirs = (one, two) if one.fileno() == listener.fd else (two, one)
        assert ours.fileno() == listener.fd
        with theirs:
            reader, writer = await runtime.open_connection(sock=ours)
            await until(lambda: len(errors) == 2)
            theirs.sendall(b"for the connection")
            assert await reader.readexactly(18) == b"for the connection"
            writer.close()
            await writer.wait_closed()
    assert "closed by other code" in errors[1]["message"]
    server.close()


async def test_a_server_that_cannot_listen_on_its_second_address() -> None:
    """It accepts nothing on the first one, and can be started again."""
    accepted: dict[object, runtime.StreamWriter] = {}

    def accept(_: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        accepted[writer.get_extra_info("peername")] = writer

    taken = socket.socket()
    taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    with taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        server = await runtime.start_server(
            accept,
            ["127.0.0.2", "127.0.0.1"],
            port,
            reuse_address=True,
            start_serving=False,
        )
        taken.listen()
        for _ in range(2):
            with pytest.raises(OSError, match="in use"):
                await server.start_serving()
            assert not server.is_serving()
        with connected(("127.0.0.2", port)):
            await runtime.sleep(0.01)
            assert not accepted
    await server.start_serving()
    for address in ("127.0.0.2", "127.0.0.1"):
        with connected((address, port)) as client:
            await until(partial(accepted.__contains__, client.getsockname()))
    server.close()
    server.abort_clients()
    await runtime.wait_for(server.wait_closed(), 30)
