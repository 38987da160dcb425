"""Memory cases: coroutine functions that measure the memory of one more object of a kind.

Each function receives a ``Scales``. It makes a few objects first, so that one-time costs are not
counted, then measures, makes the remaining objects and keeps them all, measures again, and returns
the difference.
"""

from __future__ import annotations

import asyncio
import gc
import os
import resource
import sys
import tracemalloc
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.apis import Api
from bench.cases.serving import BACKLOG, LOOPBACK
from bench.lines import say

TASKS, STREAMS = 10_000, 2_000
FIRST = 50
"""Number of objects made before the first measurement."""


class Scales:
    """Memory of this process: the resident set, or the bytes that Python's allocators handed out.

    The resident set is the memory that the machine has to provide, fragmentation included. The
    allocations are exact and repeat to the byte, but tracing them changes the resident set.
    Therefore a process measures one of the two only.
    """

    def __init__(self, kind: str) -> None:
        self._traced = kind == "traced"
        if self._traced:
            tracemalloc.start(1)

    def weigh(self) -> int:
        """Return the number of bytes in use."""
        gc.collect()
        if self._traced:
            return tracemalloc.get_traced_memory()[0]
        return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


Weighing = Callable[[Api, Scales], Coroutine[Any, Any, None]]


@dataclass(frozen=True)
class MemoryCase:
    """A memory case: its name, the measured object, the peer, and the coroutine function."""

    name: str
    operation: str
    peer: str
    """``clients`` that connect, a ``server`` to connect to, or an empty string for no peer."""

    body: Weighing


MEMORY_CASES: dict[str, MemoryCase] = {}


def case(name: str, operation: str, peer: str = "") -> Callable[[Weighing], Weighing]:
    """Register a coroutine function as the case ``name``."""

    def register(body: Weighing) -> Weighing:
        MEMORY_CASES[name] = MemoryCase(name, operation, peer, body)
        return body

    return register


async def _weigh_tasks(
    api: Api, scales: Scales, make: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    tasks = [api.create_task(make()) for _ in range(FIRST)]
    await api.sleep(0)
    before = scales.weigh()
    tasks += [api.create_task(make()) for _ in range(TASKS)]
    await api.sleep(0)
    await api.sleep(0)
    say({"bytes": (scales.weigh() - before) / TASKS})
    leave()


def leave() -> None:
    """End the process at once: cancelling thousands of tasks one by one would take long."""
    sys.stdout.flush()
    os._exit(0)


@case("memory_task", "bytes for each task that waits for a future")
async def waiting_tasks(api: Api, scales: Scales) -> None:
    create_future = api.get_running_loop().create_future
    futures: list[asyncio.Future[None]] = []

    async def wait() -> None:
        future = create_future()
        futures.append(future)
        await future

    await _weigh_tasks(api, scales, wait)


@case("memory_sleeper", "bytes for each task in sleep(3600)")
async def sleeping_tasks(api: Api, scales: Scales) -> None:
    async def sleep() -> None:
        await api.sleep(3600)

    await _weigh_tasks(api, scales, sleep)


@case("memory_timer", "bytes for each timer of call_later() that is pending")
async def pending_timers(api: Api, scales: Scales) -> None:
    loop = api.get_running_loop()

    def callback() -> None:
        pass

    handles = [loop.call_later(3600, callback) for _ in range(FIRST)]
    before = scales.weigh()
    # Each timer has a time of its own, as real timers have, so that the float is counted too.
    handles += [loop.call_later(3600 + number, callback) for number in range(TASKS)]
    say({"bytes": (scales.weigh() - before) / TASKS})
    leave()


@case(
    "memory_protocol",
    "bytes for each accepted connection of a Protocol",
    peer="clients",
)
async def accepted_protocols(api: Api, scales: Scales) -> None:
    protocols: list[Idle] = []

    class Idle(asyncio.Protocol):
        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport
            protocols.append(self)

    loop = api.get_running_loop()
    server = await loop.create_server(Idle, LOOPBACK, 0, backlog=BACKLOG)
    await _weigh_accepted(api, scales, server, lambda: len(protocols))


@case(
    "memory_stream_server",
    "bytes for each accepted connection whose handler waits in read()",
    peer="clients",
)
async def accepted_streams(api: Api, scales: Scales) -> None:
    connected = 0

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connected
        connected += 1
        await reader.read(1)
        writer.close()

    server = await api.start_server(handler, LOOPBACK, 0, limit=65536, backlog=BACKLOG)
    await _weigh_accepted(api, scales, server, lambda: connected)


async def _weigh_accepted(
    api: Api, scales: Scales, server: asyncio.Server, connected: Callable[[], int]
) -> None:
    async def accept(count: int) -> int:
        """Have clients connect, wait until they are served, and measure the memory."""
        wanted = connected() + count
        say({"connect": count, "port": server.sockets[0].getsockname()[1]})
        while connected() < wanted:
            await api.sleep(0.01)
        await api.sleep(0.05)
        return scales.weigh()

    before = await accept(FIRST)
    say({"bytes": (await accept(STREAMS) - before) / STREAMS})
    leave()


@case(
    "memory_stream_client",
    "bytes for each connection of open_connection(), with a task that waits in read()",
    peer="server",
)
async def opened_streams(api: Api, scales: Scales) -> None:
    port = int(sys.stdin.readline())
    streams: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    tasks: list[asyncio.Task[bytes]] = []

    async def connect(count: int) -> int:
        for _ in range(count):
            streams.append(await api.open_connection(LOOPBACK, port))
            tasks.append(api.create_task(streams[-1][0].read(1)))
        await api.sleep(0.05)
        return scales.weigh()

    before = await connect(FIRST)
    say({"bytes": (await connect(STREAMS) - before) / STREAMS})
    leave()
