"""Debug mode: futures, tasks and handles name the line of the program that created them."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import runtime


async def work() -> None:
    await runtime.sleep(0)


def nothing(*args: object) -> None: ...


async def in_a_group(kind: Callable[[], Any]) -> Any:
    async with kind() as group:
        return group.create_task(work())


MAKERS: dict[str, Callable[[Any], Any]] = {
    "create_task": lambda loop: runtime.create_task(work()),
    "asyncio.create_task": lambda loop: asyncio.create_task(work()),
    "Loop.create_task": lambda loop: loop.create_task(work()),
    "ensure_future": lambda loop: runtime.ensure_future(work()),
    "asyncio.ensure_future": lambda loop: asyncio.ensure_future(work()),
    "gather": lambda loop: runtime.gather(work()),
    "shield": lambda loop: runtime.shield(work()),
    "create_future": lambda loop: loop.create_future(),
    "call_soon": lambda loop: loop.call_soon(nothing),
    "call_later": lambda loop: loop.call_later(1, nothing),
    "call_at": lambda loop: loop.call_at(loop.time() + 1, nothing),
    "call_soon_threadsafe": lambda loop: loop.call_soon_threadsafe(nothing),
    "run_in_executor": lambda loop: loop.run_in_executor(None, nothing),
}


def place_of(made: Any) -> tuple[str, int]:
    frames = made._source_traceback
    return frames[-1].filename, frames[-1].lineno


@pytest.mark.parametrize("name", MAKERS)
@pytest.mark.runtime(debug=True)
async def test_it_is_the_line_that_called(name: str) -> None:
    maker = MAKERS[name]

    made = maker(runtime.get_running_loop())
    line = maker.__code__.co_firstlineno
    assert place_of(made) == (__file__, line)
    assert f"created at {__file__}:{line}" in repr(made)
    if asyncio.isfuture(made):
        made.cancel()
        await runtime.gather(made, return_exceptions=True)
    else:
        made.cancel()


@pytest.mark.parametrize("kind", [runtime.TaskGroup, asyncio.TaskGroup])
@pytest.mark.runtime(debug=True)
async def test_of_a_task_in_a_group_too(kind: Callable[[], Any]) -> None:
    task = await in_a_group(kind)
    assert place_of(task) == (__file__, in_a_group.__code__.co_firstlineno + 2)


def test_of_the_main_task_it_is_the_call_of_run() -> None:
    async def main() -> tuple[str, int]:
        return place_of(runtime.current_task())

    def start(run: Callable[..., Any]) -> None:
        assert run() == (__file__, run.__code__.co_firstlineno)

    start(lambda: runtime.run(main(), debug=True))
    with runtime.Runner(debug=True) as runner:
        start(lambda: runner.run(main()))
        start(lambda: runner.get_loop().run_until_complete(main()))


@pytest.mark.runtime(debug=True)
async def test_callbacks_of_the_loop_are_not_attributed_to_the_line_that_runs_it() -> None:
    tasks: list[Any] = []

    async def handle(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        tasks.append(runtime.current_task())
        writer.close()

    async with await runtime.start_server(handle, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await runtime.open_connection(*address[:2])
        await reader.read()
        writer.close()
    (task,) = tasks
    assert place_of(task)[0] != __file__


def test_of_the_reader_of_a_descriptor_and_the_handler_of_a_signal() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            for add in (loop.add_reader, loop.add_writer):
                handle = add(ours, nothing)
                assert place_of(handle) == (__file__, main.__code__.co_firstlineno + 5)
            loop.remove_reader(ours)
            loop.remove_writer(ours)

    runtime.run(main(), debug=True)


@pytest.fixture
def slow_reports(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return a function that returns the reports of slow callbacks so far."""
    caplog.set_level(logging.WARNING, "asyncio")
    return lambda: [
        record.getMessage()
        for record in caplog.records
        if record.getMessage().startswith("Executing")
    ]


def reports_of(
    start: Callable[[Any, Callable[..., None]], object],
) -> Coroutine[Any, Any, tuple[str, int]]:
    """Run a slow callback that cancels its handle; return the place where it was scheduled."""

    async def main() -> tuple[str, int]:
        loop = runtime.get_running_loop()
        loop.slow_callback_duration = 0.001
        made: list[Any] = []
        over = loop.create_future()

        def slow_one(*args: object) -> None:
            for handle in made:
                handle.cancel()
            loop.remove_reader(readable)
            time.sleep(0.002)
            loop.call_soon(over.set_result, None)

        readable, other = socket.socketpair()
        with readable, other:
            other.send(b"x")
            if start is read:
                made.append(loop.add_reader(readable, slow_one))
            else:
                made.append(start(loop, slow_one))
            await over
        return __file__, slow_one.__code__.co_firstlineno

    return main()


def read(loop: Any, slow: Callable[..., None]) -> None: ...


STARTS: list[Callable[[Any, Callable[..., None]], object]] = [
    lambda loop, slow: loop.call_soon(slow),
    lambda loop, slow: loop.call_later(0.001, slow, 1),
    lambda loop, slow: loop.call_soon_threadsafe(slow),
    read,
]


@pytest.mark.parametrize("start", STARTS, ids=["soon", "later", "threadsafe", "reader"])
def test_a_slow_callback_that_cancels_its_handle_is_reported_with_its_line(
    start: Callable[[Any, Callable[..., None]], object],
    slow_reports: Callable[[], list[str]],
) -> None:
    file, line = runtime.run(reports_of(start), debug=True)
    (report,) = [report for report in slow_reports() if "slow_one" in report]
    assert f"slow_one({'1' if 'when=' in report else ''}) at {file}:{line}" in report
    assert f"created at {file}:" in report
    assert " cancelled " in report


def test_a_slow_object_that_can_be_called_is_reported_with_its_line(
    slow_reports: Callable[[], list[str]],
) -> None:
    class Slow:
        def __repr__(self) -> str:
            return "an object"

        def __call__(self) -> None:
            time.sleep(0.002)

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.slow_callback_duration = 0.001
        loop.call_soon(Slow())
        await runtime.sleep(0)

    runtime.run(main(), debug=True)
    (report,) = [report for report in slow_reports() if "an object" in report]
    assert f"an object() at {__file__}:{Slow.__call__.__code__.co_firstlineno} " in report


def test_a_slow_callback_of_a_future_is_reported_with_the_line_that_finished_it(
    slow_reports: Callable[[], list[str]],
) -> None:
    def slow_one(future: object) -> None:
        time.sleep(0.002)

    async def main() -> None:
        loop = runtime.get_running_loop()
        loop.slow_callback_duration = 0.001
        future = loop.create_future()
        future.add_done_callback(slow_one)
        future.set_result(None)
        await runtime.sleep(0)

    runtime.run(main(), debug=True)
    (report,) = [report for report in slow_reports() if "slow_one" in report]
    assert f"at {__file__}:{slow_one.__code__.co_firstlineno}" in report
    assert f"created at {__file__}:{main.__code__.co_firstlineno + 5}" in report


def test_a_cancelled_handle_keeps_no_description_outside_debug_mode() -> None:
    async def main() -> None:
        loop = runtime.get_running_loop()
        for handle in (loop.call_soon(nothing), loop.call_later(1, nothing)):
            handle.cancel()
            assert "nothing" not in repr(handle)
            handle.cancel()

    runtime.run(main(), debug=False)


@pytest.mark.runtime(debug=True)
async def test_cancelling_twice_keeps_the_description() -> None:
    handle = runtime.get_running_loop().call_soon(nothing, 1)
    handle.cancel()
    handle.cancel()
    assert repr(handle).count("nothing(1)") == 1
    assert " cancelled " in repr(handle)


@pytest.mark.runtime(debug=True)
async def test_the_handle_of_a_signal_shows_its_line() -> None:
    loop = runtime.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, nothing)
    try:
        handle = loop._signal_handlers[signal.SIGUSR1].handle
        assert place_of(handle)[0] == __file__
    finally:
        loop.remove_signal_handler(signal.SIGUSR1)
