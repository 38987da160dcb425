"""Scopes, groups, channels and limiters keep their promises in many schedules."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

import runtime
from runtime import simulation
from runtime.simulation.current import Victim, current_run
from runtime.simulation.watching import watch
from tests.sync.scoped_waits import SURROUNDINGS, WAITS, Wait

Main = Callable[[], Awaitable[None]]


def requests() -> int:
    task = runtime.current_task()
    assert task is not None
    return task.cancelling()


async def scopes_and_shields() -> None:
    saved: list[int] = []

    async def work(number: int) -> None:
        try:
            await runtime.sleep(number)
        finally:
            with runtime.move_on_after(1, shield=True):
                await runtime.sleep(0)
                saved.append(number)

    outer = runtime.CancelScope()
    runtime.get_running_loop().call_soon(outer.cancel)
    with outer, runtime.move_on_after(2):
        async with runtime.TaskGroup() as group:
            for number in range(3):
                group.create_task(work(number))
            await runtime.sleep(1)
    assert len(saved) == len(set(saved)) <= 3
    assert requests() == 0
    await runtime.sleep(0)


async def requests_and_scopes() -> None:
    scope = runtime.CancelScope()
    ended: list[bool] = []

    async def work() -> None:
        with scope:
            await runtime.sleep_forever()
        ended.append(scope.cancelled_caught)
        await runtime.sleep(5)

    task = runtime.create_task(work())
    loop = runtime.get_running_loop()
    loop.call_later(1, scope.cancel)
    loop.call_later(1, task.cancel)
    await runtime.wait([task])
    assert task.cancelled()
    assert task.cancelling() == 1


async def channels() -> None:
    send, receive = runtime.open_channel[int](1)
    received: list[int] = []

    async def produce(end: runtime.SendChannel[int], first: int) -> None:
        with end:
            for number in range(first, first + 4):
                await end.send(number)

    async def consume(end: runtime.ReceiveChannel[int]) -> None:
        with end:
            with runtime.move_on_after(1):
                try:
                    received.append(await end.receive())
                except runtime.EndOfChannel:
                    pass  # Another task has received all items.
                await runtime.sleep(0)
            received.extend([number async for number in end])

    async with runtime.TaskGroup() as group:
        with send, receive:
            for number in range(2):
                group.create_task(produce(send.clone(), 4 * number))
                group.create_task(consume(receive.clone()))
    assert sorted(received) == [*range(8)]


async def limiters() -> None:
    limiter = runtime.CapacityLimiter(2)

    async def work() -> None:
        async with limiter:
            assert limiter.borrowed <= 2
            await runtime.sleep(0)

    tasks = [runtime.create_task(work()) for _ in range(5)]
    runtime.get_running_loop().call_soon(tasks[2].cancel)
    runtime.get_running_loop().call_soon(tasks[4].cancel)
    await runtime.wait(tasks)
    assert limiter.borrowed == 0
    assert limiter.statistics().waiting == 0


async def started_tasks() -> None:
    ended: list[str] = []

    async def serve(started: runtime.Started[int]) -> None:
        try:
            await runtime.sleep(1)
            started(7)
            await runtime.sleep_forever()
        finally:
            ended.append("server")

    async with runtime.TaskGroup() as group:
        with runtime.move_on_after(1) as scope:
            assert await group.start(serve) == 7
        await runtime.sleep(0)
        assert scope.cancelled_caught == bool(ended)
        group.cancel_scope.cancel()
    assert ended == ["server"]
    assert requests() == 0


async def timeouts_and_gather_in_scopes() -> None:
    async def work() -> None:
        async with runtime.timeout(1):
            await runtime.gather(runtime.sleep(2), asyncio.sleep(3))

    with runtime.move_on_after(1) as scope:
        try:
            await work()
        except TimeoutError:
            assert not scope.cancelled_caught
    assert requests() == 0
    await runtime.sleep(0)


def waits_in_scopes(wait: Wait) -> Main:
    """Return a program that waits in a scope; the scope and the task may be cancelled anywhere."""

    async def main() -> None:
        scope = runtime.CancelScope()
        surrounding = simulation.choice(SURROUNDINGS)
        requested = False

        def request() -> None:
            nonlocal requested
            requested = task.cancel()

        async with wait() as work:

            async def whole() -> None:
                with scope:
                    await surrounding(work)
                    await runtime.sleep(0)  # A cancellation that came with a result is raised here.

            task = runtime.create_task(whole())
            run = current_run()
            assert run is not None
            watch(run)
            run.victims += [Victim(task, request, "cancel"), Victim(task, scope.cancel, "scope")]
            await runtime.wait([task])
            if not task.cancelled():
                task.result()
            assert task.cancelled() == requested
            assert task.cancelling() == requested
            assert scope.cancelled_caught == (scope.cancel_called and not requested)
            simulation.sometimes(scope.cancelled_caught, "the scope has caught its cancellation")
            simulation.sometimes(scope.cancel_called and requested, "both came")

    return main


MAINS = [
    scopes_and_shields,
    requests_and_scopes,
    channels,
    limiters,
    started_tasks,
    timeouts_and_gather_in_scopes,
]


@pytest.mark.parametrize("main", MAINS)
def test_schedules(main: Main) -> None:
    simulation.explore(main, runs=100, order="tasks")


@pytest.mark.slow
@pytest.mark.parametrize("main", MAINS)
def test_many_schedules(main: Main) -> None:
    simulation.explore(main, runs=2000, order="tasks")


@pytest.mark.parametrize("wait", WAITS)
def test_schedules_of_cancelled_waits(wait: Wait) -> None:
    explored = simulation.explore(waits_in_scopes(wait), runs=150, order="tasks")
    assert explored.never_reached == []


@pytest.mark.slow
@pytest.mark.parametrize("wait", WAITS)
def test_many_schedules_of_cancelled_waits(wait: Wait) -> None:
    explored = simulation.explore(waits_in_scopes(wait), runs=1500, order="tasks")
    assert explored.never_reached == []
