"""Functions of asyncio and runtime in one task tree, each inside the other, at any depth."""

from __future__ import annotations

import asyncio
import contextvars
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime

STYLES: dict[str, Any] = {"asyncio": asyncio, "runtime": runtime}
PAIRS = [(outer, inner) for outer in STYLES for inner in STYLES]


@pytest.fixture(params=PAIRS, ids=[f"{outer}'s in {inner}'s" for outer, inner in PAIRS])
def styles(request: pytest.FixtureRequest) -> tuple[Any, Any]:
    """Return an outer and an inner API, each asyncio or runtime."""
    outer, inner = request.param
    return STYLES[outer], STYLES[inner]


@pytest.fixture(params=["runtime.run", "asyncio.Runner"])
def run(request: pytest.FixtureRequest) -> Callable[[Coroutine[Any, Any, Any]], Any]:
    if request.param == "runtime.run":
        return runtime.run

    def under_asyncio_s_runner(main: Coroutine[Any, Any, Any]) -> Any:
        with asyncio.Runner(loop_factory=runtime.Loop) as runner:
            return runner.run(main)

    return under_asyncio_s_runner


Styles = tuple[Any, Any]
Run = Callable[[Coroutine[Any, Any, Any]], Any]


def test_a_group_in_a_timeout_in_a_gather(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def branch(number: int) -> list[int]:
        async with outer.timeout(60), inner.TaskGroup() as group:
            tasks = [group.create_task(inner.sleep(0, number + each)) for each in range(3)]
        return [task.result() for task in tasks]

    async def main() -> None:
        found = await outer.gather(branch(0), inner.gather(branch(10), branch(20)))
        assert found == [[0, 1, 2], [[10, 11, 12], [20, 21, 22]]]

    run(main())


def test_a_timeout_cancels_a_wait_of_the_other_api_once(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        seen: list[str] = []

        async def leaf() -> None:
            try:
                await inner.sleep(3600)
            except asyncio.CancelledError:
                seen.append("cancelled")
                raise

        with pytest.raises(TimeoutError):
            async with outer.timeout(0.001), inner.TaskGroup() as group:
                group.create_task(leaf())
                group.create_task(leaf())
        assert seen == ["cancelled", "cancelled"]
        assert task.cancelling() == 0
        await inner.sleep(0)

    run(main())


def test_a_group_that_fails_in_a_group_of_the_other_style(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def fail() -> None:
        raise LookupError("of the branch")

    async def branch() -> None:
        async with inner.TaskGroup() as group:
            group.create_task(inner.sleep(3600))
            group.create_task(fail())

    async def main() -> None:
        task = asyncio.current_task()
        assert task is not None
        with pytest.raises(ExceptionGroup) as raised:
            async with outer.TaskGroup() as group:
                sibling = group.create_task(outer.sleep(3600))
                group.create_task(branch())
        assert sibling.cancelled()
        inner_group = raised.value.exceptions[0]
        assert isinstance(inner_group, ExceptionGroup)
        assert isinstance(inner_group.exceptions[0], LookupError)
        if outer is runtime or sys.version_info >= (3, 13):
            # Before Python 3.13, asyncio's group forgets its own cancellation request.
            assert task.cancelling() == 0

    run(main())


def test_a_cancellation_from_outside_is_counted_once_and_can_be_taken_back(
    styles: Styles, run: Run
) -> None:
    outer, inner = styles

    async def stubborn() -> tuple[int, int]:
        try:
            async with outer.timeout(3600), inner.TaskGroup() as group:
                group.create_task(outer.sleep(3600))
        except asyncio.CancelledError:
            pass
        task = asyncio.current_task()
        assert task is not None
        before = task.cancelling()
        left = task.uncancel()
        # the outer timeout is not disturbed by a cancellation that was taken back
        async with outer.timeout(60):
            await inner.sleep(0)
        return before, left

    async def main() -> None:
        task = asyncio.create_task(stubborn())
        await outer.sleep(0)
        await inner.sleep(0)
        assert task.cancel()
        assert await task == (1, 0)

    run(main())


def test_a_timeout_inside_a_timeout_of_the_other_style(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        async with outer.timeout(3600) as long:
            with pytest.raises(TimeoutError):
                async with inner.timeout(0.001):
                    await outer.sleep(3600)
            await inner.sleep(0)
        assert not long.expired()
        with pytest.raises(TimeoutError):
            async with outer.timeout(0.001), inner.timeout(3600) as never:
                await inner.sleep(3600)
        assert not never.expired()

    run(main())


def test_wait_for_and_shield(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def work(gate: asyncio.Event, done: list[str]) -> str:
        await gate.wait()
        done.append("done")
        return "result"

    async def main() -> None:
        gate, done = asyncio.Event(), list[str]()
        task = inner.create_task(work(gate, done))
        with pytest.raises(TimeoutError):
            await outer.wait_for(inner.shield(task), 0.001)
        assert not done
        gate.set()
        assert await outer.shield(task) == "result"
        assert await inner.wait_for(outer.shield(task), 60) == "result"
        assert (
            await outer.wait_for(inner.gather(work(gate, done), work(gate, done)), 60)
            == ["result"] * 2
        )

    run(main())


def test_wait_and_as_completed_take_the_other_s_futures(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        tasks = [inner.create_task(outer.sleep(0, number)) for number in range(3)]
        finished, pending = await outer.wait(tasks)
        assert finished == set(tasks)
        assert not pending
        again = [inner.create_task(outer.sleep(0, number)) for number in range(3)]
        found = [await each for each in outer.as_completed(again)]
        assert sorted(found) == [0, 1, 2]
        for future in (asyncio.get_running_loop().create_future(), asyncio.Future()):
            asyncio.get_running_loop().call_soon(future.set_result, 5)
            assert await outer.gather(inner.shield(future)) == [5]

    run(main())


def test_locks_queues_and_barriers(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        lock, event, condition = outer.Lock(), outer.Event(), outer.Condition()
        semaphore, queue, barrier = outer.Semaphore(2), outer.Queue(1), outer.Barrier(3)
        got: list[int] = []
        held = 0

        async def consumer() -> None:
            nonlocal held
            await event.wait()
            await barrier.wait()
            async with semaphore, lock:
                assert held == 0
                held += 1
                await inner.sleep(0)
                held -= 1
            got.append(await queue.get())
            queue.task_done()
            async with condition:
                condition.notify_all()

        async with inner.TaskGroup() as group:
            for _ in range(3):
                group.create_task(consumer())
            event.set()
            for number in range(3):
                await inner.wait_for(queue.put(number), 60)
            async with condition:
                await inner.wait_for(condition.wait_for(lambda: len(got) == 3), 60)
        await queue.join()
        assert sorted(got) == [0, 1, 2]

    run(main())


def test_a_waiter_for_the_other_s_primitive_can_be_cancelled(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        lock, queue = outer.Lock(), outer.Queue()
        async with lock:
            for wait in (lock.acquire, queue.get, outer.Event().wait):
                with pytest.raises(TimeoutError):
                    await inner.wait_for(wait(), 0.001)
                task = inner.create_task(wait())
                await inner.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task
        await lock.acquire()
        queue.put_nowait(1)
        assert await queue.get() == 1

    run(main())


def test_threads(styles: Styles, run: Run) -> None:
    outer, inner = styles
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="unset")

    async def main() -> None:
        variable.set("of the caller")
        assert await outer.to_thread(variable.get) == "of the caller"
        loop = asyncio.get_running_loop()

        def from_a_thread() -> tuple[int, int]:
            other = outer.run_coroutine_threadsafe(inner.sleep(0, threading.get_ident()), loop)
            return other.result(60), threading.get_ident()

        passed, own = await inner.to_thread(from_a_thread)
        assert passed == own != threading.get_ident()
        wrapped = outer.wrap_future(
            inner.run_coroutine_threadsafe(outer.sleep(0, 7), loop), loop=loop
        )
        assert await wrapped == 7

    run(main())


def test_context_variables_follow_through_both(styles: Styles, run: Run) -> None:
    outer, inner = styles
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")

    async def child(value: str) -> str:
        before = variable.get()
        variable.set(value)
        await inner.sleep(0)
        return before + variable.get()

    async def main() -> None:
        variable.set("a")
        assert await outer.gather(child("b"), inner.create_task(child("c"))) == ["ab", "ac"]
        assert variable.get() == "a"
        context = contextvars.copy_context()
        context.run(variable.set, "d")
        assert await inner.create_task(child("e"), context=context) == "de"
        assert context[variable] == "e"
        loop = asyncio.get_running_loop()
        seen = loop.create_future()
        loop.call_soon(lambda: seen.set_result(variable.get()), context=context)
        assert await outer.wait_for(seen, 60) == "e"

    run(main())


def test_an_asynchronous_generator_through_both(styles: Styles, run: Run) -> None:
    outer, inner = styles
    closed: list[str] = []

    async def numbers() -> Any:
        try:
            for number in range(5):
                await inner.sleep(0)
                yield number
        finally:
            await outer.sleep(0)
            closed.append("closed")

    async def main(generator: Any) -> None:
        async with outer.timeout(60):
            async for number in generator:
                if number == 2:
                    break
        assert not closed

    # The code that runs the loop finishes the generator at the end.
    generator = numbers()
    run(main(generator))
    assert closed == ["closed"]


def test_tasks_know_each_other(styles: Styles, run: Run) -> None:
    outer, inner = styles

    async def main() -> None:
        task = inner.create_task(inner.sleep(0), name="by name")
        assert {each.get_name() for each in outer.all_tasks()} >= {"by name"}
        assert outer.current_task() is inner.current_task()
        assert outer.isfuture(task)
        assert outer.ensure_future(task) is task
        await task

    run(main())
