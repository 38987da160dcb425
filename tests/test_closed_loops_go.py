"""Closed loops, which are deallocated when they are dropped: there is no reference cycle.

Programs that run many loops, one for each test or request, would otherwise accumulate them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import signal
import socket
import time
import weakref
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Literal

import pytest

import runtime

pytestmark = pytest.mark.usefixtures("no_collector")

Main = Callable[[], Awaitable[object]]


async def nothing() -> None:
    """Do nothing."""


async def numbers() -> AsyncGenerator[int, None]:
    """Yield more numbers than any caller reads."""
    for number in range(10):
        yield number


async def tasks_and_timers() -> None:
    """Leave a task, a timer and a callback for the end of the run."""
    loop = runtime.get_running_loop()
    loop.call_later(1000, print)
    runtime.create_task(runtime.sleep_forever())
    async with runtime.timeout(50):
        await runtime.gather(nothing(), runtime.sleep(0))
    loop.call_soon(int)


async def threads() -> None:
    """Use both pools of threads."""
    await runtime.to_thread(int)
    await runtime.get_running_loop().getaddrinfo("localhost", 80)
    await runtime.get_running_loop().shutdown_default_executor()


async def generators() -> None:
    """Drop a generator that has begun, and leave another one unfinished."""
    async for _ in numbers():
        break
    await anext(numbers())


async def descriptors() -> None:
    """Watch descriptors, and keep watching one of them."""
    loop = runtime.get_running_loop()
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        loop.add_writer(left, print)
        loop.remove_writer(left)
        await loop.sock_sendall(left, b"some")
        loop.add_reader(right, lambda: loop.remove_reader(right))
        await runtime.sleep(0)
        await runtime.sleep(0)


async def signals() -> None:
    """Leave a signal handler installed."""
    runtime.get_running_loop().add_signal_handler(signal.SIGUSR1, print)


async def streams() -> None:
    """Connect to a server in the same loop."""

    async def handler(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
        writer.write(await reader.readline())
        writer.close()

    async with await runtime.start_server(handler, "127.0.0.1", 0) as server:
        host, port = server.sockets[0].getsockname()
        reader, writer = await runtime.open_connection(host, port)
        writer.write(b"line\n")
        assert await reader.readline() == b"line\n"
        writer.close()
        await writer.wait_closed()


async def protocols() -> None:
    """Leave a connection open for the end of the run."""
    left, right = socket.socketpair()
    with right:
        transport, _ = await runtime.get_running_loop().create_connection(
            asyncio.Protocol, sock=left
        )
        transport.write(b"some")
        transport.abort()
        await runtime.sleep(0)


async def datagrams() -> None:
    """Send a datagram to the same endpoint."""
    async with await runtime.open_datagram(("127.0.0.1", 0)) as endpoint:
        endpoint.send(b"some", endpoint.get_extra_info("sockname"))
        await endpoint.receive()


async def processes() -> None:
    """Run a process to its end."""
    process = await runtime.create_subprocess_exec("true", stdout=runtime.PIPE)
    await process.communicate()


async def debug_mode() -> None:
    """Enable everything that watches the loop."""
    loop = runtime.get_running_loop()
    loop.set_debug(True)
    loop.watch_slow_callbacks(1)
    loop.set_external_inspection(True)
    loop.set_exception_handler(lambda loop, context: None)
    loop.set_task_factory(runtime.eager_task_factory)
    await runtime.create_task(runtime.sleep(0))


async def ending_slowly() -> None:
    """Leave a task that takes many turns to end, so that a thread watches the end of the run."""

    async def clean_up() -> None:
        try:
            await runtime.sleep_forever()
        finally:
            for _ in range(100):
                await runtime.sleep(0)

    runtime.create_task(clean_up())
    await runtime.sleep(0)


async def failing() -> None:
    """Fail."""
    raise ZeroDivisionError


MAINS: list[Main] = [
    nothing,
    tasks_and_timers,
    threads,
    generators,
    descriptors,
    signals,
    streams,
    protocols,
    datagrams,
    processes,
    debug_mode,
    ending_slowly,
    failing,
]


Way = Callable[[Main], "weakref.ref[runtime.Loop]"]
"""Runs a program in a loop, and returns a reference to the loop."""


def with_a_runner(main: Main) -> weakref.ref[runtime.Loop]:
    """Use a Runner."""
    with runtime.Runner() as runner:
        reference = weakref.ref(runner.get_loop())
        with contextlib.suppress(ZeroDivisionError):
            runner.run(main())
    return reference


def with_run(main: Main, until: Literal["done", "idle"] = "done") -> weakref.ref[runtime.Loop]:
    """Use ``run()``."""
    made: list[weakref.ref[runtime.Loop]] = []

    def factory() -> runtime.Loop:
        loop = runtime.new_event_loop()
        made.append(weakref.ref(loop))
        return loop

    with contextlib.suppress(ZeroDivisionError):
        runtime.run(main(), loop_factory=factory, until=until)
    return made[0]


def until_idle(main: Main) -> weakref.ref[runtime.Loop]:
    """Use ``run(..., until="idle")``."""
    return with_run(main, "idle")


def with_a_loop(main: Main) -> weakref.ref[runtime.Loop]:
    """Use the loop directly."""
    loop = runtime.new_event_loop()
    with contextlib.closing(loop), contextlib.suppress(ZeroDivisionError):
        loop.run_until_complete(main())
    return weakref.ref(loop)


def is_gone(reference: weakref.ref[runtime.Loop]) -> bool:
    """Return whether the loop is released once the threads have released the calls they made."""
    deadline = time.monotonic() + 30
    while reference() is not None and time.monotonic() < deadline:
        time.sleep(0.001)
    return reference() is None


@pytest.mark.parametrize("way", [with_a_runner, with_run])
@pytest.mark.parametrize("main", MAINS)
def test_a_loop_goes_after_its_run(main: Main, way: Way) -> None:
    way(main)  # this creates the objects that all loops share
    gc.collect()
    assert is_gone(way(main))
    assert gc.collect() == 0


@pytest.mark.parametrize("way", [until_idle, with_a_loop])
@pytest.mark.parametrize("main", [nothing, threads, streams, datagrams, processes, failing])
def test_a_loop_goes_after_another_run(main: Main, way: Way) -> None:
    way(main)
    gc.collect()
    assert is_gone(way(main))
    assert gc.collect() == 0


def test_a_loop_goes_that_never_ran() -> None:
    gc.collect()
    loop = runtime.new_event_loop()
    reference = weakref.ref(loop)
    loop.close()
    del loop
    assert reference() is None
    assert gc.collect() == 0


def test_a_loop_that_was_left_open_is_reported_by_itself() -> None:
    loop = runtime.new_event_loop()
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()


def test_a_closed_loop_refuses_work_as_before() -> None:
    loop = runtime.new_event_loop()
    loop.close()
    for use in (loop.call_soon, loop.call_soon_threadsafe, lambda call: loop.call_later(1, call)):
        with pytest.raises(RuntimeError, match="Event loop is closed"):
            use(print)
    future: runtime.Future[None] = runtime.Future(loop=loop)
    future.add_done_callback(print)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.set_result(None)
    assert "closed=True" in repr(loop)


@pytest.mark.parametrize("until", ["done", "idle"])
@pytest.mark.parametrize("kind", [ZeroDivisionError, SystemExit, KeyboardInterrupt])
def test_an_exception_that_ended_the_run_is_not_reported(
    kind: type[BaseException], until: Literal["done", "idle"]
) -> None:
    reports: list[object] = []

    async def main() -> None:
        await runtime.sleep(0)
        raise kind

    with runtime.Runner() as runner:
        runner.get_loop().set_exception_handler(lambda _, context: reports.append(context))
        with contextlib.suppress(kind):
            runner.run(main(), until=until)
        gc.collect()
        assert reports == []
