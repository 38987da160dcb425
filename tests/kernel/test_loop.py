"""The event loop: running, stopping, closing, debug mode, threads, forks."""

from __future__ import annotations

import asyncio
import concurrent.futures
import gc
import io
import logging
import os
import signal
import sys
import threading
import time
import warnings
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest

import runtime
from runtime.kernel.compat import registry
from runtime.testing import wait_all_tasks_blocked
from tests.support.programs import run_code


def test_run_forever_and_stop(loop: runtime.Loop) -> None:
    assert not loop.is_running()
    states: list[Any] = []
    loop.call_soon(lambda: states.append((loop.is_running(), asyncio.get_running_loop() is loop)))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert states == [(True, True)]
    assert not loop.is_running()
    loop.stop()
    loop.call_soon(states.append, "one turn")
    loop.run_forever()
    assert states[1:] == ["one turn"]
    assert "running=False closed=False debug=False" in repr(loop)


def test_run_until_complete(loop: runtime.Loop) -> None:
    assert loop.run_until_complete(runtime.sleep(0, 5)) == 5
    future = loop.create_future()
    loop.call_soon(future.set_result, 6)
    assert loop.run_until_complete(future) == 6
    assert loop.run_until_complete(future) == 6

    class Awaitable:
        def __await__(self) -> Any:
            yield from runtime.sleep(0).__await__()
            return 7

    assert loop.run_until_complete(Awaitable()) == 7
    with pytest.raises(TypeError, match="coroutine"):
        loop.run_until_complete(8)  # type: ignore[arg-type]
    other = runtime.new_event_loop()
    with pytest.raises(ValueError, match="a different event loop"):
        loop.run_until_complete(other.create_future())
    other.close()
    loop.call_soon(loop.stop)
    with pytest.raises(RuntimeError, match="stopped before"):
        loop.run_until_complete(loop.create_future())


def test_run_until_complete_raises_the_exception_of_the_task(loop: runtime.Loop) -> None:
    async def fail() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        loop.run_until_complete(fail())
    future = loop.create_future()
    future.cancel()
    with pytest.raises(runtime.CancelledError):
        loop.run_until_complete(future)


def test_the_exception_of_the_task_is_reported_if_another_one_leaves_the_loop(
    loop: runtime.Loop,
) -> None:
    def interrupt(_: object = None) -> None:
        raise KeyboardInterrupt

    async def before_the_loop_knows_it() -> None:
        loop.call_soon(interrupt)
        raise ZeroDivisionError

    async def when_the_loop_knows_it() -> None:
        task = runtime.current_task()
        assert task is not None
        task.add_done_callback(interrupt)
        raise ZeroDivisionError

    async def fail_with_it() -> None:
        raise KeyboardInterrupt

    async def succeed() -> None:
        loop.call_soon(interrupt)

    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context["exception"]))
    for main in (before_the_loop_knows_it, when_the_loop_knows_it, fail_with_it, succeed):
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(main())
    gc.collect()
    assert list(map(type, reports)) == [ZeroDivisionError, ZeroDivisionError]


def test_loops_do_not_nest(loop: runtime.Loop) -> None:
    other = runtime.new_event_loop()

    async def main() -> None:
        with pytest.raises(RuntimeError, match="already running"):
            loop.run_forever()
        with pytest.raises(RuntimeError, match="another loop is running"):
            other.run_forever()
        with pytest.raises(RuntimeError, match="running event loop"):
            loop.close()
        for run in (runtime.run, runtime.Runner().run):
            coro: Any = runtime.sleep(0)
            with pytest.raises(RuntimeError, match="running event loop"):
                run(coro)
            assert coro.cr_frame is None

    loop.run_until_complete(main())
    other.close()


def test_closing_reports_pending_tasks() -> None:
    loop = runtime.new_event_loop()
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    loop.set_debug(True)
    task = loop.create_task(runtime.sleep(3600), name="forgotten")
    quiet = loop.create_task(runtime.sleep(3600))
    quiet._log_destroy_pending = False
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    (report,) = reports
    assert report["message"] == "Task was destroyed but it is pending!"
    assert report["task"] is task
    assert report["source_traceback"][-1].filename == __file__


def test_an_unclosed_loop_warns() -> None:
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        runtime.new_event_loop()
        gc.collect()


def test_a_loop_goes_without_the_cycle_collector() -> None:
    async def main() -> None:
        await runtime.sleep(0.001)
        await runtime.to_thread(int)

    gc.collect()
    gc.disable()
    try:
        loop = runtime.new_event_loop()
        loop.run_until_complete(main())
        reference = weakref.ref(loop)
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    finally:
        gc.enable()
    del loop
    gc.collect()
    assert reference() is None


def test_task_factories(loop: runtime.Loop) -> None:
    calls: list[Any] = []

    def factory(given: Any, coro: Any, **options: Any) -> Any:
        calls.append(options)
        return runtime.Task(coro, loop=given, **options)

    assert loop.get_task_factory() is None
    loop.set_task_factory(factory)
    assert loop.get_task_factory() is factory
    with pytest.raises(TypeError, match="callable"):
        loop.set_task_factory(1)  # type: ignore[arg-type]

    async def main() -> None:
        task = runtime.create_task(runtime.sleep(0, 1), name="named", eager_start=True)
        assert task.get_name() == "named"
        assert await task == 1

    loop.run_until_complete(main())
    assert calls == [{}, {"name": "named", "eager_start": True}]


def test_executors(loop: runtime.Loop) -> None:
    async def main() -> None:
        assert await loop.run_in_executor(None, sum, [1, 2]) == 3
        with pytest.raises(ZeroDivisionError):
            await loop.run_in_executor(None, divmod, 1, 0)
        with concurrent.futures.ThreadPoolExecutor(1) as own:
            assert await loop.run_in_executor(own, threading.get_ident) != threading.get_ident()
            release = threading.Event()
            blocker = loop.run_in_executor(own, release.wait)
            queued = loop.run_in_executor(own, print, "never")
            queued.cancel()
            release.set()
            await blocker
        with pytest.raises(TypeError, match="ThreadPoolExecutor"):
            loop.set_default_executor(object())  # type: ignore[arg-type]
        loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(2, "mine"))
        name = await loop.run_in_executor(None, lambda: threading.current_thread().name)
        assert name.startswith("mine")
        await loop.shutdown_default_executor()
        with pytest.raises(RuntimeError, match="shut down"):
            await loop.run_in_executor(None, print)

    loop.run_until_complete(main())


def test_closing_lets_the_executor_go() -> None:
    loop = runtime.new_event_loop()
    loop.run_until_complete(loop.run_in_executor(None, int))
    loop.close()


def test_the_executor_has_so_long_to_end(loop: runtime.Loop) -> None:
    release = threading.Event()

    async def main() -> None:
        loop.run_in_executor(None, release.wait)
        with pytest.warns(RuntimeWarning, match="left to themselves"):
            await loop.shutdown_default_executor(0.01)

    loop.run_until_complete(main())
    release.set()


def test_a_cancelled_shutdown_of_the_executor(loop: runtime.Loop) -> None:
    release = threading.Event()

    async def main() -> None:
        loop.run_in_executor(None, release.wait)
        task = runtime.create_task(loop.shutdown_default_executor(60))
        await runtime.sleep(0)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task

    loop.run_until_complete(main())
    release.set()


@pytest.mark.parametrize("late", [False, True])
def test_a_shutdown_of_the_executor_that_is_cancelled_at_the_timeout(
    late: bool,
) -> None:
    release = threading.Event()
    now = 0.0
    loop = runtime.Loop(clock=lambda: now)

    async def main() -> None:
        nonlocal now
        loop.run_in_executor(None, release.wait)
        task = runtime.create_task(loop.shutdown_default_executor(60))
        await runtime.sleep(0)
        now = 60.0  # It is due, and has not been noticed yet.
        if late:
            await runtime.sleep(0)
        task.cancel()
        with pytest.raises(runtime.CancelledError):
            await task

    try:
        loop.run_until_complete(main())
    finally:
        release.set()
        loop.close()


def test_asynchronous_generators_are_closed(loop: runtime.Loop) -> None:
    closed: list[str] = []

    async def generate(name: str) -> AsyncGenerator[int, None]:
        try:
            yield 1
            yield 2
        finally:
            await runtime.sleep(0)
            closed.append(name)
            if name == "failing":
                raise ZeroDivisionError(name)

    async def main() -> None:
        kept.append(generate("kept"))
        kept.append(generate("failing"))
        for generator in kept:
            assert await anext(generator) == 1
        dropped = generate("dropped")
        await anext(dropped)
        del dropped
        gc.collect()
        await wait_all_tasks_blocked()
        assert closed == ["dropped"]

    kept: list[AsyncGenerator[int, None]] = []
    reports: list[Any] = []
    loop.set_exception_handler(lambda _, context: reports.append(context))
    outer = sys.get_asyncgen_hooks()
    loop.run_until_complete(main())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert sorted(closed) == ["dropped", "failing", "kept"]
    assert str(reports[0]["exception"]) == "failing"
    assert reports[0]["asyncgen"] in kept
    assert sys.get_asyncgen_hooks() == outer

    async def late() -> None:
        generator = generate("late")
        with pytest.warns(ResourceWarning, match="was started after"):
            await anext(generator)
        await generator.aclose()

    loop.run_until_complete(late())


def test_generators_of_a_loop_that_never_ran(loop: runtime.Loop) -> None:
    assert not loop._async_generators().has_unfinished()
    loop.run_until_complete(loop.shutdown_asyncgens())


def test_debug_mode_reports_slow_steps(
    loop: runtime.Loop, caplog: pytest.LogCaptureFixture
) -> None:
    async def slow() -> None:
        time.sleep(0.02)
        await runtime.sleep(0)  # the loop stops here

    loop.set_debug(True)
    assert loop.get_debug()
    loop.slow_callback_duration = 0.01
    task = loop.create_task(slow(), name="the slow one")
    loop.call_soon(time.sleep, 0.02)
    loop.run_until_complete(task)
    texts = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert any("the slow one" in text and f"{__file__}:" in text for text in texts)
    assert any("<Handle sleep(0.02)" in text for text in texts)
    assert all("took 0.0" in text for text in texts)


def test_debug_mode_can_be_turned_on_and_off_while_running(loop: runtime.Loop) -> None:
    async def main() -> None:
        for enabled in (True, False, True, False):
            loop.set_debug(enabled)
            for _ in range(3):
                await runtime.sleep(0)

    loop.run_until_complete(main())


def test_the_watch_for_slow_callbacks(loop: runtime.Loop, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        loop.watch_slow_callbacks(0.01)
        await runtime.sleep(0.05)
        assert caplog.records == []
        deadline = time.monotonic() + 30
        while not caplog.records and time.monotonic() < deadline:
            time.sleep(0.01)  # the report names this line
        loop.watch_slow_callbacks(None)

    with caplog.at_level(logging.WARNING):
        loop.run_until_complete(main())
    (record,) = caplog.records
    assert "stuck" in record.getMessage()
    assert "the report names this line" in record.getMessage()
    with pytest.raises(ValueError, match="positive"):
        loop.watch_slow_callbacks(0)


def test_a_replaced_clock() -> None:
    now = 1000.0

    def clock() -> float:
        return now

    loop = runtime.Loop(clock=clock)
    calls: list[str] = []
    assert loop.time() == 1000.0
    loop.call_later(5, calls.append, "five")
    loop.call_at(1003, calls.append, "three")
    for moment in (1002.0, 1004.0, 1006.0):
        now = moment
        loop.call_soon(loop.stop)
        loop.run_forever()
        calls.append(str(moment))
    loop.close()
    assert calls == ["1002.0", "three", "1004.0", "five", "1006.0"]


FORK = """
import os, sys, runtime
async def main():
    loop = runtime.get_running_loop()
    loop.call_soon(lambda: os.write(1, b"ran %d\\n" % (os.getpid() == parent)))
    child = os.fork()
    if child == 0:
        try:
            runtime.get_running_loop()
        except RuntimeError as error:
            os.write(1, b"child: no running loop\\n")
        try:
            loop.call_soon(print)
        except RuntimeError as error:
            os.write(1, b"child: " + str(error).encode()[:51] + b"\\n")
    else:
        _, status = os.waitpid(child, 0)
        await runtime.sleep(0.01)
        os.write(1, b"parent: %d\\n" % os.waitstatus_to_exitcode(status))
parent = os.getpid()
try:
    runtime.run(main())
except RuntimeError as error:
    os.write(1, b"child ends: " + str(error).encode()[:40] + b"\\n")
    os._exit(3)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_while_running() -> None:
    result = run_code(FORK)
    assert result.stdout.splitlines() == [
        "child: no running loop",
        "child: this event loop was running when its process forked",
        "child ends: this event loop was running when its pro",
        "ran 1",
        "parent: 3",
    ], result.stderr


def test_a_fork_while_nothing_runs() -> None:
    loop = runtime.new_event_loop()
    registry._note_fork()
    assert loop.run_until_complete(runtime.sleep(0, 1)) == 1
    loop.close()


def test_debug_mode_follows_the_interpreter() -> None:
    code = "import runtime; loop = runtime.Loop(); print(loop.get_debug()); loop.close()"
    assert run_code("import sys; sys.flags; " + code).stdout in ("False\n", "True\n")
    os.environ["PYTHONASYNCIODEBUG"] = "1"
    try:
        assert run_code(code).stdout == "True\n"
    finally:
        del os.environ["PYTHONASYNCIODEBUG"]


def test_a_loop_in_another_thread() -> None:
    results: list[Any] = []

    def in_a_thread() -> None:
        results.append(runtime.run(runtime.sleep(0.001, "there")))

    thread = threading.Thread(target=in_a_thread)
    thread.start()
    thread.join()
    assert results == ["there"]


def test_asyncio_runs_it() -> None:
    async def main() -> str:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, runtime.Loop)
        assert isinstance(loop, asyncio.AbstractEventLoop)
        await asyncio.sleep(0)
        return "asyncio"

    with asyncio.Runner(loop_factory=runtime.Loop) as runner:
        assert runner.run(main()) == "asyncio"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop(None)


def test_no_wake_up_is_lost_while_another_is_read() -> None:
    """A thread may call while the loop reads the byte that an earlier call wrote."""

    class Receiver(io.FileIO):
        def fileno(self) -> int:
            in_thread(loop.call_soon_threadsafe, called.append, 1).join()
            return super().fileno()

    called: list[int] = []

    def in_thread(function: Callable[..., object], *args: object) -> threading.Thread:
        thread = threading.Thread(target=function, args=args)
        thread.start()
        return thread

    def wake_when_asleep(future: runtime.Future[None]) -> None:
        while not loop._waiting:
            time.sleep(0)
        loop.call_soon_threadsafe(future.set_result, None)

    async def main() -> None:
        for _ in range(2):
            future: runtime.Future[None] = loop.create_future()
            thread = in_thread(wake_when_asleep, future)
            async with runtime.timeout(10):
                await future
            thread.join()

    loop = runtime.new_event_loop()
    with Receiver(os.dup(loop._wake_receiver.fileno())) as receiver:
        original, loop._wake_receiver = loop._wake_receiver, receiver
        try:
            loop.run_until_complete(main())
        finally:
            loop._wake_receiver = original
            loop.close()
    assert len(called) >= 2


def test_the_pipe_for_wake_ups_always_has_a_reader() -> None:
    """Otherwise SIGPIPE would end a program without Python's handler for it.

    A thread may have queued its call before the loop is closed, and wake the loop meanwhile.
    """

    class Receiver(io.FileIO):
        def close(self) -> None:
            can_be_written_to.append(not loop._wake_sender.closed)
            super().close()

    can_be_written_to: list[bool] = []
    loop = runtime.new_event_loop()
    loop._wake_receiver.close()
    loop._wake_receiver = Receiver(os.dup(loop._wake_sender.fileno()))
    loop.close()
    assert not any(can_be_written_to)
    assert can_be_written_to


def test_a_wake_up_descriptor_that_was_closed_during_a_run() -> None:
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)

    async def close() -> str:
        os.close(write_end)
        return "closed"

    before = signal.set_wakeup_fd(write_end)
    try:
        assert runtime.run(close()) == "closed"
        assert signal.set_wakeup_fd(-1) == -1
    finally:
        signal.set_wakeup_fd(before)
        os.close(read_end)
