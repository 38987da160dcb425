"""Stream servers whose loop has other work: a task that computes, and many sleeping tasks."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Coroutine, Iterator
from typing import Any

from bench.apis import Api
from bench.cases.serving import Address
from bench.cases.streams import streams

COMPUTING = 0.002
"""Seconds for which the computing task blocks the loop."""

EVERY = 0.02
"""Seconds between two beginnings of that."""

SLEEPERS = 10_000
NAP = 1.0
"""Seconds that a sleeping task sleeps, again and again: the timers of all of them are pending."""

Work = Coroutine[Any, Any, None]


async def _compute(api: Api) -> None:
    loop = api.get_running_loop()
    due = loop.time()
    while True:
        end = time.perf_counter() + COMPUTING
        while time.perf_counter() < end:
            pass
        due = max(due + EVERY, loop.time())
        await api.sleep(due - loop.time())


async def _nap(api: Api, first: float) -> None:
    await api.sleep(first)
    while True:
        await api.sleep(NAP)


def _sleepers(api: Api) -> Iterator[Work]:
    """Yield sleeping tasks whose deadlines are spread evenly."""
    return (_nap(api, NAP * number / SLEEPERS) for number in range(SLEEPERS))


@contextlib.asynccontextmanager
async def _working(api: Api, size: int, *work: Work) -> AsyncIterator[Address]:
    tasks = [api.create_task(one) for one in work]
    try:
        async with streams(api, size) as address:
            yield address
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task


def computing(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo messages beside a task that computes for 2 ms every 20 ms."""
    return _working(api, size, _compute(api))


def sleepers(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo messages beside 10,000 tasks, each of which sleeps for a second, again and again."""
    return _working(api, size, *_sleepers(api))


def mixed(api: Api, size: int) -> contextlib.AbstractAsyncContextManager[Address]:
    """Echo messages beside the task that computes and the tasks that sleep."""
    return _working(api, size, _compute(api), *_sleepers(api))
