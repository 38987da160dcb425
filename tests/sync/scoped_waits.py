"""Waits that are cancelled at any moment, and surroundings that they are in.

Each wait is a context in which a coroutine function may be called once or not at all, and which
checks at its end that nothing was lost: tokens, items, and tasks.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import runtime
from tests.sync.tools import turns

Work = Callable[[], Awaitable[object]]
Wait = Callable[[], AbstractAsyncContextManager[Work]]
Surrounding = Callable[[Work], Awaitable[object]]


class Counted:
    """Coroutines that have begun, and those that have ended in whatever way."""

    def __init__(self) -> None:
        self.begun = self.ended = 0

    async def __call__(self, suspensions: int = 1) -> None:
        self.begun += 1
        try:
            await turns(suspensions)
        finally:
            self.ended += 1


@asynccontextmanager
async def gather() -> AsyncIterator[Work]:
    counted = Counted()

    async def work() -> None:
        await runtime.gather(counted(1), counted(3), counted(2))

    yield work
    assert counted.begun == counted.ended


@asynccontextmanager
async def group() -> AsyncIterator[Work]:
    counted = Counted()

    async def work() -> None:
        async with runtime.TaskGroup() as tasks:
            tasks.create_task(counted(2))
            tasks.create_task(runtime.sleep_forever(), daemon=True)
            await counted(1)

    yield work
    assert counted.begun == counted.ended


@asynccontextmanager
async def failing_group() -> AsyncIterator[Work]:
    counted = Counted()

    async def fail() -> None:
        await counted()
        raise LookupError

    async def work() -> None:
        try:
            async with runtime.TaskGroup() as tasks:
                tasks.create_task(counted(3))
                tasks.create_task(fail())
                await counted(2)
        except* LookupError:
            pass

    yield work
    assert counted.begun == counted.ended


@asynccontextmanager
async def timeout() -> AsyncIterator[Work]:
    async def work() -> None:
        try:
            async with runtime.timeout(0.0):
                await runtime.sleep_forever()
        except TimeoutError:
            await runtime.sleep(0)

    yield work


@asynccontextmanager
async def deadline() -> AsyncIterator[Work]:
    async def work() -> None:
        with runtime.move_on_after(0.001):
            await runtime.sleep_forever()
        try:
            with runtime.fail_after(0.001):
                await runtime.sleep_forever()
        except TimeoutError:
            await runtime.sleep(0)

    yield work


@asynccontextmanager
async def wait_for() -> AsyncIterator[Work]:
    counted = Counted()

    async def work() -> None:
        await runtime.wait_for(counted(2), 3600)
        if sys.version_info >= (3, 12):  # Before, it lost a request that came with the result.
            await asyncio.wait_for(counted(2), 3600)

    yield work
    assert counted.begun == counted.ended


@asynccontextmanager
async def limiter() -> AsyncIterator[Work]:
    tokens = runtime.CapacityLimiter(1)

    async def other() -> None:
        async with tokens:
            await turns(2)

    async def work() -> None:
        async with tokens:
            assert tokens.borrowed == 1
            await runtime.sleep(0)

    async with runtime.TaskGroup() as others:
        others.create_task(other())
        await runtime.sleep(0)
        others.create_task(other())
        yield work
    assert tokens.borrowed == tokens.statistics().waiting == 0


@asynccontextmanager
async def receiving() -> AsyncIterator[Work]:
    send, receive = runtime.open_channel[int](1)
    received: list[int] = []

    async def produce() -> None:
        with send:
            for number in range(4):
                await send.send(number)
                await runtime.sleep(0)

    async def work() -> None:
        while len(received) < 3:
            received.append(await receive.receive())

    async with runtime.TaskGroup() as others:
        others.create_task(produce())
        yield work
        received.extend([number async for number in receive])
    assert received == [0, 1, 2, 3]


@asynccontextmanager
async def sending() -> AsyncIterator[Work]:
    send, receive = runtime.open_channel[int](0)
    sent: list[int] = []
    received: list[int] = []

    async def consume() -> None:
        async for number in receive:
            received.append(number)
            await runtime.sleep(0)

    async def work() -> None:
        for number in range(3):
            await send.send(number)
            sent.append(number)

    async with runtime.TaskGroup() as others:
        others.create_task(consume())
        yield work
        send.close()
    assert received == sent


@asynccontextmanager
async def started() -> AsyncIterator[Work]:
    counted = Counted()

    async def serve(note: runtime.Started[int]) -> None:
        await counted()
        note(7)
        await counted()

    async def work() -> None:
        async with runtime.TaskGroup() as tasks:
            assert await tasks.start(serve) == 7

    yield work
    assert counted.begun == counted.ended


@asynccontextmanager
async def clean_up() -> AsyncIterator[Work]:
    state: list[str] = []

    async def work() -> None:
        state.append("open")
        try:
            await turns(2)
        finally:
            with runtime.CancelScope(shield=True):
                await runtime.gather(runtime.sleep(0), runtime.sleep(0))
            state.append("closed")

    yield work
    assert state in ([], ["open", "closed"], ["open"])


WAITS: list[Wait] = [
    gather,
    group,
    failing_group,
    timeout,
    deadline,
    wait_for,
    limiter,
    receiving,
    sending,
    started,
    clean_up,
]


async def alone(work: Work) -> None:
    await work()


async def in_a_scope(work: Work) -> None:
    with runtime.CancelScope():
        await work()


async def in_a_shield(work: Work) -> None:
    with runtime.CancelScope(shield=True):
        await work()


async def in_a_timeout(work: Work) -> None:
    async with runtime.timeout(3600):
        await work()


async def in_asyncios_timeout(work: Work) -> None:
    async with asyncio.timeout(3600):
        await work()


async def in_the_body_of_a_group(work: Work) -> None:
    async with runtime.TaskGroup() as tasks:
        tasks.create_task(runtime.sleep(0))
        await work()


async def in_a_task_of_a_group(work: Work) -> None:
    async with runtime.TaskGroup() as tasks:
        tasks.create_task(_run(work))


async def in_a_task_of_asyncios_group(work: Work) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_run(work))


async def in_gather(work: Work) -> None:
    await runtime.gather(_run(work), runtime.sleep(0))


async def _run(work: Work) -> Any:
    return await work()


SURROUNDINGS: list[Surrounding] = [
    alone,
    in_a_scope,
    in_a_shield,
    in_a_timeout,
    in_asyncios_timeout,
    in_the_body_of_a_group,
    in_a_task_of_a_group,
    in_a_task_of_asyncios_group,
    in_gather,
]
