"""Servers and loops of tests/net/test_system_calls.py, whose system calls strace counts.

The program prints a port for each server, and serves a control connection, which answers each line
with the same line. The line ``mark`` calls a function that nothing else calls, so that it separates
the counts in the log of strace. A line such as ``sleep 100`` runs that many operations of ``LOOPS``
between two marks.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
from collections.abc import Awaitable, Callable
from typing import cast

import runtime

HEAD, BODY = b"h" * 100, b"b" * 100
mark = os.getppid


class Echo(asyncio.Protocol):
    """Echoes bytes as they arrive."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class Respond(Echo):
    """Writes a head and a body for each message, as the servers of HTTP do."""

    def data_received(self, data: bytes) -> None:
        self.transport.write(HEAD)
        self.transport.write(BODY)


async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()


async def respond(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    while await reader.read(65536):
        writer.write(HEAD)
        writer.write(BODY)
        await writer.drain()


async def echo_socket(sock: socket.socket) -> None:
    loop = runtime.get_running_loop()
    with sock:
        while data := await loop.sock_recv(sock, 65536):
            await loop.sock_sendall(sock, data)


async def sleeps(count: int) -> None:
    for _ in range(count):
        await runtime.sleep(0.001)


async def switches(count: int) -> None:
    async def take_turns() -> None:
        for _ in range(count // 2):
            await runtime.sleep(0)

    await runtime.gather(take_turns(), take_turns())


async def timers(count: int) -> None:
    loop = runtime.get_running_loop()
    for _ in range(count):
        loop.call_later(10, take_note).cancel()


async def tasks(count: int) -> None:
    async def nothing() -> None:
        pass

    for _ in range(count):
        await runtime.create_task(nothing())


def take_note() -> None:
    raise AssertionError("a cancelled timer fired")


LOOPS: dict[str, Callable[[int], Awaitable[None]]] = {
    "sleep": sleeps,
    "switch": switches,
    "timer": timers,
    "task": tasks,
}


async def main() -> None:
    loop = runtime.get_running_loop()
    ended = runtime.Event()

    async def control(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        while line := await reader.readline():
            word, _, count = line.decode().partition(" ")
            mark()
            if count:
                await LOOPS[word](int(count))
                mark()
            writer.write(line)
            await writer.drain()
        ended.set()

    async def accept_sockets() -> None:
        while True:
            sock, _ = await loop.sock_accept(listening)
            echoing.append(runtime.create_task(echo_socket(sock)))

    echoing: list[runtime.Task[None]] = []
    host = "127.0.0.1"
    with socket.create_server((host, 0)) as listening:
        listening.setblocking(False)
        accepting = runtime.create_task(accept_sockets())
        servers = {
            "control": await runtime.start_server(control, host, 0),
            "stream": await runtime.start_server(echo, host, 0),
            "stream_response": await runtime.start_server(respond, host, 0),
            "protocol": await loop.create_server(Echo, host, 0),
            "protocol_response": await loop.create_server(Respond, host, 0),
        }
        ports = {name: one.sockets[0].getsockname()[1] for name, one in servers.items()}
        print(json.dumps(ports | {"socket": listening.getsockname()[1]}), flush=True)
        await ended.wait()
        accepting.cancel()
        for server in servers.values():
            server.close()


if __name__ == "__main__":
    runtime.run(main())
