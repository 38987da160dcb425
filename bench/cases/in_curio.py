"""Cases as a user of curio writes them. Each function receives the curio module as an argument."""

from __future__ import annotations

import contextlib
import importlib
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


async def _all(curio: Any, bodies: list[Callable[[], Any]]) -> None:
    for task in [await curio.spawn(body) for body in bodies]:
        await task.join()


async def switch(curio: Any, count: int, tasks: int = 2) -> None:
    sleep = curio.sleep

    async def worker() -> None:
        for _ in range(count // tasks):
            await sleep(0)

    await _all(curio, [worker] * tasks)


async def switch_1k(curio: Any, count: int) -> None:
    await switch(curio, count, 1000)


async def spawn(curio: Any, count: int) -> None:
    for _ in range(count):
        await (await curio.spawn(_child)).join()


async def task_group_100(curio: Any, count: int) -> None:
    for _ in range(count // 100):
        async with curio.TaskGroup() as group:
            for _ in range(100):
                await group.spawn(_child)


async def queue(curio: Any, count: int) -> None:
    items = curio.Queue(10)

    async def produce() -> None:
        for number in range(count):
            await items.put(number)

    async def consume() -> None:
        for _ in range(count):
            await items.get()

    await _all(curio, [produce, consume])


async def _run_ten_tasks(curio: Any, count: int, limit: Any) -> None:
    async def worker() -> None:
        for _ in range(count // 10):
            async with limit:
                await curio.sleep(0)

    await _all(curio, [worker] * 10)


async def lock(curio: Any, count: int) -> None:
    await _run_ten_tasks(curio, count, curio.Lock())


async def semaphore(curio: Any, count: int) -> None:
    await _run_ten_tasks(curio, count, curio.Semaphore(3))


async def event(curio: Any, count: int) -> None:
    events = [curio.Event(), curio.Event()]

    async def player(me: int, you: int) -> None:
        for _ in range(count // 2):
            await events[me].wait()
            events[me] = curio.Event()
            await events[you].set()

    await events[0].set()
    one = await curio.spawn(player, 0, 1)
    two = await curio.spawn(player, 1, 0)
    await one.join()
    await two.join()


async def timeout(curio: Any, count: int) -> None:
    for _ in range(count):
        async with curio.timeout_after(10):
            await curio.sleep(0)


async def to_thread(curio: Any, count: int) -> None:
    def nothing() -> None:
        pass

    for _ in range(count):
        await curio.run_in_thread(nothing)


async def subprocess_spawn(curio: Any, count: int) -> None:
    subprocess: Any = importlib.import_module("curio.subprocess")
    for _ in range(count):
        await subprocess.Popen([PROGRAM]).wait()


BODIES: dict[str, Body] = {
    body.__name__: body
    for body in (
        # switch_100k is left out: in curio, a switch takes longer the more tasks there are, so that
        # this case would take hours.
        *(switch, switch_1k, spawn, task_group_100, queue, lock, semaphore, event),
        *(timeout, to_thread, subprocess_spawn),
    )
}

# -- Servers ---------------------------------------------------------------------------------------


async def readable(curio: Any, fd: int) -> None:
    await curio.traps._read_wait(fd)


@contextlib.asynccontextmanager
async def _serving(curio: Any, sock: Any, handler: Callable[[Any, Any], Any]) -> AsyncIterator[Any]:
    server: Any = importlib.import_module("curio.network")
    accepting = await curio.spawn(server.run_server, sock, handler)
    try:
        yield sock.getsockname()
    finally:
        await accepting.cancel()


def _tcp(curio: Any) -> Any:
    return curio.tcp_server_socket(LOOPBACK, 0, backlog=BACKLOG)


def _echo(curio: Any, size: int) -> Callable[[Any, Any], Any]:
    async def echo(sock: Any, address: Any) -> None:
        stream = sock.as_stream()
        async with stream:
            if size <= CHUNK:
                while data := await stream.read(CHUNK):
                    await stream.write(data)
            else:
                with contextlib.suppress(EOFError):
                    while True:
                        await stream.write(await stream.read_exactly(size))

    return echo


def _without_delay(handler: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    async def handle(sock: Any, address: Any) -> None:
        sock.setsockopt(6, 1, 1)  # IPPROTO_TCP, TCP_NODELAY
        await handler(sock, address)

    return handle


@contextlib.asynccontextmanager
async def streams(curio: Any, size: int) -> AsyncIterator[Address]:
    async with _serving(curio, _tcp(curio), _without_delay(_echo(curio, size))) as name:
        yield name[1]


@contextlib.asynccontextmanager
async def lines(curio: Any, size: int) -> AsyncIterator[Address]:
    async def echo(sock: Any, address: Any) -> None:
        stream = sock.as_stream()
        async with stream:
            while line := await stream.readline():
                await stream.write(line)

    async with _serving(curio, _tcp(curio), _without_delay(echo)) as name:
        yield name[1]


@contextlib.asynccontextmanager
async def sockets(curio: Any, size: int) -> AsyncIterator[Address]:
    async def echo(sock: Any, address: Any) -> None:
        async with sock:
            while data := await sock.recv(CHUNK):
                await sock.sendall(data)

    async with _serving(curio, _tcp(curio), _without_delay(echo)) as name:
        yield name[1]


@contextlib.asynccontextmanager
async def unix(curio: Any, size: int) -> AsyncIterator[Address]:
    with tempfile.TemporaryDirectory() as folder:
        sock = curio.unix_server_socket(f"{folder}/echo", backlog=BACKLOG)
        async with _serving(curio, sock, _echo(curio, size)) as name:
            yield name


@contextlib.asynccontextmanager
async def datagrams(curio: Any, size: int) -> AsyncIterator[Address]:
    socket: Any = importlib.import_module("curio.socket")

    async def echo(sock: Any) -> None:
        while True:
            data, address = await sock.recvfrom(CHUNK)
            await sock.sendto(data, address)

    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind((LOOPBACK, 0))
    async with sock:
        echoing = await curio.spawn(echo, sock)
        try:
            yield sock.getsockname()[1]
        finally:
            await echoing.cancel()


SERVERS: dict[str, Callable[[Any, int], AbstractAsyncContextManager[Address]]] = {
    "streams": streams,
    "lines": lines,
    "unix": unix,
    "sockets": sockets,
    "datagrams": datagrams,
}

# -- Memory ----------------------------------------------------------------------------------------


async def _weigh_tasks(curio: Any, scales: Scales, body: Callable[[], Any]) -> None:
    tasks = [await curio.spawn(body) for _ in range(FIRST)]
    await curio.sleep(0.05)
    before = scales.weigh()
    tasks += [await curio.spawn(body) for _ in range(TASKS)]
    await curio.sleep(0.05)
    say({"bytes": (scales.weigh() - before) / TASKS})
    leave()


async def memory_task(curio: Any, scales: Scales) -> None:
    async def wait() -> None:
        await curio.Event().wait()

    await _weigh_tasks(curio, scales, wait)


async def memory_sleeper(curio: Any, scales: Scales) -> None:
    async def sleep() -> None:
        await curio.sleep(3600)

    await _weigh_tasks(curio, scales, sleep)


async def memory_stream_server(curio: Any, scales: Scales) -> None:
    connected = 0

    async def handler(sock: Any, address: Any) -> None:
        nonlocal connected
        connected += 1
        async with sock.as_stream() as stream:
            await stream.read(1)

    async def accept(port: int, count: int) -> int:
        wanted = connected + count
        say({"connect": count, "port": port})
        while connected < wanted:
            await curio.sleep(0.01)
        await curio.sleep(0.05)
        return scales.weigh()

    async with _serving(curio, _tcp(curio), handler) as name:
        before = await accept(name[1], FIRST)
        say({"bytes": (await accept(name[1], STREAMS) - before) / STREAMS})
        leave()


WEIGHINGS: dict[str, Weighing] = {
    body.__name__: body for body in (memory_task, memory_sleeper, memory_stream_server)
}
