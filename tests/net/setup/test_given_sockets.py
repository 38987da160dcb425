"""A socket object given to a connection or a server cannot be given to another one."""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from tests.net.tools import echo
from tests.net.transport_tools import LOCAL, Recorder
from tests.support.programs import run_code

Give = Callable[[socket.socket], Awaitable[Any]]
"""Function that gives a socket to a connection or server, and returns the latter."""


async def to_streams(sock: socket.socket) -> Any:
    return (await runtime.open_connection(sock=sock))[1]


async def to_unix_streams(sock: socket.socket) -> Any:
    return (await runtime.open_unix_connection(sock=sock))[1]


async def to_a_protocol(sock: socket.socket) -> Any:
    return (await runtime.get_running_loop().create_connection(Recorder, sock=sock))[0]


async def to_a_unix_protocol(sock: socket.socket) -> Any:
    return (await runtime.get_running_loop().create_unix_connection(Recorder, sock=sock))[0]


async def to_an_acceptor_s_protocol(sock: socket.socket) -> Any:
    return (await runtime.get_running_loop().connect_accepted_socket(Recorder, sock))[0]


async def to_a_stream_server(sock: socket.socket) -> Any:
    return await runtime.start_server(echo, sock=sock)


async def to_a_server(sock: socket.socket) -> Any:
    return await runtime.get_running_loop().create_server(Recorder, sock=sock)


async def to_a_unix_stream_server(sock: socket.socket) -> Any:
    return await runtime.start_unix_server(echo, sock=sock)


async def to_a_unix_server(sock: socket.socket) -> Any:
    return await runtime.get_running_loop().create_unix_server(Recorder, sock=sock)


CONNECTIONS = [
    to_streams,
    to_unix_streams,
    to_a_protocol,
    to_a_unix_protocol,
    to_an_acceptor_s_protocol,
]
SERVERS = [to_a_stream_server, to_a_server]
UNIX_SERVERS = [to_a_unix_stream_server, to_a_unix_server]


def given_to(name: str, kinds: list[Any]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize(name, kinds, ids=lambda give: give.__name__)


@given_to("first", CONNECTIONS)
@given_to("second", [*CONNECTIONS, *SERVERS, *UNIX_SERVERS])
async def test_a_connection_keeps_its_socket(first: Give, second: Give) -> None:
    ours, peer = socket.socketpair()
    with peer:
        connection = await first(ours)
        with pytest.raises(RuntimeError, match="is in use by a connection or a server"):
            await second(ours)
        connection.write(b"unharmed")
        assert peer.recv(100) == b"unharmed"
        connection.close()
        await runtime.sleep(0)
        assert ours.fileno() == -1


@given_to("first", SERVERS)
@given_to("second", [*SERVERS, to_streams, to_a_protocol])
async def test_a_server_keeps_its_socket(first: Give, second: Give) -> None:
    sock = socket.socket()
    sock.bind(LOCAL)
    server = await first(sock)
    with pytest.raises(RuntimeError, match="in use"):
        await second(sock)
    with socket.create_connection(sock.getsockname()):
        pass
    server.abort_clients()
    await server.shutdown(0)


@given_to("first", UNIX_SERVERS)
@given_to("second", UNIX_SERVERS)
async def test_a_unix_server_keeps_its_socket(first: Give, second: Give, tmp_path: Any) -> None:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    server = await first(sock)
    with pytest.raises(RuntimeError, match="in use"):
        await second(sock)
    await server.shutdown(0)


async def test_the_socket_of_a_connection_cannot_be_given_either() -> None:
    with socket.create_server(LOCAL) as listening:
        _, writer = await runtime.open_connection(*listening.getsockname())
        with pytest.raises(RuntimeError, match="in use"):
            await runtime.open_connection(sock=writer.get_extra_info("socket"))
        writer.close()
        await writer.wait_closed()


@given_to("give", CONNECTIONS)
@pytest.mark.parametrize("rude", [False, True])
async def test_a_socket_with_a_reused_descriptor_may_be_given(give: Give, rude: bool) -> None:
    ours, peer = socket.socketpair()
    number = ours.fileno()
    with peer:
        connection = await give(ours)
        if rude:
            os.close(number)
        else:
            connection.close()
            await runtime.sleep(0)
        again, far = socket.socketpair()
        with far:
            assert again.fileno() == number
            another = await give(again)
            another.write(b"the new one's")
            assert far.recv(100) == b"the new one's"
            another.close()
            await runtime.sleep(0)


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_the_sockets_of_a_closed_loop_may_be_given() -> None:
    async def main(echoes: bool) -> None:
        server = await runtime.start_server(echo, sock=sock)
        if echoes:
            reader, writer = await runtime.open_connection(*sock.getsockname())
            writer.write(b"served again")
            assert await reader.readexactly(12) == b"served again"
            writer.close()
            await server.shutdown()

    sock = socket.socket()
    sock.bind(LOCAL)
    runtime.run(main(echoes=False))
    runtime.run(main(echoes=True))


FORKING = """
import os, runtime, socket, threading

async def serve(reader, writer):
    writer.close()

async def child():
    server = await runtime.start_server(serve, sock=sock)
    await server.shutdown()
    print("served in the child", flush=True)

async def main():
    server = await runtime.start_server(serve, sock=sock)
    if not os.fork():
        # This thread is in the parent's loop, which the child leaves where it is.
        thread = threading.Thread(target=lambda: runtime.run(child()))
        thread.start()
        thread.join()
        os._exit(0)
    assert os.wait()[1] == 0
    await server.shutdown()

sock = socket.socket()
sock.bind(("127.0.0.1", 0))
runtime.run(main())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_process_may_give_inherited_sockets() -> None:
    done = run_code(FORKING)
    assert (done.stdout, done.stderr, done.returncode) == ("served in the child\n", "", 0)
