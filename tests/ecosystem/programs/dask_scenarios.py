"""Scenarios of dask.distributed: ``dask_scenarios LOOP SCENARIO``; prints the outcome."""

from __future__ import annotations

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import dask
from distributed import Client, LocalCluster, Scheduler, wait

from tests.ecosystem.runners import LoopRunner
from tests.ecosystem.servers import program


def square(number: int) -> int:
    return number * number


def divide(one: int, two: int) -> float:
    return one / two


@asynccontextmanager
async def cluster(workers: int = 2, **options: Any) -> AsyncIterator[tuple[Any, Any]]:
    """Start a cluster and a client in this loop."""
    settings: dict[str, Any] = {
        "processes": False,
        "threads_per_worker": 2,
        "dashboard_address": None,
    }
    settings |= {"n_workers": workers, "asynchronous": True, **options}
    async with (
        LocalCluster(**settings) as running,
        Client(running, asynchronous=True) as client,
    ):
        yield running, client


async def futures() -> list[Any]:
    async with cluster() as (_, client):
        total = client.submit(sum, client.map(lambda number: number, range(100)))
        squares = await client.gather(client.map(square, range(5)))
        return [await total, squares]


async def collections() -> list[Any]:
    async with cluster() as (_, client):
        tree = [dask.delayed(square)(number) for number in range(100)]
        return [await client.compute(dask.delayed(sum)(tree))]


async def errors() -> list[Any]:
    async with cluster() as (_, client):
        try:
            await client.submit(divide, 1, 0)
        except ZeroDivisionError as error:
            return [type(error).__name__, await client.submit(sum, [3, 4])]
        raise AssertionError("a division by zero succeeded")


async def cancellation() -> list[Any]:
    outcome = []
    async with cluster() as (_, client):
        first = client.submit(time.sleep, 0.5)
        blocked = client.submit(lambda _: 1, first)
        await client.cancel([blocked])
        try:
            await blocked.result()
        except CancelledError:
            outcome.append("CancelledError")
        try:
            async with asyncio.timeout(0.05):
                await client.submit(time.sleep, 0.6)
        except TimeoutError as error:
            outcome.append(type(error).__name__)
        return [*outcome, await client.submit(sum, [3, 4])]


async def events() -> list[Any]:
    async with cluster() as (_, client):
        await client.log_event("news", "first")
        await client.log_event("news", "second")
        received = [event for _, event in await client.get_events("news")]
        await client.set_metadata("answer", 42)
        return [received, await client.get_metadata("answer")]


async def scaling() -> list[Any]:
    async with cluster(workers=1) as (running, client):
        before = len(running.workers)
        running.scale(3)
        await client.wait_for_workers(3)
        tasks = client.map(square, range(10))
        await wait(tasks)
        return [before, len(running.workers), await client.submit(sum, [1, 2, 3, 4, 5])]


async def lost_worker() -> list[Any]:
    async with cluster(workers=2) as (running, client):
        tasks = client.map(square, range(10))
        await wait(tasks)
        await running.workers[0].close(nanny=False)
        # The results that the lost worker held are computed again.
        return [len(await client.gather(tasks))]


async def processes() -> list[Any]:
    async with cluster(processes=True) as (_, client):
        total = await client.submit(sum, range(100))
        where = await client.run(os.getpid)
        return [total, len(set(where.values()) - {os.getpid()}) == 2]


async def command_line() -> list[Any]:
    """Workers that were started by themselves find the scheduler in this loop."""
    command = (sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard")
    async with Scheduler(port=0, host="127.0.0.1", dashboard_address=None) as scheduler:
        with tempfile.TemporaryDirectory() as folder:
            place = ("--nthreads", "1", "--local-directory", folder)

            def worker(number: int) -> Any:
                log = Path(folder) / f"{number}.log"
                return program(*command, *place, scheduler.address, log=log)

            with worker(1) as one, worker(2) as two:
                async with Client(scheduler.address, asynchronous=True) as client:
                    await client.wait_for_workers(2)
                    total = await client.submit(sum, range(100))
                    where = await client.run(os.getpid)
                    await client.shutdown()
                assert set(where.values()) == {one.process.pid, two.process.pid}
                await asyncio.to_thread(one.wait)
                await asyncio.to_thread(two.wait)
                return [total, len(where)]


SCENARIOS: dict[str, Callable[[], Awaitable[list[Any]]]] = {
    function.__name__.replace("_", "-"): function
    for function in (
        futures,
        collections,
        errors,
        cancellation,
        events,
        scaling,
        lost_worker,
        processes,
        command_line,
    )
}


def main() -> None:
    name, scenario = sys.argv[1:]

    async def run() -> list[Any]:
        return await SCENARIOS[scenario]()

    outcome = LoopRunner(name)(run)
    print(*outcome)


if __name__ == "__main__":
    main()
