"""Scheduler cases: coroutine functions that perform an operation a given number of times."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from bench.apis import Api

Body = Callable[[Api, int], Coroutine[Any, Any, float | None]]
"""Performs an operation ``count`` times. May return idle seconds, which are not counted."""

GRAIN = 1000
"""Divisor of the count of every run, so that the cases can split the count evenly."""

PROGRAM = shutil.which("true") or "/bin/true"
"""Program that the subprocess cases start: it does nothing."""

FIRST_DELAY = 0.001
"""Seconds until the first timer of a case is due, besides ``SETTING_TIME`` for each timer."""

SETTING_TIME = 2e-6
"""Seconds that are enough for nearly every contender to set one timer."""

INTERVAL = 1e-6
"""Seconds between the deadlines of two consecutive timers."""


@dataclass(frozen=True)
class SchedulerCase:
    """A scheduler case: its name, a description of one operation, and the coroutine function."""

    name: str
    operation: str
    body: Body
    grain: int = GRAIN
    """Divisor of the count of every run of this case."""


SCHEDULER_CASES: dict[str, SchedulerCase] = {}


def case(name: str, operation: str, grain: int = GRAIN) -> Callable[[Body], Body]:
    """Register a coroutine function as the case ``name``."""

    def register(body: Body) -> Body:
        SCHEDULER_CASES[name] = SchedulerCase(name, operation, body, grain)
        return body

    return register


@case("switch", "one of two tasks does sleep(0)")
async def switch(api: Api, count: int) -> None:
    await _switch(api, count, 2)


async def _switch(api: Api, count: int, tasks: int) -> None:
    sleep = api.sleep

    async def worker() -> None:
        for _ in range(count // tasks):
            await sleep(0)

    for task in [api.create_task(worker()) for _ in range(tasks)]:
        await task


@case("switch_1k", "one of 1,000 tasks does sleep(0)", grain=10_000)
async def switch_1k(api: Api, count: int) -> None:
    await _switch(api, count, 1000)


@case("switch_100k", "one of 100,000 tasks does sleep(0)", grain=200_000)
async def switch_100k(api: Api, count: int) -> None:
    await _switch(api, count, 100_000)


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
    await _gather(api, count, 100)


async def _gather(api: Api, count: int, together: int) -> None:
    async def child() -> None:
        pass

    for _ in range(count // together):
        await api.gather(*[child() for _ in range(together)])


@case("gather_10k", "one of 10,000 coroutines that are gathered", grain=10_000)
async def gather_10k(api: Api, count: int) -> None:
    await _gather(api, count, 10_000)


@case("task_group_100", "one of 100 tasks of a task group")
async def task_group_100(api: Api, count: int) -> None:
    async def child() -> None:
        pass

    for _ in range(count // 100):
        async with api.TaskGroup() as group:
            for _ in range(100):
                group.create_task(child())


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


@case("lock", "one of 10 tasks takes the lock, does sleep(0), and releases it")
async def lock(api: Api, count: int) -> None:
    await _run_ten_tasks(api, count, api.Lock())


@case("semaphore", "one of 10 tasks takes one of 3 permits, does sleep(0), and releases it")
async def semaphore(api: Api, count: int) -> None:
    await _run_ten_tasks(api, count, api.Semaphore(3))


async def _run_ten_tasks(api: Api, count: int, limit: AbstractAsyncContextManager[object]) -> None:
    sleep = api.sleep

    async def worker() -> None:
        for _ in range(count // 10):
            async with limit:
                await sleep(0)

    await api.gather(*[worker() for _ in range(10)])


@case("event", "one of two tasks sets the other's event, and waits for a new one of its own")
async def event(api: Api, count: int) -> None:
    events = [api.Event(), api.Event()]

    async def player(me: int, you: int) -> None:
        for _ in range(count // 2):
            await events[me].wait()
            events[me] = api.Event()
            events[you].set()

    events[0].set()
    one, two = api.create_task(player(0, 1)), api.create_task(player(1, 0))
    await one
    await two


@case("timeout", "a sleep(0) inside a timeout of 10 s")
async def timeout(api: Api, count: int) -> None:
    for _ in range(count):
        async with api.timeout(10):
            await api.sleep(0)


@case("timer_cancel", "call_later, and cancel of its handle")
async def timer_cancel(api: Api, count: int) -> None:
    loop = api.get_running_loop()

    def callback() -> None:
        pass

    for number in range(count):
        loop.call_later(10, callback).cancel()
        if not number % 1000:
            await api.sleep(0)


@case("timers_1", "a timer that is due at once is set, and fires; no other is pending")
async def timers_1(api: Api, count: int) -> None:
    loop = api.get_running_loop()
    for _ in range(count):
        done = loop.create_future()
        loop.call_at(loop.time(), done.set_result, None)
        await done


async def _fire(api: Api, count: int, together: int) -> float:
    """Set ``together`` timers, not in the order of their deadlines; wait until all have fired.

    Repeat this until ``count`` timers have fired. All deadlines lie in the future when the timers
    are set: for a deadline that has passed, uvloop and rloop schedule a plain callback instead of a
    timer, and do not keep the order. This function then waits in a busy loop until the last
    deadline, so that the event loop finds all timers due at once. It returns the seconds of these
    waits, which are not counted.
    """
    loop = api.get_running_loop()
    waited = 0.0

    for _ in range(count // together):
        done = loop.create_future()
        left = together

        def callback(done: asyncio.Future[None] = done) -> None:
            nonlocal left
            left -= 1
            if not left:
                done.set_result(None)

        first = loop.time() + FIRST_DELAY + together * SETTING_TIME
        # Wait one millisecond longer, which is the resolution of the timers of uvloop and rloop.
        all_due = time.perf_counter() + 2 * FIRST_DELAY + together * (SETTING_TIME + INTERVAL)
        for number in range(together):
            loop.call_at(first + number * 7919 % together * INTERVAL, callback)
        began = now = time.perf_counter()
        while now < all_due:
            now = time.perf_counter()
        waited += now - began
        await done
    return waited


@case("timers_1k", "one of 1,000 timers is set, and fires")
async def timers_1k(api: Api, count: int) -> float:
    return await _fire(api, count, 1000)


@case("timers_100k", "one of 100,000 timers is set, and fires", grain=100_000)
async def timers_100k(api: Api, count: int) -> float:
    return await _fire(api, count, 100_000)


@case("timers_1m", "one of 1,000,000 timers is set, and fires", grain=1_000_000)
async def timers_1m(api: Api, count: int) -> float:
    return await _fire(api, count, 1_000_000)


@case("to_thread", "a function that does nothing runs in a thread, and is awaited", grain=100)
async def to_thread(api: Api, count: int) -> None:
    def nothing() -> None:
        pass

    for _ in range(count):
        await api.to_thread(nothing)


@case("subprocess_spawn", "a process that does nothing is started, and awaited", grain=10)
async def subprocess_spawn(api: Api, count: int) -> None:
    for _ in range(count):
        await (await api.create_subprocess_exec(PROGRAM)).wait()
