"""Scenarios that run under asyncio and under runtime and must produce the same log.

If an older asyncio lacks a feature or has a fault that was fixed since, the scenario names the
first Python whose asyncio is the reference for it.
"""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime
from tests.sync.tools import Log

Scenario = Callable[[Any, Log], Coroutine[Any, Any, None]]
SCENARIOS: list[tuple[Scenario, tuple[int, int]]] = []


def scenario(since: tuple[int, int] = (3, 11)) -> Callable[[Scenario], Scenario]:
    """Add a scenario, which receives the library and a log."""

    def add(function: Scenario) -> Scenario:
        SCENARIOS.append((function, since))
        return function

    return add


def outcome(future: Any) -> str:
    """Describe the outcome of a future."""
    if not future.done():
        return "pending"
    if future.cancelled():
        return "cancelled"
    error = future.exception()
    if error is None:
        return f"result {future.result()!r}"
    if isinstance(error, BaseExceptionGroup):
        return f"{type(error).__name__} {error} {error.exceptions!r}"
    return f"raised {type(error).__name__} {str(error) if isinstance(error, LookupError) else ''}"


async def turns(lib: Any, number: int) -> None:
    for _ in range(number):
        await lib.sleep(0)


async def follow(lib: Any, log: Log, number: int, **futures: Any) -> None:
    """Log, turn by turn, which of the futures have ended, and how."""
    known: dict[str, str] = {}
    for turn in range(number):
        for name, future in futures.items():
            described = outcome(future)
            if known.get(name) != described:
                known[name] = described
                log.add(f"turn {turn}:", name, described)
        await lib.sleep(0)


async def give(lib: Any, value: Any, suspensions: int = 1) -> Any:
    await turns(lib, suspensions)
    return value


async def fail(lib: Any, error: Any, suspensions: int = 1) -> Any:
    await turns(lib, suspensions)
    raise error


async def stubborn(lib: Any, value: Any) -> Any:
    try:
        await lib.sleep(3600)
    except lib.CancelledError:
        await lib.sleep(0)
    return value


# -- gather


@scenario()
async def gather_results(lib: Any, log: Log) -> None:
    gathering = lib.gather(*[give(lib, number, 3 - number) for number in range(3)])
    await follow(lib, log, 8, gathering=gathering)


@scenario(since=(3, 12))
async def gather_of_futures_that_are_done(lib: Any, log: Log) -> None:
    done, failed = (lib.get_running_loop().create_future() for _ in range(2))
    done.set_result(1)
    failed.set_exception(LookupError("x"))
    log.add(*await lib.gather(done, done))
    gathering = lib.gather(done, failed, return_exceptions=True)
    log.add(repr(await gathering))
    pending = lib.get_running_loop().create_future()
    failing = lib.gather(pending, failed)
    await follow(lib, log, 4, failing=failing, pending=pending)


@scenario()
async def gather_that_fails(lib: Any, log: Log) -> None:
    slow = lib.create_task(give(lib, 1, 5))
    late = lib.create_task(fail(lib, ValueError("late"), 4))
    gathering = lib.gather(slow, fail(lib, LookupError("first"), 2), late)
    await follow(lib, log, 9, gathering=gathering, slow=slow, late=late)


@scenario()
async def gather_with_exceptions_as_results(lib: Any, log: Log) -> None:
    cancelled = lib.create_task(lib.sleep(3600))
    gathering = lib.gather(
        give(lib, 1), fail(lib, LookupError("x")), cancelled, return_exceptions=True
    )
    await turns(lib, 2)
    cancelled.cancel("why")
    await follow(lib, log, 6, gathering=gathering)


@scenario()
async def gather_cancelled_by_itself(lib: Any, log: Log) -> None:
    for return_exceptions in (False, True):
        child = lib.create_task(lib.sleep(3600))
        refusing = lib.create_task(stubborn(lib, "refused"))
        gathering = lib.gather(child, refusing, return_exceptions=return_exceptions)
        await turns(lib, 2)
        log.add(gathering.cancel("message"))
        await follow(lib, log, 8, gathering=gathering, child=child, refusing=refusing)
        log.add(gathering.cancel())


@scenario()
async def tasks_that_wait_for_others_are_cancelled_in_order(lib: Any, log: Log) -> None:
    async def wait_for(name: str, *others: Any) -> None:
        try:
            await (lib.gather(*others) if len(others) != 1 else others[0])
        except lib.CancelledError as error:
            log.add(name, "cancelled with", error.args)
            raise

    def task(name: str, *others: Any) -> Any:
        return lib.create_task(wait_for(name, *others))

    def leaf(name: str) -> Any:
        return task(name, lib.get_running_loop().create_future())

    shared = leaf("shared")
    left = task("left", task("left inner", leaf("a"), leaf("b")), shared)
    right = task("right", leaf("c"), task("right inner", shared, leaf("d")))
    root = task("root", left, leaf("e"), right, shared)
    await turns(lib, 4)
    log.add(root.cancel("message"))
    log.add(*[each.cancelling() for each in (root, left, right)])
    await follow(lib, log, 8, left=left, right=right, shared=shared, root=root)


@scenario()
async def gather_cancelled_with_its_task(lib: Any, log: Log) -> None:
    children = [lib.create_task(lib.sleep(3600)), lib.create_task(stubborn(lib, 1))]

    async def parent() -> Any:
        try:
            return await lib.gather(*children)
        except lib.CancelledError as error:
            log.add("cancelled with", error.args)
            raise

    task = lib.create_task(parent())
    await turns(lib, 2)
    task.cancel("message")
    await follow(lib, log, 8, task=task, first=children[0], second=children[1])


@scenario()
async def two_requests_to_cancel_in_one_turn(lib: Any, log: Log) -> None:
    async def wait_for(awaitable: Any) -> None:
        for each in (awaitable, lib.sleep(0)):
            try:
                await each
            except lib.CancelledError as error:
                log.add("cancelled with", error.args)

    create_future = lib.get_running_loop().create_future
    cancelled_before = create_future()
    for awaitable in (
        create_future(),
        cancelled_before,
        lib.sleep(3600),
        lib.create_task(lib.sleep(3600)),
        lib.gather(create_future(), create_future()),
        lib.sleep(0),
    ):
        task = lib.create_task(wait_for(awaitable))
        await turns(lib, 2)
        if awaitable is cancelled_before:
            cancelled_before.cancel("before")
        log.add(task.cancel("first"), task.cancel("second"), task.cancelling())
        await follow(lib, log, 4, task=task)


@scenario()
async def gather_with_a_child_that_others_cancel(lib: Any, log: Log) -> None:
    victim, bystander = lib.create_task(lib.sleep(3600)), lib.create_task(give(lib, 1, 6))
    gathering = lib.gather(victim, bystander)
    await turns(lib, 2)
    victim.cancel()
    await follow(lib, log, 8, gathering=gathering, victim=victim, bystander=bystander)
    log.add(gathering.cancelled(), type(gathering.exception()).__name__)


# -- shield, wait, as_completed, wait_for, timeout


@scenario()
async def shield_and_cancel(lib: Any, log: Log) -> None:
    inner = lib.create_task(give(lib, 1, 4))
    outer = lib.shield(inner)

    async def wait() -> Any:
        return await outer

    task = lib.create_task(wait())
    await turns(lib, 1)
    task.cancel()
    await follow(lib, log, 8, inner=inner, outer=outer, task=task)


@scenario()
async def shield_of_a_cancelled_task(lib: Any, log: Log) -> None:
    inner = lib.create_task(lib.sleep(3600))
    outer = lib.shield(inner)
    await turns(lib, 2)
    inner.cancel()
    await follow(lib, log, 5, inner=inner, outer=outer)


@scenario()
async def wait_in_every_way(lib: Any, log: Log) -> None:
    for return_when in (lib.ALL_COMPLETED, lib.FIRST_COMPLETED, lib.FIRST_EXCEPTION):
        tasks = [
            lib.create_task(give(lib, 1, 2)),
            lib.create_task(fail(lib, LookupError(), 4)),
            lib.create_task(give(lib, 2, 6)),
        ]
        done, pending = await lib.wait(tasks, return_when=return_when)
        log.add(
            return_when, *[task in done for task in tasks], *[task in pending for task in tasks]
        )
        await lib.wait(tasks)
        log.add(*map(outcome, tasks))


@scenario()
async def as_completed_as_an_iterator(lib: Any, log: Log) -> None:
    for awaitable in lib.as_completed([give(lib, 1, 3), give(lib, 2, 1)]):
        log.add(await awaitable)
    quick = lib.create_task(give(lib, 3))
    await quick
    for awaitable in lib.as_completed([lib.sleep(3600), quick], timeout=0.001):
        try:
            log.add(await awaitable)
        except TimeoutError as error:
            log.add(repr(error))


@scenario(since=(3, 13))
async def as_completed_as_an_asynchronous_iterator(lib: Any, log: Log) -> None:
    tasks = {
        lib.create_task(give(lib, 1, 3)): "slow",
        lib.create_task(fail(lib, LookupError(), 1)): "quick",
    }
    async for task in lib.as_completed(tasks):
        log.add(tasks[task], outcome(task))


@scenario(since=(3, 12))
async def wait_for_in_every_way(lib: Any, log: Log) -> None:
    for timeout in (None, 3600, 0.001, 0, -1):
        for kind in (give, fail, stubborn):
            argument = LookupError("x") if kind is fail else "value"
            for as_task in (False, True):
                # Skip combinations in which the end can coincide with the deadline.
                if kind is stubborn and timeout in (None, 3600):
                    continue
                if kind is not stubborn and timeout == 0.001:
                    continue
                coro = kind(lib, argument)
                awaitable = lib.create_task(coro) if as_task else coro
                await turns(lib, int(as_task))
                try:
                    result = await lib.wait_for(awaitable, timeout)
                except Exception as error:
                    result = repr(error)
                log.add(timeout, kind.__name__, as_task, result)
                log.add(outcome(awaitable) if as_task else "", lib.current_task().cancelling())


@scenario(since=(3, 13))
async def timeout_and_cancellation_in_every_order(lib: Any, log: Log) -> None:
    async def work(order: str) -> str:
        task = lib.current_task()
        scope = lib.timeout(3600)
        try:
            async with scope:
                for what in order:
                    if what == "c":
                        task.cancel("by others")
                    else:
                        scope.reschedule(0.0)
                try:
                    await lib.sleep(3600)
                finally:
                    log.add(order, "cancelled", task.cancelling())
                    await turns(lib, 2)
        except TimeoutError:
            log.add(order, "timeout", task.cancelling())
        finally:
            log.add(order, scope.expired(), task.cancelling(), scope)
        return "end"

    for order in ("t", "c", "ct", "tc", "cct", "ctc"):
        task = lib.create_task(work(order))
        await lib.wait([task])
        log.add(outcome(task), task.cancelling())


@scenario(since=(3, 12))
async def timeouts_inside_timeouts(lib: Any, log: Log) -> None:
    delays = [(0, 0), (0, 3600), (3600, 0), (0.001, 3600), (3600, 0.001)]
    for outer_delay, inner_delay in delays:
        outer, inner = lib.timeout(outer_delay), lib.timeout(inner_delay)
        try:
            async with outer:
                try:
                    async with inner:
                        await lib.sleep(3600)
                except TimeoutError:
                    log.add("inner raised")
        except TimeoutError:
            log.add("outer raised")
        log.add(outer_delay, inner_delay, outer.expired(), inner.expired())
        log.add(lib.current_task().cancelling())


# -- TaskGroup


@scenario(since=(3, 13))
async def task_groups_in_every_way(lib: Any, log: Log) -> None:
    async def parent(kinds: str, body: str) -> None:
        async with lib.TaskGroup() as group:
            for kind in kinds:
                if kind == "g":
                    group.create_task(give(lib, 1, 4))
                elif kind == "f":
                    group.create_task(fail(lib, LookupError("task"), 3))
                else:
                    group.create_task(stubborn(lib, 2))
            if body == "fail":
                raise ValueError("body")
            if body == "sleep":
                await (lib.sleep(3600) if "f" in kinds else turns(lib, 5))
            if body == "swallow":
                try:
                    await (lib.sleep(3600) if "f" in kinds else turns(lib, 5))
                except lib.CancelledError:
                    log.add("swallowed")

    for kinds in ("", "g", "f", "gf", "ff", "sf"):
        for body in ("end", "fail", "sleep", "swallow"):
            for cancelled_after in (None, 1, 2, 3, 4, 5, 6):
                task = lib.create_task(parent(kinds, body))
                if cancelled_after is not None:
                    await turns(lib, cancelled_after)
                    task.cancel()
                await lib.wait([task])
                log.add(kinds, body, cancelled_after, outcome(task), task.cancelling())


# -- Locks


@scenario()
async def locks_and_cancelled_waiters(lib: Any, log: Log) -> None:
    for cancelled in range(4):
        for before in (False, True):
            lock = lib.Lock()

            async def work(lock: Any, name: int) -> None:
                async with lock:
                    log.add("in", name, lock.locked())
                    await lib.sleep(0)

            await lock.acquire()
            tasks = {f"t{name}": lib.create_task(work(lock, name)) for name in range(3)}
            await lib.sleep(0)
            if before and cancelled:
                tasks[f"t{cancelled - 1}"].cancel()
            lock.release()
            log.add(lock.locked())
            if not before and cancelled:
                tasks[f"t{cancelled - 1}"].cancel()
            late = lib.create_task(work(lock, 9))
            await follow(lib, log, 12, late=late, **tasks)


@scenario()
async def events(lib: Any, log: Log) -> None:
    event = lib.Event()
    tasks = {name: lib.create_task(event.wait()) for name in "abc"}
    await turns(lib, 1)
    tasks["b"].cancel()
    event.set()
    event.clear()
    late = lib.create_task(event.wait())
    await follow(lib, log, 4, late=late, **tasks)
    event.set()
    await follow(lib, log, 4, late=late)


@scenario(since=(3, 13))
async def conditions(lib: Any, log: Log) -> None:
    for cancelled in (None, "a", "b", "c"):
        condition = lib.Condition()

        async def wait(condition: Any, name: str) -> None:
            async with condition:
                log.add(name, "waits")
                try:
                    await condition.wait()
                finally:
                    log.add(name, "has it", condition.locked())

        tasks = {name: lib.create_task(wait(condition, name)) for name in "abc"}
        await turns(lib, 4)
        async with condition:
            condition.notify(2)
            if cancelled is not None:
                tasks[cancelled].cancel()
            await turns(lib, 3)
        await follow(lib, log, 8, **tasks)
        async with condition:
            condition.notify_all()
        await follow(lib, log, 8, **tasks)


@scenario(since=(3, 13))
async def semaphores_and_cancelled_waiters(lib: Any, log: Log) -> None:
    for permits in (1, 2):
        for cancelled in range(5):
            semaphore = lib.Semaphore(0)

            async def work(semaphore: Any, name: str) -> None:
                async with semaphore:
                    log.add("in", name)
                    await lib.sleep(0)

            tasks = {name: lib.create_task(work(semaphore, name)) for name in "abcd"}
            await lib.sleep(0)
            for _ in range(permits):
                semaphore.release()
            log.add(semaphore.locked())
            if cancelled:
                tasks["abcd"[cancelled - 1]].cancel()
            late = lib.create_task(work(semaphore, "late"))
            await follow(lib, log, 14, late=late, **tasks)
            log.add(semaphore.locked())


@scenario()
async def barriers(lib: Any, log: Log) -> None:
    barrier = lib.Barrier(3)

    async def work(name: str) -> None:
        for _ in range(2):
            index = await barrier.wait()
            log.add(name if index == 2 else "another", barrier.broken)

    await lib.gather(*[work(name) for name in "abc"])
    waiting = [lib.create_task(barrier.wait()) for _ in range(2)]
    await turns(lib, 4)
    log.add(barrier.n_waiting, barrier.parties)
    await barrier.abort()
    await turns(lib, 6)
    log.add(*[type(task.exception()).__name__ for task in waiting], barrier.broken)
    try:
        await barrier.wait()
    except lib.BrokenBarrierError as error:
        log.add(type(error).__name__)
    await barrier.reset()
    log.add(barrier.broken, barrier.n_waiting)
    waiting = [lib.create_task(barrier.wait()) for _ in range(2)]
    await turns(lib, 4)
    await barrier.reset()
    await turns(lib, 6)
    log.add(*[type(task.exception()).__name__ for task in waiting], barrier.broken)
    log.add(sorted(await lib.gather(*[barrier.wait() for _ in range(3)])))


# -- Queues


@scenario()
async def queues_and_cancelled_waiters(lib: Any, log: Log) -> None:
    for kind in (lib.Queue, lib.LifoQueue, lib.PriorityQueue):
        for cancelled in (None, "a", "b", "c"):
            queue = kind(1)
            tasks = {name: lib.create_task(queue.get()) for name in "abc"}
            await turns(lib, 1)
            queue.put_nowait(1)
            if cancelled is not None:
                tasks[cancelled].cancel()
            putters = {f"put {item}": lib.create_task(queue.put(item)) for item in (4, 3, 2)}
            await follow(lib, log, 10, **tasks, **putters)
            while not queue.empty():
                log.add(queue.get_nowait(), queue.qsize())
                await turns(lib, 2)


@scenario(since=(3, 13))
async def queues_that_are_shut_down(lib: Any, log: Log) -> None:
    for immediate in (False, True):
        for maxsize in (1, 2):
            queue = lib.Queue(maxsize)
            putters = {f"put {item}": lib.create_task(queue.put(item)) for item in range(3)}
            joiner = lib.create_task(queue.join())
            await turns(lib, 2)
            queue.shutdown(immediate=immediate)
            await follow(lib, log, 5, joiner=joiner, **putters)
            for _ in range(3):
                try:
                    log.add(queue.get_nowait())
                    queue.task_done()
                except (lib.QueueShutDown, lib.QueueEmpty) as error:
                    log.add(type(error).__name__)
            await follow(lib, log, 5, joiner=joiner)
            empty = lib.Queue()
            getters = {f"get {item}": lib.create_task(empty.get()) for item in range(2)}
            await turns(lib, 2)
            empty.shutdown(immediate=immediate)
            await turns(lib, 3)
            log.add(*[type(getter.exception()).__name__ for getter in getters.values()])


@scenario()
async def sleeping_and_waking(lib: Any, log: Log) -> None:
    async def work(name: str, delay: float) -> None:
        for step in range(3):
            log.add(name, step)
            await lib.sleep(delay)

    await lib.gather(work("a", 0), work("b", -1), work("c", 0))


@pytest.mark.parametrize(
    ("function", "since"), [pytest.param(*each, id=each[0].__name__) for each in SCENARIOS]
)
def test_the_same_happens(function: Scenario, since: tuple[int, int]) -> None:
    if sys.version_info < since:
        pytest.skip(f"asyncio is the reference for this from Python {since[0]}.{since[1]} on")
    theirs, ours = Log(), Log()
    asyncio.run(function(asyncio, theirs))
    runtime.run(function(runtime, ours))
    assert ours == theirs
    assert theirs
