"""Awaitables: runtime's loop, futures and tasks among asyncio's, and between threads."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.threads.concurrent_futures import follow_concurrent
from tests.support.blocked import all_tasks_blocked


async def test_asyncio_primitives_on_our_loop() -> None:
    async def child(value: int) -> int:
        await asyncio.sleep(0.001)
        return value

    assert list(await asyncio.gather(child(1), child(2))) == [1, 2]
    assert await asyncio.wait_for(child(3), 30) == 3
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.001):
            await runtime.sleep(3600)
    async with asyncio.TaskGroup() as group:
        tasks: list[Any] = [group.create_task(child(n)) for n in range(3)]
    assert [task.result() for task in tasks] == [0, 1, 2]
    assert all(isinstance(task, runtime.Task) for task in tasks)
    queue: asyncio.Queue[int] = asyncio.Queue()
    getter = runtime.create_task(queue.get())
    await queue.put(4)
    assert await getter == 4
    async with asyncio.Lock():
        pass
    assert await asyncio.to_thread(int, "5") == 5
    shielded: Any = asyncio.shield(runtime.create_task(child(6)))
    assert await shielded == 6
    done, pending = await asyncio.wait([asyncio.create_task(child(7))])
    assert len(done) == 1
    assert not pending
    for future in asyncio.as_completed([child(8)]):
        assert await future == 8
    event = asyncio.Event()
    asyncio.get_running_loop().call_soon(event.set)
    await event.wait()


async def test_asyncio_tasks_on_our_loop() -> None:
    async def child() -> str:
        assert asyncio.current_task() is tasks[0]
        await runtime.sleep(0.001)
        assert asyncio.current_task() is tasks[0]
        return "theirs"

    tasks: list[Any] = []
    loop: Any = runtime.get_running_loop()
    tasks.append(asyncio.Task(child(), loop=loop))
    assert tasks[0] in asyncio.all_tasks()
    assert await tasks[0] == "theirs"
    with pytest.raises(TimeoutError):
        await runtime.wait_for(asyncio.Task(asyncio.sleep(3600), loop=loop), 0.001)


async def test_all_tasks_of_two_loops_in_two_threads() -> None:
    ready, finish = threading.Event(), threading.Event()
    seen: list[int] = []

    async def other() -> None:
        runtime.create_task(runtime.sleep(3600))
        await runtime.sleep(0)
        seen.append(len(runtime.all_tasks()))
        ready.set()
        await runtime.to_thread(finish.wait)

    thread = threading.Thread(target=lambda: runtime.run(other()))
    thread.start()
    await runtime.to_thread(ready.wait)
    assert len(runtime.all_tasks()) == len(asyncio.all_tasks()) == 1
    registered = getattr(asyncio.tasks, "_scheduled_tasks", None)
    if registered is None:
        registered = asyncio.tasks._all_tasks  # type: ignore[attr-defined]
    assert len(registered) >= 3
    assert runtime.current_task() in registered
    finish.set()
    await runtime.to_thread(thread.join)
    assert seen == [2]


async def test_ensure_future() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from runtime.sleep(0).__await__()
            return 1

    loop = runtime.get_running_loop()
    future = loop.create_future()
    assert runtime.ensure_future(future) is future
    assert runtime.ensure_future(future, loop=loop) is future
    assert await runtime.ensure_future(runtime.sleep(0, 2)) == 2
    assert await runtime.ensure_future(Awaitable(), loop=loop) == 1
    with pytest.raises(TypeError, match="awaitable"):
        runtime.ensure_future(3)  # type: ignore[call-overload]
    other = runtime.new_event_loop()
    with pytest.raises(ValueError, match="a different event loop"):
        runtime.ensure_future(future, loop=other)
    other.close()


async def test_wrap_future() -> None:
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        assert await runtime.wrap_future(executor.submit(int, "5")) == 5
        with pytest.raises(ZeroDivisionError):
            await runtime.wrap_future(executor.submit(divmod, 1, 0))
    theirs: concurrent.futures.Future[int] = concurrent.futures.Future()
    ours = runtime.wrap_future(theirs)
    assert runtime.wrap_future(ours) is ours
    ours.cancel()
    await runtime.sleep(0)
    assert theirs.cancelled()
    theirs = concurrent.futures.Future()
    ours = runtime.wrap_future(theirs)
    theirs.cancel()
    with pytest.raises(runtime.CancelledError):
        await ours
    for given, seen in (
        (concurrent.futures.CancelledError("c"), runtime.CancelledError),
        (concurrent.futures.InvalidStateError("i"), runtime.InvalidStateError),
    ):
        theirs = concurrent.futures.Future()
        ours = runtime.wrap_future(theirs)
        theirs.set_exception(given)
        with pytest.raises(seen):
            await ours
    theirs = concurrent.futures.Future()
    ours = runtime.wrap_future(theirs)
    theirs.set_running_or_notify_cancel()
    ours.cancel()
    theirs.set_result(1)
    await runtime.sleep(0.001)
    assert ours.cancelled()
    with pytest.raises(TypeError, match="concurrent"):
        runtime.wrap_future(1)  # type: ignore[arg-type]


def test_a_concurrent_future_that_ends_after_the_loop() -> None:
    loop = runtime.new_event_loop()
    theirs: concurrent.futures.Future[int] = concurrent.futures.Future()
    ours = follow_concurrent(theirs, loop)
    loop.close()
    theirs.set_result(1)
    assert not ours.done()


def test_run_coroutine_threadsafe() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    async def main() -> None:
        loop = runtime.get_running_loop()

        def in_a_thread() -> None:
            start = runtime.run_coroutine_threadsafe
            assert start(runtime.sleep(0.001, 5), loop).result(30) == 5
            with pytest.raises(ZeroDivisionError):
                start(fail(), loop).result(30)
            future = start(runtime.sleep(3600), loop)
            assert future.cancel()
            assert future.cancelled()
            started = threading.Event()

            async def wait() -> None:
                started.set()
                try:
                    await runtime.sleep(3600)
                except runtime.CancelledError:
                    ended.set()
                    raise

            waiting = start(wait(), loop)
            started.wait()
            waiting.cancel()
            ended.wait()

        ended = threading.Event()
        await runtime.to_thread(in_a_thread)
        with pytest.raises(TypeError, match="coroutine"):
            runtime.run_coroutine_threadsafe(1, loop)  # type: ignore[arg-type]
        cancelled = runtime.run_coroutine_threadsafe(cancel_myself(), loop)
        while not cancelled.done():
            await runtime.sleep(0)
        assert cancelled.cancelled()

    async def cancel_myself() -> None:
        raise runtime.CancelledError

    runtime.run(main())
    closed = runtime.new_event_loop()
    closed.close()
    coro: Any = runtime.sleep(0)
    with pytest.raises(RuntimeError, match="closed"):
        runtime.run_coroutine_threadsafe(coro, closed)
    assert coro.cr_frame is None


async def test_run_coroutine_threadsafe_when_no_task_can_be_made() -> None:
    loop = runtime.get_running_loop()

    def factory(*args: object, **options: object) -> None:
        raise ZeroDivisionError("no task")

    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.set_task_factory(factory)
    coro = runtime.sleep(0)
    future = runtime.run_coroutine_threadsafe(coro, loop)
    while not future.done():
        await runtime.sleep(0)
    loop.set_task_factory(None)
    coro.close()
    with pytest.raises(ZeroDivisionError):
        future.result()
    assert len(reports) == 1


def test_get_running_loop() -> None:
    with pytest.raises(RuntimeError, match="no running event loop"):
        runtime.get_running_loop()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="must be one of runtime's"):
            runtime.get_running_loop()

    asyncio.run(main())


async def test_our_futures_and_tasks_pass_for_asyncios() -> None:
    """Libraries such as tornado check isinstance(x, asyncio.Future)."""
    future: Any = runtime.get_running_loop().create_future()
    task: Any = runtime.create_task(asyncio.sleep(0))
    kinds = (asyncio.Future, asyncio.Task, runtime.Future, runtime.Task, Awaitable)
    assert [isinstance(future, kind) for kind in kinds] == [True, False, True, False, True]
    assert [isinstance(task, kind) for kind in kinds] == [True] * 5
    assert (type(future), type(task)) == (runtime.Future, runtime.Task)
    assert repr(future).startswith("<Future pending")
    assert asyncio.isfuture(future)
    assert asyncio.isfuture(task)
    await task


def test_cancelling_the_outer_future_cancels_the_inner_one_in_a_callback() -> None:
    """The order of the callbacks is asyncio's, and so is the destination of exceptions."""

    class Remote(concurrent.futures.Future[int]):
        def cancel(self) -> bool:
            calls.append("theirs")
            raise OSError("no connection to the computer")

    calls: list[str] = []
    reports: list[dict[str, Any]] = []

    async def main(wrap: Callable[[concurrent.futures.Future[int]], Any]) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        ours = wrap(Remote())
        ours.add_done_callback(lambda _: calls.append("ours"))
        task = asyncio.ensure_future(ours)
        assert task.cancel()
        calls.append("after")
        await all_tasks_blocked()
        assert ours.cancelled()

    for run, wrap in ((asyncio.run, asyncio.wrap_future), (runtime.run, runtime.wrap_future)):
        calls.clear()
        reports.clear()
        run(main(wrap))
        assert calls == ["after", "theirs", "ours"]
        assert [type(context["exception"]) for context in reports] == [OSError]


def test_cancelling_the_outer_future_when_the_loop_is_closed() -> None:
    theirs = concurrent.futures.Future[int]()

    async def main() -> runtime.Future[int]:
        return runtime.wrap_future(theirs)

    ours = runtime.run(main())
    assert ours.cancel()
    assert theirs.cancelled()
