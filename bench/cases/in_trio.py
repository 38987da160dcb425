"""Cases as a user of trio writes them. Each function receives the trio module as an argument."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

from bench.cases.memory import FIRST, STREAMS, TASKS, Scales, Weighing, leave
from bench.cases.scheduler import PROGRAM, Body
from bench.cases.serving import BACKLOG, CHUNK, LOOPBACK, Address
from bench.lines import say

# -- The scheduler ---------------------------------------------------------------------------------


async def _child() -> None:
    pass


async def switch(trio: Any, count: int, tasks: int = 2) -> None:
    sleep = trio.sleep

    async def worker() -> None:
        for _ in range(count // tasks):
            await sleep(0)

    async with trio.open_nursery() as nursery:
        for _ in range(tasks):
            nursery.start_soon(worker)


async def switch_1k(trio: Any, count: int) -> None:
    await switch(trio, count, 1000)


async def switch_100k(trio: Any, count: int) -> None:
    await switch(trio, count, 100_000)


async def spawn(trio: Any, count: int) -> None:
    for _ in range(count):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_child)


async def task_group_100(trio: Any, count: int) -> None:
    for _ in range(count // 100):
        async with trio.open_nursery() as nursery:
            for _ in range(100):
                nursery.start_soon(_child)


async def queue(trio: Any, count: int) -> None:
    put, get = trio.open_memory_channel(10)

    async def produce() -> None:
        for number in range(count):
            await put.send(number)

    async def consume() -> None:
        for _ in range(count):
            await get.receive()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(produce)
        nursery.start_soon(consume)


async def _run_ten_tasks(trio: Any, count: int, limit: Any) -> None:
    async def worker() -> None:
        for _ in range(count // 10):
            async with limit:
                await trio.sleep(0)

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(worker)


async def lock(trio: Any, count: int) -> None:
    await _run_ten_tasks(trio, count, trio.Lock())


async def semaphore(trio: Any, count: int) -> None:
    await _run_ten_tasks(trio, count, trio.Semaphore(3))


async def event(trio: Any, count: int) -> None:
    events = [trio.Event(), trio.Event()]

    async def player(me: int, you: int) -> None:
        for _ in range(count // 2):
            await events[me].wait()
            events[me] = trio.Event()
            events[you].set()

    events[0].set()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(player, 0, 1)
        nursery.start_soon(player, 1, 0)


async def timeout(trio: Any, count: int) -> None:
    for _ in range(count):
        with trio.fail_after(10):
            await trio.sleep(0)


async def to_thread(trio: Any, count: int) -> None:
    def nothing() -> None:
        pass

    for _ in range(count):
        await trio.to_thread.run_sync(nothing)


async def subprocess_spawn(trio: Any, count: int) -> None:
    for _ in range(count):
        await trio.run_process([PROGRAM])


BODIES: dict[str, Body] = {
    body.__name__: body
    for body in (
        *(switch, switch_1k, switch_100k, spawn, task_group_100, queue, lock, semaphore, event),
        *(timeout, to_thread, subprocess_spawn),
    )
}

# -- Servers ---------------------------------------------------------------------------------------


async def readable(trio: Any, fd: int) -> None:
    await trio.lowlevel.wait_readable(fd)


def _echo(size: int) -> Callable[[Any], Any]:
    async def echo_chunks(stream: Any) -> None:
        while data := await stream.receive_some(CHUNK):
            await stream.send_all(data)

    async def echo_messages(stream: Any) -> None:
        message = bytearray()
        while data := await stream.receive_some(CHUNK):
            message += data
            if len(message) >= size:
                await stream.send_all(bytes(message[:size]))
                del message[:size]

    async def echo(stream: Any) -> None:
        async with stream:
            await (echo_chunks if size <= CHUNK else echo_messages)(stream)

    return echo


@contextlib.asynccontextmanager
async def streams(trio: Any, size: int) -> AsyncIterator[Address]:
    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK, backlog=BACKLOG)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, _echo(size), [listener])
        yield listener.socket.getsockname()[1]
        nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def unix(trio: Any, size: int) -> AsyncIterator[Address]:
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/echo"
        sock = trio.socket.socket(trio.socket.AF_UNIX)
        await sock.bind(path)
        sock.listen(BACKLOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.serve_listeners, _echo(size), [trio.SocketListener(sock)])
            yield path
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def sockets(trio: Any, size: int) -> AsyncIterator[Address]:
    async def echo(sock: Any) -> None:
        with sock:
            sock.setsockopt(trio.socket.IPPROTO_TCP, trio.socket.TCP_NODELAY, 1)
            while data := await sock.recv(CHUNK):
                rest = memoryview(data)
                while rest:
                    rest = rest[await sock.send(rest) :]

    async def accept(listening: Any, nursery: Any) -> None:
        while True:
            sock, _ = await listening.accept()
            nursery.start_soon(echo, sock)

    with trio.socket.socket() as listening:
        await listening.bind((LOOPBACK, 0))
        listening.listen(BACKLOG)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(accept, listening, nursery)
            yield listening.getsockname()[1]
            nursery.cancel_scope.cancel()


@contextlib.asynccontextmanager
async def datagrams(trio: Any, size: int) -> AsyncIterator[Address]:
    async def echo(sock: Any) -> None:
        while True:
            data, address = await sock.recvfrom(CHUNK)
            await sock.sendto(data, address)

    with trio.socket.socket(type=trio.socket.SOCK_DGRAM) as sock:
        await sock.bind((LOOPBACK, 0))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo, sock)
            yield sock.getsockname()[1]
            nursery.cancel_scope.cancel()


SERVERS: dict[str, Callable[[Any, int], AbstractAsyncContextManager[Address]]] = {
    "streams": streams,
    "unix": unix,
    "sockets": sockets,
    "datagrams": datagrams,
}

# -- Memory ----------------------------------------------------------------------------------------


async def _weigh_tasks(trio: Any, scales: Scales, body: Callable[[], Any]) -> None:
    async with trio.open_nursery() as nursery:
        for _ in range(FIRST):
            nursery.start_soon(body)
        await trio.sleep(0.05)
        before = scales.weigh()
        for _ in range(TASKS):
            nursery.start_soon(body)
        await trio.sleep(0.05)
        say({"bytes": (scales.weigh() - before) / TASKS})
        leave()


async def memory_task(trio: Any, scales: Scales) -> None:
    async def wait() -> None:
        await trio.Event().wait()

    await _weigh_tasks(trio, scales, wait)


async def memory_sleeper(trio: Any, scales: Scales) -> None:
    async def sleep() -> None:
        await trio.sleep(3600)

    await _weigh_tasks(trio, scales, sleep)


async def memory_stream_server(trio: Any, scales: Scales) -> None:
    connected = 0

    async def handler(stream: Any) -> None:
        nonlocal connected
        connected += 1
        await stream.receive_some(1)

    async def accept(port: int, count: int) -> int:
        wanted = connected + count
        say({"connect": count, "port": port})
        while connected < wanted:
            await trio.sleep(0.01)
        await trio.sleep(0.05)
        return scales.weigh()

    (listener,) = await trio.open_tcp_listeners(0, host=LOOPBACK, backlog=BACKLOG)
    port = listener.socket.getsockname()[1]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, handler, [listener])
        before = await accept(port, FIRST)
        say({"bytes": (await accept(port, STREAMS) - before) / STREAMS})
        leave()


WEIGHINGS: dict[str, Weighing] = {
    body.__name__: body for body in (memory_task, memory_sleeper, memory_stream_server)
}
