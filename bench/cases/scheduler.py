"""The cases of the scheduler: coroutine functions that do an operation so many times."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any

from bench.apis import Api

Body = Callable[[Api, int], Coroutine[Any, Any, None]]
GRAIN = 1000
"""The count of every run is a multiple of it, so that the cases can divide it up."""


@dataclass(frozen=True)
class SchedulerCase:
    """A case: its name, what one operation is, and the coroutine function."""

    name: str
    operation: str
    body: Body


SCHEDULER_CASES: dict[str, SchedulerCase] = {}


def case(name: str, operation: str) -> Callable[[Body], Body]:
    """Register a coroutine function as the case ``name``."""

    def register(body: Body) -> Body:
        SCHEDULER_CASES[name] = SchedulerCase(name, operation, body)
        return body

    return register


@case("switch", "one of two tasks does sleep(0)")
async def switch(api: Api, count: int) -> None:
    sleep = api.sleep

    async def worker() -> None:
        for _ in range(count // 2):
            await sleep(0)

    one, two = api.create_task(worker()), api.create_task(worker())
    await one
    await two


@case("spawn", "a task is created and awaited")
async def spawn(api: Api, count: int) -> None:
    create_task = api.create_task

    async def child() -> int:
        return 1

    for _ in range(count):
        await create_task(child())


@case("futures", "one of two tasks wakes the other through a future, and waits for its own")
async def futures(api: Api, count: int) -> None:
    create_future = api.get_running_loop().create_future
    inbox: list[asyncio.Future[None]] = [create_future(), create_future()]

    async def player(me: int, you: int) -> None:
        for _ in range(count // 2):
            await inbox[me]
            inbox[me] = create_future()
            inbox[you].set_result(None)

    inbox[0].set_result(None)
    one, two = api.create_task(player(0, 1)), api.create_task(player(1, 0))
    await one
    await two


@case("call_soon", "a callback schedules the next one")
async def call_soon(api: Api, count: int) -> None:
    loop = api.get_running_loop()
    done = loop.create_future()
    left = count

    def callback() -> None:
        nonlocal left
        left -= 1
        if left:
            loop.call_soon(callback)
        else:
            done.set_result(None)

    loop.call_soon(callback)
    await done


@case("call_soon_100", "a callback is scheduled and run, 100 in a turn")
async def call_soon_100(api: Api, count: int) -> None:
    schedule = api.get_running_loop().call_soon

    def callback() -> None:
        pass

    for _ in range(count // 100):
        for _ in range(100):
            schedule(callback)
        await api.sleep(0)


@case("gather_100", "one of 100 coroutines that are gathered")
async def gather_100(api: Api, count: int) -> None:
    async def child() -> None:
        pass

    for _ in range(count // 100):
        await api.gather(*[child() for _ in range(100)])


@case("queue", "an item goes through a queue of 10")
async def queue(api: Api, count: int) -> None:
    items = api.Queue(10)

    async def produce() -> None:
        for number in range(count):
            await items.put(number)

    async def consume() -> None:
        for _ in range(count):
            await items.get()

    await api.gather(produce(), consume())


@case("lock", "one of 10 tasks takes the lock, does sleep(0), and gives it back")
async def lock(api: Api, count: int) -> None:
    mutex = api.Lock()
    sleep = api.sleep

    async def worker() -> None:
        for _ in range(count // 10):
            async with mutex:
                await sleep(0)

    await api.gather(*[worker() for _ in range(10)])


@case("timer_cancel", "call_later, and cancel of its handle")
async def timer_cancel(api: Api, count: int) -> None:
    loop = api.get_running_loop()

    def callback() -> None:
        pass

    for number in range(count):
        loop.call_later(10, callback).cancel()
        if not number % 1000:
            await api.sleep(0)
