"""The report of a DeadlockError: every task, the line where it waits, and the awaited object."""

from __future__ import annotations

import asyncio
import concurrent.futures
import io
import signal
import threading
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator
from typing import Any, NoReturn

import pytest

import runtime
import runtime.testing
from runtime.testing import run


async def wait_for_a_future() -> None:
    await runtime.get_running_loop().create_future()


async def wait_for_a_lock() -> None:
    lock = runtime.Lock()
    await lock.acquire()
    async with lock:
        pass


async def acquire_a_lock() -> None:
    lock = runtime.Lock()
    await lock.acquire()
    await lock.acquire()


async def wait_for_an_event() -> None:
    await runtime.Event().wait()


async def wait_for_a_condition() -> None:
    async with (condition := runtime.Condition()):
        await condition.wait()


async def wait_for_a_semaphore() -> None:
    await runtime.Semaphore(0).acquire()


async def wait_at_a_barrier() -> None:
    await runtime.Barrier(2).wait()


async def get_from_a_queue() -> None:
    await runtime.Queue[int]().get()


async def put_into_a_queue() -> None:
    queue: runtime.Queue[int] = runtime.Queue(1)
    await queue.put(1)
    await queue.put(2)


async def wait_for_a_queue_within_a_limit() -> None:
    await runtime.wait_for(runtime.Queue[int]().get(), None)


async def wait_for_a_task() -> None:
    await runtime.create_task(wait_for_an_event(), name="the other one")


async def gather() -> None:
    tasks = [runtime.create_task(wait_for_an_event(), name=name) for name in ("first", "second")]
    await runtime.gather(*tasks, tasks[0])


async def wait_for_a_group() -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(wait_for_an_event())


async def wait_for_several() -> None:
    names = ["first", "second", "third"]
    await runtime.wait([runtime.create_task(wait_for_an_event(), name=name) for name in names])


async def wait_for_the_next_of_several() -> None:
    async for _ in runtime.as_completed([runtime.create_task(wait_for_an_event(), name="next")]):
        pass


async def cancel_a_task_that_never_ends() -> None:
    async def clean_up_for_ever() -> None:
        try:
            await runtime.Event().wait()
        finally:
            await runtime.Event().wait()

    task = runtime.create_task(clean_up_for_ever(), name="stubborn")
    await runtime.sleep(0)
    await runtime.wait_for(task, 0)


async def suspend() -> None:
    def arm_nothing(resume: runtime.Resume[int]) -> None: ...

    await runtime.suspend(arm_nothing)


async def shield() -> None:
    await runtime.shield(wait_for_an_event())


async def wait_with_asyncio() -> None:
    await asyncio.Event().wait()


async def wait_for_a_future_of_asyncio() -> None:
    loop: Any = runtime.get_running_loop()
    await asyncio.Future(loop=loop)


async def wait_in_a_generator() -> None:
    async def generate() -> AsyncGenerator[None, None]:
        await runtime.Event().wait()
        yield

    async for _ in generate():
        pass


async def wait_for_the_end_of_a_generator() -> None:
    async def generate() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await runtime.Event().wait()

    generator = generate()
    await anext(generator, None)
    await generator.aclose()


async def wait_behind_a_method_await() -> None:
    class Awaitable:
        def __await__(self) -> Generator[Any, Any, None]:
            return wait_for_an_event().__await__()

    await Awaitable()


WAITS: list[tuple[Callable[[], Awaitable[None]], str]] = [
    (wait_for_a_future, "<Future pending"),
    (wait_for_a_lock, "Lock.__aenter__()"),
    (acquire_a_lock, "[locked, waiters:1]>, in Lock.acquire()"),
    (wait_for_an_event, "[unset, waiters:1]>, in Event.wait()"),
    (wait_for_a_condition, "Condition.wait()"),
    (wait_for_a_semaphore, "in Semaphore.acquire()"),
    (wait_at_a_barrier, "in Barrier.wait()"),
    (get_from_a_queue, "getters=1>, in Queue.get()"),
    (put_into_a_queue, "putters=1"),
    (wait_for_a_queue_within_a_limit, "getters=1>, in Queue.get()"),
    (wait_for_a_task, "<Task pending name='the other one'"),
    (gather, "<Gathering pending unfinished=2: first, second"),
    (wait_for_a_group, "<TaskGroup tasks=1 entered>, in TaskGroup.__aexit__()"),
    (wait_for_several, "<ALL_COMPLETED of first, second, third>, in wait()"),
    (wait_for_the_next_of_several, "<AsCompleted of next>, in AsCompleted.__anext__()"),
    (cancel_a_task_that_never_ends, "<ALL_COMPLETED of stubborn>, in wait_for()"),
    (suspend, "arm_nothing() at"),
    (shield, "<Future pending"),
    (wait_in_a_generator, "[unset, waiters:1]>, in Event.wait()"),
    (wait_for_the_end_of_a_generator, "[unset, waiters:1]>, in Event.wait()"),
    (wait_behind_a_method_await, "[unset, waiters:1]>, in Event.wait()"),
    (wait_with_asyncio, "in Event.wait()"),
    (wait_for_a_future_of_asyncio, "<Future pending"),
]


@pytest.mark.parametrize(("wait", "words"), WAITS)
def test_it_names_the_line_and_the_awaited_object(
    wait: Callable[[], Awaitable[None]], words: str
) -> None:
    async def main() -> None:
        task = runtime.current_task()
        assert task is not None
        task.set_name("waiting")
        await wait()

    with pytest.raises(runtime.DeadlockError) as caught:
        run(main())
    report = str(caught.value)
    own = report[report.index("\n  waiting: ") :].split("\n  ")[2:]
    place = f"in {wait.__name__}() at {__file__}:"
    (line,) = [line for line in own if place in line]
    code: Any = wait.__code__
    first, last = code.co_firstlineno, max(line for *_, line in code.co_lines() if line)
    assert first < int(line.rpartition(":")[2]) <= last
    waits_for = next(line for line in own if "waits for" in line)
    assert words in waits_for


def test_the_line_in_an_asynchronous_generator_is_shown() -> None:
    """Every other display of a task names the line too: its repr, its stack, its call graph."""

    async def generate() -> AsyncGenerator[None, None]:
        try:
            yield
        finally:
            await runtime.Event().wait()

    shown: list[str] = []

    async def main() -> None:
        generator = generate()
        await anext(generator)
        closing: Any = generator.aclose()
        task = runtime.create_task(closing, name="closing")
        await runtime.sleep(0)
        printed = io.StringIO()
        task.print_stack(file=printed)
        shown.extend([repr(task), printed.getvalue(), runtime.format_call_graph(task)])
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError) as caught:
        run(main())
    line = generate.__code__.co_firstlineno + 4
    in_repr, in_stack, in_graph = shown
    assert f"generate() running at {__file__}:{line}" in in_repr
    assert f'"{__file__}", line {line}, in generate' in in_stack
    assert f"'{__file__}', line {line}, in async generator" in in_graph
    report = str(caught.value).partition("  closing: ")[2]
    assert f"generate() running at {__file__}:{line}" in report.partition("\n")[0]
    assert f"in {generate.__qualname__}() at {__file__}:{line}" in report
    assert "Event object at" in report


def test_every_task_is_listed() -> None:
    async def main() -> None:
        async with runtime.TaskGroup() as group:
            for number in range(10):
                group.create_task(wait_for_an_event(), name=f"worker {number}")

    with pytest.raises(runtime.DeadlockError) as caught:
        run(main())
    assert len(caught.value.tasks) == 11
    for number in range(10):
        assert f"\n  worker {number}: wait_for_an_event()" in str(caught.value)


def test_tasks_of_other_classes_are_found_too() -> None:
    async def main() -> None:
        await runtime.Event().wait()

    loop: Any = runtime.testing.new_event_loop()
    loop.set_task_factory(
        lambda loop, coro, **options: asyncio.Task(coro, loop=loop, name="theirs", **options)
    )
    task = loop.create_task(main())
    try:
        with pytest.raises(runtime.DeadlockError, match=r"theirs: .*main\(\)"):
            loop.run_until_complete(task)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            loop.run_until_complete(task)
    finally:
        loop.close()


def test_a_repr_that_fails_does_not_keep_the_report_from_coming() -> None:
    class Strange(runtime.Event):
        def __repr__(self) -> NoReturn:
            raise ZeroDivisionError

    async def main() -> None:
        await Strange().wait()

    with pytest.raises(runtime.DeadlockError, match=r"Strange object at .*, in Event\.wait\(\)"):
        run(main())


@pytest.mark.parametrize("debug", [False, True])
def test_idle_threads_of_the_executor_do_not_prevent_the_report(debug: bool) -> None:
    async def main() -> None:
        await runtime.to_thread(int)
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError):
        if debug:
            runtime.run(main(), debug=True)
        else:
            run(main())


def test_neither_does_the_watch_for_slow_callbacks() -> None:
    async def main() -> None:
        runtime.get_running_loop().watch_slow_callbacks(60)
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError):
        run(main())


@pytest.mark.parametrize("clock", ["real", "virtual"])
def test_an_ended_thread_does_not_prevent_the_report(clock: Any) -> None:
    async def main() -> None:
        threading.Timer(0.02, int).start()
        await runtime.Event().wait()

    with pytest.raises(runtime.DeadlockError):
        run(main(), clock=clock)


def test_an_executor_of_the_program_s_own_may_be_at_work_for_others() -> None:
    async def main() -> str:
        with concurrent.futures.ThreadPoolExecutor() as pool:
            loop = runtime.get_running_loop()
            loop.set_default_executor(pool)
            await runtime.to_thread(int)
            future: runtime.Future[str] = loop.create_future()
            release = threading.Event()

            def work() -> None:
                release.wait(60)
                loop.call_soon_threadsafe(future.set_result, "woken")

            pool.submit(work)
            pool.submit(release.set)
            return await future

    assert run(main(), clock="real") == "woken"


def test_a_signal_handler_of_the_program_may_still_wake_a_task() -> None:
    async def main() -> str:
        loop = runtime.get_running_loop()
        future: runtime.Future[str] = loop.create_future()

        def handle(number: int, frame: object) -> None:
            loop.call_soon_threadsafe(future.set_result, "woken")

        before = signal.signal(signal.SIGALRM, handle)
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        try:
            return await future
        finally:
            signal.signal(signal.SIGALRM, before)

    assert run(main(), clock="real") == "woken"


def test_the_tasks_are_cancelled_after_the_report() -> None:
    log: list[str] = []

    async def main() -> None:
        try:
            await runtime.Event().wait()
        finally:
            log.append("cleaned up")

    with pytest.raises(runtime.DeadlockError):
        run(main())
    assert log == ["cleaned up"]


def test_daemons_alone_are_no_deadlock() -> None:
    log: list[str] = []

    async def serve(queue: runtime.Queue[str]) -> None:
        while True:
            log.append(await queue.get())

    async def main() -> None:
        queue: runtime.Queue[str] = runtime.Queue()
        runtime.create_task(serve(queue), daemon=True)
        runtime.get_running_loop().call_later(5, queue.put_nowait, "job")

    run(main(), until="idle")
    assert log == ["job"]
