"""The end of a run, which ends everything that was begun, and everything that begins meanwhile."""

from __future__ import annotations

import asyncio
import gc
import logging
import signal
import threading
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any

import pytest

import runtime
import runtime.testing
from runtime import ending
from tests.support.programs import interrupted, started_program

Main = Coroutine[Any, Any, Any]


def reports_of(main: Main) -> list[dict[str, Any]]:
    """Run ``main``; return the reports to the exception handler."""
    reports: list[dict[str, Any]] = []

    def make_loop() -> runtime.Loop:
        loop = runtime.new_event_loop()
        loop.set_exception_handler(lambda _, context: reports.append(context))
        return loop

    runtime.run(main, loop_factory=make_loop)
    return reports


# -- Asynchronous generators -----------------------------------------------------------------------


def run_and_shut_down(main: Main) -> None:
    """End the run as asyncio's runner does, which calls `shutdown_asyncgens` itself."""
    with asyncio.Runner(loop_factory=runtime.new_event_loop) as runner:
        runner.run(main)


RUNNERS = [runtime.run, run_and_shut_down]


@pytest.mark.parametrize("run", RUNNERS)
def test_generators_are_closed_at_the_same_time(run: Callable[[Main], None]) -> None:
    begun: list[int] = []
    all_began = asyncio.Event()

    async def generate(number: int) -> AsyncGenerator[int, None]:
        try:
            yield number
        finally:
            # Each generator waits for all the others.
            begun.append(number)
            if len(begun) == 3:
                all_began.set()
            await all_began.wait()
            begun.append(-number)

    async def main() -> None:
        for number in (1, 2, 3):
            generator = generate(number)
            kept.append(generator)
            await anext(generator)

    kept: list[Any] = []
    run(main())
    assert sorted(begun) == [-3, -2, -1, 1, 2, 3]


@pytest.mark.parametrize("run", RUNNERS)
def test_a_generator_closes_another_that_it_iterates_over(run: Callable[[Main], None]) -> None:
    events: list[str] = []

    async def inner() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            events.append("inner")

    async def outer() -> AsyncGenerator[int, None]:
        numbers = inner()
        try:
            async for number in numbers:
                yield number
        finally:
            await numbers.aclose()
            events.append("outer")

    async def main() -> None:
        kept.append(outer())
        await anext(kept[0])
        asyncio.get_running_loop().set_exception_handler(
            lambda _, context: events.append(f"{context}")
        )

    kept: list[Any] = []
    run(main())
    assert events == ["inner", "outer"]


@pytest.mark.parametrize("run", RUNNERS)
def test_the_generator_of_a_task_that_is_cancelled_cleans_up(run: Callable[[Main], None]) -> None:
    events: list[str] = []

    async def generate() -> AsyncGenerator[int, None]:
        try:
            while True:
                await asyncio.sleep(0)
                yield 1
        finally:
            for _ in range(3):
                await asyncio.sleep(0)
            events.append("generator")

    async def background() -> None:
        async for _ in generate():
            pass

    async def main() -> asyncio.Task[None]:
        task = asyncio.ensure_future(background())
        await asyncio.sleep(0.001)
        return task

    run(main())
    assert events == ["generator"]


def test_a_dropped_generator_that_is_being_closed_is_not_cancelled() -> None:
    events: list[str] = []

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            for _ in range(3):
                await runtime.sleep(0)
            events.append("generator")

    async def main() -> None:
        await anext(generate())
        await runtime.sleep(0)

    runtime.run(main())
    assert events == ["generator"]


def test_tasks_begun_by_the_clean_up_of_a_generator_are_ended() -> None:
    events: list[str] = []

    async def nested() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await runtime.sleep(0)
            events.append("nested generator")

    async def forever() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)
            events.append("task")

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            kept.append(runtime.create_task(forever()))
            kept.append(nested())
            await anext(kept[-1])

    async def main() -> None:
        kept.append(generate())
        await anext(kept[0])

    kept: list[Any] = []
    runtime.run(main())
    assert sorted(events) == ["nested generator", "task"]


def test_sys_exit_in_a_generator() -> None:
    events: list[str] = []

    async def leave() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            raise SystemExit(3)

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            await runtime.sleep(0)
            events.append("closed")

    async def main() -> None:
        for generator in (leave(), generate()):
            kept.append(generator)
            await anext(generator)

    kept: list[Any] = []
    with pytest.raises(SystemExit, match="3"):
        runtime.run(main())
    assert events == ["closed"]


# -- Tasks that begin while the run ends -----------------------------------------------------------


async def until_cancelled(events: list[str], name: str, on_end: Callable[[], object]) -> None:
    try:
        await runtime.sleep(3600)
    finally:
        on_end()
        await runtime.sleep(0)
        events.append(name)


def test_tasks_that_finally_blocks_start() -> None:
    events: list[str] = []

    def start(name: str, then: Callable[[], object]) -> runtime.Task[None]:
        task = runtime.create_task(until_cancelled(events, name, then))
        kept.append(task)
        return task

    async def main() -> None:
        start("first", lambda: start("second", lambda: kept[1].add_done_callback(then_third)))
        await runtime.sleep(0)

    def then_third(task: object) -> None:
        kept.append(eager := runtime.eager_task_factory)
        loop = runtime.get_running_loop()
        kept.append(eager(loop, until_cancelled(events, "third", lambda: None)))

    kept: list[Any] = []
    assert reports_of(main()) == []
    assert events[0] == "first"
    assert "Task was destroyed" not in str(events)


def test_a_callback_that_starts_a_task_in_the_last_turn() -> None:
    events: list[str] = []
    tasks: list[runtime.Task[None]] = []

    def start() -> None:
        tasks.append(runtime.create_task(until_cancelled(events, "late", lambda: None)))

    async def main() -> None:
        runtime.get_running_loop().call_soon(start)

    assert reports_of(main()) == []
    assert tasks[0].done()


def test_a_task_that_a_thread_starts_when_the_executor_is_joined() -> None:
    leave_thread = threading.Event()
    done: list[Any] = []

    def in_thread(loop: runtime.Loop) -> None:
        assert leave_thread.wait(60)
        done.append(asyncio.run_coroutine_threadsafe(runtime.sleep(3600), loop))

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.run_in_executor(None, in_thread, loop)
        kept.append(generate())
        await anext(kept[0])

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            leave_thread.set()

    kept: list[Any] = []
    assert reports_of(main()) == []
    assert done[0].cancelled()


def test_tasks_that_start_others_for_ever_are_named() -> None:
    started: list[runtime.Task[None]] = []

    async def again() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            await runtime.sleep(0)
            start()

    def start() -> None:
        started[:] = [runtime.create_task(again(), name="the one that goes on")]

    async def main() -> None:
        start()
        await runtime.sleep(0)

    messages = [report["message"] for report in reports_of(main())]
    assert "the one that goes on" in messages[0]
    assert messages[1:] == ["Task was destroyed but it is pending!"]


def test_stop_does_not_end_the_end() -> None:
    events: list[str] = []

    async def main() -> None:
        runtime.create_task(
            until_cancelled(events, "ended", runtime.get_running_loop().stop), name="stops"
        )
        await runtime.sleep(0)

    assert reports_of(main()) == []
    assert events == ["ended"]


def test_an_end_that_cannot_be_run_leaves_no_coroutine_unawaited(
    recwarn: pytest.WarningsRecorder,
) -> None:
    """As when an interrupt comes just before its first step."""

    def interrupt(*_: object, **__: object) -> Any:
        raise KeyboardInterrupt

    async def main() -> None:
        runtime.get_running_loop().set_task_factory(interrupt)

    with pytest.raises(KeyboardInterrupt):
        runtime.run(main())
    gc.collect()
    assert [str(warning.message) for warning in recwarn] == []


# -- Exceptions that end a program -----------------------------------------------------------------

FATAL = [SystemExit(3), KeyboardInterrupt()]


async def clean_up(events: list[str]) -> None:
    try:
        await runtime.sleep(3600)
    finally:
        await runtime.sleep(0)
        await runtime.sleep(0.001)
        events.append("cleaned up")


async def fail(error: BaseException) -> None:
    await runtime.sleep(0)
    raise error


async def in_a_group(events: list[str], error: BaseException) -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(clean_up(events))
        group.create_task(fail(error))


async def in_a_gather(events: list[str], error: BaseException) -> None:
    await runtime.gather(clean_up(events), fail(error), clean_up(events))


async def in_nested_groups(events: list[str], error: BaseException) -> None:
    async with runtime.TaskGroup() as group:
        group.create_task(clean_up(events))
        group.create_task(in_a_group(events, error))
        await clean_up(events)


async def in_asyncios_group(events: list[str], error: BaseException) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(clean_up(events))
        group.create_task(fail(error))


async def in_main(events: list[str], error: BaseException) -> None:
    kept = runtime.create_task(clean_up(events))
    await runtime.sleep(0)
    assert not kept.done()
    raise error


@pytest.mark.parametrize("error", FATAL, ids=["SystemExit", "KeyboardInterrupt"])
@pytest.mark.parametrize(
    ("main", "expected"),
    [
        (in_a_group, 1),
        (in_a_gather, 2),
        (in_nested_groups, 3),
        (in_asyncios_group, 1),
        (in_main, 1),
    ],
)
def test_the_others_clean_up(
    main: Callable[[list[str], BaseException], Main], expected: int, error: BaseException
) -> None:
    events: list[str] = []
    reports: list[Any] = []
    with pytest.raises(type(error)) as raised:
        reports += reports_of(main(events, error))
    assert raised.value is error
    assert len(events) == expected
    assert reports == []


def test_the_tasks_of_a_group_are_cancelled_once() -> None:
    events: list[str] = []

    async def group_in_the_background() -> None:
        async with runtime.TaskGroup() as group:
            group.create_task(clean_up(events))
            group.create_task(clean_up(events))

    async def main() -> runtime.Task[None]:
        task = runtime.create_task(group_in_the_background())
        await runtime.sleep(0)
        await runtime.sleep(0)
        return task

    runtime.run(main())
    assert events == ["cleaned up", "cleaned up"]


def test_a_second_fatal_exception_does_not_stop_the_rest() -> None:
    events: list[str] = []
    reports: list[Any] = []

    async def exit_too(status: int) -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise SystemExit(status)

    async def main() -> None:
        runtime.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        kept = [runtime.create_task(exit_too(status)) for status in (1, 2)]
        kept.append(runtime.create_task(clean_up(events)))
        await runtime.sleep(0)
        raise SystemExit(7)

    with pytest.raises(SystemExit, match="7"):
        runtime.run(main())
    assert events == ["cleaned up"]
    assert sorted(report["exception"].code for report in reports) == [1, 2]


@pytest.mark.parametrize("where", ["task", "callback"])
def test_ctrl_c_at_the_end_loses_no_exception_of_another_task(where: str) -> None:
    async def interrupt() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)
            if where == "task":
                signal.raise_signal(signal.SIGINT)
            runtime.get_running_loop().call_soon(signal.raise_signal, signal.SIGINT)
            await runtime.sleep(3600)

    async def fail_in_the_clean_up() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise ZeroDivisionError

    async def main() -> None:
        runtime.get_running_loop().set_exception_handler(lambda _, report: reports.append(report))
        for function in (interrupt, fail_in_the_clean_up):
            runtime.create_task(function())
        await runtime.sleep(0)

    reports: list[dict[str, Any]] = []
    with pytest.raises(KeyboardInterrupt):
        runtime.run(main())
    (error,) = [report["exception"] for report in reports if "exception" in report]
    assert isinstance(error, ZeroDivisionError)


def test_sys_exit_while_a_run_ends_is_raised_when_all_has_ended() -> None:
    events: list[str] = []

    async def leave() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise SystemExit(5)

    async def main() -> None:
        kept = [runtime.create_task(leave()), runtime.create_task(clean_up(events))]
        await runtime.sleep(0)
        del kept

    with pytest.raises(SystemExit, match="5"):
        runtime.run(main())
    assert events == ["cleaned up"]


# -- Tasks that refuse to end ----------------------------------------------------------------------


class Records(logging.Handler):
    """Keeps the messages of asyncio's logger, and signals each of them."""

    def __init__(self) -> None:
        super().__init__()
        self.messages: list[str] = []
        self.on_message: Callable[[], object] = lambda: None

    def emit(self, record: logging.LogRecord) -> None:
        if "the end of the run" in record.getMessage().lower():
            self.messages.append(record.getMessage())
            self.on_message()


@pytest.fixture
def records(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(ending.EndWatch, "patience", 0.01)
    records = Records()
    logging.getLogger("asyncio").addHandler(records)
    yield records
    logging.getLogger("asyncio").removeHandler(records)


async def refuse(reported: runtime.Event) -> None:
    while not reported.is_set():
        try:
            await reported.wait()
        except runtime.CancelledError:
            pass


@pytest.mark.parametrize("debug", [False, True])
@pytest.mark.parametrize("run", [runtime.run, runtime.testing.run])
def test_a_task_that_does_not_end_is_named(
    records: Records, run: Callable[..., None], debug: bool
) -> None:
    async def main() -> None:
        reported = runtime.Event()
        loop = runtime.get_running_loop()

        def on_message() -> None:
            loop.call_soon_threadsafe(reported.set)
            finished.set()

        records.on_message = on_message
        # In debug mode, and in tests, the run would be a deadlock if nothing could wake the task.
        kept.append(loop.run_in_executor(None, finished.wait, 60))
        kept.append(runtime.create_task(refuse(reported), name="the stubborn one"))
        await runtime.sleep(0)

    finished = threading.Event()
    kept: list[Any] = []
    run(main(), debug=debug)
    assert "waits for 1 task" in records.messages[0]
    assert "the stubborn one" in records.messages[0]
    assert "in refuse() at " in records.messages[0]


def test_a_task_that_keeps_the_loop_from_all_else_is_named(records: Records) -> None:
    reported = threading.Event()
    records.on_message = reported.set

    async def block() -> None:
        for _ in range(100):
            try:
                await runtime.sleep(0)
            except runtime.CancelledError:
                pass
        assert reported.wait(60)

    async def main() -> None:
        kept.append(runtime.create_task(block(), name="the blocking one"))
        await runtime.sleep(0)

    kept: list[Any] = []
    runtime.run(main())
    assert "the blocking one" in records.messages[0]
    assert "reported.wait(60)" in records.messages[0]


def test_a_call_in_the_executor_that_does_not_end_is_named(records: Records) -> None:
    reported = threading.Event()
    records.on_message = reported.set

    async def main() -> None:
        kept.append(runtime.get_running_loop().run_in_executor(None, reported.wait, 60))

    kept: list[Any] = []
    runtime.run(main())
    assert "of the loop's executor" in records.messages[0]


def test_tasks_that_end_soon_start_no_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        kept.append(runtime.create_task(clean_up_soon()))
        await runtime.sleep(0)

    async def clean_up_soon() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            await runtime.sleep(0)

    kept: list[Any] = []
    monkeypatch.setattr(threading, "Thread", None)
    runtime.run(main())
    assert kept[0].cancelled()


REFUSING = """
import runtime

async def refuse():
    while True:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            print("refused", flush=True)

async def clean_up():
    try:
        await runtime.sleep(3600)
    finally:
        await runtime.sleep(0.01)
        print("cleaned up", flush=True)

async def main():
    other = runtime.create_task({other}())
    await runtime.sleep(0)
    print("running", flush=True)
    {main}

try:
    runtime.run(main())
except KeyboardInterrupt:
    print("KeyboardInterrupt", flush=True)
"""


def interrupted_after(code: str, *expected: tuple[str, bool]) -> str:
    """Run a program that prints lines; press Ctrl-C after some of them; return the rest."""
    with started_program("-c", code) as process:
        assert process.stdout is not None
        for line, press in expected:
            assert process.stdout.readline() == f"{line}\n"
            if press:
                process.send_signal(signal.SIGINT)
        status, out, err = interrupted(process)
    assert status == 0, err
    return out


def test_the_second_ctrl_c_ends_a_main_that_refuses() -> None:
    code = REFUSING.format(other="clean_up", main="await refuse()")
    out = interrupted_after(code, ("running", True), ("refused", False))
    # The task may be cancelled again, before and after the other task cleans up.
    assert out.replace("refused\n", "") == "cleaned up\nKeyboardInterrupt\n"


def test_the_second_ctrl_c_ends_the_wait_for_other_tasks() -> None:
    code = REFUSING.format(other="refuse", main="await clean_up()")
    out = interrupted_after(code, ("running", True), ("cleaned up", False), ("refused", False))
    assert out == "KeyboardInterrupt\n"


def test_ctrl_c_ends_the_end_of_a_run() -> None:
    code = REFUSING.format(other="refuse", main="return")
    out = interrupted_after(code, ("running", False), ("refused", False))
    assert out == "KeyboardInterrupt\n"
