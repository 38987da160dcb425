"""``run`` and ``Runner``: start, end, and Ctrl-C."""

from __future__ import annotations

import asyncio
import contextvars
import signal
import threading
from collections.abc import AsyncGenerator
from typing import Any

import pytest

import runtime
from tests.support.programs import run_code


def test_run_returns_and_raises() -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    assert runtime.run(runtime.sleep(0, 5)) == 5
    with pytest.raises(ZeroDivisionError):
        runtime.run(fail())
    with pytest.raises(TypeError, match="coroutine"):
        runtime.run(1)  # type: ignore[arg-type]


def test_any_awaitable_will_do() -> None:
    class Awaitable:
        def __await__(self) -> Any:
            yield from runtime.sleep(0).__await__()
            return 6

    assert runtime.run(Awaitable()) == 6


def test_debug_and_loop_factory() -> None:
    made: list[runtime.Loop] = []

    def factory() -> runtime.Loop:
        made.append(runtime.new_event_loop())
        return made[-1]

    async def main() -> bool:
        loop = runtime.get_running_loop()
        assert loop is made[0]
        return loop.get_debug()

    assert runtime.run(main(), debug=True, loop_factory=factory)
    assert made[0].is_closed()

    def broken() -> runtime.Loop:
        raise ZeroDivisionError

    coro: Any = runtime.sleep(0)
    with pytest.raises(ZeroDivisionError):
        runtime.run(coro, loop_factory=broken)
    assert coro.cr_frame is None


@pytest.mark.parametrize("factory", [asyncio.new_event_loop, lambda: None])
def test_a_factory_of_other_loops_is_refused(factory: Any) -> None:
    made: list[Any] = []

    def remembering() -> Any:
        made.append(factory())
        return made[0]

    coro: Any = runtime.sleep(0)
    with pytest.raises(TypeError, match="loop_factory must return a loop of runtime"):
        runtime.run(coro, loop_factory=remembering)
    assert coro.cr_frame is None
    assert made[0] is None or made[0].is_closed()


def test_the_end_comes_in_order() -> None:
    events: list[str] = []

    async def generate() -> AsyncGenerator[int, None]:
        try:
            yield 1
        finally:
            events.append("generator closed")

    async def background() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            events.append("task cancelled")
            await runtime.sleep(0)
            events.append("task ended")
            raise

    async def main() -> None:
        runtime.create_task(background())
        generator = generate()
        kept.append(generator)
        await anext(generator)
        await runtime.to_thread(events.append, "thread")
        events.append("main ends")

    kept: list[Any] = []
    runtime.run(main())
    events.append("closed")
    assert events == [
        "thread",
        "main ends",
        "task cancelled",
        "task ended",
        "generator closed",
        "closed",
    ]


def test_errors_of_remaining_tasks_are_reported(caplog: pytest.LogCaptureFixture) -> None:
    async def background() -> None:
        try:
            await runtime.sleep(3600)
        finally:
            raise ZeroDivisionError("in the clean-up")

    async def stubborn() -> None:
        try:
            await runtime.sleep(3600)
        except runtime.CancelledError:
            await runtime.sleep(0)

    async def main() -> None:
        runtime.create_task(background())
        runtime.create_task(stubborn())
        await runtime.sleep(0)

    runtime.run(main())
    (record,) = caplog.records
    assert "unhandled exception during runtime.run() shutdown" in record.getMessage()
    assert "in the clean-up" in str(record.exc_info and record.exc_info[1])


@pytest.mark.parametrize("until", ["done", "idle"])
@pytest.mark.parametrize("early", [True, False])
def test_the_exception_of_main_is_reported_if_another_one_ends_the_run(
    early: bool, until: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def end(_: object = None) -> None:
        raise SystemExit(3)

    async def main() -> None:
        if early:
            runtime.get_running_loop().call_soon(end)
        else:  # The loop has taken note that the task is done.
            task = runtime.current_task()
            assert task is not None
            task.add_done_callback(end)
        raise ZeroDivisionError("in main")

    with pytest.raises(SystemExit, match="3"):
        runtime.run(main(), until=until)
    (record,) = caplog.records
    assert "The main task failed; that is not raised, because SystemExit(3) ends the run" in (
        record.getMessage()
    )
    assert "in main" in str(record.exc_info and record.exc_info[1])


def test_a_runner_runs_several_in_one_context() -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=0)

    async def add() -> int:
        variable.set(variable.get() + 1)
        return variable.get()

    with runtime.Runner() as runner:
        assert runner.get_loop() is runner.get_loop()
        assert [runner.run(add()) for _ in range(3)] == [1, 2, 3]
        assert runner.run(add(), context=contextvars.Context()) == 1
        with pytest.raises(TypeError, match="awaitable"):
            runner.run(5)  # type: ignore[arg-type]
    assert variable.get() == 0
    runner.close()
    coro: Any = add()
    with pytest.raises(RuntimeError, match="closed"):
        runner.run(coro)
    assert coro.cr_frame is None
    runtime.Runner().close()


def test_the_signal_handler_is_put_back() -> None:
    before = signal.getsignal(signal.SIGINT)

    async def main() -> Any:
        return signal.getsignal(signal.SIGINT)

    if before is signal.default_int_handler:
        assert runtime.run(main()) is not before
    assert signal.getsignal(signal.SIGINT) is before


def test_a_handler_of_the_users_own_is_left_alone() -> None:
    def handler(*args: object) -> None: ...

    async def main() -> None:
        assert signal.getsignal(signal.SIGINT) is handler

    before = signal.signal(signal.SIGINT, handler)
    try:
        runtime.run(main())
    finally:
        signal.signal(signal.SIGINT, before)


def test_in_another_thread_there_are_no_signals() -> None:
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(runtime.run(runtime.sleep(0, 1))))
    thread.start()
    thread.join()
    assert results == [1]


INTERRUPTED = """
import os, runtime, signal, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)

def interrupt_after(seconds):
    threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGINT)).start()

async def main():
    try:
        interrupt_after(0.05)
        await runtime.sleep(60)
    except runtime.CancelledError:
        print("cancelled", flush=True)
        {clean_up}
        print("cleaned up", flush=True)
        raise

try:
    print(runtime.run(main()))
except KeyboardInterrupt:
    print("KeyboardInterrupt")
"""


def test_the_first_interrupt_cancels_main() -> None:
    result = run_code(INTERRUPTED.format(clean_up="await runtime.sleep(0.01)"))
    assert result.stdout.split("\n")[:3] == ["cancelled", "cleaned up", "KeyboardInterrupt"]
    assert result.returncode == 0, result.stderr


def test_the_second_interrupt_comes_at_once() -> None:
    clean_up = "interrupt_after(0.05); time.sleep(60)"
    result = run_code(INTERRUPTED.format(clean_up=clean_up))
    assert result.stdout.split("\n")[:2] == ["cancelled", "KeyboardInterrupt"]


def test_main_may_refuse_to_end() -> None:
    result = run_code(INTERRUPTED.format(clean_up="return 'refused'"))
    assert result.stdout.split("\n")[:2] == ["cancelled", "refused"]


def test_an_interrupt_that_main_turns_into_its_own_cancellation() -> None:
    clean_up = "raise runtime.CancelledError('of my own')"
    result = run_code(INTERRUPTED.format(clean_up=clean_up))
    assert result.stdout.split("\n")[:2] == ["cancelled", "KeyboardInterrupt"]


def test_a_main_that_is_cancelled_without_an_interrupt() -> None:
    async def main() -> None:
        task = runtime.current_task()
        assert task is not None
        task.cancel()
        await runtime.sleep(0)

    with pytest.raises(runtime.CancelledError):
        runtime.run(main())
