"""Real I/O under the virtual clock, which would make tests non-deterministic.

The virtual clock refuses real I/O in the call that would watch a descriptor or, if asked to, waits
for it.

See https://github.com/python-trio/trio/issues/3089.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.testing import RealIOError, run


async def ignore(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    writer.close()


async def start_a_server() -> None:
    await runtime.start_server(ignore, "127.0.0.1", 0)


async def start_a_server_of_asyncio() -> None:
    await asyncio.start_server(lambda reader, writer: None, "127.0.0.1", 0)


async def connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        await runtime.open_connection(*listener.getsockname())


async def connect_a_protocol() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = runtime.get_running_loop()
        await loop.create_connection(asyncio.Protocol, *listener.getsockname())


async def wait_for_a_socket() -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        await runtime.wait_readable(one)


async def receive() -> None:
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        await runtime.get_running_loop().sock_recv(one, 10)


async def add_a_reader() -> None:
    one, two = socket.socketpair()
    with one, two:
        runtime.get_running_loop().add_reader(one, print)


async def open_a_datagram_endpoint() -> None:
    await runtime.open_datagram(("127.0.0.1", 0))


async def open_a_datagram_protocol() -> None:
    loop = runtime.get_running_loop()
    await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))


async def write_a_pipe() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", 0), open(writing, "wb", 0) as pipe:
        await runtime.get_running_loop().connect_write_pipe(asyncio.BaseProtocol, pipe)


async def read_a_pipe() -> None:
    reading, writing = os.pipe()
    with open(reading, "rb", 0) as pipe, open(writing, "wb", 0):
        await runtime.get_running_loop().connect_read_pipe(asyncio.Protocol, pipe)


async def run_a_process() -> None:
    await runtime.create_subprocess_exec(sys.executable, "-c", "", stdout=runtime.PIPE)


REAL = [
    start_a_server,
    start_a_server_of_asyncio,
    connect,
    connect_a_protocol,
    wait_for_a_socket,
    receive,
    add_a_reader,
    open_a_datagram_endpoint,
    open_a_datagram_protocol,
    write_a_pipe,
    read_a_pipe,
    run_a_process,
]


@pytest.mark.parametrize("use", REAL)
def test_it_is_refused_at_the_call(use: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        with pytest.raises(RealIOError, match="real_io"):
            await use()

    run(main())


async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    while line := await reader.readline():
        await runtime.sleep(600)
        writer.write(line.upper())
        await writer.drain()
    writer.close()


async def talk() -> list[Any]:
    loop = runtime.get_running_loop()
    log: list[Any] = []
    async with await runtime.start_server(answer, "127.0.0.1", 0) as server:
        reader, writer = await runtime.open_connection(*server.sockets[0].getsockname())
        for word in (b"one\n", b"two\n"):
            writer.write(word)
            log += [await reader.readline(), loop.time()]
        try:
            async with runtime.timeout(3600):
                await reader.readline()
        except TimeoutError:
            log.append(loop.time())
        writer.close()
        await writer.wait_closed()
    return log


def test_it_is_waited_for_when_asked_to() -> None:
    expected = [b"ONE\n", 600.0, b"TWO\n", 1200.0, 4800.0]
    for _ in range(3):
        assert run(talk(), real_io="wait") == expected


def test_without_a_limit_it_waits_for_every_watched_descriptor() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            timer = loop.call_later(1, pytest.fail, "jumped")
            threading.Timer(0.1, two.send, (b"x",)).start()
            assert await loop.sock_recv(one, 10) == b"x"
            assert loop.time() == 0
            timer.cancel()

    run(main(), real_io="wait", patience=None)


def test_a_process_is_waited_for() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        async with runtime.timeout(5):
            process = await runtime.create_subprocess_exec(
                sys.executable, "-c", "import time; time.sleep(0.2); print(7)", stdout=runtime.PIPE
            )
            out, _ = await process.communicate()
        assert out == b"7\n"
        assert loop.time() == 0

    run(main(), real_io="wait", patience=None)
