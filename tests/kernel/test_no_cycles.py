"""Failed operations leave no reference cycle that would keep them for the garbage collector.

An exception holds the frames that it passed through. If one of these frames holds the future or the
task that holds the exception, all local variables of the frames live until the collector runs.
"""

from __future__ import annotations

import asyncio
import concurrent.futures.thread
import contextlib
import gc
import threading
import time
import weakref
from collections.abc import Awaitable, Callable

import pytest

import runtime

pytestmark = pytest.mark.usefixtures("no_collector")


class Failed(Exception):
    """Exception raised by the scenarios."""


class Local:
    """A local variable of the frame that failed; it can be weakly referenced."""


Watch = Callable[[Local], None]
"""Registers an object that must be deallocated."""


async def fail(watch: Watch, turns: int = 0) -> None:
    local = Local()
    watch(local)
    for _ in range(turns):
        await runtime.sleep(0)
    raise Failed


def failure(watch: Watch) -> Failed:
    """Return an exception that was not raised yet."""
    local = Local()
    watch(local)
    return Failed(local)


async def a_task(watch: Watch) -> None:
    task = runtime.create_task(fail(watch))
    await runtime.wait([task])
    assert isinstance(task.exception(), Failed)


async def an_awaited_task(watch: Watch) -> None:
    await runtime.create_task(fail(watch, 2))


async def ended(watch: Watch) -> runtime.Task[None]:
    task = runtime.create_task(fail(watch))
    await runtime.wait([task])
    return task


async def a_task_that_ended_before(watch: Watch) -> None:
    await (await ended(watch))


def failing_future(watch: Watch) -> runtime.Future[None]:
    loop = runtime.get_running_loop()
    future: runtime.Future[None] = loop.create_future()
    loop.call_soon(future.set_exception, failure(watch))
    return future


async def a_future(watch: Watch) -> None:
    await failing_future(watch)


async def failed_future(watch: Watch) -> runtime.Future[None]:
    future = failing_future(watch)
    await runtime.wait([future])
    return future


async def the_result_of_a_future(watch: Watch) -> None:
    (await failed_future(watch)).result()


def failing_asyncio_future(watch: Watch) -> asyncio.Future[None]:
    loop = runtime.get_running_loop()
    future: asyncio.Future[None] = asyncio.Future(loop=loop)
    loop.call_soon(future.set_exception, failure(watch))
    return future


async def an_asyncio_future(watch: Watch) -> None:
    await failing_asyncio_future(watch)


async def an_eager_task(watch: Watch) -> None:
    loop = runtime.get_running_loop()
    await runtime.Task(fail(watch), loop=loop, eager_start=True)


async def eager_tasks_within_one_another(watch: Watch) -> None:
    async def start(depth: int) -> None:
        if depth:
            await runtime.create_task(start(depth - 1), eager_start=True)
        await fail(watch)

    await runtime.create_task(start(3), eager_start=True)


async def an_eager_task_of_a_function(watch: Watch) -> None:
    def start() -> runtime.Task[None]:
        task = runtime.create_task(fail(watch), eager_start=True)
        assert task.done()
        return task

    await start()


async def gathered(watch: Watch) -> None:
    await runtime.gather(fail(watch), runtime.sleep(0))


async def gathered_with_exceptions(watch: Watch) -> None:
    (found,) = await runtime.gather(fail(watch), return_exceptions=True)
    assert isinstance(found, Failed)


async def waited_for(watch: Watch) -> None:
    await runtime.wait_for(fail(watch, 2), 10)


async def in_time(watch: Watch) -> None:
    async with runtime.timeout(10):
        await fail(watch, 1)


async def shielded(watch: Watch) -> None:
    await runtime.shield(fail(watch, 1))


async def as_it_completed(watch: Watch) -> None:
    for next_done in runtime.as_completed([fail(watch, 1)]):
        await next_done


async def as_it_completed_async(watch: Watch) -> None:
    await (await anext(aiter(runtime.as_completed([fail(watch, 1)]))))


async def in_a_group(watch: Watch) -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(fail(watch, 1))
        group.create_task(runtime.sleep(10))


async def in_a_thread(watch: Watch) -> None:
    def call() -> None:
        raise failure(watch)

    await runtime.to_thread(call)


async def fail_when_cancelled(watch: Watch) -> None:
    try:
        await runtime.sleep(10)
    finally:
        await fail(watch)


async def cancelled(watch: Watch) -> runtime.Task[None]:
    task = runtime.create_task(fail_when_cancelled(watch))
    await runtime.sleep(0)
    task.cancel()
    return task


async def a_cancelled_task(watch: Watch) -> None:
    await (await cancelled(watch))


SCENARIOS = [
    a_task,
    an_awaited_task,
    a_task_that_ended_before,
    a_future,
    the_result_of_a_future,
    an_asyncio_future,
    gathered,
    gathered_with_exceptions,
    waited_for,
    in_time,
    shielded,
    as_it_completed,
    as_it_completed_async,
    in_a_group,
    in_a_thread,
    a_cancelled_task,
    an_eager_task,
    eager_tasks_within_one_another,
    an_eager_task_of_a_function,
]


@pytest.mark.parametrize("eager", [False, True])
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.__name__)
async def test_an_exception_is_deallocated_with_the_failed_object(
    scenario: Callable[[Watch], Awaitable[None]], eager: bool
) -> None:
    watched: list[weakref.ref[Local]] = []

    def watch(local: Local) -> None:
        watched.append(weakref.ref(local))

    if eager:
        runtime.get_running_loop().set_task_factory(runtime.eager_task_factory)
    try:
        await scenario(watch)
    except (Failed, ExceptionGroup):
        pass
    await runtime.sleep(0)
    await runtime.sleep(0.01)
    assert [seen() for seen in watched] == [None]


async def cancelled_sleep() -> None:
    await runtime.sleep(10)


async def cancelled_future() -> None:
    await runtime.get_running_loop().create_future()


async def cancelled_task() -> None:
    await runtime.create_task(runtime.sleep(10))


async def cancelled_gather() -> None:
    await runtime.gather(runtime.sleep(10), runtime.sleep(10))


async def cancelled_wait_for() -> None:
    await runtime.wait_for(runtime.sleep(10), 20)


async def cancelled_group() -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(runtime.sleep(10))


async def expired() -> None:
    async with runtime.timeout(0.01):
        await runtime.sleep(10)


async def expired_wait_for() -> None:
    await runtime.wait_for(runtime.sleep(10), 0.01)


CANCELLED = (
    cancelled_sleep,
    cancelled_future,
    cancelled_task,
    cancelled_gather,
    cancelled_wait_for,
    cancelled_group,
    expired,
    expired_wait_for,
)


@pytest.mark.parametrize("scenario", CANCELLED, ids=lambda scenario: scenario.__name__)
async def test_a_cancelled_task_goes_at_once(scenario: Callable[[], Awaitable[None]]) -> None:
    async def hold(local: Local) -> None:
        await scenario()

    local = Local()
    gone = weakref.ref(local)
    task = runtime.create_task(hold(local))
    task_gone = weakref.ref(task)
    del local
    await runtime.sleep(0.02)
    task.cancel()
    await runtime.wait([task])
    if not task.cancelled():
        # Otherwise it would be reported, and kept.
        assert isinstance(task.exception(), TimeoutError)
    del task
    await runtime.sleep(0)
    await runtime.sleep(0.01)
    assert gone() is None
    assert task_gone() is None


async def call_in_a_thread() -> None:
    await runtime.to_thread(int)


async def failure_in_a_thread() -> None:
    with contextlib.suppress(ValueError):
        await runtime.to_thread(int, "x")


async def cancelled_call_in_a_thread() -> None:
    call = runtime.create_task(runtime.to_thread(time.sleep, 0.01))
    await runtime.sleep(0)
    call.cancel()
    await runtime.wait([call])


async def concurrent_future() -> None:
    theirs = concurrent.futures.Future[int]()
    ours = runtime.wrap_future(theirs)
    theirs.set_result(1)
    assert await ours == 1


async def cancelled_concurrent_future() -> None:
    theirs = concurrent.futures.Future[int]()
    ours = runtime.wrap_future(theirs)
    ours.cancel()
    await runtime.sleep(0)
    assert theirs.cancelled()


async def coroutine_from_a_thread() -> None:
    loop = runtime.get_running_loop()

    def call() -> None:
        runtime.run_coroutine_threadsafe(runtime.sleep(0), loop).result()

    await runtime.to_thread(call)


async def cancelled_coroutine_from_a_thread() -> None:
    loop = runtime.get_running_loop()

    def call() -> None:
        started = threading.Event()

        async def wait() -> None:
            started.set()
            await runtime.sleep(10)

        future = runtime.run_coroutine_threadsafe(wait(), loop)
        started.wait()
        future.cancel()

    await runtime.to_thread(call)


WITH_THREADS = (
    call_in_a_thread,
    failure_in_a_thread,
    cancelled_call_in_a_thread,
    concurrent_future,
    cancelled_concurrent_future,
    coroutine_from_a_thread,
    cancelled_coroutine_from_a_thread,
)


@pytest.mark.parametrize("scenario", WITH_THREADS, ids=lambda scenario: scenario.__name__)
async def test_calls_between_threads_and_the_loop_leave_no_cycles(
    scenario: Callable[[], Awaitable[None]],
) -> None:
    kinds = (asyncio.Future, concurrent.futures.Future, concurrent.futures.thread._WorkItem)

    def living() -> set[int]:
        return {id(found) for found in gc.get_objects() if isinstance(found, kinds)}

    await scenario()
    await runtime.sleep(0.05)
    before = living()
    await scenario()
    # The thread may still hold a reference to the call.
    for _ in range(1000):
        if living() <= before:
            return
        await runtime.sleep(0.001)
    raise AssertionError(living() - before)
